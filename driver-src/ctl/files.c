/* files.c - bytes in and out of a Windows handle, and the end of a conversation. See lines.h, answer.h. */
#include "answer.h"
#include "lines.h"

/* A zero-byte write into a pipe reads as zero bytes and is not the end; this many in a row are one. */
#define EMPTY_READS_LIMIT 16

int ReadSome(HANDLE input, char *bytes, size_t size, size_t *got)
{
    DWORD count = 0;
    int empty;

    for (empty = 0; empty < EMPTY_READS_LIMIT; empty += 1) {
        if (!ReadFile(input, bytes, (DWORD)size, &count, NULL)) {
            return 0;
        }
        if (count != 0) {
            *got = count;
            return 1;
        }
        if (GetFileType(input) != FILE_TYPE_PIPE) {
            return 0;
        }
    }
    return 0;
}

int WriteAll(HANDLE output, const char *bytes, size_t length)
{
    DWORD written;

    while (length > 0) {
        if (!WriteFile(output, bytes, (DWORD)length, &written, NULL)) {
            return 0;
        }
        bytes += written;
        length -= written;
    }
    return 1;
}

/* Closing everything is then the kernel's work. */
void SenderFailed(SENDER *sender)
{
    (void)sender;
    ExitProcess(EXIT_FAILED);
}
