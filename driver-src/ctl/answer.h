/* answer.h - requests and answers of `wskctl stdio` and `wskctl peer`: one line of JSON, one WriteFile, from any thread. */
#ifndef WSKCTL_ANSWER_H
#define WSKCTL_ANSWER_H

#include "base.h"
#include "json.h"
#include "text.h"

/* JSON numbers are exact up to 2^53. */
#define LARGEST_ID ((1ULL << 53) - 1)
/* Stands for "the request's id is not known"; the line says null. */
#define NO_ID UINT64_MAX

typedef struct SENDER {
    HANDLE output;
    LOCK lock;
    volatile int stopping; /* a failing write no longer ends the process */
} SENDER;

void SenderStart(SENDER *sender, HANDLE output);

/* Nobody reads any more: the conversation is over, whatever is under way. */
void SenderFailed(SENDER *sender);

/* Reads {"id": N, "deadline_ms": N, ...}; 0 when it is no request, which the other side has been told then. */
int RequestRead(SENDER *sender, char *line, size_t length, JSON_OBJECT *request, uint64_t *id, uint32_t *deadline_ms);

/* Starts an answer: {"id":ID,"ok":OK */
void AnswerStart(TEXT *line, char *buffer, size_t capacity, uint64_t id, int ok);

/* Ends and sends an answer; one that did not fit becomes the error `too_long` for that id. */
void SendAnswer(SENDER *sender, TEXT *line, uint64_t id);

/* An error answer: a word of the protocol and a sentence; the codes are 0 when there are none. */
void SendError(SENDER *sender, uint64_t id, const char *what, const char *message, NTSTATUS status, DWORD win32);

#endif
