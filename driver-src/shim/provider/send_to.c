/*
 * send_to.c: WskSendTo and WskSendMessages.
 */
#include "address.h"
#include "ancillary.h"
#include "datagram.h"
#include "functions.h"
#include "socket.h"

#include "host/host_datagram.h"

#include <errno.h>

/* One datagram: 0 or more bytes sent, -EAGAIN, or what went wrong. */
static ssize_t SendOne(WSKP_SOCKET *socket, WSKP_REQUEST *request, const WSKP_BUFFER *buffer) {
    HOST_PIECE pieces[HOST_MAX_PIECES];
    size_t count;

    if (!WskpBufferPieces(buffer, 0, buffer->Length, pieces, HOST_MAX_PIECES, &count)) {
        return -ENOMEM;
    }
    if (buffer->Length > HOST_MAX_DATAGRAM) {
        return -EMSGSIZE; /* DGRAM-014 */
    }
    return HostDatagramSend(socket->Fd, pieces, count, &request->Address, request->SendTo.HasSource ? &request->SendTo.Source : NULL);
}

/* As far as the host takes it; FALSE: wait. */
static BOOLEAN SendAll(WSKP_SOCKET *socket, WSKP_REQUEST *request, NTSTATUS *status) {
    while (request->SendTo.Sent < request->SendTo.Count) {
        const WSKP_BUFFER *buffer = request->SendTo.Messages == NULL ? &request->Buffer : &request->SendTo.Messages[request->SendTo.Sent];
        ssize_t sent = SendOne(socket, request, buffer);

        if (sent == -EAGAIN || sent == -EINTR) {
            return FALSE;
        }
        if (sent < 0) {
            *status = WskpStatusOf((int)sent);
            return TRUE;
        }
        request->Moved += (SIZE_T)sent;
        request->SendTo.Sent = MutantIs("WSK-DGRAM-013/first-only") ? request->SendTo.Count : request->SendTo.Sent + 1;
    }
    return TRUE;
}

void WskpDatagramSendProgress(WSKP_SOCKET *socket) {
    LIST_ENTRY *sends = &socket->Datagram.Sends;

    while (!IsListEmpty(sends) && socket->Fd >= 0) {
        WSKP_REQUEST *request = CONTAINING_RECORD(sends->Flink, WSKP_REQUEST, Link);
        NTSTATUS status = STATUS_SUCCESS;
        if (!WskpRequestClaim(request)) {
            continue;
        }
        if (!SendAll(socket, request, &status)) {
            WskpRequestUnclaim(request);
            return;
        }
        if (MutantIs("WSK-DGRAM-001/one-less") && request->Moved > 0) {
            request->Moved--;
        }
        WskpRequestDone(request, status, NT_SUCCESS(status) ? request->Moved : 0); /* DGRAM-001, DGRAM-013 */
    }
}

/* With the lock: where it goes (DGRAM-004 to DGRAM-006). */
static NTSTATUS Destination(WSKP_SOCKET *socket, const HOST_ADDRESS *explicit, HOST_ADDRESS *out) {
    const WSKP_DATAGRAM_STATE *datagram = &socket->Datagram;

    if (explicit != NULL && !(datagram->HasRemote && MutantIs("WSK-DGRAM-005/not-overridden"))) {
        *out = *explicit;
    } else if (datagram->HasRemote) {
        *out = datagram->Remote;
    } else if (datagram->HasSendTo) {
        *out = datagram->SendTo;
    } else {
        return STATUS_INVALID_PARAMETER;
    }
    return STATUS_SUCCESS;
}

typedef struct ARGUMENTS {
    PSOCKADDR Remote;
    ULONG ControlLength;
    PCMSGHDR Control;
    ULONG Flags;
} ARGUMENTS;

/* With the lock: what does not depend on the bytes. */
static NTSTATUS Prepare(WSKP_SOCKET *socket, WSKP_REQUEST *request, const ARGUMENTS *arguments) {
    HOST_ADDRESS remote;
    NTSTATUS status;

    if (arguments->Flags != 0) {
        return STATUS_INVALID_PARAMETER; /* DGRAM-014 */
    }
    if (arguments->Remote != NULL && !WskpAddressRead("WskSendTo", arguments->Remote, socket->Family, &remote)) {
        return STATUS_INVALID_PARAMETER;
    }
    if (socket->State != WSKP_BOUND) {
        return STATUS_INVALID_DEVICE_STATE; /* DGRAM-003 */
    }
    status = Destination(socket, arguments->Remote != NULL ? &remote : NULL, &request->Address);
    if (NT_SUCCESS(status) && arguments->ControlLength > 0 && arguments->Control != NULL &&
        !WskpAncillaryRead(socket->Family, arguments->Control, arguments->ControlLength, &request->SendTo.Source,
                           &request->SendTo.HasSource)) {
        return STATUS_INVALID_PARAMETER;
    }
    return status;
}

static NTSTATUS Send(WSKP_SOCKET *socket, WSKP_REQUEST *request, const ARGUMENTS *arguments) {
    KIRQL irql = WskpLock();
    NTSTATUS status = Prepare(socket, request, arguments);

    if (NT_SUCCESS(status)) {
        WskpRequestQueue(request, &socket->Datagram.Sends);
        WskpDatagramSendProgress(socket);
    }
    WskpUnlock(irql);
    return NT_SUCCESS(status) ? WskpRequestReturn(request) : WskpRequestFinish(request, status, 0);
}

static void CheckControl(ULONG length, PCMSGHDR control) {
    if (length > 0 && control != NULL) {
        ShimRequireMemory("ControlInfo of WskSendTo", control, length);
        ShimRequireNonPaged("ControlInfo of WskSendTo", control, length);
    }
}

NTSTATUS WSKAPI WskpSendTo(PWSK_SOCKET Socket, PWSK_BUF Buffer, ULONG Flags, PSOCKADDR RemoteAddress, ULONG ControlInfoLength,
                           PCMSGHDR ControlInfo, PIRP Irp) {
    WSKP_CALL call;
    WSKP_SOCKET *socket = WskpSocketEnter(&call, "WskSendTo", Socket, WSKP_DATAGRAM, DISPATCH_LEVEL);
    NTSTATUS status = STATUS_INVALID_PARAMETER;
    WSKP_BUFFER buffer;
    WSKP_REQUEST *request;

    WskpBufferTake("WskSendTo", Buffer, &buffer);
    CheckControl(ControlInfoLength, ControlInfo);
    request = Irp == NULL ? NULL : WskpRequestBegin(WSKP_SendTo, socket->Client, socket, Irp, &status);
    if (request != NULL) {
        request->Buffer = buffer;
        request->SendTo.Count = 1;
        status = Send(socket, request, &(ARGUMENTS){RemoteAddress, ControlInfoLength, ControlInfo, Flags});
    }
    WskpSocketLeave(&call);
    return status;
}

static ULONG CheckList(PWSK_BUF_LIST list) {
    ULONG count = 0;
    if (list == NULL) {
        WskpClientError("WSK-DGRAM-013", "WskSendMessages: NULL list");
    }
    for (PWSK_BUF_LIST one = list; one != NULL; one = one->Next) {
        WSKP_BUFFER buffer;
        ShimRequireMemory("WSK_BUF_LIST", one, sizeof(*one));
        WskpBufferTake("WskSendMessages", &one->Buffer, &buffer);
        count++;
    }
    return count;
}

/* A copy of the list, as of every WSK_BUF: only the MDLs have to outlive the call. FALSE: no memory. */
static BOOLEAN CopyList(WSKP_REQUEST *request, PWSK_BUF_LIST list, ULONG count) {
    request->SendTo.Messages = ShimAllocate("messages", count * sizeof(*request->SendTo.Messages));
    if (request->SendTo.Messages == NULL) {
        return FALSE;
    }
    for (PWSK_BUF_LIST one = list; one != NULL; one = one->Next) {
        WskpBufferTake("WskSendMessages", &one->Buffer, &request->SendTo.Messages[request->SendTo.Count++]);
    }
    return TRUE;
}

NTSTATUS WSKAPI WskpSendMessages(PWSK_SOCKET Socket, PWSK_BUF_LIST BufferList, ULONG Flags, PSOCKADDR RemoteAddress,
                                 ULONG ControlInfoLength, PCMSGHDR ControlInfo, PIRP Irp) {
    WSKP_CALL call;
    WSKP_SOCKET *socket = WskpSocketEnter(&call, "WskSendMessages", Socket, WSKP_DATAGRAM, DISPATCH_LEVEL);
    NTSTATUS status = STATUS_INVALID_PARAMETER;
    ULONG count = CheckList(BufferList);
    WSKP_REQUEST *request;

    CheckControl(ControlInfoLength, ControlInfo);
    request = Irp == NULL ? NULL : WskpRequestBegin(WSKP_SendMessages, socket->Client, socket, Irp, &status);
    if (request != NULL && !CopyList(request, BufferList, count)) {
        status = WskpRequestFinish(request, STATUS_INSUFFICIENT_RESOURCES, 0);
    } else if (request != NULL) {
        status = Send(socket, request, &(ARGUMENTS){RemoteAddress, ControlInfoLength, ControlInfo, Flags});
    }
    WskpSocketLeave(&call);
    return status;
}
