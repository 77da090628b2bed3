/*
 * provider_peer.c: the other side of the provider's tests: plain sockets of the host.
 */
#include "provider_client.h"

#include <errno.h>

#include "address.h"
#include "host/host_datagram.h"
#include "host/host_option.h"
#include "host/host_socket.h"

static HOST_ADDRESS HostAddressOf(const ADDRESS *address) {
    HOST_ADDRESS out;
    CHECK(WskpAddressRead("test", &address->Any, WskpFamilyOf(address->Any.sa_family), &out));
    return out;
}

ADDRESS AddressOf(const char *text, USHORT port) {
    HOST_ADDRESS address = {.Family = strchr(text, ':') == NULL ? HOST_FAMILY_4 : HOST_FAMILY_6};
    ADDRESS out = {0};
    unsigned part[4] = {0};

    address.Port = (USHORT)(port << 8 | port >> 8);
    if (address.Family == HOST_FAMILY_4) {
        const char *place = text;
        for (ULONG index = 0; index < 4; index++) {
            while (*place >= '0' && *place <= '9') {
                part[index] = part[index] * 10 + (unsigned)(*place++ - '0');
            }
            address.Ip[index] = (UCHAR)part[index];
            place += *place == '.';
        }
    } else {
        CHECK(strcmp(text, "::1") == 0 || strcmp(text, "::") == 0);
        address.Ip[15] = text[2] == '1';
    }
    WskpAddressWrite(&out.Any, &address);
    return out;
}

USHORT PortOf(const ADDRESS *address) {
    return (USHORT)(address->Bytes[2] << 8 | address->Bytes[3]);
}

static int Open(const char *text, HOST_TYPE type, ADDRESS *bound) {
    ADDRESS wanted = AddressOf(text, 0);
    HOST_ADDRESS address = HostAddressOf(&wanted);
    int fd = HostSocketOpen(address.Family, type, 0);
    CHECK(fd >= 0);
    CHECK_EQUAL(HostSocketBind(fd, &address), 0);
    CHECK_EQUAL(HostSocketLocal(fd, &address), 0);
    WskpAddressWrite(&bound->Any, &address);
    return fd;
}

int PeerListen(const char *address, ADDRESS *bound) {
    int fd = Open(address, HOST_STREAM, bound);
    CHECK_EQUAL(HostSocketListen(fd), 0);
    return fd;
}

int PeerRefuses(const char *address, ADDRESS *bound) {
    return Open(address, HOST_STREAM, bound); /* bound, so that nobody else listens there meanwhile */
}

int PeerListenSmall(const char *address, ADDRESS *bound) {
    int fd = Open(address, HOST_STREAM, bound);
    CHECK_EQUAL(HostOptionSet(fd, HOST_FAMILY_4, HOST_RECEIVE_BUFFER, 2304), 0);
    CHECK_EQUAL(HostSocketListen(fd), 0);
    return fd;
}

int PeerAccept(int listener) {
    HOST_ADDRESS from;
    int fd;
    ReadableAwait(listener);
    fd = HostSocketAccept(listener, &from);
    CHECK(fd >= 0);
    return fd;
}

int PeerConnect(const ADDRESS *to) {
    HOST_ADDRESS address = HostAddressOf(to);
    int fd = HostSocketOpen(address.Family, HOST_STREAM, 0);
    int error = HostSocketConnect(fd, &address);

    for (ULONG round = 0; error == -EINPROGRESS && round < WAIT_SLICES; round++) {
        error = HostSocketConnected(fd);
        if (error == -EINPROGRESS) {
            Pause(1);
        }
    }
    if (error < 0) {
        HostSocketClose(fd);
        return error;
    }
    return fd;
}

int PeerDatagram(const char *address, ADDRESS *bound) {
    return Open(address, HOST_DATAGRAM, bound);
}

void PeerSend(int peer, const void *bytes, size_t size) {
    const UCHAR *place = bytes;
    while (size > 0) {
        ssize_t sent = HostSocketSend(peer, &(HOST_PIECE){.Base = (void *)(ULONG_PTR)place, .Length = size}, 1);
        if (sent == -EAGAIN) {
            Pause(1);
            continue;
        }
        CHECK(sent > 0);
        place += sent;
        size -= (size_t)sent;
    }
}

ssize_t PeerReceive(int peer, void *bytes, size_t size) {
    PUCHAR place = bytes;
    size_t left = size;
    while (left > 0) {
        ssize_t got;
        ReadableAwait(peer);
        got = HostSocketReceive(peer, &(HOST_PIECE){.Base = place, .Length = left}, 1);
        if (got == -EAGAIN) {
            continue;
        }
        if (got < 0) {
            return got;
        }
        if (got == 0) {
            break;
        }
        place += got;
        left -= (size_t)got;
    }
    return (ssize_t)(size - left);
}

void PeerSendTo(int peer, const void *bytes, size_t size, const ADDRESS *to) {
    HOST_ADDRESS address = HostAddressOf(to);
    CHECK_EQUAL(HostDatagramSend(peer, &(HOST_PIECE){.Base = (void *)(ULONG_PTR)bytes, .Length = size}, 1, &address, NULL), size);
}

ssize_t PeerReceiveFrom(int peer, void *bytes, size_t size, LONG waitMs, ADDRESS *from) {
    HOST_PACKET packet;
    int error;
    if (!ShimWaitReadable(peer, waitMs)) {
        return -EAGAIN;
    }
    error = HostDatagramReceive(peer, bytes, size, &packet);
    if (error < 0) {
        return error;
    }
    if (from != NULL) {
        RtlZeroMemory(from, sizeof(*from));
        WskpAddressWrite(&from->Any, &packet.From);
    }
    return (ssize_t)packet.Length;
}

void PeerFinish(int peer) {
    CHECK_EQUAL(HostSocketShutdown(peer), 0);
}

void PeerReset(int peer) {
    HostSocketReset(peer);
}

void PeerClose(int peer) {
    if (peer >= 0) {
        HostSocketClose(peer);
    }
}

BOOLEAN PeerIsCutOff(int peer) {
    UCHAR byte;
    return peer < 0 || PeerReceive(peer, &byte, 1) <= 0;
}

ADDRESS PeerAddress(int peer) {
    HOST_ADDRESS address;
    ADDRESS out = {0};
    CHECK_EQUAL(HostSocketLocal(peer, &address), 0);
    WskpAddressWrite(&out.Any, &address);
    return out;
}
