/* bridge_answer.c - see bridge_answer.h. */
#include "bridge_answer.h"

void AnswerIoctl(SENDER *sender, uint64_t id, NTSTATUS status, uint64_t information, const void *output, size_t output_size)
{
    size_t length = information < output_size ? (size_t)information : output_size;
    size_t capacity = length * 2 + 256;
    char small[4096];
    char *buffer = capacity <= sizeof(small) ? small : Allocate(capacity);
    TEXT line;

    if (buffer == NULL) {
        SendError(sender, id, "no_memory", "no memory for the answer", status, 0);
        return;
    }
    /* NT_ERROR: the I/O manager copies nothing back, so what stands in the buffer is not an answer. */
    if (((uint32_t)status >> 30) == 3) {
        length = 0;
    }
    AnswerStart(&line, buffer, capacity, id, 1);
    TextMemberUnsigned(&line, "status", (uint32_t)status);
    TextMemberUnsigned(&line, "win32", status >= 0 ? 0 : RtlNtStatusToDosError(status));
    TextMemberUnsigned(&line, "information", information);
    TextMemberHex(&line, "data", output, length);
    SendAnswer(sender, &line, id);
    if (buffer != small) {
        Free(buffer);
    }
}

void AnswerExpired(SENDER *sender, uint64_t id)
{
    SendError(sender, id, "timeout", "the ioctl was not complete at its deadline", 0, WAIT_TIMEOUT);
}

void AnswerBusy(SENDER *sender, uint64_t id)
{
    SendError(sender, id, "busy", "too many requests, or this id is in use", 0, ERROR_BUSY);
}

void AnswerCancel(SENDER *sender, uint64_t id, int found)
{
    char buffer[128];
    TEXT line;

    AnswerStart(&line, buffer, sizeof(buffer), id, 1);
    TextMemberBoolean(&line, "found", found);
    SendAnswer(sender, &line, id);
}

void AnswerOpened(SENDER *sender, uint64_t id, size_t index)
{
    char buffer[128];
    TEXT line;

    AnswerStart(&line, buffer, sizeof(buffer), id, 1);
    TextMemberUnsigned(&line, "handle", index + 1);
    SendAnswer(sender, &line, id);
}

void AnswerClosed(SENDER *sender, uint64_t id)
{
    char buffer[128];
    TEXT line;

    AnswerStart(&line, buffer, sizeof(buffer), id, 1);
    SendAnswer(sender, &line, id);
}

int DevicePlace(SENDER *sender, uint64_t id, void *const *devices, const char *path, size_t path_length, size_t *index)
{
    size_t place = 0;

    if (path_length < 5 || memcmp(path, "\\\\.\\", 4) != 0) {
        SendError(sender, id, "bad_argument", "path must begin with \\\\.\\", 0, ERROR_INVALID_PARAMETER);
        return 0;
    }
    while (place < BRIDGE_DEVICES && devices[place] != NULL) {
        place += 1;
    }
    if (place == BRIDGE_DEVICES) {
        SendError(sender, id, "busy", "too many open devices", 0, ERROR_TOO_MANY_OPEN_FILES);
        return 0;
    }
    *index = place;
    return 1;
}

int DeviceIsOpen(SENDER *sender, uint64_t id, void *const *devices, uint64_t device)
{
    if (device == 0 || device > BRIDGE_DEVICES || devices[device - 1] == NULL) {
        SendError(sender, id, "unknown_handle", "no such handle", 0, ERROR_INVALID_HANDLE);
        return 0;
    }
    return 1;
}
