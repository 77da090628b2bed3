/* op_connect.c - the verbs of `wskctl op` that begin a conversation: connect, resolve. */
#include "op.h"
#include "verbs.h"

/* Sends the hello and waits for what comes back. */
static int Talk(CLIENT *client, uint32_t socket, uint32_t timeout_ms)
{
    unsigned char data[RECEIVED_BYTES];
    WSKLAB_SUBMIT submit;
    WSKLAB_RECORD record;

    PrepareSend(client, &submit, WSKLAB_FN_SEND, socket, sizeof(HELLO) - 1);
    if (!RunAndPrint(client, &submit, HELLO, "send") ||
        !ReceiveAndPrint(client, WSKLAB_FN_RECEIVE, socket, timeout_ms, &record, data)) {
        return EXIT_FAILED;
    }
    return record.data_length > 0 ? EXIT_OK : EXIT_FAILED;
}

int OpConnect(CLIENT *client, const OPTIONS *options)
{
    WSKLAB_SUBMIT submit;
    int result = EXIT_FAILED;
    uint32_t socket = SocketAndBind(client, WSKLAB_CATEGORY_CONNECTION, 1, 6, 0, 0);

    if (socket == 0) {
        return EXIT_FAILED;
    }
    ClientPrepare(client, &submit, WSKLAB_FN_CONNECT, socket);
    submit.address_use = WSKLAB_ADDRESS_REMOTE;
    AddressSet(&submit.remote, options->ipv4, (uint16_t)options->port);
    if (RunAndPrint(client, &submit, NULL, "connect")) {
        result = Talk(client, socket, (uint32_t)options->timeout_ms);
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
