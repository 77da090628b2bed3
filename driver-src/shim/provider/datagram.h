/*
 * datagram.h: a datagram socket's queues and fixed addresses.
 */
#ifndef WSKLAB_PROVIDER_DATAGRAM_H
#define WSKLAB_PROVIDER_DATAGRAM_H

#include "provider.h"

typedef struct WSKP_DATAGRAM_STATE {
    LIST_ENTRY Sends;
    LIST_ENTRY Receives;
    LIST_ENTRY Arrived;  /* read from the host, refused by the callback: first for whoever asks next */
    LIST_ENTRY Retained; /* indications that the client keeps */
    BOOLEAN Indicating;
    BOOLEAN ReleasedEarly; /* some of it was given back while the callback ran */
    BOOLEAN HasRemote; /* fixed remote address: default destination and filter (DGRAM-004) */
    HOST_ADDRESS Remote;
    BOOLEAN HasSendTo; /* default destination only (DGRAM-006) */
    HOST_ADDRESS SendTo;
} WSKP_DATAGRAM_STATE;

void WskpDatagramInitialize(WSKP_DATAGRAM_STATE *datagram);
/* With the lock. */
void WskpDatagramProgress(WSKP_SOCKET *socket);
void WskpDatagramSendProgress(WSKP_SOCKET *socket);
void WskpDatagramReceiveProgress(WSKP_SOCKET *socket);
void WskpDatagramClose(WSKP_SOCKET *socket);
BOOLEAN WskpDatagramReceiveDue(WSKP_SOCKET *socket);
KIRQL WskpDatagramReceiveCall(WSKP_SOCKET *socket, KIRQL level, KIRQL irql);

#endif
