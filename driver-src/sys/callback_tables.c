/*
 * callback_tables.c: client dispatch tables.
 */
#include "callbacks.h"

#include "thunks.h"

#define CONNECTION_EVENTS (WSK_EVENT_RECEIVE | WSK_EVENT_DISCONNECT | WSK_EVENT_SEND_BACKLOG)

const VOID *CallbackTablesSet(CALLBACK_TABLES *Tables, ULONG Slot, ULONG Category, UCHAR Dispatch, ULONG Mask) {
    const THUNKS *thunks = ThunksOf(Slot);
    ULONG set = Dispatch == WSKLAB_DISPATCH_FULL ? 0xFFFFFFFFu : Mask;

    if (Dispatch == WSKLAB_DISPATCH_NULL) {
        return NULL;
    }
    Tables->Listen.WskAcceptEvent = set & 1u ? thunks->Accept : NULL;
    Tables->Listen.WskInspectEvent = set & 2u ? thunks->Inspect : NULL;
    Tables->Listen.WskAbortEvent = set & 4u ? thunks->Abort : NULL;
    Tables->Datagram.WskReceiveFromEvent = set & 1u ? thunks->ReceiveFrom : NULL;
    /* A stream socket has both tables: its connection callbacks are the bits after the listening ones. */
    set = Category == WSKLAB_CATEGORY_STREAM && Dispatch == WSKLAB_DISPATCH_MASK ? Mask >> 3 : set;
    Tables->Connection.WskReceiveEvent = set & 1u ? thunks->Receive : NULL;
    Tables->Connection.WskDisconnectEvent = set & 2u ? thunks->Disconnect : NULL;
    Tables->Connection.WskSendBacklogEvent = set & 4u ? thunks->SendBacklog : NULL;
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

ULONG CallbackCategoryEvents(ULONG Category) {
    switch (Category) {
    case WSKLAB_CATEGORY_LISTEN:
        return WSK_EVENT_ACCEPT;
    case WSKLAB_CATEGORY_CONNECTION:
        return CONNECTION_EVENTS;
    case WSKLAB_CATEGORY_DATAGRAM:
        return WSK_EVENT_RECEIVE_FROM;
    case WSKLAB_CATEGORY_STREAM:
        return WSK_EVENT_ACCEPT | CONNECTION_EVENTS;
    default:
        return 0;
    }
}

ULONG CallbackTablesEvents(const CALLBACK_TABLES *Tables, ULONG Category) {
    ULONG events = (Tables->Listen.WskAcceptEvent != NULL ? WSK_EVENT_ACCEPT : 0) |
                   (Tables->Datagram.WskReceiveFromEvent != NULL ? WSK_EVENT_RECEIVE_FROM : 0) |
                   (Tables->Connection.WskReceiveEvent != NULL ? WSK_EVENT_RECEIVE : 0) |
                   (Tables->Connection.WskDisconnectEvent != NULL ? WSK_EVENT_DISCONNECT : 0) |
                   (Tables->Connection.WskSendBacklogEvent != NULL ? WSK_EVENT_SEND_BACKLOG : 0);
    return events & CallbackCategoryEvents(Category);
}
