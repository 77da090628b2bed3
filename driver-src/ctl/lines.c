/* lines.c - see lines.h. */
#include "lines.h"

int LineReaderStart(LINE_READER *reader, HANDLE input)
{
    memset(reader, 0, sizeof(*reader));
    reader->input = input;
    reader->buffer = Allocate(WSKCTL_LINE_LIMIT);
    return reader->buffer != NULL;
}

void LineReaderEnd(LINE_READER *reader)
{
    Free(reader->buffer);
    reader->buffer = NULL;
}

/* Reads once; 0 at the end of input. */
static int Fill(LINE_READER *reader)
{
    size_t got;

    if (!ReadSome(reader->input, reader->buffer + reader->end, WSKCTL_LINE_LIMIT - reader->end, &got)) {
        return 0;
    }
    reader->end += got;
    return 1;
}

static char *FindNewline(LINE_READER *reader)
{
    while (reader->searched < reader->end) {
        if (reader->buffer[reader->searched] == '\n') {
            return reader->buffer + reader->searched;
        }
        reader->searched += 1;
    }
    return NULL;
}

static LINE_RESULT SkipToNewline(LINE_READER *reader)
{
    char *newline;

    for (;;) {
        reader->start = 0;
        reader->end = 0;
        reader->searched = 0;
        if (!Fill(reader)) {
            reader->ended = 1;
            return LINE_TOO_LONG;
        }
        newline = FindNewline(reader);
        if (newline != NULL) {
            reader->start = (size_t)(newline - reader->buffer) + 1;
            reader->searched = reader->start;
            return LINE_TOO_LONG;
        }
    }
}

LINE_RESULT LineReaderNext(LINE_READER *reader, char **line, size_t *length)
{
    char *newline;

    while (!reader->ended) {
        newline = FindNewline(reader);
        if (newline != NULL) {
            *line = reader->buffer + reader->start;
            *length = (size_t)(newline - *line);
            reader->start += *length + 1;
            reader->searched = reader->start;
            return LINE_READY;
        }
        if (reader->start > 0) {
            memmove(reader->buffer, reader->buffer + reader->start, reader->end - reader->start);
            reader->end -= reader->start;
            reader->searched -= reader->start;
            reader->start = 0;
        }
        if (reader->end == WSKCTL_LINE_LIMIT) {
            return SkipToNewline(reader);
        }
        if (!Fill(reader)) {
            reader->ended = 1;
        }
    }
    return LINE_END;
}
