/*
 * wsklab_numbers.h: limits, enumerations and flags of the conversation in wsklab_ioctl.h, which includes it.
 */
#ifndef WSKLAB_NUMBERS_H
#define WSKLAB_NUMBERS_H

/* Limits. HELLO repeats them. */
#define WSKLAB_MAX_DATA (480u * 1024u)          /* bytes behind a SUBMIT, a record or in one FETCH */
#define WSKLAB_MAX_BUFFER (16u * 1024u * 1024u) /* bytes of one operation's data buffer */
#define WSKLAB_MAX_OPERATIONS 4096u             /* per client, records included until released */
#define WSKLAB_MAX_SOCKETS 1024u                /* per client */
#define WSKLAB_MAX_CLIENTS 64u
#define WSKLAB_EVENT_CAPACITY 1024u             /* ring of one client */
#define WSKLAB_MAX_STACK_COUNT 16u
#define WSKLAB_MAX_CHUNKS 16u
#define WSKLAB_MAX_EXTRA (16u * 1024u)           /* bytes of option values, control information, names; in and out */
#define WSKLAB_MAX_OBJECTS 256u                 /* per client: cached descriptors, kept indications, address lists */
#define WSKLAB_MAX_INSPECTS 256u                /* inspect ids that a client remembers; the oldest is forgotten */
#define WSKLAB_MAX_SCRIPTS 256u                 /* per client */
#define WSKLAB_MAX_ANSWERS 16u                  /* of one script */
#define WSKLAB_MAX_HOLD_MS 50u                  /* how long an answer may keep a callback busy */
#define WSKLAB_MAX_TIMEOUT_MS 600000u           /* WAIT, DRAIN, QUIESCE, delay, capture: never endless */
#define WSKLAB_GRACE_MS 500u                    /* failing return without completion for so long: lost */
#define WSKLAB_MAX_NUMBER 0xFFFFFFFEu
#define WSKLAB_PREFILL 0xDEADBEEFu              /* IoStatus.Status and .Information before a call */

/* Functions. Each is one call to WSK or one look at what it gave us; SUBMIT answers STATUS_INVALID_PARAMETER for any other
 * number. */
enum {
    WSKLAB_FN_SAMPLE_LISTEN = 1, /* the published sample, sys/sample_listen.c */
    WSKLAB_FN_SOCKET = 2,
    WSKLAB_FN_BIND = 3,
    WSKLAB_FN_ACCEPT = 4,
    WSKLAB_FN_CONNECT = 5,
    WSKLAB_FN_SEND = 6,
    WSKLAB_FN_RECEIVE = 7,
    WSKLAB_FN_CLOSE = 8,
    WSKLAB_FN_REGISTER = 16,
    WSKLAB_FN_CAPTURE = 17,
    WSKLAB_FN_RELEASE_NPI = 18,
    WSKLAB_FN_DEREGISTER = 19,
    WSKLAB_FN_QUERY_CHARACTERISTICS = 20, /* raises on Wine: refused there, unless the switch says so */
    WSKLAB_FN_PROVIDER_INFO = 21,
    WSKLAB_FN_SOCKET_INFO = 22,
    WSKLAB_FN_SOCKET_CONNECT = 32,
    WSKLAB_FN_CONTROL_CLIENT = 33,
    WSKLAB_FN_CONTROL_SOCKET = 34,
    WSKLAB_FN_GET_ADDRESS_INFO = 35,  /* makes an object; passive level only, on a thread of its own */
    WSKLAB_FN_FREE_ADDRESS_INFO = 36, /* takes the object */
    WSKLAB_FN_GET_NAME_INFO = 37,     /* passive level only, on a thread of its own */
    WSKLAB_FN_LISTEN = 38,            /* stream sockets */
    WSKLAB_FN_CONNECT_EX = 39,        /* connection and stream sockets, Windows 10 1703 and later */
    WSKLAB_FN_INSPECT_COMPLETE = 40,
    WSKLAB_FN_GET_LOCAL_ADDRESS = 41,
    WSKLAB_FN_GET_REMOTE_ADDRESS = 42,
    WSKLAB_FN_DISCONNECT = 43,
    WSKLAB_FN_RELEASE_DATA = 44, /* WskRelease of a kept data indication, the object */
    WSKLAB_FN_SEND_TO = 45,
    WSKLAB_FN_SEND_MESSAGES = 46, /* every chunk is one message */
    WSKLAB_FN_RECEIVE_FROM = 47,
    WSKLAB_FN_RELEASE_DATAGRAM = 48, /* WskRelease of `count` datagrams of a kept list (0: all that are left) */
    WSKLAB_FN_NMR_REGISTER = 49,     /* NmrRegisterClient: attaches through the module registrar instead of WskRegister */
    WSKLAB_FN_NMR_DEREGISTER = 50,   /* NmrDeregisterClient and the wait for its end, on a thread of its own */
    WSKLAB_FN_INDICATION_INFO = 51,  /* look at a kept indication: entry `index`; calls nothing */
    WSKLAB_FN_END = 52
};

/* Deliberate failures: numbers that only a test build offers (sys/failures.h), and there only with WSKLAB_SWITCH_HAZARD. */
enum {
    WSKLAB_FN_FAIL_NULL = 240,
    WSKLAB_FN_FAIL_USE_AFTER_FREE = 241,
    WSKLAB_FN_FAIL_DOUBLE_COMPLETION = 242,
    WSKLAB_FN_FAIL_SPIN = 243,
    WSKLAB_FN_FAIL_DEADLOCK = 244,
    WSKLAB_FN_FAIL_LEAK = 245,
    WSKLAB_FN_FAIL_STACK_OVERRUN = 246,
    WSKLAB_FN_FAIL_BUGCHECK = 247 /* code `flags`, first and second parameter `protocol` and `socket_context` */
};

/* Where the IRP of an operation comes from. */
enum {
    WSKLAB_IRP_ALLOCATED = 0,     /* IoAllocateIrp */
    WSKLAB_IRP_CALLER_MEMORY = 1, /* IoInitializeIrp in our nonpaged memory; poisoned in the completion routine */
    WSKLAB_IRP_REUSED = 2,        /* the IRP that `reuse_op` kept, after IoReuseIrp */
    WSKLAB_IRP_FORWARDED = 3      /* the IRP of IOCTL_WSKLAB_FORWARD itself; only there, and there only this */
};

/* What FORWARD does with its own IRP (WSK-IRP-009, WSK-IRP-010); NONE everywhere else. BARE sets no routine: only for
 * functions whose Information is a number. */
enum { WSKLAB_FORWARD_NONE = 0, WSKLAB_FORWARD_BARE = 1, WSKLAB_FORWARD_PASS = 2, WSKLAB_FORWARD_HOLD = 3 };

/* From where WSK is called. */
enum { WSKLAB_CONTEXT_CALLER = 0, WSKLAB_CONTEXT_WORKER = 1, WSKLAB_CONTEXT_RAISED = 2 };

/* Flags of IoSetCompletionRoutine; 0 in `invoke_flags` means all three. */
#define WSKLAB_INVOKE_SUCCESS 1u
#define WSKLAB_INVOKE_ERROR 2u
#define WSKLAB_INVOKE_CANCEL 4u

/* The client dispatch handed to WskSocket and WskAccept. MASK: member i is set when bit i of `dispatch_mask` is. */
enum { WSKLAB_DISPATCH_NULL = 0, WSKLAB_DISPATCH_FULL = 1, WSKLAB_DISPATCH_MASK = 2 };

/* Owning process and owning thread. */
enum { WSKLAB_OWNER_NULL = 0, WSKLAB_OWNER_CURRENT = 1 };

/* Security descriptor of a new socket: NULL, or the cached one that `object` names (an uncached pointer is a client's error). */
enum { WSKLAB_SECURITY_NULL = 0, WSKLAB_SECURITY_CACHED = 1 };

/* What InputBuffer of WskControlSocket and WskControlClient points to. Codes that take pointers take only their own kind
 * (SO_WSK_EVENT_CALLBACK, SO_WSK_SECURITY, SIO_WSK_REGISTER_EXTENSION, and all of WskControlClient but the transport list
 * and WSK_TDI_BEHAVIOR), codes of the WSK ranges that this driver does not know only NONE: a number is never a pointer. */
enum {
    WSKLAB_INPUT_NONE = 0,           /* NULL; input_size is 0 */
    WSKLAB_INPUT_BYTES = 1,          /* the extra bytes behind the request */
    WSKLAB_INPUT_EVENT_CALLBACK = 2, /* WSK_EVENT_CALLBACK_CONTROL {npi, event_mask}, 16 bytes */
    WSKLAB_INPUT_DESCRIPTOR = 3,     /* a pointer to a descriptor made by the driver (`descriptor`), 8 bytes */
    WSKLAB_INPUT_CACHED = 4,         /* a pointer to the cached descriptor that `object` names, 8 bytes */
    WSKLAB_INPUT_EXTENSION = 5,      /* WSK_EXTENSION_CONTROL_IN {npi, NULL, NULL}, 24 bytes */
    WSKLAB_INPUT_TDI_MAP = 6         /* WSK_TDI_MAP_INFO with one entry {type, family, protocol, a name}, 16 bytes */
};

/* The NpiId of an input: WSK's own, a copy of it at another address, another identifier, NULL. */
enum { WSKLAB_NPI_WSK = 0, WSKLAB_NPI_COPY = 1, WSKLAB_NPI_OTHER = 2, WSKLAB_NPI_NULL = 3 };

/* Access list of a descriptor made by the driver. */
enum { WSKLAB_DESCRIPTOR_EVERYONE = 0, WSKLAB_DESCRIPTOR_ADMINISTRATORS = 1 };

enum { WSKLAB_MDL_NULL = 0, WSKLAB_MDL_SINGLE = 1, WSKLAB_MDL_CHAIN = 2 };

/* What the data buffer holds before the call: 0xCC, the bytes behind the request, or the pattern of `pattern_seed`:
 * byte i is (seed + 31 * i + (i >> 8)) & 0xFF. */
enum { WSKLAB_FILL_NONE = 0, WSKLAB_FILL_DATA = 1, WSKLAB_FILL_PATTERN = 2 };
#define WSKLAB_UNTOUCHED_BYTE 0xCCu

/* `address_use`: which address arguments are not NULL. Inputs of bind (local) and connect (remote), outputs of accept. */
#define WSKLAB_ADDRESS_LOCAL 1u
#define WSKLAB_ADDRESS_REMOTE 2u

/* `argument_use`: further pointer arguments that are not NULL. */
#define WSKLAB_USE_SIZE_RETURNED 0x1u  /* CONTROL_*: OutputSizeReturned */
#define WSKLAB_USE_CONTROL_LENGTH 0x2u /* RECEIVE_FROM: ControlInfoLength, with output_size in it */
#define WSKLAB_USE_CONTROL_INFO 0x4u   /* RECEIVE_FROM, SEND_TO, SEND_MESSAGES: ControlInfo */
#define WSKLAB_USE_CONTROL_FLAGS 0x8u  /* RECEIVE_FROM: ControlFlags */
#define WSKLAB_USE_NODE 0x10u          /* GET_ADDRESS_INFO, GET_NAME_INFO: NodeName */
#define WSKLAB_USE_SERVICE 0x20u       /* ... ServiceName */
#define WSKLAB_USE_HINTS 0x40u         /* GET_ADDRESS_INFO: Hints {hint_flags, family, type, protocol} */
#define WSKLAB_USE_ALL 0x7Fu

/* `switches` of a submit. */
#define WSKLAB_SWITCH_NULL_IRP 0x1u         /* pass NULL as IRP (WSK-SOCK-014) */
#define WSKLAB_SWITCH_NULL_CLIENT 0x2u      /* pass NULL as client (WSK-SOCK-015) */
#define WSKLAB_SWITCH_HELD 0x4u             /* prepared only; another operation's `then_op` starts it */
#define WSKLAB_SWITCH_KEEP_IRP 0x8u         /* do not free the IRP: a later operation reuses it */
#define WSKLAB_SWITCH_SCRIBBLE_WSK_BUF 0x10u /* overwrite the WSK_BUF when the call has returned (WSK-DATA-010) */
#define WSKLAB_SWITCH_AFTER_DEREGISTER 0x20u /* capture with a deregistered block (WSK-DET-006); its NPI is not kept */
#define WSKLAB_SWITCH_EVEN_IF_RAISING 0x40u /* call a function that is known to raise on this platform */
#define WSKLAB_SWITCH_UNKNOWN_ID 0x80u   /* INSPECT_COMPLETE: an id that WSK never gave, made of `object` */
#define WSKLAB_SWITCH_UNTERMINATED 0x100u /* GET_ADDRESS_INFO: no zero behind the strings (WSK-NAME-005) */
#define WSKLAB_SWITCH_NMR_RETRY 0x200u   /* NMR_REGISTER: after STATUS_NOINTERFACE once more with version 1.0 */
#define WSKLAB_SWITCH_HAZARD 0x400u      /* do what may crash the guest: a NULL MDL with a length, an event without a callback */
#define WSKLAB_SWITCH_INFINITE 0x800u    /* CAPTURE: WSK_INFINITE_WAIT, timeout_ms 0. A capture that may not wait goes before it (but for
                                            AFTER_DEREGISTER), so that it cannot keep the client's end waiting for ever */
#define WSKLAB_SWITCH_ALL 0xFFFu

enum {
    WSKLAB_STATE_NEW = 0,         /* held, delayed or queued; WSK has not been called */
    WSKLAB_STATE_CALLING = 1,     /* the call has not returned */
    WSKLAB_STATE_OUTSTANDING = 2, /* the call has returned, the completion is awaited */
    WSKLAB_STATE_COMPLETED = 3,
    WSKLAB_STATE_LOST = 4,        /* failing return, no completion within the grace time; the IRP is kept for ever */
    WSKLAB_STATE_NOT_STARTED = 5  /* will never be called: `driver_status` says why */
};

enum {
    WSKLAB_INFORMATION_NONE = 0,    /* no completion was seen */
    WSKLAB_INFORMATION_PREFILL = 1, /* still the prefill: the provider never wrote it */
    WSKLAB_INFORMATION_INTEGER = 2, /* `information` is the number */
    WSKLAB_INFORMATION_SOCKET = 3,  /* a socket object; `information` is `new_socket` */
    WSKLAB_INFORMATION_HIDDEN = 4   /* something that may be a pointer where none is expected; not disclosed */
};

enum { WSKLAB_DEVICE_OBJECT_NONE = 0, WSKLAB_DEVICE_OBJECT_NULL = 1, WSKLAB_DEVICE_OBJECT_OURS = 2, WSKLAB_DEVICE_OBJECT_OTHER = 3 };

/* `flags` of a record. */
#define WSKLAB_RECORD_RETURNED 0x1u           /* the call has returned; `returned_status` holds */
#define WSKLAB_RECORD_IRP_MATCH 0x2u          /* the completion routine got our IRP */
#define WSKLAB_RECORD_CONTEXT_MATCH 0x4u      /* ... and our context */
#define WSKLAB_RECORD_PENDING_RETURNED 0x8u   /* Irp->PendingReturned in the routine */
#define WSKLAB_RECORD_IRP_CANCEL 0x10u        /* Irp->Cancel in the routine */
#define WSKLAB_RECORD_IRP_FREED 0x20u         /* the routine freed the IRP */
#define WSKLAB_RECORD_POISONED 0x40u          /* the routine overwrote the IRP */
#define WSKLAB_RECORD_POISON_INTACT 0x80u     /* ... and nobody has written to it since (checked at each look) */
#define WSKLAB_RECORD_GUARDS_CHECKED 0x100u   /* there were output buffers with guard bytes */
#define WSKLAB_RECORD_GUARDS_INTACT 0x200u
#define WSKLAB_RECORD_REST_INTACT 0x400u      /* the data buffer is untouched outside the delivered bytes */
#define WSKLAB_RECORD_SOCKET_ALIGNED 0x800u   /* the new socket is 8-byte aligned */
#define WSKLAB_RECORD_SOCKET_DISPATCH 0x1000u /* its Dispatch member is not NULL */
#define WSKLAB_RECORD_SOCKET_UNIQUE 0x2000u   /* no other open socket of this client has its address */
#define WSKLAB_RECORD_SAME_DISPATCH 0x4000u   /* SOCKET_INFO: Dispatch is what it was at creation */
#define WSKLAB_RECORD_CANCEL_REQUESTED 0x8000u
#define WSKLAB_RECORD_RELEASED 0x10000u       /* this answer released the operation; its number is free */
#define WSKLAB_RECORD_DATA_TRUNCATED 0x20000u /* more data than the output buffer takes: FETCH the rest */
#define WSKLAB_RECORD_TIMED_OUT 0x40000u      /* the WAIT's timer ended it */
#define WSKLAB_RECORD_CLIENT_SET 0x80000u     /* CAPTURE, PROVIDER_INFO: NPI.Client is not NULL */
#define WSKLAB_RECORD_DISPATCH_SET 0x100000u  /* ... NPI.Dispatch is not NULL */
#define WSKLAB_RECORD_SAME_NPI 0x200000u      /* CAPTURE: both equal those of the capture before */
#define WSKLAB_RECORD_LATE 0x400000u          /* completed after it had been counted as lost */
#define WSKLAB_RECORD_INFORMATION_CLAMPED 0x800000u /* Information exceeded the buffer; the data ends at the buffer */
#define WSKLAB_RECORD_INPUT_INTACT 0x1000000u   /* the input buffer (option value, control information) is as it was */
#define WSKLAB_RECORD_SIZE_RETURNED 0x2000000u  /* OutputSizeReturned was written: `size_returned` */
#define WSKLAB_RECORD_CONTROL_LENGTH 0x4000000u /* ControlInfoLength was changed: `control_length` */
#define WSKLAB_RECORD_CONTROL_FLAGS 0x8000000u  /* ControlFlags was written: `control_flags` */
#define WSKLAB_RECORD_OBJECT_MADE 0x10000000u   /* `object` is new and the client's */
#define WSKLAB_RECORD_OBJECT_DIFFERS 0x20000000u /* ... and its pointer is not the one that went in (WSK-CTL-004) */
#define WSKLAB_RECORD_OUTPUT_HIDDEN 0x40000000u /* there was output that may hold pointers and is not disclosed */
#define WSKLAB_RECORD_FORWARDED 0x80000000u     /* the IRP came from above and went back */

/* `flags` of WAIT and FETCH. */
#define WSKLAB_RELEASE 0x1u /* free the operation when this answer holds its final record and all of its data */

/* `outcome` of CANCEL and `cancel_outcome` of a record. */
enum {
    WSKLAB_CANCEL_NONE = 0,      /* nobody asked */
    WSKLAB_CANCEL_CALLED = 1,    /* IoCancelIrp returned TRUE: a cancel routine ran */
    WSKLAB_CANCEL_MARKED = 2,    /* IoCancelIrp returned FALSE: the IRP is marked, no routine was set */
    WSKLAB_CANCEL_ABANDONED = 3, /* it had not started and never will */
    WSKLAB_CANCEL_TOO_LATE = 4   /* completed, lost or without an IRP */
};

#define WSKLAB_HELLO_WINE 0x1u              /* ntoskrnl is Wine's */
#define WSKLAB_HELLO_IRQL_REAL 0x2u         /* raising the IRQL can be read back */
#define WSKLAB_HELLO_DACL_SET 0x4u          /* SYSTEM and Administrators only; `dacl_status` tells why not */
#define WSKLAB_HELLO_ADMIN_CHECKED 0x8u     /* IRP_MJ_CREATE looks at the token */
#define WSKLAB_HELLO_COMPLETION_EX 0x10u    /* IoSetCompletionRoutineEx is used */
#define WSKLAB_HELLO_CLOSED 0x20u           /* this client was closed by a quiesce: it can only be looked at */
#define WSKLAB_HELLO_CAPTURED 0x40u         /* this client holds the provider; `provider_version` holds */

enum { WSKLAB_CATEGORY_BASIC = 0, WSKLAB_CATEGORY_LISTEN = 1, WSKLAB_CATEGORY_CONNECTION = 2, WSKLAB_CATEGORY_DATAGRAM = 4, WSKLAB_CATEGORY_STREAM = 8 };
enum { WSKLAB_SOCKET_CREATING = 0, WSKLAB_SOCKET_OPEN = 1, WSKLAB_SOCKET_CLOSING = 2 };

/* What a client owns beside sockets: made by operations and callbacks, given back by others, or at the client's end. */
enum {
    WSKLAB_OBJECT_DESCRIPTOR = 1,   /* cached by WSK_CACHE_SD or a get of SO_WSK_SECURITY; back by WSK_RELEASE_SD */
    WSKLAB_OBJECT_DATA = 2,         /* a data indication kept by an answer; back by RELEASE_DATA */
    WSKLAB_OBJECT_DATAGRAM = 3,     /* a list of datagram indications; back by RELEASE_DATAGRAM */
    WSKLAB_OBJECT_ADDRESS_LIST = 4  /* from GET_ADDRESS_INFO; back by FREE_ADDRESS_INFO */
};

/* WSK calling us. */
enum {
    WSKLAB_CALLBACK_NONE = 0,
    WSKLAB_CALLBACK_ACCEPT = 1,
    WSKLAB_CALLBACK_INSPECT = 2,
    WSKLAB_CALLBACK_ABORT = 3,
    WSKLAB_CALLBACK_RECEIVE_FROM = 4,
    WSKLAB_CALLBACK_RECEIVE = 5,
    WSKLAB_CALLBACK_DISCONNECT = 6,
    WSKLAB_CALLBACK_SEND_BACKLOG = 7,
    WSKLAB_CALLBACK_CLIENT = 8,     /* WskClientEvent; of the client: socket 0 */
    WSKLAB_CALLBACK_NMR_ATTACH = 9, /* the module registrar's three; of the client, not scripted */
    WSKLAB_CALLBACK_NMR_DETACH = 10,
    WSKLAB_CALLBACK_NMR_CLEANUP = 11,
    WSKLAB_CALLBACK_END = 12
};

/*
 * What a callback answers. Without a script, and when a script is used up, the default: refuse what refusing leaves with
 * WSK (a connection, an inspection, data: STATUS_REQUEST_NOT_ACCEPTED, reject, STATUS_DATA_NOT_ACCEPTED), STATUS_SUCCESS
 * for what only tells (abort, disconnect, send backlog, client). Events cannot be disabled from inside a callback:
 * a `then_op` that would is not started.
 */
enum {
    WSKLAB_ACTION_DEFAULT = 0,
    WSKLAB_ACTION_TAKE = 1,      /* the connection, the inspection, all data or datagrams */
    WSKLAB_ACTION_TAKE_SOME = 2, /* receive: `length` bytes of it */
    WSKLAB_ACTION_KEEP = 3,      /* receive, receive-from: STATUS_PENDING; the indication becomes the object `number` */
    WSKLAB_ACTION_REFUSE = 4,
    WSKLAB_ACTION_PEND = 5       /* inspect: decided later by INSPECT_COMPLETE */
};

/* Injected failures: which of the driver's own allocations. */
enum {
    WSKLAB_FAULT_POOL = 0,
    WSKLAB_FAULT_IRP = 1,
    WSKLAB_FAULT_MDL = 2,
    WSKLAB_FAULT_WORK_ITEM = 3,
    WSKLAB_FAULT_THREAD = 4,
    WSKLAB_FAULT_COMPLETION = 5, /* IoSetCompletionRoutineEx */
    WSKLAB_FAULT_END = 6
};

/* `kind` of an event. */
enum {
    WSKLAB_EVENT_CALL_ENTER = 1,
    WSKLAB_EVENT_CALL_RETURN = 2,     /* status: returned */
    WSKLAB_EVENT_COMPLETION = 3,      /* status: IoStatus.Status; value: completion count */
    WSKLAB_EVENT_UPPER_COMPLETION = 4,
    WSKLAB_EVENT_CALLBACK_ENTER = 5,  /* what WSK said */
    WSKLAB_EVENT_CALLBACK_EXIT = 6,   /* what we answered: status, action, accepted, object, new_socket; value: sequence of the enter */
    WSKLAB_EVENT_CANCEL = 7,          /* value: outcome */
    WSKLAB_EVENT_LOST = 8,
    WSKLAB_EVENT_NOT_STARTED = 9,     /* status: why */
    WSKLAB_EVENT_SOCKET_OPENED = 10,
    WSKLAB_EVENT_SOCKET_CLOSED = 11,
    WSKLAB_EVENT_CLIENT_CLOSING = 12,
    WSKLAB_EVENT_DATAGRAM = 13 /* one datagram of an indication, between enter and exit; value: its place, from 0 */
};

/* `notes` of an event. */
#define WSKLAB_NOTE_NULL_ARGUMENT 0x1u /* accept, inspect, receive, receive-from: NULL: the socket is dead and wants to be closed */
#define WSKLAB_NOTE_NO_ROOM 0x2u       /* the script wanted a socket or an object and there was none to be had */
#define WSKLAB_NOTE_UNREADABLE 0x4u    /* a buffer could not be mapped: no digest */
#define WSKLAB_NOTE_SCRIPTED 0x8u      /* a script answered */
#define WSKLAB_NOTE_AMBIGUOUS 0x10u    /* several sockets of the client have this context; the first was taken */
#define WSKLAB_NOTE_NO_SOCKET 0x20u    /* no socket of the client has the delivered context, which is not shown */

#define WSKLAB_OWNER_HANDLE_OPEN 0x1u
#define WSKLAB_OWNER_CLOSING 0x2u
#define WSKLAB_OWNER_REGISTERED 0x4u
#define WSKLAB_OWNER_CALLER 0x8u

#endif
