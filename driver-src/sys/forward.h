/*
 * forward.h: IRPs that come from above and are sent on to WSK (IOCTL_WSKLAB_FORWARD; WSK-IRP-009 and 010).
 *
 * The IRP is the request's own: our stack location is the dispatcher's, WSK gets the next one. It is marked pending
 * before WSK sees it and the dispatch routine answers STATUS_PENDING, so that whoever completes it may do so at any time.
 * Three ways back up:
 *   BARE  no completion routine: WSK's completion is the caller's. Nobody of us sees it, so the operation is final when
 *         the call has returned, its record tells no completion, and its memory stays until the socket is closed.
 *   PASS  the routine notes what there is and lets the IRP go on: it propagates PendingReturned and returns success.
 *   HOLD  the routine keeps the IRP (STATUS_MORE_PROCESSING_REQUIRED); a work item completes it afterwards.
 * The output length is 0, so the I/O manager copies nothing, and Information is replaced where it is not a number.
 * A canceller (IOCTL_WSKLAB_CANCEL) keeps the IRP as HOLD does until it is done with it.
 */
#ifndef WSKLAB_FORWARD_H
#define WSKLAB_FORWARD_H

#include "operation.h"

/* Whether the request can be forwarded as it says; the rest of it was checked. */
BOOLEAN ForwardIsValid(const WSKLAB_SUBMIT *Submit);
/* What HOLD needs; the IRP must have a stack location for WSK. */
_IRQL_requires_max_(PASSIVE_LEVEL) _Must_inspect_result_ NTSTATUS ForwardPrepare(OPERATION *Operation, PIRP Irp);
/* Set the routine for the next stack location, if there is to be one. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS ForwardArm(OPERATION *Operation);
/* Just before the call: from now on the IRP is WSK's. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID ForwardGive(OPERATION *Operation);
/* Complete an IRP that was kept. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID ForwardGiveBack(OPERATION *Operation);
/* The provider returned a failure and forgot the IRP: on Wine it never remembers, so it is completed here. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID ForwardLost(OPERATION *Operation);

#endif
