/* op_datagram.c - the verbs of `wskctl op` for datagrams: send-to, receive-from. */
#include "op.h"
#include "verbs.h"

static uint32_t DatagramSocket(CLIENT *client, uint32_t ipv4, uint16_t port)
{
    return SocketAndBind(client, WSKLAB_CATEGORY_DATAGRAM, 2, 17, ipv4, port);
}

static int SendTo(CLIENT *client, uint32_t socket, const WSKLAB_ADDRESS *remote, const void *data, uint32_t length)
{
    WSKLAB_SUBMIT submit;

    PrepareSend(client, &submit, WSKLAB_FN_SEND_TO, socket, length);
    submit.address_use = WSKLAB_ADDRESS_REMOTE;
    submit.remote = *remote;
    return RunAndPrint(client, &submit, data, "send-to");
}

int OpSendTo(CLIENT *client, const OPTIONS *options)
{
    unsigned char data[RECEIVED_BYTES];
    WSKLAB_ADDRESS remote;
    WSKLAB_RECORD record;
    uint32_t socket = DatagramSocket(client, 0, 0);
    int succeeded;

    if (socket == 0) {
        return EXIT_FAILED;
    }
    AddressSet(&remote, options->ipv4, (uint16_t)options->port);
    succeeded = SendTo(client, socket, &remote, HELLO, sizeof(HELLO) - 1);
    if (succeeded && options->timeout_ms != 0) {
        succeeded = ReceiveAndPrint(client, WSKLAB_FN_RECEIVE_FROM, socket, (uint32_t)options->timeout_ms, &record, data);
    }
    return CloseAndPrint(client, socket, succeeded ? EXIT_OK : EXIT_FAILED);
}

int OpReceiveFrom(CLIENT *client, const OPTIONS *options)
{
    unsigned char data[RECEIVED_BYTES];
    WSKLAB_RECORD record;
    uint32_t socket = DatagramSocket(client, options->ipv4, (uint16_t)options->port);
    int succeeded;

    if (socket == 0) {
        return EXIT_FAILED;
    }
    succeeded = ReceiveAndPrint(client, WSKLAB_FN_RECEIVE_FROM, socket, (uint32_t)options->timeout_ms, &record, data) &&
                SendTo(client, socket, &record.remote, data, record.data_length);
    return CloseAndPrint(client, socket, succeeded ? EXIT_OK : EXIT_FAILED);
}
