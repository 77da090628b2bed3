/*
 * call.h: the WSK functions by name: which table, which arguments.
 */
#ifndef WSKLAB_CALL_H
#define WSKLAB_CALL_H

#include "operation.h"

/* Whether the function is reached through the provider dispatch, so that the client has to be attached. */
BOOLEAN CallUsesProvider(ULONG Function);
/* Whether the socket's category has the function: a wrong offset would run into unrelated memory (appendix C, 7). */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS CallIsPossible(OPERATION *Operation);
/* The same for functions without a socket: the registration's state. Success means that the call has to follow. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS CallPrepare(OPERATION *Operation);
/* Make the call; its status. */
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS CallWsk(OPERATION *Operation);

#endif
