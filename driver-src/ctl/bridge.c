/* bridge.c - see bridge.h. */
#include "bridge_answer.h"

#ifndef STATUS_PENDING
#define STATUS_PENDING ((NTSTATUS)0x00000103)
#endif

/* Completion keys; packets of I/O carry the key KEY_IO and the request's tag instead of a pointer. */
#define KEY_IO 1
#define KEY_WAKE 2

#define STOP_GRACE_MS 1000

typedef enum REQUEST_STATE {
    REQUEST_FREE,
    REQUEST_WAITING, /* with the driver, not answered */
    REQUEST_EXPIRED, /* with the driver, answered by its deadline */
} REQUEST_STATE;

typedef struct REQUEST {
    OVERLAPPED overlapped; /* the I/O manager writes its status here; never freed, so a late write is harmless */
    REQUEST_STATE state;
    uint32_t generation; /* tells a late packet of an earlier user of this slot */
    uint32_t cancels;    /* pool threads that are about to cancel it: keeps the slot from being used again */
    uint64_t id;
    HANDLE handle;
    ULONGLONG deadline; /* GetTickCount64 */
    void *input;
    unsigned char *output;
    uint32_t output_size;
} REQUEST;

struct BRIDGE {
    SENDER *sender;
    HANDLE port;
    HANDLE thread;
    CRITICAL_SECTION lock; /* guards everything below */
    ULONGLONG wakes_at;    /* when the completion thread looks at deadlines next */
    ULONGLONG stops_at;    /* when it ends at the latest, once a stop was asked for; UINT64_MAX before */
    HANDLE devices[BRIDGE_DEVICES];
    REQUEST requests[BRIDGE_REQUESTS];
};

NTSTATUS NTAPI RtlGetLastNtStatus(void); /* in ntdll since Windows XP, not in the headers */

typedef struct CANCEL_WORK {
    BRIDGE *bridge;
    REQUEST *request;
} CANCEL_WORK;

static ULONG_PTR RequestTag(BRIDGE *bridge, REQUEST *request)
{
    return (ULONG_PTR)request->generation << 16 | (ULONG_PTR)(request - bridge->requests + 1);
}

/* With the lock held. The request of a packet's tag, or NULL when that request is over. */
static REQUEST *RequestFromTag(BRIDGE *bridge, ULONG_PTR tag)
{
    ULONG_PTR index = (tag & 0xFFFF) - 1;

    if (index >= BRIDGE_REQUESTS || bridge->requests[index].generation != (uint32_t)(tag >> 16) ||
        bridge->requests[index].state == REQUEST_FREE) {
        return NULL;
    }
    return &bridge->requests[index];
}

/* With the lock held. */
static REQUEST *FindWaiting(BRIDGE *bridge, uint64_t id)
{
    size_t index;

    for (index = 0; index < BRIDGE_REQUESTS; index += 1) {
        if (bridge->requests[index].state == REQUEST_WAITING && bridge->requests[index].id == id) {
            return &bridge->requests[index];
        }
    }
    return NULL;
}

/* With the lock held. The caller answers, if the result says so, and frees the buffers. */
static int Claim(REQUEST *request, REQUEST *taken)
{
    int answer = request->state == REQUEST_WAITING;

    *taken = *request;
    request->state = REQUEST_FREE;
    request->input = NULL;
    request->output = NULL;
    return answer;
}

static void Complete(BRIDGE *bridge, ULONG_PTR tag, NTSTATUS status)
{
    REQUEST taken;
    REQUEST *request;
    int answer = 0;

    EnterCriticalSection(&bridge->lock);
    request = RequestFromTag(bridge, tag);
    if (request != NULL) {
        answer = Claim(request, &taken);
    }
    LeaveCriticalSection(&bridge->lock);
    if (answer) {
        AnswerIoctl(bridge->sender, taken.id, status, taken.overlapped.InternalHigh, taken.output, taken.output_size);
    }
    if (request != NULL) {
        Free(taken.input);
        Free(taken.output);
    }
}

static DWORD WINAPI CancelOnPoolThread(void *context)
{
    CANCEL_WORK *work = context;

    CancelIoEx(work->request->handle, &work->request->overlapped);
    EnterCriticalSection(&work->bridge->lock);
    work->request->cancels -= 1;
    LeaveCriticalSection(&work->bridge->lock);
    Free(work);
    return 0;
}

/* With the lock held. */
static void StartCancel(BRIDGE *bridge, REQUEST *request)
{
    CANCEL_WORK *work = Allocate(sizeof(*work));

    if (work == NULL) {
        return;
    }
    work->bridge = bridge;
    work->request = request;
    request->cancels += 1;
    if (!QueueUserWorkItem(CancelOnPoolThread, work, WT_EXECUTELONGFUNCTION)) {
        request->cancels -= 1;
        Free(work);
    }
}

/*
 * Answers every request whose deadline has passed. Returns 0 when the thread is to end: a stop was asked
 * for, and every request is over or the grace is; else 1, with the milliseconds until the next deadline.
 */
static int ExpireDeadlines(BRIDGE *bridge, DWORD *wait)
{
    uint64_t expired[BRIDGE_REQUESTS];
    size_t count = 0;
    size_t active = 0;
    size_t index;
    ULONGLONG now = GetTickCount64();
    ULONGLONG next;
    int goes_on;

    EnterCriticalSection(&bridge->lock);
    next = bridge->stops_at;
    for (index = 0; index < BRIDGE_REQUESTS; index += 1) {
        REQUEST *request = &bridge->requests[index];
        active += request->state != REQUEST_FREE;
        if (request->state != REQUEST_WAITING) {
            continue;
        }
        if (request->deadline <= now) {
            request->state = REQUEST_EXPIRED;
            expired[count] = request->id;
            count += 1;
            StartCancel(bridge, request);
        } else if (request->deadline < next) {
            next = request->deadline;
        }
    }
    bridge->wakes_at = next;
    goes_on = bridge->stops_at == UINT64_MAX || (active > 0 && now < bridge->stops_at);
    LeaveCriticalSection(&bridge->lock);
    for (index = 0; index < count; index += 1) {
        AnswerExpired(bridge->sender, expired[index]);
    }
    *wait = next == UINT64_MAX ? INFINITE : (DWORD)(next - now);
    return goes_on;
}

static DWORD WINAPI CompletionThread(void *context)
{
    BRIDGE *bridge = context;
    OVERLAPPED_ENTRY entries[16];
    ULONG count;
    ULONG index;
    DWORD wait;

    while (ExpireDeadlines(bridge, &wait)) {
        if (!GetQueuedCompletionStatusEx(bridge->port, entries, 16, &count, wait, FALSE)) {
            continue; /* the next deadline has come */
        }
        for (index = 0; index < count; index += 1) {
            if (entries[index].lpCompletionKey == KEY_IO) {
                Complete(bridge, (ULONG_PTR)entries[index].lpOverlapped, (NTSTATUS)entries[index].Internal);
            }
        }
    }
    return 0;
}

BRIDGE *BridgeStart(SENDER *sender)
{
    BRIDGE *bridge = Allocate(sizeof(*bridge));

    if (bridge == NULL) {
        return NULL;
    }
    bridge->sender = sender;
    bridge->wakes_at = UINT64_MAX;
    bridge->stops_at = UINT64_MAX;
    InitializeCriticalSection(&bridge->lock);
    bridge->port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 1);
    if (bridge->port == NULL) {
        return NULL;
    }
    bridge->thread = CreateThread(NULL, 0, CompletionThread, bridge, 0, NULL);
    return bridge->thread == NULL ? NULL : bridge;
}

int BridgeStop(BRIDGE *bridge)
{
    size_t index;
    int ended;

    bridge->sender->stopping = 1;
    EnterCriticalSection(&bridge->lock);
    bridge->stops_at = GetTickCount64() + STOP_GRACE_MS;
    for (index = 0; index < BRIDGE_REQUESTS; index += 1) {
        if (bridge->requests[index].state != REQUEST_FREE) {
            StartCancel(bridge, &bridge->requests[index]);
        }
    }
    LeaveCriticalSection(&bridge->lock);
    PostQueuedCompletionStatus(bridge->port, 0, KEY_WAKE, NULL);
    ended = WaitForSingleObject(bridge->thread, 2 * STOP_GRACE_MS) == WAIT_OBJECT_0;
    for (index = 0; index < BRIDGE_DEVICES; index += 1) {
        if (bridge->devices[index] != NULL) {
            CloseHandle(bridge->devices[index]);
        }
    }
    return ended;
}

void BridgeOpen(BRIDGE *bridge, uint64_t id, const char *path, size_t path_length)
{
    WCHAR *wide;
    HANDLE handle;
    DWORD win32;
    size_t index;

    if (!DevicePlace(bridge->sender, id, bridge->devices, path, path_length, &index)) {
        return;
    }
    wide = Utf16FromUtf8(path, path_length);
    if (wide == NULL) {
        SendError(bridge->sender, id, "bad_argument", "path is not a device name", 0, ERROR_INVALID_NAME);
        return;
    }
    handle = CreateFileW(wide, GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_EXISTING,
                         FILE_FLAG_OVERLAPPED, NULL);
    win32 = GetLastError();
    Free(wide);
    if (handle == INVALID_HANDLE_VALUE) {
        SendError(bridge->sender, id, "failed", "the device cannot be opened", RtlGetLastNtStatus(), win32);
        return;
    }
    if (CreateIoCompletionPort(handle, bridge->port, KEY_IO, 0) == NULL) {
        win32 = GetLastError();
        CloseHandle(handle);
        SendError(bridge->sender, id, "failed", "the device takes no completion port", 0, win32);
        return;
    }
    /* Only saves packets: a request that is over is told by its tag, with or without this mode. */
    SetFileCompletionNotificationModes(handle, FILE_SKIP_COMPLETION_PORT_ON_SUCCESS | FILE_SKIP_SET_EVENT_ON_HANDLE);
    bridge->devices[index] = handle;
    AnswerOpened(bridge->sender, id, index);
}

void BridgeClose(BRIDGE *bridge, uint64_t id, uint64_t device)
{
    if (DeviceIsOpen(bridge->sender, id, bridge->devices, device)) {
        CloseHandle(bridge->devices[device - 1]);
        bridge->devices[device - 1] = NULL;
        AnswerClosed(bridge->sender, id);
    }
}

void BridgeCancel(BRIDGE *bridge, uint64_t id, uint64_t target)
{
    REQUEST *request;

    EnterCriticalSection(&bridge->lock);
    request = FindWaiting(bridge, target);
    if (request != NULL) {
        StartCancel(bridge, request);
    }
    LeaveCriticalSection(&bridge->lock);
    AnswerCancel(bridge->sender, id, request != NULL);
}

/* Takes a free slot for a request; NULL when all are in use or the id is. */
static REQUEST *Reserve(BRIDGE *bridge, uint64_t id, HANDLE handle, uint32_t deadline_ms, ULONG_PTR *tag)
{
    REQUEST *request = NULL;
    size_t index;

    EnterCriticalSection(&bridge->lock);
    for (index = 0; index < BRIDGE_REQUESTS && request == NULL && FindWaiting(bridge, id) == NULL; index += 1) {
        if (bridge->requests[index].state == REQUEST_FREE && bridge->requests[index].cancels == 0) {
            request = &bridge->requests[index];
            memset(&request->overlapped, 0, sizeof(request->overlapped));
            request->state = REQUEST_WAITING;
            request->generation += 1;
            request->id = id;
            request->handle = handle;
            request->deadline = GetTickCount64() + deadline_ms;
            *tag = RequestTag(bridge, request);
            if (request->deadline < bridge->wakes_at) {
                bridge->wakes_at = request->deadline;
                PostQueuedCompletionStatus(bridge->port, 0, KEY_WAKE, NULL);
            }
        }
    }
    LeaveCriticalSection(&bridge->lock);
    return request;
}

void BridgeIoctl(BRIDGE *bridge, uint64_t id, uint64_t device, uint32_t code, void *input, uint32_t input_size,
                 uint32_t output_size, uint32_t deadline_ms)
{
    unsigned char *output = Allocate(output_size);
    REQUEST *request;
    ULONG_PTR tag;
    NTSTATUS status;

    if (!DeviceIsOpen(bridge->sender, id, bridge->devices, device)) {
        /* said */
    } else if (output == NULL) {
        SendError(bridge->sender, id, "no_memory", "no memory for the output", 0, ERROR_NOT_ENOUGH_MEMORY);
    } else {
        request = Reserve(bridge, id, bridge->devices[device - 1], deadline_ms, &tag);
        if (request == NULL) {
            AnswerBusy(bridge->sender, id);
        } else {
            request->input = input;
            request->output = output;
            request->output_size = output_size;
            status = NtDeviceIoControlFile(request->handle, NULL, NULL, (void *)tag,
                                           (IO_STATUS_BLOCK *)&request->overlapped, code, input, input_size,
                                           output_size == 0 ? NULL : output, output_size);
            if (status != STATUS_PENDING) {
                Complete(bridge, tag, status);
            }
            return;
        }
    }
    Free(input);
    Free(output);
}
