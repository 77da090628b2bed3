/*
 * request.h: one call that was given an IRP, until that IRP is completed.
 *
 * Life: Begin (in the call) - then either Finish in the call, or Wait (queued, cancellable) and Done by whoever fills it.
 * The IRP is completed exactly once, on one of three ways: in the call, in the socket's lane, or in the cancel routine
 * (IRP-001 to IRP-003). PENDING is returned exactly when the IRP was marked pending (IRP-004).
 */
#ifndef WSKLAB_PROVIDER_REQUEST_H
#define WSKLAB_PROVIDER_REQUEST_H

#include "buffer.h"
#include "knobs.h"
#include "lane.h"

#include "host/host_datagram.h"

typedef enum WSKP_REQUEST_STATE {
    WSKP_RUNNING,   /* the call has it */
    WSKP_WAITING,   /* in a queue; its cancel routine is set */
    WSKP_CANCELLED, /* its cancel routine has it, or will have it in a moment */
    WSKP_DONE       /* status and information are final */
} WSKP_REQUEST_STATE;

struct WSKP_REQUEST {
    LIST_ENTRY Link; /* in the queue of its socket or client, or among the held ones */
    WSKP_WORK Work;
    PIRP Irp;
    WSKP_OPERATION Operation;
    WSKP_CLIENT *Client;
    WSKP_SOCKET *Socket; /* NULL: the call was made to the client */
    WSKP_REQUEST_STATE State;
    BOOLEAN Pending;      /* the IRP was marked */
    BOOLEAN Queued;       /* Link is in a list */
    BOOLEAN Held;         /* done, and waits for what its order says */
    WSKP_ORDER Order;
    WSKP_FAULT Fault;
    ULONG64 DueMs;
    NTSTATUS Status;
    ULONG_PTR Information;
    /* Called with the lock, once, when it is cancelled while it waits: take back what was begun for it. */
    void (*Undo)(WSKP_REQUEST *request);

    /* What the function was asked, as far as it is needed later. */
    WSKP_BUFFER Buffer;
    ULONG Flags;
    SIZE_T Moved; /* bytes so far */
    HOST_ADDRESS Address;
    union {
        struct {
            PVOID Context;
            const WSK_CLIENT_CONNECTION_DISPATCH *Dispatch;
            PSOCKADDR Local;
            PSOCKADDR Remote;
        } Accept;
        struct {
            PSOCKADDR Remote;
            PULONG ControlLength;
            PCMSGHDR Control;
            PULONG ControlFlags;
        } ReceiveFrom;
        struct {
            WSKP_BUFFER *Messages; /* WskSendMessages: one each; NULL: Buffer is the only one */
            ULONG Count;
            ULONG Sent;
            BOOLEAN HasSource;
            HOST_SOURCE Source;
        } SendTo;
        struct {
            BOOLEAN ShutDown; /* our end of stream is on its way */
        } Disconnect;
        struct {
            ULONG Event; /* that is being disabled */
        } Control;
        struct WSKP_LOOKUP *Lookup;
    };
};

/*
 * At the start of a function with an IRP, without the lock: takes the IRP over. NULL when the call is over already (a
 * fault was injected, no memory): *status is what to return. The IRP is not NULL.
 */
WSKP_REQUEST *WskpRequestBegin(WSKP_OPERATION operation, WSKP_CLIENT *client, WSKP_SOCKET *socket, PIRP irp, NTSTATUS *status);
/* With the lock: a request to the client becomes one of the socket that it has made. */
void WskpRequestAttach(WSKP_REQUEST *request, WSKP_SOCKET *socket);
/* The result is known in the call: without the lock. Returns what the function returns; the request is gone. */
NTSTATUS WskpRequestFinish(WSKP_REQUEST *request, NTSTATUS status, ULONG_PTR information);
/* With the lock: into the queue. The call returns WskpRequestReturn of it after unlocking. */
void WskpRequestQueue(WSKP_REQUEST *request, LIST_ENTRY *queue);
/*
 * After the lock was released: the function's return value for a request that it has queued. When it was filled before
 * this, that is a result known in the call.
 */
NTSTATUS WskpRequestReturn(WSKP_REQUEST *request);

/*
 * With the lock: whoever wants to fill a queued request claims it first. FALSE: it is being cancelled, take the next; it
 * has been taken off the queue. A claimed one is ended by Done, or given back by Unclaim (it stays where it is).
 */
BOOLEAN WskpRequestClaim(WSKP_REQUEST *request);
void WskpRequestUnclaim(WSKP_REQUEST *request);
/* With the lock: off its queue, to be completed with this. */
void WskpRequestDone(WSKP_REQUEST *request, NTSTATUS status, ULONG_PTR information);
/* With the lock: end everything in a queue. */
void WskpRequestsEnd(LIST_ENTRY *queue, NTSTATUS status);
/* With the lock: the socket's close was called: what waited for it is completed. */
void WskpRequestsReleaseHeld(WSKP_SOCKET *socket);
/* With the lock: completes what is due; the time of the next, or 0. */
ULONG64 WskpRequestsTick(void);

#endif
