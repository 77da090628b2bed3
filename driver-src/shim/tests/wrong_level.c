/*
 * wrong_level.c: mistakes with IRQL, waits and locks (wrong.h).
 */
#include "wrong_driver.h"

VOID WaitInDispatch(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    Sleep(1);
}

VOID WaitRaised(REQUEST *r) {
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    Sleep(1);
}

VOID WaitWithLock(REQUEST *r) {
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeAcquireSpinLock(&g_First, &irql);
    KeWaitForSingleObject(&g_Event, Executive, KernelMode, FALSE, NULL);
}

VOID WaitInCompletion(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    Complete(Send(IoAllocateIrp(1, FALSE), WaitAndKeep), STATUS_SUCCESS);
}

static VOID NTAPI WaitOnStack(PVOID Context) {
    KEVENT event;
    UNREFERENCED_PARAMETER(Context);
    KeInitializeEvent(&event, NotificationEvent, TRUE);
    KeWaitForSingleObject(&event, UserRequest, UserMode, FALSE, NULL);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

VOID StartThread(PKSTART_ROUTINE Routine, BOOLEAN Close) {
    OBJECT_ATTRIBUTES attributes;
    HANDLE thread;

    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    if (NT_SUCCESS(PsCreateSystemThread(&thread, THREAD_ALL_ACCESS, &attributes, NULL, NULL, Routine, NULL)) && Close) {
        ZwClose(thread);
    }
}

VOID WaitUserModeOnStack(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    StartThread(WaitOnStack, TRUE);
}

VOID PassiveFunctionRaised(REQUEST *r) {
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    StartThread(SleepingThread, TRUE);
}

VOID SetEventAndGoOn(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    KeSetEvent(&g_Event, IO_NO_INCREMENT, TRUE);
    Sleep(1);
}

VOID SetEventAndReturn(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    KeSetEvent(&g_Event, IO_NO_INCREMENT, TRUE);
}

VOID RaiseDown(REQUEST *r) {
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    KeRaiseIrql(APC_LEVEL, &irql);
}

VOID LowerUp(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    KeLowerIrql(DISPATCH_LEVEL);
}

VOID LowerWithLock(REQUEST *r) {
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeAcquireSpinLock(&g_First, &irql);
    KeLowerIrql(irql);
}

VOID ReturnRaised(REQUEST *r) {
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
}

VOID ReleaseToOtherIrql(REQUEST *r) {
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeAcquireSpinLock(&g_First, &irql);
    KeReleaseSpinLock(&g_First, APC_LEVEL);
}

VOID ReturnWithLock(REQUEST *r) {
    KIRQL irql;
    KeAcquireSpinLock(&g_First, &irql);
    r->Completed = TRUE; /* or it would be the completion that is seen */
}

VOID RecursiveLock(REQUEST *r) {
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeAcquireSpinLock(&g_First, &irql);
    KeAcquireSpinLock(&g_First, &irql);
}

VOID UninitialisedLock(REQUEST *r) {
    KSPIN_LOCK lock = 0;
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeAcquireSpinLock(&lock, &irql);
}

VOID ReleaseFree(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    KeReleaseSpinLock(&g_First, PASSIVE_LEVEL);
}

VOID ReleaseOtherPair(REQUEST *r) {
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeAcquireSpinLock(&g_First, &irql);
    KeReleaseSpinLockFromDpcLevel(&g_First);
}

static VOID Both(PKSPIN_LOCK First, PKSPIN_LOCK Second) {
    KIRQL outer;
    KIRQL inner;
    KeAcquireSpinLock(First, &outer);
    KeAcquireSpinLock(Second, &inner);
    KeReleaseSpinLock(Second, inner);
    KeReleaseSpinLock(First, outer);
}

VOID LockOrder(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    Both(&g_First, &g_Second);
    Both(&g_Second, &g_First);
}

VOID TwoOfOneKind(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    Both(&g_Kind[0], &g_Kind[1]);
}

VOID CallWskWithLock(REQUEST *r) {
    WSK_PROVIDER_NPI npi;
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeAcquireSpinLock(&g_First, &irql);
    WskCaptureProviderNPI(NULL, WSK_NO_WAIT, &npi);
}
