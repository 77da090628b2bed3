/*
 * scenario.h: what a user of the driver does, as code inside the shim: so that it can be run under every schedule and
 * with every allocation failing in turn. A scenario never insists on success; the shim and the invariants below judge.
 */
#ifndef WSKLAB_SHIM_SCENARIO_H
#define WSKLAB_SHIM_SCENARIO_H

#include "harness.h"
#include "scenario_peer.h"
#include "wsklab_ioctl.h"
#include "wsklab_wsk.h"

#define WAIT_MS 10000

/* One handle. Numbers of operations count up by themselves. */
typedef struct USER {
    SHIM_HANDLE *Handle;
    ULONG LastOp;
} USER;

typedef struct SCENARIO {
    const char *Name;
    void (*Run)(USER *u);
    ULONG Flags;
} SCENARIO;
/* The export that only Wine's kernel has is there. */
#define SCENARIO_LIKE_WINE 0x1u
/* Ends with handles open: the driver is unloaded as Wine does it. */
#define SCENARIO_FORCE_UNLOAD 0x2u
/* The provider never completes something: the driver keeps it for ever, and the process ends without looking. */
#define SCENARIO_LOSES 0x4u
/* Waits for the outside world in ways that make it too slow to be swept for every allocation. */
#define SCENARIO_SLOW 0x8u

#define SCENARIO_WITH(name, flags)                                                                                                 \
    static void Run##name(USER *u);                                                                                                \
    static const SCENARIO Scenario##name = {#name, Run##name, flags};                                                              \
    static const SCENARIO *const ScenarioPointer##name __attribute__((section("scenarios"), used)) = &Scenario##name;              \
    static void Run##name(USER *u)
#define SCENARIO(name) SCENARIO_WITH(name, 0)

/* A request for one call: OP(BIND, .socket = 1, .local = Loopback(4, 0)). */
#define OP(name, ...) ((WSKLAB_SUBMIT){.function = WSKLAB_FN_##name, __VA_ARGS__})

BOOLEAN UserOpen(USER *u);
void UserClose(USER *u);
/* Any request with an answer of any size; *got bytes of it are there. */
NTSTATUS UserIoctl(USER *u, ULONG code, const void *input, ULONG inputSize, void *output, ULONG outputSize, ULONG *got);

/* Submit; the operation's number. The bytes behind it: `data`, then `extra`. */
ULONG Start(USER *u, WSKLAB_SUBMIT submit);
ULONG StartWith(USER *u, WSKLAB_SUBMIT submit, const void *data, ULONG dataSize, const void *extra, ULONG extraSize);
/* Wait for its end and release it; checks what must hold of every record. */
WSKLAB_RECORD End(USER *u, ULONG op);
/* Its record as it is, not released. */
WSKLAB_RECORD Look(USER *u, ULONG op);
ULONG Cancel(USER *u, ULONG op);
/* Start and end. */
WSKLAB_RECORD Do(USER *u, WSKLAB_SUBMIT submit);
WSKLAB_RECORD DoWith(USER *u, WSKLAB_SUBMIT submit, const void *data, ULONG dataSize, const void *extra, ULONG extraSize);
/* IOCTL_WSKLAB_RUN. */
WSKLAB_RECORD RunAtOnce(USER *u, WSKLAB_SUBMIT submit);
BOOLEAN Succeeded(const WSKLAB_RECORD *record);

/* Port 0: any. The wildcard of a family. */
WSKLAB_ADDRESS Loopback(int family, uint16_t port);
WSKLAB_ADDRESS Any(int family);
uint16_t PortOf(const WSKLAB_ADDRESS *address);

/* Common beginnings. Numbers of sockets are the caller's; 0 as port: it did not work. */
uint16_t Bind(USER *u, ULONG socket);
uint16_t Listener(USER *u, ULONG socket, UCHAR dispatch, ULONG context);
/* A connected pair: the driver's socket and the peer, -1 when it did not work. */
int Connected(USER *u, ULONG socket, UCHAR dispatch, ULONG context);
uint16_t Datagram(USER *u, ULONG socket, UCHAR dispatch, ULONG context);
void Events(USER *u, ULONG socket, ULONG mask);
NTSTATUS Script(USER *u, ULONG socket, ULONG callback, const WSKLAB_ANSWER *answers, ULONG count);
/* Every event that the driver has recorded so far; how many. */
ULONG DrainEvents(USER *u);

void Sleep(ULONG milliseconds);
/* Runs both, each in a thread of its own, and waits for them. */
void Both(void (*first)(USER *u), void (*second)(USER *u), USER *u);

/* What must hold between any two requests: the ledger adds up, nothing is negative. */
void CheckLedger(USER *u);

#endif
