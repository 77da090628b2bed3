/*
 * callbacks.c: WSK calls us.
 */
#include "callbacks.h"

#include "argument.h"
#include "indication.h"
#include "inspect.h"
#include "issue.h"
#include "script.h"
#include "socket.h"

/* One callback in progress. */
typedef struct CALLBACK {
    CLIENT *Client; /* referenced */
    SOCKET *Socket; /* referenced; NULL when no socket has the context */
    WSKLAB_EVENT Enter;
    WSKLAB_EVENT Exit;
    WSKLAB_ANSWER Answer;
} CALLBACK;

/* The categories whose sockets get a callback. */
static ULONG CategoriesOf(UCHAR Which) {
    switch (Which) {
    case WSKLAB_CALLBACK_ACCEPT:
    case WSKLAB_CALLBACK_INSPECT:
    case WSKLAB_CALLBACK_ABORT:
        return WSKLAB_CATEGORY_LISTEN | WSKLAB_CATEGORY_STREAM;
    case WSKLAB_CALLBACK_RECEIVE_FROM:
        return WSKLAB_CATEGORY_DATAGRAM;
    default:
        return WSKLAB_CATEGORY_CONNECTION | WSKLAB_CATEGORY_STREAM;
    }
}

/* FALSE: nobody's callback, which cannot be; only the log hears of it. */
static BOOLEAN Begin(CALLBACK *Call, CLIENT *Client, UCHAR Which, ULONG Flags) {
    if (Client == NULL) {
        LogLine("callback %u for a client that is gone\n", Which);
        return FALSE;
    }
    RtlZeroMemory(Call, sizeof(*Call));
    Call->Client = Client;
    Call->Enter.kind = WSKLAB_EVENT_CALLBACK_ENTER;
    Call->Enter.callback = Which;
    Call->Enter.sequence = PlatformNextSequence();
    Call->Enter.flags = Flags;
    LedgerAdd(&Client->Ledger, LEDGER_COUNT(callbacks), 1);
    return TRUE;
}

static BOOLEAN BeginSocket(CALLBACK *Call, ULONG Slot, UCHAR Which, PVOID Context, ULONG Flags) {
    if (!Begin(Call, ClientBySlot(Slot), Which, Flags)) {
        return FALSE;
    }
    /* The context is opaque and may be any number: it is looked up, never followed. */
    Call->Socket = SocketByContext(Call->Client, (ULONG64)(ULONG_PTR)Context, CategoriesOf(Which), &Call->Enter.notes);
    if (Call->Socket == NULL) {
        Call->Enter.notes |= WSKLAB_NOTE_NO_SOCKET; /* it may be a pointer of ours: not shown */
    } else {
        Call->Enter.socket = Call->Socket->Number;
        Call->Enter.context = Call->Socket->ContextIsOurs ? 0 : (ULONG64)(ULONG_PTR)Context;
    }
    return TRUE;
}

/* What WSK said is complete: record it, and find the answer. */
static VOID Said(CALLBACK *Call) {
    RingRecord(&Call->Client->Ring, &Call->Enter);
    Call->Exit = (WSKLAB_EVENT){.kind = WSKLAB_EVENT_CALLBACK_EXIT,
                                .callback = Call->Enter.callback,
                                .socket = Call->Enter.socket,
                                .context = Call->Enter.context,
                                .value = Call->Enter.sequence,
                                .object = Call->Enter.object};
    if (Call->Socket == NULL && Call->Enter.callback != WSKLAB_CALLBACK_CLIENT) {
        return;
    }
    if (ScriptNext(Call->Client, Call->Enter.socket, Call->Enter.callback, &Call->Answer)) {
        Call->Exit.notes |= WSKLAB_NOTE_SCRIPTED;
        Call->Exit.action = (UCHAR)Call->Answer.action;
        OperationContinueInCallback(Call->Client, Call->Answer.then_op);
        for (ULONG i = 0; i < Call->Answer.hold_ms * 20; i++) {
            KeStallExecutionProcessor(50); /* a callback must not wait; it may be slow */
        }
    }
}

/* The script's wish cannot be met: the default instead. */
static VOID FallBack(CALLBACK *Call) {
    Call->Exit.notes |= WSKLAB_NOTE_NO_ROOM;
    Call->Exit.action = WSKLAB_ACTION_DEFAULT;
}

static VOID End(CALLBACK *Call, NTSTATUS Status) {
    Call->Exit.status = Status;
    RingRecord(&Call->Client->Ring, &Call->Exit);
    if (Call->Socket != NULL) {
        SocketDereference(Call->Socket);
    }
    ClientDereference(Call->Client);
}

static VOID CopyAddress(WSKLAB_ADDRESS *Out, const SOCKADDR *Address) {
    if (Address != NULL) {
        Out->length = Address->sa_family == AF_INET6 ? WSKLAB_SOCKADDR_IN6_SIZE : WSKLAB_SOCKADDR_IN_SIZE;
        RtlCopyMemory(Out->bytes, Address, Out->length);
    }
}

/* The connection becomes a socket of the client; WSK's outputs are set before anybody can use it. */
static NTSTATUS TakeConnection(CALLBACK *Call, PWSK_SOCKET Accepted, PVOID *AcceptedContext,
                               const WSK_CLIENT_CONNECTION_DISPATCH **Dispatch) {
    SOCKET *listener = Call->Socket;
    SOCKET traits = {.Number = Call->Answer.number,
                     .Category = WSKLAB_CATEGORY_CONNECTION,
                     .Family = listener->Family,
                     .Type = listener->Type,
                     .Protocol = listener->Protocol,
                     .Context = Call->Answer.socket_context};
    WSKLAB_EVENT opened = {.kind = WSKLAB_EVENT_SOCKET_OPENED, .socket = traits.Number};
    SOCKET *socket;

    if (traits.Number == 0 || traits.Number > WSKLAB_MAX_NUMBER ||
        !NT_SUCCESS(SocketReserve(Call->Client, &traits, listener, &socket))) {
        FallBack(Call);
        return STATUS_REQUEST_NOT_ACCEPTED;
    }
    *AcceptedContext = (PVOID)(ULONG_PTR)Call->Answer.socket_context;
    *Dispatch = SocketInheritedDispatch(socket, listener, Call->Answer.dispatch, Call->Answer.dispatch_mask);
    Call->Exit.flags = SocketPublish(socket, Accepted);
    Call->Exit.new_socket = socket->Number;
    RingRecord(&Call->Client->Ring, &opened);
    SocketDereference(socket); /* the table keeps it */
    return STATUS_SUCCESS;
}

_Use_decl_annotations_ NTSTATUS CallbackAccept(ULONG Slot, PVOID Context, ULONG Flags, PSOCKADDR Local, PSOCKADDR Remote,
                                               PWSK_SOCKET Accepted, PVOID *AcceptedContext,
                                               const WSK_CLIENT_CONNECTION_DISPATCH **Dispatch) {
    NTSTATUS status = STATUS_REQUEST_NOT_ACCEPTED; /* WSK closes the socket itself */
    CALLBACK call;

    if (!BeginSocket(&call, Slot, WSKLAB_CALLBACK_ACCEPT, Context, Flags)) {
        return status;
    }
    CopyAddress(&call.Enter.local, Local);
    CopyAddress(&call.Enter.remote, Remote);
    call.Enter.notes |= Accepted == NULL ? WSKLAB_NOTE_NULL_ARGUMENT : 0;
    Said(&call);
    if (call.Answer.action == WSKLAB_ACTION_TAKE && Accepted != NULL) {
        status = TakeConnection(&call, Accepted, AcceptedContext, Dispatch);
    }
    End(&call, status);
    return status;
}

_Use_decl_annotations_ WSK_INSPECT_ACTION CallbackInspect(ULONG Slot, PVOID Context, PSOCKADDR Local, PSOCKADDR Remote,
                                                          PWSK_INSPECT_ID Id) {
    WSK_INSPECT_ACTION action = WskInspectReject;
    CALLBACK call;

    if (!BeginSocket(&call, Slot, WSKLAB_CALLBACK_INSPECT, Context, 0)) {
        return action;
    }
    CopyAddress(&call.Enter.local, Local);
    CopyAddress(&call.Enter.remote, Remote);
    if (Id == NULL) {
        call.Enter.notes |= WSKLAB_NOTE_NULL_ARGUMENT;
    } else {
        call.Enter.object = InspectRemember(call.Client, Id);
    }
    Said(&call);
    if (call.Answer.action == WSKLAB_ACTION_TAKE) {
        action = WskInspectAccept;
    } else if (call.Answer.action == WSKLAB_ACTION_PEND) {
        action = WskInspectPend;
    }
    End(&call, (NTSTATUS)action);
    return action;
}

_Use_decl_annotations_ NTSTATUS CallbackAbort(ULONG Slot, PVOID Context, PWSK_INSPECT_ID Id) {
    CALLBACK call;

    if (!BeginSocket(&call, Slot, WSKLAB_CALLBACK_ABORT, Context, 0)) {
        return STATUS_SUCCESS;
    }
    if (Id == NULL) {
        call.Enter.notes |= WSKLAB_NOTE_NULL_ARGUMENT;
    } else {
        call.Enter.object = InspectNumber(call.Client, Id);
    }
    Said(&call);
    End(&call, STATUS_SUCCESS);
    return STATUS_SUCCESS;
}

/* Keep an indication: STATUS_PENDING; it is the client's until it releases it. */
static NTSTATUS Keep(CALLBACK *Call, ULONG Kind, PVOID Indication, const MEASURE *Measure) {
    OBJECT *object;

    if (Call->Answer.number == 0 || Call->Answer.number > WSKLAB_MAX_NUMBER ||
        !NT_SUCCESS(ObjectReserve(Call->Client, Call->Answer.number, Kind, Call->Socket, &object))) {
        FallBack(Call);
        return STATUS_DATA_NOT_ACCEPTED;
    }
    ObjectPublish(Call->Client, object, Indication, Measure->Buffers, Measure->Listed);
    Call->Exit.object = Call->Answer.number;
    return STATUS_PENDING;
}

/* One event per datagram, and the sums of the list. */
static VOID RecordDatagrams(CALLBACK *Call, const WSK_DATAGRAM_INDICATION *First, MEASURE *Sum) {
    for (const WSK_DATAGRAM_INDICATION *entry = First; entry != NULL; entry = entry->Next) {
        WSKLAB_EVENT event = {.kind = WSKLAB_EVENT_DATAGRAM,
                              .callback = WSKLAB_CALLBACK_RECEIVE_FROM,
                              .socket = Call->Enter.socket,
                              .value = Sum->Buffers,
                              .length = entry->Buffer.Length,
                              .control_length = entry->ControlInfoLength};
        MEASURE one;

        IndicationMeasureBuffer(&entry->Buffer, &one);
        event.digest = one.Digest;
        event.notes = one.Unreadable ? WSKLAB_NOTE_UNREADABLE : 0;
        if (entry->ControlInfo != NULL && entry->ControlInfoLength != 0) {
            event.control_digest = DigestContinue(DIGEST_START, entry->ControlInfo, entry->ControlInfoLength);
        }
        CopyAddress(&event.remote, entry->RemoteAddress);
        RingRecord(&Call->Client->Ring, &event);
        Sum->Buffers++;
        Sum->Listed += one.Listed;
    }
}

_Use_decl_annotations_ NTSTATUS CallbackReceiveFrom(ULONG Slot, PVOID Context, ULONG Flags, PWSK_DATAGRAM_INDICATION Indication) {
    NTSTATUS status = STATUS_DATA_NOT_ACCEPTED;
    MEASURE sum = {0};
    CALLBACK call;

    if (!BeginSocket(&call, Slot, WSKLAB_CALLBACK_RECEIVE_FROM, Context, Flags)) {
        return status;
    }
    for (const WSK_DATAGRAM_INDICATION *entry = Indication; entry != NULL; entry = entry->Next) {
        call.Enter.buffers++;
        call.Enter.listed += entry->Buffer.Length;
    }
    call.Enter.length = call.Enter.listed;
    call.Enter.notes |= Indication == NULL ? WSKLAB_NOTE_NULL_ARGUMENT : 0;
    Said(&call);
    RecordDatagrams(&call, Indication, &sum);
    if (Indication != NULL && call.Answer.action == WSKLAB_ACTION_TAKE) {
        status = STATUS_SUCCESS;
    } else if (Indication != NULL && call.Answer.action == WSKLAB_ACTION_KEEP) {
        status = Keep(&call, WSKLAB_OBJECT_DATAGRAM, Indication, &sum);
    }
    End(&call, status);
    return status;
}

_Use_decl_annotations_ NTSTATUS CallbackReceive(ULONG Slot, PVOID Context, ULONG Flags, PWSK_DATA_INDICATION Indication,
                                                SIZE_T Indicated, SIZE_T *Accepted) {
    NTSTATUS status = STATUS_DATA_NOT_ACCEPTED;
    MEASURE measure;
    CALLBACK call;

    if (!BeginSocket(&call, Slot, WSKLAB_CALLBACK_RECEIVE, Context, Flags)) {
        return status;
    }
    IndicationMeasure(Indication, &measure);
    call.Enter.length = Indicated;
    call.Enter.listed = measure.Listed;
    call.Enter.buffers = measure.Buffers;
    call.Enter.digest = measure.Digest;
    call.Enter.notes |= (Indication == NULL ? WSKLAB_NOTE_NULL_ARGUMENT : 0) | (measure.Unreadable ? WSKLAB_NOTE_UNREADABLE : 0);
    Said(&call);
    if (Indication != NULL) {
        switch (call.Answer.action) {
        case WSKLAB_ACTION_TAKE:
            call.Exit.accepted = Indicated; /* *Accepted is left as it was: all of it */
            status = STATUS_SUCCESS;
            break;
        case WSKLAB_ACTION_TAKE_SOME:
            *Accepted = call.Answer.length < Indicated ? (SIZE_T)call.Answer.length : Indicated;
            call.Exit.accepted = *Accepted;
            status = STATUS_SUCCESS;
            break;
        case WSKLAB_ACTION_KEEP:
            status = Keep(&call, WSKLAB_OBJECT_DATA, Indication, &measure);
            break;
        default:
            break;
        }
    }
    End(&call, status);
    return status;
}

_Use_decl_annotations_ NTSTATUS CallbackDisconnect(ULONG Slot, PVOID Context, ULONG Flags) {
    CALLBACK call;

    if (BeginSocket(&call, Slot, WSKLAB_CALLBACK_DISCONNECT, Context, Flags)) {
        Said(&call);
        End(&call, STATUS_SUCCESS);
    }
    return STATUS_SUCCESS;
}

_Use_decl_annotations_ NTSTATUS CallbackSendBacklog(ULONG Slot, PVOID Context, SIZE_T Ideal) {
    CALLBACK call;

    if (BeginSocket(&call, Slot, WSKLAB_CALLBACK_SEND_BACKLOG, Context, 0)) {
        call.Enter.length = Ideal;
        Said(&call);
        End(&call, STATUS_SUCCESS);
    }
    return STATUS_SUCCESS;
}

NTSTATUS WSKAPI CallbackClientEvent(PVOID ClientContext, ULONG EventType, PVOID Information, SIZE_T InformationLength) {
    CALLBACK call;

    UNREFERENCED_PARAMETER(Information);
    if (Begin(&call, ClientByAddress(ClientContext), WSKLAB_CALLBACK_CLIENT, EventType)) {
        call.Enter.length = InformationLength;
        Said(&call);
        End(&call, STATUS_SUCCESS);
    }
    return STATUS_SUCCESS;
}
