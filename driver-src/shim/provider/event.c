/*
 * event.c: event callbacks.
 */
#include "event.h"

#include "knobs.h"

const NPIID g_WskpInterfaceId = WSKLAB_NPI_WSK_INTERFACE_ID;

/* In the order in which they are called: what came first on the wire is told first. */
static const struct {
    ULONG Event;
    BOOLEAN (*Due)(WSKP_SOCKET *socket);
    KIRQL (*Call)(WSKP_SOCKET *socket, KIRQL level, KIRQL irql);
} Definitions[] = {
    {WSKP_EVENT_ABORT, WskpListenerAbortDue, WskpListenerAbortCall},
    {WSKP_EVENT_INSPECT, WskpListenerInspectDue, WskpListenerInspectCall},
    {WSK_EVENT_ACCEPT, WskpListenerAcceptDue, WskpListenerAcceptCall},
    {WSK_EVENT_RECEIVE, WskpStreamReceiveDue, WskpStreamReceiveCall},
    {WSK_EVENT_DISCONNECT, WskpStreamDisconnectDue, WskpStreamDisconnectCall},
    {WSK_EVENT_SEND_BACKLOG, WskpStreamBacklogDue, WskpStreamBacklogCall},
    {WSK_EVENT_RECEIVE_FROM, WskpDatagramReceiveDue, WskpDatagramReceiveCall},
};

BOOLEAN WskpIsWskNpi(PNPIID id) {
    if (id == NULL) {
        return FALSE;
    }
    ShimRequireMemory("NpiId", id, sizeof(*id));
    return memcmp(id, &g_WskpInterfaceId, sizeof(*id)) == 0;
}

/* The events that a socket of this kind can have. */
static ULONG EventsOf(const WSKP_SOCKET *socket) {
    switch (socket->Category) {
    case WSKP_LISTEN:
        return WSK_EVENT_ACCEPT;
    case WSKP_CONNECTION:
        return WSKP_CONNECTION_EVENTS;
    case WSKP_DATAGRAM:
        return WSK_EVENT_RECEIVE_FROM;
    case WSKP_STREAM:
        return WSK_EVENT_ACCEPT | WSKP_CONNECTION_EVENTS;
    default:
        return 0;
    }
}

void WskpEventsInitialize(WSKP_SOCKET *socket) {
    socket->StaticEvents = socket->Client->StaticEvents & EventsOf(socket);
    if (MutantIs("WSK-EVT-013/static-ignored")) {
        socket->StaticEvents = 0;
    }
    socket->Events = socket->StaticEvents;
    if (MutantIs("WSK-SOCK-010/on-at-birth")) {
        socket->Events |= EventsOf(socket);
    }
}

static BOOLEAN IsDue(WSKP_SOCKET *socket, ULONG index) {
    ULONG event = Definitions[index].Event;
    ULONG enabled = socket->Events | WSKP_EVENT_INSPECT | WSKP_EVENT_ABORT;

    return !WskpSocketIsClosing(socket) && !socket->Accepting && (enabled & event) != 0 && (socket->Disabling & event) == 0 && (socket->Running & event) == 0 &&
           Definitions[index].Due(socket);
}

void WskpEventsKick(WSKP_SOCKET *socket) {
    for (ULONG index = 0; index < RTL_NUMBER_OF(Definitions); index++) {
        if (IsDue(socket, index)) {
            WskpLanePost(&socket->CallbackLane, &socket->CallbackWork);
            return;
        }
    }
}

void WskpEventsRun(WSKP_WORK *work) {
    WSKP_SOCKET *socket = CONTAINING_RECORD(work, WSKP_SOCKET, CallbackWork);
    KIRQL irql = WskpLock();

    for (ULONG index = 0; index < RTL_NUMBER_OF(Definitions); index++) {
        if (IsDue(socket, index)) {
            irql = Definitions[index].Call(socket, WskpKnobsCalloutIrql("event level"), irql);
            break;
        }
    }
    WskpSocketTryFinishClose(socket);
    /* What else is due comes in the next round, so that one busy socket does not keep a thread. */
    WskpEventsKick(socket);
    WskpUnlock(irql);
}

void WskpCallbackBegin(WSKP_CALLBACK *callback, WSKP_SOCKET *socket, ULONG event, const char *name, KIRQL level, KIRQL irql) {
    callback->Socket = socket;
    callback->Event = event;
    socket->Running |= event;
    WskpUnlock(irql);
    ShimCalloutBegin(&callback->Callout, name, level, FALSE);
}

/* With the lock: a callback that was to be disabled has returned (EVT-006, EVT-007). */
static void FinishDisable(WSKP_SOCKET *socket, ULONG event) {
    PLIST_ENTRY next;

    socket->Disabling &= ~event;
    if (!MutantIs("WSK-EVT-007/stays-on")) {
        socket->Events &= ~event;
    }
    for (PLIST_ENTRY entry = socket->Disables.Flink; entry != &socket->Disables; entry = next) {
        WSKP_REQUEST *request = CONTAINING_RECORD(entry, WSKP_REQUEST, Link);
        next = entry->Flink;
        if (request->Control.Event == event && WskpRequestClaim(request)) {
            WskpRequestDone(request, STATUS_SUCCESS, 0);
        }
    }
}

KIRQL WskpCallbackEnd(WSKP_CALLBACK *callback) {
    WSKP_SOCKET *socket = callback->Socket;
    KIRQL irql;

    ShimCalloutEnd(&callback->Callout);
    irql = WskpLock();
    socket->Running &= ~callback->Event;
    if (socket->Disabling & callback->Event) {
        FinishDisable(socket, callback->Event);
    }
    return irql;
}

ULONG WskpCallbackFlags(KIRQL level) {
    return level == DISPATCH_LEVEL || MutantIs("WSK-EVT-015/flag-at-passive") ? WSK_FLAG_AT_DISPATCH_LEVEL : 0;
}

BOOLEAN WskpEventsHaveCallbacks(WSKP_SOCKET *socket, ULONG events) {
    const WSK_CLIENT_LISTEN_DISPATCH *listen = WskpSocketListenDispatch(socket);
    const WSK_CLIENT_CONNECTION_DISPATCH *connection = WskpSocketConnectionDispatch(socket);
    const WSK_CLIENT_DATAGRAM_DISPATCH *datagram = socket->Category == WSKP_DATAGRAM ? socket->ClientDispatch : NULL;

    if ((events & WSK_EVENT_ACCEPT) && (listen == NULL || listen->WskAcceptEvent == NULL)) {
        return FALSE;
    }
    if ((events & WSK_EVENT_RECEIVE_FROM) && (datagram == NULL || datagram->WskReceiveFromEvent == NULL)) {
        return FALSE;
    }
    if (connection != NULL && connection->WskReceiveEvent == NULL && MutantIs("WSK-CTX-006/needs-all")) {
        return FALSE;
    }
    if (WskpSocketListens(socket)) {
        return TRUE; /* inherited events: the accepted socket will have its own table */
    }
    return !((events & WSK_EVENT_RECEIVE) && (connection == NULL || connection->WskReceiveEvent == NULL)) &&
           !((events & WSK_EVENT_DISCONNECT) && (connection == NULL || connection->WskDisconnectEvent == NULL)) &&
           !((events & WSK_EVENT_SEND_BACKLOG) && (connection == NULL || connection->WskSendBacklogEvent == NULL));
}

static NTSTATUS Enable(WSKP_SOCKET *socket, ULONG events, ULONG own, ULONG inheritable) {
    if (events & socket->StaticEvents) {
        return STATUS_NOT_SUPPORTED; /* EVT-014 */
    }
    if (MutantIs("WSK-EVT-001/refused")) {
        return STATUS_NOT_SUPPORTED;
    }
    if (!socket->Accepting && !WskpEventsHaveCallbacks(socket, events)) {
        return STATUS_INVALID_PARAMETER;
    }
    if (MutantIs("WSK-EVT-003/replaces")) {
        socket->Events = socket->StaticEvents;
    }
    socket->Events |= events & own;
    if (!MutantIs("WSK-EVT-011/not-inherited")) {
        socket->Inherit |= events & inheritable;
    }
    WskpSocketProgress(socket);
    return STATUS_SUCCESS;
}

static NTSTATUS Disable(WSKP_SOCKET *socket, ULONG event, ULONG own, WSKP_REQUEST *request) {
    if ((event & (event - 1)) != 0) {
        return STATUS_INVALID_PARAMETER; /* EVT-008: one at a time */
    }
    if (MutantIs("WSK-EVT-008/single-refused")) {
        return STATUS_INVALID_PARAMETER;
    }
    if (MutantIs("WSK-EVT-009/for-ever")) {
        socket->Disabling |= event;
    }
    if ((event & own) == 0) { /* EVT-012 */
        if (MutantIs("WSK-EVT-012/inherited-taken-off")) {
            socket->Inherit &= ~event;
            return STATUS_SUCCESS;
        }
        return STATUS_NOT_SUPPORTED;
    }
    if ((event & socket->StaticEvents) && !MutantIs("WSK-EVT-014/static-disabled")) {
        return STATUS_NOT_SUPPORTED;
    }
    if ((socket->Running & event) && !MutantIs("WSK-EVT-006/not-awaited")) {
        socket->Disabling |= event;
        if (request == NULL) {
            return STATUS_EVENT_PENDING;
        }
        request->Control.Event = event;
        WskpRequestQueue(request, &socket->Disables);
        return STATUS_PENDING;
    }
    if (!MutantIs("WSK-EVT-005/stays-on")) {
        socket->Events &= ~event;
    }
    return STATUS_SUCCESS;
}

NTSTATUS WskpEventsControl(WSKP_SOCKET *socket, const WSK_EVENT_CALLBACK_CONTROL *control, WSKP_REQUEST *request) {
    BOOLEAN listens = WskpSocketListens(socket);
    ULONG own = listens ? WSK_EVENT_ACCEPT : WskpSocketConnects(socket) ? WSKP_CONNECTION_EVENTS : EventsOf(socket);
    ULONG inheritable = listens ? WSKP_CONNECTION_EVENTS : 0;
    ULONG events = control->EventMask & ~WSK_EVENT_DISABLE;
    BOOLEAN ready = listens ? socket->State == WSKP_LISTENING
                            : socket->Category == WSKP_DATAGRAM ? socket->State == WSKP_BOUND : socket->State == WSKP_CONNECTED;

    if (socket->Category == WSK_FLAG_BASIC_SOCKET) {
        return STATUS_NOT_SUPPORTED;
    }
    if (!WskpIsWskNpi(control->NpiId) || events == 0 || (events & ~(own | inheritable)) != 0) {
        return STATUS_INVALID_PARAMETER; /* EVT-004 */
    }
    if (!ready) {
        return STATUS_INVALID_DEVICE_STATE; /* EVT-002 */
    }
    return (control->EventMask & WSK_EVENT_DISABLE) ? Disable(socket, events, own, request) : Enable(socket, events, own, inheritable);
}
