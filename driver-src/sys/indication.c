/*
 * indication.c: reading lists of buffers.
 */
#include "indication.h"

#include "argument.h"

/* What is done with a run of bytes. */
typedef struct READER {
    MEASURE *Measure; /* digest it, or */
    PUCHAR Out;       /* copy it */
    ULONG Room;
    ULONG Copied;
} READER;

static VOID Take(READER *Reader, const UCHAR *Bytes, ULONG Length) {
    if (Reader->Measure != NULL) {
        Reader->Measure->Digest = DigestContinue(Reader->Measure->Digest, Bytes, Length);
    } else {
        ULONG count = Length < Reader->Room - Reader->Copied ? Length : Reader->Room - Reader->Copied;
        if (count != 0) {
            RtlCopyMemory(Reader->Out + Reader->Copied, Bytes, count);
            Reader->Copied += count;
        }
    }
}

/* Every byte of a buffer; FALSE when some could not be read. The offset is in the first MDL only (ns-wsk-_wsk_buf). */
static BOOLEAN Read(const WSK_BUF *Buffer, READER *Reader) {
    SIZE_T left = Buffer->Length;
    ULONG offset = Buffer->Offset;

    for (PMDL mdl = Buffer->Mdl; mdl != NULL && left > 0; mdl = mdl->Next) {
        ULONG available = MmGetMdlByteCount(mdl);
        const UCHAR *start = MmGetSystemAddressForMdlSafe(mdl, LowPagePriority | MdlMappingNoExecute);
        ULONG count;

        if (start == NULL || offset > available) {
            return FALSE;
        }
        count = available - offset < left ? available - offset : (ULONG)left;
        Take(Reader, start + offset, count);
        left -= count;
        offset = 0;
    }
    return left == 0;
}

_Use_decl_annotations_ VOID IndicationMeasureBuffer(const WSK_BUF *Buffer, MEASURE *Out) {
    READER reader = {.Measure = Out};

    *Out = (MEASURE){.Buffers = 1, .Listed = Buffer->Length, .Digest = DIGEST_START};
    Out->Unreadable = !Read(Buffer, &reader);
    if (Out->Unreadable || Out->Listed == 0) {
        Out->Digest = 0;
    }
}

_Use_decl_annotations_ VOID IndicationMeasure(const WSK_DATA_INDICATION *First, MEASURE *Out) {
    READER reader = {.Measure = Out};

    *Out = (MEASURE){.Digest = DIGEST_START};
    for (const WSK_DATA_INDICATION *entry = First; entry != NULL; entry = entry->Next) {
        Out->Buffers++;
        Out->Listed += entry->Buffer.Length;
        if (!Out->Unreadable) {
            Out->Unreadable = !Read(&entry->Buffer, &reader);
        }
    }
    if (Out->Unreadable || Out->Listed == 0) {
        Out->Digest = 0;
    }
}

_Use_decl_annotations_ ULONG IndicationCopyBuffer(const WSK_BUF *Buffer, PUCHAR Out, ULONG Length) {
    READER reader = {.Out = Out, .Room = Length};
    (VOID)Read(Buffer, &reader);
    return reader.Copied;
}

_Use_decl_annotations_ ULONG IndicationCopy(const WSK_DATA_INDICATION *First, PUCHAR Out, ULONG Length) {
    READER reader = {.Out = Out, .Room = Length};
    for (const WSK_DATA_INDICATION *entry = First; entry != NULL && Read(&entry->Buffer, &reader); entry = entry->Next) {
    }
    return reader.Copied;
}

_Use_decl_annotations_ WSK_DATAGRAM_INDICATION *IndicationDatagram(WSK_DATAGRAM_INDICATION *First, ULONG Index) {
    while (First != NULL && Index > 0) {
        First = First->Next;
        Index--;
    }
    return First;
}
