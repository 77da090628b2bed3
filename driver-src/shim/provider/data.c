/*
 * data.c: received bytes that WSK holds.
 */
#include "data.h"

#define MAGIC 0x496E646963617465ull
#define MAX_MDLS 3u

void WskpBlockDereference(WSKP_BLOCK *block) {
    if (--block->References == 0) {
        ShimFree(block);
    }
}

WSKP_VIEW *WskpViewCreate(SIZE_T bytes) {
    WSKP_VIEW *view = ShimAllocate("view of received data", sizeof(*view));
    if (view == NULL) {
        return NULL;
    }
    view->Block = ShimAllocate("received data", sizeof(*view->Block) + WSKP_SLACK + bytes);
    if (view->Block == NULL) {
        ShimFree(view);
        return NULL;
    }
    view->Block->References = 1;
    view->Block->Size = WSKP_SLACK + bytes;
    view->Start = view->End = WSKP_SLACK;
    return view;
}

void WskpViewDestroy(WSKP_VIEW *view) {
    WskpBlockDereference(view->Block);
    ShimFree(view);
}

SSIZE_T WskpStashMove(LIST_ENTRY *stash, const WSKP_BUFFER *buffer, SIZE_T at, SIZE_T length) {
    SSIZE_T moved = 0;
    while (length > 0 && !IsListEmpty(stash)) {
        WSKP_VIEW *view = CONTAINING_RECORD(stash->Flink, WSKP_VIEW, Link);
        SIZE_T here = view->End - view->Start < length ? view->End - view->Start : length;
        if (!WskpBufferWrite(buffer, at, view->Block->Bytes + view->Start, here)) {
            return moved > 0 ? moved : -1;
        }
        view->Start += here;
        at += here;
        length -= here;
        moved += (SSIZE_T)here;
        if (view->Start == view->End) {
            RemoveEntryList(&view->Link);
            WskpViewDestroy(view);
        }
    }
    return moved;
}

void WskpStashDrop(LIST_ENTRY *stash) {
    while (!IsListEmpty(stash)) {
        WskpViewDestroy(CONTAINING_RECORD(RemoveHeadList(stash), WSKP_VIEW, Link));
    }
}

static void MdlsFree(PMDL mdl) {
    while (mdl != NULL) {
        PMDL next = mdl->Next;
        IoFreeMdl(mdl);
        mdl = next;
    }
}

/* A chain over [start, end) of the block, in pieces as drawn. */
static PMDL MdlsCreate(WSKP_BLOCK *block, SIZE_T start, SIZE_T end) {
    PMDL first = NULL, *place = &first;
    ULONG pieces = 1 + WskpDraw(MAX_MDLS, "MDLs of an indication");

    do {
        SIZE_T left = end - start;
        SIZE_T here = pieces > 1 && left > 1 ? 1 + WskpDraw((ULONG)left - 1, "bytes of an MDL") : left;
        PMDL mdl = IoAllocateMdl(block->Bytes + start, (ULONG)here, FALSE, FALSE, NULL);
        if (mdl == NULL) {
            MdlsFree(first);
            return NULL;
        }
        MmBuildMdlForNonPagedPool(mdl);
        *place = mdl;
        place = &mdl->Next;
        start += here;
        pieces--;
    } while (start < end);
    return first;
}

PWSK_BUF WskpIndicationBuffer(WSKP_INDICATION *indication) {
    return indication->Socket->Category == WSKP_DATAGRAM ? &indication->Public.Datagram.Buffer : &indication->Public.Stream.Buffer;
}

WSKP_INDICATION *WskpIndicationCreate(WSKP_SOCKET *socket, const WSKP_VIEW *view) {
    WSKP_INDICATION *indication = ShimAllocate("indication", sizeof(*indication));
    ULONG offset = WskpDraw(WSKP_SLACK + 1, "offset of an indication");
    PWSK_BUF buffer;

    if (indication == NULL) {
        return NULL;
    }
    offset = offset > view->Start ? (ULONG)view->Start : offset;
    indication->Magic = MAGIC;
    indication->Socket = socket;
    indication->View = *view;
    indication->View.Block->References++;
    buffer = WskpIndicationBuffer(indication);
    buffer->Length = view->End - view->Start;
    if (buffer->Length > 0) {
        buffer->Mdl = MdlsCreate(view->Block, view->Start - offset, view->End);
        /* The offset is one in the first MDL, which has to reach beyond it. */
        if (buffer->Mdl != NULL && buffer->Mdl->ByteCount <= offset) {
            MdlsFree(buffer->Mdl);
            offset = 0;
            buffer->Mdl = MdlsCreate(view->Block, view->Start, view->End);
        }
        if (buffer->Mdl == NULL) {
            WskpIndicationDestroy(indication);
            return NULL;
        }
        buffer->Offset = offset;
    }
    return indication;
}

void WskpIndicationDestroy(WSKP_INDICATION *indication) {
    MdlsFree(WskpIndicationBuffer(indication)->Mdl);
    WskpBlockDereference(indication->View.Block);
    indication->Magic = 0;
    ShimFree(indication);
}

NTSTATUS WskpIndicationsRelease(WSKP_SOCKET *socket, PVOID list, BOOLEAN datagrams) {
    /* Whoever will keep it may have handed it to another thread already, which is done before the callback has returned. */
    BOOLEAN indicating = datagrams ? socket->Datagram.Indicating : socket->Stream.Indicating;
    BOOLEAN *early = datagrams ? &socket->Datagram.ReleasedEarly : &socket->Stream.ReleasedEarly;
    PVOID next = list;

    if (list == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    while (next != NULL) {
        WSKP_INDICATION *indication = next;
        ShimRequireMemory("retained indication", indication, sizeof(*indication));
        if (indication->Magic != MAGIC || indication->Socket != socket || (!indication->Retained && !indicating)) {
            WskpClientError("WSK-DATA-015", "WskRelease of %p, which the client does not keep", next);
        }
        *early |= !indication->Retained;
        next = datagrams ? (PVOID)indication->Public.Datagram.Next : (PVOID)indication->Public.Stream.Next;
        RemoveEntryList(&indication->Link);
        WskpIndicationDestroy(indication);
    }
    return MutantIs("WSK-DATA-015/release-fails") ? STATUS_INVALID_PARAMETER : STATUS_SUCCESS;
}

void WskpIndicationsRequireKept(BOOLEAN *early, NTSTATUS status) {
    if (*early && status != STATUS_PENDING) {
        WskpClientError("WSK-DATA-015", "WskRelease of an indication whose callback then returned %#x", (unsigned)status);
    }
    *early = FALSE;
}

void WskpDataRequireNoneRetained(WSKP_SOCKET *socket) {
    if (!IsListEmpty(&socket->Stream.Retained) || !IsListEmpty(&socket->Datagram.Retained)) {
        WskpClientError("WSK-DATA-015", "WskCloseSocket while the client keeps indications of the socket");
    }
}
