/*
 * host_datagram.h: datagrams with what came or shall go beside their bytes.
 */
#ifndef WSKLAB_PROVIDER_HOST_DATAGRAM_H
#define WSKLAB_PROVIDER_HOST_DATAGRAM_H

#include "host_socket.h"

#define HOST_MAX_DATAGRAM 65536

typedef struct HOST_PACKET {
    HOST_ADDRESS From;
    size_t Length;            /* of the datagram; what was stored is less when the memory was */
    bool LocalKnown;          /* the next two hold */
    HOST_ADDRESS Local;       /* the destination address of the packet; its port is 0 */
    uint32_t InterfaceIndex;
    bool Multicast;
    bool Broadcast;
} HOST_PACKET;

/* Where a datagram shall leave: NULL, or a local address and/or an interface (0: any). */
typedef struct HOST_SOURCE {
    HOST_ADDRESS Address;
    uint32_t InterfaceIndex;
} HOST_SOURCE;

int HostDatagramReceive(int Fd, void *Memory, size_t Capacity, HOST_PACKET *Out);
ssize_t HostDatagramSend(int Fd, const HOST_PIECE *Pieces, size_t Count, const HOST_ADDRESS *To, const HOST_SOURCE *Source);

#endif
