/*
 * internal.h: what the parts of the kernel shim know of each other.
 *
 * Locks inside the shim, outermost first: the scheduler's (SchedLock: threads, dispatcher objects, queues, objects), then
 * leaves that are never held across a call into another part: the tables of memory, IRPs and lock classes. No scheduling
 * point may be passed with any of them held.
 */
#ifndef WSKLAB_SHIM_INTERNAL_H
#define WSKLAB_SHIM_INTERNAL_H

#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include "harness.h"

#if defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#endif
#ifdef HAS_ASAN
#include <sanitizer/asan_interface.h>
#endif

#define NEVER UINT64_MAX
#define NANOSECONDS_PER_TICK 100ull /* of KeQueryPerformanceCounter and of all NT times */
#define MAX_HELD 16
#define FRAMES 8
/* Never in a process id, and told by it: what belongs to the system. */
#define SYSTEM_PROCESS_ID 4u

/* ---- options.c ----------------------------------------------------------------------------------------------------- */
extern SHIM_OPTIONS g_Options;

/* ---- abort.c --------------------------------------------------------------------------------------------------------- */
/* Up to `count` return addresses of the caller, innermost first, found by frame pointers; returns how many. */
ULONG StackCapture(void **frames, ULONG count);
void StackDescribe(char *text, size_t size, void *const *frames, ULONG count);
void Describe(char *text, size_t size, const void *address);

/* ---- Threads, thread.c -------------------------------------------------------------------------------------------- */
typedef enum THREAD_STATE { THREAD_READY, THREAD_WAITING, THREAD_ENDED } THREAD_STATE;

typedef struct HELD_LOCK {
    PKSPIN_LOCK Lock;
    KIRQL Previous; /* what the acquire returned */
    BOOLEAN AtDpc;  /* acquired without raising */
    ULONG Class;
    void *Frames[FRAMES];
} HELD_LOCK;

typedef struct WAIT_BLOCK {
    LIST_ENTRY Link; /* in the object's WaitListHead */
    SHIM_THREAD *Thread;
    DISPATCHER_HEADER *Object;
} WAIT_BLOCK;

struct _KTHREAD {
    DISPATCHER_HEADER Header; /* signalled when it has ended */
    LIST_ENTRY Link;
    ULONG Id;
    char Name[32];
    PEPROCESS Process;
    pthread_t Pthread;
    BOOLEAN Adopted;
    BOOLEAN Counted;          /* PsCreateSystemThread: a leak when it outlives its driver */
    const void *StartAddress; /* in the driver, when Counted */
    SHIM_THREAD_ROUTINE Routine;
    PVOID Context;
    jmp_buf End;
    uintptr_t StackLow;
    uintptr_t StackHigh;
    /* A fiber's: its mapping, where it stands while another runs, and what AddressSanitizer keeps for it. */
    void *Stack;
    void *StackPointer;
    void *FakeStack;
    BOOLEAN Marked;
    PACCESS_TOKEN Impersonates; /* NULL: itself */

    KIRQL Irql;
    BOOLEAN WaitsNext; /* KeSetEvent was told that a wait follows, and has kept the dispatcher for it */
    HELD_LOCK Held[MAX_HELD];
    ULONG HeldCount;
    SHIM_CALLOUT *Callout; /* innermost */
    LONG CriticalRegions;

    /* The scheduler's. */
    THREAD_STATE State;
    pthread_cond_t Wake;
    BOOLEAN Woken;
    ULONG64 Deadline;
    int Descriptor; /* waits for it to be readable; -1 */
    volatile KSPIN_LOCK *SpinsOn;
    ULONG Priority;

    /* The dispatcher's. */
    WAIT_BLOCK *Blocks;
    ULONG BlockCount;
    WAIT_TYPE WaitType;
    NTSTATUS WaitStatus;
};

struct _EPROCESS {
    ULONG Id;
    char Name[32];
    BOOLEAN Administrator;
    PACCESS_TOKEN Token; /* points to itself: opaque to drivers */
};

/* The caller's thread; aborts when it has no identity. */
SHIM_THREAD *ThreadSelf(void);
/* The same, or NULL. */
SHIM_THREAD *ThreadSelfOrNull(void);
PEPROCESS ThreadSystemProcess(void);
/* All threads, with the scheduler's lock held. */
extern LIST_ENTRY g_Threads;
/* Threads that drivers made and that have not ended, whose start address is in [low, high). */
ULONG ThreadsOf(const void *low, const void *high, char *text, size_t size);
/* A thread of the system at PASSIVE_LEVEL with an NT start routine. */
NTSTATUS ThreadCreateSystem(PKSTART_ROUTINE routine, PVOID context, SHIM_THREAD **thread);
void ThreadsInitialize(void);
/* The last reference to a thread is gone. */
void ThreadDestroyed(SHIM_THREAD *thread);
/* The life of a thread that the shim started, on its own stack, from its first turn to its end. */
void ThreadLive(SHIM_THREAD *self);
/* Who runs on the host's thread is another one from now on. */
void ThreadBecome(SHIM_THREAD *thread);

/* ---- fiber.c --------------------------------------------------------------------------------------------------------- */
/* Whether the threads of this run are fibers: of one thread of the host. */
BOOLEAN FibersUsed(void);
/* FALSE: no memory for a stack. */
BOOLEAN FiberCreate(SHIM_THREAD *thread);
/* With the scheduler's lock: returns when it is the caller's turn again. */
void FiberSwitch(SHIM_THREAD *from, SHIM_THREAD *to);
/* With the scheduler's lock, which `to` gets; does not return, and the thread's own reference goes. */
void FiberEnd(SHIM_THREAD *from, SHIM_THREAD *to);

/* ---- sched.c --------------------------------------------------------------------------------------------------------- */
void SchedInitialize(void);
/* Deterministic mode: let everybody else come to rest, and put the clock back to its beginning: what comes then depends on
 * the seed alone. */
void SchedSettle(void);
/* Another seed, and what follows from it. */
void SchedReseed(void);
void SchedLock(void);
void SchedUnlock(void);
/* With the lock: sleep until SchedWake (TRUE) or the deadline (FALSE), an absolute ShimNow. */
BOOLEAN SchedBlock(ULONG64 deadline);
/* With the lock. */
void SchedWake(SHIM_THREAD *thread);
/* With the lock: a new thread is there; it runs when it is its turn. */
void SchedAdd(SHIM_THREAD *thread);
/* First thing in a thread of its own: wait for its turn. */
void SchedBegin(SHIM_THREAD *thread);
/* With the lock, deterministic mode: whose turn it is. */
SHIM_THREAD *SchedCurrent(void);
/* With the lock, last thing: somebody else's turn. The lock is released. */
void SchedEnd(SHIM_THREAD *thread);
/* Deterministic mode: the lock is held by somebody else; others run until it is free. */
void SchedSpin(volatile KSPIN_LOCK *lock);
ULONG SchedRandom(ULONG count);
/* Deterministic mode: virtual time from now on after which something that should end has not (0: no limit). */
void SchedLimit(ULONG64 nanoseconds);
/* Absolute deadline of an NT timeout (negative: relative; NULL: never). */
ULONG64 SchedDeadline(const LARGE_INTEGER *timeout);

/* ---- irql.c, locks.c ---------------------------------------------------------------------------------------------- */
void IrqlSet(SHIM_THREAD *self, KIRQL irql);
/* A callout that begins with the cancel spin lock held and has to return at `irql` without it. */
void CalloutBeginLocked(SHIM_CALLOUT *callout, const char *what, KIRQL irql);
void LocksRequireNone(const char *what);
/* A line about what the thread is and holds. */
void ThreadDescribe(const SHIM_THREAD *thread, char *text, size_t size);
/* Adds the order "b is acquired with a held" to the graph; aborts on a cycle. */
void LockGraphAdd(const HELD_LOCK *held, ULONG count, ULONG class, void *const *frames);
ULONG LockClassOf(const void *initializer, const char *name);
const char *LockClassName(ULONG class);
/* Aborts when memory that is being freed has a held lock in it. */
void LocksRequireNoneIn(const void *memory, size_t size);

/* ---- dispatcher.c, timer.c, workitem.c ------------------------------------------------------------------------------ */
enum { OBJECT_NOTIFICATION_EVENT = 0, OBJECT_SYNCHRONIZATION_EVENT = 1, OBJECT_SEMAPHORE = 5, OBJECT_THREAD = 6,
       OBJECT_NOTIFICATION_TIMER = 8, OBJECT_SYNCHRONIZATION_TIMER = 9 };
void DispatcherInitializeHeader(DISPATCHER_HEADER *header, UCHAR type, UCHAR size, LONG state);
/* With the scheduler's lock: the object may satisfy waits now. */
void DispatcherSignal(DISPATCHER_HEADER *header);
/* Nobody may wait inside a callout that forbids it, nor above APC_LEVEL, nor with a lock. */
void DispatcherMayWait(const char *function);
NTSTATUS DispatcherWait(const char *function, DISPATCHER_HEADER *const *objects, ULONG count, WAIT_TYPE type, ULONG64 deadline);
void TimersInitialize(void);
void TimersStop(void);
/* With the scheduler's lock: the clock is put back by so much. */
void TimersPutBack(ULONG64 nanoseconds);
/* Aborts when memory that is being freed (or a driver that goes) has an active timer, a queued DPC or a waited-for event. */
void TimersRequireNoneIn(const void *memory, size_t size);
void WorkersInitialize(void);
void WorkersStop(void);

/* ---- memory.c, inject.c ----------------------------------------------------------------------------------------------- */
typedef enum MEMORY_KIND {
    MEMORY_POOL,
    MEMORY_PAGED_POOL,
    MEMORY_IRP,
    MEMORY_MDL,
    MEMORY_WORK_ITEM,
    MEMORY_COMPLETION_CONTEXT,
    MEMORY_OBJECT,
    MEMORY_SYSTEM_BUFFER,
    MEMORY_PROVIDER,
    MEMORY_KINDS
} MEMORY_KIND;

/* NULL when the sweep wants it to fail. Filled with 0xCD. */
void *MemoryGet(MEMORY_KIND kind, size_t size, ULONG tag, const char *site, const void *caller);
/* Without a failure to be expected: the shim's own objects. Zeroed. */
void *MemoryGetSure(MEMORY_KIND kind, size_t size, const void *owner);
void MemoryPut(MEMORY_KIND kind, void *memory, ULONG tag, const char *function);
/* From now on nobody's. */
void MemoryDisown(const void *memory);
BOOLEAN MemoryIs(MEMORY_KIND kind, const void *memory);
/* The size of a live allocation that begins there; 0: none. */
size_t MemorySize(const void *memory);
/* Whether any of these bytes is paged pool. */
BOOLEAN MemoryIsPaged(const void *memory, size_t size);
/* Whether a number is an address inside something that the kernel has allocated, a kernel stack or a driver; with words. */
BOOLEAN MemoryIsKernelAddress(ULONG64 value, char *text, size_t size);
/* Everything that belongs to the address range of a driver (or to nobody: NULL, NULL): aborts with a list (rule leak-*). */
void MemoryRequireNoneOf(const void *low, const void *high, const char *who);
/* Live allocations of a kind, of everybody. */
ULONG MemoryCount(MEMORY_KIND kind);
void PagedInitialize(void);
/* Deterministic mode: paged pool cannot be touched from now on (TRUE), or can. */
void PagedForbid(BOOLEAN forbid);
void *PagedGet(size_t size);
void PagedPut(void *memory);

BOOLEAN InjectShouldFail(const char *what);
/* Where the last injected failure was; NULL: there was none. */
const char *InjectLastFailed(const char **what);

/* ---- irp.c, complete.c ------------------------------------------------------------------------------------------------- */
typedef enum IRP_KIND { IRP_ALLOCATED, IRP_CALLER_MEMORY, IRP_IO_MANAGER } IRP_KIND;
typedef enum IRP_STATE {
    IRP_IDLE,       /* its maker has it */
    IRP_SENT,       /* a driver or the provider below has it */
    IRP_COMPLETING, /* a completion routine has it */
    IRP_GONE        /* freed, or its memory was */
} IRP_STATE;

/* What the shim knows about an IRP; not in the IRP, which its owner may overwrite when it is done. */
typedef struct IRP_INFO {
    struct IRP_INFO *Next;
    LONG References;
    PIRP Irp;
    IRP_KIND Kind;
    IRP_STATE State;
    CCHAR StackCount;
    const void *Owner;
    void *Maker[FRAMES];
    void *Completer[FRAMES];
    ULONG Completions; /* calls of IoCompleteRequest */
    BOOLEAN InRoutine; /* a completion routine is running, or has just kept the IRP */
    /* For IRPs of the I/O manager. */
    BOOLEAN Returned;
    NTSTATUS ReturnedStatus;
    BOOLEAN Completed;
    BOOLEAN PendingReturned;
    NTSTATUS CompletedStatus;
    void (*Finish)(PIRP irp, void *context);
    void *Context;
} IRP_INFO;

/* The info of a live IRP, referenced; aborts (rule irp-unknown) otherwise. */
IRP_INFO *IrpInfo(const char *function, PIRP irp);
void IrpInfoRelease(IRP_INFO *info);
IRP_INFO *IrpRegister(PIRP irp, IRP_KIND kind, CCHAR stackCount, const void *owner);
void IrpSetState(IRP_INFO *info, IRP_STATE state);
IRP_STATE IrpState(IRP_INFO *info);
/* Which completion of the IRP this is. */
ULONG IrpBeginCompletion(IRP_INFO *info);
/*
 * A routine has kept the IRP in that completion: the driver has it again, unless it has freed it, sent it on, or had it
 * completed by another thread, which may be at it right now: looked at and changed in one step.
 */
void IrpKeep(IRP_INFO *info, ULONG completion);
/* Caller memory goes: aborts when an IRP in it is with somebody. */
void IrpForgetIn(const void *memory, size_t size);
void IrpRequireNoneOf(const void *low, const void *high, const char *who);
/* Move to the next location and call the driver of that device, with all checks; what it returned. */
NTSTATUS IrpDispatch(PDEVICE_OBJECT device, PIRP irp);
/* Both known, returned and completed: do they fit? */
void IrpCheckPending(const IRP_INFO *info);
void IrpInitializeLayout(PIRP irp, USHORT size, CCHAR stackCount);

/* ---- object.c, device.c, io.c, loader.c -------------------------------------------------------------------------------- */
typedef enum OBJECT_KIND { OBJECT_KIND_DEVICE, OBJECT_KIND_FILE, OBJECT_KIND_THREAD, OBJECT_KIND_PROCESS } OBJECT_KIND;
void *ObjectCreate(OBJECT_KIND kind, size_t size, const void *owner);
OBJECT_KIND ObjectKind(const char *function, const void *object);
/* Without checks, for the shim itself. */
void ObjectHold(void *object);
void ObjectDrop(void *object);
void ObjectDisown(void *object);
void HandlesRequireNoneOf(const void *low, const void *high, const char *who);
void DeviceDestroyed(PDEVICE_OBJECT device);
void DeviceSetDacl(PDEVICE_OBJECT device, PSECURITY_DESCRIPTOR descriptor);
/* Whether the access list of the device lets the process in. */
BOOLEAN DeviceAdmits(PDEVICE_OBJECT device, const struct _EPROCESS *process);
void FileDestroyed(PFILE_OBJECT file);
/* File objects on devices of a driver; and: they lead nowhere from now on. */
ULONG FilesOf(const DRIVER_OBJECT *driver);
void FilesOrphan(const DRIVER_OBJECT *driver);
/* The device that a path of user mode or a kernel name leads to, referenced; NULL. */
PDEVICE_OBJECT DeviceByPath(const char *path);
void DevicesRequireNoneOf(PDRIVER_OBJECT driver, const char *who);
/* Runs a routine at PASSIVE_LEVEL in another thread, as an APC to the caller's process would. */
void ApcQueue(void (*routine)(void *context), void *context);
void IoInitialize(void);
void IoStop(void);
/* The driver whose image an address is in: its range; FALSE for the program itself. */
BOOLEAN LoaderRange(const void *address, const void **low, const void **high, const char **name);
BOOLEAN LoaderIsDriverAddress(const void *address);

/* The output of a request: no kernel address in it, nothing of what memory held before. */
void ScanOutput(const char *what, const UCHAR *bytes, size_t size);

#define CALLER() __builtin_return_address(0)

#endif
