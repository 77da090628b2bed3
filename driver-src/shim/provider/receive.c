/*
 * receive.c: WskReceive, the receive event, WskRelease.
 */
#include "data.h"
#include "event.h"
#include "functions.h"
#include "poller.h"
#include "socket.h"

#include "host/host_socket.h"

#include <errno.h>

#define MAX_READ 65536u
#define MAX_INDICATIONS 4u

/* From the host into the stash, until it holds `wanted` bytes. FALSE when there is no memory. */
static BOOLEAN FillStash(WSKP_SOCKET *socket, SIZE_T wanted) {
    WSKP_CONNECTION_STATE *stream = &socket->Stream;

    while (socket->Fd >= 0 && stream->StashBytes < wanted) {
        SIZE_T there = HostSocketUnread(socket->Fd);
        SIZE_T size = wanted - stream->StashBytes < there ? wanted - stream->StashBytes : there;
        WSKP_VIEW *view;
        ssize_t got;

        if (there == 0) {
            return TRUE;
        }
        size = size < MAX_READ ? size : MAX_READ;
        view = WskpViewCreate(size);
        if (view == NULL) {
            return FALSE;
        }
        got = HostSocketReceive(socket->Fd, &(HOST_PIECE){.Base = view->Block->Bytes + view->Start, .Length = size}, 1);
        if (got <= 0) {
            WskpViewDestroy(view);
            stream->HostError = got < 0 && got != -EAGAIN && got != -EINTR ? (int)got : stream->HostError;
            return TRUE;
        }
        view->End += (SIZE_T)got;
        InsertTailList(&stream->Stash, &view->Link);
        stream->StashBytes += (SIZE_T)got;
    }
    return TRUE;
}

static void Discard(WSKP_SOCKET *socket) {
    UCHAR rest[4096];
    ssize_t got;

    WskpStashDrop(&socket->Stream.Stash);
    socket->Stream.StashBytes = 0;
    do {
        got = HostSocketReceive(socket->Fd, &(HOST_PIECE){.Base = rest, .Length = sizeof(rest)}, 1);
    } while (got > 0);
    if (got < 0 && got != -EAGAIN && got != -EINTR) {
        socket->Stream.HostError = (int)got;
    }
}

typedef enum OUTCOME { OUTCOME_WAIT, OUTCOME_DONE } OUTCOME;

static OUTCOME Drain(WSKP_SOCKET *socket) {
    if (MutantIs("WSK-DATA-007/done-at-once")) {
        return OUTCOME_DONE;
    }
    Discard(socket);
    return WskpStreamAtEnd(socket) ? OUTCOME_DONE : OUTCOME_WAIT;
}

/* Directly from the host: nothing waits in the stash. */
static OUTCOME ReadHost(WSKP_SOCKET *socket, WSKP_REQUEST *request, NTSTATUS *status) {
    HOST_PIECE pieces[HOST_MAX_PIECES];
    size_t count;
    ssize_t got;

    if (!WskpBufferPieces(&request->Buffer, 0, request->Buffer.Length, pieces, HOST_MAX_PIECES, &count)) {
        *status = STATUS_INSUFFICIENT_RESOURCES;
        return OUTCOME_DONE;
    }
    got = HostSocketReceive(socket->Fd, pieces, count);
    if (got == -EAGAIN || got == -EINTR) {
        return OUTCOME_WAIT;
    }
    if (got < 0) {
        socket->Stream.HostError = (int)got;
        return OUTCOME_WAIT;
    }
    socket->Stream.EndReached = socket->Stream.EndReached || got == 0; /* DATA-004 */
    request->Moved = (SIZE_T)got;
    if (MutantIs("WSK-DATA-002/rest-touched") && request->Moved < request->Buffer.Length) {
        WskpBufferWrite(&request->Buffer, request->Moved, "", 1);
    }
    return OUTCOME_DONE;
}

static OUTCOME Fill(WSKP_SOCKET *socket, WSKP_REQUEST *request, NTSTATUS *status) {
    WSKP_CONNECTION_STATE *stream = &socket->Stream;
    SIZE_T length = request->Buffer.Length;
    BOOLEAN all = (request->Flags & WSK_FLAG_WAITALL) != 0 && !MutantIs("WSK-DATA-006/flag-ignored");
    SSIZE_T moved;

    if (request->Flags & WSK_FLAG_DRAIN) {
        return Drain(socket);
    }
    if (length == 0) {
        if (MutantIs("WSK-DATA-008/consumes")) {
            Discard(socket);
        }
        return OUTCOME_DONE; /* DATA-008 */
    }
    if (all) {
        /* Collected on our side, so that nothing is lost when it is cancelled (IRP-013). */
        if (!FillStash(socket, length)) {
            WskpPollerRetry();
            return OUTCOME_WAIT;
        }
        WskpStreamAtEnd(socket);
        if (stream->StashBytes < length && !stream->EndReached) {
            return OUTCOME_WAIT;
        }
    } else if (stream->StashBytes == 0) {
        return ReadHost(socket, request, status);
    }
    moved = WskpStashMove(&stream->Stash, &request->Buffer, 0, length);
    if (moved < 0) {
        *status = STATUS_INSUFFICIENT_RESOURCES;
        return OUTCOME_DONE;
    }
    stream->StashBytes -= (SIZE_T)moved;
    request->Moved = (SIZE_T)moved;
    return OUTCOME_DONE;
}

void WskpReceiveProgress(WSKP_SOCKET *socket) {
    WSKP_CONNECTION_STATE *stream = &socket->Stream;

    while (!IsListEmpty(&stream->Receives) && !stream->Indicating) {
        WSKP_REQUEST *request = CONTAINING_RECORD(stream->Receives.Flink, WSKP_REQUEST, Link);
        NTSTATUS status = STATUS_SUCCESS;
        OUTCOME outcome = OUTCOME_DONE;

        if (!WskpRequestClaim(request)) {
            continue;
        }
        if (!NT_SUCCESS(stream->Broken)) {
            status = MutantIs("WSK-DATA-005/as-graceful") ? STATUS_SUCCESS : stream->Broken;
        } else {
            outcome = Fill(socket, request, &status);
        }
        if (outcome == OUTCOME_WAIT) {
            WskpRequestUnclaim(request);
            if (stream->HostError == 0 || !NT_SUCCESS(stream->Broken)) {
                return;
            }
        } else {
            WskpRequestDone(request, status, NT_SUCCESS(status) ? request->Moved : 0);
            if (MutantIs("WSK-DATA-016/rest-lost") && (socket->Events & WSK_EVENT_RECEIVE) && socket->Fd >= 0) {
                Discard(socket);
            }
        }
        WskpStreamCheckHost(socket);
    }
}

static NTSTATUS ReceiveState(const WSKP_SOCKET *socket, ULONG flags, SIZE_T length) {
    if ((flags & ~(WSK_FLAG_WAITALL | WSK_FLAG_DRAIN)) != 0) {
        return STATUS_NOT_SUPPORTED; /* DATA-012 */
    }
    if ((flags & WSK_FLAG_DRAIN) != 0 && ((flags & WSK_FLAG_WAITALL) != 0 || length != 0)) {
        return STATUS_INVALID_PARAMETER; /* DATA-007 */
    }
    return socket->State == WSKP_CONNECTED && !socket->Stream.Silent ? STATUS_SUCCESS : STATUS_INVALID_DEVICE_STATE;
}

NTSTATUS WSKAPI WskpReceive(PWSK_SOCKET Socket, PWSK_BUF Buffer, ULONG Flags, PIRP Irp) {
    WSKP_CALL call;
    WSKP_SOCKET *socket = WskpSocketEnter(&call, "WskReceive", Socket, WSKP_CONNECTION | WSKP_STREAM, DISPATCH_LEVEL);
    WSKP_BUFFER buffer;
    WSKP_REQUEST *request;
    NTSTATUS status = STATUS_INVALID_PARAMETER;
    KIRQL irql;

    WskpBufferTake("WskReceive", Buffer, &buffer);
    request = Irp == NULL ? NULL : WskpRequestBegin(WSKP_Receive, socket->Client, socket, Irp, &status);
    if (request != NULL) {
        request->Buffer = buffer;
        request->Flags = Flags;
        irql = WskpLock();
        status = ReceiveState(socket, Flags, buffer.Length);
        if (NT_SUCCESS(status)) {
            socket->Stream.ReceiveCalls++;
            socket->Stream.Paused = FALSE; /* DATA-014: the call alone is enough */
            WskpRequestQueue(request, &socket->Stream.Receives);
            WskpStreamProgress(socket);
            WskpEventsKick(socket);
        }
        WskpUnlock(irql);
        status = NT_SUCCESS(status) ? WskpRequestReturn(request) : WskpRequestFinish(request, status, 0);
    }
    WskpSocketLeave(&call);
    return status;
}

BOOLEAN WskpStreamReceiveDue(WSKP_SOCKET *socket) {
    WSKP_CONNECTION_STATE *stream = &socket->Stream;
    return socket->State == WSKP_CONNECTED && NT_SUCCESS(stream->Broken) && !stream->Silent && !stream->Indicating &&
           (!stream->Paused || MutantIs("WSK-DATA-014/not-paused")) && IsListEmpty(&stream->Receives) &&
           WskpStreamUnread(socket) > 0;
}

static void ListDestroy(LIST_ENTRY *list) {
    while (!IsListEmpty(list)) {
        WskpIndicationDestroy(CONTAINING_RECORD(RemoveHeadList(list), WSKP_INDICATION, Link));
    }
}

/* Indications over what the stash holds, some of its views cut once more; FALSE when there is no memory. */
static BOOLEAN ListCreate(WSKP_SOCKET *socket, LIST_ENTRY *list, SIZE_T *bytes) {
    LIST_ENTRY *stash = &socket->Stream.Stash;
    PWSK_DATA_INDICATION *place = NULL;
    ULONG count = 0;

    *bytes = 0;
    for (PLIST_ENTRY entry = stash->Flink; entry != stash && count < MAX_INDICATIONS; entry = entry->Flink) {
        WSKP_VIEW *view = CONTAINING_RECORD(entry, WSKP_VIEW, Link);
        SIZE_T start = view->Start;
        while (start < view->End && count < MAX_INDICATIONS) {
            SIZE_T left = view->End - start;
            BOOLEAN cut = left > 1 && count + 1 < MAX_INDICATIONS && WskpDraw(2, "one more indication") == 1;
            SIZE_T here = cut ? 1 + WskpDraw((ULONG)left - 1, "bytes of an indication") : left;
            WSKP_INDICATION *indication =
                WskpIndicationCreate(socket, &(WSKP_VIEW){.Block = view->Block, .Start = start, .End = start + here});
            if (indication == NULL) {
                ListDestroy(list);
                return FALSE;
            }
            InsertTailList(list, &indication->Link);
            if (place != NULL) {
                *place = &indication->Public.Stream;
            }
            place = &indication->Public.Stream.Next;
            start += here;
            *bytes += here;
            count++;
        }
    }
    return *bytes > 0;
}

/* With the lock: bytes leave the stash, their indications stay as long as they are needed. */
static void Consume(WSKP_SOCKET *socket, SIZE_T bytes) {
    WSKP_CONNECTION_STATE *stream = &socket->Stream;
    stream->StashBytes -= bytes;
    while (bytes > 0) {
        WSKP_VIEW *view = CONTAINING_RECORD(stream->Stash.Flink, WSKP_VIEW, Link);
        SIZE_T here = view->End - view->Start < bytes ? view->End - view->Start : bytes;
        view->Start += here;
        bytes -= here;
        if (view->Start == view->End) {
            RemoveEntryList(&view->Link);
            WskpViewDestroy(view);
        }
    }
}

static void Retain(WSKP_SOCKET *socket, LIST_ENTRY *list) {
    while (!IsListEmpty(list)) {
        PLIST_ENTRY entry = RemoveHeadList(list);
        CONTAINING_RECORD(entry, WSKP_INDICATION, Link)->Retained = TRUE;
        InsertTailList(&socket->Stream.Retained, entry);
    }
}

/* What the client answered: how many bytes are no longer ours. */
static SIZE_T Taken(WSKP_SOCKET *socket, LIST_ENTRY *list, NTSTATUS status, SIZE_T indicated, SIZE_T accepted) {
    WskpIndicationsRequireKept(&socket->Stream.ReleasedEarly, status);
    switch (status) {
    case STATUS_SUCCESS:
        if (accepted > indicated) {
            WskpClientError("WSK-DATA-014", "WskReceiveEvent accepted %ju of %ju bytes", (uintmax_t)accepted,
                            (uintmax_t)indicated);
        }
        return MutantIs("WSK-DATA-014/rest-lost") ? indicated : accepted;
    case STATUS_PENDING:
        if (WskpSocketIsClosing(socket) && !IsListEmpty(list)) {
            WskpClientError("WSK-DATA-015", "WskReceiveEvent keeps an indication of a socket that was closed meanwhile");
        }
        Retain(socket, list);
        return indicated;
    case STATUS_DATA_NOT_ACCEPTED:
        return 0;
    default:
        WskpClientError("WSK-DATA-013", "WskReceiveEvent returned %#x", (unsigned)status);
    }
}

KIRQL WskpStreamReceiveCall(WSKP_SOCKET *socket, KIRQL level, KIRQL irql) {
    const WSK_CLIENT_CONNECTION_DISPATCH *dispatch = WskpSocketConnectionDispatch(socket);
    WSKP_CONNECTION_STATE *stream = &socket->Stream;
    ULONG flags = WskpCallbackFlags(level) | WSK_FLAG_ENTIRE_MESSAGE | (WskpDraw(2, "release as soon as possible") ? WSK_FLAG_RELEASE_ASAP : 0);
    PVOID context = MutantIs("WSK-CTX-003/context-lost") ? NULL : socket->Context;
    LIST_ENTRY list = {&list, &list};
    SIZE_T indicated, accepted;
    ULONG calls = stream->ReceiveCalls;
    BOOLEAN empty = WskpKnobsEventsAreEmpty();
    WSKP_CALLBACK callback;
    NTSTATUS status;

    if (dispatch == NULL || dispatch->WskReceiveEvent == NULL) {
        WskpClientError("WSK-CTX-005", "the receive event is enabled and there is no callback for it");
    }
    if (!FillStash(socket, MAX_READ) || !ListCreate(socket, &list, &indicated)) {
        WskpPollerRetry();
        return irql;
    }
    accepted = empty ? 0 : indicated;
    stream->Indicating = TRUE;
    WskpCallbackBegin(&callback, socket, WSK_EVENT_RECEIVE, "WskReceiveEvent", level, irql);
    status = dispatch->WskReceiveEvent(context, flags,
                                       empty ? NULL : &CONTAINING_RECORD(list.Flink, WSKP_INDICATION, Link)->Public.Stream,
                                       accepted - (MutantIs("WSK-DATA-013/one-less") ? 1 : 0), &accepted);
    irql = WskpCallbackEnd(&callback);
    stream->Indicating = FALSE;
    if (empty && status == STATUS_PENDING) {
        WskpClientError("WSK-DATA-013", "WskReceiveEvent keeps an indication that was not there");
    }
    accepted = Taken(socket, &list, status, empty ? 0 : indicated, accepted);
    if (!WskpSocketIsClosing(socket) && NT_SUCCESS(stream->Broken)) { /* else there is no stash any more */
        Consume(socket, accepted);
        /* A WskReceive that came meanwhile is the one that ends the pause. */
        stream->Paused = accepted < indicated && stream->ReceiveCalls == calls;
    }
    ListDestroy(&list);
    WskpSocketProgress(socket);
    return irql;
}

NTSTATUS WSKAPI WskpReleaseData(PWSK_SOCKET Socket, PWSK_DATA_INDICATION DataIndication) {
    WSKP_CALL call;
    WSKP_SOCKET *socket = WskpSocketEnter(&call, "WskRelease", Socket, WSKP_CONNECTION | WSKP_STREAM, DISPATCH_LEVEL);
    NTSTATUS status;
    KIRQL irql = WskpLock();

    status = WskpIndicationsRelease(socket, DataIndication, FALSE);
    WskpUnlock(irql);
    WskpSocketLeave(&call);
    return status;
}
