/*
 * inspect.c: conditional accept: the inspect and abort events, WskInspectComplete.
 */
#include "accept.h"
#include "address.h"
#include "event.h"
#include "functions.h"
#include "poller.h"

BOOLEAN WskpListenerInspectDue(WSKP_SOCKET *socket) {
    return socket->State == WSKP_LISTENING && WskpArrivalToInspect(socket) != NULL;
}

BOOLEAN WskpListenerAbortDue(WSKP_SOCKET *socket) {
    return socket->State == WSKP_LISTENING && WskpArrivalAborted(socket) != NULL;
}

/* With the lock: accepted (INS-003) or rejected (INS-004, INS-005). */
static void Decide(WSKP_SOCKET *socket, WSKP_ARRIVAL *arrival, BOOLEAN accept) {
    if (!accept && !MutantIs("WSK-INS-004/accepted")) {
        WskpArrivalRemove(socket, arrival);
        WskpArrivalDestroy(arrival);
    } else if (WskpArrivalIsDead(arrival)) {
        arrival->State = WSKP_ARRIVAL_ABORTED; /* it went away before it was established */
    } else if (MutantIs("WSK-INS-003/not-delivered")) {
        WskpArrivalRemove(socket, arrival);
        WskpArrivalDestroy(arrival);
    } else {
        arrival->State = WSKP_ARRIVAL_READY;
    }
}

/* With the lock: what the callback answered. */
static void Answered(WSKP_SOCKET *socket, WSKP_ARRIVAL *arrival, WSK_INSPECT_ACTION action) {
    if (arrival->State != WSKP_ARRIVAL_INSPECTING) {
        WskpArrivalDestroy(arrival); /* the listener was closed meanwhile */
        return;
    }
    switch (action) {
    case WskInspectAccept:
    case WskInspectReject:
        Decide(socket, arrival, action == WskInspectAccept);
        break;
    case WskInspectPend:
        if (arrival->Decided) {
            Decide(socket, arrival, arrival->Accepted);
            break;
        }
        arrival->State = WSKP_ARRIVAL_PENDED;
        if (!NT_SUCCESS(WskpPollerAdd(arrival->Fd, socket))) {
            WskpPollerRetry();
        }
        break;
    default:
        WskpClientError("WSK-INS-002", "WskInspectEvent returned %d", (int)action);
    }
}

KIRQL WskpListenerInspectCall(WSKP_SOCKET *socket, KIRQL level, KIRQL irql) {
    const WSK_CLIENT_LISTEN_DISPATCH *dispatch = WskpSocketListenDispatch(socket);
    WSKP_ARRIVAL *arrival = WskpArrivalToInspect(socket);
    UCHAR local[WSKLAB_SOCKADDR_IN6_SIZE], remote[WSKLAB_SOCKADDR_IN6_SIZE];
    WSK_INSPECT_ID id = arrival->Id;
    WSK_INSPECT_ACTION action;
    WSKP_CALLBACK callback;

    if (dispatch == NULL || dispatch->WskInspectEvent == NULL || dispatch->WskAbortEvent == NULL) {
        WskpClientError("WSK-INS-001", "conditional accept is on and there are no callbacks for it");
    }
    arrival->State = WSKP_ARRIVAL_INSPECTING;
    WskpAddressWrite((PSOCKADDR)local, &arrival->Local);
    WskpAddressWrite((PSOCKADDR)remote, &arrival->Remote);
    WskpCallbackBegin(&callback, socket, WSKP_EVENT_INSPECT, "WskInspectEvent", level, irql);
    action = dispatch->WskInspectEvent(socket->Context, (PSOCKADDR)local, (PSOCKADDR)remote, &id);
    irql = WskpCallbackEnd(&callback);
    Answered(socket, arrival, action);
    WskpSocketProgress(socket);
    return irql;
}

KIRQL WskpListenerAbortCall(WSKP_SOCKET *socket, KIRQL level, KIRQL irql) {
    const WSK_CLIENT_LISTEN_DISPATCH *dispatch = WskpSocketListenDispatch(socket);
    WSKP_ARRIVAL *arrival = WskpArrivalAborted(socket);
    WSK_INSPECT_ID id = arrival->Id;
    WSKP_CALLBACK callback;
    NTSTATUS status;

    if (MutantIs("WSK-INS-006/other-id")) {
        id.SerialNumber++;
    }
    WskpArrivalRemove(socket, arrival);
    WskpArrivalDestroy(arrival);
    WskpCallbackBegin(&callback, socket, WSKP_EVENT_ABORT, "WskAbortEvent", level, irql);
    status = dispatch->WskAbortEvent(socket->Context, &id);
    irql = WskpCallbackEnd(&callback);
    if (status != STATUS_SUCCESS) {
        WskpClientError("WSK-INS-006", "WskAbortEvent returned %#x; it must return STATUS_SUCCESS", (unsigned)status);
    }
    WskpSocketProgress(socket);
    return irql;
}

/* With the lock. */
static NTSTATUS Complete(WSKP_SOCKET *socket, const WSK_INSPECT_ID *id, WSK_INSPECT_ACTION action) {
    WSKP_ARRIVAL *arrival;

    if (!WskpSocketListens(socket) || socket->State != WSKP_LISTENING || !socket->Options.ConditionalAccept) {
        return STATUS_INVALID_DEVICE_STATE; /* INS-008 */
    }
    if (action != WskInspectAccept && action != WskInspectReject) {
        return STATUS_INVALID_PARAMETER;
    }
    arrival = WskpArrivalById(socket, id);
    if (arrival != NULL && arrival->State == WSKP_ARRIVAL_INSPECTING && !arrival->Decided) {
        arrival->Decided = TRUE; /* the callback has not returned yet; it will */
        arrival->Accepted = action == WskInspectAccept;
        return STATUS_SUCCESS;
    }
    if (arrival == NULL || arrival->State != WSKP_ARRIVAL_PENDED) {
        return STATUS_INVALID_PARAMETER; /* unknown, decided already, or aborted: never established (INS-007, INS-008) */
    }
    if (!MutantIs("WSK-INS-005/not-decided")) {
        Decide(socket, arrival, action == WskInspectAccept);
    }
    WskpSocketProgress(socket);
    return STATUS_SUCCESS;
}

NTSTATUS WSKAPI WskpInspectComplete(PWSK_SOCKET ListenSocket, PWSK_INSPECT_ID InspectID, WSK_INSPECT_ACTION Action, PIRP Irp) {
    WSKP_CALL call;
    WSKP_SOCKET *socket = WskpSocketEnter(&call, "WskInspectComplete", ListenSocket, WSKP_LISTEN, DISPATCH_LEVEL);
    NTSTATUS status = STATUS_INVALID_PARAMETER;
    WSKP_REQUEST *request;
    KIRQL irql;

    ShimRequireMemory("WSK_INSPECT_ID", InspectID, sizeof(*InspectID));
    request = Irp == NULL ? NULL : WskpRequestBegin(WSKP_InspectComplete, socket->Client, socket, Irp, &status);
    if (request != NULL) {
        irql = WskpLock();
        status = Complete(socket, InspectID, Action);
        WskpUnlock(irql);
        status = WskpRequestFinish(request, status, 0);
    }
    WskpSocketLeave(&call);
    return status;
}
