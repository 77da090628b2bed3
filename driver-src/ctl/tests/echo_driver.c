/*
 * echo_driver.c - a small kernel driver that the tests of `wskctl stdio` talk to: device \\.\wsklabecho.
 *
 *   ECHO     gives the input back
 *   PEND     stays pending until RELEASE or a cancel
 *   RELEASE  completes the oldest PEND with its own input
 *   WARN     STATUS_BUFFER_OVERFLOW (a warning: data and status)
 *   STUCK    stays pending, cannot be cancelled, until RELEASE
 *   PENDING  the number of pending requests, 4 bytes
 */
#include <ntddk.h>

#define CODE(n) CTL_CODE(FILE_DEVICE_UNKNOWN, 0x900 + (n), METHOD_BUFFERED, FILE_ANY_ACCESS)
#define IOCTL_ECHO CODE(0)
#define IOCTL_PEND CODE(1)
#define IOCTL_RELEASE CODE(2)
#define IOCTL_WARN CODE(3)
#define IOCTL_STUCK CODE(4)
#define IOCTL_PENDING CODE(5)

static LIST_ENTRY Waiting;
static KSPIN_LOCK Lock;

static NTSTATUS Complete(IRP *irp, NTSTATUS status, ULONG_PTR information)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = information;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return status;
}

static void NTAPI CancelPending(DEVICE_OBJECT *device, IRP *irp)
{
    KIRQL irql;

    (void)device;
    IoReleaseCancelSpinLock(irp->CancelIrql);
    KeAcquireSpinLock(&Lock, &irql);
    RemoveEntryList(&irp->Tail.Overlay.ListEntry);
    KeReleaseSpinLock(&Lock, irql);
    Complete(irp, STATUS_CANCELLED, 0);
}

static NTSTATUS Pend(IRP *irp, BOOLEAN cancellable)
{
    KIRQL irql;

    KeAcquireSpinLock(&Lock, &irql);
    IoMarkIrpPending(irp);
    InsertTailList(&Waiting, &irp->Tail.Overlay.ListEntry);
    if (cancellable) {
        IoSetCancelRoutine(irp, CancelPending);
        if (irp->Cancel && IoSetCancelRoutine(irp, NULL) != NULL) {
            RemoveEntryList(&irp->Tail.Overlay.ListEntry);
            KeReleaseSpinLock(&Lock, irql);
            Complete(irp, STATUS_CANCELLED, 0);
            return STATUS_PENDING;
        }
    }
    KeReleaseSpinLock(&Lock, irql);
    return STATUS_PENDING;
}

/* The oldest pending request whose cancel routine has not started; data goes into its buffer. */
static void Release(const void *data, ULONG length)
{
    IRP *found = NULL;
    LIST_ENTRY *entry;
    KIRQL irql;
    ULONG room;

    KeAcquireSpinLock(&Lock, &irql);
    for (entry = Waiting.Flink; entry != &Waiting && found == NULL; entry = entry->Flink) {
        IRP *irp = CONTAINING_RECORD(entry, IRP, Tail.Overlay.ListEntry);
        if (irp->CancelRoutine == NULL || IoSetCancelRoutine(irp, NULL) != NULL) {
            found = irp;
            RemoveEntryList(entry);
            break;
        }
    }
    KeReleaseSpinLock(&Lock, irql);
    if (found != NULL) {
        room = IoGetCurrentIrpStackLocation(found)->Parameters.DeviceIoControl.OutputBufferLength;
        length = length < room ? length : room;
        RtlCopyMemory(found->AssociatedIrp.SystemBuffer, data, length);
        Complete(found, STATUS_SUCCESS, length);
    }
}

static NTSTATUS NTAPI Control(DEVICE_OBJECT *device, IRP *irp)
{
    IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);
    ULONG in = stack->Parameters.DeviceIoControl.InputBufferLength;
    ULONG out = stack->Parameters.DeviceIoControl.OutputBufferLength;
    ULONG less = in < out ? in : out;
    LIST_ENTRY *entry;
    ULONG count = 0;

    (void)device;
    switch (stack->Parameters.DeviceIoControl.IoControlCode) {
    case IOCTL_ECHO:
        return Complete(irp, STATUS_SUCCESS, less);
    case IOCTL_PEND:
        return Pend(irp, TRUE);
    case IOCTL_STUCK:
        return Pend(irp, FALSE);
    case IOCTL_RELEASE:
        Release(irp->AssociatedIrp.SystemBuffer, in);
        return Complete(irp, STATUS_SUCCESS, 0);
    case IOCTL_WARN:
        return Complete(irp, STATUS_BUFFER_OVERFLOW, less);
    case IOCTL_PENDING:
        for (entry = Waiting.Flink; entry != &Waiting; entry = entry->Flink) {
            count += 1;
        }
        if (out < sizeof(count)) {
            return Complete(irp, STATUS_BUFFER_TOO_SMALL, 0);
        }
        *(ULONG *)irp->AssociatedIrp.SystemBuffer = count;
        return Complete(irp, STATUS_SUCCESS, sizeof(count));
    default:
        return Complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    }
}

static NTSTATUS NTAPI OpenClose(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    return Complete(irp, STATUS_SUCCESS, 0);
}

static UNICODE_STRING DeviceName = RTL_CONSTANT_STRING(L"\\Device\\wsklabecho");
static UNICODE_STRING LinkName = RTL_CONSTANT_STRING(L"\\DosDevices\\wsklabecho");

static void NTAPI Unload(DRIVER_OBJECT *driver)
{
    IoDeleteSymbolicLink(&LinkName);
    IoDeleteDevice(driver->DeviceObject);
}

NTSTATUS NTAPI DriverEntry(DRIVER_OBJECT *driver, UNICODE_STRING *path)
{
    DEVICE_OBJECT *device;
    NTSTATUS status;

    (void)path;
    InitializeListHead(&Waiting);
    KeInitializeSpinLock(&Lock);
    driver->DriverUnload = Unload;
    driver->MajorFunction[IRP_MJ_CREATE] = OpenClose;
    driver->MajorFunction[IRP_MJ_CLOSE] = OpenClose;
    driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = Control;
    status = IoCreateDevice(driver, 0, &DeviceName, FILE_DEVICE_UNKNOWN, FILE_DEVICE_SECURE_OPEN, FALSE, &device);
    if (NT_SUCCESS(status)) {
        status = IoCreateSymbolicLink(&LinkName, &DeviceName);
        if (!NT_SUCCESS(status)) {
            IoDeleteDevice(device);
        }
    }
    return status;
}
