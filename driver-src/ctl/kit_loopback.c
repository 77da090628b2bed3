/* kit_loopback.c - accept, connect, send and receive between two sockets of the driver itself. */
#include "kit.h"

/* The kit looks for a free port among these: without the local-address function it cannot ask for the chosen one. */
#define FIRST_PORT 49500
#define LAST_PORT 49599

/* A listening socket bound to loopback and its port; 0 when there is none. */
static uint32_t Listener(KIT *kit, uint16_t *port)
{
    uint32_t socket = KitCreate(kit, WSKLAB_CATEGORY_LISTEN, IPV4, STREAM, TCP);
    WSKLAB_RECORD record;

    if (!KitCheck(kit, "the listening socket is created", socket != 0)) {
        return 0;
    }
    for (*port = FIRST_PORT; *port <= LAST_PORT; *port += 1) {
        if (ClientBind(&kit->client, socket, LOOPBACK, *port, &record) >= 0 && RecordSucceeded(&record)) {
            KitObserve(kit, &record);
            return socket;
        }
    }
    KitObserve(kit, &record);
    KitCheck(kit, "it is bound to 127.0.0.1 and a free port", 0);
    KitClose(kit, socket);
    return 0;
}

/* A send on one socket and a receive on the other; what arrived is compared. */
static void Transfer(KIT *kit, uint32_t from, uint32_t to)
{
    static const char text[] = "twenty-two bytes here!";
    WSKLAB_SUBMIT submit;
    WSKLAB_RECORD record;
    char data[256];
    uint32_t receive;
    NTSTATUS status;

    ClientPrepare(&kit->client, &submit, WSKLAB_FN_RECEIVE, to);
    submit.buffer_length = sizeof(data);
    submit.mdl_shape = WSKLAB_MDL_SINGLE;
    receive = submit.op_id;
    if (!KitCheck(kit, "the receive is taken", ClientSubmit(&kit->client, &submit, NULL) >= 0)) {
        return;
    }
    ClientPrepare(&kit->client, &submit, WSKLAB_FN_SEND, from);
    submit.buffer_length = submit.data_length = sizeof(text) - 1;
    submit.mdl_shape = WSKLAB_MDL_SINGLE;
    submit.fill = WSKLAB_FILL_DATA;
    if (KitRunOperation(kit, &submit, text, &record)) {
        KitCheck(kit, "the send completes with the number of bytes",
                 RecordSucceeded(&record) && record.information == sizeof(text) - 1);
    }
    status = ClientWait(&kit->client, receive, CLIENT_WAIT_MS, WSKLAB_RELEASE, &record, data, sizeof(data));
    if (KitCheck(kit, "the receive is answered", status >= 0)) {
        KitObserve(kit, &record);
        KitCheck(kit, "the receive completes with these bytes",
                 RecordSucceeded(&record) && record.data_length == sizeof(text) - 1 &&
                     memcmp(data, text, sizeof(text) - 1) == 0);
        KitCheck(kit, "and leaves the rest of the buffer alone", (record.flags & WSKLAB_RECORD_REST_INTACT) != 0);
    }
}

static void Connected(KIT *kit, uint32_t listener, uint32_t connection, uint16_t port)
{
    WSKLAB_SUBMIT submit;
    WSKLAB_RECORD record;
    uint32_t accept;
    uint32_t accepted;

    ClientPrepare(&kit->client, &submit, WSKLAB_FN_ACCEPT, listener);
    submit.address_use = WSKLAB_ADDRESS_LOCAL | WSKLAB_ADDRESS_REMOTE;
    accept = submit.op_id;
    accepted = submit.new_socket;
    if (!KitCheck(kit, "the accept is taken", ClientSubmit(&kit->client, &submit, NULL) >= 0)) {
        return;
    }
    ClientPrepare(&kit->client, &submit, WSKLAB_FN_CONNECT, connection);
    submit.address_use = WSKLAB_ADDRESS_REMOTE;
    AddressSet(&submit.remote, LOOPBACK, port);
    if (KitRunOperation(kit, &submit, NULL, &record)) {
        KitCheck(kit, "connecting completes with success", RecordSucceeded(&record));
    }
    if (!KitCheck(kit, "the accept is answered",
                  ClientWait(&kit->client, accept, CLIENT_WAIT_MS, WSKLAB_RELEASE, &record, NULL, 0) >= 0)) {
        return;
    }
    KitObserve(kit, &record);
    if (KitCheck(kit, "the accept completes with a socket", RecordSucceeded(&record))) {
        Transfer(kit, connection, accepted);
        Transfer(kit, accepted, connection);
        KitClose(kit, accepted);
    }
}

void KitLoopback(KIT *kit)
{
    uint16_t port;
    uint32_t listener = Listener(kit, &port);
    uint32_t connection;
    WSKLAB_RECORD record;

    if (listener == 0) {
        return;
    }
    connection = KitCreate(kit, WSKLAB_CATEGORY_CONNECTION, IPV4, STREAM, TCP);
    if (KitCheck(kit, "the connection socket is created", connection != 0)) {
        if (KitCheck(kit, "it is bound to any address and port",
                     ClientBind(&kit->client, connection, 0, 0, &record) >= 0 && RecordSucceeded(&record))) {
            Connected(kit, listener, connection, port);
        }
        KitClose(kit, connection);
    }
    KitClose(kit, listener);
}
