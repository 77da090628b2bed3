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
 *  - No kernel pointer is ever returned. Pointers inside an output (SIO_ADDRESS_LIST_QUERY) are replaced by their offset
 *    in it, all ones where they point elsewhere; an output that may hold others is told by its size only.
 *  - Objects (cached descriptors, kept indications, address lists) have numbers of their own, chosen by the client.
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
#define IOCTL_WSKLAB_SUBMIT WSKLAB_CTL(1u)   /* WSKLAB_SUBMIT + data + extra -> nothing; returns at once */
#define IOCTL_WSKLAB_WAIT WSKLAB_CTL(2u)     /* WSKLAB_WAIT -> WSKLAB_RECORD + data; pends */
#define IOCTL_WSKLAB_CANCEL WSKLAB_CTL(3u)   /* WSKLAB_CANCEL -> WSKLAB_CANCEL_RESULT */
#define IOCTL_WSKLAB_FETCH WSKLAB_CTL(4u)    /* WSKLAB_FETCH -> WSKLAB_RECORD + data */
#define IOCTL_WSKLAB_EVENTS WSKLAB_CTL(5u)   /* WSKLAB_EVENTS -> WSKLAB_EVENTS_RESULT + WSKLAB_EVENT[] */
#define IOCTL_WSKLAB_SCRIPT WSKLAB_CTL(6u)   /* WSKLAB_SCRIPT + WSKLAB_ANSWER[] -> WSKLAB_SCRIPT_RESULT */
#define IOCTL_WSKLAB_SOCKETS WSKLAB_CTL(7u)  /* WSKLAB_SOCKETS -> WSKLAB_SOCKETS_RESULT + WSKLAB_SOCKET_ENTRY[] */
#define IOCTL_WSKLAB_LEDGER WSKLAB_CTL(8u)   /* WSKLAB_LEDGER_REQUEST -> WSKLAB_LEDGERS */
#define IOCTL_WSKLAB_DRAIN WSKLAB_CTL(9u)    /* WSKLAB_DRAIN -> WSKLAB_DRAIN_RESULT; pends */
#define IOCTL_WSKLAB_QUIESCE WSKLAB_CTL(10u) /* WSKLAB_QUIESCE -> WSKLAB_QUIESCE_RESULT + WSKLAB_OWNER[]; pends */
#define IOCTL_WSKLAB_FAULTS WSKLAB_CTL(11u)  /* WSKLAB_FAULTS -> WSKLAB_FAULTS_RESULT */
#define IOCTL_WSKLAB_FORWARD WSKLAB_CTL(12u) /* WSKLAB_SUBMIT + data -> nothing, output length 0; ends with WSK's status */
#define IOCTL_WSKLAB_RUN WSKLAB_CTL(13u)     /* WSKLAB_SUBMIT + data -> WSKLAB_RECORD + data: SUBMIT and WAIT in one; pends */
#define IOCTL_WSKLAB_OBJECTS WSKLAB_CTL(14u) /* WSKLAB_OBJECTS -> WSKLAB_OBJECTS_RESULT + WSKLAB_OBJECT_ENTRY[] */

#include "wsklab_numbers.h"

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
    uint32_t answer_size;
    uint32_t object_entry_size;
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

/* One operation: one WSK call and all that belongs to it. `data_length` bytes of data and then `extra_length` extra bytes
 * follow: an option's value, control information, or the node name and then the service name (UTF-16). */
typedef struct WSKLAB_SUBMIT {
    WSKLAB_HEADER header;
    uint32_t op_id;
    uint32_t function;
    uint32_t socket;     /* the socket it acts on; 0 where there is none */
    uint32_t new_socket; /* the number that the new socket gets: SAMPLE_LISTEN, SOCKET, ACCEPT, SOCKET_CONNECT */
    uint32_t then_op;    /* a held operation to start from inside the completion routine, on success; 0 = none */
    uint32_t reuse_op;   /* WSKLAB_IRP_REUSED: whose IRP; 0 otherwise */
    uint32_t switches;   /* WSKLAB_SWITCH_* */
    uint32_t delay_ms;
    uint32_t timeout_ms; /* CAPTURE: WaitTimeout; 0 = WSK_NO_WAIT, or infinite (WSKLAB_SWITCH_INFINITE) */
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
    uint16_t version; /* REGISTER, NMR_REGISTER: the version asked for; 0x0100 is 1.0 */
    uint16_t reserved0;
    uint32_t wait_ms;           /* RUN: the timeout of its WAIT; 0 in a SUBMIT */
    uint64_t socket_context;    /* handed to WSK as it is, never dereferenced */
    uint64_t completion_cookie; /* found through the completion routine's context */
    uint32_t buffer_length;     /* WSK_BUF.Length */
    uint32_t buffer_offset;     /* WSK_BUF.Offset, inside the first MDL */
    uint32_t mdl_bytes;         /* bytes that the MDLs cover, >= offset + length; 0 means exactly that */
    uint32_t pattern_seed;
    uint32_t chunks[16]; /* WSKLAB_MDL_CHAIN: bytes of each MDL; the sum is mdl_bytes; zeros at the end */
    uint32_t data_length;
    uint32_t wait_flags; /* RUN: WSKLAB_RELEASE; 0 in a SUBMIT */
    WSKLAB_ADDRESS local;
    WSKLAB_ADDRESS remote;
    uint8_t forward;        /* WSKLAB_FORWARD_* */
    uint8_t control_type;   /* CONTROL_SOCKET: RequestType; any number */
    uint8_t input_kind;     /* CONTROL_*: WSKLAB_INPUT_* */
    uint8_t npi;            /* WSKLAB_NPI_* */
    uint8_t descriptor;     /* WSKLAB_DESCRIPTOR_* */
    uint8_t inspect_action; /* INSPECT_COMPLETE: Action; any number */
    uint16_t reserved1;
    uint32_t argument_use; /* WSKLAB_USE_* */
    uint32_t control_code;
    uint32_t control_level;
    uint32_t event_mask;     /* WSKLAB_INPUT_EVENT_CALLBACK */
    uint32_t input_size;     /* CONTROL_*: InputSize, at most what the input has */
    uint32_t output_size;    /* CONTROL_*: OutputSize; RECEIVE_FROM: bytes for control information; 0: no buffer */
    uint32_t extra_length;   /* bytes behind the data */
    uint32_t object;         /* the object that it takes; INSPECT_COMPLETE: the inspection's number */
    uint32_t new_object;     /* the number of the object that it makes: CONTROL_* that give a descriptor, GET_ADDRESS_INFO */
    uint32_t index;          /* INDICATION_INFO: which entry of the list, from 0 */
    uint32_t count;          /* RELEASE_DATAGRAM: how many datagrams, from the front; 0 = all */
    uint32_t hint_flags;     /* GET_ADDRESS_INFO: Hints.ai_flags */
    uint32_t name_space;     /* GET_ADDRESS_INFO */
    uint32_t node_length;    /* bytes: of the node name behind the request; GET_NAME_INFO: of its buffer */
    uint32_t service_length; /* ... of the service name */
    uint32_t grace_ms;       /* a failing return without completion for so long: lost; 0: WSKLAB_GRACE_MS, which is the most */
    uint64_t reserved3[2];
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
    uint32_t data_total;  /* delivered bytes kept by the driver, the extra ones included */
    uint32_t data_offset; /* of the bytes behind this record */
    uint32_t data_length; /* bytes behind this record */
    uint32_t extra_total; /* how many of `data_total` are extra, at the end: outputs of CONTROL_*, control information, names */
    WSKLAB_ADDRESS local;
    WSKLAB_ADDRESS remote;
    uint64_t size_returned;  /* OutputSizeReturned; the prefill where nobody wrote it */
    uint32_t control_length; /* ControlInfoLength afterwards */
    uint32_t control_flags;  /* ControlFlags; the prefill where nobody wrote it */
    uint32_t object;         /* made, taken or looked at */
    uint32_t inspect;        /* SIO_WSK_QUERY_INSPECT_ID: the number of the id, 0 for one that no callback has shown */
    uint32_t count;          /* entries: of an address list (WSKLAB_ADDRESS_INFO), of a kept indication; PROVIDER_INFO, SOCKET_INFO:
                                pointers of the table that lie inside a loaded image, all ones where nobody can tell */
    uint32_t node_length;    /* GET_NAME_INFO: Length afterwards, in bytes; the node name is the first part of the extra bytes */
    uint32_t service_length; /* ... of the service name, which follows */
    uint32_t reserved2;
} WSKLAB_RECORD;

/* One result of GET_ADDRESS_INFO. */
typedef struct WSKLAB_ADDRESS_INFO {
    uint32_t flags;
    uint32_t family;
    uint32_t type;
    uint32_t protocol;
    uint64_t address_length;   /* ai_addrlen as it was */
    WSKLAB_ADDRESS address;    /* as much of it as fits */
    uint32_t canonical_length; /* bytes of ai_canonname, as many as fit below; 0 = NULL */
    uint32_t reserved;
    uint8_t canonical[128]; /* UTF-16, without the zero */
} WSKLAB_ADDRESS_INFO;

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

/* The members from `context` on are those of callbacks, zero in other events. */
typedef struct WSKLAB_EVENT {
    uint64_t sequence;
    uint64_t time_ns;
    uint64_t thread;
    uint64_t value;
    uint32_t kind;
    uint32_t op_id;
    uint32_t socket;
    int32_t status;
    uint8_t irql;
    uint8_t function;
    uint8_t callback; /* WSKLAB_CALLBACK_* */
    uint8_t action;   /* WSKLAB_ACTION_*: what was done in the end */
    uint32_t notes;   /* WSKLAB_NOTE_* */
    uint64_t context; /* delivered; 0 instead of a pointer of ours */
    uint64_t length;  /* indicated; send backlog: the ideal size; client event: InformationLength */
    uint64_t accepted; /* receive: *BytesAccepted as we left it */
    uint64_t digest;   /* FNV-1a, 64 bit, of all indicated bytes */
    uint64_t listed;   /* sum of the lengths in the indication's list */
    uint32_t flags;    /* the Flags argument; client event: EventType; exit of accept: WSKLAB_RECORD_SOCKET_* */
    uint32_t buffers;  /* entries of the list */
    uint32_t object;   /* kept: the object; inspect and abort: the inspection's number */
    uint32_t new_socket; /* accept: the accepted socket */
    uint32_t control_length; /* one datagram: ControlInfoLength */
    uint32_t reserved;
    uint64_t control_digest; /* ... of its control information */
    WSKLAB_ADDRESS local;
    WSKLAB_ADDRESS remote;
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

typedef struct WSKLAB_OBJECTS {
    WSKLAB_HEADER header;
} WSKLAB_OBJECTS;

typedef struct WSKLAB_OBJECTS_RESULT {
    uint32_t count;
    uint32_t total;
} WSKLAB_OBJECTS_RESULT;

typedef struct WSKLAB_OBJECT_ENTRY {
    uint32_t number;
    uint32_t kind;   /* WSKLAB_OBJECT_* */
    uint32_t socket; /* kept indications: whose */
    uint32_t count;  /* entries that are left */
    uint64_t length; /* kept indications: bytes of data */
} WSKLAB_OBJECT_ENTRY;

/* The answers of one callback of one socket, in order; they replace an earlier script. The socket need not exist yet:
 * an accepted one may be called back before anybody could script it. Socket 0: for all sockets without one of their own. */
typedef struct WSKLAB_SCRIPT {
    WSKLAB_HEADER header;
    uint32_t socket;
    uint32_t callback; /* WSKLAB_CALLBACK_ACCEPT .. WSKLAB_CALLBACK_CLIENT */
    uint32_t count;    /* answers that follow; 0 ends the script */
    uint32_t reserved;
} WSKLAB_SCRIPT;

typedef struct WSKLAB_ANSWER {
    uint32_t action;
    uint32_t uses;          /* callbacks that it answers; 0 = all from here on */
    uint32_t number;        /* TAKE of a connection: the new socket's number; KEEP: the object's; the next use takes the next number */
    uint32_t then_op;       /* a held operation to start inside the callback, first use only; 0 = none */
    uint64_t length;        /* TAKE_SOME: bytes; more than indicated: all */
    uint64_t socket_context; /* TAKE of a connection: the accepted socket's; the next use takes the next number */
    uint32_t dispatch_mask;
    uint32_t hold_ms; /* keep the callback busy (it never waits) for so long, before it answers */
    uint8_t dispatch; /* WSKLAB_DISPATCH_* of the accepted socket */
    uint8_t reserved0;
    uint16_t reserved1;
    uint32_t reserved2;
} WSKLAB_ANSWER;

/* About the script that was replaced. */
typedef struct WSKLAB_SCRIPT_RESULT {
    uint64_t used; /* callbacks that it answered */
    uint64_t left; /* uses that were left; all ones for an endless answer */
} WSKLAB_SCRIPT_RESULT;

/* Failures of the driver's own allocations for this client's operations. */
typedef struct WSKLAB_FAULTS {
    WSKLAB_HEADER header;
    uint32_t kind; /* WSKLAB_FAULT_*; WSKLAB_FAULT_END: ask only */
    uint32_t skip; /* let so many succeed from now on */
    uint32_t deny; /* then fail so many; 0 = no failures */
    uint32_t clear; /* 1: end all failures and count from zero */
} WSKLAB_FAULTS;

typedef struct WSKLAB_FAULTS_RESULT {
    uint64_t seen[6];   /* by kind, since the handle was opened or cleared */
    uint64_t denied[6];
} WSKLAB_FAULTS_RESULT;

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
    uint64_t callbacks; /* that WSK has called */
    uint64_t objects_made;
    uint64_t objects_released;
    uint64_t irps_kept; /* ours, that lost operations keep: at rest, what was allocated and not freed */
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
WSKLAB_ASSERT_SIZE(WSKLAB_HELLO, 168);
WSKLAB_ASSERT_OFFSET(WSKLAB_HELLO, now_ns, 88);
WSKLAB_ASSERT_SIZE(WSKLAB_SUBMIT, 336);
WSKLAB_ASSERT_OFFSET(WSKLAB_SUBMIT, irp_source, 48);
WSKLAB_ASSERT_OFFSET(WSKLAB_SUBMIT, socket_context, 80);
WSKLAB_ASSERT_OFFSET(WSKLAB_SUBMIT, chunks, 112);
WSKLAB_ASSERT_OFFSET(WSKLAB_SUBMIT, local, 184);
WSKLAB_ASSERT_OFFSET(WSKLAB_SUBMIT, forward, 248);
WSKLAB_ASSERT_OFFSET(WSKLAB_SUBMIT, control_code, 260);
WSKLAB_ASSERT_SIZE(WSKLAB_WAIT, 24);
WSKLAB_ASSERT_SIZE(WSKLAB_CANCEL, 16);
WSKLAB_ASSERT_SIZE(WSKLAB_CANCEL_RESULT, 8);
WSKLAB_ASSERT_SIZE(WSKLAB_FETCH, 24);
WSKLAB_ASSERT_SIZE(WSKLAB_RECORD, 320);
WSKLAB_ASSERT_OFFSET(WSKLAB_RECORD, information, 64);
WSKLAB_ASSERT_OFFSET(WSKLAB_RECORD, members, 176);
WSKLAB_ASSERT_OFFSET(WSKLAB_RECORD, local, 216);
WSKLAB_ASSERT_OFFSET(WSKLAB_RECORD, size_returned, 280);
WSKLAB_ASSERT_SIZE(WSKLAB_ADDRESS_INFO, 192);
WSKLAB_ASSERT_SIZE(WSKLAB_EVENTS, 16);
WSKLAB_ASSERT_SIZE(WSKLAB_EVENTS_RESULT, 16);
WSKLAB_ASSERT_SIZE(WSKLAB_EVENT, 192);
WSKLAB_ASSERT_OFFSET(WSKLAB_EVENT, context, 56);
WSKLAB_ASSERT_OFFSET(WSKLAB_EVENT, local, 128);
WSKLAB_ASSERT_SIZE(WSKLAB_SOCKETS, 8);
WSKLAB_ASSERT_SIZE(WSKLAB_SOCKETS_RESULT, 8);
WSKLAB_ASSERT_SIZE(WSKLAB_SOCKET_ENTRY, 40);
WSKLAB_ASSERT_SIZE(WSKLAB_OBJECTS, 8);
WSKLAB_ASSERT_SIZE(WSKLAB_OBJECTS_RESULT, 8);
WSKLAB_ASSERT_SIZE(WSKLAB_OBJECT_ENTRY, 24);
WSKLAB_ASSERT_SIZE(WSKLAB_SCRIPT, 24);
WSKLAB_ASSERT_SIZE(WSKLAB_ANSWER, 48);
WSKLAB_ASSERT_SIZE(WSKLAB_SCRIPT_RESULT, 16);
WSKLAB_ASSERT_SIZE(WSKLAB_FAULTS, 24);
WSKLAB_ASSERT_SIZE(WSKLAB_FAULTS_RESULT, 96);
WSKLAB_ASSERT_SIZE(WSKLAB_LEDGER_REQUEST, 8);
WSKLAB_ASSERT_SIZE(WSKLAB_LEDGER, 200);
WSKLAB_ASSERT_SIZE(WSKLAB_LEDGERS, 400);
WSKLAB_ASSERT_SIZE(WSKLAB_DRAIN, 16);
WSKLAB_ASSERT_SIZE(WSKLAB_DRAIN_RESULT, 8);
WSKLAB_ASSERT_SIZE(WSKLAB_QUIESCE, 16);
WSKLAB_ASSERT_SIZE(WSKLAB_QUIESCE_RESULT, 16);
WSKLAB_ASSERT_SIZE(WSKLAB_OWNER, 32);

#endif
