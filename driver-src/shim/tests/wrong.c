/*
 * wrong.c: a driver that makes one mistake on request (wrong.h). Each must stop the shim; None must not.
 */
#include "wrong.h"

#include <ntddk.h>

#include "wsklab_wsk.h"

#define TAG 0x676E7257u /* "Wrng" */

typedef struct REQUEST {
    PIRP Irp;
    PUCHAR Buffer;
    ULONG OutputBytes;
    ULONG_PTR Information;
    BOOLEAN Completed;
} REQUEST;

typedef VOID (*MISTAKE)(REQUEST *request);

static PDEVICE_OBJECT g_Device;
static PDRIVER_OBJECT g_Driver;
static PIRP g_Pended;
static KEVENT g_Event;
static KSPIN_LOCK g_First;
static KSPIN_LOCK g_Second;
static KSPIN_LOCK g_Kind[2];
static KTIMER g_Timer;
static KDPC g_Dpc;
static PIO_WORKITEM g_Item;
static BOOLEAN g_KeepDevice;
static BOOLEAN g_KeepLink;

DRIVER_INITIALIZE DriverEntry;

static PVOID Pool(POOL_TYPE Type, SIZE_T Size) {
    return ExAllocatePoolWithTag(Type, Size, TAG);
}

static LARGE_INTEGER Ms(LONGLONG Milliseconds) {
    LARGE_INTEGER interval = {.QuadPart = -Milliseconds * 10000};
    return interval;
}

static VOID Sleep(LONGLONG Milliseconds) {
    LARGE_INTEGER interval = Ms(Milliseconds);
    KeDelayExecutionThread(KernelMode, FALSE, &interval);
}

static NTSTATUS NTAPI Keep(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static NTSTATUS NTAPI KeepNot(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI FreeAndContinue(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Context);
    IoFreeIrp(Irp);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI WaitAndKeep(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    Sleep(1);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static VOID NTAPI DoNothingCancel(PDEVICE_OBJECT Device, PIRP Irp) {
    UNREFERENCED_PARAMETER(Device);
    IoReleaseCancelSpinLock(Irp->CancelIrql);
}

/* Holds a worker until somebody sets the event. */
static VOID NTAPI WaitWork(PDEVICE_OBJECT Device, PVOID Context) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Context);
    KeWaitForSingleObject(&g_Event, Executive, KernelMode, FALSE, NULL);
}

static VOID NTAPI DoNothingDpc(PKDPC Dpc, PVOID Context, PVOID Argument1, PVOID Argument2) {
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(Context);
    UNREFERENCED_PARAMETER(Argument1);
    UNREFERENCED_PARAMETER(Argument2);
}

static VOID NTAPI SleepingThread(PVOID Context) {
    UNREFERENCED_PARAMETER(Context);
    Sleep(60000);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

/* An IRP of our own, sent to our own device: the dispatch of internal requests keeps it in g_Pended. */
static PIRP Send(PIRP Irp, PIO_COMPLETION_ROUTINE Routine) {
    IoSetCompletionRoutine(Irp, Routine, NULL, TRUE, TRUE, TRUE);
    IoGetNextIrpStackLocation(Irp)->MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
    IoCallDriver(g_Device, Irp);
    return Irp;
}

static VOID Complete(PIRP Irp, NTSTATUS Status) {
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
}

/* ---- The mistakes ------------------------------------------------------------------------------------------------------ */

static VOID None(REQUEST *r) {
    static const char text[] = "all is well";
    KIRQL irql;
    PIRP irp = Send(IoAllocateIrp(1, FALSE), Keep);

    KeAcquireSpinLock(&g_First, &irql);
    KeReleaseSpinLock(&g_First, irql);
    Complete(irp, STATUS_SUCCESS);
    IoFreeIrp(irp);
    RtlCopyMemory(r->Buffer, text, sizeof(text));
    r->Information = sizeof(text);
}

static VOID WaitInDispatch(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    Sleep(1);
}

static VOID WaitRaised(REQUEST *r) {
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    Sleep(1);
}

static VOID WaitWithLock(REQUEST *r) {
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeAcquireSpinLock(&g_First, &irql);
    KeWaitForSingleObject(&g_Event, Executive, KernelMode, FALSE, NULL);
}

static VOID WaitInCompletion(REQUEST *r) {
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

static VOID StartThread(PKSTART_ROUTINE Routine, BOOLEAN Close) {
    OBJECT_ATTRIBUTES attributes;
    HANDLE thread;

    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    if (NT_SUCCESS(PsCreateSystemThread(&thread, THREAD_ALL_ACCESS, &attributes, NULL, NULL, Routine, NULL)) && Close) {
        ZwClose(thread);
    }
}

static VOID WaitUserModeOnStack(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    StartThread(WaitOnStack, TRUE);
}

static VOID PassiveFunctionRaised(REQUEST *r) {
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    StartThread(SleepingThread, TRUE);
}

static VOID RaiseDown(REQUEST *r) {
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    KeRaiseIrql(APC_LEVEL, &irql);
}

static VOID LowerUp(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    KeLowerIrql(DISPATCH_LEVEL);
}

static VOID LowerWithLock(REQUEST *r) {
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeAcquireSpinLock(&g_First, &irql);
    KeLowerIrql(irql);
}

static VOID ReturnRaised(REQUEST *r) {
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
}

static VOID ReleaseToOtherIrql(REQUEST *r) {
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeAcquireSpinLock(&g_First, &irql);
    KeReleaseSpinLock(&g_First, APC_LEVEL);
}

static VOID ReturnWithLock(REQUEST *r) {
    KIRQL irql;
    KeAcquireSpinLock(&g_First, &irql);
    r->Completed = TRUE; /* or it would be the completion that is seen */
}

static VOID RecursiveLock(REQUEST *r) {
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeAcquireSpinLock(&g_First, &irql);
    KeAcquireSpinLock(&g_First, &irql);
}

static VOID UninitialisedLock(REQUEST *r) {
    KSPIN_LOCK lock = 0;
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeAcquireSpinLock(&lock, &irql);
}

static VOID ReleaseFree(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    KeReleaseSpinLock(&g_First, PASSIVE_LEVEL);
}

static VOID ReleaseOtherPair(REQUEST *r) {
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

static VOID LockOrder(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    Both(&g_First, &g_Second);
    Both(&g_Second, &g_First);
}

static VOID TwoOfOneKind(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    Both(&g_Kind[0], &g_Kind[1]);
}

static VOID CallWskWithLock(REQUEST *r) {
    WSK_PROVIDER_NPI npi;
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeAcquireSpinLock(&g_First, &irql);
    WskCaptureProviderNPI(NULL, WSK_NO_WAIT, &npi);
}

static VOID CompleteWithLock(REQUEST *r) {
    KIRQL irql;
    KeAcquireSpinLock(&g_First, &irql);
    Complete(r->Irp, STATUS_SUCCESS);
}

static VOID CompleteTwice(REQUEST *r) {
    Complete(r->Irp, STATUS_SUCCESS);
    IoCompleteRequest(r->Irp, IO_NO_INCREMENT);
}

static VOID CompleteOwnTwice(REQUEST *r) {
    PIRP irp = Send(IoAllocateIrp(1, FALSE), Keep);
    UNREFERENCED_PARAMETER(r);
    Complete(irp, STATUS_SUCCESS);
    Complete(irp, STATUS_SUCCESS);
}

static VOID CompletePending(REQUEST *r) {
    Complete(r->Irp, STATUS_PENDING);
}

static VOID NotCompleted(REQUEST *r) {
    r->Completed = TRUE;
}

/* Dispatch knows these by their number, and returns what does not fit. */
static VOID PendingNotMarked(REQUEST *r) {
    Complete(r->Irp, STATUS_SUCCESS);
    r->Completed = TRUE;
}

static VOID MarkedNotPending(REQUEST *r) {
    IoMarkIrpPending(r->Irp);
}

static VOID StatusDiffers(REQUEST *r) {
    Complete(r->Irp, STATUS_INVALID_PARAMETER);
    r->Completed = TRUE;
}

static VOID PendingNotPassedOn(REQUEST *r) {
    PIRP irp = IoAllocateIrp(2, FALSE);
    UNREFERENCED_PARAMETER(r);
    IoSetCompletionRoutine(irp, Keep, NULL, TRUE, TRUE, TRUE);
    IoSetNextIrpStackLocation(irp);
    Send(irp, KeepNot);
    IoMarkIrpPending(irp);
    Complete(irp, STATUS_SUCCESS);
}

static VOID OwnIrpNotKept(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    Complete(Send(IoAllocateIrp(1, FALSE), KeepNot), STATUS_SUCCESS);
}

static VOID FreedAndContinued(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    Complete(Send(IoAllocateIrp(1, FALSE), FreeAndContinue), STATUS_SUCCESS);
}

static VOID FreeInFlight(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    IoFreeIrp(Send(IoAllocateIrp(1, FALSE), Keep));
}

static VOID FreeMemoryInFlight(REQUEST *r) {
    PIRP irp = Pool(NonPagedPoolNx, IoSizeOfIrp(1));
    UNREFERENCED_PARAMETER(r);
    IoInitializeIrp(irp, IoSizeOfIrp(1), 1);
    ExFreePoolWithTag(Send(irp, Keep), TAG);
}

static VOID ReuseInFlight(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    IoReuseIrp(Send(IoAllocateIrp(1, FALSE), Keep), STATUS_SUCCESS);
}

static VOID FreeOthersIrp(REQUEST *r) {
    IoFreeIrp(r->Irp);
}

static VOID NoStackLocation(REQUEST *r) {
    IoSetCompletionRoutine(r->Irp, Keep, NULL, TRUE, TRUE, TRUE);
}

static VOID MarkOutsideStack(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    IoMarkIrpPending(IoAllocateIrp(1, FALSE));
}

static VOID CompleteWithCancelRoutine(REQUEST *r) {
    IoSetCancelRoutine(r->Irp, DoNothingCancel);
}

static VOID TouchAfterCompletion(REQUEST *r) {
    Complete(r->Irp, STATUS_SUCCESS);
    r->Irp->IoStatus.Information = 1;
}

static VOID TouchFreedPool(REQUEST *r) {
    volatile UCHAR *memory = Pool(NonPagedPoolNx, 64);
    ExFreePoolWithTag((PVOID)(ULONG_PTR)memory, TAG);
    r->Information = memory[3];
}

static VOID OverrunPool(REQUEST *r) {
    volatile UCHAR *memory = Pool(NonPagedPoolNx, 61);
    UNREFERENCED_PARAMETER(r);
    memory[61] = 1;
}

static VOID OverrunSystemBuffer(REQUEST *r) {
    volatile UCHAR *buffer = r->Buffer;
    buffer[r->OutputBytes] = 1;
}

static VOID InformationTooLong(REQUEST *r) {
    RtlZeroMemory(r->Buffer, r->OutputBytes);
    r->Information = r->OutputBytes + 1;
}

static VOID PointerInInformation(REQUEST *r) {
    r->Information = (ULONG_PTR)r->Irp + 8;
}

static VOID PointerAt(REQUEST *r, ULONG_PTR Pointer) {
    RtlZeroMemory(r->Buffer, r->OutputBytes);
    RtlCopyMemory(r->Buffer + 4, &Pointer, sizeof(Pointer));
    r->Information = r->OutputBytes;
}

static VOID PointerInOutput(REQUEST *r) {
    PointerAt(r, (ULONG_PTR)g_Device + 16);
}

static VOID StackPointerInOutput(REQUEST *r) {
    PointerAt(r, (ULONG_PTR)&r);
}

static VOID CodePointerInOutput(REQUEST *r) {
    PointerAt(r, (ULONG_PTR)Keep);
}

static VOID UnwrittenOutput(REQUEST *r) {
    RtlZeroMemory(r->Buffer, 8);
    r->Information = r->OutputBytes;
}

static VOID PagedContext(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    IoSetCompletionRoutine(IoAllocateIrp(1, FALSE), Keep, Pool(PagedPool, 32), TRUE, TRUE, TRUE);
}

static VOID PagedEvent(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    KeInitializeEvent(Pool(PagedPool, sizeof(KEVENT)), NotificationEvent, FALSE);
}

static VOID PagedLock(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    KeInitializeSpinLock(Pool(PagedPool, sizeof(KSPIN_LOCK)));
}

static VOID PagedMdl(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    MmBuildMdlForNonPagedPool(IoAllocateMdl(Pool(PagedPool, 32), 32, FALSE, FALSE, NULL));
}

static VOID PagedTouchedRaised(REQUEST *r) {
    volatile UCHAR *memory = Pool(PagedPool, 32);
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    memory[0] = 1;
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    memory[0] = 2;
    KeLowerIrql(irql);
}

static VOID PagedAllocatedRaised(REQUEST *r) {
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    Pool(PagedPool, 32);
}

static VOID ExecutablePool(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    Pool(NonPagedPool, 32);
}

static VOID WrongTag(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    ExFreePoolWithTag(Pool(NonPagedPoolNx, 32), TAG + 1);
}

static VOID FreeTwice(REQUEST *r) {
    PVOID memory = Pool(NonPagedPoolNx, 32);
    UNREFERENCED_PARAMETER(r);
    ExFreePoolWithTag(memory, TAG);
    ExFreePoolWithTag(memory, TAG);
}

static VOID FreeMdlLocked(REQUEST *r) {
    PMDL mdl = IoAllocateMdl(Pool(NonPagedPoolNx, 32), 32, FALSE, FALSE, NULL);
    UNREFERENCED_PARAMETER(r);
    MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
    IoFreeMdl(mdl);
}

static VOID FreeMdlTwice(REQUEST *r) {
    PMDL mdl = IoAllocateMdl(r->Buffer, 8, FALSE, FALSE, NULL);
    IoFreeMdl(mdl);
    IoFreeMdl(mdl);
}

static VOID FreeHeldLock(REQUEST *r) {
    PKSPIN_LOCK lock = Pool(NonPagedPoolNx, sizeof(*lock));
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeInitializeSpinLock(lock);
    KeAcquireSpinLock(lock, &irql);
    ExFreePoolWithTag(lock, TAG);
}

static VOID FreeActiveTimer(REQUEST *r) {
    PKTIMER timer = Pool(NonPagedPoolNx, sizeof(*timer));
    UNREFERENCED_PARAMETER(r);
    KeInitializeTimer(timer);
    KeSetTimer(timer, Ms(60000), NULL);
    ExFreePoolWithTag(timer, TAG);
}

static VOID QueueBehind(ULONG Times) {
    /* The workers are busy until the event is set, so that the last item stays queued. */
    for (ULONG i = 0; i < 8; i++) {
        IoQueueWorkItem(IoAllocateWorkItem(g_Device), WaitWork, DelayedWorkQueue, NULL);
    }
    g_Item = IoAllocateWorkItem(g_Device);
    for (ULONG i = 0; i < Times; i++) {
        IoQueueWorkItem(g_Item, WaitWork, DelayedWorkQueue, NULL);
    }
}

static VOID FreeQueuedWorkItem(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    QueueBehind(1);
    IoFreeWorkItem(g_Item);
}

static VOID QueueWorkItemTwice(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    QueueBehind(2);
}

static VOID UserHandle(REQUEST *r) {
    HANDLE thread;
    UNREFERENCED_PARAMETER(r);
    PsCreateSystemThread(&thread, THREAD_ALL_ACCESS, NULL, NULL, NULL, SleepingThread, NULL);
}

static VOID CloseTwice(REQUEST *r) {
    HANDLE handle;
    UNREFERENCED_PARAMETER(r);
    if (NT_SUCCESS(ObOpenObjectByPointer(g_Device, OBJ_KERNEL_HANDLE, NULL, WRITE_DAC, NULL, KernelMode, &handle))) {
        ZwClose(handle);
        ZwClose(handle);
    }
}

static VOID DereferenceTooOften(REQUEST *r) {
    PFILE_OBJECT file = IoGetCurrentIrpStackLocation(r->Irp)->FileObject;
    for (ULONG i = 0; i < 3; i++) {
        ObDereferenceObject(file);
    }
}

/* The harness closes its handle, and then has us drop the last reference from a DPC. */
static VOID NTAPI DropFile(PKDPC Dpc, PVOID Context, PVOID Argument1, PVOID Argument2) {
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(Argument1);
    UNREFERENCED_PARAMETER(Argument2);
    ObDereferenceObject(Context);
}

static VOID LastReferenceRaised(REQUEST *r) {
    PFILE_OBJECT file = IoGetCurrentIrpStackLocation(r->Irp)->FileObject;
    ObReferenceObject(file);
    KeInitializeDpc(&g_Dpc, DropFile, file);
    KeSetTimer(&g_Timer, Ms(20), &g_Dpc);
}

static VOID ListRemovedTwice(REQUEST *r) {
    LIST_ENTRY head;
    LIST_ENTRY entry;
    UNREFERENCED_PARAMETER(r);
    InitializeListHead(&head);
    InsertTailList(&head, &entry);
    RemoveEntryList(&entry);
    RemoveEntryList(&entry);
}

static VOID NotAllFlagsEx(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    IoSetCompletionRoutineEx(g_Device, IoAllocateIrp(1, FALSE), Keep, NULL, TRUE, TRUE, FALSE);
}

static VOID NullPointer(REQUEST *r) {
    volatile UCHAR *volatile nowhere = (PUCHAR)(ULONG_PTR)0x1000;
    UNREFERENCED_PARAMETER(r);
    *nowhere = 1;
}

static VOID LeaveCriticalRegion(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    KeLeaveCriticalRegion();
}

static VOID UnknownFormat(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    DbgPrint("%y\n", 1);
}

static VOID UnmapUnbuiltMdl(REQUEST *r) {
    MmGetSystemAddressForMdlSafe(IoAllocateMdl(r->Buffer, 8, FALSE, FALSE, NULL), NormalPagePriority);
}

static VOID PoolOfNothing(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    Pool(NonPagedPoolNx, 0);
}

static VOID RundownReleased(REQUEST *r) {
    EX_RUNDOWN_REF rundown;
    UNREFERENCED_PARAMETER(r);
    ExInitializeRundownProtection(&rundown);
    ExReleaseRundownProtection(&rundown);
}

static VOID SemaphoreTooFar(REQUEST *r) {
    KSEMAPHORE semaphore;
    UNREFERENCED_PARAMETER(r);
    KeInitializeSemaphore(&semaphore, 1, 1);
    KeReleaseSemaphore(&semaphore, 0, 1, FALSE);
}

static VOID ThreadInProcess(REQUEST *r) {
    OBJECT_ATTRIBUTES attributes;
    HANDLE thread;
    UNREFERENCED_PARAMETER(r);
    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    PsCreateSystemThread(&thread, THREAD_ALL_ACCESS, &attributes, (HANDLE)-1, NULL, SleepingThread, NULL);
}

static VOID WaitForMany(REQUEST *r) {
    LARGE_INTEGER now = {.QuadPart = 0};
    PVOID objects[4] = {&g_Event, &g_Event, &g_Event, &g_Event};
    UNREFERENCED_PARAMETER(r);
    KeWaitForMultipleObjects(4, objects, WaitAny, Executive, KernelMode, FALSE, &now, NULL);
}

/* The harness says that this is Windows 10 1809. */
static VOID OldPool2(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    ExAllocatePool2(POOL_FLAG_NON_PAGED, 32, TAG);
}

static NTSTATUS NTAPI Terminate(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    PsTerminateSystemThread(STATUS_SUCCESS);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static VOID NTAPI CompleteInThread(PVOID Context) {
    Complete(Context, STATUS_SUCCESS);
}

static VOID TerminateInCompletion(REQUEST *r) {
    OBJECT_ATTRIBUTES attributes;
    HANDLE thread;
    PIRP irp = Send(IoAllocateIrp(1, FALSE), Terminate);
    UNREFERENCED_PARAMETER(r);
    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    PsCreateSystemThread(&thread, THREAD_ALL_ACCESS, &attributes, NULL, NULL, CompleteInThread, irp);
    ZwClose(thread);
}

static VOID LeakReference(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    ObReferenceObject(g_Device);
}

static VOID LeakPool(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    Pool(NonPagedPoolNx, 48);
}

static VOID LeakIrp(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    IoAllocateIrp(2, FALSE);
}

static VOID LeakMdl(REQUEST *r) {
    IoAllocateMdl(r->Buffer, 8, FALSE, FALSE, NULL);
}

static VOID LeakWorkItem(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    IoAllocateWorkItem(g_Device);
}

static VOID LeakThread(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    StartThread(SleepingThread, TRUE);
}

static VOID LeakDevice(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    g_KeepDevice = TRUE;
}

static VOID LeakLink(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    g_KeepLink = TRUE;
}

static VOID LeakHandle(REQUEST *r) {
    HANDLE handle;
    UNREFERENCED_PARAMETER(r);
    (VOID)ObOpenObjectByPointer(g_Device, OBJ_KERNEL_HANDLE, NULL, WRITE_DAC, NULL, KernelMode, &handle);
}

static VOID LeakTimer(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    KeInitializeDpc(&g_Dpc, DoNothingDpc, NULL);
    KeSetTimer(&g_Timer, Ms(60000), &g_Dpc);
}

static VOID LeakCompletionContext(REQUEST *r) {
    PIRP irp = IoAllocateIrp(1, FALSE);
    UNREFERENCED_PARAMETER(r);
    (VOID)IoSetCompletionRoutineEx(g_Device, irp, Keep, NULL, TRUE, TRUE, TRUE);
    IoFreeIrp(irp);
}

static VOID UnloadRunning(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    IoQueueWorkItem(g_Item = IoAllocateWorkItem(g_Device), WaitWork, DelayedWorkQueue, NULL);
}

static VOID NTAPI WaitForEver(PVOID Context) {
    UNREFERENCED_PARAMETER(Context);
    KeWaitForSingleObject(&g_Event, Executive, KernelMode, FALSE, NULL);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static VOID Deadlock(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    StartThread(WaitForEver, TRUE);
}

static const MISTAKE g_Mistakes[] = {
#define WRONG_ENTRY(name, rule) name,
    WRONG_LIST(WRONG_ENTRY)
#undef WRONG_ENTRY
};

/* ---- The driver around them ---------------------------------------------------------------------------------------------- */

static NTSTATUS NTAPI Succeed(PDEVICE_OBJECT Device, PIRP Irp) {
    UNREFERENCED_PARAMETER(Device);
    Complete(Irp, STATUS_SUCCESS);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI Pend(PDEVICE_OBJECT Device, PIRP Irp) {
    UNREFERENCED_PARAMETER(Device);
    g_Pended = Irp;
    return STATUS_PENDING;
}

static NTSTATUS NTAPI Control(PDEVICE_OBJECT Device, PIRP Irp) {
    PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(Irp);
    ULONG code = location->Parameters.DeviceIoControl.IoControlCode;
    ULONG number = ((code >> 2) & 0xFFF) - 0x800u;
    REQUEST request = {.Irp = Irp,
                       .Buffer = Irp->AssociatedIrp.SystemBuffer,
                       .OutputBytes = location->Parameters.DeviceIoControl.OutputBufferLength};

    UNREFERENCED_PARAMETER(Device);
    if (number >= WrongEnd) {
        Complete(Irp, STATUS_INVALID_PARAMETER);
        return STATUS_INVALID_PARAMETER;
    }
    g_Mistakes[number](&request);
    if (!request.Completed) {
        Irp->IoStatus.Status = STATUS_SUCCESS;
        Irp->IoStatus.Information = request.Information;
        IoCompleteRequest(Irp, IO_NO_INCREMENT);
    }
    return number == WrongPendingNotMarked ? STATUS_PENDING : STATUS_SUCCESS;
}

static VOID NTAPI Unload(PDRIVER_OBJECT Driver) {
    UNICODE_STRING link = RTL_CONSTANT_STRING(L"\\DosDevices\\wrong");

    UNREFERENCED_PARAMETER(Driver);
    if (!g_KeepLink) {
        IoDeleteSymbolicLink(&link);
    }
    if (!g_KeepDevice) {
        IoDeleteDevice(g_Device);
    }
}

/* The place of the initialisation is what makes two locks be of one kind. */
static __attribute__((noinline)) VOID InitializeKind(PKSPIN_LOCK Lock) {
    KeInitializeSpinLock(Lock);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath) {
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\Device\\wrong");
    UNICODE_STRING link = RTL_CONSTANT_STRING(L"\\DosDevices\\wrong");
    NTSTATUS status;

    UNREFERENCED_PARAMETER(RegistryPath);
    g_Driver = DriverObject;
    KeInitializeEvent(&g_Event, NotificationEvent, FALSE);
    KeInitializeSpinLock(&g_First);
    KeInitializeSpinLock(&g_Second);
    InitializeKind(&g_Kind[0]);
    InitializeKind(&g_Kind[1]);
    KeInitializeTimer(&g_Timer);
    DriverObject->MajorFunction[IRP_MJ_CREATE] = Succeed;
    DriverObject->MajorFunction[IRP_MJ_CLEANUP] = Succeed;
    DriverObject->MajorFunction[IRP_MJ_CLOSE] = Succeed;
    DriverObject->MajorFunction[IRP_MJ_DEVICE_CONTROL] = Control;
    DriverObject->MajorFunction[IRP_MJ_INTERNAL_DEVICE_CONTROL] = Pend;
    DriverObject->DriverUnload = Unload;
    status = IoCreateDevice(DriverObject, 0, &name, FILE_DEVICE_UNKNOWN, FILE_DEVICE_SECURE_OPEN, FALSE, &g_Device);
    if (NT_SUCCESS(status)) {
        status = IoCreateSymbolicLink(&link, &name);
    }
    return status;
}
