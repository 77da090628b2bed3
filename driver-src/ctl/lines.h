/*
 * lines.h - raw, bounded lines over two handles.
 *
 * No buffering by a C library: each answer is one WriteFile, and a line is given out as soon as its
 * newline is there.
 */
#ifndef WSKCTL_LINES_H
#define WSKCTL_LINES_H

#include "base.h"

typedef enum LINE_RESULT {
    LINE_READY,    /* a line is there, without its newline */
    LINE_TOO_LONG, /* a line exceeded the limit; it was skipped up to its newline */
    LINE_END       /* end of input */
} LINE_RESULT;

typedef struct LINE_READER {
    HANDLE input;
    char *buffer; /* WSKCTL_LINE_LIMIT bytes */
    size_t start;
    size_t end;
    size_t searched;
    int ended;
} LINE_READER;

int LineReaderStart(LINE_READER *reader, HANDLE input);
void LineReaderEnd(LINE_READER *reader);
/* The line stays valid, and may be changed in place, until the next call. */
LINE_RESULT LineReaderNext(LINE_READER *reader, char **line, size_t *length);

/* Writes everything; 0 when the other side is gone. */
int WriteAll(HANDLE output, const char *bytes, size_t length);

/* Reads once into size bytes; 0 at the end of input, else *got bytes are there. */
int ReadSome(HANDLE input, char *bytes, size_t size, size_t *got);

#endif
