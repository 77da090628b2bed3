/* op_connect.c - the verbs of `wskctl op` that begin a conversation: connect, resolve. */
#include "op.h"
#include "verbs.h"

#define HELLO "hello\n"

/* Runs a prepared request, prints its record; 0 when it failed. */
static int RunAndPrint(CLIENT *client, const WSKLAB_SUBMIT *submit, const void *data, const char *what)
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

/* Sends the hello and waits for what comes back. */
static int Talk(CLIENT *client, uint32_t socket, uint32_t timeout_ms)
{
    unsigned char data[4096];
    WSKLAB_SUBMIT submit;
    WSKLAB_RECORD record;
    NTSTATUS status;

    ClientPrepare(client, &submit, WSKLAB_FN_SEND, socket);
    submit.buffer_length = sizeof(HELLO) - 1;
    submit.data_length = sizeof(HELLO) - 1;
    submit.mdl_shape = WSKLAB_MDL_SINGLE;
    submit.fill = WSKLAB_FILL_DATA;
    if (!RunAndPrint(client, &submit, HELLO, "send")) {
        return EXIT_FAILED;
    }
    ClientPrepare(client, &submit, WSKLAB_FN_RECEIVE, socket);
    submit.buffer_length = sizeof(data);
    submit.mdl_shape = WSKLAB_MDL_SINGLE;
    status = ClientSubmit(client, &submit, NULL);
    if (status >= 0) {
        status = ClientWait(client, submit.op_id, timeout_ms, WSKLAB_RELEASE, &record, data, sizeof(data));
    }
    if (status < 0) {
        return Fail("receive", status);
    }
    PrintLine(RecordLine, &record);
    return RecordSucceeded(&record) && record.data_length > 0 ? EXIT_OK : EXIT_FAILED;
}

int OpConnect(CLIENT *client, const OPTIONS *options)
{
    WSKLAB_SUBMIT submit;
    WSKLAB_RECORD record;
    uint32_t socket;
    int result = EXIT_FAILED;
    NTSTATUS status = ClientSocket(client, WSKLAB_CATEGORY_CONNECTION, 2, 1, 6, &record);

    if (status < 0) {
        return Fail("socket", status);
    }
    PrintLine(RecordLine, &record);
    if (!RecordSucceeded(&record)) {
        return EXIT_FAILED;
    }
    socket = client->last_socket;
    status = ClientBind(client, socket, 0, 0, &record);
    if (status < 0) {
        Fail("bind", status);
    } else {
        PrintLine(RecordLine, &record);
        ClientPrepare(client, &submit, WSKLAB_FN_CONNECT, socket);
        submit.address_use = WSKLAB_ADDRESS_REMOTE;
        AddressSet(&submit.remote, options->ipv4, (uint16_t)options->port);
        if (RecordSucceeded(&record) && RunAndPrint(client, &submit, NULL, "connect")) {
            result = Talk(client, socket, (uint32_t)options->timeout_ms);
        }
    }
    return CloseAndPrint(client, socket, result);
}

static void AddressLine(TEXT *line, const void *value)
{
    const WSKLAB_ADDRESS_INFO *info = value;

    TextMemberUnsigned(line, "family", info->family);
    TextMemberUnsigned(line, "type", info->type);
    TextMemberUnsigned(line, "protocol", info->protocol);
    TextMemberHex(line, "address", info->address.bytes, info->address.length);
}

int OpResolve(CLIENT *client, const OPTIONS *options)
{
    WSKLAB_ADDRESS_INFO infos[16];
    WSKLAB_SUBMIT submit;
    WSKLAB_RECORD record;
    WCHAR *node;
    size_t length = 0;
    size_t index;
    NTSTATUS status;

    node = options->name != NULL ? Utf16FromUtf8(options->name, strlen(options->name)) : NULL;
    if (node == NULL) {
        Complain("wskctl: op resolve needs --name NAME\n");
        return EXIT_USAGE;
    }
    while (node[length] != 0) {
        length += 1;
    }
    ClientPrepare(client, &submit, WSKLAB_FN_GET_ADDRESS_INFO, 0);
    submit.new_object = 1;
    submit.argument_use = WSKLAB_USE_NODE;
    submit.node_length = (uint32_t)(length * sizeof(WCHAR));
    submit.extra_length = submit.node_length;
    status = ClientSubmit(client, &submit, node);
    if (status >= 0) {
        status = ClientWait(client, submit.op_id, (uint32_t)options->timeout_ms, WSKLAB_RELEASE, &record, infos, sizeof(infos));
    }
    Free(node);
    if (status < 0) {
        return Fail("resolve", status);
    }
    PrintLine(RecordLine, &record);
    if (!RecordSucceeded(&record)) {
        return EXIT_FAILED;
    }
    for (index = 0; (index + 1) * sizeof(infos[0]) <= record.data_length; index += 1) {
        PrintLine(AddressLine, &infos[index]);
    }
    ClientPrepare(client, &submit, WSKLAB_FN_FREE_ADDRESS_INFO, 0);
    submit.object = 1;
    status = ClientRun(client, &submit, NULL, &record);
    if (status < 0) {
        return Fail("free", status);
    }
    PrintLine(RecordLine, &record);
    /* It has no IRP, so no completion comes. */
    return record.state == WSKLAB_STATE_COMPLETED && record.returned_status == 0 ? EXIT_OK : EXIT_FAILED;
}
