/*
 * client.c: one open handle.
 */
#include "client.h"

#include "keeper.h"
#include "operation.h"
#include "script.h"
#include "wait.h"

static KSPIN_LOCK g_Lock; /* guards the list, and FsContext of our file objects */
static LIST_ENTRY g_Clients;
static ULONG g_Count;
static CLIENT *g_Slots[WSKLAB_MAX_CLIENTS];
static ULONG g_LastId;
static BOOLEAN g_Refuse;

VOID ClientsInitialize(VOID) {
    KeInitializeSpinLock(&g_Lock);
    InitializeListHead(&g_Clients);
    g_Count = 0;
    RtlZeroMemory(g_Slots, sizeof(g_Slots));
    g_Refuse = FALSE;
}

VOID ClientsRefuse(VOID) {
    KIRQL irql;
    KeAcquireSpinLock(&g_Lock, &irql);
    g_Refuse = TRUE;
    KeReleaseSpinLock(&g_Lock, irql);
}

static VOID ClientFree(CLIENT *Client) {
    ScriptsFree(Client);
    RingUninitialize(&Client->Ring);
    MemoryFree(Client);
}

_Use_decl_annotations_ NTSTATUS ClientCreate(PFILE_OBJECT File) {
    CLIENT *client = MemoryAllocate(NULL, sizeof(CLIENT));
    NTSTATUS status = STATUS_SUCCESS;
    KIRQL irql;

    if (client == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    client->References = 2; /* the list and the file object */
    client->File = File;
    client->HandleOpen = TRUE;
    client->ProcessId = (ULONG64)(ULONG_PTR)PsGetCurrentProcessId();
    KeInitializeSpinLock(&client->Lock);
    for (ULONG i = 0; i < OPERATION_BUCKETS; i++) {
        InitializeListHead(&client->Operations[i]);
    }
    InitializeListHead(&client->Watched);
    InitializeListHead(&client->Sockets);
    InitializeListHead(&client->Waits);
    InitializeListHead(&client->Scripts);
    status = RingInitialize(&client->Ring, &client->Ledger);
    if (!NT_SUCCESS(status)) {
        ClientFree(client);
        return status;
    }
    KeAcquireSpinLock(&g_Lock, &irql);
    if (g_Refuse) {
        status = STATUS_DELETE_PENDING;
    } else if (g_Count >= WSKLAB_MAX_CLIENTS) {
        status = STATUS_TOO_MANY_OPENED_FILES;
    } else {
        while (g_Slots[client->Slot] != NULL) {
            client->Slot++;
        }
        g_Slots[client->Slot] = client;
        client->Id = ++g_LastId;
        g_Count++;
        InsertTailList(&g_Clients, &client->Link);
        client->Attached = TRUE;
        File->FsContext = client;
    }
    KeReleaseSpinLock(&g_Lock, irql);
    if (!NT_SUCCESS(status)) {
        ClientFree(client);
    }
    return status;
}

_Use_decl_annotations_ CLIENT *ClientFromFile(PFILE_OBJECT File) {
    CLIENT *client = NULL;
    KIRQL irql;

    if (File == NULL) {
        return NULL;
    }
    KeAcquireSpinLock(&g_Lock, &irql);
    client = File->FsContext;
    if (client != NULL) {
        ClientReference(client);
    }
    KeReleaseSpinLock(&g_Lock, irql);
    return client;
}

_Use_decl_annotations_ CLIENT *ClientBySlot(ULONG Slot) {
    CLIENT *client;
    KIRQL irql;

    KeAcquireSpinLock(&g_Lock, &irql);
    client = g_Slots[Slot];
    if (client != NULL) {
        ClientReference(client);
    }
    KeReleaseSpinLock(&g_Lock, irql);
    return client;
}

_Use_decl_annotations_ CLIENT *ClientByAddress(PVOID Address) {
    CLIENT *found = NULL;
    KIRQL irql;

    KeAcquireSpinLock(&g_Lock, &irql);
    for (ULONG i = 0; i < WSKLAB_MAX_CLIENTS && found == NULL; i++) {
        if (g_Slots[i] != NULL && g_Slots[i] == Address) {
            found = g_Slots[i];
            ClientReference(found);
        }
    }
    KeReleaseSpinLock(&g_Lock, irql);
    return found;
}

_Use_decl_annotations_ CLIENT *ClientNext(ULONG AfterId) {
    CLIENT *found = NULL;
    KIRQL irql;

    KeAcquireSpinLock(&g_Lock, &irql);
    /* Numbers grow, and clients are appended: the list is in order. */
    for (PLIST_ENTRY entry = g_Clients.Flink; entry != &g_Clients; entry = entry->Flink) {
        CLIENT *client = CONTAINING_RECORD(entry, CLIENT, Link);
        if (client->Id > AfterId) {
            found = client;
            ClientReference(found);
            break;
        }
    }
    KeReleaseSpinLock(&g_Lock, irql);
    return found;
}

_Use_decl_annotations_ VOID ClientReference(CLIENT *Client) {
    InterlockedIncrement(&Client->References);
}

_Use_decl_annotations_ VOID ClientDereference(CLIENT *Client) {
    if (InterlockedDecrement(&Client->References) == 0) {
        ClientFree(Client);
    }
}

_Use_decl_annotations_ ULONG ClientCount(VOID) {
    ULONG count;
    KIRQL irql;
    KeAcquireSpinLock(&g_Lock, &irql);
    count = g_Count;
    KeReleaseSpinLock(&g_Lock, irql);
    return count;
}

_Use_decl_annotations_ VOID ClientBeginClose(CLIENT *Client) {
    BOOLEAN first = FALSE;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    if (Client->State == CLIENT_OPEN) {
        Client->State = CLIENT_CLOSING;
        first = TRUE;
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    if (first) {
        WSKLAB_EVENT event = {.kind = WSKLAB_EVENT_CLIENT_CLOSING};
        RingRecord(&Client->Ring, &event);
    }
    KeeperWake();
}

_Use_decl_annotations_ VOID ClientHandleClosed(CLIENT *Client) {
    KIRQL irql;
    KeAcquireSpinLock(&Client->Lock, &irql);
    Client->HandleOpen = FALSE;
    KeReleaseSpinLock(&Client->Lock, irql);
    FaultsEnd(&Client->Ledger.Faults);
    WaitsCancelAll(Client);
    ClientBeginClose(Client);
}

_Use_decl_annotations_ VOID ClientDetachFile(PFILE_OBJECT File) {
    CLIENT *client;
    KIRQL irql;

    KeAcquireSpinLock(&g_Lock, &irql);
    client = File->FsContext;
    File->FsContext = NULL;
    if (client != NULL) {
        client->Attached = FALSE;
    }
    KeReleaseSpinLock(&g_Lock, irql);
    if (client != NULL) {
        ClientHandleClosed(client);
        ClientDereference(client);
    }
}

_Use_decl_annotations_ VOID ClientsDetachAll(VOID) {
    ULONG id = 0;
    CLIENT *client;

    while ((client = ClientNext(id)) != NULL) {
        BOOLEAN attached;
        KIRQL irql;

        id = client->Id;
        KeAcquireSpinLock(&g_Lock, &irql);
        attached = client->Attached;
        if (attached) {
            client->Attached = FALSE;
            client->File->FsContext = NULL;
        }
        KeReleaseSpinLock(&g_Lock, irql);
        if (attached) {
            LogLine("unloading with client %u (process %llu) still open\n", client->Id, client->ProcessId);
            ClientHandleClosed(client);
            ClientDereference(client);
        }
        ClientDereference(client);
    }
}

_Use_decl_annotations_ VOID ClientForget(CLIENT *Client) {
    KIRQL irql;
    KeAcquireSpinLock(&g_Lock, &irql);
    RemoveEntryList(&Client->Link);
    g_Slots[Client->Slot] = NULL;
    g_Count--;
    KeReleaseSpinLock(&g_Lock, irql);
    ClientDereference(Client);
}

_Use_decl_annotations_ NTSTATUS ClientBeginOperation(CLIENT *Client, BOOLEAN Internal) {
    if (!Internal && (Client->State != CLIENT_OPEN || !Client->HandleOpen)) {
        return STATUS_FILE_CLOSED;
    }
    Client->Active++;
    if (!Internal) {
        ObReferenceObject(Client->File);
    }
    return STATUS_SUCCESS;
}

_Use_decl_annotations_ VOID ClientEndOperation(CLIENT *Client, BOOLEAN Internal) {
    BOOLEAN idle;
    BOOLEAN closing;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    if (!Internal) {
        /* Before the count: with nothing active the keeper may look at the client for the last time. */
        InterlockedIncrement(&Client->FileReferencesToDrop);
    }
    idle = --Client->Active == 0;
    closing = Client->State != CLIENT_OPEN;
    KeReleaseSpinLock(&Client->Lock, irql);
    if (idle) {
        WaitsDrained(Client);
    }
    /* The file references wait for the keeper's next round: waking it for each operation doubled the operation's time. */
    if (closing) {
        KeeperWake();
    }
}
