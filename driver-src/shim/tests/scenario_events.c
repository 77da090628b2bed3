/*
 * scenario_events.c: WSK calls the driver: events, scripted answers, kept indications, conditional accept.
 */
#include "scenario.h"

#include "../provider/knobs.h"

#define FULL WSKLAB_DISPATCH_FULL

SCENARIO(AcceptEvents) {
    static const WSKLAB_ANSWER answers[] = {
        {.action = WSKLAB_ACTION_TAKE, .uses = 1, .number = 10, .socket_context = 100, .dispatch = FULL},
        {.action = WSKLAB_ACTION_REFUSE, .uses = 1},
        {.action = WSKLAB_ACTION_TAKE, .uses = 1, .number = 1, .hold_ms = 2}, /* the listener's own number */
    };
    uint16_t port = Listener(u, 1, FULL, 50);
    int peers[4];

    Script(u, 1, WSKLAB_CALLBACK_ACCEPT, answers, RTL_NUMBER_OF(answers));
    Events(u, 1, WSK_EVENT_ACCEPT);
    for (ULONG i = 0; i < RTL_NUMBER_OF(peers); i++) {
        peers[i] = PeerConnect(4, port);
        Sleep(20);
    }
    DrainEvents(u);
    DoWith(u, OP(SEND, .socket = 10), "taken", 5, NULL, 0);
    Events(u, 1, WSK_EVENT_ACCEPT | WSK_EVENT_DISABLE);
    for (ULONG i = 0; i < RTL_NUMBER_OF(peers); i++) {
        PeerClose(peers[i]);
    }
    Do(u, OP(CLOSE, .socket = 1));
}

SCENARIO(ReceiveEvents) {
    static const WSKLAB_ANSWER answers[] = {{.action = WSKLAB_ACTION_TAKE, .uses = 1},
                                            {.action = WSKLAB_ACTION_KEEP, .uses = 2, .number = 7},
                                            {.action = WSKLAB_ACTION_TAKE_SOME, .uses = 1, .length = 3},
                                            {.action = WSKLAB_ACTION_REFUSE, .uses = 1}};
    int peer = Connected(u, 1, FULL, 60);

    Script(u, 1, WSKLAB_CALLBACK_RECEIVE, answers, RTL_NUMBER_OF(answers));
    Events(u, 1, WSK_EVENT_RECEIVE | WSK_EVENT_DISCONNECT | WSK_EVENT_SEND_BACKLOG);
    for (ULONG i = 0; i < 5; i++) {
        PeerSend(peer, "some bytes", 10);
        Sleep(20);
    }
    Do(u, OP(INDICATION_INFO, .object = 7, .buffer_length = 0));
    Do(u, OP(INDICATION_INFO, .object = 7, .index = 3));
    Do(u, OP(RELEASE_DATA, .socket = 1, .object = 7));
    Do(u, OP(RECEIVE, .socket = 1, .buffer_length = 100));
    Events(u, 1, WSK_EVENT_RECEIVE | WSK_EVENT_DISABLE);
    PeerClose(peer);
    Sleep(20);
    DrainEvents(u);
    /* Object 8 is still kept: the close of the handle has to give it back. */
}

SCENARIO(DatagramEvents) {
    static const WSKLAB_ANSWER answers[] = {{.action = WSKLAB_ACTION_TAKE, .uses = 1},
                                            {.action = WSKLAB_ACTION_KEEP, .uses = 2, .number = 3},
                                            {.action = WSKLAB_ACTION_REFUSE, .uses = 1}};
    uint16_t mine = Datagram(u, 1, FULL, 70);
    uint16_t port = 0;
    int peer = PeerDatagram(4, &port);

    Script(u, 0, WSKLAB_CALLBACK_RECEIVE_FROM, answers, RTL_NUMBER_OF(answers));
    Events(u, 1, WSK_EVENT_RECEIVE_FROM);
    for (ULONG i = 0; i < 4; i++) {
        PeerSendTo(peer, 4, mine, "datagram", 8 - i);
        Sleep(20);
    }
    Do(u, OP(INDICATION_INFO, .object = 3));
    Do(u, OP(RELEASE_DATAGRAM, .socket = 1, .object = 3, .count = 1));
    Do(u, OP(RELEASE_DATAGRAM, .socket = 1, .object = 4));
    DrainEvents(u);
    PeerClose(peer);
    Do(u, OP(CLOSE, .socket = 1));
}

SCENARIO(ConditionalAccept) {
    static const WSKLAB_ANSWER answers[] = {{.action = WSKLAB_ACTION_TAKE, .uses = 1},
                                            {.action = WSKLAB_ACTION_REFUSE, .uses = 1},
                                            {.action = WSKLAB_ACTION_PEND, .uses = 2}};
    ULONG on = 1;
    uint16_t port;
    int peers[4];
    ULONG accept;

    Do(u, OP(SOCKET, .new_socket = 1, .flags = WSKLAB_CATEGORY_LISTEN, .family = 2, .type = 1, .protocol = 6, .dispatch = FULL,
             .socket_context = 80));
    DoWith(u, OP(CONTROL_SOCKET, .socket = 1, .control_type = WskSetOption, .control_code = SO_CONDITIONAL_ACCEPT,
                 .control_level = SOL_SOCKET, .input_kind = WSKLAB_INPUT_BYTES, .input_size = 4),
           NULL, 0, &on, sizeof(on));
    Script(u, 1, WSKLAB_CALLBACK_INSPECT, answers, RTL_NUMBER_OF(answers));
    Do(u, OP(BIND, .socket = 1, .local = Loopback(4, 0)));
    {
        WSKLAB_RECORD local = Do(u, OP(GET_LOCAL_ADDRESS, .socket = 1, .address_use = WSKLAB_ADDRESS_LOCAL));
        port = PortOf(&local.local);
    }
    accept = Start(u, OP(ACCEPT, .socket = 1, .new_socket = 2));
    for (ULONG i = 0; i < RTL_NUMBER_OF(peers); i++) {
        peers[i] = PeerConnect(4, port);
        Sleep(20);
    }
    Do(u, OP(INSPECT_COMPLETE, .socket = 1, .object = 3, .inspect_action = WskInspectAccept));
    Do(u, OP(INSPECT_COMPLETE, .socket = 1, .object = 77, .inspect_action = WskInspectReject,
             .switches = WSKLAB_SWITCH_UNKNOWN_ID));
    PeerReset(peers[3]);
    Sleep(50);
    Cancel(u, accept);
    End(u, accept);
    DrainEvents(u);
    for (ULONG i = 0; i < 3; i++) {
        PeerClose(peers[i]);
    }
}

SCENARIO(StaticEvents) {
    static const WSKLAB_ANSWER take = {.action = WSKLAB_ACTION_TAKE};
    int peer;

    Do(u, OP(CONTROL_CLIENT, .control_code = WSK_SET_STATIC_EVENT_CALLBACKS, .input_kind = WSKLAB_INPUT_EVENT_CALLBACK,
             .input_size = 16, .event_mask = WSK_EVENT_RECEIVE | WSK_EVENT_DISCONNECT, .switches = WSKLAB_SWITCH_NULL_IRP));
    Script(u, 0, WSKLAB_CALLBACK_RECEIVE, &take, 1);
    peer = Connected(u, 1, FULL, 1);
    PeerSend(peer, "at once", 7);
    Sleep(20);
    PeerClose(peer);
    Sleep(20);
    DrainEvents(u);
}

/* Events are wanted on a listener while its accept callback decides on a dispatch that lacks their callbacks: either that
 * socket gets them all the same, or the events are refused. */
SCENARIO(EventsWhileAccepting) {
    WSKLAB_ANSWER answer = {.action = WSKLAB_ACTION_TAKE, .uses = 2, .number = 20, .dispatch = WSKLAB_DISPATCH_MASK, .dispatch_mask = 2};
    uint16_t port = Listener(u, 1, FULL, 50);
    int peers[2];

    Script(u, 1, WSKLAB_CALLBACK_ACCEPT, &answer, 1);
    Events(u, 1, WSK_EVENT_ACCEPT);
    for (ULONG i = 0; i < RTL_NUMBER_OF(peers); i++) {
        peers[i] = PeerConnect(4, port);
        Events(u, 1, i == 0 ? WSK_EVENT_RECEIVE : WSK_EVENT_SEND_BACKLOG);
        PeerSend(peers[i], "x", 1);
        Sleep(20);
    }
    DrainEvents(u);
    for (ULONG i = 0; i < RTL_NUMBER_OF(peers); i++) {
        PeerClose(peers[i]);
    }
    Sleep(20);
}

/* The same with events of the whole client, and a socket that is being made meanwhile. */
static void MakeWithoutCallbacks(USER *u) {
    Do(u, OP(SOCKET, .new_socket = 30, .flags = WSKLAB_CATEGORY_DATAGRAM, .family = 2, .type = 2, .protocol = 17));
}

static void WantStaticEvents(USER *u) {
    Do(u, OP(CONTROL_CLIENT, .control_code = WSK_SET_STATIC_EVENT_CALLBACKS, .input_kind = WSKLAB_INPUT_EVENT_CALLBACK,
             .input_size = 16, .event_mask = WSK_EVENT_RECEIVE_FROM, .switches = WSKLAB_SWITCH_NULL_IRP));
}

/* Two such requests: the first one has not come back when the second one ends. */
SCENARIO(StaticEventsTwice) {
    WSKLAB_SUBMIT wanted = OP(CONTROL_CLIENT, .control_code = WSK_SET_STATIC_EVENT_CALLBACKS,
                              .input_kind = WSKLAB_INPUT_EVENT_CALLBACK, .input_size = 16, .event_mask = WSK_EVENT_RECEIVE_FROM);
    ULONG first;

    WskpKnobOrder(WSKP_ControlClient, WSKP_ORDER_AFTER_CANCEL);
    first = Start(u, wanted);
    WskpKnobsReset();
    Do(u, wanted);
    MakeWithoutCallbacks(u);
    Cancel(u, first);
    End(u, first);
}

SCENARIO(StaticEventsWhileCreating) {
    uint16_t port = 0;
    int peer;

    Both(MakeWithoutCallbacks, WantStaticEvents, u);
    peer = PeerDatagram(4, &port);
    PeerSendTo(peer, 4, Bind(u, 30), "x", 1);
    Sleep(20);
    PeerClose(peer);
    Do(u, OP(CLOSE, .socket = 30));
}

/* An operation that a callback starts. */
SCENARIO(ThenFromCallback) {
    uint16_t port = Listener(u, 1, FULL, 50);
    ULONG held = Start(u, OP(ACCEPT, .socket = 1, .new_socket = 5, .switches = WSKLAB_SWITCH_HELD));
    WSKLAB_ANSWER answer = {.action = WSKLAB_ACTION_TAKE, .uses = 1, .number = 20, .then_op = held};
    int peer;

    Script(u, 1, WSKLAB_CALLBACK_ACCEPT, &answer, 1);
    Events(u, 1, WSK_EVENT_ACCEPT);
    peer = PeerConnect(4, port);
    Sleep(30);
    PeerClose(peer);
    peer = PeerConnect(4, port);
    Sleep(30);
    Cancel(u, held);
    End(u, held);
    PeerClose(peer);
}

/* The ring is full long before anybody looks. */
SCENARIO_WITH(RingOverflow, SCENARIO_SLOW) {
    uint16_t mine = Datagram(u, 1, FULL, 1);
    uint16_t port = 0;
    int peer = PeerDatagram(4, &port);

    Events(u, 1, WSK_EVENT_RECEIVE_FROM);
    for (ULONG i = 0; i < 700; i++) {
        PeerSendTo(peer, 4, mine, "x", 1);
        if (i % 50 == 0) {
            Sleep(5);
        }
    }
    Sleep(100);
    DrainEvents(u);
    PeerClose(peer);
}
