/*
 * issue.h: an operation's way: launched, started, called, returned, final - or abandoned, lost.
 */
#ifndef WSKLAB_ISSUE_H
#define WSKLAB_ISSUE_H

#include "operation.h"

/* From SUBMIT: start it now, later, or elsewhere, as the request says. A failure means that the client is closed. */
_IRQL_requires_max_(PASSIVE_LEVEL) _Must_inspect_result_ NTSTATUS OperationLaunch(OPERATION *Operation);
/* From a completion routine: start the held operation `OpId` of this client, or give it up. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID OperationContinue(CLIENT *Client, ULONG OpId, BOOLEAN Start);
/* The same from a callback, where events cannot be disabled. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID OperationContinueInCallback(CLIENT *Client, ULONG OpId);
/* From the keeper: the delay is over. */
_IRQL_requires_max_(PASSIVE_LEVEL) VOID OperationDelayOver(OPERATION *Operation);
/* From the keeper: the grace time is over; counts it as lost if it still has no completion. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID OperationGraceOver(OPERATION *Operation);
/* From SocketLeave: the last running call has left the socket that this operation closes. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID OperationStartClose(OPERATION *Operation);
/* It will never be called. Only a NEW operation changes. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID OperationAbandon(OPERATION *Operation, NTSTATUS Why);
/* From the completion routine: the completion was seen and recorded. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID OperationCompleted(OPERATION *Operation);

#endif
