/*
 * device.c: devices, their names and access lists; symbolic links.
 */
#include "internal.h"

#include <stdlib.h>

#define NAME_BYTES 160
#define MAX_LINKS 64
#define MAX_SIDS 8

/* Behind DEVICE_OBJECT.DeviceObjectExtension. */
typedef struct _DEVOBJ_EXTENSION {
    char Name[NAME_BYTES];
    BOOLEAN Deleted;
    BOOLEAN HasDacl;
    ULONG SidCount;
    UCHAR Sids[MAX_SIDS][32];
    struct _DEVOBJ_EXTENSION *NextNamed;
    PDEVICE_OBJECT Device;
} DEVICE_NAME;

typedef struct LINK {
    char Name[NAME_BYTES];
    char Target[NAME_BYTES];
    const void *Owner;
} LINK;

/* The parts of a security descriptor and of an access list that are looked at. */
typedef struct DESCRIPTOR {
    UCHAR Revision;
    UCHAR Sbz1;
    USHORT Control;
    PVOID Owner;
    PVOID Group;
    PACL Sacl;
    PACL Dacl;
} DESCRIPTOR;
#define SE_DACL_PRESENT 0x0004u

typedef struct ACE {
    UCHAR Type;
    UCHAR Flags;
    USHORT Size;
    ACCESS_MASK Mask;
    UCHAR Sid[];
} ACE;

static pthread_mutex_t g_Lock = PTHREAD_MUTEX_INITIALIZER;
static DEVICE_NAME *g_Named;
static LINK g_Links[MAX_LINKS];
static BOOLEAN g_IgnoreLists;

static void Narrow(char *out, PCUNICODE_STRING name) {
    ULONG i;

    for (i = 0; i < name->Length / sizeof(WCHAR) && i + 1 < NAME_BYTES; i++) {
        out[i] = name->Buffer[i] < 128 ? (char)name->Buffer[i] : '?';
    }
    out[i] = '\0';
}

static DEVICE_NAME *FindNamed(const char *name) {
    DEVICE_NAME *found = g_Named;

    while (found != NULL && strcasecmp(found->Name, name) != 0) {
        found = found->NextNamed;
    }
    return found;
}

NTSTATUS NTAPI IoCreateDevice(PDRIVER_OBJECT DriverObject, ULONG DeviceExtensionSize, PUNICODE_STRING DeviceName,
                              DEVICE_TYPE DeviceType, ULONG DeviceCharacteristics, BOOLEAN Exclusive, PDEVICE_OBJECT *DeviceObject) {
    PDEVICE_OBJECT device;
    DEVICE_NAME *name;
    BOOLEAN taken;

    ShimRequireIrql("IoCreateDevice", APC_LEVEL);
    if (InjectShouldFail("IoCreateDevice")) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    device = ObjectCreate(OBJECT_KIND_DEVICE, sizeof(*device) + sizeof(*name) + DeviceExtensionSize, CALLER());
    name = (DEVICE_NAME *)(device + 1);
    *device = (DEVICE_OBJECT){.Type = IO_TYPE_DEVICE,
                              .Size = (USHORT)(sizeof(*device) + DeviceExtensionSize),
                              .DriverObject = DriverObject,
                              .Flags = DO_DEVICE_INITIALIZING | (Exclusive ? DO_EXCLUSIVE : 0),
                              .Characteristics = DeviceCharacteristics,
                              .DeviceExtension = DeviceExtensionSize > 0 ? name + 1 : NULL,
                              .DeviceType = DeviceType,
                              .StackSize = 1,
                              .DeviceObjectExtension = name};
    name->Device = device;
    pthread_mutex_lock(&g_Lock);
    if (DeviceName != NULL) {
        Narrow(name->Name, DeviceName);
    }
    taken = DeviceName != NULL && FindNamed(name->Name) != NULL;
    if (!taken) {
        name->NextNamed = g_Named;
        g_Named = name;
        device->NextDevice = DriverObject->DeviceObject;
        DriverObject->DeviceObject = device;
    }
    pthread_mutex_unlock(&g_Lock);
    if (taken) {
        name->Deleted = TRUE;
        ObjectDrop(device);
        return STATUS_OBJECT_NAME_COLLISION;
    }
    *DeviceObject = device;
    return STATUS_SUCCESS;
}

VOID NTAPI IoDeleteDevice(PDEVICE_OBJECT DeviceObject) {
    PDEVICE_OBJECT *link;
    DEVICE_NAME **named;

    ShimRequireIrql("IoDeleteDevice", APC_LEVEL);
    if (ObjectKind("IoDeleteDevice", DeviceObject) != OBJECT_KIND_DEVICE || DeviceObject->DeviceObjectExtension->Deleted) {
        ShimAbort("bad-pointer", "IoDeleteDevice of something that is no device (any more)");
    }
    pthread_mutex_lock(&g_Lock);
    for (link = &DeviceObject->DriverObject->DeviceObject; *link != NULL && *link != DeviceObject; link = &(*link)->NextDevice) {
    }
    if (*link != NULL) {
        *link = DeviceObject->NextDevice;
    }
    for (named = &g_Named; *named != NULL && *named != DeviceObject->DeviceObjectExtension; named = &(*named)->NextNamed) {
    }
    if (*named != NULL) {
        *named = (*named)->NextNamed;
    }
    DeviceObject->DeviceObjectExtension->Deleted = TRUE;
    pthread_mutex_unlock(&g_Lock);
    ShimYield("IoDeleteDevice");
    ObjectDrop(DeviceObject);
}

void DeviceDestroyed(PDEVICE_OBJECT device) {
    if (!device->DeviceObjectExtension->Deleted) {
        ShimAbort("reference-count", "a device has lost its last reference and was not deleted");
    }
}

static LINK *FindLink(const char *name) {
    for (ULONG i = 0; i < MAX_LINKS; i++) {
        if (g_Links[i].Name[0] != '\0' && strcasecmp(g_Links[i].Name, name) == 0) {
            return &g_Links[i];
        }
    }
    return NULL;
}

NTSTATUS NTAPI IoCreateSymbolicLink(PUNICODE_STRING SymbolicLinkName, PUNICODE_STRING DeviceName) {
    char name[NAME_BYTES];
    NTSTATUS status = STATUS_INSUFFICIENT_RESOURCES;

    ShimRequireIrql("IoCreateSymbolicLink", PASSIVE_LEVEL);
    if (InjectShouldFail("IoCreateSymbolicLink")) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Narrow(name, SymbolicLinkName);
    pthread_mutex_lock(&g_Lock);
    if (FindLink(name) != NULL) {
        status = STATUS_OBJECT_NAME_COLLISION;
    }
    for (ULONG i = 0; i < MAX_LINKS && status == STATUS_INSUFFICIENT_RESOURCES; i++) {
        if (g_Links[i].Name[0] == '\0') {
            memcpy(g_Links[i].Name, name, sizeof(name));
            Narrow(g_Links[i].Target, DeviceName);
            g_Links[i].Owner = CALLER();
            status = STATUS_SUCCESS;
        }
    }
    pthread_mutex_unlock(&g_Lock);
    return status;
}

NTSTATUS NTAPI IoDeleteSymbolicLink(PUNICODE_STRING SymbolicLinkName) {
    char name[NAME_BYTES];
    LINK *link;

    ShimRequireIrql("IoDeleteSymbolicLink", PASSIVE_LEVEL);
    Narrow(name, SymbolicLinkName);
    pthread_mutex_lock(&g_Lock);
    link = FindLink(name);
    if (link != NULL) {
        link->Name[0] = '\0';
    }
    pthread_mutex_unlock(&g_Lock);
    return link != NULL ? STATUS_SUCCESS : STATUS_OBJECT_NAME_NOT_FOUND;
}

PDEVICE_OBJECT DeviceByPath(const char *path) {
    static const char *const roots[] = {"\\DosDevices\\", "\\??\\", "\\GLOBAL??\\"};
    char name[NAME_BYTES + 16];
    const LINK *link = NULL;
    const DEVICE_NAME *device;
    PDEVICE_OBJECT found = NULL;

    pthread_mutex_lock(&g_Lock);
    for (ULONG i = 0; strncmp(path, "\\\\.\\", 4) == 0 && i < RTL_NUMBER_OF(roots) && link == NULL; i++) {
        snprintf(name, sizeof(name), "%s%s", roots[i], path + 4);
        link = FindLink(name);
    }
    device = FindNamed(link != NULL ? link->Target : path);
    if (device != NULL) {
        found = device->Device;
        ObjectHold(found);
    }
    pthread_mutex_unlock(&g_Lock);
    return found;
}

void DevicesRequireNoneOf(PDRIVER_OBJECT driver, const char *who) {
    const void *low = driver->DriverStart;
    const void *high = (const char *)driver->DriverStart + driver->DriverSize;

    if (driver->DeviceObject != NULL) {
        ShimAbort("leak-device", "%s has gone and left the device %s behind", who, driver->DeviceObject->DeviceObjectExtension->Name);
    }
    for (ULONG i = 0; i < MAX_LINKS; i++) {
        if (g_Links[i].Name[0] != '\0' && g_Links[i].Owner >= low && g_Links[i].Owner < high) {
            ShimAbort("leak-link", "%s has gone and left the symbolic link %s behind", who, g_Links[i].Name);
        }
    }
}

static size_t SidSize(const UCHAR *sid) {
    return 8 + 4 * (size_t)sid[1];
}

void DeviceSetDacl(PDEVICE_OBJECT device, PSECURITY_DESCRIPTOR security) {
    const DESCRIPTOR *descriptor = security;
    DEVICE_NAME *name = device->DeviceObjectExtension;
    const UCHAR *at;

    name->SidCount = 0;
    name->HasDacl = (descriptor->Control & SE_DACL_PRESENT) && descriptor->Dacl != NULL;
    if (!name->HasDacl) {
        return;
    }
    at = (const UCHAR *)(descriptor->Dacl + 1);
    for (USHORT i = 0; i < descriptor->Dacl->AceCount && name->SidCount < MAX_SIDS; i++) {
        const ACE *ace = (const ACE *)at;
        if (ace->Type == 0 && SidSize(ace->Sid) <= sizeof(name->Sids[0])) {
            memcpy(name->Sids[name->SidCount++], ace->Sid, SidSize(ace->Sid));
        }
        at += ace->Size;
    }
}

void ShimIgnoreAccessLists(BOOLEAN ignore) {
    g_IgnoreLists = ignore;
}

BOOLEAN DeviceAdmits(PDEVICE_OBJECT device, const struct _EPROCESS *process) {
    static const UCHAR system[] = {1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0};
    static const UCHAR administrators[] = {1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0};
    static const UCHAR everyone[] = {1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0};
    const DEVICE_NAME *name = device->DeviceObjectExtension;

    if (!name->HasDacl || g_IgnoreLists) {
        return TRUE;
    }
    for (ULONG i = 0; i < name->SidCount; i++) {
        const UCHAR *sid = name->Sids[i];
        if (memcmp(sid, everyone, sizeof(everyone)) == 0 ||
            (process->Administrator && memcmp(sid, administrators, sizeof(administrators)) == 0) ||
            (process->Id == SYSTEM_PROCESS_ID && memcmp(sid, system, sizeof(system)) == 0)) {
            return TRUE;
        }
    }
    return FALSE;
}

/* ---- Access lists are made here, too ------------------------------------------------------------------------------------ */

NTSTATUS NTAPI RtlCreateAcl(PACL Acl, ULONG AclLength, ULONG AclRevision) {
    if (AclLength < sizeof(*Acl) || AclLength > 0xFFFC || AclRevision != ACL_REVISION) {
        return STATUS_INVALID_PARAMETER;
    }
    if (InjectShouldFail("RtlCreateAcl")) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    *Acl = (ACL){.AclRevision = (UCHAR)AclRevision, .AclSize = (USHORT)(AclLength & ~3u)};
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI RtlAddAccessAllowedAce(PACL Acl, ULONG AceRevision, ACCESS_MASK AccessMask, PVOID Sid) {
    UCHAR *at = (UCHAR *)(Acl + 1);
    size_t size = offsetof(ACE, Sid) + SidSize(Sid);
    ACE *ace;

    if (AceRevision != ACL_REVISION || InjectShouldFail("RtlAddAccessAllowedAce")) {
        return STATUS_REVISION_MISMATCH;
    }
    for (USHORT i = 0; i < Acl->AceCount; i++) {
        at += ((ACE *)at)->Size;
    }
    if (at + size > (UCHAR *)Acl + Acl->AclSize) {
        return STATUS_ALLOTTED_SPACE_EXCEEDED;
    }
    ace = (ACE *)at;
    *ace = (ACE){.Type = 0, .Size = (USHORT)size, .Mask = AccessMask};
    memcpy(ace->Sid, Sid, SidSize(Sid));
    Acl->AceCount++;
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI RtlCreateSecurityDescriptor(PSECURITY_DESCRIPTOR SecurityDescriptor, ULONG Revision) {
    if (Revision != SECURITY_DESCRIPTOR_REVISION || InjectShouldFail("RtlCreateSecurityDescriptor")) {
        return STATUS_REVISION_MISMATCH;
    }
    *(DESCRIPTOR *)SecurityDescriptor = (DESCRIPTOR){.Revision = (UCHAR)Revision};
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI RtlSetDaclSecurityDescriptor(PSECURITY_DESCRIPTOR SecurityDescriptor, BOOLEAN DaclPresent, PACL Dacl,
                                            BOOLEAN DaclDefaulted) {
    DESCRIPTOR *descriptor = SecurityDescriptor;

    UNREFERENCED_PARAMETER(DaclDefaulted);
    if (descriptor->Revision != SECURITY_DESCRIPTOR_REVISION || InjectShouldFail("RtlSetDaclSecurityDescriptor")) {
        return STATUS_INVALID_SECURITY_DESCR;
    }
    descriptor->Control = (USHORT)(DaclPresent ? SE_DACL_PRESENT : 0);
    descriptor->Dacl = DaclPresent ? Dacl : NULL;
    return STATUS_SUCCESS;
}

ULONG NTAPI RtlLengthSecurityDescriptor(PSECURITY_DESCRIPTOR SecurityDescriptor) {
    const DESCRIPTOR *descriptor = SecurityDescriptor;
    return (ULONG)(sizeof(*descriptor) + (descriptor->Dacl != NULL ? descriptor->Dacl->AclSize : 0));
}

BOOLEAN NTAPI RtlValidSecurityDescriptor(PSECURITY_DESCRIPTOR SecurityDescriptor) {
    return ((const DESCRIPTOR *)SecurityDescriptor)->Revision == SECURITY_DESCRIPTOR_REVISION;
}
