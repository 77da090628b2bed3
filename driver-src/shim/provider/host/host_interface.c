/*
 * host_interface.c: the addresses of this host, and when they change.
 */
#include "host_interface.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <unistd.h>

#include "host_sockaddr.h"

size_t HostInterfaceAddresses(HOST_FAMILY Family, HOST_ADDRESS *Out, size_t Capacity) {
    struct ifaddrs *all = NULL;
    size_t count = 0;

    if (getifaddrs(&all) < 0) {
        return 0;
    }
    for (struct ifaddrs *one = all; one != NULL; one = one->ifa_next) {
        HOST_SOCKADDR address;
        HOST_ADDRESS found;
        if (one->ifa_addr == NULL || (one->ifa_addr->sa_family != AF_INET && one->ifa_addr->sa_family != AF_INET6)) {
            continue;
        }
        memset(&address, 0, sizeof(address));
        memcpy(&address, one->ifa_addr, one->ifa_addr->sa_family == AF_INET ? sizeof(address.In) : sizeof(address.In6));
        HostSockaddrTo(&address, &found);
        if (found.Family == Family) {
            if (count < Capacity) {
                Out[count] = found;
            }
            count++;
        }
    }
    freeifaddrs(all);
    return count;
}

bool HostInterfaceOwns(const HOST_ADDRESS *Address) {
    HOST_ADDRESS own[256];
    size_t count;

    if (HostAddressIsLoopback(Address)) {
        return true;
    }
    count = HostInterfaceAddresses(Address->Family, own, sizeof(own) / sizeof(own[0]));
    for (size_t index = 0; index < count && index < sizeof(own) / sizeof(own[0]); index++) {
        if (HostAddressSameIp(Address, &own[index])) {
            return true;
        }
    }
    return false;
}

int HostInterfaceWatch(void) {
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (fd < 0) {
        return -errno;
    }
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

void HostInterfaceChanges(int Fd, bool *Family4, bool *Family6) {
    union {
        struct nlmsghdr Header;
        char Bytes[16384];
    } buffer;
    ssize_t got;

    *Family4 = *Family6 = false;
    while ((got = recv(Fd, &buffer, sizeof(buffer), MSG_DONTWAIT)) > 0 || (got < 0 && errno == ENOBUFS)) {
        unsigned int left = got > 0 ? (unsigned int)got : 0;
        if (got < 0) {
            *Family4 = *Family6 = true; /* messages were dropped: anything may have changed */
            continue;
        }
        for (struct nlmsghdr *one = &buffer.Header; NLMSG_OK(one, left); one = NLMSG_NEXT(one, left)) {
            const struct ifaddrmsg *message = NLMSG_DATA(one);
            if (one->nlmsg_type != RTM_NEWADDR && one->nlmsg_type != RTM_DELADDR) {
                continue;
            }
            *Family4 = *Family4 || message->ifa_family == AF_INET;
            *Family6 = *Family6 || message->ifa_family == AF_INET6;
        }
    }
}
