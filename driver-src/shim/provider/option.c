/*
 * option.c: the values of a socket's options.
 */
#include "option.h"

#include "descriptor.h"
#include "socket.h"
#include "winsock.h"

#include "host/host_option.h"

#include <stddef.h>

#define ANY_SOCKET (WSKP_BASIC | WSKP_LISTEN | WSKP_CONNECTION | WSKP_DATAGRAM | WSKP_STREAM)
#define TCP_SOCKET (WSKP_LISTEN | WSKP_CONNECTION | WSKP_STREAM)
#define NO_HOST (-1)

/* An option with an unsigned long as value. */
typedef struct OPTION {
    ULONG Level;
    ULONG Code;
    ULONG Categories; /* that have it (OPT-005) */
    BOOLEAN BeforeBind; /* cannot be set later (OPT-004) */
    BOOLEAN IsSwitch;   /* any value but 0 is 1 */
    LONG Host;          /* HOST_OPTION behind it */
    HOST_FAMILY Family; /* that has it; none: both */
    LONG Offset;        /* of its value in WSKP_OPTIONS; negative: only the host knows it */
} OPTION;

#define VALUE(member) ((LONG)offsetof(WSKP_OPTIONS, member))

static const OPTION Options[] = {
    {SOL_SOCKET, SO_EXCLUSIVEADDRUSE, ANY_SOCKET & ~WSKP_BASIC, TRUE, TRUE, NO_HOST, HOST_FAMILY_NONE, VALUE(Exclusive)},
    {SOL_SOCKET, SO_REUSEADDR, ANY_SOCKET & ~WSKP_BASIC, TRUE, TRUE, NO_HOST, HOST_FAMILY_NONE, VALUE(Reuse)},
    {SOL_SOCKET, SO_KEEPALIVE, TCP_SOCKET, FALSE, TRUE, HOST_KEEPALIVE, HOST_FAMILY_NONE, VALUE(KeepAlive)},
    {SOL_SOCKET, SO_RCVBUF, ANY_SOCKET, FALSE, FALSE, HOST_RECEIVE_BUFFER, HOST_FAMILY_NONE, VALUE(ReceiveBuffer)},
    {SOL_SOCKET, SO_BROADCAST, WSKP_DATAGRAM, FALSE, TRUE, HOST_BROADCAST, HOST_FAMILY_NONE, VALUE(Broadcast)},
    {SOL_SOCKET, SO_CONDITIONAL_ACCEPT, WSKP_LISTEN, TRUE, TRUE, NO_HOST, HOST_FAMILY_NONE, VALUE(ConditionalAccept)},
    {IPPROTO_TCP, WSKP_TCP_NODELAY, TCP_SOCKET | WSKP_BASIC, FALSE, TRUE, HOST_NODELAY, HOST_FAMILY_NONE, VALUE(NoDelay)},
    {WSKP_IPPROTO_IPV6, WSKP_IPV6_V6ONLY, ANY_SOCKET, TRUE, TRUE, HOST_V6ONLY, HOST_FAMILY_6, VALUE(V6Only)},
    {WSKP_IPPROTO_IP, WSKP_IP_PKTINFO, WSKP_DATAGRAM, FALSE, TRUE, NO_HOST, HOST_FAMILY_4, VALUE(PacketInfo)},
    {WSKP_IPPROTO_IPV6, WSKP_IPV6_PKTINFO, WSKP_DATAGRAM, FALSE, TRUE, NO_HOST, HOST_FAMILY_6, VALUE(PacketInfo)},
    {WSKP_IPPROTO_IP, WSKP_IP_TTL, ANY_SOCKET, FALSE, FALSE, HOST_TIME_TO_LIVE, HOST_FAMILY_4, -1},
    {WSKP_IPPROTO_IPV6, WSKP_IPV6_UNICAST_HOPS, ANY_SOCKET, FALSE, FALSE, HOST_TIME_TO_LIVE, HOST_FAMILY_6, -1},
    {WSKP_IPPROTO_IP, WSKP_IP_MULTICAST_TTL, WSKP_DATAGRAM, FALSE, FALSE, HOST_MULTICAST_TIME_TO_LIVE, HOST_FAMILY_4, -1},
    {WSKP_IPPROTO_IPV6, WSKP_IPV6_MULTICAST_HOPS, WSKP_DATAGRAM, FALSE, FALSE, HOST_MULTICAST_TIME_TO_LIVE, HOST_FAMILY_6, -1},
    {WSKP_IPPROTO_IP, WSKP_IP_MULTICAST_LOOP, WSKP_DATAGRAM, FALSE, TRUE, HOST_MULTICAST_LOOP, HOST_FAMILY_4, -1},
    {WSKP_IPPROTO_IPV6, WSKP_IPV6_MULTICAST_LOOP, WSKP_DATAGRAM, FALSE, TRUE, HOST_MULTICAST_LOOP, HOST_FAMILY_6, -1},
    {WSKP_IPPROTO_IPV6, WSKP_IPV6_MULTICAST_IF, WSKP_DATAGRAM, FALSE, FALSE, HOST_MULTICAST_INTERFACE, HOST_FAMILY_6, -1},
};

void WskpOptionsInitialize(WSKP_SOCKET *socket) {
    int size = 0;
    /* OPT-002: everything else is off. */
    if (HostOptionGet(socket->Fd, socket->Family, HOST_RECEIVE_BUFFER, &size) == 0) {
        socket->Options.ReceiveBuffer = (ULONG)size;
    }
    socket->Options.V6Only = socket->Family == HOST_FAMILY_6;
    if (MutantIs("WSK-OPT-002/keepalive-on")) {
        socket->Options.KeepAlive = 1;
    }
}

void WskpOptionsInherit(WSKP_SOCKET *socket, const WSKP_SOCKET *listener) {
    if (MutantIs("WSK-OPT-009/not-inherited")) {
        return;
    }
    socket->Options.KeepAlive = listener->Options.KeepAlive;
    socket->Options.ReceiveBuffer = listener->Options.ReceiveBuffer;
    socket->Options.NoDelay = listener->Options.NoDelay;
    socket->Options.V6Only = listener->Options.V6Only;
    HostOptionSet(socket->Fd, socket->Family, HOST_KEEPALIVE, (int)socket->Options.KeepAlive);
}

void WskpOptionsRelease(WSKP_SOCKET *socket) {
    if (socket->Options.Descriptor != NULL) {
        if (MutantIs("WSK-CLOSE-008/released")) {
            WskpDescriptorRelease(socket->Client, socket->Options.Descriptor);
        }
        WskpDescriptorDereference(socket->Options.Descriptor); /* CLOSE-008: what the client holds, it keeps */
        socket->Options.Descriptor = NULL;
    }
}

static const OPTION *Find(const WSKP_SOCKET *socket, const WSKP_CONTROL *control) {
    ULONG category = socket->Category == WSK_FLAG_BASIC_SOCKET ? WSKP_BASIC : socket->Category;
    for (ULONG index = 0; index < RTL_NUMBER_OF(Options); index++) {
        const OPTION *option = &Options[index];
        if (option->Level == control->Level && option->Code == control->Code && (option->Categories & category) != 0 &&
            (option->Family == HOST_FAMILY_NONE || option->Family == socket->Family)) {
            return option;
        }
    }
    return NULL;
}

static ULONG *Value(WSKP_SOCKET *socket, const OPTION *option) {
    return (ULONG *)((PUCHAR)&socket->Options + option->Offset);
}

static NTSTATUS SetSecurity(WSKP_SOCKET *socket, const WSKP_CONTROL *control) {
    PSECURITY_DESCRIPTOR descriptor;

    if (control->InputSize != sizeof(descriptor) || control->Input == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    if (socket->Category == WSK_FLAG_BASIC_SOCKET) {
        return STATUS_NOT_SUPPORTED;
    }
    if (socket->State != WSKP_FRESH) {
        return STATUS_INVALID_DEVICE_STATE; /* OPT-004 */
    }
    memcpy(&descriptor, control->Input, sizeof(descriptor));
    WskpDescriptorReference("SO_WSK_SECURITY", socket->Client, descriptor);
    WskpOptionsRelease(socket);
    socket->Options.Descriptor = descriptor;
    return STATUS_SUCCESS;
}

/* IP_ADD_MEMBERSHIP and its kin: group (4 or 16 bytes), then interface (address or index). */
static NTSTATUS SetMembership(WSKP_SOCKET *socket, const WSKP_CONTROL *control, BOOLEAN join) {
    HOST_ADDRESS group = {.Family = socket->Family}, interface = {.Family = socket->Family};
    SIZE_T length = socket->Family == HOST_FAMILY_4 ? 4 : 16;
    ULONG index = 0;

    if (control->InputSize < length + 4 || control->Input == NULL || socket->Category != WSKP_DATAGRAM) {
        return STATUS_INVALID_PARAMETER;
    }
    memcpy(group.Ip, control->Input, length);
    if (socket->Family == HOST_FAMILY_4) {
        memcpy(interface.Ip, (PUCHAR)control->Input + length, 4);
    } else {
        memcpy(&index, (PUCHAR)control->Input + length, 4);
    }
    return WskpStatusOf(HostOptionMembership(socket->Fd, &group, &interface, index, join));
}

/* IP_MULTICAST_IF takes an address, or in network order an index in 0.x.x.x. */
static NTSTATUS SetMulticastInterface(WSKP_SOCKET *socket, const WSKP_CONTROL *control) {
    UCHAR value[4];
    if (control->InputSize < sizeof(value) || control->Input == NULL || socket->Category != WSKP_DATAGRAM) {
        return STATUS_INVALID_PARAMETER;
    }
    memcpy(value, control->Input, sizeof(value));
    if (value[0] != 0) {
        return STATUS_NOT_SUPPORTED;
    }
    return WskpStatusOf(HostOptionSet(socket->Fd, socket->Family, HOST_MULTICAST_INTERFACE, value[1] << 16 | value[2] << 8 | value[3]));
}

static BOOLEAN IsMembership(const WSKP_SOCKET *socket, const WSKP_CONTROL *control, BOOLEAN *join) {
    ULONG level = socket->Family == HOST_FAMILY_4 ? WSKP_IPPROTO_IP : WSKP_IPPROTO_IPV6;
    *join = control->Code == WSKP_IP_ADD_MEMBERSHIP;
    return control->Level == level && (*join || control->Code == WSKP_IP_DROP_MEMBERSHIP);
}

NTSTATUS WskpOptionSet(WSKP_SOCKET *socket, const WSKP_CONTROL *control) {
    const OPTION *option = Find(socket, control);
    BOOLEAN join;
    ULONG value;

    if (control->Level == SOL_SOCKET && control->Code == SO_WSK_SECURITY) {
        return SetSecurity(socket, control);
    }
    if (IsMembership(socket, control, &join)) {
        return SetMembership(socket, control, join);
    }
    if (control->Level == WSKP_IPPROTO_IP && control->Code == WSKP_IP_MULTICAST_IF && socket->Family == HOST_FAMILY_4) {
        return SetMulticastInterface(socket, control);
    }
    if (option == NULL) {
        return STATUS_NOT_SUPPORTED; /* OPT-005 */
    }
    if (control->InputSize < sizeof(value) || control->Input == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    memcpy(&value, control->Input, sizeof(value));
    if (option->BeforeBind && socket->State != WSKP_FRESH) {
        if (MutantIs("WSK-OPT-004/changed-nevertheless") && option->Offset >= 0) {
            *Value(socket, option) = value;
        }
        return STATUS_INVALID_DEVICE_STATE; /* OPT-004 */
    }
    value = option->IsSwitch ? value != 0 : value;
    if (MutantIs("WSK-OPT-001/set-ignored") || (control->Code == SO_CONDITIONAL_ACCEPT && MutantIs("WSK-INS-001/not-kept"))) {
        return STATUS_SUCCESS;
    }
    if (option->Host != NO_HOST && socket->Fd >= 0) {
        int error = HostOptionSet(socket->Fd, socket->Family, (HOST_OPTION)option->Host, (int)value);
        if (error < 0) {
            return WskpStatusOf(error);
        }
    }
    if (option->Offset >= 0) {
        *Value(socket, option) = value;
    }
    return STATUS_SUCCESS;
}

static NTSTATUS GetSecurity(WSKP_SOCKET *socket, const WSKP_CONTROL *control, SIZE_T *written) {
    PSECURITY_DESCRIPTOR descriptor = socket->Options.Descriptor;

    if (control->OutputSize < sizeof(descriptor) || control->Output == NULL) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    if (socket->Category == WSK_FLAG_BASIC_SOCKET) {
        return STATUS_NOT_SUPPORTED;
    }
    if (descriptor == NULL) {
        return STATUS_NOT_FOUND; /* the default has no cached copy (OPT-013: to be recorded) */
    }
    WskpDescriptorHandOut(descriptor);
    memcpy(control->Output, &descriptor, sizeof(descriptor));
    *written = MutantIs("WSK-OPT-013/information-zero") ? 0 : sizeof(descriptor);
    return STATUS_SUCCESS;
}

NTSTATUS WskpOptionGet(WSKP_SOCKET *socket, const WSKP_CONTROL *control, SIZE_T *written) {
    const OPTION *option = Find(socket, control);
    ULONG value;

    if (control->Level == SOL_SOCKET && control->Code == SO_WSK_SECURITY) {
        return GetSecurity(socket, control, written);
    }
    if (option == NULL) {
        return STATUS_NOT_SUPPORTED;
    }
    if (control->OutputSize < sizeof(value) || control->Output == NULL) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    if (option->Offset >= 0) {
        value = *Value(socket, option);
    } else {
        int host = 0;
        int error = socket->Fd < 0 ? 0 : HostOptionGet(socket->Fd, socket->Family, (HOST_OPTION)option->Host, &host);
        if (error < 0) {
            return WskpStatusOf(error);
        }
        value = (ULONG)host;
    }
    memcpy(control->Output, &value, sizeof(value));
    *written = MutantIs("WSK-OPT-001/information-of-get") ? 0 : sizeof(value); /* OPT-001 */
    return STATUS_SUCCESS;
}
