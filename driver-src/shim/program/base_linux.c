/*
 * base_linux.c: what base.h, lines.h and answer.h of wskctl promise, on Linux.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../ctl/answer.h"
#include "../../ctl/lines.h"
#include "shim.h"
#include "../../ctl/verbs.h"

void *Allocate(size_t size) {
    return calloc(1, size == 0 ? 1 : size);
}

void Free(void *memory) {
    free(memory);
}

int ReadSome(HANDLE input, char *bytes, size_t size, size_t *got) {
    ssize_t count;

    do {
        ShimWaitReadable(DescriptorOf(input), -1);
        count = read(DescriptorOf(input), bytes, size);
    } while (count < 0 && (errno == EINTR || errno == EAGAIN));
    *got = count > 0 ? (size_t)count : 0;
    return count > 0;
}

static int WriteRaw(int descriptor, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t written = write(descriptor, bytes, length);
        if (written < 0 && errno != EINTR) {
            return 0;
        }
        if (written > 0) {
            bytes += written;
            length -= (size_t)written;
        }
    }
    return 1;
}

/* One frame with one write, where it is short: most answers are. */
static int WriteFrame(int descriptor, unsigned char stream, const char *bytes, size_t length) {
    char small[4096];
    unsigned char head[5] = {stream, (unsigned char)length, (unsigned char)(length >> 8), (unsigned char)(length >> 16),
                             (unsigned char)(length >> 24)};

    if (length > sizeof(small) - sizeof(head)) {
        return WriteRaw(descriptor, (const char *)head, sizeof(head)) && WriteRaw(descriptor, bytes, length);
    }
    memcpy(small, head, sizeof(head));
    memcpy(small + sizeof(head), bytes, length);
    return WriteRaw(descriptor, small, sizeof(head) + length);
}

int WriteAll(HANDLE output, const char *bytes, size_t length) {
    return FrameOf(output) == 0 ? WriteRaw(DescriptorOf(output), bytes, length)
                                : WriteFrame(DescriptorOf(output), FrameOf(output), bytes, length);
}

/* The reader sees the end of its input and closes everything. */
void SenderFailed(SENDER *sender) {
    sender->stopping = 1;
    shutdown(DescriptorOf(sender->output), SHUT_RDWR);
}

void Print(const char *text, size_t length) {
    WriteAll(GetStdHandle(STD_OUTPUT_HANDLE), text, length);
}

void Complain(const char *text) {
    WriteAll((HANDLE)(uintptr_t)2, text, strlen(text));
}

int SameText(const char *left, const char *right) {
    return strcmp(left, right) == 0;
}

/* As ntdll has it, for what drivers of the lab answer; anything else is ERROR_MR_MID_NOT_FOUND there, too. */
DWORD RtlNtStatusToDosError(NTSTATUS status) {
    static const struct {
        NTSTATUS Status;
        DWORD Win32;
    } table[] = {
        {STATUS_PENDING, 997},
        {STATUS_BUFFER_OVERFLOW, 234},
        {STATUS_DEVICE_BUSY, 170},
        {STATUS_NO_MORE_ENTRIES, 259},
        {STATUS_UNSUCCESSFUL, 31},
        {STATUS_NOT_IMPLEMENTED, 1},
        {STATUS_INFO_LENGTH_MISMATCH, 24},
        {STATUS_INVALID_HANDLE, 6},
        {STATUS_INVALID_PARAMETER, 87},
        {STATUS_NO_SUCH_DEVICE, 2},
        {STATUS_INVALID_DEVICE_REQUEST, 1},
        {STATUS_NO_MEMORY, 8},
        {STATUS_ACCESS_DENIED, 5},
        {STATUS_BUFFER_TOO_SMALL, 122},
        {STATUS_OBJECT_NAME_INVALID, 123},
        {STATUS_OBJECT_NAME_NOT_FOUND, 2},
        {STATUS_OBJECT_NAME_COLLISION, 183},
        {STATUS_QUOTA_EXCEEDED, 1816},
        {STATUS_DELETE_PENDING, 5},
        {STATUS_REVISION_MISMATCH, 1306},
        {STATUS_PROCEDURE_NOT_FOUND, 127},
        {STATUS_INSUFFICIENT_RESOURCES, 1450},
        {STATUS_DEVICE_NOT_READY, 21},
        {STATUS_IO_TIMEOUT, 121},
        {STATUS_NOT_SUPPORTED, 50},
        {STATUS_TOO_MANY_OPENED_FILES, 4},
        {STATUS_CANCELLED, 995},
        {STATUS_FILE_CLOSED, 6},
        {STATUS_INVALID_DEVICE_STATE, 22},
        {STATUS_IO_DEVICE_ERROR, 1117},
        {STATUS_NOT_FOUND, 1168},
        {STATUS_NO_MATCH, 1169},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].Status == status) {
            return table[i].Win32;
        }
    }
    return NT_SUCCESS(status) ? 0 : 317;
}
