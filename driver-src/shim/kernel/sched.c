/*
 * sched.c: who runs, and what time it is.
 *
 * Plain mode: threads are the host's and sleep on their own condition variable. Deterministic mode: g_Current is the only
 * thread that runs (a fiber: fiber.c); at every scheduling point the next one is drawn from the seed. Time is virtual
 * there: each scheduling point takes a little, and when nothing can run the clock jumps to the next deadline - after the
 * descriptors that somebody waits for had a moment to become readable, because what is behind them (the host's loopback)
 * lives in real time.
 */
#include "internal.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

#define NANOSECONDS 1000000000ull
#define YIELD_NS 200ull
/* How long the host's loopback may take before the clock jumps on without it. */
#define GRACE_MS 3
/* An impatient clock gives the host that time only at every so-manieth jump without a word from it. */
#define IMPATIENT_JUMPS 40
/* Nothing but descriptors to wait for: longer than this is a hang. */
#define OUTSIDE_MS 60000
#define MAX_DESCRIPTORS 64
#define MAX_READY 256

static pthread_mutex_t g_Lock = PTHREAD_MUTEX_INITIALIZER;
static SHIM_THREAD *g_Current;
static ULONG64 g_Now; /* virtual */
static ULONG64 g_Random;
static ULONG g_SwitchOneIn; /* at a scheduling point the thread is changed with this probability */
static BOOLEAN g_Priorities; /* instead: the ready thread with the highest priority runs, and priorities change rarely */
static ULONG g_Picks;
static ULONG64 g_Limit;
static ULONG64 g_Trace;
static ULONG g_Jumps; /* since a descriptor was readable */
static ULONG64 g_Base; /* plain mode: the host's clock at the start */

/* Both clocks begin here, which matters to the scanner of outputs: a time is beyond every address, and its upper half with
 * a thread's number behind it is no address either: too far inside one of AddressSanitizer's regions. */
#define BEGINNING (1000000000 * NANOSECONDS)

static BOOLEAN IsReady(const SHIM_THREAD *thread);
static void SwitchTo(SHIM_THREAD *self, SHIM_THREAD *next);

static ULONG64 HostNow(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (ULONG64)now.tv_sec * NANOSECONDS + (ULONG64)now.tv_nsec;
}

/* xorshift64*: good enough to choose, and the same everywhere. */
ULONG SchedRandom(ULONG count) {
    ULONG64 x = __atomic_load_n(&g_Random, __ATOMIC_RELAXED);
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    __atomic_store_n(&g_Random, x, __ATOMIC_RELAXED);
    return (ULONG)(((x * 0x2545F4914F6CDD1Dull) >> 33) % count);
}

void SchedLimit(ULONG64 nanoseconds) {
    g_Limit = nanoseconds == 0 ? 0 : g_Now + nanoseconds;
}

static ULONG FirstPriority(void) {
    return g_Priorities ? 1000 + SchedRandom(1000) : 0;
}

void SchedReseed(void) {
    static const ULONG oneIn[] = {2, 4, 16, 64};

    g_Random = g_Options.Seed * 0x9E3779B97F4A7C15ull + 0x632BE59BD9B4E019ull;
    if (g_Random == 0) {
        g_Random = 1;
    }
    g_SwitchOneIn = oneIn[SchedRandom(4)];
    g_Priorities = SchedRandom(4) == 0;
    g_Picks = 0;
    g_Trace = 0xCBF29CE484222325ull;
    SchedLock();
    for (PLIST_ENTRY entry = g_Threads.Flink; entry != &g_Threads; entry = entry->Flink) {
        CONTAINING_RECORD(entry, SHIM_THREAD, Link)->Priority = FirstPriority();
    }
    SchedUnlock();
}

static SHIM_THREAD *AnotherThatIsReady(const SHIM_THREAD *self) {
    for (PLIST_ENTRY entry = g_Threads.Flink; entry != &g_Threads; entry = entry->Flink) {
        SHIM_THREAD *thread = CONTAINING_RECORD(entry, SHIM_THREAD, Link);
        if (thread != self && IsReady(thread)) {
            return thread;
        }
    }
    return NULL;
}

/* With the lock, everybody at rest: the clock, and with it whatever somebody waits for. */
static void PutBack(ULONG64 nanoseconds) {
    g_Now -= nanoseconds;
    g_Limit = 0; /* of a run that is over */
    for (PLIST_ENTRY entry = g_Threads.Flink; entry != &g_Threads; entry = entry->Flink) {
        SHIM_THREAD *thread = CONTAINING_RECORD(entry, SHIM_THREAD, Link);
        if (thread->Deadline != NEVER) {
            thread->Deadline -= nanoseconds;
        }
    }
    TimersPutBack(nanoseconds);
}

void SchedSettle(void) {
    SHIM_THREAD *self = ThreadSelf();
    SHIM_THREAD *next;

    if (!g_Options.Deterministic) {
        return;
    }
    SchedLock();
    /* Not drawn: a caller whose priority is the highest would draw itself for ever. */
    while ((next = AnotherThatIsReady(self)) != NULL) {
        SwitchTo(self, next);
    }
    /* Else the clock of a long series of runs would come to where the addresses are. */
    PutBack(g_Now - BEGINNING);
    SchedUnlock();
}

void SchedInitialize(void) {
    g_Now = BEGINNING;
    g_Base = HostNow() - BEGINNING;
    SchedReseed();
}

BOOLEAN ShimIsDeterministic(void) {
    return g_Options.Deterministic;
}

ULONG64 ShimNow(void) {
    return g_Options.Deterministic ? __atomic_load_n(&g_Now, __ATOMIC_RELAXED) : HostNow() - g_Base;
}

ULONG64 SchedDeadline(const LARGE_INTEGER *timeout) {
    ULONG64 ticks;

    if (timeout == NULL) {
        return NEVER;
    }
    /* Positive times are absolute: of the system's clock, which drivers here do not use. */
    ticks = timeout->QuadPart < 0 ? (ULONG64)-timeout->QuadPart : 0;
    return ShimNow() + ticks * NANOSECONDS_PER_TICK;
}

void SchedLock(void) {
    pthread_mutex_lock(&g_Lock);
}

void SchedUnlock(void) {
    pthread_mutex_unlock(&g_Lock);
}

static BOOLEAN IsReady(const SHIM_THREAD *thread) {
    return thread->State == THREAD_READY &&
           (thread->SpinsOn == NULL || (ULONG)__atomic_load_n(thread->SpinsOn, __ATOMIC_RELAXED) == 0);
}

static void MakeReady(SHIM_THREAD *thread, BOOLEAN woken) {
    thread->State = THREAD_READY;
    thread->Woken = woken;
    thread->Deadline = NEVER;
    thread->Descriptor = -1;
}

/* Descriptors that became readable make their threads ready; TRUE when there was one. */
static BOOLEAN PollDescriptors(int timeoutMs, ULONG *waiting) {
    struct pollfd descriptors[MAX_DESCRIPTORS];
    SHIM_THREAD *threads[MAX_DESCRIPTORS];
    nfds_t count = 0;
    BOOLEAN found = FALSE;

    for (PLIST_ENTRY entry = g_Threads.Flink; entry != &g_Threads && count < MAX_DESCRIPTORS; entry = entry->Flink) {
        SHIM_THREAD *thread = CONTAINING_RECORD(entry, SHIM_THREAD, Link);
        if (thread->State == THREAD_WAITING && thread->Descriptor >= 0) {
            descriptors[count] = (struct pollfd){.fd = thread->Descriptor, .events = POLLIN};
            threads[count++] = thread;
        }
    }
    *waiting = (ULONG)count;
    if (count == 0 || poll(descriptors, count, timeoutMs) <= 0) {
        return FALSE;
    }
    for (nfds_t i = 0; i < count; i++) {
        if (descriptors[i].revents != 0) {
            MakeReady(threads[i], TRUE);
            found = TRUE;
            g_Jumps = 0;
        }
    }
    return found;
}

static _Noreturn void Deadlock(const char *why) {
    char text[16384];
    size_t used = 0;

    for (PLIST_ENTRY entry = g_Threads.Flink; entry != &g_Threads && used + 600 < sizeof(text); entry = entry->Flink) {
        char one[512];
        ThreadDescribe(CONTAINING_RECORD(entry, SHIM_THREAD, Link), one, sizeof(one));
        used += (size_t)snprintf(text + used, sizeof(text) - used, "\n  %s", one);
    }
    ShimAbort("deadlock", "%s; threads:%s", why, text);
}

/* Nothing can run: the outside first, then the clock. */
static void Advance(void) {
    ULONG64 next = NEVER;
    ULONG descriptors;
    int grace;

    for (PLIST_ENTRY entry = g_Threads.Flink; entry != &g_Threads; entry = entry->Flink) {
        const SHIM_THREAD *thread = CONTAINING_RECORD(entry, SHIM_THREAD, Link);
        if (thread->State == THREAD_WAITING && thread->Deadline < next) {
            next = thread->Deadline;
        }
    }
    grace = g_Options.Impatient && ++g_Jumps % IMPATIENT_JUMPS != 0 ? 0 : GRACE_MS;
    if (PollDescriptors(next == NEVER ? OUTSIDE_MS : next <= g_Now ? 0 : grace, &descriptors)) {
        return;
    }
    if (g_Limit != 0 && g_Now > g_Limit) {
        Deadlock("something that should end does not");
    }
    if (next == NEVER) {
        Deadlock(descriptors > 0 ? "nothing came from outside for a minute" : "no thread can ever run again");
    }
    if (next > g_Now) {
        g_Now = next;
    }
    for (PLIST_ENTRY entry = g_Threads.Flink; entry != &g_Threads; entry = entry->Flink) {
        SHIM_THREAD *thread = CONTAINING_RECORD(entry, SHIM_THREAD, Link);
        if (thread->State == THREAD_WAITING && thread->Deadline <= g_Now) {
            MakeReady(thread, FALSE);
        }
    }
}

/* Two runs with the same trace made the same choices among the same threads. */
static void Trace(ULONG64 value) {
    g_Trace = (g_Trace ^ value) * 0x100000001B3ull;
}

ULONG64 ShimTrace(void) {
    return g_Trace;
}

static SHIM_THREAD *Choose(SHIM_THREAD **ready, ULONG count) {
    SHIM_THREAD *best = ready[0];

    Trace(count);

    if (!g_Priorities) {
        return ready[SchedRandom(count)];
    }
    for (ULONG i = 0; i < count; i++) {
        if (ready[i]->Priority > best->Priority) {
            best = ready[i];
        }
    }
    /* Now and then the one that would run becomes the last of all: the few such points decide about the order. */
    if (SchedRandom(32) == 0) {
        best->Priority = SchedRandom(1000);
    }
    return best;
}

static SHIM_THREAD *Pick(void) {
    SHIM_THREAD *ready[MAX_READY];
    ULONG count;
    ULONG waiting;

    if (++g_Picks % 16 == 0) {
        PollDescriptors(0, &waiting);
    }
    for (;;) {
        count = 0;
        for (PLIST_ENTRY entry = g_Threads.Flink; entry != &g_Threads && count < MAX_READY; entry = entry->Flink) {
            SHIM_THREAD *thread = CONTAINING_RECORD(entry, SHIM_THREAD, Link);
            if (IsReady(thread)) {
                ready[count++] = thread;
            }
        }
        if (count > 0) {
            return Choose(ready, count);
        }
        Advance();
    }
}

static void WaitForTurn(SHIM_THREAD *self) {
    while (g_Current != self) {
        pthread_cond_wait(&self->Wake, &g_Lock);
    }
    PagedForbid(self->Irql >= DISPATCH_LEVEL);
}

/* With the lock: let another one run; returns when it is the caller's turn again. */
static void SwitchTo(SHIM_THREAD *self, SHIM_THREAD *next) {
    g_Current = next;
    if (FibersUsed()) {
        FiberSwitch(self, next);
    } else {
        pthread_cond_signal(&next->Wake);
    }
    WaitForTurn(self);
}

/* With the lock: the next one's turn, which may be the caller. */
static void Switch(SHIM_THREAD *self) {
    SHIM_THREAD *next = Pick();

    if (next != self) {
        SwitchTo(self, next);
    }
}

void ShimYield(const char *where) {
    SHIM_THREAD *self;

    UNREFERENCED_PARAMETER(where);
    if (!g_Options.Deterministic || (self = ThreadSelfOrNull()) == NULL) {
        return;
    }
    g_Now += YIELD_NS;
    if (g_Priorities || SchedRandom(g_SwitchOneIn) == 0) {
        SchedLock();
        Switch(self);
        SchedUnlock();
    }
}

VOID NTAPI ShimYieldProcessor(VOID) {
    ShimYield("YieldProcessor");
}

ULONG ShimChoose(ULONG count, const char *what) {
    UNREFERENCED_PARAMETER(what);
    return count > 1 && (g_Options.Deterministic || g_Options.RandomChoices) ? SchedRandom(count) : 0;
}

BOOLEAN SchedBlock(ULONG64 deadline) {
    SHIM_THREAD *self = ThreadSelf();
    ULONG64 host = deadline == NEVER ? 0 : deadline + g_Base;
    struct timespec until = {.tv_sec = (time_t)(host / NANOSECONDS), .tv_nsec = (time_t)(host % NANOSECONDS)};

    self->Woken = FALSE;
    self->Deadline = deadline;
    self->State = THREAD_WAITING;
    if (g_Options.Deterministic) {
        Switch(self);
    } else {
        while (!self->Woken) {
            int result = deadline == NEVER ? pthread_cond_wait(&self->Wake, &g_Lock)
                                           : pthread_cond_timedwait(&self->Wake, &g_Lock, &until);
            if (result == ETIMEDOUT) {
                break;
            }
        }
        self->State = THREAD_READY;
    }
    return self->Woken;
}

void SchedWake(SHIM_THREAD *thread) {
    MakeReady(thread, TRUE);
    if (!g_Options.Deterministic) {
        pthread_cond_signal(&thread->Wake);
    }
}

void SchedAdd(SHIM_THREAD *thread) {
    thread->State = THREAD_READY;
    thread->Priority = FirstPriority();
    InsertTailList(&g_Threads, &thread->Link);
    if (g_Current == NULL) {
        g_Current = thread;
    }
}

void SchedBegin(SHIM_THREAD *thread) {
    if (g_Options.Deterministic) {
        SchedLock();
        WaitForTurn(thread);
        SchedUnlock();
    }
}

SHIM_THREAD *SchedCurrent(void) {
    return g_Current;
}

void SchedEnd(SHIM_THREAD *self) {
    self->State = THREAD_ENDED;
    RemoveEntryList(&self->Link);
    if (g_Options.Deterministic) {
        if (IsListEmpty(&g_Threads)) {
            g_Current = NULL;
        } else {
            g_Current = Pick();
            if (FibersUsed() && !self->Adopted) {
                FiberEnd(self, g_Current);
            }
            pthread_cond_signal(&g_Current->Wake);
        }
    }
    SchedUnlock();
}

void SchedSpin(volatile KSPIN_LOCK *lock) {
    SHIM_THREAD *self = ThreadSelf();

    SchedLock();
    self->SpinsOn = lock;
    Switch(self);
    self->SpinsOn = NULL;
    SchedUnlock();
}

BOOLEAN ShimWaitReadable(int descriptor, LONGLONG timeoutMs) {
    SHIM_THREAD *self = ThreadSelf();
    ULONG64 deadline = timeoutMs < 0 ? NEVER : ShimNow() + (ULONG64)timeoutMs * 1000000ull;
    struct pollfd one = {.fd = descriptor, .events = POLLIN};
    BOOLEAN readable;

    DispatcherMayWait("ShimWaitReadable");
    if (!g_Options.Deterministic) {
        int result;
        do {
            result = poll(&one, 1, timeoutMs < 0 || timeoutMs > INT32_MAX ? -1 : (int)timeoutMs);
        } while (result < 0 && errno == EINTR);
        return result > 0;
    }
    SchedLock();
    if (poll(&one, 1, 0) > 0) {
        SchedUnlock();
        ShimYield("ShimWaitReadable");
        return TRUE;
    }
    self->Woken = FALSE;
    self->Deadline = deadline;
    self->Descriptor = descriptor;
    self->State = THREAD_WAITING;
    Switch(self);
    readable = self->Woken;
    SchedUnlock();
    return readable;
}
