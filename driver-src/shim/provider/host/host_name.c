/*
 * host_name.c: names and addresses.
 */
#define _GNU_SOURCE
#include "host_name.h"

#include <netdb.h>
#include <pthread.h>
#include <stdio.h>

#include "host_sockaddr.h"

/* glibc exports it without a header (nss.h of its own sources): which data bases a lookup asks. */
extern int __nss_configure_lookup(const char *Database, const char *Services);

static void FilesOnly(void) {
    __nss_configure_lookup("hosts", "files");
    __nss_configure_lookup("services", "files");
}

static pthread_once_t FilesOnlyOnce = PTHREAD_ONCE_INIT;

static int Failure(int Error) {
    switch (Error) {
    case EAI_NONAME:
    case EAI_AGAIN:
    case EAI_FAIL:
    case EAI_NODATA:
        return -HOST_NAME_UNKNOWN;
    case EAI_MEMORY:
        return -HOST_NAME_MEMORY;
    case EAI_FAMILY:
    case EAI_ADDRFAMILY:
        return -HOST_NAME_FAMILY;
    case EAI_SOCKTYPE:
        return -HOST_NAME_TYPE;
    case EAI_SERVICE:
        return -HOST_NAME_SERVICE;
    default:
        return -HOST_NAME_INVALID;
    }
}

int HostNameResolve(const char *Node, const char *Service, const HOST_NAME_HINTS *Hints, HOST_NAME_RESULT *Out, size_t Capacity,
                    char Canonical[HOST_MAX_NAME]) {
    struct addrinfo hints = {.ai_socktype = Hints->Type, .ai_protocol = Hints->Protocol};
    struct addrinfo *all = NULL;
    int count = 0, error;

    pthread_once(&FilesOnlyOnce, FilesOnly);
    hints.ai_family = Hints->Family == HOST_FAMILY_4 ? AF_INET : Hints->Family == HOST_FAMILY_6 ? AF_INET6 : AF_UNSPEC;
    hints.ai_flags = (Hints->Passive ? AI_PASSIVE : 0) | (Hints->Canonical ? AI_CANONNAME : 0) |
                     (Hints->NumericHost ? AI_NUMERICHOST : 0) | (Hints->NumericService ? AI_NUMERICSERV : 0);
    Canonical[0] = 0;
    error = getaddrinfo(Node, Service, &hints, &all);
    if (error != 0) {
        return Failure(error);
    }
    for (struct addrinfo *one = all; one != NULL && (size_t)count < Capacity; one = one->ai_next) {
        HOST_SOCKADDR address;
        memset(&address, 0, sizeof(address));
        memcpy(&address, one->ai_addr, one->ai_addrlen);
        HostSockaddrTo(&address, &Out[count].Address);
        Out[count].Type = Hints->Type == 0 ? 0 : one->ai_socktype;
        Out[count].Protocol = Hints->Type == 0 ? 0 : one->ai_protocol;
        if (one->ai_canonname != NULL && Canonical[0] == 0) {
            snprintf(Canonical, HOST_MAX_NAME, "%s", one->ai_canonname);
        }
        /* Without a type Linux tells each address once for every type, Windows once. */
        if (Hints->Type == 0 && count > 0 && HostAddressEqual(&Out[count].Address, &Out[count - 1].Address)) {
            continue;
        }
        count++;
    }
    freeaddrinfo(all);
    return count;
}

int HostNameOf(const HOST_ADDRESS *Address, bool NumericHost, bool NumericService, bool NameRequired, bool Datagram,
               char Node[HOST_MAX_NAME], char Service[HOST_MAX_NAME]) {
    HOST_SOCKADDR address;
    socklen_t length = HostSockaddrFrom(Address, &address);
    int flags = (NumericHost ? NI_NUMERICHOST : 0) | (NumericService ? NI_NUMERICSERV : 0) | (NameRequired ? NI_NAMEREQD : 0) |
                (Datagram ? NI_DGRAM : 0);
    int error;

    pthread_once(&FilesOnlyOnce, FilesOnly);
    error = getnameinfo(&address.Any, length, Node, HOST_MAX_NAME, Service, HOST_MAX_NAME, flags);
    return error == 0 ? 0 : Failure(error);
}
