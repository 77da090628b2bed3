/*
 * teardown.h: how a closing client comes to its end, step by step, without waiting.
 */
#ifndef WSKLAB_TEARDOWN_H
#define WSKLAB_TEARDOWN_H

#include "client.h"

/* One step; lowers *NextNs to when the next one should come. Only from the keeper. */
_IRQL_requires_max_(PASSIVE_LEVEL) VOID TeardownStep(CLIENT *Client, ULONG64 NowNs, ULONG64 *NextNs);

#endif
