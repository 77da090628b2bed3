/*
 * poller.h: the thread that waits for the host's sockets.
 */
#ifndef WSKLAB_PROVIDER_POLLER_H
#define WSKLAB_PROVIDER_POLLER_H

#include "provider.h"

void WskpPollerStart(void);
void WskpPollerStop(void);
/* The time of something that is to be done has changed. */
void WskpPollerWake(void);
/* With the lock: `socket` makes progress when something happens to the descriptor. STATUS_INSUFFICIENT_RESOURCES. */
NTSTATUS WskpPollerAdd(int fd, WSKP_SOCKET *socket);
void WskpPollerRemove(int fd);
/* With the lock: try this socket again in a moment (memory was short). */
void WskpPollerRetry(void);

#endif
