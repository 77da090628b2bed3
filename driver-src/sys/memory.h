/*
 * memory.h: all pool use of the driver. Nonpaged, not executable, zeroed, counted, one tag.
 */
#ifndef WSKLAB_MEMORY_H
#define WSKLAB_MEMORY_H

#include "ledger.h"

/* Zeroed memory, counted for the client too when a ledger is given; NULL when there is none, or when the client wants it
 * to fail. The ledger must outlive it. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ PVOID MemoryAllocate(LEDGER *Ledger, SIZE_T Size);
/* NULL is allowed. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID MemoryFree(PVOID Memory);

/* Whether all bytes have this value. */
BOOLEAN MemoryIsAll(const VOID *Memory, SIZE_T Size, UCHAR Value);

#endif
