/*
 * wrong.c: a driver that makes one mistake on request (wrong.h). Each must stop the shim; None must not.
 */
#include "wrong_driver.h"

typedef VOID (*MISTAKE)(REQUEST *request);

PDEVICE_OBJECT g_Device;
PDRIVER_OBJECT g_Driver;
PIRP g_Pended;
KEVENT g_Event;
KSPIN_LOCK g_First;
KSPIN_LOCK g_Second;
KSPIN_LOCK g_Kind[2];
KTIMER g_Timer;
KDPC g_Dpc;
PIO_WORKITEM g_Item;
BOOLEAN g_KeepDevice;
BOOLEAN g_KeepLink;

DRIVER_INITIALIZE DriverEntry;

PVOID Pool(POOL_TYPE Type, SIZE_T Size) {
    return ExAllocatePoolWithTag(Type, Size, TAG);
}

LARGE_INTEGER Ms(LONGLONG Milliseconds) {
    LARGE_INTEGER interval = {.QuadPart = -Milliseconds * 10000};
    return interval;
}

VOID Sleep(LONGLONG Milliseconds) {
    LARGE_INTEGER interval = Ms(Milliseconds);
    KeDelayExecutionThread(KernelMode, FALSE, &interval);
}

NTSTATUS NTAPI Keep(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

NTSTATUS NTAPI KeepNot(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI FreeAndContinue(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Context);
    IoFreeIrp(Irp);
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI WaitAndKeep(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    Sleep(1);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

VOID NTAPI DoNothingCancel(PDEVICE_OBJECT Device, PIRP Irp) {
    UNREFERENCED_PARAMETER(Device);
    IoReleaseCancelSpinLock(Irp->CancelIrql);
}

/* Holds a worker until somebody sets the event. */
VOID NTAPI WaitWork(PDEVICE_OBJECT Device, PVOID Context) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Context);
    KeWaitForSingleObject(&g_Event, Executive, KernelMode, FALSE, NULL);
}

VOID NTAPI DoNothingDpc(PKDPC Dpc, PVOID Context, PVOID Argument1, PVOID Argument2) {
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(Context);
    UNREFERENCED_PARAMETER(Argument1);
    UNREFERENCED_PARAMETER(Argument2);
}

VOID NTAPI SleepingThread(PVOID Context) {
    UNREFERENCED_PARAMETER(Context);
    Sleep(60000);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

/* An IRP of our own, sent to our own device: the dispatch of internal requests keeps it in g_Pended. */
PIRP Send(PIRP Irp, PIO_COMPLETION_ROUTINE Routine) {
    IoSetCompletionRoutine(Irp, Routine, NULL, TRUE, TRUE, TRUE);
    IoGetNextIrpStackLocation(Irp)->MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
    IoCallDriver(g_Device, Irp);
    return Irp;
}

VOID Complete(PIRP Irp, NTSTATUS Status) {
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
}

VOID None(REQUEST *r) {
    static const char text[] = "all is well";
    KIRQL irql;
    PIRP irp = Send(IoAllocateIrp(1, FALSE), Keep);

    KeAcquireSpinLock(&g_First, &irql);
    KeReleaseSpinLock(&g_First, irql);
    Complete(irp, STATUS_SUCCESS);
    IoFreeIrp(irp);
    RtlCopyMemory(r->Buffer, text, sizeof(text));
    r->Information = sizeof(text);
}

static const MISTAKE g_Mistakes[] = {
#define WRONG_ENTRY(name, rule) name,
    WRONG_LIST(WRONG_ENTRY)
#undef WRONG_ENTRY
};

static NTSTATUS NTAPI Succeed(PDEVICE_OBJECT Device, PIRP Irp) {
    UNREFERENCED_PARAMETER(Device);
    Complete(Irp, STATUS_SUCCESS);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI Pend(PDEVICE_OBJECT Device, PIRP Irp) {
    UNREFERENCED_PARAMETER(Device);
    g_Pended = Irp;
    return STATUS_PENDING;
}

static NTSTATUS NTAPI Control(PDEVICE_OBJECT Device, PIRP Irp) {
    PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(Irp);
    ULONG code = location->Parameters.DeviceIoControl.IoControlCode;
    ULONG number = ((code >> 2) & 0xFFF) - 0x800u;
    REQUEST request = {.Irp = Irp,
                       .Buffer = Irp->AssociatedIrp.SystemBuffer,
                       .OutputBytes = location->Parameters.DeviceIoControl.OutputBufferLength};

    UNREFERENCED_PARAMETER(Device);
    if (number >= WrongEnd) {
        Complete(Irp, STATUS_INVALID_PARAMETER);
        return STATUS_INVALID_PARAMETER;
    }
    g_Mistakes[number](&request);
    if (!request.Completed) {
        Irp->IoStatus.Status = STATUS_SUCCESS;
        Irp->IoStatus.Information = request.Information;
        IoCompleteRequest(Irp, IO_NO_INCREMENT);
    }
    return number == WrongPendingNotMarked ? STATUS_PENDING : STATUS_SUCCESS;
}

static VOID NTAPI Unload(PDRIVER_OBJECT Driver) {
    UNICODE_STRING link = RTL_CONSTANT_STRING(L"\\DosDevices\\wrong");

    UNREFERENCED_PARAMETER(Driver);
    if (!g_KeepLink) {
        IoDeleteSymbolicLink(&link);
    }
    if (!g_KeepDevice) {
        IoDeleteDevice(g_Device);
    }
}

/* The place of the initialisation is what makes two locks be of one kind. */
static __attribute__((noinline)) VOID InitializeKind(PKSPIN_LOCK Lock) {
    KeInitializeSpinLock(Lock);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath) {
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\Device\\wrong");
    UNICODE_STRING link = RTL_CONSTANT_STRING(L"\\DosDevices\\wrong");
    NTSTATUS status;

    UNREFERENCED_PARAMETER(RegistryPath);
    g_Driver = DriverObject;
    KeInitializeEvent(&g_Event, NotificationEvent, FALSE);
    KeInitializeSpinLock(&g_First);
    KeInitializeSpinLock(&g_Second);
    InitializeKind(&g_Kind[0]);
    InitializeKind(&g_Kind[1]);
    KeInitializeTimer(&g_Timer);
    DriverObject->MajorFunction[IRP_MJ_CREATE] = Succeed;
    DriverObject->MajorFunction[IRP_MJ_CLEANUP] = Succeed;
    DriverObject->MajorFunction[IRP_MJ_CLOSE] = Succeed;
    DriverObject->MajorFunction[IRP_MJ_DEVICE_CONTROL] = Control;
    DriverObject->MajorFunction[IRP_MJ_INTERNAL_DEVICE_CONTROL] = Pend;
    DriverObject->DriverUnload = Unload;
    status = IoCreateDevice(DriverObject, 0, &name, FILE_DEVICE_UNKNOWN, FILE_DEVICE_SECURE_OPEN, FALSE, &g_Device);
    if (NT_SUCCESS(status)) {
        status = IoCreateSymbolicLink(&link, &name);
    }
    return status;
}
