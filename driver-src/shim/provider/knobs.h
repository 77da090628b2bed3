/*
 * knobs.h: how the provider uses the freedom that WSK leaves it, and how it is made to misbehave.
 *
 * Without a knob every result is given in the way that Windows usually takes; in the shim's random modes ShimChoose
 * decides. Knobs are for tests that want one particular way, or a fault. They belong to the process.
 */
#ifndef WSKLAB_PROVIDER_KNOBS_H
#define WSKLAB_PROVIDER_KNOBS_H

#include "operation.h"

/* When the IRP of a request whose result is known is completed. All of these are legal behaviour. */
typedef enum WSKP_ORDER {
    WSKP_ORDER_USUAL,        /* as Windows does, or as the schedule draws */
    WSKP_ORDER_INLINE,       /* before the call returns */
    WSKP_ORDER_LATER,        /* STATUS_PENDING, then by another thread */
    WSKP_ORDER_AFTER_CLOSE,  /* ... when the socket's close has been called */
    WSKP_ORDER_AFTER_CANCEL  /* ... when it has been cancelled: it succeeds nevertheless */
} WSKP_ORDER;

/* What goes wrong with one call. LOST, TWICE and SUCCEED are broken providers; the others are legal. */
typedef enum WSKP_FAULT {
    WSKP_FAULT_NONE,
    WSKP_FAULT_FAIL,  /* nothing is done; the IRP is completed with `status` */
    WSKP_FAULT_LOST,  /* `status` is returned and the IRP is never completed, as Wine's stubs do */
    WSKP_FAULT_TWICE, /* the completion routine is called a second time */
    WSKP_FAULT_SUCCEED, /* what failed is told as a success */
    WSKP_FAULT_DELAY  /* the completion comes `delayMs` later */
} WSKP_FAULT;

typedef enum WSKP_IRQL { WSKP_IRQL_USUAL, WSKP_IRQL_PASSIVE, WSKP_IRQL_DISPATCH } WSKP_IRQL;

void WskpKnobsReset(void);
void WskpKnobOrder(WSKP_OPERATION operation, WSKP_ORDER order);
/* The `nth` call from now on (1: the next) of this operation; 0: every call. Replaces what was set for it before. */
void WskpKnobFault(WSKP_OPERATION operation, ULONG nth, WSKP_FAULT fault, NTSTATUS status, ULONG delayMs);
/* The same in words, as the setting FAULT has it: "Bind:3:fail", and lost, twice, succeed, delay. FALSE: it means nothing. */
BOOLEAN WskpKnobFaultInWords(const char *words);
/* At which level completions and event callbacks come that the caller's thread does not run itself. */
void WskpKnobIrql(WSKP_IRQL irql);
/* The sockets have failed: accept, receive and receive-from events come with NULL in the place of what they tell of. */
void WskpKnobEmptyEvents(BOOLEAN empty);
/* The seed of WskpDraw. */
void WskpKnobSeed(ULONG64 seed);
/* WskCaptureProviderNPI finds no provider until it is switched on again (REG-005, REG-006, DET-006). */
void WskpKnobProviderReady(BOOLEAN ready);
/* A transport comes or goes: completes what WSK_TRANSPORT_LIST_CHANGE waits for (CTL-003). */
void WskpKnobTransportsChanged(void);

/* The provider's questions. */
WSKP_ORDER WskpKnobsOrderOf(WSKP_OPERATION operation);
/* What the usual order is for this result: inline or later. */
WSKP_ORDER WskpKnobsUsualOrder(WSKP_OPERATION operation, NTSTATUS status);
WSKP_FAULT WskpKnobsFaultOf(WSKP_OPERATION operation, NTSTATUS *status, ULONG *delayMs);
KIRQL WskpKnobsCalloutIrql(const char *what);
BOOLEAN WskpKnobsProviderReady(void);
BOOLEAN WskpKnobsEventsAreEmpty(void);

#endif
