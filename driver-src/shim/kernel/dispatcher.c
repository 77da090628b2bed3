/*
 * dispatcher.c: events, semaphores, waits. The scheduler's lock is the dispatcher's.
 *
 * A signal satisfies waits at once, as on Windows: a thread that waits is taken off the object's list by whoever
 * signals it, so that nobody can snatch the signal from it.
 */
#include "internal.h"

#define MAX_WAIT 8

void DispatcherInitializeHeader(DISPATCHER_HEADER *header, UCHAR type, UCHAR size, LONG state) {
    header->Type = type;
    header->Signalling = 0;
    header->Size = size;
    header->Inserted = 0;
    header->SignalState = state;
    InitializeListHead(&header->WaitListHead);
}

static void Check(const char *function, const DISPATCHER_HEADER *header) {
    BOOLEAN known = header->Type == OBJECT_NOTIFICATION_EVENT || header->Type == OBJECT_SYNCHRONIZATION_EVENT ||
                    header->Type == OBJECT_SEMAPHORE || header->Type == OBJECT_THREAD ||
                    header->Type == OBJECT_NOTIFICATION_TIMER || header->Type == OBJECT_SYNCHRONIZATION_TIMER;

    ShimRequireNonPaged("a dispatcher object", header, sizeof(*header));
    SchedLock(); /* others link and unlink their waits */
    known = known && header->WaitListHead.Flink != NULL && header->WaitListHead.Flink->Blink == &header->WaitListHead;
    SchedUnlock();
    if (!known) {
        ShimAbort("uninitialised", "%s on an object at %p that was never initialised (type %u)", function, (const void *)header,
                  header->Type);
    }
}

static void Consume(DISPATCHER_HEADER *header) {
    if (header->Type == OBJECT_SYNCHRONIZATION_EVENT || header->Type == OBJECT_SYNCHRONIZATION_TIMER) {
        header->SignalState = 0;
    } else if (header->Type == OBJECT_SEMAPHORE) {
        header->SignalState--;
    }
}

/* Whether the wait is satisfied now; if so the signals are used up and *status says by which object. */
static BOOLEAN Satisfy(DISPATCHER_HEADER *const *objects, ULONG count, WAIT_TYPE type, NTSTATUS *status) {
    ULONG signalled = 0;

    for (ULONG i = 0; i < count; i++) {
        if (objects[i]->SignalState > 0) {
            if (type == WaitAny) {
                Consume(objects[i]);
                *status = STATUS_WAIT_0 + (NTSTATUS)i;
                return TRUE;
            }
            signalled++;
        }
    }
    if (type == WaitAny || signalled < count) {
        return FALSE;
    }
    for (ULONG i = 0; i < count; i++) {
        Consume(objects[i]);
    }
    *status = STATUS_WAIT_0;
    return TRUE;
}

static void Unlink(SHIM_THREAD *thread) {
    for (ULONG i = 0; i < thread->BlockCount; i++) {
        RemoveEntryList(&thread->Blocks[i].Link);
    }
    thread->Blocks = NULL;
    thread->BlockCount = 0;
}

void DispatcherSignal(DISPATCHER_HEADER *header) {
    PLIST_ENTRY entry = header->WaitListHead.Flink;

    while (header->SignalState > 0 && entry != &header->WaitListHead) {
        SHIM_THREAD *thread = CONTAINING_RECORD(entry, WAIT_BLOCK, Link)->Thread;
        DISPATCHER_HEADER *objects[MAX_WAIT];

        for (ULONG i = 0; i < thread->BlockCount; i++) {
            objects[i] = thread->Blocks[i].Object;
        }
        if (Satisfy(objects, thread->BlockCount, thread->WaitType, &thread->WaitStatus)) {
            Unlink(thread);
            SchedWake(thread);
            entry = header->WaitListHead.Flink; /* the list has changed */
        } else {
            entry = entry->Flink;
        }
    }
}

void DispatcherMayWait(const char *function) {
    const SHIM_THREAD *self = ThreadSelf();

    ShimRequireIrql(function, APC_LEVEL);
    LocksRequireNone(function);
    for (const SHIM_CALLOUT *callout = self->Callout; callout != NULL; callout = callout->Outer) {
        if (!callout->MayWait) {
            ShimAbort("wait-in-callout", "%s waits inside %s", function, callout->What);
        }
    }
}

NTSTATUS DispatcherWait(const char *function, DISPATCHER_HEADER *const *objects, ULONG count, WAIT_TYPE type, ULONG64 deadline) {
    SHIM_THREAD *self = ThreadSelf();
    WAIT_BLOCK blocks[MAX_WAIT];
    NTSTATUS status = STATUS_TIMEOUT;

    if (count == 0 || count > MAX_WAIT) {
        ShimAbort("wait-count", "%s for %u objects; 1 to %u without memory for wait blocks", function, count, MAX_WAIT);
    }
    for (ULONG i = 0; i < count; i++) {
        Check(function, objects[i]);
    }
    ShimYield(function);
    SchedLock();
    if (Satisfy(objects, count, type, &status) || deadline == 0) {
        SchedUnlock();
        return status;
    }
    for (ULONG i = 0; i < count; i++) {
        blocks[i].Thread = self;
        blocks[i].Object = objects[i];
        InsertTailList(&objects[i]->WaitListHead, &blocks[i].Link);
    }
    self->Blocks = blocks;
    self->BlockCount = count;
    self->WaitType = type;
    if (SchedBlock(deadline)) {
        status = self->WaitStatus;
    } else {
        Unlink(self);
        status = STATUS_TIMEOUT;
    }
    SchedUnlock();
    return status;
}

static NTSTATUS Wait(const char *function, PVOID *objects, ULONG count, WAIT_TYPE type, KPROCESSOR_MODE mode, PLARGE_INTEGER timeout) {
    SHIM_THREAD *self = ThreadSelf();
    BOOLEAN poll = timeout != NULL && timeout->QuadPart == 0;

    self->WaitsNext = FALSE;
    if (poll) {
        ShimRequireIrql(function, DISPATCH_LEVEL);
    } else {
        DispatcherMayWait(function);
    }
    for (ULONG i = 0; i < count && !poll; i++) {
        if (mode != KernelMode && (uintptr_t)objects[i] >= self->StackLow && (uintptr_t)objects[i] < self->StackHigh) {
            ShimAbort("pageable", "%s in user mode for an object on the kernel stack, which may be paged out", function);
        }
    }
    return DispatcherWait(function, (DISPATCHER_HEADER *const *)objects, count, type, poll ? 0 : SchedDeadline(timeout));
}

NTSTATUS NTAPI KeWaitForSingleObject(PVOID Object, KWAIT_REASON WaitReason, KPROCESSOR_MODE WaitMode, BOOLEAN Alertable,
                                     PLARGE_INTEGER Timeout) {
    UNREFERENCED_PARAMETER(WaitReason);
    UNREFERENCED_PARAMETER(Alertable);
    return Wait("KeWaitForSingleObject", &Object, 1, WaitAny, WaitMode, Timeout);
}

NTSTATUS NTAPI KeWaitForMultipleObjects(ULONG Count, PVOID Object[], WAIT_TYPE WaitType, KWAIT_REASON WaitReason,
                                        KPROCESSOR_MODE WaitMode, BOOLEAN Alertable, PLARGE_INTEGER Timeout, PVOID WaitBlockArray) {
    UNREFERENCED_PARAMETER(WaitReason);
    UNREFERENCED_PARAMETER(Alertable);
    if (Count > 3 && WaitBlockArray == NULL) {
        ShimAbort("wait-count", "KeWaitForMultipleObjects for %u objects without wait blocks; 3 are in the thread", Count);
    }
    return Wait("KeWaitForMultipleObjects", Object, Count, WaitType, WaitMode, Timeout);
}

NTSTATUS NTAPI KeDelayExecutionThread(KPROCESSOR_MODE WaitMode, BOOLEAN Alertable, PLARGE_INTEGER Interval) {
    UNREFERENCED_PARAMETER(WaitMode);
    UNREFERENCED_PARAMETER(Alertable);
    DispatcherMayWait("KeDelayExecutionThread");
    SchedLock();
    SchedBlock(SchedDeadline(Interval));
    SchedUnlock();
    return STATUS_SUCCESS;
}

VOID NTAPI KeInitializeEvent(PRKEVENT Event, EVENT_TYPE Type, BOOLEAN State) {
    ShimRequireNonPaged("an event", Event, sizeof(*Event));
    DispatcherInitializeHeader(&Event->Header, (UCHAR)Type, sizeof(*Event) / sizeof(LONG), State ? 1 : 0);
}

LONG NTAPI KeSetEvent(PRKEVENT Event, KPRIORITY Increment, BOOLEAN Wait) {
    LONG previous;

    UNREFERENCED_PARAMETER(Increment);
    ShimRequireIrql("KeSetEvent", DISPATCH_LEVEL);
    if (Wait) {
        ShimRequireIrql("KeSetEvent with Wait", APC_LEVEL);
    }
    Check("KeSetEvent", &Event->Header);
    ShimYield("KeSetEvent");
    SchedLock();
    previous = Event->Header.SignalState;
    Event->Header.SignalState = 1;
    DispatcherSignal(&Event->Header);
    SchedUnlock();
    ThreadSelf()->WaitsNext = Wait;
    return previous;
}

static LONG Reset(const char *function, PRKEVENT event) {
    LONG previous;

    ShimRequireIrql(function, DISPATCH_LEVEL);
    Check(function, &event->Header);
    ShimYield(function);
    SchedLock();
    previous = event->Header.SignalState;
    event->Header.SignalState = 0;
    SchedUnlock();
    return previous;
}

LONG NTAPI KeResetEvent(PRKEVENT Event) {
    return Reset("KeResetEvent", Event);
}

VOID NTAPI KeClearEvent(PRKEVENT Event) {
    Reset("KeClearEvent", Event);
}

LONG NTAPI KeReadStateEvent(PRKEVENT Event) {
    LONG state;

    ShimRequireIrql("KeReadStateEvent", DISPATCH_LEVEL);
    Check("KeReadStateEvent", &Event->Header);
    SchedLock();
    state = Event->Header.SignalState;
    SchedUnlock();
    return state;
}

VOID NTAPI KeInitializeSemaphore(PRKSEMAPHORE Semaphore, LONG Count, LONG Limit) {
    ShimRequireIrql("KeInitializeSemaphore", DISPATCH_LEVEL);
    DispatcherInitializeHeader(&Semaphore->Header, OBJECT_SEMAPHORE, sizeof(*Semaphore) / sizeof(LONG), Count);
    Semaphore->Limit = Limit;
}

LONG NTAPI KeReleaseSemaphore(PRKSEMAPHORE Semaphore, KPRIORITY Increment, LONG Adjustment, BOOLEAN Wait) {
    LONG previous;

    UNREFERENCED_PARAMETER(Increment);
    UNREFERENCED_PARAMETER(Wait);
    ShimRequireIrql("KeReleaseSemaphore", DISPATCH_LEVEL);
    Check("KeReleaseSemaphore", &Semaphore->Header);
    ShimYield("KeReleaseSemaphore");
    SchedLock();
    previous = Semaphore->Header.SignalState;
    if (Adjustment <= 0 || Semaphore->Limit - previous < Adjustment) {
        ShimAbort("semaphore", "KeReleaseSemaphore by %d at %d of %d", Adjustment, previous, Semaphore->Limit);
    }
    Semaphore->Header.SignalState += Adjustment;
    DispatcherSignal(&Semaphore->Header);
    SchedUnlock();
    return previous;
}

/* Run-down protection: bit 0 says that it has begun, the rest counts in steps of 2. */
VOID NTAPI ExInitializeRundownProtection(PEX_RUNDOWN_REF RunRef) {
    __atomic_store_n(&RunRef->Count, 0, __ATOMIC_RELEASE);
}

BOOLEAN NTAPI ExAcquireRundownProtection(PEX_RUNDOWN_REF RunRef) {
    ULONG_PTR seen = __atomic_load_n(&RunRef->Count, __ATOMIC_ACQUIRE);

    ShimRequireIrql("ExAcquireRundownProtection", DISPATCH_LEVEL);
    ShimYield("ExAcquireRundownProtection");
    do {
        if (seen & 1) {
            return FALSE;
        }
    } while (!__atomic_compare_exchange_n(&RunRef->Count, &seen, seen + 2, FALSE, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
    return TRUE;
}

VOID NTAPI ExReleaseRundownProtection(PEX_RUNDOWN_REF RunRef) {
    ShimRequireIrql("ExReleaseRundownProtection", DISPATCH_LEVEL);
    ShimYield("ExReleaseRundownProtection");
    if (__atomic_fetch_sub(&RunRef->Count, 2, __ATOMIC_ACQ_REL) < 2) {
        ShimAbort("rundown", "ExReleaseRundownProtection without an acquire");
    }
}

VOID NTAPI ExWaitForRundownProtectionRelease(PEX_RUNDOWN_REF RunRef) {
    LARGE_INTEGER tick = {.QuadPart = -10000};

    DispatcherMayWait("ExWaitForRundownProtectionRelease");
    __atomic_or_fetch(&RunRef->Count, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&RunRef->Count, __ATOMIC_ACQUIRE) != 1) {
        KeDelayExecutionThread(KernelMode, FALSE, &tick);
    }
}

VOID NTAPI ExRundownCompleted(PEX_RUNDOWN_REF RunRef) {
    __atomic_store_n(&RunRef->Count, 1, __ATOMIC_RELEASE);
}
