/*
 * winsock.h: numbers of Windows' socket headers that the provider knows and the driver does not need.
 */
#ifndef WSKLAB_PROVIDER_WINSOCK_H
#define WSKLAB_PROVIDER_WINSOCK_H

/* Levels. */
#define WSKP_IPPROTO_IP 0u
#define WSKP_IPPROTO_IPV6 41u

/* ws2ipdef.h */
#define WSKP_IP_TTL 4u
#define WSKP_IP_MULTICAST_IF 9u
#define WSKP_IP_MULTICAST_TTL 10u
#define WSKP_IP_MULTICAST_LOOP 11u
#define WSKP_IP_ADD_MEMBERSHIP 12u
#define WSKP_IP_DROP_MEMBERSHIP 13u
#define WSKP_IP_PKTINFO 19u
#define WSKP_IPV6_UNICAST_HOPS 4u
#define WSKP_IPV6_MULTICAST_IF 9u
#define WSKP_IPV6_MULTICAST_HOPS 10u
#define WSKP_IPV6_MULTICAST_LOOP 11u
#define WSKP_IPV6_ADD_MEMBERSHIP 12u
#define WSKP_IPV6_DROP_MEMBERSHIP 13u
#define WSKP_IPV6_PKTINFO 19u
#define WSKP_IPV6_V6ONLY 27u
#define WSKP_TCP_NODELAY 1u

/* ws2def.h */
#define WSKP_AI_PASSIVE 0x1
#define WSKP_AI_CANONNAME 0x2
#define WSKP_AI_NUMERICHOST 0x4
#define WSKP_AI_NUMERICSERV 0x8
#define WSKP_NI_NUMERICHOST 0x02u
#define WSKP_NI_NAMEREQD 0x04u
#define WSKP_NI_NUMERICSERV 0x08u
#define WSKP_NI_DGRAM 0x10u

#endif
