/*
 * scan.c: kernel addresses in what user mode receives.
 */
#include "internal.h"

/* Addresses of this process lie above 2^40 and below 2^47: everything else is passed over without a look at the tables. */
#define LOWEST_ADDRESS (1ull << 40)
#define HIGHEST_ADDRESS (1ull << 47)

void ScanOutput(const char *what, const UCHAR *bytes, size_t size) {
    /* Structures keep their pointers aligned; at odd places a loopback address of IPv4 looks like one of the stack. */
    for (size_t i = 0; i + sizeof(ULONG64) <= size; i += 4) {
        char text[600];
        ULONG64 value;

        memcpy(&value, bytes + i, sizeof(value));
        if (value >= LOWEST_ADDRESS && value < HIGHEST_ADDRESS && MemoryIsKernelAddress(value, text, sizeof(text))) {
            ShimAbort("pointer-in-output", "%s answers with the address %" PRIx64 " at byte %zu, %s", what, value, i, text);
        }
    }
}
