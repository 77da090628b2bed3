/*
 * bind.c: WskBind and WskListen, and the addresses of a socket.
 */
#include "address.h"
#include "event.h"
#include "functions.h"
#include "socket.h"

#include "host/host_socket.h"

/* Whether the category's functions are those of the type (CAT-008): found out here, not at creation. */
static BOOLEAN CategoryFitsType(const WSKP_SOCKET *socket) {
    return socket->Category == WSKP_DATAGRAM ? socket->Type != SOCK_STREAM : socket->Type == SOCK_STREAM;
}

/* With the lock. */
static NTSTATUS Bind(WSKP_SOCKET *socket, const HOST_ADDRESS *address) {
    NTSTATUS status;

    if (!CategoryFitsType(socket)) {
        return STATUS_NOT_IMPLEMENTED;
    }
    if (socket->State != WSKP_FRESH) {
        return STATUS_INVALID_DEVICE_STATE; /* BIND-011 */
    }
    if (MutantIs("WSK-BIND-003/loopback-only") && address->Family == HOST_FAMILY_4 && HostAddressIsWildcard(address)) {
        HOST_ADDRESS loopback = *address;
        loopback.Ip[0] = 127;
        loopback.Ip[3] = 1;
        status = WskpClaimBind(socket, &loopback);
    } else {
        status = WskpClaimBind(socket, address);
    }
    if (!NT_SUCCESS(status)) {
        return status;
    }
    socket->State = WSKP_BOUND;
    if (socket->Category == WSKP_LISTEN && !MutantIs("WSK-BIND-012/not-listening")) {
        status = WskpListenerStart(socket); /* BIND-012 */
        if (!NT_SUCCESS(status)) {
            WskpClaimRelease(socket);
            socket->State = WSKP_FRESH;
        }
    }
    WskpSocketProgress(socket);
    return status;
}

NTSTATUS WSKAPI WskpBind(PWSK_SOCKET Socket, PSOCKADDR LocalAddress, ULONG Flags, PIRP Irp) {
    WSKP_CALL call;
    WSKP_SOCKET *socket = WskpSocketEnter(&call, "WskBind", Socket, WSKP_LISTEN | WSKP_CONNECTION | WSKP_DATAGRAM | WSKP_STREAM,
                                          DISPATCH_LEVEL);
    NTSTATUS status = STATUS_INVALID_PARAMETER;
    HOST_ADDRESS address;
    BOOLEAN fits = WskpAddressRead("WskBind", LocalAddress, socket->Family, &address);
    WSKP_REQUEST *request = Irp == NULL ? NULL : WskpRequestBegin(WSKP_Bind, socket->Client, socket, Irp, &status);
    KIRQL irql;

    if (request != NULL) {
        irql = WskpLock();
        if (Flags != 0 || (!fits && !MutantIs("WSK-FAM-010/family-ignored"))) {
            status = STATUS_INVALID_PARAMETER;
        } else {
            status = Bind(socket, &address);
        }
        WskpUnlock(irql);
        status = WskpRequestFinish(request, status, 0);
    }
    WskpSocketLeave(&call);
    return status;
}

NTSTATUS WSKAPI WskpListen(PWSK_SOCKET Socket, PIRP Irp) {
    WSKP_CALL call;
    WSKP_SOCKET *socket = WskpSocketEnter(&call, "WskListen", Socket, WSKP_STREAM, DISPATCH_LEVEL);
    NTSTATUS status = STATUS_INVALID_PARAMETER;
    WSKP_REQUEST *request = Irp == NULL ? NULL : WskpRequestBegin(WSKP_Listen, socket->Client, socket, Irp, &status);
    KIRQL irql;

    if (request != NULL) {
        irql = WskpLock();
        /* Bound, and not committed to connecting (CAT-010, ACC-012). */
        status = socket->State == WSKP_BOUND ? WskpListenerStart(socket) : STATUS_INVALID_DEVICE_STATE;
        if (MutantIs("WSK-CAT-010/role-forgotten")) {
            status = STATUS_SUCCESS;
        }
        WskpSocketProgress(socket);
        WskpUnlock(irql);
        status = WskpRequestFinish(request, status, 0);
    }
    WskpSocketLeave(&call);
    return status;
}

NTSTATUS WSKAPI WskpGetLocalAddress(PWSK_SOCKET Socket, PSOCKADDR LocalAddress, PIRP Irp) {
    WSKP_CALL call;
    WSKP_SOCKET *socket = WskpSocketEnter(&call, "WskGetLocalAddress", Socket,
                                          WSKP_LISTEN | WSKP_CONNECTION | WSKP_DATAGRAM | WSKP_STREAM, DISPATCH_LEVEL);
    NTSTATUS status = STATUS_INVALID_PARAMETER;
    WSKP_REQUEST *request = Irp == NULL ? NULL : WskpRequestBegin(WSKP_GetLocalAddress, socket->Client, socket, Irp, &status);
    KIRQL irql;

    if (request != NULL) {
        irql = WskpLock();
        if (socket->State == WSKP_FRESH && !MutantIs("WSK-BIND-005/succeeds")) {
            status = STATUS_INVALID_DEVICE_STATE; /* BIND-005: and the buffer is not touched */
        } else {
            HOST_ADDRESS now = socket->Local;
            if (socket->Fd >= 0) {
                HostSocketLocal(socket->Fd, &now); /* BIND-004: specific from the connect on */
            }
            if (MutantIs("WSK-BIND-004/wildcard-hidden") && HostAddressIsWildcard(&now)) {
                now.Ip[0] = 127;
            }
            if (MutantIs("WSK-BIND-002/port-zero")) {
                now.Port = 0;
            }
            WskpAddressWrite(LocalAddress, &now);
            status = STATUS_SUCCESS;
        }
        WskpUnlock(irql);
        status = WskpRequestFinish(request, status, 0);
    }
    WskpSocketLeave(&call);
    return status;
}

NTSTATUS WSKAPI WskpGetRemoteAddress(PWSK_SOCKET Socket, PSOCKADDR RemoteAddress, PIRP Irp) {
    WSKP_CALL call;
    WSKP_SOCKET *socket = WskpSocketEnter(&call, "WskGetRemoteAddress", Socket, WSKP_CONNECTION | WSKP_STREAM, DISPATCH_LEVEL);
    NTSTATUS status = STATUS_INVALID_PARAMETER;
    WSKP_REQUEST *request = Irp == NULL ? NULL : WskpRequestBegin(WSKP_GetRemoteAddress, socket->Client, socket, Irp, &status);
    KIRQL irql;

    if (request != NULL) {
        irql = WskpLock();
        if (socket->State == WSKP_CONNECTED) {
            WskpAddressWrite(RemoteAddress, MutantIs("WSK-CONN-004/own-address") ? &socket->Local : &socket->Remote);
            status = STATUS_SUCCESS;
        } else {
            status = STATUS_INVALID_DEVICE_STATE; /* CONN-004 */
        }
        WskpUnlock(irql);
        status = WskpRequestFinish(request, status, 0);
    }
    WskpSocketLeave(&call);
    return status;
}
