/*
 * socket.c: a client's table of sockets.
 */
#include "socket.h"

#include "issue.h"

_Requires_lock_held_(Client->Lock) static SOCKET *Find(CLIENT *Client, ULONG Number) {
    for (PLIST_ENTRY entry = Client->Sockets.Flink; entry != &Client->Sockets; entry = entry->Flink) {
        SOCKET *socket = CONTAINING_RECORD(entry, SOCKET, Link);
        if (socket->Number == Number) {
            return socket;
        }
    }
    return NULL;
}

_Use_decl_annotations_ NTSTATUS SocketReserve(CLIENT *Client, const SOCKET *Traits, const SOCKET *Listener,
                                              SOCKET **Out) {
    SOCKET *socket = MemoryAllocate(&Client->Ledger, sizeof(SOCKET));
    NTSTATUS status = STATUS_SUCCESS;
    KIRQL irql;

    if (socket == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    socket->Client = Client;
    socket->References = 2; /* the table and the caller */
    socket->State = WSKLAB_SOCKET_CREATING;
    socket->Number = Traits->Number;
    socket->Category = Traits->Category;
    socket->Family = Traits->Family;
    socket->Type = Traits->Type;
    socket->Protocol = Traits->Protocol;
    socket->Context = Traits->Context;
    KeAcquireSpinLock(&Client->Lock, &irql);
    if (Find(Client, socket->Number) != NULL) {
        status = STATUS_OBJECT_NAME_COLLISION;
    } else if (Listener != NULL && (Listener->State != WSKLAB_SOCKET_OPEN || Client->State != CLIENT_OPEN)) {
        status = STATUS_FILE_CLOSED;
    } else if (Client->SocketCount >= (LONG)WSKLAB_MAX_SOCKETS) {
        status = STATUS_QUOTA_EXCEEDED;
    } else {
        Client->SocketCount++;
        InsertTailList(&Client->Sockets, &socket->Link);
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    if (!NT_SUCCESS(status)) {
        MemoryFree(socket);
        return status;
    }
    *Out = socket;
    return STATUS_SUCCESS;
}

_Use_decl_annotations_ VOID SocketInherit(SOCKET *Accepted, const SOCKET *Listener) {
    KIRQL irql;
    KeAcquireSpinLock(&Accepted->Client->Lock, &irql);
    Accepted->Family = Listener->Family;
    Accepted->Type = Listener->Type;
    Accepted->Protocol = Listener->Protocol;
    KeReleaseSpinLock(&Accepted->Client->Lock, irql);
}

_Use_decl_annotations_ VOID SocketSetOwnContext(SOCKET *Socket, PVOID Context) {
    KIRQL irql;
    KeAcquireSpinLock(&Socket->Client->Lock, &irql);
    Socket->Context = (ULONG64)(ULONG_PTR)Context;
    Socket->ContextIsOurs = TRUE;
    KeReleaseSpinLock(&Socket->Client->Lock, irql);
}

_Use_decl_annotations_ SOCKET *SocketByContext(CLIENT *Client, ULONG64 Context, ULONG Categories, uint32_t *Notes) {
    SOCKET *found = NULL;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    for (PLIST_ENTRY entry = Client->Sockets.Flink; entry != &Client->Sockets; entry = entry->Flink) {
        SOCKET *socket = CONTAINING_RECORD(entry, SOCKET, Link);
        if (socket->Context != Context || !(socket->Category & Categories)) {
            continue;
        }
        if (found != NULL) {
            *Notes |= WSKLAB_NOTE_AMBIGUOUS;
            break;
        }
        found = socket;
        InterlockedIncrement(&found->References);
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return found;
}

_Use_decl_annotations_ BOOLEAN SocketAskEvents(SOCKET *Socket, ULONG Mask, BOOLEAN Anyway) {
    BOOLEAN served;
    KIRQL irql;

    KeAcquireSpinLock(&Socket->Client->Lock, &irql);
    served = Anyway || (Mask & Socket->Unserved) == 0;
    if (served) {
        Socket->Asked |= Mask;
    }
    KeReleaseSpinLock(&Socket->Client->Lock, irql);
    return served;
}

_Use_decl_annotations_ const VOID *SocketInheritedDispatch(SOCKET *Accepted, SOCKET *Listener, UCHAR Dispatch, ULONG Mask) {
    CLIENT *client = Listener->Client;
    ULONG category = WSKLAB_CATEGORY_CONNECTION;
    const VOID *tables;
    ULONG lacking;
    KIRQL irql;

    KeAcquireSpinLock(&client->Lock, &irql);
    tables = CallbackTablesSet(&Accepted->Tables, client->Slot, category, Dispatch, Mask);
    lacking = CallbackCategoryEvents(category) & ~CallbackTablesEvents(&Accepted->Tables, category);
    if (lacking & (Listener->Asked | client->StaticEvents | client->StaticAsked)) {
        tables = CallbackTablesSet(&Accepted->Tables, client->Slot, category, WSKLAB_DISPATCH_FULL, 0);
    } else {
        Listener->Unserved |= lacking;
    }
    KeReleaseSpinLock(&client->Lock, irql);
    return tables;
}

_Use_decl_annotations_ VOID SocketDereference(SOCKET *Socket) {
    if (InterlockedDecrement(&Socket->References) == 0) {
        MemoryFree(Socket);
    }
}

_Use_decl_annotations_ ULONG SocketPublish(SOCKET *Socket, PWSK_SOCKET Wsk) {
    CLIENT *client = Socket->Client;
    ULONG facts = WSKLAB_RECORD_SOCKET_UNIQUE;
    KIRQL irql;

    if (((ULONG_PTR)Wsk & 7u) == 0) {
        facts |= WSKLAB_RECORD_SOCKET_ALIGNED;
    }
    if (Wsk->Dispatch != NULL) {
        facts |= WSKLAB_RECORD_SOCKET_DISPATCH;
    }
    KeAcquireSpinLock(&client->Lock, &irql);
    for (PLIST_ENTRY entry = client->Sockets.Flink; entry != &client->Sockets; entry = entry->Flink) {
        if (CONTAINING_RECORD(entry, SOCKET, Link)->Wsk == Wsk) {
            facts &= ~WSKLAB_RECORD_SOCKET_UNIQUE;
        }
    }
    Socket->Wsk = Wsk;
    Socket->Dispatch = Wsk->Dispatch;
    Socket->State = WSKLAB_SOCKET_OPEN;
    KeReleaseSpinLock(&client->Lock, irql);
    LedgerAdd(&client->Ledger, LEDGER_COUNT(sockets_opened), 1);
    return facts;
}

_Use_decl_annotations_ VOID SocketRemove(SOCKET *Socket) {
    CLIENT *client = Socket->Client;
    KIRQL irql;

    KeAcquireSpinLock(&client->Lock, &irql);
    RemoveEntryList(&Socket->Link);
    client->SocketCount--;
    KeReleaseSpinLock(&client->Lock, irql);
    if (Socket->Wsk != NULL) {
        LedgerAdd(&client->Ledger, LEDGER_COUNT(sockets_closed), 1);
    }
    SocketDereference(Socket);
}

_Use_decl_annotations_ NTSTATUS SocketEnter(CLIENT *Client, ULONG Number, SOCKET **Out) {
    NTSTATUS status = STATUS_SUCCESS;
    SOCKET *socket;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    socket = Find(Client, Number);
    if (socket == NULL) {
        status = STATUS_NOT_FOUND;
    } else if (socket->State != WSKLAB_SOCKET_OPEN) {
        status = STATUS_INVALID_DEVICE_STATE;
    } else {
        socket->Running++;
        InterlockedIncrement(&socket->References);
        *Out = socket;
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return status;
}

_Use_decl_annotations_ VOID SocketLeave(SOCKET *Socket) {
    CLIENT *client = Socket->Client;
    OPERATION *close = NULL;
    KIRQL irql;

    KeAcquireSpinLock(&client->Lock, &irql);
    if (--Socket->Running == 0) {
        close = Socket->PendingClose;
        Socket->PendingClose = NULL;
    }
    KeReleaseSpinLock(&client->Lock, irql);
    if (close != NULL) {
        OperationStartClose(close);
    }
}

_Use_decl_annotations_ NTSTATUS SocketBeginClose(CLIENT *Client, ULONG Number, OPERATION *Operation, SOCKET **Out) {
    NTSTATUS status = STATUS_SUCCESS;
    SOCKET *socket;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    socket = Find(Client, Number);
    if (socket == NULL) {
        status = STATUS_NOT_FOUND;
    } else if (socket->State != WSKLAB_SOCKET_OPEN) {
        status = STATUS_INVALID_DEVICE_STATE;
    } else if (ObjectKeptBy(Client, Number)) {
        status = STATUS_DEVICE_BUSY;
    } else {
        socket->State = WSKLAB_SOCKET_CLOSING;
        InterlockedIncrement(&socket->References);
        *Out = socket;
        if (socket->Running > 0) {
            socket->PendingClose = Operation;
            status = STATUS_PENDING;
        }
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return status;
}

_Use_decl_annotations_ VOID SocketReopen(SOCKET *Socket) {
    KIRQL irql;
    KeAcquireSpinLock(&Socket->Client->Lock, &irql);
    Socket->State = WSKLAB_SOCKET_OPEN;
    KeReleaseSpinLock(&Socket->Client->Lock, irql);
}

_Use_decl_annotations_ VOID SocketKeep(SOCKET *Socket, OPERATION *Operation) {
    KIRQL irql;
    OperationReference(Operation);
    KeAcquireSpinLock(&Socket->Client->Lock, &irql);
    Operation->NextKept = Socket->Kept;
    Socket->Kept = Operation;
    KeReleaseSpinLock(&Socket->Client->Lock, irql);
}

_Use_decl_annotations_ VOID SocketReleaseKept(SOCKET *Socket) {
    OPERATION *kept;
    KIRQL irql;

    KeAcquireSpinLock(&Socket->Client->Lock, &irql);
    kept = Socket->Kept;
    Socket->Kept = NULL;
    KeReleaseSpinLock(&Socket->Client->Lock, irql);
    while (kept != NULL) {
        OPERATION *next = kept->NextKept;
        OperationDereference(kept);
        kept = next;
    }
}

_Use_decl_annotations_ VOID SocketCountOutstanding(SOCKET *Socket, LONG Delta) {
    KIRQL irql;
    KeAcquireSpinLock(&Socket->Client->Lock, &irql);
    Socket->Outstanding += Delta;
    KeReleaseSpinLock(&Socket->Client->Lock, irql);
}

_Use_decl_annotations_ BOOLEAN SocketHasOutstanding(CLIENT *Client, ULONG Number) {
    SOCKET *socket;
    BOOLEAN has;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    socket = Find(Client, Number);
    has = socket != NULL && socket->Outstanding > 0;
    KeReleaseSpinLock(&Client->Lock, irql);
    return has;
}

_Use_decl_annotations_ ULONG SocketFirstOpen(CLIENT *Client, ULONG *Total) {
    ULONG number = 0;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    *Total = (ULONG)Client->SocketCount;
    /* Accepted sockets before their listener: closing a listener makes Wine close what it accepted last. */
    for (PLIST_ENTRY entry = Client->Sockets.Blink; entry != &Client->Sockets; entry = entry->Blink) {
        SOCKET *socket = CONTAINING_RECORD(entry, SOCKET, Link);
        if (socket->State == WSKLAB_SOCKET_OPEN) {
            number = socket->Number;
            break;
        }
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return number;
}

_Use_decl_annotations_ ULONG SocketList(CLIENT *Client, WSKLAB_SOCKET_ENTRY *Out, ULONG Room, ULONG *Total) {
    ULONG count = 0;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    *Total = (ULONG)Client->SocketCount;
    for (PLIST_ENTRY entry = Client->Sockets.Flink; entry != &Client->Sockets && count < Room; entry = entry->Flink) {
        const SOCKET *socket = CONTAINING_RECORD(entry, SOCKET, Link);
        Out[count++] = (WSKLAB_SOCKET_ENTRY){.number = socket->Number,
                                             .category = socket->Category,
                                             .state = socket->State,
                                             .protocol = socket->Protocol,
                                             .family = socket->Family,
                                             .type = socket->Type,
                                             .running = (uint32_t)socket->Running,
                                             .outstanding = (uint32_t)socket->Outstanding,
                                             .context = socket->ContextIsOurs ? 0 : socket->Context};
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return count;
}
