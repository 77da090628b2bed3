/*
 * accept.c: WskAccept and the accept event.
 */
#include "accept.h"

#include "address.h"
#include "event.h"
#include "functions.h"
#include "poller.h"

/* With the lock: the connection as a socket of its own (CAT-009, CTX-008); NULL when there is no memory. */
static WSKP_SOCKET *Make(WSKP_SOCKET *listener, WSKP_ARRIVAL *arrival, PVOID context, const VOID *dispatch) {
    ULONG category = MutantIs("WSK-CAT-009/basic") ? WSK_FLAG_BASIC_SOCKET : WSKP_CONNECTION;
    WSKP_SOCKET_MODEL model = {.Client = listener->Client, .Category = category, .Family = listener->Family,
                               .Type = listener->Type, .Protocol = listener->Protocol, .Owner = listener->Owner,
                               .Context = context, .ClientDispatch = dispatch, .Fd = arrival->Fd};
    WSKP_SOCKET *socket = WskpSocketCreate(&model);

    if (socket == NULL) {
        return NULL;
    }
    WskpStreamConnected(socket);
    WskpOptionsInherit(socket, listener);
    socket->Inspected = arrival->Inspected;
    socket->InspectId = arrival->Id;
    WskpArrivalRemove(listener, arrival);
    ShimFree(arrival);
    return socket;
}

void WskpAcceptDeliver(WSKP_SOCKET *listener, WSKP_ARRIVAL *arrival, WSKP_REQUEST *request) {
    WSKP_SOCKET *socket = Make(listener, arrival, request->Accept.Context, request->Accept.Dispatch);

    if (socket == NULL) {
        WskpRequestDone(request, STATUS_INSUFFICIENT_RESOURCES, 0); /* the connection waits for the next */
        return;
    }
    if (request->Accept.Local != NULL) {
        WskpAddressWrite(request->Accept.Local, MutantIs("WSK-ACC-003/swapped") ? &socket->Remote : &socket->Local);
    }
    if (request->Accept.Remote != NULL) {
        WskpAddressWrite(request->Accept.Remote, MutantIs("WSK-ACC-003/swapped") ? &socket->Local : &socket->Remote);
    }
    if (MutantIs("WSK-EVT-011/inherited-by-function")) {
        socket->Events |= listener->Inherit;
    }
    if (MutantIs("WSK-ACC-009/events-on") && socket->ClientDispatch != NULL) {
        socket->Events |= WSKP_CONNECTION_EVENTS;
    }
    WskpRequestDone(request, STATUS_SUCCESS, (ULONG_PTR)&socket->Public); /* ACC-001 */
    WskpSocketProgress(socket);
}

NTSTATUS WSKAPI WskpAccept(PWSK_SOCKET ListenSocket, ULONG Flags, PVOID AcceptSocketContext,
                           const WSK_CLIENT_CONNECTION_DISPATCH *AcceptSocketDispatch, PSOCKADDR LocalAddress,
                           PSOCKADDR RemoteAddress, PIRP Irp) {
    WSKP_CALL call;
    WSKP_SOCKET *socket = WskpSocketEnter(&call, "WskAccept", ListenSocket, WSKP_LISTEN | WSKP_STREAM, DISPATCH_LEVEL);
    NTSTATUS status = STATUS_INVALID_PARAMETER;
    WSKP_REQUEST *request = Irp == NULL ? NULL : WskpRequestBegin(WSKP_Accept, socket->Client, socket, Irp, &status);
    KIRQL irql;

    if (request != NULL) {
        request->Accept.Context = AcceptSocketContext;
        request->Accept.Dispatch = AcceptSocketDispatch;
        request->Accept.Local = LocalAddress;
        request->Accept.Remote = RemoteAddress;
        irql = WskpLock();
        if (Flags != 0) {
            status = STATUS_INVALID_PARAMETER; /* ACC-004 */
        } else if (!WskpSocketListens(socket) || socket->State != WSKP_LISTENING) {
            status = STATUS_INVALID_DEVICE_STATE; /* ACC-004, CAT-010 */
        } else {
            status = STATUS_PENDING;
            WskpRequestQueue(request, &socket->Listener.Accepts);
            WskpSocketProgress(socket);
            if (MutantIs("WSK-ACC-001/does-not-wait") && request->Queued) {
                WskpRequestDone(request, STATUS_IO_TIMEOUT, 0);
            }
        }
        WskpUnlock(irql);
        status = status == STATUS_PENDING ? WskpRequestReturn(request) : WskpRequestFinish(request, status, 0);
    }
    WskpSocketLeave(&call);
    return status;
}

BOOLEAN WskpListenerAcceptDue(WSKP_SOCKET *socket) {
    return socket->State == WSKP_LISTENING && IsListEmpty(&socket->Listener.Accepts) && WskpArrivalReady(socket) != NULL;
}

/* With the lock: the client has taken the socket. */
static void Taken(WSKP_SOCKET *listener, WSKP_SOCKET *socket, PVOID context, const WSK_CLIENT_CONNECTION_DISPATCH *dispatch) {
    socket->Context = MutantIs("WSK-CTX-008/listener-context") ? listener->Context : context;
    socket->ClientDispatch = dispatch;
    socket->Accepting = FALSE;
    if (WskpSocketIsClosing(socket)) {
        return; /* closed in its own accept callback */
    }
    socket->Events |= listener->Inherit; /* EVT-011 */
    if (!WskpEventsHaveCallbacks(socket, socket->Events)) {
        WskpClientError("WSK-CTX-005", "events %#x are enabled on an accepted socket whose dispatch lacks a callback", socket->Events);
    }
    WskpSocketProgress(socket);
}

static void Refused(WSKP_SOCKET *socket) {
    if (WskpSocketIsClosing(socket)) {
        WskpClientError("WSK-ACC-007", "WskAcceptEvent closed the socket and then refused it: WSK closes it itself");
    }
    socket->Accepting = FALSE;
    if (!MutantIs("WSK-ACC-007/left-open")) {
        WskpSocketBeginClose(socket, NULL);
    }
}

KIRQL WskpListenerAcceptCall(WSKP_SOCKET *listener, KIRQL level, KIRQL irql) {
    const WSK_CLIENT_LISTEN_DISPATCH *dispatch = WskpSocketListenDispatch(listener);
    const WSK_CLIENT_CONNECTION_DISPATCH *acceptedDispatch = NULL;
    PVOID acceptedContext = NULL;
    PVOID context = MutantIs("WSK-CTX-001/context-lost") ? NULL : listener->Context;
    UCHAR local[WSKLAB_SOCKADDR_IN6_SIZE], remote[WSKLAB_SOCKADDR_IN6_SIZE];
    WSKP_SOCKET *socket;
    BOOLEAN empty = WskpKnobsEventsAreEmpty();
    WSKP_CALLBACK callback;
    NTSTATUS status;

    if (dispatch == NULL || dispatch->WskAcceptEvent == NULL) {
        WskpClientError("WSK-CTX-005", "the accept event is enabled and there is no callback for it");
    }
    socket = Make(listener, WskpArrivalReady(listener), NULL, NULL);
    if (socket == NULL) {
        WskpPollerRetry();
        return irql;
    }
    socket->Accepting = TRUE;
    WskpReference(&socket->Object);
    WskpAddressWrite((PSOCKADDR)local, &socket->Local);
    WskpAddressWrite((PSOCKADDR)remote, MutantIs("WSK-ACC-006/own-address") ? &socket->Local : &socket->Remote);
    WskpCallbackBegin(&callback, listener, WSK_EVENT_ACCEPT, "WskAcceptEvent", level, irql);
    status = dispatch->WskAcceptEvent(context, WskpCallbackFlags(level), empty ? NULL : (PSOCKADDR)local, empty ? NULL : (PSOCKADDR)remote,
                                      empty ? NULL : &socket->Public, &acceptedContext, &acceptedDispatch);
    irql = WskpCallbackEnd(&callback);
    switch (status) {
    case STATUS_SUCCESS:
        if (empty) {
            WskpClientError("WSK-ACC-006", "WskAcceptEvent takes a connection that was not there");
        }
        Taken(listener, socket, acceptedContext, acceptedDispatch);
        break;
    case STATUS_REQUEST_NOT_ACCEPTED:
        Refused(socket);
        break;
    default:
        WskpClientError("WSK-ACC-006", "WskAcceptEvent returned %#x", (unsigned)status);
    }
    WskpDereference(&socket->Object);
    WskpSocketProgress(listener);
    return irql;
}
