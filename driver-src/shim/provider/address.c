/*
 * address.c: transport addresses as Windows writes them.
 */
#include "address.h"

/* ws2ipdef.h and ws2def.h; the driver's header has only their sizes. */
typedef struct IN_ADDRESS {
    ADDRESS_FAMILY Family;
    USHORT Port;
    UCHAR Ip[4];
    UCHAR Zero[8];
} IN_ADDRESS;

typedef struct IN6_ADDRESS {
    ADDRESS_FAMILY Family;
    USHORT Port;
    ULONG FlowInfo;
    UCHAR Ip[16];
    ULONG ScopeId;
} IN6_ADDRESS;

C_ASSERT(sizeof(IN_ADDRESS) == WSKLAB_SOCKADDR_IN_SIZE);
C_ASSERT(sizeof(IN6_ADDRESS) == WSKLAB_SOCKADDR_IN6_SIZE);

HOST_FAMILY WskpFamilyOf(ADDRESS_FAMILY family) {
    return family == AF_INET ? HOST_FAMILY_4 : family == AF_INET6 ? HOST_FAMILY_6 : HOST_FAMILY_NONE;
}

ADDRESS_FAMILY WskpFamilyNumber(HOST_FAMILY family) {
    return family == HOST_FAMILY_4 ? AF_INET : family == HOST_FAMILY_6 ? AF_INET6 : AF_UNSPEC;
}

ULONG WskpAddressSize(HOST_FAMILY family) {
    return family == HOST_FAMILY_4 ? WSKLAB_SOCKADDR_IN_SIZE : WSKLAB_SOCKADDR_IN6_SIZE;
}

BOOLEAN WskpAddressRead(const char *function, const SOCKADDR *source, HOST_FAMILY family, HOST_ADDRESS *address) {
    RtlZeroMemory(address, sizeof(*address));
    if (source == NULL) {
        WskpClientError("WSK-FAM-010", "%s: NULL address", function);
    }
    ShimRequireNonPaged("SOCKADDR", source, sizeof(source->sa_family));
    ShimRequireMemory("SOCKADDR", source, sizeof(source->sa_family));
    if (WskpFamilyOf(source->sa_family) != family) {
        return FALSE;
    }
    ShimRequireMemory("SOCKADDR", source, WskpAddressSize(family));
    address->Family = family;
    if (family == HOST_FAMILY_4) {
        IN_ADDRESS in;
        memcpy(&in, source, sizeof(in));
        address->Port = in.Port;
        memcpy(address->Ip, in.Ip, sizeof(in.Ip));
    } else {
        IN6_ADDRESS in;
        memcpy(&in, source, sizeof(in));
        address->Port = in.Port;
        address->FlowInfo = in.FlowInfo;
        address->ScopeId = in.ScopeId;
        memcpy(address->Ip, in.Ip, sizeof(in.Ip));
    }
    return TRUE;
}

void WskpAddressWrite(PSOCKADDR target, const HOST_ADDRESS *address) {
    ShimRequireNonPaged("SOCKADDR", target, WskpAddressSize(address->Family));
    if (address->Family == HOST_FAMILY_4) {
        IN_ADDRESS in = {.Family = AF_INET, .Port = address->Port};
        memcpy(in.Ip, address->Ip, sizeof(in.Ip));
        memcpy(target, &in, sizeof(in));
    } else {
        IN6_ADDRESS in = {.Family = AF_INET6, .Port = address->Port, .FlowInfo = address->FlowInfo, .ScopeId = address->ScopeId};
        memcpy(in.Ip, address->Ip, sizeof(in.Ip));
        memcpy(target, &in, sizeof(in));
    }
    if (MutantIs("WSK-BIND-002/one-byte-more")) {
        ((PUCHAR)target)[WskpAddressSize(address->Family)] = 0;
    }
}
