/*
 * fuzz_submit.c: requests in which most fields belong together.
 */
#include "fuzz.h"

static WSKLAB_HEADER Header(size_t size) {
    return (WSKLAB_HEADER){.size = (uint32_t)size, .abi = WSKLAB_ABI_VERSION};
}

static BOOLEAN Seldom(SOURCE *source) {
    return Take(source) > 230;
}

static WSKLAB_ADDRESS Address(SOURCE *source) {
    ULONG choice = Take(source);
    BOOLEAN six = choice % 8 == 7;
    USHORT port = choice % 4 == 0 ? 0 : FuzzPort(choice / 8);
    WSKLAB_ADDRESS address = {.length = six ? 28 : 16};

    address.bytes[0] = six ? 23 : 2;
    address.bytes[2] = (uint8_t)(port >> 8);
    address.bytes[3] = (uint8_t)port;
    if (choice % 16 != 1) { /* else the wildcard */
        if (six) {
            address.bytes[23] = 1;
        } else {
            address.bytes[4] = 127;
            address.bytes[7] = 1;
        }
    }
    return address;
}

static const UCHAR Functions[] = {
    WSKLAB_FN_SOCKET, WSKLAB_FN_SOCKET, WSKLAB_FN_SOCKET, WSKLAB_FN_BIND, WSKLAB_FN_BIND, WSKLAB_FN_BIND, WSKLAB_FN_ACCEPT,
    WSKLAB_FN_ACCEPT, WSKLAB_FN_CONNECT, WSKLAB_FN_CONNECT, WSKLAB_FN_SEND, WSKLAB_FN_RECEIVE, WSKLAB_FN_RECEIVE, WSKLAB_FN_CLOSE,
    WSKLAB_FN_CLOSE, WSKLAB_FN_CONTROL_SOCKET, WSKLAB_FN_CONTROL_SOCKET, WSKLAB_FN_CONTROL_SOCKET, WSKLAB_FN_CONTROL_CLIENT,
    WSKLAB_FN_SAMPLE_LISTEN, WSKLAB_FN_CAPTURE, WSKLAB_FN_QUERY_CHARACTERISTICS, WSKLAB_FN_PROVIDER_INFO, WSKLAB_FN_SOCKET_INFO,
    WSKLAB_FN_SOCKET_CONNECT, WSKLAB_FN_GET_ADDRESS_INFO, WSKLAB_FN_FREE_ADDRESS_INFO, WSKLAB_FN_GET_NAME_INFO, WSKLAB_FN_LISTEN,
    WSKLAB_FN_CONNECT_EX, WSKLAB_FN_INSPECT_COMPLETE, WSKLAB_FN_GET_LOCAL_ADDRESS, WSKLAB_FN_GET_REMOTE_ADDRESS, WSKLAB_FN_DISCONNECT,
    WSKLAB_FN_RELEASE_DATA, WSKLAB_FN_SEND_TO, WSKLAB_FN_SEND_MESSAGES, WSKLAB_FN_RECEIVE_FROM, WSKLAB_FN_RELEASE_DATAGRAM,
    WSKLAB_FN_INDICATION_INFO};
/* A client that has deregistered can do little else. */
static const UCHAR Ends[] = {WSKLAB_FN_REGISTER, WSKLAB_FN_RELEASE_NPI, WSKLAB_FN_DEREGISTER, WSKLAB_FN_NMR_REGISTER,
                             WSKLAB_FN_NMR_DEREGISTER, WSKLAB_FN_END};

static void Append(REQUEST *request, SOURCE *source, ULONG count) {
    for (ULONG i = 0; i < count && request->Size < sizeof(request->Bytes); i++) {
        request->Bytes[request->Size++] = (UCHAR)(source == NULL ? i * 7 : Take(source));
    }
}

/* A control request: code, input and output that mostly belong together. Returns the bytes of its input. */
static ULONG Control(SOURCE *source, WSKLAB_SUBMIT *q) {
    static const ULONG sockets[] = {SO_WSK_EVENT_CALLBACK, SO_WSK_SECURITY, SO_CONDITIONAL_ACCEPT, SO_EXCLUSIVEADDRUSE, SO_RCVBUF,
                                    SO_KEEPALIVE, SO_BROADCAST, SIO_WSK_REGISTER_EXTENSION, SIO_WSK_QUERY_RECEIVE_BACKLOG,
                                    SIO_WSK_QUERY_IDEAL_SEND_BACKLOG, SIO_WSK_QUERY_INSPECT_ID, SIO_WSK_SET_TCP_SILENT_MODE,
                                    SIO_ADDRESS_LIST_QUERY, SIO_ADDRESS_LIST_CHANGE, SIO_WSK_SET_REMOTE_ADDRESS,
                                    SIO_WSK_SET_SENDTO_ADDRESS, 0x4009, 1};
    static const ULONG clients[] = {WSK_TRANSPORT_LIST_QUERY, WSK_TRANSPORT_LIST_CHANGE, WSK_CACHE_SD, WSK_RELEASE_SD,
                                    WSK_SET_STATIC_EVENT_CALLBACKS, WSK_TDI_DEVICENAME_MAPPING, WSK_TDI_BEHAVIOR};
    ULONG extra = 0;

    q->control_code = q->function == WSKLAB_FN_CONTROL_SOCKET ? sockets[Below(source, RTL_NUMBER_OF(sockets))]
                                                               : clients[Below(source, RTL_NUMBER_OF(clients))];
    q->control_type = (uint8_t)(q->function == WSKLAB_FN_CONTROL_SOCKET ? OneOf(source, 0, 0, 1, 1, 2, 3) : 0);
    q->control_level = OneOf(source, 0xFFFF, 0xFFFF, 0, 6);
    q->input_kind = (uint8_t)Below(source, 8);
    q->input_size = OneOf(source, 0, 4, 8, 16, 24);
    if (Take(source) < 200) { /* what the code wants */
        switch (q->control_code) {
        case SO_WSK_EVENT_CALLBACK:
            q->input_kind = WSKLAB_INPUT_EVENT_CALLBACK, q->input_size = 16, q->control_type = 0;
            q->control_level = 0xFFFF;
            break;
        case WSK_SET_STATIC_EVENT_CALLBACKS:
            q->input_kind = WSKLAB_INPUT_EVENT_CALLBACK, q->input_size = 16;
            break;
        case SO_WSK_SECURITY:
        case WSK_RELEASE_SD:
            q->input_kind = WSKLAB_INPUT_CACHED, q->input_size = 8;
            break;
        case WSK_CACHE_SD:
            q->input_kind = WSKLAB_INPUT_DESCRIPTOR, q->input_size = 8;
            break;
        case WSK_TDI_DEVICENAME_MAPPING:
            q->input_kind = WSKLAB_INPUT_TDI_MAP, q->input_size = 16;
            break;
        case SIO_WSK_REGISTER_EXTENSION:
            q->input_kind = WSKLAB_INPUT_EXTENSION, q->input_size = 24;
            break;
        default:
            q->input_kind = q->input_size == 0 ? WSKLAB_INPUT_NONE : WSKLAB_INPUT_BYTES;
            break;
        }
    }
    if (q->input_kind == WSKLAB_INPUT_BYTES) {
        extra = q->input_size;
    }
    q->output_size = OneOf(source, 0, 4, 8, 16, 64, 300);
    q->npi = (uint8_t)OneOf(source, 0, 0, 0, 1, 2, 3);
    q->event_mask = OneOf(source, 1, 2, 4, 8, 16, 64, 0x40, 0x250, 0x80000040, 0x80000200, 0x80000000, 0);
    q->argument_use = OneOf(source, 0, WSKLAB_USE_SIZE_RETURNED);
    q->switches = OneOf(source, 0, WSKLAB_SWITCH_NULL_IRP, WSKLAB_SWITCH_NULL_IRP, WSKLAB_SWITCH_HELD);
    if (q->output_size > 0 && (q->control_code == SO_WSK_SECURITY || q->control_code == WSK_CACHE_SD)) {
        q->new_object = 1 + Below(source, OBJECTS - 1);
    }
    q->object = q->input_kind == WSKLAB_INPUT_CACHED ? 1 + Below(source, OBJECTS - 1) : 0;
    return extra;
}

/* What only some functions have. Returns the bytes of the extra part. */
static ULONG Special(SOURCE *source, WSKLAB_SUBMIT *q) {
    switch (q->function) {
    case WSKLAB_FN_SOCKET:
        q->flags = OneOf(source, 0, 1, 1, 2, 2, 4, 8);
        q->type = (uint16_t)(q->flags == 4 ? 2 : OneOf(source, 1, 1, 1, 2));
        q->protocol = q->type == 2 ? 17 : 6;
        q->family = (uint16_t)OneOf(source, 2, 2, 2, 23, 99);
        q->dispatch = (uint8_t)OneOf(source, 1, 1, 0, 2);
        break;
    case WSKLAB_FN_CONTROL_SOCKET:
    case WSKLAB_FN_CONTROL_CLIENT:
        return Control(source, q);
    case WSKLAB_FN_SEND:
    case WSKLAB_FN_CONNECT_EX:
    case WSKLAB_FN_DISCONNECT:
    case WSKLAB_FN_SEND_TO:
    case WSKLAB_FN_SEND_MESSAGES:
        q->data_length = Below(source, 48);
        q->buffer_length = q->data_length;
        q->fill = q->data_length > 0 ? WSKLAB_FILL_DATA : 0;
        q->mdl_shape = q->data_length > 0 ? WSKLAB_MDL_SINGLE : 0;
        if (q->function == WSKLAB_FN_SEND_MESSAGES && q->data_length > 1) {
            q->mdl_shape = WSKLAB_MDL_CHAIN;
            q->chunks[0] = 1;
            q->chunks[1] = q->data_length - 1;
        }
        q->flags = OneOf(source, 0, 0, 0, 1, 2, 4);
        if ((q->function == WSKLAB_FN_SEND_TO || q->function == WSKLAB_FN_SEND_MESSAGES) && Seldom(source)) {
            q->argument_use = WSKLAB_USE_CONTROL_INFO;
            return 1 + Below(source, 40);
        }
        break;
    case WSKLAB_FN_RECEIVE_FROM:
        if (Take(source) & 1) {
            q->output_size = 64;
            q->argument_use = WSKLAB_USE_CONTROL_INFO | WSKLAB_USE_CONTROL_LENGTH | WSKLAB_USE_CONTROL_FLAGS;
        } /* fall through */
    case WSKLAB_FN_RECEIVE:
        q->buffer_length = 1 + Below(source, 64);
        q->mdl_shape = WSKLAB_MDL_SINGLE;
        q->flags = OneOf(source, 0, 0, 0, 2, 4);
        break;
    case WSKLAB_FN_GET_ADDRESS_INFO:
        q->argument_use = WSKLAB_USE_NODE;
        q->node_length = 18; /* 127.0.0.1 */
        q->new_object = 1 + Below(source, OBJECTS - 1);
        return 18;
    case WSKLAB_FN_GET_NAME_INFO:
        q->argument_use = WSKLAB_USE_NODE | OneOf(source, 0, WSKLAB_USE_SERVICE);
        q->node_length = 60;
        q->service_length = q->argument_use & WSKLAB_USE_SERVICE ? 20 : 0;
        q->flags = 2;
        break;
    case WSKLAB_FN_INSPECT_COMPLETE:
        q->object = Below(source, OBJECTS);
        q->inspect_action = (uint8_t)Below(source, 5);
        break;
    case WSKLAB_FN_FREE_ADDRESS_INFO:
    case WSKLAB_FN_RELEASE_DATA:
    case WSKLAB_FN_RELEASE_DATAGRAM:
    case WSKLAB_FN_INDICATION_INFO:
        q->object = 1 + Below(source, OBJECTS - 1);
        q->count = q->function == WSKLAB_FN_RELEASE_DATAGRAM ? Below(source, 3) : 0;
        q->index = q->function == WSKLAB_FN_INDICATION_INFO ? Below(source, 2) : 0;
        break;
    case WSKLAB_FN_CAPTURE:
        q->timeout_ms = OneOf(source, 0, 1, 50);
        break;
    default:
        break;
    }
    return 0;
}

static BOOLEAN OnSocket(ULONG function) {
    switch (function) {
    case WSKLAB_FN_SAMPLE_LISTEN:
    case WSKLAB_FN_SOCKET:
    case WSKLAB_FN_CONTROL_CLIENT:
    case WSKLAB_FN_CAPTURE:
    case WSKLAB_FN_QUERY_CHARACTERISTICS:
    case WSKLAB_FN_PROVIDER_INFO:
    case WSKLAB_FN_SOCKET_CONNECT:
    case WSKLAB_FN_GET_ADDRESS_INFO:
    case WSKLAB_FN_FREE_ADDRESS_INFO:
    case WSKLAB_FN_GET_NAME_INFO:
    case WSKLAB_FN_INDICATION_INFO:
        return FALSE;
    default:
        return TRUE;
    }
}

static BOOLEAN Makes(ULONG function) {
    return function == WSKLAB_FN_SAMPLE_LISTEN || function == WSKLAB_FN_SOCKET || function == WSKLAB_FN_ACCEPT ||
           function == WSKLAB_FN_SOCKET_CONNECT;
}

void MakeSubmit(SOURCE *source, REQUEST *request, ULONG code) {
    BOOLEAN end = Take(source) > 252;
    UCHAR function = end ? Ends[Below(source, RTL_NUMBER_OF(Ends))] : Functions[Below(source, RTL_NUMBER_OF(Functions))];
    WSKLAB_SUBMIT q = {.header = Header(sizeof(q)), .function = function, .op_id = 1 + Below(source, OPERATIONS - 1)};
    ULONG extra;

    q.socket = OnSocket(function) && !end ? 1 + Below(source, SOCKETS - 1) : 0;
    q.new_socket = Makes(function) ? 1 + Below(source, SOCKETS - 1) : 0;
    q.version = end ? 0x100 : 0;
    extra = Special(source, &q);
    q.extra_length = extra;
    if (function == WSKLAB_FN_BIND || function == WSKLAB_FN_SOCKET_CONNECT) {
        q.local = Address(source);
        q.address_use |= WSKLAB_ADDRESS_LOCAL;
    }
    if (function == WSKLAB_FN_CONNECT || function == WSKLAB_FN_SOCKET_CONNECT || function == WSKLAB_FN_CONNECT_EX ||
        function == WSKLAB_FN_SEND_TO || function == WSKLAB_FN_SEND_MESSAGES || function == WSKLAB_FN_GET_NAME_INFO) {
        q.remote = Address(source);
        q.address_use |= WSKLAB_ADDRESS_REMOTE;
    }
    if (Take(source) > 160) { /* what any operation may have */
        q.then_op = OneOf(source, 0, 1, 2, 3, 4, 5);
        q.switches |= OneOf(source, 0, WSKLAB_SWITCH_HELD, WSKLAB_SWITCH_KEEP_IRP, WSKLAB_SWITCH_SCRIBBLE_WSK_BUF, WSKLAB_SWITCH_NULL_IRP);
        q.delay_ms = OneOf(source, 0, 0, 5, 5000);
        q.irp_source = (uint8_t)OneOf(source, 0, 1, 1, 2);
        q.reuse_op = q.irp_source == WSKLAB_IRP_REUSED ? 1 + Below(source, OPERATIONS - 1) : 0;
        q.stack_count = (uint8_t)OneOf(source, 0, 1, 2, 16);
        q.second_location = q.stack_count >= 2 ? (uint8_t)Below(source, 2) : 0;
        q.call_context = (uint8_t)Below(source, 3);
        q.dispatch_mask = Take(source);
        q.socket_context = Take(source);
        q.address_use = (uint8_t)Below(source, 4);
    }
    if (code == IOCTL_WSKLAB_RUN) {
        q.wait_ms = OneOf(source, 0, 1, 20, 100000);
        q.wait_flags = WSKLAB_RELEASE;
    } else if (code == IOCTL_WSKLAB_FORWARD) {
        q.irp_source = WSKLAB_IRP_FORWARDED;
        q.forward = (uint8_t)OneOf(source, 1, 2, 2, 3, 3);
        q.stack_count = 1;
        q.reuse_op = q.delay_ms = q.switches = q.second_location = 0;
        q.call_context = (uint8_t)OneOf(source, 0, 2);
    }
    request->Code = code;
    request->Size = sizeof(q);
    memcpy(request->Bytes, &q, sizeof(q));
    if (function == WSKLAB_FN_GET_ADDRESS_INFO) {
        memcpy(request->Bytes + sizeof(q), L"127.0.0.1", 18);
        request->Size += 18;
    } else {
        Append(request, NULL, q.data_length);
        Append(request, source, extra);
    }
    request->Room = code == IOCTL_WSKLAB_RUN ? OneOf(source, 400, 4096, 320, 0) : 0;
}

void MakeScript(SOURCE *source, REQUEST *request) {
    ULONG callback = OneOf(source, WSKLAB_CALLBACK_ACCEPT, WSKLAB_CALLBACK_RECEIVE, WSKLAB_CALLBACK_RECEIVE_FROM,
                           WSKLAB_CALLBACK_INSPECT, WSKLAB_CALLBACK_ACCEPT, WSKLAB_CALLBACK_RECEIVE, WSKLAB_CALLBACK_ABORT,
                           WSKLAB_CALLBACK_DISCONNECT, WSKLAB_CALLBACK_SEND_BACKLOG, WSKLAB_CALLBACK_CLIENT, 0, 12);
    ULONG count = OneOf(source, 1, 1, 2, 3, 0, 16, 17);
    WSKLAB_SCRIPT script = {.header = Header(sizeof(script)), .callback = callback, .count = count,
                            .socket = callback == WSKLAB_CALLBACK_CLIENT ? 0 : Below(source, SOCKETS)};

    request->Code = IOCTL_WSKLAB_SCRIPT;
    request->Room = OneOf(source, sizeof(WSKLAB_SCRIPT_RESULT), 0, 400);
    request->Size = sizeof(script);
    memcpy(request->Bytes, &script, sizeof(script));
    for (ULONG i = 0; i < count; i++) {
        WSKLAB_ANSWER answer = {.action = OneOf(source, WSKLAB_ACTION_TAKE, WSKLAB_ACTION_TAKE, WSKLAB_ACTION_KEEP,
                                                WSKLAB_ACTION_TAKE_SOME, WSKLAB_ACTION_REFUSE, WSKLAB_ACTION_PEND,
                                                WSKLAB_ACTION_DEFAULT, 6)};
        BOOLEAN named = answer.action == WSKLAB_ACTION_KEEP ||
                        (answer.action == WSKLAB_ACTION_TAKE && callback == WSKLAB_CALLBACK_ACCEPT);
        answer.uses = OneOf(source, 1, 1, 2, 0);
        answer.number = named ? 1 + Below(source, SOCKETS - 1) : 0;
        answer.then_op = OneOf(source, 0, 0, 1, 2, 3);
        answer.length = answer.action == WSKLAB_ACTION_TAKE_SOME ? Below(source, 10) : 0;
        answer.hold_ms = OneOf(source, 0, 0, 0, 1, 50);
        answer.dispatch = named && callback == WSKLAB_CALLBACK_ACCEPT ? (uint8_t)OneOf(source, 1, 1, 0, 2) : 0;
        memcpy(request->Bytes + request->Size, &answer, sizeof(answer));
        request->Size += sizeof(answer);
    }
}

/* Everything that is neither a call nor a script. */
static void MakeOther(SOURCE *source, REQUEST *request) {
    ULONG op = Below(source, OPERATIONS);
    ULONG time = OneOf(source, 0, 1, 20, 100000);
    union {
        WSKLAB_HEADER Header;
        WSKLAB_WAIT Wait;
        WSKLAB_CANCEL Cancel;
        WSKLAB_FETCH Fetch;
        WSKLAB_EVENTS Events;
        WSKLAB_DRAIN Drain;
        WSKLAB_FAULTS Faults;
    } q;
    ULONG size = sizeof(WSKLAB_HEADER);

    memset(&q, 0, sizeof(q));
    request->Room = OneOf(source, 4096, 4096, 400, 320, 16, 8, 1, 0);
    request->Code = OneOf(source, IOCTL_WSKLAB_WAIT, IOCTL_WSKLAB_WAIT, IOCTL_WSKLAB_CANCEL, IOCTL_WSKLAB_CANCEL, IOCTL_WSKLAB_FETCH,
                          IOCTL_WSKLAB_EVENTS, IOCTL_WSKLAB_SOCKETS, IOCTL_WSKLAB_OBJECTS, IOCTL_WSKLAB_LEDGER, IOCTL_WSKLAB_DRAIN,
                          IOCTL_WSKLAB_FAULTS, IOCTL_WSKLAB_HELLO, IOCTL_WSKLAB_WAIT, IOCTL_WSKLAB_QUIESCE);
    switch (request->Code) {
    case IOCTL_WSKLAB_WAIT:
        size = sizeof(q.Wait), q.Wait.op_id = op, q.Wait.timeout_ms = time, q.Wait.flags = Below(source, 2);
        break;
    case IOCTL_WSKLAB_CANCEL:
        size = sizeof(q.Cancel), q.Cancel.op_id = op;
        break;
    case IOCTL_WSKLAB_FETCH:
        size = sizeof(q.Fetch), q.Fetch.op_id = op, q.Fetch.flags = Below(source, 2), q.Fetch.data_length = Take(source);
        break;
    case IOCTL_WSKLAB_EVENTS:
        size = sizeof(q.Events), q.Events.max_events = Below(source, 4);
        break;
    case IOCTL_WSKLAB_QUIESCE:
        if (Take(source) < 200) {
            request->Code = IOCTL_WSKLAB_LEDGER; /* it ends both handles for good */
            break;
        } /* fall through */
    case IOCTL_WSKLAB_DRAIN:
        size = sizeof(q.Drain), q.Drain.timeout_ms = time;
        break;
    case IOCTL_WSKLAB_FAULTS:
        size = sizeof(q.Faults), q.Faults.kind = Below(source, 8), q.Faults.skip = Below(source, 4), q.Faults.deny = Below(source, 3);
        q.Faults.clear = Below(source, 2);
        break;
    default:
        break;
    }
    q.Header = Header(size);
    request->Size = size;
    memcpy(request->Bytes, &q, size);
}

void MakeAny(SOURCE *source, REQUEST *request) {
    ULONG choice = Take(source);

    if (choice < 130) {
        MakeSubmit(source, request, choice % 4 == 0 ? IOCTL_WSKLAB_RUN : choice % 16 == 1 ? IOCTL_WSKLAB_FORWARD : IOCTL_WSKLAB_SUBMIT);
    } else if (choice < 225) {
        MakeOther(source, request);
    } else if (choice < 245) {
        MakeScript(source, request);
    } else { /* noise */
        request->Code = WSKLAB_CTL(Below(source, 18)) ^ (choice == 255 ? 1u << Below(source, 32) : 0);
        request->Room = Take(source);
        request->Size = 0;
        Append(request, source, Below(source, 64));
    }
}

/* WSKLAB_SWITCH_HAZARD is there for what may crash the guest: not a finding. */
static void WithoutHazard(REQUEST *request) {
    BOOLEAN submits = request->Code == IOCTL_WSKLAB_SUBMIT || request->Code == IOCTL_WSKLAB_RUN || request->Code == IOCTL_WSKLAB_FORWARD;
    WSKLAB_SUBMIT q;

    if (submits && request->Size >= sizeof(q)) {
        memcpy(&q, request->Bytes, sizeof(q));
        q.switches &= ~WSKLAB_SWITCH_HAZARD;
        memcpy(request->Bytes, &q, sizeof(q));
    }
}

void Damage(SOURCE *source, REQUEST *request) {
    ULONG choice = Take(source);

    for (ULONG i = 0; i < (choice > 200) + (choice > 240) && request->Size > 0; i++) {
        ULONG at = (Take(source) | Below(source, 8) << 8) % request->Size;
        request->Bytes[at] = (UCHAR)Take(source);
    }
    if (choice > 250) {
        request->Size = Take(source) % (request->Size + 1);
    }
    WithoutHazard(request);
}
