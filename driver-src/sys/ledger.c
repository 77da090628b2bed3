/*
 * ledger.c: the counts that must add up.
 */
#include "ledger.h"

static KSPIN_LOCK g_Lock;
static LEDGER g_Driver;

static VOID Add(LEDGER *Ledger, ULONG Count, LONG64 Delta) {
    ((ULONG64 *)&Ledger->Counts)[Count] += (ULONG64)Delta;
}

VOID LedgerInitialize(VOID) {
    KeInitializeSpinLock(&g_Lock);
    FaultsInitialize();
}

_Use_decl_annotations_ VOID LedgerAdd(LEDGER *Client, ULONG Count, LONG64 Delta) {
    KIRQL irql;
    KeAcquireSpinLock(&g_Lock, &irql);
    if (Client != NULL) {
        Add(Client, Count, Delta);
    }
    Add(&g_Driver, Count, Delta);
    KeReleaseSpinLock(&g_Lock, irql);
}

_Use_decl_annotations_ VOID LedgerAddTwo(LEDGER *Client, ULONG First, LONG64 FirstDelta, ULONG Second, LONG64 SecondDelta) {
    KIRQL irql;
    KeAcquireSpinLock(&g_Lock, &irql);
    if (Client != NULL) {
        Add(Client, First, FirstDelta);
        Add(Client, Second, SecondDelta);
    }
    Add(&g_Driver, First, FirstDelta);
    Add(&g_Driver, Second, SecondDelta);
    KeReleaseSpinLock(&g_Lock, irql);
}

_Use_decl_annotations_ VOID LedgerRead(const LEDGER *Client, WSKLAB_LEDGERS *Out) {
    KIRQL irql;
    KeAcquireSpinLock(&g_Lock, &irql);
    Out->client = Client->Counts;
    Out->driver = g_Driver.Counts;
    KeReleaseSpinLock(&g_Lock, irql);
}
