/*
 * start.c: the provider as a whole.
 */
#include "client.h"
#include "dispatch.h"
#include "knobs.h"
#include "lane.h"
#include "nmr.h"
#include "poller.h"
#include "socket.h"

static KSPIN_LOCK Lock;

KIRQL WskpLock(void) {
    KIRQL irql;
    KeAcquireSpinLock(&Lock, &irql);
    return irql;
}

void WskpUnlock(KIRQL irql) {
    KeReleaseSpinLock(&Lock, irql);
}

ULONG64 WskpNowMs(void) {
    return ShimNow() / 1000000u;
}

void ProviderStart(void) {
    const char *mutant = ShimSetting("MUTANT");
    const char *fault = ShimSetting("FAULT");

    KeInitializeSpinLock(&Lock);
    WskpKnobsReset();
    if (mutant != NULL && !MutantSelect(mutant)) {
        ShimAbort("provider", "there is no mutant %s", mutant);
    }
    if (fault != NULL && !WskpKnobFaultInWords(fault)) {
        ShimAbort("provider", "%s is no fault: a function without Wsk, which call, fail, lost, twice or succeed", fault);
    }
    WskpDispatchStart();
    WskpLanesStart();
    WskpPollerStart();
}

void ProviderStop(void) {
    WskpNmrRequireNone();
    WskpClientsRequireNone();
    WskpPollerStop();
    WskpLanesStop();
    WskpSocketsStop();
    WskpDispatchStop();
}
