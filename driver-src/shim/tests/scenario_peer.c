/*
 * scenario_peer.c: see scenario_peer.h. No Windows header here: their names are the host's, too.
 */
#include "scenario_peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* shim.h: BOOLEAN, LONGLONG. */
unsigned char ShimWaitReadable(int descriptor, int64_t timeoutMs);

typedef union ADDRESS {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
} ADDRESS;

static socklen_t Loopback(int family, uint16_t port, ADDRESS *address) {
    memset(address, 0, sizeof(*address));
    if (family == 4) {
        address->four.sin_family = AF_INET;
        address->four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address->four.sin_port = htons(port);
        return sizeof(address->four);
    }
    address->six.sin6_family = AF_INET6;
    address->six.sin6_addr = in6addr_loopback;
    address->six.sin6_port = htons(port);
    return sizeof(address->six);
}

static int Open(int family, int type) {
    return socket(family == 4 ? AF_INET : AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static int Bound(int family, int type, uint16_t *port) {
    int peer = Open(family, type);
    ADDRESS address;
    socklen_t size = Loopback(family, 0, &address);

    if (peer < 0 || bind(peer, &address.any, size) != 0 || getsockname(peer, &address.any, &size) != 0) {
        PeerClose(peer);
        return -1;
    }
    *port = ntohs(family == 4 ? address.four.sin_port : address.six.sin6_port);
    return peer;
}

int PeerListen(int family, uint16_t *port) {
    int peer = Bound(family, SOCK_STREAM, port);

    if (peer >= 0 && listen(peer, 8) != 0) {
        PeerClose(peer);
        return -1;
    }
    return peer;
}

int PeerAccept(int listener, int waitMs) {
    return listener >= 0 && ShimWaitReadable(listener, waitMs) ? accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC) : -1;
}

int PeerConnect(int family, uint16_t port) {
    int peer = Open(family, SOCK_STREAM);
    ADDRESS address;
    socklen_t size = Loopback(family, port, &address);

    if (peer >= 0 && connect(peer, &address.any, size) != 0 && errno != EINPROGRESS) {
        PeerClose(peer);
        return -1;
    }
    return peer;
}

int PeerDatagram(int family, uint16_t *port) {
    return Bound(family, SOCK_DGRAM, port);
}

int PeerSend(int peer, const void *bytes, size_t size) {
    return peer >= 0 ? (int)send(peer, bytes, size, MSG_NOSIGNAL) : -1;
}

int PeerReceive(int peer, void *bytes, size_t size, int waitMs) {
    int got;

    if (peer < 0 || !ShimWaitReadable(peer, waitMs)) {
        return -1;
    }
    got = (int)recv(peer, bytes, size, 0);
    return got >= 0 ? got : errno == EAGAIN ? -1 : -2;
}

int PeerSendTo(int peer, int family, uint16_t port, const void *bytes, size_t size) {
    ADDRESS address;
    socklen_t length = Loopback(family, port, &address);

    return peer >= 0 ? (int)sendto(peer, bytes, size, MSG_NOSIGNAL, &address.any, length) : -1;
}

void PeerReset(int peer) {
    struct linger now = {.l_onoff = 1, .l_linger = 0};

    if (peer >= 0) {
        setsockopt(peer, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    }
    PeerClose(peer);
}

void PeerClose(int peer) {
    if (peer >= 0) {
        close(peer);
    }
}
