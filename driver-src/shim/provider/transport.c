/*
 * transport.c: which kinds of socket there are, and who wants to know when that changes.
 */
#include "transport.h"

#include "client.h"
#include "request.h"

static const WSK_TRANSPORT Transports[] = {
    {.Version = MAKE_WSK_VERSION(1, 0), .SocketType = SOCK_STREAM, .Protocol = IPPROTO_TCP, .AddressFamily = AF_INET},
    {.Version = MAKE_WSK_VERSION(1, 0), .SocketType = SOCK_STREAM, .Protocol = IPPROTO_TCP, .AddressFamily = AF_INET6},
    {.Version = MAKE_WSK_VERSION(1, 0), .SocketType = SOCK_DGRAM, .Protocol = IPPROTO_UDP, .AddressFamily = AF_INET},
    {.Version = MAKE_WSK_VERSION(1, 0), .SocketType = SOCK_DGRAM, .Protocol = IPPROTO_UDP, .AddressFamily = AF_INET6},
};

/* One that cannot be created. */
static const WSK_TRANSPORT Absent = {.Version = MAKE_WSK_VERSION(1, 0), .SocketType = 5, .Protocol = 132, .AddressFamily = AF_INET};

NTSTATUS WskpTransportCheck(ADDRESS_FAMILY family, USHORT type, ULONG *protocol) {
    BOOLEAN known = family == AF_INET || family == AF_INET6;

    if (!known && !MutantIs("WSK-FAM-006/any-family")) {
        return STATUS_NOT_SUPPORTED; /* FAM-006, FAM-008 */
    }
    if (family == AF_INET6 && MutantIs("WSK-FAM-002/no-ipv6")) {
        return STATUS_NOT_SUPPORTED;
    }
    if (*protocol == 0 && type != SOCK_RAW) {
        *protocol = type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
    }
    if ((type == SOCK_STREAM && *protocol == IPPROTO_TCP) || (type == SOCK_DGRAM && *protocol == IPPROTO_UDP) ||
        (type == SOCK_RAW && *protocol > 0 && *protocol < 256)) {
        return STATUS_SUCCESS;
    }
    return MutantIs("WSK-FAM-007/any-pair") ? STATUS_SUCCESS : STATUS_NOT_SUPPORTED; /* FAM-007 */
}

ULONG WskpTransportList(WSK_TRANSPORT *out, ULONG capacity) {
    for (ULONG index = 0; index < RTL_NUMBER_OF(Transports) && index < capacity; index++) {
        out[index] = MutantIs("WSK-FAM-009/lists-what-is-not") ? Absent : Transports[index];
    }
    return RTL_NUMBER_OF(Transports);
}

void WskpTransportsChanged(void) {
    KIRQL irql = WskpLock();
    for (PLIST_ENTRY entry = g_WskpClients.Flink; entry != &g_WskpClients; entry = entry->Flink) {
        WskpRequestsEnd(&CONTAINING_RECORD(entry, WSKP_CLIENT, Link)->TransportChanges, STATUS_SUCCESS);
    }
    WskpUnlock(irql);
}
