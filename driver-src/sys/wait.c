/*
 * wait.c: the requests that pend.
 */
#include "wait.h"

#include "answer.h"
#include "keeper.h"
#include "quiesce.h"

/* How often a quiesce looks again while it is pending. */
#define QUIESCE_TICK_NS (20 * NANOSECONDS_PER_MS)

typedef struct WAIT {
    LIST_ENTRY Link;
    CLIENT *Client;
    PIRP Irp;
    WAIT_REQUEST Request;
    ULONG64 DueNs;
} WAIT;

_Use_decl_annotations_ WAIT *WaitPrepare(CLIENT *Client) {
    WAIT *wait = MemoryAllocate(&Client->Ledger, sizeof(WAIT));
    if (wait != NULL) {
        wait->Client = Client;
        ClientReference(Client);
    }
    return wait;
}

_Use_decl_annotations_ VOID WaitDiscard(WAIT *Wait) {
    if (Wait != NULL) {
        CLIENT *client = Wait->Client;
        MemoryFree(Wait);
        ClientDereference(client);
    }
}

static VOID FreeWait(WAIT *Wait) {
    LedgerAdd(&Wait->Client->Ledger, LEDGER_COUNT(waits_pending), -1);
    WaitDiscard(Wait);
}

/* Ends a wait that the caller has taken. */
static VOID Complete(WAIT *Wait, NTSTATUS Status, ULONG_PTR Information) {
    PIRP irp = Wait->Irp;
    FreeWait(Wait);
    irp->IoStatus.Status = Status;
    irp->IoStatus.Information = Information;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
}

static VOID NTAPI OnCancel(PDEVICE_OBJECT Device, PIRP Irp) {
    WAIT *wait = Irp->Tail.Overlay.DriverContext[0];
    KIRQL irql;

    UNREFERENCED_PARAMETER(Device);
    IoReleaseCancelSpinLock(Irp->CancelIrql);
    /* Whoever wanted to take it meanwhile found no cancel routine and left it to us. */
    KeAcquireSpinLock(&wait->Client->Lock, &irql);
    RemoveEntryList(&wait->Link);
    KeReleaseSpinLock(&wait->Client->Lock, irql);
    Complete(wait, STATUS_CANCELLED, 0);
}

/* Take a wait for completion; FALSE when its cancel routine runs and will complete it. */
_Requires_lock_held_(Wait->Client->Lock) static BOOLEAN Take(WAIT *Wait) {
    if (IoSetCancelRoutine(Wait->Irp, NULL) == NULL) {
        return FALSE;
    }
    RemoveEntryList(&Wait->Link);
    return TRUE;
}

static ULONG WriteRecord(OPERATION *Operation, PIRP Irp, const WAIT_REQUEST *Request, ULONG ExtraFlags) {
    ANSWER_REQUEST answer = {.DataLength = WSKLAB_MAX_DATA,
                             .Release = (Request->Flags & WSKLAB_RELEASE) != 0,
                             .ExtraFlags = ExtraFlags};
    return AnswerWrite(Operation, Irp->AssociatedIrp.SystemBuffer, Request->Room, &answer);
}

static ULONG WriteDrain(PIRP Irp, LONG Active, BOOLEAN TimedOut) {
    WSKLAB_DRAIN_RESULT result = {.outstanding = (uint32_t)Active, .timed_out = TimedOut};
    RtlCopyMemory(Irp->AssociatedIrp.SystemBuffer, &result, sizeof(result));
    return sizeof(result);
}

/* The answer, if there is one already. */
static BOOLEAN AnswerNow(CLIENT *Client, PIRP Irp, const WAIT_REQUEST *Request, NTSTATUS *Status, ULONG_PTR *Information) {
    OPERATION *operation;
    BOOLEAN ready = FALSE;

    *Status = STATUS_SUCCESS;
    switch (Request->Kind) {
    case WAIT_DRAIN:
        if (Client->Active == 0 || Request->TimeoutMs == 0) {
            LONG active = Client->Active;
            *Information = WriteDrain(Irp, active, active != 0);
            ready = TRUE;
        }
        return ready;
    case WAIT_QUIESCE:
        return FALSE; /* the keeper decides, after at least one look */
    case WAIT_OPERATION:
        break;
    }
    operation = OperationFind(Client, Request->OpId);
    if (operation == NULL) {
        *Status = STATUS_NOT_FOUND;
        return TRUE;
    }
    if (OperationIsFinal(operation) || Request->TimeoutMs == 0) {
        *Information = WriteRecord(operation, Irp, Request, OperationIsFinal(operation) ? 0 : WSKLAB_RECORD_TIMED_OUT);
        ready = TRUE;
    }
    OperationDereference(operation);
    return ready;
}

/* Whether what is waited for has come while we were not yet in the list. */
_Requires_lock_held_(Client->Lock) static BOOLEAN HasHappened(CLIENT *Client, const WAIT_REQUEST *Request) {
    LIST_ENTRY *bucket = &Client->Operations[Request->OpId % OPERATION_BUCKETS];

    if (Request->Kind == WAIT_DRAIN) {
        return Client->Active == 0;
    }
    if (Request->Kind == WAIT_OPERATION) {
        for (PLIST_ENTRY entry = bucket->Flink; entry != bucket; entry = entry->Flink) {
            OPERATION *operation = CONTAINING_RECORD(entry, OPERATION, Link);
            if (operation->Submit.op_id == Request->OpId) {
                return OperationIsFinal(operation);
            }
        }
        return TRUE; /* released by somebody else */
    }
    return FALSE;
}

_Use_decl_annotations_ NTSTATUS WaitSubmit(CLIENT *Client, PIRP Irp, const WAIT_REQUEST *Request, WAIT *Prepared, ULONG_PTR *Information) {
    NTSTATUS status;
    WAIT *wait;
    KIRQL irql;

    if (AnswerNow(Client, Irp, Request, &status, Information)) {
        WaitDiscard(Prepared);
        return status;
    }
    wait = Prepared != NULL ? Prepared : WaitPrepare(Client);
    if (wait == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    LedgerAdd(&Client->Ledger, LEDGER_COUNT(waits_pending), 1);
    wait->Irp = Irp;
    wait->Request = *Request;
    wait->DueNs = PlatformNow() + Request->TimeoutMs * NANOSECONDS_PER_MS;
    Irp->Tail.Overlay.DriverContext[0] = wait;

    KeAcquireSpinLock(&Client->Lock, &irql);
    if (HasHappened(Client, Request) || !Client->HandleOpen) {
        BOOLEAN open = Client->HandleOpen;
        KeReleaseSpinLock(&Client->Lock, irql);
        FreeWait(wait);
        if (!open) {
            return STATUS_CANCELLED;
        }
        if (Request->Kind == WAIT_DRAIN) {
            /* It was so a moment ago, whatever has been started since. */
            *Information = WriteDrain(Irp, 0, FALSE);
            return STATUS_SUCCESS;
        }
        return AnswerNow(Client, Irp, Request, &status, Information) ? status : STATUS_NOT_FOUND;
    }
    IoMarkIrpPending(Irp);
    IoSetCancelRoutine(Irp, OnCancel);
    InsertTailList(&Client->Waits, &wait->Link);
    if (Irp->Cancel && Take(wait)) {
        /* Cancelled before it had a routine: nobody else will complete it. */
        KeReleaseSpinLock(&Client->Lock, irql);
        Complete(wait, STATUS_CANCELLED, 0);
        return STATUS_PENDING;
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    KeeperWake();
    return STATUS_PENDING;
}

/* The next wait that fits, taken; NULL when there is none. `OpId` 0: any. */
static WAIT *TakeNext(CLIENT *Client, BOOLEAN AnyKind, WAIT_KIND Kind, ULONG OpId, ULONG64 DueNs) {
    WAIT *found = NULL;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    for (PLIST_ENTRY entry = Client->Waits.Flink; entry != &Client->Waits; entry = entry->Flink) {
        WAIT *wait = CONTAINING_RECORD(entry, WAIT, Link);
        if ((AnyKind || wait->Request.Kind == Kind) && (OpId == 0 || wait->Request.OpId == OpId) && wait->DueNs <= DueNs &&
            Take(wait)) {
            found = wait;
            break;
        }
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return found;
}

_Use_decl_annotations_ VOID WaitsForOperation(OPERATION *Operation) {
    WAIT *wait;

    if (Operation->Internal) {
        return;
    }
    while ((wait = TakeNext(Operation->Client, FALSE, WAIT_OPERATION, Operation->Submit.op_id, ~0ull)) != NULL) {
        Complete(wait, STATUS_SUCCESS, WriteRecord(Operation, wait->Irp, &wait->Request, 0));
    }
}

_Use_decl_annotations_ VOID WaitsDrained(CLIENT *Client) {
    WAIT *wait;

    while ((wait = TakeNext(Client, FALSE, WAIT_DRAIN, 0, ~0ull)) != NULL) {
        Complete(wait, STATUS_SUCCESS, WriteDrain(wait->Irp, 0, FALSE));
    }
}

_Use_decl_annotations_ VOID WaitsCancelAll(CLIENT *Client) {
    WAIT *wait;

    while ((wait = TakeNext(Client, TRUE, WAIT_OPERATION, 0, ~0ull)) != NULL) {
        Complete(wait, STATUS_CANCELLED, 0);
    }
}

static VOID CompleteDue(CLIENT *Client, WAIT *Wait) {
    OPERATION *operation;
    BOOLEAN final;

    if (Wait->Request.Kind == WAIT_DRAIN) {
        LONG active = Client->Active;
        Complete(Wait, STATUS_SUCCESS, WriteDrain(Wait->Irp, active, active != 0));
        return;
    }
    if (Wait->Request.Kind == WAIT_QUIESCE) {
        Complete(Wait, STATUS_SUCCESS, QuiesceWrite(Client, Wait->Irp->AssociatedIrp.SystemBuffer, Wait->Request.Room, TRUE));
        return;
    }
    operation = OperationFind(Client, Wait->Request.OpId);
    if (operation == NULL) {
        Complete(Wait, STATUS_NOT_FOUND, 0);
        return;
    }
    final = OperationIsFinal(operation);
    Complete(Wait, STATUS_SUCCESS, WriteRecord(operation, Wait->Irp, &Wait->Request, final ? 0 : WSKLAB_RECORD_TIMED_OUT));
    OperationDereference(operation);
}

_Use_decl_annotations_ VOID WaitsTick(CLIENT *Client, ULONG64 NowNs, ULONG64 *NextNs) {
    WAIT *wait;
    BOOLEAN quiesces = FALSE;
    KIRQL irql;

    while ((wait = TakeNext(Client, TRUE, WAIT_OPERATION, 0, NowNs)) != NULL) {
        CompleteDue(Client, wait);
    }
    KeAcquireSpinLock(&Client->Lock, &irql);
    for (PLIST_ENTRY entry = Client->Waits.Flink; entry != &Client->Waits; entry = entry->Flink) {
        wait = CONTAINING_RECORD(entry, WAIT, Link);
        quiesces = quiesces || wait->Request.Kind == WAIT_QUIESCE;
        if (wait->DueNs < *NextNs) {
            *NextNs = wait->DueNs;
        }
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    if (!quiesces) {
        return;
    }
    if (QuiesceIsDone()) {
        while ((wait = TakeNext(Client, FALSE, WAIT_QUIESCE, 0, ~0ull)) != NULL) {
            Complete(wait, STATUS_SUCCESS,
                     QuiesceWrite(Client, wait->Irp->AssociatedIrp.SystemBuffer, wait->Request.Room, FALSE));
        }
    } else if (*NextNs > NowNs + QUIESCE_TICK_NS) {
        *NextNs = NowNs + QUIESCE_TICK_NS;
    }
}
