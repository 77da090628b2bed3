/*
 * wait.h: the requests that pend: WAIT, DRAIN, QUIESCE.
 *
 * A pended IRP belongs to whoever takes its cancel routine away (IoSetCancelRoutine(Irp, NULL) != NULL), under the
 * client's lock: the end of the operation, the keeper's clock, the handle's cleanup - or the cancel routine itself.
 * Exactly one of them completes it.
 */
#ifndef WSKLAB_WAIT_H
#define WSKLAB_WAIT_H

#include "client.h"
#include "operation.h"

typedef enum WAIT_KIND { WAIT_OPERATION, WAIT_DRAIN, WAIT_QUIESCE } WAIT_KIND;

typedef struct WAIT_REQUEST {
    WAIT_KIND Kind;
    ULONG OpId;
    ULONG Flags;     /* WSKLAB_RELEASE */
    ULONG TimeoutMs;
    ULONG Room;      /* output bytes */
} WAIT_REQUEST;

struct WAIT;

/* What a wait needs to pend: to be had before something is started that shall be waited for. NULL when there is no memory. */
_IRQL_requires_max_(PASSIVE_LEVEL) _Must_inspect_result_ struct WAIT *WaitPrepare(CLIENT *Client);
_IRQL_requires_max_(PASSIVE_LEVEL) VOID WaitDiscard(struct WAIT *Wait);
/*
 * Answer at once, or pend. STATUS_PENDING: the IRP is ours; anything else: the caller completes it, with *Information.
 * Takes what was prepared; NULL: it is prepared where it is needed. Called at PASSIVE_LEVEL from the dispatch routine;
 * never waits.
 */
_IRQL_requires_max_(PASSIVE_LEVEL) _Must_inspect_result_ NTSTATUS WaitSubmit(CLIENT *Client, PIRP Irp, const WAIT_REQUEST *Request,
                                                                            struct WAIT *Prepared, ULONG_PTR *Information);
/* The operation is final: answer those who wait for it. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID WaitsForOperation(OPERATION *Operation);
/* The client has nothing active any more: answer its drains. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID WaitsDrained(CLIENT *Client);
/* The handle is gone. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID WaitsCancelAll(CLIENT *Client);
/* From the keeper: answer what is due; lowers *NextNs to the next due time. */
_IRQL_requires_max_(PASSIVE_LEVEL) VOID WaitsTick(CLIENT *Client, ULONG64 NowNs, ULONG64 *NextNs);

#endif
