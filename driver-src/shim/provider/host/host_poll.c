/*
 * host_poll.c: waiting for many descriptors at once.
 */
#include "host_poll.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_EVENTS 64
#define WAKE_COOKIE UINT64_MAX

int HostPollOpen(HOST_POLL *Poll) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = WAKE_COOKIE};
    Poll->Epoll = epoll_create1(EPOLL_CLOEXEC);
    Poll->Wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (Poll->Epoll < 0 || Poll->Wake < 0 || epoll_ctl(Poll->Epoll, EPOLL_CTL_ADD, Poll->Wake, &event) < 0) {
        int error = errno;
        HostPollClose(Poll);
        return -error;
    }
    return 0;
}

void HostPollClose(HOST_POLL *Poll) {
    if (Poll->Epoll >= 0) {
        close(Poll->Epoll);
    }
    if (Poll->Wake >= 0) {
        close(Poll->Wake);
    }
    Poll->Epoll = Poll->Wake = -1;
}

int HostPollAdd(HOST_POLL *Poll, int Fd, uint64_t Cookie) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.u64 = Cookie};
    return epoll_ctl(Poll->Epoll, EPOLL_CTL_ADD, Fd, &event) < 0 ? -errno : 0;
}

void HostPollRemove(HOST_POLL *Poll, int Fd) {
    struct epoll_event event = {0};
    epoll_ctl(Poll->Epoll, EPOLL_CTL_DEL, Fd, &event);
}

void HostPollWake(HOST_POLL *Poll) {
    uint64_t one = 1;
    /* EAGAIN: it is awake already. */
    if (write(Poll->Wake, &one, sizeof(one)) < 0) {
        return;
    }
}

size_t HostPollWait(HOST_POLL *Poll, int TimeoutMs, uint64_t *Cookies, size_t Capacity) {
    struct epoll_event events[MAX_EVENTS];
    size_t found = 0;
    int count = epoll_wait(Poll->Epoll, events, Capacity < MAX_EVENTS ? (int)Capacity : MAX_EVENTS, TimeoutMs);

    for (int index = 0; index < count; index++) {
        if (events[index].data.u64 == WAKE_COOKIE) {
            uint64_t value;
            while (read(Poll->Wake, &value, sizeof(value)) > 0) {
            }
        } else {
            Cookies[found++] = events[index].data.u64;
        }
    }
    return found;
}

uint64_t HostPollNowMs(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}
