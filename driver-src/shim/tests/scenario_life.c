/*
 * scenario_life.c: waiting, cancelling, closing; several users; ends in the middle of everything.
 */
#include "scenario.h"

#include "../provider/knobs.h"
#include "../provider/nmr.h"

#define FULL WSKLAB_DISPATCH_FULL

static WSKLAB_HEADER Header(size_t size) {
    return (WSKLAB_HEADER){.size = (uint32_t)size, .abi = WSKLAB_ABI_VERSION};
}

SCENARIO(Looks) {
    WSKLAB_HELLO_REQUEST hello = {.header = Header(sizeof(hello))};
    WSKLAB_WAIT wait = {.header = Header(sizeof(wait)), .op_id = 99};
    WSKLAB_DRAIN drain = {.header = Header(sizeof(drain)), .timeout_ms = 5};
    WSKLAB_SOCKETS sockets = {.header = Header(sizeof(sockets))};
    WSKLAB_FAULTS faults = {.header = Header(sizeof(faults)), .kind = WSKLAB_FAULT_END};
    UCHAR output[4096];
    ULONG accept;

    Listener(u, 1, 0, 0);
    accept = Start(u, OP(ACCEPT, .socket = 1, .new_socket = 2));
    UserIoctl(u, IOCTL_WSKLAB_HELLO, &hello, sizeof(hello), output, sizeof(output), NULL);
    UserIoctl(u, IOCTL_WSKLAB_WAIT, &wait, sizeof(wait), output, sizeof(output), NULL);
    wait.op_id = accept;
    for (wait.timeout_ms = 0; wait.timeout_ms <= 10; wait.timeout_ms += 10) {
        UserIoctl(u, IOCTL_WSKLAB_WAIT, &wait, sizeof(wait), output, sizeof(output), NULL);
    }
    UserIoctl(u, IOCTL_WSKLAB_SOCKETS, &sockets, sizeof(sockets), output, sizeof(output), NULL);
    UserIoctl(u, IOCTL_WSKLAB_OBJECTS, &sockets, sizeof(sockets), output, sizeof(output), NULL);
    UserIoctl(u, IOCTL_WSKLAB_FAULTS, &faults, sizeof(faults), output, sizeof(output), NULL);
    UserIoctl(u, IOCTL_WSKLAB_DRAIN, &drain, sizeof(drain), output, sizeof(output), NULL);
    Look(u, accept);
    Look(u, 77);
    Cancel(u, 77);
    Cancel(u, accept);
    End(u, accept);
    UserIoctl(u, IOCTL_WSKLAB_DRAIN, &drain, sizeof(drain), output, sizeof(output), NULL);
    DrainEvents(u);
}

/* Every request with every length from nothing to a little more than right; no answer fits. */
SCENARIO_WITH(WrongLengths, SCENARIO_SLOW) {
    UCHAR input[sizeof(WSKLAB_SUBMIT) + 64];
    UCHAR output[8];

    for (ULONG code = 0; code < 18; code++) {
        for (ULONG size = 0; size <= sizeof(input); size += size < 32 ? 1 : 24) {
            memset(input, 0, sizeof(input));
            for (ULONG shape = 0; shape < 3; shape++) {
                WSKLAB_HEADER header = Header(shape == 2 ? sizeof(WSKLAB_SUBMIT) : size);
                header.abi = (USHORT)(header.abi + (shape == 1));
                memcpy(input, &header, sizeof(header));
                UserIoctl(u, WSKLAB_CTL(code), input, size, output, size % 9, NULL);
            }
        }
    }
    /* Other methods and accesses are other codes. */
    UserIoctl(u, WSKLAB_CTL(0) + 3, input, sizeof(input), output, sizeof(output), NULL);
    UserIoctl(u, WSKLAB_CTL(1) + 1, input, sizeof(input), output, sizeof(output), NULL);
    UserIoctl(u, WSKLAB_CTL(0), NULL, 0, NULL, 0, NULL);
}

SCENARIO(Cancelled) {
    int peer = Connected(u, 2, 0, 0);
    ULONG ops[6];

    Listener(u, 1, 0, 0);
    ops[0] = Start(u, OP(ACCEPT, .socket = 1, .new_socket = 5));
    ops[1] = Start(u, OP(RECEIVE, .socket = 2, .buffer_length = 10, .irp_source = WSKLAB_IRP_CALLER_MEMORY));
    ops[2] = Start(u, OP(RECEIVE, .socket = 2, .buffer_length = 10, .second_location = 1, .stack_count = 2));
    ops[3] = Start(u, OP(CLOSE, .socket = 1, .delay_ms = 5000));
    ops[4] = Start(u, OP(BIND, .socket = 1, .local = Loopback(4, 0), .switches = WSKLAB_SWITCH_HELD));
    ops[5] = Start(u, OP(SOCKET_INFO, .socket = 2));
    for (ULONG i = 0; i < RTL_NUMBER_OF(ops); i++) {
        Cancel(u, ops[i]);
        Cancel(u, ops[i]);
    }
    for (ULONG i = 0; i < RTL_NUMBER_OF(ops); i++) {
        End(u, ops[i]);
    }
    PeerClose(peer);
}

/* The end of the handle ends all that there is. */
SCENARIO(ClosedInTheMiddle) {
    uint16_t port = Listener(u, 1, FULL, 1);
    int peer = Connected(u, 2, FULL, 2);
    int other = PeerConnect(4, port);

    for (ULONG i = 0; i < 3; i++) {
        Start(u, OP(ACCEPT, .socket = 1, .new_socket = 10 + i));
        Start(u, OP(RECEIVE, .socket = 2, .buffer_length = 100));
    }
    Start(u, OP(SOCKET, .new_socket = 30, .flags = 1, .family = 2, .type = 1, .protocol = 6, .delay_ms = 10000));
    Start(u, OP(CLOSE, .socket = 2, .switches = WSKLAB_SWITCH_HELD));
    Start(u, OP(CAPTURE, .timeout_ms = 100));
    UserClose(u);
    PeerClose(peer);
    PeerClose(other);
}

static void SendMuch(USER *u) {
    for (ULONG i = 0; i < 3; i++) {
        Do(u, OP(SEND, .socket = 2, .buffer_length = 4000, .fill = WSKLAB_FILL_PATTERN));
    }
}

static void CloseIt(USER *u) {
    Do(u, OP(RECEIVE, .socket = 2, .buffer_length = 1, .delay_ms = 1));
    Do(u, OP(CLOSE, .socket = 2, .call_context = WSKLAB_CONTEXT_WORKER));
}

/* Calls that run while the socket is closed. */
SCENARIO(CloseAgainstCalls) {
    int peer = Connected(u, 2, FULL, 2);

    Both(SendMuch, CloseIt, u);
    PeerClose(peer);
}

static void AcceptAndCancel(USER *u) {
    for (ULONG i = 0; i < 3; i++) {
        ULONG op = Start(u, OP(ACCEPT, .socket = 1, .new_socket = 10 + i, .irp_source = i == 1 ? WSKLAB_IRP_CALLER_MEMORY : 0));
        Cancel(u, op);
        End(u, op);
    }
}

static uint16_t g_Port;

static void ConnectPeers(USER *u) {
    (void)u;
    for (ULONG i = 0; i < 3; i++) {
        PeerClose(PeerConnect(4, g_Port));
    }
}

/* A connection and a cancel reach the same accept. */
SCENARIO(CancelAgainstCompletion) {
    g_Port = Listener(u, 1, FULL, 1);
    Both(AcceptAndCancel, ConnectPeers, u);
}

static void WaitForAccept(USER *u) {
    End(u, 1);
}

static void CancelAccept(USER *u) {
    Cancel(u, 1);
}

SCENARIO(WaitAgainstCancel) {
    USER fresh = {.Handle = NULL};

    if (UserOpen(&fresh)) {
        Do(&fresh, OP(SOCKET, .new_socket = 1, .flags = 1, .family = 2, .type = 1, .protocol = 6));
        Do(&fresh, OP(BIND, .socket = 1, .local = Loopback(4, 0)));
        fresh.LastOp = 0;
        Start(&fresh, OP(ACCEPT, .socket = 1, .new_socket = 2));
        Both(WaitForAccept, CancelAccept, &fresh);
        UserClose(&fresh);
    }
    Do(u, OP(PROVIDER_INFO));
}

/* A request that waits is cancelled by the I/O manager, at any moment. */
SCENARIO(CancelledWaits) {
    WSKLAB_WAIT wait = {.header = Header(sizeof(wait)), .timeout_ms = 5000};
    WSKLAB_DRAIN drain = {.header = Header(sizeof(drain)), .timeout_ms = 5000};
    UCHAR outputs[2][sizeof(WSKLAB_RECORD)];
    SHIM_IOCTL ioctls[2] = {{.Output = outputs[0], .OutputSize = sizeof(outputs[0])},
                            {.Output = outputs[1], .OutputSize = sizeof(outputs[1])}};

    Listener(u, 1, 0, 0);
    wait.op_id = Start(u, OP(ACCEPT, .socket = 1, .new_socket = 2));
    ShimIoctlStart(u->Handle, IOCTL_WSKLAB_WAIT, &wait, sizeof(wait), &ioctls[0], NULL, NULL);
    ShimIoctlStart(u->Handle, IOCTL_WSKLAB_DRAIN, &drain, sizeof(drain), &ioctls[1], NULL, NULL);
    for (ULONG i = 0; i < 2; i++) {
        ShimIoctlCancel(&ioctls[i]);
    }
    for (ULONG i = 0; i < 2; i++) {
        ShimIoctlWait(&ioctls[i], -1);
    }
}

/* CLEANUP while requests are pending on the handle. */
SCENARIO(CloseAgainstWaits) {
    WSKLAB_WAIT wait = {.header = Header(sizeof(wait)), .timeout_ms = 60000};
    UCHAR output[sizeof(WSKLAB_RECORD)];
    SHIM_IOCTL ioctl = {.Output = output, .OutputSize = sizeof(output)};

    Listener(u, 1, 0, 0);
    wait.op_id = Start(u, OP(ACCEPT, .socket = 1, .new_socket = 2));
    ShimIoctlStart(u->Handle, IOCTL_WSKLAB_WAIT, &wait, sizeof(wait), &ioctl, NULL, NULL);
    UserClose(u);
    ShimIoctlWait(&ioctl, -1);
}

SCENARIO(Quiesced) {
    WSKLAB_QUIESCE quiesce = {.header = Header(sizeof(quiesce)), .timeout_ms = 3000};
    USER other = {.Handle = NULL};
    UCHAR output[1024];

    if (UserOpen(&other)) {
        Listener(&other, 1, FULL, 1);
        Start(&other, OP(ACCEPT, .socket = 1, .new_socket = 2));
    }
    Listener(u, 1, FULL, 1);
    UserIoctl(u, IOCTL_WSKLAB_QUIESCE, &quiesce, sizeof(quiesce), output, sizeof(output), NULL);
    Do(&other, OP(PROVIDER_INFO));
    Do(u, OP(PROVIDER_INFO));
    quiesce.timeout_ms = 0;
    UserIoctl(u, IOCTL_WSKLAB_QUIESCE, &quiesce, sizeof(quiesce), output, sizeof(output), NULL);
    UserClose(&other);
}

SCENARIO(ManyHandles) {
    static USER users[WSKLAB_MAX_CLIENTS + 2];

    for (ULONG i = 0; i < RTL_NUMBER_OF(users); i++) {
        UserOpen(&users[i]);
    }
    Do(u, OP(PROVIDER_INFO));
    for (ULONG i = 0; i < RTL_NUMBER_OF(users); i++) {
        UserClose(&users[i]);
    }
}

/* Not an administrator: refused by the access list, and, where that is not looked at, by the driver itself. */
SCENARIO(NotAnAdministrator) {
    PEPROCESS guest = ShimProcessCreate("guest", 444, FALSE);
    USER other = {.Handle = NULL};

    (void)u;
    ShimThreadMove(guest);
    for (ULONG i = 0; i < 2; i++) {
        ShimIgnoreAccessLists(i == 1);
        UserOpen(&other);
        UserClose(&other);
    }
    ShimIgnoreAccessLists(FALSE);
    ShimThreadMove(NULL);
    ShimProcessRelease(guest);
}

SCENARIO_WITH(UnloadedWithHandles, SCENARIO_FORCE_UNLOAD) {
    uint16_t port = Listener(u, 1, FULL, 1);
    int peer = PeerConnect(4, port);

    Start(u, OP(ACCEPT, .socket = 1, .new_socket = 2));
    Start(u, OP(ACCEPT, .socket = 1, .new_socket = 3));
    Do(u, OP(PROVIDER_INFO));
    PeerClose(peer);
}

static void InjectedFailures(USER *u) {
    for (ULONG kind = 0; kind < WSKLAB_FAULT_END; kind++) {
        WSKLAB_FAULTS faults = {.header = Header(sizeof(faults)), .kind = kind, .deny = 1};
        WSKLAB_FAULTS_RESULT result;
        UserIoctl(u, IOCTL_WSKLAB_FAULTS, &faults, sizeof(faults), &result, sizeof(result), NULL);
        Do(u, OP(SOCKET, .new_socket = 9, .flags = 1, .family = 2, .type = 1, .protocol = 6, .call_context = WSKLAB_CONTEXT_WORKER));
        Do(u, OP(CLOSE, .socket = 9));
        Do(u, OP(SEND, .socket = 9, .buffer_length = 10));
    }
}

SCENARIO(DriversOwnFaults) {
    InjectedFailures(u);
}

/* ---- What a provider may do ---------------------------------------------------------------------------------------------- */

static void Conversation(USER *u) {
    int peer = Connected(u, 1, FULL, 1);
    ULONG receive = Start(u, OP(RECEIVE, .socket = 1, .buffer_length = 10));

    PeerSend(peer, "0123456789", 10);
    End(u, receive);
    DoWith(u, OP(SEND, .socket = 1), "answer", 6, NULL, 0);
    Do(u, OP(DISCONNECT, .socket = 1));
    Do(u, OP(CLOSE, .socket = 1));
    PeerClose(peer);
}

static void WithOrder(WSKP_ORDER order) {
    static const WSKP_OPERATION operations[] = {WSKP_Socket, WSKP_Bind, WSKP_Connect, WSKP_Send, WSKP_Receive, WSKP_CloseSocket};

    for (ULONG i = 0; i < RTL_NUMBER_OF(operations); i++) {
        /* What waits for a close or a cancel that nobody makes would wait for ever: only data waits for those. */
        BOOLEAN data = operations[i] == WSKP_Send || operations[i] == WSKP_Receive;
        if (data || order == WSKP_ORDER_INLINE || order == WSKP_ORDER_LATER) {
            WskpKnobOrder(operations[i], order);
        }
    }
}

SCENARIO(CompletedInline) {
    WithOrder(WSKP_ORDER_INLINE);
    Conversation(u);
    WskpKnobsReset();
}

SCENARIO(CompletedLater) {
    WithOrder(WSKP_ORDER_LATER);
    Conversation(u);
    WskpKnobsReset();
}

SCENARIO(CompletedAtDispatchLevel) {
    WskpKnobIrql(WSKP_IRQL_DISPATCH);
    Conversation(u);
    WskpKnobsReset();
}

SCENARIO(CompletedAfterClose) {
    int peer = Connected(u, 1, FULL, 1);
    ULONG send;
    ULONG close;

    WithOrder(WSKP_ORDER_AFTER_CLOSE);
    send = StartWith(u, OP(SEND, .socket = 1), "late", 4, NULL, 0);
    close = Start(u, OP(CLOSE, .socket = 1));
    End(u, send);
    End(u, close);
    WskpKnobsReset();
    PeerClose(peer);
}

SCENARIO(CompletedAfterCancel) {
    int peer = Connected(u, 1, FULL, 1);
    ULONG send;

    WithOrder(WSKP_ORDER_AFTER_CANCEL);
    send = StartWith(u, OP(SEND, .socket = 1), "late", 4, NULL, 0);
    Cancel(u, send);
    End(u, send);
    WskpKnobsReset();
    PeerClose(peer);
}

SCENARIO(EveryCallFails) {
    /* Not the close: a socket that cannot be closed would keep its client for ever, as it must. */
    static const WSKP_OPERATION operations[] = {WSKP_Socket, WSKP_Bind, WSKP_Connect, WSKP_Send, WSKP_Receive, WSKP_Disconnect};

    for (ULONG i = 0; i < RTL_NUMBER_OF(operations); i++) {
        WskpKnobFault(operations[i], 1, WSKP_FAULT_FAIL, STATUS_INSUFFICIENT_RESOURCES, 0);
        Conversation(u);
    }
    WskpKnobsReset();
}

SCENARIO(NotReady) {
    WskpKnobProviderReady(FALSE);
    Do(u, OP(SOCKET, .new_socket = 1, .flags = 1, .family = 2, .type = 1, .protocol = 6));
    Do(u, OP(CAPTURE));
    WskpKnobsReset();
    WskpKnobProviderReady(TRUE);
    Do(u, OP(SOCKET, .new_socket = 1, .flags = 1, .family = 2, .type = 1, .protocol = 6));
}

SCENARIO_WITH(LikeWine, SCENARIO_LIKE_WINE) {
    Do(u, OP(QUERY_CHARACTERISTICS));
    Listener(u, 1, FULL, 1);
    Start(u, OP(ACCEPT, .socket = 1, .new_socket = 2));
    Do(u, OP(CLOSE, .socket = 1));
    Listener(u, 3, FULL, 3);
    Start(u, OP(CLOSE, .socket = 3, .switches = WSKLAB_SWITCH_HELD));
    Conversation(u);
}

SCENARIO_WITH(LostCompletion, SCENARIO_LOSES) {
    WskpKnobFault(WSKP_Bind, 1, WSKP_FAULT_LOST, STATUS_NOT_IMPLEMENTED, 0);
    WskpKnobFault(WSKP_CloseSocket, 1, WSKP_FAULT_LOST, STATUS_NOT_IMPLEMENTED, 0);
    WskpKnobFault(WSKP_Socket, 2, WSKP_FAULT_LOST, STATUS_NOT_IMPLEMENTED, 0);
    Do(u, OP(SOCKET, .new_socket = 1, .flags = 1, .family = 2, .type = 1, .protocol = 6));
    Do(u, OP(BIND, .socket = 1, .local = Loopback(4, 0)));
    Do(u, OP(CLOSE, .socket = 1));
    Do(u, OP(SOCKET, .new_socket = 2, .flags = 1, .family = 2, .type = 1, .protocol = 6));
    Sleep(2000);
    CheckLedger(u);
}

/* WSK goes while the client has things that only the provider dispatch takes back: they go back, then the client goes. */
SCENARIO(ProviderLeaves) {
    static const WCHAR node[] = L"127.0.0.1";
    ULONG nodeSize = sizeof(node) - sizeof(WCHAR);
    WSKLAB_SUBMIT names = OP(GET_ADDRESS_INFO, .new_object = 1, .argument_use = WSKLAB_USE_NODE, .node_length = nodeSize);
    ULONG lookup;

    Do(u, OP(NMR_REGISTER, .version = 0x0100));
    DoWith(u, names, NULL, 0, node, nodeSize);
    Do(u, OP(CONTROL_CLIENT, .control_code = WSK_CACHE_SD, .input_kind = WSKLAB_INPUT_DESCRIPTOR, .input_size = 8, .output_size = 8,
             .new_object = 2, .descriptor = WSKLAB_DESCRIPTOR_ADMINISTRATORS, .switches = WSKLAB_SWITCH_NULL_IRP,
             .argument_use = WSKLAB_USE_SIZE_RETURNED));
    Listener(u, 1, 0, 0);
    names.new_object = 3;
    lookup = StartWith(u, names, NULL, 0, node, nodeSize);
    WskpNmrLeave();
    Start(u, OP(ACCEPT, .socket = 1, .new_socket = 5));
    End(u, lookup);
    Sleep(20);
    CheckLedger(u);
}
