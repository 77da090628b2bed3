/*
 * stream.c: a connection's state, and how it ends.
 */
#include "stream.h"

#include "data.h"
#include "event.h"
#include "poller.h"
#include "socket.h"

#include "host/host_socket.h"

/* What WSK suggests at least (OPT-011): one window of a host that says little. */
#define MINIMUM_BACKLOG 65536u

void WskpStreamInitialize(WSKP_CONNECTION_STATE *stream) {
    InitializeListHead(&stream->Connects);
    InitializeListHead(&stream->Sends);
    InitializeListHead(&stream->Receives);
    InitializeListHead(&stream->Stash);
    InitializeListHead(&stream->Retained);
}

void WskpStreamConnected(WSKP_SOCKET *socket) {
    socket->State = WSKP_CONNECTED;
    HostSocketLocal(socket->Fd, &socket->Local);
    HostSocketRemote(socket->Fd, &socket->Remote);
}

void WskpStreamBreak(WSKP_SOCKET *socket, NTSTATUS status, BOOLEAN byPeer) {
    WSKP_CONNECTION_STATE *stream = &socket->Stream;

    if (!NT_SUCCESS(stream->Broken)) {
        return;
    }
    stream->Broken = status;
    stream->BrokenByPeer = byPeer;
    if (socket->Fd >= 0) {
        WskpPollerRemove(socket->Fd);
        HostSocketReset(socket->Fd);
        socket->Fd = -1;
    }
    WskpStashDrop(&stream->Stash);
    stream->StashBytes = 0;
    WskpSendProgress(socket);
    WskpReceiveProgress(socket);
    WskpEventsKick(socket);
}

BOOLEAN WskpStreamAtEnd(WSKP_SOCKET *socket) {
    WSKP_CONNECTION_STATE *stream = &socket->Stream;
    int peek;

    if (socket->Fd < 0 || stream->Silent || stream->EndReached) {
        return stream->EndReached && stream->StashBytes == 0;
    }
    peek = HostSocketPeek(socket->Fd);
    if (peek < 0) {
        stream->HostError = peek; /* the host tells it only once */
        return FALSE;
    }
    stream->EndReached = peek == 1;
    return stream->EndReached && stream->StashBytes == 0;
}

void WskpStreamCheckHost(WSKP_SOCKET *socket) {
    if (socket->Stream.HostError != 0) {
        WskpStreamBreak(socket, WskpStatusOf(socket->Stream.HostError), TRUE); /* DATA-005 */
    }
}

/* What has become of the other side since the last look. */
static void LookAtPeer(WSKP_SOCKET *socket) {
    WSKP_CONNECTION_STATE *stream = &socket->Stream;
    /* Before the look at errors: a reset in between would be taken for a graceful end, for both leave TCP closed. */
    BOOLEAN finished = HostSocketPeerFinished(socket->Fd);

    WskpStreamAtEnd(socket);
    WskpStreamCheckHost(socket);
    if (socket->Fd >= 0) {
        stream->PeerFinished = stream->PeerFinished || finished;
        stream->FinAcknowledged = stream->FinSent && HostSocketFinAcknowledged(socket->Fd);
    }
}

void WskpStreamProgress(WSKP_SOCKET *socket) {
    if (socket->State == WSKP_CONNECTING) {
        WskpConnectProgress(socket);
    }
    if (socket->State != WSKP_CONNECTED) {
        return;
    }
    if (socket->Fd >= 0 && !socket->Stream.Silent) {
        LookAtPeer(socket);
    }
    WskpSendProgress(socket);
    WskpReceiveProgress(socket);
}

SIZE_T WskpStreamUnread(WSKP_SOCKET *socket) {
    return socket->Stream.StashBytes + (socket->Fd >= 0 ? HostSocketUnread(socket->Fd) : 0);
}

/* Both directions have ended gracefully: there is nothing left to abort (CLOSE-003). */
static BOOLEAN FullyDisconnected(const WSKP_CONNECTION_STATE *stream) {
    return stream->FinSent && stream->PeerFinished;
}

void WskpStreamClose(WSKP_SOCKET *socket) {
    WSKP_CONNECTION_STATE *stream = &socket->Stream;

    if (socket->State == WSKP_CONNECTED && !stream->Silent) {
        stream->PeerFinished = stream->PeerFinished || HostSocketPeerFinished(socket->Fd);
    }
    if (stream->Silent) {
        HostSocketClose(socket->Fd); /* OPT-012: and the peer sees nothing */
    } else if ((FullyDisconnected(stream) && !MutantIs("WSK-DISC-008/reset")) || MutantIs("WSK-CLOSE-003/graceful")) {
        HostSocketClose(socket->Fd);
    } else {
        HostSocketReset(socket->Fd);
    }
    WskpStashDrop(&stream->Stash);
    stream->StashBytes = 0;
}

SIZE_T WskpStreamIdealBacklog(WSKP_SOCKET *socket) {
    SIZE_T ideal = socket->Fd >= 0 ? HostSocketIdealBacklog(socket->Fd) : 0;
    return ideal < MINIMUM_BACKLOG ? MINIMUM_BACKLOG : ideal;
}

BOOLEAN WskpStreamDisconnectDue(WSKP_SOCKET *socket) {
    WSKP_CONNECTION_STATE *stream = &socket->Stream;

    if (socket->State != WSKP_CONNECTED || stream->DisconnectTold) {
        return FALSE;
    }
    if (!NT_SUCCESS(stream->Broken)) {
        return stream->BrokenByPeer;
    }
    if (!stream->PeerFinished) {
        return FALSE;
    }
    /* Data comes before the end of data, where the client is told about data; else it may be read later (CTX-006). */
    return (socket->Events & WSK_EVENT_RECEIVE) == 0 || (!stream->Indicating && WskpStreamUnread(socket) == 0);
}

KIRQL WskpStreamDisconnectCall(WSKP_SOCKET *socket, KIRQL level, KIRQL irql) {
    const WSK_CLIENT_CONNECTION_DISPATCH *dispatch = WskpSocketConnectionDispatch(socket);
    BOOLEAN abortive = (!NT_SUCCESS(socket->Stream.Broken)) != MutantIs("WSK-DATA-017/flag-inverted");
    ULONG flags = WskpCallbackFlags(level) | (abortive ? WSK_FLAG_ABORTIVE : 0);
    PVOID context = MutantIs("WSK-CTX-003/context-lost") ? NULL : socket->Context;
    WSKP_CALLBACK callback;
    NTSTATUS status;

    if (dispatch == NULL || dispatch->WskDisconnectEvent == NULL) {
        WskpClientError("WSK-CTX-005", "the disconnect event is enabled and there is no callback for it");
    }
    socket->Stream.DisconnectTold = !MutantIs("WSK-DATA-017/told-for-ever");
    WskpCallbackBegin(&callback, socket, WSK_EVENT_DISCONNECT, "WskDisconnectEvent", level, irql);
    status = dispatch->WskDisconnectEvent(context, flags);
    irql = WskpCallbackEnd(&callback);
    if (status != STATUS_SUCCESS) {
        WskpClientError("WSK-DATA-017", "WskDisconnectEvent returned %#x; it must return STATUS_SUCCESS", (unsigned)status);
    }
    return irql;
}

BOOLEAN WskpStreamBacklogDue(WSKP_SOCKET *socket) {
    SIZE_T told = socket->Stream.BacklogTold;
    SIZE_T now;

    if (socket->State != WSKP_CONNECTED || socket->Fd < 0) {
        return FALSE;
    }
    now = WskpStreamIdealBacklog(socket);
    return told == 0 || now >= 2 * told || 2 * now <= told;
}

KIRQL WskpStreamBacklogCall(WSKP_SOCKET *socket, KIRQL level, KIRQL irql) {
    const WSK_CLIENT_CONNECTION_DISPATCH *dispatch = WskpSocketConnectionDispatch(socket);
    SIZE_T ideal = WskpStreamIdealBacklog(socket);
    PVOID context = MutantIs("WSK-CTX-003/context-lost") ? NULL : socket->Context;
    WSKP_CALLBACK callback;
    NTSTATUS status;

    if (dispatch == NULL || dispatch->WskSendBacklogEvent == NULL) {
        WskpClientError("WSK-CTX-005", "the send backlog event is enabled and there is no callback for it");
    }
    socket->Stream.BacklogTold = ideal;
    WskpCallbackBegin(&callback, socket, WSK_EVENT_SEND_BACKLOG, "WskSendBacklogEvent", level, irql);
    status = dispatch->WskSendBacklogEvent(context, ideal);
    irql = WskpCallbackEnd(&callback);
    if (status != STATUS_SUCCESS) {
        WskpClientError("WSK-DATA-017", "WskSendBacklogEvent returned %#x; it must return STATUS_SUCCESS", (unsigned)status);
    }
    return irql;
}
