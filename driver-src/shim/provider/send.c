/*
 * send.c: WskSend and WskDisconnect: one queue, in the order of the calls (DATA-011).
 */
#include "data.h"
#include "event.h"
#include "functions.h"
#include "option.h"
#include "socket.h"

#include "host/host_option.h"
#include "host/host_socket.h"

#include <errno.h>

typedef enum STEP { STEP_MORE, STEP_WAIT, STEP_DONE } STEP;

/* Hand bytes of the request to the host. */
static STEP SendBytes(WSKP_SOCKET *socket, WSKP_REQUEST *request, NTSTATUS *status) {
    HOST_PIECE pieces[HOST_MAX_PIECES];
    size_t count;
    ssize_t sent;

    if (request->Moved == request->Buffer.Length) {
        return STEP_DONE;
    }
    if (!WskpBufferPieces(&request->Buffer, request->Moved, request->Buffer.Length, pieces, HOST_MAX_PIECES, &count)) {
        *status = STATUS_INSUFFICIENT_RESOURCES;
        return STEP_DONE;
    }
    sent = HostSocketSend(socket->Fd, pieces, count);
    if (sent == -EAGAIN || sent == -EINTR) {
        if (MutantIs("WSK-DATA-003/not-awaited")) {
            return STEP_DONE;
        }
        return STEP_WAIT;
    }
    if (sent < 0) {
        *status = WskpStatusOf((int)sent);
        return STEP_DONE;
    }
    request->Moved += (SIZE_T)sent;
    return STEP_MORE;
}

/* Behind all data: our direction ends; the request is done when the peer has acknowledged it (DISC-001, DISC-006). */
static STEP Disconnect(WSKP_SOCKET *socket, WSKP_REQUEST *request, NTSTATUS *status) {
    if (!request->Disconnect.ShutDown) {
        int error = MutantIs("WSK-DISC-001/no-fin") ? 0 : HostSocketShutdown(socket->Fd);
        request->Disconnect.ShutDown = TRUE;
        if (error < 0) {
            *status = WskpStatusOf(error);
            return STEP_DONE;
        }
        socket->Stream.FinSent = TRUE;
    }
    socket->Stream.FinAcknowledged = HostSocketFinAcknowledged(socket->Fd);
    return socket->Stream.FinAcknowledged || MutantIs("WSK-DISC-006/not-awaited") ? STEP_DONE : STEP_WAIT;
}

static STEP Step(WSKP_SOCKET *socket, WSKP_REQUEST *request, NTSTATUS *status) {
    STEP step = SendBytes(socket, request, status);
    if (step == STEP_DONE && NT_SUCCESS(*status) && request->Operation == WSKP_Disconnect) {
        return Disconnect(socket, request, status);
    }
    return step;
}

static void EndOne(WSKP_REQUEST *request, NTSTATUS status) {
    BOOLEAN tells = request->Operation == WSKP_Send && NT_SUCCESS(status);

    if (MutantIs("WSK-DATA-001/one-less") && tells && request->Moved > 0) {
        request->Moved--;
    }
    WskpRequestDone(request, status, tells ? request->Moved : 0);
}

void WskpSendProgress(WSKP_SOCKET *socket) {
    WSKP_CONNECTION_STATE *stream = &socket->Stream;

    WskpStreamCheckHost(socket);
    while (!IsListEmpty(&stream->Sends)) {
        WSKP_REQUEST *request = CONTAINING_RECORD(stream->Sends.Flink, WSKP_REQUEST, Link);
        NTSTATUS status = STATUS_SUCCESS;
        STEP step;

        if (!WskpRequestClaim(request)) {
            continue;
        }
        if (!NT_SUCCESS(stream->Broken)) {
            EndOne(request, stream->Broken);
            continue;
        }
        do {
            step = Step(socket, request, &status);
        } while (step == STEP_MORE);
        if (step == STEP_WAIT) {
            WskpRequestUnclaim(request);
            return;
        }
        EndOne(request, status);
        if (!NT_SUCCESS(status) && status != STATUS_INSUFFICIENT_RESOURCES) {
            WskpStreamBreak(socket, status, TRUE); /* ends those behind it */
        }
    }
}

/* Bytes of it are on the way: what is missing cannot be left out in silence, so the connection ends. */
static void UndoSend(WSKP_REQUEST *request) {
    if (request->Moved > 0 && request->Moved < request->Buffer.Length) {
        WskpStreamBreak(request->Socket, STATUS_CONNECTION_ABORTED, FALSE);
    }
}

/* With the lock: why nothing can be sent now. */
static NTSTATUS SendState(const WSKP_SOCKET *socket) {
    const WSKP_CONNECTION_STATE *stream = &socket->Stream;

    if (socket->State != WSKP_CONNECTED || stream->Silent) {
        return STATUS_INVALID_DEVICE_STATE; /* DATA-012, OPT-012 */
    }
    if (!NT_SUCCESS(stream->Broken)) {
        return stream->Broken;
    }
    if (stream->SendClosed && !MutantIs("WSK-DISC-003/still-sends")) {
        return STATUS_CONNECTION_DISCONNECTED; /* DISC-003 */
    }
    return STATUS_SUCCESS;
}

void WskpSendEnqueue(WSKP_SOCKET *socket, WSKP_REQUEST *request) {
    request->Undo = UndoSend;
    WskpRequestQueue(request, &socket->Stream.Sends);
    WskpRequestUnclaim(request);
    WskpSendProgress(socket);
    WskpEventsKick(socket);
}

NTSTATUS WSKAPI WskpSend(PWSK_SOCKET Socket, PWSK_BUF Buffer, ULONG Flags, PIRP Irp) {
    WSKP_CALL call;
    WSKP_SOCKET *socket = WskpSocketEnter(&call, "WskSend", Socket, WSKP_CONNECTION | WSKP_STREAM, DISPATCH_LEVEL);
    WSKP_BUFFER buffer;
    WSKP_REQUEST *request;
    NTSTATUS status = STATUS_INVALID_PARAMETER;
    KIRQL irql;

    WskpBufferTake("WskSend", Buffer, &buffer);
    request = Irp == NULL ? NULL : WskpRequestBegin(WSKP_Send, socket->Client, socket, Irp, &status);
    if (request != NULL) {
        request->Buffer = buffer;
        irql = WskpLock();
        status = (Flags & ~WSK_FLAG_NODELAY) != 0 ? STATUS_NOT_SUPPORTED : SendState(socket);
        if (NT_SUCCESS(status)) {
            BOOLEAN atOnce = (Flags & WSK_FLAG_NODELAY) != 0 && socket->Options.NoDelay == 0;
            if (atOnce) {
                HostOptionSet(socket->Fd, socket->Family, HOST_NODELAY, 1);
            }
            WskpSendEnqueue(socket, request);
            if (atOnce && socket->Fd >= 0) {
                HostOptionSet(socket->Fd, socket->Family, HOST_NODELAY, 0);
            }
        }
        WskpUnlock(irql);
        if (!NT_SUCCESS(status) && MutantIs("WSK-DATA-012/into-the-void")) {
            status = WskpRequestFinish(request, STATUS_SUCCESS, buffer.Length);
        } else {
            status = NT_SUCCESS(status) ? WskpRequestReturn(request) : WskpRequestFinish(request, status, 0);
        }
    }
    WskpSocketLeave(&call);
    return status;
}

/* With the lock. */
static NTSTATUS Abort(WSKP_SOCKET *socket, BOOLEAN hasBuffer) {
    if (hasBuffer) {
        return STATUS_INVALID_PARAMETER; /* DISC-005 */
    }
    if (socket->State != WSKP_CONNECTED || socket->Stream.Silent) {
        return STATUS_INVALID_DEVICE_STATE;
    }
    if (!MutantIs("WSK-DISC-004/nothing-aborted")) {
        WskpStreamBreak(socket, STATUS_CONNECTION_ABORTED, FALSE); /* DISC-004 */
    }
    return STATUS_SUCCESS;
}

NTSTATUS WSKAPI WskpDisconnect(PWSK_SOCKET Socket, PWSK_BUF Buffer, ULONG Flags, PIRP Irp) {
    WSKP_CALL call;
    WSKP_SOCKET *socket = WskpSocketEnter(&call, "WskDisconnect", Socket, WSKP_CONNECTION | WSKP_STREAM, DISPATCH_LEVEL);
    WSKP_BUFFER buffer = {0};
    WSKP_REQUEST *request;
    NTSTATUS status = STATUS_INVALID_PARAMETER;
    BOOLEAN queued = FALSE;
    KIRQL irql;

    if (Buffer != NULL) {
        WskpBufferTake("WskDisconnect", Buffer, &buffer);
    }
    request = Irp == NULL ? NULL : WskpRequestBegin(WSKP_Disconnect, socket->Client, socket, Irp, &status);
    if (request != NULL) {
        request->Buffer = buffer;
        if (MutantIs("WSK-DISC-002/buffer-dropped")) {
            request->Buffer.Length = 0;
        }
        irql = WskpLock();
        if (Flags & ~WSK_FLAG_ABORTIVE) {
            status = STATUS_INVALID_PARAMETER;
        } else if (Flags & WSK_FLAG_ABORTIVE) {
            status = Abort(socket, Buffer != NULL);
        } else {
            status = SendState(socket);
            queued = NT_SUCCESS(status);
        }
        if (queued) {
            socket->Stream.SendClosed = TRUE;
            WskpSendEnqueue(socket, request);
        }
        WskpUnlock(irql);
        status = queued ? WskpRequestReturn(request) : WskpRequestFinish(request, status, 0);
    }
    WskpSocketLeave(&call);
    return status;
}
