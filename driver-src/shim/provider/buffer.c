/*
 * buffer.c: a client's WSK_BUF.
 */
#include "buffer.h"

static void CheckMdl(const char *function, PMDL mdl) {
    ShimRequireMemory("MDL of a WSK_BUF", mdl, sizeof(*mdl));
    if ((mdl->MdlFlags & (MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL)) == 0) {
        WskpClientError("WSK-DATA-009", "%s: an MDL that is neither locked nor built for nonpaged pool", function);
    }
}

void WskpBufferTake(const char *function, const WSK_BUF *source, WSKP_BUFFER *buffer) {
    SIZE_T available = 0;

    if (source == NULL) {
        WskpClientError("WSK-DATA-012", "%s: NULL buffer", function);
    }
    ShimRequireMemory("WSK_BUF", source, sizeof(*source));
    *buffer = (WSKP_BUFFER){.Mdl = source->Mdl, .Offset = source->Offset, .Length = source->Length};
    if (source->Length == 0) {
        return; /* the MDL is not looked at (DATA-008) */
    }
    if (source->Mdl == NULL) {
        WskpClientError("WSK-DATA-012", "%s: NULL MDL with length %ju", function, (uintmax_t)source->Length);
    }
    for (PMDL mdl = source->Mdl; mdl != NULL && available < source->Offset + source->Length; mdl = mdl->Next) {
        CheckMdl(function, mdl);
        available += mdl->ByteCount;
        if (mdl == source->Mdl && source->Offset >= mdl->ByteCount) {
            WskpClientError("WSK-DATA-009", "%s: offset %u is not inside the first MDL of %u bytes", function, source->Offset,
                            mdl->ByteCount);
        }
    }
    if (available < source->Offset + source->Length) {
        WskpClientError("WSK-DATA-012", "%s: offset %u and length %ju reach beyond an MDL chain of %ju bytes", function,
                        source->Offset, (uintmax_t)source->Length, (uintmax_t)available);
    }
}

BOOLEAN WskpBufferPieces(const WSKP_BUFFER *buffer, SIZE_T start, SIZE_T length, HOST_PIECE *pieces, size_t capacity, size_t *count) {
    SIZE_T left = buffer->Length - start < length ? buffer->Length - start : length;
    SIZE_T skip = (MutantIs("WSK-DATA-009/offset-ignored") ? 0 : buffer->Offset) + start;

    *count = 0;
    for (PMDL mdl = buffer->Mdl; mdl != NULL && left > 0 && *count < capacity; mdl = mdl->Next) {
        PUCHAR base;
        SIZE_T here;
        if (skip >= mdl->ByteCount) {
            skip -= mdl->ByteCount;
            continue;
        }
        base = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority | MdlMappingNoExecute);
        if (base == NULL) {
            return FALSE;
        }
        here = mdl->ByteCount - skip < left ? mdl->ByteCount - skip : left;
        pieces[(*count)++] = (HOST_PIECE){.Base = base + skip, .Length = here};
        left -= here;
        skip = 0;
    }
    return TRUE;
}

typedef enum DIRECTION { INTO_BUFFER, FROM_BUFFER } DIRECTION;

static BOOLEAN Copy(const WSKP_BUFFER *buffer, SIZE_T start, PUCHAR bytes, SIZE_T length, DIRECTION direction) {
    while (length > 0) {
        HOST_PIECE pieces[8];
        size_t count;
        if (!WskpBufferPieces(buffer, start, length, pieces, RTL_NUMBER_OF(pieces), &count) || count == 0) {
            return FALSE;
        }
        for (size_t index = 0; index < count; index++) {
            if (direction == INTO_BUFFER) {
                memcpy(pieces[index].Base, bytes, pieces[index].Length);
            } else {
                memcpy(bytes, pieces[index].Base, pieces[index].Length);
            }
            bytes += pieces[index].Length;
            start += pieces[index].Length;
            length -= pieces[index].Length;
        }
    }
    return TRUE;
}

BOOLEAN WskpBufferWrite(const WSKP_BUFFER *buffer, SIZE_T start, const void *bytes, SIZE_T length) {
    return Copy(buffer, start, (PUCHAR)(ULONG_PTR)bytes, length, INTO_BUFFER);
}

BOOLEAN WskpBufferRead(const WSKP_BUFFER *buffer, SIZE_T start, void *bytes, SIZE_T length) {
    return Copy(buffer, start, bytes, length, FROM_BUFFER);
}
