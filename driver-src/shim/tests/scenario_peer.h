/*
 * scenario_peer.h: the other side of the driver's sockets: the host's own, non-blocking, on the loopback. Nothing here
 * insists: a call that has no answer in its time says so, because under injected failures there may never be one.
 */
#ifndef WSKLAB_SHIM_SCENARIO_PEER_H
#define WSKLAB_SHIM_SCENARIO_PEER_H

#include <stddef.h>
#include <stdint.h>

/* Descriptors; -1: it did not work. `family`: 4 or 6. Ports in host order. */
int PeerListen(int family, uint16_t *port);
int PeerAccept(int listener, int waitMs);
int PeerConnect(int family, uint16_t port);
int PeerDatagram(int family, uint16_t *port);
int PeerSend(int peer, const void *bytes, size_t size);
/* Bytes; 0: the end; -1: nothing came in time; -2: the connection is broken. */
int PeerReceive(int peer, void *bytes, size_t size, int waitMs);
int PeerSendTo(int peer, int family, uint16_t port, const void *bytes, size_t size);
void PeerReset(int peer);
void PeerClose(int peer);

#endif
