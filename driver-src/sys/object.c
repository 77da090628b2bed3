/*
 * object.c: a client's objects.
 */
#include "object.h"

#include "client.h"
#include "nmr.h"
#include "socket.h"

_Requires_lock_held_(Client->Lock) static OBJECT *Find(CLIENT *Client, ULONG Number) {
    for (ULONG i = 0; i < WSKLAB_MAX_OBJECTS; i++) {
        OBJECT *object = &Client->Objects.Objects[i];
        if (object->State != OBJECT_FREE && object->Number == Number) {
            return object;
        }
    }
    return NULL;
}

_Requires_lock_held_(Client->Lock) static VOID Free(CLIENT *Client, OBJECT *Object) {
    RtlZeroMemory(Object, sizeof(*Object));
    Client->Objects.Count--;
}

_Use_decl_annotations_ NTSTATUS ObjectReserve(CLIENT *Client, ULONG Number, ULONG Kind, const SOCKET *Owner,
                                              OBJECT **Out) {
    NTSTATUS status = STATUS_QUOTA_EXCEEDED;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    if (Find(Client, Number) != NULL) {
        status = STATUS_OBJECT_NAME_COLLISION;
    } else if (Owner != NULL && (Owner->State != WSKLAB_SOCKET_OPEN || Client->State != CLIENT_OPEN)) {
        status = STATUS_FILE_CLOSED; /* its close does not wait for what is kept from now on */
    } else if (Client->Objects.Count < WSKLAB_MAX_OBJECTS) {
        OBJECT *object = Client->Objects.Objects;
        while (object->State != OBJECT_FREE) {
            object++;
        }
        object->State = OBJECT_RESERVED;
        object->Number = Number;
        object->Kind = Kind;
        object->Socket = Owner != NULL ? Owner->Number : 0;
        Client->Objects.Count++;
        *Out = object;
        status = STATUS_SUCCESS;
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return status;
}

_Use_decl_annotations_ VOID ObjectPublish(CLIENT *Client, OBJECT *Object, PVOID Pointer, ULONG Count, ULONG64 Length) {
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    Object->State = OBJECT_HELD;
    Object->Pointer = Pointer;
    Object->Count = Count;
    Object->Length = Length;
    KeReleaseSpinLock(&Client->Lock, irql);
    LedgerAdd(&Client->Ledger, LEDGER_COUNT(objects_made), 1);
}

_Use_decl_annotations_ VOID ObjectDrop(CLIENT *Client, OBJECT *Object) {
    KIRQL irql;
    KeAcquireSpinLock(&Client->Lock, &irql);
    Free(Client, Object);
    KeReleaseSpinLock(&Client->Lock, irql);
    NmrMayHaveEnded(Client);
}

/* A held object of that kind, or why not. */
_Requires_lock_held_(Client->Lock) static NTSTATUS Held(CLIENT *Client, ULONG Number, ULONG Kind, OBJECT **Out) {
    OBJECT *object = Find(Client, Number);

    if (object == NULL) {
        return STATUS_NOT_FOUND;
    }
    if (object->Kind != Kind) {
        return STATUS_OBJECT_TYPE_MISMATCH;
    }
    if (object->State != OBJECT_HELD) {
        return STATUS_DEVICE_BUSY;
    }
    *Out = object;
    return STATUS_SUCCESS;
}

_Use_decl_annotations_ NTSTATUS ObjectBeginUse(CLIENT *Client, ULONG Number, ULONG Kind, OBJECT **Out) {
    NTSTATUS status;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    status = Held(Client, Number, Kind, Out);
    if (NT_SUCCESS(status)) {
        (*Out)->Users++;
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return status;
}

_Use_decl_annotations_ VOID ObjectEndUse(CLIENT *Client, OBJECT *Object) {
    KIRQL irql;
    KeAcquireSpinLock(&Client->Lock, &irql);
    Object->Users--;
    KeReleaseSpinLock(&Client->Lock, irql);
}

_Use_decl_annotations_ NTSTATUS ObjectBeginRelease(CLIENT *Client, ULONG Number, ULONG Kind, OBJECT **Out) {
    NTSTATUS status;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    status = Held(Client, Number, Kind, Out);
    if (NT_SUCCESS(status) && (*Out)->Users != 0) {
        status = STATUS_DEVICE_BUSY;
    }
    if (NT_SUCCESS(status)) {
        (*Out)->State = OBJECT_RELEASING;
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return status;
}

_Use_decl_annotations_ VOID ObjectEndRelease(CLIENT *Client, OBJECT *Object, BOOLEAN Gone) {
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    if (Gone) {
        Free(Client, Object);
    } else {
        Object->State = OBJECT_HELD;
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    if (Gone) {
        LedgerAdd(&Client->Ledger, LEDGER_COUNT(objects_released), 1);
        NmrMayHaveEnded(Client);
    }
}

_Use_decl_annotations_ BOOLEAN ObjectFirst(CLIENT *Client, ULONG Kind, OBJECT *Out) {
    BOOLEAN found = FALSE;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    for (ULONG i = 0; i < WSKLAB_MAX_OBJECTS && !found; i++) {
        const OBJECT *object = &Client->Objects.Objects[i];
        if (object->State == OBJECT_HELD && object->Kind == Kind && object->Users == 0) {
            *Out = *object;
            found = TRUE;
        }
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return found;
}

_Use_decl_annotations_ BOOLEAN ObjectKeptBy(const CLIENT *Client, ULONG Socket) {
    for (ULONG i = 0; i < WSKLAB_MAX_OBJECTS; i++) {
        const OBJECT *object = &Client->Objects.Objects[i];
        if (object->State != OBJECT_FREE && object->Socket == Socket) {
            return TRUE;
        }
    }
    return FALSE;
}

_Use_decl_annotations_ BOOLEAN ObjectExists(const CLIENT *Client, ULONG Kind) {
    for (ULONG i = 0; i < WSKLAB_MAX_OBJECTS; i++) {
        const OBJECT *object = &Client->Objects.Objects[i];
        if (object->Kind == Kind && object->State != OBJECT_FREE) {
            return TRUE;
        }
    }
    return FALSE;
}

_Use_decl_annotations_ BOOLEAN ObjectHolds(const CLIENT *Client, ULONG Kind) {
    for (ULONG i = 0; i < WSKLAB_MAX_OBJECTS; i++) {
        const OBJECT *object = &Client->Objects.Objects[i];
        if (object->Kind == Kind && (object->State == OBJECT_HELD || object->State == OBJECT_RELEASING)) {
            return TRUE;
        }
    }
    return FALSE;
}

_Use_decl_annotations_ ULONG ObjectList(CLIENT *Client, WSKLAB_OBJECT_ENTRY *Out, ULONG Room, ULONG *Total) {
    ULONG count = 0;
    KIRQL irql;

    *Total = 0;
    KeAcquireSpinLock(&Client->Lock, &irql);
    for (ULONG i = 0; i < WSKLAB_MAX_OBJECTS; i++) {
        const OBJECT *object = &Client->Objects.Objects[i];
        if (object->State != OBJECT_HELD && object->State != OBJECT_RELEASING) {
            continue;
        }
        ++*Total;
        if (count < Room) {
            Out[count] = (WSKLAB_OBJECT_ENTRY){.number = object->Number,
                                               .kind = object->Kind,
                                               .socket = object->Socket,
                                               .count = object->Count,
                                               .length = object->Length};
            count++;
        }
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return count;
}
