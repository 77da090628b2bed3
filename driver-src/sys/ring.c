/*
 * ring.c: a client's event ring.
 */
#include "ring.h"

_Use_decl_annotations_ NTSTATUS RingInitialize(RING *Ring, LEDGER *Ledger) {
    KeInitializeSpinLock(&Ring->Lock);
    Ring->Ledger = Ledger;
    Ring->Events = MemoryAllocate(Ledger, WSKLAB_EVENT_CAPACITY * sizeof(WSKLAB_EVENT));
    return Ring->Events != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

_Use_decl_annotations_ VOID RingUninitialize(RING *Ring) {
    MemoryFree(Ring->Events);
    Ring->Events = NULL;
}

_Use_decl_annotations_ VOID RingRecord(RING *Ring, const WSKLAB_EVENT *Event) {
    WSKLAB_EVENT event = *Event;
    KIRQL irql;
    BOOLEAN dropped;

    event.time_ns = PlatformNow();
    event.thread = PlatformThread();
    event.irql = KeGetCurrentIrql();
    if (event.sequence == 0) {
        event.sequence = PlatformNextSequence();
    }
    KeAcquireSpinLock(&Ring->Lock, &irql);
    dropped = Ring->Count == WSKLAB_EVENT_CAPACITY;
    if (dropped) {
        Ring->Dropped++;
    } else {
        Ring->Events[(Ring->First + Ring->Count) % WSKLAB_EVENT_CAPACITY] = event;
        Ring->Count++;
    }
    KeReleaseSpinLock(&Ring->Lock, irql);
    LedgerAdd(Ring->Ledger, dropped ? LEDGER_COUNT(events_dropped) : LEDGER_COUNT(events_recorded), 1);
}

_Use_decl_annotations_ ULONG RingTake(RING *Ring, WSKLAB_EVENT *Out, ULONG Room, WSKLAB_EVENTS_RESULT *Result) {
    KIRQL irql;
    ULONG taken = 0;

    KeAcquireSpinLock(&Ring->Lock, &irql);
    while (taken < Room && Ring->Count > 0) {
        Out[taken++] = Ring->Events[Ring->First];
        Ring->First = (Ring->First + 1) % WSKLAB_EVENT_CAPACITY;
        Ring->Count--;
    }
    Result->count = taken;
    Result->remaining = Ring->Count;
    Result->dropped = Ring->Dropped;
    KeReleaseSpinLock(&Ring->Lock, irql);
    return taken;
}
