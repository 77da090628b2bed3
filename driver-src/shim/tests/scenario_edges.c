/*
 * scenario_edges.c: two users of one thing at the same moment, and what a provider says when a socket has failed: the
 * branches of clean-up that an ordinary conversation comes to once in a thousand schedules.
 */
#include "scenario.h"

#include "../provider/knobs.h"

#define FULL WSKLAB_DISPATCH_FULL

/* ---- The socket has failed: events come with nothing ------------------------------------------------------------------------ */

SCENARIO(EmptyEvents) {
    static const WSKLAB_ANSWER takes[] = {{.action = WSKLAB_ACTION_TAKE, .number = 10, .dispatch = FULL}};
    static const WSKLAB_ANSWER keeps[] = {{.action = WSKLAB_ACTION_KEEP, .number = 3}};
    uint16_t port = Listener(u, 1, FULL, 50);
    int talker = Connected(u, 2, FULL, 60);
    uint16_t mine = Datagram(u, 4, FULL, 70);
    uint16_t any = 0;
    int sender = PeerDatagram(4, &any);
    int peer;

    Script(u, 1, WSKLAB_CALLBACK_ACCEPT, takes, 1);
    Script(u, 2, WSKLAB_CALLBACK_RECEIVE, keeps, 1);
    Script(u, 4, WSKLAB_CALLBACK_RECEIVE_FROM, keeps, 1);
    WskpKnobEmptyEvents(TRUE);
    Events(u, 1, WSK_EVENT_ACCEPT);
    Events(u, 2, WSK_EVENT_RECEIVE);
    Events(u, 4, WSK_EVENT_RECEIVE_FROM);
    peer = PeerConnect(4, port);
    PeerSend(talker, "lost", 4);
    PeerSendTo(sender, 4, mine, "lost", 4);
    Sleep(50);
    WskpKnobEmptyEvents(FALSE);
    DrainEvents(u);
    PeerClose(peer);
    PeerClose(talker);
    PeerClose(sender);
    Do(u, OP(CLOSE, .socket = 2));
}

/* ---- Two at the same moment --------------------------------------------------------------------------------------------------- */

static void CancelFirst(USER *u) {
    Cancel(u, 1);
}

static void ReleaseFirst(USER *u) {
    End(u, 1);
}

static void Fresh(USER *u, void (*first)(USER *u), void (*second)(USER *u), WSKLAB_SUBMIT submit) {
    USER fresh = {.Handle = NULL};

    (void)u;
    if (UserOpen(&fresh)) {
        Listener(&fresh, 1, 0, 0);
        fresh.LastOp = 0;
        Start(&fresh, submit);
        Both(first, second, &fresh);
        UserClose(&fresh);
    }
}

SCENARIO(CancelledByTwo) {
    Fresh(u, CancelFirst, CancelFirst, OP(ACCEPT, .socket = 1, .new_socket = 2));
}

SCENARIO(ReleasedByTwo) {
    Fresh(u, ReleaseFirst, ReleaseFirst, OP(BIND, .socket = 1, .local = Loopback(4, 0)));
}

static void CancelFirstLater(USER *u) {
    Sleep(1);
    Cancel(u, 1);
}

/* Its delay is over, and somebody gives it up. */
SCENARIO(CancelledAtItsStart) {
    Fresh(u, CancelFirstLater, ReleaseFirst, OP(ACCEPT, .socket = 1, .new_socket = 2, .delay_ms = 1, .call_context = WSKLAB_CONTEXT_WORKER));
}

static void StartAccept(USER *u) {
    u->LastOp = 0;
    Start(u, OP(ACCEPT, .socket = 1, .new_socket = 3));
}

/* While the call is inside the provider. */
SCENARIO(CancelledInsideItsCall) {
    Listener(u, 1, 0, 0);
    u->LastOp = 100;
    Both(StartAccept, CancelFirst, u);
    End(u, 1);
}

static void CloseFirst(USER *u) {
    u->LastOp = 0;
    Start(u, OP(CLOSE, .socket = 2, .call_context = WSKLAB_CONTEXT_WORKER));
    Cancel(u, 1);
    End(u, 1);
}

static void SendOn(USER *u) {
    for (ULONG i = 0; i < 4; i++) {
        DoWith(u, OP(SEND, .socket = 2), "on", 2, NULL, 0);
    }
}

/* A close that waits for running calls cannot be taken back. */
SCENARIO(CancelledClose) {
    int peer = Connected(u, 2, FULL, 2);

    u->LastOp = 100;
    Both(CloseFirst, SendOn, u);
    PeerClose(peer);
}

/* Nobody sleeps: when this has gone on for longer than others sleep, they all wake at one moment. */
static void Busy(ULONG milliseconds) {
    ULONG64 end = ShimNow() + milliseconds * 1000000ull;

    while (ShimNow() < end) {
        ShimYield("busy");
    }
}

static SHIM_IOCTL g_Waits[2];
static UCHAR g_Outputs[2][sizeof(WSKLAB_RECORD)];

/* A WAIT for operation 1 and a DRAIN. */
static void StartWaits(USER *u, ULONG milliseconds) {
    WSKLAB_WAIT wait = {.header = {.size = sizeof(wait), .abi = WSKLAB_ABI_VERSION}, .op_id = 1, .timeout_ms = milliseconds};
    WSKLAB_DRAIN drain = {.header = {.size = sizeof(drain), .abi = WSKLAB_ABI_VERSION}, .timeout_ms = milliseconds};

    for (ULONG i = 0; i < 2; i++) {
        g_Waits[i] = (SHIM_IOCTL){.Output = g_Outputs[i], .OutputSize = sizeof(g_Outputs[i])};
    }
    ShimIoctlStart(u->Handle, IOCTL_WSKLAB_WAIT, &wait, sizeof(wait), &g_Waits[0], NULL, NULL);
    ShimIoctlStart(u->Handle, IOCTL_WSKLAB_DRAIN, &drain, sizeof(drain), &g_Waits[1], NULL, NULL);
}

static void EndWaits(void) {
    for (ULONG i = 0; i < 2; i++) {
        ShimIoctlWait(&g_Waits[i], -1);
    }
}

static void CancelWaits(USER *u) {
    (void)u;
    for (ULONG i = 0; i < 2; i++) {
        ShimIoctlCancel(&g_Waits[i]);
    }
}

static void CancelWaitsLater(USER *u) {
    Sleep(1);
    CancelWaits(u);
}

static void ReleaseLater(USER *u) {
    Sleep(1);
    Cancel(u, 1);
    End(u, 1);
}

static void BeBusy(USER *u) {
    (void)u;
    Busy(2);
}

/* What is waited for ends at the moment at which the I/O manager cancels the wait. */
SCENARIO(CancelledAtItsEnd) {
    Listener(u, 1, 0, 0);
    u->LastOp = 0;
    Start(u, OP(ACCEPT, .socket = 1, .new_socket = 2));
    StartWaits(u, 5000);
    Both(CancelFirst, CancelWaits, u);
    EndWaits();
}

/* ... or at which its time is over ... */
SCENARIO(CancelledAtItsTime) {
    Listener(u, 1, 0, 0);
    u->LastOp = 0;
    Start(u, OP(ACCEPT, .socket = 1, .new_socket = 2));
    StartWaits(u, 1);
    Both(CancelWaitsLater, BeBusy, u);
    EndWaits();
}

/* ... or the operation is released by then. */
SCENARIO(ReleasedAtItsTime) {
    Listener(u, 1, 0, 0);
    u->LastOp = 0;
    Start(u, OP(ACCEPT, .socket = 1, .new_socket = 2));
    StartWaits(u, 1);
    Both(ReleaseLater, BeBusy, u);
    EndWaits();
}

/* A wait for the drain that finds it done is answered so, whatever is started in the same moment. */
static void WaitForDrain(USER *u) {
    WSKLAB_DRAIN drain = {.header = {.size = sizeof(drain), .abi = WSKLAB_ABI_VERSION}, .timeout_ms = WAIT_MS};
    WSKLAB_DRAIN_RESULT result = {.outstanding = 0};
    ULONG got = 0;

    for (ULONG i = 0; i < 12; i++) {
        NTSTATUS status = UserIoctl(u, IOCTL_WSKLAB_DRAIN, &drain, sizeof(drain), &result, sizeof(result), &got);
        if (status == STATUS_CANCELLED || (NT_SUCCESS(status) && (result.outstanding != 0 || result.timed_out))) {
            ShimAbort("scenario", "a wait for the drain that nobody cancelled: status %08x, %u outstanding", status, result.outstanding);
        }
    }
}

static void StartAndEnd(USER *u) {
    for (ULONG i = 0; i < 12; i++) {
        Do(u, OP(SOCKET, .new_socket = 30, .flags = WSKLAB_CATEGORY_DATAGRAM, .family = 2, .type = 2, .protocol = 17));
        Do(u, OP(CLOSE, .socket = 30));
    }
}

SCENARIO(DrainAgainstStarts) {
    Both(WaitForDrain, StartAndEnd, u);
}

SCENARIO(DrainedInTime) {
    Listener(u, 1, 0, 0);
    u->LastOp = 0;
    Start(u, OP(ACCEPT, .socket = 1, .new_socket = 2));
    StartWaits(u, 5000);
    Cancel(u, 1);
    EndWaits();
}

/* An IRP that came from above. */
SCENARIO(CancelledForwarded) {
    for (UCHAR way = WSKLAB_FORWARD_PASS; way <= WSKLAB_FORWARD_HOLD; way++) {
        WSKLAB_SUBMIT submit = OP(ACCEPT, .socket = way, .new_socket = 10u + way, .op_id = 1, .irp_source = WSKLAB_IRP_FORWARDED,
                                  .forward = way, .stack_count = 1);
        SHIM_IOCTL ioctl = {0};

        Listener(u, way, 0, 0);
        submit.header = (WSKLAB_HEADER){.size = sizeof(submit), .abi = WSKLAB_ABI_VERSION};
        ShimIoctlStart(u->Handle, IOCTL_WSKLAB_FORWARD, &submit, sizeof(submit), &ioctl, NULL, NULL);
        Both(CancelFirst, CancelFirst, u);
        ShimIoctlCancel(&ioctl);
        ShimIoctlWait(&ioctl, -1);
        End(u, 1);
    }
}

/* ---- Lists, and things of the same name --------------------------------------------------------------------------------------- */

/* A list of datagrams goes back piece by piece; two sockets have one context. */
SCENARIO(DatagramLists) {
    static const WSKLAB_ANSWER keeps[] = {{.action = WSKLAB_ACTION_KEEP, .number = 3, .uses = 1}};
    uint16_t mine = Datagram(u, 1, FULL, 70);
    uint16_t any = 0;
    int sender = PeerDatagram(4, &any);
    uint16_t other = Datagram(u, 2, FULL, 71);
    int32_t on = 1;

    Datagram(u, 5, FULL, 70);
    DoWith(u, OP(CONTROL_SOCKET, .socket = 1, .control_type = WskSetOption, .control_code = 19 /* IP_PKTINFO of IPPROTO_IP, 0 */,
                 .input_kind = WSKLAB_INPUT_BYTES, .input_size = sizeof(on)),
           NULL, 0, &on, sizeof(on));
    for (ULONG i = 0; i < 6; i++) {
        PeerSendTo(sender, 4, mine, "datagram", 8 - i);
    }
    PeerSendTo(sender, 4, other, "datagram", 8);
    Sleep(10);
    Script(u, 0, WSKLAB_CALLBACK_RECEIVE_FROM, keeps, 1);
    Script(u, 1, WSKLAB_CALLBACK_RECEIVE_FROM, keeps, 1);
    Events(u, 1, WSK_EVENT_RECEIVE_FROM);
    Sleep(20);
    Events(u, 2, WSK_EVENT_RECEIVE_FROM); /* its number is in use */
    Sleep(20);
    Do(u, OP(INDICATION_INFO, .object = 3));
    Do(u, OP(INDICATION_INFO, .object = 3, .index = 1));
    Do(u, OP(INDICATION_INFO, .object = 3, .index = 100));
    Do(u, OP(RELEASE_DATAGRAM, .socket = 1, .object = 3, .count = 1));
    Do(u, OP(RELEASE_DATAGRAM, .socket = 1, .object = 3));
    DrainEvents(u);
    PeerClose(sender);
}

/* The IRP of an ended operation is kept for another one, and its socket goes first. */
SCENARIO(KeptIrp) {
    ULONG op;

    Listener(u, 1, 0, 0);
    op = Start(u, OP(BIND, .socket = 1, .local = Loopback(4, 0), .switches = WSKLAB_SWITCH_KEEP_IRP));
    Sleep(10);
    Do(u, OP(CLOSE, .socket = 1));
    Do(u, OP(SOCKET, .new_socket = 2, .flags = 1, .family = 2, .type = 1, .protocol = 6, .irp_source = WSKLAB_IRP_REUSED, .reuse_op = op));
    Do(u, OP(SOCKET, .new_socket = 3, .flags = 1, .family = 2, .type = 1, .protocol = 6, .irp_source = WSKLAB_IRP_REUSED, .reuse_op = op));
    End(u, op);
}

SCENARIO(CanonicalName) {
    static const WCHAR node[] = L"localhost";

    DoWith(u, OP(GET_ADDRESS_INFO, .new_object = 1, .argument_use = WSKLAB_USE_NODE | WSKLAB_USE_HINTS, .node_length = sizeof(node) - sizeof(WCHAR),
                 .hint_flags = 2 /* AI_CANONNAME */, .family = 2,
                 .type = 1, .protocol = 6),
           NULL, 0, node, sizeof(node) - sizeof(WCHAR));
    Do(u, OP(FREE_ADDRESS_INFO, .object = 1));
}

static void LookAtIt(USER *u) {
    for (ULONG i = 0; i < 3; i++) {
        Do(u, OP(INDICATION_INFO, .object = 7));
    }
}

static void GiveItBack(USER *u) {
    Do(u, OP(RELEASE_DATA, .socket = 2, .object = 7));
    Do(u, OP(RELEASE_DATA, .socket = 2, .object = 7));
}

SCENARIO(ReleasedWhileLookedAt) {
    static const WSKLAB_ANSWER keeps[] = {{.action = WSKLAB_ACTION_KEEP, .number = 7}};
    int peer = Connected(u, 2, FULL, 60);

    Script(u, 2, WSKLAB_CALLBACK_RECEIVE, keeps, 1);
    Script(u, 2, WSKLAB_CALLBACK_RECEIVE, keeps, 1); /* in the place of the one before */
    Events(u, 2, WSK_EVENT_RECEIVE);
    PeerSend(peer, "kept", 4);
    Sleep(50);
    Both(LookAtIt, GiveItBack, u);
    PeerClose(peer);
}

static void AskTheProvider(USER *u) {
    for (ULONG i = 0; i < 3; i++) {
        Do(u, OP(SOCKET, .new_socket = 10 + i, .flags = 1, .family = 2, .type = 1, .protocol = 6));
    }
}

static void GiveUpTheProvider(USER *u) {
    for (ULONG i = 0; i < 6; i++) {
        Do(u, OP(RELEASE_NPI, .call_context = WSKLAB_CONTEXT_WORKER));
    }
}

/* The last capture is not given up under a call. */
SCENARIO(ReleasedUnderACall) {
    Do(u, OP(PROVIDER_INFO));
    Both(AskTheProvider, GiveUpTheProvider, u);
}

/* Many requests that only the end of the registration ends, so that some share a bucket of the table. */
SCENARIO_WITH(ClosedWithManyRequests, SCENARIO_SLOW) {
    for (ULONG i = 0; i < 70; i++) {
        Start(u, OP(CONTROL_CLIENT, .control_code = WSK_TRANSPORT_LIST_CHANGE));
    }
    UserClose(u);
}

/* ---- Who asks ------------------------------------------------------------------------------------------------------------------ */

/* A thread that acts for somebody else is judged by whom it acts for. */
SCENARIO(ActsForAnother) {
    PEPROCESS guest = ShimProcessCreate("guest", 444, FALSE);
    USER other = {.Handle = NULL};

    (void)u;
    ShimIgnoreAccessLists(TRUE);
    ShimImpersonate(guest);
    if (UserOpen(&other)) {
        ShimAbort("scenario", "an administrator's thread that acts for a guest was let in");
    }
    ShimImpersonate(NULL);
    ShimIgnoreAccessLists(FALSE);
    ShimProcessRelease(guest);
}
