/*
 * interlocked.c: interlocked operations and lists. Each is a scheduling point: an order that matters shows.
 */
#include "internal.h"

LONG NTAPI ShimInterlockedAdd(volatile LONG *Addend, LONG Value) {
    ShimYield("InterlockedAdd");
    return __atomic_add_fetch(Addend, Value, __ATOMIC_SEQ_CST);
}

LONG64 NTAPI ShimInterlockedAdd64(volatile LONG64 *Addend, LONG64 Value) {
    ShimYield("InterlockedAdd64");
    return __atomic_add_fetch(Addend, Value, __ATOMIC_SEQ_CST);
}

LONG NTAPI InterlockedExchange(volatile LONG *Target, LONG Value) {
    ShimYield("InterlockedExchange");
    return __atomic_exchange_n(Target, Value, __ATOMIC_SEQ_CST);
}

LONG64 NTAPI InterlockedExchange64(volatile LONG64 *Target, LONG64 Value) {
    ShimYield("InterlockedExchange64");
    return __atomic_exchange_n(Target, Value, __ATOMIC_SEQ_CST);
}

LONG NTAPI InterlockedCompareExchange(volatile LONG *Destination, LONG Exchange, LONG Comparand) {
    ShimYield("InterlockedCompareExchange");
    __atomic_compare_exchange_n(Destination, &Comparand, Exchange, FALSE, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return Comparand;
}

LONG64 NTAPI InterlockedCompareExchange64(volatile LONG64 *Destination, LONG64 Exchange, LONG64 Comparand) {
    ShimYield("InterlockedCompareExchange64");
    __atomic_compare_exchange_n(Destination, &Comparand, Exchange, FALSE, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return Comparand;
}

LONG NTAPI InterlockedOr(volatile LONG *Destination, LONG Value) {
    ShimYield("InterlockedOr");
    return __atomic_fetch_or(Destination, Value, __ATOMIC_SEQ_CST);
}

LONG NTAPI InterlockedAnd(volatile LONG *Destination, LONG Value) {
    ShimYield("InterlockedAnd");
    return __atomic_fetch_and(Destination, Value, __ATOMIC_SEQ_CST);
}

PVOID NTAPI ShimInterlockedExchangePointer(volatile PVOID *Target, PVOID Value) {
    ShimYield("InterlockedExchangePointer");
    return __atomic_exchange_n(Target, Value, __ATOMIC_SEQ_CST);
}

PVOID NTAPI ShimInterlockedCompareExchangePointer(volatile PVOID *Destination, PVOID Exchange, PVOID Comparand) {
    ShimYield("InterlockedCompareExchangePointer");
    __atomic_compare_exchange_n(Destination, &Comparand, Exchange, FALSE, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return Comparand;
}

BOOLEAN NTAPI RemoveEntryList(PLIST_ENTRY Entry) {
    PLIST_ENTRY next = Entry->Flink;
    PLIST_ENTRY previous = Entry->Blink;

    if (next == NULL || previous == NULL || next->Blink != Entry || previous->Flink != Entry) {
        ShimAbort("list-corrupt", "RemoveEntryList of an entry that is in no list (any more)");
    }
    previous->Flink = next;
    next->Blink = previous;
    /* A second removal finds no list. */
    Entry->Flink = Entry->Blink = NULL;
    return next == previous;
}
