/*
 * host_poll.h: waiting for many descriptors at once. Edge-triggered: whoever is told tries until -EAGAIN.
 */
#ifndef WSKLAB_PROVIDER_HOST_POLL_H
#define WSKLAB_PROVIDER_HOST_POLL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct HOST_POLL {
    int Epoll;
    int Wake; /* eventfd */
} HOST_POLL;

int HostPollOpen(HOST_POLL *Poll);
void HostPollClose(HOST_POLL *Poll);
int HostPollAdd(HOST_POLL *Poll, int Fd, uint64_t Cookie);
void HostPollRemove(HOST_POLL *Poll, int Fd);
void HostPollWake(HOST_POLL *Poll);
/* Cookies of the descriptors where something happened; a wake alone gives none. -1 as time-out waits without limit. */
size_t HostPollWait(HOST_POLL *Poll, int TimeoutMs, uint64_t *Cookies, size_t Capacity);
uint64_t HostPollNowMs(void);

#endif
