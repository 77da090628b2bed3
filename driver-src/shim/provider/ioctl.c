/*
 * ioctl.c: the I/O controls of a socket.
 */
#include "ioctl.h"

#include "address.h"
#include "poller.h"

#include "host/host_interface.h"
#include "host/host_socket.h"

#define MAX_ADDRESSES 256u
#define BUILD_SILENT_MODE 9200u /* Windows 8 */

BOOLEAN WskpIoctlIsPassive(ULONG code) {
    return code == SIO_ADDRESS_LIST_QUERY || code == SIO_ADDRESS_LIST_CHANGE;
}

/* OPT-007: the list, then the addresses that it points to. */
static NTSTATUS AddressListQuery(WSKP_SOCKET *socket, const WSKP_CONTROL *control, SIZE_T *written) {
    HOST_ADDRESS found[MAX_ADDRESSES];
    SIZE_T count = HostInterfaceAddresses(socket->Family, found, MAX_ADDRESSES);
    SIZE_T each = (WskpAddressSize(socket->Family) + 7u) & ~(SIZE_T)7;
    PSOCKET_ADDRESS_LIST list = control->Output;
    PUCHAR place;

    count = count < MAX_ADDRESSES ? count : MAX_ADDRESSES;
    *written = offsetof(SOCKET_ADDRESS_LIST, Address) + count * (sizeof(SOCKET_ADDRESS) + each);
    if (list == NULL || control->OutputSize < *written) {
        if (MutantIs("WSK-OPT-007/needed-size-missing")) {
            *written = 0;
        }
        return STATUS_BUFFER_OVERFLOW;
    }
    list->iAddressCount = (INT)count;
    place = (PUCHAR)&list->Address[count];
    for (SIZE_T index = 0; index < count; index++) {
        list->Address[index].lpSockaddr = (PSOCKADDR)place;
        list->Address[index].iSockaddrLength = (INT)WskpAddressSize(socket->Family);
        WskpAddressWrite((PSOCKADDR)place, &found[index]);
        place += each;
    }
    return STATUS_SUCCESS;
}

static NTSTATUS AddressListChange(WSKP_SOCKET *socket, WSKP_REQUEST *request) {
    if (request == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    WskpRequestQueue(request, &socket->AddressChanges);
    return STATUS_PENDING;
}

void WskpAddressesChanged(BOOLEAN family4, BOOLEAN family6) {
    if (MutantIs("WSK-OPT-008/never")) {
        return;
    }
    for (PLIST_ENTRY entry = g_WskpSockets.Flink; entry != &g_WskpSockets; entry = entry->Flink) {
        WSKP_SOCKET *socket = CONTAINING_RECORD(entry, WSKP_SOCKET, Link);
        if (socket->Family == HOST_FAMILY_4 ? family4 : family6) {
            WskpRequestsEnd(&socket->AddressChanges, STATUS_SUCCESS);
        }
    }
}

/* A SIZE_T on a connection (OPT-011). */
static NTSTATUS Backlog(WSKP_SOCKET *socket, const WSKP_CONTROL *control, WSKP_REQUEST *request, SIZE_T *written) {
    SIZE_T value;

    if (request == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    if (!WskpSocketConnects(socket) || socket->State != WSKP_CONNECTED) {
        return socket->Category == WSKP_CONNECTION || socket->Category == WSKP_STREAM ? STATUS_INVALID_DEVICE_STATE
                                                                                       : STATUS_NOT_SUPPORTED;
    }
    if (control->OutputSize < sizeof(value) || control->Output == NULL) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    value = control->Code == SIO_WSK_QUERY_RECEIVE_BACKLOG ? WskpStreamUnread(socket) : WskpStreamIdealBacklog(socket);
    if (MutantIs("WSK-OPT-011/zero")) {
        value = 0;
    }
    memcpy(control->Output, &value, sizeof(value));
    *written = sizeof(value);
    return STATUS_SUCCESS;
}

static NTSTATUS QueryInspectId(WSKP_SOCKET *socket, const WSKP_CONTROL *control, SIZE_T *written) {
    if (!socket->Inspected && !MutantIs("WSK-INS-009/any-socket")) {
        return STATUS_INVALID_DEVICE_REQUEST; /* INS-009 */
    }
    if (control->OutputSize < sizeof(socket->InspectId) || control->Output == NULL) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    memcpy(control->Output, &socket->InspectId, sizeof(socket->InspectId));
    *written = sizeof(socket->InspectId);
    return STATUS_SUCCESS;
}

/* Fixed addresses of a datagram socket: set, or cleared by an empty input (DGRAM-004 to DGRAM-006). */
static NTSTATUS FixedAddress(WSKP_SOCKET *socket, const WSKP_CONTROL *control, WSKP_REQUEST *request) {
    BOOLEAN remote = control->Code == SIO_WSK_SET_REMOTE_ADDRESS;
    WSKP_DATAGRAM_STATE *datagram = &socket->Datagram;
    HOST_ADDRESS address = {0};
    BOOLEAN clear = control->InputSize == 0 && control->Input == NULL;

    if (request == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    if (socket->Category != WSKP_DATAGRAM) {
        return STATUS_NOT_SUPPORTED;
    }
    if (socket->State != WSKP_BOUND) {
        return STATUS_INVALID_DEVICE_STATE;
    }
    if (!clear && (control->InputSize < WskpAddressSize(socket->Family) || control->Input == NULL ||
                   !WskpAddressRead("WskControlSocket", control->Input, socket->Family, &address))) {
        return STATUS_INVALID_PARAMETER;
    }
    if (remote) {
        datagram->HasRemote = !clear;
        datagram->Remote = address;
    } else {
        datagram->HasSendTo = !clear;
        datagram->SendTo = address;
    }
    return STATUS_SUCCESS;
}

/* OPT-012: from now on the connection is as dead as a cable that was cut. */
static NTSTATUS SilentMode(WSKP_SOCKET *socket) {
    int error;

    if (ShimOsBuild() < BUILD_SILENT_MODE || (socket->Category != WSKP_CONNECTION && socket->Category != WSKP_STREAM)) {
        return STATUS_NOT_SUPPORTED;
    }
    if (socket->State != WSKP_CONNECTED || socket->Fd < 0) {
        return STATUS_INVALID_DEVICE_STATE;
    }
    if (HostInterfaceOwns(&socket->Remote)) {
        return STATUS_NOT_SUPPORTED; /* not on loopback */
    }
    error = HostSocketSilence(socket->Fd);
    if (error < 0) {
        return WskpStatusOf(error);
    }
    if (MutantIs("WSK-OPT-012/still-sends")) {
        return STATUS_SUCCESS;
    }
    socket->Stream.Silent = TRUE;
    WskpPollerRemove(socket->Fd);
    WskpRequestsEnd(&socket->Stream.Sends, STATUS_INVALID_DEVICE_STATE);
    WskpRequestsEnd(&socket->Stream.Receives, STATUS_INVALID_DEVICE_STATE);
    return STATUS_SUCCESS;
}

NTSTATUS WskpSocketIoctl(WSKP_SOCKET *socket, const WSKP_CONTROL *control, WSKP_REQUEST *request, SIZE_T *written) {
    if (control->Level != 0 && MutantIs("WSK-OPT-006/level-looked-at")) {
        return STATUS_INVALID_PARAMETER;
    }
    switch (control->Code) {
    case SIO_ADDRESS_LIST_QUERY:
        return AddressListQuery(socket, control, written);
    case SIO_ADDRESS_LIST_CHANGE:
        return AddressListChange(socket, request);
    case SIO_WSK_QUERY_RECEIVE_BACKLOG:
    case SIO_WSK_QUERY_IDEAL_SEND_BACKLOG:
        return Backlog(socket, control, request, written);
    case SIO_WSK_QUERY_INSPECT_ID:
        return QueryInspectId(socket, control, written);
    case SIO_WSK_SET_REMOTE_ADDRESS:
    case SIO_WSK_SET_SENDTO_ADDRESS:
        return FixedAddress(socket, control, request);
    case SIO_WSK_SET_TCP_SILENT_MODE:
        return SilentMode(socket);
    case SIO_WSK_REGISTER_EXTENSION:
        return MutantIs("WSK-OPT-010/other-status") ? STATUS_INVALID_PARAMETER : STATUS_NOT_SUPPORTED; /* OPT-010: there are none */
    default:
        return STATUS_INVALID_DEVICE_REQUEST;
    }
}
