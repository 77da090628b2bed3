/*
 * listener.h: the listening side of a socket: connections that have arrived, and who is to get them.
 */
#ifndef WSKLAB_PROVIDER_LISTENER_H
#define WSKLAB_PROVIDER_LISTENER_H

#include "provider.h"

/* A connection that the host has accepted and nobody has been given yet. */
typedef enum WSKP_ARRIVAL_STATE {
    WSKP_ARRIVAL_INSPECT,    /* the inspect callback has to be called */
    WSKP_ARRIVAL_INSPECTING, /* ... is running */
    WSKP_ARRIVAL_PENDED,     /* WskInspectComplete will decide */
    WSKP_ARRIVAL_ABORTED,    /* the abort callback has to be called */
    WSKP_ARRIVAL_READY       /* to be delivered */
} WSKP_ARRIVAL_STATE;

typedef struct WSKP_ARRIVAL {
    LIST_ENTRY Link;
    WSKP_ARRIVAL_STATE State;
    int Fd;
    HOST_ADDRESS Local;
    HOST_ADDRESS Remote;
    BOOLEAN Inspected;
    BOOLEAN Decided;  /* WskInspectComplete came while the callback still ran */
    BOOLEAN Accepted; /* ... and said so */
    WSK_INSPECT_ID Id;
} WSKP_ARRIVAL;

typedef struct WSKP_LISTENER {
    LIST_ENTRY Accepts;  /* requests, oldest first */
    LIST_ENTRY Arrivals; /* oldest first */
    ULONG ArrivalCount;
} WSKP_LISTENER;

void WskpListenerInitialize(WSKP_LISTENER *listener);
/* With the lock. */
void WskpListenerProgress(WSKP_SOCKET *socket);
void WskpListenerClose(WSKP_SOCKET *socket);
BOOLEAN WskpListenerAcceptDue(WSKP_SOCKET *socket);
BOOLEAN WskpListenerInspectDue(WSKP_SOCKET *socket);
BOOLEAN WskpListenerAbortDue(WSKP_SOCKET *socket);
/* With the lock, which they release while the client is called. */
KIRQL WskpListenerAcceptCall(WSKP_SOCKET *socket, KIRQL level, KIRQL irql);
KIRQL WskpListenerInspectCall(WSKP_SOCKET *socket, KIRQL level, KIRQL irql);
KIRQL WskpListenerAbortCall(WSKP_SOCKET *socket, KIRQL level, KIRQL irql);
/* The host's listen, for WskBind and WskListen. With the lock. */
NTSTATUS WskpListenerStart(WSKP_SOCKET *socket);

#endif
