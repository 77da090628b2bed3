/*
 * socket.h: a WSK socket: what PWSK_SOCKET points to, and what all categories have in common.
 *
 * What only one kind of socket needs is in its own structure: listener.h, stream.h, datagram.h.
 */
#ifndef WSKLAB_PROVIDER_SOCKET_H
#define WSKLAB_PROVIDER_SOCKET_H

#include "claim.h"
#include "client.h"
#include "datagram.h"
#include "listener.h"
#include "option.h"
#include "refusal.h"
#include "request.h"
#include "stream.h"

typedef enum WSKP_SOCKET_STATE {
    WSKP_FRESH,
    WSKP_BOUND,
    WSKP_LISTENING,
    WSKP_CONNECTING,
    WSKP_CONNECTED, /* and everything that can become of a connection; stream.h tells more */
    WSKP_CLOSING,   /* WskCloseSocket was called; nothing may be called any more */
    WSKP_CLOSED
} WSKP_SOCKET_STATE;

/* A call that has not returned, on the caller's stack. */
typedef struct WSKP_CALL {
    WSKP_SOCKET *Socket;
    PETHREAD Thread;
    const char *Function;
    struct WSKP_CALL *Next;
} WSKP_CALL;

/* Categories as a set, for functions: the flag, and a bit for basic, whose flag is 0. */
#define WSKP_LISTEN WSK_FLAG_LISTEN_SOCKET
#define WSKP_CONNECTION WSK_FLAG_CONNECTION_SOCKET
#define WSKP_DATAGRAM WSK_FLAG_DATAGRAM_SOCKET
#define WSKP_STREAM WSK_FLAG_STREAM_SOCKET
#define WSKP_BASIC 0x10u

struct WSKP_SOCKET {
    WSK_SOCKET Public;
    ULONG Magic;
    WSKP_OBJECT Object;
    WSKP_CLIENT *Client;
    LIST_ENTRY Link; /* among all sockets, or the closed ones that are kept to catch late calls */
    ULONG Category;
    HOST_FAMILY Family;
    USHORT Type;
    ULONG Protocol;
    PEPROCESS Owner; /* whose security context it has (BIND-008) */
    PVOID Context;
    const VOID *ClientDispatch;
    WSKP_SOCKET_STATE State;
    int Fd; /* -1: none any more */

    WSKP_CALL *Calls;
    LONG Outstanding; /* requests without the close */
    WSKP_REQUEST *CloseMemory; /* for the request of the close, which must not fail for lack of it (CLOSE-001) */
    WSKP_REQUEST *CloseRequest;
    BOOLEAN TryAgain;    /* the poller's mark */
    BOOLEAN ClosedByWsk; /* there is no request: the accept callback has refused it */
    BOOLEAN Accepting;   /* the accept callback has it and has not returned: no events, no dispatch yet */
    LIST_ENTRY Closes; /* at most one request */
    LIST_ENTRY AddressChanges;
    LIST_ENTRY Disables; /* WskControlSocket requests that wait for a callback to return */
    WSKP_LANE CompletionLane;
    WSKP_LANE CallbackLane;
    WSKP_WORK CallbackWork;

    ULONG Events;       /* enabled, or active from birth */
    ULONG StaticEvents; /* of those, by WSK_SET_STATIC_EVENT_CALLBACKS: cannot be switched (EVT-014) */
    ULONG Inherit;      /* for accepted sockets (EVT-011) */
    ULONG Running;      /* whose callback has not returned */
    ULONG Disabling;    /* goes off when it has */

    WSKP_OPTIONS Options;
    WSKP_CLAIM Claim;
    HOST_ADDRESS Local;  /* as bound; the host knows what it is now */
    HOST_ADDRESS Remote;
    WSK_INSPECT_ID InspectId; /* of a connection that was inspected (INS-009) */
    BOOLEAN Inspected;

    WSKP_LISTENER Listener;
    WSKP_CONNECTION_STATE Stream;
    WSKP_DATAGRAM_STATE Datagram;
};

/* What a socket is created from. */
struct WSKP_SOCKET_MODEL {
    WSKP_CLIENT *Client;
    ULONG Category;
    HOST_FAMILY Family;
    USHORT Type;
    ULONG Protocol;
    PEPROCESS Owner;
    PVOID Context;
    const VOID *ClientDispatch;
    PSECURITY_DESCRIPTOR Descriptor; /* cached, or NULL */
    int Fd;
};

/* With the lock. NULL when there is no memory; descriptor and file descriptor are then still the caller's. */
WSKP_SOCKET *WskpSocketCreate(const WSKP_SOCKET_MODEL *model);

/*
 * Around every function of a socket's dispatch table: the pointer is a socket of one of these categories that has not
 * been closed (rules CAT-*, CLOSE-*), and while the call runs nobody may close it (appendix B 14).
 */
WSKP_SOCKET *WskpSocketEnter(WSKP_CALL *call, const char *function, PWSK_SOCKET socket, ULONG categories, KIRQL maximum);
void WskpSocketLeave(WSKP_CALL *call);
/* With the lock: aborts when another thread is inside a call. */
void WskpSocketRequireNoOtherCall(WSKP_SOCKET *socket, const WSKP_CALL *own);

/* All with the lock. */
void WskpSocketRequestBegan(WSKP_SOCKET *socket, BOOLEAN close);
void WskpSocketRequestEnded(WSKP_SOCKET *socket, BOOLEAN close);
BOOLEAN WskpSocketIsClosing(const WSKP_SOCKET *socket);
/* Do what the host allows now, and see whether a callback is due. */
void WskpSocketProgress(WSKP_SOCKET *socket);
/* Begin to close: nothing new is started, everything queued ends. `request` is NULL for a socket that WSK closes itself. */
void WskpSocketBeginClose(WSKP_SOCKET *socket, WSKP_REQUEST *request);
/* When nothing is under way any more: closed. */
void WskpSocketTryFinishClose(WSKP_SOCKET *socket);
void WskpSocketFinished(WSKP_SOCKET *socket);

/* The role that a stream socket has committed itself to, or what the category says (CAT-010). */
BOOLEAN WskpSocketListens(const WSKP_SOCKET *socket);
BOOLEAN WskpSocketConnects(const WSKP_SOCKET *socket);
/* The client's table of that role; NULL when it gave none. */
const WSK_CLIENT_LISTEN_DISPATCH *WskpSocketListenDispatch(const WSKP_SOCKET *socket);
const WSK_CLIENT_CONNECTION_DISPATCH *WskpSocketConnectionDispatch(const WSKP_SOCKET *socket);

/* Aborts when a socket is left; frees the closed ones. */
void WskpSocketsStop(void);
/* With the lock: every open socket. */
extern LIST_ENTRY g_WskpSockets;

#endif
