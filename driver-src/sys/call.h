/*
 * call.h: the WSK functions by name: which table, which arguments.
 */
#ifndef WSKLAB_CALL_H
#define WSKLAB_CALL_H

#include "operation.h"

/* Whether the call can be made: the socket's category has the function (a wrong offset would run into unrelated memory,
 * appendix C, 7), the registration is in the right state, the objects are there. Success means that the call has to
 * follow; after a failure the operation is given up. The socket was entered before. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS CallPrepare(OPERATION *Operation);
/* Make the call; its status. */
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS CallWsk(OPERATION *Operation);
/* The end of the call, once: at the completion, or when one without IRP has returned. `Information`: bytes in the output. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID CallEnd(OPERATION *Operation, NTSTATUS Status, ULONG64 Information);

#endif
