/*
 * buffer.c: the data buffer of one operation.
 *
 * Each chunk is followed by guard bytes, so an MDL that WSK overruns is seen. A WSK_BUF is never longer than its MDLs:
 * Windows does not check that and stops with a bug check (appendix B, trap 11).
 */
#include "buffer.h"

#define GUARD_BYTES 16u
#define GUARD_VALUE 0x5Au

static ULONG TotalBytes(const WSKLAB_SUBMIT *Submit) {
    return Submit->mdl_bytes != 0 ? Submit->mdl_bytes : Submit->buffer_offset + Submit->buffer_length;
}

BOOLEAN BufferIsValid(const WSKLAB_SUBMIT *Submit) {
    ULONG64 needed = (ULONG64)Submit->buffer_offset + Submit->buffer_length;
    ULONG64 sum = 0;
    ULONG first;

    if (Submit->mdl_shape == WSKLAB_MDL_NULL) {
        /* A NULL MDL with a length is a hazard (WSK-DATA-012). */
        BOOLEAN fits = needed == 0 || ((Submit->switches & WSKLAB_SWITCH_HAZARD) && needed <= WSKLAB_MAX_BUFFER);
        return fits && Submit->mdl_bytes == 0 && Submit->data_length == 0 && Submit->fill == WSKLAB_FILL_NONE;
    }
    if (needed > WSKLAB_MAX_BUFFER || Submit->mdl_bytes > WSKLAB_MAX_BUFFER || TotalBytes(Submit) == 0 ||
        TotalBytes(Submit) < needed || Submit->data_length > Submit->buffer_length ||
        (Submit->data_length != 0) != (Submit->fill == WSKLAB_FILL_DATA)) {
        return FALSE;
    }
    first = Submit->chunks[0];
    for (ULONG i = 0; i < WSKLAB_MAX_CHUNKS; i++) {
        if (Submit->chunks[i] != 0 && i > 0 && Submit->chunks[i - 1] == 0) {
            return FALSE;
        }
        sum += Submit->chunks[i];
    }
    if (Submit->mdl_shape == WSKLAB_MDL_SINGLE) {
        return sum == 0;
    }
    if (Submit->function == WSKLAB_FN_SEND_MESSAGES) {
        return sum == Submit->buffer_length && sum == TotalBytes(Submit) && Submit->buffer_offset == 0;
    }
    /* The offset lies inside the first MDL (ns-wsk-_wsk_buf). */
    return sum == TotalBytes(Submit) && Submit->buffer_offset < first;
}

/* Walk the data from `Position`; gives the next contiguous run. */
static ULONG NextRun(const BUFFER *Buffer, ULONG Position, ULONG Length, PUCHAR *Run) {
    ULONG at = Buffer->Offset + Position;
    for (ULONG i = 0; i < Buffer->Chunks; i++) {
        if (at < Buffer->Bytes[i]) {
            ULONG run = Buffer->Bytes[i] - at;
            *Run = Buffer->Start[i] + at;
            return run < Length ? run : Length;
        }
        at -= Buffer->Bytes[i];
    }
    return 0;
}

static VOID Fill(BUFFER *Buffer, const WSKLAB_SUBMIT *Submit, const UCHAR *Data) {
    ULONG total = Submit->fill == WSKLAB_FILL_DATA ? Submit->data_length
                  : Submit->fill == WSKLAB_FILL_PATTERN ? Submit->buffer_length
                                                        : 0;
    for (ULONG done = 0; done < total;) {
        PUCHAR run;
        ULONG count = NextRun(Buffer, done, total - done, &run);
        if (count == 0) {
            return;
        }
        if (Submit->fill == WSKLAB_FILL_DATA) {
            RtlCopyMemory(run, Data + done, count);
        } else {
            for (ULONG i = 0; i < count; i++) {
                ULONG index = done + i;
                run[i] = (UCHAR)(Submit->pattern_seed + 31 * index + (index >> 8));
            }
        }
        done += count;
    }
}

_Use_decl_annotations_ NTSTATUS BufferInitialize(BUFFER *Buffer, const WSKLAB_SUBMIT *Submit, const UCHAR *Data,
                                                 LEDGER *Ledger) {
    PUCHAR at;

    Buffer->Ledger = Ledger;
    Buffer->Offset = Submit->buffer_offset;
    Buffer->Length = Submit->buffer_length;
    Buffer->Wsk.Offset = Buffer->Offset;
    Buffer->Wsk.Length = Buffer->Length;
    if (Submit->mdl_shape == WSKLAB_MDL_NULL) {
        return STATUS_SUCCESS;
    }
    if (Submit->mdl_shape == WSKLAB_MDL_SINGLE) {
        Buffer->Chunks = 1;
        Buffer->Bytes[0] = TotalBytes(Submit);
    } else {
        while (Buffer->Chunks < WSKLAB_MAX_CHUNKS && Submit->chunks[Buffer->Chunks] != 0) {
            Buffer->Bytes[Buffer->Chunks] = Submit->chunks[Buffer->Chunks];
            Buffer->Chunks++;
        }
    }
    Buffer->Memory = MemoryAllocate(Ledger, (SIZE_T)TotalBytes(Submit) + (SIZE_T)Buffer->Chunks * GUARD_BYTES);
    if (Buffer->Memory == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    at = Buffer->Memory;
    for (ULONG i = 0; i < Buffer->Chunks; i++) {
        Buffer->Start[i] = at;
        RtlFillMemory(at, Buffer->Bytes[i], WSKLAB_UNTOUCHED_BYTE);
        at += Buffer->Bytes[i];
        RtlFillMemory(at, GUARD_BYTES, GUARD_VALUE);
        at += GUARD_BYTES;
        if (!FaultsDeny(&Ledger->Faults, WSKLAB_FAULT_MDL)) {
            Buffer->Mdls[i] = IoAllocateMdl(Buffer->Start[i], Buffer->Bytes[i], FALSE, FALSE, NULL);
        }
        if (Buffer->Mdls[i] == NULL) {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
        LedgerAdd(Ledger, LEDGER_COUNT(mdls_allocated), 1);
        MmBuildMdlForNonPagedPool(Buffer->Mdls[i]);
        if (Submit->function == WSKLAB_FN_SEND_MESSAGES) {
            Buffer->List[i].Buffer = (WSK_BUF){.Mdl = Buffer->Mdls[i], .Length = Buffer->Bytes[i]};
            if (i > 0) {
                Buffer->List[i - 1].Next = &Buffer->List[i];
            }
        } else if (i > 0) {
            Buffer->Mdls[i - 1]->Next = Buffer->Mdls[i];
        }
    }
    Fill(Buffer, Submit, Data);
    Buffer->Wsk.Mdl = Buffer->Mdls[0];
    return STATUS_SUCCESS;
}

_Use_decl_annotations_ VOID BufferUninitialize(BUFFER *Buffer) {
    for (ULONG i = 0; i < Buffer->Chunks; i++) {
        if (Buffer->Mdls[i] != NULL) {
            IoFreeMdl(Buffer->Mdls[i]);
            LedgerAdd(Buffer->Ledger, LEDGER_COUNT(mdls_freed), 1);
            Buffer->Mdls[i] = NULL;
        }
    }
    MemoryFree(Buffer->Memory);
    Buffer->Memory = NULL;
    Buffer->Chunks = 0;
}

ULONG BufferCopyOut(const BUFFER *Buffer, ULONG Position, ULONG Length, PUCHAR Out) {
    ULONG done = 0;
    while (done < Length) {
        PUCHAR run;
        ULONG count = NextRun(Buffer, Position + done, Length - done, &run);
        if (count == 0) {
            break;
        }
        RtlCopyMemory(Out + done, run, count);
        done += count;
    }
    return done;
}

ULONG64 BufferDigest(const BUFFER *Buffer, ULONG Length) {
    ULONG64 digest = DIGEST_START;
    ULONG done = 0;
    while (done < Length) {
        PUCHAR run;
        ULONG count = NextRun(Buffer, done, Length - done, &run);
        if (count == 0) {
            break;
        }
        digest = DigestContinue(digest, run, count);
        done += count;
    }
    return done != 0 ? digest : 0;
}

BOOLEAN BufferGuardsIntact(const BUFFER *Buffer) {
    for (ULONG i = 0; i < Buffer->Chunks; i++) {
        if (!MemoryIsAll(Buffer->Start[i] + Buffer->Bytes[i], GUARD_BYTES, GUARD_VALUE)) {
            return FALSE;
        }
    }
    return TRUE;
}

BOOLEAN BufferRestIntact(const BUFFER *Buffer, ULONG Delivered) {
    ULONG64 from = Buffer->Offset;
    ULONG64 to = from + Delivered;
    ULONG64 at = 0;
    for (ULONG i = 0; i < Buffer->Chunks; i++) {
        for (ULONG j = 0; j < Buffer->Bytes[i]; j++, at++) {
            if ((at < from || at >= to) && Buffer->Start[i][j] != WSKLAB_UNTOUCHED_BYTE) {
                return FALSE;
            }
        }
    }
    return TRUE;
}
