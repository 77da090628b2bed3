/*
 * host_sockaddr.h: HOST_ADDRESS to and from Linux's struct sockaddr. For host_*.c only.
 */
#ifndef WSKLAB_PROVIDER_HOST_SOCKADDR_H
#define WSKLAB_PROVIDER_HOST_SOCKADDR_H

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "host_address.h"

typedef union HOST_SOCKADDR {
    struct sockaddr Any;
    struct sockaddr_in In;
    struct sockaddr_in6 In6;
    struct sockaddr_storage Storage;
} HOST_SOCKADDR;

static inline socklen_t HostSockaddrFrom(const HOST_ADDRESS *Address, HOST_SOCKADDR *Out) {
    memset(Out, 0, sizeof(*Out));
    if (Address->Family == HOST_FAMILY_4) {
        Out->In.sin_family = AF_INET;
        Out->In.sin_port = Address->Port;
        memcpy(&Out->In.sin_addr, Address->Ip, 4);
        return sizeof(Out->In);
    }
    Out->In6.sin6_family = AF_INET6;
    Out->In6.sin6_port = Address->Port;
    Out->In6.sin6_flowinfo = Address->FlowInfo;
    Out->In6.sin6_scope_id = Address->ScopeId;
    memcpy(&Out->In6.sin6_addr, Address->Ip, 16);
    return sizeof(Out->In6);
}

static inline void HostSockaddrTo(const HOST_SOCKADDR *In, HOST_ADDRESS *Address) {
    memset(Address, 0, sizeof(*Address));
    if (In->Any.sa_family == AF_INET) {
        Address->Family = HOST_FAMILY_4;
        Address->Port = In->In.sin_port;
        memcpy(Address->Ip, &In->In.sin_addr, 4);
    } else if (In->Any.sa_family == AF_INET6) {
        Address->Family = HOST_FAMILY_6;
        Address->Port = In->In6.sin6_port;
        Address->FlowInfo = In->In6.sin6_flowinfo;
        Address->ScopeId = In->In6.sin6_scope_id;
        memcpy(Address->Ip, &In->In6.sin6_addr, 16);
    }
}

#endif
