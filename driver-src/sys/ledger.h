/*
 * ledger.h: the counts that must add up, per client and for the whole driver.
 *
 * One lock guards all ledgers, so that a reader never sees half of a step:
 * issued = completed + outstanding + lost holds in every copy that LedgerRead gives.
 */
#ifndef WSKLAB_LEDGER_H
#define WSKLAB_LEDGER_H

#include "faults.h"

/* What a client's allocations are counted in, and which of them shall fail. */
typedef struct LEDGER {
    WSKLAB_LEDGER Counts;
    FAULTS Faults;
} LEDGER;

/* A count is named by its member; all members are ULONG64. */
#define LEDGER_COUNT(member) ((ULONG)(offsetof(WSKLAB_LEDGER, member) / sizeof(ULONG64)))

VOID LedgerInitialize(VOID);
/* Add to one count of the client (may be NULL) and of the driver. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID LedgerAdd(LEDGER *Client, ULONG Count, LONG64 Delta);
/* Two counts in one step. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID LedgerAddTwo(LEDGER *Client, ULONG First, LONG64 FirstDelta, ULONG Second,
                                                      LONG64 SecondDelta);
_IRQL_requires_max_(DISPATCH_LEVEL) VOID LedgerRead(const LEDGER *Client, WSKLAB_LEDGERS *Out);

#endif
