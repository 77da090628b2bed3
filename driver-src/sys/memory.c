/*
 * memory.c: all pool use of the driver.
 */
#include "memory.h"

/* In front of every block; 16 bytes, so that the block keeps the pool's alignment. */
typedef struct BLOCK {
    SIZE_T Size;
    LEDGER *Ledger;
} BLOCK;

_Static_assert(sizeof(BLOCK) == 16, "the block header keeps the pool's alignment");

_Use_decl_annotations_ PVOID MemoryAllocate(LEDGER *Ledger, SIZE_T Size) {
    BLOCK *block;

    if (Size > (SIZE_T)-1 - sizeof(BLOCK) || (Ledger != NULL && FaultsDeny(&Ledger->Faults, WSKLAB_FAULT_POOL))) {
        return NULL;
    }
    /* ExAllocatePool2 exists only since Windows 10 2004; this driver also loads on Server 2016. */
    block = ExAllocatePoolWithTag(NonPagedPoolNx, sizeof(BLOCK) + Size, WSKLAB_POOL_TAG);
    if (block == NULL) {
        return NULL;
    }
    block->Size = Size;
    block->Ledger = Ledger;
    RtlZeroMemory(block + 1, Size);
    LedgerAddTwo(Ledger, LEDGER_COUNT(pool_allocations), 1, LEDGER_COUNT(pool_bytes), (LONG64)Size);
    return block + 1;
}

_Use_decl_annotations_ VOID MemoryFree(PVOID Memory) {
    if (Memory != NULL) {
        BLOCK *block = (BLOCK *)Memory - 1;
        LedgerAddTwo(block->Ledger, LEDGER_COUNT(pool_frees), 1, LEDGER_COUNT(pool_bytes), -(LONG64)block->Size);
        ExFreePoolWithTag(block, WSKLAB_POOL_TAG);
    }
}

BOOLEAN MemoryIsAll(const VOID *Memory, SIZE_T Size, UCHAR Value) {
    const UCHAR *bytes = Memory;
    for (SIZE_T i = 0; i < Size; i++) {
        if (bytes[i] != Value) {
            return FALSE;
        }
    }
    return TRUE;
}
