/*
 * control.h: WskControlSocket and WskControlClient: what goes in, what comes out, and that no number becomes a pointer.
 *
 * Some codes take structures with pointers, or give pointers. Such an input is built here from a kind
 * (WSKLAB_INPUT_*); such an output becomes an object, a number, offsets - or is told by its size only.
 */
#ifndef WSKLAB_CONTROL_H
#define WSKLAB_CONTROL_H

#include "operation.h"

/* Whether code, input and output of a control request fit together. */
BOOLEAN ControlIsValid(const WSKLAB_SUBMIT *Submit);
/* Whether its page demands PASSIVE_LEVEL: the address lists. */
BOOLEAN ControlIsPassive(const WSKLAB_SUBMIT *Submit);
/* Whether it gives a cached descriptor, which becomes an object. */
BOOLEAN ControlMakesDescriptor(const WSKLAB_SUBMIT *Submit);
/* Allocate and fill the buffers beside the data; of control functions, and of those that send or receive control information. */
_IRQL_requires_max_(PASSIVE_LEVEL) _Must_inspect_result_ NTSTATUS ControlPrepare(OPERATION *Operation, const UCHAR *Extra);
/* Just before the call: the pointers that are known only now, and events that have no callback (a hazard). */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS ControlBegin(OPERATION *Operation);
/* What ControlBegin noted of static events ends: they are on, or the operation failed, or was not called at all. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID ControlSettle(OPERATION *Operation, BOOLEAN Succeeded);
/* The call, through the socket's or the provider's table. */
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS ControlCall(OPERATION *Operation);
/* The end, once: at the completion, or when a call without IRP has returned. `Bytes` are in the output, says WSK. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID ControlEnd(OPERATION *Operation, NTSTATUS Status, ULONG64 Bytes);
/* The bytes in the output of a call without IRP that has returned. */
ULONG64 ControlReturnedBytes(const OPERATION *Operation, NTSTATUS Status);

#endif
