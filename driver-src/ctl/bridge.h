/*
 * bridge.h - devices and overlapped I/O controls of one `wskctl stdio` process.
 *
 * The reader thread submits; a completion thread answers, expires deadlines and never submits; cancels
 * run on pool threads, because a driver's cancel routine may block its caller. A request is answered
 * exactly once, by whoever claims it first under the lock: the submitter (the driver completed at once),
 * its completion packet, or its deadline.
 */
#ifndef WSKCTL_BRIDGE_H
#define WSKCTL_BRIDGE_H

#include "base.h"
#include "answer.h"

/* Most ioctls in flight, and most open devices, of one process. */
#define BRIDGE_REQUESTS 256
#define BRIDGE_DEVICES 64

typedef struct BRIDGE BRIDGE;

/* NULL when there is no memory or no thread. */
BRIDGE *BridgeStart(SENDER *sender);

/* Cancels and closes everything. 1 when nothing of it runs any more; 0 when a driver would not let go in time. */
int BridgeStop(BRIDGE *bridge);

/* The verbs. Each sends its answer, now or when the I/O is complete. */
void BridgeOpen(BRIDGE *bridge, uint64_t id, const char *path, size_t path_length);
void BridgeClose(BRIDGE *bridge, uint64_t id, uint64_t device);
void BridgeCancel(BRIDGE *bridge, uint64_t id, uint64_t target);
/* Takes the ownership of input (from Allocate; may be NULL). */
void BridgeIoctl(BRIDGE *bridge, uint64_t id, uint64_t device, uint32_t code, void *input, uint32_t input_size,
                 uint32_t output_size, uint32_t deadline_ms);

#endif
