"""Stream data (WSK-DATA): the peer is a socket of this test, so what is sent, when, and how it ends is known."""

from __future__ import annotations

import pytest

from wsklab import abi
from wsklab.abi import Fill, MdlShape, RecordFlag
from wsklab.channel.operations import Operation
from wsklab.pytest_plugin import Observe, Scene
from wsklab.pytest_plugin.matchers import completed_once, equals, failed, flagged, information, succeeded, with_status
from wsklab.pytest_plugin.quiet import STILL_PENDING_S

SIZES = [1, 1460, 65536, 1 << 20]


@pytest.mark.rule("WSK-DATA-001")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "connected"])
def test_send(scene: Scene, observe: Observe, size: int, accepted: bool) -> None:
    """A send completes with its length, and the peer reads exactly these bytes in order."""
    rule = observe.rule("WSK-DATA-001")
    pair = scene.accepted(rule, scene.listener(rule)) if accepted else scene.connected(rule)
    sending = scene.wsk.submit(
        Operation.send(pair.socket, b"", fill=Fill.PATTERN, buffer_length=size, pattern_seed=size & 0xFF)
    )
    seen = pair.peer.receive(size)
    sent = sending.result(scene.guest.within(30.0))
    rule.must(f"send of {size} bytes", sent, succeeded())
    rule.must("Information is the length", sent, information(size))
    rule.must(f"the peer reads {size} bytes as sent", seen == abi.pattern(size, size & 0xFF), equals(True))


@pytest.mark.rule("WSK-DATA-002")
def test_receive(scene: Scene, observe: Observe) -> None:
    """A receive waits, then tells how many bytes came; the rest of its buffer is untouched."""
    rule = observe.rule("WSK-DATA-002")
    pair = scene.accepted(rule, scene.listener(rule))
    receiving = scene.wsk.receive(pair.socket, 256)
    scene.still_pending(rule, "receive without data", receiving, STILL_PENDING_S)
    text = b"twenty-two bytes here."
    pair.peer.send(text)
    record = receiving.result(scene.guest.within())
    rule.must("receive", record, succeeded())
    rule.must("Information", record, information(len(text)))
    rule.must("content", record.data, equals(text))
    rule.must("rest of the buffer", record, flagged(RecordFlag.REST_INTACT, "untouched"))


@pytest.mark.rule("WSK-DATA-004")
def test_graceful_end(scene: Scene, observe: Observe) -> None:
    """After the peer said that it sends no more, receives end with success and no bytes."""
    rule = observe.rule("WSK-DATA-004")
    pair = scene.accepted(rule, scene.listener(rule))
    pending = scene.wsk.receive(pair.socket, 16)
    pair.peer.finish()
    for name, receiving in (("pending receive", pending), ("later receive", scene.wsk.receive(pair.socket, 16))):
        record = receiving.result(scene.guest.within())
        rule.expect(name, record, succeeded())
        rule.expect(f"Information of the {name}", record, information(0))


@pytest.mark.rule("WSK-DATA-005")
def test_reset(scene: Scene, observe: Observe) -> None:
    """After a reset by the peer the pending receive ends in a failure."""
    rule = observe.rule("WSK-DATA-005")
    pair = scene.accepted(rule, scene.listener(rule))
    receiving = scene.wsk.receive(pair.socket, 16)
    pair.peer.reset()
    record = receiving.result(scene.guest.within())
    rule.must("completions", record, completed_once())
    rule.must("pending receive", record, failed())
    rule.expect("its status", record, with_status("STATUS_CONNECTION_RESET"))


@pytest.mark.rule("WSK-DATA-009")
@pytest.mark.parametrize("shape", [MdlShape.SINGLE, MdlShape.CHAIN], ids=["offset", "chain"])
def test_buffer_shapes(scene: Scene, observe: Observe, shape: MdlShape) -> None:
    """Data is taken from an offset in the first MDL, and from a chain in order."""
    rule = observe.rule("WSK-DATA-009")
    pair = scene.accepted(rule, scene.listener(rule))
    text = bytes(number & 0xFF for number in range(394))
    more = {"chunks": (100, 1, 300), "mdl_bytes": 401} if shape is MdlShape.CHAIN else {"mdl_bytes": 401}
    sent = scene.wsk.send(pair.socket, text, buffer_offset=7, mdl_shape=shape, **more)
    rule.must(f"send from {shape.name.lower()}", sent, succeeded())
    rule.must("the peer reads", pair.peer.receive(len(text)) == text, equals(True))
