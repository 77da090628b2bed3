/*
 * teardown.c: how a closing client comes to its end.
 *
 * Order: give up what has not started, close every socket (which ends what is queued on it), wait until nothing is
 * active, release every capture, deregister on a thread of its own (it blocks for as long as WSK likes), and when that
 * is done the client is closed. Without a handle it then forgets its records and leaves the list.
 */
#include "teardown.h"

#include "issue.h"
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

/* FALSE: no memory now; the next step tries again. */
static BOOLEAN CloseSocket(CLIENT *Client, ULONG Number) {
    WSKLAB_SUBMIT submit = {.op_id = INTERNAL_OP_ID,
                            .function = WSKLAB_FN_CLOSE,
                            .socket = Number,
                            .stack_count = 1,
                            .invoke_flags = WSKLAB_INVOKE_SUCCESS | WSKLAB_INVOKE_ERROR | WSKLAB_INVOKE_CANCEL};
    OPERATION *operation;

    if (!NT_SUCCESS(OperationCreate(Client, &submit, NULL, TRUE, &operation))) {
        return FALSE;
    }
    /* An internal operation is never refused; whatever it becomes, the socket table tells. */
    (VOID)OperationLaunch(operation);
    OperationDereference(operation);
    return TRUE;
}

static VOID Deregister(PVOID Context) {
    CLIENT *client = Context;
    WskDeregister(&client->Registration.Block);
    RegistrationEndDeregister(client);
    ClientDereference(client);
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
    if (state == REGISTRATION_REGISTERED && NT_SUCCESS(RegistrationBeginDeregister(Client))) {
        ClientReference(Client);
        if (!NT_SUCCESS(ThreadStart(&Client->Ledger, Deregister, Client))) {
            RegistrationEndRegister(Client, STATUS_SUCCESS); /* registered again; the next step tries once more */
            ClientDereference(Client);
        }
    }
    return FALSE;
}

/* TRUE when nothing is left but records. */
static BOOLEAN Close(CLIENT *Client) {
    ULONG number;
    ULONG total;
    LONG active;
    KIRQL irql;

    AbandonUnstarted(Client);
    while ((number = SocketFirstOpen(Client, &total)) != 0) {
        if (!CloseSocket(Client, number)) {
            return FALSE;
        }
        if (SocketFirstOpen(Client, &total) == number) {
            return FALSE; /* the close failed at once: not in a loop without a pause */
        }
    }
    KeAcquireSpinLock(&Client->Lock, &irql);
    active = Client->Active;
    KeReleaseSpinLock(&Client->Lock, irql);
    return active == 0 && total == 0 && Detach(Client);
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
        if (!Close(Client)) {
            if (*NextNs > NowNs + STEP_NS) {
                *NextNs = NowNs + STEP_NS;
            }
            return;
        }
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
