"""Accepting connections (WSK-ACC)."""

from __future__ import annotations

import pytest

from wsklab.abi import AddressUse, Callback, Category, Dispatch, RecordFlag, Switch
from wsklab.channel.operations import Answer
from wsklab.pytest_plugin import Observe, Scene
from wsklab.pytest_plugin.matchers import (
    before,
    completed_once,
    equals,
    failed,
    flagged,
    holds,
    information,
    new_socket,
    outcome,
    returned,
    succeeded,
    with_status,
)
from wsklab.pytest_plugin.quiet import NO_CALLBACK_S, STILL_PENDING_S
from wsklab.wsk import EventMask

#: Accepts that wait at the same time, and connections against one pending accept and the accept event.
QUEUED, STATISTICAL = 4, 100

#: Less than any guest keeps of connections that nobody has accepted yet.
FLOOD = 12


@pytest.mark.rule("WSK-ACC-001")
def test_accept_waits_for_a_connection(scene: Scene, observe: Observe) -> None:
    """Three sides of one socket: the driver's record, the guest's own table, and the peer outside."""
    wsk, guest = scene.wsk, scene.guest
    rule = observe.rule("WSK-ACC-001")
    listener = scene.listener(rule)
    scene.guest_sees(rule, "listening", guest.port())
    accepting = wsk.accept(listener)
    scene.still_pending(rule, "accept with nobody waiting", accepting, STILL_PENDING_S)
    connection = scene.peer.connect(guest.port())
    record = accepting.result(guest.within())
    rule.must("the call returned", record, returned("STATUS_PENDING"))
    rule.must("the accepted socket", record, new_socket())
    scene.guest_sees(rule, "established", guest.port())
    connection.send(b">")
    received = wsk.receive(record.new_socket, 1).result(guest.within())
    rule.must("a byte to the driver", received.data, equals(b">"))
    rule.must("a byte from the driver", wsk.send(record.new_socket, b"<"), succeeded())
    rule.must("the peer reads it", connection.receive(1), equals(b"<"))
    wsk.close_socket(record.new_socket)
    wsk.close_socket(listener)
    rule.must("after the close the guest refuses", scene.peer.is_refused(guest.port()), equals(True))
    scene.guest_sees(rule, "listening", guest.port(), there=False)


@pytest.mark.rule("WSK-ACC-001")
def test_accept_after_a_flood(scene: Scene, observe: Observe) -> None:
    """After a bounded flood of connections that their peer resets at once, the next one is accepted all the same."""
    rule = observe.rule("WSK-ACC-001")
    listener = scene.listener(rule)
    taken = scene.peer.flood(scene.guest.port(), FLOOD)
    rule.record("connections of the flood that were taken", "all" if taken == FLOOD else "some" if taken else "none")
    peer = scene.peer.connect(scene.guest.port())
    wanted = "{}:{}".format(*peer.local)
    for _ in range(taken + 1):
        # those of the flood may still be in the queue, or may be gone
        record = scene.wsk.accept(listener, address_use=AddressUse.REMOTE).result(scene.within())
        if str(record.remote) == wanted:
            break
    rule.must("the connection after the flood", str(record.remote) == wanted, holds("accepted", "not accepted"))
    peer.send(b"ping")
    rule.must("its data", scene.received(record.new_socket, 4), equals(b"ping"))


@pytest.mark.rule("WSK-ACC-002")
def test_accept_finds_a_connection(scene: Scene, observe: Observe) -> None:
    """An accept that finds a waiting connection completes with it; the page wants success as the return value."""
    rule = observe.rule("WSK-ACC-002")
    listener = scene.listener(rule)
    scene.peer.connect(scene.guest.port())
    scene.quiet(STILL_PENDING_S)
    record = scene.wsk.accept(listener).result(scene.within())
    rule.must("the accepted socket", record, new_socket())
    took = (record.completion_ns - record.enter_ns) / 1e9
    rule.must("its time", took < scene.guest.timeouts.seconds(0.1), holds("within 100 ms", "later than after 100 ms"))
    rule.expect("the call returned", record, returned("STATUS_SUCCESS"))


@pytest.mark.rule("WSK-ACC-003")
@pytest.mark.parametrize(
    "wanted",
    [AddressUse.LOCAL | AddressUse.REMOTE, AddressUse.LOCAL, AddressUse.REMOTE, AddressUse(0)],
    ids=["both", "local", "remote", "none"],
)
def test_addresses_of_the_connection(scene: Scene, observe: Observe, wanted: AddressUse) -> None:
    """The address buffers that are given hold what the peer sees; either may be missing."""
    rule = observe.rule("WSK-ACC-003")
    pair = scene.accepted(rule, scene.listener(rule), address_use=wanted)
    if AddressUse.LOCAL in wanted:
        rule.must("local address", str(pair.record.local) == "{}:{}".format(*pair.peer.remote), equals(True))
    if AddressUse.REMOTE in wanted:
        rule.must("remote address", str(pair.record.remote) == "{}:{}".format(*pair.peer.local), equals(True))
    if wanted:
        rule.must("bytes behind the buffers", pair.record, flagged(RecordFlag.GUARDS_INTACT, "untouched"))


@pytest.mark.rule("WSK-ACC-004")
def test_unusual_accepts(scene: Scene, observe: Observe) -> None:
    """Accepting on an unbound listener and without an IRP fails; flags are written down."""
    rule = observe.rule("WSK-ACC-004")
    unbound = scene.wsk.accept(scene.fresh(rule, Category.LISTEN)).wait(scene.stated(1.0))
    rule.expect("accept on an unbound listener", unbound, failed())
    rule.record("status of the accept on an unbound listener", outcome(unbound))
    listener = scene.listener(rule)
    without = scene.wsk.accept(listener, switches=Switch.NULL_IRP).wait(scene.stated(1.0))
    rule.expect("accept without an IRP", without, returned("STATUS_INVALID_PARAMETER"))
    flags = scene.wsk.accept(listener, flags=1)
    scene.peer.connect(scene.guest.port())
    rule.record("accept with flags", outcome(flags.wait(scene.within())))


@pytest.mark.exclusive
@pytest.mark.rule("WSK-ACC-005")
def test_queued_accepts(scene: Scene, observe: Observe) -> None:
    """Four queued accepts take four connections, each with a socket of its own; the order is written down."""
    rule = observe.rule("WSK-ACC-005")
    listener = scene.listener(rule)
    accepting = [scene.wsk.accept(listener) for _ in range(QUEUED)]
    peers = [scene.peer.connect(scene.guest.port()) for _ in range(QUEUED)]
    ended = [one.wait(scene.within()) for one in accepting]
    count = sum(record.completion_count == 1 and record.succeeded for record in ended)
    rule.must("completed accepts", count, equals(QUEUED))
    unique = all(record.has(RecordFlag.SOCKET_UNIQUE) for record in ended)
    rule.must("their sockets", unique, holds("all different", "some are the same"))
    taken = sorted(ended, key=lambda record: record.completion_sequence)
    ports = [peer.local[1] for peer in peers]
    rule.record("order of the connections", [ports.index(record.remote.port) for record in taken if record.remote])


@pytest.mark.rule("WSK-ACC-006")
def test_accept_callback(scene: Scene, observe: Observe) -> None:
    """With the accept event on, every connection comes through the callback, with socket and addresses, and works."""
    rule = observe.rule("WSK-ACC-006")
    listener, first = scene.evented_listener(rule, 2)
    peers = [scene.peer.connect(scene.guest.port()) for _ in range(2)]
    heard = scene.hear(rule, "accept callbacks", Callback.ACCEPT, listener, count=2)
    rule.must("one callback for each connection", len(heard), equals(2))
    for number, (enter, peer) in enumerate(zip(heard, peers, strict=True)):
        end = scene.answered(enter)
        rule.must("AcceptSocket", end.new_socket, equals(first + number))
        rule.must("local address", str(enter.local) == "{}:{}".format(*peer.remote), equals(True))
        rule.must("remote address", str(enter.remote) == "{}:{}".format(*peer.local), equals(True))
        peer.send(b"ping")
        rule.must("the driver reads", scene.received(end.new_socket, 4), equals(b"ping"))
        rule.must("send", scene.wsk.send(end.new_socket, b"pong"), succeeded())
        rule.must("the peer reads", peer.receive(4), equals(b"pong"))


@pytest.mark.rule("WSK-ACC-007")
def test_refusing_accept_callback(scene: Scene, observe: Observe) -> None:
    """STATUS_REQUEST_NOT_ACCEPTED closes the connection for the driver; the next one gets a callback again."""
    rule = observe.rule("WSK-ACC-007")
    listener = scene.listener(rule, dispatch=Dispatch.FULL)
    first = scene.numbers(1)
    scene.wsk.script(listener, Callback.ACCEPT, Answer.refuse(), Answer.take(number=first))
    scene.enable(rule, listener, EventMask.ACCEPT)
    refused = scene.peer.connect(scene.guest.port())
    scene.hear(rule, "accept callback", Callback.ACCEPT, listener)
    rule.must("the refused peer sees the end", refused.end(1.0) in {"closed", "reset"}, equals(True))
    scene.peer.connect(scene.guest.port())
    scene.hear(rule, "callback for the next connection", Callback.ACCEPT, listener, count=2)


@pytest.mark.rule("WSK-ACC-008")
def test_accept_before_the_callback(scene: Scene, observe: Observe) -> None:
    """With one accept always pending a hundred connections are accepted, mostly by it, none twice, none lost."""
    rule = observe.rule("WSK-ACC-008")
    listener, _ = scene.evented_listener(rule, STATISTICAL)
    by_function = 0
    accepting = scene.wsk.accept(listener)
    for number in range(STATISTICAL):
        scene.peer.connect(scene.guest.port())
        if accepting.wait(scene.within(2.0)).final:
            by_function += accepting.result(scene.within()).succeeded
            accepting = scene.wsk.accept(listener)
        if number % 20 == 0:
            scene.wsk.events()
    by_callback = len(scene.callbacks(Callback.ACCEPT, listener))
    rule.must("accepted in all", by_function + by_callback, equals(STATISTICAL))
    rule.expect("by the queued accept", by_function > STATISTICAL / 2, holds("most", "less than half"))
    rule.record("by the callback", by_callback)


@pytest.mark.rule("WSK-ACC-009")
def test_events_of_an_accepted_socket_are_off(scene: Scene, observe: Observe) -> None:
    """A socket accepted by the function has all events off; its data is read with WskReceive."""
    rule = observe.rule("WSK-ACC-009")
    pair = scene.accepted(rule, scene.listener(rule), dispatch=Dispatch.FULL, socket_context=0xACCE)
    pair.peer.send(b"data")
    scene.quiet(NO_CALLBACK_S)
    rule.must("callbacks of the accepted socket", len(scene.callbacks(Callback.RECEIVE)), equals(0))
    rule.must("the data", scene.received(pair.socket, 4), equals(b"data"))


@pytest.mark.rule("WSK-ACC-010")
def test_addresses_of_an_accepted_socket(scene: Scene, observe: Observe) -> None:
    """Both address queries of an accepted socket say what the accept said, and what the peer sees."""
    rule = observe.rule("WSK-ACC-010")
    pair = scene.accepted(rule, scene.listener(rule))
    local, remote = scene.wsk.local_address(pair.socket), scene.wsk.remote_address(pair.socket)
    rule.must("WskGetLocalAddress", local, succeeded())
    rule.must("WskGetRemoteAddress", remote, succeeded())
    rule.must("local address", local.local == pair.record.local, holds("as accepted", "another one"))
    rule.must("remote address", remote.remote == pair.record.remote, holds("as accepted", "another one"))
    rule.must("the peer's own", str(remote.remote) == "{}:{}".format(*pair.peer.local), equals(True))


@pytest.mark.rule("WSK-ACC-011")
def test_closing_the_listener_ends_its_accept(scene: Scene, observe: Observe) -> None:
    """A queued accept completes when its listener is closed, customarily as cancelled and not after the close."""
    rule = observe.rule("WSK-ACC-011")
    listener = scene.listener(rule)
    pair = scene.accepted(rule, listener)
    accepting = scene.wsk.accept(listener)
    closed = scene.wsk.close_socket(listener)
    rule.must("close", closed, succeeded())
    record = accepting.result(scene.within())
    rule.must("completions of the accept", record, completed_once())
    rule.expect("its status", record, with_status("STATUS_CANCELLED"))
    rule.expect("its Information", record, information(0))
    order = before(lambda _: record.completion_sequence, lambda _: closed.completion_sequence, "before the close's")
    rule.expect("its completion", record, order)
    sent = scene.wsk.send(pair.socket, b"still here")
    if rule.expect("send on the accepted socket", sent, succeeded()):
        rule.expect("the peer reads", pair.peer.receive(10), equals(b"still here"))


@pytest.mark.rule("WSK-ACC-012")
def test_stream_socket_listens(scene: Scene, observe: Observe) -> None:
    """A bound stream socket becomes a listener and accepts; when the listen completes is written down."""
    rule = observe.rule("WSK-ACC-012")
    number = scene.bound(rule, Category.STREAM, scene.address())
    listened = scene.wsk.listen(number)
    rule.must("listen", listened, succeeded())
    rule.record("listen completed", "before any connection")
    pair = scene.accepted(rule, number)
    pair.peer.send(b"x")
    rule.must("the driver reads", scene.received(pair.socket, 1), equals(b"x"))


@pytest.mark.rule("WSK-ACC-012")
def test_listen_before_bind(scene: Scene, observe: Observe) -> None:
    """What a listen before the bind says, is written down."""
    rule = observe.rule("WSK-ACC-012")
    rule.record("listen before bind", outcome(scene.wsk.listen(scene.fresh(rule, Category.STREAM))))
