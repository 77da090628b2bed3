/*
 * stream.h: a connection: what is to be sent, what has come, how it ends.
 */
#ifndef WSKLAB_PROVIDER_STREAM_H
#define WSKLAB_PROVIDER_STREAM_H

#include "provider.h"

typedef struct WSKP_CONNECTION_STATE {
    LIST_ENTRY Connects; /* at most one request */
    LIST_ENTRY Sends;    /* sends, and disconnects behind them */
    LIST_ENTRY Receives;
    LIST_ENTRY Stash;    /* views of what was read from the host and not consumed (data.h) */
    SIZE_T StashBytes;
    LIST_ENTRY Retained; /* indications that the client keeps */
    BOOLEAN Indicating;  /* the receive callback has data: nothing is given to anybody else meanwhile */
    BOOLEAN ReleasedEarly; /* some of it was given back while the callback ran */
    BOOLEAN Paused;      /* no receive callback before a WskReceive (DATA-014) */
    ULONG ReceiveCalls;
    BOOLEAN SendClosed;  /* a graceful disconnect was asked for */
    BOOLEAN FinSent;
    BOOLEAN FinAcknowledged;
    BOOLEAN PeerFinished; /* the peer's direction has ended; there may be unread data */
    BOOLEAN EndReached;   /* ... and there is none */
    BOOLEAN Silent;       /* OPT-012 */
    int HostError;        /* the host told it while a request was in hand: breaks the connection at the next look */
    NTSTATUS Broken;      /* reset by the peer or aborted by us: what later calls answer; success: no */
    BOOLEAN BrokenByPeer;
    BOOLEAN DisconnectTold;
    SIZE_T BacklogTold;
} WSKP_CONNECTION_STATE;

void WskpStreamInitialize(WSKP_CONNECTION_STATE *stream);
/* With the lock. */
void WskpStreamConnected(WSKP_SOCKET *socket);
void WskpStreamProgress(WSKP_SOCKET *socket);
void WskpSendProgress(WSKP_SOCKET *socket);
/* A request of this call, or one that was claimed: behind all others, and as far as it goes now. */
void WskpSendEnqueue(WSKP_SOCKET *socket, WSKP_REQUEST *request);
void WskpReceiveProgress(WSKP_SOCKET *socket);
void WskpConnectProgress(WSKP_SOCKET *socket);
/* The end of the peer's direction is the next thing to read; what the host reports instead is kept in HostError. */
BOOLEAN WskpStreamAtEnd(WSKP_SOCKET *socket);
/* Before a queue is looked at: break what is broken. */
void WskpStreamCheckHost(WSKP_SOCKET *socket);
/* Bytes that have come and are not consumed. */
SIZE_T WskpStreamUnread(WSKP_SOCKET *socket);
/* The connection is gone: `status` for everything that is queued for sending, and for later calls. */
void WskpStreamBreak(WSKP_SOCKET *socket, NTSTATUS status, BOOLEAN byPeer);
void WskpStreamClose(WSKP_SOCKET *socket);
SIZE_T WskpStreamIdealBacklog(WSKP_SOCKET *socket);

BOOLEAN WskpStreamReceiveDue(WSKP_SOCKET *socket);
BOOLEAN WskpStreamDisconnectDue(WSKP_SOCKET *socket);
BOOLEAN WskpStreamBacklogDue(WSKP_SOCKET *socket);
KIRQL WskpStreamReceiveCall(WSKP_SOCKET *socket, KIRQL level, KIRQL irql);
KIRQL WskpStreamDisconnectCall(WSKP_SOCKET *socket, KIRQL level, KIRQL irql);
KIRQL WskpStreamBacklogCall(WSKP_SOCKET *socket, KIRQL level, KIRQL irql);

#endif
