/* bridge_answer.h - what a bridge says of devices and I/O controls: the same on Windows and on the kernel shim. */
#ifndef WSKCTL_BRIDGE_ANSWER_H
#define WSKCTL_BRIDGE_ANSWER_H

#include "bridge.h"

/* What a driver answered; `output` is looked at as far as Information and its size go. */
void AnswerIoctl(SENDER *sender, uint64_t id, NTSTATUS status, uint64_t information, const void *output, size_t output_size);
void AnswerExpired(SENDER *sender, uint64_t id);
/* No slot for a request, or its id is in use. */
void AnswerBusy(SENDER *sender, uint64_t id);
void AnswerCancel(SENDER *sender, uint64_t id, int found);
void AnswerOpened(SENDER *sender, uint64_t id, size_t index);
void AnswerClosed(SENDER *sender, uint64_t id);

/* Whether a device can be opened: the path names one, and there is a place for it. 0: the error is sent. */
int DevicePlace(SENDER *sender, uint64_t id, void *const *devices, const char *path, size_t path_length, size_t *index);
/* Whether a handle (from 1) is open. 0: the error is sent. */
int DeviceIsOpen(SENDER *sender, uint64_t id, void *const *devices, uint64_t device);

#endif
