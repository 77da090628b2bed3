/*
 * quiesce.h: close everything of everyone, and who is still there.
 */
#ifndef WSKLAB_QUIESCE_H
#define WSKLAB_QUIESCE_H

#include "client.h"

/* Begin to close every client; returns at once. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID QuiesceBegin(VOID);
/* Every client is closed. Handles may still be open. */
_IRQL_requires_max_(DISPATCH_LEVEL) BOOLEAN QuiesceIsDone(VOID);
/* WSKLAB_QUIESCE_RESULT and as many owners as fit; returns the bytes written. */
_IRQL_requires_max_(PASSIVE_LEVEL) ULONG QuiesceWrite(CLIENT *Caller, PUCHAR Out, ULONG Room, BOOLEAN TimedOut);
/* One line per client that is still there. */
_IRQL_requires_max_(PASSIVE_LEVEL) VOID QuiesceLogOwners(VOID);

#endif
