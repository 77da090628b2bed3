"""Socket context and client dispatch (WSK-CTX)."""

from __future__ import annotations

import pytest

from wsklab.abi import Callback, Category, Dispatch, Switch
from wsklab.channel.operations import Answer, Operation
from wsklab.pytest_plugin import Observe, ObservedClient, Scene
from wsklab.pytest_plugin.matchers import equals, holds, outcome, succeeded
from wsklab.pytest_plugin.observe import RuleObserver
from wsklab.records import Event
from wsklab.wsk import EventMask, SocketOption

COOKIE = 0x50C4E7_C0FFEE
ALL_OF_A_CONNECTION = EventMask.RECEIVE | EventMask.DISCONNECT | EventMask.SEND_BACKLOG
#: The second member of a connection's client dispatch: the disconnect callback.
ONLY_DISCONNECT = 0b010


def _has_context(rule: RuleObserver, name: str, event: Event, context: int = COOKIE) -> None:
    rule.must(f"context of the {name} callback", event.context == context, holds("as given", "another one"))


@pytest.mark.rule("WSK-CTX-001")
def test_context_of_the_accept_callback(scene: Scene, observe: Observe) -> None:
    """A listening socket's accept callback gets the context given to WskSocket."""
    rule = observe.rule("WSK-CTX-001")
    listener = scene.listener(rule, dispatch=Dispatch.FULL, socket_context=COOKIE)
    scene.enable(rule, listener, EventMask.ACCEPT)
    scene.peer.connect(scene.guest.port())
    _has_context(rule, "accept", scene.hear(rule, "accept callback", Callback.ACCEPT, listener)[0])


@pytest.mark.rule("WSK-CTX-002")
def test_context_of_the_receive_from_callback(scene: Scene, observe: Observe) -> None:
    """A datagram socket's receive-from callback gets the context given to WskSocket."""
    rule = observe.rule("WSK-CTX-002")
    number = scene.datagram(rule, dispatch=Dispatch.FULL, socket_context=COOKIE)
    scene.enable(rule, number, EventMask.RECEIVE_FROM)
    scene.peer.datagram().send(scene.guest.port(), b"datagram")
    _has_context(rule, "receive-from", scene.hear(rule, "receive-from callback", Callback.RECEIVE_FROM, number)[0])


@pytest.mark.rule("WSK-CTX-003")
@pytest.mark.parametrize("way", ["socket", "socket_connect"])
def test_context_of_the_connection_callbacks(scene: Scene, observe: Observe, way: str) -> None:
    """Receive, disconnect and backlog callbacks get the context given to WskSocket or WskSocketConnect."""
    rule = observe.rule("WSK-CTX-003")
    given = {"dispatch": Dispatch.FULL, "socket_context": COOKIE}
    if way == "socket":
        pair = scene.connected(rule, **given)
        number, peer = pair.socket, pair.peer
    else:
        listening = scene.peer.listen()
        made = scene.wsk.socket_connect(scene.anywhere(), scene.address_of(listening), **given)
        rule.must("preparation: WskSocketConnect", made, succeeded())
        number, peer = made.new_socket, listening.accept()
    scene.wsk.script(number, Callback.RECEIVE, Answer.take(uses=0))
    scene.enable(rule, number, ALL_OF_A_CONNECTION)
    peer.send(b"data")
    _has_context(rule, "receive", scene.hear(rule, "receive callback", Callback.RECEIVE, number)[0])
    # acknowledged data lets the transport think of a larger backlog
    rule.must("preparation: send", scene.wsk.run(Operation.send(number, b"x" * 4096)), succeeded())
    peer.receive(4096)
    peer.finish()
    _has_context(rule, "disconnect", scene.hear(rule, "disconnect callback", Callback.DISCONNECT, number)[0])
    backlogs = scene.callbacks(Callback.SEND_BACKLOG, number)
    told = rule.given(bool(backlogs), "the transport tells a new send backlog")
    if backlogs:
        _has_context(told, "send backlog", backlogs[0])
    else:
        told.unmet("context of the send backlog callback")


@pytest.mark.rule("WSK-CTX-004")
def test_no_context_listening(scene: Scene, observe: Observe) -> None:
    """A listening socket without context and dispatch accepts, and what it accepted sends and receives."""
    rule = observe.rule("WSK-CTX-004")
    listener = scene.listener(rule, dispatch=Dispatch.NULL, socket_context=0)
    pair = scene.accepted(rule, listener, dispatch=Dispatch.NULL, socket_context=0)
    rule.must("send", scene.wsk.send(pair.socket, b"from the driver"), succeeded())
    rule.must("the peer reads", pair.peer.receive(15), equals(b"from the driver"))
    pair.peer.send(b"from the peer")
    rule.must("the driver reads", scene.received(pair.socket, 13), equals(b"from the peer"))
    rule.must("close", scene.wsk.close_socket(pair.socket), succeeded())


@pytest.mark.rule("WSK-CTX-004")
@pytest.mark.parametrize("category", [Category.CONNECTION, Category.STREAM], ids=["connection", "stream"])
def test_no_context_connection(scene: Scene, observe: Observe, category: Category) -> None:
    """A connection or stream socket without context and dispatch connects, sends, receives and closes."""
    rule = observe.rule("WSK-CTX-004")
    listening = scene.peer.listen()
    number = scene.bound(rule, category, scene.anywhere())
    rule.must("connect", scene.wsk.connect(number, scene.address_of(listening)), succeeded())
    peer = listening.accept()
    rule.must("send", scene.wsk.send(number, b"out"), succeeded())
    rule.must("the peer reads", peer.receive(3), equals(b"out"))
    peer.send(b"in")
    rule.must("the driver reads", scene.received(number, 2), equals(b"in"))
    rule.must("close", scene.wsk.close_socket(number), succeeded())


@pytest.mark.rule("WSK-CTX-004")
def test_no_context_datagram(scene: Scene, observe: Observe) -> None:
    """A datagram socket without context and dispatch sends, receives and closes."""
    rule = observe.rule("WSK-CTX-004")
    number = scene.datagram(rule)
    peer = scene.peer.datagram()
    rule.must("send-to", scene.wsk.send_to(number, b"out", peer.address), succeeded())
    rule.must("the peer receives", peer.receive()[0], equals(b"out"))
    peer.send(scene.guest.port(), b"in")
    rule.must("receive-from", scene.wsk.receive_from(number, 64).result(scene.within()).data, equals(b"in"))
    rule.must("close", scene.wsk.close_socket(number), succeeded())


@pytest.mark.rule("WSK-CTX-004", "WSK-CTX-009")
def test_no_context_basic(scene: Scene, observe: Observe) -> None:
    """A basic socket takes neither context nor dispatch, answers a get-option and closes."""
    number = scene.fresh(observe.rule("WSK-CTX-009"), Category.BASIC)
    for rule_id in ("WSK-CTX-004", "WSK-CTX-009"):
        rule = observe.rule(rule_id)
        rule.must("option: basic", scene.wsk.get_option(number, SocketOption.RCVBUF), succeeded())
    closed = scene.wsk.close_socket(number)
    for rule_id in ("WSK-CTX-004", "WSK-CTX-009"):
        observe.rule(rule_id).must("close: basic", closed, succeeded())


@pytest.mark.rule("WSK-CTX-009")
def test_context_of_a_basic_socket(wsk: ObservedClient, observe: Observe) -> None:
    """What a basic socket says to a context and a dispatch that it cannot use, is written down."""
    rule = observe.rule("WSK-CTX-009")
    made = wsk.socket(Category.BASIC, dispatch=Dispatch.FULL, socket_context=COOKIE)
    rule.record("creation of a basic socket with context and dispatch", outcome(made))


@pytest.mark.hazard
@pytest.mark.exclusive
@pytest.mark.rule("WSK-CTX-005")
def test_event_without_callback(scene: Scene, observe: Observe) -> None:
    """Enabling the accept event of a listener that has no client dispatch: the status is recorded."""
    rule = observe.rule("WSK-CTX-005")
    listener = scene.listener(rule, dispatch=Dispatch.NULL)
    enabled = scene.wsk.enable_events(listener, EventMask.ACCEPT, switches=Switch.NULL_IRP | Switch.HAZARD)
    rule.record("status of enabling an event without callback", enabled.completed or enabled.returned)
    rule.must("close", scene.wsk.close_socket(listener), succeeded())


@pytest.mark.rule("WSK-CTX-006")
def test_only_the_disconnect_callback(scene: Scene, observe: Observe) -> None:
    """A dispatch with one callback and that event enabled: data does no harm, the disconnect is delivered."""
    rule = observe.rule("WSK-CTX-006")
    pair = scene.connected(rule, dispatch=Dispatch.MASK, dispatch_mask=ONLY_DISCONNECT, socket_context=COOKIE)
    scene.enable(rule, pair.socket, EventMask.DISCONNECT)
    pair.peer.send(b"nobody listens")
    pair.peer.finish()
    scene.hear(rule, "disconnect callback", Callback.DISCONNECT, pair.socket)
    rule.must("receive callbacks", len(scene.callbacks(Callback.RECEIVE, pair.socket)), equals(0))
    rule.must("the data is there", scene.received(pair.socket, 14), equals(b"nobody listens"))


@pytest.mark.rule("WSK-CTX-007")
def test_contexts_are_separate(scene: Scene, observe: Observe) -> None:
    """The completion routine gets the IRP's context, not the socket's; the callback gets the socket's."""
    rule = observe.rule("WSK-CTX-007")
    of_irp = 0x1E9_C0DE
    listener = scene.listener(rule, socket_context=COOKIE, completion_cookie=of_irp, dispatch=Dispatch.FULL)
    made = scene.wsk.records[0]
    rule.must("the routine's context", made.completion_cookie == of_irp, holds("the IRP's", "another one"))
    scene.enable(rule, listener, EventMask.ACCEPT)
    scene.peer.connect(scene.guest.port())
    _has_context(rule, "accept", scene.hear(rule, "accept callback", Callback.ACCEPT, listener)[0])


@pytest.mark.rule("WSK-CTX-008")
def test_context_of_an_accepted_socket(scene: Scene, observe: Observe) -> None:
    """A socket accepted by function uses the context given to WskAccept, not the listener's."""
    rule = observe.rule("WSK-CTX-008")
    own = 0xACCE_97ED
    listener = scene.listener(rule, dispatch=Dispatch.FULL, socket_context=COOKIE)
    pair = scene.accepted(rule, listener, dispatch=Dispatch.FULL, socket_context=own)
    scene.enable(rule, pair.socket, EventMask.RECEIVE)
    pair.peer.send(b"data")
    enter = scene.hear(rule, "receive callback", Callback.RECEIVE, pair.socket)[0]
    _has_context(rule, "receive", enter, own)


@pytest.mark.rule("WSK-CTX-008")
def test_context_from_the_accept_callback(scene: Scene, observe: Observe) -> None:
    """A socket accepted by callback uses the context that the callback put into its output variable."""
    rule = observe.rule("WSK-CTX-008")
    own = 0xCA11_BAC4
    _, accepted = scene.evented_listener(rule, 1, socket_context=own, dispatch=Dispatch.FULL)
    peer = scene.peer.connect(scene.guest.port())
    scene.hear(rule, "accept callback", Callback.ACCEPT)
    scene.enable(rule, accepted, EventMask.RECEIVE)
    peer.send(b"data")
    enter = scene.hear(rule, "receive callback", Callback.RECEIVE, accepted)[0]
    _has_context(rule, "receive", enter, own)
