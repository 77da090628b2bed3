/*
 * locks.c: spin locks, and the order in which they are taken.
 *
 * A KSPIN_LOCK holds, from the low end: the holder's thread number (32 bits, 0: free), the lock's class (16 bits), a magic
 * (16 bits). The class is the place that initialised it: all locks of one place are of one kind and may not nest.
 */
#include "internal.h"

#include <sched.h>

#define MAGIC 0x5C00ull
#define MAX_CLASSES 512
#define SPINS_BEFORE_YIELD 100
/* Real seconds after which a lock will never be free. */
#define STUCK_NS 20000000000ull

typedef struct LOCK_CLASS {
    const void *Initializer;
    char Name[160];
    ULONG64 After[MAX_CLASSES / 64]; /* classes that were taken while one of this was held */
} LOCK_CLASS;

typedef struct LOCK_EDGE {
    void *Held[FRAMES];
    void *Taken[FRAMES];
} LOCK_EDGE;

static pthread_mutex_t g_GraphLock = PTHREAD_MUTEX_INITIALIZER;
static LOCK_CLASS g_Classes[MAX_CLASSES];
static LOCK_EDGE *g_Edges[MAX_CLASSES][MAX_CLASSES];
static ULONG g_ClassCount = 1; /* 0: no class */

ULONG LockClassOf(const void *initializer, const char *name) {
    char described[160];
    ULONG found = 0;

    if (name != NULL) {
        snprintf(described, sizeof(described), "%s", name);
    } else {
        /* Module and offset: a driver that is loaded again has the same classes at other addresses. */
        Describe(described, sizeof(described), initializer);
    }
    pthread_mutex_lock(&g_GraphLock);
    for (ULONG i = 1; i < g_ClassCount && found == 0; i++) {
        if (strcmp(g_Classes[i].Name, described) == 0) {
            found = i;
        }
    }
    if (found == 0 && g_ClassCount < MAX_CLASSES) {
        found = g_ClassCount++;
        g_Classes[found].Initializer = initializer;
        memcpy(g_Classes[found].Name, described, sizeof(described));
    }
    pthread_mutex_unlock(&g_GraphLock);
    if (found == 0) {
        ShimAbort("shim", "more than %u kinds of spin locks", MAX_CLASSES);
    }
    return found;
}

const char *LockClassName(ULONG class) {
    return class < g_ClassCount ? g_Classes[class].Name : "?";
}

static BOOLEAN HasEdge(ULONG from, ULONG to) {
    return (__atomic_load_n(&g_Classes[from].After[to / 64], __ATOMIC_RELAXED) >> (to % 64)) & 1;
}

/* With the graph's lock: a way from `from` to `to`; `way` receives the first edge's end. */
static BOOLEAN Reaches(ULONG from, ULONG to, ULONG64 *visited, ULONG *way) {
    visited[from / 64] |= 1ull << (from % 64);
    for (ULONG next = 1; next < g_ClassCount; next++) {
        if (!HasEdge(from, next)) {
            continue;
        }
        if (next == to || (!((visited[next / 64] >> (next % 64)) & 1) && Reaches(next, to, visited, way))) {
            *way = next;
            return TRUE;
        }
    }
    return FALSE;
}

static void Cycle(const HELD_LOCK *held, ULONG class, void *const *frames, ULONG way) {
    const LOCK_EDGE *edge = g_Edges[class][way];
    char now[500];
    char first[500];
    char second[500];

    StackDescribe(now, sizeof(now), frames, 4);
    StackDescribe(first, sizeof(first), edge->Held, 4);
    StackDescribe(second, sizeof(second), edge->Taken, 4);
    ShimAbort("lock-order",
              "the lock of %s is taken while that of %s is held\n  now:    %s\n  but before, with the lock of %s held (%s)\n"
              "  that of %s was taken (%s)",
              LockClassName(class), LockClassName(held->Class), now, LockClassName(class), first, LockClassName(way), second);
}

void LockGraphAdd(const HELD_LOCK *held, ULONG count, ULONG class, void *const *frames) {
    for (ULONG i = 0; i < count; i++) {
        ULONG64 visited[MAX_CLASSES / 64] = {0};
        LOCK_EDGE *edge;
        ULONG way = 0;

        if (held[i].Class == class) {
            ShimAbort("lock-order", "two locks of one kind (%s) are held at once", LockClassName(class));
        }
        if (HasEdge(held[i].Class, class)) {
            continue;
        }
        pthread_mutex_lock(&g_GraphLock);
        if (Reaches(class, held[i].Class, visited, &way)) {
            Cycle(&held[i], class, frames, way);
        }
        edge = g_Edges[held[i].Class][class];
        if (edge == NULL) {
            static LOCK_EDGE edges[1024];
            static ULONG used;
            edge = used < 1024 ? &edges[used++] : &edges[0];
            memcpy(edge->Held, held[i].Frames, sizeof(edge->Held));
            memcpy(edge->Taken, frames, sizeof(edge->Taken));
            g_Edges[held[i].Class][class] = edge;
        }
        __atomic_or_fetch(&g_Classes[held[i].Class].After[class / 64], 1ull << (class % 64), __ATOMIC_RELAXED);
        pthread_mutex_unlock(&g_GraphLock);
    }
}

void LocksRequireNone(const char *what) {
    if (ThreadSelf()->HeldCount > 0) {
        ShimAbort("lock-held", "%s with a spin lock held", what);
    }
}

void LocksRequireNoneIn(const void *memory, size_t size) {
    SchedLock();
    for (PLIST_ENTRY entry = g_Threads.Flink; entry != &g_Threads; entry = entry->Flink) {
        const SHIM_THREAD *thread = CONTAINING_RECORD(entry, SHIM_THREAD, Link);
        for (ULONG i = 0; i < thread->HeldCount; i++) {
            const char *lock = (const char *)thread->Held[i].Lock;
            if (lock >= (const char *)memory && lock < (const char *)memory + size) {
                SchedUnlock();
                ShimAbort("freed-in-use", "memory is freed with a held spin lock in it (thread %u holds it)", thread->Id);
            }
        }
    }
    SchedUnlock();
}

VOID NTAPI KeInitializeSpinLock(PKSPIN_LOCK SpinLock) {
    ULONG class = LockClassOf(CALLER(), NULL);

    ShimRequireNonPaged("a spin lock", SpinLock, sizeof(*SpinLock));
    __atomic_store_n(SpinLock, (MAGIC | 1) << 48 | (ULONG64)class << 32, __ATOMIC_RELEASE);
}

static ULONG ClassOfLock(PKSPIN_LOCK lock) {
    ULONG64 value = __atomic_load_n(lock, __ATOMIC_RELAXED);

    if (value >> 48 != (MAGIC | 1)) {
        ShimAbort("uninitialised", "a spin lock at %p that KeInitializeSpinLock has not seen (%016" PRIx64 ")", (void *)lock, value);
    }
    return (ULONG)(value >> 32) & 0xFFFF;
}

static void Take(SHIM_THREAD *self, PKSPIN_LOCK lock, ULONG class) {
    ULONG64 free = (MAGIC | 1) << 48 | (ULONG64)class << 32;
    ULONG64 seen = free;
    ULONG64 since = 0;

    for (ULONG spins = 1; !__atomic_compare_exchange_n(lock, &seen, free | self->Id, FALSE, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
         spins++) {
        if (seen >> 32 != free >> 32) {
            ShimAbort("uninitialised", "a spin lock was overwritten while it was waited for (%016" PRIx64 ")", seen);
        }
        if (g_Options.Deterministic) {
            SchedSpin(lock);
        } else if (spins % SPINS_BEFORE_YIELD == 0) {
            sched_yield();
            since = since == 0 ? ShimNow() : since;
            if (ShimNow() - since > STUCK_NS) {
                ShimAbort("deadlock", "thread %u has held the lock of %s for %llu s", (ULONG)seen, LockClassName(class),
                          STUCK_NS / 1000000000ull);
            }
        }
        seen = free;
    }
}

static void Acquire(const char *function, PKSPIN_LOCK lock, BOOLEAN atDpc, KIRQL previous) {
    SHIM_THREAD *self = ThreadSelf();
    ULONG class = ClassOfLock(lock);
    HELD_LOCK *held;

    ShimRequireNonPaged("a spin lock", lock, sizeof(*lock));
    for (ULONG i = 0; i < self->HeldCount; i++) {
        if (self->Held[i].Lock == lock) {
            ShimAbort("lock-recursive", "%s: this thread holds the lock of %s already", function, LockClassName(class));
        }
    }
    if (self->HeldCount == MAX_HELD) {
        ShimAbort("shim", "more than %u spin locks held", MAX_HELD);
    }
    held = &self->Held[self->HeldCount];
    *held = (HELD_LOCK){.Lock = lock, .Previous = previous, .AtDpc = atDpc, .Class = class};
    StackCapture(held->Frames, FRAMES);
    LockGraphAdd(self->Held, self->HeldCount, class, held->Frames);
    Take(self, lock, class);
    self->HeldCount++;
}

static void Release(const char *function, PKSPIN_LOCK lock, BOOLEAN atDpc, KIRQL irql) {
    SHIM_THREAD *self = ThreadSelf();
    ULONG class = ClassOfLock(lock);
    ULONG index = self->HeldCount;

    while (index > 0 && self->Held[index - 1].Lock != lock) {
        index--;
    }
    if (index == 0) {
        ShimAbort("lock-not-held", "%s: this thread does not hold the lock of %s", function, LockClassName(class));
    }
    if (self->Held[index - 1].AtDpc != atDpc) {
        ShimAbort("lock-kind", "%s: the lock of %s was acquired with the other pair of functions", function, LockClassName(class));
    }
    if (!atDpc && self->Held[index - 1].Previous != irql) {
        ShimAbort("irql-not-restored", "%s to IRQL %u; the acquire came from %u", function, irql, self->Held[index - 1].Previous);
    }
    if (self->Irql < DISPATCH_LEVEL) {
        ShimAbort("irql", "%s at IRQL %u", function, self->Irql);
    }
    memmove(&self->Held[index - 1], &self->Held[index], (self->HeldCount - index) * sizeof(self->Held[0]));
    self->HeldCount--;
    __atomic_store_n(lock, (MAGIC | 1) << 48 | (ULONG64)class << 32, __ATOMIC_RELEASE);
    if (!atDpc) {
        if (irql < DISPATCH_LEVEL && self->HeldCount > 0) {
            ShimAbort("irql-lower", "%s lowers to IRQL %u with another spin lock held", function, irql);
        }
        IrqlSet(self, irql);
    }
    ShimYield(function);
}

KIRQL NTAPI KeAcquireSpinLockRaiseToDpc(PKSPIN_LOCK SpinLock) {
    SHIM_THREAD *self = ThreadSelf();
    KIRQL previous = self->Irql;

    ShimRequireIrql("KeAcquireSpinLock", DISPATCH_LEVEL);
    ShimYield("KeAcquireSpinLock");
    IrqlSet(self, DISPATCH_LEVEL);
    Acquire("KeAcquireSpinLock", SpinLock, FALSE, previous);
    return previous;
}

VOID NTAPI KeReleaseSpinLock(PKSPIN_LOCK SpinLock, KIRQL NewIrql) {
    Release("KeReleaseSpinLock", SpinLock, FALSE, NewIrql);
}

VOID NTAPI KeAcquireSpinLockAtDpcLevel(PKSPIN_LOCK SpinLock) {
    SHIM_THREAD *self = ThreadSelf();

    if (self->Irql != DISPATCH_LEVEL) {
        ShimAbort("irql", "KeAcquireSpinLockAtDpcLevel at IRQL %u", self->Irql);
    }
    ShimYield("KeAcquireSpinLockAtDpcLevel");
    Acquire("KeAcquireSpinLockAtDpcLevel", SpinLock, TRUE, DISPATCH_LEVEL);
}

VOID NTAPI KeReleaseSpinLockFromDpcLevel(PKSPIN_LOCK SpinLock) {
    Release("KeReleaseSpinLockFromDpcLevel", SpinLock, TRUE, DISPATCH_LEVEL);
}

VOID NTAPI KeAcquireInStackQueuedSpinLock(PKSPIN_LOCK SpinLock, PKLOCK_QUEUE_HANDLE LockHandle) {
    LockHandle->Reserved[0] = SpinLock;
    LockHandle->OldIrql = KeAcquireSpinLockRaiseToDpc(SpinLock);
}

VOID NTAPI KeReleaseInStackQueuedSpinLock(PKLOCK_QUEUE_HANDLE LockHandle) {
    Release("KeReleaseInStackQueuedSpinLock", LockHandle->Reserved[0], FALSE, LockHandle->OldIrql);
}
