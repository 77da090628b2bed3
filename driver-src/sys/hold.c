/*
 * hold.c: an operation and its client's objects.
 */
#include "hold.h"

#include "control.h"

ULONG HoldMakes(const WSKLAB_SUBMIT *Submit) {
    if (Submit->function == WSKLAB_FN_GET_ADDRESS_INFO) {
        return WSKLAB_OBJECT_ADDRESS_LIST;
    }
    return ControlMakesDescriptor(Submit) ? WSKLAB_OBJECT_DESCRIPTOR : 0;
}

BOOLEAN HoldTakes(const WSKLAB_SUBMIT *Submit) {
    if (Submit->switches & WSKLAB_SWITCH_UNKNOWN_ID) {
        return FALSE;
    }
    return (FunctionTraits(Submit->function) & FUNCTION_TAKES) != 0 || Submit->security == WSKLAB_SECURITY_CACHED ||
           Submit->input_kind == WSKLAB_INPUT_CACHED;
}

/* Whether the call gives the object back, and what kind it has to be. */
static BOOLEAN Releases(const WSKLAB_SUBMIT *Submit, ULONG *Kind) {
    switch (Submit->function) {
    case WSKLAB_FN_RELEASE_DATA:
        *Kind = WSKLAB_OBJECT_DATA;
        return TRUE;
    case WSKLAB_FN_RELEASE_DATAGRAM:
        *Kind = WSKLAB_OBJECT_DATAGRAM;
        return TRUE;
    case WSKLAB_FN_FREE_ADDRESS_INFO:
        *Kind = WSKLAB_OBJECT_ADDRESS_LIST;
        return TRUE;
    case WSKLAB_FN_CONTROL_CLIENT:
        *Kind = WSKLAB_OBJECT_DESCRIPTOR;
        return Submit->control_code == WSK_RELEASE_SD;
    default:
        *Kind = WSKLAB_OBJECT_DESCRIPTOR;
        return FALSE;
    }
}

_Use_decl_annotations_ NTSTATUS HoldPrepare(OPERATION *Operation) {
    ULONG kind = HoldMakes(&Operation->Submit);
    return kind != 0 ? ObjectReserve(Operation->Client, Operation->Submit.new_object, kind, NULL, &Operation->NewObject)
                     : STATUS_SUCCESS;
}

_Use_decl_annotations_ NTSTATUS HoldBegin(OPERATION *Operation) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    CLIENT *client = Operation->Client;
    NTSTATUS status;
    ULONG kind;

    if (!HoldTakes(submit)) {
        return STATUS_SUCCESS;
    }
    if (submit->function == WSKLAB_FN_INDICATION_INFO) {
        status = ObjectBeginUse(client, submit->object, WSKLAB_OBJECT_DATA, &Operation->Object);
        return status == STATUS_OBJECT_TYPE_MISMATCH
                   ? ObjectBeginUse(client, submit->object, WSKLAB_OBJECT_DATAGRAM, &Operation->Object)
                   : status;
    }
    if (!Releases(submit, &kind)) {
        return ObjectBeginUse(client, submit->object, kind, &Operation->Object);
    }
    status = ObjectBeginRelease(client, submit->object, kind, &Operation->Object);
    if (NT_SUCCESS(status) && Operation->Object->Socket != submit->socket) {
        ObjectEndRelease(client, Operation->Object, FALSE);
        Operation->Object = NULL;
        status = STATUS_INVALID_PARAMETER; /* kept for another socket */
    }
    return status;
}

static VOID LetGo(OPERATION *Operation, NTSTATUS Status) {
    ULONG kind;

    if (Operation->Object == NULL) {
        return;
    }
    if (Releases(&Operation->Submit, &kind)) {
        /* At its client's end what WSK does not take back is given up: the next step must not find it again. */
        BOOLEAN givenUp = Operation->Internal && Operation->Record.enter_sequence != 0;
        if (givenUp && !NT_SUCCESS(Status)) {
            LogLine("client %u: object %u was not taken back (%08x); it is left over\n", Operation->Client->Id,
                    Operation->Object->Number, (ULONG)Status);
        }
        ObjectEndRelease(Operation->Client, Operation->Object, givenUp || (NT_SUCCESS(Status) && !Operation->KeepsRest));
    } else {
        ObjectEndUse(Operation->Client, Operation->Object);
    }
}

_Use_decl_annotations_ VOID HoldSettle(OPERATION *Operation, NTSTATUS Status, PVOID Made, ULONG Count, ULONG64 Length) {
    CLIENT *client = Operation->Client;
    /* Of a cached descriptor: the input begins with the pointer to what was cached. */
    BOOLEAN differs = Operation->Input.Bytes == NULL || *(PVOID *)Operation->Input.Bytes != Made;
    KIRQL irql;

    if (InterlockedExchange(&Operation->ObjectsSettled, 1) != 0) {
        if (Made != NULL) {
            LogLine("operation %u made an object after it had been given up; it is left over\n", Operation->Submit.op_id);
        }
        return;
    }
    if (Operation->NewObject != NULL) {
        if (Made != NULL) {
            ObjectPublish(client, Operation->NewObject, Made, Count, Length);
            KeAcquireSpinLock(&client->Lock, &irql);
            Operation->Record.object = Operation->Submit.new_object;
            Operation->Record.flags |= WSKLAB_RECORD_OBJECT_MADE | (differs ? WSKLAB_RECORD_OBJECT_DIFFERS : 0);
            KeReleaseSpinLock(&client->Lock, irql);
        } else {
            ObjectDrop(client, Operation->NewObject);
        }
    }
    LetGo(Operation, Status);
}

_Use_decl_annotations_ VOID HoldLose(OPERATION *Operation) {
    if (InterlockedExchange(&Operation->ObjectsSettled, 1) == 0 && Operation->NewObject != NULL) {
        ObjectDrop(Operation->Client, Operation->NewObject);
    }
}
