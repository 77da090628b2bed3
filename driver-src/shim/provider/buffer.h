/*
 * buffer.h: a client's WSK_BUF, checked once and copied: only its MDL chain has to outlive the call (DATA-010).
 */
#ifndef WSKLAB_PROVIDER_BUFFER_H
#define WSKLAB_PROVIDER_BUFFER_H

#include "provider.h"

#include "host/host_socket.h"

typedef struct WSKP_BUFFER {
    PMDL Mdl;
    ULONG Offset; /* in the first MDL only (DATA-009) */
    SIZE_T Length;
} WSKP_BUFFER;

/* Takes it over. A WSK_BUF that Windows would crash on is a client's error. */
void WskpBufferTake(const char *function, const WSK_BUF *source, WSKP_BUFFER *buffer);
/* The memory from byte `start` on, at most `length` bytes and `capacity` pieces; FALSE when an MDL cannot be mapped. */
BOOLEAN WskpBufferPieces(const WSKP_BUFFER *buffer, SIZE_T start, SIZE_T length, HOST_PIECE *pieces, size_t capacity, size_t *count);
/* FALSE: an MDL cannot be mapped. */
BOOLEAN WskpBufferWrite(const WSKP_BUFFER *buffer, SIZE_T start, const void *bytes, SIZE_T length);
BOOLEAN WskpBufferRead(const WSKP_BUFFER *buffer, SIZE_T start, void *bytes, SIZE_T length);

#endif
