/*
 * client.c: one attachment of a client to WSK.
 */
#include "client.h"

#include "descriptor.h"
#include "dispatch.h"
#include "name.h"
#include "request.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(memory, size) ((void)(memory), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(memory, size) ((void)(memory), (void)(size))
#endif

LIST_ENTRY g_WskpClients = {&g_WskpClients, &g_WskpClients};

static void Free(WSKP_OBJECT *object) {
    WSKP_CLIENT *client = CONTAINING_RECORD(object, WSKP_CLIENT, Object);
    ASAN_UNPOISON_MEMORY_REGION(client->Dispatch, sizeof(*client->Dispatch));
    ShimFree(client->Dispatch);
    ShimFree(client);
}

/* What is left of an NPI that is not captured: nobody may read it, and where memory cannot be guarded, nobody may call it. */
static void DispatchHide(WSKP_CLIENT *client) {
    WskpDispatchProviderReleased(client->Dispatch);
    ASAN_POISON_MEMORY_REGION(client->Dispatch, sizeof(*client->Dispatch));
}

static void DispatchShow(WSKP_CLIENT *client) {
    ASAN_UNPOISON_MEMORY_REGION(client->Dispatch, sizeof(*client->Dispatch));
    WskpDispatchProvider(client->Dispatch);
}

void WskpClientChanged(WSKP_CLIENT *client) {
    for (PLIST_ENTRY entry = client->Waiters.Flink; entry != &client->Waiters; entry = entry->Flink) {
        KeSetEvent(&CONTAINING_RECORD(entry, WSKP_WAITER, Link)->Event, IO_NO_INCREMENT, FALSE);
    }
}

void WskpWaiterBegin(WSKP_CLIENT *client, WSKP_WAITER *waiter) {
    KeInitializeEvent(&waiter->Event, SynchronizationEvent, FALSE);
    InsertTailList(&client->Waiters, &waiter->Link);
}

void WskpWaiterEnd(WSKP_WAITER *waiter) {
    RemoveEntryList(&waiter->Link);
}

KIRQL WskpWaiterWait(WSKP_WAITER *waiter, PLARGE_INTEGER timeout, KIRQL irql) {
    WskpUnlock(irql);
    KeWaitForSingleObject(&waiter->Event, Executive, KernelMode, FALSE, timeout);
    return WskpLock();
}

WSKP_CLIENT *WskpClientCreate(const WSK_CLIENT_DISPATCH *dispatch, PVOID context) {
    WSKP_CLIENT *client = ShimAllocate("client", sizeof(*client));
    KIRQL irql;

    if (client == NULL) {
        return NULL;
    }
    client->Dispatch = ShimAllocate("provider dispatch", sizeof(*client->Dispatch));
    if (client->Dispatch == NULL) {
        ShimFree(client);
        return NULL;
    }
    WskpObjectInitialize(&client->Object, Free);
    WskpLaneInitialize(&client->Lane, &client->Object);
    client->ClientDispatch = dispatch;
    client->ClientContext = context;
    InitializeListHead(&client->Waiters);
    InitializeListHead(&client->TransportChanges);
    InitializeListHead(&client->Descriptors);
    InitializeListHead(&client->AddressLists);
    DispatchHide(client);
    irql = WskpLock();
    InsertTailList(&g_WskpClients, &client->Link);
    WskpUnlock(irql);
    return client;
}

BOOLEAN WskpClientVersionSupported(const WSKP_CLIENT *client) {
    USHORT version = client->ClientDispatch->Version;
    return (version >= WSKP_LOWEST_VERSION && version <= WSKP_HIGHEST_VERSION) || MutantIs("WSK-REG-007/any-version");
}

void WskpClientCapture(WSKP_CLIENT *client, WSK_PROVIDER_NPI *npi) {
    if (client->Captures++ == 0) {
        DispatchShow(client);
    }
    npi->Client = client;
    npi->Dispatch = client->Dispatch;
}

void WskpClientRelease(WSKP_CLIENT *client) {
    if (client->Captures == 0) {
        WskpClientError("WSK-REG-011", "WskReleaseProviderNPI without a capture that it would give back");
    }
    client->Captures = MutantIs("WSK-REG-011/not-counted") ? 0 : client->Captures - 1;
    if (client->Captures == 0) {
        if (client->Callers > 0) {
            WskpClientError("WSK-DET-007", "the last capture is released while a function of the provider dispatch runs");
        }
        DispatchHide(client);
    }
    WskpClientChanged(client);
}

static BOOLEAN IsKnown(const WSKP_CLIENT *client) {
    for (PLIST_ENTRY entry = g_WskpClients.Flink; entry != &g_WskpClients; entry = entry->Flink) {
        if (CONTAINING_RECORD(entry, WSKP_CLIENT, Link) == client) {
            return TRUE;
        }
    }
    return FALSE;
}

WSKP_CLIENT *WskpClientEnter(const char *function, PWSK_CLIENT pointer, KIRQL maximum) {
    WSKP_CLIENT *client = pointer;
    KIRQL irql;

    ShimEnterApi(function, maximum);
    if (client == NULL) {
        return NULL;
    }
    irql = WskpLock();
    if (!IsKnown(client)) {
        WskpClientError("WSK-DET-006", "%s: no client of WSK (any more): %p", function, pointer);
    }
    if (client->Captures == 0) {
        WskpClientError("WSK-DET-007", "%s: the provider NPI has been released", function);
    }
    client->Callers++;
    WskpReference(&client->Object);
    WskpUnlock(irql);
    return client;
}

void WskpClientLeave(WSKP_CLIENT *client) {
    KIRQL irql = WskpLock();
    client->Callers--;
    WskpClientChanged(client);
    WskpDereference(&client->Object);
    WskpUnlock(irql);
}

void WskpClientRequestBegan(WSKP_CLIENT *client) {
    client->Requests++;
}

void WskpClientRequestEnded(WSKP_CLIENT *client) {
    client->Requests--;
    WskpClientChanged(client);
}

void WskpClientSocketOpened(WSKP_CLIENT *client) {
    client->Sockets++;
    client->HadSocket = TRUE;
    WskpReference(&client->Object);
}

void WskpClientSocketClosed(WSKP_CLIENT *client) {
    client->Sockets--;
    WskpClientChanged(client);
    WskpDereference(&client->Object);
}

WSKP_LANE *WskpClientLane(WSKP_CLIENT *client) {
    return &client->Lane;
}

void WskpClientsProviderReady(void) {
    KIRQL irql = WskpLock();
    for (PLIST_ENTRY entry = g_WskpClients.Flink; entry != &g_WskpClients; entry = entry->Flink) {
        WskpClientChanged(CONTAINING_RECORD(entry, WSKP_CLIENT, Link));
    }
    WskpUnlock(irql);
}

/* With the lock. The waiter of WskDeregister is one of those who wait; the others are in WskCaptureProviderNPI. */
static BOOLEAN NothingLeft(const WSKP_CLIENT *client, const WSKP_WAITER *own) {
    if (client->Waiters.Flink != &own->Link || client->Waiters.Blink != &own->Link) {
        return FALSE;
    }
    return (client->Captures == 0 || MutantIs("WSK-DET-002/captures-ignored")) &&
           (client->Sockets == 0 || MutantIs("WSK-DET-003/sockets-ignored")) &&
           ((client->Callers == 0 && client->Requests == 0) || MutantIs("WSK-DET-004/requests-ignored"));
}

void WskpClientDestroy(WSKP_CLIENT *client, PWSK_REGISTRATION block) {
    WSKP_WAITER waiter;
    KIRQL irql = WskpLock();

    if (client->Deregistering) {
        WskpClientError("WSK-DET-001", "WskDeregister is running already for this block");
    }
    client->Deregistering = TRUE;
    if (!MutantIs("WSK-DET-005/change-not-cancelled")) {
        WskpRequestsEnd(&client->TransportChanges, STATUS_CANCELLED);
    }
    WskpClientChanged(client);
    WskpWaiterBegin(client, &waiter);
    while (!NothingLeft(client, &waiter)) {
        irql = WskpWaiterWait(&waiter, NULL, irql);
    }
    WskpWaiterEnd(&waiter);
    WskpDescriptorsRequireNone(client);
    WskpAddressListsRequireNone(client);
    RemoveEntryList(&client->Link);
    WskpDereference(&client->Object);
    if (block != NULL) {
        block->ReservedRegistrationContext = NULL;
        block->ReservedRegistrationState = WSKP_BLOCK_DEREGISTERED;
    }
    WskpUnlock(irql);
}

void WskpClientsRequireNone(void) {
    KIRQL irql = WskpLock();
    if (!IsListEmpty(&g_WskpClients)) {
        WSKP_CLIENT *client = CONTAINING_RECORD(g_WskpClients.Flink, WSKP_CLIENT, Link);
        WskpClientError("WSK-DET-001", "a client is still registered: %d captures, %d sockets, %d requests", client->Captures,
                        client->Sockets, client->Requests);
    }
    WskpUnlock(irql);
}
