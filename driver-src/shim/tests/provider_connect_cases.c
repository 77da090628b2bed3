/*
 * provider_connect_cases.c: connecting in all ways, and stream sockets (rules CONN, CAT-010, ACC-012).
 */
#include "provider_client.h"

CASE(ConnectNeedsBind) {
    TEST_CLIENT client;
    ADDRESS to = AddressOf("127.0.0.1", 9);
    OPERATION operation = {0};
    PWSK_SOCKET socket;

    ClientBegin(&client);
    socket = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_CONNECTION_SOCKET, NULL, NULL, NULL);
    CALL(&operation, CONNECTION(socket)->WskConnect(socket, &to.Any, 0, IRP_OF));
    CHECK_STATUS(OperationEnd(&operation), STATUS_INVALID_DEVICE_STATE); /* CONN-002 */
    CHECK_STATUS(SendBytes(socket, "x", 1, NULL), STATUS_INVALID_DEVICE_STATE); /* DATA-012 */
    CHECK_STATUS(Disconnect(socket, 0), STATUS_INVALID_DEVICE_STATE);            /* DISC-007 */
    SocketClose(socket);
    ClientEnd(&client);
}

CASE(RefusedThenAccepted) {
    TEST_CLIENT client;
    ADDRESS any = AddressOf("127.0.0.1", 0), closed, bound, before, after;
    PWSK_SOCKET socket;
    int nobody = PeerRefuses("127.0.0.1", &closed), listener;

    ClientBegin(&client);
    socket = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_CONNECTION_SOCKET, NULL, NULL, NULL);
    CHECK_STATUS(SocketBind(socket, &any), STATUS_SUCCESS);
    CHECK_STATUS(SocketLocal(socket, &before, WSK_FLAG_CONNECTION_SOCKET), STATUS_SUCCESS);
    CHECK_STATUS(SocketConnectTo(socket, &closed), STATUS_CONNECTION_REFUSED); /* CONN-003 */
    listener = PeerListen("127.0.0.1", &bound);
    CHECK_STATUS(SocketConnectTo(socket, &bound), STATUS_SUCCESS);
    CHECK_STATUS(SocketLocal(socket, &after, WSK_FLAG_CONNECTION_SOCKET), STATUS_SUCCESS);
    CHECK_EQUAL(PortOf(&before), PortOf(&after));
    CHECK(!NT_SUCCESS(SocketConnectTo(socket, &bound))); /* CONN-005 */
    SocketClose(socket);
    PeerClose(listener);
    PeerClose(nobody);
    ClientEnd(&client);
}

CASE(RemoteAddress) {
    TEST_CLIENT client;
    ADDRESS bound, remote;
    OPERATION early = {0}, late = {0};
    PWSK_SOCKET fresh, socket;
    int listener = PeerListen("127.0.0.1", &bound);

    ClientBegin(&client);
    fresh = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_CONNECTION_SOCKET, NULL, NULL, NULL);
    CALL(&early, CONNECTION(fresh)->WskGetRemoteAddress(fresh, &remote.Any, IRP_OF));
    CHECK_STATUS(OperationEnd(&early), STATUS_INVALID_DEVICE_STATE); /* CONN-004 */
    socket = ConnectedMake(&client, &bound, NULL, NULL);
    CALL(&late, CONNECTION(socket)->WskGetRemoteAddress(socket, &remote.Any, IRP_OF));
    CHECK_STATUS(OperationEnd(&late), STATUS_SUCCESS);
    CHECK(memcmp(&remote, &bound, 16) == 0);
    SocketClose(fresh);
    SocketClose(socket);
    PeerClose(listener);
    ClientEnd(&client);
}

static NTSTATUS SocketConnect(TEST_CLIENT *client, const ADDRESS *local, const ADDRESS *remote, PWSK_SOCKET *socket) {
    OPERATION operation = {0};
    ADDRESS from = *local, to = *remote;

    CALL(&operation, client->Npi.Dispatch->WskSocketConnect(client->Npi.Client, SOCK_STREAM, IPPROTO_TCP, &from.Any, &to.Any, 0, NULL, NULL,
                                                            NULL, NULL, NULL, IRP_OF));
    OperationEnd(&operation);
    *socket = (PWSK_SOCKET)operation.Information;
    return operation.Status;
}

CASE(SocketConnectInOneCall) {
    static const char *const texts[] = {"127.0.0.1", "::1"};
    TEST_CLIENT client;

    ClientBegin(&client);
    for (ULONG index = 0; index < RTL_NUMBER_OF(texts); index++) {
        ADDRESS bound, local = AddressOf(texts[index], 0), mixed = AddressOf(texts[1 - index], 0);
        int listener = PeerListen(texts[index], &bound), peer;
        PWSK_SOCKET socket;
        UCHAR byte;
        CHECK_STATUS(SocketConnect(&client, &local, &bound, &socket), STATUS_SUCCESS); /* CONN-008 */
        peer = PeerAccept(listener);
        CHECK_STATUS(SendBytes(socket, "x", 1, NULL), STATUS_SUCCESS);
        CHECK_EQUAL(PeerReceive(peer, &byte, 1), 1);
        CHECK_STATUS(SocketClose(socket), STATUS_SUCCESS);
        CHECK(!NT_SUCCESS(SocketConnect(&client, &mixed, &bound, &socket))); /* CONN-009 */
        PeerClose(peer);
        PeerClose(listener);
    }
    ClientEnd(&client);
}

CASE(SocketConnectFailsWhole) {
    TEST_CLIENT client;
    ADDRESS closed, used, local = AddressOf("127.0.0.1", 0), foreign = AddressOf("192.0.2.1", 0);
    PWSK_SOCKET socket, listener;
    int nobody = PeerRefuses("127.0.0.1", &closed);

    ClientBegin(&client);
    CHECK_STATUS(SocketConnect(&client, &local, &closed, &socket), STATUS_CONNECTION_REFUSED); /* CONN-010 */
    listener = ListenerMake(&client, "127.0.0.1", NULL, NULL, &used);
    CHECK_STATUS(SocketConnect(&client, &used, &closed, &socket), STATUS_ADDRESS_ALREADY_EXISTS);
    CHECK(!NT_SUCCESS(SocketConnect(&client, &foreign, &closed, &socket)));
    SocketClose(listener);
    PeerClose(nobody);
    ClientEnd(&client); /* returns: no socket is left */
}

static NTSTATUS ConnectEx(TEST_CLIENT *client, const ADDRESS *to, ULONG size, ULONG flags, PWSK_SOCKET *socket) {
    ADDRESS any = AddressOf("127.0.0.1", 0), copy = *to;
    OPERATION operation = {0};
    TEST_BUFFER buffer;

    *socket = SocketMake(client, AF_INET, SOCK_STREAM, WSK_FLAG_CONNECTION_SOCKET, NULL, NULL, NULL);
    CHECK_STATUS(SocketBind(*socket, &any), STATUS_SUCCESS);
    BufferOf(&buffer, NULL, size == 0 ? 1 : size);
    for (ULONG index = 0; index < size; index++) {
        BufferPut(&buffer, index, PatternByte(7, index));
    }
    CALL(&operation, CONNECTION(*socket)->WskConnectEx(*socket, &copy.Any, size == 0 ? NULL : &buffer.Wsk, flags, IRP_OF));
    OperationEnd(&operation);
    memset(buffer.Memory[0], 0xEE, buffer.Size[0]); /* CONN-013: ours again */
    BufferFree(&buffer);
    return operation.Status;
}

CASE(ConnectExWithData) {
    static const ULONG sizes[] = {0, 1, 1460, 65535};
    static UCHAR bytes[65535];
    TEST_CLIENT client;
    ADDRESS bound;
    PWSK_SOCKET socket;
    int listener = PeerListen("127.0.0.1", &bound);

    ClientBegin(&client);
    for (ULONG index = 0; index < RTL_NUMBER_OF(sizes); index++) {
        int peer;
        CHECK_STATUS(ConnectEx(&client, &bound, sizes[index], 0, &socket), STATUS_SUCCESS);
        peer = PeerAccept(listener);
        CHECK_EQUAL(PeerReceive(peer, bytes, sizes[index]), sizes[index]);
        for (ULONG place = 0; place < sizes[index]; place++) {
            CHECK_EQUAL(bytes[place], PatternByte(7, place));
        }
        SocketClose(socket);
        PeerClose(peer);
    }
    CHECK_STATUS(ConnectEx(&client, &bound, 1, 1, &socket), STATUS_INVALID_PARAMETER); /* CONN-012 */
    SocketClose(socket);
    CHECK_STATUS(ConnectEx(&client, &bound, 65536, 0, &socket), STATUS_BUFFER_OVERFLOW);
    SocketClose(socket);
    PeerClose(listener);
    ClientEnd(&client);
}

CASE(CloseEndsConnect) {
    TEST_CLIENT client;
    ADDRESS any = AddressOf("0.0.0.0", 0), hole = AddressOf("127.0.0.1", 0);
    OPERATION connect = {0}, close = {0};
    PWSK_SOCKET listener, socket;

    /* A listener of nobody's: bound, not listening, so that connects to it are refused; a pending one needs a black hole,
     * which a host without routes does not have. What pends here is the completion, by the order that a schedule draws. */
    ClientBegin(&client);
    listener = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_CONNECTION_SOCKET, NULL, NULL, NULL);
    CHECK_STATUS(SocketBind(listener, &hole), STATUS_SUCCESS);
    CHECK_STATUS(SocketLocal(listener, &hole, WSK_FLAG_CONNECTION_SOCKET), STATUS_SUCCESS);
    socket = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_CONNECTION_SOCKET, NULL, NULL, NULL);
    CHECK_STATUS(SocketBind(socket, &any), STATUS_SUCCESS);
    CALL(&connect, CONNECTION(socket)->WskConnect(socket, &hole.Any, 0, IRP_OF));
    CALL(&close, CONNECTION(socket)->Basic.WskCloseSocket(socket, IRP_OF));
    CHECK(!NT_SUCCESS(OperationEnd(&connect)));
    CHECK_STATUS(OperationEnd(&close), STATUS_SUCCESS);
    CHECK(connect.Sequence < close.Sequence); /* CLOSE-002 */
    SocketClose(listener);
    ClientEnd(&client);
}

/* ---- Stream sockets -------------------------------------------------------------------------------------------------- */

static PWSK_SOCKET StreamMake(TEST_CLIENT *client, ADDRESS *bound) {
    ADDRESS any = AddressOf("127.0.0.1", 0);
    OPERATION operation = {0};
    PWSK_SOCKET socket = SocketMake(client, AF_INET, SOCK_STREAM, WSK_FLAG_STREAM_SOCKET, NULL, NULL, NULL);
    CALL(&operation, STREAM(socket)->WskBind(socket, &any.Any, 0, IRP_OF));
    CHECK_STATUS(OperationEnd(&operation), STATUS_SUCCESS);
    CHECK_STATUS(SocketLocal(socket, bound, WSK_FLAG_STREAM_SOCKET), STATUS_SUCCESS);
    return socket;
}

static NTSTATUS StreamListen(PWSK_SOCKET socket) {
    OPERATION operation = {0};
    CALL(&operation, STREAM(socket)->WskListen(socket, IRP_OF));
    return OperationEnd(&operation);
}

static NTSTATUS StreamConnect(PWSK_SOCKET socket, const ADDRESS *to) {
    OPERATION operation = {0};
    ADDRESS copy = *to;
    CALL(&operation, STREAM(socket)->WskConnect(socket, &copy.Any, 0, IRP_OF));
    return OperationEnd(&operation);
}

CASE(StreamSocketCommits) {
    TEST_CLIENT client;
    ADDRESS bound, other;
    OPERATION accept = {0}, refused = {0};
    PWSK_SOCKET listener, connector, accepted, fresh;
    TEST_BUFFER buffer;
    OPERATION send = {0};
    ULONG_PTR information;
    UCHAR byte;

    ClientBegin(&client);
    fresh = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_STREAM_SOCKET, NULL, NULL, NULL);
    CHECK(!NT_SUCCESS(StreamListen(fresh))); /* ACC-012: not bound */
    SocketClose(fresh);
    listener = StreamMake(&client, &bound);
    CHECK_STATUS(StreamListen(listener), STATUS_SUCCESS);
    connector = StreamMake(&client, &other);
    CHECK_STATUS(StreamConnect(connector, &bound), STATUS_SUCCESS);
    CALL(&accept, STREAM(listener)->WskAccept(listener, 0, NULL, NULL, NULL, NULL, IRP_OF));
    CHECK_STATUS(OperationEnd(&accept), STATUS_SUCCESS);
    accepted = (PWSK_SOCKET)accept.Information;
    BufferOf(&buffer, "s", 1);
    CALL(&send, STREAM(connector)->WskSend(connector, &buffer.Wsk, 0, IRP_OF));
    CHECK_STATUS(OperationEnd(&send), STATUS_SUCCESS);
    BufferFree(&buffer);
    CHECK_STATUS(ReceiveBytes(accepted, &byte, 1, 0, &information), STATUS_SUCCESS);
    CHECK_EQUAL(byte, 's');
    CHECK(!NT_SUCCESS(StreamConnect(listener, &other))); /* CAT-010 */
    CHECK(!NT_SUCCESS(StreamListen(connector)));
    CALL(&refused, STREAM(connector)->WskAccept(connector, 0, NULL, NULL, NULL, NULL, IRP_OF));
    CHECK(!NT_SUCCESS(OperationEnd(&refused)));
    SocketClose(accepted);
    SocketClose(connector);
    SocketClose(listener);
    ClientEnd(&client);
}
