/*
 * provider_network_cases.c: what needs a network of its own: addresses that come and go, a peer on another machine.
 */
#include "provider_client.h"

#include <stdio.h>

#include "host/host_interface.h"

/* The setting as an address of family 4 with a port: "10.0.0.2 4711". */
static ADDRESS PeerFromSetting(void) {
    const char *text = ShimSetting("PEER");
    char address[32];
    unsigned port;

    CHECK(text != NULL && sscanf(text, "%31s %u", address, &port) == 2);
    return AddressOf(address, (USHORT)port);
}

/* Whoever runs this adds and removes an address when it reads the line. */
CASE_NETWORK(AddressChangeIsTold) {
    TEST_CLIENT client;
    OPERATION change = {0}, other = {0};
    PWSK_SOCKET socket, socket6;

    ClientBegin(&client);
    socket = SocketMake(&client, AF_INET, SOCK_DGRAM, WSK_FLAG_BASIC_SOCKET, NULL, NULL, NULL);
    socket6 = SocketMake(&client, AF_INET6, SOCK_DGRAM, WSK_FLAG_BASIC_SOCKET, NULL, NULL, NULL);
    CALL(&other, BASIC(socket6)->WskControlSocket(socket6, WskIoctl, SIO_ADDRESS_LIST_CHANGE, 0, 0, NULL, 0, NULL, NULL, IRP_OF));
    for (ULONG round = 0; round < 2; round++) { /* it comes, it goes */
        CALL(&change, BASIC(socket)->WskControlSocket(socket, WskIoctl, SIO_ADDRESS_LIST_CHANGE, 0, 0, NULL, 0, NULL, NULL, IRP_OF));
        CHECK_STATUS(change.Returned, STATUS_PENDING);
        printf("change %u\n", round);
        fflush(stdout);
        CHECK_STATUS(OperationEnd(&change), STATUS_SUCCESS); /* OPT-008 */
    }
    CHECK(!OperationIsDone(&other, 50)); /* the other family's */
    SocketClose(socket);
    SocketClose(socket6);
    CHECK_STATUS(OperationEnd(&other), STATUS_CANCELLED);
    ClientEnd(&client);
}

CASE_NETWORK(SilentMode) {
    TEST_CLIENT client;
    ADDRESS peer = PeerFromSetting();
    OPERATION pending = {0};
    TEST_BUFFER buffer;
    PWSK_SOCKET socket;

    ClientBegin(&client);
    socket = ConnectedMake(&client, &peer, NULL, NULL);
    CHECK_STATUS(SendBytes(socket, "hello", 5, NULL), STATUS_SUCCESS);
    BufferOf(&buffer, NULL, 10);
    CALL(&pending, CONNECTION(socket)->WskReceive(socket, &buffer.Wsk, 0, IRP_OF));
    Pause(500); /* the peer has acknowledged */
    CHECK_STATUS(Ioctl(socket, SIO_WSK_SET_TCP_SILENT_MODE, NULL, 0, NULL, 0, NULL), STATUS_SUCCESS);
    CHECK(!NT_SUCCESS(OperationEnd(&pending)));
    CHECK_STATUS(SendBytes(socket, "x", 1, NULL), STATUS_INVALID_DEVICE_STATE); /* OPT-012 */
    CHECK_STATUS(Disconnect(socket, 0), STATUS_INVALID_DEVICE_STATE);
    CHECK_STATUS(Disconnect(socket, WSK_FLAG_ABORTIVE), STATUS_INVALID_DEVICE_STATE);
    CHECK_STATUS(SocketClose(socket), STATUS_SUCCESS);
    BufferFree(&buffer);
    ClientEnd(&client);
}

/* A peer that drops what it gets: connects stay under way. */
CASE_NETWORK(ConnectToABlackHole) {
    TEST_CLIENT client;
    ADDRESS any = AddressOf("0.0.0.0", 0), hole = PeerFromSetting();
    OPERATION connect = {0}, close = {0};
    PWSK_SOCKET socket;

    ClientBegin(&client);
    socket = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_CONNECTION_SOCKET, NULL, NULL, NULL);
    CHECK_STATUS(SocketBind(socket, &any), STATUS_SUCCESS);
    CALL(&connect, CONNECTION(socket)->WskConnect(socket, &hole.Any, 0, IRP_OF));
    CHECK(!OperationIsDone(&connect, 300));
    CHECK(IoCancelIrp(connect.Irp)); /* CONN-006 */
    CHECK_STATUS(OperationEnd(&connect), STATUS_CANCELLED);
    CALL(&connect, CONNECTION(socket)->WskConnect(socket, &hole.Any, 0, IRP_OF)); /* bound as before */
    CHECK(!OperationIsDone(&connect, 300));
    CALL(&close, CONNECTION(socket)->Basic.WskCloseSocket(socket, IRP_OF));
    CHECK_STATUS(OperationEnd(&connect), STATUS_CANCELLED);
    CHECK_STATUS(OperationEnd(&close), STATUS_SUCCESS);
    CHECK(connect.Sequence < close.Sequence);
    CALL(&connect, client.Npi.Dispatch->WskSocketConnect(client.Npi.Client, SOCK_STREAM, IPPROTO_TCP, &any.Any, &hole.Any, 0, NULL, NULL, NULL,
                                                         NULL, NULL, IRP_OF));
    CHECK(!OperationIsDone(&connect, 300));
    CHECK(IoCancelIrp(connect.Irp));
    CHECK_STATUS(OperationEnd(&connect), STATUS_CANCELLED); /* CONN-010: and no socket is left */
    ClientEnd(&client);
}
