/*
 * provider_stream_cases.c: connections: bind, listen, accept, connect, send, receive, disconnect, close.
 */
#include "provider_client.h"

static void Echo(const char *address) {
    TEST_CLIENT client;
    ADDRESS bound;
    PWSK_SOCKET listener, socket;
    ULONG_PTR information;
    UCHAR bytes[64];
    int peer;

    ClientBegin(&client);
    listener = ListenerMake(&client, address, NULL, NULL, &bound);
    CHECK(PortOf(&bound) != 0);
    peer = PeerConnect(&bound);
    CHECK(peer >= 0);
    socket = AcceptOne(listener, NULL, NULL);
    PeerSend(peer, "hello", 5);
    CHECK_STATUS(ReceiveBytes(socket, bytes, sizeof(bytes), 0, &information), STATUS_SUCCESS);
    CHECK_EQUAL(information, 5);
    CHECK(memcmp(bytes, "hello", 5) == 0);
    CHECK_STATUS(SendBytes(socket, "world!", 6, &information), STATUS_SUCCESS);
    CHECK_EQUAL(information, 6);
    CHECK_EQUAL(PeerReceive(peer, bytes, 6), 6);
    CHECK(memcmp(bytes, "world!", 6) == 0);
    PeerFinish(peer);
    CHECK_STATUS(ReceiveBytes(socket, bytes, sizeof(bytes), 0, &information), STATUS_SUCCESS);
    CHECK_EQUAL(information, 0); /* DATA-004 */
    CHECK_STATUS(Disconnect(socket, 0), STATUS_SUCCESS);
    CHECK_EQUAL(PeerReceive(peer, bytes, 1), 0);
    CHECK_STATUS(SocketClose(socket), STATUS_SUCCESS);
    CHECK_STATUS(SocketClose(listener), STATUS_SUCCESS);
    PeerClose(peer);
    ClientEnd(&client);
}

CASE(EchoIpv4) {
    Echo("127.0.0.1");
}

CASE(EchoIpv6) {
    Echo("::1");
}
