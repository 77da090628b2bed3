/*
 * claim.c: which local transport addresses are taken, and who may share one.
 *
 * Linux has other rules, so the decision is made here, over all sockets of WSK, and Linux is then told to allow it. Only
 * what other programs have bound is left to Linux.
 */
#include "claim.h"

#include "descriptor.h"
#include "socket.h"

#include "host/host_socket.h"

#include <errno.h>

/* How often a port that the host proposed may be gone before it is bound. */
#define BIND_ATTEMPTS 64

typedef enum SHARING { SHARE_NONE, SHARE_REUSE, SHARE_EXCLUSIVE } SHARING;
typedef enum ANSWER { OK, IN_USE, DENIED, CHECK } ANSWER;

/* Appendix A.8: [second][first], each as sharing * 2 + (specific ? 1 : 0). */
static const ANSWER Matrix[6][6] = {
    /* none W      */ {IN_USE, OK, IN_USE, OK, IN_USE, OK},
    /* none S      */ {CHECK, IN_USE, CHECK, DENIED, DENIED, IN_USE},
    /* reuse W     */ {DENIED, OK, OK, OK, DENIED, OK},
    /* reuse S     */ {CHECK, DENIED, OK, OK, DENIED, DENIED},
    /* exclusive W */ {IN_USE, IN_USE, IN_USE, IN_USE, IN_USE, IN_USE},
    /* exclusive S */ {CHECK, IN_USE, CHECK, IN_USE, DENIED, IN_USE},
};

static LIST_ENTRY Claims = {&Claims, &Claims};

static SHARING SharingOf(const WSKP_SOCKET *socket) {
    return socket->Options.Exclusive ? SHARE_EXCLUSIVE : socket->Options.Reuse ? SHARE_REUSE : SHARE_NONE;
}

static ULONG Index(const WSKP_SOCKET *socket, const HOST_ADDRESS *address) {
    return (ULONG)SharingOf(socket) * 2 + (HostAddressIsWildcard(address) ? 0 : 1);
}

/* A wildcard of the second family that is not restricted to it also takes the first's. */
static BOOLEAN Dual(const WSKP_SOCKET *socket, const HOST_ADDRESS *address) {
    return address->Family == HOST_FAMILY_6 && HostAddressIsWildcard(address) && socket->Options.V6Only == 0;
}

/* Whether both could be asked for by one packet. */
static BOOLEAN Overlap(const WSKP_SOCKET *one, const HOST_ADDRESS *oneAddress, const WSKP_SOCKET *other, const HOST_ADDRESS *otherAddress) {
    if (one->Protocol != other->Protocol || oneAddress->Port != otherAddress->Port) {
        return FALSE;
    }
    if (MutantIs("WSK-BIND-009/port-alone")) {
        return TRUE;
    }
    if (oneAddress->Family != otherAddress->Family) {
        return Dual(one, oneAddress) || Dual(other, otherAddress);
    }
    return HostAddressIsWildcard(oneAddress) || HostAddressIsWildcard(otherAddress) || HostAddressSameIp(oneAddress, otherAddress);
}

static NTSTATUS StatusOf(ANSWER answer, WSKP_SOCKET *second, WSKP_SOCKET *first) {
    switch (answer) {
    case OK:
        return STATUS_SUCCESS;
    case IN_USE:
        return MutantIs("WSK-BIND-006/other-status") ? STATUS_ACCESS_DENIED : STATUS_ADDRESS_ALREADY_EXISTS;
    case CHECK:
        return WskpDescriptorGrants(first->Options.Descriptor, second->Owner) ? STATUS_SUCCESS : STATUS_ACCESS_DENIED;
    default:
        return STATUS_ACCESS_DENIED;
    }
}

/* Against everyone who has the address; *shared tells whether somebody has. */
static NTSTATUS Decide(WSKP_SOCKET *socket, const HOST_ADDRESS *address, BOOLEAN *shared) {
    *shared = FALSE;
    for (PLIST_ENTRY entry = Claims.Flink; entry != &Claims; entry = entry->Flink) {
        WSKP_SOCKET *first = CONTAINING_RECORD(entry, WSKP_SOCKET, Claim.Link);
        NTSTATUS status;
        if (!Overlap(socket, address, first, &first->Local)) {
            continue;
        }
        status = StatusOf(Matrix[Index(socket, address)][Index(first, &first->Local)], socket, first);
        if (!NT_SUCCESS(status) && !MutantIs("WSK-BIND-007/all-shared")) {
            return status;
        }
        *shared = TRUE;
    }
    return STATUS_SUCCESS;
}

/* Linux shares only between sockets that both ask for it. */
static void LetHostShare(WSKP_SOCKET *socket, const HOST_ADDRESS *address) {
    HostSocketShare(socket->Fd);
    for (PLIST_ENTRY entry = Claims.Flink; entry != &Claims; entry = entry->Flink) {
        WSKP_SOCKET *first = CONTAINING_RECORD(entry, WSKP_SOCKET, Claim.Link);
        if (Overlap(socket, address, first, &first->Local) && first->Fd >= 0) {
            HostSocketShare(first->Fd);
        }
    }
}

/* A port that nobody has, neither here nor among other programs. Bound by number, so that the host keeps it when a connect
 * fails (a port of its own choice it would give back). */
static NTSTATUS BindFreePort(WSKP_SOCKET *socket, HOST_ADDRESS address) {
    static const HOST_TYPE types[] = {[SOCK_STREAM] = HOST_STREAM, [SOCK_DGRAM] = HOST_DATAGRAM, [SOCK_RAW] = HOST_RAW};
    int error = -EADDRINUSE;

    for (ULONG attempt = 0; attempt < BIND_ATTEMPTS && error == -EADDRINUSE; attempt++) {
        int probe = HostSocketOpen(address.Family, types[socket->Type], (int)socket->Protocol);
        HOST_ADDRESS found = address;
        found.Port = 0;
        if (probe < 0) {
            return WskpStatusOf(probe);
        }
        error = HostSocketBind(probe, &found);
        if (error == 0) {
            error = HostSocketLocal(probe, &found);
        }
        HostSocketClose(probe);
        if (error == 0) {
            BOOLEAN shared;
            error = NT_SUCCESS(Decide(socket, &found, &shared)) && !shared ? HostSocketBind(socket->Fd, &found) : -EADDRINUSE;
        }
    }
    return WskpStatusOf(error);
}

NTSTATUS WskpClaimBind(WSKP_SOCKET *socket, const HOST_ADDRESS *address) {
    BOOLEAN shared = FALSE;
    NTSTATUS status;

    if (address->Port == 0 && socket->Type != SOCK_RAW) {
        status = BindFreePort(socket, *address);
    } else {
        status = socket->Type == SOCK_RAW ? STATUS_SUCCESS : Decide(socket, address, &shared);
        if (NT_SUCCESS(status)) {
            if (shared) {
                LetHostShare(socket, address);
            }
            status = WskpStatusOf(HostSocketBind(socket->Fd, address));
        }
    }
    if (NT_SUCCESS(status)) {
        HostSocketLocal(socket->Fd, &socket->Local);
        socket->Claim.Active = TRUE;
        InsertTailList(&Claims, &socket->Claim.Link);
    }
    return status;
}

void WskpClaimRelease(WSKP_SOCKET *socket) {
    if (socket->Claim.Active && !MutantIs("WSK-CLOSE-006/address-kept")) {
        socket->Claim.Active = FALSE;
        RemoveEntryList(&socket->Claim.Link);
    }
}
