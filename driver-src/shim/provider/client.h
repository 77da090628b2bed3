/*
 * client.h: one attachment of a client to WSK, made by WskRegister or through NMR: what PWSK_CLIENT points to.
 */
#ifndef WSKLAB_PROVIDER_CLIENT_H
#define WSKLAB_PROVIDER_CLIENT_H

#include "lane.h"

struct WSKP_CLIENT {
    WSKP_OBJECT Object;
    LIST_ENTRY Link; /* among all clients */
    const WSK_CLIENT_DISPATCH *ClientDispatch;
    PVOID ClientContext;
    BOOLEAN Deregistering;
    LONG Captures;
    LONG Callers;  /* inside functions of the provider dispatch */
    LONG Requests; /* IRPs that have not been completed */
    LONG Sockets;  /* that have not been closed */
    LIST_ENTRY Waiters; /* threads that want to know when one of the above changes, or the provider becomes ready */
    /* This client's own copy of the provider dispatch: unreadable while nothing is captured (DET-007). */
    WSK_PROVIDER_DISPATCH *Dispatch;
    ULONG StaticEvents; /* EVT-013 */
    BOOLEAN HadSocket;
    WSKP_LANE Lane;              /* completions of requests to the client */
    LIST_ENTRY TransportChanges; /* requests */
    LIST_ENTRY Descriptors;      /* cached for this client */
    LIST_ENTRY AddressLists;     /* results of WskGetAddressInfo */
};

/* ReservedRegistrationState of a block: what it is. Any other value: never registered. */
#define WSKP_BLOCK_REGISTERED 0x57534B5265676973ull
#define WSKP_BLOCK_DEREGISTERED 0x57534B4465726567ull

/* A thread that waits for changes; on its stack. All with the lock, which Wait gives up while it sleeps. */
typedef struct WSKP_WAITER {
    LIST_ENTRY Link;
    KEVENT Event;
} WSKP_WAITER;
void WskpWaiterBegin(WSKP_CLIENT *client, WSKP_WAITER *waiter);
void WskpWaiterEnd(WSKP_WAITER *waiter);
/* Until something has changed since the last Wait (or Begin), or the time is over. */
KIRQL WskpWaiterWait(WSKP_WAITER *waiter, PLARGE_INTEGER timeout, KIRQL irql);

/* NULL when there is no memory. */
WSKP_CLIENT *WskpClientCreate(const WSK_CLIENT_DISPATCH *dispatch, PVOID context);
/*
 * Waits until nothing of the client is left (DET-001 to DET-004); then it is gone, and the block (NULL: none) is marked
 * as deregistered in the same moment. PASSIVE_LEVEL.
 */
void WskpClientDestroy(WSKP_CLIENT *client, PWSK_REGISTRATION block);
/* The version that the client asks for is one that this provider has. */
BOOLEAN WskpClientVersionSupported(const WSKP_CLIENT *client);
#define WSKP_LOWEST_VERSION MAKE_WSK_VERSION(1, 0)
#define WSKP_HIGHEST_VERSION MAKE_WSK_VERSION(1, 0)

/* With the lock: hand the NPI out, take it back. */
void WskpClientCapture(WSKP_CLIENT *client, WSK_PROVIDER_NPI *npi);
void WskpClientRelease(WSKP_CLIENT *client);

/*
 * Around every function of the provider dispatch. Begin checks the pointer and that the NPI is captured; NULL: the
 * pointer was NULL (SOCK-015). End may be the last use.
 */
WSKP_CLIENT *WskpClientEnter(const char *function, PWSK_CLIENT client, KIRQL maximum);
void WskpClientLeave(WSKP_CLIENT *client);

/* With the lock: wakes those who wait. */
void WskpClientChanged(WSKP_CLIENT *client);
/* With the lock. */
void WskpClientRequestBegan(WSKP_CLIENT *client);
void WskpClientRequestEnded(WSKP_CLIENT *client);
void WskpClientSocketOpened(WSKP_CLIENT *client);
void WskpClientSocketClosed(WSKP_CLIENT *client);
WSKP_LANE *WskpClientLane(WSKP_CLIENT *client);
/* Wakes those who wait in WskCaptureProviderNPI. */
void WskpClientsProviderReady(void);
/* For ProviderStop: aborts when a client is left. */
void WskpClientsRequireNone(void);
/* With the lock: every client, for what concerns all. */
extern LIST_ENTRY g_WskpClients;

#endif
