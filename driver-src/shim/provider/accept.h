/*
 * accept.h: connections that become sockets of the client, and the decisions about them.
 */
#ifndef WSKLAB_PROVIDER_ACCEPT_H
#define WSKLAB_PROVIDER_ACCEPT_H

#include "request.h"
#include "socket.h"

/* All with the lock. The list of arrivals is listener.c's, what becomes of them is accept.c's and inspect.c's. */
void WskpArrivalRemove(WSKP_SOCKET *socket, WSKP_ARRIVAL *arrival);
void WskpArrivalDestroy(WSKP_ARRIVAL *arrival); /* and the connection with it */
WSKP_ARRIVAL *WskpArrivalReady(WSKP_SOCKET *socket);
WSKP_ARRIVAL *WskpArrivalToInspect(WSKP_SOCKET *socket);
WSKP_ARRIVAL *WskpArrivalAborted(WSKP_SOCKET *socket);
WSKP_ARRIVAL *WskpArrivalById(WSKP_SOCKET *socket, const WSK_INSPECT_ID *id);
BOOLEAN WskpArrivalIsDead(const WSKP_ARRIVAL *arrival);
/* Completes a claimed WskAccept with it. */
void WskpAcceptDeliver(WSKP_SOCKET *socket, WSKP_ARRIVAL *arrival, WSKP_REQUEST *request);

#endif
