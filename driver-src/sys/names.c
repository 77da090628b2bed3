/*
 * names.c: names and addresses.
 */
#include "names.h"

#include "completion.h"
#include "device.h"
#include "hold.h"
#include "routines.h"

/* Entries that the record tells; the list may be longer, and `count` says so. */
#define ENTRIES (WSKLAB_MAX_EXTRA / sizeof(WSKLAB_ADDRESS_INFO))
/* A list that does not end is not walked for ever. */
#define ENTRIES_WALKED 4096u
/* Behind a name without its zero: a reader that does not honour Length finds another name, and an end. */
#define FILLER_CHARACTERS 8u
#define FILLER L'x'
/* Between the two output buffers. */
#define GAP_BYTES 16u

static BOOLEAN IsUsed(const WSKLAB_SUBMIT *Submit, ULONG Use) {
    return (Submit->argument_use & Use) != 0;
}

/* UTF-16 has two bytes a unit; a name that is not used has none. */
static BOOLEAN LengthsAreValid(const WSKLAB_SUBMIT *Submit) {
    return Submit->node_length <= WSKLAB_MAX_EXTRA && Submit->service_length <= WSKLAB_MAX_EXTRA &&
           Submit->node_length + Submit->service_length <= WSKLAB_MAX_EXTRA && Submit->node_length % sizeof(WCHAR) == 0 &&
           Submit->service_length % sizeof(WCHAR) == 0 && (Submit->node_length == 0 || IsUsed(Submit, WSKLAB_USE_NODE)) &&
           (Submit->service_length == 0 || IsUsed(Submit, WSKLAB_USE_SERVICE));
}

BOOLEAN NamesAreValid(const WSKLAB_SUBMIT *Submit) {
    ULONG names = WSKLAB_USE_NODE | WSKLAB_USE_SERVICE;

    if (Submit->output_size != 0 || !LengthsAreValid(Submit)) {
        return FALSE;
    }
    if (Submit->function == WSKLAB_FN_GET_NAME_INFO) {
        return (Submit->argument_use & ~names) == 0 && Submit->extra_length == 0 && Submit->hint_flags == 0 &&
               Submit->name_space == 0;
    }
    return (Submit->argument_use & ~(names | WSKLAB_USE_HINTS)) == 0 &&
           Submit->extra_length == Submit->node_length + Submit->service_length &&
           (Submit->hint_flags == 0 || IsUsed(Submit, WSKLAB_USE_HINTS));
}

/* Copies a name and what follows it; where the next one goes. */
static PUCHAR PutName(PUCHAR At, PUNICODE_STRING String, const UCHAR *Bytes, ULONG Length, BOOLEAN Terminated) {
    PWCHAR end = (PWCHAR)(At + Length);

    if (Length != 0) {
        RtlCopyMemory(At, Bytes, Length);
    }
    String->Buffer = (PWSTR)At;
    String->Length = (USHORT)Length;
    String->MaximumLength = (USHORT)(Terminated ? Length + sizeof(WCHAR) : Length);
    for (ULONG i = 0; !Terminated && i < FILLER_CHARACTERS; i++) {
        *end++ = FILLER;
    }
    *end++ = 0;
    return (PUCHAR)end;
}

static NTSTATUS PrepareAddressInfo(OPERATION *Operation, const UCHAR *Extra) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    LEDGER *ledger = &Operation->Client->Ledger;
    BOOLEAN terminated = !(submit->switches & WSKLAB_SWITCH_UNTERMINATED);
    ULONG room = submit->extra_length + 2 * (FILLER_CHARACTERS + 1) * (ULONG)sizeof(WCHAR);
    NTSTATUS status = ArgumentSetInput(&Operation->Input, ledger, NULL, 0, room);
    PUCHAR at;

    if (!NT_SUCCESS(status)) {
        return status;
    }
    at = PutName(Operation->Input.Bytes, &Operation->Names.Node, Extra, submit->node_length, terminated);
    PutName(at, &Operation->Names.Service, submit->node_length != 0 ? Extra + submit->node_length : Extra, submit->service_length,
            terminated);
    ArgumentSeal(&Operation->Input);
    Operation->Names.Hints = (ADDRINFOEXW){.ai_flags = (INT)submit->hint_flags,
                                           .ai_family = submit->family,
                                           .ai_socktype = submit->type,
                                           .ai_protocol = (INT)submit->protocol};
    if (Operation->WorkItem == NULL && !FaultsDeny(&ledger->Faults, WSKLAB_FAULT_WORK_ITEM)) {
        Operation->WorkItem = IoAllocateWorkItem(DeviceObject());
    }
    if (Operation->WorkItem == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    return ArgumentSetOutput(&Operation->Output, ledger, (ULONG)(ENTRIES * sizeof(WSKLAB_ADDRESS_INFO)));
}

static NTSTATUS PrepareNameInfo(OPERATION *Operation) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    NTSTATUS status = ArgumentSetOutput(&Operation->Output, &Operation->Client->Ledger,
                                        submit->node_length + GAP_BYTES + submit->service_length);

    if (NT_SUCCESS(status)) {
        Operation->Names.Node.Buffer = (PWSTR)Operation->Output.Bytes;
        Operation->Names.Node.MaximumLength = (USHORT)submit->node_length;
        Operation->Names.Service.Buffer = (PWSTR)(Operation->Output.Bytes + submit->node_length + GAP_BYTES);
        Operation->Names.Service.MaximumLength = (USHORT)submit->service_length;
    }
    return status;
}

_Use_decl_annotations_ NTSTATUS NamesPrepare(OPERATION *Operation, const UCHAR *Extra) {
    switch (Operation->Submit.function) {
    case WSKLAB_FN_GET_ADDRESS_INFO:
        return PrepareAddressInfo(Operation, Extra);
    case WSKLAB_FN_GET_NAME_INFO:
        return PrepareNameInfo(Operation);
    default:
        return STATUS_SUCCESS;
    }
}

_Use_decl_annotations_ NTSTATUS NamesBegin(const OPERATION *Operation) {
    const WSK_PROVIDER_DISPATCH *dispatch = Operation->Npi.Dispatch;
    BOOLEAN has = TRUE;

    switch (Operation->Submit.function) {
    case WSKLAB_FN_GET_ADDRESS_INFO:
        has = dispatch->WskGetAddressInfo != NULL;
        break;
    case WSKLAB_FN_FREE_ADDRESS_INFO:
        has = dispatch->WskFreeAddressInfo != NULL;
        break;
    case WSKLAB_FN_GET_NAME_INFO:
        has = dispatch->WskGetNameInfo != NULL;
        break;
    default:
        break;
    }
    return has ? STATUS_SUCCESS : STATUS_INVALID_DEVICE_REQUEST;
}

static PUNICODE_STRING NameArgument(OPERATION *Operation, ULONG Use, PUNICODE_STRING String) {
    return IsUsed(&Operation->Submit, Use) ? String : NULL;
}

_Use_decl_annotations_ NTSTATUS NamesGetAddressInfo(OPERATION *Operation) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    NAMES *names = &Operation->Names;

    return Operation->Npi.Dispatch->WskGetAddressInfo(
        Operation->Npi.Client, NameArgument(Operation, WSKLAB_USE_NODE, &names->Node),
        NameArgument(Operation, WSKLAB_USE_SERVICE, &names->Service), submit->name_space, NULL,
        IsUsed(submit, WSKLAB_USE_HINTS) ? &names->Hints : NULL, &names->Result, RoutineOwningProcess(submit),
        RoutineOwningThread(submit), Operation->Irp);
}

_Use_decl_annotations_ NTSTATUS NamesFreeAddressInfo(OPERATION *Operation) {
    Operation->Npi.Dispatch->WskFreeAddressInfo(Operation->Npi.Client, Operation->Object->Pointer);
    return STATUS_SUCCESS;
}

_Use_decl_annotations_ NTSTATUS NamesGetNameInfo(OPERATION *Operation) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;

    return Operation->Npi.Dispatch->WskGetNameInfo(
        Operation->Npi.Client, (PSOCKADDR)Operation->Remote.Bytes, submit->remote.length,
        NameArgument(Operation, WSKLAB_USE_NODE, &Operation->Names.Node),
        NameArgument(Operation, WSKLAB_USE_SERVICE, &Operation->Names.Service), submit->flags, RoutineOwningProcess(submit),
        RoutineOwningThread(submit), Operation->Irp);
}

static VOID WriteEntry(WSKLAB_ADDRESS_INFO *Out, const ADDRINFOEXW *Entry) {
    ULONG length = 0;

    RtlZeroMemory(Out, sizeof(*Out));
    Out->flags = (uint32_t)Entry->ai_flags;
    Out->family = (uint32_t)Entry->ai_family;
    Out->type = (uint32_t)Entry->ai_socktype;
    Out->protocol = (uint32_t)Entry->ai_protocol;
    Out->address_length = Entry->ai_addrlen;
    if (Entry->ai_addr != NULL) {
        SIZE_T bytes = Entry->ai_addrlen < sizeof(Out->address.bytes) ? Entry->ai_addrlen : sizeof(Out->address.bytes);
        Out->address.length = (uint16_t)bytes;
        RtlCopyMemory(Out->address.bytes, Entry->ai_addr, bytes);
    }
    while (Entry->ai_canonname != NULL && length + sizeof(WCHAR) <= sizeof(Out->canonical) &&
           Entry->ai_canonname[length / sizeof(WCHAR)] != 0) {
        length += sizeof(WCHAR);
    }
    Out->canonical_length = length;
    if (length != 0) {
        RtlCopyMemory(Out->canonical, Entry->ai_canonname, length);
    }
}

/* A list that came while the client was leaving WSK: nobody could give it back later. */
static VOID FreeAtOnce(OPERATION *Operation) {
    OBJECT *object;
    KIRQL irql;

    if (!NT_SUCCESS(ObjectBeginRelease(Operation->Client, Operation->Submit.new_object, WSKLAB_OBJECT_ADDRESS_LIST, &object))) {
        return;
    }
    Operation->Npi.Dispatch->WskFreeAddressInfo(Operation->Npi.Client, object->Pointer);
    ObjectEndRelease(Operation->Client, object, TRUE);
    KeAcquireSpinLock(&Operation->Client->Lock, &irql);
    Operation->Record.object = 0;
    Operation->Record.flags &= ~(WSKLAB_RECORD_OBJECT_MADE | WSKLAB_RECORD_OBJECT_DIFFERS);
    KeReleaseSpinLock(&Operation->Client->Lock, irql);
}

/* The list: into the record, and to the client. At PASSIVE_LEVEL. */
static VOID ReadList(OPERATION *Operation, NTSTATUS Status) {
    WSKLAB_ADDRESS_INFO *out = (WSKLAB_ADDRESS_INFO *)Operation->Output.Bytes;
    PADDRINFOEXW list = NT_SUCCESS(Status) ? Operation->Names.Result : NULL;
    ULONG count = 0;
    KIRQL irql;

    for (const ADDRINFOEXW *entry = list; entry != NULL && count < ENTRIES_WALKED; entry = entry->ai_next) {
        if (count < ENTRIES) {
            WriteEntry(&out[count], entry);
        }
        count++;
    }
    KeAcquireSpinLock(&Operation->Client->Lock, &irql);
    Operation->Record.count = count;
    Operation->ExtraBytes = (ULONG)((count < ENTRIES ? count : ENTRIES) * sizeof(WSKLAB_ADDRESS_INFO));
    KeReleaseSpinLock(&Operation->Client->Lock, irql);
    HoldSettle(Operation, Status, list, count, 0);
    /* Now deregistering is refused, or has begun before and is seen here. */
    if (list != NULL && RegistrationIsLeaving(Operation->Client)) {
        FreeAtOnce(Operation);
    }
}

/* What is in a buffer, never more than the buffer. */
static ULONG Within(const UNICODE_STRING *String, ULONG Room) {
    return String->Length < Room ? String->Length : Room;
}

/* The names, one behind the other. */
static VOID ReadNames(OPERATION *Operation, NTSTATUS Status) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    PUCHAR bytes = Operation->Output.Bytes;
    PUCHAR service = bytes + submit->node_length + GAP_BYTES;
    ULONG first = Within(&Operation->Names.Node, submit->node_length);
    ULONG second = Within(&Operation->Names.Service, submit->service_length);
    KIRQL irql;

    Operation->Names.GapBroken = !MemoryIsAll(bytes + submit->node_length, GAP_BYTES, WSKLAB_UNTOUCHED_BYTE);
    KeAcquireSpinLock(&Operation->Client->Lock, &irql);
    Operation->Record.node_length = Operation->Names.Node.Length;
    Operation->Record.service_length = Operation->Names.Service.Length;
    if (NT_SUCCESS(Status)) {
        Operation->Record.flags |= first != Operation->Names.Node.Length || second != Operation->Names.Service.Length
                                       ? WSKLAB_RECORD_INFORMATION_CLAMPED
                                       : 0;
        Operation->Record.node_length = first;
        Operation->Record.service_length = second;
        RtlMoveMemory(bytes + first, service, second);
        Operation->ExtraBytes = first + second;
    }
    KeReleaseSpinLock(&Operation->Client->Lock, irql);
    HoldSettle(Operation, Status, NULL, 0, 0);
}

_Use_decl_annotations_ VOID NamesEnd(OPERATION *Operation, NTSTATUS Status) {
    if (Operation->Submit.function == WSKLAB_FN_GET_NAME_INFO) {
        ReadNames(Operation, Status);
    } else if (KeGetCurrentIrql() == PASSIVE_LEVEL) {
        ReadList(Operation, Status);
    } else {
        Operation->Names.Deferred = TRUE; /* NamesDefer goes on */
    }
}

static VOID NTAPI ReadInWorkItem(PDEVICE_OBJECT Device, PVOID Context) {
    OPERATION *operation = Context;
    NTSTATUS status = operation->Record.completion_status;

    UNREFERENCED_PARAMETER(Device);
    ReadList(operation, status);
    CompletionFinish(operation, status);
}

_Use_decl_annotations_ BOOLEAN NamesDefer(OPERATION *Operation) {
    if (!Operation->Names.Deferred) {
        return FALSE;
    }
    Operation->Names.Deferred = FALSE;
    IoQueueWorkItem(Operation->WorkItem, ReadInWorkItem, DelayedWorkQueue, Operation); /* with the provider's reference */
    return TRUE;
}
