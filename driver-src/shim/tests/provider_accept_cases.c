/*
 * provider_accept_cases.c: accepting, by function and by event, and conditional accept (rules ACC, INS).
 */
#include "provider_client.h"

#include <errno.h>

CASE(AcceptBeforeAndAfter) {
    TEST_CLIENT client;
    ADDRESS bound, local, remote, peerAddress;
    OPERATION before = {0}, after = {0};
    PWSK_SOCKET listener;
    int first, second;

    ClientBegin(&client);
    listener = ListenerMake(&client, "127.0.0.1", NULL, NULL, &bound);
    CALL(&before, LISTENER(listener)->WskAccept(listener, 0, NULL, NULL, &local.Any, &remote.Any, IRP_OF));
    CHECK_STATUS(before.Returned, STATUS_PENDING); /* ACC-001 */
    CHECK(!OperationIsDone(&before, 50));
    first = PeerConnect(&bound);
    CHECK_STATUS(OperationEnd(&before), STATUS_SUCCESS);
    peerAddress = PeerAddress(first);
    CHECK(memcmp(&local, &bound, 16) == 0 && memcmp(&remote, &peerAddress, 16) == 0); /* ACC-003 */
    second = PeerConnect(&bound); /* BIND-012: nobody waits for it */
    CHECK(second >= 0);
    Pause(20);
    CALL(&after, LISTENER(listener)->WskAccept(listener, 0, NULL, NULL, NULL, NULL, IRP_OF));
    CHECK(after.Returned == STATUS_SUCCESS || after.Returned == STATUS_PENDING); /* ACC-002; which one is the schedule's */
    CHECK_STATUS(OperationEnd(&after), STATUS_SUCCESS);
    SocketClose((PWSK_SOCKET)before.Information);
    SocketClose((PWSK_SOCKET)after.Information);
    SocketClose(listener);
    PeerClose(first);
    PeerClose(second);
    ClientEnd(&client);
}

CASE(FourAccepts) {
    enum { COUNT = 4 };
    TEST_CLIENT client;
    ADDRESS bound;
    OPERATION accepts[COUNT] = {0};
    PWSK_SOCKET listener;
    int peers[COUNT];

    ClientBegin(&client);
    listener = ListenerMake(&client, "127.0.0.1", NULL, NULL, &bound);
    for (ULONG index = 0; index < COUNT; index++) {
        CALL(&accepts[index], LISTENER(listener)->WskAccept(listener, 0, NULL, NULL, NULL, NULL, IRP_OF));
    }
    for (ULONG index = 0; index < COUNT; index++) {
        peers[index] = PeerConnect(&bound);
    }
    for (ULONG index = 0; index < COUNT; index++) {
        CHECK_STATUS(OperationEnd(&accepts[index]), STATUS_SUCCESS); /* ACC-005 */
        for (ULONG other = 0; other < index; other++) {
            CHECK(accepts[other].Information != accepts[index].Information);
        }
    }
    for (ULONG index = 0; index < COUNT; index++) {
        SocketClose((PWSK_SOCKET)accepts[index].Information);
        PeerClose(peers[index]);
    }
    SocketClose(listener);
    ClientEnd(&client);
}

CASE(WrongAccepts) {
    TEST_CLIENT client;
    ADDRESS bound;
    OPERATION unbound = {0}, flags = {0};
    PWSK_SOCKET listener;

    ClientBegin(&client);
    listener = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL);
    CALL(&unbound, LISTENER(listener)->WskAccept(listener, 0, NULL, NULL, NULL, NULL, IRP_OF));
    CHECK(!NT_SUCCESS(OperationEnd(&unbound))); /* ACC-004 */
    bound = AddressOf("127.0.0.1", 0);
    CHECK_STATUS(SocketBind(listener, &bound), STATUS_SUCCESS);
    CALL(&flags, LISTENER(listener)->WskAccept(listener, 1, NULL, NULL, NULL, NULL, IRP_OF));
    CHECK(!NT_SUCCESS(OperationEnd(&flags)));
    CHECK_STATUS(LISTENER(listener)->WskAccept(listener, 0, NULL, NULL, NULL, NULL, NULL), STATUS_INVALID_PARAMETER);
    SocketClose(listener);
    ClientEnd(&client);
}

CASE(ListenerCloseSparesAccepted) {
    TEST_CLIENT client;
    ADDRESS bound;
    PWSK_SOCKET listener, socket;
    ULONG_PTR information;
    UCHAR byte = 0;
    int accepted, waiting;

    ClientBegin(&client);
    listener = ListenerMake(&client, "127.0.0.1", NULL, NULL, &bound);
    accepted = PeerConnect(&bound);
    socket = AcceptOne(listener, NULL, NULL);
    waiting = PeerConnect(&bound);
    CHECK_STATUS(SocketClose(listener), STATUS_SUCCESS);
    CHECK_EQUAL(PeerReceive(waiting, &byte, 1), -ECONNRESET); /* CLOSE-007 */
    PeerSend(accepted, "y", 1);
    CHECK_STATUS(ReceiveBytes(socket, &byte, 1, 0, &information), STATUS_SUCCESS);
    CHECK_EQUAL(byte, 'y');
    SocketClose(socket);
    PeerClose(accepted);
    PeerClose(waiting);
    ClientEnd(&client);
}

/* ---- The accept event ------------------------------------------------------------------------------------------------ */

typedef struct LISTEN_LOG {
    KEVENT Changed;
    PWSK_SOCKET Accepted[128];
    LONG Count;
    LONG Inspects, Aborts;
    NTSTATUS Answer;
    WSK_INSPECT_ACTION Inspection;
    WSK_INSPECT_ID Inspected, Aborted;
    ADDRESS Local, Remote;
    PVOID AcceptedContext;
    const WSK_CLIENT_CONNECTION_DISPATCH *AcceptedDispatch;
} LISTEN_LOG;

static NTSTATUS WSKAPI OnAccept(PVOID context, ULONG flags, PSOCKADDR local, PSOCKADDR remote, PWSK_SOCKET socket, PVOID *acceptedContext,
                                const WSK_CLIENT_CONNECTION_DISPATCH **dispatch) {
    LISTEN_LOG *log = context;

    CHECK(((flags & WSK_FLAG_AT_DISPATCH_LEVEL) != 0) == (KeGetCurrentIrql() == DISPATCH_LEVEL)); /* EVT-015 */
    memcpy(&log->Local, local, 16);
    memcpy(&log->Remote, remote, 16);
    *acceptedContext = log->AcceptedContext;
    *dispatch = log->AcceptedDispatch;
    log->Accepted[log->Count] = socket;
    log->Count++;
    KeSetEvent(&log->Changed, IO_NO_INCREMENT, FALSE);
    return log->Answer;
}

static WSK_INSPECT_ACTION WSKAPI OnInspect(PVOID context, PSOCKADDR local, PSOCKADDR remote, PWSK_INSPECT_ID id) {
    LISTEN_LOG *log = context;
    memcpy(&log->Local, local, 16);
    memcpy(&log->Remote, remote, 16);
    CHECK(log->Inspects == 0 || log->Inspected.SerialNumber != id->SerialNumber); /* INS-010 */
    log->Inspected = *id;
    log->Inspects++;
    KeSetEvent(&log->Changed, IO_NO_INCREMENT, FALSE);
    return log->Inspection;
}

static NTSTATUS WSKAPI OnAbort(PVOID context, PWSK_INSPECT_ID id) {
    LISTEN_LOG *log = context;
    log->Aborted = *id;
    log->Aborts++;
    KeSetEvent(&log->Changed, IO_NO_INCREMENT, FALSE);
    return STATUS_SUCCESS;
}

static const WSK_CLIENT_LISTEN_DISPATCH ListenDispatch = {OnAccept, OnInspect, OnAbort};

static void AwaitCount(LISTEN_LOG *log, LONG *counter, LONG count) {
    while (*(volatile LONG *)counter < count) {
        EventAwait(&log->Changed);
    }
}

static void LogBegin(LISTEN_LOG *log) {
    RtlZeroMemory(log, sizeof(*log));
    KeInitializeEvent(&log->Changed, SynchronizationEvent, FALSE);
    log->Inspection = WskInspectAccept;
}

CASE(AcceptEvent) {
    TEST_CLIENT client;
    LISTEN_LOG log;
    ADDRESS bound, peerAddress;
    PWSK_SOCKET listener;
    UCHAR byte;
    int early, peer, refused;

    ClientBegin(&client);
    LogBegin(&log);
    listener = ListenerMake(&client, "127.0.0.1", &log, &ListenDispatch, &bound);
    early = PeerConnect(&bound);
    Pause(50);
    CHECK_EQUAL(log.Count, 0); /* SOCK-010 */
    CHECK_STATUS(EventsSet(listener, WSK_EVENT_ACCEPT), STATUS_SUCCESS);
    AwaitCount(&log, &log.Count, 1); /* CTX-001: or its log would not say so; EVT-015 */
    peer = PeerConnect(&bound);
    AwaitCount(&log, &log.Count, 2);
    peerAddress = PeerAddress(peer);
    CHECK(memcmp(&log.Local, &bound, 16) == 0 && memcmp(&log.Remote, &peerAddress, 16) == 0); /* ACC-006 */
    Pause(20); /* the callback has returned: the socket is ours */
    CHECK_STATUS(SendBytes(log.Accepted[1], "z", 1, NULL), STATUS_SUCCESS);
    CHECK_EQUAL(PeerReceive(peer, &byte, 1), 1);
    log.Answer = STATUS_REQUEST_NOT_ACCEPTED;
    refused = PeerConnect(&bound);
    AwaitCount(&log, &log.Count, 3);
    CHECK(PeerIsCutOff(refused)); /* ACC-007 */
    CHECK_STATUS(EventsSet(listener, WSK_EVENT_ACCEPT | WSK_EVENT_DISABLE), STATUS_SUCCESS);
    SocketClose(log.Accepted[0]);
    SocketClose(log.Accepted[1]);
    SocketClose(listener);
    PeerClose(early);
    PeerClose(peer);
    PeerClose(refused);
    ClientEnd(&client);
}

CASE(AcceptFunctionBeforeEvent) {
    enum { COUNT = 30 };
    TEST_CLIENT client;
    LISTEN_LOG log;
    ADDRESS bound;
    PWSK_SOCKET listener;
    LONG byFunction = 0;
    OPERATION accept = {0};
    int peers[COUNT];

    ClientBegin(&client);
    LogBegin(&log);
    listener = ListenerMake(&client, "127.0.0.1", &log, &ListenDispatch, &bound);
    CHECK_STATUS(EventsSet(listener, WSK_EVENT_ACCEPT), STATUS_SUCCESS);
    CALL(&accept, LISTENER(listener)->WskAccept(listener, 0, NULL, NULL, NULL, NULL, IRP_OF));
    for (LONG index = 0; index < COUNT; index++) {
        peers[index] = PeerConnect(&bound);
        if (OperationIsDone(&accept, 20)) {
            CHECK_STATUS(OperationEnd(&accept), STATUS_SUCCESS);
            SocketClose((PWSK_SOCKET)accept.Information);
            byFunction++;
            CALL(&accept, LISTENER(listener)->WskAccept(listener, 0, NULL, NULL, NULL, NULL, IRP_OF));
        }
    }
    Pause(100);
    CHECK_EQUAL(byFunction + log.Count, COUNT); /* ACC-008 */
    CHECK(byFunction > 0);
    CHECK_STATUS(EventsSet(listener, WSK_EVENT_ACCEPT | WSK_EVENT_DISABLE), STATUS_SUCCESS);
    SocketClose(listener);
    CHECK_STATUS(OperationEnd(&accept), STATUS_CANCELLED);
    for (LONG index = 0; index < log.Count; index++) {
        SocketClose(log.Accepted[index]);
    }
    for (LONG index = 0; index < COUNT; index++) {
        PeerClose(peers[index]);
    }
    ClientEnd(&client);
}

/* ---- Conditional accept ---------------------------------------------------------------------------------------------- */

static PWSK_SOCKET ConditionalMake(TEST_CLIENT *client, LISTEN_LOG *log, ADDRESS *bound) {
    ADDRESS any = AddressOf("127.0.0.1", 0);
    PWSK_SOCKET listener = SocketMake(client, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, log, &ListenDispatch, NULL);
    ULONG value;
    CHECK_STATUS(OptionSet(listener, SOL_SOCKET, SO_CONDITIONAL_ACCEPT, 1), STATUS_SUCCESS);
    CHECK_STATUS(OptionGet(listener, SOL_SOCKET, SO_CONDITIONAL_ACCEPT, &value), STATUS_SUCCESS);
    CHECK_EQUAL(value, 1); /* INS-001 */
    CHECK_STATUS(SocketBind(listener, &any), STATUS_SUCCESS);
    CHECK_STATUS(SocketLocal(listener, bound, WSK_FLAG_LISTEN_SOCKET), STATUS_SUCCESS);
    return listener;
}

static NTSTATUS InspectComplete(PWSK_SOCKET listener, WSK_INSPECT_ID id, WSK_INSPECT_ACTION action) {
    OPERATION operation = {0};
    CALL(&operation, LISTENER(listener)->WskInspectComplete(listener, &id, action, IRP_OF));
    return OperationEnd(&operation);
}

CASE(InspectAcceptAndReject) {
    TEST_CLIENT client;
    LISTEN_LOG log;
    ADDRESS bound, peerAddress;
    WSK_INSPECT_ID id;
    PWSK_SOCKET listener, socket;
    SIZE_T returned = 0;
    int peer, rejected;

    ClientBegin(&client);
    LogBegin(&log);
    listener = ConditionalMake(&client, &log, &bound);
    peer = PeerConnect(&bound);
    AwaitCount(&log, &log.Inspects, 1); /* INS-002: and no event had to be enabled (INS-010) */
    peerAddress = PeerAddress(peer);
    CHECK(memcmp(&log.Remote, &peerAddress, 16) == 0);
    socket = AcceptOne(listener, NULL, NULL); /* INS-003 */
    CHECK_STATUS(BASIC(socket)->WskControlSocket(socket, WskIoctl, SIO_WSK_QUERY_INSPECT_ID, 0, 0, NULL, sizeof(id), &id, &returned, NULL),
                 STATUS_SUCCESS);
    CHECK(returned == sizeof(id) && id.Key == log.Inspected.Key && id.SerialNumber == log.Inspected.SerialNumber); /* INS-009 */
    log.Inspection = WskInspectReject;
    rejected = PeerConnect(&bound);
    AwaitCount(&log, &log.Inspects, 2);
    CHECK(PeerIsCutOff(rejected)); /* INS-004 */
    CHECK_EQUAL(log.Aborts, 0);
    SocketClose(socket);
    SocketClose(listener);
    PeerClose(peer);
    PeerClose(rejected);
    ClientEnd(&client);
}

CASE(InspectPended) {
    TEST_CLIENT client;
    LISTEN_LOG log;
    ADDRESS bound;
    PWSK_SOCKET listener, socket;
    OPERATION accept = {0};
    int peer, rejected;

    ClientBegin(&client);
    LogBegin(&log);
    log.Inspection = WskInspectPend;
    listener = ConditionalMake(&client, &log, &bound);
    CALL(&accept, LISTENER(listener)->WskAccept(listener, 0, NULL, NULL, NULL, NULL, IRP_OF));
    peer = PeerConnect(&bound);
    AwaitCount(&log, &log.Inspects, 1);
    CHECK(!OperationIsDone(&accept, 50));
    CHECK(!NT_SUCCESS(InspectComplete(listener, log.Inspected, WskInspectPend))); /* INS-008 */
    CHECK_STATUS(InspectComplete(listener, log.Inspected, WskInspectAccept), STATUS_SUCCESS); /* INS-005 */
    CHECK_STATUS(OperationEnd(&accept), STATUS_SUCCESS);
    socket = (PWSK_SOCKET)accept.Information;
    CHECK(!NT_SUCCESS(InspectComplete(listener, log.Inspected, WskInspectAccept)));
    rejected = PeerConnect(&bound);
    AwaitCount(&log, &log.Inspects, 2);
    Pause(20);
    CHECK_STATUS(InspectComplete(listener, log.Inspected, WskInspectReject), STATUS_SUCCESS);
    CHECK(PeerIsCutOff(rejected));
    SocketClose(socket);
    SocketClose(listener);
    PeerClose(peer);
    PeerClose(rejected);
    ClientEnd(&client);
}

CASE(InspectAborted) {
    TEST_CLIENT client;
    LISTEN_LOG log;
    ADDRESS bound;
    PWSK_SOCKET listener;
    int peer;

    ClientBegin(&client);
    LogBegin(&log);
    log.Inspection = WskInspectPend;
    listener = ConditionalMake(&client, &log, &bound);
    peer = PeerConnect(&bound);
    AwaitCount(&log, &log.Inspects, 1);
    Pause(20);
    PeerReset(peer);
    AwaitCount(&log, &log.Aborts, 1); /* INS-006 */
    CHECK(log.Aborted.Key == log.Inspected.Key && log.Aborted.SerialNumber == log.Inspected.SerialNumber);
    CHECK(!NT_SUCCESS(InspectComplete(listener, log.Inspected, WskInspectAccept))); /* INS-007 */
    Pause(20);
    CHECK_EQUAL(log.Count, 0);
    SocketClose(listener);
    ClientEnd(&client);
}

CASE(InspectEndsWithListener) {
    TEST_CLIENT client;
    LISTEN_LOG log;
    ADDRESS bound;
    PWSK_SOCKET listener, plain;
    WSK_INSPECT_ID none = {0};
    int peer;

    ClientBegin(&client);
    LogBegin(&log);
    log.Inspection = WskInspectPend;
    listener = ConditionalMake(&client, &log, &bound);
    peer = PeerConnect(&bound);
    AwaitCount(&log, &log.Inspects, 1);
    SocketClose(listener);
    CHECK(PeerIsCutOff(peer));
    plain = ListenerMake(&client, "127.0.0.1", NULL, NULL, &bound);
    CHECK(!NT_SUCCESS(InspectComplete(plain, none, WskInspectAccept))); /* INS-008 */
    SocketClose(plain);
    PeerClose(peer);
    ClientEnd(&client);
}
