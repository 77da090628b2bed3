/*
 * provider_abuse_cases.c: clients that break a rule, and the rule that the provider names.
 */
#include "provider_client.h"

#include "knobs.h"

static TEST_CLIENT Client;

static PWSK_SOCKET Connected(int *peer) {
    ADDRESS bound;
    int listener = PeerListen("127.0.0.1", &bound);
    PWSK_SOCKET socket = ConnectedMake(&Client, &bound, NULL, NULL);
    *peer = PeerAccept(listener);
    PeerClose(listener);
    return socket;
}

CASE_ABORTS(CallAfterClose, "WSK-CLOSE-001") {
    PFN_WSK_CLOSE_SOCKET close;
    PWSK_SOCKET socket;
    OPERATION operation = {0};

    ClientBegin(&Client);
    socket = SocketMake(&Client, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL);
    close = BASIC(socket)->WskCloseSocket;
    SocketClose(socket);
    CALL(&operation, close(socket, IRP_OF));
}

CASE_ABORTS(CallThroughClosedTable, "WSK-CLOSE-001") {
    PWSK_SOCKET socket;

    ClientBegin(&Client);
    socket = SocketMake(&Client, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL);
    SocketClose(socket);
    LISTENER(socket)->WskGetLocalAddress(socket, NULL, NULL);
}

CASE_ABORTS(WrongTable, "WSK-CAT-001") {
    PWSK_SOCKET listener, connection;
    ADDRESS to = AddressOf("127.0.0.1", 9);

    ClientBegin(&Client);
    listener = SocketMake(&Client, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL);
    connection = SocketMake(&Client, AF_INET, SOCK_STREAM, WSK_FLAG_CONNECTION_SOCKET, NULL, NULL, NULL);
    CONNECTION(connection)->WskConnect(listener, &to.Any, 0, NULL);
}

static void Spin(OPERATION *operation, void *context) {
    (void)operation;
    KeSetEvent(context, IO_NO_INCREMENT, FALSE);
    for (;;) {
        KeStallExecutionProcessor(50);
    }
}

typedef struct SENDER {
    PWSK_SOCKET Socket;
    KEVENT Inside;
} SENDER;

static void SendAndStay(void *context) {
    SENDER *sender = context;
    OPERATION operation = {.Then = Spin, .Context = &sender->Inside};
    TEST_BUFFER buffer;

    BufferOf(&buffer, "x", 1);
    CALL(&operation, CONNECTION(sender->Socket)->WskSend(sender->Socket, &buffer.Wsk, 0, IRP_OF));
}

CASE_ABORTS(CloseWhileSomebodySends, "WSK-CLOSE-002") {
    SENDER sender;
    int peer;

    ClientBegin(&Client);
    sender.Socket = Connected(&peer);
    KeInitializeEvent(&sender.Inside, NotificationEvent, FALSE);
    Pause(50);                                   /* nothing of the socket is under way: an older completion would come first */
    WskpKnobOrder(WSKP_Send, WSKP_ORDER_INLINE); /* the completion routine runs inside WskSend */
    ShimThreadStart("sender", SendAndStay, &sender);
    EventAwait(&sender.Inside);
    SocketClose(sender.Socket);
}

CASE_ABORTS(UncachedDescriptor, "WSK-SOCK-013") {
    ULONG64 descriptor[8];
    OPERATION operation = {0};

    ClientBegin(&Client);
    RtlCreateSecurityDescriptor(descriptor, SECURITY_DESCRIPTOR_REVISION);
    CALL(&operation, Client.Npi.Dispatch->WskSocket(Client.Npi.Client, AF_INET, SOCK_STREAM, IPPROTO_TCP, WSK_FLAG_LISTEN_SOCKET, NULL, NULL,
                                                    NULL, NULL, descriptor, IRP_OF));
}

CASE_ABORTS(BufferBeyondMdl, "WSK-DATA-012") {
    OPERATION operation = {0};
    TEST_BUFFER buffer;
    PWSK_SOCKET socket;
    int peer;

    ClientBegin(&Client);
    socket = Connected(&peer);
    BufferOf(&buffer, NULL, 10);
    buffer.Wsk.Length = 11;
    CALL(&operation, CONNECTION(socket)->WskReceive(socket, &buffer.Wsk, 0, IRP_OF));
}

CASE_ABORTS(NullMdlWithLength, "WSK-DATA-012") {
    OPERATION operation = {0};
    WSK_BUF buffer = {.Length = 1};
    PWSK_SOCKET socket;
    int peer;

    ClientBegin(&Client);
    socket = Connected(&peer);
    CALL(&operation, CONNECTION(socket)->WskSend(socket, &buffer, 0, IRP_OF));
}

CASE_ABORTS(MdlNotLocked, "WSK-DATA-009") {
    OPERATION operation = {0};
    UCHAR bytes[10];
    WSK_BUF buffer = {.Length = sizeof(bytes)};
    PWSK_SOCKET socket;
    int peer;

    ClientBegin(&Client);
    socket = Connected(&peer);
    buffer.Mdl = IoAllocateMdl(bytes, sizeof(bytes), FALSE, FALSE, NULL);
    CALL(&operation, CONNECTION(socket)->WskSend(socket, &buffer, 0, IRP_OF));
}

CASE_ABORTS(NpiUsedAfterRelease, "WSK-DET-007") {
    PFN_WSK_CONTROL_CLIENT control;

    ClientBegin(&Client);
    control = Client.Npi.Dispatch->WskControlClient;
    WskReleaseProviderNPI(&Client.Block);
    control(Client.Npi.Client, WSK_TRANSPORT_LIST_QUERY, 0, NULL, 0, NULL, NULL, NULL);
}

CASE_ABORTS(ClientUsedAfterDeregister, "WSK-DET-006") {
    PFN_WSK_CONTROL_CLIENT control;

    ClientBegin(&Client);
    control = Client.Npi.Dispatch->WskControlClient;
    ClientEnd(&Client);
    control(Client.Npi.Client, WSK_TRANSPORT_LIST_QUERY, 0, NULL, 0, NULL, NULL, NULL);
}

CASE_ABORTS(ReleasedTooOften, "WSK-REG-011") {
    ClientBegin(&Client);
    WskReleaseProviderNPI(&Client.Block);
    WskReleaseProviderNPI(&Client.Block);
}

CASE_ABORTS(RegisteredTwice, "WSK-REG-010") {
    ClientBegin(&Client);
    WskRegister(&Client.ClientNpi, &Client.Block);
}

CASE_ABORTS(NeverRegistered, "WSK-REG-001") {
    WskCaptureProviderNPI(&Client.Block, WSK_NO_WAIT, &Client.Npi);
}

CASE_ABORTS(DeregisteredTwice, "WSK-DET-001") {
    ClientBegin(&Client);
    ClientEnd(&Client);
    WskDeregister(&Client.Block);
}

CASE_ABORTS(StillRegistered, "WSK-DET-001") {
    ClientBegin(&Client);
}

CASE_ABORTS(DescriptorLeaked, "WSK-CTL-004") {
    ULONG64 descriptor[8];
    PSECURITY_DESCRIPTOR uncached = descriptor, cached;

    ClientBegin(&Client);
    RtlCreateSecurityDescriptor(descriptor, SECURITY_DESCRIPTOR_REVISION);
    Client.Npi.Dispatch->WskControlClient(Client.Npi.Client, WSK_CACHE_SD, sizeof(uncached), &uncached, sizeof(cached), &cached, NULL, NULL);
    ClientEnd(&Client);
}

CASE_ABORTS(AddressListLeaked, "WSK-NAME-009") {
    UNICODE_STRING node;
    PADDRINFOEXW result;
    OPERATION operation = {0};

    ClientBegin(&Client);
    RtlInitUnicodeString(&node, L"127.0.0.1");
    CALL(&operation, Client.Npi.Dispatch->WskGetAddressInfo(Client.Npi.Client, &node, NULL, NS_ALL, NULL, NULL, &result, NULL, NULL, IRP_OF));
    OperationEnd(&operation);
    ClientEnd(&Client);
}

/* ---- IRPs ------------------------------------------------------------------------------------------------------------ */

CASE_ABORTS(NoStackLocation, "irp-stack") {
    PWSK_SOCKET socket;
    PIRP irp = IoAllocateIrp(1, FALSE);

    ClientBegin(&Client);
    socket = SocketMake(&Client, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL);
    IoSetNextIrpStackLocation(irp);
    BASIC(socket)->WskCloseSocket(socket, irp);
}

CASE_ABORTS(IrpUsedTwice, "irp-in-use") {
    ADDRESS bound;
    OPERATION operation = {0};
    PWSK_SOCKET listener;

    ClientBegin(&Client);
    listener = ListenerMake(&Client, "127.0.0.1", NULL, NULL, &bound);
    CALL(&operation, LISTENER(listener)->WskAccept(listener, 0, NULL, NULL, NULL, NULL, IRP_OF));
    LISTENER(listener)->WskAccept(listener, 0, NULL, NULL, NULL, NULL, operation.Irp);
}

CASE_ABORTS(NoCompletionRoutine, "completion-routine") {
    PWSK_SOCKET socket;

    ClientBegin(&Client);
    socket = SocketMake(&Client, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL);
    BASIC(socket)->WskCloseSocket(socket, IoAllocateIrp(1, FALSE));
}

CASE_ABORTS(NamesAbovePassive, "irql") {
    PADDRINFOEXW result;
    KIRQL irql;

    ClientBegin(&Client);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    Client.Npi.Dispatch->WskGetAddressInfo(Client.Npi.Client, NULL, NULL, NS_ALL, NULL, NULL, &result, NULL, NULL, NULL);
}

CASE_ABORTS(AddressListAbovePassive, "irql") {
    PWSK_SOCKET socket;
    KIRQL irql;

    ClientBegin(&Client);
    socket = SocketMake(&Client, AF_INET, SOCK_STREAM, WSK_FLAG_BASIC_SOCKET, NULL, NULL, NULL);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    BASIC(socket)->WskControlSocket(socket, WskIoctl, SIO_ADDRESS_LIST_QUERY, 0, 0, NULL, 0, NULL, NULL, NULL);
}

CASE_ABORTS(CalledWithALock, "lock-held") {
    KSPIN_LOCK lock;
    KIRQL irql;

    ClientBegin(&Client);
    KeInitializeSpinLock(&lock);
    KeAcquireSpinLock(&lock, &irql);
    WskReleaseProviderNPI(&Client.Block);
}

/* ---- Callbacks ------------------------------------------------------------------------------------------------------- */

static NTSTATUS ReceiveAnswer;
static KEVENT Called;
static PWSK_DATA_INDICATION Kept;
static PWSK_SOCKET ReleaseFrom; /* give the indication back while the callback runs */
static BOOLEAN ReleaseInside;

static NTSTATUS WSKAPI OnReceive(PVOID context, ULONG flags, PWSK_DATA_INDICATION indication, SIZE_T indicated, SIZE_T *accepted) {
    (void)context;
    (void)flags;
    Kept = indication;
    if (ReleaseFrom != NULL) {
        CONNECTION(ReleaseFrom)->WskRelease(ReleaseFrom, indication);
    }
    if (ReceiveAnswer == STATUS_SUCCESS) {
        *accepted = indicated + 1;
    }
    KeSetEvent(&Called, IO_NO_INCREMENT, FALSE);
    return ReceiveAnswer;
}

static PWSK_SOCKET ReceiveOnce(NTSTATUS answer) {
    static const WSK_CLIENT_CONNECTION_DISPATCH dispatch = {.WskReceiveEvent = OnReceive};
    ADDRESS bound;
    int listener = PeerListen("127.0.0.1", &bound), peer;
    PWSK_SOCKET socket;

    ClientBegin(&Client);
    KeInitializeEvent(&Called, NotificationEvent, FALSE);
    ReceiveAnswer = answer;
    socket = ConnectedMake(&Client, &bound, NULL, &dispatch);
    peer = PeerAccept(listener);
    ReleaseFrom = ReleaseInside ? socket : NULL;
    EventsSet(socket, WSK_EVENT_RECEIVE);
    PeerSend(peer, "x", 1);
    EventAwait(&Called);
    Pause(100);
    return socket;
}

CASE_ABORTS(KeptAtClose, "WSK-DATA-015") {
    SocketClose(ReceiveOnce(STATUS_PENDING));
}

CASE_ABORTS(ReleasedWithoutKeeping, "WSK-DATA-015") {
    PWSK_SOCKET socket = ReceiveOnce(STATUS_PENDING);
    CONNECTION(socket)->WskRelease(socket, Kept);
    CONNECTION(socket)->WskRelease(socket, (PWSK_DATA_INDICATION)socket);
}

CASE(ReleasedWhileIndicated) {
    /* A thread that was handed the indication may be faster than the callback that keeps it. */
    ReleaseInside = TRUE;
    SocketClose(ReceiveOnce(STATUS_PENDING));
    ClientEnd(&Client);
}

CASE_ABORTS(ReleasedAndNotKept, "WSK-DATA-015") {
    ReleaseInside = TRUE;
    ReceiveOnce(STATUS_DATA_NOT_ACCEPTED);
    Pause(5000);
}

CASE_ABORTS(AcceptedTooMuch, "WSK-DATA-014") {
    ReceiveOnce(STATUS_SUCCESS);
    Pause(5000);
}

CASE_ABORTS(UnknownAnswer, "WSK-DATA-013") {
    ReceiveOnce(STATUS_UNSUCCESSFUL);
    Pause(5000);
}

static NTSTATUS WSKAPI CloseAndRefuse(PVOID context, ULONG flags, PSOCKADDR local, PSOCKADDR remote, PWSK_SOCKET socket,
                                      PVOID *acceptedContext, const WSK_CLIENT_CONNECTION_DISPATCH **dispatch) {
    static OPERATION close;
    (void)context;
    (void)flags;
    (void)local;
    (void)remote;
    (void)acceptedContext;
    (void)dispatch;
    CALL(&close, BASIC(socket)->WskCloseSocket(socket, IRP_OF));
    return STATUS_REQUEST_NOT_ACCEPTED;
}

CASE_ABORTS(ClosedAndRefused, "WSK-ACC-007") {
    static const WSK_CLIENT_LISTEN_DISPATCH dispatch = {.WskAcceptEvent = CloseAndRefuse};
    ADDRESS bound;
    PWSK_SOCKET listener;

    ClientBegin(&Client);
    listener = ListenerMake(&Client, "127.0.0.1", NULL, &dispatch, &bound);
    EventsSet(listener, WSK_EVENT_ACCEPT);
    PeerConnect(&bound);
    Pause(5000);
}

CASE_ABORTS(ConditionalWithoutCallbacks, "WSK-INS-001") {
    ADDRESS any = AddressOf("127.0.0.1", 0), bound;
    PWSK_SOCKET listener;

    ClientBegin(&Client);
    listener = SocketMake(&Client, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL);
    OptionSet(listener, SOL_SOCKET, SO_CONDITIONAL_ACCEPT, 1);
    SocketBind(listener, &any);
    SocketLocal(listener, &bound, WSK_FLAG_LISTEN_SOCKET);
    PeerConnect(&bound);
    Pause(5000);
}
