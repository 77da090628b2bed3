/*
 * object.h: what a client owns beside its sockets: cached security descriptors, kept indications, address lists.
 *
 * Numbers outside, pointers inside, like sockets. The table is part of the client and never grows, so that a callback
 * can fill it at DISPATCH_LEVEL. Everything belongs to the client's lock; WSK is called without it.
 *
 *   free -> RESERVED (being made) -> HELD <-> HELD with users -> RELEASING (being given back) -> free
 */
#ifndef WSKLAB_OBJECT_H
#define WSKLAB_OBJECT_H

#include "ledger.h"

struct CLIENT;
struct SOCKET;

typedef enum OBJECT_STATE { OBJECT_FREE, OBJECT_RESERVED, OBJECT_HELD, OBJECT_RELEASING } OBJECT_STATE;

typedef struct OBJECT {
    OBJECT_STATE State;
    ULONG Number;
    ULONG Kind;   /* WSKLAB_OBJECT_* */
    ULONG Socket; /* kept indications: whose */
    ULONG Users;  /* calls that it was handed to and that have not completed: it cannot be given back meanwhile */
    ULONG Count;  /* entries that are left */
    ULONG64 Length;
    PVOID Pointer;
} OBJECT;

typedef struct OBJECT_TABLE {
    OBJECT Objects[WSKLAB_MAX_OBJECTS];
    ULONG Count; /* not free */
} OBJECT_TABLE;

/* A number for an object that is about to be made; of a callback of `Owner`: only while both are open. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS ObjectReserve(struct CLIENT *Client, ULONG Number, ULONG Kind,
                                                                                const struct SOCKET *Owner, OBJECT **Out);
/* ... it was made: the client's now. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID ObjectPublish(struct CLIENT *Client, OBJECT *Object, PVOID Pointer, ULONG Count,
                                                       ULONG64 Length);
/* ... it was not. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID ObjectDrop(struct CLIENT *Client, OBJECT *Object);

/* Use a held object for a call; ObjectEndUse when the call has completed. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS ObjectBeginUse(struct CLIENT *Client, ULONG Number, ULONG Kind,
                                                                                 OBJECT **Out);
_IRQL_requires_max_(DISPATCH_LEVEL) VOID ObjectEndUse(struct CLIENT *Client, OBJECT *Object);

/* Take a held object that nobody uses, to give it back. STATUS_DEVICE_BUSY: it is in use. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS ObjectBeginRelease(struct CLIENT *Client, ULONG Number, ULONG Kind,
                                                                                     OBJECT **Out);
/* ... it was given back (all of it), or it is held as before. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID ObjectEndRelease(struct CLIENT *Client, OBJECT *Object, BOOLEAN Gone);

/* A held object of one kind, for the teardown: a copy; FALSE when there is none. */
_IRQL_requires_max_(DISPATCH_LEVEL) BOOLEAN ObjectFirst(struct CLIENT *Client, ULONG Kind, OBJECT *Out);
/* Kept indications of this socket: it cannot be closed before they were given back (appendix B, trap 13). */
_Requires_lock_held_(Client->Lock) BOOLEAN ObjectKeptBy(const struct CLIENT *Client, ULONG Socket);
/* Whether there are any of that kind, in whatever state: also one that a call under way may still make or give back. */
_Requires_lock_held_(Client->Lock) BOOLEAN ObjectExists(const struct CLIENT *Client, ULONG Kind);
/* Whether any of that kind is held: address lists belong to the registration, and end before it. */
_Requires_lock_held_(Client->Lock) BOOLEAN ObjectHolds(const struct CLIENT *Client, ULONG Kind);
_IRQL_requires_max_(DISPATCH_LEVEL) ULONG ObjectList(struct CLIENT *Client, WSKLAB_OBJECT_ENTRY *Out, ULONG Room, ULONG *Total);

#endif
