/*
 * keeper.h: the driver's one housekeeping thread: timers, grace times, closing clients, dropping file references.
 *
 * A thread and not KTIMER + DPC, because Wine's timers run no DPC; the same code runs everywhere. It never calls a WSK
 * function that may block.
 */
#ifndef WSKLAB_KEEPER_H
#define WSKLAB_KEEPER_H

#include "platform.h"

_IRQL_requires_max_(PASSIVE_LEVEL) _Must_inspect_result_ NTSTATUS KeeperStart(VOID);
/* Have it look at everything soon. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID KeeperWake(VOID);
/* Unload: returns when every client is gone, logging once a second who is not. */
_IRQL_requires_max_(PASSIVE_LEVEL) VOID KeeperWaitForClients(VOID);
_IRQL_requires_max_(PASSIVE_LEVEL) VOID KeeperStop(VOID);

#endif
