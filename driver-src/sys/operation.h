/*
 * operation.h: one WSK call on request: its resources, its life, its record.
 *
 * Everything lives in nonpaged pool and is allocated before the call, so an operation can be started at
 * DISPATCH_LEVEL from inside another one's completion routine.
 *
 * References: the client's table (until the record was fetched with WSKLAB_RELEASE), whoever starts it, and - from just
 * before the call until the completion routine is done - the provider. A completion that never comes keeps the memory
 * for ever: the operation is lost, and its IRP parked (appendix B, traps 2 and 4).
 *
 *   NEW -> CALLING -> OUTSTANDING -> COMPLETED         final when the call has returned and the completion was seen
 *    |                     |
 *    v                     v  (failing return, grace over)
 *   NOT_STARTED           LOST -> COMPLETED (late)
 */
#ifndef WSKLAB_OPERATION_H
#define WSKLAB_OPERATION_H

#include "buffer.h"
#include "client.h"
#include "function.h"
#include "socket.h"

struct OPERATION;

/* What the completion routine's context points to. */
typedef struct COOKIE {
    ULONG64 Magic;
    struct OPERATION *Operation;
    ULONG64 Value; /* the client's number */
} COOKIE;

#define COOKIE_MAGIC 0x6B736C6162636F6Full

/* An address argument: 128 bytes, so that a provider that reads too far stays inside (WSK-FAM-010), and a guard. */
#define ADDRESS_ROOM 128u
#define ADDRESS_GUARD 16u
#define ADDRESS_UNTOUCHED 0xA5u
typedef struct ADDRESS_ARGUMENT {
    _Alignas(8) UCHAR Bytes[ADDRESS_ROOM + ADDRESS_GUARD];
} ADDRESS_ARGUMENT;

#define IRP_POISON 0xA5u

/* Of names.h: strings and hints live until the completion. */
typedef struct NAMES {
    UNICODE_STRING Node;
    UNICODE_STRING Service;
    ADDRINFOEXW Hints;
    PADDRINFOEXW Result;
    BOOLEAN Deferred;  /* the completion came above PASSIVE_LEVEL: the list is still to be read */
    BOOLEAN GapBroken; /* WSK wrote between the two output buffers */
} NAMES;

typedef struct OPERATION {
    LIST_ENTRY Link;
    LIST_ENTRY WatchLink;
    CLIENT *Client;
    volatile LONG References;
    WSKLAB_SUBMIT Submit;
    WSKLAB_RECORD Record; /* the state is Record.state; guarded by the client's lock */

    /* Guarded by the client's lock. */
    BOOLEAN InTable;
    BOOLEAN Watched;
    BOOLEAN Launched;
    BOOLEAN Returned;
    BOOLEAN Completed;
    BOOLEAN Abandon;        /* cancelled before it was started */
    BOOLEAN IrpIdle;        /* kept after completion, for a later operation */
    BOOLEAN DisposeLater;   /* the canceller disposes of the IRP */
    BOOLEAN IrpGone;        /* disposed of, or about to be */
    BOOLEAN Given;          /* WSKLAB_IRP_FORWARDED: the request's own IRP is with WSK */
    LONG Cancellers;
    ULONG64 DueNs;          /* when the keeper looks again */

    BOOLEAN Internal;         /* made by the teardown, not by a client */
    BOOLEAN ExpectCompletion; /* an IRP was handed over */
    BOOLEAN UsesProvider;
    COOKIE Cookie;
    PIRP ExpectedIrp;      /* what the completion routine should get; compared, never followed */
    PVOID ExpectedContext;
    PIRP Irp;
    PVOID IrpMemory; /* caller memory, NULL for IoAllocateIrp */
    SIZE_T IrpBytes;
    PIO_WORKITEM WorkItem;
    BOOLEAN InWorker;    /* called from a system worker */
    BOOLEAN SettleFirst; /* ... after a pause, where requests are queued on the socket */
    SOCKET *Socket;    /* acted on */
    SOCKET *NewSocket; /* to be created; it outlives a completion that comes late */
    struct OPERATION *NextKept; /* of the socket (SocketKeep) */
    volatile LONG Settled; /* set by whoever decides about the socket to be created or closed */
    BUFFER Buffer;
    ADDRESS_ARGUMENT Local;
    ADDRESS_ARGUMENT Remote;
    WSK_PROVIDER_NPI Npi;
    const VOID *Dispatch;   /* the client dispatch for the new socket */
    BOOLEAN Bound;          /* counted as bound to the registration: only WskDeregister may end it */
    BOOLEAN CancelledAtEnd; /* the teardown has tried to cancel it */

    /* Arguments beside the data, and what came out in them (argument.h, control.h). */
    ARGUMENT Input;
    ARGUMENT Output;
    ULONG ExtraBytes;   /* of the output, told behind the data */
    ARGUMENT Look;      /* INDICATION_INFO: a copy of the data, told as if it had been received */
    SIZE_T SizeReturned;
    BOOLEAN AsksStatic; /* counted in the client's StaticAsking */
    ULONG ControlLength;
    ULONG ControlFlags;
    NAMES Names;
    WSK_INSPECT_ID InspectId;
    OBJECT *Object;     /* handed to WSK; used, or being given back */
    OBJECT *NewObject;  /* reserved for what WSK makes */
    BOOLEAN KeepsRest;  /* only the front of the kept list went back */
    volatile LONG ObjectsSettled; /* set by whoever decides about the two */
    union {
        WSK_DATA_INDICATION Data;
        WSK_DATAGRAM_INDICATION Datagram;
    } Bogus; /* an indication that WSK never gave: a hazard */
} OPERATION;

/* FUNCTION_* of what it does. */
#define OPERATION_HAS(operation, traits) ((FunctionTraits((operation)->Submit.function) & (traits)) != 0)

/* TRUE for the first caller only: that one publishes, removes or reopens the socket that the operation makes or closes. */
BOOLEAN OperationSettle(OPERATION *Operation);

/* Make an operation from a checked request and put it into the table; referenced for the caller. `Data`: what follows the
 * request, the data and then the extra bytes. */
_IRQL_requires_max_(PASSIVE_LEVEL) _Must_inspect_result_ NTSTATUS OperationCreate(CLIENT *Client, const WSKLAB_SUBMIT *Submit,
                                                                                 const UCHAR *Data, BOOLEAN Internal,
                                                                                 OPERATION **Out);
_IRQL_requires_max_(DISPATCH_LEVEL) VOID OperationReference(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) VOID OperationDereference(OPERATION *Operation);
/* Referenced, or NULL. */
_IRQL_requires_max_(DISPATCH_LEVEL) OPERATION *OperationFind(CLIENT *Client, ULONG OpId);
/* Out of the table, when it is final; FALSE otherwise. */
_IRQL_requires_max_(DISPATCH_LEVEL) BOOLEAN OperationRelease(OPERATION *Operation);
/* Out of the table whatever its state: the client is going. Returns FALSE when the table is empty. */
_IRQL_requires_max_(DISPATCH_LEVEL) BOOLEAN OperationReleaseAny(CLIENT *Client);
_IRQL_requires_max_(DISPATCH_LEVEL) BOOLEAN OperationIsFinal(const OPERATION *Operation);

/* An event of this operation, into the client's ring. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID OperationRecordEvent(const OPERATION *Operation, ULONG Kind, NTSTATUS Status,
                                                              ULONG64 Value);

/* Have the keeper look at it at DueNs. */
_Requires_lock_held_(Operation->Client->Lock) VOID OperationWatch(OPERATION *Operation, ULONG64 DueNs);
_Requires_lock_held_(Operation->Client->Lock) VOID OperationUnwatch(OPERATION *Operation);

#endif
