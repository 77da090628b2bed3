/*
 * event.h: event callbacks: which are on, when one is due, and how they are called one after the other.
 */
#ifndef WSKLAB_PROVIDER_EVENT_H
#define WSKLAB_PROVIDER_EVENT_H

#include "request.h"
#include "socket.h"

#define WSKP_CONNECTION_EVENTS (WSK_EVENT_RECEIVE | WSK_EVENT_DISCONNECT | WSK_EVENT_SEND_BACKLOG)
/* Inspect and abort belong to the conditional accept mode and cannot be switched (INS-010); bits of our own. */
#define WSKP_EVENT_INSPECT 0x1u
#define WSKP_EVENT_ABORT 0x2u

extern const NPIID g_WskpInterfaceId; /* NPI_WSK_INTERFACE_ID */
/* By content: a copy of the identifier is the identifier. */
BOOLEAN WskpIsWskNpi(PNPIID id);

/* With the lock: a new socket gets what is statically enabled for its category (EVT-013). */
void WskpEventsInitialize(WSKP_SOCKET *socket);
/* With the lock: call what is due. */
void WskpEventsKick(WSKP_SOCKET *socket);
void WskpEventsRun(WSKP_WORK *work);

/*
 * SO_WSK_EVENT_CALLBACK; with the lock. STATUS_PENDING: the request waits for a running callback.
 * STATUS_EVENT_PENDING: the same without a request.
 */
NTSTATUS WskpEventsControl(WSKP_SOCKET *socket, const WSK_EVENT_CALLBACK_CONTROL *control, WSKP_REQUEST *request);

/* Whether the client has a callback for each of these events (CTX-005: without one Windows would call NULL). */
BOOLEAN WskpEventsHaveCallbacks(WSKP_SOCKET *socket, ULONG events);

/* Around the call of one callback; with the lock, which is released in between. */
typedef struct WSKP_CALLBACK {
    WSKP_SOCKET *Socket;
    ULONG Event;
    SHIM_CALLOUT Callout;
} WSKP_CALLBACK;
void WskpCallbackBegin(WSKP_CALLBACK *callback, WSKP_SOCKET *socket, ULONG event, const char *name, KIRQL level, KIRQL irql);
KIRQL WskpCallbackEnd(WSKP_CALLBACK *callback);
/* WSK_FLAG_AT_DISPATCH_LEVEL or 0 (EVT-015). */
ULONG WskpCallbackFlags(KIRQL level);

#endif
