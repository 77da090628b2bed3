/*
 * hold.h: an operation and its client's objects: the one that it takes, the one that it makes.
 */
#ifndef WSKLAB_HOLD_H
#define WSKLAB_HOLD_H

#include "operation.h"

/* Which kind of object the request makes (WSKLAB_OBJECT_*), 0 for none: its number is reserved when the operation is made. */
ULONG HoldMakes(const WSKLAB_SUBMIT *Submit);
/* Whether the request names an object that it takes; the inspection of INSPECT_COMPLETE is none. */
BOOLEAN HoldTakes(const WSKLAB_SUBMIT *Submit);

_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS HoldPrepare(OPERATION *Operation);
/* Just before the call: use the object, or take it to give it back. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS HoldBegin(OPERATION *Operation);
/* The operation has come to its end, once: with what it made, or NULL. Later calls change nothing. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID HoldSettle(OPERATION *Operation, NTSTATUS Status, PVOID Made, ULONG Count, ULONG64 Length);
/* It is lost: what it made will not be known; what it took is never free again. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID HoldLose(OPERATION *Operation);

#endif
