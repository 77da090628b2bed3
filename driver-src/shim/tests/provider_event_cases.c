/*
 * provider_event_cases.c: events of connections: enabling, disabling, inheriting, data that is refused or kept (EVT, CTX, DATA).
 */
#include "provider_client.h"

#include "knobs.h"

typedef struct CONNECTION_LOG {
    KEVENT Changed;
    UCHAR Bytes[1u << 18];
    SIZE_T Count;     /* bytes accepted */
    LONG Receives;    /* calls */
    LONG Disconnects;
    LONG Backlogs;
    ULONG DisconnectFlags;
    LONG Inside;      /* callbacks that run now */
    NTSTATUS Answer;
    SIZE_T AcceptAtMost; /* of the next callback; 0: everything */
    PWSK_DATA_INDICATION Kept[16];
    SIZE_T KeptBytes[16];
    LONG KeptCount;
    KEVENT *Hold; /* spins until it is set */
    LONG Leave;   /* sequence */
} CONNECTION_LOG;

static void LogBegin(CONNECTION_LOG *log) {
    RtlZeroMemory(log, sizeof(*log));
    KeInitializeEvent(&log->Changed, SynchronizationEvent, FALSE);
}

static SIZE_T CopyIndication(const WSK_BUF *buffer, PUCHAR out) {
    SIZE_T left = buffer->Length, done = 0, skip = buffer->Offset;
    for (PMDL mdl = buffer->Mdl; left > 0; mdl = mdl->Next) {
        SIZE_T here = mdl->ByteCount - skip < left ? mdl->ByteCount - skip : left;
        PUCHAR base = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority | MdlMappingNoExecute);
        CHECK(base != NULL && skip < mdl->ByteCount);
        memcpy(out + done, base + skip, here);
        done += here;
        left -= here;
        skip = 0;
    }
    return done;
}

static void SpinWhileHeld(CONNECTION_LOG *log) {
    while (log->Hold != NULL && KeReadStateEvent(log->Hold) == 0) {
        KeStallExecutionProcessor(50);
    }
}

static NTSTATUS WSKAPI OnReceive(PVOID context, ULONG flags, PWSK_DATA_INDICATION indication, SIZE_T indicated, SIZE_T *accepted) {
    static UCHAR bytes[1u << 18];
    CONNECTION_LOG *log = context;
    SIZE_T sum = 0, take;
    NTSTATUS answer = log->Answer;

    CHECK_EQUAL(InterlockedIncrement(&log->Inside), 1);                                            /* EVT-015: one at a time */
    CHECK(((flags & WSK_FLAG_AT_DISPATCH_LEVEL) != 0) == (KeGetCurrentIrql() == DISPATCH_LEVEL));
    for (PWSK_DATA_INDICATION one = indication; one != NULL; one = one->Next) {
        sum += CopyIndication(&one->Buffer, bytes + sum);
    }
    CHECK_EQUAL(sum, indicated); /* DATA-013 */
    take = log->AcceptAtMost != 0 && log->AcceptAtMost < indicated ? log->AcceptAtMost : indicated;
    if (answer == STATUS_PENDING) {
        log->KeptBytes[log->KeptCount] = indicated;
        log->Kept[log->KeptCount++] = indication;
    }
    if (answer != STATUS_DATA_NOT_ACCEPTED) {
        memcpy(log->Bytes + log->Count, bytes, take);
        log->Count += take;
    }
    if (take != indicated) {
        *accepted = take;
        log->AcceptAtMost = 0;
    }
    log->Receives++;
    KeSetEvent(&log->Changed, IO_NO_INCREMENT, FALSE);
    SpinWhileHeld(log);
    log->Leave = NextSequence();
    InterlockedDecrement(&log->Inside);
    return answer;
}

static NTSTATUS WSKAPI OnDisconnect(PVOID context, ULONG flags) {
    CONNECTION_LOG *log = context;
    log->DisconnectFlags = flags;
    log->Disconnects++;
    KeSetEvent(&log->Changed, IO_NO_INCREMENT, FALSE);
    return STATUS_SUCCESS;
}

static NTSTATUS WSKAPI OnBacklog(PVOID context, SIZE_T ideal) {
    CONNECTION_LOG *log = context;
    CHECK(ideal > 0);
    log->Backlogs++;
    KeSetEvent(&log->Changed, IO_NO_INCREMENT, FALSE);
    return STATUS_SUCCESS;
}

static const WSK_CLIENT_CONNECTION_DISPATCH Full = {OnReceive, OnDisconnect, OnBacklog};
static const WSK_CLIENT_CONNECTION_DISPATCH OnlyDisconnect = {NULL, OnDisconnect, NULL};

static void AwaitBytes(CONNECTION_LOG *log, SIZE_T count) {
    while (*(volatile SIZE_T *)&log->Count < count) {
        EventAwait(&log->Changed);
    }
}

static void AwaitCount(CONNECTION_LOG *log, LONG *counter, LONG count) {
    while (*(volatile LONG *)counter < count) {
        EventAwait(&log->Changed);
    }
}

typedef struct PAIR {
    TEST_CLIENT Client;
    int PeerListener;
    int Peer;
    PWSK_SOCKET Socket;
} PAIR;

static void PairBegin(PAIR *pair, CONNECTION_LOG *log, const WSK_CLIENT_CONNECTION_DISPATCH *dispatch) {
    ADDRESS bound;
    LogBegin(log);
    ClientBegin(&pair->Client);
    pair->PeerListener = PeerListen("127.0.0.1", &bound);
    pair->Socket = ConnectedMake(&pair->Client, &bound, log, dispatch);
    pair->Peer = PeerAccept(pair->PeerListener);
}

static void PairEnd(PAIR *pair) {
    SocketClose(pair->Socket);
    if (pair->Peer >= 0) {
        PeerClose(pair->Peer);
    }
    PeerClose(pair->PeerListener);
    ClientEnd(&pair->Client);
}

static CONNECTION_LOG Log, Second;

CASE(ReceiveEventGivesTheStream) {
    static UCHAR bytes[100 * 1024];
    PAIR pair;

    PairBegin(&pair, &Log, &Full);
    PeerSend(pair.Peer, "quiet", 5);
    Pause(50);
    CHECK_EQUAL(Log.Receives, 0); /* SOCK-010, CONN-011 */
    CHECK_STATUS(EventsSet(pair.Socket, WSK_EVENT_RECEIVE | WSK_EVENT_DISCONNECT | WSK_EVENT_SEND_BACKLOG), STATUS_SUCCESS); /* EVT-003 */
    AwaitBytes(&Log, 5);
    for (SIZE_T index = 0; index < sizeof(bytes); index++) {
        bytes[index] = PatternByte(9, index);
    }
    for (SIZE_T sent = 0, piece = 1; sent < sizeof(bytes); sent += piece, piece = piece * 3 % 7919 + 1) {
        piece = piece < sizeof(bytes) - sent ? piece : sizeof(bytes) - sent;
        PeerSend(pair.Peer, bytes + sent, piece);
    }
    AwaitBytes(&Log, 5 + sizeof(bytes)); /* CTX-003, DATA-013, EVT-015 */
    CHECK(memcmp(Log.Bytes + 5, bytes, sizeof(bytes)) == 0);
    CHECK_EQUAL(Log.Disconnects, 0);
    PeerFinish(pair.Peer);
    AwaitCount(&Log, &Log.Disconnects, 1);
    CHECK_EQUAL(Log.DisconnectFlags & WSK_FLAG_ABORTIVE, 0); /* DATA-017 */
    AwaitCount(&Log, &Log.Backlogs, 1);
    CHECK_STATUS(SendBytes(pair.Socket, "still", 5, NULL), STATUS_SUCCESS);
    CHECK_EQUAL(PeerReceive(pair.Peer, bytes, 5), 5);
    PairEnd(&pair);
    CHECK_EQUAL(Log.Disconnects, 1);
}

CASE(EventsEnabledOneByOne) {
    PAIR pair;

    PairBegin(&pair, &Log, &Full);
    CHECK_STATUS(EventsSet(pair.Socket, WSK_EVENT_RECEIVE), STATUS_SUCCESS);
    CHECK_STATUS(EventsSet(pair.Socket, WSK_EVENT_DISCONNECT), STATUS_SUCCESS);
    PeerSend(pair.Peer, "both", 4);
    AwaitBytes(&Log, 4); /* EVT-003: the second call adds */
    PeerFinish(pair.Peer);
    AwaitCount(&Log, &Log.Disconnects, 1);
    PairEnd(&pair);
}

CASE(DisconnectEventOnReset) {
    PAIR pair;

    PairBegin(&pair, &Log, &OnlyDisconnect);
    CHECK_STATUS(EventsSet(pair.Socket, WSK_EVENT_DISCONNECT), STATUS_SUCCESS);
    PeerReset(pair.Peer);
    pair.Peer = -1;
    AwaitCount(&Log, &Log.Disconnects, 1);
    CHECK_EQUAL(Log.DisconnectFlags & WSK_FLAG_ABORTIVE, WSK_FLAG_ABORTIVE);
    CHECK(!NT_SUCCESS(SendBytes(pair.Socket, "x", 1, NULL)));
    PairEnd(&pair);
}

CASE(DisconnectEventAfterReset) {
    PAIR pair;
    ULONG_PTR information;
    UCHAR byte;

    PairBegin(&pair, &Log, &OnlyDisconnect);
    PeerReset(pair.Peer);
    pair.Peer = -1;
    CHECK(!NT_SUCCESS(ReceiveBytes(pair.Socket, &byte, 1, 0, &information))); /* the provider knows of it */
    CHECK_STATUS(EventsSet(pair.Socket, WSK_EVENT_DISCONNECT), STATUS_SUCCESS);
    AwaitCount(&Log, &Log.Disconnects, 1); /* EVT-001, as for data and for an end that came before */
    CHECK_EQUAL(Log.DisconnectFlags & WSK_FLAG_ABORTIVE, WSK_FLAG_ABORTIVE);
    PairEnd(&pair);
}

CASE(DisconnectEventWithUnreadData) {
    PAIR pair;

    PairBegin(&pair, &Log, &OnlyDisconnect);
    CHECK(!NT_SUCCESS(EventsSet(pair.Socket, WSK_EVENT_RECEIVE))); /* CTX-005: there is no callback */
    CHECK_STATUS(EventsSet(pair.Socket, WSK_EVENT_DISCONNECT), STATUS_SUCCESS);
    PeerSend(pair.Peer, "unread", 6);
    PeerFinish(pair.Peer);
    AwaitCount(&Log, &Log.Disconnects, 1); /* CTX-006 */
    PairEnd(&pair);
}

static void ZeroReceive(PWSK_SOCKET socket) {
    TEST_BUFFER nothing = {0};
    OPERATION operation = {0};
    CALL(&operation, CONNECTION(socket)->WskReceive(socket, &nothing.Wsk, 0, IRP_OF));
    CHECK_STATUS(OperationEnd(&operation), STATUS_SUCCESS);
}

CASE(PartialAcceptancePauses) {
    PAIR pair;
    UCHAR bytes[100];

    for (SIZE_T index = 0; index < sizeof(bytes); index++) {
        bytes[index] = (UCHAR)index;
    }
    PairBegin(&pair, &Log, &Full);
    Log.AcceptAtMost = 10;
    PeerSend(pair.Peer, bytes, sizeof(bytes));
    CHECK_STATUS(EventsSet(pair.Socket, WSK_EVENT_RECEIVE), STATUS_SUCCESS);
    AwaitBytes(&Log, 10);
    PeerSend(pair.Peer, "more", 4);
    Pause(100);
    CHECK_EQUAL(Log.Count, 10); /* DATA-014 */
    ZeroReceive(pair.Socket);
    AwaitBytes(&Log, 104);
    CHECK(memcmp(Log.Bytes, bytes, 100) == 0 && memcmp(Log.Bytes + 100, "more", 4) == 0);
    PairEnd(&pair);
}

CASE(RefusedDataWaits) {
    PAIR pair;
    ULONG_PTR information;
    UCHAR bytes[10];
    LONG before;

    PairBegin(&pair, &Log, &Full);
    Log.Answer = STATUS_DATA_NOT_ACCEPTED;
    CHECK_STATUS(EventsSet(pair.Socket, WSK_EVENT_RECEIVE), STATUS_SUCCESS);
    PeerSend(pair.Peer, "0123456789", 10);
    AwaitCount(&Log, &Log.Receives, 1);
    PeerSend(pair.Peer, "abc", 3);
    Pause(50);
    CHECK_EQUAL(Log.Receives, 1);
    Log.Answer = STATUS_SUCCESS;
    CHECK_STATUS(ReceiveBytes(pair.Socket, bytes, 4, 0, &information), STATUS_SUCCESS);
    CHECK(information == 4 && memcmp(bytes, "0123", 4) == 0); /* DATA-016: every byte once, in order */
    AwaitBytes(&Log, 9);
    CHECK(memcmp(Log.Bytes, "456789abc", 9) == 0);
    before = Log.Receives;
    Pause(20); /* the callback has returned */
    CHECK_STATUS(EventsSet(pair.Socket, WSK_EVENT_RECEIVE | WSK_EVENT_DISABLE), STATUS_SUCCESS); /* EVT-005 */
    PeerSend(pair.Peer, "silent", 6);
    Pause(50);
    CHECK_EQUAL(Log.Receives, before);
    CHECK_STATUS(EventsSet(pair.Socket, WSK_EVENT_RECEIVE), STATUS_SUCCESS); /* EVT-009 */
    AwaitBytes(&Log, 15);
    PairEnd(&pair);
}

CASE(KeptIndicationsStay) {
    PAIR pair;
    UCHAR bytes[64];

    PairBegin(&pair, &Log, &Full);
    Log.Answer = STATUS_PENDING;
    CHECK_STATUS(EventsSet(pair.Socket, WSK_EVENT_RECEIVE), STATUS_SUCCESS);
    PeerSend(pair.Peer, "first", 5);
    AwaitBytes(&Log, 5);
    PeerSend(pair.Peer, "second", 6);
    AwaitBytes(&Log, 11); /* DATA-015: indications go on */
    Pause(50);
    for (LONG kept = 0; kept < Log.KeptCount; kept++) {
        SIZE_T done = 0;
        for (PWSK_DATA_INDICATION one = Log.Kept[kept]; one != NULL; one = one->Next) {
            done += CopyIndication(&one->Buffer, bytes + done);
        }
        CHECK_EQUAL(done, Log.KeptBytes[kept]);
        CHECK(kept > 0 || bytes[0] == 'f');
        CHECK_STATUS(CONNECTION(pair.Socket)->WskRelease(pair.Socket, Log.Kept[kept]), STATUS_SUCCESS);
    }
    PairEnd(&pair);
}

CASE(QueuedReceiveComesFirst) {
    static UCHAR bytes[4096];
    PAIR pair;
    OPERATION operation = {0};
    TEST_BUFFER buffer;
    SIZE_T byFunction;

    PairBegin(&pair, &Log, &Full);
    CHECK_STATUS(EventsSet(pair.Socket, WSK_EVENT_RECEIVE), STATUS_SUCCESS);
    BufferOf(&buffer, NULL, 100);
    CALL(&operation, CONNECTION(pair.Socket)->WskReceive(pair.Socket, &buffer.Wsk, 0, IRP_OF));
    for (SIZE_T index = 0; index < sizeof(bytes); index++) {
        bytes[index] = PatternByte(1, index);
    }
    PeerSend(pair.Peer, bytes, sizeof(bytes));
    CHECK_STATUS(OperationEnd(&operation), STATUS_SUCCESS);
    byFunction = operation.Information;
    AwaitBytes(&Log, sizeof(bytes) - byFunction);
    CHECK(memcmp(buffer.Memory[0], bytes, byFunction) == 0);
    CHECK(memcmp(Log.Bytes, bytes + byFunction, sizeof(bytes) - byFunction) == 0); /* DATA-016 */
    BufferFree(&buffer);
    PairEnd(&pair);
}

static NTSTATUS DisableWithIrp(PWSK_SOCKET socket, OPERATION *operation, WSK_EVENT_CALLBACK_CONTROL *control) {
    CALL(operation, BASIC(socket)->WskControlSocket(socket, WskSetOption, SO_WSK_EVENT_CALLBACK, SOL_SOCKET, sizeof(*control), control, 0,
                                                    NULL, NULL, IRP_OF));
    return operation->Returned;
}

static void DisableWhileRunning(BOOLEAN withIrp) {
    static const NPIID id = WSKLAB_NPI_WSK_INTERFACE_ID;
    WSK_EVENT_CALLBACK_CONTROL control = {.NpiId = &id, .EventMask = WSK_EVENT_RECEIVE | WSK_EVENT_DISABLE};
    PAIR pair;
    OPERATION operation = {0};
    KEVENT hold;

    KeInitializeEvent(&hold, NotificationEvent, FALSE);
    PairBegin(&pair, &Log, &Full);
    Log.Hold = &hold;
    CHECK_STATUS(EventsSet(pair.Socket, WSK_EVENT_RECEIVE), STATUS_SUCCESS);
    PeerSend(pair.Peer, "x", 1);
    AwaitCount(&Log, &Log.Receives, 1);
    if (withIrp) {
        CHECK_STATUS(DisableWithIrp(pair.Socket, &operation, &control), STATUS_PENDING); /* EVT-006 */
        CHECK(!OperationIsDone(&operation, 50));
    } else {
        CHECK_STATUS(EventsSet(pair.Socket, control.EventMask), STATUS_EVENT_PENDING); /* EVT-007 */
    }
    KeSetEvent(&hold, IO_NO_INCREMENT, FALSE);
    if (withIrp) {
        CHECK_STATUS(OperationEnd(&operation), STATUS_SUCCESS);
        CHECK(operation.Sequence > Log.Leave);
    }
    Pause(50);
    PeerSend(pair.Peer, "y", 1);
    Pause(50);
    CHECK_EQUAL(Log.Receives, 1);
    PairEnd(&pair);
}

CASE(DisableAwaitsCallbackWithIrp) {
    DisableWhileRunning(TRUE);
}

CASE(DisableAwaitsCallbackWithoutIrp) {
    DisableWhileRunning(FALSE);
}

CASE(CloseAwaitsCallback) {
    PAIR pair;
    OPERATION close = {0};
    KEVENT hold;

    KeInitializeEvent(&hold, NotificationEvent, FALSE);
    PairBegin(&pair, &Log, &Full);
    Log.Hold = &hold;
    CHECK_STATUS(EventsSet(pair.Socket, WSK_EVENT_RECEIVE), STATUS_SUCCESS);
    PeerSend(pair.Peer, "x", 1);
    AwaitCount(&Log, &Log.Receives, 1);
    CALL(&close, BASIC(pair.Socket)->WskCloseSocket(pair.Socket, IRP_OF));
    CHECK(!OperationIsDone(&close, 50)); /* CLOSE-004 */
    KeSetEvent(&hold, IO_NO_INCREMENT, FALSE);
    CHECK_STATUS(OperationEnd(&close), STATUS_SUCCESS);
    CHECK(close.Sequence > Log.Leave);
    PeerClose(pair.Peer);
    PeerClose(pair.PeerListener);
    ClientEnd(&pair.Client);
}

CASE(WrongEventMasks) {
    static const NPIID other = {1, 2, 3, {4}};
    static const NPIID copy = WSKLAB_NPI_WSK_INTERFACE_ID;
    static const ULONG masks[] = {0, 1, WSK_EVENT_RECEIVE_FROM, WSK_EVENT_ACCEPT, WSK_EVENT_RECEIVE | WSK_EVENT_DISCONNECT | WSK_EVENT_DISABLE};
    WSK_EVENT_CALLBACK_CONTROL control = {.NpiId = &other, .EventMask = WSK_EVENT_RECEIVE};
    PAIR pair;
    PWSK_SOCKET basic, early;
    OPERATION withIrp = {0};

    PairBegin(&pair, &Log, &Full);
    for (ULONG index = 0; index < RTL_NUMBER_OF(masks); index++) {
        CHECK(!NT_SUCCESS(EventsSet(pair.Socket, masks[index]))); /* EVT-004, EVT-008 */
    }
    CHECK(!NT_SUCCESS(BASIC(pair.Socket)->WskControlSocket(pair.Socket, WskSetOption, SO_WSK_EVENT_CALLBACK, SOL_SOCKET, sizeof(control),
                                                           &control, 0, NULL, NULL, NULL)));
    CHECK(!NT_SUCCESS(BASIC(pair.Socket)->WskControlSocket(pair.Socket, WskSetOption, SO_WSK_EVENT_CALLBACK, SOL_SOCKET, 8, &control, 0,
                                                           NULL, NULL, NULL)));
    basic = SocketMake(&pair.Client, AF_INET, SOCK_STREAM, WSK_FLAG_BASIC_SOCKET, NULL, NULL, NULL);
    CHECK(!NT_SUCCESS(EventsSet(basic, WSK_EVENT_RECEIVE)));
    early = SocketMake(&pair.Client, AF_INET, SOCK_STREAM, WSK_FLAG_CONNECTION_SOCKET, &Log, &Full, NULL);
    CHECK(!NT_SUCCESS(EventsSet(early, WSK_EVENT_RECEIVE))); /* EVT-002 */
    control.NpiId = &copy;
    CHECK_STATUS(DisableWithIrp(pair.Socket, &withIrp, &control), withIrp.Returned); /* EVT-010: enabling, with an IRP */
    CHECK_STATUS(OperationEnd(&withIrp), STATUS_SUCCESS);
    PeerSend(pair.Peer, "x", 1);
    AwaitBytes(&Log, 1);
    SocketClose(basic);
    SocketClose(early);
    PairEnd(&pair);
}

/* ---- Inherited and static events ------------------------------------------------------------------------------------- */

static PWSK_SOCKET AcceptedByEvent;

static NTSTATUS WSKAPI OnAccept(PVOID context, ULONG flags, PSOCKADDR local, PSOCKADDR remote, PWSK_SOCKET socket, PVOID *acceptedContext,
                                const WSK_CLIENT_CONNECTION_DISPATCH **dispatch) {
    (void)flags;
    (void)local;
    (void)remote;
    AcceptedByEvent = socket;
    *acceptedContext = context;
    *dispatch = &Full;
    SpinWhileHeld(context);
    return STATUS_SUCCESS;
}

static const WSK_CLIENT_LISTEN_DISPATCH AcceptOnly = {OnAccept, NULL, NULL};

CASE(InheritedEvents) {
    TEST_CLIENT client;
    ADDRESS bound;
    PWSK_SOCKET listener, second;
    OPERATION accept = {0};
    int peer, other;

    ClientBegin(&client);
    LogBegin(&Log);
    LogBegin(&Second);
    listener = ListenerMake(&client, "127.0.0.1", &Log, &AcceptOnly, &bound);
    CHECK_STATUS(EventsSet(listener, WSK_EVENT_ACCEPT | WSK_EVENT_RECEIVE | WSK_EVENT_DISCONNECT), STATUS_SUCCESS);
    peer = PeerConnect(&bound);
    PeerSend(peer, "inherited", 9);
    AwaitBytes(&Log, 9); /* EVT-011, CTX-008 */
    Pause(20);
    CHECK(!NT_SUCCESS(EventsSet(listener, WSK_EVENT_RECEIVE | WSK_EVENT_DISABLE))); /* EVT-012 */
    CHECK_STATUS(EventsSet(listener, WSK_EVENT_ACCEPT | WSK_EVENT_DISABLE), STATUS_SUCCESS);
    SocketClose(AcceptedByEvent);
    PeerClose(peer);
    CALL(&accept, LISTENER(listener)->WskAccept(listener, 0, &Second, &Full, NULL, NULL, IRP_OF));
    other = PeerConnect(&bound);
    CHECK_STATUS(OperationEnd(&accept), STATUS_SUCCESS);
    second = (PWSK_SOCKET)accept.Information;
    PeerSend(other, "by function", 11);
    Pause(50);
    CHECK_EQUAL(Second.Receives, 0); /* ACC-009 */
    SocketClose(second);
    PeerClose(other);
    CHECK_STATUS(EventsSet(listener, WSK_EVENT_ACCEPT), STATUS_SUCCESS);
    peer = PeerConnect(&bound);
    PeerSend(peer, "again", 5);
    AwaitBytes(&Log, 14); /* EVT-012: survives */
    SocketClose(AcceptedByEvent);
    SocketClose(listener);
    PeerClose(peer);
    ClientEnd(&client);
}

CASE(ResetWhileItIsAccepted) {
    TEST_CLIENT client;
    ADDRESS bound;
    PWSK_SOCKET listener;
    KEVENT hold;
    int peer;

    ClientBegin(&client);
    LogBegin(&Log);
    KeInitializeEvent(&hold, NotificationEvent, FALSE);
    Log.Hold = &hold;
    AcceptedByEvent = NULL;
    listener = ListenerMake(&client, "127.0.0.1", &Log, &AcceptOnly, &bound);
    CHECK_STATUS(EventsSet(listener, WSK_EVENT_ACCEPT | WSK_EVENT_DISCONNECT), STATUS_SUCCESS);
    peer = PeerConnect(&bound);
    while (*(PWSK_SOCKET volatile *)&AcceptedByEvent == NULL) {
        Pause(1);
    }
    PeerReset(peer);
    Pause(50);
    CHECK_EQUAL(Log.Disconnects, 0); /* the socket is not the client's yet */
    KeSetEvent(&hold, IO_NO_INCREMENT, FALSE);
    AwaitCount(&Log, &Log.Disconnects, 1); /* EVT-011, DATA-017 */
    CHECK_EQUAL(Log.DisconnectFlags & WSK_FLAG_ABORTIVE, WSK_FLAG_ABORTIVE);
    SocketClose(AcceptedByEvent);
    SocketClose(listener);
    ClientEnd(&client);
}

CASE(StaticEvents) {
    static const NPIID id = WSKLAB_NPI_WSK_INTERFACE_ID;
    WSK_EVENT_CALLBACK_CONTROL control = {.NpiId = &id, .EventMask = WSK_EVENT_ACCEPT | WSK_EVENT_RECEIVE | WSK_EVENT_RECEIVE_FROM};
    TEST_CLIENT client;
    ADDRESS bound;
    PWSK_SOCKET listener;
    int peer;

    ClientBegin(&client);
    LogBegin(&Log);
    CHECK_STATUS(client.Npi.Dispatch->WskControlClient(client.Npi.Client, WSK_SET_STATIC_EVENT_CALLBACKS, sizeof(control), &control, 0, NULL,
                                                       NULL, NULL),
                 STATUS_SUCCESS); /* CTL-005 */
    listener = ListenerMake(&client, "127.0.0.1", &Log, &AcceptOnly, &bound);
    peer = PeerConnect(&bound);
    PeerSend(peer, "static", 6);
    AwaitBytes(&Log, 6); /* EVT-013 */
    CHECK(!NT_SUCCESS(EventsSet(AcceptedByEvent, WSK_EVENT_RECEIVE | WSK_EVENT_DISABLE))); /* EVT-014 */
    CHECK(!NT_SUCCESS(EventsSet(listener, WSK_EVENT_ACCEPT)));
    PeerSend(peer, "!", 1);
    AwaitBytes(&Log, 7);
    CHECK(!NT_SUCCESS(client.Npi.Dispatch->WskControlClient(client.Npi.Client, WSK_SET_STATIC_EVENT_CALLBACKS, sizeof(control), &control, 0,
                                                            NULL, NULL, NULL))); /* CTL-006 */
    SocketClose(AcceptedByEvent);
    SocketClose(listener);
    PeerClose(peer);
    ClientEnd(&client);
}
