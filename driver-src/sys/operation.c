/*
 * operation.c: an operation as an object: made, found, counted, freed.
 */
#include "operation.h"

#include "completion.h"
#include "control.h"
#include "device.h"
#include "hold.h"
#include "names.h"

/* Windows 10 1703 added stream sockets; before it the flag means nothing known. */
#define BUILD_1703 15063u

static LIST_ENTRY *Bucket(CLIENT *Client, ULONG OpId) {
    return &Client->Operations[OpId % OPERATION_BUCKETS];
}

static VOID SetAddress(ADDRESS_ARGUMENT *Argument, const WSKLAB_ADDRESS *Address, BOOLEAN IsOutput) {
    if (IsOutput) {
        RtlFillMemory(Argument->Bytes, sizeof(Argument->Bytes), ADDRESS_UNTOUCHED);
    } else {
        RtlZeroMemory(Argument->Bytes, sizeof(Argument->Bytes));
        RtlCopyMemory(Argument->Bytes, Address->bytes, Address->length);
    }
}

static NTSTATUS AllocateIrp(OPERATION *Operation) {
    CCHAR stack = (CCHAR)Operation->Submit.stack_count;

    if (Operation->Submit.irp_source == WSKLAB_IRP_CALLER_MEMORY) {
        Operation->IrpBytes = IoSizeOfIrp(stack);
        Operation->IrpMemory = MemoryAllocate(&Operation->Client->Ledger, Operation->IrpBytes);
        if (Operation->IrpMemory == NULL) {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
        Operation->Irp = Operation->IrpMemory;
        IoInitializeIrp(Operation->Irp, (USHORT)Operation->IrpBytes, stack);
    } else {
        Operation->Irp = FaultsDeny(&Operation->Client->Ledger.Faults, WSKLAB_FAULT_IRP) ? NULL : IoAllocateIrp(stack, FALSE);
        if (Operation->Irp == NULL) {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
    }
    LedgerAdd(&Operation->Client->Ledger, LEDGER_COUNT(irps_allocated), 1);
    return STATUS_SUCCESS;
}

/*
 * Wine's netio goes wrong when a socket with queued requests is closed by the thread that queued them, and there all
 * requests of all clients come on one thread: its wait callbacks race with the close (an access to a NULL IRP in two of
 * three runs with Wine 8). From another thread it holds. So on Wine a close is made from a worker; the record says so.
 */
static BOOLEAN IsCloseOnWine(const OPERATION *Operation) {
    return PlatformFacts()->Wine && Operation->Submit.function == WSKLAB_FN_CLOSE && !Operation->Internal &&
           !(Operation->Submit.switches & WSKLAB_SWITCH_HELD);
}

static BOOLEAN NeedsWorker(OPERATION *Operation) {
    Operation->SettleFirst = IsCloseOnWine(Operation);
    Operation->InWorker = Operation->Submit.call_context == WSKLAB_CONTEXT_WORKER || Operation->SettleFirst;
    if (Operation->InWorker && Operation->Submit.call_context == WSKLAB_CONTEXT_CALLER) {
        Operation->Record.call_context = WSKLAB_CONTEXT_WORKER;
    }
    return Operation->InWorker || Operation->Submit.delay_ms != 0;
}

static ULONG CategoryOf(ULONG Flags) {
    switch (Flags) {
    case WSKLAB_CATEGORY_LISTEN:
    case WSKLAB_CATEGORY_CONNECTION:
    case WSKLAB_CATEGORY_DATAGRAM:
        return Flags;
    case WSKLAB_CATEGORY_STREAM:
        return PlatformFacts()->Build >= BUILD_1703 ? Flags : WSKLAB_CATEGORY_BASIC;
    default:
        /* Combinations and undefined bits are undefined (WSK-CAT-006): only the basic part of the table is used. */
        return WSKLAB_CATEGORY_BASIC;
    }
}

static SOCKET DescribeNewSocket(const WSKLAB_SUBMIT *Submit) {
    SOCKET traits = {.Number = Submit->new_socket,
                     .Context = Submit->socket_context,
                     .Category = CategoryOf(Submit->flags),
                     .Family = Submit->family,
                     .Type = Submit->type,
                     .Protocol = Submit->protocol};

    switch (Submit->function) {
    case WSKLAB_FN_SAMPLE_LISTEN: /* the page's own arguments */
        traits.Category = WSKLAB_CATEGORY_LISTEN;
        traits.Family = AF_INET;
        traits.Type = SOCK_STREAM;
        traits.Protocol = IPPROTO_TCP;
        break;
    case WSKLAB_FN_ACCEPT: /* nc-wsk-pfn_wsk_accept; family and so on come from the listener */
        traits.Category = WSKLAB_CATEGORY_CONNECTION;
        break;
    case WSKLAB_FN_SOCKET_CONNECT: /* nc-wsk-pfn_wsk_socket_connect: the family is the local address's */
        traits.Category = WSKLAB_CATEGORY_CONNECTION;
        traits.Family = (USHORT)(Submit->local.bytes[0] | Submit->local.bytes[1] << 8);
        break;
    default:
        break;
    }
    return traits;
}

/* Everything that the call will need. */
static NTSTATUS Prepare(OPERATION *Operation, const UCHAR *Data) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    NTSTATUS status = STATUS_SUCCESS;

    SetAddress(&Operation->Local, &submit->local, OPERATION_HAS(Operation, FUNCTION_LOCAL_OUT));
    SetAddress(&Operation->Remote, &submit->remote, OPERATION_HAS(Operation, FUNCTION_REMOTE_OUT));
    if (NeedsWorker(Operation)) {
        if (!FaultsDeny(&Operation->Client->Ledger.Faults, WSKLAB_FAULT_WORK_ITEM)) {
            Operation->WorkItem = IoAllocateWorkItem(DeviceObject());
        }
        if (Operation->WorkItem == NULL) {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
    }
    /* The published sample allocates its own IRP, as the page shows. */
    if (OPERATION_HAS(Operation, FUNCTION_IRP) && submit->function != WSKLAB_FN_SAMPLE_LISTEN &&
        submit->irp_source != WSKLAB_IRP_REUSED && submit->irp_source != WSKLAB_IRP_FORWARDED &&
        !(submit->switches & WSKLAB_SWITCH_NULL_IRP)) {
        status = AllocateIrp(Operation);
    }
    if (NT_SUCCESS(status)) {
        status = BufferInitialize(&Operation->Buffer, submit, Data, &Operation->Client->Ledger);
    }
    if (NT_SUCCESS(status)) {
        status = ControlPrepare(Operation, submit->extra_length != 0 ? Data + submit->data_length : NULL);
    }
    if (NT_SUCCESS(status) && OPERATION_HAS(Operation, FUNCTION_NAMES)) {
        status = NamesPrepare(Operation, submit->extra_length != 0 ? Data + submit->data_length : NULL);
    }
    if (NT_SUCCESS(status)) {
        status = HoldPrepare(Operation);
    }
    if (NT_SUCCESS(status) && OPERATION_HAS(Operation, FUNCTION_CREATES)) {
        SOCKET traits = DescribeNewSocket(submit);
        status = SocketReserve(Operation->Client, &traits, NULL, &Operation->NewSocket);
    }
    return status;
}

static NTSTATUS Insert(OPERATION *Operation) {
    CLIENT *client = Operation->Client;
    LIST_ENTRY *bucket = Bucket(client, Operation->Submit.op_id);
    NTSTATUS status = STATUS_SUCCESS;
    KIRQL irql;

    KeAcquireSpinLock(&client->Lock, &irql);
    if (!Operation->Internal) {
        for (PLIST_ENTRY entry = bucket->Flink; entry != bucket; entry = entry->Flink) {
            if (CONTAINING_RECORD(entry, OPERATION, Link)->Submit.op_id == Operation->Submit.op_id) {
                status = STATUS_OBJECT_NAME_COLLISION;
            }
        }
        if (client->OperationCount >= (LONG)WSKLAB_MAX_OPERATIONS) {
            status = STATUS_QUOTA_EXCEEDED;
        }
        if (client->State != CLIENT_OPEN) {
            status = STATUS_FILE_CLOSED;
        }
        if (NT_SUCCESS(status)) {
            Operation->InTable = TRUE;
            client->OperationCount++;
            InsertTailList(bucket, &Operation->Link);
            OperationReference(Operation);
        }
    }
    KeReleaseSpinLock(&client->Lock, irql);
    if (NT_SUCCESS(status) && !Operation->Internal) {
        LedgerAdd(&client->Ledger, LEDGER_COUNT(operations_held), 1);
    }
    return status;
}

_Use_decl_annotations_ NTSTATUS OperationCreate(CLIENT *Client, const WSKLAB_SUBMIT *Submit, const UCHAR *Data, BOOLEAN Internal,
                                                OPERATION **Out) {
    OPERATION *operation = MemoryAllocate(&Client->Ledger, sizeof(OPERATION));
    WSKLAB_RECORD *record;
    NTSTATUS status;

    if (operation == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    operation->References = 1;
    operation->Client = Client;
    ClientReference(Client);
    operation->Internal = Internal;
    operation->Submit = *Submit;
    operation->Cookie = (COOKIE){.Magic = COOKIE_MAGIC, .Operation = operation, .Value = Submit->completion_cookie};
    record = &operation->Record;
    record->size = sizeof(*record);
    record->op_id = Submit->op_id;
    record->function = Submit->function;
    record->socket = Submit->socket;
    record->new_socket = Submit->new_socket;
    record->irp_source = Submit->irp_source;
    record->call_context = Submit->call_context;
    record->stack_count = Submit->stack_count;
    record->invoke_flags = Submit->invoke_flags;
    record->socket_context = Submit->socket_context;
    record->submit_ns = PlatformNow();
    status = Prepare(operation, Data);
    if (NT_SUCCESS(status)) {
        status = Insert(operation);
    }
    if (!NT_SUCCESS(status)) {
        OperationDereference(operation);
        return status;
    }
    *Out = operation;
    return STATUS_SUCCESS;
}

_Use_decl_annotations_ VOID OperationReference(OPERATION *Operation) {
    InterlockedIncrement(&Operation->References);
}

_Use_decl_annotations_ VOID OperationDereference(OPERATION *Operation) {
    CLIENT *client = Operation->Client;

    if (InterlockedDecrement(&Operation->References) != 0) {
        return;
    }
    /* Nobody knows it any more: it never reached WSK, or its completion was seen. */
    if (Operation->NewSocket != NULL) {
        if (OperationSettle(Operation)) {
            SocketRemove(Operation->NewSocket);
        }
        SocketDereference(Operation->NewSocket);
    }
    if (Operation->Socket != NULL) {
        SocketDereference(Operation->Socket);
    }
    HoldSettle(Operation, STATUS_CANCELLED, NULL, 0, 0);
    CompletionFreeIrp(Operation);
    BufferUninitialize(&Operation->Buffer);
    ArgumentFree(&Operation->Input);
    ArgumentFree(&Operation->Output);
    ArgumentFree(&Operation->Look);
    if (Operation->WorkItem != NULL) {
        IoFreeWorkItem(Operation->WorkItem);
    }
    MemoryFree(Operation);
    ClientDereference(client);
}

BOOLEAN OperationSettle(OPERATION *Operation) {
    return InterlockedExchange(&Operation->Settled, 1) == 0;
}

_Use_decl_annotations_ OPERATION *OperationFind(CLIENT *Client, ULONG OpId) {
    LIST_ENTRY *bucket = Bucket(Client, OpId);
    OPERATION *found = NULL;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    for (PLIST_ENTRY entry = bucket->Flink; entry != bucket; entry = entry->Flink) {
        OPERATION *operation = CONTAINING_RECORD(entry, OPERATION, Link);
        if (operation->Submit.op_id == OpId) {
            OperationReference(operation);
            found = operation;
            break;
        }
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return found;
}

_Use_decl_annotations_ BOOLEAN OperationIsFinal(const OPERATION *Operation) {
    return Operation->Record.state >= WSKLAB_STATE_COMPLETED;
}

_Use_decl_annotations_ VOID OperationRecordEvent(const OPERATION *Operation, ULONG Kind, NTSTATUS Status, ULONG64 Value) {
    WSKLAB_EVENT event = {.kind = Kind,
                          .op_id = Operation->Submit.op_id,
                          .socket = Operation->Submit.socket,
                          .function = (UCHAR)Operation->Submit.function,
                          .status = Status,
                          .value = Value};
    RingRecord(&Operation->Client->Ring, &event);
}

_Requires_lock_held_(Operation->Client->Lock) static VOID TakeOut(OPERATION *Operation) {
    Operation->InTable = FALSE;
    RemoveEntryList(&Operation->Link);
    Operation->Client->OperationCount--;
    OperationUnwatch(Operation);
}

_Use_decl_annotations_ BOOLEAN OperationRelease(OPERATION *Operation) {
    CLIENT *client = Operation->Client;
    BOOLEAN taken = FALSE;
    BOOLEAN final;
    KIRQL irql;

    KeAcquireSpinLock(&client->Lock, &irql);
    final = OperationIsFinal(Operation);
    if (final && Operation->InTable) {
        TakeOut(Operation);
        taken = TRUE;
    }
    KeReleaseSpinLock(&client->Lock, irql);
    if (taken) {
        LedgerAdd(&client->Ledger, LEDGER_COUNT(operations_held), -1);
        OperationDereference(Operation);
    }
    return final;
}

_Use_decl_annotations_ BOOLEAN OperationReleaseAny(CLIENT *Client) {
    OPERATION *operation = NULL;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    for (ULONG i = 0; i < OPERATION_BUCKETS && operation == NULL; i++) {
        if (!IsListEmpty(&Client->Operations[i])) {
            operation = CONTAINING_RECORD(Client->Operations[i].Flink, OPERATION, Link);
            TakeOut(operation);
        }
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    if (operation == NULL) {
        return FALSE;
    }
    LedgerAdd(&Client->Ledger, LEDGER_COUNT(operations_held), -1);
    OperationDereference(operation);
    return TRUE;
}

_Use_decl_annotations_ VOID OperationWatch(OPERATION *Operation, ULONG64 DueNs) {
    Operation->DueNs = DueNs;
    if (!Operation->Watched) {
        Operation->Watched = TRUE;
        InsertTailList(&Operation->Client->Watched, &Operation->WatchLink);
    }
}

_Use_decl_annotations_ VOID OperationUnwatch(OPERATION *Operation) {
    if (Operation->Watched) {
        Operation->Watched = FALSE;
        RemoveEntryList(&Operation->WatchLink);
    }
}
