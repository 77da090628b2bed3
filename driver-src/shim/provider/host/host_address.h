/*
 * host_address.h: a transport address of the host, without a word of either system's headers.
 *
 * Windows and Linux headers name the same things (struct sockaddr, AF_INET6) with other values, so no file may see
 * both. Files host_*.c see Linux, everything else in provider/ sees Windows, and this is what they exchange.
 */
#ifndef WSKLAB_PROVIDER_HOST_ADDRESS_H
#define WSKLAB_PROVIDER_HOST_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum HOST_FAMILY { HOST_FAMILY_NONE = 0, HOST_FAMILY_4 = 4, HOST_FAMILY_6 = 6 } HOST_FAMILY;

typedef struct HOST_ADDRESS {
    HOST_FAMILY Family;
    uint16_t Port;    /* as on the wire */
    uint8_t Ip[16];   /* family 4 uses the first four */
    uint32_t FlowInfo;
    uint32_t ScopeId;
} HOST_ADDRESS;

bool HostAddressIsWildcard(const HOST_ADDRESS *Address);
bool HostAddressIsLoopback(const HOST_ADDRESS *Address); /* 127/8, ::1, and the first mapped into the second family */
bool HostAddressSameIp(const HOST_ADDRESS *One, const HOST_ADDRESS *Other);
bool HostAddressEqual(const HOST_ADDRESS *One, const HOST_ADDRESS *Other); /* IP, scope and port */

#endif
