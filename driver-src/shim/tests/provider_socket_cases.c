/*
 * provider_socket_cases.c: creating sockets: categories, families, tables (rules SOCK, CAT, FAM, CTX).
 */
#include "provider_client.h"

static BOOLEAN AllSet(PWSK_SOCKET socket, ULONG count) {
    PVOID const *slots = socket->Dispatch;
    for (ULONG slot = 0; slot < count; slot++) {
        if (slots[slot] == NULL) {
            return FALSE;
        }
    }
    return TRUE;
}

CASE(CategoriesHaveTheirTables) {
    static const struct {
        ULONG Flags;
        ULONG Slots;
        USHORT Type;
    } categories[] = {{WSK_FLAG_BASIC_SOCKET, 2, SOCK_STREAM},      {WSK_FLAG_BASIC_SOCKET, 2, SOCK_DGRAM},
                      {WSK_FLAG_LISTEN_SOCKET, 6, SOCK_STREAM},     {WSK_FLAG_CONNECTION_SOCKET, 11, SOCK_STREAM},
                      {WSK_FLAG_DATAGRAM_SOCKET, 8, SOCK_DGRAM},    {WSK_FLAG_STREAM_SOCKET, 13, SOCK_STREAM},
                      {WSK_FLAG_DATAGRAM_SOCKET, 8, SOCK_RAW}};
    static const ADDRESS_FAMILY families[] = {AF_INET, AF_INET6};
    TEST_CLIENT client;
    PVOID previous = NULL;

    ClientBegin(&client);
    for (ULONG family = 0; family < RTL_NUMBER_OF(families); family++) {
        for (ULONG index = 0; index < RTL_NUMBER_OF(categories); index++) {
            PWSK_SOCKET socket = SocketMake(&client, families[family], categories[index].Type, categories[index].Flags, NULL, NULL, NULL);
            CHECK(socket != NULL && ((ULONG_PTR)socket & 7) == 0); /* SOCK-002, FAM-002 */
            CHECK(AllSet(socket, categories[index].Slots));         /* CAT-002 */
            CHECK(socket != previous);
            previous = socket;
            CHECK_STATUS(SocketClose(socket), STATUS_SUCCESS);
        }
    }
    ClientEnd(&client);
}

CASE(UnsupportedTriplesFail) {
    static const struct {
        ADDRESS_FAMILY Family;
        USHORT Type;
        ULONG Protocol;
    } triples[] = {{16, SOCK_STREAM, IPPROTO_TCP},     {99, SOCK_STREAM, IPPROTO_TCP}, {0xFFFF, SOCK_STREAM, IPPROTO_TCP},
                   {AF_INET, SOCK_STREAM, IPPROTO_UDP}, {AF_INET, SOCK_DGRAM, IPPROTO_TCP}, {AF_INET, 0, IPPROTO_TCP},
                   {AF_INET, 4, IPPROTO_TCP},           {AF_INET, 99, IPPROTO_TCP},    {AF_INET, SOCK_STREAM, 250}, {0, SOCK_STREAM, 6}};
    TEST_CLIENT client;

    ClientBegin(&client);
    for (ULONG index = 0; index < RTL_NUMBER_OF(triples); index++) {
        OPERATION operation = {0};
        CALL(&operation, client.Npi.Dispatch->WskSocket(client.Npi.Client, triples[index].Family, triples[index].Type,
                                                        triples[index].Protocol, WSK_FLAG_CONNECTION_SOCKET, NULL, NULL, NULL, NULL,
                                                        NULL, IRP_OF));
        CHECK(!NT_SUCCESS(OperationEnd(&operation))); /* FAM-006, FAM-007 */
    }
    ClientEnd(&client);
}

CASE(CombinedCategoriesFail) {
    static const ULONG flags[] = {1 | 2, 1 | 4, 2 | 4, 0x10, 0x80000000, 0xFFFFFFFF};
    TEST_CLIENT client;

    ClientBegin(&client);
    for (ULONG index = 0; index < RTL_NUMBER_OF(flags); index++) {
        NTSTATUS status;
        SocketMake(&client, AF_INET, SOCK_STREAM, flags[index], NULL, NULL, &status);
        CHECK(!NT_SUCCESS(status));
    }
    ClientEnd(&client);
}

CASE(DatagramTypeOnListenerFailsAtBind) {
    TEST_CLIENT client;
    PWSK_SOCKET socket;
    ADDRESS any = AddressOf("127.0.0.1", 0);

    ClientBegin(&client);
    socket = SocketMake(&client, AF_INET, SOCK_DGRAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL);
    CHECK_STATUS(SocketBind(socket, &any), STATUS_NOT_IMPLEMENTED); /* CAT-008 */
    CHECK_STATUS(SocketClose(socket), STATUS_SUCCESS);
    ClientEnd(&client);
}

CASE(NullIrpAndNullClient) {
    TEST_CLIENT client;
    OPERATION operation = {0};

    ClientBegin(&client);
    CHECK_STATUS(client.Npi.Dispatch->WskSocket(client.Npi.Client, AF_INET, SOCK_STREAM, IPPROTO_TCP, WSK_FLAG_LISTEN_SOCKET, NULL,
                                                NULL, NULL, NULL, NULL, NULL),
                 STATUS_INVALID_PARAMETER); /* SOCK-014 */
    CALL(&operation, client.Npi.Dispatch->WskSocket(NULL, AF_INET, SOCK_STREAM, IPPROTO_TCP, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL,
                                                    NULL, NULL, IRP_OF));
    CHECK_STATUS(operation.Returned, STATUS_INVALID_HANDLE); /* SOCK-015 */
    CHECK_STATUS(OperationEnd(&operation), STATUS_INVALID_HANDLE);
    ClientEnd(&client);
}

CASE(ManySocketsAreDistinct) {
    enum { COUNT = 64 };
    TEST_CLIENT client;
    PWSK_SOCKET sockets[COUNT];

    ClientBegin(&client);
    for (ULONG index = 0; index < COUNT; index++) {
        sockets[index] = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, (PVOID)(ULONG_PTR)-1, NULL, NULL);
        for (ULONG other = 0; other < index; other++) {
            CHECK(sockets[other] != sockets[index]); /* SOCK-011 */
        }
    }
    for (ULONG index = 0; index < COUNT; index++) {
        CHECK_STATUS(SocketClose(sockets[index]), STATUS_SUCCESS);
    }
    ClientEnd(&client);
}

CASE(EverythingAtDispatchLevel) {
    TEST_CLIENT client;
    OPERATION create = {0}, bind = {0}, accept = {0}, close = {0};
    ADDRESS any = AddressOf("127.0.0.1", 0);
    PWSK_SOCKET socket;
    KIRQL irql;

    ClientBegin(&client);
    OperationStart(&create);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    create.Returned = client.Npi.Dispatch->WskSocket(client.Npi.Client, AF_INET, SOCK_STREAM, IPPROTO_TCP, WSK_FLAG_LISTEN_SOCKET, NULL,
                                                     NULL, NULL, NULL, NULL, create.Irp); /* SOCK-016 */
    KeLowerIrql(irql);
    CHECK_STATUS(OperationEnd(&create), STATUS_SUCCESS);
    socket = (PWSK_SOCKET)create.Information;
    OperationStart(&bind);
    OperationStart(&accept);
    OperationStart(&close);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    bind.Returned = LISTENER(socket)->WskBind(socket, &any.Any, 0, bind.Irp); /* CONN-014 */
    KeLowerIrql(irql);
    CHECK_STATUS(OperationEnd(&bind), STATUS_SUCCESS);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    accept.Returned = LISTENER(socket)->WskAccept(socket, 0, NULL, NULL, NULL, NULL, accept.Irp);
    close.Returned = LISTENER(socket)->Basic.WskCloseSocket(socket, close.Irp);
    KeLowerIrql(irql);
    CHECK_STATUS(OperationEnd(&accept), STATUS_CANCELLED); /* ACC-011 */
    CHECK_STATUS(OperationEnd(&close), STATUS_SUCCESS);
    CHECK(accept.Sequence < close.Sequence);
    ClientEnd(&client);
}
