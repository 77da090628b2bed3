/*
 * host_socket.h: one Linux socket, non-blocking. All functions answer 0 or more, or minus an errno value.
 */
#ifndef WSKLAB_PROVIDER_HOST_SOCKET_H
#define WSKLAB_PROVIDER_HOST_SOCKET_H

#include <stddef.h>
#include <sys/types.h>

#include "host_address.h"

typedef enum HOST_TYPE { HOST_STREAM, HOST_DATAGRAM, HOST_RAW } HOST_TYPE;

/* A piece of memory to send from or to receive into. */
typedef struct HOST_PIECE {
    void *Base;
    size_t Length;
} HOST_PIECE;
#define HOST_MAX_PIECES 64

/* The file descriptor. TCP sockets get a small send buffer: what Windows would not buffer shall not vanish in there. */
int HostSocketOpen(HOST_FAMILY Family, HOST_TYPE Type, int Protocol);
int HostSocketBind(int Fd, const HOST_ADDRESS *Address);
/* Let others of this process have the same address: only where the sharing matrix has already said so. */
int HostSocketShare(int Fd);
int HostSocketListen(int Fd);
int HostSocketAccept(int Fd, HOST_ADDRESS *Peer);
int HostSocketConnect(int Fd, const HOST_ADDRESS *Address); /* -EINPROGRESS: HostSocketConnected tells later */
int HostSocketConnected(int Fd);                            /* 0, -EINPROGRESS, or why it failed */
void HostSocketAbandon(int Fd);                             /* a connect in progress ends; the port stays bound */
int HostSocketLocal(int Fd, HOST_ADDRESS *Address);
int HostSocketRemote(int Fd, HOST_ADDRESS *Address);

ssize_t HostSocketSend(int Fd, const HOST_PIECE *Pieces, size_t Count);
ssize_t HostSocketReceive(int Fd, const HOST_PIECE *Pieces, size_t Count);
size_t HostSocketUnread(int Fd);
/* What is known about the other side without taking anything: 0 nothing ended, 1 end of stream is next, else minus errno. */
int HostSocketPeek(int Fd);
/* 1 when the other side has closed its direction, whatever is still unread. */
int HostSocketPeerFinished(int Fd);

int HostSocketShutdown(int Fd);     /* our direction ends after what was sent */
int HostSocketFinAcknowledged(int Fd);
size_t HostSocketIdealBacklog(int Fd); /* bytes worth having under way: what the congestion window takes */
void HostSocketReset(int Fd);       /* RST, and the descriptor is gone */
void HostSocketClose(int Fd);       /* without RST where both directions are done */
/* Silent mode: nothing more leaves, not even an acknowledgement; needs CAP_NET_ADMIN. */
int HostSocketSilence(int Fd);

#endif
