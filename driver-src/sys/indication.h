/*
 * indication.h: what WSK hands over in receive callbacks: lists of buffers, each a chain of MDLs (appendix B, trap 12).
 */
#ifndef WSKLAB_INDICATION_H
#define WSKLAB_INDICATION_H

#include "platform.h"

typedef struct MEASURE {
    ULONG Buffers;      /* entries of the list */
    ULONG64 Listed;     /* sum of their lengths */
    ULONG64 Digest;     /* of their bytes in order; 0 without any */
    BOOLEAN Unreadable; /* an MDL could not be mapped, or a chain ended before its length */
} MEASURE;

/* Read every byte of the list. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID IndicationMeasure(const WSK_DATA_INDICATION *First, MEASURE *Out);
/* Read every byte of one buffer. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID IndicationMeasureBuffer(const WSK_BUF *Buffer, MEASURE *Out);
/* Copy the first `Length` bytes of a list, or of one buffer; returns how many there were. */
_IRQL_requires_max_(DISPATCH_LEVEL) ULONG IndicationCopy(const WSK_DATA_INDICATION *First, PUCHAR Out, ULONG Length);
_IRQL_requires_max_(DISPATCH_LEVEL) ULONG IndicationCopyBuffer(const WSK_BUF *Buffer, PUCHAR Out, ULONG Length);
/* The i-th datagram of a list; NULL when it is shorter. */
_IRQL_requires_max_(DISPATCH_LEVEL) WSK_DATAGRAM_INDICATION *IndicationDatagram(WSK_DATAGRAM_INDICATION *First, ULONG Index);

#endif
