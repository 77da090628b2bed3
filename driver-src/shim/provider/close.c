/*
 * close.c: WskCloseSocket.
 */
#include "data.h"
#include "functions.h"
#include "poller.h"
#include "socket.h"

#include "host/host_socket.h"

/* With the lock: everything of the host goes; the address is free again (CLOSE-006). */
static void CloseHost(WSKP_SOCKET *socket) {
    int fd = socket->Fd;

    if (fd < 0) {
        return;
    }
    WskpPollerRemove(fd);
    if (WskpSocketListens(socket)) {
        if (MutantIs("WSK-CLOSE-007/waiting-live-on")) {
            socket->Fd = -1;
            return; /* the descriptor is lost, and with it the listener stays */
        }
        WskpListenerClose(socket); /* CLOSE-007: who waits unaccepted is cut off, who was accepted lives on */
        HostSocketClose(fd);
    } else if (WskpSocketConnects(socket)) {
        WskpStreamClose(socket);
    } else {
        WskpDatagramClose(socket);
        HostSocketClose(fd);
    }
    socket->Fd = -1;
}

/* With the lock: all requests of the socket end (CLOSE-002). */
static void EndRequests(WSKP_SOCKET *socket) {
    LIST_ENTRY *queues[] = {&socket->Listener.Accepts, &socket->Stream.Connects,    &socket->Stream.Sends,    &socket->Stream.Receives,
                            &socket->Datagram.Sends,   &socket->Datagram.Receives, &socket->AddressChanges, &socket->Disables};
    for (ULONG index = 0; index < RTL_NUMBER_OF(queues); index++) {
        WskpRequestsEnd(queues[index], STATUS_CANCELLED);
    }
    WskpRequestsReleaseHeld(socket);
}

void WskpSocketBeginClose(WSKP_SOCKET *socket, WSKP_REQUEST *request) {
    WskpDataRequireNoneRetained(socket);
    CloseHost(socket); /* before the state says closing: the role decides how */
    socket->State = WSKP_CLOSING;
    if (!MutantIs("WSK-CLOSE-002/requests-forgotten")) {
        EndRequests(socket);
    }
    WskpClaimRelease(socket);
    WskpOptionsRelease(socket);
    if (request != NULL) {
        socket->CloseRequest = request;
        WskpRequestQueue(request, &socket->Closes);
    } else {
        socket->ClosedByWsk = TRUE;
    }
    WskpReference(&socket->Object); /* the next may be the end of it */
    WskpSocketTryFinishClose(socket);
    WskpDereference(&socket->Object);
}

void WskpSocketTryFinishClose(WSKP_SOCKET *socket) {
    BOOLEAN callbacksDone = socket->Running == 0 || MutantIs("WSK-CLOSE-004/callbacks-not-awaited");
    BOOLEAN requestsDone = socket->Outstanding == 0 || MutantIs("WSK-CLOSE-002/not-awaited");

    if (socket->State != WSKP_CLOSING || !callbacksDone || !requestsDone) {
        return;
    }
    if (socket->CloseRequest != NULL) {
        WSKP_REQUEST *request = socket->CloseRequest;
        socket->CloseRequest = NULL;
        WskpRequestDone(request, MutantIs("WSK-CLOSE-001/fails") ? STATUS_UNSUCCESSFUL : STATUS_SUCCESS, 0); /* CLOSE-001 */
    } else if (socket->ClosedByWsk) {
        socket->ClosedByWsk = FALSE;
        WskpSocketFinished(socket);
    }
}

NTSTATUS WSKAPI WskpCloseSocket(PWSK_SOCKET Socket, PIRP Irp) {
    WSKP_CALL call;
    WSKP_SOCKET *socket = WskpSocketEnter(&call, "WskCloseSocket", Socket, ~0u, DISPATCH_LEVEL);
    WSKP_REQUEST *request;
    NTSTATUS status;
    KIRQL irql;

    if (Irp == NULL) {
        WskpSocketLeave(&call);
        return STATUS_INVALID_PARAMETER;
    }
    request = WskpRequestBegin(WSKP_CloseSocket, socket->Client, socket, Irp, &status);
    if (request != NULL) {
        irql = WskpLock();
        WskpSocketRequireNoOtherCall(socket, &call);
        if (WskpSocketIsClosing(socket)) {
            WskpClientError("WSK-CLOSE-001", "WskCloseSocket was called twice at the same time");
        }
        WskpSocketBeginClose(socket, request);
        WskpUnlock(irql);
        status = WskpRequestReturn(request);
    }
    WskpSocketLeave(&call);
    return status;
}
