/*
 * fuzz.h: what both fuzz targets have in common: an input is a sequence of decisions, each byte one; so every mutation of
 * it is another sequence of mostly sensible requests. One driver for the whole process, handles of its own for each input,
 * and after each the driver has to be as it was before.
 */
#ifndef WSKLAB_SHIM_FUZZ_H
#define WSKLAB_SHIM_FUZZ_H

#include "harness.h"
#include "wsklab_ioctl.h"
#include "wsklab_wsk.h"

/* Few numbers, so that they meet each other. */
#define OPERATIONS 12u
#define SOCKETS 6u
#define OBJECTS 6u
#define HANDLES 2u

typedef struct SOURCE {
    const UCHAR *Data;
    size_t Size;
    size_t At;
} SOURCE;

/* The next decision; 0 when there is none left. */
ULONG Take(SOURCE *source);
ULONG Below(SOURCE *source, ULONG count);
BOOLEAN Ended(const SOURCE *source);
/* One of the numbers that follow. */
#define OneOf(source, ...)                                                                                                         \
    ({                                                                                                                             \
        static const ULONG numbers[] = {__VA_ARGS__};                                                                              \
        numbers[Below(source, RTL_NUMBER_OF(numbers))];                                                                            \
    })

/* A request that is being made: the structure and what stands behind it. */
typedef struct REQUEST {
    ULONG Code;
    ULONG Size;
    ULONG Room;
    UCHAR Bytes[4096];
} REQUEST;

/* A SUBMIT, RUN or FORWARD in which most fields belong together (fuzz_submit.c). */
void MakeSubmit(SOURCE *source, REQUEST *request, ULONG code);
/* A script for a callback. */
void MakeScript(SOURCE *source, REQUEST *request);
/* Any request. */
void MakeAny(SOURCE *source, REQUEST *request);
/* Sometimes: some bytes are others, or the end is missing. */
void Damage(SOURCE *source, REQUEST *request);

/* Starts it on one of the handles; what takes long is cancelled sooner or later. */
void Issue(SOURCE *source, REQUEST *request);
/* Peers connect, send, read, go. */
void PeerAct(SOURCE *source);
/* Closes and opens handles, cancels requests, lets time pass. */
void Disturb(SOURCE *source);

/* The ports that sockets and peers use; the same for all inputs of a process. */
USHORT FuzzPort(ULONG which);

/* What one input does, between its beginning and its end. */
void FuzzStep(SOURCE *source);

#endif
