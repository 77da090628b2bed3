/*
 * transport.h: which kinds of socket there are, and who wants to know when that changes.
 */
#ifndef WSKLAB_PROVIDER_TRANSPORT_H
#define WSKLAB_PROVIDER_TRANSPORT_H

#include "provider.h"

/* Whether the triple can be created (FAM-001 to FAM-008); protocol 0 becomes the type's own. */
NTSTATUS WskpTransportCheck(ADDRESS_FAMILY family, USHORT type, ULONG *protocol);
/* What WSK_TRANSPORT_LIST_QUERY tells; returns the number, stores at most `capacity`. */
ULONG WskpTransportList(WSK_TRANSPORT *out, ULONG capacity);
/* A transport came or went: completes what waits for that (CTL-003). */
void WskpTransportsChanged(void);

#endif
