/*
 * callbacks.c: event callbacks; they only record.
 */
#include "callbacks.h"

#include "client.h"

/* The context is opaque and may be any number: it is looked up, never followed. */
static VOID Record(PVOID Context, ULONG Kind, NTSTATUS Status) {
    ULONG id = 0;
    CLIENT *client;

    while ((client = ClientNext(id)) != NULL) {
        ULONG64 shown = 0;
        ULONG number = ClientSocketByContext(client, (ULONG64)(ULONG_PTR)Context, &shown);
        id = client->Id;
        if (number != 0) {
            WSKLAB_EVENT event = {.kind = WSKLAB_EVENT_CALLBACK_ENTER,
                                  .socket = number,
                                  .callback = (UCHAR)Kind,
                                  .context = shown};
            RingRecord(&client->Ring, event);
            event.kind = WSKLAB_EVENT_CALLBACK_EXIT;
            event.status = Status;
            RingRecord(&client->Ring, event);
            ClientDereference(client);
            return;
        }
        ClientDereference(client);
    }
    LogLine("callback %lu for an unknown context\n", Kind);
}

static NTSTATUS WSKAPI OnAccept(PVOID Context, ULONG Flags, PSOCKADDR Local, PSOCKADDR Remote, PWSK_SOCKET Socket,
                                PVOID *AcceptContext, const WSK_CLIENT_CONNECTION_DISPATCH **AcceptDispatch) {
    UNREFERENCED_PARAMETER(Flags);
    UNREFERENCED_PARAMETER(Local);
    UNREFERENCED_PARAMETER(Remote);
    UNREFERENCED_PARAMETER(Socket);
    UNREFERENCED_PARAMETER(AcceptContext);
    UNREFERENCED_PARAMETER(AcceptDispatch);
    Record(Context, WSKLAB_CALLBACK_ACCEPT, STATUS_REQUEST_NOT_ACCEPTED);
    return STATUS_REQUEST_NOT_ACCEPTED; /* the subsystem closes the socket itself */
}

static WSK_INSPECT_ACTION WSKAPI OnInspect(PVOID Context, PSOCKADDR Local, PSOCKADDR Remote, PWSK_INSPECT_ID Id) {
    UNREFERENCED_PARAMETER(Local);
    UNREFERENCED_PARAMETER(Remote);
    UNREFERENCED_PARAMETER(Id);
    Record(Context, WSKLAB_CALLBACK_INSPECT, STATUS_SUCCESS);
    return WskInspectReject;
}

static NTSTATUS WSKAPI OnAbort(PVOID Context, PWSK_INSPECT_ID Id) {
    UNREFERENCED_PARAMETER(Id);
    Record(Context, WSKLAB_CALLBACK_ABORT, STATUS_SUCCESS);
    return STATUS_SUCCESS;
}

static NTSTATUS WSKAPI OnReceiveFrom(PVOID Context, ULONG Flags, PWSK_DATAGRAM_INDICATION Indication) {
    UNREFERENCED_PARAMETER(Flags);
    UNREFERENCED_PARAMETER(Indication);
    Record(Context, WSKLAB_CALLBACK_RECEIVE_FROM, STATUS_DATA_NOT_ACCEPTED);
    return STATUS_DATA_NOT_ACCEPTED;
}

static NTSTATUS WSKAPI OnReceive(PVOID Context, ULONG Flags, PWSK_DATA_INDICATION Indication, SIZE_T Indicated,
                                 SIZE_T *Accepted) {
    UNREFERENCED_PARAMETER(Flags);
    UNREFERENCED_PARAMETER(Indication);
    UNREFERENCED_PARAMETER(Indicated);
    UNREFERENCED_PARAMETER(Accepted);
    Record(Context, WSKLAB_CALLBACK_RECEIVE, STATUS_DATA_NOT_ACCEPTED);
    return STATUS_DATA_NOT_ACCEPTED;
}

static NTSTATUS WSKAPI OnDisconnect(PVOID Context, ULONG Flags) {
    UNREFERENCED_PARAMETER(Flags);
    Record(Context, WSKLAB_CALLBACK_DISCONNECT, STATUS_SUCCESS);
    return STATUS_SUCCESS;
}

static NTSTATUS WSKAPI OnSendBacklog(PVOID Context, SIZE_T Ideal) {
    UNREFERENCED_PARAMETER(Ideal);
    Record(Context, WSKLAB_CALLBACK_SEND_BACKLOG, STATUS_SUCCESS);
    return STATUS_SUCCESS;
}

const VOID *CallbackTablesSet(CALLBACK_TABLES *Tables, ULONG Category, UCHAR Dispatch, ULONG Mask) {
    ULONG set = Dispatch == WSKLAB_DISPATCH_FULL ? 0xFFFFFFFFu : Mask;

    if (Dispatch == WSKLAB_DISPATCH_NULL) {
        return NULL;
    }
    Tables->Listen.WskAcceptEvent = set & 1u ? OnAccept : NULL;
    Tables->Listen.WskInspectEvent = set & 2u ? OnInspect : NULL;
    Tables->Listen.WskAbortEvent = set & 4u ? OnAbort : NULL;
    Tables->Datagram.WskReceiveFromEvent = set & 1u ? OnReceiveFrom : NULL;
    Tables->Connection.WskReceiveEvent = set & 1u ? OnReceive : NULL;
    Tables->Connection.WskDisconnectEvent = set & 2u ? OnDisconnect : NULL;
    Tables->Connection.WskSendBacklogEvent = set & 4u ? OnSendBacklog : NULL;
    Tables->Stream.Listen = &Tables->Listen;
    Tables->Stream.Connect = &Tables->Connection;
    switch (Category) {
    case WSKLAB_CATEGORY_CONNECTION:
        return &Tables->Connection;
    case WSKLAB_CATEGORY_DATAGRAM:
        return &Tables->Datagram;
    case WSKLAB_CATEGORY_STREAM:
        return &Tables->Stream;
    default:
        /* Listening sockets, and categories that nobody defined: the table with the most members. */
        return &Tables->Listen;
    }
}
