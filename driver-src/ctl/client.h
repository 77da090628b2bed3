/* client.h - the wsklab driver as a synchronous C client: for `op` and `kit`. `stdio` knows nothing of it. */
#ifndef WSKCTL_CLIENT_H
#define WSKCTL_CLIENT_H

#include "base.h"
#include "text.h"

#include "wsklab_ioctl.h"

/* How long one operation may take, unless told otherwise. */
#define CLIENT_WAIT_MS 10000u

typedef struct CLIENT {
    HANDLE device;
    HANDLE event;
    uint32_t last_operation;
    uint32_t last_socket;
} CLIENT;

/* Opens the driver's device; a Win32 code, 0 for success. */
DWORD ClientOpen(CLIENT *client);
void ClientClose(CLIENT *client);

/* One control code, waited for; a wait that lasts too long is cancelled and gives STATUS_TIMEOUT as an error. */
NTSTATUS ClientIoctl(CLIENT *client, uint32_t code, const void *input, size_t input_size, void *output,
                     size_t output_size, uint32_t timeout_ms, size_t *returned);

/* A request with header, number, and the ordinary case of everything; the caller sets the rest. */
void ClientPrepare(CLIENT *client, WSKLAB_SUBMIT *submit, uint32_t function, uint32_t socket);

/* Sends a request; data (data_length and then extra_length of it) follows it. */
NTSTATUS ClientSubmit(CLIENT *client, const WSKLAB_SUBMIT *submit, const void *data);

/*
 * Waits for an operation's end; flags are WSKLAB_RELEASE or 0. Received bytes go to data (may be NULL).
 * Success with a record whose state is not final means that the time was over.
 */
NTSTATUS ClientWait(CLIENT *client, uint32_t op_id, uint32_t timeout_ms, uint32_t flags, WSKLAB_RECORD *record,
                    void *data, uint32_t data_size);

/* ClientSubmit, ClientWait with release. */
NTSTATUS ClientRun(CLIENT *client, const WSKLAB_SUBMIT *submit, const void *data, WSKLAB_RECORD *record);

/* Sockets. category is a WSKLAB_CATEGORY_*; family 2 or 23, type 1 or 2, protocol 6 or 17. */
NTSTATUS ClientSocket(CLIENT *client, uint32_t category, uint16_t family, uint16_t type, uint32_t protocol,
                      WSKLAB_RECORD *record);
NTSTATUS ClientCloseSocket(CLIENT *client, uint32_t socket, WSKLAB_RECORD *record);
/* ipv4 in host order: 0x7F000001 is 127.0.0.1. */
NTSTATUS ClientBind(CLIENT *client, uint32_t socket, uint32_t ipv4, uint16_t port, WSKLAB_RECORD *record);
NTSTATUS ClientLedger(CLIENT *client, WSKLAB_LEDGERS *ledgers);

/* What a quiesce answers: `owners` has `count` entries. */
typedef struct QUIESCED {
    WSKLAB_QUIESCE_RESULT result;
    WSKLAB_OWNER owners[WSKLAB_MAX_CLIENTS];
} QUIESCED;

/* Everything of everyone is closed; result.busy tells who is still there. The first of the two steps of stopping. */
NTSTATUS ClientQuiesce(CLIENT *client, uint32_t timeout_ms, QUIESCED *quiesced);

/* A SOCKADDR_IN. */
void AddressSet(WSKLAB_ADDRESS *address, uint32_t ipv4, uint16_t port);
uint16_t AddressPort(const WSKLAB_ADDRESS *address);

/* 1 when the operation was completed once with success. */
int RecordSucceeded(const WSKLAB_RECORD *record);
/* The members of a record that people and reports look at. */
void RecordMembers(TEXT *line, const WSKLAB_RECORD *record);
void LedgerMembers(TEXT *line, const WSKLAB_LEDGER *ledger);
void HelloMembers(TEXT *line, const WSKLAB_HELLO *hello);

#endif
