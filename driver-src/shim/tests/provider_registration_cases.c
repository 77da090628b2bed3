/*
 * provider_registration_cases.c: registering, capturing, deregistering (rules REG, DET), and the module registrar.
 */
#include "provider_client.h"

#include "knobs.h"
#include "wsklab_nmr.h"

CASE(CaptureCounts) {
    TEST_CLIENT client;
    WSK_PROVIDER_NPI again = {0};
    WSK_PROVIDER_CHARACTERISTICS range;

    ClientBegin(&client); /* REG-001 */
    CHECK(client.Npi.Client != NULL && client.Npi.Dispatch != NULL); /* REG-002 */
    CHECK_EQUAL(WSK_MAJOR_VERSION(client.Npi.Dispatch->Version), 1); /* REG-003 */
    CHECK(client.Npi.Dispatch->WskSocket != NULL && client.Npi.Dispatch->WskSocketConnect != NULL &&
          client.Npi.Dispatch->WskControlClient != NULL); /* REG-004 */
    CHECK_STATUS(WskCaptureProviderNPI(&client.Block, 100, &again), STATUS_SUCCESS);
    CHECK_STATUS(WskCaptureProviderNPI(&client.Block, WSK_INFINITE_WAIT, &again), STATUS_SUCCESS);
    CHECK(again.Client == client.Npi.Client && again.Dispatch == client.Npi.Dispatch);
    CHECK_STATUS(WskQueryProviderCharacteristics(&client.Block, &range), STATUS_SUCCESS);
    CHECK(range.LowestVersion <= MAKE_WSK_VERSION(1, 0) && range.HighestVersion >= MAKE_WSK_VERSION(1, 0));
    WskReleaseProviderNPI(&client.Block);
    WskReleaseProviderNPI(&client.Block);
    CHECK(client.Npi.Dispatch->WskSocket != NULL); /* one capture is left */
    ClientEnd(&client);
    CHECK_STATUS(WskCaptureProviderNPI(&client.Block, WSK_NO_WAIT, &again), STATUS_DEVICE_NOT_READY); /* DET-006 */
    CHECK_STATUS(WskCaptureProviderNPI(&client.Block, WSK_INFINITE_WAIT, &again), STATUS_DEVICE_NOT_READY);
}

CASE(WrongVersionThenRight) {
    static const USHORT wrong[] = {0xFF00, 0x0000, 0x0200};
    TEST_CLIENT client = {0};
    WSK_PROVIDER_CHARACTERISTICS range;

    for (ULONG index = 0; index < RTL_NUMBER_OF(wrong); index++) {
        client.Dispatch.Version = wrong[index];
        client.ClientNpi.Dispatch = &client.Dispatch;
        CHECK_STATUS(WskRegister(&client.ClientNpi, &client.Block), STATUS_SUCCESS);
        CHECK_STATUS(WskCaptureProviderNPI(&client.Block, WSK_INFINITE_WAIT, &client.Npi), STATUS_NOINTERFACE); /* REG-007 */
        CHECK_STATUS(WskQueryProviderCharacteristics(&client.Block, &range), STATUS_SUCCESS);                  /* REG-008 */
        CHECK(range.LowestVersion <= range.HighestVersion);
        CHECK(wrong[index] < range.LowestVersion || wrong[index] > range.HighestVersion);
        WskDeregister(&client.Block);
    }
    ClientBegin(&client); /* REG-009 */
    ClientEnd(&client);
}

CASE(CaptureWaitsForTheProvider) {
    TEST_CLIENT client = {.Dispatch.Version = MAKE_WSK_VERSION(1, 0)};
    ULONG64 before;

    client.ClientNpi.Dispatch = &client.Dispatch;
    WskpKnobProviderReady(FALSE);
    CHECK_STATUS(WskRegister(&client.ClientNpi, &client.Block), STATUS_SUCCESS);
    CHECK_STATUS(WskCaptureProviderNPI(&client.Block, WSK_NO_WAIT, &client.Npi), STATUS_DEVICE_NOT_READY);
    before = ShimNow();
    CHECK_STATUS(WskCaptureProviderNPI(&client.Block, 50, &client.Npi), STATUS_DEVICE_NOT_READY); /* REG-006 */
    CHECK(ShimNow() - before >= 50 * 1000000ull);
    WskpKnobProviderReady(TRUE);
    CHECK_STATUS(WskCaptureProviderNPI(&client.Block, 50, &client.Npi), STATUS_SUCCESS);
    ClientEnd(&client);
}

typedef struct WAITER {
    TEST_CLIENT *Client;
    KEVENT Done;
    NTSTATUS Status;
} WAITER;

static void CaptureForEver(void *context) {
    WAITER *waiter = context;
    waiter->Status = WskCaptureProviderNPI(&waiter->Client->Block, WSK_INFINITE_WAIT, &waiter->Client->Npi);
    KeSetEvent(&waiter->Done, IO_NO_INCREMENT, FALSE);
}

static void Deregister(void *context) {
    WAITER *waiter = context;
    WskDeregister(&waiter->Client->Block);
    KeSetEvent(&waiter->Done, IO_NO_INCREMENT, FALSE);
}

static BOOLEAN IsSet(PKEVENT event, LONG ms) {
    LARGE_INTEGER timeout = {.QuadPart = -(LONGLONG)ms * 10000};
    return KeWaitForSingleObject(event, Executive, KernelMode, FALSE, &timeout) == STATUS_SUCCESS;
}

static SHIM_THREAD *Begin(WAITER *waiter, TEST_CLIENT *client, SHIM_THREAD_ROUTINE routine) {
    SHIM_THREAD *thread;
    waiter->Client = client;
    KeInitializeEvent(&waiter->Done, NotificationEvent, FALSE);
    thread = ShimThreadStart("test", routine, waiter);
    CHECK(thread != NULL);
    return thread;
}

CASE(DeregisterReleasesWaiters) {
    TEST_CLIENT client = {.Dispatch.Version = MAKE_WSK_VERSION(1, 0)};
    WAITER waiter;
    SHIM_THREAD *thread;

    client.ClientNpi.Dispatch = &client.Dispatch;
    WskpKnobProviderReady(FALSE);
    CHECK_STATUS(WskRegister(&client.ClientNpi, &client.Block), STATUS_SUCCESS);
    thread = Begin(&waiter, &client, CaptureForEver);
    CHECK(!IsSet(&waiter.Done, 50));
    WskDeregister(&client.Block); /* DET-006 */
    EventAwait(&waiter.Done);
    CHECK_STATUS(waiter.Status, STATUS_DEVICE_NOT_READY);
    ShimThreadJoin(thread);
    WskpKnobProviderReady(TRUE);
}

CASE(DeregisterWaitsForCapture) {
    TEST_CLIENT client;
    WAITER waiter;
    SHIM_THREAD *thread;

    ClientBegin(&client);
    thread = Begin(&waiter, &client, Deregister);
    CHECK(!IsSet(&waiter.Done, 200)); /* DET-002 */
    WskReleaseProviderNPI(&client.Block);
    EventAwait(&waiter.Done);
    ShimThreadJoin(thread);
    ClientBegin(&client); /* DET-001: the same block again */
    ClientEnd(&client);
}

CASE(DeregisterWaitsForSocket) {
    TEST_CLIENT client;
    WAITER waiter;
    SHIM_THREAD *thread;
    ADDRESS bound;
    PWSK_SOCKET listener;

    ClientBegin(&client);
    listener = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL);
    WskReleaseProviderNPI(&client.Block);
    thread = Begin(&waiter, &client, Deregister);
    CHECK(!IsSet(&waiter.Done, 200)); /* DET-003 */
    bound = AddressOf("127.0.0.1", 0);
    CHECK_STATUS(SocketBind(listener, &bound), STATUS_SUCCESS); /* DET-007 */
    CHECK_STATUS(SocketClose(listener), STATUS_SUCCESS);
    EventAwait(&waiter.Done);
    ShimThreadJoin(thread);
}

CASE(DeregisterCancelsTransportChange) {
    TEST_CLIENT client;
    WAITER waiter;
    SHIM_THREAD *thread;
    OPERATION change = {0}, second = {0};

    ClientBegin(&client);
    CALL(&change, client.Npi.Dispatch->WskControlClient(client.Npi.Client, WSK_TRANSPORT_LIST_CHANGE, 0, NULL, 0, NULL, NULL, IRP_OF));
    CHECK_STATUS(change.Returned, STATUS_PENDING); /* CTL-003 */
    CHECK(!OperationIsDone(&change, 50));
    WskpKnobTransportsChanged();
    CHECK_STATUS(OperationEnd(&change), STATUS_SUCCESS);
    CALL(&second, client.Npi.Dispatch->WskControlClient(client.Npi.Client, WSK_TRANSPORT_LIST_CHANGE, 0, NULL, 0, NULL, NULL, IRP_OF));
    WskReleaseProviderNPI(&client.Block);
    thread = Begin(&waiter, &client, Deregister);
    CHECK_STATUS(OperationEnd(&second), STATUS_CANCELLED); /* DET-005 */
    EventAwait(&waiter.Done);
    ShimThreadJoin(thread);
}

CASE(DeregisterWaitsForRequests) {
    TEST_CLIENT client;
    WAITER waiter;
    SHIM_THREAD *thread;
    PADDRINFOEXW result = NULL;
    OPERATION lookup = {0};
    UNICODE_STRING node;

    ClientBegin(&client);
    RtlInitUnicodeString(&node, L"does-not-exist.invalid");
    WskpKnobFault(WSKP_GetAddressInfo, 1, WSKP_FAULT_DELAY, STATUS_SUCCESS, 400);
    CALL(&lookup, client.Npi.Dispatch->WskGetAddressInfo(client.Npi.Client, &node, NULL, NS_ALL, NULL, NULL, &result, NULL, NULL, IRP_OF));
    WskReleaseProviderNPI(&client.Block);
    thread = Begin(&waiter, &client, Deregister);
    CHECK(!IsSet(&waiter.Done, 100)); /* DET-004 */
    CHECK(!NT_SUCCESS(OperationEnd(&lookup)));
    EventAwait(&waiter.Done);
    ShimThreadJoin(thread);
}

CASE(TwoRegistrationsAreIndependent) {
    TEST_CLIENT first, second;
    PWSK_SOCKET one, two;
    ADDRESS any = AddressOf("127.0.0.1", 0);

    ClientBegin(&first);
    ClientBegin(&second);
    one = SocketMake(&first, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL);
    two = SocketMake(&second, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL);
    SocketClose(one);
    ClientEnd(&first);
    CHECK_STATUS(SocketBind(two, &any), STATUS_SUCCESS); /* REG-010 */
    SocketClose(two);
    ClientEnd(&second);
}

CASE(AtDispatchLevel) {
    TEST_CLIENT client;
    WSK_PROVIDER_NPI npi;
    WSK_PROVIDER_CHARACTERISTICS range;
    KIRQL irql;

    ClientBegin(&client);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    CHECK_STATUS(WskCaptureProviderNPI(&client.Block, WSK_NO_WAIT, &npi), STATUS_SUCCESS); /* REG-005 */
    CHECK_STATUS(WskQueryProviderCharacteristics(&client.Block, &range), STATUS_SUCCESS);
    WskReleaseProviderNPI(&client.Block);
    KeLowerIrql(irql);
    ClientEnd(&client);
}

/* ---- The module registrar (REG-012) ---------------------------------------------------------------------------------- */

typedef struct NMR_CLIENT {
    WSK_CLIENT_DISPATCH Dispatch;
    WSK_CLIENT_DISPATCH Other;
    HANDLE Binding;
    PVOID Client;
    const VOID *ProviderDispatch;
    LONG Attached, Detached, CleanedUp;
    BOOLEAN DetachLater;
} NMR_CLIENT;

static NTSTATUS NTAPI Attach(HANDLE binding, PVOID context, PNPI_REGISTRATION_INSTANCE instance) {
    NMR_CLIENT *client = context;
    const WSK_PROVIDER_CHARACTERISTICS *range = instance->NpiSpecificCharacteristics;
    NTSTATUS status;

    client->Attached++;
    CHECK(range->HighestVersion >= MAKE_WSK_VERSION(1, 0));
    client->Binding = binding;
    status = NmrClientAttachProvider(binding, client, &client->Other, &client->Client, &client->ProviderDispatch);
    CHECK_STATUS(status, STATUS_NOINTERFACE);
    return NmrClientAttachProvider(binding, client, &client->Dispatch, &client->Client, &client->ProviderDispatch);
}

static NTSTATUS NTAPI Detach(PVOID context) {
    NMR_CLIENT *client = context;
    client->Detached++;
    return client->DetachLater ? STATUS_PENDING : STATUS_SUCCESS;
}

static VOID NTAPI CleanUp(PVOID context) {
    ((NMR_CLIENT *)context)->CleanedUp++;
}

static void ThroughRegistrar(BOOLEAN detachLater) {
    static const NPIID id = WSKLAB_NPI_WSK_INTERFACE_ID;
    static const NPI_MODULEID module = {.Length = sizeof(module), .Type = MIT_GUID};
    NPI_CLIENT_CHARACTERISTICS characteristics = {.Length = sizeof(characteristics), .ClientAttachProvider = Attach,
                                                  .ClientDetachProvider = Detach, .ClientCleanupBindingContext = CleanUp,
                                                  .ClientRegistrationInstance = {.Size = sizeof(NPI_REGISTRATION_INSTANCE),
                                                                                 .NpiId = &id, .ModuleId = &module}};
    NMR_CLIENT client = {.Dispatch.Version = MAKE_WSK_VERSION(1, 0), .Other.Version = MAKE_WSK_VERSION(9, 0), .DetachLater = detachLater};
    TEST_CLIENT through = {0};
    PWSK_SOCKET socket;
    HANDLE handle;

    CHECK_STATUS(NmrRegisterClient(&characteristics, &client, &handle), STATUS_SUCCESS);
    CHECK_EQUAL(client.Attached, 1);
    through.Npi.Client = client.Client;
    through.Npi.Dispatch = client.ProviderDispatch;
    socket = SocketMake(&through, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL);
    CHECK_STATUS(NmrDeregisterClient(handle), STATUS_PENDING);
    CHECK_EQUAL(client.Detached, 1);
    SocketClose(socket);
    CHECK_EQUAL(client.CleanedUp, detachLater ? 0 : client.CleanedUp);
    if (detachLater) {
        NmrClientDetachProviderComplete(client.Binding);
    }
    CHECK_STATUS(NmrWaitForClientDeregisterComplete(handle), STATUS_SUCCESS);
    CHECK_EQUAL(client.CleanedUp, 1);
}

CASE(RegistrarDetachAtOnce) {
    ThroughRegistrar(FALSE); /* REG-012 */
}

CASE(RegistrarDetachLater) {
    ThroughRegistrar(TRUE);
}
