/*
 * host_interface.h: the addresses of this host, and when they change.
 */
#ifndef WSKLAB_PROVIDER_HOST_INTERFACE_H
#define WSKLAB_PROVIDER_HOST_INTERFACE_H

#include <stddef.h>

#include "host_address.h"

/* Number of addresses of the family; at most Capacity are stored. */
size_t HostInterfaceAddresses(HOST_FAMILY Family, HOST_ADDRESS *Out, size_t Capacity);
bool HostInterfaceOwns(const HOST_ADDRESS *Address); /* the address, or the loopback network, is ours */

/* A descriptor that becomes readable at a change; reading tells which families changed. */
int HostInterfaceWatch(void);
void HostInterfaceChanges(int Fd, bool *Family4, bool *Family6);

#endif
