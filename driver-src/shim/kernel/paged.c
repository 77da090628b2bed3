/*
 * paged.c: paged pool. Each block has pages of its own, so that in the deterministic mode, where one thread runs at a
 * time, they can be taken away while that thread is at DISPATCH_LEVEL: touching them is then the page fault that it would
 * be on a bad day on Windows (IRQL_NOT_LESS_OR_EQUAL).
 */
#include "internal.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#define MAX_PAGED 256

typedef struct PAGED {
    void *Pages;
    size_t Size;
} PAGED;

static pthread_mutex_t g_Lock = PTHREAD_MUTEX_INITIALIZER;
static PAGED g_Paged[MAX_PAGED];
static ULONG g_Count;
static BOOLEAN g_Forbidden;

static void OnFault(int number, siginfo_t *information, void *context) {
    const char *address = information->si_addr;

    UNREFERENCED_PARAMETER(context);
    for (ULONG i = 0; i < g_Count; i++) {
        const char *pages = g_Paged[i].Pages;
        if (address >= pages && address < pages + g_Paged[i].Size) {
            ShimAbort("pageable", "paged pool at %p is touched at DISPATCH_LEVEL", (const void *)address);
        }
    }
    ShimAbort("access-violation", "signal %d at address %p", number, (const void *)address);
}

void PagedInitialize(void) {
    struct sigaction action = {.sa_sigaction = OnFault, .sa_flags = SA_SIGINFO | SA_NODEFER};

    /* Only where it is needed: AddressSanitizer's own handler tells more. */
    if (g_Options.Deterministic) {
        sigaction(SIGSEGV, &action, NULL);
    }
}

static void Protect(BOOLEAN forbid) {
    for (ULONG i = 0; i < g_Count; i++) {
        mprotect(g_Paged[i].Pages, g_Paged[i].Size, forbid ? PROT_NONE : PROT_READ | PROT_WRITE);
    }
    g_Forbidden = forbid;
}

void PagedForbid(BOOLEAN forbid) {
    if (__atomic_load_n(&g_Count, __ATOMIC_RELAXED) == 0) {
        return;
    }
    pthread_mutex_lock(&g_Lock);
    if (g_Forbidden != forbid) {
        Protect(forbid);
    }
    pthread_mutex_unlock(&g_Lock);
}

/* The block ends where its pages do (but for the alignment of 16), so that going too far is seen as well. */
void *PagedGet(size_t size) {
    size_t whole = (size + 2 * PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE;
    char *pages = mmap(NULL, whole + PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (pages == MAP_FAILED) {
        return NULL;
    }
    mprotect(pages + whole, PAGE_SIZE, PROT_NONE);
    pthread_mutex_lock(&g_Lock);
    if (g_Count == MAX_PAGED) {
        pthread_mutex_unlock(&g_Lock);
        munmap(pages, whole + PAGE_SIZE);
        return NULL;
    }
    g_Paged[g_Count] = (PAGED){.Pages = pages, .Size = whole};
    __atomic_add_fetch(&g_Count, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&g_Lock);
    return pages + whole - (size + 15) / 16 * 16;
}

void PagedPut(void *memory) {
    pthread_mutex_lock(&g_Lock);
    for (ULONG i = 0; i < g_Count; i++) {
        char *pages = g_Paged[i].Pages;
        if ((char *)memory >= pages && (char *)memory < pages + g_Paged[i].Size) {
            munmap(pages, g_Paged[i].Size + PAGE_SIZE);
            g_Paged[i] = g_Paged[g_Count - 1];
            __atomic_sub_fetch(&g_Count, 1, __ATOMIC_RELAXED);
            break;
        }
    }
    pthread_mutex_unlock(&g_Lock);
}
