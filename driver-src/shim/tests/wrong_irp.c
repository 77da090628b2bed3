/*
 * wrong_irp.c: mistakes with IRPs and what they carry (wrong.h).
 */
#include "wrong_driver.h"

VOID CompleteWithLock(REQUEST *r) {
    KIRQL irql;
    KeAcquireSpinLock(&g_First, &irql);
    Complete(r->Irp, STATUS_SUCCESS);
}

VOID CompleteTwice(REQUEST *r) {
    Complete(r->Irp, STATUS_SUCCESS);
    IoCompleteRequest(r->Irp, IO_NO_INCREMENT);
}

VOID CompleteOwnTwice(REQUEST *r) {
    PIRP irp = Send(IoAllocateIrp(1, FALSE), Keep);
    UNREFERENCED_PARAMETER(r);
    Complete(irp, STATUS_SUCCESS);
    Complete(irp, STATUS_SUCCESS);
}

VOID CompletePending(REQUEST *r) {
    Complete(r->Irp, STATUS_PENDING);
}

VOID NotCompleted(REQUEST *r) {
    r->Completed = TRUE;
}

/* Dispatch knows these by their number, and returns what does not fit. */
VOID PendingNotMarked(REQUEST *r) {
    Complete(r->Irp, STATUS_SUCCESS);
    r->Completed = TRUE;
}

VOID MarkedNotPending(REQUEST *r) {
    IoMarkIrpPending(r->Irp);
}

VOID StatusDiffers(REQUEST *r) {
    Complete(r->Irp, STATUS_INVALID_PARAMETER);
    r->Completed = TRUE;
}

VOID PendingNotPassedOn(REQUEST *r) {
    PIRP irp = IoAllocateIrp(2, FALSE);
    UNREFERENCED_PARAMETER(r);
    IoSetCompletionRoutine(irp, Keep, NULL, TRUE, TRUE, TRUE);
    IoSetNextIrpStackLocation(irp);
    Send(irp, KeepNot);
    IoMarkIrpPending(irp);
    Complete(irp, STATUS_SUCCESS);
}

VOID OwnIrpNotKept(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    Complete(Send(IoAllocateIrp(1, FALSE), KeepNot), STATUS_SUCCESS);
}

VOID FreedAndContinued(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    Complete(Send(IoAllocateIrp(1, FALSE), FreeAndContinue), STATUS_SUCCESS);
}

VOID FreeInFlight(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    IoFreeIrp(Send(IoAllocateIrp(1, FALSE), Keep));
}

VOID FreeMemoryInFlight(REQUEST *r) {
    PIRP irp = Pool(NonPagedPoolNx, IoSizeOfIrp(1));
    UNREFERENCED_PARAMETER(r);
    IoInitializeIrp(irp, IoSizeOfIrp(1), 1);
    ExFreePoolWithTag(Send(irp, Keep), TAG);
}

VOID ReuseInFlight(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    IoReuseIrp(Send(IoAllocateIrp(1, FALSE), Keep), STATUS_SUCCESS);
}

VOID FreeOthersIrp(REQUEST *r) {
    IoFreeIrp(r->Irp);
}

VOID NoStackLocation(REQUEST *r) {
    IoSetCompletionRoutine(r->Irp, Keep, NULL, TRUE, TRUE, TRUE);
}

VOID MarkOutsideStack(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    IoMarkIrpPending(IoAllocateIrp(1, FALSE));
}

VOID CompleteWithCancelRoutine(REQUEST *r) {
    IoSetCancelRoutine(r->Irp, DoNothingCancel);
}

VOID InformationTooLong(REQUEST *r) {
    RtlZeroMemory(r->Buffer, r->OutputBytes);
    r->Information = r->OutputBytes + 1;
}

VOID PointerInInformation(REQUEST *r) {
    r->Information = (ULONG_PTR)r->Irp + 8;
}

static VOID PointerAt(REQUEST *r, ULONG_PTR Pointer) {
    RtlZeroMemory(r->Buffer, r->OutputBytes);
    RtlCopyMemory(r->Buffer + 4, &Pointer, sizeof(Pointer));
    r->Information = r->OutputBytes;
}

VOID PointerInOutput(REQUEST *r) {
    PointerAt(r, (ULONG_PTR)g_Device + 16);
}

VOID StackPointerInOutput(REQUEST *r) {
    PointerAt(r, (ULONG_PTR)&r);
}

VOID CodePointerInOutput(REQUEST *r) {
    PointerAt(r, (ULONG_PTR)Keep);
}

VOID UnwrittenOutput(REQUEST *r) {
    RtlZeroMemory(r->Buffer, 8);
    r->Information = r->OutputBytes;
}

VOID NotAllFlagsEx(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    IoSetCompletionRoutineEx(g_Device, IoAllocateIrp(1, FALSE), Keep, NULL, TRUE, TRUE, FALSE);
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

VOID TerminateInCompletion(REQUEST *r) {
    OBJECT_ATTRIBUTES attributes;
    HANDLE thread;
    PIRP irp = Send(IoAllocateIrp(1, FALSE), Terminate);
    UNREFERENCED_PARAMETER(r);
    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    PsCreateSystemThread(&thread, THREAD_ALL_ACCESS, &attributes, NULL, NULL, CompleteInThread, irp);
    ZwClose(thread);
}
