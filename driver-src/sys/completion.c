/*
 * completion.c: the completion routines. At or below DISPATCH_LEVEL, in any thread, before or after the call's return:
 * only spin locks, the ring and events here; nothing waits.
 */
#include "completion.h"

#include "call.h"
#include "device.h"
#include "forward.h"
#include "issue.h"
#include "names.h"

OPERATION *CompletionOperation(PVOID Context) {
    COOKIE *cookie = Context;
    if (cookie == NULL || cookie->Magic != COOKIE_MAGIC) {
        LogLine("a completion routine got a context that is not ours\n");
        return NULL;
    }
    return cookie->Operation;
}

static UCHAR DeviceKind(PDEVICE_OBJECT Device) {
    if (Device == NULL) {
        return WSKLAB_DEVICE_OBJECT_NULL;
    }
    return Device == DeviceObject() ? WSKLAB_DEVICE_OBJECT_OURS : WSKLAB_DEVICE_OBJECT_OTHER;
}

/* A kernel pointer never leaves the driver: what may be one is hidden. */
static VOID Classify(const OPERATION *Operation, NTSTATUS Status, ULONG_PTR Information, WSKLAB_RECORD *Facts) {
    /* Bytes, or (WSK-NAME-005) a status. */
    BOOLEAN counts = OPERATION_HAS(Operation, FUNCTION_READS | FUNCTION_WRITES | FUNCTION_CONTROL | FUNCTION_NAMES);

    Facts->information_kind = WSKLAB_INFORMATION_HIDDEN;
    Facts->information = 0;
    if (Information == WSKLAB_PREFILL) {
        Facts->information_kind = WSKLAB_INFORMATION_PREFILL;
        Facts->information = WSKLAB_PREFILL;
    } else if (Information == 0) {
        Facts->information_kind = WSKLAB_INFORMATION_INTEGER;
    } else if (OPERATION_HAS(Operation, FUNCTION_CREATES)) {
        if (NT_SUCCESS(Status)) {
            Facts->information_kind = WSKLAB_INFORMATION_SOCKET;
            Facts->information = Operation->Submit.new_socket;
        }
    } else if (Information <= (counts ? 0xFFFFFFFFull : 0xFFFFull)) {
        Facts->information_kind = WSKLAB_INFORMATION_INTEGER;
        Facts->information = Information;
    }
}

/* What the outcome means for the socket table; returns WSKLAB_RECORD_SOCKET_* facts. */
static ULONG ApplyToSockets(OPERATION *Operation, NTSTATUS Status, const WSKLAB_RECORD *Facts, ULONG_PTR Information) {
    SOCKET *created = Operation->NewSocket;
    ULONG flags = 0;
    WSKLAB_EVENT event = {.op_id = Operation->Submit.op_id, .status = Status};

    if (Operation->Submit.function != WSKLAB_FN_CLOSE && created == NULL) {
        return 0;
    }
    if (!OperationSettle(Operation)) {
        LogLine("operation %u was completed after it had been given up; a socket may be left over\n", Operation->Submit.op_id);
        return 0;
    }
    if (created != NULL) {
        if (Facts->information_kind == WSKLAB_INFORMATION_SOCKET) {
            flags = SocketPublish(created, (PWSK_SOCKET)Information);
            event.kind = WSKLAB_EVENT_SOCKET_OPENED;
            event.socket = created->Number;
            RingRecord(&Operation->Client->Ring, &event);
        } else {
            SocketRemove(created);
        }
    } else {
        /* Whatever the status says: a socket whose close was completed is never touched again. (Wine frees it and
         * still reports an error when the handle inside was already gone.) */
        event.kind = WSKLAB_EVENT_SOCKET_CLOSED;
        event.socket = Operation->Submit.socket;
        RingRecord(&Operation->Client->Ring, &event);
        SocketReleaseKept(Operation->Socket);
        SocketRemove(Operation->Socket);
    }
    return flags;
}

_Use_decl_annotations_ VOID CompletionOfNoIrp(OPERATION *Operation, NTSTATUS Status) {
    if (Operation->Submit.function != WSKLAB_FN_CLOSE) {
        return;
    }
    if (!NT_SUCCESS(Status)) {
        SocketReopen(Operation->Socket);
    } else if (OperationSettle(Operation)) {
        SocketReleaseKept(Operation->Socket);
        SocketRemove(Operation->Socket);
    }
}

static VOID RecordCompletionEvent(OPERATION *Operation, ULONG Kind, ULONG64 Sequence, NTSTATUS Status, ULONG Count) {
    WSKLAB_EVENT event = {.sequence = Sequence,
                          .kind = Kind,
                          .op_id = Operation->Submit.op_id,
                          .socket = Operation->Submit.socket,
                          .function = (UCHAR)Operation->Submit.function,
                          .status = Status,
                          .value = Count};
    RingRecord(&Operation->Client->Ring, &event);
}

_Use_decl_annotations_ BOOLEAN CompletionObserve(OPERATION *Operation, PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context,
                                                 BOOLEAN Counts) {
    WSKLAB_RECORD *record = &Operation->Record;
    WSKLAB_RECORD facts = {.completion_irql = KeGetCurrentIrql()};
    ULONG64 sequence = PlatformNextSequence();
    NTSTATUS status = Irp->IoStatus.Status;
    ULONG_PTR information = Irp->IoStatus.Information;
    ULONG count;
    KIRQL irql;

    KeAcquireSpinLock(&Operation->Client->Lock, &irql);
    count = Counts ? ++record->completion_count : record->completion_count;
    KeReleaseSpinLock(&Operation->Client->Lock, irql);
    RecordCompletionEvent(Operation, WSKLAB_EVENT_COMPLETION, sequence, status, count);
    if (count > 1) {
        LogLine("operation %u was completed %u times\n", Operation->Submit.op_id, count);
        return FALSE; /* whatever it says, the first one holds */
    }
    Classify(Operation, status, information, &facts);
    facts.flags = (Irp == Operation->ExpectedIrp ? WSKLAB_RECORD_IRP_MATCH : 0) |
                  (Context == Operation->ExpectedContext ? WSKLAB_RECORD_CONTEXT_MATCH : 0) |
                  (Irp->PendingReturned ? WSKLAB_RECORD_PENDING_RETURNED : 0) | (Irp->Cancel ? WSKLAB_RECORD_IRP_CANCEL : 0);
    facts.flags |= ApplyToSockets(Operation, status, &facts, information);
    CallEnd(Operation, status, facts.information_kind == WSKLAB_INFORMATION_INTEGER ? facts.information : 0);

    KeAcquireSpinLock(&Operation->Client->Lock, &irql);
    record->flags |= facts.flags;
    record->completion_irql = facts.completion_irql;
    record->information_kind = facts.information_kind;
    record->information = facts.information;
    record->device_object = DeviceKind(DeviceObject);
    record->completion_location = (int8_t)Irp->CurrentLocation;
    record->completion_status = status;
    record->completion_sequence = sequence;
    record->completion_ns = PlatformNow();
    record->completion_thread = PlatformThread();
    record->completion_cookie = Operation->Cookie.Value;
    record->routine_status = STATUS_MORE_PROCESSING_REQUIRED;
    KeReleaseSpinLock(&Operation->Client->Lock, irql);
    return TRUE;
}

_Use_decl_annotations_ VOID CompletionFinish(OPERATION *Operation, NTSTATUS IoStatus) {
    if (NamesDefer(Operation)) {
        return;
    }
    OperationContinue(Operation->Client, Operation->Submit.then_op, NT_SUCCESS(IoStatus));
    OperationCompleted(Operation);
    OperationDereference(Operation);
}

static VOID MarkRecord(OPERATION *Operation, ULONG Flags) {
    KIRQL irql;
    KeAcquireSpinLock(&Operation->Client->Lock, &irql);
    Operation->Record.flags |= Flags;
    KeReleaseSpinLock(&Operation->Client->Lock, irql);
}

_Use_decl_annotations_ VOID CompletionDisposeIrp(OPERATION *Operation) {
    PIRP irp = Operation->Irp;
    KIRQL irql;

    if (irp == NULL) {
        return;
    }
    if (Operation->Submit.irp_source == WSKLAB_IRP_FORWARDED) {
        ForwardGiveBack(Operation);
        return;
    }
    if (Operation->Submit.switches & WSKLAB_SWITCH_KEEP_IRP) {
        KeAcquireSpinLock(&Operation->Client->Lock, &irql);
        Operation->IrpIdle = TRUE;
        KeReleaseSpinLock(&Operation->Client->Lock, irql);
        return;
    }
    Operation->Irp = NULL;
    LedgerAdd(&Operation->Client->Ledger, LEDGER_COUNT(irps_freed), 1);
    if (Operation->IrpMemory != NULL) {
        /* Whoever touches the IRP from now on is seen (WSK-SOCK-007). */
        RtlFillMemory(Operation->IrpMemory, Operation->IrpBytes, IRP_POISON);
        MarkRecord(Operation, WSKLAB_RECORD_POISONED);
    } else {
        IoFreeIrp(irp);
        MarkRecord(Operation, WSKLAB_RECORD_IRP_FREED);
    }
}

_Use_decl_annotations_ VOID CompletionFreeIrp(OPERATION *Operation) {
    if (Operation->Irp != NULL && Operation->Submit.irp_source != WSKLAB_IRP_FORWARDED) {
        if (Operation->IrpMemory == NULL) {
            IoFreeIrp(Operation->Irp);
        }
        Operation->Irp = NULL;
        LedgerAdd(&Operation->Client->Ledger, LEDGER_COUNT(irps_freed), 1);
    }
    MemoryFree(Operation->IrpMemory);
    Operation->IrpMemory = NULL;
}

_Use_decl_annotations_ BOOLEAN CompletionLetGo(OPERATION *Operation) {
    Operation->IrpGone = TRUE;
    Operation->DisposeLater = Operation->Cancellers > 0;
    return Operation->DisposeLater;
}

static VOID DisposeUnlessHeld(OPERATION *Operation) {
    BOOLEAN held;
    KIRQL irql;

    KeAcquireSpinLock(&Operation->Client->Lock, &irql);
    held = CompletionLetGo(Operation);
    KeReleaseSpinLock(&Operation->Client->Lock, irql);
    if (!held) {
        CompletionDisposeIrp(Operation);
    }
}

static NTSTATUS NTAPI OnCompletion(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context) {
    OPERATION *operation = CompletionOperation(Context);
    NTSTATUS status = Irp->IoStatus.Status;

    if (operation != NULL && CompletionObserve(operation, DeviceObject, Irp, Context, TRUE)) {
        DisposeUnlessHeld(operation);
        CompletionFinish(operation, status);
    }
    return STATUS_MORE_PROCESSING_REQUIRED; /* always: the IRP is ours (appendix B, trap 8) */
}

/* The routine under test where there are two stack locations: it passes the IRP on (WSK-IRP-011). */
static NTSTATUS NTAPI OnLowerCompletion(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context) {
    OPERATION *operation = CompletionOperation(Context);

    if (operation != NULL && CompletionObserve(operation, DeviceObject, Irp, Context, TRUE)) {
        operation->Record.routine_status = STATUS_SUCCESS;
    }
    if (Irp->PendingReturned) {
        IoMarkIrpPending(Irp);
    }
    return STATUS_SUCCESS;
}

/* The catch-all above it: it keeps the IRP. */
static NTSTATUS NTAPI OnUpperCompletion(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context) {
    OPERATION *operation = CompletionOperation(Context);
    NTSTATUS status = Irp->IoStatus.Status;
    ULONG64 sequence = PlatformNextSequence();
    BOOLEAN skipped;
    KIRQL irql;

    if (operation == NULL) {
        return STATUS_MORE_PROCESSING_REQUIRED;
    }
    KeAcquireSpinLock(&operation->Client->Lock, &irql);
    operation->Record.upper_count++;
    operation->Record.upper_sequence = sequence;
    skipped = operation->Record.completion_count == 0;
    KeReleaseSpinLock(&operation->Client->Lock, irql);
    RecordCompletionEvent(operation, WSKLAB_EVENT_UPPER_COMPLETION, sequence, status, operation->Record.upper_count);
    if (operation->Record.upper_count > 1) {
        return STATUS_MORE_PROCESSING_REQUIRED;
    }
    if (skipped) {
        CompletionObserve(operation, DeviceObject, Irp, Context, FALSE);
    }
    DisposeUnlessHeld(operation);
    CompletionFinish(operation, status);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* IoSetCompletionRoutineEx keeps the driver in memory until the routine has returned; all three flags, so that it runs. */
_Use_decl_annotations_ NTSTATUS CompletionSetRoutine(OPERATION *Operation, PIO_COMPLETION_ROUTINE Routine) {
    PFN_SET_COMPLETION_ROUTINE_EX setEx = PlatformFacts()->SetCompletionRoutineEx;
    PVOID context = &Operation->Cookie;
    PIRP irp = Operation->Irp;

    if (FaultsDeny(&Operation->Client->Ledger.Faults, WSKLAB_FAULT_COMPLETION)) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    if (setEx != NULL) {
        return setEx(DeviceObject(), irp, Routine, context, TRUE, TRUE, TRUE);
    }
    IoSetCompletionRoutine(irp, Routine, context, TRUE, TRUE, TRUE);
    return STATUS_SUCCESS;
}

_Use_decl_annotations_ NTSTATUS CompletionArm(OPERATION *Operation) {
    PIRP irp = Operation->Irp;
    UCHAR flags = Operation->Submit.invoke_flags;
    NTSTATUS status;

    if (irp == NULL) {
        return STATUS_SUCCESS;
    }
    if (Operation->Submit.irp_source == WSKLAB_IRP_FORWARDED) {
        return ForwardArm(Operation);
    }
    Operation->ExpectedIrp = irp;
    Operation->ExpectedContext = &Operation->Cookie;
    irp->IoStatus.Status = (NTSTATUS)WSKLAB_PREFILL;
    irp->IoStatus.Information = WSKLAB_PREFILL;
    if (!Operation->Submit.second_location) {
        return CompletionSetRoutine(Operation, OnCompletion);
    }
    status = CompletionSetRoutine(Operation, OnUpperCompletion);
    if (NT_SUCCESS(status)) {
        IoSetNextIrpStackLocation(irp);
        IoGetCurrentIrpStackLocation(irp)->DeviceObject = DeviceObject();
        IoSetCompletionRoutine(irp, OnLowerCompletion, &Operation->Cookie, (flags & WSKLAB_INVOKE_SUCCESS) != 0,
                               (flags & WSKLAB_INVOKE_ERROR) != 0, (flags & WSKLAB_INVOKE_CANCEL) != 0);
    }
    return status;
}
