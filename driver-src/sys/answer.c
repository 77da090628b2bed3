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

/* Control information of a datagram: as much as WSK says that there is, within the buffer. */
static ULONG ExtraBytes(const OPERATION *Operation, const WSKLAB_RECORD *Record) {
    if (Record->function != WSKLAB_FN_RECEIVE_FROM) {
        return Operation->ExtraBytes;
    }
    if (!NT_SUCCESS(Record->completion_status) || !(Operation->Submit.argument_use & WSKLAB_USE_CONTROL_LENGTH)) {
        return 0;
    }
    return Operation->ControlLength < Operation->Output.Size ? Operation->ControlLength : Operation->Output.Size;
}

static VOID CheckBuffer(OPERATION *Operation, WSKLAB_RECORD *Record) {
    const BUFFER *buffer = &Operation->Buffer;
    BOOLEAN receives = OPERATION_HAS(Operation, FUNCTION_WRITES);
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
    if (delivered != 0 && Record->data_digest == 0) {
        KIRQL irql;

        Record->data_digest = BufferDigest(buffer, (ULONG)delivered);
        KeAcquireSpinLock(&Operation->Client->Lock, &irql);
        Operation->Record.data_digest = Record->data_digest; /* for the next look: it may be long */
        KeReleaseSpinLock(&Operation->Client->Lock, irql);
    }
}

/* Other than in a data buffer: the guards were looked at, and whether they are intact. */
static VOID NoteGuards(WSKLAB_RECORD *Record, BOOLEAN Intact) {
    BOOLEAN before = !(Record->flags & WSKLAB_RECORD_GUARDS_CHECKED) || (Record->flags & WSKLAB_RECORD_GUARDS_INTACT);

    Record->flags |= WSKLAB_RECORD_GUARDS_CHECKED | WSKLAB_RECORD_GUARDS_INTACT;
    if (!before || !Intact) {
        Record->flags &= ~WSKLAB_RECORD_GUARDS_INTACT;
    }
}

static VOID CheckAddresses(const OPERATION *Operation, WSKLAB_RECORD *Record) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    ULONG outputs = (OPERATION_HAS(Operation, FUNCTION_LOCAL_OUT) ? WSKLAB_ADDRESS_LOCAL : 0) |
                    (OPERATION_HAS(Operation, FUNCTION_REMOTE_OUT) ? WSKLAB_ADDRESS_REMOTE : 0);

    if (!(outputs & WSKLAB_ADDRESS_LOCAL)) {
        Record->local = submit->local;
    } else if (submit->address_use & WSKLAB_ADDRESS_LOCAL) {
        NoteGuards(Record, ReadAddress(&Operation->Local, Operation->Socket->Family, &Record->local));
    }
    if (!(outputs & WSKLAB_ADDRESS_REMOTE)) {
        Record->remote = submit->remote.length != 0 ? submit->remote : Record->remote;
    } else if (submit->address_use & WSKLAB_ADDRESS_REMOTE) {
        NoteGuards(Record, ReadAddress(&Operation->Remote, Operation->Socket->Family, &Record->remote));
    }
}

/* Arguments beside the data, and what came out in them. */
static VOID CheckArguments(const OPERATION *Operation, WSKLAB_RECORD *Record) {
    if (Operation->Input.Bytes != NULL) {
        NoteGuards(Record, ArgumentGuardIntact(&Operation->Input));
        Record->flags |= ArgumentInputIntact(&Operation->Input) ? WSKLAB_RECORD_INPUT_INTACT : 0;
    }
    if (Operation->Output.Bytes != NULL) {
        NoteGuards(Record, ArgumentGuardIntact(&Operation->Output) && !Operation->Names.GapBroken);
    }
    Record->size_returned = Operation->SizeReturned;
    Record->control_length = Operation->ControlLength;
    Record->control_flags = Operation->ControlFlags;
    Record->flags |= (Operation->SizeReturned != WSKLAB_PREFILL ? WSKLAB_RECORD_SIZE_RETURNED : 0) |
                     (Operation->ControlLength != Operation->Submit.output_size ? WSKLAB_RECORD_CONTROL_LENGTH : 0) |
                     (Operation->ControlFlags != WSKLAB_PREFILL ? WSKLAB_RECORD_CONTROL_FLAGS : 0);
    if (Operation->Look.Bytes != NULL) {
        Record->data_total = Operation->Look.Size;
        Record->data_digest = Record->data_total != 0 ? DigestContinue(DIGEST_START, Operation->Look.Bytes, Record->data_total) : 0;
    }
    Record->extra_total = ExtraBytes(Operation, Record);
    Record->data_total += Record->extra_total;
}

/* Data first, then the extra bytes; returns how many were copied. */
static ULONG CopyOut(const OPERATION *Operation, const WSKLAB_RECORD *Record, ULONG Position, ULONG Length, PUCHAR Out) {
    ULONG delivered = Record->data_total - Record->extra_total;
    ULONG done = 0;

    if (Position < delivered) {
        ULONG wanted = delivered - Position < Length ? delivered - Position : Length;
        if (Operation->Look.Bytes != NULL) {
            RtlCopyMemory(Out, Operation->Look.Bytes + Position, wanted);
            done = wanted;
        } else {
            done = BufferCopyOut(&Operation->Buffer, Position, wanted, Out);
        }
        Position += done;
    }
    if (done < Length && Position >= delivered) {
        ULONG from = Position - delivered;
        ULONG wanted = Record->extra_total - from < Length - done ? Record->extra_total - from : Length - done;
        RtlCopyMemory(Out + done, Operation->Output.Bytes + from, wanted);
        done += wanted;
    }
    return done;
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
        CheckArguments(Operation, &record);
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
        record.data_length = CopyOut(Operation, &record, Request->DataOffset, record.data_length, Out + sizeof(record));
    }
    if (Request->Release && !(record.flags & WSKLAB_RECORD_DATA_TRUNCATED) && OperationRelease(Operation)) {
        record.flags |= WSKLAB_RECORD_RELEASED;
    }
    RtlCopyMemory(Out, &record, sizeof(record));
    return (ULONG)sizeof(record) + record.data_length;
}
