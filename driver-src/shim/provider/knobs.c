/*
 * knobs.c: how the provider uses the freedom that WSK leaves it, and how it is made to misbehave.
 */
#include "knobs.h"

#include <stdio.h>

#include "client.h"
#include "transport.h"

#define DEFAULT_SEED 0x5DEECE66Dull

typedef struct FAULT {
    WSKP_FAULT Kind;
    ULONG Nth; /* counts down; 0: every call */
    NTSTATUS Status;
    ULONG DelayMs;
} FAULT;

static WSKP_ORDER Orders[WSKP_OPERATION_COUNT];
static FAULT Faults[WSKP_OPERATION_COUNT + 1]; /* the last: any operation */
static WSKP_IRQL Irql;
static BOOLEAN NotReady;
static BOOLEAN Empty;
static ULONG64 Seed = DEFAULT_SEED;

void WskpKnobsReset(void) {
    KIRQL irql = WskpLock();
    RtlZeroMemory(Orders, sizeof(Orders));
    RtlZeroMemory(Faults, sizeof(Faults));
    Irql = WSKP_IRQL_USUAL;
    NotReady = FALSE;
    Empty = FALSE;
    Seed = DEFAULT_SEED;
    WskpUnlock(irql);
}

void WskpKnobOrder(WSKP_OPERATION operation, WSKP_ORDER order) {
    KIRQL irql = WskpLock();
    for (ULONG index = 0; index < WSKP_OPERATION_COUNT; index++) {
        if (operation == WSKP_ANY || operation == index) {
            Orders[index] = order;
        }
    }
    WskpUnlock(irql);
}

void WskpKnobFault(WSKP_OPERATION operation, ULONG nth, WSKP_FAULT fault, NTSTATUS status, ULONG delayMs) {
    KIRQL irql = WskpLock();
    Faults[operation] = (FAULT){.Kind = fault, .Nth = nth, .Status = status, .DelayMs = delayMs};
    WskpUnlock(irql);
}

/* Of a fault in words. */
#define DELAY_MS 1000u

BOOLEAN WskpKnobFaultInWords(const char *words) {
    static const char *const kinds[] = {NULL, "fail", "lost", "twice", "succeed", "delay"};
    char name[32], kind[16];
    unsigned nth;

    if (sscanf(words, "%31[A-Za-z]:%u:%15s", name, &nth, kind) != 3) {
        return FALSE;
    }
    for (ULONG operation = 0; operation < WSKP_OPERATION_COUNT; operation++) {
        for (ULONG fault = WSKP_FAULT_FAIL; fault < RTL_NUMBER_OF(kinds); fault++) {
            if (strcmp(WskpOperationName(operation) + strlen("Wsk"), name) == 0 && strcmp(kinds[fault], kind) == 0) {
                WskpKnobFault(operation, nth, (WSKP_FAULT)fault, STATUS_UNSUCCESSFUL, DELAY_MS);
                return TRUE;
            }
        }
    }
    return FALSE;
}

void WskpKnobIrql(WSKP_IRQL irql) {
    Irql = irql;
}

void WskpKnobEmptyEvents(BOOLEAN empty) {
    Empty = empty;
}

BOOLEAN WskpKnobsEventsAreEmpty(void) {
    return Empty;
}

void WskpKnobSeed(ULONG64 seed) {
    Seed = seed;
}

void WskpKnobProviderReady(BOOLEAN ready) {
    KIRQL irql = WskpLock();
    NotReady = !ready;
    WskpUnlock(irql);
    if (ready) {
        WskpClientsProviderReady();
    }
}

void WskpKnobTransportsChanged(void) {
    WskpTransportsChanged();
}

WSKP_ORDER WskpKnobsOrderOf(WSKP_OPERATION operation) {
    return Orders[operation];
}

WSKP_ORDER WskpKnobsUsualOrder(WSKP_OPERATION operation, NTSTATUS status) {
    BOOLEAN pends = WskpOperationUsuallyPends(operation, status);
    /* The first choice is the usual one. */
    return (ShimChoose(2, "completion order") == 0) == pends ? WSKP_ORDER_LATER : WSKP_ORDER_INLINE;
}

/* Counts one call down; TRUE when it is the one. With the lock. */
static BOOLEAN Strikes(FAULT *fault) {
    if (fault->Kind == WSKP_FAULT_NONE) {
        return FALSE;
    }
    if (fault->Nth == 0) {
        return TRUE;
    }
    return --fault->Nth == 0;
}

WSKP_FAULT WskpKnobsFaultOf(WSKP_OPERATION operation, NTSTATUS *status, ULONG *delayMs) {
    WSKP_FAULT kind = WSKP_FAULT_NONE;
    KIRQL irql = WskpLock();
    FAULT *places[] = {&Faults[operation], &Faults[WSKP_ANY]};

    for (ULONG index = 0; index < RTL_NUMBER_OF(places); index++) {
        BOOLEAN once = places[index]->Nth != 0;
        if (Strikes(places[index])) {
            kind = places[index]->Kind;
            *status = places[index]->Status;
            *delayMs = places[index]->DelayMs;
            if (once) {
                places[index]->Kind = WSKP_FAULT_NONE;
            }
            break;
        }
    }
    WskpUnlock(irql);
    return kind;
}

KIRQL WskpKnobsCalloutIrql(const char *what) {
    switch (Irql) {
    case WSKP_IRQL_PASSIVE:
        return PASSIVE_LEVEL;
    case WSKP_IRQL_DISPATCH:
        return DISPATCH_LEVEL;
    default:
        /* Windows: nearly always at dispatch level, but nobody may rely on it (IRP-012, EVT-015). */
        return ShimChoose(2, what) == 0 ? DISPATCH_LEVEL : PASSIVE_LEVEL;
    }
}

BOOLEAN WskpKnobsProviderReady(void) {
    return !NotReady;
}

ULONG WskpDraw(ULONG count, const char *what) {
    ULONG64 now;
    if (ShimIsDeterministic()) {
        return ShimChoose(count, what);
    }
    now = __atomic_fetch_add(&Seed, 0x9E3779B97F4A7C15ull, __ATOMIC_RELAXED);
    now = (now ^ (now >> 30)) * 0xBF58476D1CE4E5B9ull;
    now = (now ^ (now >> 27)) * 0x94D049BB133111EBull;
    return (ULONG)((now ^ (now >> 31)) % count);
}
