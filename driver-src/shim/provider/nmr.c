/*
 * nmr.c: the Network Module Registrar, as far as clients of the WSK NPI need it (REG-012).
 *
 * Attaching happens in NmrRegisterClient, for the provider is there. Deregistering begins the detaching: the client's
 * detach callback says at once or later (NmrClientDetachProviderComplete) that it is done; then the binding waits, as
 * WskDeregister does, until nothing of the client is left; then the client may free its binding context, and the wait ends.
 * WSK may also go by itself (WskpNmrLeave): then the same happens without anybody who waits, and deregistering finds it done.
 */
#include "nmr.h"

#include "client.h"
#include "event.h"
#include "lane.h"

#include "wsklab_nmr.h"

typedef struct REGISTRATION {
    LIST_ENTRY Link;
    const NPI_CLIENT_CHARACTERISTICS *Characteristics;
    PVOID ClientContext;
    /* The one binding that there can be. */
    BOOLEAN Attaching;
    WSKP_CLIENT *Client; /* NULL: not attached */
    PVOID BindingContext;
    BOOLEAN Deregistering;
    BOOLEAN Leaving; /* the provider goes; the detach began without a deregistering */
    BOOLEAN DetachPending;
    BOOLEAN DetachCompleted; /* ... before the callback returned STATUS_PENDING */
    BOOLEAN WaitedFor;
    KEVENT Begun;    /* Thread is known */
    KEVENT Detached; /* the client has said that it is done */
    KEVENT Complete; /* nothing is left */
    SHIM_THREAD *Thread;
} REGISTRATION;

static LIST_ENTRY Registrations = {&Registrations, &Registrations};

static const NPI_MODULEID ProviderModule = {.Length = sizeof(NPI_MODULEID), .Type = MIT_GUID, .Guid = {0x2227E804, 0x8D8B, 0x11D4,
                                            {0xAB, 0xAD, 0x00, 0x90, 0x27, 0x71, 0x9E, 0x09}}};
static const WSK_PROVIDER_CHARACTERISTICS ProviderCharacteristics = {WSKP_HIGHEST_VERSION, WSKP_LOWEST_VERSION};

static REGISTRATION *Find(const char *function, HANDLE handle) {
    for (PLIST_ENTRY entry = Registrations.Flink; entry != &Registrations; entry = entry->Flink) {
        if (CONTAINING_RECORD(entry, REGISTRATION, Link) == handle) {
            return handle;
        }
    }
    WskpClientError("WSK-REG-012", "%s: %p is no handle of the registrar", function, handle);
}

static REGISTRATION *FindLocked(const char *function, HANDLE handle) {
    KIRQL irql = WskpLock();
    REGISTRATION *registration = Find(function, handle);
    WskpUnlock(irql);
    return registration;
}

NTSTATUS NTAPI NmrRegisterClient(const NPI_CLIENT_CHARACTERISTICS *ClientCharacteristics, PVOID ClientContext, PHANDLE NmrClientHandle) {
    static const NPIID *const npi = &g_WskpInterfaceId;
    NPI_REGISTRATION_INSTANCE instance = {.Size = sizeof(instance), .NpiId = npi, .ModuleId = &ProviderModule,
                                          .NpiSpecificCharacteristics = &ProviderCharacteristics};
    REGISTRATION *registration;
    SHIM_CALLOUT callout;
    NTSTATUS status;
    KIRQL irql;

    ShimEnterApi("NmrRegisterClient", PASSIVE_LEVEL);
    ShimRequireNonPaged("NPI_CLIENT_CHARACTERISTICS", ClientCharacteristics, sizeof(*ClientCharacteristics));
    registration = ShimAllocate("NMR client", sizeof(*registration));
    if (registration == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    registration->Characteristics = ClientCharacteristics;
    registration->ClientContext = ClientContext;
    KeInitializeEvent(&registration->Begun, NotificationEvent, FALSE);
    KeInitializeEvent(&registration->Detached, NotificationEvent, FALSE);
    KeInitializeEvent(&registration->Complete, NotificationEvent, FALSE);
    irql = WskpLock();
    InsertTailList(&Registrations, &registration->Link);
    WskpUnlock(irql);
    *NmrClientHandle = registration;
    if (!WskpIsWskNpi(ClientCharacteristics->ClientRegistrationInstance.NpiId) || MutantIs("WSK-REG-012/no-attach")) {
        return STATUS_SUCCESS; /* nobody provides that interface */
    }
    registration->Attaching = TRUE;
    ShimCalloutBegin(&callout, "ClientAttachProvider", PASSIVE_LEVEL, TRUE);
    status = ClientCharacteristics->ClientAttachProvider(registration, ClientContext, &instance);
    ShimCalloutEnd(&callout);
    registration->Attaching = FALSE;
    if (NT_SUCCESS(status) != (registration->Client != NULL)) {
        WskpClientError("WSK-REG-012", "ClientAttachProvider returned %#x; the attachment %s", (unsigned)status,
                        registration->Client != NULL ? "was made" : "was not made");
    }
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI NmrClientAttachProvider(HANDLE NmrBindingHandle, PVOID ClientBindingContext, const VOID *ClientDispatch,
                                       PVOID *ProviderBindingContext, const VOID **ProviderDispatch) {
    REGISTRATION *registration;
    WSK_PROVIDER_NPI npi;
    WSKP_CLIENT *client;
    KIRQL irql;

    ShimEnterApi("NmrClientAttachProvider", PASSIVE_LEVEL);
    registration = FindLocked("NmrClientAttachProvider", NmrBindingHandle);
    if (!registration->Attaching || registration->Client != NULL) {
        WskpClientError("WSK-REG-012", "NmrClientAttachProvider outside of ClientAttachProvider, or twice");
    }
    ShimRequireNonPaged("WSK_CLIENT_DISPATCH", ClientDispatch, sizeof(WSK_CLIENT_DISPATCH));
    client = WskpClientCreate(ClientDispatch, ClientBindingContext);
    if (client == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    if (!WskpClientVersionSupported(client)) {
        WskpClientDestroy(client, NULL);
        return STATUS_NOINTERFACE; /* and the client may try another version */
    }
    irql = WskpLock();
    WskpClientCapture(client, &npi); /* one capture, as long as it is attached */
    registration->Client = client;
    registration->BindingContext = ClientBindingContext;
    WskpUnlock(irql);
    *ProviderBindingContext = npi.Client;
    *ProviderDispatch = npi.Dispatch;
    return STATUS_SUCCESS;
}

/* Waits for everything, then lets the client clean up. In a thread of the system, for deregistering does not wait. */
static void Detach(void *context) {
    REGISTRATION *registration = context;
    SHIM_CALLOUT callout;
    KIRQL irql;

    KeWaitForSingleObject(&registration->Detached, Executive, KernelMode, FALSE, NULL);
    if (registration->Client != NULL) {
        irql = WskpLock();
        WskpClientRelease(registration->Client);
        WskpUnlock(irql);
        WskpClientDestroy(registration->Client, NULL);
        registration->Client = NULL;
        ShimCalloutBegin(&callout, "ClientCleanupBindingContext", PASSIVE_LEVEL, TRUE);
        registration->Characteristics->ClientCleanupBindingContext(registration->BindingContext);
        ShimCalloutEnd(&callout);
    }
    KeSetEvent(&registration->Complete, IO_NO_INCREMENT, FALSE);
}

/* Asks the client to let go. */
static void AskToDetach(REGISTRATION *registration) {
    SHIM_CALLOUT callout;
    NTSTATUS status = STATUS_SUCCESS;
    BOOLEAN done;
    KIRQL irql;

    if (registration->Client != NULL) {
        ShimCalloutBegin(&callout, "ClientDetachProvider", PASSIVE_LEVEL, TRUE);
        status = registration->Characteristics->ClientDetachProvider(registration->BindingContext);
        ShimCalloutEnd(&callout);
    }
    if (status != STATUS_SUCCESS && status != STATUS_PENDING) {
        WskpClientError("WSK-REG-012", "ClientDetachProvider returned %#x", (unsigned)status);
    }
    irql = WskpLock();
    registration->DetachPending = status == STATUS_PENDING;
    done = !registration->DetachPending || registration->DetachCompleted;
    WskpUnlock(irql);
    if (done) {
        KeSetEvent(&registration->Detached, IO_NO_INCREMENT, FALSE);
    }
}

static void Leave(void *context) {
    REGISTRATION *registration = context;

    KeWaitForSingleObject(&registration->Begun, Executive, KernelMode, FALSE, NULL);
    AskToDetach(registration);
    Detach(registration);
}

static void StartThread(REGISTRATION *registration, const char *name, SHIM_THREAD_ROUTINE routine) {
    registration->Thread = ShimThreadStart(name, routine, registration);
    WskpAssert(registration->Thread != NULL);
}

BOOLEAN WskpNmrLeave(void) {
    REGISTRATION *found = NULL;
    KIRQL irql = WskpLock();

    for (PLIST_ENTRY entry = Registrations.Flink; entry != &Registrations && found == NULL; entry = entry->Flink) {
        REGISTRATION *registration = CONTAINING_RECORD(entry, REGISTRATION, Link);
        if (registration->Client != NULL && !registration->Deregistering && !registration->Leaving) {
            found = registration;
            found->Leaving = TRUE;
        }
    }
    WskpUnlock(irql);
    if (found == NULL) {
        return FALSE;
    }
    StartThread(found, "nmr-leave", Leave);
    KeSetEvent(&found->Begun, IO_NO_INCREMENT, FALSE);
    return TRUE;
}

NTSTATUS NTAPI NmrDeregisterClient(HANDLE NmrClientHandle) {
    REGISTRATION *registration;
    BOOLEAN leaving;
    KIRQL irql;

    ShimEnterApi("NmrDeregisterClient", PASSIVE_LEVEL);
    irql = WskpLock();
    registration = Find("NmrDeregisterClient", NmrClientHandle);
    if (registration->Deregistering) {
        WskpClientError("WSK-REG-012", "NmrDeregisterClient was called twice");
    }
    registration->Deregistering = TRUE;
    leaving = registration->Leaving;
    WskpUnlock(irql);
    if (!leaving) {
        AskToDetach(registration);
        StartThread(registration, "nmr-detach", Detach);
    }
    return STATUS_PENDING;
}

VOID NTAPI NmrClientDetachProviderComplete(HANDLE NmrBindingHandle) {
    REGISTRATION *registration;
    BOOLEAN pending;
    KIRQL irql;

    ShimEnterApi("NmrClientDetachProviderComplete", DISPATCH_LEVEL);
    irql = WskpLock();
    registration = Find("NmrClientDetachProviderComplete", NmrBindingHandle);
    if ((!registration->Deregistering && !registration->Leaving) || registration->DetachCompleted) {
        WskpClientError("WSK-REG-012", "NmrClientDetachProviderComplete without a detach that is pending");
    }
    registration->DetachCompleted = TRUE;
    pending = registration->DetachPending;
    WskpUnlock(irql);
    if (pending) {
        KeSetEvent(&registration->Detached, IO_NO_INCREMENT, FALSE);
    }
}

NTSTATUS NTAPI NmrWaitForClientDeregisterComplete(HANDLE NmrClientHandle) {
    REGISTRATION *registration;
    KIRQL irql;

    ShimEnterApi("NmrWaitForClientDeregisterComplete", PASSIVE_LEVEL);
    irql = WskpLock();
    registration = Find("NmrWaitForClientDeregisterComplete", NmrClientHandle);
    if (!registration->Deregistering || registration->WaitedFor) {
        WskpClientError("WSK-REG-012", "NmrWaitForClientDeregisterComplete without NmrDeregisterClient, or twice");
    }
    registration->WaitedFor = TRUE;
    WskpUnlock(irql);
    KeWaitForSingleObject(&registration->Complete, Executive, KernelMode, FALSE, NULL);
    ShimThreadJoin(registration->Thread);
    irql = WskpLock();
    RemoveEntryList(&registration->Link);
    WskpUnlock(irql);
    ShimFree(registration);
    return STATUS_SUCCESS;
}

void WskpNmrRequireNone(void) {
    KIRQL irql = WskpLock();
    if (!IsListEmpty(&Registrations)) {
        WskpClientError("WSK-REG-012", "a client is still registered with the module registrar");
    }
    WskpUnlock(irql);
}
