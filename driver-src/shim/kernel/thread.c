/*
 * thread.c: kernel identities of threads, processes, system threads.
 */
#include "internal.h"

#include <stdlib.h>

static __thread SHIM_THREAD *t_Self;
static struct _EPROCESS g_System = {.Id = SYSTEM_PROCESS_ID, .Name = "System", .Administrator = TRUE};
static ULONG g_LastThreadId;
LIST_ENTRY g_Threads = {&g_Threads, &g_Threads};

void ThreadsInitialize(void) {
    g_System.Token = &g_System;
}

PEPROCESS ThreadSystemProcess(void) {
    return &g_System;
}

SHIM_THREAD *ThreadSelfOrNull(void) {
    return t_Self;
}

SHIM_THREAD *ThreadSelf(void) {
    if (t_Self == NULL) {
        ShimAbort("no-identity", "a kernel function was called by a thread that the shim does not know");
    }
    return t_Self;
}

static void FindStack(SHIM_THREAD *thread) {
    pthread_attr_t attributes;
    void *low = NULL;
    size_t size = 0;

    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &low, &size);
        pthread_attr_destroy(&attributes);
    }
    thread->StackLow = (uintptr_t)low;
    thread->StackHigh = (uintptr_t)low + size;
}

static SHIM_THREAD *Make(const char *name, PEPROCESS process) {
    SHIM_THREAD *thread = ObjectCreate(OBJECT_KIND_THREAD, sizeof(*thread), NULL);
    pthread_condattr_t clock;

    snprintf(thread->Name, sizeof(thread->Name), "%s", name);
    thread->Process = process != NULL ? process : &g_System;
    if (process != NULL) {
        ObjectHold(process);
    }
    thread->Id = __atomic_add_fetch(&g_LastThreadId, 4, __ATOMIC_RELAXED); /* as on Windows: multiples of 4 */
    thread->Descriptor = -1;
    thread->Deadline = NEVER;
    DispatcherInitializeHeader(&thread->Header, OBJECT_THREAD, 0, 0);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&thread->Wake, &clock);
    pthread_condattr_destroy(&clock);
    return thread;
}

BOOLEAN *ShimThreadMark(void) {
    return &ThreadSelf()->Marked;
}

/* The thread's last act: checks, signal, somebody else's turn. The thread's own reference is dropped. */
static void Finish(SHIM_THREAD *self) {
    if (self->Irql != PASSIVE_LEVEL) {
        ShimAbort("irql-not-restored", "thread %s ends at IRQL %u", self->Name, self->Irql);
    }
    LocksRequireNone("the end of a thread");
    if (self->CriticalRegions != 0) {
        ShimAbort("critical-region", "thread %s ends in a critical region", self->Name);
    }
    SchedLock();
    self->Header.SignalState = 1;
    DispatcherSignal(&self->Header);
    t_Self = NULL;
    SchedEnd(self);
    ObjectDrop(self);
}

void ThreadBecome(SHIM_THREAD *thread) {
    t_Self = thread;
}

void ThreadLive(SHIM_THREAD *self) {
    SchedBegin(self);
    if (setjmp(self->End) == 0) {
        self->Routine(self->Context);
    }
    Finish(self);
}

static void *Run(void *argument) {
    SHIM_THREAD *self = argument;

    t_Self = self;
    FindStack(self);
    ThreadLive(self);
    return NULL;
}

static BOOLEAN StartOnHost(SHIM_THREAD *thread) {
    pthread_attr_t attributes;
    BOOLEAN started;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    started = pthread_create(&thread->Pthread, &attributes, Run, thread) == 0;
    pthread_attr_destroy(&attributes);
    return started;
}

static BOOLEAN Launch(SHIM_THREAD *thread, SHIM_THREAD_ROUTINE routine, void *context) {
    BOOLEAN started;

    thread->Routine = routine;
    thread->Context = context;
    ObjectHold(thread); /* the thread's own */
    SchedLock();
    SchedAdd(thread);
    SchedUnlock();
    started = FibersUsed() ? FiberCreate(thread) : StartOnHost(thread);
    if (!started) {
        SchedLock();
        RemoveEntryList(&thread->Link);
        SchedUnlock();
        ObjectDrop(thread);
    }
    return started;
}

SHIM_THREAD *ShimThreadStartIn(PEPROCESS process, const char *name, SHIM_THREAD_ROUTINE routine, void *context) {
    SHIM_THREAD *thread = Make(name, process);

    if (!Launch(thread, routine, context)) {
        ObjectDrop(thread);
        return NULL;
    }
    ShimYield("ShimThreadStart");
    return thread;
}

SHIM_THREAD *ShimThreadStart(const char *name, SHIM_THREAD_ROUTINE routine, void *context) {
    return ShimThreadStartIn(NULL, name, routine, context);
}

void ShimThreadJoin(SHIM_THREAD *thread) {
    KeWaitForSingleObject(thread, Executive, KernelMode, FALSE, NULL);
    ObjectDrop(thread);
}

SHIM_THREAD *ShimThreadAdopt(const char *name, PEPROCESS process) {
    SHIM_THREAD *thread = Make(name, process);

    thread->Adopted = TRUE;
    thread->Pthread = pthread_self();
    t_Self = thread;
    FindStack(thread);
    SchedLock();
    SchedAdd(thread);
    SchedUnlock();
    SchedBegin(thread);
    return thread;
}

void ShimThreadMove(PEPROCESS process) {
    SHIM_THREAD *self = ThreadSelf();
    PEPROCESS old = self->Process;

    if (process != NULL) {
        ObjectHold(process);
    }
    self->Process = process != NULL ? process : &g_System;
    if (old != &g_System) {
        ObjectDrop(old);
    }
}

void ShimThreadLeave(void) {
    Finish(ThreadSelf());
}

void ThreadDestroyed(SHIM_THREAD *thread) {
    pthread_cond_destroy(&thread->Wake);
    if (thread->Process != &g_System) {
        ObjectDrop(thread->Process);
    }
}

ULONG ThreadsOf(const void *low, const void *high, char *text, size_t size) {
    ULONG count = 0;
    size_t used = 0;

    text[0] = '\0';
    SchedLock();
    for (PLIST_ENTRY entry = g_Threads.Flink; entry != &g_Threads; entry = entry->Flink) {
        const SHIM_THREAD *thread = CONTAINING_RECORD(entry, SHIM_THREAD, Link);
        if (thread->Counted && thread->StartAddress >= low && thread->StartAddress < high) {
            count++;
            if (used + 512 < size) {
                char one[400];
                ThreadDescribe(thread, one, sizeof(one));
                used += (size_t)snprintf(text + used, size - used, "\n  %s", one);
            }
        }
    }
    SchedUnlock();
    return count;
}

static void RunSystem(void *context) {
    SHIM_THREAD *self = ThreadSelf();
    SHIM_CALLOUT callout;

    ShimCalloutBegin(&callout, "system thread", PASSIVE_LEVEL, TRUE);
    ((PKSTART_ROUTINE)(uintptr_t)self->StartAddress)(context);
    ShimCalloutEnd(&callout);
}

NTSTATUS ThreadCreateSystem(PKSTART_ROUTINE routine, PVOID context, SHIM_THREAD **out) {
    SHIM_THREAD *thread = Make("system thread", NULL);

    thread->Counted = TRUE;
    thread->StartAddress = (const void *)(uintptr_t)routine;
    if (!Launch(thread, RunSystem, context)) {
        ObjectDrop(thread);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    *out = thread;
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI PsTerminateSystemThread(NTSTATUS ExitStatus) {
    SHIM_THREAD *self = ThreadSelf();

    UNREFERENCED_PARAMETER(ExitStatus);
    ShimYield("PsTerminateSystemThread");
    if (!self->Counted) {
        return STATUS_INVALID_PARAMETER;
    }
    /* The end of a thread is the end of its one callout. */
    if (self->Irql != PASSIVE_LEVEL) {
        ShimAbort("irql", "PsTerminateSystemThread at IRQL %u", self->Irql);
    }
    if (self->Callout == NULL || self->Callout->Outer != NULL) {
        ShimAbort("callout", "PsTerminateSystemThread from inside %s", self->Callout != NULL ? self->Callout->What : "?");
    }
    ShimCalloutEnd(self->Callout);
    longjmp(self->End, 1);
}

HANDLE NTAPI PsGetCurrentThreadId(VOID) {
    return (HANDLE)(ULONG_PTR)ThreadSelf()->Id;
}

HANDLE NTAPI PsGetCurrentProcessId(VOID) {
    return (HANDLE)(ULONG_PTR)ThreadSelf()->Process->Id;
}

PETHREAD NTAPI KeGetCurrentThread(VOID) {
    return ThreadSelf();
}

PEPROCESS NTAPI IoGetCurrentProcess(VOID) {
    return ThreadSelf()->Process;
}

HANDLE NTAPI PsGetProcessId(PEPROCESS Process) {
    return (HANDLE)(ULONG_PTR)Process->Id;
}

HANDLE NTAPI PsGetThreadId(PETHREAD Thread) {
    return (HANDLE)(ULONG_PTR)Thread->Id;
}

PEPROCESS ShimProcessCreate(const char *name, ULONG id, BOOLEAN administrator) {
    PEPROCESS process = ObjectCreate(OBJECT_KIND_PROCESS, sizeof(*process), NULL);

    snprintf(process->Name, sizeof(process->Name), "%s", name);
    process->Id = id;
    process->Administrator = administrator;
    process->Token = process;
    return process;
}

void ShimProcessRelease(PEPROCESS process) {
    ObjectDrop(process);
}

void ShimImpersonate(PEPROCESS process) {
    ThreadSelf()->Impersonates = process != NULL ? process->Token : NULL;
}

VOID NTAPI SeCaptureSubjectContext(PSECURITY_SUBJECT_CONTEXT SubjectContext) {
    ShimRequireIrql("SeCaptureSubjectContext", PASSIVE_LEVEL);
    memset(SubjectContext, 0, sizeof(*SubjectContext));
    SubjectContext->PrimaryToken = ThreadSelf()->Process->Token;
    SubjectContext->ClientToken = ThreadSelf()->Impersonates;
}

VOID NTAPI SeReleaseSubjectContext(PSECURITY_SUBJECT_CONTEXT SubjectContext) {
    ShimRequireIrql("SeReleaseSubjectContext", PASSIVE_LEVEL);
    memset(SubjectContext, 0xCD, sizeof(*SubjectContext));
}

BOOLEAN NTAPI SeTokenIsAdmin(PACCESS_TOKEN Token) {
    ShimRequireIrql("SeTokenIsAdmin", PASSIVE_LEVEL);
    ShimRequireMemory("a token", Token, sizeof(struct _EPROCESS));
    return ((PEPROCESS)Token)->Administrator;
}
