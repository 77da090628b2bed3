/*
 * datagram.c: WskReceiveFrom, the receive-from event, WskRelease for datagrams.
 */
#include "datagram.h"

#include "address.h"
#include "ancillary.h"
#include "data.h"
#include "event.h"
#include "functions.h"
#include "poller.h"
#include "socket.h"

#include "host/host_socket.h"

#define MAX_INDICATIONS 8u

void WskpDatagramInitialize(WSKP_DATAGRAM_STATE *datagram) {
    InitializeListHead(&datagram->Sends);
    InitializeListHead(&datagram->Receives);
    InitializeListHead(&datagram->Arrived);
    InitializeListHead(&datagram->Retained);
}

static WSKP_INDICATION *IndicationAt(PLIST_ENTRY entry) {
    return CONTAINING_RECORD(entry, WSKP_INDICATION, Link);
}

/* A fixed remote address lets nobody else in (DGRAM-004, DGRAM-005). */
static BOOLEAN IsLetIn(const WSKP_SOCKET *socket, const HOST_PACKET *packet) {
    const WSKP_DATAGRAM_STATE *datagram = &socket->Datagram;
    if (datagram->HasSendTo && MutantIs("WSK-DGRAM-006/filters")) {
        return HostAddressEqual(&datagram->SendTo, &packet->From);
    }
    return !datagram->HasRemote || MutantIs("WSK-DGRAM-004/no-filter") || HostAddressEqual(&datagram->Remote, &packet->From);
}

/* How a datagram was addressed: all of one indication list are alike. */
static ULONG KindOf(const HOST_PACKET *packet) {
    if (MutantIs("WSK-DGRAM-009/unmarked")) {
        return 0;
    }
    return packet->Broadcast ? MSG_BCAST : packet->Multicast ? MSG_MCAST : 0;
}

/* The next datagram from the host that is let in; NULL when there is none, or (after asking to be called again) no memory. */
static WSKP_INDICATION *Read(WSKP_SOCKET *socket) {
    static UCHAR scratch[HOST_MAX_DATAGRAM]; /* with the lock */
    for (;;) {
        HOST_PACKET packet;
        WSKP_VIEW *view;
        WSKP_INDICATION *indication;

        if (HostDatagramReceive(socket->Fd, scratch, sizeof(scratch), &packet) < 0) {
            return NULL;
        }
        if (!IsLetIn(socket, &packet)) {
            continue;
        }
        view = WskpViewCreate(packet.Length);
        if (view == NULL) {
            return NULL; /* datagrams may be lost; that is what they are for */
        }
        memcpy(view->Block->Bytes + view->Start, scratch, packet.Length);
        view->End = view->Start + packet.Length;
        indication = WskpIndicationCreate(socket, view);
        WskpViewDestroy(view);
        if (indication == NULL) {
            return NULL;
        }
        indication->Packet = packet;
        return indication;
    }
}

/* The next datagram, wherever it is. */
static WSKP_INDICATION *Next(WSKP_SOCKET *socket) {
    LIST_ENTRY *arrived = &socket->Datagram.Arrived;
    return IsListEmpty(arrived) ? Read(socket) : IndicationAt(RemoveHeadList(arrived));
}

static void PutBack(WSKP_SOCKET *socket, WSKP_INDICATION *indication) {
    InsertHeadList(&socket->Datagram.Arrived, &indication->Link);
}

/* What the client asked to be told beside the bytes; flags that these tell (DGRAM-008). */
static ULONG WriteControl(WSKP_SOCKET *socket, WSKP_REQUEST *request, const HOST_PACKET *packet) {
    ULONG64 control[8];
    ULONG size = socket->Options.PacketInfo ? WskpAncillaryWrite(packet, control) : 0;
    ULONG room, flags = 0;

    if (request->ReceiveFrom.ControlLength == NULL) {
        return 0; /* the control buffer is ignored */
    }
    room = request->ReceiveFrom.Control == NULL ? 0 : *request->ReceiveFrom.ControlLength;
    if (size > room) {
        flags = MutantIs("WSK-DGRAM-008/not-truncated") ? 0 : MSG_CTRUNC;
    } else if (size > 0) {
        memcpy(request->ReceiveFrom.Control, control, size);
    }
    *request->ReceiveFrom.ControlLength = size;
    return flags;
}

/* One datagram into one request (DGRAM-002). */
static void Fill(WSKP_SOCKET *socket, WSKP_REQUEST *request, WSKP_INDICATION *indication) {
    const HOST_PACKET *packet = &indication->Packet;
    SIZE_T length = packet->Length < request->Buffer.Length ? packet->Length : request->Buffer.Length;
    ULONG flags = KindOf(packet);
    BOOLEAN written = WskpBufferWrite(&request->Buffer, 0, indication->View.Block->Bytes + indication->View.Start, length);

    if (request->ReceiveFrom.Remote != NULL) {
        WskpAddressWrite(request->ReceiveFrom.Remote, &packet->From);
    }
    flags |= WriteControl(socket, request, packet);
    if (length < packet->Length && !MutantIs("WSK-DGRAM-007/not-flagged")) {
        flags |= MSG_TRUNC; /* DGRAM-007 */
    }
    if (request->ReceiveFrom.ControlFlags != NULL) {
        *request->ReceiveFrom.ControlFlags = flags;
    }
    WskpRequestDone(request, written ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES, written ? length : 0);
}

void WskpDatagramReceiveProgress(WSKP_SOCKET *socket) {
    LIST_ENTRY *receives = &socket->Datagram.Receives;

    while (!IsListEmpty(receives) && socket->Fd >= 0 && !socket->Datagram.Indicating) {
        WSKP_INDICATION *indication = Next(socket);
        WSKP_REQUEST *request = CONTAINING_RECORD(receives->Flink, WSKP_REQUEST, Link);
        if (indication == NULL) {
            return;
        }
        if (!WskpRequestClaim(request)) {
            PutBack(socket, indication); /* nothing is lost to a cancelled one (IRP-013) */
            continue;
        }
        Fill(socket, request, indication);
        if (MutantIs("WSK-DGRAM-002/twice")) {
            PutBack(socket, indication);
        } else {
            WskpIndicationDestroy(indication);
        }
        if (MutantIs("WSK-DGRAM-012/next-lost") && (socket->Events & WSK_EVENT_RECEIVE_FROM) && (indication = Next(socket)) != NULL) {
            WskpIndicationDestroy(indication);
        }
    }
}

void WskpDatagramProgress(WSKP_SOCKET *socket) {
    if (socket->State == WSKP_BOUND) {
        WskpDatagramSendProgress(socket);
        WskpDatagramReceiveProgress(socket);
    }
}

static void CheckPointers(PSOCKADDR remote, HOST_FAMILY family, PULONG controlLength, PCMSGHDR control, PULONG controlFlags) {
    if (remote != NULL) {
        ShimRequireMemory("RemoteAddress of WskReceiveFrom", remote, WskpAddressSize(family));
        ShimRequireNonPaged("RemoteAddress of WskReceiveFrom", remote, WskpAddressSize(family));
    }
    if (controlLength != NULL) {
        ShimRequireMemory("ControlInfoLength of WskReceiveFrom", controlLength, sizeof(*controlLength));
        ShimRequireNonPaged("ControlInfoLength of WskReceiveFrom", controlLength, sizeof(*controlLength));
        if (control != NULL) {
            ShimRequireMemory("ControlInfo of WskReceiveFrom", control, *controlLength);
        }
    }
    if (controlFlags != NULL) {
        ShimRequireMemory("ControlFlags of WskReceiveFrom", controlFlags, sizeof(*controlFlags));
        ShimRequireNonPaged("ControlFlags of WskReceiveFrom", controlFlags, sizeof(*controlFlags));
    }
}

NTSTATUS WSKAPI WskpReceiveFrom(PWSK_SOCKET Socket, PWSK_BUF Buffer, ULONG Flags, PSOCKADDR RemoteAddress,
                                PULONG ControlInfoLength, PCMSGHDR ControlInfo, PULONG ControlFlags, PIRP Irp) {
    WSKP_CALL call;
    WSKP_SOCKET *socket = WskpSocketEnter(&call, "WskReceiveFrom", Socket, WSKP_DATAGRAM, DISPATCH_LEVEL);
    NTSTATUS status = STATUS_INVALID_PARAMETER;
    WSKP_BUFFER buffer;
    WSKP_REQUEST *request;
    KIRQL irql;

    WskpBufferTake("WskReceiveFrom", Buffer, &buffer);
    CheckPointers(RemoteAddress, socket->Family, ControlInfoLength, ControlInfo, ControlFlags);
    request = Irp == NULL ? NULL : WskpRequestBegin(WSKP_ReceiveFrom, socket->Client, socket, Irp, &status);
    if (request != NULL) {
        request->Buffer = buffer;
        request->ReceiveFrom.Remote = RemoteAddress;
        request->ReceiveFrom.ControlLength = ControlInfoLength;
        request->ReceiveFrom.Control = ControlInfo;
        request->ReceiveFrom.ControlFlags = ControlFlags;
        irql = WskpLock();
        if (Flags != 0) {
            status = STATUS_INVALID_PARAMETER;
        } else if (socket->State != WSKP_BOUND && !MutantIs("WSK-DGRAM-003/unbound")) {
            status = STATUS_INVALID_DEVICE_STATE; /* DGRAM-003 */
        } else {
            status = STATUS_PENDING;
            WskpRequestQueue(request, &socket->Datagram.Receives);
            WskpDatagramReceiveProgress(socket);
        }
        WskpUnlock(irql);
        status = status == STATUS_PENDING ? WskpRequestReturn(request) : WskpRequestFinish(request, status, 0);
    }
    WskpSocketLeave(&call);
    return status;
}

void WskpDatagramClose(WSKP_SOCKET *socket) {
    LIST_ENTRY *arrived = &socket->Datagram.Arrived;
    while (!IsListEmpty(arrived)) {
        WskpIndicationDestroy(IndicationAt(RemoveHeadList(arrived)));
    }
}

BOOLEAN WskpDatagramReceiveDue(WSKP_SOCKET *socket) {
    WSKP_DATAGRAM_STATE *datagram = &socket->Datagram;
    WSKP_INDICATION *next;

    if (socket->State != WSKP_BOUND || datagram->Indicating || !IsListEmpty(&datagram->Receives)) {
        return FALSE;
    }
    if (IsListEmpty(&datagram->Arrived)) {
        next = Read(socket); /* what is not let in is no reason to call */
        if (next == NULL) {
            return FALSE;
        }
        PutBack(socket, next);
    }
    return TRUE;
}

/* Several at once, all addressed alike; the client's list is linked through them. */
static ULONG Gather(WSKP_SOCKET *socket, LIST_ENTRY *list) {
    ULONG limit = 1 + WskpDraw(MAX_INDICATIONS, "datagrams of an indication"), count = 0, kind = 0;
    WSKP_INDICATION *next, *last = NULL;

    while (count < limit && (next = Next(socket)) != NULL) {
        if (last != NULL && KindOf(&next->Packet) != kind) {
            PutBack(socket, next);
            break;
        }
        kind = KindOf(&next->Packet);
        WskpAddressWrite((PSOCKADDR)next->Address, &next->Packet.From);
        next->Public.Datagram.RemoteAddress = (PSOCKADDR)next->Address;
        next->Public.Datagram.ControlInfoLength = socket->Options.PacketInfo ? WskpAncillaryWrite(&next->Packet, next->Control) : 0;
        next->Public.Datagram.ControlInfo = next->Public.Datagram.ControlInfoLength > 0 ? (PCMSGHDR)next->Control : NULL;
        next->Public.Datagram.Next = NULL;
        if (last != NULL && !MutantIs("WSK-DGRAM-010/first-only")) {
            last->Public.Datagram.Next = &next->Public.Datagram;
        }
        InsertTailList(list, &next->Link);
        last = next;
        count++;
    }
    return kind;
}

/* What the client answered. */
static void Settle(WSKP_SOCKET *socket, LIST_ENTRY *list, NTSTATUS status) {
    BOOLEAN closing = WskpSocketIsClosing(socket);

    WskpIndicationsRequireKept(&socket->Datagram.ReleasedEarly, status);
    switch (status) {
    case STATUS_SUCCESS:
        break;
    case STATUS_PENDING: /* kept until WskRelease, as one list or in pieces (DGRAM-010) */
        if (closing && !IsListEmpty(list)) {
            WskpClientError("WSK-DGRAM-010", "WskReceiveFromEvent keeps an indication of a socket that was closed meanwhile");
        }
        while (!IsListEmpty(list)) {
            WSKP_INDICATION *indication = IndicationAt(RemoveHeadList(list));
            indication->Retained = TRUE;
            InsertTailList(&socket->Datagram.Retained, &indication->Link);
        }
        break;
    case STATUS_DATA_NOT_ACCEPTED:
        if (closing || (socket->StaticEvents & WSK_EVENT_RECEIVE_FROM)) {
            break; /* DGRAM-011: a static event stays on, and what it refused is gone */
        }
        if (!MutantIs("WSK-DGRAM-011/stays-on")) {
            socket->Events &= ~WSK_EVENT_RECEIVE_FROM;
        }
        while (!IsListEmpty(list)) {
            PutBack(socket, IndicationAt(RemoveTailList(list)));
        }
        break;
    default:
        WskpClientError("WSK-DGRAM-010", "WskReceiveFromEvent returned %#x", (unsigned)status);
    }
    while (!IsListEmpty(list)) {
        WskpIndicationDestroy(IndicationAt(RemoveHeadList(list)));
    }
}

KIRQL WskpDatagramReceiveCall(WSKP_SOCKET *socket, KIRQL level, KIRQL irql) {
    const WSK_CLIENT_DATAGRAM_DISPATCH *dispatch = socket->ClientDispatch;
    PVOID context = MutantIs("WSK-CTX-002/context-lost") ? NULL : socket->Context;
    LIST_ENTRY list = {&list, &list};
    BOOLEAN empty = WskpKnobsEventsAreEmpty();
    WSKP_CALLBACK callback;
    NTSTATUS status;
    ULONG kind;

    if (dispatch == NULL || dispatch->WskReceiveFromEvent == NULL) {
        WskpClientError("WSK-CTX-005", "the receive-from event is enabled and there is no callback for it");
    }
    kind = Gather(socket, &list);
    if (IsListEmpty(&list)) {
        return irql;
    }
    socket->Datagram.Indicating = TRUE;
    WskpCallbackBegin(&callback, socket, WSK_EVENT_RECEIVE_FROM, "WskReceiveFromEvent", level, irql);
    status = dispatch->WskReceiveFromEvent(context, WskpCallbackFlags(level) | kind,
                                           empty ? NULL : &IndicationAt(list.Flink)->Public.Datagram);
    irql = WskpCallbackEnd(&callback);
    if (empty && status == STATUS_PENDING) {
        WskpClientError("WSK-DGRAM-010", "WskReceiveFromEvent keeps a datagram that was not there");
    }
    socket->Datagram.Indicating = FALSE;
    Settle(socket, &list, status);
    WskpSocketProgress(socket);
    return irql;
}

NTSTATUS WSKAPI WskpReleaseDatagram(PWSK_SOCKET Socket, PWSK_DATAGRAM_INDICATION DatagramIndication) {
    WSKP_CALL call;
    WSKP_SOCKET *socket = WskpSocketEnter(&call, "WskRelease", Socket, WSKP_DATAGRAM, DISPATCH_LEVEL);
    NTSTATUS status;
    KIRQL irql = WskpLock();

    status = WskpIndicationsRelease(socket, DatagramIndication, TRUE);
    WskpUnlock(irql);
    WskpSocketLeave(&call);
    return status;
}
