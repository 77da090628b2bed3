/*
 * shim.h: what the WSK provider and the harness may ask of the kernel shim, beside the kernel's own functions.
 *
 * The shim is a kernel in a process. Every thread that calls a kernel function has a kernel identity (an IRQL, a process,
 * the locks that it holds): threads are made by ShimThreadStart or PsCreateSystemThread, or adopted by ShimThreadAdopt.
 *
 * Two ways to run, chosen before anything starts:
 *  - plain: threads are threads, time is time;
 *  - deterministic: one thread runs at a time, and which one is drawn from a seed at every kernel call; time is virtual
 *    and jumps when nothing can run. The seed is printed with every abort.
 *
 * Rules for code that runs in the shim (provider and harness included):
 *  - Guard state with KSPIN_LOCK through KeAcquireSpinLock, never with a mutex that is held across a kernel call: in the
 *    deterministic mode the holder may be switched away.
 *  - Wait for the outside world only with ShimWaitReadable, never in poll, read or sleep.
 *  - Call into the client (completion routines, event callbacks) with no lock held.
 */
#ifndef WSKLAB_SHIM_H
#define WSKLAB_SHIM_H

#include "ntddk.h"

/* ---- Breaking off -------------------------------------------------------------------------------------------------- */

/*
 * A broken rule: prints "wsklab-shim: RULE <rule>: <message>", the seed, who ran (thread, IRQL, locks, inside what) and a
 * symbolised stack on standard error, then aborts. `rule` is one word of docs/shim.md, such as irql or double-completion.
 */
_Noreturn void ShimAbort(const char *rule, const char *format, ...) __attribute__((format(printf, 2, 3)));
void ShimPrintStack(void);

/* ---- Checks -------------------------------------------------------------------------------------------------------- */

/* Aborts (rule irql) when the current IRQL is above `maximum`. */
void ShimRequireIrql(const char *function, KIRQL maximum);
/* At the start of every WSK function: IRQL at most `maximum`, no spin lock held (rule lock-held), and a scheduling point. */
void ShimEnterApi(const char *function, KIRQL maximum);
/* Memory that may be touched at DISPATCH_LEVEL: aborts (rule pageable) when it is paged pool. */
void ShimRequireNonPaged(const char *what, const void *memory, size_t size);
/* Memory that can be read or written at all; aborts (rule bad-pointer) where AddressSanitizer knows better. */
void ShimRequireMemory(const char *what, const void *memory, size_t size);

/*
 * Around every call out of the system into a driver: no spin lock is held before (rule lock-held); afterwards the IRQL is
 * what it was (rule irql-not-restored) and no lock is held (rule lock-leaked). Begin raises to `irql`, End lowers again.
 * Nothing may wait in between (rule wait-in-callout), at any IRQL, unless `mayWait`.
 */
typedef struct SHIM_CALLOUT {
    const char *What;
    KIRQL Previous;
    KIRQL Irql;
    BOOLEAN MayWait;
    struct SHIM_CALLOUT *Outer;
} SHIM_CALLOUT;
void ShimCalloutBegin(SHIM_CALLOUT *callout, const char *what, KIRQL irql, BOOLEAN mayWait);
void ShimCalloutEnd(SHIM_CALLOUT *callout);

/* ---- IRPs, for the provider ---------------------------------------------------------------------------------------- */

/*
 * A WSK function was handed this IRP: aborts unless it has a next stack location (rule irp-stack), is not already with
 * somebody (rule irp-in-use) and has a completion routine. Moves to that location, as IoCallDriver would; from now on the
 * provider owns the IRP until it completes it.
 */
void ShimIrpAccept(const char *function, PIRP irp);
/* The provider is done: sets IoStatus and completes, at the current IRQL. Never touch the IRP afterwards. */
void ShimIrpComplete(PIRP irp, NTSTATUS status, ULONG_PTR information);
/* As IoMarkIrpPending and IoSetCancelRoutine: use the kernel's own functions. */

/* ---- Threads ------------------------------------------------------------------------------------------------------- */

typedef struct _KTHREAD SHIM_THREAD;
typedef void (*SHIM_THREAD_ROUTINE)(void *context);

/* A thread of the system process; joined with ShimThreadJoin. NULL when there is no memory. */
SHIM_THREAD *ShimThreadStart(const char *name, SHIM_THREAD_ROUTINE routine, void *context);
/* The same, in a process (NULL: the system's). */
SHIM_THREAD *ShimThreadStartIn(PEPROCESS process, const char *name, SHIM_THREAD_ROUTINE routine, void *context);
/* Waits (as a kernel thread does) until it has ended, and frees it. */
void ShimThreadJoin(SHIM_THREAD *thread);
/* Gives the calling thread of the harness an identity in a process (NULL: the system's); until ShimThreadLeave. */
SHIM_THREAD *ShimThreadAdopt(const char *name, PEPROCESS process);
void ShimThreadLeave(void);
/* The calling thread goes on in another process (NULL: the system's). */
void ShimThreadMove(PEPROCESS process);
/* A mark of the calling thread, FALSE at its start, that the shim itself does not use. */
BOOLEAN *ShimThreadMark(void);

/* ---- Scheduling ---------------------------------------------------------------------------------------------------- */

BOOLEAN ShimIsDeterministic(void);
/*
 * A decision that belongs to the schedule: 0 to count - 1. Deterministic mode: drawn from the seed. Plain mode: 0, unless
 * the program was started with random choices. Use it for "complete inline or later" (0 is the ordinary way).
 */
ULONG ShimChoose(ULONG count, const char *what);
/* A scheduling point; every kernel function has one already. */
void ShimYield(const char *where);
/* Runs a routine later, once, at DISPATCH_LEVEL in an arbitrary thread, as a DPC would; cannot fail (no injection). */
void ShimDefer(SHIM_THREAD_ROUTINE routine, void *context);

/*
 * Waits until a descriptor is readable (an epoll descriptor is readable when it has events) or the time is over; TRUE when
 * it is readable. PASSIVE_LEVEL. timeoutMs < 0: no limit. Wake such a thread by writing to an eventfd that it waits for.
 */
BOOLEAN ShimWaitReadable(int descriptor, LONGLONG timeoutMs);

/* Nanoseconds of the shim's clock (virtual in the deterministic mode). */
ULONG64 ShimNow(void);

/* ---- Memory -------------------------------------------------------------------------------------------------------- */

/*
 * The provider's own memory comes from here, so that it is counted, its addresses are known to the output scanner and
 * its allocation can be made to fail in turn. Zeroed. `site` names it in the report of the failure sweep.
 */
void *ShimAllocate(const char *site, size_t size);
void ShimFree(void *memory);
/* TRUE when the sweep wants this step to fail; for what fails on Windows for lack of memory but allocates nothing here. */
BOOLEAN ShimShouldFail(const char *site);

/* ---- Facts --------------------------------------------------------------------------------------------------------- */

/* The build number that RtlGetVersion reports; dispatch tables have the members of that Windows. */
ULONG ShimOsBuild(void);
/* A setting of the program by name (environment WSKLAB_SHIM_<NAME>, or the command line); NULL when not set. */
const char *ShimSetting(const char *name);
/* The provider's address for the guest, as text: what WSK's wildcard and loopback stand for. NULL: the host's loopback. */
const char *ShimGuestAddress(void);

/* ---- What the provider gives the shim -------------------------------------------------------------------------------- */

/* Called when the program starts (threads may be started) and when it ends (everything closed and joined). */
void ProviderStart(void);
void ProviderStop(void);

#endif
