/*
 * faults.c: failures of the driver's own allocations.
 */
#include "faults.h"

static KSPIN_LOCK g_Lock;

_Static_assert(sizeof(((WSKLAB_FAULTS_RESULT *)NULL)->seen) / sizeof(uint64_t) == WSKLAB_FAULT_END, "one count a kind");

VOID FaultsInitialize(VOID) {
    KeInitializeSpinLock(&g_Lock);
}

_Use_decl_annotations_ BOOLEAN FaultsDeny(FAULTS *Faults, ULONG Kind) {
    FAULT *fault = &Faults->Of[Kind];
    BOOLEAN denied = FALSE;
    KIRQL irql;

    KeAcquireSpinLock(&g_Lock, &irql);
    fault->Seen++;
    if (fault->Deny > 0) {
        if (fault->Skip > 0) {
            fault->Skip--;
        } else {
            fault->Deny--;
            fault->Denied++;
            denied = TRUE;
        }
    }
    KeReleaseSpinLock(&g_Lock, irql);
    return denied;
}

_Use_decl_annotations_ VOID FaultsEnd(FAULTS *Faults) {
    KIRQL irql;
    KeAcquireSpinLock(&g_Lock, &irql);
    for (ULONG kind = 0; kind < WSKLAB_FAULT_END; kind++) {
        Faults->Of[kind].Skip = 0;
        Faults->Of[kind].Deny = 0;
    }
    KeReleaseSpinLock(&g_Lock, irql);
}

_Use_decl_annotations_ NTSTATUS FaultsRequest(FAULTS *Faults, const WSKLAB_FAULTS *Request, WSKLAB_FAULTS_RESULT *Result) {
    KIRQL irql;

    if (Request->kind > WSKLAB_FAULT_END || Request->clear > 1 ||
        (Request->kind == WSKLAB_FAULT_END && (Request->skip != 0 || Request->deny != 0))) {
        return STATUS_INVALID_PARAMETER;
    }
    KeAcquireSpinLock(&g_Lock, &irql);
    if (Request->clear) {
        RtlZeroMemory(Faults, sizeof(*Faults));
    }
    if (Request->kind != WSKLAB_FAULT_END) {
        Faults->Of[Request->kind].Skip = Request->skip;
        Faults->Of[Request->kind].Deny = Request->deny;
    }
    for (ULONG kind = 0; kind < WSKLAB_FAULT_END; kind++) {
        Result->seen[kind] = Faults->Of[kind].Seen;
        Result->denied[kind] = Faults->Of[kind].Denied;
    }
    KeReleaseSpinLock(&g_Lock, irql);
    return STATUS_SUCCESS;
}
