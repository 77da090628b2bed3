/*
 * client.h: one open handle: its registration, sockets, operations, waits, events. Nothing is shared between clients.
 *
 * References: the list of clients holds one until everything of the client is closed and its handle too; the file
 * object holds one until IRP_MJ_CLOSE; each operation, wait and thread holds one. The last one frees the memory, at
 * DISPATCH_LEVEL if need be. An operation that was lost keeps its reference for ever, knowingly: the provider may still
 * own its IRP.
 */
#ifndef WSKLAB_CLIENT_H
#define WSKLAB_CLIENT_H

#include "inspect.h"
#include "nmr.h"
#include "object.h"
#include "ring.h"
#include "wsk_registration.h"

#define OPERATION_BUCKETS 64u

typedef enum CLIENT_STATE {
    CLIENT_OPEN,
    CLIENT_CLOSING, /* nothing new; the keeper closes what there is (teardown.c) */
    CLIENT_CLOSED   /* nothing left but records */
} CLIENT_STATE;

typedef struct CLIENT {
    LIST_ENTRY Link;
    ULONG Id;
    ULONG Slot; /* which thunks are its own; nobody else has it */
    ULONG64 ProcessId;
    volatile LONG References;
    PFILE_OBJECT File;  /* valid while attached, or while an operation references it */
    BOOLEAN Attached;   /* FsContext points here; guarded by the list's lock */

    KSPIN_LOCK Lock; /* guards everything below, and the states of sockets and operations */
    CLIENT_STATE State;
    BOOLEAN HandleOpen;
    LONG Active; /* operations launched whose end is awaited */
    LIST_ENTRY Operations[OPERATION_BUCKETS];
    LONG OperationCount;
    LIST_ENTRY Watched; /* operations that the keeper has to look at */
    LIST_ENTRY Sockets;
    LONG SocketCount;
    LIST_ENTRY Waits;
    LONG Lost;
    LIST_ENTRY Scripts;
    ULONG ScriptCount;
    OBJECT_TABLE Objects;
    INSPECT_TABLE Inspections;
    ULONG StaticEvents; /* WSK_EVENT_* that every new socket has on from the start */
    ULONG StaticAsked;  /* ... that it may have: `StaticAsking` operations are about it */
    ULONG StaticAsking;
    LONG BoundToRegistration; /* outstanding operations that only the deregistration ends */
    REGISTRATION Registration;
    NMR Nmr;

    ULONG64 NextStepNs; /* of the teardown; the keeper's alone */
    volatile LONG FileReferencesToDrop; /* by the keeper: the last one must be dropped at PASSIVE_LEVEL */
    RING Ring;
    LEDGER Ledger;
} CLIENT;

VOID ClientsInitialize(VOID);
/* No new clients from now on. */
VOID ClientsRefuse(VOID);

_IRQL_requires_max_(PASSIVE_LEVEL) _Must_inspect_result_ NTSTATUS ClientCreate(PFILE_OBJECT File);
/* The client of a file object, referenced; NULL once it was detached. */
_IRQL_requires_max_(DISPATCH_LEVEL) CLIENT *ClientFromFile(PFILE_OBJECT File);
/* The client whose thunks these are, referenced; NULL when the slot is free. */
_IRQL_requires_max_(DISPATCH_LEVEL) CLIENT *ClientBySlot(ULONG Slot);
/* The client at this address, referenced; NULL when there is none: compared, never followed. */
_IRQL_requires_max_(DISPATCH_LEVEL) CLIENT *ClientByAddress(PVOID Address);
/* The client with the next higher number, referenced; NULL at the end. Start with 0. */
_IRQL_requires_max_(DISPATCH_LEVEL) CLIENT *ClientNext(ULONG AfterId);
_IRQL_requires_max_(DISPATCH_LEVEL) VOID ClientReference(CLIENT *Client);
_IRQL_requires_max_(DISPATCH_LEVEL) VOID ClientDereference(CLIENT *Client);
_IRQL_requires_max_(DISPATCH_LEVEL) ULONG ClientCount(VOID);

/* Everything of the client ends; returns at once. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID ClientBeginClose(CLIENT *Client);
/* The last handle is gone (IRP_MJ_CLEANUP, or IRP_MJ_CLOSE where no cleanup came): waits end, everything is closed. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID ClientHandleClosed(CLIENT *Client);
/* The file object is going (IRP_MJ_CLOSE, or Unload with live handles): it forgets its client. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID ClientDetachFile(PFILE_OBJECT File);
/* Unload: detach every client from a file object that outlives us (Wine). */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID ClientsDetachAll(VOID);
/* Closed and without a handle: leave the list. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID ClientForget(CLIENT *Client);

/* An operation is launched: it counts as active and holds the file object. Refused unless the client is open. */
_Requires_lock_held_(Client->Lock) _Must_inspect_result_ NTSTATUS ClientBeginOperation(CLIENT *Client, BOOLEAN Internal);
_IRQL_requires_max_(DISPATCH_LEVEL) VOID ClientEndOperation(CLIENT *Client, BOOLEAN Internal);

#endif
