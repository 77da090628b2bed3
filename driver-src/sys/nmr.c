/*
 * nmr.c: attaching through the Network Module Registrar.
 */
#include "nmr.h"

#include "client.h"

#define FALLBACK_VERSION MAKE_WSK_VERSION(1, 0)

static const NPIID g_NpiId = WSKLAB_NPI_WSK_INTERFACE_ID;
/* Our own name for ourselves: any identifier that nobody else has. */
static const GUID g_ModuleGuid = {0x9C5D3B1A, 0x6F0E, 0x4E57, {0x8A, 0x64, 0x77, 0x73, 0x6B, 0x6C, 0x61, 0x62}};

/* The callbacks as events: enter and exit. They are of the client, not of a socket. */
static ULONG64 RecordEnter(CLIENT *Client, UCHAR Callback) {
    WSKLAB_EVENT event = {.sequence = PlatformNextSequence(), .kind = WSKLAB_EVENT_CALLBACK_ENTER, .callback = Callback};

    RingRecord(&Client->Ring, &event);
    LedgerAdd(&Client->Ledger, LEDGER_COUNT(callbacks), 1);
    return event.sequence;
}

static VOID RecordExit(CLIENT *Client, UCHAR Callback, ULONG64 Enter, NTSTATUS Status) {
    WSKLAB_EVENT event = {.kind = WSKLAB_EVENT_CALLBACK_EXIT, .callback = Callback, .status = Status, .value = Enter};
    RingRecord(&Client->Ring, &event);
}

/* Whether we attach at all: once, and only a client that is open. */
static BOOLEAN MayAttach(CLIENT *Client, const WSK_PROVIDER_CHARACTERISTICS *Provider) {
    BOOLEAN may;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    may = !Client->Nmr.Attached && Client->Registration.State == REGISTRATION_NMR && Client->State == CLIENT_OPEN;
    if (Provider != NULL) {
        Client->Nmr.LowestVersion = Provider->LowestVersion;
        Client->Nmr.HighestVersion = Provider->HighestVersion;
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return may;
}

static NTSTATUS Attach(CLIENT *Client, HANDLE Binding) {
    NMR *nmr = &Client->Nmr;
    WSK_PROVIDER_NPI npi = {0};
    PVOID object = NULL;
    const VOID *dispatch = NULL;
    NTSTATUS status = NmrClientAttachProvider(Binding, Client, &nmr->Dispatch[0], &object, &dispatch);
    KIRQL irql;

    if (status == STATUS_NOINTERFACE && nmr->Retry) {
        status = NmrClientAttachProvider(Binding, Client, &nmr->Dispatch[1], &object, &dispatch);
    }
    if (!NT_SUCCESS(status)) {
        return status;
    }
    npi.Client = object;
    npi.Dispatch = dispatch;
    KeAcquireSpinLock(&Client->Lock, &irql);
    nmr->Binding = Binding;
    nmr->Attached = TRUE;
    Client->Registration.Npi = npi;
    Client->Registration.Captures = 1;
    KeReleaseSpinLock(&Client->Lock, irql);
    LedgerAdd(&Client->Ledger, LEDGER_COUNT(captures), 1);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI OnAttach(HANDLE Binding, PVOID Context, PNPI_REGISTRATION_INSTANCE Provider) {
    CLIENT *client = Context; /* referenced for as long as it is registered */
    ULONG64 enter = RecordEnter(client, WSKLAB_CALLBACK_NMR_ATTACH);
    NTSTATUS status = MayAttach(client, Provider->NpiSpecificCharacteristics) ? Attach(client, Binding) : STATUS_NOINTERFACE;

    RecordExit(client, WSKLAB_CALLBACK_NMR_ATTACH, enter, status);
    return status;
}

/* What only the provider dispatch can give back, in whatever state. */
_Requires_lock_held_(Client->Lock) static BOOLEAN OwesObjects(const CLIENT *Client) {
    return ObjectExists(Client, WSKLAB_OBJECT_DESCRIPTOR) || ObjectExists(Client, WSKLAB_OBJECT_ADDRESS_LIST);
}

/* Nobody goes through the dispatch from now on. FALSE: there is still something to do for the client. */
_Requires_lock_held_(Client->Lock) static BOOLEAN LetGo(CLIENT *Client) {
    if (Client->Registration.Users != 0 || OwesObjects(Client)) {
        return FALSE;
    }
    Client->Registration.Captures = 0;
    RtlZeroMemory(&Client->Registration.Npi, sizeof(Client->Registration.Npi));
    return TRUE;
}

static NTSTATUS NTAPI OnDetach(PVOID Context) {
    CLIENT *client = Context;
    REGISTRATION *registration = &client->Registration;
    ULONG64 enter = RecordEnter(client, WSKLAB_CALLBACK_NMR_DETACH);
    BOOLEAN ours;
    NTSTATUS status;
    KIRQL irql;

    KeAcquireSpinLock(&client->Lock, &irql);
    client->Nmr.DetachPending = !LetGo(client);
    status = client->Nmr.DetachPending ? STATUS_PENDING : STATUS_SUCCESS;
    ours = registration->State == REGISTRATION_NMR_LEAVING;
    KeReleaseSpinLock(&client->Lock, irql);
    LedgerAdd(&client->Ledger, LEDGER_COUNT(releases), 1);
    if (!ours) {
        ClientBeginClose(client); /* WSK goes, and waits for our sockets */
    }
    RecordExit(client, WSKLAB_CALLBACK_NMR_DETACH, enter, status);
    return status;
}

static VOID NTAPI OnCleanup(PVOID Context) {
    CLIENT *client = Context;
    ULONG64 enter = RecordEnter(client, WSKLAB_CALLBACK_NMR_CLEANUP);
    KIRQL irql;

    KeAcquireSpinLock(&client->Lock, &irql);
    client->Nmr.Attached = FALSE;
    client->Nmr.Binding = NULL;
    KeReleaseSpinLock(&client->Lock, irql);
    RecordExit(client, WSKLAB_CALLBACK_NMR_CLEANUP, enter, STATUS_SUCCESS);
}

_Use_decl_annotations_ BOOLEAN NmrMayCall(const CLIENT *Client) {
    return !Client->Nmr.DetachPending || OwesObjects(Client);
}

_Use_decl_annotations_ VOID NmrMayHaveEnded(CLIENT *Client) {
    HANDLE binding = NULL;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    if (Client->Nmr.DetachPending && LetGo(Client)) {
        Client->Nmr.DetachPending = FALSE;
        binding = Client->Nmr.Binding;
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    if (binding != NULL) {
        NmrClientDetachProviderComplete(binding);
    }
}

static VOID Describe(CLIENT *Client, USHORT Version, BOOLEAN Retry, PFN_WSK_CLIENT_EVENT ClientEvent) {
    NMR *nmr = &Client->Nmr;

    RtlZeroMemory(nmr, sizeof(*nmr));
    nmr->Retry = Retry;
    nmr->Module = (NPI_MODULEID){.Length = sizeof(NPI_MODULEID), .Type = MIT_GUID, .Guid = g_ModuleGuid};
    nmr->Dispatch[0] = (WSK_CLIENT_DISPATCH){.Version = Version, .WskClientEvent = ClientEvent};
    nmr->Dispatch[1] = (WSK_CLIENT_DISPATCH){.Version = FALLBACK_VERSION, .WskClientEvent = ClientEvent};
    nmr->Characteristics = (NPI_CLIENT_CHARACTERISTICS){.Length = sizeof(NPI_CLIENT_CHARACTERISTICS),
                                                        .ClientAttachProvider = OnAttach,
                                                        .ClientDetachProvider = OnDetach,
                                                        .ClientCleanupBindingContext = OnCleanup};
    nmr->Characteristics.ClientRegistrationInstance =
        (NPI_REGISTRATION_INSTANCE){.Size = sizeof(NPI_REGISTRATION_INSTANCE), .NpiId = &g_NpiId, .ModuleId = &nmr->Module};
}

_Use_decl_annotations_ NTSTATUS NmrBeginRegister(CLIENT *Client, USHORT Version, BOOLEAN Retry, PFN_WSK_CLIENT_EVENT ClientEvent) {
    NTSTATUS status = STATUS_INVALID_DEVICE_STATE;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    if (RegistrationTake(Client, REGISTRATION_NMR)) {
        Describe(Client, Version, Retry, ClientEvent);
        status = STATUS_SUCCESS;
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return status;
}

_Use_decl_annotations_ NTSTATUS NmrRegister(CLIENT *Client) {
    NTSTATUS status;
    KIRQL irql;

    ClientReference(Client); /* the registrar's: it is our context in every callback */
    status = NmrRegisterClient(&Client->Nmr.Characteristics, Client, &Client->Nmr.Handle);
    if (NT_SUCCESS(status)) {
        KeAcquireSpinLock(&Client->Lock, &irql);
        Client->Nmr.Registered = TRUE;
        KeReleaseSpinLock(&Client->Lock, irql);
    } else {
        RegistrationSetState(Client, REGISTRATION_NONE);
        ClientDereference(Client);
    }
    return status;
}

_Use_decl_annotations_ NTSTATUS NmrBeginDeregister(CLIENT *Client) {
    NTSTATUS status = STATUS_INVALID_DEVICE_STATE;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    if (Client->Registration.State == REGISTRATION_NMR && Client->Nmr.Registered) {
        /* Both go back through what the registrar takes away. */
        status = ObjectHolds(Client, WSKLAB_OBJECT_ADDRESS_LIST) || ObjectHolds(Client, WSKLAB_OBJECT_DESCRIPTOR) ? STATUS_DEVICE_BUSY
                                                                                                               : STATUS_SUCCESS;
    }
    if (NT_SUCCESS(status)) {
        Client->Registration.State = REGISTRATION_NMR_LEAVING;
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return status;
}

_Use_decl_annotations_ NTSTATUS NmrDeregister(CLIENT *Client) {
    HANDLE handle = Client->Nmr.Handle;
    NTSTATUS status = NmrDeregisterClient(handle);

    /* The page knows STATUS_PENDING only; whatever it says, the driver may not go before the wait has ended. */
    if (NT_SUCCESS(status)) {
        status = NmrWaitForClientDeregisterComplete(handle);
    }
    if (!NT_SUCCESS(status)) {
        LogLine("client %u could not be taken from the module registrar: %08x\n", Client->Id, (unsigned)status);
        NmrUndoDeregister(Client);
        return status;
    }
    RegistrationSetState(Client, REGISTRATION_GONE);
    ClientDereference(Client);
    return status;
}

_Use_decl_annotations_ VOID NmrUndoDeregister(CLIENT *Client) {
    RegistrationSetState(Client, REGISTRATION_NMR);
}
