/*
 * callbacks.h: the client dispatch tables that are handed to WSK, and the callbacks behind them.
 *
 * No event is ever enabled in this version, so every call is a finding: it is recorded in the ring of the client
 * whose socket has the delivered context (WSK-SOCK-010, WSK-ACC-009).
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

/* The table for a category as a request asks for it (WSKLAB_DISPATCH_*); NULL where none is passed. */
const VOID *CallbackTablesSet(CALLBACK_TABLES *Tables, ULONG Category, UCHAR Dispatch, ULONG Mask);

#endif
