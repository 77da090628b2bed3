/*
 * io.c: the I/O manager's side of a handle: open, I/O controls, cancel, close.
 */
#include "internal.h"

#include <stdlib.h>

struct SHIM_HANDLE {
    PFILE_OBJECT File;
};

/* Fills what the driver has not written: an answer with this in it tells what memory held before. */
static const UCHAR g_Stale[8] = {0x9D, 0x8C, 0x7B, 0x6A, 0x5F, 0x4E, 0x3D, 0x2C};

/* ---- APCs: the second half of a completion, in another thread at PASSIVE_LEVEL ----------------------------------------- */

typedef struct APC {
    LIST_ENTRY Link;
    void (*Routine)(void *context);
    void *Context;
} APC;

static LIST_ENTRY g_Apcs = {&g_Apcs, &g_Apcs};
static SHIM_THREAD *g_ApcThread;
static BOOLEAN g_ApcSleeps;
static BOOLEAN g_Stop;

static void ApcThread(void *context) {
    UNREFERENCED_PARAMETER(context);
    SchedLock();
    while (!g_Stop || !IsListEmpty(&g_Apcs)) {
        APC *apc;

        if (IsListEmpty(&g_Apcs)) {
            g_ApcSleeps = TRUE;
            SchedBlock(NEVER);
            g_ApcSleeps = FALSE;
            continue;
        }
        apc = CONTAINING_RECORD(RemoveHeadList(&g_Apcs), APC, Link);
        SchedUnlock();
        apc->Routine(apc->Context);
        free(apc);
        SchedLock();
    }
    SchedUnlock();
}

void ApcQueue(void (*routine)(void *context), void *context) {
    APC *apc = calloc(1, sizeof(*apc));

    apc->Routine = routine;
    apc->Context = context;
    SchedLock();
    InsertTailList(&g_Apcs, &apc->Link);
    if (g_ApcSleeps) {
        SchedWake(g_ApcThread);
    }
    SchedUnlock();
}

void IoInitialize(void) {
    g_Stop = FALSE;
    g_ApcThread = ShimThreadStart("APCs", ApcThread, NULL);
}

void IoStop(void) {
    SchedLock();
    g_Stop = TRUE;
    if (g_ApcSleeps) {
        SchedWake(g_ApcThread);
    }
    SchedUnlock();
    ShimThreadJoin(g_ApcThread);
}

/* ---- IRPs of the I/O manager ------------------------------------------------------------------------------------------- */

static PIRP MakeIrp(PFILE_OBJECT file, UCHAR major, void (*finish)(PIRP irp, void *context), void *context) {
    CCHAR stack = file->DeviceObject->StackSize;
    PIRP irp = MemoryGetSure(MEMORY_IRP, IoSizeOfIrp(stack), NULL);
    PIO_STACK_LOCATION next;
    IRP_INFO *info;

    IrpInitializeLayout(irp, IoSizeOfIrp(stack), stack);
    info = IrpRegister(irp, IRP_IO_MANAGER, stack, NULL);
    info->Finish = finish;
    info->Context = context;
    irp->RequestorMode = UserMode;
    irp->Tail.Overlay.Thread = KeGetCurrentThread();
    irp->Tail.Overlay.OriginalFileObject = file;
    next = IoGetNextIrpStackLocation(irp);
    next->MajorFunction = major;
    next->FileObject = file;
    return irp;
}

static void FreeIrp(PIRP irp) {
    IrpForgetIn(irp, irp->Size);
    MemoryPut(MEMORY_IRP, irp, 0, "the I/O manager");
}

/* What every completed request has to look like. */
static void CheckStatusBlock(const char *what, PIRP irp) {
    char text[600];

    if (MemoryIsKernelAddress(irp->IoStatus.Information, text, sizeof(text))) {
        ShimAbort("pointer-in-information", "%s was completed with Information %p, %s", what, (void *)irp->IoStatus.Information,
                  text);
    }
}

/* A request that the caller waits for: create, cleanup, close. */
typedef struct SYNCHRONOUS {
    KEVENT Done;
    NTSTATUS Status;
} SYNCHRONOUS;

static void FinishSynchronous(PIRP irp, void *context) {
    SYNCHRONOUS *request = context;

    CheckStatusBlock("a create, cleanup or close request", irp);
    request->Status = irp->IoStatus.Status;
    FreeIrp(irp);
    KeSetEvent(&request->Done, IO_NO_INCREMENT, FALSE);
}

static NTSTATUS Synchronous(PFILE_OBJECT file, UCHAR major) {
    SYNCHRONOUS request;
    PIRP irp;

    KeInitializeEvent(&request.Done, NotificationEvent, FALSE);
    irp = MakeIrp(file, major, FinishSynchronous, &request);
    if (major == IRP_MJ_CREATE) {
        IoGetNextIrpStackLocation(irp)->Parameters.Create.ShareAccess = FILE_SHARE_READ | FILE_SHARE_WRITE;
    }
    if (IrpDispatch(file->DeviceObject, irp) == STATUS_PENDING) {
        KeWaitForSingleObject(&request.Done, Executive, KernelMode, FALSE, NULL);
    }
    return request.Status;
}

/* ---- Handles ------------------------------------------------------------------------------------------------------------ */

static pthread_mutex_t g_FilesLock = PTHREAD_MUTEX_INITIALIZER;
static LIST_ENTRY g_Files = {&g_Files, &g_Files}; /* linked by IrpList, which drivers do not look at */

/* After a driver was unloaded by force its open handles lead nowhere. */
static BOOLEAN IsDead(PFILE_OBJECT file) {
    return file->DeviceObject->DriverObject == NULL;
}

ULONG FilesOf(const DRIVER_OBJECT *driver) {
    ULONG count = 0;

    pthread_mutex_lock(&g_FilesLock);
    for (PLIST_ENTRY entry = g_Files.Flink; entry != &g_Files; entry = entry->Flink) {
        count += CONTAINING_RECORD(entry, FILE_OBJECT, IrpList)->DeviceObject->DriverObject == driver;
    }
    pthread_mutex_unlock(&g_FilesLock);
    return count;
}

void FilesOrphan(const DRIVER_OBJECT *driver) {
    pthread_mutex_lock(&g_FilesLock);
    for (PLIST_ENTRY entry = g_Files.Flink; entry != &g_Files; entry = entry->Flink) {
        PDEVICE_OBJECT device = CONTAINING_RECORD(entry, FILE_OBJECT, IrpList)->DeviceObject;
        if (device->DriverObject == driver) {
            device->DriverObject = NULL;
            ObjectDisown(device); /* the handle's now, no leak of the driver's */
        }
    }
    pthread_mutex_unlock(&g_FilesLock);
}

NTSTATUS ShimOpen(const char *path, SHIM_HANDLE **handle) {
    PDEVICE_OBJECT device = DeviceByPath(path);
    PFILE_OBJECT file;
    NTSTATUS status;

    *handle = NULL;
    if (device == NULL) {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    }
    if (device->Flags & DO_DEVICE_INITIALIZING || device->DriverObject->Flags & DRVO_UNLOAD_INVOKED) {
        status = STATUS_NO_SUCH_DEVICE;
    } else {
        status = DeviceAdmits(device, KeGetCurrentThread()->Process) ? STATUS_SUCCESS : STATUS_ACCESS_DENIED;
    }
    if (!NT_SUCCESS(status)) {
        ObjectDrop(device);
        return status;
    }
    file = ObjectCreate(OBJECT_KIND_FILE, sizeof(*file), NULL);
    file->Type = IO_TYPE_FILE;
    file->Size = sizeof(*file);
    file->DeviceObject = device;
    file->ReadAccess = file->WriteAccess = TRUE;
    KeInitializeEvent(&file->Event, NotificationEvent, FALSE);
    KeInitializeEvent(&file->Lock, SynchronizationEvent, TRUE);
    pthread_mutex_lock(&g_FilesLock);
    InsertTailList(&g_Files, &file->IrpList);
    pthread_mutex_unlock(&g_FilesLock);
    status = Synchronous(file, IRP_MJ_CREATE);
    if (!NT_SUCCESS(status)) {
        file->Flags |= FO_CLEANUP_COMPLETE;
        file->DeletePending = TRUE; /* no close is sent for what was not opened */
        ObjectDrop(file);
        return status;
    }
    *handle = calloc(1, sizeof(**handle));
    (*handle)->File = file;
    return STATUS_SUCCESS;
}

void ShimClose(SHIM_HANDLE *handle) {
    PFILE_OBJECT file = handle->File;

    free(handle);
    if (!IsDead(file)) {
        Synchronous(file, IRP_MJ_CLEANUP);
    }
    file->Flags |= FO_CLEANUP_COMPLETE;
    ShimYield("ShimClose");
    ObjectDrop(file);
}

void FileDestroyed(PFILE_OBJECT file) {
    PDEVICE_OBJECT device = file->DeviceObject;

    if (KeGetCurrentIrql() != PASSIVE_LEVEL) {
        ShimAbort("deleted-above-passive", "the last reference to a file object was dropped at IRQL %u", KeGetCurrentIrql());
    }
    if (!(file->Flags & FO_CLEANUP_COMPLETE)) {
        ShimAbort("reference-count", "a file object has lost its last reference while a handle to it is open");
    }
    if (!file->DeletePending && !IsDead(file)) {
        Synchronous(file, IRP_MJ_CLOSE);
    }
    pthread_mutex_lock(&g_FilesLock);
    RemoveEntryList(&file->IrpList);
    pthread_mutex_unlock(&g_FilesLock);
    ObjectDrop(device);
}

/* ---- I/O controls --------------------------------------------------------------------------------------------------------- */

typedef struct REQUEST {
    SHIM_IOCTL *Ioctl;
    PFILE_OBJECT File;
    PIRP Irp;
    ULONG InputSize;
    void *Buffer; /* the system buffer */
    PMDL Mdl;
    NTSTATUS Status;
    ULONG_PTR Information;
    LONG Holders;    /* of the IRP: the request while it is in flight, and cancellers; guarded by the scheduler's lock */
    LONG References; /* of this structure: the holders together, and the delivery */
} REQUEST;

static void Unreference(REQUEST *request) {
    if (__atomic_sub_fetch(&request->References, 1, __ATOMIC_ACQ_REL) == 0) {
        free(request);
    }
}

/* The IRP goes at once when it is complete, and not only when the dispatch routine has returned: a driver that touches it
 * afterwards is seen. */
static void DropHolder(REQUEST *request) {
    BOOLEAN last;

    SchedLock();
    last = --request->Holders == 0;
    SchedUnlock();
    if (!last) {
        return;
    }
    FreeIrp(request->Irp);
    if (request->Mdl != NULL) {
        MmUnlockPages(request->Mdl);
        IoFreeMdl(request->Mdl);
    }
    if (request->Buffer != NULL) {
        MemoryPut(MEMORY_SYSTEM_BUFFER, request->Buffer, 0, "the I/O manager");
    }
    Unreference(request);
}

/* Tells the caller, at PASSIVE_LEVEL. Nothing of the caller's is touched afterwards. */
static void Deliver(void *context) {
    REQUEST *request = context;
    SHIM_IOCTL *ioctl = request->Ioctl;
    SHIM_IOCTL_DONE done = ioctl->Done;
    void *doneContext = ioctl->Context;

    ioctl->Status = request->Status;
    ioctl->Information = request->Information;
    ObjectDrop(request->File);
    Unreference(request);
    if (done != NULL) {
        done(ioctl, doneContext);
    } else {
        KeSetEvent(&ioctl->Event, IO_NO_INCREMENT, FALSE);
    }
}

static void CheckOutput(const REQUEST *request, PIRP irp) {
    const SHIM_IOCTL *ioctl = request->Ioctl;
    ULONG_PTR information = irp->IoStatus.Information;
    const UCHAR *output = request->Mdl != NULL ? ioctl->Output : request->Buffer;

    CheckStatusBlock("an I/O control", irp);
    /* Without an output Windows copies nothing (no IRP_INPUT_OPERATION), and Information is only told: forwarded IRPs. */
    if (NT_ERROR(irp->IoStatus.Status) || ioctl->OutputSize == 0) {
        return;
    }
    if (information > ioctl->OutputSize) {
        ShimAbort("information", "an I/O control was completed with Information %zu; its output has %u bytes", (size_t)information,
                  ioctl->OutputSize);
    }
    if (output == NULL) {
        return;
    }
    ScanOutput("an I/O control", output, information);
    for (size_t i = request->InputSize; request->Mdl == NULL && i + sizeof(g_Stale) <= information; i++) {
        UCHAR stale[sizeof(g_Stale)];
        for (size_t j = 0; j < sizeof(stale); j++) {
            stale[j] = g_Stale[(i + j) % sizeof(g_Stale)];
        }
        if (memcmp(output + i, stale, sizeof(stale)) == 0) {
            ShimAbort("uninitialised-output", "byte %zu and more of an I/O control's output were never written", i);
        }
    }
}

static void FinishIoctl(PIRP irp, void *context) {
    REQUEST *request = context;
    BOOLEAN later = irp->PendingReturned;

    CheckOutput(request, irp);
    request->Status = irp->IoStatus.Status;
    request->Information = irp->IoStatus.Information;
    if (!NT_ERROR(request->Status) && request->Buffer != NULL && request->Mdl == NULL && request->Information > 0 &&
        request->Ioctl->OutputSize > 0) {
        memcpy(request->Ioctl->Output, request->Buffer, request->Information);
    }
    SchedLock();
    request->Ioctl->Irp = NULL; /* nobody can cancel it any more */
    request->Ioctl->Complete = TRUE;
    SchedUnlock();
    DropHolder(request);
    /* Where the dispatch routine completes it, ShimIoctlStart goes on, as on Windows. */
    if (later) {
        ApcQueue(Deliver, request);
    }
}

static void PrepareBuffers(REQUEST *request, PIO_STACK_LOCATION next, const void *input, ULONG inputSize) {
    SHIM_IOCTL *ioctl = request->Ioctl;
    ULONG method = METHOD_FROM_CTL_CODE(next->Parameters.DeviceIoControl.IoControlCode);
    ULONG size = method == METHOD_BUFFERED && ioctl->OutputSize > inputSize ? ioctl->OutputSize : inputSize;

    if (method == METHOD_NEITHER) {
        next->Parameters.DeviceIoControl.Type3InputBuffer = (PVOID)(ULONG_PTR)input;
        request->Irp->UserBuffer = ioctl->Output;
        return;
    }
    if (size > 0) {
        request->Buffer = MemoryGetSure(MEMORY_SYSTEM_BUFFER, size, NULL);
        for (ULONG i = inputSize; i < size; i++) {
            ((UCHAR *)request->Buffer)[i] = g_Stale[i % sizeof(g_Stale)];
        }
        if (inputSize > 0) {
            memcpy(request->Buffer, input, inputSize);
        }
    }
    if (method != METHOD_BUFFERED && ioctl->OutputSize > 0) {
        request->Mdl = IoAllocateMdl(ioctl->Output, ioctl->OutputSize, FALSE, FALSE, NULL);
        if (request->Mdl != NULL) {
            MmProbeAndLockPages(request->Mdl, UserMode, method == METHOD_IN_DIRECT ? IoReadAccess : IoWriteAccess);
        }
        request->Irp->MdlAddress = request->Mdl;
    }
    request->Irp->AssociatedIrp.SystemBuffer = request->Buffer;
    request->Irp->UserBuffer = ioctl->Output;
}

NTSTATUS ShimIoctlStart(SHIM_HANDLE *handle, ULONG code, const void *input, ULONG inputSize, SHIM_IOCTL *ioctl,
                        SHIM_IOCTL_DONE done, void *context) {
    REQUEST *request = calloc(1, sizeof(*request));
    PIO_STACK_LOCATION next;
    NTSTATUS status;

    ShimRequireIrql("DeviceIoControl", PASSIVE_LEVEL);
    ioctl->Handle = handle;
    ioctl->Done = done;
    ioctl->Context = context;
    KeInitializeEvent(&ioctl->Event, NotificationEvent, FALSE);
    if (IsDead(handle->File)) {
        free(request);
        ioctl->Status = STATUS_NO_SUCH_DEVICE;
        ioctl->Information = 0;
        if (done != NULL) {
            done(ioctl, context);
        } else {
            KeSetEvent(&ioctl->Event, IO_NO_INCREMENT, FALSE);
        }
        return STATUS_NO_SUCH_DEVICE;
    }
    *request = (REQUEST){.Ioctl = ioctl, .File = handle->File, .InputSize = inputSize, .Holders = 1, .References = 2};
    ObjectHold(handle->File);
    request->Irp = MakeIrp(handle->File, IRP_MJ_DEVICE_CONTROL, FinishIoctl, request);
    next = IoGetNextIrpStackLocation(request->Irp);
    next->Parameters.DeviceIoControl.OutputBufferLength = ioctl->OutputSize;
    next->Parameters.DeviceIoControl.InputBufferLength = inputSize;
    next->Parameters.DeviceIoControl.IoControlCode = code;
    PrepareBuffers(request, next, input, inputSize);
    SchedLock();
    ioctl->Irp = request->Irp;
    request->Irp->Cancel = ioctl->CancelWanted; /* by a thread that came before us */
    SchedUnlock();
    status = IrpDispatch(handle->File->DeviceObject, request->Irp);
    if (status != STATUS_PENDING) {
        Deliver(request);
    }
    return status;
}

NTSTATUS ShimIoctlWait(SHIM_IOCTL *ioctl, LONGLONG timeoutMs) {
    LARGE_INTEGER timeout = {.QuadPart = -timeoutMs * 10000};
    NTSTATUS status = KeWaitForSingleObject(&ioctl->Event, UserRequest, KernelMode, FALSE, timeoutMs < 0 ? NULL : &timeout);
    return status == STATUS_TIMEOUT ? STATUS_TIMEOUT : ioctl->Status;
}

BOOLEAN ShimIoctlCancel(SHIM_IOCTL *ioctl) {
    REQUEST *request = NULL;
    BOOLEAN complete;
    PIRP irp;

    SchedLock();
    irp = ioctl->Irp;
    if (irp != NULL) {
        IRP_INFO *info = IrpInfo("CancelIoEx", irp);
        request = info->Context;
        request->Holders++;
        IrpInfoRelease(info);
    } else {
        ioctl->CancelWanted = TRUE;
    }
    complete = ioctl->Complete;
    SchedUnlock();
    if (irp == NULL) {
        return !complete;
    }
    IoCancelIrp(irp);
    DropHolder(request);
    return TRUE;
}

NTSTATUS ShimIoctl(SHIM_HANDLE *handle, ULONG code, const void *input, ULONG inputSize, void *output, ULONG outputSize,
                   ULONG_PTR *information) {
    SHIM_IOCTL ioctl = {.Output = output, .OutputSize = outputSize};

    ShimIoctlStart(handle, code, input, inputSize, &ioctl, NULL, NULL);
    ShimIoctlWait(&ioctl, -1);
    if (information != NULL) {
        *information = ioctl.Information;
    }
    return ioctl.Status;
}
