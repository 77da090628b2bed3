"""Closing (WSK-CLOSE)."""

from __future__ import annotations

import pytest

from wsklab.abi import Callback, Category, Dispatch, EventKind, Switch
from wsklab.channel.operations import Answer, Operation
from wsklab.pytest_plugin import Observe, Scene
from wsklab.pytest_plugin.matchers import (
    completed_once,
    equals,
    holds,
    information,
    one_of,
    returned,
    succeeded,
    with_status,
)
from wsklab.pytest_plugin.observe import RuleObserver
from wsklab.pytest_plugin.quiet import NO_CALLBACK_S
from wsklab.pytest_plugin.scene import ANY_IPV4, TRANSPORT
from wsklab.wsk import EventMask, SocketIoctl

FRESH = [pytest.param(category, id=category.name.lower()) for category in TRANSPORT]
#: How often an address is bound again.
AGAIN = 100


def _close(scene: Scene, rule: RuleObserver, state: str, socket: int) -> None:
    closed = scene.wsk.close_socket(socket)
    rule.must(f"close: {state}", closed, succeeded())
    rule.must("completions", closed, completed_once())
    rule.expect("Information", closed, information(0))


@pytest.mark.rule("WSK-CLOSE-001")
@pytest.mark.parametrize("category", FRESH)
def test_close_fresh(scene: Scene, observe: Observe, category: Category) -> None:
    """A socket of any category closes right after its creation."""
    rule = observe.rule("WSK-CLOSE-001")
    _close(scene, rule, "fresh", scene.fresh(rule, category))


@pytest.mark.rule("WSK-CLOSE-001")
def test_close_in_every_state(scene: Scene, observe: Observe) -> None:
    """A bound, a listening, an accepted, a connected and a refused socket close with success."""
    rule = observe.rule("WSK-CLOSE-001")
    _close(scene, rule, "bound", scene.bound(rule, Category.CONNECTION, ANY_IPV4))
    listener = scene.listener(rule)
    pair = scene.accepted(rule, listener)
    _close(scene, rule, "accepted", pair.socket)
    rule.must("the peer sees the end", pair.peer.end(), one_of("closed", "reset"))
    _close(scene, rule, "listening", listener)
    rule.must("the guest refuses", scene.peer.is_refused(scene.guest.port()), equals(True))
    _close(scene, rule, "connected", scene.connected(rule).socket)
    refused = scene.fresh(rule, Category.CONNECTION)
    scene.wsk.connect(refused, scene.private())
    _close(scene, rule, "after a failed connect", refused)


@pytest.mark.rule("WSK-CLOSE-001")
def test_close_after_a_disconnect(scene: Scene, observe: Observe) -> None:
    """A disconnected socket closes with success."""
    rule = observe.rule("WSK-CLOSE-001")
    pair = scene.accepted(rule, scene.listener(rule))
    rule.must("preparation: disconnect", scene.wsk.disconnect(pair.socket), succeeded())
    _close(scene, rule, "disconnected", pair.socket)


@pytest.mark.rule("WSK-CLOSE-002")
def test_close_ends_queued_receives(scene: Scene, observe: Observe) -> None:
    """Queued receives complete once when their socket is closed, customarily as cancelled and before the close."""
    rule = observe.rule("WSK-CLOSE-002")
    pair = scene.accepted(rule, scene.listener(rule))
    receives = [scene.wsk.receive(pair.socket, 8) for _ in range(4)]
    closed = scene.wsk.close_socket(pair.socket)
    rule.must("close", closed, succeeded())
    for receiving in receives:
        record = receiving.result(scene.within())
        rule.must("completions of a queued receive", record, completed_once())
        rule.expect("its status", record, with_status("STATUS_CANCELLED"))
        rule.expect("before the close completes", record.completion_sequence < closed.completion_sequence, equals(True))


@pytest.mark.rule("WSK-CLOSE-002")
@pytest.mark.parametrize("what", ["accept", "connect"])
def test_close_ends_an_accept_and_a_connect(scene: Scene, observe: Observe, what: str) -> None:
    """A queued accept or a connect under way completes once when its socket is closed."""
    rule = observe.rule("WSK-CLOSE-002")
    if what == "accept":
        number = scene.listener(rule)
        waiting = scene.wsk.accept(number)
    else:
        number = scene.bound(rule, Category.CONNECTION, ANY_IPV4)
        waiting = scene.wsk.submit(Operation.connect(number, scene.address_of(scene.peer.black_hole())))
    closed = scene.wsk.close_socket(number)
    rule.must("close", closed, succeeded())
    record = waiting.wait(scene.within())
    rule.must(f"completions of the {what}", record, completed_once())
    rule.expect(f"status of the {what}", record, with_status("STATUS_CANCELLED"))
    rule.expect("before the close completes", record.completion_sequence < closed.completion_sequence, equals(True))


@pytest.mark.rule("WSK-CLOSE-002")
def test_close_ends_an_address_change_request(scene: Scene, observe: Observe) -> None:
    """A queued SIO_ADDRESS_LIST_CHANGE completes once when its socket is closed."""
    rule = observe.rule("WSK-CLOSE-002")
    number = scene.listener(rule)
    waiting = scene.wsk.submit(Operation.ioctl(number, SocketIoctl.ADDRESS_LIST_CHANGE))
    rule.must("preparation: address change request", waiting.fetch(), returned("STATUS_PENDING"))
    rule.must("close", scene.wsk.close_socket(number), succeeded())
    record = waiting.wait(scene.within())
    rule.must("completions of the address change request", record, completed_once())
    rule.expect("its status", record, with_status("STATUS_CANCELLED"))


@pytest.mark.rule("WSK-CLOSE-003")
def test_close_aborts_a_live_connection(scene: Scene, observe: Observe) -> None:
    """A connection that nobody has disconnected is reset by the close."""
    rule = observe.rule("WSK-CLOSE-003")
    pair = scene.accepted(rule, scene.listener(rule))
    rule.must("close", scene.wsk.close_socket(pair.socket), succeeded())
    rule.must("the peer's end", pair.peer.end(), equals("reset"))


@pytest.mark.rule("WSK-CLOSE-003")
def test_close_with_unread_data(scene: Scene, observe: Observe) -> None:
    """A connection whose data was not read to the end is reset by the close: the part that Linux' TCP shows, too."""
    rule = observe.rule("WSK-CLOSE-003")
    pair = scene.accepted(rule, scene.listener(rule))
    pair.peer.send(b"two")
    rule.must("the first byte", scene.received(pair.socket, 1), equals(b"t"))
    rule.must("close", scene.wsk.close_socket(pair.socket), succeeded())
    rule.must("the peer's end, with data unread", pair.peer.end(), equals("reset"))


@pytest.mark.rule("WSK-CLOSE-003")
def test_close_after_both_disconnects(scene: Scene, observe: Observe) -> None:
    """When both sides have disconnected gracefully the close sends no reset."""
    rule = observe.rule("WSK-CLOSE-003")
    pair = scene.accepted(rule, scene.listener(rule))
    disconnecting = scene.starts(rule, "disconnect", Operation.disconnect(pair.socket))
    rule.must("the end after a disconnect", pair.peer.end(), equals("closed"))
    pair.peer.finish()
    rule.must("disconnect", disconnecting.result(scene.within()), succeeded())
    ended = scene.wsk.receive(pair.socket, 16).result(scene.within())
    rule.must("the driver's end", ended, information(0))
    rule.expect("status at the driver's end", ended, succeeded())
    rule.must("close", scene.wsk.close_socket(pair.socket), succeeded())
    rule.must("after the close", pair.peer.end(), equals("closed"))


@pytest.mark.rule("WSK-CLOSE-004")
def test_close_waits_for_callbacks(scene: Scene, observe: Observe) -> None:
    """A close completes after the callback in progress has returned; afterwards nothing is called any more."""
    rule = observe.rule("WSK-CLOSE-004")
    pair = scene.accepted(rule, scene.listener(rule), dispatch=Dispatch.FULL, socket_context=0xC105E)
    scene.wsk.script(pair.socket, Callback.RECEIVE, Answer.take(uses=0, hold_ms=50))
    scene.enable(rule, pair.socket, EventMask.RECEIVE)
    pair.peer.send(b"held")
    (enter, *_) = scene.hear(rule, "receive callback", Callback.RECEIVE, pair.socket)
    closed = scene.wsk.close_socket(pair.socket)
    rule.must("close", closed, succeeded())
    end = scene.answered(enter)
    inside = rule.given(closed.enter_sequence < end.sequence, "the close was called while the callback ran")
    order = end.sequence < closed.completion_sequence
    inside.must("close completes", order, holds("after the callback", "before the callback's end"))
    scene.quiet(NO_CALLBACK_S)
    late = [
        event
        for event in (*scene.wsk.heard.events, *scene.wsk.events().events)
        if event.kind is EventKind.CALLBACK_ENTER and event.sequence > closed.completion_sequence
    ]
    rule.must("callbacks after the close", len(late), equals(0))


@pytest.mark.rule("WSK-CLOSE-005")
def test_close_from_a_completion_routine(scene: Scene, observe: Observe) -> None:
    """The completion routine of a receive closes its own socket without waiting."""
    rule = observe.rule("WSK-CLOSE-005")
    pair = scene.accepted(rule, scene.listener(rule))
    closing = scene.wsk.submit(
        Operation.close(pair.socket, op_id=scene.wsk.next_operation(), switches=Switch.HELD),
    )
    scene.wsk.receive(pair.socket, 16, then_op=closing.op_id)
    pair.peer.finish()
    rule.expect("close from the receive's routine", closing.result(scene.within()), succeeded())


@pytest.mark.rule("WSK-CLOSE-005")
def test_close_from_a_callback(scene: Scene, observe: Observe) -> None:
    """The disconnect callback starts the close of its own socket."""
    rule = observe.rule("WSK-CLOSE-005")
    pair = scene.accepted(rule, scene.listener(rule), dispatch=Dispatch.FULL, socket_context=0xC105E)
    closing = scene.wsk.submit(
        Operation.close(pair.socket, op_id=scene.wsk.next_operation(), switches=Switch.HELD),
    )
    scene.wsk.script(pair.socket, Callback.DISCONNECT, Answer.default(then_op=closing.op_id))
    enabled = scene.wsk.enable_events(pair.socket, EventMask.DISCONNECT)
    if not rule.expect("enable the disconnect event", enabled, returned("STATUS_SUCCESS")):
        return
    pair.peer.finish()
    rule.expect("close from the disconnect callback", closing.result(scene.within()), succeeded())


@pytest.mark.rule("WSK-CLOSE-006")
@pytest.mark.parametrize("category", [Category.LISTEN, Category.DATAGRAM], ids=["listen", "datagram"])
def test_address_is_free_after_close(scene: Scene, observe: Observe, category: Category) -> None:
    """An address can be bound again right after each of a hundred closes."""
    rule = observe.rule("WSK-CLOSE-006")
    for number in range(AGAIN):
        socket = scene.fresh(rule, category)
        rule.must("bind again", scene.wsk.bind(socket, scene.private()), succeeded())
        rule.must("close", scene.wsk.close_socket(socket), succeeded())
        if number % 50 == 0:
            scene.wsk.events()


@pytest.mark.rule("WSK-CLOSE-007")
def test_closing_a_listener_spares_accepted_sockets(scene: Scene, observe: Observe) -> None:
    """A connection that waits unaccepted ends with its listener; an accepted one lives on."""
    rule = observe.rule("WSK-CLOSE-007")
    listener = scene.listener(rule)
    pair = scene.accepted(rule, listener)
    waiting = scene.peer.connect(scene.guest.port())
    rule.must("close", scene.wsk.close_socket(listener), succeeded())
    rule.must("the waiting connection", waiting.end(), one_of("closed", "reset"))
    sent = scene.wsk.send(pair.socket, b"still here")
    if rule.expect("send on the accepted socket", sent, succeeded()):
        rule.expect("the peer reads", pair.peer.receive(10), equals(b"still here"))


@pytest.mark.rule("WSK-CLOSE-008")
def test_close_keeps_the_cached_descriptor(scene: Scene, observe: Observe) -> None:
    """A cached descriptor that was given to a socket is still the client's after the close, and released by it."""
    rule = observe.rule("WSK-CLOSE-008")
    cached = scene.wsk.cache_descriptor()
    rule.must("preparation: WSK_CACHE_SD", cached, returned("STATUS_SUCCESS"))
    number = scene.fresh(rule, Category.LISTEN)
    given = scene.wsk.run(Operation.set_security(number, cached.object))
    rule.must("preparation: SO_WSK_SECURITY", given, succeeded())
    rule.must("close", scene.wsk.close_socket(number), succeeded())
    rule.must("WSK_RELEASE_SD afterwards", scene.wsk.release_descriptor(cached.object), returned("STATUS_SUCCESS"))
