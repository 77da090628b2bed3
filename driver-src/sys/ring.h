/*
 * ring.h: a client's event ring. Preallocated; recording takes one spin lock and copies one event.
 */
#ifndef WSKLAB_RING_H
#define WSKLAB_RING_H

#include "memory.h"

typedef struct RING {
    KSPIN_LOCK Lock;
    WSKLAB_EVENT *Events;
    ULONG First;
    ULONG Count;
    ULONG64 Dropped;
    LEDGER *Ledger;
} RING;

_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS RingInitialize(RING *Ring, LEDGER *Ledger);
_IRQL_requires_max_(DISPATCH_LEVEL) VOID RingUninitialize(RING *Ring);
/* Time, thread and IRQL are filled in; the sequence number too, unless the caller has one. A full ring drops and counts. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID RingRecord(RING *Ring, const WSKLAB_EVENT *Event);
/* Take the oldest events out; returns how many. */
_IRQL_requires_max_(DISPATCH_LEVEL) ULONG RingTake(RING *Ring, WSKLAB_EVENT *Out, ULONG Room, WSKLAB_EVENTS_RESULT *Result);

#endif
