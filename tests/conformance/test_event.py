"""Event callbacks (WSK-EVT): enabling, disabling, inheritance."""

from __future__ import annotations

from typing import Any

import pytest

from wsklab.abi import Callback, Category, Dispatch, EventKind, Npi, Switch
from wsklab.channel.operations import Answer, Operation
from wsklab.pytest_plugin import Observe, Scene
from wsklab.pytest_plugin.matchers import completed_once, equals, failed, holds, outcome, returned, succeeded
from wsklab.pytest_plugin.observe import RuleObserver
from wsklab.pytest_plugin.quiet import NO_CALLBACK_S
from wsklab.pytest_plugin.scene import Pair
from wsklab.wsk import EventFlag, EventMask

COOKIE = 0xE7E47
EVENTED: dict[str, Any] = {"dispatch": Dispatch.FULL, "socket_context": COOKIE}
CONNECTION_EVENTS = EventMask.RECEIVE | EventMask.DISCONNECT | EventMask.SEND_BACKLOG
WITH_IRP: dict[str, Any] = {"switches": Switch(0)}


def _connection(scene: Scene, rule: RuleObserver) -> Pair:
    """An accepted connection with a full dispatch; its receive callback takes everything."""
    pair = scene.accepted(rule, scene.listener(rule), **EVENTED)
    scene.wsk.script(pair.socket, Callback.RECEIVE, Answer.take(uses=0))
    return pair


def _silent(scene: Scene, rule: RuleObserver, name: str, pair: Pair) -> None:
    """No callback comes in a quiet window after the peer has sent something."""
    before = _enters(scene)
    pair.peer.send(b"unheard")
    scene.quiet(NO_CALLBACK_S)
    rule.must(name, _enters(scene) - before, equals(0))


def _enters(scene: Scene) -> int:
    scene.wsk.events()
    return sum(event.kind is EventKind.CALLBACK_ENTER for event in scene.wsk.heard.events)


@pytest.mark.rule("WSK-EVT-001")
@pytest.mark.parametrize("category", [Category.LISTEN, Category.DATAGRAM, Category.CONNECTION])
def test_enabling(scene: Scene, observe: Observe, category: Category) -> None:
    """Once a socket is ready, enabling works at once without an IRP; one stimulus gives one callback."""
    rule = observe.rule("WSK-EVT-001")
    if category is Category.LISTEN:
        number, mask, callback = scene.listener(rule, **EVENTED), EventMask.ACCEPT, Callback.ACCEPT
        scene.enable(rule, number, mask, f"enable: {category.name.lower()}")
        scene.peer.connect(scene.guest.port())
    elif category is Category.DATAGRAM:
        number, mask, callback = scene.datagram(rule, **EVENTED), EventMask.RECEIVE_FROM, Callback.RECEIVE_FROM
        scene.enable(rule, number, mask, f"enable: {category.name.lower()}")
        scene.peer.datagram().send(scene.guest.port(), b"stimulus")
    else:
        pair = scene.connected(rule, **EVENTED)
        number, callback = pair.socket, Callback.RECEIVE
        scene.wsk.script(number, callback, Answer.take(uses=0))
        scene.enable(rule, number, EventMask.RECEIVE, f"enable: {category.name.lower()}")
        pair.peer.send(b"stimulus")
    (enter, *_) = scene.hear(rule, f"callback: {category.name.lower()}", callback, number)
    rule.must("callbacks for one stimulus", len(scene.callbacks(callback, number)), equals(1))
    rule.must("the context", enter.context == COOKIE, holds("as given", "another one"))


@pytest.mark.rule("WSK-EVT-002")
def test_enabling_before_the_bind(scene: Scene, observe: Observe) -> None:
    """Enabling before the bind: written down; nothing is called before, and after the bind it works."""
    rule = observe.rule("WSK-EVT-002")
    number = scene.fresh(rule, Category.LISTEN, **EVENTED)
    rule.record("enable before the bind", outcome(scene.wsk.enable_events(number, EventMask.ACCEPT)))
    rule.must("callbacks before the bind", _enters(scene), equals(0))
    rule.must("bind", scene.wsk.bind(number, scene.address()), succeeded())
    scene.enable(rule, number, EventMask.ACCEPT, "enable after the bind")


@pytest.mark.rule("WSK-EVT-002")
def test_enabling_before_the_connect(scene: Scene, observe: Observe) -> None:
    """Enabling before the connect: written down; nothing is called before, and after the connect it works."""
    rule = observe.rule("WSK-EVT-002")
    listening = scene.peer.listen()
    number = scene.bound(rule, Category.CONNECTION, scene.anywhere(), **EVENTED)
    rule.record("enable before the connect", outcome(scene.wsk.enable_events(number, EventMask.RECEIVE)))
    rule.must("callbacks before the connect", _enters(scene), equals(0))
    rule.must("connect", scene.wsk.connect(number, scene.address_of(listening)), succeeded())
    scene.enable(rule, number, EventMask.RECEIVE, "enable after the connect")


@pytest.mark.rule("WSK-EVT-003")
@pytest.mark.parametrize("calls", [1, 2], ids=["one_call", "two_calls"])
def test_several_events(scene: Scene, observe: Observe, calls: int) -> None:
    """Three events in one call all arrive; a second call customarily adds to the first."""
    rule = observe.rule("WSK-EVT-003")
    pair = _connection(scene, rule)
    if calls == 1:
        scene.enable(rule, pair.socket, CONNECTION_EVENTS, "enable three events")
    else:
        scene.enable(rule, pair.socket, EventMask.RECEIVE)
        scene.enable(rule, pair.socket, EventMask.DISCONNECT)
    pair.peer.send(b"data")
    if calls == 1:
        scene.hear(rule, "receive callback", Callback.RECEIVE, pair.socket)
        pair.peer.finish()
        scene.hear(rule, "disconnect callback", Callback.DISCONNECT, pair.socket)
        rule.record("send backlog callbacks", len(scene.callbacks(Callback.SEND_BACKLOG, pair.socket)))
        return
    pair.peer.finish()
    scene.hear(rule, "callback of the second call", Callback.DISCONNECT, pair.socket)
    both = bool(scene.callbacks(Callback.RECEIVE, pair.socket))
    rule.expect("the second call", both, holds("adds to the first", "replaces the first"))


MASKS: dict[str, tuple[Category, dict[str, Any]]] = {
    "receive-from on a listener": (Category.LISTEN, {"event_mask": EventMask.RECEIVE_FROM}),
    "accept on a datagram socket": (Category.DATAGRAM, {"event_mask": EventMask.ACCEPT}),
    "receive on a basic socket": (Category.BASIC, {"event_mask": EventMask.RECEIVE}),
    "no event": (Category.LISTEN, {"event_mask": 0}),
    "an unknown event": (Category.LISTEN, {"event_mask": 1}),
    "a wrong size": (Category.LISTEN, {"event_mask": EventMask.ACCEPT, "input_size": 8}),
    "a foreign identifier": (Category.LISTEN, {"event_mask": EventMask.ACCEPT, "npi": Npi.OTHER}),
}


@pytest.mark.rule("WSK-EVT-004")
@pytest.mark.parametrize("what", MASKS, ids=[name.replace(" ", "_") for name in MASKS])
def test_masks_that_do_not_fit(scene: Scene, observe: Observe, what: str) -> None:
    """Events of another category, none, unknown ones, a wrong size, a foreign identifier: customarily failures."""
    rule = observe.rule("WSK-EVT-004")
    category, fields = MASKS[what]
    if category is Category.BASIC:
        number = scene.fresh(rule, category)
    else:
        number = scene.bound(rule, category, scene.address(), **EVENTED)
    mask = fields["event_mask"]
    more = {key: value for key, value in fields.items() if key != "event_mask"}
    record = scene.wsk.enable_events(number, mask, **more)
    rule.expect(what, record, failed())
    rule.record(f"status of {what}", outcome(record))
    if category is Category.LISTEN:
        scene.peer.connect(scene.guest.port())
    scene.quiet(NO_CALLBACK_S)
    rule.expect("callbacks afterwards", _enters(scene), equals(0))


@pytest.mark.rule("WSK-EVT-004")
def test_copied_identifier(scene: Scene, observe: Observe) -> None:
    """The right identifier at another address: written down."""
    rule = observe.rule("WSK-EVT-004")
    listener = scene.listener(rule, **EVENTED)
    record = scene.wsk.enable_events(listener, EventMask.ACCEPT, npi=Npi.COPY)
    rule.record("a copy of the identifier", outcome(record))


@pytest.mark.rule("WSK-EVT-005")
@pytest.mark.parametrize("with_irp", [False, True], ids=["without_irp", "with_irp"])
def test_disabling_an_idle_event(scene: Scene, observe: Observe, with_irp: bool) -> None:
    """Disabling an idle event takes effect before the call returns; an IRP is completed with success."""
    rule = observe.rule("WSK-EVT-005")
    pair = _connection(scene, rule)
    scene.enable(rule, pair.socket, EventMask.RECEIVE)
    name = f"disable {'with' if with_irp else 'without'} an IRP"
    if with_irp:
        record = scene.wsk.disable_event(pair.socket, EventMask.RECEIVE, **WITH_IRP)
        rule.must(name, record, returned("STATUS_SUCCESS"))
        rule.must("its IRP", record, completed_once())
    else:
        rule.must(name, scene.wsk.disable_event(pair.socket, EventMask.RECEIVE), returned("STATUS_SUCCESS"))
    _silent(scene, rule, "callbacks after disabling", pair)


def _held(scene: Scene, rule: RuleObserver) -> tuple[Pair, int]:
    """A receive callback that is kept busy: the connection, and the sequence number of its begin."""
    pair = _connection(scene, rule)
    scene.wsk.script(pair.socket, Callback.RECEIVE, Answer.take(uses=0, hold_ms=50))
    scene.enable(rule, pair.socket, EventMask.RECEIVE)
    pair.peer.send(b"held")
    (enter, *_) = scene.hear(rule, "receive callback", Callback.RECEIVE, pair.socket)
    return pair, enter.sequence


def _exit_of(scene: Scene, sequence: int) -> int:
    """The sequence number of that callback's end."""
    (enter,) = [event for event in scene.wsk.heard.events if event.sequence == sequence]
    return scene.answered(enter).sequence


@pytest.mark.rule("WSK-EVT-006")
def test_disabling_a_running_event_with_irp(scene: Scene, observe: Observe) -> None:
    """While the callback runs, disabling with an IRP pends; the IRP completes after the callback has returned."""
    rule = observe.rule("WSK-EVT-006")
    pair, entered = _held(scene, rule)
    record = scene.wsk.disable_event(pair.socket, EventMask.RECEIVE, **WITH_IRP)
    left = _exit_of(scene, entered)
    inside = rule.given(record.return_sequence < left, "the call was made while the callback ran")
    inside.must("disable with an IRP", record, returned("STATUS_PENDING"))
    inside.must("its completion", record.completion_sequence > left, holds("after the callback", "before its end"))


@pytest.mark.rule("WSK-EVT-007")
def test_disabling_a_running_event_without_irp(scene: Scene, observe: Observe) -> None:
    """Without an IRP the answer is STATUS_EVENT_PENDING, and the event is off when the callback has returned."""
    rule = observe.rule("WSK-EVT-007")
    pair, entered = _held(scene, rule)
    record = scene.wsk.disable_event(pair.socket, EventMask.RECEIVE)
    left = _exit_of(scene, entered)
    inside = rule.given(record.return_sequence < left, "the call was made while the callback ran")
    inside.must("disable without an IRP", record, returned("STATUS_EVENT_PENDING"))
    scene.quiet(NO_CALLBACK_S)
    _silent(scene, rule, "callbacks after the running one", pair)


@pytest.mark.rule("WSK-EVT-008")
def test_disabling_two_at_once(scene: Scene, observe: Observe) -> None:
    """Two events in one disabling call: customarily a failure, written down; one by one it works."""
    rule = observe.rule("WSK-EVT-008")
    pair = _connection(scene, rule)
    scene.enable(rule, pair.socket, EventMask.RECEIVE | EventMask.DISCONNECT)
    both = scene.wsk.disable_event(pair.socket, EventMask.RECEIVE | EventMask.DISCONNECT)
    rule.expect("disable two events at once", both, failed())
    rule.record("status of disabling two", outcome(both))
    scene.disable(rule, pair.socket, EventMask.RECEIVE, "disable the first")
    scene.disable(rule, pair.socket, EventMask.DISCONNECT, "disable the second")


@pytest.mark.rule("WSK-EVT-009")
def test_enabling_again(scene: Scene, observe: Observe) -> None:
    """A disabled event is enabled again and resumes, customarily with the datagrams that came meanwhile."""
    rule = observe.rule("WSK-EVT-009")
    number = scene.datagram(rule, **EVENTED)
    scene.wsk.script(number, Callback.RECEIVE_FROM, Answer.take(uses=0))
    scene.enable(rule, number, EventMask.RECEIVE_FROM)
    scene.disable(rule, number, EventMask.RECEIVE_FROM)
    peer = scene.peer.datagram()
    for index in range(3):
        peer.send(scene.guest.port(), bytes([index]))
    scene.enable(rule, number, EventMask.RECEIVE_FROM, "enable again")
    peer.send(scene.guest.port(), b"\3")
    scene.hear(rule, "callback after enabling again", Callback.RECEIVE_FROM, number)
    scene.quiet(NO_CALLBACK_S)
    scene.wsk.events()
    heard = scene.wsk.heard
    count = sum(len(heard.datagrams(enter)) for enter in heard.callbacks(Callback.RECEIVE_FROM, number))
    rule.expect("datagrams in all", count, equals(4))


@pytest.mark.rule("WSK-EVT-010")
def test_enabling_with_irp(scene: Scene, observe: Observe) -> None:
    """Enabling with an IRP is tolerated, and the IRP is completed once."""
    rule = observe.rule("WSK-EVT-010")
    record = scene.wsk.enable_events(scene.listener(rule, **EVENTED), EventMask.ACCEPT, **WITH_IRP)
    rule.expect("enable with an IRP", record, succeeded())
    rule.expect("its completions", record, completed_once())
    rule.record("it returned", record.returned)


def _inheriting(scene: Scene, rule: RuleObserver) -> tuple[int, int]:
    """A listener with connection events, and the number of the first socket that its accept callback takes."""
    listener = scene.listener(rule, **EVENTED)
    first = scene.numbers(4)
    taking = Answer.take(number=first, uses=4, socket_context=0xACC, dispatch=Dispatch.FULL)
    scene.wsk.script(listener, Callback.ACCEPT, taking)
    for number in range(first, first + 4):
        scene.wsk.script(number, Callback.RECEIVE, Answer.take(uses=0))
    mask = EventMask.ACCEPT | EventMask.RECEIVE | EventMask.DISCONNECT
    scene.enable(rule, listener, mask, "enable connection events on a listener")
    return listener, first


@pytest.mark.rule("WSK-EVT-011")
def test_inherited_events(scene: Scene, observe: Observe) -> None:
    """A socket from the accept callback has the listener's connection events on; one from WskAccept has not."""
    rule = observe.rule("WSK-EVT-011")
    listener, first = _inheriting(scene, rule)
    scene.peer.connect(scene.guest.port()).send(b"heard")
    scene.hear(rule, "callback of the inheriting socket", Callback.RECEIVE, first)
    scene.disable(rule, listener, EventMask.ACCEPT)
    pair = scene.accepted(rule, listener, **EVENTED)
    pair.peer.send(b"unheard")
    scene.quiet(NO_CALLBACK_S)
    heard = len(scene.callbacks(Callback.RECEIVE, pair.socket))
    rule.must("callbacks of a socket from WskAccept", heard, equals(0))


@pytest.mark.rule("WSK-EVT-012")
def test_inheritance_stays(scene: Scene, observe: Observe) -> None:
    """Inherited events cannot be taken off the listener, and survive disabling and enabling its accept event."""
    rule = observe.rule("WSK-EVT-012")
    listener, first = _inheriting(scene, rule)
    taken_off = scene.wsk.disable_event(listener, EventMask.RECEIVE)
    rule.must("disable a connection event on the listener", taken_off, failed())
    rule.record("its status", outcome(taken_off))
    scene.disable(rule, listener, EventMask.ACCEPT)
    scene.enable(rule, listener, EventMask.ACCEPT, "enable the accept event again")
    scene.peer.connect(scene.guest.port()).send(b"heard")
    scene.hear(rule, "callback of the inheriting socket", Callback.RECEIVE, first)


def _static(scene: Scene, rule: RuleObserver, mask: EventMask) -> None:
    static = scene.wsk.run(Operation.static_events(mask))
    rule.must("preparation: WSK_SET_STATIC_EVENT_CALLBACKS", static, returned("STATUS_SUCCESS"))


@pytest.mark.rule("WSK-EVT-013")
def test_static_events(scene: Scene, observe: Observe) -> None:
    """Static events are on from creation: a listener and a datagram socket are called back right after the bind."""
    rule = observe.rule("WSK-EVT-013")
    _static(scene, rule, EventMask.ACCEPT | EventMask.RECEIVE_FROM)
    listener, number = scene.listener(rule, **EVENTED), scene.datagram(rule, 1, **EVENTED)
    scene.peer.connect(scene.guest.port())
    scene.peer.datagram().send(scene.guest.port(1), b"stimulus")
    scene.hear(rule, "static accept callback", Callback.ACCEPT, listener)
    scene.hear(rule, "static receive-from callback", Callback.RECEIVE_FROM, number)


@pytest.mark.rule("WSK-EVT-014")
def test_static_events_stay(scene: Scene, observe: Observe) -> None:
    """A static event cannot be disabled on one socket; it keeps coming."""
    rule = observe.rule("WSK-EVT-014")
    _static(scene, rule, EventMask.RECEIVE_FROM)
    number = scene.datagram(rule, **EVENTED)
    scene.wsk.script(number, Callback.RECEIVE_FROM, Answer.take(uses=0))
    off = scene.wsk.disable_event(number, EventMask.RECEIVE_FROM)
    rule.must("disable a static event", off, failed())
    rule.record("its status", outcome(off))
    scene.peer.datagram().send(scene.guest.port(), b"still heard")
    scene.hear(rule, "static callback", Callback.RECEIVE_FROM, number)


@pytest.mark.rule("WSK-EVT-015")
def test_where_callbacks_run(scene: Scene, observe: Observe) -> None:
    """Callbacks run at DISPATCH_LEVEL or below, one at a time for a socket's data, and may start a request."""
    rule = observe.rule("WSK-EVT-015")
    pair = _connection(scene, rule)
    sending = scene.wsk.submit(
        Operation.send(pair.socket, b"from the callback", op_id=scene.wsk.next_operation(), switches=Switch.HELD)
    )
    scene.wsk.script(pair.socket, Callback.RECEIVE, Answer.take(then_op=sending.op_id), Answer.take(uses=0, hold_ms=5))
    scene.enable(rule, pair.socket, EventMask.RECEIVE)
    for _ in range(10):
        pair.peer.send(bytes(3000))
    scene.hear(rule, "receive callback", Callback.RECEIVE, pair.socket)
    rule.must("request started by a callback", sending.result(scene.within()), succeeded())
    rule.must("the peer reads", pair.peer.receive(17), equals(b"from the callback"))
    scene.quiet(NO_CALLBACK_S)
    enters = scene.callbacks(Callback.RECEIVE, pair.socket)
    last = 0
    for enter in enters:
        rule.must("receive callbacks", enter.sequence > last, holds("one at a time", "overlap"))
        last = scene.answered(enter).sequence
    real = rule.given(bool(observe.facts.get("irql_real")), "IRQL is real")
    highest = max(enter.irql for enter in enters)
    real.must("IRQL of callbacks", highest <= 2, holds("DISPATCH_LEVEL or below", "above DISPATCH_LEVEL"))
    flagged = [enter for enter in enters if enter.flags & EventFlag.AT_DISPATCH_LEVEL]
    told = rule.given(bool(flagged), "a callback says that it is at DISPATCH_LEVEL")
    if flagged:
        right = all(enter.irql == 2 for enter in flagged)
        told.must("IRQL of callbacks with the flag", right, holds("DISPATCH_LEVEL", "another one"))
    else:
        told.unmet("IRQL of callbacks with the flag")
    rule.record("threads and IRQLs", sorted({(enter.thread != 0, enter.irql) for enter in enters}))
