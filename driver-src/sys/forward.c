/*
 * forward.c: IRPs that come from above and are sent on to WSK.
 */
#include "forward.h"

#include "completion.h"
#include "device.h"

static BOOLEAN IsBare(const OPERATION *Operation) {
    return Operation->Submit.forward == WSKLAB_FORWARD_BARE;
}

BOOLEAN ForwardIsValid(const WSKLAB_SUBMIT *Submit) {
    BOOLEAN bare = Submit->forward == WSKLAB_FORWARD_BARE;

    if (Submit->irp_source != WSKLAB_IRP_FORWARDED || Submit->forward < WSKLAB_FORWARD_BARE ||
        Submit->forward > WSKLAB_FORWARD_HOLD) {
        return FALSE;
    }
    /* A close may have to wait for running calls, and a function without a socket has nothing that would end it when
     * the handle is closed; the IRP has no cancel routine of ours meanwhile. */
    if (!(FunctionTraits(Submit->function) & FUNCTION_IRP) || Submit->socket == 0 || Submit->function == WSKLAB_FN_CLOSE) {
        return FALSE;
    }
    if (Submit->stack_count != 1 || Submit->second_location || Submit->reuse_op != 0 || Submit->delay_ms != 0 ||
        Submit->call_context == WSKLAB_CONTEXT_WORKER ||
        (Submit->switches & (WSKLAB_SWITCH_NULL_IRP | WSKLAB_SWITCH_HELD | WSKLAB_SWITCH_KEEP_IRP))) {
        return FALSE;
    }
    /* Without a routine nobody would find the new socket, or read an output when it is there. */
    return !bare || (!(FunctionTraits(Submit->function) & (FUNCTION_CREATES | FUNCTION_CONTROL)) && Submit->then_op == 0);
}

_Use_decl_annotations_ NTSTATUS ForwardPrepare(OPERATION *Operation, PIRP Irp) {
    if (Irp->CurrentLocation < 2) {
        return STATUS_INVALID_DEVICE_STATE; /* nobody below could be given a location */
    }
    if (Operation->Submit.forward == WSKLAB_FORWARD_HOLD) {
        if (FaultsDeny(&Operation->Client->Ledger.Faults, WSKLAB_FAULT_WORK_ITEM)) {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
        Operation->WorkItem = IoAllocateWorkItem(DeviceObject());
        if (Operation->WorkItem == NULL) {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
    }
    Operation->Irp = Irp;
    Operation->Record.stack_count = (UCHAR)Irp->StackCount;
    return STATUS_SUCCESS;
}

static VOID NTAPI CompleteInWorkItem(PDEVICE_OBJECT Device, PVOID Context) {
    OPERATION *operation = Context;

    UNREFERENCED_PARAMETER(Device);
    ForwardGiveBack(operation);
    OperationDereference(operation);
}

/* Who lets the IRP go: this routine, the work item of HOLD, or the canceller that still holds it. */
static BOOLEAN Keeps(OPERATION *Operation) {
    BOOLEAN held;
    KIRQL irql;

    KeAcquireSpinLock(&Operation->Client->Lock, &irql);
    held = CompletionLetGo(Operation);
    if (!held && Operation->Submit.forward == WSKLAB_FORWARD_PASS) {
        Operation->Irp = NULL; /* the I/O manager's again as soon as the routine returns */
    }
    KeReleaseSpinLock(&Operation->Client->Lock, irql);
    if (held || Operation->Submit.forward == WSKLAB_FORWARD_PASS) {
        return held;
    }
    OperationReference(Operation); /* the work item's */
    IoQueueWorkItem(Operation->WorkItem, CompleteInWorkItem, DelayedWorkQueue, Operation);
    return TRUE;
}

static NTSTATUS NTAPI OnForwarded(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context) {
    OPERATION *operation = CompletionOperation(Context);
    NTSTATUS status = Irp->IoStatus.Status;
    BOOLEAN keeps;

    if (operation == NULL || !CompletionObserve(operation, DeviceObject, Irp, Context, TRUE)) {
        return STATUS_MORE_PROCESSING_REQUIRED; /* completed before, and no longer ours */
    }
    /* A socket's address is told by its number, in the record; up there it would be a kernel pointer. */
    if (operation->Record.information_kind != WSKLAB_INFORMATION_INTEGER) {
        Irp->IoStatus.Information = 0;
    }
    if (Irp->PendingReturned) {
        IoMarkIrpPending(Irp);
    }
    keeps = Keeps(operation); /* if so, the IRP is somebody else's from here on */
    operation->Record.routine_status = keeps ? STATUS_MORE_PROCESSING_REQUIRED : STATUS_SUCCESS;
    CompletionFinish(operation, status);
    return keeps ? STATUS_MORE_PROCESSING_REQUIRED : STATUS_SUCCESS;
}

_Use_decl_annotations_ NTSTATUS ForwardArm(OPERATION *Operation) {
    PIRP irp = Operation->Irp;

    irp->IoStatus.Status = (NTSTATUS)WSKLAB_PREFILL;
    irp->IoStatus.Information = IsBare(Operation) ? 0 : WSKLAB_PREFILL; /* nobody would take the prefill out again */
    Operation->ExpectedIrp = irp;
    Operation->ExpectedContext = &Operation->Cookie;
    return IsBare(Operation) ? STATUS_SUCCESS : CompletionSetRoutine(Operation, OnForwarded);
}

_Use_decl_annotations_ VOID ForwardGive(OPERATION *Operation) {
    KIRQL irql;

    IoMarkIrpPending(Operation->Irp);
    KeAcquireSpinLock(&Operation->Client->Lock, &irql);
    Operation->Given = TRUE;
    Operation->Record.flags |= WSKLAB_RECORD_FORWARDED;
    if (IsBare(Operation)) {
        Operation->IrpGone = TRUE; /* nobody of us will ever know when */
    }
    KeReleaseSpinLock(&Operation->Client->Lock, irql);
    if (IsBare(Operation)) {
        SocketKeep(Operation->Socket, Operation);
    }
}

_Use_decl_annotations_ VOID ForwardGiveBack(OPERATION *Operation) {
    PIRP irp = Operation->Irp;

    Operation->Irp = NULL;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
}

_Use_decl_annotations_ VOID ForwardLost(OPERATION *Operation) {
    PIRP irp = Operation->Irp;

    if (Operation->Submit.irp_source != WSKLAB_IRP_FORWARDED || !PlatformFacts()->Wine || IsBare(Operation) || irp == NULL) {
        return;
    }
    Operation->Irp = NULL;
    irp->IoStatus.Status = Operation->Record.returned_status;
    irp->IoStatus.Information = 0;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
}
