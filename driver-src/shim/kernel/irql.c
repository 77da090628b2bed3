/*
 * irql.c: each thread's IRQL, and callouts: the calls out of the system into a driver.
 */
#include "internal.h"

void IrqlSet(SHIM_THREAD *self, KIRQL irql) {
    BOOLEAN was = self->Irql >= DISPATCH_LEVEL;
    BOOLEAN is = irql >= DISPATCH_LEVEL;

    self->Irql = irql;
    if (g_Options.Deterministic && was != is) {
        PagedForbid(is);
    }
}

void ThreadDescribe(const SHIM_THREAD *thread, char *text, size_t size) {
    static const char *const states[] = {"ready", "waiting", "ended"};
    size_t used = (size_t)snprintf(text, size, "thread %u (%s, process %u) at IRQL %u, %s", thread->Id, thread->Name,
                                   thread->Process->Id, thread->Irql, states[thread->State]);

    for (const SHIM_CALLOUT *callout = thread->Callout; callout != NULL && used < size; callout = callout->Outer) {
        used += (size_t)snprintf(text + used, size - used, ", inside %s", callout->What);
    }
    for (ULONG i = 0; i < thread->HeldCount && used < size; i++) {
        char frames[400];
        StackDescribe(frames, sizeof(frames), thread->Held[i].Frames, 3);
        used += (size_t)snprintf(text + used, size - used, ", holds the lock of %s taken at %s",
                                 LockClassName(thread->Held[i].Class), frames);
    }
}

KIRQL NTAPI KeGetCurrentIrql(VOID) {
    return ThreadSelf()->Irql;
}

void ShimRequireIrql(const char *function, KIRQL maximum) {
    const SHIM_THREAD *self = ThreadSelf();

    if (self->WaitsNext) {
        ShimAbort("set-event-wait", "%s right after KeSetEvent with Wait: the wait has to come first", function);
    }
    if (self->Irql > maximum) {
        ShimAbort("irql", "%s at IRQL %u; allowed: %u and below", function, self->Irql, maximum);
    }
}

VOID NTAPI KeRaiseIrql(KIRQL NewIrql, PKIRQL OldIrql) {
    SHIM_THREAD *self = ThreadSelf();

    if (NewIrql < self->Irql) {
        ShimAbort("irql-raise", "KeRaiseIrql from %u to %u: that lowers", self->Irql, NewIrql);
    }
    *OldIrql = self->Irql;
    IrqlSet(self, NewIrql);
    ShimYield("KeRaiseIrql");
}

KIRQL NTAPI KeRaiseIrqlToDpcLevel(VOID) {
    KIRQL previous;
    KeRaiseIrql(DISPATCH_LEVEL, &previous);
    return previous;
}

VOID NTAPI KeLowerIrql(KIRQL NewIrql) {
    SHIM_THREAD *self = ThreadSelf();

    if (NewIrql > self->Irql) {
        ShimAbort("irql-lower", "KeLowerIrql from %u to %u: that raises", self->Irql, NewIrql);
    }
    if (NewIrql < DISPATCH_LEVEL && self->HeldCount > 0) {
        ShimAbort("irql-lower", "KeLowerIrql to %u with a spin lock held", NewIrql);
    }
    if (self->Callout != NULL && NewIrql < self->Callout->Irql) {
        ShimAbort("irql-lower", "KeLowerIrql to %u inside %s, which was called at %u", NewIrql, self->Callout->What,
                  self->Callout->Irql);
    }
    IrqlSet(self, NewIrql);
    ShimYield("KeLowerIrql");
}

VOID NTAPI KeEnterCriticalRegion(VOID) {
    ShimRequireIrql("KeEnterCriticalRegion", APC_LEVEL);
    ThreadSelf()->CriticalRegions++;
}

VOID NTAPI KeLeaveCriticalRegion(VOID) {
    SHIM_THREAD *self = ThreadSelf();

    ShimRequireIrql("KeLeaveCriticalRegion", APC_LEVEL);
    if (--self->CriticalRegions < 0) {
        ShimAbort("critical-region", "KeLeaveCriticalRegion without KeEnterCriticalRegion");
    }
}

void ShimEnterApi(const char *function, KIRQL maximum) {
    ShimRequireIrql(function, maximum);
    LocksRequireNone(function);
    ShimYield(function);
}

void ShimCalloutBegin(SHIM_CALLOUT *callout, const char *what, KIRQL irql, BOOLEAN mayWait) {
    SHIM_THREAD *self = ThreadSelf();

    ShimYield(what);
    LocksRequireNone(what);
    if (irql < self->Irql) {
        irql = self->Irql;
    }
    *callout = (SHIM_CALLOUT){.What = what, .Previous = self->Irql, .Irql = irql, .MayWait = mayWait, .Outer = self->Callout};
    IrqlSet(self, irql);
    __atomic_store_n(&self->Callout, callout, __ATOMIC_RELAXED);
}

void CalloutBeginLocked(SHIM_CALLOUT *callout, const char *what, KIRQL irql) {
    SHIM_THREAD *self = ThreadSelf();

    *callout = (SHIM_CALLOUT){.What = what, .Previous = irql, .Irql = irql, .MayWait = FALSE, .Outer = self->Callout};
    __atomic_store_n(&self->Callout, callout, __ATOMIC_RELAXED);
}

void ShimCalloutEnd(SHIM_CALLOUT *callout) {
    SHIM_THREAD *self = ThreadSelf();

    if (self->Callout != callout) {
        ShimAbort("callout", "the end of %s, but inside is %s", callout->What,
                  self->Callout != NULL ? self->Callout->What : "nothing");
    }
    if (self->WaitsNext) {
        ShimAbort("set-event-wait", "%s returned after KeSetEvent with Wait, and without the wait", callout->What);
    }
    if (self->HeldCount > 0) {
        ShimAbort("lock-leaked", "%s returned with a spin lock held", callout->What);
    }
    if (self->Irql != callout->Irql) {
        ShimAbort("irql-not-restored", "%s was called at IRQL %u and returned at %u", callout->What, callout->Irql, self->Irql);
    }
    __atomic_store_n(&self->Callout, callout->Outer, __ATOMIC_RELAXED);
    IrqlSet(self, callout->Previous);
    ShimYield(callout->What);
}
