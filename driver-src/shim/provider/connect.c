/*
 * connect.c: WskConnect, WskConnectEx, WskSocketConnect.
 */
#include "address.h"
#include "create.h"
#include "event.h"
#include "functions.h"
#include "socket.h"

#include "host/host_socket.h"

#include <errno.h>

#define MAX_CONNECT_DATA 65535u

/* With the lock: the attempt is over, the socket is bound as before. */
static void Abandon(WSKP_SOCKET *socket) {
    if (socket->State == WSKP_CONNECTING) {
        HostSocketAbandon(socket->Fd);
        socket->State = WSKP_BOUND;
    }
}

static void UndoConnect(WSKP_REQUEST *request) {
    Abandon(request->Socket);
    if (request->Operation == WSKP_SocketConnect) {
        WskpSocketBeginClose(request->Socket, NULL);
    }
}

/* Connected: with data it is complete when that is sent, which goes before all that is sent later (CONN-013). */
static void Connected(WSKP_SOCKET *socket, WSKP_REQUEST *request) {
    WskpStreamConnected(socket);
    if (request->Operation == WSKP_ConnectEx && request->Buffer.Length > 0 && !MutantIs("WSK-CONN-013/data-dropped")) {
        RemoveEntryList(&request->Link);
        WskpSendEnqueue(socket, request);
        return;
    }
    if (MutantIs("WSK-CONN-011/events-on") && request->Operation == WSKP_SocketConnect && socket->ClientDispatch != NULL) {
        socket->Events |= WSKP_CONNECTION_EVENTS;
    }
    /* WskSocketConnect tells the socket (CONN-008), the others nothing (IRP-014). */
    WskpRequestDone(request, STATUS_SUCCESS, request->Operation == WSKP_SocketConnect ? (ULONG_PTR)&socket->Public : 0);
}

static void Failed(WSKP_SOCKET *socket, WSKP_REQUEST *request, NTSTATUS status) {
    Abandon(socket);
    WskpRequestDone(request, MutantIs("WSK-CONN-003/told-connected") ? STATUS_SUCCESS : status, 0);
    if (request->Operation == WSKP_SocketConnect && !MutantIs("WSK-CONN-010/socket-left")) {
        WskpSocketBeginClose(socket, NULL);
    }
}

void WskpConnectProgress(WSKP_SOCKET *socket) {
    WSKP_REQUEST *request;
    int result;

    if (IsListEmpty(&socket->Stream.Connects)) {
        return;
    }
    result = HostSocketConnected(socket->Fd);
    if (result == -EINPROGRESS) {
        return;
    }
    request = CONTAINING_RECORD(socket->Stream.Connects.Flink, WSKP_REQUEST, Link);
    if (!WskpRequestClaim(request)) {
        return;
    }
    if (result == 0) {
        Connected(socket, request);
    } else {
        Failed(socket, request, WskpStatusOf(result));
    }
}

/* With the lock: the host begins to connect; what comes of it is WskpConnectProgress's. */
static NTSTATUS Begin(WSKP_SOCKET *socket, WSKP_REQUEST *request) {
    int result;

    if (MutantIs("WSK-CONN-002/binds-itself") && socket->State == WSKP_FRESH) {
        HOST_ADDRESS any = {.Family = socket->Family};
        socket->State = NT_SUCCESS(WskpClaimBind(socket, &any)) ? WSKP_BOUND : socket->State;
    }
    if (socket->State != WSKP_BOUND) {
        return STATUS_INVALID_DEVICE_STATE; /* CONN-002, CONN-005, CAT-010 */
    }
    if (socket->Type != SOCK_STREAM) {
        return STATUS_NOT_IMPLEMENTED;
    }
    if (request->Address.Port == 0 || HostAddressIsWildcard(&request->Address)) {
        return STATUS_INVALID_ADDRESS_COMPONENT; /* CONN-005 */
    }
    result = HostSocketConnect(socket->Fd, &request->Address);
    if (result < 0 && result != -EINPROGRESS) {
        return WskpStatusOf(result);
    }
    socket->State = WSKP_CONNECTING;
    request->Undo = UndoConnect;
    WskpRequestQueue(request, &socket->Stream.Connects);
    WskpSocketProgress(socket);
    return STATUS_PENDING;
}

static NTSTATUS Connect(WSKP_SOCKET *socket, WSKP_REQUEST *request, BOOLEAN addressFits, NTSTATUS status) {
    KIRQL irql;

    if (NT_SUCCESS(status) && !addressFits) {
        status = STATUS_INVALID_PARAMETER; /* FAM-010 */
    }
    if (!NT_SUCCESS(status)) {
        return WskpRequestFinish(request, status, 0);
    }
    irql = WskpLock();
    status = Begin(socket, request);
    WskpUnlock(irql);
    return status == STATUS_PENDING ? WskpRequestReturn(request) : WskpRequestFinish(request, status, 0);
}

NTSTATUS WSKAPI WskpConnect(PWSK_SOCKET Socket, PSOCKADDR RemoteAddress, ULONG Flags, PIRP Irp) {
    WSKP_CALL call;
    WSKP_SOCKET *socket = WskpSocketEnter(&call, "WskConnect", Socket, WSKP_CONNECTION | WSKP_STREAM, DISPATCH_LEVEL);
    NTSTATUS status = STATUS_INVALID_PARAMETER;
    HOST_ADDRESS address;
    BOOLEAN fits = WskpAddressRead("WskConnect", RemoteAddress, socket->Family, &address);
    WSKP_REQUEST *request = Irp == NULL ? NULL : WskpRequestBegin(WSKP_Connect, socket->Client, socket, Irp, &status);

    if (request != NULL) {
        request->Address = address;
        status = Connect(socket, request, fits, Flags != 0 ? STATUS_INVALID_PARAMETER : STATUS_SUCCESS);
    }
    WskpSocketLeave(&call);
    return status;
}

NTSTATUS WSKAPI WskpConnectEx(PWSK_SOCKET Socket, PSOCKADDR RemoteAddress, PWSK_BUF Buffer, ULONG Flags, PIRP Irp) {
    WSKP_CALL call;
    WSKP_SOCKET *socket = WskpSocketEnter(&call, "WskConnectEx", Socket, WSKP_CONNECTION | WSKP_STREAM, DISPATCH_LEVEL);
    NTSTATUS status = STATUS_INVALID_PARAMETER, check = STATUS_SUCCESS;
    HOST_ADDRESS address;
    WSKP_BUFFER buffer = {0};
    BOOLEAN fits = WskpAddressRead("WskConnectEx", RemoteAddress, socket->Family, &address);
    WSKP_REQUEST *request;

    if (Buffer != NULL) {
        WskpBufferTake("WskConnectEx", Buffer, &buffer);
    }
    request = Irp == NULL ? NULL : WskpRequestBegin(WSKP_ConnectEx, socket->Client, socket, Irp, &status);
    if (request != NULL) {
        request->Address = address;
        request->Buffer = buffer;
        if (Flags != 0 && !MutantIs("WSK-CONN-012/flags-ignored")) {
            check = STATUS_INVALID_PARAMETER; /* CONN-012 */
        } else if (buffer.Length > MAX_CONNECT_DATA && !MutantIs("WSK-CONN-012/length-ignored")) {
            check = STATUS_BUFFER_OVERFLOW;
        }
        status = Connect(socket, request, fits, check);
    }
    WskpSocketLeave(&call);
    return status;
}

/* Both addresses in one family (CONN-009). */
static NTSTATUS ReadPair(PSOCKADDR local, PSOCKADDR remote, HOST_ADDRESS *localOut, HOST_ADDRESS *remoteOut) {
    HOST_FAMILY family;

    if (local == NULL || remote == NULL) {
        WskpClientError("WSK-CONN-009", "WskSocketConnect: NULL address");
    }
    ShimRequireMemory("SOCKADDR", local, sizeof(local->sa_family));
    family = WskpFamilyOf(local->sa_family);
    if (family == HOST_FAMILY_NONE || (family == HOST_FAMILY_6 && MutantIs("WSK-CONN-009/first-family-only"))) {
        return STATUS_NOT_SUPPORTED;
    }
    if (!WskpAddressRead("WskSocketConnect", local, family, localOut) ||
        !WskpAddressRead("WskSocketConnect", remote, family, remoteOut)) {
        return STATUS_INVALID_PARAMETER;
    }
    return STATUS_SUCCESS;
}

/* With the lock: socket, bind, connect; what was made is undone when a step fails (CONN-010). */
static NTSTATUS CreateAndConnect(WSKP_REQUEST *request, WSKP_SOCKET_MODEL *model, const HOST_ADDRESS *local) {
    WSKP_SOCKET *socket = NULL;
    NTSTATUS status = WskpCreate(model, &socket);

    if (!NT_SUCCESS(status)) {
        return status;
    }
    status = WskpClaimBind(socket, local);
    if (NT_SUCCESS(status)) {
        socket->State = WSKP_BOUND;
        WskpRequestAttach(request, socket);
        status = Begin(socket, request);
    }
    if (!NT_SUCCESS(status)) {
        WskpSocketBeginClose(socket, NULL);
    }
    return status;
}

NTSTATUS WSKAPI WskpSocketConnect(PWSK_CLIENT Client, USHORT SocketType, ULONG Protocol, PSOCKADDR LocalAddress,
                                  PSOCKADDR RemoteAddress, ULONG Flags, PVOID SocketContext,
                                  const WSK_CLIENT_CONNECTION_DISPATCH *Dispatch, PEPROCESS OwningProcess, PETHREAD OwningThread,
                                  PSECURITY_DESCRIPTOR SecurityDescriptor, PIRP Irp) {
    WSKP_CLIENT *client = WskpClientEnter("WskSocketConnect", Client, DISPATCH_LEVEL);
    HOST_ADDRESS local, remote;
    WSKP_REQUEST *request;
    NTSTATUS status;
    KIRQL irql;

    (void)OwningThread;
    if (Irp == NULL || client == NULL) {
        return WskpCreateRefuse(client, Irp);
    }
    status = ReadPair(LocalAddress, RemoteAddress, &local, &remote);
    if (NT_SUCCESS(status) && Flags != 0) {
        status = STATUS_INVALID_PARAMETER;
    }
    request = WskpRequestBegin(WSKP_SocketConnect, client, NULL, Irp, &status);
    if (request != NULL && !NT_SUCCESS(status)) {
        status = WskpRequestFinish(request, status, 0);
    } else if (request != NULL) {
        WSKP_SOCKET_MODEL model = {.Client = client, .Category = WSKP_CONNECTION, .Family = local.Family, .Type = SocketType,
                                   .Protocol = Protocol, .Owner = OwningProcess, .Context = SocketContext, .ClientDispatch = Dispatch,
                                   .Descriptor = SecurityDescriptor, .Fd = -1};
        request->Address = remote;
        irql = WskpLock();
        status = CreateAndConnect(request, &model, &local);
        WskpUnlock(irql);
        status = status == STATUS_PENDING ? WskpRequestReturn(request) : WskpRequestFinish(request, status, 0);
    }
    WskpClientLeave(client);
    return status;
}
