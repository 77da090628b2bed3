/*
 * host_name.h: names and addresses. Blocking; asks files of this host only, never a name server, so that a name that
 * does not exist is known at once and no test depends on a network.
 */
#ifndef WSKLAB_PROVIDER_HOST_NAME_H
#define WSKLAB_PROVIDER_HOST_NAME_H

#include <stddef.h>

#include "host_address.h"

typedef struct HOST_NAME_HINTS {
    bool Passive;
    bool Canonical;
    bool NumericHost;
    bool NumericService;
    HOST_FAMILY Family; /* none: both */
    int Type;           /* 1 stream, 2 datagram, 3 raw, 0 any: the same numbers everywhere */
    int Protocol;
} HOST_NAME_HINTS;

typedef struct HOST_NAME_RESULT {
    HOST_ADDRESS Address;
    int Type;
    int Protocol;
} HOST_NAME_RESULT;

#define HOST_MAX_NAME 1025

/* Number of results, or minus one of these. */
enum { HOST_NAME_UNKNOWN = 1, HOST_NAME_INVALID = 2, HOST_NAME_MEMORY = 3, HOST_NAME_FAMILY = 4, HOST_NAME_TYPE = 5, HOST_NAME_SERVICE = 6 };
int HostNameResolve(const char *Node, const char *Service, const HOST_NAME_HINTS *Hints, HOST_NAME_RESULT *Out, size_t Capacity,
                    char Canonical[HOST_MAX_NAME]);
int HostNameOf(const HOST_ADDRESS *Address, bool NumericHost, bool NumericService, bool NameRequired, bool Datagram,
               char Node[HOST_MAX_NAME], char Service[HOST_MAX_NAME]);

#endif
