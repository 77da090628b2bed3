/*
 * scenario_calls.c: each WSK function from a user's point of view.
 */
#include "scenario.h"

#define FULL WSKLAB_DISPATCH_FULL

SCENARIO(Sample) {
    Do(u, OP(SAMPLE_LISTEN, .new_socket = 1, .dispatch = FULL));
    Do(u, OP(BIND, .socket = 1, .local = Loopback(4, 0)));
    Do(u, OP(SOCKET_INFO, .socket = 1));
    Do(u, OP(CLOSE, .socket = 1));
    Do(u, OP(SAMPLE_LISTEN, .new_socket = 2));
}

SCENARIO(Categories) {
    static const struct {
        ULONG Category;
        USHORT Type;
        ULONG Protocol;
    } kinds[] = {{WSKLAB_CATEGORY_BASIC, 1, 6}, {WSKLAB_CATEGORY_LISTEN, 1, 6},   {WSKLAB_CATEGORY_CONNECTION, 1, 6},
                 {WSKLAB_CATEGORY_DATAGRAM, 2, 17}, {WSKLAB_CATEGORY_STREAM, 1, 6}, {0x10, 1, 6}};
    ULONG number = 1;

    Do(u, OP(PROVIDER_INFO));
    for (ULONG i = 0; i < RTL_NUMBER_OF(kinds); i++) {
        for (USHORT family = 2; family <= 23; family += 21) {
            Do(u, OP(SOCKET, .new_socket = number, .flags = kinds[i].Category, .family = family, .type = kinds[i].Type,
                     .protocol = kinds[i].Protocol, .dispatch = (UCHAR)(number % 3), .dispatch_mask = 5, .socket_context = number,
                     .owning_process = number & 1, .owning_thread = (number >> 1) & 1));
            Do(u, OP(SOCKET_INFO, .socket = number));
            /* What the category does not have is refused before WSK is called. */
            Do(u, OP(LISTEN, .socket = number));
            Do(u, OP(RECEIVE_FROM, .socket = number, .buffer_length = 10));
            number++;
        }
    }
    Do(u, OP(SOCKET, .new_socket = number, .flags = 1, .family = 99, .type = 1, .protocol = 6));
    Do(u, OP(SOCKET, .new_socket = number, .flags = 1, .family = 2, .type = 7, .protocol = 6));
    for (ULONG i = 1; i < number; i += 2) {
        Do(u, OP(CLOSE, .socket = i));
    }
}

static void Exchange(USER *u, ULONG socket, int peer) {
    UCHAR bytes[256] = {0};
    ULONG op = Start(u, OP(RECEIVE, .socket = socket, .buffer_length = sizeof(bytes)));

    PeerSend(peer, "hello driver", 12);
    End(u, op);
    DoWith(u, OP(SEND, .socket = socket), "hello peer", 10, NULL, 0);
    PeerReceive(peer, bytes, sizeof(bytes), 200);
    Do(u, OP(SEND, .socket = socket, .buffer_length = 100, .buffer_offset = 3, .chunks = {50, 40, 13}, .mdl_bytes = 103,
             .fill = WSKLAB_FILL_PATTERN, .pattern_seed = 7, .switches = WSKLAB_SWITCH_SCRIBBLE_WSK_BUF));
    PeerReceive(peer, bytes, sizeof(bytes), 200);
    PeerSend(peer, bytes, 100);
    Do(u, OP(RECEIVE, .socket = socket, .buffer_length = 60, .buffer_offset = 5, .chunks = {16, 16, 40}, .mdl_bytes = 72));
    Do(u, OP(RECEIVE, .socket = socket, .buffer_length = 200));
}

SCENARIO(Server) {
    uint16_t port = Listener(u, 1, FULL, 11);
    ULONG accept = Start(u, OP(ACCEPT, .socket = 1, .new_socket = 2, .dispatch = FULL, .socket_context = 22,
                               .address_use = WSKLAB_ADDRESS_LOCAL | WSKLAB_ADDRESS_REMOTE));
    int peer = PeerConnect(4, port);

    End(u, accept);
    Do(u, OP(GET_REMOTE_ADDRESS, .socket = 2, .address_use = WSKLAB_ADDRESS_REMOTE));
    Exchange(u, 2, peer);
    DoWith(u, OP(DISCONNECT, .socket = 2), "bye", 3, NULL, 0);
    PeerClose(peer);
    Do(u, OP(RECEIVE, .socket = 2, .buffer_length = 10));
    Do(u, OP(CLOSE, .socket = 2));
    Do(u, OP(CLOSE, .socket = 1));
}

SCENARIO(Client) {
    int peer = Connected(u, 1, 0, 0);

    Do(u, OP(GET_LOCAL_ADDRESS, .socket = 1, .address_use = WSKLAB_ADDRESS_LOCAL));
    Exchange(u, 1, peer);
    PeerReset(peer);
    Do(u, OP(RECEIVE, .socket = 1, .buffer_length = 10));
    DoWith(u, OP(SEND, .socket = 1), "x", 1, NULL, 0);
    Do(u, OP(DISCONNECT, .socket = 1, .flags = 1));
    Do(u, OP(CLOSE, .socket = 1));
}

SCENARIO(ConnectInOne) {
    uint16_t port = 0;
    int listener = PeerListen(4, &port);
    int peer;

    Do(u, OP(SOCKET_CONNECT, .new_socket = 1, .type = 1, .protocol = 6, .local = Any(4), .remote = Loopback(4, port)));
    PeerClose(PeerAccept(listener, 200));
    Do(u, OP(SOCKET, .new_socket = 2, .flags = WSKLAB_CATEGORY_CONNECTION, .family = 2, .type = 1, .protocol = 6));
    Do(u, OP(BIND, .socket = 2, .local = Any(4)));
    DoWith(u, OP(CONNECT_EX, .socket = 2, .remote = Loopback(4, port)), "first", 5, NULL, 0);
    peer = PeerAccept(listener, 200);
    PeerClose(peer);
    PeerClose(listener);
    /* Refused; without a bind; the same number again. */
    Do(u, OP(SOCKET_CONNECT, .new_socket = 3, .type = 1, .protocol = 6, .local = Any(4), .remote = Loopback(4, port)));
    Do(u, OP(SOCKET, .new_socket = 4, .flags = WSKLAB_CATEGORY_CONNECTION, .family = 2, .type = 1, .protocol = 6));
    Do(u, OP(CONNECT, .socket = 4, .remote = Loopback(4, port)));
    Do(u, OP(SOCKET, .new_socket = 4, .flags = WSKLAB_CATEGORY_CONNECTION, .family = 2, .type = 1, .protocol = 6));
}

SCENARIO(Stream) {
    uint16_t port = 0;
    int listener = PeerListen(4, &port);
    WSKLAB_RECORD record;
    ULONG accept;
    int peer;

    for (ULONG i = 1; i <= 2; i++) {
        Do(u, OP(SOCKET, .new_socket = i, .flags = WSKLAB_CATEGORY_STREAM, .family = 2, .type = 1, .protocol = 6, .dispatch = FULL));
        Do(u, OP(BIND, .socket = i, .local = Loopback(4, 0)));
    }
    Do(u, OP(CONNECT, .socket = 1, .remote = Loopback(4, port)));
    peer = PeerAccept(listener, 200);
    Exchange(u, 1, peer);
    PeerClose(peer);
    PeerClose(listener);
    Do(u, OP(LISTEN, .socket = 2));
    record = Do(u, OP(GET_LOCAL_ADDRESS, .socket = 2, .address_use = WSKLAB_ADDRESS_LOCAL));
    accept = Start(u, OP(ACCEPT, .socket = 2, .new_socket = 3));
    peer = PeerConnect(4, PortOf(&record.local));
    End(u, accept);
    Do(u, OP(RECEIVE, .socket = 3, .buffer_length = 1, .switches = WSKLAB_SWITCH_HELD));
    PeerClose(peer);
}

SCENARIO(Datagrams) {
    uint16_t mine = Datagram(u, 1, FULL, 1);
    uint16_t port = 0;
    int peer = PeerDatagram(4, &port);
    UCHAR control[24] = {24, [8] = 0, [12] = 19, [16] = 1};
    UCHAR bytes[64];

    DoWith(u, OP(SEND_TO, .socket = 1, .remote = Loopback(4, port)), "datagram", 8, NULL, 0);
    PeerReceive(peer, bytes, sizeof(bytes), 200);
    PeerSendTo(peer, 4, mine, "back", 4);
    Do(u, OP(RECEIVE_FROM, .socket = 1, .buffer_length = 64, .address_use = WSKLAB_ADDRESS_REMOTE, .output_size = 64,
             .argument_use = WSKLAB_USE_CONTROL_LENGTH | WSKLAB_USE_CONTROL_INFO | WSKLAB_USE_CONTROL_FLAGS));
    PeerSendTo(peer, 4, mine, "too long for it", 15);
    Do(u, OP(RECEIVE_FROM, .socket = 1, .buffer_length = 4));
    DoWith(u, OP(SEND_TO, .socket = 1, .remote = Loopback(4, port), .argument_use = WSKLAB_USE_CONTROL_INFO), "with", 4, control,
           sizeof(control));
    DoWith(u, OP(SEND_MESSAGES, .socket = 1, .remote = Loopback(4, port), .chunks = {3, 4}, .mdl_bytes = 7), "onetwo!", 7, NULL, 0);
    DoWith(u, OP(SEND_TO, .socket = 1, .address_use = 0), "nowhere", 7, NULL, 0);
    PeerClose(peer);
    Do(u, OP(CLOSE, .socket = 1));
}

static WSKLAB_RECORD Control(USER *u, ULONG socket, UCHAR type, ULONG code, ULONG level, ULONG value, ULONG output, ULONG switches) {
    WSKLAB_SUBMIT submit = OP(CONTROL_SOCKET, .socket = socket, .control_type = type, .control_code = code,
                              .control_level = level, .output_size = output, .switches = switches,
                              .argument_use = switches & WSKLAB_SWITCH_NULL_IRP ? WSKLAB_USE_SIZE_RETURNED : 0);

    if (type == WskSetOption || (type == WskIoctl && output == 0)) {
        submit.input_kind = WSKLAB_INPUT_BYTES;
        submit.input_size = sizeof(value);
        return DoWith(u, submit, NULL, 0, &value, sizeof(value));
    }
    return Do(u, submit);
}

SCENARIO(Options) {
    Listener(u, 1, FULL, 1);
    Datagram(u, 2, FULL, 2);
    PeerClose(Connected(u, 3, FULL, 3));
    for (ULONG socket = 1; socket <= 3; socket++) {
        Control(u, socket, WskSetOption, SO_KEEPALIVE, SOL_SOCKET, 1, 0, 0);
        Control(u, socket, WskGetOption, SO_RCVBUF, SOL_SOCKET, 0, 4, 0);
        Control(u, socket, WskSetOption, 0x1234, SOL_SOCKET, 1, 0, 0);
        Control(u, socket, WskIoctl, SIO_WSK_QUERY_IDEAL_SEND_BACKLOG, 0, 0, 8, WSKLAB_SWITCH_NULL_IRP);
        Control(u, socket, WskIoctl, SIO_WSK_QUERY_RECEIVE_BACKLOG, 0, 0, 8, WSKLAB_SWITCH_NULL_IRP);
        Control(u, socket, WskIoctl, SIO_WSK_QUERY_INSPECT_ID, 0, 0, 16, WSKLAB_SWITCH_NULL_IRP);
        Control(u, socket, WskIoctl, 0x48000016u, 0, 0, 512, 0); /* SIO_ADDRESS_LIST_QUERY: pointers in its output */
        Control(u, socket, 9, 1, 1, 0, 4, 0);
        Events(u, socket, WSK_EVENT_RECEIVE | WSK_EVENT_ACCEPT | WSK_EVENT_RECEIVE_FROM);
    }
    Do(u, OP(CONTROL_SOCKET, .socket = 1, .control_type = WskIoctl, .control_code = SIO_WSK_REGISTER_EXTENSION,
             .input_kind = WSKLAB_INPUT_EXTENSION, .input_size = 24, .npi = WSKLAB_NPI_OTHER, .output_size = 16,
             .switches = WSKLAB_SWITCH_NULL_IRP, .argument_use = WSKLAB_USE_SIZE_RETURNED));
}

static WSKLAB_RECORD ControlClient(USER *u, WSKLAB_SUBMIT submit) {
    submit.function = WSKLAB_FN_CONTROL_CLIENT;
    if (!(submit.switches & WSKLAB_SWITCH_HELD)) {
        submit.switches |= WSKLAB_SWITCH_NULL_IRP;
    }
    submit.argument_use |= WSKLAB_USE_SIZE_RETURNED;
    return Do(u, submit);
}

SCENARIO(ClientControls) {
    ULONG bypass = WSK_TDI_BEHAVIOR_BYPASS_TDI;
    ULONG change;

    ControlClient(u, (WSKLAB_SUBMIT){.control_code = WSK_SET_STATIC_EVENT_CALLBACKS, .input_kind = WSKLAB_INPUT_EVENT_CALLBACK,
                                     .input_size = 16, .event_mask = WSK_EVENT_RECEIVE | WSK_EVENT_DISCONNECT});
    ControlClient(u, (WSKLAB_SUBMIT){.control_code = WSK_TRANSPORT_LIST_QUERY, .output_size = 4096});
    ControlClient(u, (WSKLAB_SUBMIT){.control_code = WSK_CACHE_SD, .input_kind = WSKLAB_INPUT_DESCRIPTOR, .input_size = 8,
                                     .output_size = 8, .new_object = 1, .descriptor = WSKLAB_DESCRIPTOR_ADMINISTRATORS});
    Do(u, OP(SOCKET, .new_socket = 1, .flags = WSKLAB_CATEGORY_LISTEN, .family = 2, .type = 1, .protocol = 6,
             .security = WSKLAB_SECURITY_CACHED, .object = 1));
    Do(u, OP(CONTROL_SOCKET, .socket = 1, .control_type = WskSetOption, .control_code = SO_WSK_SECURITY,
             .control_level = SOL_SOCKET, .input_kind = WSKLAB_INPUT_CACHED, .input_size = 8, .object = 1));
    Do(u, OP(CONTROL_SOCKET, .socket = 1, .control_type = WskGetOption, .control_code = SO_WSK_SECURITY,
             .control_level = SOL_SOCKET, .output_size = 8, .new_object = 2));
    ControlClient(u, (WSKLAB_SUBMIT){.control_code = WSK_RELEASE_SD, .input_kind = WSKLAB_INPUT_CACHED, .input_size = 8, .object = 1});
    DoWith(u, OP(CONTROL_CLIENT, .control_code = WSK_TDI_BEHAVIOR, .input_kind = WSKLAB_INPUT_BYTES, .input_size = 4,
                 .switches = WSKLAB_SWITCH_NULL_IRP),
           NULL, 0, &bypass, sizeof(bypass));
    ControlClient(u, (WSKLAB_SUBMIT){.control_code = WSK_TDI_DEVICENAME_MAPPING, .input_kind = WSKLAB_INPUT_TDI_MAP, .input_size = 16});
    change = Start(u, OP(CONTROL_CLIENT, .control_code = WSK_TRANSPORT_LIST_CHANGE));
    Cancel(u, change);
    End(u, change);
}

SCENARIO(Names) {
    static const WCHAR node[] = L"localhost";
    static const WCHAR service[] = L"80";
    UCHAR names[sizeof(node) + sizeof(service)];
    ULONG nodeSize = sizeof(node) - sizeof(WCHAR);
    ULONG serviceSize = sizeof(service) - sizeof(WCHAR);

    memcpy(names, node, nodeSize);
    memcpy(names + nodeSize, service, serviceSize);
    DoWith(u, OP(GET_ADDRESS_INFO, .new_object = 1, .argument_use = WSKLAB_USE_NODE | WSKLAB_USE_SERVICE, .node_length = nodeSize,
                 .service_length = serviceSize),
           NULL, 0, names, nodeSize + serviceSize);
    Do(u, OP(FREE_ADDRESS_INFO, .object = 1));
    Do(u, OP(GET_NAME_INFO, .remote = Loopback(4, 0), .node_length = 512, .service_length = 64,
             .argument_use = WSKLAB_USE_NODE | WSKLAB_USE_SERVICE));
}

SCENARIO(ModuleRegistrar) {
    Do(u, OP(NMR_REGISTER, .version = 0x0100));
    Do(u, OP(SOCKET, .new_socket = 1, .flags = WSKLAB_CATEGORY_LISTEN, .family = 2, .type = 1, .protocol = 6));
    Do(u, OP(CLOSE, .socket = 1));
    Do(u, OP(NMR_DEREGISTER));
    Do(u, OP(NMR_REGISTER, .version = 0xFF00, .switches = WSKLAB_SWITCH_NMR_RETRY));
}

SCENARIO(Registration) {
    Do(u, OP(QUERY_CHARACTERISTICS));
    Do(u, OP(REGISTER, .version = 0xFF00));
    Do(u, OP(CAPTURE));
    Do(u, OP(QUERY_CHARACTERISTICS));
    Do(u, OP(DEREGISTER));
    Do(u, OP(CAPTURE, .switches = WSKLAB_SWITCH_AFTER_DEREGISTER));
    Do(u, OP(REGISTER, .version = 0x0100));
    Do(u, OP(CAPTURE, .call_context = WSKLAB_CONTEXT_RAISED));
    Do(u, OP(CAPTURE, .timeout_ms = 100));
    Do(u, OP(CAPTURE, .switches = WSKLAB_SWITCH_INFINITE));
    Do(u, OP(RELEASE_NPI));
    Do(u, OP(SOCKET, .new_socket = 1, .flags = WSKLAB_CATEGORY_LISTEN, .family = 2, .type = 1, .protocol = 6));
    Do(u, OP(RELEASE_NPI));
    Do(u, OP(RELEASE_NPI, .call_context = WSKLAB_CONTEXT_WORKER));
    Do(u, OP(RELEASE_NPI));
    Do(u, OP(CLOSE, .socket = 1));
    Do(u, OP(DEREGISTER));
    Do(u, OP(REGISTER, .version = 0x0100));
}

SCENARIO(IrpSources) {
    ULONG held;
    ULONG kept;

    for (UCHAR context = 0; context <= WSKLAB_CONTEXT_RAISED; context++) {
        Do(u, OP(SOCKET, .new_socket = 1, .flags = 1, .family = 2, .type = 1, .protocol = 6, .call_context = context,
                 .irp_source = WSKLAB_IRP_CALLER_MEMORY, .stack_count = 3));
        Do(u, OP(CLOSE, .socket = 1, .call_context = context));
    }
    Do(u, OP(SOCKET, .new_socket = 1, .flags = 1, .family = 2, .type = 1, .protocol = 6, .second_location = 1, .stack_count = 2,
             .invoke_flags = WSKLAB_INVOKE_ERROR));
    Do(u, OP(SOCKET, .new_socket = 2, .flags = 1, .family = 77, .type = 1, .protocol = 6, .second_location = 1, .stack_count = 4,
             .irp_source = WSKLAB_IRP_CALLER_MEMORY));
    Do(u, OP(SOCKET, .new_socket = 2, .flags = 1, .family = 2, .type = 1, .protocol = 6, .switches = WSKLAB_SWITCH_NULL_IRP));
    Do(u, OP(SOCKET, .new_socket = 2, .flags = 1, .family = 2, .type = 1, .protocol = 6, .switches = WSKLAB_SWITCH_NULL_CLIENT));
    /* One IRP for two operations. The first is kept, not released. */
    kept = Start(u, OP(BIND, .socket = 1, .local = Loopback(4, 0), .switches = WSKLAB_SWITCH_KEEP_IRP));
    Sleep(50);
    Look(u, kept);
    Do(u, OP(CLOSE, .socket = 1, .irp_source = WSKLAB_IRP_REUSED, .reuse_op = kept));
    Do(u, OP(SOCKET, .new_socket = 3, .flags = 1, .family = 2, .type = 1, .protocol = 6, .irp_source = WSKLAB_IRP_REUSED,
             .reuse_op = kept));
    /* One from the other's completion. */
    held = Start(u, OP(BIND, .socket = 4, .local = Loopback(4, 0), .switches = WSKLAB_SWITCH_HELD));
    RunAtOnce(u, OP(SOCKET, .new_socket = 4, .flags = 1, .family = 2, .type = 1, .protocol = 6, .then_op = held));
    End(u, held);
    held = Start(u, OP(BIND, .socket = 5, .local = Loopback(4, 0), .switches = WSKLAB_SWITCH_HELD));
    RunAtOnce(u, OP(SOCKET, .new_socket = 5, .flags = 1, .family = 77, .type = 1, .protocol = 6, .then_op = held));
    End(u, held);
    Do(u, OP(SOCKET, .new_socket = 6, .flags = 1, .family = 2, .type = 1, .protocol = 6, .delay_ms = 30));
    Do(u, OP(CAPTURE, .timeout_ms = 50, .delay_ms = 20));
}

SCENARIO(Forwarded) {
    WSKLAB_SUBMIT submit = OP(SOCKET, .new_socket = 1, .flags = 1, .family = 2, .type = 1, .protocol = 6,
                              .irp_source = WSKLAB_IRP_FORWARDED, .forward = WSKLAB_FORWARD_PASS, .stack_count = 1);

    for (UCHAR way = WSKLAB_FORWARD_NONE; way <= WSKLAB_FORWARD_HOLD; way++) {
        for (ULONG function = 0; function < 3; function++) {
            submit.header = (WSKLAB_HEADER){.size = sizeof(submit), .abi = WSKLAB_ABI_VERSION};
            submit.op_id = ++u->LastOp;
            submit.forward = way;
            submit.function = function == 0 ? WSKLAB_FN_SOCKET : function == 1 ? WSKLAB_FN_BIND : WSKLAB_FN_CLOSE;
            submit.new_socket = function == 0 ? way + 1u : 0;
            submit.socket = function == 0 ? 0 : way + 1u;
            submit.local = function == 1 ? Loopback(4, 0) : (WSKLAB_ADDRESS){0};
            submit.address_use = function == 1 ? WSKLAB_ADDRESS_LOCAL : 0;
            submit.flags = function == 0 ? 1 : 0;
            submit.family = function == 0 ? 2 : 0;
            submit.type = function == 0 ? 1 : 0;
            submit.protocol = function == 0 ? 6 : 0;
            UserIoctl(u, IOCTL_WSKLAB_FORWARD, &submit, sizeof(submit), NULL, 0, NULL);
            End(u, submit.op_id);
        }
    }
}
