/* op.h - what the parts of `wskctl op` share. */
#ifndef WSKCTL_OP_H
#define WSKCTL_OP_H

#include "client.h"

typedef struct OPTIONS {
    uint64_t port;
    uint64_t timeout_ms;
    uint32_t ipv4;
    const char *name; /* NULL: none */
} OPTIONS;

/* A line of JSON on standard output. */
void PrintLine(void (*members)(TEXT *, const void *), const void *value);
void RecordLine(TEXT *line, const void *value);
/* Complains with a status in it; returns the exit code of a failure. */
int Fail(const char *what, NTSTATUS status);
/* Closes a socket and prints the record; keeps an earlier failure. */
int CloseAndPrint(CLIENT *client, uint32_t socket, int result);

/* A connection socket to address and port: says hello, waits for an answer, disconnects. */
int OpConnect(CLIENT *client, const OPTIONS *options);
/* The addresses of a name, which are given back. */
int OpResolve(CLIENT *client, const OPTIONS *options);

#endif
