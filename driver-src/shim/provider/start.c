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

    KeInitializeSpinLock(&Lock);
    WskpKnobsReset();
    if (mutant != NULL && !MutantSelect(mutant)) {
        ShimAbort("provider", "there is no mutant %s", mutant);
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
