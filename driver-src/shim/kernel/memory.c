/*
 * memory.c: everything that the kernel has given out, and to whom: pool with tags, and the shim's own objects.
 *
 * Each block comes from malloc in its exact size, so that AddressSanitizer sees every byte too far; what is known about it
 * stands in a table beside. The table also tells whether a number in an output is an address.
 */
#include "internal.h"

#include <stdlib.h>

#define BUCKETS 4096
#define FILL 0xCD

typedef struct BLOCK {
    struct BLOCK *Next;
    void *Memory;
    size_t Size;
    MEMORY_KIND Kind;
    ULONG Tag;
    const void *Owner; /* who asked: an address in a driver or in the program */
    void *Frames[FRAMES];
} BLOCK;

static const char *const g_KindNames[MEMORY_KINDS] = {"pool",     "paged pool",         "IRP",    "MDL",           "work item",
                                                      "completion context", "object", "system buffer", "provider memory"};
static const char *const g_LeakRules[MEMORY_KINDS] = {"leak-pool", "leak-pool", "leak-irp",           "leak-mdl",
                                                      "leak-work-item", "leak-completion-context", "leak-object", "leak-buffer",
                                                      "leak-provider"};
static pthread_mutex_t g_Lock = PTHREAD_MUTEX_INITIALIZER;
static BLOCK *g_Blocks[BUCKETS];
static ULONG g_Counts[MEMORY_KINDS];
/* Every address that was ever given out lies between these: the first sieve of the scanner. */
static uintptr_t g_Lowest = UINTPTR_MAX;
static uintptr_t g_Highest;

static BLOCK **Bucket(const void *memory) {
    return &g_Blocks[((uintptr_t)memory >> 4) * 0x9E3779B97F4A7C15ull >> 52];
}

static BLOCK *Find(const void *memory) {
    BLOCK *block = *Bucket(memory);

    while (block != NULL && block->Memory != memory) {
        block = block->Next;
    }
    return block;
}

static void *Add(MEMORY_KIND kind, size_t size, ULONG tag, const void *owner) {
    BLOCK *block = malloc(sizeof(*block));
    void *memory = kind == MEMORY_PAGED_POOL ? PagedGet(size) : malloc(size > 0 ? size : 1);
    BLOCK **bucket;

    if (block == NULL || memory == NULL) {
        ShimAbort("shim", "the host has no memory for %zu bytes", size);
    }
    *block = (BLOCK){.Memory = memory, .Size = size, .Kind = kind, .Tag = tag, .Owner = owner};
    StackCapture(block->Frames, FRAMES);
    pthread_mutex_lock(&g_Lock);
    bucket = Bucket(memory);
    block->Next = *bucket;
    *bucket = block;
    g_Counts[kind]++;
    g_Lowest = (uintptr_t)memory < g_Lowest ? (uintptr_t)memory : g_Lowest;
    g_Highest = (uintptr_t)memory + size > g_Highest ? (uintptr_t)memory + size : g_Highest;
    pthread_mutex_unlock(&g_Lock);
    return memory;
}

void *MemoryGet(MEMORY_KIND kind, size_t size, ULONG tag, const char *site, const void *caller) {
    void *memory;

    if (InjectShouldFail(site)) {
        return NULL;
    }
    memory = Add(kind, size, tag, caller);
    memset(memory, FILL, size);
    return memory;
}

void *MemoryGetSure(MEMORY_KIND kind, size_t size, const void *owner) {
    void *memory = Add(kind, size, 0, owner);
    memset(memory, 0, size);
    return memory;
}

static void DescribeTag(char *text, ULONG tag) {
    for (int i = 0; i < 4; i++) {
        char c = (char)(tag >> (8 * i));
        text[i] = c >= ' ' && c < 127 ? c : '.';
    }
    text[4] = '\0';
}

void MemoryPut(MEMORY_KIND kind, void *memory, ULONG tag, const char *function) {
    BLOCK **link = Bucket(memory);
    BLOCK *block;
    char tags[2][5];

    if (kind == MEMORY_POOL || kind == MEMORY_PAGED_POOL) {
        size_t size = MemorySize(memory);
        LocksRequireNoneIn(memory, size);
        TimersRequireNoneIn(memory, size);
        IrpForgetIn(memory, size);
    }
    pthread_mutex_lock(&g_Lock);
    while (*link != NULL && (*link)->Memory != memory) {
        link = &(*link)->Next;
    }
    block = *link;
    if (block == NULL || block->Kind != kind) {
        pthread_mutex_unlock(&g_Lock);
        ShimAbort("bad-free", "%s of %p, which is no %s (freed twice?)", function, memory, g_KindNames[kind]);
    }
    if (tag != 0 && block->Tag != tag) {
        pthread_mutex_unlock(&g_Lock);
        DescribeTag(tags[0], tag);
        DescribeTag(tags[1], block->Tag);
        ShimAbort("pool-tag", "%s with tag '%s' of a block with tag '%s'", function, tags[0], tags[1]);
    }
    *link = block->Next;
    g_Counts[kind]--;
    pthread_mutex_unlock(&g_Lock);
    if (kind == MEMORY_PAGED_POOL) {
        PagedPut(memory);
    } else {
        memset(memory, 0xDD, block->Size);
        free(memory);
    }
    free(block);
}

BOOLEAN MemoryIs(MEMORY_KIND kind, const void *memory) {
    const BLOCK *block;
    BOOLEAN is;

    pthread_mutex_lock(&g_Lock);
    block = Find(memory);
    is = block != NULL && block->Kind == kind;
    pthread_mutex_unlock(&g_Lock);
    return is;
}

void MemoryDisown(const void *memory) {
    BLOCK *block;

    pthread_mutex_lock(&g_Lock);
    block = Find(memory);
    if (block != NULL) {
        block->Owner = NULL;
    }
    pthread_mutex_unlock(&g_Lock);
}

size_t MemorySize(const void *memory) {
    const BLOCK *block;
    size_t size;

    pthread_mutex_lock(&g_Lock);
    block = Find(memory);
    size = block != NULL ? block->Size : 0;
    pthread_mutex_unlock(&g_Lock);
    return size;
}

ULONG MemoryCount(MEMORY_KIND kind) {
    return __atomic_load_n(&g_Counts[kind], __ATOMIC_RELAXED);
}

/* Calls `match` for every block until it returns TRUE; with the lock. */
static const BLOCK *Search(BOOLEAN (*match)(const BLOCK *block, const void *context), const void *context) {
    for (ULONG i = 0; i < BUCKETS; i++) {
        for (const BLOCK *block = g_Blocks[i]; block != NULL; block = block->Next) {
            if (match(block, context)) {
                return block;
            }
        }
    }
    return NULL;
}

static BOOLEAN Contains(const BLOCK *block, const void *context) {
    uintptr_t value = *(const uintptr_t *)context;
    return value >= (uintptr_t)block->Memory && value < (uintptr_t)block->Memory + (block->Size > 0 ? block->Size : 1);
}

BOOLEAN MemoryIsKernelAddress(ULONG64 value, char *text, size_t size) {
    uintptr_t address = (uintptr_t)value;
    const BLOCK *block = NULL;
    const void *low;
    const void *high;
    const char *name;
    BOOLEAN found = FALSE;

    pthread_mutex_lock(&g_Lock);
    if (address >= g_Lowest && address < g_Highest) {
        block = Search(Contains, &address);
        if (block != NULL) {
            char made[400];
            StackDescribe(made, sizeof(made), block->Frames, 4);
            snprintf(text, size, "inside a %s of %zu bytes made at %s", g_KindNames[block->Kind], block->Size, made);
            found = TRUE;
        }
    }
    pthread_mutex_unlock(&g_Lock);
    if (!found && LoaderRange((const void *)address, &low, &high, &name)) {
        snprintf(text, size, "inside the driver %s", name);
        found = TRUE;
    }
    if (!found) {
        SchedLock();
        for (PLIST_ENTRY entry = g_Threads.Flink; entry != &g_Threads && !found; entry = entry->Flink) {
            const SHIM_THREAD *thread = CONTAINING_RECORD(entry, SHIM_THREAD, Link);
            found = address >= thread->StackLow && address < thread->StackHigh;
            if (found) {
                snprintf(text, size, "on the stack of thread %u (%s)", thread->Id, thread->Name);
            }
        }
        SchedUnlock();
    }
    return found;
}

static BOOLEAN OverlapsPaged(const BLOCK *block, const void *context) {
    const uintptr_t *range = context;
    return block->Kind == MEMORY_PAGED_POOL && range[0] < (uintptr_t)block->Memory + block->Size &&
           range[1] > (uintptr_t)block->Memory;
}

BOOLEAN MemoryIsPaged(const void *memory, size_t size) {
    uintptr_t range[2] = {(uintptr_t)memory, (uintptr_t)memory + size};
    BOOLEAN paged;

    if (MemoryCount(MEMORY_PAGED_POOL) == 0) {
        return FALSE;
    }
    pthread_mutex_lock(&g_Lock);
    paged = Search(OverlapsPaged, range) != NULL;
    pthread_mutex_unlock(&g_Lock);
    return paged;
}

void ShimRequireNonPaged(const char *what, const void *memory, size_t size) {
    ShimRequireMemory(what, memory, size);
    if (MemoryIsPaged(memory, size)) {
        ShimAbort("pageable", "%s at %p lies in paged pool", what, memory);
    }
}

void ShimRequireMemory(const char *what, const void *memory, size_t size) {
    const void *bad = memory == NULL ? memory : NULL;
#ifdef HAS_ASAN
    bad = bad == NULL && memory != NULL ? __asan_region_is_poisoned((void *)(uintptr_t)memory, size) : bad;
#else
    UNREFERENCED_PARAMETER(size);
#endif
    if (memory == NULL || bad != NULL) {
        ShimAbort("bad-pointer", "%s: %zu bytes at %p, of which %p is not to be touched", what, size, memory, bad);
    }
}

typedef struct OWNER {
    const void *Low;
    const void *High;
} OWNER;

static BOOLEAN Belongs(const BLOCK *block, const void *context) {
    const OWNER *owner = context;

    if (block->Kind == MEMORY_OBJECT && owner->Low == NULL) {
        return FALSE; /* threads and processes of the program: counted by their own parts */
    }
    return owner->Low == NULL || (block->Owner >= owner->Low && block->Owner < owner->High);
}

void MemoryRequireNoneOf(const void *low, const void *high, const char *who) {
    OWNER owner = {low, high};
    char text[3000] = "";
    size_t used = 0;
    ULONG count = 0;
    const BLOCK *first = NULL;

    pthread_mutex_lock(&g_Lock);
    for (ULONG i = 0; i < BUCKETS; i++) {
        for (const BLOCK *block = g_Blocks[i]; block != NULL; block = block->Next) {
            if (!Belongs(block, &owner)) {
                continue;
            }
            count++;
            first = first == NULL ? block : first;
            if (used + 600 < sizeof(text)) {
                char made[500];
                StackDescribe(made, sizeof(made), block->Frames, 6);
                used += (size_t)snprintf(text + used, sizeof(text) - used, "\n  %s, %zu bytes, made at %s",
                                         g_KindNames[block->Kind], block->Size, made);
            }
        }
    }
    pthread_mutex_unlock(&g_Lock);
    if (first != NULL) {
        ShimAbort(g_LeakRules[first->Kind], "%s has gone and left %u behind:%s", who, count, text);
    }
}

PVOID NTAPI ExAllocatePoolWithTag(POOL_TYPE PoolType, SIZE_T NumberOfBytes, ULONG Tag) {
    BOOLEAN paged = ((ULONG)PoolType & 1) != 0;

    ShimRequireIrql("ExAllocatePoolWithTag", paged ? APC_LEVEL : DISPATCH_LEVEL);
    if (NumberOfBytes == 0 || Tag == 0) {
        ShimAbort("pool", "ExAllocatePoolWithTag of %zu bytes with tag %x", (size_t)NumberOfBytes, Tag);
    }
    if (!paged && ((ULONG)PoolType & 512) == 0) {
        ShimAbort("pool-executable", "ExAllocatePoolWithTag from executable nonpaged pool");
    }
    ShimYield("ExAllocatePoolWithTag");
    return MemoryGet(paged ? MEMORY_PAGED_POOL : MEMORY_POOL, NumberOfBytes, Tag, "ExAllocatePoolWithTag", CALLER());
}

PVOID NTAPI ExAllocatePool2(POOL_FLAGS Flags, SIZE_T NumberOfBytes, ULONG Tag) {
    BOOLEAN paged = (Flags & POOL_FLAG_PAGED) != 0;
    PVOID memory;

    ShimRequireIrql("ExAllocatePool2", paged ? APC_LEVEL : DISPATCH_LEVEL);
    if (ShimOsBuild() < 19041) {
        ShimAbort("not-there", "ExAllocatePool2 on build %u; it came with 19041", ShimOsBuild());
    }
    ShimYield("ExAllocatePool2");
    memory = MemoryGet(paged ? MEMORY_PAGED_POOL : MEMORY_POOL, NumberOfBytes, Tag, "ExAllocatePool2", CALLER());
    if (memory != NULL && !(Flags & POOL_FLAG_UNINITIALIZED)) {
        memset(memory, 0, NumberOfBytes);
    }
    return memory;
}

VOID NTAPI ExFreePoolWithTag(PVOID P, ULONG Tag) {
    BOOLEAN paged = MemoryIs(MEMORY_PAGED_POOL, P);

    ShimRequireIrql("ExFreePoolWithTag", paged ? APC_LEVEL : DISPATCH_LEVEL);
    ShimYield("ExFreePoolWithTag");
    MemoryPut(paged ? MEMORY_PAGED_POOL : MEMORY_POOL, P, Tag, "ExFreePoolWithTag");
}

VOID NTAPI ExFreePool(PVOID P) {
    ExFreePoolWithTag(P, 0);
}

void *ShimAllocate(const char *site, size_t size) {
    void *memory = MemoryGet(MEMORY_PROVIDER, size, 0, site, CALLER());
    if (memory != NULL) {
        memset(memory, 0, size);
    }
    return memory;
}

void ShimFree(void *memory) {
    if (memory != NULL) {
        MemoryPut(MEMORY_PROVIDER, memory, 0, "ShimFree");
    }
}
