/*
 * provider_irp_cases.c: what may become of an IRP (rules IRP), and the knobs that choose.
 */
#include "provider_client.h"

#include "knobs.h"

typedef struct PAIR {
    TEST_CLIENT Client;
    PWSK_SOCKET Listener;
    PWSK_SOCKET Socket;
    int Peer;
} PAIR;

static void PairBegin(PAIR *pair) {
    ADDRESS bound;
    ClientBegin(&pair->Client);
    pair->Listener = ListenerMake(&pair->Client, "127.0.0.1", NULL, NULL, &bound);
    pair->Peer = PeerConnect(&bound);
    pair->Socket = AcceptOne(pair->Listener, NULL, NULL);
}

static void PairEnd(PAIR *pair) {
    if (pair->Socket != NULL) {
        SocketClose(pair->Socket);
    }
    SocketClose(pair->Listener);
    PeerClose(pair->Peer);
    ClientEnd(&pair->Client);
}

CASE(InlineOrLater) {
    TEST_CLIENT client;
    ADDRESS bound;
    OPERATION create = {0}, accept = {0};
    PWSK_SOCKET listener;
    int peer;

    ClientBegin(&client);
    WskpKnobOrder(WSKP_ANY, WSKP_ORDER_INLINE);
    CALL(&create, client.Npi.Dispatch->WskSocket(client.Npi.Client, AF_INET, SOCK_STREAM, IPPROTO_TCP, WSK_FLAG_LISTEN_SOCKET, NULL, NULL,
                                                 NULL, NULL, NULL, IRP_OF));
    CHECK_STATUS(create.Returned, STATUS_SUCCESS);
    CHECK_EQUAL(create.Completions, 1); /* IRP-002 */
    OperationEnd(&create);
    SocketClose((PWSK_SOCKET)create.Information);
    listener = ListenerMake(&client, "127.0.0.1", NULL, NULL, &bound);
    for (ULONG order = 0; order < 2; order++) {
        peer = PeerConnect(&bound);
        Pause(20);
        WskpKnobOrder(WSKP_Accept, order == 0 ? WSKP_ORDER_INLINE : WSKP_ORDER_LATER);
        CALL(&accept, LISTENER(listener)->WskAccept(listener, 0, NULL, NULL, NULL, NULL, IRP_OF));
        CHECK_STATUS(accept.Returned, order == 0 ? STATUS_SUCCESS : STATUS_PENDING); /* ACC-002 */
        CHECK_STATUS(OperationEnd(&accept), STATUS_SUCCESS);
        SocketClose((PWSK_SOCKET)accept.Information);
        PeerClose(peer);
    }
    SocketClose(listener);
    ClientEnd(&client);
}

CASE(CompletionLevels) {
    static const WSKP_IRQL levels[] = {WSKP_IRQL_PASSIVE, WSKP_IRQL_DISPATCH};
    TEST_CLIENT client;

    ClientBegin(&client);
    WskpKnobOrder(WSKP_ANY, WSKP_ORDER_LATER);
    for (ULONG index = 0; index < RTL_NUMBER_OF(levels); index++) {
        OPERATION operation = {0};
        WskpKnobIrql(levels[index]);
        CALL(&operation, client.Npi.Dispatch->WskSocket(client.Npi.Client, AF_INET, SOCK_STREAM, IPPROTO_TCP, WSK_FLAG_LISTEN_SOCKET, NULL,
                                                        NULL, NULL, NULL, NULL, IRP_OF));
        CHECK_STATUS(OperationEnd(&operation), STATUS_SUCCESS);
        CHECK_EQUAL(operation.Irql, index == 0 ? PASSIVE_LEVEL : DISPATCH_LEVEL); /* IRP-012 */
        SocketClose((PWSK_SOCKET)operation.Information);
    }
    ClientEnd(&client);
}

CASE(CompletedAfterClose) {
    PAIR pair;
    OPERATION receive = {0}, close = {0};
    TEST_BUFFER buffer;

    PairBegin(&pair);
    WskpKnobOrder(WSKP_Receive, WSKP_ORDER_AFTER_CLOSE);
    PeerSend(pair.Peer, "late", 4);
    BufferOf(&buffer, NULL, 10);
    CALL(&receive, CONNECTION(pair.Socket)->WskReceive(pair.Socket, &buffer.Wsk, 0, IRP_OF));
    CHECK_STATUS(receive.Returned, STATUS_PENDING);
    CHECK(!OperationIsDone(&receive, 50));
    CALL(&close, BASIC(pair.Socket)->WskCloseSocket(pair.Socket, IRP_OF));
    CHECK_STATUS(OperationEnd(&receive), STATUS_SUCCESS);
    CHECK_EQUAL(receive.Information, 4);
    CHECK_STATUS(OperationEnd(&close), STATUS_SUCCESS);
    CHECK(receive.Sequence < close.Sequence);
    pair.Socket = NULL;
    BufferFree(&buffer);
    PairEnd(&pair);
}

CASE(CompletedAfterCancel) {
    PAIR pair;
    OPERATION receive = {0};
    TEST_BUFFER buffer;

    PairBegin(&pair);
    WskpKnobOrder(WSKP_Receive, WSKP_ORDER_AFTER_CANCEL);
    PeerSend(pair.Peer, "late", 4);
    BufferOf(&buffer, NULL, 10);
    CALL(&receive, CONNECTION(pair.Socket)->WskReceive(pair.Socket, &buffer.Wsk, 0, IRP_OF));
    CHECK(!OperationIsDone(&receive, 50));
    CHECK(IoCancelIrp(receive.Irp));
    CHECK_STATUS(OperationEnd(&receive), STATUS_SUCCESS); /* too late: it had succeeded */
    CHECK_EQUAL(receive.Information, 4);
    CALL(&receive, CONNECTION(pair.Socket)->WskReceive(pair.Socket, &buffer.Wsk, 0, IRP_OF));
    IoCancelIrp(receive.Irp);
    CHECK_STATUS(OperationEnd(&receive), STATUS_CANCELLED);
    BufferFree(&buffer);
    PairEnd(&pair);
}

CASE(InjectedFaults) {
    TEST_CLIENT client;
    ADDRESS any = AddressOf("127.0.0.1", 0);
    OPERATION operation = {0}, lost = {0}, twice = {0};
    PWSK_SOCKET socket;
    ULONG64 before;

    ClientBegin(&client);
    socket = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL);
    WskpKnobFault(WSKP_Bind, 2, WSKP_FAULT_FAIL, STATUS_FILE_FORCED_CLOSED, 0);
    CALL(&operation, LISTENER(socket)->WskBind(socket, &any.Any, 1, IRP_OF));
    CHECK_STATUS(OperationEnd(&operation), STATUS_INVALID_PARAMETER);
    CHECK_STATUS(SocketBind(socket, &any), STATUS_FILE_FORCED_CLOSED);
    WskpKnobFault(WSKP_Bind, 1, WSKP_FAULT_LOST, STATUS_NOT_IMPLEMENTED, 0);
    CALL(&lost, LISTENER(socket)->WskBind(socket, &any.Any, 0, IRP_OF));
    CHECK_STATUS(lost.Returned, STATUS_NOT_IMPLEMENTED);
    CHECK(!OperationIsDone(&lost, 100));
    IoFreeIrp(lost.Irp);
    WskpKnobFault(WSKP_Bind, 1, WSKP_FAULT_DELAY, STATUS_SUCCESS, 100);
    before = ShimNow();
    CHECK_STATUS(SocketBind(socket, &any), STATUS_SUCCESS);
    CHECK(ShimNow() - before >= 90 * 1000000ull);
    WskpKnobFault(WSKP_CloseSocket, 1, WSKP_FAULT_TWICE, STATUS_SUCCESS, 0);
    CALL(&twice, BASIC(socket)->WskCloseSocket(socket, IRP_OF));
    for (ULONG round = 0; twice.Completions < 2 && round < WAIT_SLICES; round++) {
        Pause(SLICE_MS);
    }
    CHECK_EQUAL(twice.Completions, 2);
    Pause(SLICE_MS);
    IoFreeIrp(twice.Irp);
    ClientEnd(&client);
}

CASE(DelayedBeforeClose) {
    PAIR pair;
    OPERATION receive = {0}, close = {0};
    TEST_BUFFER buffer;

    PairBegin(&pair);
    WskpKnobFault(WSKP_Receive, 1, WSKP_FAULT_DELAY, STATUS_SUCCESS, 5000);
    PeerSend(pair.Peer, "x", 1);
    BufferOf(&buffer, NULL, 10);
    CALL(&receive, CONNECTION(pair.Socket)->WskReceive(pair.Socket, &buffer.Wsk, 0, IRP_OF));
    CHECK(!OperationIsDone(&receive, 20));
    CALL(&close, BASIC(pair.Socket)->WskCloseSocket(pair.Socket, IRP_OF));
    CHECK_STATUS(OperationEnd(&receive), STATUS_SUCCESS); /* a close does not wait for a whim */
    CHECK_STATUS(OperationEnd(&close), STATUS_SUCCESS);
    pair.Socket = NULL;
    BufferFree(&buffer);
    PairEnd(&pair);
}

/* ---- Where IRPs come from --------------------------------------------------------------------------------------------- */

typedef struct TWO_ROUTINES {
    LONG Upper, Lower;
    KEVENT Done;
} TWO_ROUTINES;

static NTSTATUS NTAPI Upper(PDEVICE_OBJECT device, PIRP irp, PVOID context) {
    TWO_ROUTINES *two = context;
    (void)device;
    (void)irp;
    two->Upper++;
    KeSetEvent(&two->Done, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static NTSTATUS NTAPI Lower(PDEVICE_OBJECT device, PIRP irp, PVOID context) {
    (void)device;
    (void)irp;
    ((TWO_ROUTINES *)context)->Lower++;
    return STATUS_SUCCESS;
}

CASE(InvokeFlags) {
    TEST_CLIENT client;
    ADDRESS to = AddressOf("127.0.0.1", 9);
    TWO_ROUTINES two = {0};
    PWSK_SOCKET socket;
    PIRP irp;

    ClientBegin(&client);
    KeInitializeEvent(&two.Done, NotificationEvent, FALSE);
    socket = SocketMake(&client, AF_INET, SOCK_STREAM, WSK_FLAG_CONNECTION_SOCKET, NULL, NULL, NULL);
    irp = IoAllocateIrp(2, FALSE);
    IoSetCompletionRoutine(irp, Upper, &two, TRUE, TRUE, TRUE);
    IoSetNextIrpStackLocation(irp);
    IoSetCompletionRoutine(irp, Lower, &two, TRUE, FALSE, FALSE);
    CONNECTION(socket)->WskConnect(socket, &to.Any, 0, irp);
    EventAwait(&two.Done);
    CHECK(two.Upper == 1 && two.Lower == 0); /* IRP-011 */
    CHECK_STATUS(irp->IoStatus.Status, STATUS_INVALID_DEVICE_STATE);
    IoFreeIrp(irp);
    SocketClose(socket);
    ClientEnd(&client);
}

static NTSTATUS NTAPI Signal(PDEVICE_OBJECT device, PIRP irp, PVOID context) {
    (void)device;
    (void)irp;
    KeSetEvent(context, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static void Prepare(PIRP irp, PKEVENT done) {
    KeInitializeEvent(done, NotificationEvent, FALSE);
    IoSetCompletionRoutine(irp, Signal, done, TRUE, TRUE, TRUE);
}

static void Chain(TEST_CLIENT *client, PIRP irp) {
    ADDRESS any = AddressOf("127.0.0.1", 0);
    PWSK_SOCKET socket;
    KEVENT done;

    Prepare(irp, &done);
    client->Npi.Dispatch->WskSocket(client->Npi.Client, AF_INET, SOCK_STREAM, IPPROTO_TCP, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL, NULL, NULL,
                                    irp);
    EventAwait(&done);
    CHECK_STATUS(irp->IoStatus.Status, STATUS_SUCCESS);
    socket = (PWSK_SOCKET)irp->IoStatus.Information;
    IoReuseIrp(irp, STATUS_UNSUCCESSFUL);
    Prepare(irp, &done);
    LISTENER(socket)->WskBind(socket, &any.Any, 0, irp);
    EventAwait(&done);
    CHECK_STATUS(irp->IoStatus.Status, STATUS_SUCCESS);
    IoReuseIrp(irp, STATUS_UNSUCCESSFUL);
    Prepare(irp, &done);
    BASIC(socket)->WskCloseSocket(socket, irp);
    EventAwait(&done);
    CHECK_STATUS(irp->IoStatus.Status, STATUS_SUCCESS);
    CHECK_EQUAL(irp->IoStatus.Information, 0);
}

CASE(ReusedAndInCallerMemory) {
    static const CCHAR stacks[] = {1, 2, 4, 8};
    TEST_CLIENT client;
    PIRP own = ExAllocatePool2(POOL_FLAG_NON_PAGED, IoSizeOfIrp(1), 0x74736574);

    ClientBegin(&client);
    for (ULONG index = 0; index < RTL_NUMBER_OF(stacks); index++) {
        PIRP irp = IoAllocateIrp(stacks[index], FALSE); /* IRP-008 */
        Chain(&client, irp);                            /* IRP-006 */
        IoFreeIrp(irp);
    }
    IoInitializeIrp(own, IoSizeOfIrp(1), 1);
    Chain(&client, own); /* IRP-007 */
    ExFreePoolWithTag(own, 0x74736574);
    ClientEnd(&client);
}
