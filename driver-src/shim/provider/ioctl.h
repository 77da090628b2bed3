/*
 * ioctl.h: the I/O controls of a socket.
 */
#ifndef WSKLAB_PROVIDER_IOCTL_H
#define WSKLAB_PROVIDER_IOCTL_H

#include "option.h"
#include "socket.h"

/*
 * With the lock. `request` is NULL where the caller gave no IRP; STATUS_PENDING: it was queued. What was written goes to
 * *written; STATUS_BUFFER_OVERFLOW: what would be needed.
 */
NTSTATUS WskpSocketIoctl(WSKP_SOCKET *socket, const WSKP_CONTROL *control, WSKP_REQUEST *request, SIZE_T *written);
/* Those that need PASSIVE_LEVEL (A.7). */
BOOLEAN WskpIoctlIsPassive(ULONG code);
/* With the lock: the host's addresses of these families have changed (OPT-008). */
void WskpAddressesChanged(BOOLEAN family4, BOOLEAN family6);

#endif
