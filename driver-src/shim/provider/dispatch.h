/*
 * dispatch.h: the tables of functions that WSK hands out.
 */
#ifndef WSKLAB_PROVIDER_DISPATCH_H
#define WSKLAB_PROVIDER_DISPATCH_H

#include "provider.h"

void WskpDispatchStart(void);
void WskpDispatchStop(void);
/* Of exactly the size that this Windows has: reading a member that it lacks is reading beyond the table. */
const VOID *WskpDispatchOf(ULONG category);
/* Of a socket that has been closed: every function names the mistake. */
const VOID *WskpDispatchClosed(void);
void WskpDispatchProvider(WSK_PROVIDER_DISPATCH *dispatch);
void WskpDispatchProviderReleased(WSK_PROVIDER_DISPATCH *dispatch);

#endif
