/*
 * wsklab_ioctl.h: what user mode and the driver wsklab.sys say to each other.
 *
 * Compiles in three worlds: the driver (mingw-w64, ntddk.h), Windows user mode (mingw-w64) and Linux
 * (gcc; the layout test of lab/wsklab/abi.py and the shim). Only fixed-width types, natural alignment,
 * no implicit holes: every gap is a named reserved field, which the caller sets to zero and the driver checks.
 *
 * Rules for all codes:
 *  - METHOD_BUFFERED; FILE_READ_DATA and FILE_WRITE_DATA access are needed on the handle.
 *  - Every input starts with WSKLAB_HEADER. A wrong `abi` is answered STATUS_REVISION_MISMATCH, a wrong size
 *    STATUS_INFO_LENGTH_MISMATCH, a reserved field that is not zero STATUS_INVALID_PARAMETER.
 *  - One handle is one client. The numbers of operations and sockets are chosen by the client (1 .. 0xFFFFFFFE)
 *    and are its own: nobody else can name them. So a client may send SUBMIT and WAIT in one go.
 *  - No dispatch routine waits. WAIT, RUN, DRAIN and QUIESCE are pended IRPs; CancelIo(Ex) ends them.
 *  - No kernel pointer is ever returned.
 */
#ifndef WSKLAB_IOCTL_H
#define WSKLAB_IOCTL_H

#include <stddef.h>
#include <stdint.h>

/* Version 0 may change until release 0.1; both ends refuse a mismatch. */
#define WSKLAB_ABI_VERSION 0

#define WSKLAB_DEVICE_PATH "\\\\.\\wsklab"

/* CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800 + n, METHOD_BUFFERED, FILE_READ_DATA | FILE_WRITE_DATA), spelled out for Linux. */
#define WSKLAB_CTL(n) ((0x22u << 16) | (3u << 14) | ((0x800u + (n)) << 2))

#define IOCTL_WSKLAB_HELLO WSKLAB_CTL(0u)    /* WSKLAB_HELLO_REQUEST -> WSKLAB_HELLO */
#define IOCTL_WSKLAB_SUBMIT WSKLAB_CTL(1u)   /* WSKLAB_SUBMIT + data -> nothing; returns at once */
#define IOCTL_WSKLAB_WAIT WSKLAB_CTL(2u)     /* WSKLAB_WAIT -> WSKLAB_RECORD + data; pends */
#define IOCTL_WSKLAB_CANCEL WSKLAB_CTL(3u)   /* WSKLAB_CANCEL -> WSKLAB_CANCEL_RESULT */
#define IOCTL_WSKLAB_FETCH WSKLAB_CTL(4u)    /* WSKLAB_FETCH -> WSKLAB_RECORD + data */
#define IOCTL_WSKLAB_EVENTS WSKLAB_CTL(5u)   /* WSKLAB_EVENTS -> WSKLAB_EVENTS_RESULT + WSKLAB_EVENT[] */
#define IOCTL_WSKLAB_SCRIPT WSKLAB_CTL(6u)   /* reserved: STATUS_NOT_SUPPORTED */
#define IOCTL_WSKLAB_SOCKETS WSKLAB_CTL(7u)  /* WSKLAB_SOCKETS -> WSKLAB_SOCKETS_RESULT + WSKLAB_SOCKET_ENTRY[] */
#define IOCTL_WSKLAB_LEDGER WSKLAB_CTL(8u)   /* WSKLAB_LEDGER_REQUEST -> WSKLAB_LEDGERS */
#define IOCTL_WSKLAB_DRAIN WSKLAB_CTL(9u)    /* WSKLAB_DRAIN -> WSKLAB_DRAIN_RESULT; pends */
#define IOCTL_WSKLAB_QUIESCE WSKLAB_CTL(10u) /* WSKLAB_QUIESCE -> WSKLAB_QUIESCE_RESULT + WSKLAB_OWNER[]; pends */
#define IOCTL_WSKLAB_FAULTS WSKLAB_CTL(11u)  /* reserved: STATUS_NOT_SUPPORTED */
#define IOCTL_WSKLAB_FORWARD WSKLAB_CTL(12u) /* reserved: STATUS_NOT_SUPPORTED (IRPs from above, WSK-IRP-009) */
#define IOCTL_WSKLAB_RUN WSKLAB_CTL(13u)     /* WSKLAB_SUBMIT + data -> WSKLAB_RECORD + data: SUBMIT and WAIT in one; pends */

/* Limits. HELLO repeats them. */
#define WSKLAB_MAX_DATA (480u * 1024u)          /* bytes behind a SUBMIT, a record or in one FETCH */
#define WSKLAB_MAX_BUFFER (16u * 1024u * 1024u) /* bytes of one operation's data buffer */
#define WSKLAB_MAX_OPERATIONS 4096u             /* per client, records included until released */
#define WSKLAB_MAX_SOCKETS 1024u                /* per client */
#define WSKLAB_MAX_CLIENTS 64u
#define WSKLAB_EVENT_CAPACITY 1024u             /* ring of one client */
#define WSKLAB_MAX_STACK_COUNT 16u
#define WSKLAB_MAX_CHUNKS 8u
#define WSKLAB_MAX_TIMEOUT_MS 600000u           /* WAIT, DRAIN, QUIESCE, delay, capture: never endless */
#define WSKLAB_GRACE_MS 500u                    /* failing return without completion for so long: lost */
#define WSKLAB_MAX_NUMBER 0xFFFFFFFEu
#define WSKLAB_PREFILL 0xDEADBEEFu              /* IoStatus.Status and .Information before a call */

/* Functions. 1..31 call WSK or look at what it gave us; the others answer STATUS_NOT_IMPLEMENTED before any call. */
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
    WSKLAB_FN_LAST_IMPLEMENTED = 31,
    WSKLAB_FN_SOCKET_CONNECT = 32,
    WSKLAB_FN_CONTROL_CLIENT = 33,
    WSKLAB_FN_CONTROL_SOCKET = 34,
    WSKLAB_FN_GET_ADDRESS_INFO = 35,
    WSKLAB_FN_FREE_ADDRESS_INFO = 36,
    WSKLAB_FN_GET_NAME_INFO = 37,
    WSKLAB_FN_LISTEN = 38,
    WSKLAB_FN_CONNECT_EX = 39,
    WSKLAB_FN_INSPECT_COMPLETE = 40,
    WSKLAB_FN_GET_LOCAL_ADDRESS = 41,
    WSKLAB_FN_GET_REMOTE_ADDRESS = 42,
    WSKLAB_FN_DISCONNECT = 43,
    WSKLAB_FN_RELEASE_DATA = 44,
    WSKLAB_FN_SEND_TO = 45,
    WSKLAB_FN_SEND_MESSAGES = 46,
    WSKLAB_FN_RECEIVE_FROM = 47,
    WSKLAB_FN_RELEASE_DATAGRAM = 48,
    WSKLAB_FN_NMR_REGISTER = 49,
    WSKLAB_FN_END = 50
};

/* Where the IRP of an operation comes from. */
enum {
    WSKLAB_IRP_ALLOCATED = 0,     /* IoAllocateIrp */
    WSKLAB_IRP_CALLER_MEMORY = 1, /* IoInitializeIrp in our nonpaged memory; poisoned in the completion routine */
    WSKLAB_IRP_REUSED = 2,        /* the IRP that `reuse_op` kept, after IoReuseIrp */
    WSKLAB_IRP_FORWARDED = 3      /* reserved: STATUS_NOT_SUPPORTED */
};

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

/* Security descriptor: NULL only, until WskControlClient exists (an uncached pointer is a client's error). */
enum { WSKLAB_SECURITY_NULL = 0 };

enum { WSKLAB_MDL_NULL = 0, WSKLAB_MDL_SINGLE = 1, WSKLAB_MDL_CHAIN = 2 };

/* What the data buffer holds before the call: 0xCC, the bytes behind the request, or the pattern of `pattern_seed`:
 * byte i is (seed + 31 * i + (i >> 8)) & 0xFF. */
enum { WSKLAB_FILL_NONE = 0, WSKLAB_FILL_DATA = 1, WSKLAB_FILL_PATTERN = 2 };
#define WSKLAB_UNTOUCHED_BYTE 0xCCu

/* `address_use`: which address arguments are not NULL. Inputs of bind (local) and connect (remote), outputs of accept. */
#define WSKLAB_ADDRESS_LOCAL 1u
#define WSKLAB_ADDRESS_REMOTE 2u

/* `switches` of a submit. */
#define WSKLAB_SWITCH_NULL_IRP 0x1u         /* pass NULL as IRP (WSK-SOCK-014) */
#define WSKLAB_SWITCH_NULL_CLIENT 0x2u      /* pass NULL as client (WSK-SOCK-015) */
#define WSKLAB_SWITCH_HELD 0x4u             /* prepared only; another operation's `then_op` starts it */
#define WSKLAB_SWITCH_KEEP_IRP 0x8u         /* do not free the IRP: a later operation reuses it */
#define WSKLAB_SWITCH_SCRIBBLE_WSK_BUF 0x10u /* overwrite the WSK_BUF when the call has returned (WSK-DATA-010) */
#define WSKLAB_SWITCH_AFTER_DEREGISTER 0x20u /* capture with a deregistered block (WSK-DET-006); its NPI is not kept */
#define WSKLAB_SWITCH_EVEN_IF_RAISING 0x40u /* call a function that is known to raise on this platform */
#define WSKLAB_SWITCH_ALL 0x7Fu

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

/* `kind` of an event. */
enum {
    WSKLAB_EVENT_CALL_ENTER = 1,
    WSKLAB_EVENT_CALL_RETURN = 2,     /* status: returned */
    WSKLAB_EVENT_COMPLETION = 3,      /* status: IoStatus.Status; value: completion count */
    WSKLAB_EVENT_UPPER_COMPLETION = 4,
    WSKLAB_EVENT_CALLBACK_ENTER = 5,  /* value: which; value2: context delivered */
    WSKLAB_EVENT_CALLBACK_EXIT = 6,
    WSKLAB_EVENT_CANCEL = 7,          /* value: outcome */
    WSKLAB_EVENT_LOST = 8,
    WSKLAB_EVENT_NOT_STARTED = 9,     /* status: why */
    WSKLAB_EVENT_SOCKET_OPENED = 10,
    WSKLAB_EVENT_SOCKET_CLOSED = 11,
    WSKLAB_EVENT_CLIENT_CLOSING = 12
};

#define WSKLAB_OWNER_HANDLE_OPEN 0x1u
#define WSKLAB_OWNER_CLOSING 0x2u
#define WSKLAB_OWNER_REGISTERED 0x4u
#define WSKLAB_OWNER_CALLER 0x8u

typedef struct WSKLAB_HEADER {
    uint32_t size; /* of the fixed part of this structure */
    uint16_t abi;  /* WSKLAB_ABI_VERSION */
    uint16_t reserved;
} WSKLAB_HEADER;

/* One SOCKADDR: `length` bytes of it; 0 = empty. */
typedef struct WSKLAB_ADDRESS {
    uint16_t length;
    uint16_t reserved;
    uint8_t bytes[28];
} WSKLAB_ADDRESS;

typedef struct WSKLAB_HELLO_REQUEST {
    WSKLAB_HEADER header;
} WSKLAB_HELLO_REQUEST;

typedef struct WSKLAB_HELLO {
    uint32_t size;
    uint16_t abi;
    uint16_t provider_version; /* 0 until captured */
    uint32_t submit_size;
    uint32_t record_size;
    uint32_t socket_entry_size;
    uint32_t event_size;
    uint32_t ledger_size;
    uint32_t max_data;
    uint32_t max_buffer;
    uint32_t max_operations;
    uint32_t max_sockets;
    uint32_t event_capacity;
    uint32_t os_major;
    uint32_t os_minor;
    uint32_t os_build;
    uint32_t client_id; /* this handle's number in QUIESCE answers and in the driver's log */
    uint32_t flags;     /* WSKLAB_HELLO_* */
    int32_t dacl_status;
    uint32_t clients; /* open handles, this one included */
    uint32_t grace_ms;
    uint64_t now_ns; /* the clock of all records */
    uint64_t counter_frequency;
    uint8_t build_digest[32]; /* SHA-256 over the driver's sources */
    uint8_t build_label[32];  /* text, zero-padded */
} WSKLAB_HELLO;

/* One operation: one WSK call and all that belongs to it. `data_length` bytes of data follow. */
typedef struct WSKLAB_SUBMIT {
    WSKLAB_HEADER header;
    uint32_t op_id;
    uint32_t function;
    uint32_t socket;     /* the socket it acts on; 0 where there is none */
    uint32_t new_socket; /* the number that the new socket gets: SAMPLE_LISTEN, SOCKET, ACCEPT */
    uint32_t then_op;    /* a held operation to start from inside the completion routine, on success; 0 = none */
    uint32_t reuse_op;   /* WSKLAB_IRP_REUSED: whose IRP; 0 otherwise */
    uint32_t switches;   /* WSKLAB_SWITCH_* */
    uint32_t delay_ms;
    uint32_t timeout_ms; /* CAPTURE: WaitTimeout; 0 = WSK_NO_WAIT. Never infinite. */
    uint32_t dispatch_mask;
    uint8_t irp_source;
    uint8_t stack_count; /* 0 means 1 */
    uint8_t invoke_flags;
    uint8_t second_location; /* 1: the routine above sits in an upper stack location with a catch-all; stack_count >= 2 */
    uint8_t call_context;
    uint8_t dispatch;
    uint8_t owning_process;
    uint8_t owning_thread;
    uint8_t security;
    uint8_t mdl_shape;
    uint8_t fill;
    uint8_t address_use;
    uint16_t family;
    uint16_t type;
    uint32_t protocol;
    uint32_t flags;   /* the Flags argument of the function */
    uint16_t version; /* REGISTER: the version asked for; 0x0100 is 1.0 */
    uint16_t reserved0;
    uint32_t wait_ms;           /* RUN: the timeout of its WAIT; 0 in a SUBMIT */
    uint64_t socket_context;    /* handed to WSK as it is, never dereferenced */
    uint64_t completion_cookie; /* found through the completion routine's context */
    uint32_t buffer_length;     /* WSK_BUF.Length */
    uint32_t buffer_offset;     /* WSK_BUF.Offset, inside the first MDL */
    uint32_t mdl_bytes;         /* bytes that the MDLs cover, >= offset + length; 0 means exactly that */
    uint32_t pattern_seed;
    uint32_t chunks[8]; /* WSKLAB_MDL_CHAIN: bytes of each MDL; the sum is mdl_bytes; zeros at the end */
    uint32_t data_length;
    uint32_t wait_flags; /* RUN: WSKLAB_RELEASE; 0 in a SUBMIT */
    WSKLAB_ADDRESS local;
    WSKLAB_ADDRESS remote;
    uint64_t reserved3[3];
} WSKLAB_SUBMIT;

typedef struct WSKLAB_WAIT {
    WSKLAB_HEADER header;
    uint32_t op_id;
    uint32_t timeout_ms;
    uint32_t flags; /* WSKLAB_RELEASE */
    uint32_t reserved;
} WSKLAB_WAIT;

typedef struct WSKLAB_CANCEL {
    WSKLAB_HEADER header;
    uint32_t op_id;
    uint32_t reserved;
} WSKLAB_CANCEL;

typedef struct WSKLAB_CANCEL_RESULT {
    uint32_t outcome;
    uint32_t reserved;
} WSKLAB_CANCEL_RESULT;

typedef struct WSKLAB_FETCH {
    WSKLAB_HEADER header;
    uint32_t op_id;
    uint32_t flags;
    uint32_t data_offset;
    uint32_t data_length; /* at most; the output buffer bounds it too */
} WSKLAB_FETCH;

/* Everything observed about one operation. */
typedef struct WSKLAB_RECORD {
    uint32_t size;
    uint32_t op_id;
    uint32_t function;
    uint32_t socket;
    uint32_t new_socket;
    uint32_t flags; /* WSKLAB_RECORD_* */
    uint8_t state;
    uint8_t information_kind;
    uint8_t device_object;
    uint8_t irp_source;
    uint8_t call_irql;
    uint8_t completion_irql;
    uint8_t call_context;
    uint8_t stack_count;
    int8_t completion_location; /* Irp->CurrentLocation in the routine */
    uint8_t invoke_flags;
    uint8_t category; /* of the socket acted on, or of the new one */
    uint8_t reserved0;
    uint32_t completion_count;
    uint32_t upper_count; /* calls of the catch-all routine of the upper stack location */
    int32_t returned_status;
    int32_t completion_status; /* IoStatus.Status in the routine */
    int32_t routine_status;    /* what the routine returned */
    int32_t driver_status;     /* the driver's own verdict; 0 unless the state is NOT_STARTED */
    uint32_t cancel_outcome;
    uint64_t information;
    uint64_t enter_sequence; /* one counter for the whole driver; 0 = did not happen */
    uint64_t return_sequence;
    uint64_t completion_sequence;
    uint64_t upper_sequence;
    uint64_t submit_ns;
    uint64_t enter_ns;
    uint64_t return_ns;
    uint64_t completion_ns;
    uint64_t call_thread;
    uint64_t completion_thread;
    uint64_t completion_cookie; /* read through the context that the routine got */
    uint64_t socket_context;    /* as submitted */
    uint64_t data_digest;       /* FNV-1a, 64 bit, of all delivered bytes; 0 without any */
    uint64_t members;           /* bit i: the i-th pointer of the table is not NULL (PROVIDER_INFO, SOCKET_INFO) */
    uint32_t member_count;      /* pointers of the table on this version of Windows */
    uint32_t captures;          /* of this client, after the operation */
    uint16_t version;           /* of the provider dispatch */
    uint16_t lowest_version;    /* QUERY_CHARACTERISTICS */
    uint16_t highest_version;
    uint16_t reserved1;
    uint32_t data_total;  /* delivered bytes kept by the driver */
    uint32_t data_offset; /* of the bytes behind this record */
    uint32_t data_length; /* bytes behind this record */
    uint32_t reserved2;
    WSKLAB_ADDRESS local;
    WSKLAB_ADDRESS remote;
} WSKLAB_RECORD;

typedef struct WSKLAB_EVENTS {
    WSKLAB_HEADER header;
    uint32_t max_events; /* 0: as many as fit */
    uint32_t reserved;
} WSKLAB_EVENTS;

typedef struct WSKLAB_EVENTS_RESULT {
    uint32_t count;
    uint32_t remaining;
    uint64_t dropped; /* since the handle was opened */
} WSKLAB_EVENTS_RESULT;

typedef struct WSKLAB_EVENT {
    uint64_t sequence;
    uint64_t time_ns;
    uint64_t thread;
    uint64_t value;
    uint64_t value2;
    uint32_t kind;
    uint32_t op_id;
    uint32_t socket;
    int32_t status;
    uint8_t irql;
    uint8_t function;
    uint16_t reserved0;
    uint32_t reserved1;
} WSKLAB_EVENT;

typedef struct WSKLAB_SOCKETS {
    WSKLAB_HEADER header;
} WSKLAB_SOCKETS;

typedef struct WSKLAB_SOCKETS_RESULT {
    uint32_t count; /* entries that follow */
    uint32_t total; /* sockets that there are */
} WSKLAB_SOCKETS_RESULT;

typedef struct WSKLAB_SOCKET_ENTRY {
    uint32_t number;
    uint32_t category;
    uint32_t state;
    uint32_t protocol;
    uint16_t family;
    uint16_t type;
    uint32_t running;     /* calls on it that have not returned */
    uint32_t outstanding; /* operations on it that have not completed */
    uint32_t reserved;
    uint64_t context;
} WSKLAB_SOCKET_ENTRY;

typedef struct WSKLAB_LEDGER_REQUEST {
    WSKLAB_HEADER header;
} WSKLAB_LEDGER_REQUEST;

/* issued = completed + outstanding + lost, at every moment that a client can see. */
typedef struct WSKLAB_LEDGER {
    uint64_t issued;
    uint64_t completed;
    uint64_t outstanding;
    uint64_t lost;
    uint64_t late;        /* completions after the operation had been counted as lost; they are `completed` then */
    uint64_t not_started; /* not among `issued` */
    uint64_t irps_allocated;
    uint64_t irps_freed;
    uint64_t mdls_allocated;
    uint64_t mdls_freed;
    uint64_t pool_allocations;
    uint64_t pool_frees;
    uint64_t pool_bytes; /* held now */
    uint64_t sockets_opened;
    uint64_t sockets_closed;
    uint64_t captures;
    uint64_t releases;
    uint64_t events_recorded;
    uint64_t events_dropped;
    uint64_t operations_held; /* records not released yet, outstanding ones included */
    uint64_t waits_pending;
} WSKLAB_LEDGER;

typedef struct WSKLAB_LEDGERS {
    WSKLAB_LEDGER client;
    WSKLAB_LEDGER driver; /* all clients since the driver was loaded */
} WSKLAB_LEDGERS;

typedef struct WSKLAB_DRAIN {
    WSKLAB_HEADER header;
    uint32_t timeout_ms;
    uint32_t reserved;
} WSKLAB_DRAIN;

typedef struct WSKLAB_DRAIN_RESULT {
    uint32_t outstanding; /* 0: drained */
    uint32_t timed_out;
} WSKLAB_DRAIN_RESULT;

typedef struct WSKLAB_QUIESCE {
    WSKLAB_HEADER header;
    uint32_t timeout_ms;
    uint32_t reserved;
} WSKLAB_QUIESCE;

/* Everything of every client was closed; `busy` counts those that keep the driver from being unloaded. */
typedef struct WSKLAB_QUIESCE_RESULT {
    uint32_t busy;
    uint32_t count; /* WSKLAB_OWNER entries that follow: the busy ones, as many as fit */
    uint32_t timed_out;
    uint32_t reserved;
} WSKLAB_QUIESCE_RESULT;

typedef struct WSKLAB_OWNER {
    uint32_t client_id;
    uint32_t flags; /* WSKLAB_OWNER_* */
    uint64_t process_id;
    uint32_t outstanding;
    uint32_t sockets;
    uint32_t lost;
    uint32_t reserved;
} WSKLAB_OWNER;

#define WSKLAB_ASSERT_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " has the wrong size")
#define WSKLAB_ASSERT_OFFSET(type, field, bytes) _Static_assert(offsetof(type, field) == (bytes), #type "." #field " moved")

WSKLAB_ASSERT_SIZE(WSKLAB_HEADER, 8);
WSKLAB_ASSERT_SIZE(WSKLAB_ADDRESS, 32);
WSKLAB_ASSERT_SIZE(WSKLAB_HELLO_REQUEST, 8);
WSKLAB_ASSERT_SIZE(WSKLAB_HELLO, 160);
WSKLAB_ASSERT_OFFSET(WSKLAB_HELLO, now_ns, 80);
WSKLAB_ASSERT_SIZE(WSKLAB_SUBMIT, 240);
WSKLAB_ASSERT_OFFSET(WSKLAB_SUBMIT, irp_source, 48);
WSKLAB_ASSERT_OFFSET(WSKLAB_SUBMIT, socket_context, 80);
WSKLAB_ASSERT_OFFSET(WSKLAB_SUBMIT, chunks, 112);
WSKLAB_ASSERT_OFFSET(WSKLAB_SUBMIT, local, 152);
WSKLAB_ASSERT_SIZE(WSKLAB_WAIT, 24);
WSKLAB_ASSERT_SIZE(WSKLAB_CANCEL, 16);
WSKLAB_ASSERT_SIZE(WSKLAB_CANCEL_RESULT, 8);
WSKLAB_ASSERT_SIZE(WSKLAB_FETCH, 24);
WSKLAB_ASSERT_SIZE(WSKLAB_RECORD, 280);
WSKLAB_ASSERT_OFFSET(WSKLAB_RECORD, information, 64);
WSKLAB_ASSERT_OFFSET(WSKLAB_RECORD, members, 176);
WSKLAB_ASSERT_OFFSET(WSKLAB_RECORD, local, 216);
WSKLAB_ASSERT_SIZE(WSKLAB_EVENTS, 16);
WSKLAB_ASSERT_SIZE(WSKLAB_EVENTS_RESULT, 16);
WSKLAB_ASSERT_SIZE(WSKLAB_EVENT, 64);
WSKLAB_ASSERT_SIZE(WSKLAB_SOCKETS, 8);
WSKLAB_ASSERT_SIZE(WSKLAB_SOCKETS_RESULT, 8);
WSKLAB_ASSERT_SIZE(WSKLAB_SOCKET_ENTRY, 40);
WSKLAB_ASSERT_SIZE(WSKLAB_LEDGER_REQUEST, 8);
WSKLAB_ASSERT_SIZE(WSKLAB_LEDGER, 168);
WSKLAB_ASSERT_SIZE(WSKLAB_LEDGERS, 336);
WSKLAB_ASSERT_SIZE(WSKLAB_DRAIN, 16);
WSKLAB_ASSERT_SIZE(WSKLAB_DRAIN_RESULT, 8);
WSKLAB_ASSERT_SIZE(WSKLAB_QUIESCE, 16);
WSKLAB_ASSERT_SIZE(WSKLAB_QUIESCE_RESULT, 16);
WSKLAB_ASSERT_SIZE(WSKLAB_OWNER, 32);

#endif
