/*
 * completion.h: the completion routines, and what becomes of an IRP.
 */
#ifndef WSKLAB_COMPLETION_H
#define WSKLAB_COMPLETION_H

#include "operation.h"

/* Set a routine for success, error and cancel in the next stack location; IoSetCompletionRoutineEx where there is one. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS CompletionSetRoutine(OPERATION *Operation,
                                                                                       PIO_COMPLETION_ROUTINE Routine);
/* Prefill the IRP and set the completion routine(s). Nothing to do where the operation has no IRP of its own. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS CompletionArm(OPERATION *Operation);
/* The IRP's completion has been seen. TRUE: a canceller still holds it, and lets it go after IoCancelIrp. */
_Requires_lock_held_(Operation->Client->Lock) BOOLEAN CompletionLetGo(OPERATION *Operation);
/* Called without an IRP. A close that was refused has closed nothing: the socket can still be closed, with an IRP. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID CompletionOfNoIrp(OPERATION *Operation, NTSTATUS Status);
/* After the completion: free, poison or keep the IRP. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID CompletionDisposeIrp(OPERATION *Operation);
/* With the operation: whatever is left of its IRP. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID CompletionFreeIrp(OPERATION *Operation);

/* The operation that a completion routine's context belongs to; NULL for a context that is not ours. */
OPERATION *CompletionOperation(PVOID Context);
/* Write down everything about a completion; `Counts` where this call is the one that completion_count counts. */
_IRQL_requires_max_(DISPATCH_LEVEL) BOOLEAN CompletionObserve(OPERATION *Operation, PDEVICE_OBJECT DeviceObject, PIRP Irp,
                                                              PVOID Context, BOOLEAN Counts);
/* Start what comes next, make the operation final, drop the provider's reference. The operation may be gone afterwards. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID CompletionFinish(OPERATION *Operation, NTSTATUS IoStatus);

#endif
