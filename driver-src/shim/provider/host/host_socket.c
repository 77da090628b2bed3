/*
 * host_socket.c: one Linux socket.
 */
#define _GNU_SOURCE
#include "host_socket.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/tcp.h> /* struct tcp_info with the members of today, TCP_REPAIR */
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "host_sockaddr.h"

/* The kernel doubles it. Windows completes a send when TCP is done with the memory; here TCP copies, so the less it
 * can take in advance, the nearer a pending send is to Windows (WSK-DATA-003). */
#define SEND_BUFFER (32 * 1024)
#define BACKLOG 200
/* A segment of Ethernet's size on loopback too: with one of 64 KiB a small receive window opens by timers only. */
#define SEGMENT 1400
/* Connects that nobody answers end after three seconds (one repetition), not after Linux' two minutes. */
#define CONNECT_REPETITIONS 1

/* States of tcp_info.tcpi_state; <netinet/tcp.h> has them, but clashes with <linux/tcp.h>. */
enum { STATE_ESTABLISHED = 1, STATE_FIN_WAIT1 = 4, STATE_FIN_WAIT2 = 5, STATE_TIME_WAIT = 6, STATE_CLOSE = 7, STATE_CLOSE_WAIT = 8,
       STATE_LAST_ACK = 9, STATE_CLOSING = 11 };

static int Result(int Value) {
    return Value < 0 ? -errno : Value;
}

static int SetInt(int Fd, int Level, int Name, int Value) {
    return Result(setsockopt(Fd, Level, Name, &Value, sizeof(Value)));
}

int HostSocketOpen(HOST_FAMILY Family, HOST_TYPE Type, int Protocol) {
    static const int types[] = {[HOST_STREAM] = SOCK_STREAM, [HOST_DATAGRAM] = SOCK_DGRAM, [HOST_RAW] = SOCK_RAW};
    int domain = Family == HOST_FAMILY_4 ? AF_INET : AF_INET6;
    int fd = socket(domain, types[Type] | SOCK_NONBLOCK | SOCK_CLOEXEC, Protocol);
    if (fd < 0) {
        return -errno;
    }
    if (Type == HOST_STREAM) {
        /* As on Windows: a port with connections in TIME_WAIT can be bound. */
        SetInt(fd, SOL_SOCKET, SO_REUSEADDR, 1);
        SetInt(fd, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER);
        SetInt(fd, IPPROTO_TCP, TCP_MAXSEG, SEGMENT);
        SetInt(fd, IPPROTO_TCP, TCP_SYNCNT, CONNECT_REPETITIONS);
    }
    if (Type == HOST_DATAGRAM) {
        /* Where a datagram came to decides MSG_BCAST and MSG_MCAST, asked for or not. */
        SetInt(fd, Family == HOST_FAMILY_4 ? IPPROTO_IP : IPPROTO_IPV6, Family == HOST_FAMILY_4 ? IP_PKTINFO : IPV6_RECVPKTINFO, 1);
    }
    if (Family == HOST_FAMILY_6) {
        SetInt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1); /* the default of Windows */
    }
    return fd;
}

int HostSocketBind(int Fd, const HOST_ADDRESS *Address) {
    HOST_SOCKADDR address;
    socklen_t length = HostSockaddrFrom(Address, &address);
    return Result(bind(Fd, &address.Any, length));
}

int HostSocketShare(int Fd) {
    return SetInt(Fd, SOL_SOCKET, SO_REUSEPORT, 1);
}

int HostSocketListen(int Fd) {
    return Result(listen(Fd, BACKLOG));
}

int HostSocketAccept(int Fd, HOST_ADDRESS *Peer) {
    HOST_SOCKADDR address;
    socklen_t length = sizeof(address);
    int fd = accept4(Fd, &address.Any, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    HostSockaddrTo(&address, Peer);
    SetInt(fd, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER);
    return fd;
}

int HostSocketConnect(int Fd, const HOST_ADDRESS *Address) {
    HOST_SOCKADDR address;
    socklen_t length = HostSockaddrFrom(Address, &address);
    return Result(connect(Fd, &address.Any, length));
}

static int State(int Fd) {
    struct tcp_info info;
    socklen_t length = sizeof(info);
    return getsockopt(Fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0 ? -errno : info.tcpi_state;
}

int HostSocketConnected(int Fd) {
    int error = 0;
    socklen_t length = sizeof(error);
    int state;
    if (getsockopt(Fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0) {
        return -errno;
    }
    if (error != 0) {
        return -error;
    }
    state = State(Fd);
    return state == STATE_ESTABLISHED || state == STATE_CLOSE_WAIT ? 0 : state == STATE_CLOSE ? -ECONNABORTED : -EINPROGRESS;
}

void HostSocketAbandon(int Fd) {
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    connect(Fd, &none, sizeof(none));
}

int HostSocketLocal(int Fd, HOST_ADDRESS *Address) {
    HOST_SOCKADDR address;
    socklen_t length = sizeof(address);
    if (getsockname(Fd, &address.Any, &length) < 0) {
        return -errno;
    }
    HostSockaddrTo(&address, Address);
    return 0;
}

int HostSocketRemote(int Fd, HOST_ADDRESS *Address) {
    HOST_SOCKADDR address;
    socklen_t length = sizeof(address);
    if (getpeername(Fd, &address.Any, &length) < 0) {
        return -errno;
    }
    HostSockaddrTo(&address, Address);
    return 0;
}

static size_t Vector(const HOST_PIECE *Pieces, size_t Count, struct iovec *Out) {
    size_t count = Count > HOST_MAX_PIECES ? HOST_MAX_PIECES : Count;
    for (size_t index = 0; index < count; index++) {
        Out[index] = (struct iovec){.iov_base = Pieces[index].Base, .iov_len = Pieces[index].Length};
    }
    return count;
}

ssize_t HostSocketSend(int Fd, const HOST_PIECE *Pieces, size_t Count) {
    struct iovec vector[HOST_MAX_PIECES];
    struct msghdr message = {.msg_iov = vector, .msg_iovlen = Vector(Pieces, Count, vector)};
    ssize_t sent = sendmsg(Fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent < 0 ? -errno : sent;
}

ssize_t HostSocketReceive(int Fd, const HOST_PIECE *Pieces, size_t Count) {
    struct iovec vector[HOST_MAX_PIECES];
    struct msghdr message = {.msg_iov = vector, .msg_iovlen = Vector(Pieces, Count, vector)};
    ssize_t got = recvmsg(Fd, &message, MSG_DONTWAIT);
    return got < 0 ? -errno : got;
}

size_t HostSocketUnread(int Fd) {
    int bytes = 0;
    return ioctl(Fd, FIONREAD, &bytes) < 0 || bytes < 0 ? 0 : (size_t)bytes;
}

int HostSocketPeek(int Fd) {
    int error = 0;
    socklen_t length = sizeof(error);
    char byte;
    ssize_t got;
    /* A reset is told at once, as Windows does, even where bytes that came before it are unread. */
    if (getsockopt(Fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error != 0) {
        return -error;
    }
    got = recv(Fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    return got == 0 ? 1 : 0;
}

int HostSocketPeerFinished(int Fd) {
    int state = State(Fd);
    return state == STATE_CLOSE_WAIT || state == STATE_LAST_ACK || state == STATE_CLOSING || state == STATE_TIME_WAIT || state == STATE_CLOSE;
}

int HostSocketShutdown(int Fd) {
    return Result(shutdown(Fd, SHUT_WR));
}

int HostSocketFinAcknowledged(int Fd) {
    int state = State(Fd);
    return state != STATE_FIN_WAIT1 && state != STATE_CLOSING && state != STATE_LAST_ACK;
}

size_t HostSocketIdealBacklog(int Fd) {
    struct tcp_info info;
    socklen_t length = sizeof(info);
    if (getsockopt(Fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0) {
        return 0;
    }
    return (size_t)info.tcpi_snd_cwnd * info.tcpi_snd_mss;
}

void HostSocketReset(int Fd) {
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(Fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(Fd);
}

void HostSocketClose(int Fd) {
    char rest[4096];
    /* Linux sends RST for what nobody read; the caller says that both directions are done, so there is no reason to. */
    for (int round = 0; round < 4096 && recv(Fd, rest, sizeof(rest), MSG_DONTWAIT) > 0; round++) {
    }
    close(Fd);
}

int HostSocketSilence(int Fd) {
    struct sock_filter drop = {.code = BPF_RET | BPF_K, .k = 0};
    struct sock_fprog program = {.len = 1, .filter = &drop};
    int status = SetInt(Fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON); /* close() then says nothing */
    if (status < 0) {
        return status;
    }
    SetInt(Fd, SOL_SOCKET, SO_KEEPALIVE, 0);
    return Result(setsockopt(Fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program))); /* nothing to acknowledge */
}
