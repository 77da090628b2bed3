/*
 * host_datagram.c: datagrams with what came or shall go beside their bytes.
 */
#define _GNU_SOURCE
#include "host_datagram.h"

#include <errno.h>
#include <ifaddrs.h>
#include <sys/uio.h>

#include "host_sockaddr.h"

/* Whether an IPv4 destination is a broadcast address: the limited one, or that of one of our networks. */
static bool IsBroadcast(const uint8_t *Ip) {
    static const uint8_t limited[4] = {255, 255, 255, 255};
    struct ifaddrs *all = NULL;
    bool found = memcmp(Ip, limited, 4) == 0;

    if (found || getifaddrs(&all) < 0) {
        return found;
    }
    for (struct ifaddrs *one = all; one != NULL && !found; one = one->ifa_next) {
        const struct sockaddr_in *own = (const void *)one->ifa_addr;
        const struct sockaddr_in *mask = (const void *)one->ifa_netmask;
        uint32_t broadcast, address;
        if (own == NULL || mask == NULL || own->sin_family != AF_INET || mask->sin_addr.s_addr == 0xFFFFFFFFu) {
            continue;
        }
        broadcast = own->sin_addr.s_addr | ~mask->sin_addr.s_addr;
        memcpy(&address, Ip, 4);
        found = address == broadcast;
    }
    freeifaddrs(all);
    return found;
}

static void ReadControl(struct msghdr *Message, HOST_PACKET *Out) {
    for (struct cmsghdr *one = CMSG_FIRSTHDR(Message); one != NULL; one = CMSG_NXTHDR(Message, one)) {
        if (one->cmsg_level == IPPROTO_IP && one->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(one), sizeof(info));
            Out->LocalKnown = true;
            Out->Local.Family = HOST_FAMILY_4;
            memcpy(Out->Local.Ip, &info.ipi_addr, 4);
            Out->InterfaceIndex = (uint32_t)info.ipi_ifindex;
            Out->Multicast = (Out->Local.Ip[0] & 0xF0) == 0xE0;
            Out->Broadcast = !Out->Multicast && IsBroadcast(Out->Local.Ip);
        } else if (one->cmsg_level == IPPROTO_IPV6 && one->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(one), sizeof(info));
            Out->LocalKnown = true;
            Out->Local.Family = HOST_FAMILY_6;
            memcpy(Out->Local.Ip, &info.ipi6_addr, 16);
            Out->InterfaceIndex = info.ipi6_ifindex;
            Out->Multicast = Out->Local.Ip[0] == 0xFF;
        }
    }
}

int HostDatagramReceive(int Fd, void *Memory, size_t Capacity, HOST_PACKET *Out) {
    union {
        struct cmsghdr Align;
        char Bytes[256];
    } control;
    HOST_SOCKADDR from;
    struct iovec piece = {.iov_base = Memory, .iov_len = Capacity};
    struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &piece, .msg_iovlen = 1,
                             .msg_control = &control, .msg_controllen = sizeof(control)};
    ssize_t got;

    memset(Out, 0, sizeof(*Out));
    memset(&from, 0, sizeof(from));
    got = recvmsg(Fd, &message, MSG_DONTWAIT | MSG_TRUNC);
    if (got < 0) {
        return -errno;
    }
    Out->Length = (size_t)got;
    HostSockaddrTo(&from, &Out->From);
    ReadControl(&message, Out);
    return 0;
}

static void WriteSource(struct msghdr *Message, const HOST_SOURCE *Source) {
    struct cmsghdr *header = Message->msg_control;
    if (Source->Address.Family == HOST_FAMILY_4) {
        struct in_pktinfo info = {.ipi_ifindex = (int)Source->InterfaceIndex};
        memcpy(&info.ipi_spec_dst, Source->Address.Ip, 4);
        Message->msg_controllen = CMSG_SPACE(sizeof(info));
        *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(info)), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO};
        memcpy(CMSG_DATA(header), &info, sizeof(info));
    } else {
        struct in6_pktinfo info = {.ipi6_ifindex = Source->InterfaceIndex};
        memcpy(&info.ipi6_addr, Source->Address.Ip, 16);
        Message->msg_controllen = CMSG_SPACE(sizeof(info));
        *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(info)), .cmsg_level = IPPROTO_IPV6, .cmsg_type = IPV6_PKTINFO};
        memcpy(CMSG_DATA(header), &info, sizeof(info));
    }
}

ssize_t HostDatagramSend(int Fd, const HOST_PIECE *Pieces, size_t Count, const HOST_ADDRESS *To, const HOST_SOURCE *Source) {
    union {
        struct cmsghdr Align;
        char Bytes[128];
    } control = {0};
    struct iovec vector[HOST_MAX_PIECES];
    HOST_SOCKADDR to;
    struct msghdr message = {.msg_name = &to, .msg_iov = vector};
    ssize_t sent;

    if (Count > HOST_MAX_PIECES) {
        return -EMSGSIZE;
    }
    message.msg_namelen = HostSockaddrFrom(To, &to);
    for (size_t index = 0; index < Count; index++) {
        vector[index] = (struct iovec){.iov_base = Pieces[index].Base, .iov_len = Pieces[index].Length};
    }
    message.msg_iovlen = Count;
    if (Source != NULL) {
        message.msg_control = &control;
        WriteSource(&message, Source);
    }
    sent = sendmsg(Fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent < 0 ? -errno : sent;
}
