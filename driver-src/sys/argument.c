/*
 * argument.c: flat buffers beside the data.
 */
#include "argument.h"

#define GUARD_BYTES 16u
#define GUARD_VALUE 0x5Au

ULONG64 DigestContinue(ULONG64 Digest, const VOID *Bytes, SIZE_T Length) {
    const UCHAR *bytes = Bytes;
    for (SIZE_T i = 0; i < Length; i++) {
        Digest = (Digest ^ bytes[i]) * 0x100000001B3ull;
    }
    return Digest;
}

static NTSTATUS Allocate(ARGUMENT *Argument, LEDGER *Ledger, ULONG Size) {
    Argument->Bytes = MemoryAllocate(Ledger, (SIZE_T)Size + GUARD_BYTES);
    if (Argument->Bytes == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Argument->Size = Size;
    RtlFillMemory(Argument->Bytes + Size, GUARD_BYTES, GUARD_VALUE);
    return STATUS_SUCCESS;
}

_Use_decl_annotations_ NTSTATUS ArgumentSetInput(ARGUMENT *Argument, LEDGER *Ledger, const VOID *Bytes, ULONG Size, ULONG Room) {
    NTSTATUS status = Allocate(Argument, Ledger, Room > Size ? Room : Size);
    if (NT_SUCCESS(status)) {
        if (Size != 0) {
            RtlCopyMemory(Argument->Bytes, Bytes, Size);
        }
        ArgumentSeal(Argument);
    }
    return status;
}

_Use_decl_annotations_ NTSTATUS ArgumentSetOutput(ARGUMENT *Argument, LEDGER *Ledger, ULONG Size) {
    NTSTATUS status = Size != 0 ? Allocate(Argument, Ledger, Size) : STATUS_SUCCESS;
    if (NT_SUCCESS(status) && Size != 0) {
        RtlFillMemory(Argument->Bytes, Size, WSKLAB_UNTOUCHED_BYTE);
    }
    return status;
}

VOID ArgumentSeal(ARGUMENT *Argument) {
    Argument->Digest = DigestContinue(DIGEST_START, Argument->Bytes, Argument->Size);
}

_Use_decl_annotations_ VOID ArgumentFree(ARGUMENT *Argument) {
    MemoryFree(Argument->Bytes);
    Argument->Bytes = NULL;
    Argument->Size = 0;
}

BOOLEAN ArgumentGuardIntact(const ARGUMENT *Argument) {
    return Argument->Bytes == NULL || MemoryIsAll(Argument->Bytes + Argument->Size, GUARD_BYTES, GUARD_VALUE);
}

BOOLEAN ArgumentInputIntact(const ARGUMENT *Argument) {
    return DigestContinue(DIGEST_START, Argument->Bytes, Argument->Size) == Argument->Digest;
}
