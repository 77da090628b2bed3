/*
 * host_option.c: socket options of Linux that stand behind those of Windows.
 */
#include "host_option.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

static void Place(HOST_FAMILY Family, HOST_OPTION Option, int *Level, int *Name) {
    static const struct {
        int Level[2];
        int Name[2];
    } places[] = {
        [HOST_KEEPALIVE] = {{SOL_SOCKET, SOL_SOCKET}, {SO_KEEPALIVE, SO_KEEPALIVE}},
        [HOST_RECEIVE_BUFFER] = {{SOL_SOCKET, SOL_SOCKET}, {SO_RCVBUF, SO_RCVBUF}},
        [HOST_BROADCAST] = {{SOL_SOCKET, SOL_SOCKET}, {SO_BROADCAST, SO_BROADCAST}},
        [HOST_NODELAY] = {{IPPROTO_TCP, IPPROTO_TCP}, {TCP_NODELAY, TCP_NODELAY}},
        [HOST_V6ONLY] = {{IPPROTO_IPV6, IPPROTO_IPV6}, {IPV6_V6ONLY, IPV6_V6ONLY}},
        [HOST_TIME_TO_LIVE] = {{IPPROTO_IP, IPPROTO_IPV6}, {IP_TTL, IPV6_UNICAST_HOPS}},
        [HOST_MULTICAST_TIME_TO_LIVE] = {{IPPROTO_IP, IPPROTO_IPV6}, {IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS}},
        [HOST_MULTICAST_LOOP] = {{IPPROTO_IP, IPPROTO_IPV6}, {IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP}},
        [HOST_MULTICAST_INTERFACE] = {{IPPROTO_IP, IPPROTO_IPV6}, {IP_MULTICAST_IF, IPV6_MULTICAST_IF}},
    };
    int column = Family == HOST_FAMILY_6;
    *Level = places[Option].Level[column];
    *Name = places[Option].Name[column];
}

int HostOptionSet(int Fd, HOST_FAMILY Family, HOST_OPTION Option, int Value) {
    int level, name;
    Place(Family, Option, &level, &name);
    if (Option == HOST_MULTICAST_INTERFACE && Family == HOST_FAMILY_4) {
        struct ip_mreqn request = {.imr_ifindex = Value};
        return setsockopt(Fd, level, name, &request, sizeof(request)) < 0 ? -errno : 0;
    }
    return setsockopt(Fd, level, name, &Value, sizeof(Value)) < 0 ? -errno : 0;
}

int HostOptionGet(int Fd, HOST_FAMILY Family, HOST_OPTION Option, int *Value) {
    int level, name;
    socklen_t length = sizeof(*Value);
    *Value = 0;
    Place(Family, Option, &level, &name);
    return getsockopt(Fd, level, name, Value, &length) < 0 ? -errno : 0;
}

int HostOptionMembership(int Fd, const HOST_ADDRESS *Group, const HOST_ADDRESS *Interface, uint32_t InterfaceIndex, bool Join) {
    if (Group->Family == HOST_FAMILY_4) {
        struct ip_mreqn request = {.imr_ifindex = (int)InterfaceIndex};
        memcpy(&request.imr_multiaddr, Group->Ip, 4);
        memcpy(&request.imr_address, Interface->Ip, 4);
        return setsockopt(Fd, IPPROTO_IP, Join ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP, &request, sizeof(request)) < 0 ? -errno : 0;
    }
    struct ipv6_mreq request = {.ipv6mr_interface = InterfaceIndex};
    memcpy(&request.ipv6mr_multiaddr, Group->Ip, 16);
    return setsockopt(Fd, IPPROTO_IPV6, Join ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP, &request, sizeof(request)) < 0 ? -errno : 0;
}
