/*
 * echo.c: a driver of somebody else's, as far as the lab knows: a TCP echo server over Winsock Kernel.
 *
 * It listens on port 7007 of all addresses, serves one connection at a time, and tells by its device \\.\wskecho how
 * many connections and bytes there have been. One thread of its own makes every call to WSK and waits for each; the
 * unload asks that thread to end and waits for it, so nothing of the driver is left when its image goes.
 *
 * docs/own-driver.md shows how it is tested.
 */
#include <ntddk.h>

#include "wsklab_wsk.h"

/* In the headers of the WDK, but not in mingw's. */
NTSYSAPI NTSTATUS NTAPI ZwWaitForSingleObject(HANDLE handle, BOOLEAN alertable, PLARGE_INTEGER timeout);

#define ECHO_PORT 7007
#define BUFFER_SIZE 4096u
#define POOL_TAG 0x6F686345u /* Echo */
#define IOCTL_ECHO_COUNTERS CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, FILE_READ_ACCESS)

/* What IOCTL_ECHO_COUNTERS answers. */
typedef struct COUNTERS {
    ULONG Connections;
    ULONG Status; /* of the listener: STATUS_SUCCESS while it listens */
    ULONG64 Bytes;
} COUNTERS;

/* An IRP of ours under way. */
typedef struct CALL {
    PIRP Irp;
    KEVENT Done;
} CALL;

static const WSK_CLIENT_DISPATCH g_ClientDispatch = {.Version = MAKE_WSK_VERSION(1, 0)};
static WSK_REGISTRATION g_Registration;
static WSK_PROVIDER_NPI g_Npi;
static PDEVICE_OBJECT g_Device;
static PVOID g_Thread;
static KEVENT g_Stop;
static COUNTERS g_Counters;

static UNICODE_STRING g_DeviceName = RTL_CONSTANT_STRING(L"\\Device\\wskecho");
static UNICODE_STRING g_LinkName = RTL_CONSTANT_STRING(L"\\DosDevices\\wskecho");

DRIVER_INITIALIZE DriverEntry;

/* ---- Calls that are waited for --------------------------------------------------------------------------------------- */

static NTSTATUS NTAPI OnCompletion(PDEVICE_OBJECT device, PIRP irp, PVOID context) {
    (void)device;
    (void)irp;
    KeSetEvent(&((CALL *)context)->Done, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED; /* the IRP is ours, and its thread looks at it */
}

static BOOLEAN CallBegin(CALL *call) {
    KeInitializeEvent(&call->Done, NotificationEvent, FALSE);
    call->Irp = IoAllocateIrp(1, FALSE);
    if (call->Irp != NULL) {
        IoSetCompletionRoutine(call->Irp, OnCompletion, call, TRUE, TRUE, TRUE);
    }
    return call->Irp != NULL;
}

/* Whatever the call returned, its IRP is completed; that status counts. `information` may be NULL. */
static NTSTATUS CallEnd(CALL *call, ULONG_PTR *information) {
    NTSTATUS status;

    KeWaitForSingleObject(&call->Done, Executive, KernelMode, FALSE, NULL);
    status = call->Irp->IoStatus.Status;
    if (information != NULL) {
        *information = NT_SUCCESS(status) ? call->Irp->IoStatus.Information : 0;
    }
    IoFreeIrp(call->Irp);
    return status;
}

static void Close(PWSK_SOCKET socket) {
    CALL call;

    if (CallBegin(&call)) {
        ((const WSK_PROVIDER_BASIC_DISPATCH *)socket->Dispatch)->WskCloseSocket(socket, call.Irp);
        CallEnd(&call, NULL);
    }
}

/* Waits for a call that may take for ever, or for the end of the driver: then the socket is closed, which ends the call. */
static NTSTATUS CallEndOrStop(CALL *call, PWSK_SOCKET *socket, ULONG_PTR *information) {
    PVOID either[] = {&call->Done, &g_Stop};

    if (KeWaitForMultipleObjects(2, either, WaitAny, Executive, KernelMode, FALSE, NULL, NULL) == STATUS_WAIT_0 + 1) {
        Close(*socket);
        *socket = NULL;
    }
    return CallEnd(call, information);
}

/* ---- One connection -------------------------------------------------------------------------------------------------- */

/* Sends all of it: WSK completes a send when the transport has taken everything. */
static NTSTATUS Send(PWSK_SOCKET *socket, PWSK_BUF buffer) {
    CALL call;

    if (!CallBegin(&call)) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    ((const WSK_PROVIDER_CONNECTION_DISPATCH *)(*socket)->Dispatch)->WskSend(*socket, buffer, 0, call.Irp);
    return CallEndOrStop(&call, socket, NULL);
}

static void Serve(PWSK_SOCKET socket, PMDL mdl) {
    NTSTATUS status = STATUS_SUCCESS;
    ULONG_PTR received = 1;

    while (socket != NULL && NT_SUCCESS(status) && received > 0) {
        WSK_BUF buffer = {.Mdl = mdl, .Offset = 0, .Length = BUFFER_SIZE};
        CALL call;

        if (!CallBegin(&call)) {
            break;
        }
        ((const WSK_PROVIDER_CONNECTION_DISPATCH *)socket->Dispatch)->WskReceive(socket, &buffer, 0, call.Irp);
        status = CallEndOrStop(&call, &socket, &received);
        if (socket != NULL && NT_SUCCESS(status) && received > 0) {
            buffer.Length = received;
            g_Counters.Bytes += received;
            status = Send(&socket, &buffer);
        }
    }
    if (socket != NULL) {
        Close(socket);
    }
}

/* ---- The listener ---------------------------------------------------------------------------------------------------- */

static NTSTATUS Listen(PWSK_SOCKET *listener) {
    SOCKADDR address = {.sa_family = AF_INET, .sa_data = {ECHO_PORT >> 8, ECHO_PORT & 0xFF}}; /* all addresses */
    ULONG_PTR made = 0;
    NTSTATUS status;
    CALL call;

    if (!CallBegin(&call)) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    g_Npi.Dispatch->WskSocket(g_Npi.Client, AF_INET, SOCK_STREAM, IPPROTO_TCP, WSK_FLAG_LISTEN_SOCKET, NULL, NULL, NULL,
                              NULL, NULL, call.Irp);
    status = CallEnd(&call, &made);
    if (!NT_SUCCESS(status)) {
        return status;
    }
    *listener = (PWSK_SOCKET)made;
    status = STATUS_INSUFFICIENT_RESOURCES;
    if (CallBegin(&call)) {
        ((const WSK_PROVIDER_LISTEN_DISPATCH *)(*listener)->Dispatch)->WskBind(*listener, &address, 0, call.Irp);
        status = CallEnd(&call, NULL);
    }
    if (!NT_SUCCESS(status)) {
        Close(*listener);
        *listener = NULL;
    }
    return status;
}

static void AcceptAll(PWSK_SOCKET listener, PMDL mdl) {
    while (listener != NULL) {
        ULONG_PTR accepted = 0;
        NTSTATUS status;
        CALL call;

        if (!CallBegin(&call)) {
            break;
        }
        ((const WSK_PROVIDER_LISTEN_DISPATCH *)listener->Dispatch)
            ->WskAccept(listener, 0, NULL, NULL, NULL, NULL, call.Irp);
        status = CallEndOrStop(&call, &listener, &accepted);
        if (NT_SUCCESS(status) && accepted != 0) {
            g_Counters.Connections += 1;
            Serve((PWSK_SOCKET)accepted, mdl);
        }
    }
    if (listener != NULL) {
        Close(listener);
    }
}

static void NTAPI Run(PVOID context) {
    PUCHAR bytes = ExAllocatePoolWithTag(NonPagedPoolNx, BUFFER_SIZE, POOL_TAG);
    PMDL mdl = bytes == NULL ? NULL : IoAllocateMdl(bytes, BUFFER_SIZE, FALSE, FALSE, NULL);
    PWSK_SOCKET listener = NULL;

    (void)context;
    g_Counters.Status = (ULONG)STATUS_INSUFFICIENT_RESOURCES;
    if (mdl != NULL) {
        MmBuildMdlForNonPagedPool(mdl);
        g_Counters.Status = (ULONG)Listen(&listener);
        if (listener != NULL) {
            AcceptAll(listener, mdl);
        }
        IoFreeMdl(mdl);
    }
    if (bytes != NULL) {
        ExFreePoolWithTag(bytes, POOL_TAG);
    }
    PsTerminateSystemThread(STATUS_SUCCESS);
}

/* ---- The device ------------------------------------------------------------------------------------------------------ */

static NTSTATUS Complete(PIRP irp, NTSTATUS status, ULONG_PTR information) {
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = information;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return status;
}

static NTSTATUS NTAPI OnCreateClose(PDEVICE_OBJECT device, PIRP irp) {
    (void)device;
    return Complete(irp, STATUS_SUCCESS, 0);
}

static NTSTATUS NTAPI OnControl(PDEVICE_OBJECT device, PIRP irp) {
    PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(irp);

    (void)device;
    if (location->Parameters.DeviceIoControl.IoControlCode != IOCTL_ECHO_COUNTERS) {
        return Complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    }
    if (location->Parameters.DeviceIoControl.OutputBufferLength < sizeof(COUNTERS)) {
        return Complete(irp, STATUS_BUFFER_TOO_SMALL, 0);
    }
    *(COUNTERS *)irp->AssociatedIrp.SystemBuffer = g_Counters;
    return Complete(irp, STATUS_SUCCESS, sizeof(COUNTERS));
}

/* ---- Load and unload ------------------------------------------------------------------------------------------------- */

static NTSTATUS StartThread(void) {
    OBJECT_ATTRIBUTES attributes;
    NTSTATUS status;
    HANDLE handle;

    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    status = PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, &attributes, NULL, NULL, Run, NULL);
    if (NT_SUCCESS(status)) {
        status = ObReferenceObjectByHandle(handle, SYNCHRONIZE, NULL, KernelMode, &g_Thread, NULL);
        if (!NT_SUCCESS(status)) {
            KeSetEvent(&g_Stop, IO_NO_INCREMENT, FALSE);
            ZwWaitForSingleObject(handle, FALSE, NULL);
        }
        ZwClose(handle);
    }
    return status;
}

static void NTAPI Unload(PDRIVER_OBJECT driver) {
    (void)driver;
    KeSetEvent(&g_Stop, IO_NO_INCREMENT, FALSE);
    KeWaitForSingleObject(g_Thread, Executive, KernelMode, FALSE, NULL);
    ObDereferenceObject(g_Thread);
    WskReleaseProviderNPI(&g_Registration);
    WskDeregister(&g_Registration);
    IoDeleteSymbolicLink(&g_LinkName);
    IoDeleteDevice(g_Device);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT driver, PUNICODE_STRING registryPath) {
    WSK_CLIENT_NPI client = {.ClientContext = NULL, .Dispatch = &g_ClientDispatch};
    NTSTATUS status;

    (void)registryPath;
    KeInitializeEvent(&g_Stop, NotificationEvent, FALSE);
    driver->MajorFunction[IRP_MJ_CREATE] = OnCreateClose;
    driver->MajorFunction[IRP_MJ_CLOSE] = OnCreateClose;
    driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = OnControl;
    driver->DriverUnload = Unload;
    status = IoCreateDevice(driver, 0, &g_DeviceName, FILE_DEVICE_UNKNOWN, FILE_DEVICE_SECURE_OPEN, FALSE, &g_Device);
    if (!NT_SUCCESS(status)) {
        return status;
    }
    status = IoCreateSymbolicLink(&g_LinkName, &g_DeviceName);
    if (!NT_SUCCESS(status)) {
        goto noLink;
    }
    status = WskRegister(&client, &g_Registration);
    if (!NT_SUCCESS(status)) {
        goto noRegistration;
    }
    status = WskCaptureProviderNPI(&g_Registration, WSK_INFINITE_WAIT, &g_Npi);
    if (!NT_SUCCESS(status)) {
        goto noProvider;
    }
    status = StartThread();
    if (NT_SUCCESS(status)) {
        return STATUS_SUCCESS;
    }
    WskReleaseProviderNPI(&g_Registration);
noProvider:
    WskDeregister(&g_Registration);
noRegistration:
    IoDeleteSymbolicLink(&g_LinkName);
noLink:
    IoDeleteDevice(g_Device);
    return status;
}
