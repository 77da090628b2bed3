/*
 * socket.c: a WSK socket: what all categories have in common.
 */
#include "socket.h"

#include "dispatch.h"
#include "event.h"
#include "poller.h"

#include "host/host_socket.h"

#define MAGIC_OPEN 0x4B535730u
#define MAGIC_CLOSED 0x4B535731u
/* Closed socket objects that are kept, so that a late call is named instead of running into other memory. */
#define KEPT_CLOSED 256u

LIST_ENTRY g_WskpSockets = {&g_WskpSockets, &g_WskpSockets};
static LIST_ENTRY Closed = {&Closed, &Closed};
static ULONG ClosedCount;

static void ForgetOldestClosed(void) {
    WSKP_SOCKET *oldest = CONTAINING_RECORD(RemoveHeadList(&Closed), WSKP_SOCKET, Link);
    ClosedCount--;
    ShimFree(oldest);
}

static void Free(WSKP_OBJECT *object) {
    WSKP_SOCKET *socket = CONTAINING_RECORD(object, WSKP_SOCKET, Object);
    WskpAssert(socket->State == WSKP_CLOSED && socket->Fd < 0);
    ShimFree(socket->CloseMemory);
    socket->CloseMemory = NULL;
    InsertTailList(&Closed, &socket->Link);
    if (++ClosedCount > KEPT_CLOSED) {
        ForgetOldestClosed();
    }
}

WSKP_SOCKET *WskpSocketCreate(const WSKP_SOCKET_MODEL *model) {
    WSKP_SOCKET *socket = ShimAllocate("socket", sizeof(*socket));

    if (socket == NULL) {
        return NULL;
    }
    socket->CloseMemory = ShimAllocate("close request", sizeof(*socket->CloseMemory));
    if (socket->CloseMemory == NULL) {
        ShimFree(socket);
        return NULL;
    }
    socket->Public.Dispatch = WskpDispatchOf(model->Category);
    socket->Magic = MAGIC_OPEN;
    WskpObjectInitialize(&socket->Object, Free);
    socket->Client = model->Client;
    socket->Category = model->Category;
    socket->Family = model->Family;
    socket->Type = model->Type;
    socket->Protocol = model->Protocol;
    socket->Owner = model->Owner;
    socket->Context = model->Context;
    socket->ClientDispatch = model->ClientDispatch;
    socket->State = WSKP_FRESH;
    socket->Fd = model->Fd;
    InitializeListHead(&socket->Closes);
    InitializeListHead(&socket->AddressChanges);
    InitializeListHead(&socket->Disables);
    WskpLaneInitialize(&socket->CompletionLane, &socket->Object);
    WskpLaneInitialize(&socket->CallbackLane, &socket->Object);
    socket->CallbackWork.Run = WskpEventsRun;
    WskpListenerInitialize(&socket->Listener);
    WskpStreamInitialize(&socket->Stream);
    WskpDatagramInitialize(&socket->Datagram);
    WskpOptionsInitialize(socket);
    WskpEventsInitialize(socket);
    socket->Options.Descriptor = model->Descriptor;
    if (!NT_SUCCESS(WskpPollerAdd(socket->Fd, socket))) {
        ShimFree(socket->CloseMemory);
        ShimFree(socket);
        return NULL;
    }
    InsertTailList(&g_WskpSockets, &socket->Link);
    WskpClientSocketOpened(socket->Client);
    return socket;
}

static void CheckCategory(const WSKP_SOCKET *socket, const char *function, ULONG categories) {
    ULONG own = socket->Category == WSK_FLAG_BASIC_SOCKET ? WSKP_BASIC : socket->Category;
    if ((own & categories) == 0) {
        WskpClientError("WSK-CAT-001", "%s: called through the wrong table: the socket's category is %#x", function, socket->Category);
    }
}

WSKP_SOCKET *WskpSocketEnter(WSKP_CALL *call, const char *function, PWSK_SOCKET pointer, ULONG categories, KIRQL maximum) {
    WSKP_SOCKET *socket = CONTAINING_RECORD(pointer, WSKP_SOCKET, Public);
    KIRQL irql;

    ShimEnterApi(function, maximum);
    if (pointer == NULL) {
        WskpClientError("WSK-CLOSE-001", "%s: NULL socket", function);
    }
    ShimRequireMemory("WSK_SOCKET", socket, sizeof(*socket));
    irql = WskpLock();
    if (socket->Magic != MAGIC_OPEN) {
        WskpClientError("WSK-CLOSE-001", "%s: %p is %s", function, (void *)pointer,
                        socket->Magic == MAGIC_CLOSED ? "a socket that has been closed" : "no socket");
    }
    if (WskpSocketIsClosing(socket)) {
        WskpClientError("WSK-CLOSE-001", "%s: WskCloseSocket was called for this socket", function);
    }
    CheckCategory(socket, function, categories);
    *call = (WSKP_CALL){.Socket = socket, .Thread = PsGetCurrentThread(), .Function = function, .Next = socket->Calls};
    socket->Calls = call;
    WskpReference(&socket->Object);
    WskpUnlock(irql);
    return socket;
}

void WskpSocketLeave(WSKP_CALL *call) {
    WSKP_SOCKET *socket = call->Socket;
    KIRQL irql = WskpLock();
    WSKP_CALL **place = &socket->Calls;

    while (*place != call) {
        place = &(*place)->Next;
    }
    *place = call->Next;
    WskpDereference(&socket->Object);
    WskpUnlock(irql);
}

void WskpSocketRequireNoOtherCall(WSKP_SOCKET *socket, const WSKP_CALL *own) {
    for (const WSKP_CALL *call = socket->Calls; call != NULL; call = call->Next) {
        /* The own thread may be deeper in: a completion routine that closes (CLOSE-005). */
        if (call != own && call->Thread != own->Thread) {
            WskpClientError("WSK-CLOSE-002", "WskCloseSocket while another thread is inside %s of the same socket", call->Function);
        }
    }
}

void WskpSocketRequestBegan(WSKP_SOCKET *socket, BOOLEAN close) {
    if (!close) {
        socket->Outstanding++;
    }
}

void WskpSocketFinished(WSKP_SOCKET *socket) {
    socket->State = WSKP_CLOSED;
    socket->Magic = MAGIC_CLOSED;
    socket->Public.Dispatch = WskpDispatchClosed();
    RemoveEntryList(&socket->Link);
    WskpClientSocketClosed(socket->Client);
    WskpDereference(&socket->Object);
}

void WskpSocketRequestEnded(WSKP_SOCKET *socket, BOOLEAN close) {
    if (close) {
        /* A close that was refused by a knob never began. */
        if (socket->State == WSKP_CLOSING) {
            WskpSocketFinished(socket);
        }
        return;
    }
    socket->Outstanding--;
    WskpSocketTryFinishClose(socket);
}

BOOLEAN WskpSocketIsClosing(const WSKP_SOCKET *socket) {
    return socket->State == WSKP_CLOSING || socket->State == WSKP_CLOSED;
}

void WskpSocketProgress(WSKP_SOCKET *socket) {
    if (WskpSocketIsClosing(socket)) {
        return;
    }
    if (socket->Fd < 0) {
        /* A connection that is broken: nothing moves, but that it is may not have been told yet. */
    } else if (socket->Category == WSKP_DATAGRAM) {
        WskpDatagramProgress(socket);
    } else if (WskpSocketListens(socket)) {
        WskpListenerProgress(socket);
    } else if (WskpSocketConnects(socket)) {
        WskpStreamProgress(socket);
    }
    WskpEventsKick(socket);
}

BOOLEAN WskpSocketListens(const WSKP_SOCKET *socket) {
    return socket->Category == WSKP_LISTEN || (socket->Category == WSKP_STREAM && socket->State == WSKP_LISTENING);
}

BOOLEAN WskpSocketConnects(const WSKP_SOCKET *socket) {
    return socket->Category == WSKP_CONNECTION ||
           (socket->Category == WSKP_STREAM && (socket->State == WSKP_CONNECTING || socket->State == WSKP_CONNECTED));
}

const WSK_CLIENT_LISTEN_DISPATCH *WskpSocketListenDispatch(const WSKP_SOCKET *socket) {
    if (socket->Category == WSKP_LISTEN) {
        return socket->ClientDispatch;
    }
    if (socket->Category == WSKP_STREAM && socket->ClientDispatch != NULL) {
        return ((const WSK_CLIENT_STREAM_DISPATCH *)socket->ClientDispatch)->Listen;
    }
    return NULL;
}

const WSK_CLIENT_CONNECTION_DISPATCH *WskpSocketConnectionDispatch(const WSKP_SOCKET *socket) {
    if (socket->Category == WSKP_CONNECTION) {
        return socket->ClientDispatch;
    }
    if (socket->Category == WSKP_STREAM && socket->ClientDispatch != NULL) {
        return ((const WSK_CLIENT_STREAM_DISPATCH *)socket->ClientDispatch)->Connect;
    }
    return NULL;
}

void WskpSocketsStop(void) {
    KIRQL irql = WskpLock();
    if (!IsListEmpty(&g_WskpSockets)) {
        WSKP_SOCKET *socket = CONTAINING_RECORD(g_WskpSockets.Flink, WSKP_SOCKET, Link);
        WskpClientError("WSK-DET-003", "a socket of category %#x is still open", socket->Category);
    }
    while (ClosedCount > 0) {
        ForgetOldestClosed();
    }
    WskpUnlock(irql);
}
