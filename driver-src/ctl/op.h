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

/* What goes out where there is nothing to echo. */
#define HELLO "hello\n"
/* The longest answer that is waited for; of a longer datagram the front. */
#define RECEIVED_BYTES 4096u

/* A line of JSON on standard output. */
void PrintLine(void (*members)(TEXT *, const void *), const void *value);
void RecordLine(TEXT *line, const void *value);
/* Complains with a status in it; returns the exit code of a failure. */
int Fail(const char *what, NTSTATUS status);
/* Runs a prepared request, prints its record; 0 when it failed. */
int RunAndPrint(CLIENT *client, const WSKLAB_SUBMIT *submit, const void *data, const char *what);
/* The same for one that waits for somebody outside; what it received goes to data. */
int AwaitAndPrint(CLIENT *client, const WSKLAB_SUBMIT *submit, uint32_t timeout_ms, const char *what, WSKLAB_RECORD *record,
                  void *data, uint32_t data_size);
/* A request that sends so many bytes in one buffer. */
void PrepareSend(CLIENT *client, WSKLAB_SUBMIT *submit, uint32_t function, uint32_t socket, uint32_t length);
/* WskReceive or WskReceiveFrom, awaited and printed; data has RECEIVED_BYTES. 0 when it failed. */
int ReceiveAndPrint(CLIENT *client, uint32_t function, uint32_t socket, uint32_t timeout_ms, WSKLAB_RECORD *record, void *data);
/* A new socket bound to address and port; both records printed. 0 when it failed, with nothing left. */
uint32_t SocketAndBind(CLIENT *client, uint32_t category, uint16_t type, uint32_t protocol, uint32_t ipv4, uint16_t port);
/* Closes a socket and prints the record; keeps an earlier failure. */
int CloseAndPrint(CLIENT *client, uint32_t socket, int result);

/* A connection socket to address and port: says hello, waits for an answer, disconnects. */
int OpConnect(CLIENT *client, const OPTIONS *options);
/* The addresses of a name, which are given back. */
int OpResolve(CLIENT *client, const OPTIONS *options);
/* One datagram to address and port, and the answer; with a time of 0 none is awaited. */
int OpSendTo(CLIENT *client, const OPTIONS *options);
/* One datagram to address and port of this machine, sent back to whoever sent it. */
int OpReceiveFrom(CLIENT *client, const OPTIONS *options);

#endif
