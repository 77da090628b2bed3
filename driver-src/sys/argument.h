/*
 * argument.h: a flat buffer that an operation hands to WSK beside its data: an option's value, control information, a
 * name. Nonpaged, alive until the completion, followed by guard bytes.
 */
#ifndef WSKLAB_ARGUMENT_H
#define WSKLAB_ARGUMENT_H

#include "memory.h"

typedef struct ARGUMENT {
    PUCHAR Bytes; /* NULL when there is none */
    ULONG Size;
    ULONG64 Digest; /* of an input, to see whether WSK wrote to it */
} ARGUMENT;

/* An input: the bytes, then zeros up to `Room` and the guard. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS ArgumentSetInput(ARGUMENT *Argument, LEDGER *Ledger,
                                                                                   const VOID *Bytes, ULONG Size, ULONG Room);
/* An output of WSKLAB_UNTOUCHED_BYTE; 0 bytes: no buffer. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS ArgumentSetOutput(ARGUMENT *Argument, LEDGER *Ledger, ULONG Size);
/* Remember an input that was completed in place. */
VOID ArgumentSeal(ARGUMENT *Argument);
_IRQL_requires_max_(DISPATCH_LEVEL) VOID ArgumentFree(ARGUMENT *Argument);
/* Guard bytes as we wrote them; true for one that does not exist. */
BOOLEAN ArgumentGuardIntact(const ARGUMENT *Argument);
/* The input is what it was. */
BOOLEAN ArgumentInputIntact(const ARGUMENT *Argument);

/* FNV-1a, 64 bit, continued; start with DIGEST_START. 0 stands for "no bytes" in records and events. */
#define DIGEST_START 0xCBF29CE484222325ull
ULONG64 DigestContinue(ULONG64 Digest, const VOID *Bytes, SIZE_T Length);

#endif
