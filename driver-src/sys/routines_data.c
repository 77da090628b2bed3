/*
 * routines_data.c: calls that move data, and kept indications.
 */
#include "routines.h"

#include "indication.h"
#include "members.h"

#define CALL(type, member) MEMBER_AS(type, Operation->Socket, member)
#define WSK Operation->Socket->Wsk

/* Only the MDL chain has to outlive the call (WSK-DATA-010). */
static NTSTATUS Scribble(OPERATION *Operation, NTSTATUS Status) {
    if (Operation->Submit.switches & WSKLAB_SWITCH_SCRIBBLE_WSK_BUF) {
        RtlFillMemory(&Operation->Buffer.Wsk, sizeof(Operation->Buffer.Wsk), 0xFF);
    }
    return Status;
}

_Use_decl_annotations_ NTSTATUS RoutineSend(OPERATION *Operation) {
    return Scribble(Operation,
                    CALL(PFN_WSK_SEND, MEMBER_SEND)(WSK, &Operation->Buffer.Wsk, Operation->Submit.flags, Operation->Irp));
}

_Use_decl_annotations_ NTSTATUS RoutineReceive(OPERATION *Operation) {
    return Scribble(Operation,
                    CALL(PFN_WSK_RECEIVE, MEMBER_RECEIVE)(WSK, &Operation->Buffer.Wsk, Operation->Submit.flags, Operation->Irp));
}

_Use_decl_annotations_ NTSTATUS RoutineDisconnect(OPERATION *Operation) {
    PWSK_BUF buffer = Operation->Submit.mdl_shape != WSKLAB_MDL_NULL ? &Operation->Buffer.Wsk : NULL;

    return Scribble(Operation,
                    CALL(PFN_WSK_DISCONNECT, MEMBER_DISCONNECT)(WSK, buffer, Operation->Submit.flags, Operation->Irp));
}

/* The destination, or NULL: the one that was fixed before. */
static PSOCKADDR Destination(OPERATION *Operation) {
    return Operation->Submit.address_use & WSKLAB_ADDRESS_REMOTE ? (PSOCKADDR)Operation->Remote.Bytes : NULL;
}

static PCMSGHDR ControlOut(const OPERATION *Operation) {
    return Operation->Submit.argument_use & WSKLAB_USE_CONTROL_INFO ? (PCMSGHDR)Operation->Input.Bytes : NULL;
}

_Use_decl_annotations_ NTSTATUS RoutineSendTo(OPERATION *Operation) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;

    return Scribble(Operation, CALL(PFN_WSK_SEND_TO, MEMBER_SEND_TO)(WSK, &Operation->Buffer.Wsk, submit->flags,
                                                                     Destination(Operation), submit->extra_length,
                                                                     ControlOut(Operation), Operation->Irp));
}

_Use_decl_annotations_ NTSTATUS RoutineSendMessages(OPERATION *Operation) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;

    return CALL(PFN_WSK_SEND_MESSAGES, MEMBER_SEND_MESSAGES)(WSK, Operation->Buffer.List, submit->flags, Destination(Operation),
                                                             submit->extra_length, ControlOut(Operation), Operation->Irp);
}

_Use_decl_annotations_ NTSTATUS RoutineReceiveFrom(OPERATION *Operation) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    ULONG use = submit->argument_use;

    return Scribble(Operation, CALL(PFN_WSK_RECEIVE_FROM, MEMBER_RECEIVE_FROM)(
                                   WSK, &Operation->Buffer.Wsk, submit->flags, Destination(Operation),
                                   use & WSKLAB_USE_CONTROL_LENGTH ? &Operation->ControlLength : NULL,
                                   use & WSKLAB_USE_CONTROL_INFO ? (PCMSGHDR)Operation->Output.Bytes : NULL,
                                   use & WSKLAB_USE_CONTROL_FLAGS ? &Operation->ControlFlags : NULL, Operation->Irp));
}

_Use_decl_annotations_ NTSTATUS RoutineReleaseData(OPERATION *Operation) {
    WSK_DATA_INDICATION *kept = Operation->Object != NULL ? Operation->Object->Pointer : &Operation->Bogus.Data;

    return CALL(PFN_WSK_RELEASE_DATA_INDICATION_LIST, MEMBER_RELEASE)(WSK, kept);
}

/* All of the list, or its front: lists may be given back piece by piece. */
_Use_decl_annotations_ NTSTATUS RoutineReleaseDatagram(OPERATION *Operation) {
    WSK_DATAGRAM_INDICATION *first = Operation->Object != NULL ? Operation->Object->Pointer : &Operation->Bogus.Datagram;
    WSK_DATAGRAM_INDICATION *last = Operation->Submit.count != 0 ? IndicationDatagram(first, Operation->Submit.count - 1) : NULL;
    WSK_DATAGRAM_INDICATION *rest = last != NULL ? last->Next : NULL;
    ULONG64 length = 0;
    NTSTATUS status;

    if (rest != NULL) {
        last->Next = NULL;
        for (const WSK_DATAGRAM_INDICATION *entry = first; entry != NULL; entry = entry->Next) {
            length += entry->Buffer.Length;
        }
    }
    status = CALL(PFN_WSK_RELEASE_DATAGRAM_INDICATION_LIST, MEMBER_RELEASE)(WSK, first);
    if (rest != NULL && !NT_SUCCESS(status)) {
        last->Next = rest;
    } else if (rest != NULL) {
        OBJECT *object = Operation->Object;
        KIRQL irql;

        KeAcquireSpinLock(&Operation->Client->Lock, &irql);
        object->Pointer = rest;
        object->Count -= Operation->Submit.count;
        object->Length -= length;
        KeReleaseSpinLock(&Operation->Client->Lock, irql);
        Operation->KeepsRest = TRUE;
    }
    return status;
}

static NTSTATUS LookAtData(OPERATION *Operation, const OBJECT *Object) {
    ULONG length = Object->Length < WSKLAB_MAX_BUFFER ? (ULONG)Object->Length : WSKLAB_MAX_BUFFER;
    NTSTATUS status = ArgumentSetOutput(&Operation->Look, &Operation->Client->Ledger, length);

    if (NT_SUCCESS(status)) {
        Operation->Look.Size = IndicationCopy(Object->Pointer, Operation->Look.Bytes, length);
    }
    return status;
}

static NTSTATUS LookAtDatagram(OPERATION *Operation, const WSK_DATAGRAM_INDICATION *Datagram, WSKLAB_ADDRESS *Remote) {
    LEDGER *ledger = &Operation->Client->Ledger;
    ULONG length = (ULONG)Datagram->Buffer.Length;
    ULONG control = Datagram->ControlInfo != NULL ? Datagram->ControlInfoLength : 0;
    NTSTATUS status;

    control = control < WSKLAB_MAX_EXTRA ? control : WSKLAB_MAX_EXTRA;
    status = ArgumentSetOutput(&Operation->Look, ledger, length);
    if (NT_SUCCESS(status)) {
        status = ArgumentSetOutput(&Operation->Output, ledger, control);
    }
    if (!NT_SUCCESS(status)) {
        return status;
    }
    Operation->Look.Size = IndicationCopyBuffer(&Datagram->Buffer, Operation->Look.Bytes, length);
    if (control != 0) {
        RtlCopyMemory(Operation->Output.Bytes, Datagram->ControlInfo, control);
        Operation->ExtraBytes = control;
    }
    Operation->ControlLength = Datagram->ControlInfoLength;
    if (Datagram->RemoteAddress != NULL) {
        ULONG bytes = Datagram->RemoteAddress->sa_family == AF_INET6 ? WSKLAB_SOCKADDR_IN6_SIZE : WSKLAB_SOCKADDR_IN_SIZE;
        Remote->length = (USHORT)bytes;
        RtlCopyMemory(Remote->bytes, Datagram->RemoteAddress, bytes);
    }
    return STATUS_SUCCESS;
}

/* The bytes of a kept indication as they are now (WSK-DATA-015). WSK is not called. */
_Use_decl_annotations_ NTSTATUS RoutineIndicationInfo(OPERATION *Operation) {
    const OBJECT *object = Operation->Object;
    TOLD told = {.Object = object->Number, .Count = object->Count};
    NTSTATUS status = STATUS_NOT_FOUND;

    if (object->Kind == WSKLAB_OBJECT_DATA) {
        status = LookAtData(Operation, object);
    } else {
        const WSK_DATAGRAM_INDICATION *datagram = IndicationDatagram(object->Pointer, Operation->Submit.index);
        if (datagram != NULL) {
            status = LookAtDatagram(Operation, datagram, &told.Remote);
        }
    }
    RoutineTell(Operation, &told);
    return status;
}
