/*
 * wrong_memory.c: mistakes with memory (wrong.h).
 */
#include "wrong_driver.h"

VOID TouchAfterCompletion(REQUEST *r) {
    Complete(r->Irp, STATUS_SUCCESS);
    r->Irp->IoStatus.Information = 1;
}

VOID TouchFreedPool(REQUEST *r) {
    volatile UCHAR *memory = Pool(NonPagedPoolNx, 64);
    ExFreePoolWithTag((PVOID)(ULONG_PTR)memory, TAG);
    r->Information = memory[3];
}

VOID OverrunPool(REQUEST *r) {
    volatile UCHAR *memory = Pool(NonPagedPoolNx, 61);
    UNREFERENCED_PARAMETER(r);
    memory[61] = 1;
}

VOID OverrunSystemBuffer(REQUEST *r) {
    volatile UCHAR *buffer = r->Buffer;
    buffer[r->OutputBytes] = 1;
}

VOID PagedContext(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    IoSetCompletionRoutine(IoAllocateIrp(1, FALSE), Keep, Pool(PagedPool, 32), TRUE, TRUE, TRUE);
}

VOID PagedEvent(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    KeInitializeEvent(Pool(PagedPool, sizeof(KEVENT)), NotificationEvent, FALSE);
}

VOID PagedLock(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    KeInitializeSpinLock(Pool(PagedPool, sizeof(KSPIN_LOCK)));
}

VOID PagedMdl(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    MmBuildMdlForNonPagedPool(IoAllocateMdl(Pool(PagedPool, 32), 32, FALSE, FALSE, NULL));
}

VOID PagedTouchedRaised(REQUEST *r) {
    volatile UCHAR *memory = Pool(PagedPool, 32);
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    memory[0] = 1;
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    memory[0] = 2;
    KeLowerIrql(irql);
}

VOID PagedAllocatedRaised(REQUEST *r) {
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    Pool(PagedPool, 32);
}

VOID ExecutablePool(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    Pool(NonPagedPool, 32);
}

VOID WrongTag(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    ExFreePoolWithTag(Pool(NonPagedPoolNx, 32), TAG + 1);
}

VOID FreeTwice(REQUEST *r) {
    PVOID memory = Pool(NonPagedPoolNx, 32);
    UNREFERENCED_PARAMETER(r);
    ExFreePoolWithTag(memory, TAG);
    ExFreePoolWithTag(memory, TAG);
}

VOID FreeMdlLocked(REQUEST *r) {
    PMDL mdl = IoAllocateMdl(Pool(NonPagedPoolNx, 32), 32, FALSE, FALSE, NULL);
    UNREFERENCED_PARAMETER(r);
    MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
    IoFreeMdl(mdl);
}

VOID FreeMdlTwice(REQUEST *r) {
    PMDL mdl = IoAllocateMdl(r->Buffer, 8, FALSE, FALSE, NULL);
    IoFreeMdl(mdl);
    IoFreeMdl(mdl);
}

VOID FreeHeldLock(REQUEST *r) {
    PKSPIN_LOCK lock = Pool(NonPagedPoolNx, sizeof(*lock));
    KIRQL irql;
    UNREFERENCED_PARAMETER(r);
    KeInitializeSpinLock(lock);
    KeAcquireSpinLock(lock, &irql);
    ExFreePoolWithTag(lock, TAG);
}

VOID FreeActiveTimer(REQUEST *r) {
    PKTIMER timer = Pool(NonPagedPoolNx, sizeof(*timer));
    UNREFERENCED_PARAMETER(r);
    KeInitializeTimer(timer);
    KeSetTimer(timer, Ms(60000), NULL);
    ExFreePoolWithTag(timer, TAG);
}

VOID NullPointer(REQUEST *r) {
    volatile UCHAR *volatile nowhere = (PUCHAR)(ULONG_PTR)0x1000;
    UNREFERENCED_PARAMETER(r);
    *nowhere = 1;
}

VOID UnmapUnbuiltMdl(REQUEST *r) {
    MmGetSystemAddressForMdlSafe(IoAllocateMdl(r->Buffer, 8, FALSE, FALSE, NULL), NormalPagePriority);
}

VOID PoolOfNothing(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    Pool(NonPagedPoolNx, 0);
}

/* The harness says that this is Windows 10 1809. */
VOID OldPool2(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    ExAllocatePool2(POOL_FLAG_NON_PAGED, 32, TAG);
}
