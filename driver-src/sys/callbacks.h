/*
 * callbacks.h: the client dispatch tables that are handed to WSK, and the callbacks behind them.
 *
 * A callback records what WSK says (event CALLBACK_ENTER), asks the script for an answer, gives it and records that
 * (CALLBACK_EXIT). It runs at or below DISPATCH_LEVEL in any thread and never waits: spin locks, the ring, pool.
 */
#ifndef WSKLAB_CALLBACKS_H
#define WSKLAB_CALLBACKS_H

#include "platform.h"

/* Tables of one socket; they live as long as the socket does. */
typedef struct CALLBACK_TABLES {
    WSK_CLIENT_LISTEN_DISPATCH Listen;
    WSK_CLIENT_DATAGRAM_DISPATCH Datagram;
    WSK_CLIENT_CONNECTION_DISPATCH Connection;
    WSK_CLIENT_STREAM_DISPATCH Stream;
} CALLBACK_TABLES;

/* The table for a category as a request asks for it (WSKLAB_DISPATCH_*), of the client in `Slot`; NULL where none is passed. */
const VOID *CallbackTablesSet(CALLBACK_TABLES *Tables, ULONG Slot, ULONG Category, UCHAR Dispatch, ULONG Mask);
/* The events (WSK_EVENT_*) of a category for which the tables have a callback. */
ULONG CallbackTablesEvents(const CALLBACK_TABLES *Tables, ULONG Category);
/* The events that sockets of a category can have. */
ULONG CallbackCategoryEvents(ULONG Category);

/* WSK's calls, from the thunks: the client's slot first, then the callback's own arguments. */
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS CallbackAccept(ULONG Slot, PVOID Context, ULONG Flags, PSOCKADDR Local,
                                                            PSOCKADDR Remote, PWSK_SOCKET Accepted, PVOID *AcceptedContext,
                                                            const WSK_CLIENT_CONNECTION_DISPATCH **Dispatch);
_IRQL_requires_max_(DISPATCH_LEVEL) WSK_INSPECT_ACTION CallbackInspect(ULONG Slot, PVOID Context, PSOCKADDR Local,
                                                                       PSOCKADDR Remote, PWSK_INSPECT_ID Id);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS CallbackAbort(ULONG Slot, PVOID Context, PWSK_INSPECT_ID Id);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS CallbackReceiveFrom(ULONG Slot, PVOID Context, ULONG Flags,
                                                                 PWSK_DATAGRAM_INDICATION Indication);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS CallbackReceive(ULONG Slot, PVOID Context, ULONG Flags,
                                                             PWSK_DATA_INDICATION Indication, SIZE_T Indicated,
                                                             SIZE_T *Accepted);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS CallbackDisconnect(ULONG Slot, PVOID Context, ULONG Flags);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS CallbackSendBacklog(ULONG Slot, PVOID Context, SIZE_T Ideal);
/* WskClientEvent: the registration's own context, which is the client. */
NTSTATUS WSKAPI CallbackClientEvent(PVOID ClientContext, ULONG EventType, PVOID Information, SIZE_T InformationLength);

#endif
