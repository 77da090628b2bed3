/* answer.c - see answer.h. */
#include "answer.h"

#include "lines.h"

#define LARGEST_DEADLINE_MS (24u * 3600u * 1000u)

void SenderStart(SENDER *sender, HANDLE output)
{
    sender->output = output;
    sender->stopping = 0;
    LockInitialize(&sender->lock);
}

void AnswerStart(TEXT *line, char *buffer, size_t capacity, uint64_t id, int ok)
{
    TextStart(line, buffer, capacity);
    TextAppendString(line, "{");
    TextMemberName(line, "id");
    if (id == NO_ID) {
        TextAppendString(line, "null");
    } else {
        TextAppendUnsigned(line, id);
    }
    TextMemberBoolean(line, "ok", ok);
}

/* When a write fails the other side is gone. */
static void SendLine(SENDER *sender, const char *line, size_t length)
{
    int written;

    LockAcquire(&sender->lock);
    written = WriteAll(sender->output, line, length);
    LockRelease(&sender->lock);
    if (!written && !sender->stopping) {
        SenderFailed(sender);
    }
}

void SendAnswer(SENDER *sender, TEXT *line, uint64_t id)
{
    TextAppend(line, "}\n", 2);
    if (line->overflow) {
        SendError(sender, id, "too_long", "the answer does not fit one line", 0, 0);
        return;
    }
    SendLine(sender, line->data, line->length);
}

void SendError(SENDER *sender, uint64_t id, const char *what, const char *message, NTSTATUS status, DWORD win32)
{
    char buffer[512];
    TEXT line;

    AnswerStart(&line, buffer, sizeof(buffer), id, 0);
    TextMemberString(&line, "error", what);
    TextMemberString(&line, "message", message);
    TextMemberUnsigned(&line, "status", (uint32_t)status);
    TextMemberUnsigned(&line, "win32", win32);
    TextAppend(&line, "}\n", 2);
    SendLine(sender, line.data, line.length);
}

int RequestRead(SENDER *sender, char *line, size_t length, JSON_OBJECT *request, uint64_t *id, uint32_t *deadline_ms)
{
    const char *fault = JsonParseFlatObject(line, length, request);
    uint64_t milliseconds = 0;

    if (!JsonGetUnsigned(request, "id", LARGEST_ID, id)) {
        *id = NO_ID;
    }
    if (fault != NULL) {
        SendError(sender, *id, "malformed", fault, 0, ERROR_INVALID_DATA);
    } else if (*id == NO_ID) {
        SendError(sender, *id, "bad_argument", "id must be an integer", 0, ERROR_INVALID_PARAMETER);
    } else if (!JsonGetUnsigned(request, "deadline_ms", LARGEST_DEADLINE_MS, &milliseconds) || milliseconds == 0) {
        SendError(sender, *id, "bad_argument", "deadline_ms must be 1 to 86400000", 0, ERROR_INVALID_PARAMETER);
    } else {
        *deadline_ms = (uint32_t)milliseconds;
        return 1;
    }
    return 0;
}
