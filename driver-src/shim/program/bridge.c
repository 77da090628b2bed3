/*
 * bridge.c: devices and I/O controls of one conversation, on the kernel shim. See ctl/bridge.h.
 *
 * As on Windows: the reader thread submits; a completion thread answers and expires deadlines. A request is answered
 * once, by whichever finds it waiting: its completion or its deadline.
 */
#include "../../ctl/bridge_answer.h"

#include "harness.h"

#define NS_PER_MS 1000000ull
/* How long the driver may take to let go of cancelled requests, and then of those whose handles were closed. */
#define STOP_GRACE_MS 1000
#define STUCK_MS 30000

typedef enum REQUEST_STATE {
    REQUEST_FREE,
    REQUEST_WAITING, /* with the driver, not answered */
    REQUEST_EXPIRED  /* with the driver, answered by its deadline */
} REQUEST_STATE;

typedef struct REQUEST {
    SHIM_IOCTL ioctl;
    struct BRIDGE *bridge;
    REQUEST_STATE state;
    int done;          /* complete, and in the queue */
    uint32_t cancels;  /* threads that are about to cancel it: keeps the slot from being used again */
    uint64_t id;
    uint64_t deadline; /* ShimNow */
    void *input;
    struct REQUEST *next; /* in the queue */
} REQUEST;

struct BRIDGE {
    SENDER *sender;
    SHIM_THREAD *thread;
    KEVENT wake;
    KSPIN_LOCK lock; /* guards everything below */
    REQUEST *queue;  /* complete, newest first */
    uint64_t sleeps_until; /* the completion thread, without being woken */
    uint64_t stops_at;
    uint64_t active;
    void *devices[BRIDGE_DEVICES]; /* SHIM_HANDLE */
    REQUEST requests[BRIDGE_REQUESTS];
};

/* In the thread that completed it. */
static void OnDone(SHIM_IOCTL *ioctl, void *context) {
    REQUEST *request = context;
    BRIDGE *bridge = request->bridge;
    KIRQL irql;

    (void)ioctl;
    KeAcquireSpinLock(&bridge->lock, &irql);
    request->done = 1;
    request->next = bridge->queue;
    bridge->queue = request;
    KeReleaseSpinLock(&bridge->lock, irql);
    KeSetEvent(&bridge->wake, IO_NO_INCREMENT, FALSE);
}

/* The oldest completed request, out of the queue. */
static REQUEST *TakeDone(BRIDGE *bridge, int *answer) {
    REQUEST **link = &bridge->queue;
    REQUEST *request = NULL;
    KIRQL irql;

    KeAcquireSpinLock(&bridge->lock, &irql);
    while (*link != NULL && (*link)->next != NULL) {
        link = &(*link)->next;
    }
    request = *link;
    *link = NULL;
    *answer = request != NULL && request->state == REQUEST_WAITING;
    KeReleaseSpinLock(&bridge->lock, irql);
    return request;
}

static void FinishDone(BRIDGE *bridge) {
    REQUEST *request;
    int answer;
    KIRQL irql;

    while ((request = TakeDone(bridge, &answer)) != NULL) {
        if (answer) {
            AnswerIoctl(bridge->sender, request->id, request->ioctl.Status, request->ioctl.Information, request->ioctl.Output,
                        request->ioctl.OutputSize);
        }
        Free(request->input);
        Free(request->ioctl.Output);
        KeAcquireSpinLock(&bridge->lock, &irql);
        request->done = 0;
        request->state = REQUEST_FREE;
        bridge->active -= 1;
        KeReleaseSpinLock(&bridge->lock, irql);
    }
}

static void CancelRequest(BRIDGE *bridge, REQUEST *request) {
    KIRQL irql;

    ShimIoctlCancel(&request->ioctl);
    KeAcquireSpinLock(&bridge->lock, &irql);
    request->cancels -= 1;
    KeReleaseSpinLock(&bridge->lock, irql);
}

/* A request whose deadline has passed, marked, to be cancelled; NULL when there is none: *next is the nearest deadline. */
static REQUEST *TakeExpired(BRIDGE *bridge, uint64_t *next) {
    REQUEST *expired = NULL;
    uint64_t now = ShimNow();
    size_t index;
    KIRQL irql;

    KeAcquireSpinLock(&bridge->lock, &irql);
    *next = bridge->stops_at;
    for (index = 0; index < BRIDGE_REQUESTS && expired == NULL; index += 1) {
        REQUEST *request = &bridge->requests[index];
        if (request->state != REQUEST_WAITING || request->done) {
            continue;
        }
        if (request->deadline <= now) {
            request->state = REQUEST_EXPIRED;
            request->cancels += 1;
            expired = request;
        } else if (request->deadline < *next) {
            *next = request->deadline;
        }
    }
    bridge->sleeps_until = expired == NULL ? *next : 0;
    KeReleaseSpinLock(&bridge->lock, irql);
    return expired;
}

static int GoesOn(BRIDGE *bridge) {
    int goes_on;
    KIRQL irql;

    KeAcquireSpinLock(&bridge->lock, &irql);
    goes_on = bridge->stops_at == UINT64_MAX || (bridge->active > 0 && ShimNow() < bridge->stops_at);
    KeReleaseSpinLock(&bridge->lock, irql);
    return goes_on;
}

static void CompletionThread(void *context) {
    BRIDGE *bridge = context;

    while (GoesOn(bridge)) {
        LARGE_INTEGER timeout;
        REQUEST *expired;
        uint64_t next;
        uint64_t now;

        FinishDone(bridge);
        while ((expired = TakeExpired(bridge, &next)) != NULL) {
            AnswerExpired(bridge->sender, expired->id);
            CancelRequest(bridge, expired);
        }
        now = ShimNow();
        timeout.QuadPart = next > now ? -(LONGLONG)((next - now) / 100 + 1) : -1;
        KeWaitForSingleObject(&bridge->wake, Executive, KernelMode, FALSE, next == UINT64_MAX ? NULL : &timeout);
    }
}

BRIDGE *BridgeStart(SENDER *sender) {
    BRIDGE *bridge = Allocate(sizeof(*bridge));

    if (bridge == NULL) {
        return NULL;
    }
    bridge->sender = sender;
    bridge->stops_at = UINT64_MAX;
    KeInitializeSpinLock(&bridge->lock);
    KeInitializeEvent(&bridge->wake, SynchronizationEvent, FALSE);
    bridge->thread = ShimThreadStart("completions", CompletionThread, bridge);
    return bridge;
}

/* Cancels what is under way and has the completion thread end, at the latest when the time is over. */
static void Wind(BRIDGE *bridge, uint64_t milliseconds) {
    size_t index;
    KIRQL irql;

    KeAcquireSpinLock(&bridge->lock, &irql);
    bridge->stops_at = ShimNow() + milliseconds * NS_PER_MS;
    KeReleaseSpinLock(&bridge->lock, irql);
    for (index = 0; index < BRIDGE_REQUESTS; index += 1) {
        REQUEST *request = &bridge->requests[index];
        int with_driver;

        KeAcquireSpinLock(&bridge->lock, &irql);
        with_driver = request->state != REQUEST_FREE && !request->done;
        request->cancels += (uint32_t)with_driver;
        KeReleaseSpinLock(&bridge->lock, irql);
        if (with_driver) {
            CancelRequest(bridge, request);
        }
    }
    KeSetEvent(&bridge->wake, IO_NO_INCREMENT, FALSE);
    ShimThreadJoin(bridge->thread);
}

int BridgeStop(BRIDGE *bridge) {
    size_t index;

    bridge->sender->stopping = 1;
    Wind(bridge, STOP_GRACE_MS);
    for (index = 0; index < BRIDGE_DEVICES; index += 1) {
        if (bridge->devices[index] != NULL) {
            ShimClose(bridge->devices[index]);
        }
    }
    if (bridge->active > 0) {
        /* Their handles are closed: now the driver has to give them back. */
        bridge->thread = ShimThreadStart("last completions", CompletionThread, bridge);
        Wind(bridge, STUCK_MS);
    }
    if (bridge->active > 0) {
        ShimAbort("request-kept", "%zu requests are still pending %u s after their handles were closed", (size_t)bridge->active,
                  STUCK_MS / 1000);
    }
    Free(bridge);
    return 1;
}

void BridgeOpen(BRIDGE *bridge, uint64_t id, const char *path, size_t path_length) {
    char name[128];
    SHIM_HANDLE *handle;
    NTSTATUS status;
    size_t index;

    if (!DevicePlace(bridge->sender, id, bridge->devices, path, path_length, &index)) {
        return;
    }
    if (path_length >= sizeof(name) || memchr(path, '\0', path_length) != NULL) {
        SendError(bridge->sender, id, "bad_argument", "path is not a device name", 0, ERROR_INVALID_NAME);
        return;
    }
    memcpy(name, path, path_length);
    name[path_length] = '\0';
    status = ShimOpen(name, &handle);
    if (!NT_SUCCESS(status)) {
        SendError(bridge->sender, id, "failed", "the device cannot be opened", status, RtlNtStatusToDosError(status));
        return;
    }
    bridge->devices[index] = handle;
    AnswerOpened(bridge->sender, id, index);
}

void BridgeClose(BRIDGE *bridge, uint64_t id, uint64_t device) {
    if (DeviceIsOpen(bridge->sender, id, bridge->devices, device)) {
        ShimClose(bridge->devices[device - 1]);
        bridge->devices[device - 1] = NULL;
        AnswerClosed(bridge->sender, id);
    }
}

/* With the lock. */
static REQUEST *FindWaiting(BRIDGE *bridge, uint64_t id) {
    size_t index;

    for (index = 0; index < BRIDGE_REQUESTS; index += 1) {
        if (bridge->requests[index].state == REQUEST_WAITING && bridge->requests[index].id == id) {
            return &bridge->requests[index];
        }
    }
    return NULL;
}

void BridgeCancel(BRIDGE *bridge, uint64_t id, uint64_t target) {
    REQUEST *request;
    KIRQL irql;

    KeAcquireSpinLock(&bridge->lock, &irql);
    request = FindWaiting(bridge, target);
    if (request != NULL) {
        request->cancels += 1;
    }
    KeReleaseSpinLock(&bridge->lock, irql);
    if (request != NULL) {
        CancelRequest(bridge, request);
    }
    AnswerCancel(bridge->sender, id, request != NULL);
}

/* Takes a free slot for a request; NULL when all are in use or the id is. */
static REQUEST *Reserve(BRIDGE *bridge, uint64_t id, uint32_t deadline_ms) {
    REQUEST *request = NULL;
    size_t index;
    int earlier = 0;
    KIRQL irql;

    KeAcquireSpinLock(&bridge->lock, &irql);
    for (index = 0; index < BRIDGE_REQUESTS && request == NULL && FindWaiting(bridge, id) == NULL; index += 1) {
        if (bridge->requests[index].state == REQUEST_FREE && bridge->requests[index].cancels == 0) {
            request = &bridge->requests[index];
            memset(&request->ioctl, 0, sizeof(request->ioctl));
            request->bridge = bridge;
            request->state = REQUEST_WAITING;
            request->id = id;
            request->deadline = ShimNow() + deadline_ms * NS_PER_MS;
            bridge->active += 1;
            earlier = request->deadline < bridge->sleeps_until;
        }
    }
    KeReleaseSpinLock(&bridge->lock, irql);
    if (earlier) {
        KeSetEvent(&bridge->wake, IO_NO_INCREMENT, FALSE);
    }
    return request;
}

void BridgeIoctl(BRIDGE *bridge, uint64_t id, uint64_t device, uint32_t code, void *input, uint32_t input_size,
                 uint32_t output_size, uint32_t deadline_ms) {
    REQUEST *request;

    if (!DeviceIsOpen(bridge->sender, id, bridge->devices, device)) {
        Free(input);
        return;
    }
    request = Reserve(bridge, id, deadline_ms);
    if (request == NULL) {
        AnswerBusy(bridge->sender, id);
        Free(input);
        return;
    }
    request->input = input;
    request->ioctl.Output = Allocate(output_size);
    request->ioctl.OutputSize = output_size;
    ShimIoctlStart(bridge->devices[device - 1], code, input, input_size, &request->ioctl, OnDone, request);
}
