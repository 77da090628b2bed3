/*
 * provider_datagram_cases.c: datagram sockets (rules DGRAM).
 */
#include "provider_client.h"

#include <errno.h>

#define IP_PKTINFO_OF_WINDOWS 19u
#define IP_ADD_MEMBERSHIP_OF_WINDOWS 12u

typedef struct DATAGRAM_LOG {
    KEVENT Changed;
    LONG Count;
    LONG Calls;
    ULONG Flags;
    UCHAR First[64]; /* of each datagram */
    SIZE_T Lengths[64];
    NTSTATUS Answer;
    PWSK_DATAGRAM_INDICATION Kept[64];
    LONG KeptCount;
    ULONG ControlLength;
    ADDRESS From;
} DATAGRAM_LOG;

static DATAGRAM_LOG Log;

static void LogBegin(void) {
    RtlZeroMemory(&Log, sizeof(Log));
    KeInitializeEvent(&Log.Changed, SynchronizationEvent, FALSE);
}

static UCHAR FirstByte(const WSK_BUF *buffer) {
    PUCHAR base = MmGetSystemAddressForMdlSafe(buffer->Mdl, NormalPagePriority | MdlMappingNoExecute);
    CHECK(base != NULL && buffer->Offset < buffer->Mdl->ByteCount);
    return base[buffer->Offset];
}

static NTSTATUS WSKAPI OnReceiveFrom(PVOID context, ULONG flags, PWSK_DATAGRAM_INDICATION list) {
    NTSTATUS answer = Log.Answer;

    CHECK(context == &Log); /* CTX-002 */
    CHECK(((flags & WSK_FLAG_AT_DISPATCH_LEVEL) != 0) == (KeGetCurrentIrql() == DISPATCH_LEVEL));
    Log.Flags = flags;
    for (PWSK_DATAGRAM_INDICATION one = list; one != NULL && answer != STATUS_DATA_NOT_ACCEPTED; one = one->Next) {
        Log.Lengths[Log.Count] = one->Buffer.Length;
        Log.First[Log.Count] = one->Buffer.Length > 0 ? FirstByte(&one->Buffer) : 0;
        memcpy(&Log.From, one->RemoteAddress, 16);
        Log.ControlLength = one->ControlInfoLength;
        if (answer == STATUS_PENDING) {
            Log.Kept[Log.KeptCount++] = one;
        }
        Log.Count++;
    }
    Log.Calls++;
    KeSetEvent(&Log.Changed, IO_NO_INCREMENT, FALSE);
    return answer;
}

static const WSK_CLIENT_DATAGRAM_DISPATCH Dispatch = {OnReceiveFrom};

static void AwaitCount(LONG *counter, LONG count) {
    while (*(volatile LONG *)counter < count) {
        EventAwait(&Log.Changed);
    }
}

static NTSTATUS SendTo(PWSK_SOCKET socket, const void *bytes, ULONG size, const ADDRESS *to, ULONG_PTR *information) {
    OPERATION operation = {0};
    TEST_BUFFER buffer;
    ADDRESS copy;

    if (to != NULL) {
        copy = *to;
    }
    BufferOf(&buffer, bytes, size);
    CALL(&operation, DATAGRAM(socket)->WskSendTo(socket, &buffer.Wsk, 0, to == NULL ? NULL : &copy.Any, 0, NULL, IRP_OF));
    OperationEnd(&operation);
    BufferFree(&buffer);
    if (information != NULL) {
        *information = operation.Information;
    }
    return operation.Status;
}

CASE(DatagramsKeepTheirBoundaries) {
    static const ULONG sizes[] = {1, 512, 1472, 8000};
    static const char *const texts[] = {"127.0.0.1", "::1"};
    static UCHAR bytes[8000], got[9000];
    TEST_CLIENT client;

    ClientBegin(&client);
    for (ULONG family = 0; family < RTL_NUMBER_OF(texts); family++) {
        ADDRESS bound, peerBound, from;
        PWSK_SOCKET socket = DatagramMake(&client, texts[family], NULL, NULL, &bound);
        int peer = PeerDatagram(texts[family], &peerBound);
        for (ULONG index = 0; index < RTL_NUMBER_OF(sizes); index++) {
            ULONG_PTR information;
            bytes[0] = (UCHAR)index;
            CHECK_STATUS(SendTo(socket, bytes, sizes[index], &peerBound, &information), STATUS_SUCCESS);
            CHECK_EQUAL(information, sizes[index]); /* DGRAM-001 */
            CHECK_EQUAL(PeerReceiveFrom(peer, got, sizeof(got), 1000, &from), sizes[index]);
            CHECK(memcmp(&from, &bound, family == 0 ? 16 : 28) == 0);
        }
        PeerSendTo(peer, "one", 3, &bound);
        PeerSendTo(peer, "second", 6, &bound);
        for (ULONG index = 0; index < 2; index++) {
            OPERATION operation = {0};
            TEST_BUFFER buffer;
            ADDRESS remote = {0};
            ULONG flags = 0xFFFF;
            BufferOf(&buffer, NULL, 100);
            CALL(&operation, DATAGRAM(socket)->WskReceiveFrom(socket, &buffer.Wsk, 0, index == 0 ? &remote.Any : NULL, NULL, NULL,
                                                              index == 0 ? &flags : NULL, IRP_OF));
            CHECK_STATUS(OperationEnd(&operation), STATUS_SUCCESS);
            CHECK_EQUAL(operation.Information, index == 0 ? 3 : 6); /* DGRAM-002 */
            CHECK(index != 0 || (memcmp(&remote, &peerBound, family == 0 ? 16 : 28) == 0 && flags == 0));
            CHECK_EQUAL(buffer.Memory[0][10], 0xCC);
            BufferFree(&buffer);
        }
        SocketClose(socket);
        PeerClose(peer);
    }
    ClientEnd(&client);
}

CASE(DatagramNeedsBind) {
    TEST_CLIENT client;
    ADDRESS to = AddressOf("127.0.0.1", 9);
    OPERATION operation = {0};
    TEST_BUFFER buffer;
    PWSK_SOCKET socket;

    ClientBegin(&client);
    socket = SocketMake(&client, AF_INET, SOCK_DGRAM, WSK_FLAG_DATAGRAM_SOCKET, NULL, NULL, NULL);
    CHECK(!NT_SUCCESS(SendTo(socket, "x", 1, &to, NULL))); /* DGRAM-003 */
    BufferOf(&buffer, NULL, 10);
    CALL(&operation, DATAGRAM(socket)->WskReceiveFrom(socket, &buffer.Wsk, 0, NULL, NULL, NULL, NULL, IRP_OF));
    CHECK(!NT_SUCCESS(OperationEnd(&operation)));
    BufferFree(&buffer);
    SocketClose(socket);
    ClientEnd(&client);
}

static NTSTATUS SetFixed(PWSK_SOCKET socket, ULONG code, const ADDRESS *address) {
    ADDRESS copy;
    if (address == NULL) {
        return Ioctl(socket, code, NULL, 0, NULL, 0, NULL);
    }
    copy = *address;
    return Ioctl(socket, code, &copy, 16, NULL, 0, NULL);
}

CASE(FixedRemoteAddress) {
    TEST_CLIENT client;
    ADDRESS bound, a, b;
    PWSK_SOCKET socket, early;
    OPERATION receive = {0};
    TEST_BUFFER buffer;
    UCHAR byte;
    int peerA = PeerDatagram("127.0.0.1", &a), peerB = PeerDatagram("127.0.0.1", &b);

    ClientBegin(&client);
    early = SocketMake(&client, AF_INET, SOCK_DGRAM, WSK_FLAG_DATAGRAM_SOCKET, NULL, NULL, NULL);
    CHECK(!NT_SUCCESS(SetFixed(early, SIO_WSK_SET_REMOTE_ADDRESS, &a)));
    SocketClose(early);
    socket = DatagramMake(&client, "127.0.0.1", NULL, NULL, &bound);
    CHECK(!NT_SUCCESS(SendTo(socket, "x", 1, NULL, NULL)));
    CHECK_STATUS(SetFixed(socket, SIO_WSK_SET_REMOTE_ADDRESS, &a), STATUS_SUCCESS);
    CHECK_STATUS(SendTo(socket, "f", 1, NULL, NULL), STATUS_SUCCESS); /* DGRAM-004 */
    CHECK_EQUAL(PeerReceiveFrom(peerA, &byte, 1, 1000, NULL), 1);
    CHECK_STATUS(SendTo(socket, "o", 1, &b, NULL), STATUS_SUCCESS); /* DGRAM-005 */
    CHECK_EQUAL(PeerReceiveFrom(peerB, &byte, 1, 1000, NULL), 1);
    CHECK_EQUAL(byte, 'o');
    BufferOf(&buffer, NULL, 10);
    CALL(&receive, DATAGRAM(socket)->WskReceiveFrom(socket, &buffer.Wsk, 0, NULL, NULL, NULL, NULL, IRP_OF));
    PeerSendTo(peerB, "b", 1, &bound);
    CHECK(!OperationIsDone(&receive, 50));
    PeerSendTo(peerA, "a", 1, &bound);
    CHECK_STATUS(OperationEnd(&receive), STATUS_SUCCESS);
    CHECK_EQUAL(buffer.Memory[0][0], 'a');
    CHECK_STATUS(SetFixed(socket, SIO_WSK_SET_REMOTE_ADDRESS, NULL), STATUS_SUCCESS);
    CHECK_STATUS(SetFixed(socket, SIO_WSK_SET_SENDTO_ADDRESS, &a), STATUS_SUCCESS); /* DGRAM-006 */
    CHECK_STATUS(SendTo(socket, "s", 1, NULL, NULL), STATUS_SUCCESS);
    CHECK_EQUAL(PeerReceiveFrom(peerA, &byte, 1, 1000, NULL), 1);
    CALL(&receive, DATAGRAM(socket)->WskReceiveFrom(socket, &buffer.Wsk, 0, NULL, NULL, NULL, NULL, IRP_OF));
    PeerSendTo(peerB, "c", 1, &bound);
    CHECK_STATUS(OperationEnd(&receive), STATUS_SUCCESS);
    CHECK_EQUAL(buffer.Memory[0][0], 'c');
    CHECK_STATUS(SetFixed(socket, SIO_WSK_SET_SENDTO_ADDRESS, NULL), STATUS_SUCCESS);
    CHECK(!NT_SUCCESS(SendTo(socket, "x", 1, NULL, NULL)));
    BufferFree(&buffer);
    SocketClose(socket);
    PeerClose(peerA);
    PeerClose(peerB);
    ClientEnd(&client);
}

CASE(TruncationAndControl) {
    TEST_CLIENT client;
    ADDRESS bound, peerBound;
    PWSK_SOCKET socket;
    OPERATION first = {0}, second = {0};
    TEST_BUFFER buffer;
    ULONG64 control[8];
    ULONG length = sizeof(control), flags = 0;
    UCHAR bytes[100] = {7};
    PCMSGHDR header = (PCMSGHDR)control;
    int peer = PeerDatagram("127.0.0.1", &peerBound);

    ClientBegin(&client);
    socket = DatagramMake(&client, "127.0.0.1", NULL, NULL, &bound);
    CHECK_STATUS(OptionSet(socket, 0, IP_PKTINFO_OF_WINDOWS, 1), STATUS_SUCCESS);
    PeerSendTo(peer, bytes, sizeof(bytes), &bound);
    BufferOf(&buffer, NULL, 10);
    CALL(&first, DATAGRAM(socket)->WskReceiveFrom(socket, &buffer.Wsk, 0, NULL, &length, header, &flags, IRP_OF));
    OperationEnd(&first);
    CHECK_EQUAL(flags, MSG_TRUNC); /* DGRAM-007 */
    CHECK_EQUAL(buffer.Memory[0][0], 7);
    CHECK_EQUAL(length, 24); /* DGRAM-008: WSA_CMSG_SPACE of an IN_PKTINFO */
    CHECK(header->cmsg_len == 24 && header->cmsg_level == 0 && header->cmsg_type == (INT)IP_PKTINFO_OF_WINDOWS);
    CHECK(memcmp(header + 1, bound.Bytes + 4, 4) == 0);
    PeerSendTo(peer, bytes, 5, &bound);
    length = 8;
    control[1] = 0x5555;
    CALL(&second, DATAGRAM(socket)->WskReceiveFrom(socket, &buffer.Wsk, 0, NULL, &length, header, &flags, IRP_OF));
    CHECK_STATUS(OperationEnd(&second), STATUS_SUCCESS);
    CHECK(flags == MSG_CTRUNC && control[1] == 0x5555);
    BufferFree(&buffer);
    SocketClose(socket);
    PeerClose(peer);
    ClientEnd(&client);
}

CASE(BroadcastAndMulticast) {
    TEST_CLIENT client;
    ADDRESS bound, out, broadcast, group;
    PWSK_SOCKET receiver, sender;
    OPERATION receive = {0}, member = {0};
    TEST_BUFFER buffer;
    UCHAR membership[8];
    ULONG flags = 0;

    ClientBegin(&client);
    receiver = DatagramMake(&client, "0.0.0.0", NULL, NULL, &bound);
    sender = DatagramMake(&client, "127.0.0.1", NULL, NULL, &out);
    broadcast = AddressOf("127.255.255.255", PortOf(&bound));
    CHECK(!NT_SUCCESS(SendTo(sender, "b", 1, &broadcast, NULL))); /* DGRAM-009 */
    CHECK_STATUS(OptionSet(sender, SOL_SOCKET, SO_BROADCAST, 1), STATUS_SUCCESS);
    BufferOf(&buffer, NULL, 10);
    CALL(&receive, DATAGRAM(receiver)->WskReceiveFrom(receiver, &buffer.Wsk, 0, NULL, NULL, NULL, &flags, IRP_OF));
    CHECK_STATUS(SendTo(sender, "b", 1, &broadcast, NULL), STATUS_SUCCESS);
    CHECK_STATUS(OperationEnd(&receive), STATUS_SUCCESS);
    CHECK_EQUAL(flags, MSG_BCAST);
    group = AddressOf("239.1.2.3", PortOf(&bound));
    memcpy(membership, group.Bytes + 4, 4);
    memcpy(membership + 4, out.Bytes + 4, 4); /* the loopback interface */
    CALL(&member, BASIC(receiver)->WskControlSocket(receiver, WskSetOption, IP_ADD_MEMBERSHIP_OF_WINDOWS, 0, sizeof(membership), membership, 0,
                                                    NULL, NULL, IRP_OF));
    CHECK_STATUS(OperationEnd(&member), STATUS_SUCCESS);
    CALL(&receive, DATAGRAM(receiver)->WskReceiveFrom(receiver, &buffer.Wsk, 0, NULL, NULL, NULL, &flags, IRP_OF));
    CHECK_STATUS(SendTo(sender, "m", 1, &group, NULL), STATUS_SUCCESS);
    CHECK_STATUS(OperationEnd(&receive), STATUS_SUCCESS);
    CHECK_EQUAL(flags, MSG_MCAST);
    BufferFree(&buffer);
    SocketClose(receiver);
    SocketClose(sender);
    ClientEnd(&client);
}

CASE(ReceiveFromEvent) {
    enum { COUNT = 20 };
    TEST_CLIENT client;
    ADDRESS bound, peerBound;
    PWSK_SOCKET socket;
    int peer = PeerDatagram("127.0.0.1", &peerBound);

    ClientBegin(&client);
    LogBegin();
    socket = DatagramMake(&client, "127.0.0.1", &Log, &Dispatch, &bound);
    PeerSendTo(peer, "e", 1, &bound);
    Pause(50);
    CHECK_EQUAL(Log.Calls, 0);
    CHECK_STATUS(EventsSet(socket, WSK_EVENT_RECEIVE_FROM), STATUS_SUCCESS);
    AwaitCount(&Log.Count, 1); /* CTX-002 */
    CHECK(memcmp(&Log.From, &peerBound, 16) == 0);
    Log.Answer = STATUS_PENDING;
    for (ULONG index = 0; index < COUNT; index++) {
        UCHAR bytes[20] = {(UCHAR)(index + 1)};
        PeerSendTo(peer, bytes, index + 1, &bound);
    }
    AwaitCount(&Log.Count, 1 + COUNT); /* DGRAM-010 */
    for (ULONG index = 0; index < COUNT; index++) {
        CHECK(Log.First[index + 1] == index + 1 && Log.Lengths[index + 1] == index + 1);
    }
    Pause(20);
    /* Each list in pieces: cut behind its first entry. */
    for (LONG index = 0; index < Log.KeptCount; index++) {
        CHECK_EQUAL(FirstByte(&Log.Kept[index]->Buffer), index + 1);
        Log.Kept[index]->Next = NULL;
        CHECK_STATUS(DATAGRAM(socket)->WskRelease(socket, Log.Kept[index]), STATUS_SUCCESS);
    }
    SocketClose(socket);
    PeerClose(peer);
    ClientEnd(&client);
}

CASE(RefusedDatagramsDisableTheEvent) {
    TEST_CLIENT client;
    ADDRESS bound, peerBound;
    PWSK_SOCKET socket;
    OPERATION receive = {0};
    TEST_BUFFER buffer;
    int peer = PeerDatagram("127.0.0.1", &peerBound);

    ClientBegin(&client);
    LogBegin();
    Log.Answer = STATUS_DATA_NOT_ACCEPTED;
    socket = DatagramMake(&client, "127.0.0.1", &Log, &Dispatch, &bound);
    CHECK_STATUS(EventsSet(socket, WSK_EVENT_RECEIVE_FROM), STATUS_SUCCESS);
    PeerSendTo(peer, "1", 1, &bound);
    AwaitCount(&Log.Calls, 1);
    Pause(20);
    PeerSendTo(peer, "2", 1, &bound);
    PeerSendTo(peer, "3", 1, &bound);
    Pause(50);
    CHECK_EQUAL(Log.Calls, 1); /* DGRAM-011 */
    BufferOf(&buffer, NULL, 10);
    CALL(&receive, DATAGRAM(socket)->WskReceiveFrom(socket, &buffer.Wsk, 0, NULL, NULL, NULL, NULL, IRP_OF));
    CHECK_STATUS(OperationEnd(&receive), STATUS_SUCCESS);
    CHECK_EQUAL(buffer.Memory[0][0], '1'); /* buffered, and first */
    Log.Answer = STATUS_SUCCESS;
    CHECK_STATUS(EventsSet(socket, WSK_EVENT_RECEIVE_FROM), STATUS_SUCCESS); /* EVT-009 */
    AwaitCount(&Log.Count, 2);
    CHECK(Log.First[0] == '2' && Log.First[1] == '3');
    BufferFree(&buffer);
    SocketClose(socket);
    PeerClose(peer);
    ClientEnd(&client);
}

CASE(StaticReceiveFromGoesOn) {
    static const NPIID id = WSKLAB_NPI_WSK_INTERFACE_ID;
    WSK_EVENT_CALLBACK_CONTROL control = {.NpiId = &id, .EventMask = WSK_EVENT_RECEIVE_FROM};
    TEST_CLIENT client;
    ADDRESS bound, peerBound;
    PWSK_SOCKET socket;
    int peer = PeerDatagram("127.0.0.1", &peerBound);

    ClientBegin(&client);
    LogBegin();
    CHECK_STATUS(client.Npi.Dispatch->WskControlClient(client.Npi.Client, WSK_SET_STATIC_EVENT_CALLBACKS, sizeof(control), &control, 0, NULL,
                                                       NULL, NULL),
                 STATUS_SUCCESS);
    Log.Answer = STATUS_DATA_NOT_ACCEPTED;
    socket = DatagramMake(&client, "127.0.0.1", &Log, &Dispatch, &bound);
    PeerSendTo(peer, "1", 1, &bound);
    AwaitCount(&Log.Calls, 1);
    Log.Answer = STATUS_SUCCESS;
    PeerSendTo(peer, "2", 1, &bound);
    AwaitCount(&Log.Count, 1); /* DGRAM-011: not disabled */
    SocketClose(socket);
    PeerClose(peer);
    ClientEnd(&client);
}

CASE(SendMessagesInOneCall) {
    enum { COUNT = 10 };
    TEST_CLIENT client;
    ADDRESS bound, peerBound;
    PWSK_SOCKET socket;
    OPERATION operation = {0};
    TEST_BUFFER buffers[COUNT];
    WSK_BUF_LIST list[COUNT];
    UCHAR bytes[100];
    int peer = PeerDatagram("127.0.0.1", &peerBound);
    SIZE_T sum = 0;

    ClientBegin(&client);
    socket = DatagramMake(&client, "127.0.0.1", NULL, NULL, &bound);
    for (ULONG index = 0; index < COUNT; index++) {
        BufferOf(&buffers[index], NULL, 10 * index + 1);
        buffers[index].Memory[0][0] = (UCHAR)index;
        list[index].Next = index + 1 < COUNT ? &list[index + 1] : NULL;
        list[index].Buffer = buffers[index].Wsk;
        sum += 10 * index + 1;
    }
    CALL(&operation, DATAGRAM(socket)->WskSendMessages(socket, list, 0, &peerBound.Any, 0, NULL, IRP_OF));
    CHECK_STATUS(OperationEnd(&operation), STATUS_SUCCESS);
    CHECK_EQUAL(operation.Information, sum); /* DGRAM-013 */
    for (ULONG index = 0; index < COUNT; index++) {
        CHECK_EQUAL(PeerReceiveFrom(peer, bytes, sizeof(bytes), 1000, NULL), 10 * index + 1);
        CHECK_EQUAL(bytes[0], index);
        BufferFree(&buffers[index]);
    }
    SocketClose(socket);
    PeerClose(peer);
    ClientEnd(&client);
}

CASE(OddDatagrams) {
    static UCHAR bytes[65508];
    static const UCHAR wrong[24] = {24};
    TEST_CLIENT client;
    ADDRESS bound, peerBound;
    PWSK_SOCKET socket;
    OPERATION flags = {0}, malformed = {0}, source = {0}, empty = {0};
    TEST_BUFFER buffer, nothing = {0};
    ULONG64 control[3] = {24, 19ull << 32, 0};
    UCHAR got[10];
    int peer = PeerDatagram("127.0.0.1", &peerBound);

    ClientBegin(&client);
    socket = DatagramMake(&client, "0.0.0.0", NULL, NULL, &bound);
    CHECK(!NT_SUCCESS(SendTo(socket, bytes, sizeof(bytes), &peerBound, NULL))); /* DGRAM-014 */
    CALL(&empty, DATAGRAM(socket)->WskSendTo(socket, &nothing.Wsk, 0, &peerBound.Any, 0, NULL, IRP_OF));
    CHECK_STATUS(OperationEnd(&empty), STATUS_SUCCESS);
    CHECK_EQUAL(PeerReceiveFrom(peer, got, sizeof(got), 1000, NULL), 0);
    BufferOf(&buffer, "c", 1);
    CALL(&flags, DATAGRAM(socket)->WskSendTo(socket, &buffer.Wsk, 1, &peerBound.Any, 0, NULL, IRP_OF));
    CHECK(!NT_SUCCESS(OperationEnd(&flags)));
    CALL(&malformed, DATAGRAM(socket)->WskSendTo(socket, &buffer.Wsk, 0, &peerBound.Any, 8, (PCMSGHDR)(ULONG_PTR)wrong, IRP_OF));
    CHECK(!NT_SUCCESS(OperationEnd(&malformed)));
    memcpy(&control[2], peerBound.Bytes + 4, 4); /* an IN_PKTINFO: from 127.0.0.1, any interface */
    CALL(&source, DATAGRAM(socket)->WskSendTo(socket, &buffer.Wsk, 0, &peerBound.Any, sizeof(control), (PCMSGHDR)control, IRP_OF));
    CHECK_STATUS(OperationEnd(&source), STATUS_SUCCESS);
    CHECK_EQUAL(PeerReceiveFrom(peer, got, sizeof(got), 1000, &bound), 1);
    CHECK(memcmp(bound.Bytes + 4, peerBound.Bytes + 4, 4) == 0);
    BufferFree(&buffer);
    SocketClose(socket);
    PeerClose(peer);
    ClientEnd(&client);
}
