/*
 * threads.h: system threads for calls that may block (WskDeregister, a capture with a timeout), and nothing else.
 */
#ifndef WSKLAB_THREADS_H
#define WSKLAB_THREADS_H

#include "ledger.h"

typedef VOID (*THREAD_ROUTINE)(PVOID Context);

VOID ThreadsInitialize(VOID);
/* On behalf of the client whose ledger it is. */
_IRQL_requires_max_(PASSIVE_LEVEL) _Must_inspect_result_ NTSTATUS ThreadStart(LEDGER *Ledger, THREAD_ROUTINE Routine, PVOID Context);
/* Close the handles of threads that have ended. */
_IRQL_requires_max_(PASSIVE_LEVEL) VOID ThreadsReap(VOID);
/* Wait until every thread has ended: their routines must be done or about to be. Only from Unload. */
_IRQL_requires_max_(PASSIVE_LEVEL) VOID ThreadsJoin(VOID);

#endif
