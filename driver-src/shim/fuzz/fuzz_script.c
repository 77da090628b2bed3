/*
 * fuzz_script.c: callback scripts: sockets with all events, scripts that change while peers come, talk and go, and held
 * operations that callbacks start.
 */
#include "fuzz.h"

static WSKLAB_SUBMIT Submit(ULONG op, ULONG function, ULONG socket) {
    return (WSKLAB_SUBMIT){.header = {.size = sizeof(WSKLAB_SUBMIT), .abi = WSKLAB_ABI_VERSION}, .op_id = op, .function = function,
                           .socket = socket};
}

static void Run(SOURCE *source, WSKLAB_SUBMIT q) {
    REQUEST request = {.Code = IOCTL_WSKLAB_RUN, .Size = sizeof(q), .Room = 400};

    q.wait_ms = 1000;
    q.wait_flags = WSKLAB_RELEASE;
    memcpy(request.Bytes, &q, sizeof(q));
    Issue(source, &request);
}

/* A socket with a full dispatch, bound to one of the ports, with events on: what callbacks come from. */
static void Prepare(SOURCE *source) {
    static const struct {
        UCHAR Flags, Type, Protocol;
        ULONG Events;
    } shapes[] = {{WSKLAB_CATEGORY_LISTEN, 1, 6, WSK_EVENT_ACCEPT},
                  {WSKLAB_CATEGORY_STREAM, 1, 6, WSK_EVENT_ACCEPT},
                  {WSKLAB_CATEGORY_DATAGRAM, 2, 17, WSK_EVENT_RECEIVE_FROM},
                  {WSKLAB_CATEGORY_CONNECTION, 1, 6, WSK_EVENT_RECEIVE | WSK_EVENT_DISCONNECT | WSK_EVENT_SEND_BACKLOG}};
    ULONG shape = Below(source, RTL_NUMBER_OF(shapes));
    ULONG number = 1 + Below(source, SOCKETS - 1);
    USHORT port = FuzzPort(Take(source));
    WSKLAB_SUBMIT q = Submit(1, WSKLAB_FN_SOCKET, 0);

    q.new_socket = number;
    q.flags = shapes[shape].Flags;
    q.type = shapes[shape].Type;
    q.protocol = shapes[shape].Protocol;
    q.family = 2;
    q.dispatch = WSKLAB_DISPATCH_FULL;
    q.socket_context = number;
    Run(source, q);
    if (Below(source, 4) == 0) {
        q = Submit(2, WSKLAB_FN_CONTROL_SOCKET, number);
        q.control_code = SO_CONDITIONAL_ACCEPT;
        q.control_level = SOL_SOCKET;
        q.input_kind = WSKLAB_INPUT_BYTES;
        q.input_size = q.extra_length = 0;
        Run(source, q);
    }
    q = Submit(3, WSKLAB_FN_BIND, number);
    q.address_use = WSKLAB_ADDRESS_LOCAL;
    q.local = (WSKLAB_ADDRESS){.length = 16, .bytes = {2, 0, (UCHAR)(port >> 8), (UCHAR)port, 127, 0, 0, 1}};
    Run(source, q);
    q = Submit(4, WSKLAB_FN_CONTROL_SOCKET, number);
    q.control_code = SO_WSK_EVENT_CALLBACK;
    q.control_level = SOL_SOCKET;
    q.input_kind = WSKLAB_INPUT_EVENT_CALLBACK;
    q.input_size = 16;
    q.event_mask = shapes[shape].Events;
    q.switches = WSKLAB_SWITCH_NULL_IRP;
    q.argument_use = WSKLAB_USE_SIZE_RETURNED;
    Run(source, q);
}

void FuzzStep(SOURCE *source) {
    REQUEST request;
    ULONG choice = Take(source);

    if (choice < 50) {
        Prepare(source);
        return;
    }
    if (choice < 110) {
        MakeScript(source, &request);
        Damage(source, &request);
        Issue(source, &request);
        return;
    }
    if (choice < 190) {
        PeerAct(source);
        return;
    }
    if (choice < 235) {
        MakeAny(source, &request);
        Damage(source, &request);
        Issue(source, &request);
        return;
    }
    Disturb(source);
}
