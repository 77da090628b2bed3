/*
 * buffer.h: the data buffer of one operation: memory, MDLs, the WSK_BUF, guard bytes.
 */
#ifndef WSKLAB_BUFFER_H
#define WSKLAB_BUFFER_H

#include "argument.h"

typedef struct BUFFER {
    PUCHAR Memory;
    ULONG Chunks;
    PUCHAR Start[WSKLAB_MAX_CHUNKS];
    ULONG Bytes[WSKLAB_MAX_CHUNKS];
    PMDL Mdls[WSKLAB_MAX_CHUNKS];
    ULONG Offset; /* of the data in the first chunk */
    ULONG Length; /* of the data */
    LEDGER *Ledger;
    WSK_BUF Wsk;                            /* all of it, or */
    WSK_BUF_LIST List[WSKLAB_MAX_CHUNKS];   /* every chunk one message (SEND_MESSAGES) */
} BUFFER;

/* Whether shape, lengths and chunks of a request make sense; nothing is allocated. */
BOOLEAN BufferIsValid(const WSKLAB_SUBMIT *Submit);
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS BufferInitialize(BUFFER *Buffer, const WSKLAB_SUBMIT *Submit,
                                                                                   const UCHAR *Data, LEDGER *Ledger);
_IRQL_requires_max_(DISPATCH_LEVEL) VOID BufferUninitialize(BUFFER *Buffer);
/* Copy delivered bytes out, from `Position` of the data; returns how many were copied. */
ULONG BufferCopyOut(const BUFFER *Buffer, ULONG Position, ULONG Length, PUCHAR Out);
/* FNV-1a, 64 bit, of the first `Length` bytes of the data. */
ULONG64 BufferDigest(const BUFFER *Buffer, ULONG Length);
/* The guard bytes behind each chunk are as we wrote them. */
BOOLEAN BufferGuardsIntact(const BUFFER *Buffer);
/* Nothing but the first `Delivered` bytes of the data has been written. */
BOOLEAN BufferRestIntact(const BUFFER *Buffer, ULONG Delivered);

#endif
