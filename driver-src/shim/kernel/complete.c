/*
 * complete.c: the I/O manager's rules: calling a driver, completing an IRP.
 */
#include "internal.h"

typedef struct UNLOAD_SAFE {
    PIO_COMPLETION_ROUTINE Routine;
    PVOID Context;
    PDEVICE_OBJECT Device;
} UNLOAD_SAFE;

/* Frees what IoSetCompletionRoutineEx took, and drops the reference that keeps the driver while its routine runs. */
static NTSTATUS NTAPI UnloadSafeCompletion(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context) {
    UNLOAD_SAFE safe = *(UNLOAD_SAFE *)Context;
    NTSTATUS status;

    MemoryPut(MEMORY_COMPLETION_CONTEXT, Context, 0, "completion");
    status = safe.Routine(DeviceObject, Irp, safe.Context);
    ObjectDrop(safe.Device);
    return status;
}

NTSTATUS NTAPI IoSetCompletionRoutineEx(PDEVICE_OBJECT DeviceObject, PIRP Irp, PIO_COMPLETION_ROUTINE CompletionRoutine,
                                        PVOID Context, BOOLEAN InvokeOnSuccess, BOOLEAN InvokeOnError, BOOLEAN InvokeOnCancel) {
    UNLOAD_SAFE *safe;

    ShimRequireIrql("IoSetCompletionRoutineEx", DISPATCH_LEVEL);
    ObjectKind("IoSetCompletionRoutineEx", DeviceObject);
    if (!InvokeOnSuccess || !InvokeOnError || !InvokeOnCancel) {
        ShimAbort("completion-routine", "IoSetCompletionRoutineEx without all three flags: a routine that is not called leaks");
    }
    ShimYield("IoSetCompletionRoutineEx");
    safe = MemoryGet(MEMORY_COMPLETION_CONTEXT, sizeof(*safe), 0, "IoSetCompletionRoutineEx", CALLER());
    if (safe == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    *safe = (UNLOAD_SAFE){.Routine = CompletionRoutine, .Context = Context, .Device = DeviceObject};
    ObjectHold(DeviceObject);
    IoSetCompletionRoutine(Irp, UnloadSafeCompletion, safe, InvokeOnSuccess, InvokeOnError, InvokeOnCancel);
    if (Context != NULL && MemoryIsPaged(Context, 1)) {
        ShimAbort("pageable", "the context of a completion routine lies in paged pool; completions come at DISPATCH_LEVEL");
    }
    return STATUS_SUCCESS;
}

/* The routine of one stack location; TRUE when it keeps the IRP, which may be gone then. */
static BOOLEAN Invoke(IRP_INFO *info, PIRP irp, const IO_STACK_LOCATION *location, ULONG completion) {
    PDEVICE_OBJECT device = irp->CurrentLocation <= irp->StackCount ? IoGetCurrentIrpStackLocation(irp)->DeviceObject : NULL;
    BOOLEAN pending = irp->PendingReturned;
    SHIM_CALLOUT callout;
    NTSTATUS status;

    __atomic_store_n(&info->InRoutine, TRUE, __ATOMIC_SEQ_CST);
    ShimCalloutBegin(&callout, "a completion routine", KeGetCurrentIrql(), FALSE);
    status = location->CompletionRoutine(device, irp, location->Context);
    ShimCalloutEnd(&callout);
    if (status == STATUS_MORE_PROCESSING_REQUIRED) {
        return TRUE;
    }
    __atomic_store_n(&info->InRoutine, FALSE, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&info->Completions, __ATOMIC_SEQ_CST) != completion) {
        ShimAbort("double-completion", "a completion routine returned %08x for an IRP that somebody has completed meanwhile", status);
    }
    if (IrpState(info) == IRP_GONE) {
        ShimAbort("irp-freed", "a completion routine freed the IRP and returned %08x: the I/O manager goes on with it", status);
    }
    if (pending && irp->CurrentLocation <= irp->StackCount &&
        !(IoGetCurrentIrpStackLocation(irp)->Control & SL_PENDING_RETURNED)) {
        ShimAbort("pending-not-passed-on", "a completion routine saw PendingReturned and did not call IoMarkIrpPending");
    }
    return FALSE;
}

static BOOLEAN IsCalled(const IRP *irp, const IO_STACK_LOCATION *location) {
    return (NT_SUCCESS(irp->IoStatus.Status) && (location->Control & SL_INVOKE_ON_SUCCESS)) ||
           (!NT_SUCCESS(irp->IoStatus.Status) && (location->Control & SL_INVOKE_ON_ERROR)) ||
           (irp->Cancel && (location->Control & SL_INVOKE_ON_CANCEL));
}

static void RequireCompletable(IRP_INFO *info, const IRP *irp) {
    BOOLEAN kept = IrpState(info) == IRP_COMPLETING && info->Kind == IRP_IO_MANAGER &&
                   __atomic_load_n(&info->InRoutine, __ATOMIC_SEQ_CST);
    char before[500];

    /* A routine that keeps the IRP may have handed it to another thread, which may be faster than its return. */
    if (IrpState(info) != IRP_SENT && !kept) {
        StackDescribe(before, sizeof(before), info->Completer, 6);
        ShimAbort("double-completion", "IoCompleteRequest of an IRP that nobody holds; it was completed at %s", before);
    }
    if (irp->CurrentLocation > irp->StackCount) {
        ShimAbort("double-completion", "IoCompleteRequest of an IRP at location %d of %d", irp->CurrentLocation, irp->StackCount);
    }
    if (irp->CancelRoutine != NULL) {
        ShimAbort("cancel-routine", "IoCompleteRequest of an IRP with a cancel routine");
    }
    if (irp->IoStatus.Status == STATUS_PENDING || irp->IoStatus.Status == -1) {
        ShimAbort("irp-status", "IoCompleteRequest with status %08x", irp->IoStatus.Status);
    }
}

VOID NTAPI IofCompleteRequest(PIRP Irp, CCHAR PriorityBoost) {
    IRP_INFO *info = IrpInfo("IoCompleteRequest", Irp);
    BOOLEAN kept = FALSE;
    ULONG completion;

    UNREFERENCED_PARAMETER(PriorityBoost);
    ShimRequireIrql("IoCompleteRequest", DISPATCH_LEVEL);
    LocksRequireNone("IoCompleteRequest");
    RequireCompletable(info, Irp);
    ShimYield("IoCompleteRequest");
    StackCapture(info->Completer, FRAMES);
    completion = IrpBeginCompletion(info);
    while (!kept && Irp->CurrentLocation <= Irp->StackCount) {
        PIO_STACK_LOCATION location = Irp->Tail.Overlay.CurrentStackLocation;
        IO_STACK_LOCATION called = *location;

        Irp->PendingReturned = (called.Control & SL_PENDING_RETURNED) != 0;
        Irp->CurrentLocation++;
        Irp->Tail.Overlay.CurrentStackLocation++;
        /* What is done with is wiped, as the I/O manager does; major and minor function stay. */
        memset((char *)location + 2, 0, sizeof(*location) - 2);
        if (called.CompletionRoutine != NULL && IsCalled(Irp, &called)) {
            kept = Invoke(info, Irp, &called, completion);
        } else if (Irp->PendingReturned && Irp->CurrentLocation <= Irp->StackCount) {
            IoMarkIrpPending(Irp);
        }
    }
    if (kept) {
        IrpKeep(info, completion);
    } else if (info->Kind != IRP_IO_MANAGER) {
        ShimAbort("irp-not-kept", "nobody kept a driver's own IRP (status %08x): the I/O manager would free it, and with it the "
                                  "system", Irp->IoStatus.Status);
    } else {
        info->CompletedStatus = Irp->IoStatus.Status;
        info->PendingReturned = Irp->PendingReturned;
        __atomic_store_n(&info->Completed, TRUE, __ATOMIC_SEQ_CST);
        IrpCheckPending(info);
        info->Finish(Irp, info->Context);
    }
    IrpInfoRelease(info);
}

void IrpCheckPending(const IRP_INFO *info) {
    if (!__atomic_load_n(&info->Returned, __ATOMIC_SEQ_CST) || !__atomic_load_n(&info->Completed, __ATOMIC_SEQ_CST)) {
        return;
    }
    if (info->ReturnedStatus == STATUS_PENDING && !info->PendingReturned) {
        ShimAbort("pending-not-marked", "a dispatch routine returned STATUS_PENDING for an IRP that it had not marked pending");
    }
    if (info->ReturnedStatus != STATUS_PENDING && info->PendingReturned) {
        ShimAbort("pending-marked", "a dispatch routine marked an IRP pending and returned %08x", info->ReturnedStatus);
    }
    if (info->ReturnedStatus != STATUS_PENDING && info->ReturnedStatus != info->CompletedStatus) {
        ShimAbort("status-differs", "a dispatch routine returned %08x for an IRP that it completed with %08x", info->ReturnedStatus,
                  info->CompletedStatus);
    }
}

NTSTATUS IrpDispatch(PDEVICE_OBJECT device, PIRP irp) {
    IRP_INFO *info = IrpInfo("IoCallDriver", irp);
    PIO_STACK_LOCATION location;
    SHIM_CALLOUT callout;
    BOOLEAN outermost = info->Kind == IRP_IO_MANAGER && IrpState(info) == IRP_IDLE;
    NTSTATUS status;

    if (!outermost && info->Kind != IRP_IO_MANAGER && IrpState(info) == IRP_SENT) {
        ShimAbort("irp-in-use", "IoCallDriver with an IRP that is with somebody");
    }
    IoSetNextIrpStackLocation(irp);
    location = IoGetCurrentIrpStackLocation(irp);
    location->DeviceObject = device;
    IrpSetState(info, IRP_SENT);
    ShimCalloutBegin(&callout, "a dispatch routine", KeGetCurrentIrql(), FALSE);
    status = device->DriverObject->MajorFunction[location->MajorFunction](device, irp);
    ShimCalloutEnd(&callout);
    if (outermost) {
        if (status != STATUS_PENDING && !__atomic_load_n(&info->Completed, __ATOMIC_SEQ_CST)) {
            ShimAbort("irp-lost", "a dispatch routine returned %08x and has not completed the IRP", status);
        }
        info->ReturnedStatus = status;
        __atomic_store_n(&info->Returned, TRUE, __ATOMIC_SEQ_CST);
        IrpCheckPending(info);
    }
    IrpInfoRelease(info);
    return status;
}

NTSTATUS NTAPI IofCallDriver(PDEVICE_OBJECT DeviceObject, PIRP Irp) {
    ShimRequireIrql("IoCallDriver", DISPATCH_LEVEL);
    LocksRequireNone("IoCallDriver");
    ObjectKind("IoCallDriver", DeviceObject);
    return IrpDispatch(DeviceObject, Irp);
}

void ShimIrpAccept(const char *function, PIRP irp) {
    IRP_INFO *info = IrpInfo(function, irp);

    if (info->Kind != IRP_IO_MANAGER && IrpState(info) == IRP_SENT) {
        ShimAbort("irp-in-use", "%s with an IRP that is with somebody", function);
    }
    if (irp->CurrentLocation < 2) {
        ShimAbort("irp-stack", "%s with an IRP that has no stack location left", function);
    }
    if (IoGetNextIrpStackLocation(irp)->CompletionRoutine == NULL && info->Kind != IRP_IO_MANAGER) {
        ShimAbort("completion-routine", "%s with an IRP that has no completion routine", function);
    }
    if (irp->CancelRoutine != NULL) {
        ShimAbort("cancel-routine", "%s with an IRP that has a cancel routine", function);
    }
    IoSetNextIrpStackLocation(irp);
    IrpSetState(info, IRP_SENT);
    IrpInfoRelease(info);
}

void ShimIrpComplete(PIRP irp, NTSTATUS status, ULONG_PTR information) {
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = information;
    IofCompleteRequest(irp, IO_NETWORK_INCREMENT);
}
