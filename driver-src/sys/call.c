/*
 * call.c: from an operation to the call that it stands for.
 */
#include "call.h"

#include "control.h"
#include "failures.h"
#include "hold.h"
#include "members.h"
#include "names.h"
#include "routines.h"
#include "sample_listen.h"

/* How a function is called, and which member of the socket's table it needs (one more, 0 = none). */
typedef struct CALL {
    CALL_ROUTINE Routine;
    UCHAR Member;
} CALL;

#define THROUGH(member) (MEMBER_##member + 1)

static const CALL g_Calls[WSKLAB_FN_END] = {
    [WSKLAB_FN_SAMPLE_LISTEN] = {SampleRun, 0},
    [WSKLAB_FN_SOCKET] = {RoutineSocket, 0},
    [WSKLAB_FN_SOCKET_CONNECT] = {RoutineSocketConnect, 0},
    [WSKLAB_FN_CONTROL_CLIENT] = {ControlCall, 0},
    [WSKLAB_FN_REGISTER] = {RoutineRegister, 0},
    [WSKLAB_FN_CAPTURE] = {RoutineCapture, 0},
    [WSKLAB_FN_RELEASE_NPI] = {RoutineReleaseNpi, 0},
    [WSKLAB_FN_DEREGISTER] = {RoutineDeregister, 0},
    [WSKLAB_FN_QUERY_CHARACTERISTICS] = {RoutineQueryCharacteristics, 0},
    [WSKLAB_FN_PROVIDER_INFO] = {RoutineProviderInfo, 0},
    [WSKLAB_FN_GET_ADDRESS_INFO] = {NamesGetAddressInfo, 0},
    [WSKLAB_FN_FREE_ADDRESS_INFO] = {NamesFreeAddressInfo, 0},
    [WSKLAB_FN_GET_NAME_INFO] = {NamesGetNameInfo, 0},
    [WSKLAB_FN_NMR_REGISTER] = {RoutineNmrRegister, 0},
    [WSKLAB_FN_NMR_DEREGISTER] = {RoutineNmrDeregister, 0},
    [WSKLAB_FN_INDICATION_INFO] = {RoutineIndicationInfo, 0},
    [WSKLAB_FN_SOCKET_INFO] = {RoutineSocketInfo, 0},
    [WSKLAB_FN_CONTROL_SOCKET] = {ControlCall, THROUGH(CONTROL)},
    [WSKLAB_FN_BIND] = {RoutineBind, THROUGH(BIND)},
    [WSKLAB_FN_LISTEN] = {RoutineListen, THROUGH(LISTEN)},
    [WSKLAB_FN_ACCEPT] = {RoutineAccept, THROUGH(ACCEPT)},
    [WSKLAB_FN_INSPECT_COMPLETE] = {RoutineInspectComplete, THROUGH(INSPECT_COMPLETE)},
    [WSKLAB_FN_CONNECT] = {RoutineConnect, THROUGH(CONNECT)},
    [WSKLAB_FN_CONNECT_EX] = {RoutineConnectEx, THROUGH(CONNECT_EX)},
    [WSKLAB_FN_GET_LOCAL_ADDRESS] = {RoutineGetLocalAddress, THROUGH(GET_LOCAL_ADDRESS)},
    [WSKLAB_FN_GET_REMOTE_ADDRESS] = {RoutineGetRemoteAddress, THROUGH(GET_REMOTE_ADDRESS)},
    [WSKLAB_FN_SEND] = {RoutineSend, THROUGH(SEND)},
    [WSKLAB_FN_RECEIVE] = {RoutineReceive, THROUGH(RECEIVE)},
    [WSKLAB_FN_DISCONNECT] = {RoutineDisconnect, THROUGH(DISCONNECT)},
    [WSKLAB_FN_SEND_TO] = {RoutineSendTo, THROUGH(SEND_TO)},
    [WSKLAB_FN_SEND_MESSAGES] = {RoutineSendMessages, THROUGH(SEND_MESSAGES)},
    [WSKLAB_FN_RECEIVE_FROM] = {RoutineReceiveFrom, THROUGH(RECEIVE_FROM)},
    [WSKLAB_FN_RELEASE_DATA] = {RoutineReleaseData, THROUGH(RELEASE)},
    [WSKLAB_FN_RELEASE_DATAGRAM] = {RoutineReleaseDatagram, THROUGH(RELEASE)},
    [WSKLAB_FN_CLOSE] = {RoutineClose, THROUGH(CLOSE)},
};

/* The client dispatch that the new socket gets. Events that are on from the start need their callbacks: nobody says what
 * WSK does without (a hazard). */
static NTSTATUS PrepareDispatch(OPERATION *Operation) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    SOCKET *created = Operation->NewSocket;
    BOOLEAN byFlags = submit->function == WSKLAB_FN_SOCKET;
    ULONG events;
    KIRQL irql;

    KeAcquireSpinLock(&Operation->Client->Lock, &irql);
    Operation->Dispatch = CallbackTablesSet(&created->Tables, Operation->Client->Slot, byFlags ? submit->flags : created->Category,
                                            submit->dispatch, submit->dispatch_mask);
    events = Operation->Client->StaticEvents | Operation->Client->StaticAsked;
    KeReleaseSpinLock(&Operation->Client->Lock, irql);
    events &= CallbackCategoryEvents(created->Category) & ~CallbackTablesEvents(&created->Tables, created->Category);
    return events == 0 || (submit->switches & WSKLAB_SWITCH_HAZARD) ? STATUS_SUCCESS : STATUS_INVALID_DEVICE_STATE;
}

/* The state that a function without a socket needs. */
static NTSTATUS PrepareRegistration(OPERATION *Operation) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    CLIENT *client = Operation->Client;

    switch (submit->function) {
    case WSKLAB_FN_REGISTER:
        return RegistrationBeginRegister(client, submit->version,
                                         submit->dispatch != WSKLAB_DISPATCH_NULL ? CallbackClientEvent : NULL);
    case WSKLAB_FN_CAPTURE:
        return RegistrationMayCapture(client, (submit->switches & WSKLAB_SWITCH_AFTER_DEREGISTER) != 0);
    case WSKLAB_FN_RELEASE_NPI:
        return RegistrationBeginRelease(client);
    case WSKLAB_FN_DEREGISTER:
        return RegistrationBeginDeregister(client);
    case WSKLAB_FN_QUERY_CHARACTERISTICS:
        if (PlatformFacts()->Wine && !(submit->switches & WSKLAB_SWITCH_EVEN_IF_RAISING)) {
            return STATUS_NOT_SUPPORTED;
        }
        return RegistrationMayCapture(client, FALSE);
    case WSKLAB_FN_NMR_REGISTER:
        if (PlatformFacts()->Wine && !(submit->switches & WSKLAB_SWITCH_EVEN_IF_RAISING)) {
            return STATUS_NOT_SUPPORTED;
        }
        return NmrBeginRegister(client, submit->version, (submit->switches & WSKLAB_SWITCH_NMR_RETRY) != 0,
                                submit->dispatch != WSKLAB_DISPATCH_NULL ? CallbackClientEvent : NULL);
    case WSKLAB_FN_NMR_DEREGISTER:
        return NmrBeginDeregister(client);
    default:
        return STATUS_SUCCESS;
    }
}

static NTSTATUS PrepareSocket(OPERATION *Operation) {
    UCHAR member = g_Calls[Operation->Submit.function].Member;
    NTSTATUS status = STATUS_SUCCESS;

    if (Operation->Socket->Wsk->Dispatch == NULL) {
        return STATUS_INVALID_DEVICE_STATE;
    }
    if (member != 0 && MemberOf(Operation->Socket, (MEMBER)(member - 1)) == NULL) {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    if (Operation->Submit.function == WSKLAB_FN_ACCEPT) {
        SocketInherit(Operation->NewSocket, Operation->Socket);
    }
    if (Operation->Submit.function == WSKLAB_FN_INSPECT_COMPLETE) {
        if (Operation->Submit.switches & WSKLAB_SWITCH_UNKNOWN_ID) {
            Operation->InspectId = (WSK_INSPECT_ID){.Key = Operation->Submit.object, .SerialNumber = Operation->Submit.object};
        } else {
            status = InspectId(Operation->Client, Operation->Submit.object, &Operation->InspectId);
        }
    }
    return status;
}

_Use_decl_annotations_ NTSTATUS CallPrepare(OPERATION *Operation) {
    NTSTATUS status = Operation->Socket != NULL ? PrepareSocket(Operation) : NamesBegin(Operation);

    if (NT_SUCCESS(status)) {
        status = HoldBegin(Operation);
    }
    if (NT_SUCCESS(status) && OPERATION_HAS(Operation, FUNCTION_CONTROL)) {
        status = ControlBegin(Operation);
    }
    if (NT_SUCCESS(status) && Operation->NewSocket != NULL) {
        status = PrepareDispatch(Operation);
    }
    /* Last: what it changes is not taken back. */
    return NT_SUCCESS(status) ? PrepareRegistration(Operation) : status;
}

_Use_decl_annotations_ NTSTATUS CallWsk(OPERATION *Operation) {
#ifdef WSKLAB_FAILURES
    if (FailureIsOffered(Operation->Submit.function)) {
        return FailureRun(Operation);
    }
#endif
    return g_Calls[Operation->Submit.function].Routine(Operation);
}

_Use_decl_annotations_ VOID CallEnd(OPERATION *Operation, NTSTATUS Status, ULONG64 Information) {
    if (OPERATION_HAS(Operation, FUNCTION_CONTROL)) {
        ControlEnd(Operation, Status, Information);
    } else if (OPERATION_HAS(Operation, FUNCTION_NAMES)) {
        NamesEnd(Operation, Status);
    } else {
        HoldSettle(Operation, Status, NULL, 0, 0);
    }
}
