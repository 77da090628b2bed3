/*
 * data.h: received bytes that WSK holds: for later receives, and shown to a receive callback.
 *
 * Bytes lie in blocks. A view is a part of a block that waits in a socket's stash; an indication is a structure that the
 * client sees, with an MDL chain over a part of a block. How bytes are cut into indications and MDLs, and at which offset
 * they begin, is drawn: WSK promises nothing, and a client that expects flat data shall fail (appendix B 12).
 */
#ifndef WSKLAB_PROVIDER_DATA_H
#define WSKLAB_PROVIDER_DATA_H

#include "buffer.h"
#include "socket.h"

#include "host/host_datagram.h"

typedef struct WSKP_BLOCK {
    LONG References;
    SIZE_T Size;
    UCHAR Bytes[];
} WSKP_BLOCK;
#define WSKP_SLACK 16u /* bytes of every block before its data, so that an offset can point behind something */

typedef struct WSKP_VIEW {
    LIST_ENTRY Link;
    WSKP_BLOCK *Block;
    SIZE_T Start;
    SIZE_T End;
} WSKP_VIEW;

typedef struct WSKP_INDICATION {
    union {
        WSK_DATA_INDICATION Stream;
        WSK_DATAGRAM_INDICATION Datagram;
    } Public;
    ULONG64 Magic;
    LIST_ENTRY Link; /* in a list of the same, or in Retained of its socket */
    WSKP_SOCKET *Socket;
    BOOLEAN Retained;
    WSKP_VIEW View;
    HOST_PACKET Packet; /* of a datagram */
    UCHAR Address[28];
    ULONG64 Control[8];
} WSKP_INDICATION;

/* All with the lock. */
void WskpBlockDereference(WSKP_BLOCK *block);
/* An empty view of a new block for so many bytes, in no list. NULL when there is no memory. */
WSKP_VIEW *WskpViewCreate(SIZE_T bytes);
void WskpViewDestroy(WSKP_VIEW *view);
/* Takes up to `length` bytes out, into the buffer from `at` on; how many, or -1 when memory cannot be mapped. */
SSIZE_T WskpStashMove(LIST_ENTRY *stash, const WSKP_BUFFER *buffer, SIZE_T at, SIZE_T length);
void WskpStashDrop(LIST_ENTRY *stash);

/* Shows the view's bytes; consumes nothing. NULL when there is no memory. */
WSKP_INDICATION *WskpIndicationCreate(WSKP_SOCKET *socket, const WSKP_VIEW *view);
void WskpIndicationDestroy(WSKP_INDICATION *indication);
/* The WSK_BUF of either kind. */
PWSK_BUF WskpIndicationBuffer(WSKP_INDICATION *indication);

/* WskRelease of a list; `datagrams`: of which kind. STATUS_INVALID_PARAMETER: not something that the client keeps. */
NTSTATUS WskpIndicationsRelease(WSKP_SOCKET *socket, PVOID list, BOOLEAN datagrams);
/* A client that closes must have released everything (DATA-015). */
/* After the callback: what was released while it ran, it must have kept. */
void WskpIndicationsRequireKept(BOOLEAN *early, NTSTATUS status);
void WskpDataRequireNoneRetained(WSKP_SOCKET *socket);

#endif
