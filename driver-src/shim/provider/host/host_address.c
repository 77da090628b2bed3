/*
 * host_address.c: questions about a transport address.
 */
#include "host_address.h"

#include <string.h>

static const uint8_t MAPPED_PREFIX[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static size_t IpLength(const HOST_ADDRESS *Address) {
    return Address->Family == HOST_FAMILY_4 ? 4 : 16;
}

bool HostAddressIsWildcard(const HOST_ADDRESS *Address) {
    static const uint8_t zero[16];
    return memcmp(Address->Ip, zero, IpLength(Address)) == 0;
}

bool HostAddressIsLoopback(const HOST_ADDRESS *Address) {
    static const uint8_t one[16] = {[15] = 1};
    if (Address->Family == HOST_FAMILY_4) {
        return Address->Ip[0] == 127;
    }
    if (memcmp(Address->Ip, MAPPED_PREFIX, sizeof(MAPPED_PREFIX)) == 0) {
        return Address->Ip[12] == 127;
    }
    return memcmp(Address->Ip, one, sizeof(one)) == 0;
}

bool HostAddressSameIp(const HOST_ADDRESS *One, const HOST_ADDRESS *Other) {
    if (One->Family != Other->Family || memcmp(One->Ip, Other->Ip, IpLength(One)) != 0) {
        return false;
    }
    /* A scope that one side does not know (0) is no difference. */
    return One->ScopeId == Other->ScopeId || One->ScopeId == 0 || Other->ScopeId == 0;
}

bool HostAddressEqual(const HOST_ADDRESS *One, const HOST_ADDRESS *Other) {
    return One->Port == Other->Port && HostAddressSameIp(One, Other);
}
