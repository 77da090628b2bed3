/*
 * issue.c: an operation's way to WSK and back.
 */
#include "issue.h"

#include "call.h"
#include "completion.h"
#include "control.h"
#include "device.h"
#include "forward.h"
#include "hold.h"
#include "keeper.h"
#include "threads.h"
#include "wait.h"

/* Before a close on Wine (see operation.c): its wait threads have to know the requests that the close will end. */
#define WINE_SETTLE_100NS 300000ll

static VOID Start(OPERATION *Operation);

/* The placeholder of a socket that will not be made. */
static VOID DropNewSocket(OPERATION *Operation) {
    if (Operation->NewSocket != NULL && OperationSettle(Operation)) {
        SocketRemove(Operation->NewSocket);
    }
}

_Use_decl_annotations_ VOID OperationAbandon(OPERATION *Operation, NTSTATUS Why) {
    CLIENT *client = Operation->Client;
    BOOLEAN launched = FALSE;
    KIRQL irql;

    KeAcquireSpinLock(&client->Lock, &irql);
    if (Operation->Record.state != WSKLAB_STATE_NEW) {
        KeReleaseSpinLock(&client->Lock, irql);
        return;
    }
    Operation->Record.state = WSKLAB_STATE_NOT_STARTED;
    Operation->Record.driver_status = Why;
    launched = Operation->Launched;
    OperationUnwatch(Operation);
    KeReleaseSpinLock(&client->Lock, irql);

    DropNewSocket(Operation);
    ControlSettle(Operation, FALSE);
    HoldSettle(Operation, Why, NULL, 0, 0);
    LedgerAdd(&client->Ledger, LEDGER_COUNT(not_started), 1);
    OperationRecordEvent(Operation, WSKLAB_EVENT_NOT_STARTED, Why, 0);
    OperationContinue(client, Operation->Submit.then_op, FALSE);
    if (launched) {
        ClientEndOperation(client, Operation->Internal);
    }
    WaitsForOperation(Operation);
}

/* The IRP of an operation that kept it, for this one. */
static NTSTATUS TakeIrp(OPERATION *Operation) {
    CLIENT *client = Operation->Client;
    OPERATION *from = OperationFind(client, Operation->Submit.reuse_op);
    NTSTATUS status = STATUS_INVALID_DEVICE_STATE;
    KIRQL irql;

    if (from == NULL) {
        return STATUS_NOT_FOUND;
    }
    KeAcquireSpinLock(&client->Lock, &irql);
    if (from->IrpIdle && from->Irp != NULL && from->Irp->StackCount >= (CCHAR)Operation->Submit.stack_count) {
        Operation->Irp = from->Irp;
        Operation->IrpMemory = from->IrpMemory;
        Operation->IrpBytes = from->IrpBytes;
        from->Irp = NULL;
        from->IrpMemory = NULL;
        from->IrpIdle = FALSE;
        status = STATUS_SUCCESS;
    }
    KeReleaseSpinLock(&client->Lock, irql);
    OperationDereference(from);
    if (NT_SUCCESS(status)) {
        /* Clears the completion routine, which is set again before the call (appendix B, trap 6). */
        IoReuseIrp(Operation->Irp, STATUS_UNSUCCESSFUL);
    }
    return status;
}

static VOID LeaveProvider(OPERATION *Operation) {
    if (Operation->UsesProvider) {
        Operation->UsesProvider = FALSE;
        RegistrationEndUse(Operation->Client);
    }
}

/* A lookup uses the provider until its list was read: one that comes while the client leaves has to be freed there. */
static BOOLEAN KeepsProvider(const OPERATION *Operation) {
    return Operation->Submit.function == WSKLAB_FN_GET_ADDRESS_INFO && Operation->ExpectCompletion;
}

static NTSTATUS EnterSocket(OPERATION *Operation) {
    NTSTATUS status;

    if (Operation->Submit.function == WSKLAB_FN_CLOSE) {
        return SocketBeginClose(Operation->Client, Operation->Submit.socket, Operation, &Operation->Socket);
    }
    status = SocketEnter(Operation->Client, Operation->Submit.socket, &Operation->Socket);
    if (NT_SUCCESS(status)) {
        status = CallPrepare(Operation);
        if (!NT_SUCCESS(status)) {
            SocketLeave(Operation->Socket);
        }
    }
    return status;
}

/* Everything that can refuse the call. STATUS_PENDING: a close that waits for running calls. */
static NTSTATUS Acquire(OPERATION *Operation) {
    CLIENT *client = Operation->Client;
    NTSTATUS status = STATUS_SUCCESS;
    KIRQL irql;

    KeAcquireSpinLock(&client->Lock, &irql);
    if (Operation->Abandon) {
        status = STATUS_CANCELLED;
    } else if (client->State != CLIENT_OPEN && !Operation->Internal) {
        status = STATUS_FILE_CLOSED;
    }
    KeReleaseSpinLock(&client->Lock, irql);
    if (NT_SUCCESS(status) && Operation->Submit.irp_source == WSKLAB_IRP_REUSED) {
        status = TakeIrp(Operation);
    }
    if (NT_SUCCESS(status) && OPERATION_HAS(Operation, FUNCTION_PROVIDER)) {
        status = RegistrationBeginUse(client, &Operation->Npi);
        Operation->UsesProvider = NT_SUCCESS(status);
    }
    if (NT_SUCCESS(status)) {
        status = Operation->Submit.socket != 0 ? EnterSocket(Operation) : CallPrepare(Operation);
    }
    if (!NT_SUCCESS(status)) {
        LeaveProvider(Operation);
    }
    return status;
}

/* What ends only when the client detaches: a queued transport list change (WSK-DET-005), and a deregistration, which
 * waits for every capture and every socket (WSK-DET-002). */
static BOOLEAN IsBoundToRegistration(const OPERATION *Operation) {
    switch (Operation->Submit.function) {
    case WSKLAB_FN_DEREGISTER:
    case WSKLAB_FN_NMR_DEREGISTER: /* a detach waits for what only the teardown gives back */
        return TRUE;
    case WSKLAB_FN_CONTROL_CLIENT:
        return Operation->Submit.control_code == WSK_TRANSPORT_LIST_CHANGE && Operation->ExpectCompletion;
    default:
        return FALSE;
    }
}

static VOID Unbind(OPERATION *Operation) {
    KIRQL irql;

    if (Operation->Bound) {
        KeAcquireSpinLock(&Operation->Client->Lock, &irql);
        Operation->Client->BoundToRegistration--;
        KeReleaseSpinLock(&Operation->Client->Lock, irql);
    }
}

static VOID Final(OPERATION *Operation) {
    LeaveProvider(Operation);
    Unbind(Operation);
    if (Operation->Socket != NULL) {
        SocketCountOutstanding(Operation->Socket, -1);
    }
    LedgerAddTwo(&Operation->Client->Ledger, LEDGER_COUNT(outstanding), -1, LEDGER_COUNT(completed), 1);
    ClientEndOperation(Operation->Client, Operation->Internal);
    WaitsForOperation(Operation);
}

static VOID Returned(OPERATION *Operation, NTSTATUS Status) {
    CLIENT *client = Operation->Client;
    BOOLEAN final = FALSE;
    BOOLEAN watch = FALSE;
    KIRQL irql;

    KeAcquireSpinLock(&client->Lock, &irql);
    Operation->Returned = TRUE;
    Operation->Record.flags |= WSKLAB_RECORD_RETURNED;
    Operation->Record.returned_status = Status;
    if (!Operation->ExpectCompletion || Operation->Completed) {
        Operation->Record.state = WSKLAB_STATE_COMPLETED;
        final = TRUE;
    } else {
        Operation->Record.state = WSKLAB_STATE_OUTSTANDING;
        if (!NT_SUCCESS(Status)) {
            /* A failing return also completes the IRP; some providers do not. Give it the grace time. */
            ULONG grace = Operation->Submit.grace_ms != 0 ? Operation->Submit.grace_ms : WSKLAB_GRACE_MS;

            OperationWatch(Operation, PlatformNow() + grace * NANOSECONDS_PER_MS);
            watch = TRUE;
        }
    }
    KeReleaseSpinLock(&client->Lock, irql);
    if (final) {
        Final(Operation);
    }
    if (watch) {
        KeeperWake();
    }
}

static ULONG64 RecordEnter(OPERATION *Operation) {
    UCHAR level = KeGetCurrentIrql();
    ULONG64 sequence = PlatformNextSequence();
    KIRQL irql;

    KeAcquireSpinLock(&Operation->Client->Lock, &irql);
    Operation->Record.call_irql = level;
    Operation->Record.call_thread = PlatformThread();
    Operation->Record.enter_sequence = sequence;
    Operation->Record.enter_ns = PlatformNow();
    KeReleaseSpinLock(&Operation->Client->Lock, irql);
    return sequence;
}

static VOID RecordReturn(OPERATION *Operation) {
    ULONG64 now = PlatformNow();
    ULONG64 sequence = PlatformNextSequence();
    KIRQL irql;

    KeAcquireSpinLock(&Operation->Client->Lock, &irql);
    Operation->Record.return_ns = now;
    Operation->Record.return_sequence = sequence;
    KeReleaseSpinLock(&Operation->Client->Lock, irql);
}

/* The call itself. Nothing that the completion routine may free is touched after it, except our own object. */
static VOID Issue(OPERATION *Operation) {
    CLIENT *client = Operation->Client;
    BOOLEAN isClose = Operation->Submit.function == WSKLAB_FN_CLOSE;
    BOOLEAN raised = Operation->Submit.call_context == WSKLAB_CONTEXT_RAISED;
    KIRQL previous = 0;
    KIRQL irql;
    NTSTATUS status;
    ULONG64 entered;

    Operation->ExpectCompletion = OPERATION_HAS(Operation, FUNCTION_IRP) &&
                                  !(Operation->Submit.switches & WSKLAB_SWITCH_NULL_IRP) &&
                                  Operation->Submit.forward != WSKLAB_FORWARD_BARE;
    if (Operation->ExpectCompletion) {
        OperationReference(Operation); /* the provider's, dropped by the completion routine */
    }
    KeAcquireSpinLock(&client->Lock, &irql);
    Operation->Record.state = WSKLAB_STATE_CALLING;
    if (Operation->Socket != NULL) {
        Operation->Record.category = (UCHAR)Operation->Socket->Category;
        Operation->Socket->Outstanding++;
    }
    if (IsBoundToRegistration(Operation)) {
        Operation->Bound = TRUE;
        client->BoundToRegistration++;
    }
    KeReleaseSpinLock(&client->Lock, irql);
    LedgerAddTwo(&client->Ledger, LEDGER_COUNT(issued), 1, LEDGER_COUNT(outstanding), 1);

    if (Operation->Submit.irp_source == WSKLAB_IRP_FORWARDED) {
        ForwardGive(Operation);
    }
    if (raised) {
        KeRaiseIrql(DISPATCH_LEVEL, &previous);
    }
    entered = RecordEnter(Operation);
    status = CallWsk(Operation);
    RecordReturn(Operation);
    if (raised) {
        KeLowerIrql(previous);
    }
    OperationRecordEvent(Operation, WSKLAB_EVENT_CALL_RETURN, status, entered);
    if (!Operation->ExpectCompletion) {
        CallEnd(Operation, status, ControlReturnedBytes(Operation, status));
        DropNewSocket(Operation); /* called without an IRP: none will come, and its number is free */
        CompletionOfNoIrp(Operation, status);
    }
    if (!KeepsProvider(Operation)) {
        LeaveProvider(Operation);
    }
    if (Operation->Socket != NULL && !isClose) {
        SocketLeave(Operation->Socket);
    }
    Returned(Operation, status);
}

/* Consumes the launch's reference. */
static VOID ArmAndIssue(OPERATION *Operation) {
    NTSTATUS status = CompletionArm(Operation);

    if (NT_SUCCESS(status)) {
        Issue(Operation);
    } else {
        LeaveProvider(Operation);
        if (Operation->Socket != NULL && Operation->Submit.function == WSKLAB_FN_CLOSE) {
            SocketReopen(Operation->Socket);
        } else if (Operation->Socket != NULL) {
            SocketLeave(Operation->Socket);
        }
        OperationAbandon(Operation, status);
    }
    OperationDereference(Operation);
}

static VOID Start(OPERATION *Operation) {
    NTSTATUS status = Acquire(Operation);

    if (status == STATUS_PENDING) {
        return; /* OperationStartClose goes on, with our reference */
    }
    if (!NT_SUCCESS(status)) {
        OperationAbandon(Operation, status);
        OperationDereference(Operation);
        return;
    }
    ArmAndIssue(Operation);
}

_Use_decl_annotations_ VOID OperationStartClose(OPERATION *Operation) {
    ArmAndIssue(Operation);
}

static VOID NTAPI StartInWorkItem(PDEVICE_OBJECT Device, PVOID Context) {
    OPERATION *operation = Context;

    UNREFERENCED_PARAMETER(Device);
    if (operation->SettleFirst && SocketHasOutstanding(operation->Client, operation->Submit.socket)) {
        LARGE_INTEGER settle = {.QuadPart = -WINE_SETTLE_100NS};
        KeDelayExecutionThread(KernelMode, FALSE, &settle);
    }
    Start(operation);
}

static VOID StartInThread(PVOID Context) {
    Start(Context);
}

static VOID AttachAndStart(PVOID Context) {
    OPERATION *operation = Context;
    NTSTATUS status = RegistrationAttachSlowly(operation->Client);
    if (NT_SUCCESS(status)) {
        Start(operation);
    } else {
        OperationAbandon(operation, status);
        OperationDereference(operation);
    }
}

static BOOLEAN Blocks(const WSKLAB_SUBMIT *Submit) {
    BOOLEAN mayWait = Submit->timeout_ms != WSK_NO_WAIT || (Submit->switches & WSKLAB_SWITCH_INFINITE);
    return (FunctionTraits(Submit->function) & FUNCTION_THREAD) || (Submit->function == WSKLAB_FN_CAPTURE && mayWait);
}

static VOID StartOnThread(OPERATION *Operation, THREAD_ROUTINE Routine) {
    NTSTATUS status = ThreadStart(&Operation->Client->Ledger, Routine, Operation);
    if (!NT_SUCCESS(status)) {
        OperationAbandon(Operation, status);
        OperationDereference(Operation);
    }
}

/* Mark as launched, in one step with the count: giving up what is not launched does not count it down. */
static NTSTATUS BeginLaunch(OPERATION *Operation) {
    NTSTATUS status = STATUS_FILE_CLOSED; /* given up meanwhile */
    KIRQL irql;

    KeAcquireSpinLock(&Operation->Client->Lock, &irql);
    if (Operation->Record.state == WSKLAB_STATE_NEW) {
        status = ClientBeginOperation(Operation->Client, Operation->Internal);
    }
    if (NT_SUCCESS(status)) { /* with the launch's reference */
        Operation->Launched = TRUE;
        OperationReference(Operation);
    }
    KeReleaseSpinLock(&Operation->Client->Lock, irql);
    return status;
}

_Use_decl_annotations_ NTSTATUS OperationLaunch(OPERATION *Operation) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    NTSTATUS status;
    KIRQL irql;

    if (submit->switches & WSKLAB_SWITCH_HELD) {
        return STATUS_SUCCESS;
    }
    status = BeginLaunch(Operation);
    if (!NT_SUCCESS(status)) {
        OperationAbandon(Operation, status);
        return status;
    }
    if (OPERATION_HAS(Operation, FUNCTION_PROVIDER)) {
        status = RegistrationAttach(Operation->Client);
        if (status == STATUS_DEVICE_NOT_READY) {
            StartOnThread(Operation, AttachAndStart);
            return STATUS_SUCCESS;
        }
        if (!NT_SUCCESS(status)) {
            OperationAbandon(Operation, status);
            OperationDereference(Operation);
            return STATUS_SUCCESS;
        }
    }
    if (submit->delay_ms != 0) {
        KeAcquireSpinLock(&Operation->Client->Lock, &irql);
        OperationWatch(Operation, PlatformNow() + submit->delay_ms * NANOSECONDS_PER_MS);
        KeReleaseSpinLock(&Operation->Client->Lock, irql);
        KeeperWake();
    } else if (Blocks(submit)) {
        StartOnThread(Operation, StartInThread);
    } else if (Operation->InWorker) {
        IoQueueWorkItem(Operation->WorkItem, StartInWorkItem, DelayedWorkQueue, Operation);
    } else {
        Start(Operation);
    }
    return STATUS_SUCCESS;
}

_Use_decl_annotations_ VOID OperationDelayOver(OPERATION *Operation) {
    if (Blocks(&Operation->Submit)) {
        StartOnThread(Operation, StartInThread);
    } else {
        /* Never on the keeper itself: it must stay free, whatever WSK does. */
        IoQueueWorkItem(Operation->WorkItem, StartInWorkItem, DelayedWorkQueue, Operation);
    }
}

_Use_decl_annotations_ VOID OperationContinue(CLIENT *Client, ULONG OpId, BOOLEAN StartIt) {
    OPERATION *operation = OpId != 0 ? OperationFind(Client, OpId) : NULL;
    BOOLEAN held;
    KIRQL irql;

    if (operation == NULL) {
        return;
    }
    KeAcquireSpinLock(&Client->Lock, &irql);
    /* Launched is set by whoever takes it: an operation is continued once. */
    held = (operation->Submit.switches & WSKLAB_SWITCH_HELD) && operation->Record.state == WSKLAB_STATE_NEW && !operation->Launched;
    KeReleaseSpinLock(&Client->Lock, irql);
    if (held) {
        NTSTATUS status = StartIt ? BeginLaunch(operation) : STATUS_CANCELLED;
        if (NT_SUCCESS(status)) {
            Start(operation);
        } else {
            OperationAbandon(operation, status);
        }
    }
    OperationDereference(operation);
}

_Use_decl_annotations_ VOID OperationContinueInCallback(CLIENT *Client, ULONG OpId) {
    OPERATION *operation = OpId != 0 ? OperationFind(Client, OpId) : NULL;
    const WSKLAB_SUBMIT *submit;

    if (operation == NULL) {
        return;
    }
    submit = &operation->Submit;
    if (submit->input_kind == WSKLAB_INPUT_EVENT_CALLBACK && (submit->event_mask & WSK_EVENT_DISABLE) &&
        (submit->switches & WSKLAB_SWITCH_HELD)) {
        OperationAbandon(operation, STATUS_INVALID_DEVICE_REQUEST); /* not from inside a callback */
    } else {
        OperationContinue(Client, OpId, TRUE);
    }
    OperationDereference(operation);
}

/* What an operation that is lost keeps of ours; a forwarded request's IRP is somebody else's. */
static LONG64 OwnIrps(const OPERATION *Operation) {
    return Operation->Submit.irp_source != WSKLAB_IRP_FORWARDED ? 1 : 0;
}

_Use_decl_annotations_ VOID OperationGraceOver(OPERATION *Operation) {
    CLIENT *client = Operation->Client;
    BOOLEAN lost = FALSE;
    KIRQL irql;

    KeAcquireSpinLock(&client->Lock, &irql);
    if (Operation->Record.state == WSKLAB_STATE_OUTSTANDING && !Operation->Completed) {
        Operation->Record.state = WSKLAB_STATE_LOST;
        client->Lost++;
        lost = TRUE;
    }
    KeReleaseSpinLock(&client->Lock, irql);
    if (!lost) {
        return;
    }
    LogLine("client %u: operation %u (function %u) returned a failure and was never completed%s\n", client->Id,
            Operation->Submit.op_id, Operation->Submit.function, OwnIrps(Operation) ? "; its IRP is kept" : "");
    if (Operation->Socket != NULL) {
        SocketCountOutstanding(Operation->Socket, -1);
        if (Operation->Submit.function == WSKLAB_FN_CLOSE && OperationSettle(Operation)) {
            SocketRemove(Operation->Socket); /* closed or not: nobody can tell, and nobody may touch it again */
        }
    }
    DropNewSocket(Operation);
    HoldLose(Operation);
    LeaveProvider(Operation);
    Unbind(Operation);
    LedgerAddTwo(&client->Ledger, LEDGER_COUNT(outstanding), -1, LEDGER_COUNT(lost), 1);
    LedgerAdd(&client->Ledger, LEDGER_COUNT(irps_kept), OwnIrps(Operation));
    OperationRecordEvent(Operation, WSKLAB_EVENT_LOST, STATUS_SUCCESS, 0);
    ForwardLost(Operation);
    OperationContinue(client, Operation->Submit.then_op, FALSE);
    ClientEndOperation(client, Operation->Internal);
    WaitsForOperation(Operation);
}

_Use_decl_annotations_ VOID OperationCompleted(OPERATION *Operation) {
    CLIENT *client = Operation->Client;
    BOOLEAN final = FALSE;
    BOOLEAN late = FALSE;
    KIRQL irql;

    KeAcquireSpinLock(&client->Lock, &irql);
    Operation->Completed = TRUE;
    if (Operation->Record.state == WSKLAB_STATE_LOST) {
        Operation->Record.state = WSKLAB_STATE_COMPLETED;
        Operation->Record.flags |= WSKLAB_RECORD_LATE;
        client->Lost--;
        late = TRUE;
    } else if (Operation->Returned) {
        Operation->Record.state = WSKLAB_STATE_COMPLETED;
        OperationUnwatch(Operation);
        final = TRUE;
    }
    KeReleaseSpinLock(&client->Lock, irql);
    if (late) {
        LedgerAddTwo(&client->Ledger, LEDGER_COUNT(lost), -1, LEDGER_COUNT(completed), 1);
        LedgerAdd(&client->Ledger, LEDGER_COUNT(late), 1);
        LedgerAdd(&client->Ledger, LEDGER_COUNT(irps_kept), -OwnIrps(Operation));
    }
    if (final) {
        Final(Operation);
    }
}
