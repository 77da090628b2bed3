"""Disconnecting (WSK-DISC)."""

from __future__ import annotations

from typing import Any

import pytest

from wsklab import abi
from wsklab.abi import Category, Fill, MdlShape
from wsklab.channel.operations import Operation, PendingOperation
from wsklab.pytest_plugin import Observe, Scene
from wsklab.pytest_plugin.matchers import (
    completed_once,
    equals,
    failed,
    information,
    one_of,
    outcome,
    succeeded,
)
from wsklab.pytest_plugin.observe import RuleObserver
from wsklab.pytest_plugin.quiet import BLOCKED_S, STILL_PENDING_S
from wsklab.pytest_plugin.scene import Pair
from wsklab.wsk import DisconnectFlag

TOO_MUCH = 16 << 20
#: More than a throttled peer takes, less than a transport keeps for it.
BUFFERED = 32 << 10
BOTH = pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "connected"])


def _pair(scene: Scene, rule: RuleObserver, *, accepted: bool = True) -> Pair:
    return scene.accepted(rule, scene.listener(rule)) if accepted else scene.connected(rule)


def _stuck(scene: Scene, rule: RuleObserver) -> tuple[Pair, PendingOperation]:
    """A connection whose peer does not read, with a send that waits."""
    pair = _pair(scene, rule)
    pair.peer.throttle()
    sending = scene.wsk.submit(Operation.send(pair.socket, b"", fill=Fill.PATTERN, buffer_length=TOO_MUCH))
    scene.still_pending(rule, "preparation: send against a closed window", sending, STILL_PENDING_S)
    return pair, sending


@pytest.mark.rule("WSK-DISC-001")
def test_graceful_disconnect(scene: Scene, observe: Observe) -> None:
    """The peer reads everything that was sent, then the end of the stream."""
    rule = observe.rule("WSK-DISC-001")
    pair = _pair(scene, rule)
    size = 100 * 1024
    sending = scene.wsk.submit(Operation.send(pair.socket, b"", fill=Fill.PATTERN, buffer_length=size))
    disconnecting = scene.starts(rule, "disconnect", Operation.disconnect(pair.socket))
    seen = pair.peer.receive(size)
    rule.must("the peer reads everything", seen == abi.pattern(size), equals(True))
    rule.must("then the end", pair.peer.end(), equals("closed"))
    rule.must("send", sending.result(scene.within()), succeeded())
    rule.must("disconnect", disconnecting.result(scene.within()), succeeded())


LAST_WORDS: list[dict[str, Any]] = [
    {"data": b"x"},
    {"data": abi.pattern(4000)},
    {
        "data": abi.pattern(4000),
        "mdl_shape": MdlShape.CHAIN,
        "chunks": (1000, 1, 3006),
        "buffer_offset": 7,
        "mdl_bytes": 4007,
    },
]


@pytest.mark.rule("WSK-DISC-002")
@pytest.mark.parametrize("words", LAST_WORDS, ids=["1", "4000", "chain"])
def test_last_words(scene: Scene, observe: Observe, words: dict[str, Any]) -> None:
    """A buffer that goes with a graceful disconnect is delivered before the end."""
    rule = observe.rule("WSK-DISC-002")
    pair = _pair(scene, rule)
    disconnecting = scene.starts(rule, "disconnect with a buffer", Operation.disconnect(pair.socket, **words))
    rule.must("the peer reads the buffer", pair.peer.receive(len(words["data"])) == words["data"], equals(True))
    rule.must("then the end", pair.peer.end(), equals("closed"))
    rule.must("disconnect with a buffer", disconnecting.result(scene.within()), succeeded())


@pytest.mark.rule("WSK-DISC-003")
def test_half_closed(scene: Scene, observe: Observe) -> None:
    """After a graceful disconnect nothing can be sent, but data comes in until the peer closes."""
    rule = observe.rule("WSK-DISC-003")
    pair = _pair(scene, rule)
    rule.must("disconnect", scene.wsk.disconnect(pair.socket), succeeded())
    late = scene.wsk.send(pair.socket, b"x")
    rule.must("send after the disconnect", late, failed())
    rule.record("status of the late send", outcome(late))
    pair.peer.send(b"ten bytes.")
    rule.must("receive after the disconnect", scene.received(pair.socket, 10), equals(b"ten bytes."))
    pair.peer.finish()
    ended = scene.wsk.receive(pair.socket, 16).result(scene.within())
    rule.must("receive after the peer's end", ended, succeeded())
    rule.must("its Information", ended, information(0))


@pytest.mark.rule("WSK-DISC-004")
def test_abortive_disconnect(scene: Scene, observe: Observe) -> None:
    """An abortive disconnect ends a waiting send with a failure, resets the connection, and closes both directions."""
    rule = observe.rule("WSK-DISC-004")
    pair, sending = _stuck(scene, rule)
    aborted = scene.wsk.disconnect(pair.socket, flags=DisconnectFlag.ABORTIVE)
    rule.must("abortive disconnect", aborted, succeeded())
    ended = sending.wait(scene.within())
    rule.must("completions of the waiting send", ended, completed_once())
    rule.must("the waiting send", ended, failed())
    rule.must("the peer's end", pair.peer.end(), equals("reset"))
    rule.must("later send", scene.wsk.send(pair.socket, b"x"), failed())
    rule.must("later receive", scene.wsk.receive(pair.socket, 16).result(scene.within()), failed())


@pytest.mark.rule("WSK-DISC-005")
def test_abortive_with_a_buffer(scene: Scene, observe: Observe) -> None:
    """The abortive flag excludes a buffer; nothing of it reaches the peer."""
    rule = observe.rule("WSK-DISC-005")
    pair = _pair(scene, rule)
    record = scene.wsk.disconnect(pair.socket, b"never seen", flags=DisconnectFlag.ABORTIVE)
    rule.expect("abortive disconnect with a buffer", record, failed())
    rule.record("status", outcome(record))
    scene.wsk.close_socket(pair.socket)
    rule.expect("the peer reads", pair.peer.receives_until_the_end(), equals(b""))


@pytest.mark.rule("WSK-DISC-006")
def test_disconnect_waits_for_the_peer(scene: Scene, observe: Observe) -> None:
    """A graceful disconnect behind a send that only the transport's buffers have taken waits for the peer's window."""
    rule = observe.rule("WSK-DISC-006")
    pair = _pair(scene, rule)
    pair.peer.throttle()
    scene.wsk.submit(Operation.send(pair.socket, b"", fill=Fill.PATTERN, buffer_length=BUFFERED))
    graceful = scene.starts(rule, "graceful disconnect", Operation.disconnect(pair.socket))
    scene.still_pending(rule, "graceful disconnect behind buffered data", graceful, BLOCKED_S)
    pair.peer.open_up()
    rule.must("the peer reads", len(pair.peer.receive(BUFFERED)), equals(BUFFERED))
    rule.must("graceful disconnect", graceful.wait(scene.within()), succeeded())


@pytest.mark.rule("WSK-DISC-006")
@pytest.mark.parametrize("force", ["abort", "close"])
def test_stuck_disconnect_is_forced(scene: Scene, observe: Observe, force: str) -> None:
    """A graceful disconnect that waits for a closed window is completed by an abortive one, or by close."""
    rule = observe.rule("WSK-DISC-006")
    pair, _ = _stuck(scene, rule)
    graceful = scene.starts(rule, "graceful disconnect", Operation.disconnect(pair.socket))
    scene.still_pending(rule, "graceful disconnect against a closed window", graceful, BLOCKED_S)
    if force == "abort":
        forcing = scene.wsk.submit(Operation.disconnect(pair.socket, flags=DisconnectFlag.ABORTIVE))
    else:
        forcing = scene.wsk.submit(Operation.close(pair.socket))
    rule.must(f"the forcing {force}", forcing.wait(scene.within(5.0)), succeeded())
    rule.must("completions of the graceful one", graceful.wait(scene.within(5.0)), completed_once())


@pytest.mark.rule("WSK-DISC-007")
def test_unusual_disconnects(scene: Scene, observe: Observe) -> None:
    """Disconnecting what was never connected fails; twice, after a reset and with flags is written down."""
    rule = observe.rule("WSK-DISC-007")
    never = scene.wsk.disconnect(scene.bound(rule, Category.CONNECTION, scene.private()))
    rule.expect("disconnect without a connection", never, failed())
    rule.record("status without a connection", outcome(never))
    listener = scene.listener(rule, 1)
    twice = scene.accepted(rule, listener, 1)
    scene.wsk.disconnect(twice.socket)
    rule.record("second graceful disconnect", outcome(scene.wsk.disconnect(twice.socket)))
    reset = scene.accepted(rule, listener, 1)
    reset.peer.reset()
    scene.wsk.receive(reset.socket, 16).result(scene.within())
    rule.record("disconnect after a reset", outcome(scene.wsk.disconnect(reset.socket)))
    flags = scene.accepted(rule, listener, 1)
    rule.record("disconnect with unknown flags", outcome(scene.wsk.disconnect(flags.socket, flags=0x80)))


@pytest.mark.rule("WSK-DISC-008")
@BOTH
def test_half_close_by_the_peer(scene: Scene, observe: Observe, accepted: bool) -> None:
    """When the peer has closed its side, data still goes out, then the end; the close sends no reset."""
    rule = observe.rule("WSK-DISC-008")
    pair = _pair(scene, rule, accepted=accepted)
    pair.peer.finish()
    ended = scene.wsk.receive(pair.socket, 16).result(scene.within())
    rule.must("receive after the peer's end", ended, information(0))
    rule.expect("status after the peer's end", ended, succeeded())
    rule.must("send after the peer's end", scene.wsk.send(pair.socket, b"ten bytes."), succeeded())
    disconnecting = scene.starts(rule, "disconnect", Operation.disconnect(pair.socket))
    rule.must("the peer reads", pair.peer.receive(10), equals(b"ten bytes."))
    rule.must("the peer's end", pair.peer.end(), equals("closed"))
    rule.must("disconnect", disconnecting.result(scene.within()), succeeded())
    rule.must("close", scene.wsk.close_socket(pair.socket), succeeded())
    rule.must("after the close", pair.peer.end(), one_of("closed"))
