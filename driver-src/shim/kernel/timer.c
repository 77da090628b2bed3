/*
 * timer.c: timers and deferred procedure calls.
 *
 * The clock thread sleeps until the next timer is due; DPC threads stand for processors: they run at DISPATCH_LEVEL and
 * take what is queued, and in the deterministic mode not always the oldest.
 */
#include "internal.h"

#include <stdlib.h>

#define DPC_THREADS 2

/* A queued DPC, or a deferred routine of the shim. */
typedef struct DEFERRED {
    LIST_ENTRY Link;
    KDPC *Dpc;
    SHIM_THREAD_ROUTINE Routine;
    void *Context;
    PVOID Arguments[2];
} DEFERRED;

static LIST_ENTRY g_Timers = {&g_Timers, &g_Timers}; /* in any order: there are few */
static LIST_ENTRY g_Deferred = {&g_Deferred, &g_Deferred};
static ULONG g_DeferredCount;
static ULONG g_Running; /* deferred routines */
static SHIM_THREAD *g_Clock;
static SHIM_THREAD *g_Processors[DPC_THREADS];
static SHIM_THREAD *g_Idle[DPC_THREADS];
static BOOLEAN g_ClockSleeps;
static BOOLEAN g_Stop;

static void WakeProcessor(void) {
    for (ULONG i = 0; i < DPC_THREADS; i++) {
        if (g_Idle[i] != NULL) {
            SchedWake(g_Idle[i]);
            g_Idle[i] = NULL;
            return;
        }
    }
}

/* With the scheduler's lock. */
static void Queue(KDPC *dpc, SHIM_THREAD_ROUTINE routine, void *context) {
    DEFERRED *deferred = calloc(1, sizeof(*deferred));

    deferred->Dpc = dpc;
    deferred->Routine = routine;
    deferred->Context = context;
    InsertTailList(&g_Deferred, &deferred->Link);
    g_DeferredCount++;
    WakeProcessor();
}

static DEFERRED *TakeDeferred(void) {
    PLIST_ENTRY entry = g_Deferred.Flink;

    for (ULONG skip = ShimChoose(g_DeferredCount, "which DPC"); skip > 0; skip--) {
        entry = entry->Flink;
    }
    RemoveEntryList(entry);
    g_DeferredCount--;
    return CONTAINING_RECORD(entry, DEFERRED, Link);
}

static void RunDeferred(DEFERRED *deferred) {
    SHIM_CALLOUT callout;

    if (deferred->Dpc == NULL) {
        KIRQL previous;
        KeRaiseIrql(DISPATCH_LEVEL, &previous);
        deferred->Routine(deferred->Context);
        KeLowerIrql(previous);
        return;
    }
    ShimCalloutBegin(&callout, "a DPC", DISPATCH_LEVEL, FALSE);
    ((PKDEFERRED_ROUTINE)(uintptr_t)deferred->Routine)(deferred->Dpc, deferred->Context, deferred->Arguments[0],
                                                      deferred->Arguments[1]);
    ShimCalloutEnd(&callout);
}

static void Processor(void *context) {
    ULONG index = (ULONG)(uintptr_t)context;
    SHIM_THREAD *self = ThreadSelf();

    SchedLock();
    while (!g_Stop || g_DeferredCount > 0) {
        DEFERRED *deferred;

        if (g_DeferredCount == 0) {
            g_Idle[index] = self;
            SchedBlock(NEVER);
            g_Idle[index] = NULL;
            continue;
        }
        deferred = TakeDeferred();
        if (deferred->Dpc != NULL) {
            /* From here on the DPC may be queued again, and its memory belongs to its owner. */
            deferred->Routine = (SHIM_THREAD_ROUTINE)(uintptr_t)deferred->Dpc->DeferredRoutine;
            deferred->Context = deferred->Dpc->DeferredContext;
            deferred->Arguments[0] = deferred->Dpc->SystemArgument1;
            deferred->Arguments[1] = deferred->Dpc->SystemArgument2;
            deferred->Dpc->DpcData = NULL;
        }
        g_Running++;
        SchedUnlock();
        RunDeferred(deferred);
        free(deferred);
        SchedLock();
        g_Running--;
    }
    SchedUnlock();
}

void ShimDefer(SHIM_THREAD_ROUTINE routine, void *context) {
    SchedLock();
    Queue(NULL, routine, context);
    SchedUnlock();
    ShimYield("ShimDefer");
}

static BOOLEAN InsertDpc(PRKDPC dpc, PVOID argument1, PVOID argument2) {
    if (dpc->DpcData != NULL) {
        return FALSE;
    }
    dpc->SystemArgument1 = argument1;
    dpc->SystemArgument2 = argument2;
    dpc->DpcData = &g_Deferred;
    Queue(dpc, NULL, NULL);
    return TRUE;
}

static void Expire(KTIMER *timer) {
    if (timer->Period != 0) {
        timer->DueTime.QuadPart += timer->Period * 1000000ull;
    } else {
        timer->Header.Inserted = 0;
        RemoveEntryList(&timer->TimerListEntry);
    }
    timer->Header.SignalState = 1;
    DispatcherSignal(&timer->Header);
    if (timer->Dpc != NULL) {
        InsertDpc(timer->Dpc, NULL, NULL);
    }
}

static void Clock(void *context) {
    UNREFERENCED_PARAMETER(context);
    SchedLock();
    while (!g_Stop) {
        ULONG64 now = ShimNow();
        ULONG64 next = NEVER;
        PLIST_ENTRY entry = g_Timers.Flink;

        while (entry != &g_Timers) {
            KTIMER *timer = CONTAINING_RECORD(entry, KTIMER, TimerListEntry);
            entry = entry->Flink;
            if (timer->DueTime.QuadPart <= now) {
                Expire(timer);
            }
            if (timer->Header.Inserted && timer->DueTime.QuadPart < next) {
                next = timer->DueTime.QuadPart;
            }
        }
        g_ClockSleeps = TRUE;
        SchedBlock(next);
        g_ClockSleeps = FALSE;
    }
    SchedUnlock();
}

void TimersInitialize(void) {
    g_Stop = FALSE;
    g_Clock = ShimThreadStart("clock", Clock, NULL);
    for (ULONG i = 0; i < DPC_THREADS; i++) {
        g_Processors[i] = ShimThreadStart("processor", Processor, (void *)(uintptr_t)i);
    }
}

void TimersStop(void) {
    SchedLock();
    g_Stop = TRUE;
    if (g_ClockSleeps) {
        SchedWake(g_Clock);
    }
    for (ULONG i = 0; i < DPC_THREADS; i++) {
        WakeProcessor();
    }
    SchedUnlock();
    ShimThreadJoin(g_Clock);
    for (ULONG i = 0; i < DPC_THREADS; i++) {
        ShimThreadJoin(g_Processors[i]);
    }
}

void TimersPutBack(ULONG64 nanoseconds) {
    for (PLIST_ENTRY entry = g_Timers.Flink; entry != &g_Timers; entry = entry->Flink) {
        CONTAINING_RECORD(entry, KTIMER, TimerListEntry)->DueTime.QuadPart -= nanoseconds;
    }
}

void TimersRequireNoneIn(const void *memory, size_t size) {
    const char *low = memory;
    const char *fault = NULL;
    PLIST_ENTRY entry;

    SchedLock();
    for (entry = g_Timers.Flink; entry != &g_Timers; entry = entry->Flink) {
        const char *timer = (const char *)CONTAINING_RECORD(entry, KTIMER, TimerListEntry);
        const char *dpc = (const char *)CONTAINING_RECORD(entry, KTIMER, TimerListEntry)->Dpc;
        fault = (timer >= low && timer < low + size) || (dpc >= low && dpc < low + size) ? "an active timer" : fault;
    }
    for (entry = g_Deferred.Flink; entry != &g_Deferred; entry = entry->Flink) {
        const KDPC *dpc = CONTAINING_RECORD(entry, DEFERRED, Link)->Dpc;
        const char *routine = dpc != NULL ? (const char *)(uintptr_t)dpc->DeferredRoutine : NULL;
        fault = ((const char *)dpc >= low && (const char *)dpc < low + size) || (routine >= low && routine < low + size)
                    ? "a queued DPC"
                    : fault;
    }
    for (entry = g_Threads.Flink; entry != &g_Threads; entry = entry->Flink) {
        const SHIM_THREAD *thread = CONTAINING_RECORD(entry, SHIM_THREAD, Link);
        for (ULONG i = 0; i < thread->BlockCount; i++) {
            const char *object = (const char *)thread->Blocks[i].Object;
            fault = object >= low && object < low + size ? "an object that a thread waits for" : fault;
        }
    }
    SchedUnlock();
    if (fault != NULL) {
        ShimAbort("freed-in-use", "memory goes with %s in it", fault);
    }
}

VOID NTAPI KeInitializeTimerEx(PKTIMER Timer, TIMER_TYPE Type) {
    ShimRequireIrql("KeInitializeTimer", DISPATCH_LEVEL);
    ShimRequireNonPaged("a timer", Timer, sizeof(*Timer));
    memset(Timer, 0, sizeof(*Timer));
    DispatcherInitializeHeader(&Timer->Header, (UCHAR)(OBJECT_NOTIFICATION_TIMER + Type), sizeof(*Timer) / sizeof(LONG), 0);
}

VOID NTAPI KeInitializeTimer(PKTIMER Timer) {
    KeInitializeTimerEx(Timer, NotificationTimer);
}

BOOLEAN NTAPI KeSetTimerEx(PKTIMER Timer, LARGE_INTEGER DueTime, LONG Period, PKDPC Dpc) {
    BOOLEAN was;

    ShimRequireIrql("KeSetTimer", DISPATCH_LEVEL);
    if (Timer->Header.Type != OBJECT_NOTIFICATION_TIMER && Timer->Header.Type != OBJECT_SYNCHRONIZATION_TIMER) {
        ShimAbort("uninitialised", "KeSetTimer on a timer that was never initialised");
    }
    ShimYield("KeSetTimer");
    SchedLock();
    was = Timer->Header.Inserted;
    if (was) {
        RemoveEntryList(&Timer->TimerListEntry);
    }
    Timer->Header.SignalState = 0;
    Timer->Header.Inserted = 1;
    Timer->DueTime.QuadPart = SchedDeadline(&DueTime);
    Timer->Period = (ULONG)Period;
    Timer->Dpc = Dpc;
    InsertTailList(&g_Timers, &Timer->TimerListEntry);
    if (g_ClockSleeps) {
        SchedWake(g_Clock);
    }
    SchedUnlock();
    return was;
}

BOOLEAN NTAPI KeSetTimer(PKTIMER Timer, LARGE_INTEGER DueTime, PKDPC Dpc) {
    return KeSetTimerEx(Timer, DueTime, 0, Dpc);
}

BOOLEAN NTAPI KeCancelTimer(PKTIMER Timer) {
    BOOLEAN was;

    ShimRequireIrql("KeCancelTimer", DISPATCH_LEVEL);
    ShimYield("KeCancelTimer");
    SchedLock();
    was = Timer->Header.Inserted;
    if (was) {
        RemoveEntryList(&Timer->TimerListEntry);
        Timer->Header.Inserted = 0;
    }
    SchedUnlock();
    return was;
}

VOID NTAPI KeInitializeDpc(PRKDPC Dpc, PKDEFERRED_ROUTINE DeferredRoutine, PVOID DeferredContext) {
    ShimRequireNonPaged("a DPC", Dpc, sizeof(*Dpc));
    memset(Dpc, 0, sizeof(*Dpc));
    Dpc->Type = 19; /* DpcObject */
    Dpc->DeferredRoutine = DeferredRoutine;
    Dpc->DeferredContext = DeferredContext;
}

BOOLEAN NTAPI KeInsertQueueDpc(PRKDPC Dpc, PVOID SystemArgument1, PVOID SystemArgument2) {
    BOOLEAN queued;

    if (Dpc->Type != 19) {
        ShimAbort("uninitialised", "KeInsertQueueDpc on a DPC that was never initialised");
    }
    SchedLock();
    queued = InsertDpc(Dpc, SystemArgument1, SystemArgument2);
    SchedUnlock();
    ShimYield("KeInsertQueueDpc");
    return queued;
}

BOOLEAN NTAPI KeRemoveQueueDpc(PRKDPC Dpc) {
    BOOLEAN removed = FALSE;

    ShimYield("KeRemoveQueueDpc");
    SchedLock();
    for (PLIST_ENTRY entry = g_Deferred.Flink; entry != &g_Deferred; entry = entry->Flink) {
        DEFERRED *deferred = CONTAINING_RECORD(entry, DEFERRED, Link);
        if (deferred->Dpc == Dpc) {
            RemoveEntryList(entry);
            g_DeferredCount--;
            Dpc->DpcData = NULL;
            free(deferred);
            removed = TRUE;
            break;
        }
    }
    SchedUnlock();
    return removed;
}

VOID NTAPI KeFlushQueuedDpcs(VOID) {
    LARGE_INTEGER tick = {.QuadPart = -10000};
    BOOLEAN idle;

    DispatcherMayWait("KeFlushQueuedDpcs");
    do {
        SchedLock();
        idle = g_DeferredCount == 0 && g_Running == 0;
        SchedUnlock();
        if (!idle) {
            KeDelayExecutionThread(KernelMode, FALSE, &tick);
        }
    } while (!idle);
}

LARGE_INTEGER NTAPI KeQueryPerformanceCounter(PLARGE_INTEGER PerformanceFrequency) {
    LARGE_INTEGER counter = {.QuadPart = (LONGLONG)(ShimNow() / NANOSECONDS_PER_TICK)};

    if (PerformanceFrequency != NULL) {
        PerformanceFrequency->QuadPart = 1000000000ull / NANOSECONDS_PER_TICK;
    }
    return counter;
}

/* One processor is busy, the others go on: any IRQL. */
VOID NTAPI KeStallExecutionProcessor(ULONG MicroSeconds) {
    SchedLock();
    SchedBlock(ShimNow() + MicroSeconds * 1000ull);
    SchedUnlock();
}

/* The system's time is the clock too: 2024-01-01 at its zero. */
VOID NTAPI KeQuerySystemTime(PLARGE_INTEGER CurrentTime) {
    CurrentTime->QuadPart = 133485408000000000ll + (LONGLONG)(ShimNow() / NANOSECONDS_PER_TICK);
}

VOID NTAPI KeQuerySystemTimePrecise(PLARGE_INTEGER CurrentTime) {
    KeQuerySystemTime(CurrentTime);
}

ULONGLONG NTAPI KeQueryInterruptTime(VOID) {
    return ShimNow() / NANOSECONDS_PER_TICK;
}
