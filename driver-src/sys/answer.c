/*
 * answer.c: an operation's record as the client gets it.
 */
#include "answer.h"

static BOOLEAN AddressGuardIntact(const ADDRESS_ARGUMENT *Argument, ULONG Used) {
    return MemoryIsAll(Argument->Bytes + Used, sizeof(Argument->Bytes) - Used, ADDRESS_UNTOUCHED);
}

/* An output address: as many bytes as its family has; FALSE when more was written. */
static BOOLEAN ReadAddress(const ADDRESS_ARGUMENT *Argument, USHORT Family, WSKLAB_ADDRESS *Out) {
    ULONG used = Family == AF_INET6 ? WSKLAB_SOCKADDR_IN6_SIZE : WSKLAB_SOCKADDR_IN_SIZE;

    if (AddressGuardIntact(Argument, 0)) {
        return TRUE; /* never written: the slot stays empty */
    }
    Out->length = (USHORT)used;
    RtlCopyMemory(Out->bytes, Argument->Bytes, used);
    return AddressGuardIntact(Argument, used);
}

static VOID CheckBuffer(OPERATION *Operation, WSKLAB_RECORD *Record) {
    const BUFFER *buffer = &Operation->Buffer;
    BOOLEAN receives = Record->function == WSKLAB_FN_RECEIVE;
    ULONG64 delivered = 0;

    if (buffer->Chunks == 0) {
        return;
    }
    if (Record->information_kind == WSKLAB_INFORMATION_INTEGER && NT_SUCCESS(Record->completion_status)) {
        delivered = Record->information;
    }
    if (delivered > buffer->Length) {
        delivered = buffer->Length; /* the provider's number is never trusted with a copy */
        Record->flags |= WSKLAB_RECORD_INFORMATION_CLAMPED;
    }
    Record->flags |= WSKLAB_RECORD_GUARDS_CHECKED;
    if (BufferGuardsIntact(buffer)) {
        Record->flags |= WSKLAB_RECORD_GUARDS_INTACT;
    }
    if (!receives) {
        return;
    }
    Record->data_total = (ULONG)delivered;
    if (BufferRestIntact(buffer, (ULONG)delivered)) {
        Record->flags |= WSKLAB_RECORD_REST_INTACT;
    }
    if (!Operation->DigestKnown) {
        Operation->Record.data_digest = BufferDigest(buffer, (ULONG)delivered);
        Operation->DigestKnown = TRUE;
    }
    Record->data_digest = Operation->Record.data_digest;
}

static VOID CheckAddresses(const OPERATION *Operation, WSKLAB_RECORD *Record) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    BOOLEAN intact = TRUE;

    if (Record->function != WSKLAB_FN_ACCEPT) {
        Record->local = submit->local;
        Record->remote = submit->remote;
        return;
    }
    if (submit->address_use & WSKLAB_ADDRESS_LOCAL) {
        intact = ReadAddress(&Operation->Local, Operation->NewSocket->Family, &Record->local) && intact;
    }
    if (submit->address_use & WSKLAB_ADDRESS_REMOTE) {
        intact = ReadAddress(&Operation->Remote, Operation->NewSocket->Family, &Record->remote) && intact;
    }
    if (submit->address_use != 0) {
        Record->flags |= WSKLAB_RECORD_GUARDS_CHECKED | (intact ? WSKLAB_RECORD_GUARDS_INTACT : 0);
    }
}

_Use_decl_annotations_ ULONG AnswerWrite(OPERATION *Operation, PUCHAR Out, ULONG Room, const ANSWER_REQUEST *Request) {
    CLIENT *client = Operation->Client;
    WSKLAB_RECORD record;
    ULONG wanted;
    BOOLEAN completed;
    KIRQL irql;

    KeAcquireSpinLock(&client->Lock, &irql);
    record = Operation->Record;
    completed = record.state == WSKLAB_STATE_COMPLETED;
    KeReleaseSpinLock(&client->Lock, irql);

    record.flags |= Request->ExtraFlags;
    if (completed) {
        /* The provider is done with all of it: nobody else writes. */
        CheckBuffer(Operation, &record);
        CheckAddresses(Operation, &record);
        if ((record.flags & WSKLAB_RECORD_POISONED) && MemoryIsAll(Operation->IrpMemory, Operation->IrpBytes, IRP_POISON)) {
            record.flags |= WSKLAB_RECORD_POISON_INTACT;
        }
    }
    record.data_offset = Request->DataOffset;
    wanted = Request->DataOffset < record.data_total ? record.data_total - Request->DataOffset : 0;
    record.data_length = wanted;
    if (record.data_length > Room - (ULONG)sizeof(record)) {
        record.data_length = Room - (ULONG)sizeof(record);
    }
    if (record.data_length > Request->DataLength) {
        record.data_length = Request->DataLength;
    }
    if (record.data_length > WSKLAB_MAX_DATA) {
        record.data_length = WSKLAB_MAX_DATA;
    }
    if (record.data_length < wanted) {
        record.flags |= WSKLAB_RECORD_DATA_TRUNCATED;
    }
    if (record.data_length > 0) {
        record.data_length = BufferCopyOut(&Operation->Buffer, Request->DataOffset, record.data_length, Out + sizeof(record));
    }
    if (Request->Release && !(record.flags & WSKLAB_RECORD_DATA_TRUNCATED) && OperationRelease(Operation)) {
        record.flags |= WSKLAB_RECORD_RELEASED;
    }
    RtlCopyMemory(Out, &record, sizeof(record));
    return (ULONG)sizeof(record) + record.data_length;
}
