/*
 * answer.h: an operation's record as the client gets it.
 */
#ifndef WSKLAB_ANSWER_H
#define WSKLAB_ANSWER_H

#include "operation.h"

typedef struct ANSWER_REQUEST {
    ULONG DataOffset;
    ULONG DataLength; /* at most */
    BOOLEAN Release;
    ULONG ExtraFlags; /* WSKLAB_RECORD_TIMED_OUT */
} ANSWER_REQUEST;

/*
 * Write record and data into `Out` of `Room` >= sizeof(WSKLAB_RECORD) bytes; returns the bytes written, never more than
 * `Room`. The checks on guards, poison and untouched bytes are made here, at each look. The caller holds a reference.
 */
_IRQL_requires_max_(DISPATCH_LEVEL) ULONG AnswerWrite(OPERATION *Operation, PUCHAR Out, ULONG Room, const ANSWER_REQUEST *Request);

#endif
