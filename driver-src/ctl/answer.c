/* answer.c - see answer.h. */
#include "answer.h"

#include "lines.h"

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
