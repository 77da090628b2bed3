/*
 * host_option.h: socket options of Linux that stand behind those of Windows.
 */
#ifndef WSKLAB_PROVIDER_HOST_OPTION_H
#define WSKLAB_PROVIDER_HOST_OPTION_H

#include "host_address.h"

typedef enum HOST_OPTION {
    HOST_KEEPALIVE,
    HOST_RECEIVE_BUFFER,
    HOST_BROADCAST,
    HOST_NODELAY,
    HOST_V6ONLY,
    HOST_TIME_TO_LIVE,
    HOST_MULTICAST_TIME_TO_LIVE,
    HOST_MULTICAST_LOOP,
    HOST_MULTICAST_INTERFACE /* the value is an interface index */
} HOST_OPTION;

int HostOptionSet(int Fd, HOST_FAMILY Family, HOST_OPTION Option, int Value);
int HostOptionGet(int Fd, HOST_FAMILY Family, HOST_OPTION Option, int *Value);
/* Join (or leave) a group on the interface of an address (family 4, wildcard: any) or on an index (family 6). */
int HostOptionMembership(int Fd, const HOST_ADDRESS *Group, const HOST_ADDRESS *Interface, uint32_t InterfaceIndex, bool Join);

#endif
