/*
 * socket.h: a client's table of sockets. Numbers outside, WSK_SOCKET pointers inside.
 *
 * State and counts belong to the client's lock. `Running` keeps close from overlapping with a call on the same
 * socket (appendix B, trap 14): a close that comes while a call runs is started by whoever leaves last.
 */
#ifndef WSKLAB_SOCKET_H
#define WSKLAB_SOCKET_H

#include "callbacks.h"
#include "client.h"

struct OPERATION;

/* The published sample's per-socket structure: the page's own member, then ours. */
typedef struct _WSK_APP_SOCKET_CONTEXT {
    PWSK_SOCKET Socket;
    struct OPERATION *Operation;
} WSK_APP_SOCKET_CONTEXT, *PWSK_APP_SOCKET_CONTEXT;

typedef struct SOCKET {
    LIST_ENTRY Link;
    CLIENT *Client;
    volatile LONG References;
    ULONG Number;
    ULONG State; /* WSKLAB_SOCKET_* */
    ULONG Category;
    USHORT Family;
    USHORT Type;
    ULONG Protocol;
    ULONG64 Context;
    BOOLEAN ContextIsOurs; /* the sample's pointer: never shown */
    ULONG Asked;           /* WSK_EVENT_* that somebody wanted on it; on a listener sockets inherit them, and that stays (WSK-EVT-012) */
    ULONG Unserved;        /* those that a socket accepted by its callback may lack a callback for: never to be wanted */
    PWSK_SOCKET Wsk;
    const VOID *Dispatch; /* the provider's table as it was at creation */
    LONG Running;
    LONG Outstanding;
    struct OPERATION *PendingClose;
    struct OPERATION *Kept; /* whose memory WSK may use until the socket is closed */
    CALLBACK_TABLES Tables;
    WSK_APP_SOCKET_CONTEXT Sample;
} SOCKET;

/* A number for a socket that is about to be created, with what `Traits` says of it; referenced for the caller. From a
 * callback of `Listener`: only while that one and the client are open. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS SocketReserve(CLIENT *Client, const SOCKET *Traits,
                                                                                const SOCKET *Listener, SOCKET **Out);
/* An accepted socket is of its listener's kind, which is known only when the accept is called. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID SocketInherit(SOCKET *Accepted, const SOCKET *Listener);
/* Have WSK call back with a pointer of ours (the published sample's): it is never shown. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID SocketSetOwnContext(SOCKET *Socket, PVOID Context);
/* The socket of these categories with this context, referenced; NULL when there is none. WSKLAB_NOTE_AMBIGUOUS: several. */
_IRQL_requires_max_(DISPATCH_LEVEL) SOCKET *SocketByContext(CLIENT *Client, ULONG64 Context, ULONG Categories, uint32_t *Notes);
/* Events are about to be enabled. FALSE, unless `Anyway`: sockets were accepted from it by callback that may lack one of these
 * callbacks, and when WSK hands the listener's events on to such a socket nobody can see from here. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ BOOLEAN SocketAskEvents(SOCKET *Socket, ULONG Mask, BOOLEAN Anyway);
/* The client dispatch of a socket that is being accepted by callback: the one that was asked for, unless events that come
 * without being asked for, by the listener's or the client's doing, would lack their callbacks: then the full one. */
_IRQL_requires_max_(DISPATCH_LEVEL) const VOID *SocketInheritedDispatch(SOCKET *Accepted, SOCKET *Listener, UCHAR Dispatch,
                                                                        ULONG Mask);
_IRQL_requires_max_(DISPATCH_LEVEL) VOID SocketDereference(SOCKET *Socket);
/* Creation succeeded; returns WSKLAB_RECORD_SOCKET_* facts. */
_IRQL_requires_max_(DISPATCH_LEVEL) ULONG SocketPublish(SOCKET *Socket, PWSK_SOCKET Wsk);
/* Creation failed, the socket was closed, or it is given up: the number is free again. Once only. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID SocketRemove(SOCKET *Socket);

/* An open socket by number, referenced, with one more call running on it. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS SocketEnter(CLIENT *Client, ULONG Number, SOCKET **Out);
/* The call has returned; a close that waited for it starts here. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID SocketLeave(SOCKET *Socket);
/* Mark as closing for this operation. STATUS_PENDING: calls are running, SocketLeave will start the operation.
 * STATUS_DEVICE_BUSY: indications of it are kept, and WSK wants them back first (appendix B, trap 13). */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS SocketBeginClose(CLIENT *Client, ULONG Number,
                                                                                   struct OPERATION *Operation, SOCKET **Out);
/* A close was not called after all: the socket is open again. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID SocketReopen(SOCKET *Socket);
/* Keep an operation, referenced, until the socket is closed: nobody will see its completion (forward.h). */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID SocketKeep(SOCKET *Socket, struct OPERATION *Operation);
/* The close was completed: WSK has nothing of the socket any more. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID SocketReleaseKept(SOCKET *Socket);
/* Count an operation that WSK has (+1) or has given back (-1). */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID SocketCountOutstanding(SOCKET *Socket, LONG Delta);
/* Whether WSK has requests on this socket. */
_IRQL_requires_max_(DISPATCH_LEVEL) BOOLEAN SocketHasOutstanding(CLIENT *Client, ULONG Number);
/* The newest open socket, for the teardown: its number, or 0; `Total` counts all that are in the table. */
_IRQL_requires_max_(DISPATCH_LEVEL) ULONG SocketFirstOpen(CLIENT *Client, ULONG *Total);
_IRQL_requires_max_(DISPATCH_LEVEL) ULONG SocketList(CLIENT *Client, WSKLAB_SOCKET_ENTRY *Out, ULONG Room, ULONG *Total);

#endif
