/*
 * thunks.h: the addresses that WSK calls back: one set per client.
 *
 * A callback gets nothing but the socket's context, which is the caller's choice and may be any number, the same one in
 * two clients. So each client hands out functions of its own, and the function says whose callback it is.
 */
#ifndef WSKLAB_THUNKS_H
#define WSKLAB_THUNKS_H

#include "platform.h"

typedef struct THUNKS {
    PFN_WSK_ACCEPT_EVENT Accept;
    PFN_WSK_INSPECT_EVENT Inspect;
    PFN_WSK_ABORT_EVENT Abort;
    PFN_WSK_RECEIVE_FROM_EVENT ReceiveFrom;
    PFN_WSK_RECEIVE_EVENT Receive;
    PFN_WSK_DISCONNECT_EVENT Disconnect;
    PFN_WSK_SEND_BACKLOG_EVENT SendBacklog;
} THUNKS;

/* Of the client in this slot, 0 .. WSKLAB_MAX_CLIENTS - 1. */
const THUNKS *ThunksOf(ULONG Slot);

#endif
