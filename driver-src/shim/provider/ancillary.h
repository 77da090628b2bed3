/*
 * ancillary.h: control information of datagrams: CMSGHDR objects as the WSA macros lay them out.
 */
#ifndef WSKLAB_PROVIDER_ANCILLARY_H
#define WSKLAB_PROVIDER_ANCILLARY_H

#include "provider.h"

#include "host/host_datagram.h"

/* The packet's destination as IP_PKTINFO or IPV6_PKTINFO object, 8-byte aligned; its size, 0 when there is none. */
#define WSKP_MAX_CONTROL 40u
ULONG WskpAncillaryWrite(const HOST_PACKET *packet, ULONG64 out[8]);
/* What a client wants for a datagram that it sends: FALSE when the objects are malformed or unknown (DGRAM-014). */
BOOLEAN WskpAncillaryRead(HOST_FAMILY family, const CMSGHDR *control, ULONG length, HOST_SOURCE *source, BOOLEAN *found);

#endif
