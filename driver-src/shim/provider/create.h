/*
 * create.h: making a socket, for WskSocket and WskSocketConnect.
 */
#ifndef WSKLAB_PROVIDER_CREATE_H
#define WSKLAB_PROVIDER_CREATE_H

#include "socket.h"

/* With the lock: a socket of this model (its Fd is opened here), if there is such a transport and category. */
NTSTATUS WskpCreate(WSKP_SOCKET_MODEL *model, WSKP_SOCKET **socket);
/* A creation without an IRP (SOCK-014), or without a client (SOCK-015; the IRP is completed, IRP-003). */
NTSTATUS WskpCreateRefuse(WSKP_CLIENT *client, PIRP irp);

#endif
