/*
 * poller.c: the thread that waits for the host's sockets.
 */
#include "poller.h"

#include "ioctl.h"
#include "request.h"
#include "socket.h"

#include "host/host_interface.h"
#include "host/host_poll.h"
#include "host/host_socket.h"

#define BATCH 64u
#define RETRY_MS 2u
#define TABLE_STEP 256u

static HOST_POLL Poll = {-1, -1};
static int Interfaces = -1;
static SHIM_THREAD *Poller;
static volatile LONG Stopping;
static BOOLEAN Retry;

/* By file descriptor: whom to tell. A stale event of a descriptor that was closed and opened again tells the wrong one,
 * who then looks and finds nothing. */
static WSKP_SOCKET **Owners;
static size_t OwnerCount;
static ULONG Owned; /* the table goes with the last of them */

static void Disown(int fd) {
    HostPollRemove(&Poll, fd);
    Owners[fd] = NULL;
    Owned--;
}

NTSTATUS WskpPollerAdd(int fd, WSKP_SOCKET *socket) {
    if ((size_t)fd >= OwnerCount) {
        size_t count = (size_t)fd + TABLE_STEP;
        WSKP_SOCKET **owners = ShimAllocate("descriptors", count * sizeof(*owners));
        if (owners == NULL) {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
        if (Owners != NULL) {
            memcpy(owners, Owners, OwnerCount * sizeof(*owners));
            ShimFree(Owners);
        }
        Owners = owners;
        OwnerCount = count;
    }
    /* One that was pended with its listener becomes a socket of its own. */
    if (Owners[fd] != NULL) {
        Disown(fd);
    }
    if (HostPollAdd(&Poll, fd, (uint64_t)fd) < 0) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Owners[fd] = socket;
    Owned++;
    return STATUS_SUCCESS;
}

void WskpPollerRemove(int fd) {
    if ((size_t)fd < OwnerCount && Owners[fd] != NULL) {
        Disown(fd);
    }
    if (Owned == 0 && Owners != NULL) {
        ShimFree(Owners);
        Owners = NULL;
        OwnerCount = 0;
    }
}

void WskpPollerWake(void) {
    HostPollWake(&Poll);
}

void WskpPollerRetry(void) {
    Retry = TRUE;
    WskpPollerWake();
}

/* With the lock. */
static void Happened(const uint64_t *cookies, size_t count) {
    for (size_t index = 0; index < count; index++) {
        int fd = (int)cookies[index];
        if (fd == Interfaces) {
            bool family4, family6;
            HostInterfaceChanges(fd, &family4, &family6);
            WskpAddressesChanged(family4, family6);
        } else if ((size_t)fd < OwnerCount && Owners[fd] != NULL) {
            WskpSocketProgress(Owners[fd]);
        }
    }
}

/* With the lock: a socket that is to be tried again; NULL: none is left. From the head, for progress may close others. */
static WSKP_SOCKET *NextToTry(void) {
    for (PLIST_ENTRY entry = g_WskpSockets.Flink; entry != &g_WskpSockets; entry = entry->Flink) {
        WSKP_SOCKET *socket = CONTAINING_RECORD(entry, WSKP_SOCKET, Link);
        if (socket->TryAgain) {
            return socket;
        }
    }
    return NULL;
}

/* With the lock: what failed for lack of memory is tried again. */
static void TryAgain(void) {
    WSKP_SOCKET *socket;
    if (!Retry) {
        return;
    }
    Retry = FALSE;
    for (PLIST_ENTRY entry = g_WskpSockets.Flink; entry != &g_WskpSockets; entry = entry->Flink) {
        CONTAINING_RECORD(entry, WSKP_SOCKET, Link)->TryAgain = TRUE;
    }
    while ((socket = NextToTry()) != NULL) {
        socket->TryAgain = FALSE;
        WskpSocketProgress(socket);
    }
}

/* With the lock: how long nothing is to be done, in ms; -1: until something happens. */
static LONGLONG Quiet(ULONG64 due) {
    ULONG64 now = WskpNowMs();
    if (Retry) {
        return RETRY_MS;
    }
    return due == 0 ? -1 : due <= now ? 0 : (LONGLONG)(due - now);
}

static void Run(void *context) {
    (void)context;
    while (!Stopping) {
        uint64_t cookies[BATCH];
        size_t count;
        LONGLONG quiet;
        KIRQL irql = WskpLock();
        quiet = Quiet(WskpRequestsTick());
        WskpUnlock(irql);
        ShimWaitReadable(Poll.Epoll, quiet);
        count = HostPollWait(&Poll, 0, cookies, BATCH);
        irql = WskpLock();
        TryAgain();
        Happened(cookies, count);
        WskpUnlock(irql);
    }
}

void WskpPollerStart(void) {
    WskpAssert(HostPollOpen(&Poll) == 0);
    Interfaces = HostInterfaceWatch();
    if (Interfaces >= 0) {
        HostPollAdd(&Poll, Interfaces, (uint64_t)Interfaces);
    }
    Stopping = FALSE;
    Poller = ShimThreadStart("wsk-poller", Run, NULL);
    WskpAssert(Poller != NULL);
}

void WskpPollerStop(void) {
    Stopping = TRUE;
    WskpPollerWake();
    ShimThreadJoin(Poller);
    if (Interfaces >= 0) {
        HostSocketClose(Interfaces);
        Interfaces = -1;
    }
    HostPollClose(&Poll);
    if (Owners != NULL) {
        ShimFree(Owners);
        Owners = NULL;
        OwnerCount = 0;
    }
}
