/* op.c - `wskctl op`: one operation of the driver by hand; one line of JSON per record. */
#include "op.h"
#include "verbs.h"

static const char Usage[] =
    "usage: wskctl op VERB [--port N] [--address A.B.C.D] [--name NAME] [--timeout MILLISECONDS]\n"
    "  hello          the driver about itself\n"
    "  ledger         what it issued, completed, allocated\n"
    "  create-listen  the published sample: one listening socket, closed again\n"
    "  listen         the sample, bound to address and port; accepts one connection, echoes once\n"
    "  connect        a connection socket to address and port: says hello, waits for an answer\n"
    "  send-to        a datagram to address and port: says hello, waits for an answer unless the time is 0\n"
    "  receive-from   a datagram socket bound to address and port: one datagram, sent back to its sender\n"
    "  resolve        the addresses of a name, given back again\n"
    "  quiesce        close everything of everyone; code 0 when the driver can be unloaded, else the owners\n";

static int ParseIpv4(const char *text, uint32_t *ipv4)
{
    uint64_t byte;
    int count;

    *ipv4 = 0;
    for (count = 0; count < 4; count += 1) {
        char digits[4] = {0};
        size_t length = 0;
        while (text[length] >= '0' && text[length] <= '9' && length < 3) {
            digits[length] = text[length];
            length += 1;
        }
        if (!ParseNumber(digits, 255, &byte) || text[length] != (count == 3 ? '\0' : '.')) {
            return 0;
        }
        *ipv4 = *ipv4 << 8 | (uint32_t)byte;
        text += length + 1;
    }
    return 1;
}

static int ParseOptions(OPTIONS *options, int count, char **arguments)
{
    int index;

    options->port = 0;
    options->timeout_ms = 60000;
    options->ipv4 = 0;
    options->name = NULL;
    for (index = 0; index < count; index += 2) {
        const char *value = index + 1 < count ? arguments[index + 1] : "";
        if (SameText(arguments[index], "--port") && ParseNumber(value, 65535, &options->port)) {
            continue;
        }
        if (SameText(arguments[index], "--timeout") &&
            ParseNumber(value, WSKLAB_MAX_TIMEOUT_MS, &options->timeout_ms)) {
            continue;
        }
        if (SameText(arguments[index], "--name") && index + 1 < count) {
            options->name = value;
            continue;
        }
        if (SameText(arguments[index], "--address") && ParseIpv4(value, &options->ipv4)) {
            continue;
        }
        return 0;
    }
    return 1;
}

void PrintLine(void (*members)(TEXT *, const void *), const void *value)
{
    char buffer[4096];
    TEXT line;

    TextStart(&line, buffer, sizeof(buffer));
    TextAppendString(&line, "{");
    members(&line, value);
    TextAppendString(&line, "}\n");
    Print(line.data, line.length);
}

void RecordLine(TEXT *line, const void *value)
{
    RecordMembers(line, value);
}

static void HelloLine(TEXT *line, const void *value)
{
    HelloMembers(line, value);
}

static void LedgersLine(TEXT *line, const void *value)
{
    const WSKLAB_LEDGERS *ledgers = value;

    TextMemberName(line, "client");
    TextAppendString(line, "{");
    LedgerMembers(line, &ledgers->client);
    TextAppendString(line, "}");
    TextMemberName(line, "driver");
    TextAppendString(line, "{");
    LedgerMembers(line, &ledgers->driver);
    TextAppendString(line, "}");
}

int Fail(const char *what, NTSTATUS status)
{
    char buffer[128];
    TEXT line;

    TextStart(&line, buffer, sizeof(buffer) - 1);
    TextAppendString(&line, "wskctl: ");
    TextAppendString(&line, what);
    TextAppendString(&line, ": status ");
    TextAppendUnsigned(&line, (uint32_t)status);
    TextAppendString(&line, "\n");
    buffer[line.length] = '\0';
    Complain(buffer);
    return EXIT_FAILED;
}

static int OpHello(CLIENT *client)
{
    WSKLAB_HELLO_REQUEST request = {{sizeof(request), WSKLAB_ABI_VERSION, 0}};
    WSKLAB_HELLO hello;
    size_t returned;
    NTSTATUS status = ClientIoctl(client, IOCTL_WSKLAB_HELLO, &request, sizeof(request), &hello, sizeof(hello),
                                  CLIENT_WAIT_MS, &returned);

    if (status < 0 || returned != sizeof(hello)) {
        return Fail("hello", status);
    }
    PrintLine(HelloLine, &hello);
    return EXIT_OK;
}

static int OpLedger(CLIENT *client)
{
    WSKLAB_LEDGERS ledgers;
    NTSTATUS status = ClientLedger(client, &ledgers);

    if (status < 0) {
        return Fail("ledger", status);
    }
    PrintLine(LedgersLine, &ledgers);
    return EXIT_OK;
}

static void OwnerLine(TEXT *line, const void *value)
{
    const WSKLAB_OWNER *owner = value;

    TextMemberUnsigned(line, "client", owner->client_id);
    TextMemberUnsigned(line, "process", owner->process_id);
    TextMemberUnsigned(line, "flags", owner->flags);
    TextMemberUnsigned(line, "outstanding", owner->outstanding);
    TextMemberUnsigned(line, "sockets", owner->sockets);
    TextMemberUnsigned(line, "lost", owner->lost);
}

static int OpQuiesce(CLIENT *client, uint32_t timeout_ms)
{
    QUIESCED quiesced;
    uint32_t index;
    NTSTATUS status = ClientQuiesce(client, timeout_ms, &quiesced);

    if (status < 0) {
        return Fail("quiesce", status);
    }
    for (index = 0; index < quiesced.result.count; index += 1) {
        PrintLine(OwnerLine, &quiesced.owners[index]);
    }
    return quiesced.result.busy == 0 ? EXIT_OK : EXIT_FAILED;
}

/* The published sample; the socket's number, 0 when it failed. */
static uint32_t Sample(CLIENT *client)
{
    WSKLAB_SUBMIT submit;
    WSKLAB_RECORD record;
    NTSTATUS status;

    ClientPrepare(client, &submit, WSKLAB_FN_SAMPLE_LISTEN, 0);
    submit.dispatch = WSKLAB_DISPATCH_FULL;
    status = ClientRun(client, &submit, NULL, &record);
    if (status < 0) {
        Fail("create-listen", status);
        return 0;
    }
    PrintLine(RecordLine, &record);
    return RecordSucceeded(&record) ? submit.new_socket : 0;
}

int CloseAndPrint(CLIENT *client, uint32_t socket, int result)
{
    WSKLAB_RECORD record;
    NTSTATUS status = ClientCloseSocket(client, socket, &record);

    if (status < 0) {
        return Fail("close", status);
    }
    PrintLine(RecordLine, &record);
    return RecordSucceeded(&record) ? result : EXIT_FAILED;
}

static int OpCreateListen(CLIENT *client)
{
    uint32_t socket = Sample(client);

    return socket == 0 ? EXIT_FAILED : CloseAndPrint(client, socket, EXIT_OK);
}

int RunAndPrint(CLIENT *client, const WSKLAB_SUBMIT *submit, const void *data, const char *what)
{
    WSKLAB_RECORD record;
    NTSTATUS status = ClientRun(client, submit, data, &record);

    if (status < 0) {
        Fail(what, status);
        return 0;
    }
    PrintLine(RecordLine, &record);
    return RecordSucceeded(&record);
}

int AwaitAndPrint(CLIENT *client, const WSKLAB_SUBMIT *submit, uint32_t timeout_ms, const char *what, WSKLAB_RECORD *record,
                  void *data, uint32_t data_size)
{
    NTSTATUS status = ClientSubmit(client, submit, NULL);

    if (status >= 0) {
        status = ClientWait(client, submit->op_id, timeout_ms, WSKLAB_RELEASE, record, data, data_size);
    }
    if (status < 0) {
        Fail(what, status);
        return 0;
    }
    PrintLine(RecordLine, record);
    return RecordSucceeded(record);
}

void PrepareSend(CLIENT *client, WSKLAB_SUBMIT *submit, uint32_t function, uint32_t socket, uint32_t length)
{
    ClientPrepare(client, submit, function, socket);
    submit->buffer_length = length;
    submit->data_length = length;
    submit->mdl_shape = WSKLAB_MDL_SINGLE;
    submit->fill = WSKLAB_FILL_DATA;
}

int ReceiveAndPrint(CLIENT *client, uint32_t function, uint32_t socket, uint32_t timeout_ms, WSKLAB_RECORD *record, void *data)
{
    WSKLAB_SUBMIT submit;

    ClientPrepare(client, &submit, function, socket);
    submit.buffer_length = RECEIVED_BYTES;
    submit.mdl_shape = WSKLAB_MDL_SINGLE;
    submit.address_use = function == WSKLAB_FN_RECEIVE_FROM ? WSKLAB_ADDRESS_REMOTE : 0;
    return AwaitAndPrint(client, &submit, timeout_ms, "receive", record, data, RECEIVED_BYTES);
}

uint32_t SocketAndBind(CLIENT *client, uint32_t category, uint16_t type, uint32_t protocol, uint32_t ipv4, uint16_t port)
{
    WSKLAB_RECORD record;
    uint32_t socket;
    NTSTATUS status = ClientSocket(client, category, 2, type, protocol, &record);

    if (status < 0) {
        Fail("socket", status);
        return 0;
    }
    PrintLine(RecordLine, &record);
    if (!RecordSucceeded(&record)) {
        return 0;
    }
    socket = client->last_socket;
    status = ClientBind(client, socket, ipv4, port, &record);
    if (status < 0) {
        Fail("bind", status);
    } else {
        PrintLine(RecordLine, &record);
        if (RecordSucceeded(&record)) {
            return socket;
        }
    }
    CloseAndPrint(client, socket, EXIT_FAILED);
    return 0;
}

/* Receives once and sends the same bytes back. */
static int EchoOnce(CLIENT *client, uint32_t socket, uint32_t timeout_ms)
{
    unsigned char data[RECEIVED_BYTES];
    WSKLAB_SUBMIT submit;
    WSKLAB_RECORD record;

    if (!ReceiveAndPrint(client, WSKLAB_FN_RECEIVE, socket, timeout_ms, &record, data)) {
        return EXIT_FAILED;
    }
    PrepareSend(client, &submit, WSKLAB_FN_SEND, socket, record.data_length);
    return RunAndPrint(client, &submit, data, "send") ? EXIT_OK : EXIT_FAILED;
}

/* Accepts one connection on a bound listening socket and echoes on it. */
static int AcceptOnce(CLIENT *client, uint32_t listener, uint32_t timeout_ms)
{
    WSKLAB_SUBMIT submit;
    WSKLAB_RECORD record;

    ClientPrepare(client, &submit, WSKLAB_FN_ACCEPT, listener);
    submit.address_use = WSKLAB_ADDRESS_LOCAL | WSKLAB_ADDRESS_REMOTE;
    if (!AwaitAndPrint(client, &submit, timeout_ms, "accept", &record, NULL, 0)) {
        return EXIT_FAILED;
    }
    return CloseAndPrint(client, submit.new_socket, EchoOnce(client, submit.new_socket, timeout_ms));
}

static int OpListen(CLIENT *client, const OPTIONS *options)
{
    uint32_t socket = Sample(client);
    WSKLAB_RECORD record;
    NTSTATUS status;
    int result = EXIT_FAILED;

    if (socket == 0) {
        return EXIT_FAILED;
    }
    status = ClientBind(client, socket, options->ipv4, (uint16_t)options->port, &record);
    if (status < 0) {
        Fail("bind", status);
    } else {
        PrintLine(RecordLine, &record);
        if (RecordSucceeded(&record)) {
            result = AcceptOnce(client, socket, (uint32_t)options->timeout_ms);
        }
    }
    return CloseAndPrint(client, socket, result);
}

int VerbOp(int count, char **arguments)
{
    OPTIONS options;
    CLIENT client;
    DWORD win32;
    int result = EXIT_USAGE;

    if (count == 0 || !ParseOptions(&options, count - 1, arguments + 1)) {
        Complain(Usage);
        return EXIT_USAGE;
    }
    win32 = ClientOpen(&client);
    if (win32 != 0) {
        return Fail("the driver's device cannot be opened; Win32", (NTSTATUS)win32);
    }
    if (SameText(arguments[0], "hello")) {
        result = OpHello(&client);
    } else if (SameText(arguments[0], "ledger")) {
        result = OpLedger(&client);
    } else if (SameText(arguments[0], "create-listen")) {
        result = OpCreateListen(&client);
    } else if (SameText(arguments[0], "listen")) {
        result = OpListen(&client, &options);
    } else if (SameText(arguments[0], "connect")) {
        result = OpConnect(&client, &options);
    } else if (SameText(arguments[0], "send-to")) {
        result = OpSendTo(&client, &options);
    } else if (SameText(arguments[0], "receive-from")) {
        result = OpReceiveFrom(&client, &options);
    } else if (SameText(arguments[0], "resolve")) {
        result = OpResolve(&client, &options);
    } else if (SameText(arguments[0], "quiesce")) {
        result = OpQuiesce(&client, (uint32_t)options.timeout_ms);
    } else {
        Complain(Usage);
    }
    ClientClose(&client);
    return result;
}
