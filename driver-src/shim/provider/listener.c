/*
 * listener.c: connections that have arrived, and who is to get them.
 *
 * Linux finishes the handshake before it tells of a connection, so what WSK would ask the client before the handshake
 * ends (conditional accept) is asked after it, and a refused connection is reset. README.md lists what that cannot prove.
 */
#include "listener.h"

#include "accept.h"
#include "event.h"
#include "poller.h"
#include "socket.h"

#include "host/host_socket.h"

#include <errno.h>

/* Connections that are taken from the host before the client has asked for one (conditional accept). */
#define MAX_ARRIVALS 64u

void WskpListenerInitialize(WSKP_LISTENER *listener) {
    InitializeListHead(&listener->Accepts);
    InitializeListHead(&listener->Arrivals);
}

NTSTATUS WskpListenerStart(WSKP_SOCKET *socket) {
    int error = HostSocketListen(socket->Fd);
    if (error < 0) {
        return WskpStatusOf(error);
    }
    socket->State = WSKP_LISTENING;
    return STATUS_SUCCESS;
}

static WSKP_ARRIVAL *ArrivalAt(PLIST_ENTRY entry) {
    return CONTAINING_RECORD(entry, WSKP_ARRIVAL, Link);
}

static WSKP_ARRIVAL *FirstIn(WSKP_SOCKET *socket, WSKP_ARRIVAL_STATE state) {
    LIST_ENTRY *arrivals = &socket->Listener.Arrivals;
    for (PLIST_ENTRY entry = arrivals->Flink; entry != arrivals; entry = entry->Flink) {
        if (ArrivalAt(entry)->State == state) {
            return ArrivalAt(entry);
        }
    }
    return NULL;
}

void WskpArrivalRemove(WSKP_SOCKET *socket, WSKP_ARRIVAL *arrival) {
    RemoveEntryList(&arrival->Link);
    socket->Listener.ArrivalCount--;
}

void WskpArrivalDestroy(WSKP_ARRIVAL *arrival) {
    if (arrival->Fd >= 0) {
        WskpPollerRemove(arrival->Fd);
        HostSocketReset(arrival->Fd);
    }
    ShimFree(arrival);
}

WSKP_ARRIVAL *WskpArrivalReady(WSKP_SOCKET *socket) {
    return FirstIn(socket, WSKP_ARRIVAL_READY);
}

WSKP_ARRIVAL *WskpArrivalToInspect(WSKP_SOCKET *socket) {
    return FirstIn(socket, WSKP_ARRIVAL_INSPECT);
}

WSKP_ARRIVAL *WskpArrivalAborted(WSKP_SOCKET *socket) {
    return FirstIn(socket, WSKP_ARRIVAL_ABORTED);
}

WSKP_ARRIVAL *WskpArrivalById(WSKP_SOCKET *socket, const WSK_INSPECT_ID *id) {
    LIST_ENTRY *arrivals = &socket->Listener.Arrivals;
    for (PLIST_ENTRY entry = arrivals->Flink; entry != arrivals; entry = entry->Flink) {
        WSKP_ARRIVAL *arrival = ArrivalAt(entry);
        if (arrival->Inspected && arrival->Id.Key == id->Key && arrival->Id.SerialNumber == id->SerialNumber) {
            return arrival;
        }
    }
    return NULL;
}

BOOLEAN WskpArrivalIsDead(const WSKP_ARRIVAL *arrival) {
    return HostSocketPeek(arrival->Fd) != 0;
}

/* INS-006: a request that waits for its decision has gone away. */
static void LookAtPended(WSKP_SOCKET *socket) {
    LIST_ENTRY *arrivals = &socket->Listener.Arrivals;
    for (PLIST_ENTRY entry = arrivals->Flink; entry != arrivals; entry = entry->Flink) {
        WSKP_ARRIVAL *arrival = ArrivalAt(entry);
        if (arrival->State == WSKP_ARRIVAL_PENDED && WskpArrivalIsDead(arrival)) {
            arrival->State = WSKP_ARRIVAL_ABORTED;
        }
    }
}

/* Somebody would take one more connection now. */
static BOOLEAN IsWanted(WSKP_SOCKET *socket) {
    if (socket->Options.ConditionalAccept) {
        return socket->Listener.ArrivalCount < MAX_ARRIVALS;
    }
    /* What nobody asks for stays with the host. */
    return WskpArrivalReady(socket) == NULL && (!IsListEmpty(&socket->Listener.Accepts) || (socket->Events & WSK_EVENT_ACCEPT));
}

/* One connection from the host; FALSE when there is none, or no memory. */
static BOOLEAN Take(WSKP_SOCKET *socket) {
    static ULONG serial;
    WSKP_ARRIVAL *arrival = ShimAllocate("arrived connection", sizeof(*arrival));

    if (arrival == NULL) {
        WskpPollerRetry();
        return FALSE;
    }
    do {
        arrival->Fd = HostSocketAccept(socket->Fd, &arrival->Remote);
    } while (arrival->Fd == -ECONNABORTED || arrival->Fd == -EINTR); /* gone before it was taken: the next */
    if (arrival->Fd < 0) {
        ShimFree(arrival);
        return FALSE;
    }
    HostSocketLocal(arrival->Fd, &arrival->Local);
    arrival->State = WSKP_ARRIVAL_READY;
    if (socket->Options.ConditionalAccept && !MutantIs("WSK-INS-002/not-inspected")) {
        arrival->State = WSKP_ARRIVAL_INSPECT;
        arrival->Inspected = TRUE;
        arrival->Id = (WSK_INSPECT_ID){.Key = (ULONG_PTR)(socket->Fd + 1) << 8, .SerialNumber = ++serial};
        if (MutantIs("WSK-INS-010/ids-equal")) {
            arrival->Id.SerialNumber = 1;
        }
    }
    InsertTailList(&socket->Listener.Arrivals, &arrival->Link);
    socket->Listener.ArrivalCount++;
    return TRUE;
}

/* To those who wait in WskAccept, oldest first (ACC-005, ACC-008). */
static void Deliver(WSKP_SOCKET *socket) {
    LIST_ENTRY *accepts = &socket->Listener.Accepts;
    WSKP_ARRIVAL *arrival;

    while (!IsListEmpty(accepts) && (arrival = WskpArrivalReady(socket)) != NULL) {
        WSKP_REQUEST *request = CONTAINING_RECORD(accepts->Flink, WSKP_REQUEST, Link);
        if (MutantIs("WSK-ACC-008/dropped") && (socket->Events & WSK_EVENT_ACCEPT)) {
            WskpArrivalRemove(socket, arrival);
            WskpArrivalDestroy(arrival);
            continue;
        }
        if (WskpRequestClaim(request)) {
            WskpAcceptDeliver(socket, arrival, request);
        }
    }
}

void WskpListenerProgress(WSKP_SOCKET *socket) {
    if (socket->State != WSKP_LISTENING) {
        return;
    }
    LookAtPended(socket);
    do {
        Deliver(socket);
    } while (IsWanted(socket) && Take(socket));
}

void WskpListenerClose(WSKP_SOCKET *socket) {
    LIST_ENTRY *arrivals = &socket->Listener.Arrivals;

    while (!IsListEmpty(arrivals)) {
        WSKP_ARRIVAL *arrival = ArrivalAt(arrivals->Flink);
        WskpArrivalRemove(socket, arrival);
        if (arrival->State == WSKP_ARRIVAL_INSPECTING) {
            arrival->State = WSKP_ARRIVAL_ABORTED; /* the callback's; it destroys it when it has returned */
            InitializeListHead(&arrival->Link);
        } else {
            WskpArrivalDestroy(arrival);
        }
    }
}
