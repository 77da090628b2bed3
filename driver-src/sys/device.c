/*
 * device.c: the control device.
 *
 * Who may open it is checked twice: by an access list on the device, set before its name exists (mingw-w64 has no
 * library for IoCreateDeviceSecure), and by a look at the token in IRP_MJ_CREATE. On Wine both fail softly and HELLO
 * says so; on Windows a device without its list is not offered at all.
 */
#include "device.h"

#include "client.h"

#define DEVICE_NAME L"\\Device\\wsklab"
#define LINK_NAME L"\\DosDevices\\wsklab"

static PDEVICE_OBJECT g_Device;
static BOOLEAN g_LinkExists;
static NTSTATUS g_DaclStatus;
static volatile LONG g_Inside;

/* S-1-5-18 and S-1-5-32-544, spelled out: SeExports is a data import and a stub on Wine. */
typedef struct FIXED_SID {
    UCHAR Revision;
    UCHAR SubAuthorityCount;
    UCHAR IdentifierAuthority[6];
    ULONG SubAuthority[2];
} FIXED_SID;

static const FIXED_SID g_SystemSid = {1, 1, {0, 0, 0, 0, 0, 5}, {18, 0}};
static const FIXED_SID g_AdministratorsSid = {1, 2, {0, 0, 0, 0, 0, 5}, {32, 544}};

static NTSTATUS BuildDacl(PACL Acl, ULONG Size) {
    NTSTATUS status = RtlCreateAcl(Acl, Size, ACL_REVISION);
    if (NT_SUCCESS(status)) {
        status = RtlAddAccessAllowedAce(Acl, ACL_REVISION, FILE_ALL_ACCESS, (PVOID)(ULONG_PTR)&g_SystemSid);
    }
    if (NT_SUCCESS(status)) {
        status = RtlAddAccessAllowedAce(Acl, ACL_REVISION, FILE_ALL_ACCESS, (PVOID)(ULONG_PTR)&g_AdministratorsSid);
    }
    return status;
}

static NTSTATUS SetDacl(PDEVICE_OBJECT Device) {
    ULONG aclBuffer[32];
    PACL acl = (PACL)aclBuffer;
    ULONG64 descriptor[8]; /* room for a SECURITY_DESCRIPTOR (40 bytes), which only ntifs.h names */
    HANDLE handle;
    NTSTATUS status = BuildDacl(acl, sizeof(aclBuffer));

    if (NT_SUCCESS(status)) {
        status = RtlCreateSecurityDescriptor(descriptor, SECURITY_DESCRIPTOR_REVISION);
    }
    if (NT_SUCCESS(status)) {
        status = RtlSetDaclSecurityDescriptor(descriptor, TRUE, acl, FALSE);
    }
    if (NT_SUCCESS(status)) {
        status = ObOpenObjectByPointer(Device, OBJ_KERNEL_HANDLE, NULL, WRITE_DAC, NULL, KernelMode, &handle);
    }
    if (NT_SUCCESS(status)) {
        status = ZwSetSecurityObject(handle, DACL_SECURITY_INFORMATION, descriptor);
        ZwClose(handle);
    }
    return status;
}

_Use_decl_annotations_ NTSTATUS DeviceCreate(PDRIVER_OBJECT Driver) {
    UNICODE_STRING name;
    UNICODE_STRING link;
    NTSTATUS status;

    RtlInitUnicodeString(&name, DEVICE_NAME);
    RtlInitUnicodeString(&link, LINK_NAME);
    status = IoCreateDevice(Driver, 0, &name, FILE_DEVICE_UNKNOWN, FILE_DEVICE_SECURE_OPEN, FALSE, &g_Device);
    if (!NT_SUCCESS(status)) {
        return status;
    }
    g_Device->StackSize = 2; /* a request that is sent on to WSK needs a location for it (forward.c) */
    g_DaclStatus = SetDacl(g_Device);
    if (!NT_SUCCESS(g_DaclStatus)) {
        LogLine("the device's access list could not be set: %08x\n", (ULONG)g_DaclStatus);
        if (!PlatformFacts()->Wine) {
            status = g_DaclStatus;
            goto deleteDevice;
        }
    }
    status = IoCreateSymbolicLink(&link, &name);
    if (!NT_SUCCESS(status)) {
        goto deleteDevice;
    }
    g_LinkExists = TRUE;
    return STATUS_SUCCESS;

deleteDevice:
    IoDeleteDevice(g_Device);
    g_Device = NULL;
    return status;
}

_Use_decl_annotations_ VOID DeviceHide(VOID) {
    UNICODE_STRING link;
    if (g_LinkExists) {
        RtlInitUnicodeString(&link, LINK_NAME);
        IoDeleteSymbolicLink(&link);
        g_LinkExists = FALSE;
    }
    ClientsRefuse();
}

_Use_decl_annotations_ VOID DeviceDelete(VOID) {
    LARGE_INTEGER tick = {.QuadPart = -100000ll}; /* 10 ms */

    IoDeleteDevice(g_Device);
    g_Device = NULL;
    /* On Windows nobody can be inside: no handle is open. On Wine the dispatch thread may just be leaving. */
    do {
        KeDelayExecutionThread(KernelMode, FALSE, &tick);
    } while (g_Inside != 0);
}

_Use_decl_annotations_ PDEVICE_OBJECT DeviceObject(VOID) {
    return g_Device;
}

_Use_decl_annotations_ ULONG DeviceFlags(NTSTATUS *DaclStatus) {
    *DaclStatus = g_DaclStatus;
    return (NT_SUCCESS(g_DaclStatus) ? WSKLAB_HELLO_DACL_SET : 0) | (PlatformFacts()->Wine ? 0 : WSKLAB_HELLO_ADMIN_CHECKED);
}

_Use_decl_annotations_ VOID DeviceEnter(VOID) {
    InterlockedIncrement(&g_Inside);
}

_Use_decl_annotations_ VOID DeviceLeave(VOID) {
    InterlockedDecrement(&g_Inside);
}

static BOOLEAN CallerIsAdministrator(VOID) {
    SECURITY_SUBJECT_CONTEXT subject;
    PACCESS_TOKEN token;
    BOOLEAN isAdministrator;

    if (PlatformFacts()->Wine) {
        return TRUE; /* the three calls are stubs there that raise; HELLO tells that nobody looked */
    }
    SeCaptureSubjectContext(&subject);
    token = subject.ClientToken != NULL ? subject.ClientToken : subject.PrimaryToken;
    isAdministrator = SeTokenIsAdmin(token);
    SeReleaseSubjectContext(&subject);
    return isAdministrator;
}

static NTSTATUS Finish(PIRP Irp, NTSTATUS Status) {
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    DeviceLeave();
    return Status;
}

NTSTATUS NTAPI DeviceDispatchCreate(PDEVICE_OBJECT Device, PIRP Irp) {
    PFILE_OBJECT file = IoGetCurrentIrpStackLocation(Irp)->FileObject;
    NTSTATUS status;

    UNREFERENCED_PARAMETER(Device);
    DeviceEnter();
    if (file == NULL) {
        return Finish(Irp, STATUS_INVALID_PARAMETER);
    }
    file->FsContext = NULL;
    status = CallerIsAdministrator() ? ClientCreate(file) : STATUS_ACCESS_DENIED;
    return Finish(Irp, status);
}

NTSTATUS NTAPI DeviceDispatchCleanup(PDEVICE_OBJECT Device, PIRP Irp) {
    CLIENT *client;

    UNREFERENCED_PARAMETER(Device);
    DeviceEnter();
    client = ClientFromFile(IoGetCurrentIrpStackLocation(Irp)->FileObject);
    if (client != NULL) {
        ClientHandleClosed(client);
        ClientDereference(client);
    }
    return Finish(Irp, STATUS_SUCCESS);
}

NTSTATUS NTAPI DeviceDispatchClose(PDEVICE_OBJECT Device, PIRP Irp) {
    PFILE_OBJECT file = IoGetCurrentIrpStackLocation(Irp)->FileObject;

    UNREFERENCED_PARAMETER(Device);
    DeviceEnter();
    if (file != NULL) {
        ClientDetachFile(file);
    }
    return Finish(Irp, STATUS_SUCCESS);
}
