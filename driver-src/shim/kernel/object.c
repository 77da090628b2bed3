/*
 * object.c: reference counts and kernel handles.
 */
#include "internal.h"

#define MAGIC 0x6A624F4Du
#define MAX_HANDLES 1024
#define FIRST_HANDLE 0x1000u

typedef struct HEADER {
    ULONG Magic;
    OBJECT_KIND Kind;
    LONG References;
    LONG Padding;
} HEADER;

typedef struct HANDLE_ENTRY {
    void *Object;
    ACCESS_MASK Access;
    const void *Owner;
} HANDLE_ENTRY;

static pthread_mutex_t g_Lock = PTHREAD_MUTEX_INITIALIZER;
static HANDLE_ENTRY g_Handles[MAX_HANDLES];

_Static_assert(sizeof(HEADER) == 16, "the body keeps malloc's alignment");

void *ObjectCreate(OBJECT_KIND kind, size_t size, const void *owner) {
    HEADER *header = MemoryGetSure(MEMORY_OBJECT, sizeof(*header) + size, owner);

    *header = (HEADER){.Magic = MAGIC, .Kind = kind, .References = 1};
    return header + 1;
}

static HEADER *HeaderOf(const char *function, const void *object) {
    HEADER *header = (HEADER *)(uintptr_t)object - 1;

    if (object == NULL || !MemoryIs(MEMORY_OBJECT, header) || header->Magic != MAGIC) {
        ShimAbort("bad-pointer", "%s of %p, which is no object (any more)", function, object);
    }
    return header;
}

OBJECT_KIND ObjectKind(const char *function, const void *object) {
    return HeaderOf(function, object)->Kind;
}

void ObjectDisown(void *object) {
    MemoryDisown((HEADER *)object - 1);
}

void ObjectHold(void *object) {
    __atomic_add_fetch(&((HEADER *)object - 1)->References, 1, __ATOMIC_RELAXED);
}

static void Destroy(HEADER *header) {
    void *object = header + 1;

    switch (header->Kind) {
    case OBJECT_KIND_DEVICE:
        DeviceDestroyed(object);
        break;
    case OBJECT_KIND_FILE:
        FileDestroyed(object);
        break;
    case OBJECT_KIND_THREAD:
        ThreadDestroyed(object);
        break;
    case OBJECT_KIND_PROCESS:
        break;
    }
    MemoryPut(MEMORY_OBJECT, header, 0, "the object manager");
}

void ObjectDrop(void *object) {
    HEADER *header = (HEADER *)object - 1;
    LONG left = __atomic_sub_fetch(&header->References, 1, __ATOMIC_ACQ_REL);

    if (left == 0) {
        Destroy(header);
    } else if (left < 0) {
        ShimAbort("reference-count", "an object has lost more references than it had");
    }
}

VOID FASTCALL ObfReferenceObject(PVOID Object) {
    ShimRequireIrql("ObReferenceObject", DISPATCH_LEVEL);
    HeaderOf("ObReferenceObject", Object);
    ShimYield("ObReferenceObject");
    ObjectHold(Object);
}

VOID FASTCALL ObfDereferenceObject(PVOID Object) {
    ShimRequireIrql("ObDereferenceObject", DISPATCH_LEVEL);
    HeaderOf("ObDereferenceObject", Object);
    ShimYield("ObDereferenceObject");
    ObjectDrop(Object);
}

static NTSTATUS MakeHandle(void *object, ACCESS_MASK access, const void *owner, PHANDLE handle) {
    NTSTATUS status = STATUS_INSUFFICIENT_RESOURCES;

    pthread_mutex_lock(&g_Lock);
    for (ULONG i = 0; i < MAX_HANDLES && !NT_SUCCESS(status); i++) {
        if (g_Handles[i].Object == NULL) {
            ObjectHold(object);
            g_Handles[i] = (HANDLE_ENTRY){.Object = object, .Access = access, .Owner = owner};
            *handle = (HANDLE)(ULONG_PTR)(FIRST_HANDLE + 4 * i);
            status = STATUS_SUCCESS;
        }
    }
    pthread_mutex_unlock(&g_Lock);
    return status;
}

/* The entry of a handle, its object referenced; aborts (rule bad-handle). */
static HANDLE_ENTRY UseHandle(const char *function, HANDLE handle, BOOLEAN remove) {
    ULONG_PTR index = ((ULONG_PTR)handle - FIRST_HANDLE) / 4;
    HANDLE_ENTRY entry = {.Object = NULL};

    pthread_mutex_lock(&g_Lock);
    if ((ULONG_PTR)handle >= FIRST_HANDLE && index < MAX_HANDLES && ((ULONG_PTR)handle & 3) == 0) {
        entry = g_Handles[index];
    }
    if (entry.Object != NULL) {
        if (remove) {
            g_Handles[index].Object = NULL;
        } else {
            ObjectHold(entry.Object);
        }
    }
    pthread_mutex_unlock(&g_Lock);
    if (entry.Object == NULL) {
        ShimAbort("bad-handle", "%s of the handle %p, which is not open", function, handle);
    }
    return entry;
}

void HandlesRequireNoneOf(const void *low, const void *high, const char *who) {
    ULONG count = 0;

    pthread_mutex_lock(&g_Lock);
    for (ULONG i = 0; i < MAX_HANDLES; i++) {
        count += g_Handles[i].Object != NULL && g_Handles[i].Owner >= low && g_Handles[i].Owner < high;
    }
    pthread_mutex_unlock(&g_Lock);
    if (count > 0) {
        ShimAbort("leak-handle", "%s has gone and left %u kernel handles open", who, count);
    }
}

NTSTATUS NTAPI ObOpenObjectByPointer(PVOID Object, ULONG HandleAttributes, PACCESS_STATE PassedAccessState, ACCESS_MASK DesiredAccess,
                                     POBJECT_TYPE ObjectType, KPROCESSOR_MODE AccessMode, PHANDLE Handle) {
    UNREFERENCED_PARAMETER(PassedAccessState);
    UNREFERENCED_PARAMETER(ObjectType);
    UNREFERENCED_PARAMETER(AccessMode);
    ShimRequireIrql("ObOpenObjectByPointer", PASSIVE_LEVEL);
    HeaderOf("ObOpenObjectByPointer", Object);
    if (!(HandleAttributes & OBJ_KERNEL_HANDLE)) {
        ShimAbort("user-handle", "ObOpenObjectByPointer without OBJ_KERNEL_HANDLE: the handle would be the caller's process'");
    }
    if (InjectShouldFail("ObOpenObjectByPointer")) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    return MakeHandle(Object, DesiredAccess, CALLER(), Handle);
}

NTSTATUS NTAPI ObReferenceObjectByHandle(HANDLE Handle, ACCESS_MASK DesiredAccess, POBJECT_TYPE ObjectType,
                                         KPROCESSOR_MODE AccessMode, PVOID *Object, PVOID HandleInformation) {
    UNREFERENCED_PARAMETER(DesiredAccess);
    UNREFERENCED_PARAMETER(ObjectType);
    UNREFERENCED_PARAMETER(AccessMode);
    UNREFERENCED_PARAMETER(HandleInformation);
    ShimRequireIrql("ObReferenceObjectByHandle", PASSIVE_LEVEL);
    *Object = UseHandle("ObReferenceObjectByHandle", Handle, FALSE).Object;
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI ZwClose(HANDLE Handle) {
    HANDLE_ENTRY entry;

    ShimRequireIrql("ZwClose", PASSIVE_LEVEL);
    entry = UseHandle("ZwClose", Handle, TRUE);
    ShimYield("ZwClose");
    ObjectDrop(entry.Object);
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI ZwWaitForSingleObject(HANDLE Handle, BOOLEAN Alertable, PLARGE_INTEGER Timeout) {
    void *object = UseHandle("ZwWaitForSingleObject", Handle, FALSE).Object;
    NTSTATUS status;

    ShimRequireIrql("ZwWaitForSingleObject", PASSIVE_LEVEL);
    if (ObjectKind("ZwWaitForSingleObject", object) != OBJECT_KIND_THREAD) {
        ShimAbort("bad-handle", "ZwWaitForSingleObject of a handle to something that cannot be waited for");
    }
    status = KeWaitForSingleObject(object, UserRequest, KernelMode, Alertable, Timeout);
    ObjectDrop(object);
    return status;
}

NTSTATUS NTAPI PsCreateSystemThread(PHANDLE ThreadHandle, ULONG DesiredAccess, POBJECT_ATTRIBUTES ObjectAttributes,
                                    HANDLE ProcessHandle, PCLIENT_ID ClientId, PKSTART_ROUTINE StartRoutine, PVOID StartContext) {
    SHIM_THREAD *thread;
    NTSTATUS status;

    ShimRequireIrql("PsCreateSystemThread", PASSIVE_LEVEL);
    if (ProcessHandle != NULL) {
        ShimAbort("thread-process", "PsCreateSystemThread in another process than the system's");
    }
    if (ObjectAttributes == NULL || !(ObjectAttributes->Attributes & OBJ_KERNEL_HANDLE)) {
        ShimAbort("user-handle", "PsCreateSystemThread without OBJ_KERNEL_HANDLE: the handle would be the caller's process'");
    }
    ShimYield("PsCreateSystemThread");
    if (InjectShouldFail("PsCreateSystemThread")) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    status = ThreadCreateSystem(StartRoutine, StartContext, &thread);
    if (!NT_SUCCESS(status)) {
        return status;
    }
    if (ClientId != NULL) {
        ClientId->UniqueProcess = (HANDLE)(ULONG_PTR)SYSTEM_PROCESS_ID;
        ClientId->UniqueThread = PsGetThreadId(thread);
    }
    status = MakeHandle(thread, DesiredAccess, CALLER(), ThreadHandle);
    ObjectDrop(thread);
    ShimYield("PsCreateSystemThread");
    return status;
}


NTSTATUS NTAPI ZwSetSecurityObject(HANDLE Handle, SECURITY_INFORMATION SecurityInformation, PSECURITY_DESCRIPTOR SecurityDescriptor) {
    HANDLE_ENTRY entry = UseHandle("ZwSetSecurityObject", Handle, FALSE);
    NTSTATUS status = STATUS_SUCCESS;

    ShimRequireIrql("ZwSetSecurityObject", PASSIVE_LEVEL);
    if (ObjectKind("ZwSetSecurityObject", entry.Object) != OBJECT_KIND_DEVICE || SecurityInformation != DACL_SECURITY_INFORMATION) {
        status = STATUS_NOT_SUPPORTED;
    } else if (!(entry.Access & WRITE_DAC)) {
        status = STATUS_ACCESS_DENIED;
    } else if (InjectShouldFail("ZwSetSecurityObject")) {
        status = STATUS_INSUFFICIENT_RESOURCES;
    } else {
        DeviceSetDacl(entry.Object, SecurityDescriptor);
    }
    ObjectDrop(entry.Object);
    return status;
}
