/*
 * submit.h: whether a request to call WSK makes sense. Nothing is allocated or changed here.
 */
#ifndef WSKLAB_SUBMIT_CHECK_H
#define WSKLAB_SUBMIT_CHECK_H

#include "platform.h"

NTSTATUS SubmitCheckHeader(const WSKLAB_HEADER *Header, ULONG Size);
/* Checks everything and fills in what a zero stands for (stack count, invoke flags). `InputBytes`: with the data.
 * `Forward`: the request is a FORWARD. */
NTSTATUS SubmitCheck(WSKLAB_SUBMIT *Submit, ULONG InputBytes, BOOLEAN Forward);

#endif
