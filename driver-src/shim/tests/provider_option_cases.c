/*
 * provider_option_cases.c: socket options, I/O controls, client control operations (rules OPT, CTL, and BIND-008, CLOSE-008).
 */
#include "provider_client.h"

CASE(OptionsRoundTrip) {
    static const struct {
        ULONG Level, Code, Flags;
        USHORT Type;
        ULONG Value;
        ULONG Default;
    } options[] = {
        {SOL_SOCKET, SO_EXCLUSIVEADDRUSE, WSK_FLAG_LISTEN_SOCKET, SOCK_STREAM, 1, 0},
        {SOL_SOCKET, SO_REUSEADDR, WSK_FLAG_DATAGRAM_SOCKET, SOCK_DGRAM, 1, 0},
        {SOL_SOCKET, SO_KEEPALIVE, WSK_FLAG_CONNECTION_SOCKET, SOCK_STREAM, 1, 0},
        {SOL_SOCKET, SO_BROADCAST, WSK_FLAG_DATAGRAM_SOCKET, SOCK_DGRAM, 1, 0},
        {SOL_SOCKET, SO_CONDITIONAL_ACCEPT, WSK_FLAG_LISTEN_SOCKET, SOCK_STREAM, 1, 0},
        {SOL_SOCKET, SO_RCVBUF, WSK_FLAG_CONNECTION_SOCKET, SOCK_STREAM, 65536, ~0u},
        {IPPROTO_TCP, 1, WSK_FLAG_CONNECTION_SOCKET, SOCK_STREAM, 1, 0},
        {0, 4, WSK_FLAG_DATAGRAM_SOCKET, SOCK_DGRAM, 33, ~0u},
    };
    TEST_CLIENT client;

    ClientBegin(&client);
    for (ULONG index = 0; index < RTL_NUMBER_OF(options); index++) {
        PWSK_SOCKET socket = SocketMake(&client, AF_INET, options[index].Type, options[index].Flags, NULL, NULL, NULL);
        ULONG value;
        CHECK_STATUS(OptionGet(socket, options[index].Level, options[index].Code, &value), STATUS_SUCCESS);
        CHECK(options[index].Default == ~0u || value == options[index].Default); /* OPT-002 */
        CHECK_STATUS(OptionSet(socket, options[index].Level, options[index].Code, options[index].Value), STATUS_SUCCESS);
        CHECK_STATUS(OptionGet(socket, options[index].Level, options[index].Code, &value), STATUS_SUCCESS);
        CHECK_EQUAL(value, options[index].Value); /* OPT-001, OPT-014 */
        SocketClose(socket);
    }
    ClientEnd(&client);
}

CASE(WrongOptions) {
    TEST_CLIENT client;
    ADDRESS bound;
    PWSK_SOCKET listener, connection;
    ULONG value = 1;
    OPERATION small = {0};

    ClientBegin(&client);
    listener = ListenerMake(&client, "127.0.0.1", NULL, NULL, &bound);
    connection = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_CONNECTION_SOCKET, NULL, NULL, NULL);
    CHECK(!NT_SUCCESS(OptionSet(listener, SOL_SOCKET, SO_REUSEADDR, 1)));            /* OPT-004 */
    CHECK(!NT_SUCCESS(OptionSet(connection, SOL_SOCKET, SO_CONDITIONAL_ACCEPT, 1))); /* OPT-005 */
    CHECK(!NT_SUCCESS(OptionSet(connection, SOL_SOCKET, SO_BROADCAST, 1)));
    CHECK(!NT_SUCCESS(OptionSet(connection, SOL_SOCKET, 0x7777, 1)));
    CHECK(!NT_SUCCESS(OptionSet(connection, 77, SO_KEEPALIVE, 1)));
    CALL(&small, BASIC(connection)->WskControlSocket(connection, WskSetOption, SO_KEEPALIVE, SOL_SOCKET, 2, &value, 0, NULL, NULL, IRP_OF));
    CHECK(!NT_SUCCESS(OperationEnd(&small)));
    CALL(&small, BASIC(connection)->WskControlSocket(connection, WskControlMax, SO_KEEPALIVE, SOL_SOCKET, 4, &value, 0, NULL, NULL, IRP_OF));
    CHECK(!NT_SUCCESS(OperationEnd(&small)));
    CHECK_STATUS(BASIC(connection)->WskControlSocket(connection, WskSetOption, SO_KEEPALIVE, SOL_SOCKET, 4, &value, 0, NULL, NULL, NULL),
                 STATUS_REQUEST_NOT_ACCEPTED); /* OPT-003 */
    CHECK_STATUS(OptionGet(connection, SOL_SOCKET, SO_KEEPALIVE, &value), STATUS_SUCCESS);
    CHECK_EQUAL(value, 0);
    SocketClose(listener);
    SocketClose(connection);
    ClientEnd(&client);
}

CASE(AcceptedInherits) {
    TEST_CLIENT client;
    ADDRESS bound;
    PWSK_SOCKET listener, socket;
    ULONG value;
    int peer;

    ClientBegin(&client);
    listener = ListenerMake(&client, "127.0.0.1", NULL, NULL, &bound);
    CHECK_STATUS(OptionSet(listener, SOL_SOCKET, SO_KEEPALIVE, 1), STATUS_SUCCESS);
    CHECK_STATUS(OptionSet(listener, SOL_SOCKET, SO_RCVBUF, 32768), STATUS_SUCCESS);
    peer = PeerConnect(&bound);
    socket = AcceptOne(listener, NULL, NULL);
    CHECK_STATUS(OptionGet(socket, SOL_SOCKET, SO_KEEPALIVE, &value), STATUS_SUCCESS);
    CHECK_EQUAL(value, 1); /* OPT-009 */
    CHECK_STATUS(OptionGet(socket, SOL_SOCKET, SO_RCVBUF, &value), STATUS_SUCCESS);
    CHECK_EQUAL(value, 32768);
    CHECK_STATUS(OptionSet(socket, SOL_SOCKET, SO_KEEPALIVE, 0), STATUS_SUCCESS);
    CHECK_STATUS(OptionGet(listener, SOL_SOCKET, SO_KEEPALIVE, &value), STATUS_SUCCESS);
    CHECK_EQUAL(value, 1);
    SocketClose(socket);
    SocketClose(listener);
    PeerClose(peer);
    ClientEnd(&client);
}

CASE(AddressList) {
    static const ULONG levels[] = {0, 1, 0xFFFF, 0x29};
    static ULONG64 buffer[1024];
    static const ADDRESS_FAMILY families[] = {AF_INET, AF_INET6};
    TEST_CLIENT client;

    ClientBegin(&client);
    for (ULONG family = 0; family < RTL_NUMBER_OF(families); family++) {
        PWSK_SOCKET socket = SocketMake(&client, families[family], SOCK_STREAM, WSK_FLAG_BASIC_SOCKET, NULL, NULL, NULL);
        PSOCKET_ADDRESS_LIST list = (PSOCKET_ADDRESS_LIST)buffer;
        SIZE_T needed = 0, returned = 0;
        CHECK_STATUS(BASIC(socket)->WskControlSocket(socket, WskIoctl, SIO_ADDRESS_LIST_QUERY, 0, 0, NULL, 0, NULL, &needed, NULL),
                     STATUS_BUFFER_OVERFLOW); /* OPT-007 */
        CHECK(needed > sizeof(INT));
        for (ULONG level = 0; level < RTL_NUMBER_OF(levels); level++) {
            CHECK_STATUS(BASIC(socket)->WskControlSocket(socket, WskIoctl, SIO_ADDRESS_LIST_QUERY, levels[level], 0, NULL, sizeof(buffer),
                                                         buffer, &returned, NULL),
                         STATUS_SUCCESS); /* OPT-006 */
            CHECK_EQUAL(returned, needed);
        }
        CHECK(list->iAddressCount > 0);
        for (INT index = 0; index < list->iAddressCount; index++) {
            CHECK_EQUAL(list->Address[index].lpSockaddr->sa_family, families[family]);
            CHECK_EQUAL(list->Address[index].iSockaddrLength, family == 0 ? 16 : 28);
        }
        SocketClose(socket);
    }
    ClientEnd(&client);
}

CASE(AddressChangeWaitsAndIsCancelled) {
    TEST_CLIENT client;
    PWSK_SOCKET socket;
    OPERATION change = {0}, cancelled = {0};

    ClientBegin(&client);
    socket = SocketMake(&client, AF_INET, SOCK_DGRAM, WSK_FLAG_BASIC_SOCKET, NULL, NULL, NULL);
    CALL(&cancelled, BASIC(socket)->WskControlSocket(socket, WskIoctl, SIO_ADDRESS_LIST_CHANGE, 0, 0, NULL, 0, NULL, NULL, IRP_OF));
    CHECK_STATUS(cancelled.Returned, STATUS_PENDING); /* OPT-008 */
    CHECK(IoCancelIrp(cancelled.Irp));
    CHECK_STATUS(OperationEnd(&cancelled), STATUS_CANCELLED);
    CALL(&change, BASIC(socket)->WskControlSocket(socket, WskIoctl, SIO_ADDRESS_LIST_CHANGE, 0, 0, NULL, 0, NULL, NULL, IRP_OF));
    CHECK(!OperationIsDone(&change, 50));
    SocketClose(socket);
    CHECK_STATUS(OperationEnd(&change), STATUS_CANCELLED);
    ClientEnd(&client);
}

CASE(SmallIoctls) {
    static const NPIID id = {1, 2, 3, {4}};
    WSK_EXTENSION_CONTROL_IN in = {.NpiId = &id};
    WSK_EXTENSION_CONTROL_OUT out;
    WSK_INSPECT_ID inspect;
    TEST_CLIENT client;
    ADDRESS bound;
    PWSK_SOCKET socket, basic;
    SIZE_T value = 0, returned;
    ULONG_PTR information;
    UCHAR bytes[1000] = {0};
    int listener = PeerListen("127.0.0.1", &bound), peer;

    ClientBegin(&client);
    socket = ConnectedMake(&client, &bound, NULL, NULL);
    peer = PeerAccept(listener);
    CHECK_STATUS(BASIC(socket)->WskControlSocket(socket, WskIoctl, SIO_WSK_REGISTER_EXTENSION, 0, sizeof(in), &in, sizeof(out), &out, NULL,
                                                 NULL),
                 STATUS_NOT_SUPPORTED); /* OPT-010 */
    CHECK_STATUS(BASIC(socket)->WskControlSocket(socket, WskIoctl, SIO_WSK_QUERY_INSPECT_ID, 0, 0, NULL, sizeof(inspect), &inspect, NULL, NULL),
                 STATUS_INVALID_DEVICE_REQUEST); /* INS-009 */
    PeerSend(peer, bytes, sizeof(bytes));
    do {
        CHECK_STATUS(Ioctl(socket, SIO_WSK_QUERY_RECEIVE_BACKLOG, NULL, 0, &value, sizeof(value), &returned), STATUS_SUCCESS);
        CHECK_EQUAL(returned, sizeof(value));
    } while (value < 1000); /* OPT-011 */
    CHECK_EQUAL(value, 1000);
    CHECK_STATUS(ReceiveBytes(socket, bytes, 400, WSK_FLAG_WAITALL, &information), STATUS_SUCCESS);
    CHECK_STATUS(Ioctl(socket, SIO_WSK_QUERY_RECEIVE_BACKLOG, NULL, 0, &value, sizeof(value), &returned), STATUS_SUCCESS);
    CHECK_EQUAL(value, 600);
    CHECK_STATUS(Ioctl(socket, SIO_WSK_QUERY_IDEAL_SEND_BACKLOG, NULL, 0, &value, sizeof(value), &returned), STATUS_SUCCESS);
    CHECK(value > 0);
    CHECK(!NT_SUCCESS(Ioctl(socket, SIO_WSK_SET_TCP_SILENT_MODE, NULL, 0, NULL, 0, NULL))); /* OPT-012: loopback */
    CHECK(!NT_SUCCESS(Ioctl(socket, 0x12345678, NULL, 0, NULL, 0, NULL)));
    basic = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_BASIC_SOCKET, NULL, NULL, NULL);
    CHECK(!NT_SUCCESS(Ioctl(basic, SIO_WSK_QUERY_RECEIVE_BACKLOG, NULL, 0, &value, sizeof(value), NULL)));
    SocketClose(basic);
    SocketClose(socket);
    PeerClose(peer);
    PeerClose(listener);
    ClientEnd(&client);
}

/* ---- The client ------------------------------------------------------------------------------------------------------ */

static NTSTATUS ControlClient(TEST_CLIENT *client, ULONG code, PVOID in, SIZE_T inSize, PVOID out, SIZE_T outSize, SIZE_T *returned) {
    return client->Npi.Dispatch->WskControlClient(client->Npi.Client, code, inSize, in, outSize, out, returned, NULL);
}

CASE(TransportList) {
    static const SIZE_T sizes[] = {0, 1, sizeof(WSK_TRANSPORT) - 1};
    WSK_TRANSPORT list[16];
    TEST_CLIENT client;
    SIZE_T needed = 0;

    ClientBegin(&client);
    for (ULONG index = 0; index < RTL_NUMBER_OF(sizes); index++) {
        CHECK_STATUS(ControlClient(&client, WSK_TRANSPORT_LIST_QUERY, NULL, 0, sizes[index] == 0 ? NULL : list, sizes[index], &needed),
                     STATUS_BUFFER_OVERFLOW); /* CTL-001 */
        CHECK(needed > 0 && needed % sizeof(WSK_TRANSPORT) == 0);
    }
    CHECK_STATUS(ControlClient(&client, WSK_TRANSPORT_LIST_QUERY, NULL, 0, list, sizeof(list), &needed), STATUS_SUCCESS); /* CTL-002 */
    for (SIZE_T index = 0; index < needed / sizeof(WSK_TRANSPORT); index++) {
        OPERATION operation = {0}; /* FAM-009 */
        CALL(&operation, client.Npi.Dispatch->WskSocket(client.Npi.Client, list[index].AddressFamily, list[index].SocketType,
                                                        list[index].Protocol, WSK_FLAG_BASIC_SOCKET, NULL, NULL, NULL, NULL, NULL, IRP_OF));
        CHECK_STATUS(OperationEnd(&operation), STATUS_SUCCESS);
        SocketClose((PWSK_SOCKET)operation.Information);
    }
    ClientEnd(&client);
}

CASE(WrongClientControls) {
    static const ULONG codes[] = {0, 1, 9, 0xFFFFFFFF};
    TEST_CLIENT client;
    ULONG bypass = WSK_TDI_BEHAVIOR_BYPASS_TDI;
    OPERATION withIrp = {0};
    SIZE_T returned;

    ClientBegin(&client);
    for (ULONG index = 0; index < RTL_NUMBER_OF(codes); index++) {
        CHECK(!NT_SUCCESS(ControlClient(&client, codes[index], NULL, 0, NULL, 0, NULL))); /* CTL-007 */
    }
    CALL(&withIrp, client.Npi.Dispatch->WskControlClient(client.Npi.Client, WSK_TRANSPORT_LIST_QUERY, 0, NULL, 0, NULL, &returned, IRP_OF));
    CHECK(!NT_SUCCESS(OperationEnd(&withIrp)));
    CHECK(!NT_SUCCESS(ControlClient(&client, WSK_TRANSPORT_LIST_CHANGE, NULL, 0, NULL, 0, NULL)));
    CHECK_STATUS(ControlClient(&client, WSK_TDI_BEHAVIOR, &bypass, sizeof(bypass), NULL, 0, NULL), STATUS_SUCCESS); /* CTL-008 */
    SocketClose(SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL));
    ClientEnd(&client);
}

typedef struct FIXED_SID {
    UCHAR Revision, Count, Authority[6];
    ULONG Sub[1];
} FIXED_SID;

static PSECURITY_DESCRIPTOR Cache(TEST_CLIENT *client, BOOLEAN everyone) {
    static const FIXED_SID world = {1, 1, {0, 0, 0, 0, 0, 1}, {0}};
    static const FIXED_SID nobody = {1, 1, {0, 0, 0, 0, 0, 0}, {0}};
    static ULONG64 acl[16], descriptor[8];
    PSECURITY_DESCRIPTOR uncached = descriptor, cached = NULL;

    CHECK_STATUS(RtlCreateAcl((PACL)acl, sizeof(acl), ACL_REVISION), STATUS_SUCCESS);
    CHECK_STATUS(RtlAddAccessAllowedAce((PACL)acl, ACL_REVISION, GENERIC_ALL, (PVOID)(ULONG_PTR)(everyone ? &world : &nobody)), STATUS_SUCCESS);
    CHECK_STATUS(RtlCreateSecurityDescriptor(uncached, SECURITY_DESCRIPTOR_REVISION), STATUS_SUCCESS);
    CHECK_STATUS(RtlSetDaclSecurityDescriptor(uncached, TRUE, (PACL)acl, FALSE), STATUS_SUCCESS);
    CHECK_STATUS(ControlClient(client, WSK_CACHE_SD, &uncached, sizeof(uncached), &cached, sizeof(cached), NULL), STATUS_SUCCESS);
    CHECK(cached != NULL && cached != uncached); /* CTL-004 */
    memset(descriptor, 0xEE, sizeof(descriptor));
    return cached;
}

static void Release(TEST_CLIENT *client, PSECURITY_DESCRIPTOR cached) {
    CHECK_STATUS(ControlClient(client, WSK_RELEASE_SD, &cached, sizeof(cached), NULL, 0, NULL), STATUS_SUCCESS);
}

static NTSTATUS ShareWith(TEST_CLIENT *client, PSECURITY_DESCRIPTOR descriptor) {
    ADDRESS any = AddressOf("0.0.0.0", 0), bound, specific;
    OPERATION operation = {0};
    PWSK_SOCKET first, second;
    NTSTATUS status;

    CALL(&operation, client->Npi.Dispatch->WskSocket(client->Npi.Client, AF_INET, SOCK_STREAM, IPPROTO_TCP, WSK_FLAG_LISTEN_SOCKET, NULL, NULL,
                                                     NULL, NULL, descriptor, IRP_OF));
    CHECK_STATUS(OperationEnd(&operation), STATUS_SUCCESS);
    first = (PWSK_SOCKET)operation.Information;
    second = SocketMake(client, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL);
    CHECK_STATUS(SocketBind(first, &any), STATUS_SUCCESS);
    CHECK_STATUS(SocketLocal(first, &bound, WSK_FLAG_LISTEN_SOCKET), STATUS_SUCCESS);
    specific = AddressOf("127.0.0.1", PortOf(&bound));
    status = SocketBind(second, &specific);
    if (NT_SUCCESS(status)) {
        int peer = PeerConnect(&specific); /* the more specific one gets it */
        PWSK_SOCKET accepted = AcceptOne(second, NULL, NULL);
        SocketClose(accepted);
        PeerClose(peer);
    }
    SocketClose(first);
    SocketClose(second);
    return status;
}

CASE(DescriptorsDecideSharing) {
    TEST_CLIENT client;
    PSECURITY_DESCRIPTOR everyone, nobody;

    ClientBegin(&client);
    everyone = Cache(&client, TRUE);
    nobody = Cache(&client, FALSE);
    CHECK_STATUS(ShareWith(&client, NULL), STATUS_ACCESS_DENIED); /* BIND-008 */
    CHECK_STATUS(ShareWith(&client, nobody), STATUS_ACCESS_DENIED);
    CHECK_STATUS(ShareWith(&client, everyone), STATUS_SUCCESS);
    Release(&client, everyone); /* CLOSE-008: the sockets' end did not */
    Release(&client, nobody);
    ClientEnd(&client);
}

CASE(SecurityOption) {
    TEST_CLIENT client;
    PSECURITY_DESCRIPTOR cached, got = NULL;
    ADDRESS any = AddressOf("127.0.0.1", 0);
    OPERATION set = {0}, get = {0}, late = {0}, none = {0};
    PWSK_SOCKET socket;

    ClientBegin(&client);
    cached = Cache(&client, TRUE);
    socket = SocketMake(&client, AF_INET, SOCK_DGRAM, WSK_FLAG_DATAGRAM_SOCKET, NULL, NULL, NULL);
    CALL(&none, BASIC(socket)->WskControlSocket(socket, WskGetOption, SO_WSK_SECURITY, SOL_SOCKET, 0, NULL, sizeof(got), &got, NULL, IRP_OF));
    OperationEnd(&none);
    CALL(&set, BASIC(socket)->WskControlSocket(socket, WskSetOption, SO_WSK_SECURITY, SOL_SOCKET, sizeof(cached), &cached, 0, NULL, NULL,
                                               IRP_OF));
    CHECK_STATUS(OperationEnd(&set), STATUS_SUCCESS); /* OPT-013 */
    CALL(&get, BASIC(socket)->WskControlSocket(socket, WskGetOption, SO_WSK_SECURITY, SOL_SOCKET, 0, NULL, sizeof(got), &got, NULL, IRP_OF));
    CHECK_STATUS(OperationEnd(&get), STATUS_SUCCESS);
    CHECK(got != NULL && get.Information == sizeof(got));
    CHECK_STATUS(SocketBind(socket, &any), STATUS_SUCCESS);
    CALL(&late, BASIC(socket)->WskControlSocket(socket, WskSetOption, SO_WSK_SECURITY, SOL_SOCKET, sizeof(cached), &cached, 0, NULL, NULL,
                                                IRP_OF));
    CHECK(!NT_SUCCESS(OperationEnd(&late))); /* OPT-004 */
    Release(&client, got);
    SocketClose(socket);
    Release(&client, cached);
    for (ULONG round = 0; round < 1000; round++) {
        Release(&client, Cache(&client, TRUE));
    }
    ClientEnd(&client);
}
