/*
 * fiber.c: the threads of the deterministic mode. One of them runs at a time, so none needs a thread of the host: each is a
 * stack, and a change of threads is a jump from one stack to another, where waking a thread of the host and going to sleep
 * costs two system calls and, on a busy machine, a turn of its scheduler. Under ThreadSanitizer, and on other processors,
 * they are the host's threads all the same.
 */
#include "internal.h"

#include <stdlib.h>
#include <sys/mman.h>

#ifdef HAS_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__SANITIZE_THREAD__)
#define HAS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAS_TSAN 1
#endif
#endif

#define STACK_BYTES (1024u * 1024u)
#define MAX_SPARE 32

static SHIM_THREAD *g_Ended; /* its stack was left for good; whoever runs next takes it away */
static void *g_Spare[MAX_SPARE];
static ULONG g_SpareCount;

#if defined(__x86_64__) && !defined(HAS_TSAN)

BOOLEAN FibersUsed(void) {
    return g_Options.Deterministic;
}

/* What a function keeps for its caller goes to the stack that is left, and comes back from the other one. */
void FiberJump(void **left, void *to);
__asm__(".text\n"
        ".type FiberJump,@function\n"
        "FiberJump:\n"
        "    push %rbp\n"
        "    push %rbx\n"
        "    push %r12\n"
        "    push %r13\n"
        "    push %r14\n"
        "    push %r15\n"
        "    mov %rsp, (%rdi)\n"
        "    mov %rsi, %rsp\n"
        "    pop %r15\n"
        "    pop %r14\n"
        "    pop %r13\n"
        "    pop %r12\n"
        "    pop %rbx\n"
        "    pop %rbp\n"
        "    ret\n"
        ".size FiberJump,.-FiberJump\n");

#define SAVED_REGISTERS 6u

#else

BOOLEAN FibersUsed(void) {
    return FALSE;
}

static void FiberJump(void **left, void *to) {
    UNREFERENCED_PARAMETER(left);
    UNREFERENCED_PARAMETER(to);
    ShimAbort("shim", "there are no fibers on this processor");
}

#define SAVED_REGISTERS 0u

#endif

static void *TakeStack(void) {
    char *stack;

    if (g_SpareCount > 0) {
        return g_Spare[--g_SpareCount];
    }
    stack = mmap(NULL, STACK_BYTES + PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) {
        return NULL;
    }
    mprotect(stack, PAGE_SIZE, PROT_NONE); /* one frame too many is a fault */
    return stack;
}

static void GiveStack(void *stack) {
#ifdef HAS_ASAN
    /* The frames that were left without returning. */
    __asan_unpoison_memory_region((char *)stack + PAGE_SIZE, STACK_BYTES);
#endif
    if (g_SpareCount < MAX_SPARE) {
        g_Spare[g_SpareCount++] = stack;
    } else {
        munmap(stack, STACK_BYTES + PAGE_SIZE);
    }
}

/* First thing on a stack, with the scheduler's lock. */
static void Arrive(SHIM_THREAD *self) {
    SHIM_THREAD *ended = g_Ended;

#ifdef HAS_ASAN
    __sanitizer_finish_switch_fiber(self->FakeStack, NULL, NULL);
#endif
    g_Ended = NULL;
    ThreadBecome(self);
    if (ended != NULL) {
        GiveStack(ended->Stack);
        ObjectDrop(ended);
    }
}

static void Leave(SHIM_THREAD *from, SHIM_THREAD *to, BOOLEAN forGood) {
#ifdef HAS_ASAN
    __sanitizer_start_switch_fiber(forGood ? NULL : &from->FakeStack, (const void *)to->StackLow, to->StackHigh - to->StackLow);
#endif
    g_Ended = forGood ? from : NULL;
    FiberJump(&from->StackPointer, to->StackPointer);
}

static void Enter(void) {
    SHIM_THREAD *self = SchedCurrent();

    Arrive(self);
    SchedUnlock();
    ThreadLive(self);
    abort(); /* a thread does not come back from its end */
}

BOOLEAN FiberCreate(SHIM_THREAD *thread) {
    void **top;

    thread->Stack = TakeStack();
    if (thread->Stack == NULL) {
        return FALSE;
    }
    thread->StackLow = (uintptr_t)thread->Stack + PAGE_SIZE;
    thread->StackHigh = thread->StackLow + STACK_BYTES;
    /* As if Enter had been called from nowhere. */
    top = (void **)thread->StackHigh;
    *--top = NULL; /* where Enter would return to: an unwinder stops here */
    *--top = (void *)(uintptr_t)Enter;
    for (ULONG i = 0; i < SAVED_REGISTERS; i++) {
        *--top = NULL;
    }
    thread->StackPointer = top;
    return TRUE;
}

void FiberSwitch(SHIM_THREAD *from, SHIM_THREAD *to) {
    Leave(from, to, FALSE);
    Arrive(from);
}

void FiberEnd(SHIM_THREAD *from, SHIM_THREAD *to) {
    Leave(from, to, TRUE);
}
