/*
 * provider_bind_cases.c: binding and sharing addresses (rules BIND).
 */
#include "provider_client.h"

typedef enum SHARING { NONE, REUSE, EXCLUSIVE } SHARING;

/* Appendix A.8 as statuses; CHECK with the default descriptor is a refusal. Second row, first column. */
#define OK STATUS_SUCCESS
#define IN_USE STATUS_ADDRESS_ALREADY_EXISTS
#define DENIED STATUS_ACCESS_DENIED
#define CHECKED ((NTSTATUS)1)
static const NTSTATUS Matrix[6][6] = {
    {IN_USE, OK, IN_USE, OK, IN_USE, OK},
    {CHECKED, IN_USE, CHECKED, DENIED, DENIED, IN_USE},
    {DENIED, OK, OK, OK, DENIED, OK},
    {CHECKED, DENIED, OK, OK, DENIED, DENIED},
    {IN_USE, IN_USE, IN_USE, IN_USE, IN_USE, IN_USE},
    {CHECKED, IN_USE, CHECKED, IN_USE, DENIED, IN_USE},
};

static PWSK_SOCKET MakeSharing(TEST_CLIENT *client, USHORT type, SHARING sharing) {
    ULONG flags = type == SOCK_STREAM ? WSK_FLAG_LISTEN_SOCKET : WSK_FLAG_DATAGRAM_SOCKET;
    PWSK_SOCKET socket = SocketMake(client, AF_INET, type, flags, NULL, NULL, NULL);
    if (sharing != NONE) {
        CHECK_STATUS(OptionSet(socket, SOL_SOCKET, sharing == REUSE ? SO_REUSEADDR : SO_EXCLUSIVEADDRUSE, 1), STATUS_SUCCESS);
    }
    return socket;
}

static void MatrixOf(USHORT type) {
    TEST_CLIENT client;

    ClientBegin(&client);
    for (ULONG second = 0; second < 6; second++) {
        for (ULONG first = 0; first < 6; first++) {
            PWSK_SOCKET one = MakeSharing(&client, type, (SHARING)(first / 2));
            PWSK_SOCKET two = MakeSharing(&client, type, (SHARING)(second / 2));
            ADDRESS address = AddressOf(first % 2 ? "127.0.0.1" : "0.0.0.0", 0), bound;
            NTSTATUS expected = Matrix[second][first] == CHECKED ? DENIED : Matrix[second][first], status;
            CHECK_STATUS(SocketBind(one, &address), STATUS_SUCCESS);
            CHECK_STATUS(SocketLocal(one, &bound, type == SOCK_STREAM ? WSK_FLAG_LISTEN_SOCKET : WSK_FLAG_DATAGRAM_SOCKET), STATUS_SUCCESS);
            address = AddressOf(second % 2 ? "127.0.0.1" : "0.0.0.0", PortOf(&bound));
            status = SocketBind(two, &address);
            if (status != expected) {
                ShimAbort("check", "second %u, first %u: %#x, expected %#x", second, first, (unsigned)status, (unsigned)expected);
            }
            SocketClose(two);
            SocketClose(one);
        }
    }
    ClientEnd(&client);
}

CASE(SharingMatrixTcp) {
    MatrixOf(SOCK_STREAM); /* BIND-006, BIND-007 */
}

CASE(SharingMatrixUdp) {
    MatrixOf(SOCK_DGRAM);
}

CASE(LocalAddressIsExact) {
    static const char *const texts[] = {"127.0.0.1", "::1"};
    TEST_CLIENT client;

    ClientBegin(&client);
    for (ULONG index = 0; index < RTL_NUMBER_OF(texts); index++) {
        ADDRESS wanted = AddressOf(texts[index], 0), expected;
        ULONG size = index == 0 ? 16 : 28;
        PWSK_SOCKET socket = SocketMake(&client, wanted.Any.sa_family, SOCK_DGRAM, WSK_FLAG_DATAGRAM_SOCKET, NULL, NULL, NULL);
        OPERATION operation = {0};
        UCHAR bytes[64];
        CHECK_STATUS(SocketBind(socket, &wanted), STATUS_SUCCESS);
        memset(bytes, 0xA5, sizeof(bytes));
        CALL(&operation, DATAGRAM(socket)->WskGetLocalAddress(socket, (PSOCKADDR)bytes, IRP_OF));
        CHECK_STATUS(OperationEnd(&operation), STATUS_SUCCESS);
        expected = AddressOf(texts[index], (USHORT)(bytes[2] << 8 | bytes[3]));
        CHECK(PortOf(&expected) != 0 && memcmp(bytes, &expected, size) == 0); /* BIND-002 */
        for (ULONG guard = size; guard < sizeof(bytes); guard++) {
            CHECK_EQUAL(bytes[guard], 0xA5);
        }
        SocketClose(socket);
    }
    ClientEnd(&client);
}

CASE(DifferentAddressesNeverCollide) {
    TEST_CLIENT client;
    ADDRESS bound, other;
    PWSK_SOCKET first, second, third;

    ClientBegin(&client);
    first = ListenerMake(&client, "127.0.0.1", NULL, NULL, &bound);
    second = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL);
    other = AddressOf("127.0.0.2", PortOf(&bound));
    CHECK_STATUS(SocketBind(second, &other), STATUS_SUCCESS); /* BIND-009 */
    SocketClose(first);
    third = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL);
    CHECK_STATUS(SocketBind(third, &bound), STATUS_SUCCESS);
    SocketClose(second);
    SocketClose(third);
    ClientEnd(&client);
}

CASE(RebindAfterClose) {
    TEST_CLIENT client;
    ADDRESS bound;

    ClientBegin(&client);
    SocketClose(ListenerMake(&client, "127.0.0.1", NULL, NULL, &bound));
    for (ULONG round = 0; round < 100; round++) {
        PWSK_SOCKET socket = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL);
        CHECK_STATUS(SocketBind(socket, &bound), STATUS_SUCCESS); /* CLOSE-006 */
        SocketClose(socket);
    }
    ClientEnd(&client);
}

CASE(OtherProgramsAddressIsInUse) {
    TEST_CLIENT client;
    ADDRESS bound;
    PWSK_SOCKET socket;
    int peer = PeerListen("127.0.0.1", &bound);

    ClientBegin(&client);
    socket = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL);
    CHECK_STATUS(SocketBind(socket, &bound), STATUS_ADDRESS_ALREADY_EXISTS);
    SocketClose(socket);
    PeerClose(peer);
    ClientEnd(&client);
}

CASE(WrongBindsFail) {
    TEST_CLIENT client;
    ADDRESS bound, wrong;
    OPERATION operation = {0};
    PWSK_SOCKET socket;

    ClientBegin(&client);
    socket = ListenerMake(&client, "127.0.0.1", NULL, NULL, &bound);
    wrong = AddressOf("127.0.0.1", 0);
    CHECK_STATUS(SocketBind(socket, &wrong), STATUS_INVALID_DEVICE_STATE); /* BIND-011: bound already */
    SocketClose(socket);
    socket = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_CONNECTION_SOCKET, NULL, NULL, NULL);
    CHECK_STATUS(SocketLocal(socket, &bound, WSK_FLAG_CONNECTION_SOCKET), STATUS_INVALID_DEVICE_STATE); /* BIND-005 */
    wrong = AddressOf("192.0.2.1", 0);
    CHECK_STATUS(SocketBind(socket, &wrong), STATUS_INVALID_ADDRESS_COMPONENT); /* not ours */
    wrong = AddressOf("::1", 0);
    CHECK_STATUS(SocketBind(socket, &wrong), STATUS_INVALID_PARAMETER); /* FAM-010 */
    wrong = AddressOf("127.0.0.1", 0);
    CHECK_STATUS(CONNECTION(socket)->WskBind(socket, &wrong.Any, 0, NULL), STATUS_INVALID_PARAMETER);
    CALL(&operation, CONNECTION(socket)->WskBind(socket, &wrong.Any, 1, IRP_OF));
    CHECK(!NT_SUCCESS(OperationEnd(&operation)));
    CHECK_STATUS(SocketBind(socket, &wrong), STATUS_SUCCESS);
    SocketClose(socket);
    ClientEnd(&client);
}

CASE(WildcardBecomesSpecificAtConnect) {
    TEST_CLIENT client;
    ADDRESS any = AddressOf("0.0.0.0", 0), bound, connected, peerBound;
    PWSK_SOCKET socket;
    int listener = PeerListen("127.0.0.1", &peerBound), peer;

    ClientBegin(&client);
    socket = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_CONNECTION_SOCKET, NULL, NULL, NULL);
    CHECK_STATUS(SocketBind(socket, &any), STATUS_SUCCESS);
    CHECK_STATUS(SocketLocal(socket, &bound, WSK_FLAG_CONNECTION_SOCKET), STATUS_SUCCESS);
    any = AddressOf("0.0.0.0", PortOf(&bound));
    CHECK(PortOf(&bound) != 0 && memcmp(&any, &bound, 16) == 0); /* BIND-004 */
    CHECK_STATUS(SocketConnectTo(socket, &peerBound), STATUS_SUCCESS);
    peer = PeerAccept(listener);
    CHECK_STATUS(SocketLocal(socket, &connected, WSK_FLAG_CONNECTION_SOCKET), STATUS_SUCCESS);
    any = AddressOf("127.0.0.1", PortOf(&bound));
    CHECK(memcmp(&any, &connected, 16) == 0);
    SocketClose(socket);
    PeerClose(peer);
    PeerClose(listener);
    ClientEnd(&client);
}

CASE(DualModeListener) {
    TEST_CLIENT client;
    ADDRESS any = AddressOf("::", 0), bound, to, remote = {0};
    OPERATION operation = {0};
    PWSK_SOCKET listener, socket;
    ULONG value;
    int peer;

    ClientBegin(&client);
    listener = SocketMake(&client, AF_INET6, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL);
    CHECK_STATUS(OptionGet(listener, 41, 27, &value), STATUS_SUCCESS);
    CHECK_EQUAL(value, 1);
    CHECK_STATUS(OptionSet(listener, 41, 27, 0), STATUS_SUCCESS); /* IPV6_V6ONLY, OPT-014 */
    CHECK_STATUS(SocketBind(listener, &any), STATUS_SUCCESS);
    CHECK_STATUS(SocketLocal(listener, &bound, WSK_FLAG_LISTEN_SOCKET), STATUS_SUCCESS);
    to = AddressOf("127.0.0.1", PortOf(&bound));
    peer = PeerConnect(&to);
    CHECK(peer >= 0);
    CALL(&operation, LISTENER(listener)->WskAccept(listener, 0, NULL, NULL, NULL, &remote.Any, IRP_OF));
    CHECK_STATUS(OperationEnd(&operation), STATUS_SUCCESS);
    socket = (PWSK_SOCKET)operation.Information;
    CHECK_EQUAL(remote.Any.sa_family, AF_INET6); /* BIND-010: v4-mapped */
    CHECK_EQUAL(remote.Bytes[8 + 10], 0xFF);
    CHECK_EQUAL(remote.Bytes[8 + 12], 127);
    SocketClose(socket);
    SocketClose(listener);
    PeerClose(peer);
    ClientEnd(&client);
}
