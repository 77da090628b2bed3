/*
 * address.h: transport addresses as Windows writes them.
 */
#ifndef WSKLAB_PROVIDER_ADDRESS_H
#define WSKLAB_PROVIDER_ADDRESS_H

#include "provider.h"

HOST_FAMILY WskpFamilyOf(ADDRESS_FAMILY family); /* none: not one that we have */
ADDRESS_FAMILY WskpFamilyNumber(HOST_FAMILY family);
ULONG WskpAddressSize(HOST_FAMILY family); /* 16 or 28 (FAM-010) */
/* FALSE: another family's. Aborts where the memory is not there. */
BOOLEAN WskpAddressRead(const char *function, const SOCKADDR *source, HOST_FAMILY family, HOST_ADDRESS *address);
/* Exactly the family's size, no byte more (BIND-002). */
void WskpAddressWrite(PSOCKADDR target, const HOST_ADDRESS *address);

#endif
