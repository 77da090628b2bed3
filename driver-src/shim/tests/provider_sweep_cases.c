/*
 * provider_sweep_cases.c: memory that is short, at every place in turn: the call says so, nothing is lost and nothing leaks.
 */
#include "provider_client.h"

#include "harness.h"

#define MAX_FAILURES 400u

/* A failure comes once: what was refused for lack of memory works at the second try. */
#define TRY(call)                                                                                                                  \
    do {                                                                                                                           \
        NTSTATUS tryStatus = (call);                                                                                               \
        if (tryStatus == STATUS_INSUFFICIENT_RESOURCES) {                                                                          \
            tryStatus = (call);                                                                                                    \
        }                                                                                                                          \
        CHECK_STATUS(tryStatus, STATUS_SUCCESS);                                                                                   \
    } while (0)

typedef struct LOG {
    KEVENT Changed;
    SIZE_T Bytes;
    LONG Datagrams;
    LONG Accepts;
    PWSK_SOCKET Socket;
} LOG;

static LOG Log;

static NTSTATUS WSKAPI OnReceive(PVOID context, ULONG flags, PWSK_DATA_INDICATION indication, SIZE_T indicated, SIZE_T *accepted) {
    (void)context;
    (void)flags;
    (void)indication;
    (void)accepted;
    Log.Bytes += indicated;
    KeSetEvent(&Log.Changed, IO_NO_INCREMENT, FALSE);
    return STATUS_SUCCESS;
}

static const WSK_CLIENT_CONNECTION_DISPATCH Connection = {.WskReceiveEvent = OnReceive};

static NTSTATUS WSKAPI OnAccept(PVOID context, ULONG flags, PSOCKADDR local, PSOCKADDR remote, PWSK_SOCKET socket, PVOID *acceptedContext,
                                const WSK_CLIENT_CONNECTION_DISPATCH **dispatch) {
    (void)context;
    (void)flags;
    (void)local;
    (void)remote;
    *acceptedContext = &Log;
    *dispatch = &Connection;
    Log.Socket = socket;
    Log.Accepts++;
    KeSetEvent(&Log.Changed, IO_NO_INCREMENT, FALSE);
    return STATUS_SUCCESS;
}

static WSK_INSPECT_ACTION WSKAPI OnInspect(PVOID context, PSOCKADDR local, PSOCKADDR remote, PWSK_INSPECT_ID id) {
    (void)context;
    (void)local;
    (void)remote;
    (void)id;
    return WskInspectAccept;
}

static NTSTATUS WSKAPI OnAbort(PVOID context, PWSK_INSPECT_ID id) {
    (void)context;
    (void)id;
    return STATUS_SUCCESS;
}

static NTSTATUS WSKAPI OnReceiveFrom(PVOID context, ULONG flags, PWSK_DATAGRAM_INDICATION list) {
    (void)context;
    (void)flags;
    for (; list != NULL; list = list->Next) {
        Log.Datagrams++;
    }
    KeSetEvent(&Log.Changed, IO_NO_INCREMENT, FALSE);
    return STATUS_SUCCESS;
}

static const WSK_CLIENT_LISTEN_DISPATCH Listen = {OnAccept, OnInspect, OnAbort};
static const WSK_CLIENT_DATAGRAM_DISPATCH Datagram = {OnReceiveFrom};

static NTSTATUS Make(TEST_CLIENT *client, USHORT type, ULONG flags, PVOID context, const VOID *dispatch, PWSK_SOCKET *socket) {
    NTSTATUS status;
    *socket = SocketMake(client, AF_INET, type, flags, context, dispatch, &status);
    return status;
}

static NTSTATUS Begin(TEST_CLIENT *client) {
    RtlZeroMemory(client, sizeof(*client));
    client->Dispatch.Version = MAKE_WSK_VERSION(1, 0);
    client->ClientNpi.Dispatch = &client->Dispatch;
    return WskRegister(&client->ClientNpi, &client->Block);
}

static NTSTATUS Accept(PWSK_SOCKET listener, PWSK_SOCKET *socket) {
    OPERATION operation = {0};
    CALL(&operation, LISTENER(listener)->WskAccept(listener, 0, &Log, &Connection, NULL, NULL, IRP_OF));
    OperationEnd(&operation);
    *socket = (PWSK_SOCKET)operation.Information;
    return operation.Status;
}

static void Connections(TEST_CLIENT *client) {
    ADDRESS any = AddressOf("127.0.0.1", 0), bound;
    PWSK_SOCKET listener, accepted;
    ULONG_PTR information;
    UCHAR bytes[8];
    int first, second;

    TRY(Make(client, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, &Log, &Listen, &listener));
    TRY(OptionSet(listener, SOL_SOCKET, SO_CONDITIONAL_ACCEPT, 1));
    TRY(SocketBind(listener, &any));
    TRY(SocketLocal(listener, &bound, WSK_FLAG_LISTEN_SOCKET));
    first = PeerConnect(&bound);
    TRY(Accept(listener, &accepted));
    PeerSend(first, "function", 8);
    TRY(ReceiveBytes(accepted, bytes, 8, WSK_FLAG_WAITALL, &information));
    CHECK_EQUAL(information, 8);
    TRY(SendBytes(accepted, bytes, 8, NULL));
    CHECK_EQUAL(PeerReceive(first, bytes, 8), 8);
    TRY(EventsSet(accepted, WSK_EVENT_RECEIVE));
    PeerSend(first, "event", 5);
    while (*(volatile SIZE_T *)&Log.Bytes < 5) {
        EventAwait(&Log.Changed);
    }
    TRY(EventsSet(listener, WSK_EVENT_ACCEPT));
    second = PeerConnect(&bound);
    while (*(volatile LONG *)&Log.Accepts < 1) {
        EventAwait(&Log.Changed);
    }
    Pause(10);
    TRY(Disconnect(accepted, 0));
    CHECK_STATUS(SocketClose(accepted), STATUS_SUCCESS); /* CLOSE-001: never for lack of memory */
    CHECK_STATUS(SocketClose(Log.Socket), STATUS_SUCCESS);
    CHECK_STATUS(SocketClose(listener), STATUS_SUCCESS);
    PeerClose(first);
    PeerClose(second);
}

static void Datagrams(TEST_CLIENT *client) {
    ADDRESS any = AddressOf("127.0.0.1", 0), bound, peerBound;
    PWSK_SOCKET socket;
    int peer = PeerDatagram("127.0.0.1", &peerBound);

    TRY(Make(client, SOCK_DGRAM, WSK_FLAG_DATAGRAM_SOCKET, &Log, &Datagram, &socket));
    TRY(SocketBind(socket, &any));
    TRY(SocketLocal(socket, &bound, WSK_FLAG_DATAGRAM_SOCKET));
    TRY(EventsSet(socket, WSK_EVENT_RECEIVE_FROM));
    while (*(volatile LONG *)&Log.Datagrams == 0) { /* one may be lost for lack of memory */
        LARGE_INTEGER wait = {.QuadPart = -100000};
        PeerSendTo(peer, "x", 1, &bound);
        KeWaitForSingleObject(&Log.Changed, Executive, KernelMode, FALSE, &wait);
    }
    CHECK_STATUS(SocketClose(socket), STATUS_SUCCESS);
    PeerClose(peer);
}

static NTSTATUS Lookup(TEST_CLIENT *client) {
    UNICODE_STRING node;
    PADDRINFOEXW result = NULL;
    OPERATION operation = {0};

    RtlInitUnicodeString(&node, L"127.0.0.1");
    CALL(&operation, client->Npi.Dispatch->WskGetAddressInfo(client->Npi.Client, &node, NULL, NS_ALL, NULL, NULL, &result, NULL, NULL, IRP_OF));
    OperationEnd(&operation);
    if (result != NULL) {
        client->Npi.Dispatch->WskFreeAddressInfo(client->Npi.Client, result);
    }
    return operation.Status;
}

CASE(EveryAllocationFailsOnce) {
    TEST_CLIENT client;
    ULONG n = 1, made;

    do {
        RtlZeroMemory(&Log, sizeof(Log));
        KeInitializeEvent(&Log.Changed, SynchronizationEvent, FALSE);
        ShimFailAt(n, FALSE);
        TRY(Begin(&client));
        CHECK_STATUS(WskCaptureProviderNPI(&client.Block, WSK_NO_WAIT, &client.Npi), STATUS_SUCCESS);
        Connections(&client);
        Datagrams(&client);
        TRY(Lookup(&client));
        made = ShimFailAt(0, FALSE);
        ClientEnd(&client);
    } while (++n <= made && n <= MAX_FAILURES);
    CHECK(n > 50 && n <= MAX_FAILURES); /* it did go through all of them */
}
