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

/*
 * Answer at once, or pend. STATUS_PENDING: the IRP is ours; anything else: the caller completes it, with *Information.
 * Called at PASSIVE_LEVEL from the dispatch routine; never waits.
 */
_IRQL_requires_max_(PASSIVE_LEVEL) _Must_inspect_result_ NTSTATUS WaitSubmit(CLIENT *Client, PIRP Irp, const WAIT_REQUEST *Request,
                                                                            ULONG_PTR *Information);
/* The operation is final: answer those who wait for it. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID WaitsForOperation(OPERATION *Operation);
/* The client has nothing active any more: answer its drains. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID WaitsDrained(CLIENT *Client);
/* The handle is gone. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID WaitsCancelAll(CLIENT *Client);
/* From the keeper: answer what is due; lowers *NextNs to the next due time. */
_IRQL_requires_max_(PASSIVE_LEVEL) VOID WaitsTick(CLIENT *Client, ULONG64 NowNs, ULONG64 *NextNs);

#endif
