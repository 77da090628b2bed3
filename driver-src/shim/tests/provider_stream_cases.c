/*
 * provider_stream_cases.c: data over connections, disconnecting, closing (rules DATA, DISC, CLOSE).
 */
#include "provider_client.h"

#include <errno.h>

typedef struct PAIR {
    TEST_CLIENT Client;
    PWSK_SOCKET Listener;
    PWSK_SOCKET Socket; /* accepted */
    int Peer;
} PAIR;

static void PairBegin(PAIR *pair, const char *address) {
    ADDRESS bound;
    ClientBegin(&pair->Client);
    pair->Listener = ListenerMake(&pair->Client, address, NULL, NULL, &bound);
    CHECK(PortOf(&bound) != 0);
    pair->Peer = PeerConnect(&bound);
    CHECK(pair->Peer >= 0);
    pair->Socket = AcceptOne(pair->Listener, NULL, NULL);
}

static void PairEnd(PAIR *pair) {
    if (pair->Socket != NULL) {
        CHECK_STATUS(SocketClose(pair->Socket), STATUS_SUCCESS);
    }
    CHECK_STATUS(SocketClose(pair->Listener), STATUS_SUCCESS);
    if (pair->Peer >= 0) {
        PeerClose(pair->Peer);
    }
    ClientEnd(&pair->Client);
}

static void Echo(const char *address) {
    PAIR pair;
    ULONG_PTR information;
    UCHAR bytes[64];

    PairBegin(&pair, address);
    PeerSend(pair.Peer, "hello", 5);
    CHECK_STATUS(ReceiveBytes(pair.Socket, bytes, sizeof(bytes), 0, &information), STATUS_SUCCESS);
    CHECK_EQUAL(information, 5);
    CHECK(memcmp(bytes, "hello", 5) == 0);
    CHECK_STATUS(SendBytes(pair.Socket, "world!", 6, &information), STATUS_SUCCESS);
    CHECK_EQUAL(information, 6);
    CHECK_EQUAL(PeerReceive(pair.Peer, bytes, 6), 6);
    CHECK(memcmp(bytes, "world!", 6) == 0);
    PeerFinish(pair.Peer);
    CHECK_STATUS(ReceiveBytes(pair.Socket, bytes, sizeof(bytes), 0, &information), STATUS_SUCCESS);
    CHECK_EQUAL(information, 0); /* DATA-004 */
    CHECK_STATUS(SendBytes(pair.Socket, "after", 5, NULL), STATUS_SUCCESS); /* DISC-008 */
    CHECK_STATUS(Disconnect(pair.Socket, 0), STATUS_SUCCESS);
    CHECK_EQUAL(PeerReceive(pair.Peer, bytes, 6), 5);
    CHECK_STATUS(SocketClose(pair.Socket), STATUS_SUCCESS);
    pair.Socket = NULL;
    CHECK_EQUAL(PeerReceive(pair.Peer, bytes, 1), 0); /* CLOSE-003: no reset */
    PairEnd(&pair);
}

CASE(EchoIpv4) {
    Echo("127.0.0.1");
}

CASE(EchoIpv6) {
    Echo("::1");
}

CASE(SendSizes) {
    static const ULONG sizes[] = {1, 1460, 65536, 1048576};
    static UCHAR bytes[1048576], got[1048576];
    PAIR pair;

    PairBegin(&pair, "127.0.0.1");
    for (ULONG index = 0; index < RTL_NUMBER_OF(sizes); index++) {
        OPERATION operation = {0};
        TEST_BUFFER buffer;
        for (ULONG place = 0; place < sizes[index]; place++) {
            bytes[place] = PatternByte(index, place);
        }
        BufferOf(&buffer, bytes, sizes[index]);
        CALL(&operation, CONNECTION(pair.Socket)->WskSend(pair.Socket, &buffer.Wsk, WSK_FLAG_NODELAY, IRP_OF));
        memset(&buffer.Wsk.Length, 0xFF, sizeof(buffer.Wsk.Length)); /* DATA-010 */
        CHECK_EQUAL(PeerReceive(pair.Peer, got, sizes[index]), sizes[index]);
        CHECK(memcmp(bytes, got, sizes[index]) == 0);
        CHECK_STATUS(OperationEnd(&operation), STATUS_SUCCESS);
        CHECK_EQUAL(operation.Information, sizes[index]); /* DATA-001 */
        BufferFree(&buffer);
    }
    PairEnd(&pair);
}

CASE(ChainsWithOffset) {
    static const ULONG sizes[] = {100, 1, 300, 0};
    PAIR pair;
    TEST_BUFFER out, in;
    OPERATION send = {0}, receive = {0};
    UCHAR bytes[394];

    PairBegin(&pair, "127.0.0.1");
    BufferMake(&out, 7, sizes);
    for (ULONG index = 0; index < 401; index++) {
        BufferPut(&out, index, PatternByte(3, index));
    }
    CALL(&send, CONNECTION(pair.Socket)->WskSend(pair.Socket, &out.Wsk, 0, IRP_OF));
    CHECK_STATUS(OperationEnd(&send), STATUS_SUCCESS);
    CHECK_EQUAL(PeerReceive(pair.Peer, bytes, 394), 394);
    for (ULONG index = 0; index < 394; index++) {
        CHECK_EQUAL(bytes[index], PatternByte(3, index + 7));
    }
    PeerSend(pair.Peer, bytes, 394);
    BufferMake(&in, 7, sizes);
    in.Wsk.Length = 390;
    CALL(&receive, CONNECTION(pair.Socket)->WskReceive(pair.Socket, &in.Wsk, WSK_FLAG_WAITALL, IRP_OF));
    CHECK_STATUS(OperationEnd(&receive), STATUS_SUCCESS);
    CHECK_EQUAL(receive.Information, 390);
    for (ULONG index = 0; index < 401; index++) {
        CHECK_EQUAL(BufferByte(&in, index), index < 7 || index >= 397 ? 0xCC : PatternByte(3, index)); /* DATA-009 */
    }
    BufferFree(&out);
    BufferFree(&in);
    PairEnd(&pair);
}

CASE(ReceiveFlags) {
    PAIR pair;
    OPERATION all = {0}, drain = {0};
    TEST_BUFFER buffer, nothing;
    ULONG_PTR information;
    UCHAR bytes[100] = {0};

    PairBegin(&pair, "127.0.0.1");
    BufferOf(&buffer, NULL, 100);
    CALL(&all, CONNECTION(pair.Socket)->WskReceive(pair.Socket, &buffer.Wsk, WSK_FLAG_WAITALL, IRP_OF));
    PeerSend(pair.Peer, bytes, 40);
    CHECK(!OperationIsDone(&all, 100)); /* DATA-006 */
    PeerSend(pair.Peer, bytes, 60);
    CHECK_STATUS(OperationEnd(&all), STATUS_SUCCESS);
    CHECK_EQUAL(all.Information, 100);
    CHECK(!NT_SUCCESS(ReceiveBytes(pair.Socket, bytes, 100, 0x80, &information)));
    CHECK(!NT_SUCCESS(ReceiveBytes(pair.Socket, bytes, 100, WSK_FLAG_DRAIN, &information)));
    RtlZeroMemory(&nothing, sizeof(nothing));
    CALL(&drain, CONNECTION(pair.Socket)->WskReceive(pair.Socket, &nothing.Wsk, WSK_FLAG_DRAIN, IRP_OF));
    PeerSend(pair.Peer, bytes, 100);
    CHECK(!OperationIsDone(&drain, 50)); /* DATA-007 */
    PeerFinish(pair.Peer);
    CHECK_STATUS(OperationEnd(&drain), STATUS_SUCCESS);
    CHECK_EQUAL(drain.Information, 0);
    BufferFree(&buffer);
    PairEnd(&pair);
}

CASE(WaitAllEndsWithTheStream) {
    PAIR pair;
    ULONG_PTR information;
    UCHAR bytes[100];
    OPERATION all = {0}, cancelled = {0};
    TEST_BUFFER buffer;

    PairBegin(&pair, "127.0.0.1");
    BufferOf(&buffer, NULL, 100);
    CALL(&cancelled, CONNECTION(pair.Socket)->WskReceive(pair.Socket, &buffer.Wsk, WSK_FLAG_WAITALL, IRP_OF));
    PeerSend(pair.Peer, "0123456789", 10);
    CHECK(!OperationIsDone(&cancelled, 50));
    CHECK(IoCancelIrp(cancelled.Irp));
    CHECK_STATUS(OperationEnd(&cancelled), STATUS_CANCELLED);
    CALL(&all, CONNECTION(pair.Socket)->WskReceive(pair.Socket, &buffer.Wsk, WSK_FLAG_WAITALL, IRP_OF));
    PeerSend(pair.Peer, "abc", 3);
    PeerFinish(pair.Peer);
    CHECK_STATUS(OperationEnd(&all), STATUS_SUCCESS);
    CHECK_EQUAL(all.Information, 13); /* IRP-013: what the cancelled one had seen is not lost */
    CHECK(memcmp(buffer.Memory[0], "0123456789abc", 13) == 0);
    CHECK_STATUS(ReceiveBytes(pair.Socket, bytes, 1, 0, &information), STATUS_SUCCESS);
    CHECK_EQUAL(information, 0);
    BufferFree(&buffer);
    PairEnd(&pair);
}

CASE(ZeroLengthReceive) {
    PAIR pair;
    TEST_BUFFER nothing;
    OPERATION operation = {0};

    PairBegin(&pair, "127.0.0.1");
    RtlZeroMemory(&nothing, sizeof(nothing));
    CALL(&operation, CONNECTION(pair.Socket)->WskReceive(pair.Socket, &nothing.Wsk, 0, IRP_OF));
    CHECK_STATUS(OperationEnd(&operation), STATUS_SUCCESS); /* DATA-008 */
    CHECK_EQUAL(operation.Information, 0);
    PairEnd(&pair);
}

CASE(QueuedInOrder) {
    enum { COUNT = 16, BLOCK = 1000 };
    static UCHAR bytes[COUNT * BLOCK];
    PAIR pair;
    OPERATION sends[COUNT] = {0}, receives[8] = {0};
    TEST_BUFFER out[COUNT], in[8];

    PairBegin(&pair, "127.0.0.1");
    for (ULONG index = 0; index < 8; index++) {
        BufferOf(&in[index], NULL, 10);
        CALL(&receives[index], CONNECTION(pair.Socket)->WskReceive(pair.Socket, &in[index].Wsk, WSK_FLAG_WAITALL, IRP_OF));
    }
    for (ULONG index = 0; index < COUNT; index++) {
        BufferOf(&out[index], NULL, BLOCK);
        memset(out[index].Memory[0], (int)index, BLOCK);
        CALL(&sends[index], CONNECTION(pair.Socket)->WskSend(pair.Socket, &out[index].Wsk, 0, IRP_OF));
    }
    CHECK_EQUAL(PeerReceive(pair.Peer, bytes, sizeof(bytes)), sizeof(bytes));
    for (ULONG index = 0; index < COUNT; index++) {
        CHECK_STATUS(OperationEnd(&sends[index]), STATUS_SUCCESS);
        CHECK(bytes[index * BLOCK] == index && bytes[index * BLOCK + BLOCK - 1] == index); /* DATA-011 */
        BufferFree(&out[index]);
    }
    for (ULONG index = 0; index < 80; index++) {
        bytes[index] = (UCHAR)index;
    }
    PeerSend(pair.Peer, bytes, 80);
    for (ULONG index = 0; index < 8; index++) {
        CHECK_STATUS(OperationEnd(&receives[index]), STATUS_SUCCESS);
        CHECK_EQUAL(in[index].Memory[0][0], index * 10);
        CHECK(index == 0 || receives[index - 1].Sequence < receives[index].Sequence);
        BufferFree(&in[index]);
    }
    PairEnd(&pair);
}

CASE(ResetByPeer) {
    PAIR pair;
    OPERATION operation = {0};
    TEST_BUFFER buffer;
    ULONG_PTR information;
    UCHAR byte;

    PairBegin(&pair, "127.0.0.1");
    BufferOf(&buffer, NULL, 10);
    CALL(&operation, CONNECTION(pair.Socket)->WskReceive(pair.Socket, &buffer.Wsk, 0, IRP_OF));
    PeerReset(pair.Peer);
    pair.Peer = -1;
    CHECK_STATUS(OperationEnd(&operation), STATUS_CONNECTION_RESET); /* DATA-005 */
    CHECK_STATUS(ReceiveBytes(pair.Socket, &byte, 1, 0, &information), STATUS_CONNECTION_RESET);
    CHECK(!NT_SUCCESS(SendBytes(pair.Socket, "x", 1, NULL)));
    BufferFree(&buffer);
    PairEnd(&pair);
}

static void Big(TEST_BUFFER *buffer) {
    const ULONG sizes[] = {16u << 20, 0};
    BufferMake(buffer, 0, sizes);
}

CASE(SendWaitsForTheTransport) {
    static UCHAR got[1u << 20];
    PAIR pair;
    OPERATION operation = {0};
    TEST_BUFFER buffer;

    PairBegin(&pair, "127.0.0.1");
    Big(&buffer);
    CALL(&operation, CONNECTION(pair.Socket)->WskSend(pair.Socket, &buffer.Wsk, 0, IRP_OF));
    CHECK_STATUS(operation.Returned, STATUS_PENDING);
    CHECK(!OperationIsDone(&operation, 200)); /* DATA-003 */
    for (ULONG round = 0; round < 16; round++) {
        CHECK_EQUAL(PeerReceive(pair.Peer, got, sizeof(got)), sizeof(got));
    }
    CHECK_STATUS(OperationEnd(&operation), STATUS_SUCCESS);
    CHECK_EQUAL(operation.Information, 16u << 20);
    BufferFree(&buffer);
    PairEnd(&pair);
}

CASE(GracefulDisconnectWithData) {
    static const ULONG sizes[] = {1000, 3010, 0};
    static UCHAR bytes[102400], got[102400 + 4000];
    PAIR pair;
    TEST_BUFFER last;
    OPERATION operation = {0};
    ULONG_PTR information;

    PairBegin(&pair, "127.0.0.1");
    CHECK_STATUS(SendBytes(pair.Socket, bytes, sizeof(bytes), NULL), STATUS_SUCCESS);
    BufferMake(&last, 10, sizes);
    CALL(&operation, CONNECTION(pair.Socket)->WskDisconnect(pair.Socket, &last.Wsk, 0, IRP_OF));
    CHECK_EQUAL(PeerReceive(pair.Peer, got, sizeof(got)), sizeof(got)); /* DISC-001, DISC-002 */
    CHECK_EQUAL(got[102400], 0xCC);
    CHECK_EQUAL(PeerReceive(pair.Peer, got, 1), 0);
    CHECK_STATUS(OperationEnd(&operation), STATUS_SUCCESS);
    CHECK_STATUS(SendBytes(pair.Socket, "x", 1, NULL), STATUS_CONNECTION_DISCONNECTED); /* DISC-003 */
    PeerSend(pair.Peer, "0123456789", 10);
    CHECK_STATUS(ReceiveBytes(pair.Socket, got, 100, 0, &information), STATUS_SUCCESS);
    CHECK_EQUAL(information, 10);
    PeerFinish(pair.Peer);
    CHECK_STATUS(ReceiveBytes(pair.Socket, got, 100, 0, &information), STATUS_SUCCESS);
    CHECK_EQUAL(information, 0);
    CHECK(!NT_SUCCESS(Disconnect(pair.Socket, 0))); /* DISC-007 */
    BufferFree(&last);
    PairEnd(&pair);
}

CASE(AbortiveDisconnect) {
    PAIR pair;
    OPERATION send = {0}, both = {0};
    TEST_BUFFER buffer, small;
    ULONG_PTR information;
    UCHAR byte;
    static UCHAR got[1u << 20];
    ssize_t result;

    PairBegin(&pair, "127.0.0.1");
    BufferOf(&small, "x", 1);
    CALL(&both, CONNECTION(pair.Socket)->WskDisconnect(pair.Socket, &small.Wsk, WSK_FLAG_ABORTIVE, IRP_OF));
    CHECK(!NT_SUCCESS(OperationEnd(&both))); /* DISC-005 */
    BufferFree(&small);
    Big(&buffer);
    CALL(&send, CONNECTION(pair.Socket)->WskSend(pair.Socket, &buffer.Wsk, 0, IRP_OF));
    CHECK(!OperationIsDone(&send, 50));
    CHECK_STATUS(Disconnect(pair.Socket, WSK_FLAG_ABORTIVE), STATUS_SUCCESS); /* DISC-004 */
    CHECK(!NT_SUCCESS(OperationEnd(&send)));
    BufferFree(&buffer);
    CHECK(!NT_SUCCESS(SendBytes(pair.Socket, "x", 1, NULL)));
    CHECK(!NT_SUCCESS(ReceiveBytes(pair.Socket, &byte, 1, 0, &information)));
    do {
        result = PeerReceive(pair.Peer, got, sizeof(got));
    } while (result > 0);
    CHECK_EQUAL(result, -ECONNRESET);
    PairEnd(&pair);
}

static void StuckDisconnect(BOOLEAN byClose) {
    PAIR pair;
    OPERATION send = {0}, graceful = {0};
    TEST_BUFFER buffer;

    PairBegin(&pair, "127.0.0.1");
    Big(&buffer);
    CALL(&send, CONNECTION(pair.Socket)->WskSend(pair.Socket, &buffer.Wsk, 0, IRP_OF));
    CALL(&graceful, CONNECTION(pair.Socket)->WskDisconnect(pair.Socket, NULL, 0, IRP_OF));
    CHECK(!OperationIsDone(&graceful, 200)); /* DISC-006 */
    if (byClose) {
        CHECK_STATUS(SocketClose(pair.Socket), STATUS_SUCCESS);
        pair.Socket = NULL;
    } else {
        CHECK_STATUS(Disconnect(pair.Socket, WSK_FLAG_ABORTIVE), STATUS_SUCCESS);
    }
    CHECK(!NT_SUCCESS(OperationEnd(&send)));
    CHECK(!NT_SUCCESS(OperationEnd(&graceful)));
    BufferFree(&buffer);
    PairEnd(&pair);
}

CASE(StuckDisconnectIsAborted) {
    StuckDisconnect(FALSE);
}

CASE(StuckDisconnectIsClosed) {
    StuckDisconnect(TRUE);
}

CASE(DisconnectAwaitsAcknowledgement) {
    static UCHAR bytes[16 * 1024], got[16 * 1024];
    TEST_CLIENT client;
    ADDRESS bound;
    OPERATION graceful = {0};
    PWSK_SOCKET socket;
    int listener = PeerListenSmall("127.0.0.1", &bound), peer;

    ClientBegin(&client);
    socket = ConnectedMake(&client, &bound, NULL, NULL);
    peer = PeerAccept(listener);
    CHECK_STATUS(SendBytes(socket, bytes, sizeof(bytes), NULL), STATUS_SUCCESS); /* the host took it, the peer did not */
    CALL(&graceful, CONNECTION(socket)->WskDisconnect(socket, NULL, 0, IRP_OF));
    CHECK(!OperationIsDone(&graceful, 200)); /* DISC-006 */
    CHECK_EQUAL(PeerReceive(peer, got, sizeof(got)), sizeof(got));
    CHECK_STATUS(OperationEnd(&graceful), STATUS_SUCCESS);
    SocketClose(socket);
    PeerClose(peer);
    PeerClose(listener);
    ClientEnd(&client);
}

CASE(CloseResetsAndCancels) {
    enum { COUNT = 4 };
    PAIR pair;
    OPERATION receives[COUNT] = {0}, close = {0};
    TEST_BUFFER buffers[COUNT];
    UCHAR byte;

    PairBegin(&pair, "127.0.0.1");
    for (ULONG index = 0; index < COUNT; index++) {
        BufferOf(&buffers[index], NULL, 10);
        CALL(&receives[index], CONNECTION(pair.Socket)->WskReceive(pair.Socket, &buffers[index].Wsk, 0, IRP_OF));
    }
    CALL(&close, BASIC(pair.Socket)->WskCloseSocket(pair.Socket, IRP_OF));
    for (ULONG index = 0; index < COUNT; index++) {
        CHECK_STATUS(OperationEnd(&receives[index]), STATUS_CANCELLED); /* CLOSE-002 */
        BufferFree(&buffers[index]);
    }
    CHECK_STATUS(OperationEnd(&close), STATUS_SUCCESS);
    for (ULONG index = 0; index < COUNT; index++) {
        CHECK(receives[index].Sequence < close.Sequence);
    }
    pair.Socket = NULL;
    CHECK_EQUAL(PeerReceive(pair.Peer, &byte, 1), -ECONNRESET); /* CLOSE-003 */
    PairEnd(&pair);
}

typedef struct HOLDER {
    OPERATION Receive;
    KEVENT Inside, Leave;
} HOLDER;

static void StayInside(OPERATION *operation, void *context) {
    HOLDER *holder = context;
    (void)operation;
    KeSetEvent(&holder->Inside, IO_NO_INCREMENT, FALSE);
    while (KeReadStateEvent(&holder->Leave) == 0) {
        KeStallExecutionProcessor(50);
    }
}

static void CancelIt(void *context) {
    IoCancelIrp(((HOLDER *)context)->Receive.Irp);
}

CASE(CloseAwaitsCompletionRoutines) {
    PAIR pair;
    HOLDER holder = {.Receive.Then = StayInside, .Receive.Context = &holder};
    OPERATION close = {0};
    TEST_BUFFER buffer;
    SHIM_THREAD *thread;

    PairBegin(&pair, "127.0.0.1");
    KeInitializeEvent(&holder.Inside, NotificationEvent, FALSE);
    KeInitializeEvent(&holder.Leave, NotificationEvent, FALSE);
    BufferOf(&buffer, NULL, 10);
    CALL(&holder.Receive, CONNECTION(pair.Socket)->WskReceive(pair.Socket, &buffer.Wsk, 0, IRP_OF));
    thread = ShimThreadStart("canceller", CancelIt, &holder);
    EventAwait(&holder.Inside); /* the routine runs in the canceller's thread, or in one of WSK's */
    CALL(&close, BASIC(pair.Socket)->WskCloseSocket(pair.Socket, IRP_OF));
    CHECK(!OperationIsDone(&close, 50)); /* CLOSE-002: completed is when the routine has returned */
    KeSetEvent(&holder.Leave, IO_NO_INCREMENT, FALSE);
    CHECK_STATUS(OperationEnd(&holder.Receive), STATUS_CANCELLED);
    CHECK_STATUS(OperationEnd(&close), STATUS_SUCCESS);
    ShimThreadJoin(thread);
    pair.Socket = NULL;
    BufferFree(&buffer);
    PairEnd(&pair);
}

static void CloseIt(OPERATION *operation, void *context) {
    OPERATION *close = context;
    (void)operation;
    close->Returned = BASIC((PWSK_SOCKET)close->Context)->WskCloseSocket(close->Context, close->Irp);
}

CASE(CloseFromCompletion) {
    PAIR pair;
    OPERATION receive = {0}, close = {0};
    TEST_BUFFER buffer;

    PairBegin(&pair, "127.0.0.1");
    BufferOf(&buffer, NULL, 10);
    OperationStart(&close);
    close.Context = pair.Socket;
    receive.Then = CloseIt;
    receive.Context = &close;
    CALL(&receive, CONNECTION(pair.Socket)->WskReceive(pair.Socket, &buffer.Wsk, 0, IRP_OF));
    PeerFinish(pair.Peer);
    CHECK_STATUS(OperationEnd(&receive), STATUS_SUCCESS);
    CHECK_STATUS(OperationEnd(&close), STATUS_SUCCESS); /* CLOSE-005 */
    pair.Socket = NULL;
    BufferFree(&buffer);
    PairEnd(&pair);
}

CASE(CancelledReceiveLosesNothing) {
    PAIR pair;
    OPERATION receive = {0};
    TEST_BUFFER buffer;
    ULONG_PTR information;
    UCHAR bytes[10];

    PairBegin(&pair, "127.0.0.1");
    for (ULONG round = 0; round < 20; round++) {
        BufferOf(&buffer, NULL, 10);
        CALL(&receive, CONNECTION(pair.Socket)->WskReceive(pair.Socket, &buffer.Wsk, 0, IRP_OF));
        IoCancelIrp(receive.Irp);
        CHECK_STATUS(OperationEnd(&receive), STATUS_CANCELLED); /* IRP-013 */
        BufferFree(&buffer);
    }
    PeerSend(pair.Peer, "0123456789", 10);
    CHECK_STATUS(ReceiveBytes(pair.Socket, bytes, 10, WSK_FLAG_WAITALL, &information), STATUS_SUCCESS);
    CHECK(memcmp(bytes, "0123456789", 10) == 0);
    PairEnd(&pair);
}
