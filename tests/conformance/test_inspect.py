"""Conditional accept (WSK-INS)."""

from __future__ import annotations

import threading

import pytest

from wsklab.abi import Callback, Category, Dispatch, Switch
from wsklab.channel.operations import Answer, Operation
from wsklab.pytest_plugin import Observe, Scene
from wsklab.pytest_plugin.matchers import equals, failed, holds, one_of, outcome, returned, succeeded
from wsklab.pytest_plugin.observe import RuleObserver
from wsklab.pytest_plugin.quiet import BLOCKED_S, NO_CALLBACK_S
from wsklab.wsk import EventMask, InspectAction, SocketIoctl, SocketOption


def _conditional(scene: Scene, rule: RuleObserver, *answers: Answer) -> int:
    """A bound listener in the conditional mode; its inspect callback answers by the script."""
    number = scene.fresh(rule, Category.LISTEN, dispatch=Dispatch.FULL, socket_context=0x1459EC7)
    on = scene.wsk.set_option(number, SocketOption.CONDITIONAL_ACCEPT, 1)
    rule.must("preparation: SO_CONDITIONAL_ACCEPT", on, succeeded())
    if answers:
        scene.wsk.script(number, Callback.INSPECT, *answers)
    rule.must("preparation: conditional bind", scene.wsk.bind(number, scene.address()), succeeded())
    return number


class Knock:
    """A peer that tries to connect while the case goes on."""

    def __init__(self, scene: Scene, seconds: float = 20.0) -> None:
        self._result = ""
        self._scene = scene
        self._thread = threading.Thread(target=self._run, args=(seconds,), name="peer knocks")
        self._thread.start()

    def _run(self, seconds: float) -> None:
        self._result = self._scene.peer.tries(self._scene.guest.port(), seconds)

    @property
    def waits(self) -> bool:
        """Whether it has no answer yet."""
        return self._thread.is_alive()

    def result(self) -> str:
        """How it ended."""
        self._thread.join()
        return self._result


@pytest.mark.rule("WSK-INS-001")
def test_mode_is_switched_on(scene: Scene, observe: Observe) -> None:
    """SO_CONDITIONAL_ACCEPT is set before the bind and reads back as 1."""
    rule = observe.rule("WSK-INS-001")
    number = scene.fresh(rule, Category.LISTEN)
    on = scene.wsk.set_option(number, SocketOption.CONDITIONAL_ACCEPT, 1)
    rule.must("set SO_CONDITIONAL_ACCEPT", on, succeeded())
    asked = scene.wsk.get_option(number, SocketOption.CONDITIONAL_ACCEPT)
    rule.must("get SO_CONDITIONAL_ACCEPT", asked, succeeded())
    rule.must("its value", asked.number, equals(1))


@pytest.mark.rule("WSK-INS-002", "WSK-INS-003", "WSK-INS-010")
def test_inspected_and_accepted_by_function(scene: Scene, observe: Observe) -> None:
    """A request is inspected first, with both addresses and an id and no event enabled; accepted, it is delivered."""
    rule = observe.rule("WSK-INS-002")
    listener = _conditional(scene, rule, Answer.take(uses=0))
    accepting = scene.wsk.accept(listener)
    peer = scene.peer.connect(scene.guest.port())
    (enter, *_) = scene.hear(rule, "inspect callback", Callback.INSPECT, listener)
    observe.rule("WSK-INS-010").must("inspect callback without enabled events", True, equals(True))
    rule.must("the id", enter.object != 0, holds("not NULL", "NULL"))
    rule.must("local address", str(enter.local) == "{}:{}".format(*peer.remote), equals(True))
    rule.must("remote address", str(enter.remote) == "{}:{}".format(*peer.local), equals(True))
    accepted = accepting.result(scene.within())
    after = enter.sequence < accepted.completion_sequence
    rule.must("inspection", after, holds("before the accept", "after the accept"))
    rule = observe.rule("WSK-INS-003")
    rule.must("the queued accept", accepted, succeeded())
    peer.send(b"ping")
    rule.must("the connection", scene.received(accepted.new_socket, 4), equals(b"ping"))


@pytest.mark.rule("WSK-INS-002", "WSK-INS-003")
def test_inspected_and_accepted_by_callback(scene: Scene, observe: Observe) -> None:
    """An accepted inspection is also delivered by the accept callback, after it."""
    rule = observe.rule("WSK-INS-003")
    listener = _conditional(scene, rule, Answer.take(uses=0))
    first = scene.numbers(1)
    scene.wsk.script(listener, Callback.ACCEPT, Answer.take(number=first))
    scene.enable(rule, listener, EventMask.ACCEPT)
    peer = scene.peer.connect(scene.guest.port())
    (accepted, *_) = scene.hear(rule, "accept callback", Callback.ACCEPT, listener)
    (inspected, *_) = scene.callbacks(Callback.INSPECT, listener)
    earlier = inspected.sequence < accepted.sequence
    observe.rule("WSK-INS-002").must("inspect callback", earlier, holds("before the accept's", "after the accept's"))
    peer.send(b"ping")
    rule.must("the connection", scene.received(first, 4), equals(b"ping"))


@pytest.mark.rule("WSK-INS-004")
def test_rejected(scene: Scene, observe: Observe) -> None:
    """A rejected request makes no connection, no accept and no abort; the listener still works."""
    rule = observe.rule("WSK-INS-004")
    listener = _conditional(scene, rule, Answer.refuse(), Answer.take(uses=0))
    accepting = scene.wsk.accept(listener)
    knock = scene.peer.tries(scene.guest.port(), 3.0)
    scene.hear(rule, "inspect callback", Callback.INSPECT, listener)
    rule.must("the peer's connect", knock, one_of("refused", "silent"))
    rule.record("how the peer's connect fails", knock)
    rule.must("the queued accept", scene.stays_pending(accepting, BLOCKED_S), holds("pending", "completed"))
    rule.must("abort callbacks", len(scene.callbacks(Callback.ABORT)), equals(0))
    scene.peer.connect(scene.guest.port())
    rule.must("the next connection", accepting.result(scene.within()), succeeded())


@pytest.mark.rule("WSK-INS-005", "WSK-INS-002")
@pytest.mark.parametrize("accept", [True, False], ids=["accept", "reject"])
def test_decided_later(scene: Scene, observe: Observe, accept: bool) -> None:
    """A pended inspection is decided by WskInspectComplete: accept establishes, reject drops."""
    rule = observe.rule("WSK-INS-005")
    listener = _conditional(scene, rule, Answer.pend(uses=0))
    accepting = scene.wsk.accept(listener)
    knock = Knock(scene)
    (enter, *_) = scene.hear(rule, "inspect callback", Callback.INSPECT, listener)
    scene.quiet(NO_CALLBACK_S)
    observe.rule("WSK-INS-002").expect("the peer's connect at inspect time", knock.waits, holds("unanswered", "over"))
    action = InspectAction.ACCEPT if accept else InspectAction.REJECT
    decided = scene.wsk.run(Operation.inspect_complete(listener, enter.object, action))
    rule.must(f"WskInspectComplete({action.name.lower()})", decided, succeeded())
    if accept:
        rule.must("the connection", accepting.result(scene.within()), succeeded())
        rule.must("the peer", knock.result(), equals("connected"))
    else:
        rule.must("the peer's connect", knock.result(), one_of("refused", "silent"))
        rule.must("the queued accept", scene.stays_pending(accepting, NO_CALLBACK_S), holds("pending", "completed"))


def _abandoned(scene: Scene, rule: RuleObserver) -> tuple[int, int]:
    """A pended inspection whose client goes away: the listener and the inspection's number."""
    listener = _conditional(scene, rule, Answer.pend(uses=0))
    leave = scene.peer.knock(scene.guest.port())
    (enter, *_) = scene.hear(rule, "inspect callback", Callback.INSPECT, listener)
    leave()
    (gone, *_) = scene.hear(rule, "abort callback", Callback.ABORT, listener)
    rule.must("the id of the abort", gone.object, equals(enter.object))
    return listener, enter.object


@pytest.mark.rule("WSK-INS-006", "WSK-INS-007")
def test_abandoned_request(scene: Scene, observe: Observe) -> None:
    """A pended request whose client goes away is reported with the same id; completing it establishes nothing."""
    listener, inspection = _abandoned(scene, observe.rule("WSK-INS-006"))
    rule = observe.rule("WSK-INS-007")
    accepting = scene.wsk.accept(listener)
    late = scene.wsk.run(Operation.inspect_complete(listener, inspection, InspectAction.ACCEPT))
    rule.record("WskInspectComplete after the abort", outcome(late))
    rule.must("the queued accept", scene.stays_pending(accepting, NO_CALLBACK_S), holds("pending", "completed"))


@pytest.mark.rule("WSK-INS-008")
def test_wrong_completions(scene: Scene, observe: Observe) -> None:
    """Completing without the mode, an unknown id, with pend, out of range, and twice: each fails."""
    rule = observe.rule("WSK-INS-008")
    plain = scene.listener(rule)
    unknown = Operation.inspect_complete(plain, 1, InspectAction.ACCEPT, switches=Switch.UNKNOWN_ID)
    _fails(scene, rule, "without the mode", unknown)
    scene.wsk.close_socket(plain)
    listener = _conditional(scene, rule, Answer.pend(uses=0))
    knock = Knock(scene)
    (enter, *_) = scene.hear(rule, "inspect callback", Callback.INSPECT, listener)
    _fails(scene, rule, "an unknown id", Operation.inspect_complete(listener, 1, 1, switches=Switch.UNKNOWN_ID))
    _fails(scene, rule, "pend", Operation.inspect_complete(listener, enter.object, InspectAction.PEND))
    _fails(scene, rule, "out of range", Operation.inspect_complete(listener, enter.object, 3))
    once = Operation.inspect_complete(listener, enter.object, InspectAction.REJECT)
    scene.wsk.run(once)
    _fails(scene, rule, "twice", once)
    knock.result()


def _fails(scene: Scene, rule: RuleObserver, what: str, operation: Operation) -> None:
    record = scene.wsk.run(operation)
    rule.expect(f"WskInspectComplete, {what}", record, failed())
    rule.record(f"status, {what}", outcome(record))


@pytest.mark.rule("WSK-INS-009")
def test_id_of_an_accepted_socket(scene: Scene, observe: Observe) -> None:
    """SIO_WSK_QUERY_INSPECT_ID on a connection accepted this way gives the id of its inspection."""
    rule = observe.rule("WSK-INS-009")
    listener = _conditional(scene, rule, Answer.take(uses=0))
    pair = scene.accepted(rule, listener)
    (enter, *_) = scene.hear(rule, "inspect callback", Callback.INSPECT, listener)
    asked = scene.wsk.run(_inspect_id(pair.socket))
    rule.must("SIO_WSK_QUERY_INSPECT_ID", asked, returned("STATUS_SUCCESS"))
    rule.must("the id", asked.inspect, equals(enter.object))


@pytest.mark.rule("WSK-INS-009")
def test_id_of_another_socket(scene: Scene, observe: Observe) -> None:
    """On a socket that was never inspected the query is refused."""
    rule = observe.rule("WSK-INS-009")
    asked = scene.wsk.run(_inspect_id(scene.connected(rule).socket))
    name = "SIO_WSK_QUERY_INSPECT_ID on another socket"
    rule.must(name, asked, returned("STATUS_INVALID_DEVICE_REQUEST"))


def _inspect_id(socket: int) -> Operation:
    return Operation.ioctl(socket, SocketIoctl.WSK_QUERY_INSPECT_ID, output=16, switches=Switch.NULL_IRP)


@pytest.mark.rule("WSK-INS-010")
def test_ids_are_distinct(scene: Scene, observe: Observe) -> None:
    """Requests that are pending at the same time have ids of their own."""
    rule = observe.rule("WSK-INS-010")
    listener = _conditional(scene, rule, Answer.pend(uses=0))
    knocks = [Knock(scene, 5.0) for _ in range(3)]
    heard = scene.hear(rule, "inspect callbacks", Callback.INSPECT, listener, count=3)
    ids = {enter.object for enter in heard}
    rule.must("ids of three pending requests", len(ids), equals(3))
    for inspection in ids:
        scene.wsk.run(Operation.inspect_complete(listener, inspection, InspectAction.REJECT))
    for knock in knocks:
        knock.result()
