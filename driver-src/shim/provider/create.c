/*
 * create.c: WskSocket.
 */
#include "create.h"

#include "address.h"
#include "descriptor.h"
#include "functions.h"
#include "transport.h"

#include "host/host_socket.h"

/* The stream category is younger than WSK (CAT-005). */
#define BUILD_STREAM_SOCKETS 15063u

/* Exactly one category (CAT-006). */
static NTSTATUS CheckCategory(ULONG flags) {
    switch (flags) {
    case WSK_FLAG_BASIC_SOCKET:
    case WSK_FLAG_LISTEN_SOCKET:
    case WSK_FLAG_CONNECTION_SOCKET:
    case WSK_FLAG_DATAGRAM_SOCKET:
        return STATUS_SUCCESS;
    case WSK_FLAG_STREAM_SOCKET:
        return ShimOsBuild() >= BUILD_STREAM_SOCKETS ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
    default:
        return STATUS_INVALID_PARAMETER;
    }
}

/* Callbacks come at DISPATCH_LEVEL: their table must be there. The context is never looked at (SOCK-017). */
static void CheckDispatch(const WSKP_SOCKET_MODEL *model) {
    SIZE_T size = model->Category == WSKP_LISTEN       ? sizeof(WSK_CLIENT_LISTEN_DISPATCH)
                  : model->Category == WSKP_CONNECTION ? sizeof(WSK_CLIENT_CONNECTION_DISPATCH)
                  : model->Category == WSKP_DATAGRAM   ? sizeof(WSK_CLIENT_DATAGRAM_DISPATCH)
                  : model->Category == WSKP_STREAM     ? sizeof(WSK_CLIENT_STREAM_DISPATCH)
                                                       : 0;
    if (model->ClientDispatch != NULL && size > 0) {
        ShimRequireMemory("client dispatch", model->ClientDispatch, size);
        ShimRequireNonPaged("client dispatch", model->ClientDispatch, size);
    }
}

NTSTATUS WskpCreate(WSKP_SOCKET_MODEL *model, WSKP_SOCKET **socket) {
    static const HOST_TYPE types[] = {[SOCK_STREAM] = HOST_STREAM, [SOCK_DGRAM] = HOST_DATAGRAM, [SOCK_RAW] = HOST_RAW};
    ADDRESS_FAMILY family = WskpFamilyNumber(model->Family);
    NTSTATUS status = CheckCategory(model->Category);

    if (NT_SUCCESS(status)) {
        status = WskpTransportCheck(family, model->Type, &model->Protocol);
    }
    if (!NT_SUCCESS(status) || WskpMutantRefusesSocket(model)) {
        return NT_SUCCESS(status) ? STATUS_INVALID_PARAMETER : status;
    }
    CheckDispatch(model);
    if (model->Descriptor != NULL) {
        WskpDescriptorReference("WskSocket", model->Client, model->Descriptor); /* SOCK-013 */
    }
    model->Fd = HostSocketOpen(model->Family, types[model->Type], (int)model->Protocol);
    if (model->Fd < 0) {
        status = WskpStatusOf(model->Fd);
    } else {
        *socket = WskpSocketCreate(model);
        status = *socket == NULL ? STATUS_INSUFFICIENT_RESOURCES : STATUS_SUCCESS;
        if (*socket == NULL) {
            HostSocketClose(model->Fd);
        }
    }
    if (!NT_SUCCESS(status) && model->Descriptor != NULL) {
        WskpDescriptorDereference(model->Descriptor);
    }
    return status;
}

NTSTATUS WskpCreateRefuse(WSKP_CLIENT *client, PIRP irp) {
    if (irp != NULL) {
        ShimIrpAccept("WskSocket", irp);
        ShimIrpComplete(irp, STATUS_INVALID_HANDLE, 0);
        return STATUS_INVALID_HANDLE;
    }
    if (client != NULL) {
        WskpClientLeave(client);
    }
    return STATUS_INVALID_PARAMETER;
}

NTSTATUS WSKAPI WskpSocketFunction(PWSK_CLIENT Client, ADDRESS_FAMILY AddressFamily, USHORT SocketType, ULONG Protocol, ULONG Flags,
                                   PVOID SocketContext, const VOID *Dispatch, PEPROCESS OwningProcess, PETHREAD OwningThread,
                                   PSECURITY_DESCRIPTOR SecurityDescriptor, PIRP Irp) {
    WSKP_CLIENT *client = WskpClientEnter("WskSocket", Client, DISPATCH_LEVEL);
    WSKP_SOCKET_MODEL model = {.Client = client, .Category = Flags, .Family = WskpFamilyOf(AddressFamily), .Type = SocketType,
                               .Protocol = Protocol, .Owner = OwningProcess, .Context = SocketContext, .ClientDispatch = Dispatch,
                               .Descriptor = SecurityDescriptor, .Fd = -1};
    WSKP_SOCKET *socket = NULL;
    WSKP_REQUEST *request;
    NTSTATUS status;
    ULONG_PTR information;
    KIRQL irql;

    (void)OwningThread; /* SOCK-012: optional, and nothing here depends on it */
    if (Irp == NULL || client == NULL) {
        return WskpCreateRefuse(client, Irp);
    }
    request = WskpRequestBegin(WSKP_Socket, client, NULL, Irp, &status);
    if (request != NULL) {
        irql = WskpLock();
        status = WskpCreate(&model, &socket);
        WskpUnlock(irql);
        information = NT_SUCCESS(status) ? (ULONG_PTR)&socket->Public : 0; /* SOCK-002, SOCK-005 */
        if (MutantIs("WSK-SOCK-002/information-zero")) {
            information = 0;
        }
        if (MutantIs("WSK-SOCK-005/failure-hidden")) {
            status = STATUS_SUCCESS;
        }
        if (MutantIs("WSK-SOCK-017/context-read") && SocketContext != NULL) {
            *(volatile UCHAR *)SocketContext;
        }
        status = WskpRequestFinish(request, status, information);
        status = MutantIs("WSK-SOCK-003/other-status") ? STATUS_TIMEOUT : status;
    }
    WskpClientLeave(client);
    return status;
}
