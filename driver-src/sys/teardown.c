/*
 * teardown.c: how a closing client comes to its end.
 *
 * Order: give up what has not started; give back kept indications (before their sockets close); close every socket
 * (which ends what is queued on it), cancel what has none; give back descriptors and address lists; wait until nothing
 * is active but what only deregistering ends; release every capture; deregister on a thread of its own (it blocks for
 * as long as WSK likes). When that is done the client is closed. Without a handle it then forgets its records and
 * leaves the list.
 */
#include "teardown.h"

#include "cancel.h"
#include "issue.h"
#include "script.h"
#include "threads.h"

#define STEP_NS (25 * NANOSECONDS_PER_MS)
/* No client may use it (WSKLAB_MAX_NUMBER is lower). */
#define INTERNAL_OP_ID 0xFFFFFFFFu

/* Held and delayed operations: nobody will start them. */
static VOID AbandonUnstarted(CLIENT *Client) {
    OPERATION *found;
    KIRQL irql;

    do {
        found = NULL;
        KeAcquireSpinLock(&Client->Lock, &irql);
        for (ULONG i = 0; i < OPERATION_BUCKETS && found == NULL; i++) {
            LIST_ENTRY *bucket = &Client->Operations[i];
            for (PLIST_ENTRY entry = bucket->Flink; entry != bucket; entry = entry->Flink) {
                OPERATION *operation = CONTAINING_RECORD(entry, OPERATION, Link);
                if (operation->Record.state == WSKLAB_STATE_NEW && !operation->Launched) {
                    OperationReference(operation);
                    found = operation;
                    break;
                }
                if (operation->Record.state == WSKLAB_STATE_NEW && operation->Watched) {
                    operation->DueNs = 0; /* its start sees that the client is closing */
                }
            }
        }
        KeReleaseSpinLock(&Client->Lock, irql);
        if (found != NULL) {
            OperationAbandon(found, STATUS_FILE_CLOSED);
            OperationDereference(found);
        }
    } while (found != NULL);
}

/*
 * What failed at once is tried again after a pause, whoever wakes the keeper meanwhile: an operation that ends wakes it,
 * one of ours too, and a client may have made millions of our own allocations fail.
 */
static BOOLEAN TryLater(CLIENT *Client) {
    Client->NextStepNs = PlatformNow() + STEP_NS;
    return FALSE;
}

/* An operation of our own. FALSE: no memory now; a later step tries again. */
static BOOLEAN RunOwn(CLIENT *Client, WSKLAB_SUBMIT *Submit) {
    OPERATION *operation;

    Submit->op_id = INTERNAL_OP_ID;
    Submit->stack_count = 1;
    Submit->invoke_flags = WSKLAB_INVOKE_SUCCESS | WSKLAB_INVOKE_ERROR | WSKLAB_INVOKE_CANCEL;
    if (!NT_SUCCESS(OperationCreate(Client, Submit, NULL, TRUE, &operation))) {
        return TryLater(Client);
    }
    /* An internal operation is never refused; whatever it becomes, the tables tell. */
    (VOID)OperationLaunch(operation);
    OperationDereference(operation);
    return TRUE;
}

static BOOLEAN CloseSocket(CLIENT *Client, ULONG Number) {
    WSKLAB_SUBMIT submit = {.function = WSKLAB_FN_CLOSE, .socket = Number};
    return RunOwn(Client, &submit);
}

/* Give back every free object of a kind; FALSE when one stays, for a later step. */
static BOOLEAN GiveBack(CLIENT *Client, ULONG Kind, const WSKLAB_SUBMIT *How) {
    ULONG last = 0;
    OBJECT object;

    while (ObjectFirst(Client, Kind, &object)) {
        WSKLAB_SUBMIT submit = *How;
        submit.object = object.Number;
        submit.socket = object.Socket;
        if (object.Number == last) {
            return TryLater(Client);
        }
        if (!RunOwn(Client, &submit)) {
            return FALSE;
        }
        last = object.Number;
    }
    return TRUE;
}

static BOOLEAN GiveBackIndications(CLIENT *Client) {
    WSKLAB_SUBMIT data = {.function = WSKLAB_FN_RELEASE_DATA};
    WSKLAB_SUBMIT datagram = {.function = WSKLAB_FN_RELEASE_DATAGRAM};
    return GiveBack(Client, WSKLAB_OBJECT_DATA, &data) && GiveBack(Client, WSKLAB_OBJECT_DATAGRAM, &datagram);
}

static BOOLEAN GiveBackDescriptors(CLIENT *Client) {
    WSKLAB_SUBMIT release = {.function = WSKLAB_FN_CONTROL_CLIENT,
                             .switches = WSKLAB_SWITCH_NULL_IRP,
                             .control_code = WSK_RELEASE_SD,
                             .input_kind = WSKLAB_INPUT_CACHED,
                             .input_size = sizeof(PSECURITY_DESCRIPTOR)};
    return GiveBack(Client, WSKLAB_OBJECT_DESCRIPTOR, &release);
}

static BOOLEAN GiveBackAddressLists(CLIENT *Client) {
    WSKLAB_SUBMIT release = {.function = WSKLAB_FN_FREE_ADDRESS_INFO};
    return GiveBack(Client, WSKLAB_OBJECT_ADDRESS_LIST, &release);
}

/* What has no socket that a close could end: it is cancelled, once. */
static VOID CancelSocketless(CLIENT *Client) {
    OPERATION *found;
    KIRQL irql;

    do {
        found = NULL;
        KeAcquireSpinLock(&Client->Lock, &irql);
        for (ULONG i = 0; i < OPERATION_BUCKETS && found == NULL; i++) {
            LIST_ENTRY *bucket = &Client->Operations[i];
            for (PLIST_ENTRY entry = bucket->Flink; entry != bucket && found == NULL; entry = entry->Flink) {
                OPERATION *operation = CONTAINING_RECORD(entry, OPERATION, Link);
                if (operation->Record.state == WSKLAB_STATE_OUTSTANDING && operation->Socket == NULL && !operation->CancelledAtEnd) {
                    operation->CancelledAtEnd = TRUE;
                    OperationReference(operation);
                    found = operation;
                }
            }
        }
        KeReleaseSpinLock(&Client->Lock, irql);
        if (found != NULL) {
            OperationCancel(found);
            OperationDereference(found);
        }
    } while (found != NULL);
}

static VOID Deregister(PVOID Context) {
    CLIENT *client = Context;
    WskDeregister(&client->Registration.Block);
    RegistrationEndDeregister(client);
    ClientDereference(client);
}

static VOID DeregisterFromNmr(PVOID Context) {
    CLIENT *client = Context;
    NmrDeregister(client);
    ClientDereference(client);
}

/* On a thread of its own; without one the next step tries again. */
static VOID LeaveNmr(CLIENT *Client) {
    if (NT_SUCCESS(NmrBeginDeregister(Client))) {
        ClientReference(Client);
        if (!NT_SUCCESS(ThreadStart(&Client->Ledger, DeregisterFromNmr, Client))) {
            NmrUndoDeregister(Client);
            ClientDereference(Client);
        }
    }
}

/* TRUE when the client is detached from WSK. */
static BOOLEAN Detach(CLIENT *Client) {
    REGISTRATION_STATE state;
    KIRQL irql;

    while (NT_SUCCESS(RegistrationBeginRelease(Client))) {
        WskReleaseProviderNPI(&Client->Registration.Block);
    }
    KeAcquireSpinLock(&Client->Lock, &irql);
    state = Client->Registration.State;
    KeReleaseSpinLock(&Client->Lock, irql);
    if (state == REGISTRATION_NONE || state == REGISTRATION_GONE) {
        return TRUE;
    }
    if (state == REGISTRATION_NMR) {
        LeaveNmr(Client);
        return FALSE;
    }
    if (state == REGISTRATION_REGISTERED && NT_SUCCESS(RegistrationBeginDeregister(Client))) {
        ClientReference(Client);
        if (!NT_SUCCESS(ThreadStart(&Client->Ledger, Deregister, Client))) {
            RegistrationEndRegister(Client, STATUS_SUCCESS); /* registered again; the next step tries once more */
            ClientDereference(Client);
        }
    }
    return FALSE;
}

/* Operations whose end is awaited; `Loose`: without those that only deregistering ends. */
static LONG Active(CLIENT *Client, BOOLEAN Loose) {
    LONG active;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    active = Client->Active - (Loose ? Client->BoundToRegistration : 0);
    KeReleaseSpinLock(&Client->Lock, irql);
    return active;
}

/* TRUE when nothing is left but records. */
static BOOLEAN Close(CLIENT *Client) {
    ULONG number;
    ULONG total;

    AbandonUnstarted(Client);
    if (!GiveBackIndications(Client)) {
        return FALSE;
    }
    while ((number = SocketFirstOpen(Client, &total)) != 0) {
        if (!CloseSocket(Client, number)) {
            return FALSE;
        }
        if (SocketFirstOpen(Client, &total) == number) {
            return TryLater(Client);
        }
    }
    CancelSocketless(Client);
    if (Active(Client, TRUE) != 0 || total != 0 || !GiveBackDescriptors(Client) ||
        !GiveBackAddressLists(Client) || Active(Client, TRUE) != 0) {
        return FALSE;
    }
    return Detach(Client) && Active(Client, FALSE) == 0;
}

_Use_decl_annotations_ VOID TeardownStep(CLIENT *Client, ULONG64 NowNs, ULONG64 *NextNs) {
    CLIENT_STATE state;
    BOOLEAN handleOpen;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    state = Client->State;
    handleOpen = Client->HandleOpen;
    KeReleaseSpinLock(&Client->Lock, irql);
    if (state == CLIENT_OPEN) {
        return;
    }
    if (state == CLIENT_CLOSING) {
        if (NowNs < Client->NextStepNs || !Close(Client)) {
            ULONG64 due = NowNs < Client->NextStepNs ? Client->NextStepNs : NowNs + STEP_NS;
            if (*NextNs > due) {
                *NextNs = due;
            }
            return;
        }
        ScriptsFree(Client);
        KeAcquireSpinLock(&Client->Lock, &irql);
        Client->State = CLIENT_CLOSED;
        KeReleaseSpinLock(&Client->Lock, irql);
    }
    if (!handleOpen) {
        while (OperationReleaseAny(Client)) {
        }
        for (LONG drops = InterlockedExchange(&Client->FileReferencesToDrop, 0); drops > 0; drops--) {
            ObDereferenceObject(Client->File);
        }
        ClientForget(Client);
    }
}
