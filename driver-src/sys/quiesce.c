/*
 * quiesce.c: close everything of everyone, and who is still there.
 */
#include "quiesce.h"

_Use_decl_annotations_ VOID QuiesceBegin(VOID) {
    ULONG id = 0;
    CLIENT *client;

    while ((client = ClientNext(id)) != NULL) {
        id = client->Id;
        ClientBeginClose(client);
        ClientDereference(client);
    }
}

_Use_decl_annotations_ BOOLEAN QuiesceIsDone(VOID) {
    BOOLEAN done = TRUE;
    ULONG id = 0;
    CLIENT *client;

    while (done && (client = ClientNext(id)) != NULL) {
        id = client->Id;
        done = client->State == CLIENT_CLOSED;
        ClientDereference(client);
    }
    return done;
}

static WSKLAB_OWNER Describe(CLIENT *Client, const CLIENT *Caller) {
    WSKLAB_OWNER owner = {.client_id = Client->Id, .process_id = Client->ProcessId};
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    owner.outstanding = (uint32_t)Client->Active;
    owner.sockets = (uint32_t)Client->SocketCount;
    owner.lost = (uint32_t)Client->Lost;
    owner.flags = (Client->HandleOpen ? WSKLAB_OWNER_HANDLE_OPEN : 0) |
                  (Client->State != CLIENT_CLOSED ? WSKLAB_OWNER_CLOSING : 0) | (Client == Caller ? WSKLAB_OWNER_CALLER : 0);
    switch (Client->Registration.State) {
    case REGISTRATION_BUSY:
    case REGISTRATION_REGISTERED:
    case REGISTRATION_DEREGISTERING:
    case REGISTRATION_NMR:
    case REGISTRATION_NMR_LEAVING:
        owner.flags |= WSKLAB_OWNER_REGISTERED;
        break;
    default:
        break;
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return owner;
}

_Use_decl_annotations_ ULONG QuiesceWrite(CLIENT *Caller, PUCHAR Out, ULONG Room, BOOLEAN TimedOut) {
    WSKLAB_QUIESCE_RESULT result = {.timed_out = TimedOut};
    ULONG id = 0;
    CLIENT *client;

    while ((client = ClientNext(id)) != NULL) {
        WSKLAB_OWNER owner = Describe(client, Caller);
        /* The caller's own handle goes with its process; everybody else's keeps the driver loaded. */
        BOOLEAN busy = (owner.flags & WSKLAB_OWNER_CLOSING) || (client != Caller && (owner.flags & WSKLAB_OWNER_HANDLE_OPEN));
        ULONG end = (ULONG)(sizeof(result) + (result.count + 1) * sizeof(owner));

        id = client->Id;
        ClientDereference(client);
        if (busy) {
            result.busy++;
            if (end <= Room) {
                RtlCopyMemory(Out + end - sizeof(owner), &owner, sizeof(owner));
                result.count++;
            }
        }
    }
    RtlCopyMemory(Out, &result, sizeof(result));
    return (ULONG)(sizeof(result) + result.count * sizeof(WSKLAB_OWNER));
}

_Use_decl_annotations_ VOID QuiesceLogOwners(VOID) {
    ULONG id = 0;
    CLIENT *client;

    while ((client = ClientNext(id)) != NULL) {
        WSKLAB_OWNER owner = Describe(client, NULL);
        id = client->Id;
        ClientDereference(client);
        LogLine("unload waits for client %u of process %llu: %u outstanding, %u sockets, %u lost, flags %x\n", owner.client_id,
                owner.process_id, owner.outstanding, owner.sockets, owner.lost, owner.flags);
    }
}
