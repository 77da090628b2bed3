"""Stream data (WSK-DATA): the peer is a socket of this test, so what is sent, when, and how it ends is known."""

from __future__ import annotations

import contextlib
from random import Random
from typing import Any

import pytest

from wsklab import abi
from wsklab.abi import Callback, Category, Dispatch, Fill, MdlShape, ObjectKind, RecordFlag, Switch
from wsklab.channel.operations import Answer, Operation
from wsklab.deadline import NotYet, wait_until
from wsklab.errors import DeadlineExceeded
from wsklab.pytest_plugin import Observe, Scene
from wsklab.pytest_plugin.matchers import (
    completed_once,
    equals,
    failed,
    flagged,
    holds,
    information,
    outcome,
    returned,
    succeeded,
    with_status,
)
from wsklab.pytest_plugin.observe import RuleObserver
from wsklab.pytest_plugin.quiet import NO_CALLBACK_S, STILL_PENDING_S, UNCHANGED_S
from wsklab.pytest_plugin.scene import Pair
from wsklab.pytest_plugin.values import for_all
from wsklab.wsk import DisconnectFlag, EventMask, ReceiveFlag

SIZES = [1, 1460, 65536, 1 << 20]
#: More than both ends buffer: a peer that does not read closes its window.
TOO_MUCH = 16 << 20
#: Three MDLs, and an offset in the first.
CHUNKS, OFFSET = (100, 1, 300), 7


#: Sixteen pieces of a slow reader.
SLOWLY_READ = 1 << 18


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
    sent = sending.result(scene.within(30.0))
    rule.must(f"send of {size} bytes", sent, succeeded())
    rule.must("Information is the length", sent, information(size))
    rule.must(f"the peer reads {size} bytes as sent", seen == abi.pattern(size, size & 0xFF), equals(True))


@pytest.mark.rule("WSK-DATA-001")
def test_send_anything(scene: Scene, observe: Observe) -> None:
    """Whatever the bytes are and however many, they reach the peer, one send after the other on one connection."""
    rule = observe.rule("WSK-DATA-001")
    pair = scene.accepted(rule, scene.listener(rule))

    def arrives(data: bytes) -> None:
        sent = scene.wsk.send(pair.socket, data)
        rule.must("send of any bytes", sent, succeeded())
        rule.must("its Information", sent.information == len(data), holds("the length", "something else"))
        rule.must("the peer reads them", pair.peer.receive(len(data)) == data, equals(True))

    for_all((b"\0", b"\xff" * 4000), lambda random: random.randbytes(random.randint(1, 4000)), arrives)


@pytest.mark.rule("WSK-DATA-002")
def test_receive_anything(scene: Scene, observe: Observe) -> None:
    """Whatever the peer sends, and whatever room there is, a receive tells how much came, and it is that."""
    rule = observe.rule("WSK-DATA-002")
    pair = scene.accepted(rule, scene.listener(rule))

    def arrives(case: tuple[bytes, int]) -> None:
        data, room = case
        pair.peer.send(data)
        got = bytearray()
        while len(got) < len(data):
            record = scene.wsk.receive(pair.socket, room).result(scene.within())
            rule.must("receive of any bytes", record, succeeded())
            rule.must("at most the room", 0 < len(record.data) <= room, equals(True))
            got += record.data
        rule.must("the bytes", bytes(got) == data, equals(True))

    def some(random: Random) -> tuple[bytes, int]:
        return random.randbytes(random.randint(1, 2000)), random.randint(500, 3000)

    for_all(((b"\0", 1), (b"12", 1), (bytes(1000), 1000)), some, arrives)


@pytest.mark.rule("WSK-DATA-002")
def test_receive(scene: Scene, observe: Observe) -> None:
    """A receive waits, then tells how many bytes came; the rest of its buffer is untouched."""
    rule = observe.rule("WSK-DATA-002")
    pair = scene.accepted(rule, scene.listener(rule))
    receiving = scene.wsk.receive(pair.socket, 256)
    scene.still_pending(rule, "receive without data", receiving, STILL_PENDING_S)
    text = b"twenty-two bytes here."
    pair.peer.send(text)
    record = receiving.result(scene.within())
    rule.must("receive", record, succeeded())
    rule.must("Information", record, information(len(text)))
    rule.must("content", record.data, equals(text))
    rule.must("rest of the buffer", record, flagged(RecordFlag.REST_INTACT | RecordFlag.GUARDS_INTACT, "untouched"))


@pytest.mark.rule("WSK-DATA-003")
def test_send_waits_for_the_transport(scene: Scene, observe: Observe) -> None:
    """A send that the peer's closed window holds up stays pending, and completes in full when the peer reads."""
    rule = observe.rule("WSK-DATA-003")
    pair = scene.accepted(rule, scene.listener(rule))
    pair.peer.throttle()
    sending = scene.wsk.submit(Operation.send(pair.socket, b"", fill=Fill.PATTERN, buffer_length=TOO_MUCH))
    scene.still_pending(rule, "send against a closed window", sending, STILL_PENDING_S)
    pair.peer.open_up()
    seen = pair.peer.receive(TOO_MUCH)
    sent = sending.result(scene.within(60.0))
    rule.must("send", sent, succeeded())
    rule.must("Information", sent, information(TOO_MUCH))
    rule.must("bytes that the peer reads", len(seen), equals(TOO_MUCH))


@pytest.mark.rule("WSK-DATA-003")
def test_slow_reader(scene: Scene, observe: Observe) -> None:
    """A peer that reads a piece at a time gets everything in order, and the send completes with the full length."""
    rule = observe.rule("WSK-DATA-003")
    pair = scene.accepted(rule, scene.listener(rule))
    sending = scene.wsk.submit(
        Operation.send(pair.socket, b"", fill=Fill.PATTERN, buffer_length=SLOWLY_READ, pattern_seed=3)
    )
    seen = pair.peer.receive_slowly(SLOWLY_READ, piece=1 << 14, pause_s=0.005)
    sent = sending.result(scene.within(30.0))
    rule.must("send to a slow reader", sent, succeeded())
    rule.must("its Information", sent, information(SLOWLY_READ))
    rule.must("the slow reader gets", seen == abi.pattern(SLOWLY_READ, 3), holds("the bytes as sent", "others"))


@pytest.mark.rule("WSK-DATA-004")
def test_graceful_end(scene: Scene, observe: Observe) -> None:
    """After the peer said that it sends no more, receives end with success and no bytes."""
    rule = observe.rule("WSK-DATA-004")
    pair = scene.accepted(rule, scene.listener(rule))
    pending = scene.wsk.receive(pair.socket, 16)
    pair.peer.finish()
    for name, receiving in (("pending receive", pending), ("later receive", scene.wsk.receive(pair.socket, 16))):
        record = receiving.result(scene.within())
        rule.expect(name, record, succeeded())
        rule.expect(f"Information of the {name}", record, information(0))


@pytest.mark.rule("WSK-DATA-005")
def test_reset(scene: Scene, observe: Observe) -> None:
    """After a reset by the peer the pending receive ends in a failure, and so do later calls."""
    rule = observe.rule("WSK-DATA-005")
    pair = scene.accepted(rule, scene.listener(rule))
    receiving = scene.wsk.receive(pair.socket, 16)
    pair.peer.reset()
    record = receiving.result(scene.within())
    rule.must("completions", record, completed_once())
    rule.must("pending receive", record, failed())
    rule.expect("its status", record, with_status("STATUS_CONNECTION_RESET"))
    later = scene.wsk.receive(pair.socket, 16).result(scene.within())
    rule.expect("later receive", later, failed())
    rule.record("status of the later receive", outcome(later))
    sent = scene.wsk.send(pair.socket, b"x")
    rule.expect("later send", sent, failed())
    rule.record("status of the later send", outcome(sent))


@pytest.mark.rule("WSK-DATA-005")
def test_reset_during_a_send(scene: Scene, observe: Observe) -> None:
    """A send that waits for the peer ends in a failure when the peer resets."""
    rule = observe.rule("WSK-DATA-005")
    pair = scene.accepted(rule, scene.listener(rule))
    pair.peer.throttle()
    sending = scene.wsk.submit(Operation.send(pair.socket, b"", fill=Fill.PATTERN, buffer_length=TOO_MUCH))
    scene.still_pending(rule, "preparation: send against a closed window", sending, STILL_PENDING_S)
    pair.peer.reset()
    record = sending.result(scene.within())
    rule.must("pending send", record, failed())
    rule.expect("status of the pending send", record, with_status("STATUS_CONNECTION_RESET"))


@pytest.mark.rule("WSK-DATA-006")
def test_wait_all(scene: Scene, observe: Observe) -> None:
    """With the wait-all flag a receive holds until its buffer is full."""
    rule = observe.rule("WSK-DATA-006")
    pair = scene.accepted(rule, scene.listener(rule))
    receiving = scene.wsk.receive(pair.socket, 100, flags=ReceiveFlag.WAITALL)
    pair.peer.send(bytes(40))
    scene.still_pending(rule, "wait-all after 40 of 100 bytes", receiving, STILL_PENDING_S)
    pair.peer.send(bytes(60))
    record = receiving.result(scene.within())
    rule.must("wait-all receive", record, succeeded())
    rule.must("its Information", record, information(100))


@pytest.mark.rule("WSK-DATA-006")
def test_wait_all_at_the_end(scene: Scene, observe: Observe) -> None:
    """With the wait-all flag a receive also ends with the connection, customarily with what came."""
    rule = observe.rule("WSK-DATA-006")
    pair = scene.accepted(rule, scene.listener(rule))
    receiving = scene.wsk.receive(pair.socket, 100, flags=ReceiveFlag.WAITALL)
    pair.peer.send(bytes(40))
    pair.peer.finish()
    record = receiving.result(scene.within())
    rule.must("wait-all receive at the end", record, succeeded())
    rule.expect("its Information at the end", record, information(40))


@pytest.mark.rule("WSK-DATA-007")
def test_drain(scene: Scene, observe: Observe) -> None:
    """With the drain flag data is discarded until the disconnect; nothing is left to read."""
    rule = observe.rule("WSK-DATA-007")
    pair = scene.accepted(rule, scene.listener(rule))
    draining = scene.wsk.receive(pair.socket, 0, flags=ReceiveFlag.DRAIN)
    scene.still_pending(rule, "drain before any data", draining, STILL_PENDING_S)
    pair.peer.send(bytes(1000))
    scene.still_pending(rule, "drain before the end", draining, STILL_PENDING_S)
    pair.peer.send(bytes(1 << 20))
    pair.peer.finish()
    rule.must("drain", draining.result(scene.within(30.0)), succeeded())
    rule.must("left to read", scene.wsk.receive(pair.socket, 16).result(scene.within()).data, equals(b""))


@pytest.mark.rule("WSK-DATA-007")
def test_odd_drains(scene: Scene, observe: Observe) -> None:
    """A drain with a buffer, and wait-all with drain, are written down."""
    rule = observe.rule("WSK-DATA-007")
    flags = {"with a buffer": (16, ReceiveFlag.DRAIN), "with wait-all": (0, ReceiveFlag.DRAIN | ReceiveFlag.WAITALL)}
    listener = scene.listener(rule)
    for name, (length, flag) in flags.items():
        pair = scene.accepted(rule, listener)
        draining = scene.wsk.receive(pair.socket, length, flags=flag)
        pair.peer.send(b"x")
        pair.peer.finish()
        rule.record(f"drain {name}", outcome(draining.wait(scene.within())))


@pytest.mark.rule("WSK-DATA-008")
def test_zero_length_receive(scene: Scene, observe: Observe) -> None:
    """A receive of zero bytes without MDL completes once and takes nothing; when is written down."""
    rule = observe.rule("WSK-DATA-008")
    pair = scene.accepted(rule, scene.listener(rule))
    receiving = scene.wsk.receive(pair.socket, 0, mdl_shape=MdlShape.NULL)
    at_once = not scene.stays_pending(receiving, STILL_PENDING_S)
    rule.record("it completes", "at once" if at_once else "with the first data")
    pair.peer.send(b"data")
    again = scene.wsk.receive(pair.socket, 0, mdl_shape=MdlShape.NULL)
    scene.quiet(STILL_PENDING_S)
    last = scene.wsk.receive(pair.socket, 0, mdl_shape=MdlShape.NULL)
    for one in (receiving, again, last):
        record = one.result(scene.within())
        rule.must("completions", record, completed_once())
        rule.must("Information", record, information(0))
        rule.expect("status", record, succeeded())
    rule.must("the data afterwards", scene.received(pair.socket, 4), equals(b"data"))


SHAPES = [
    pytest.param(MdlShape.SINGLE, id="offset"),
    pytest.param(MdlShape.CHAIN, id="chain"),
]


def _shape(shape: MdlShape) -> dict[str, Any]:
    chunks = CHUNKS if shape is MdlShape.CHAIN else ()
    return {"buffer_offset": OFFSET, "mdl_bytes": sum(CHUNKS), "mdl_shape": shape, "chunks": chunks}


TEXT = bytes(number & 0xFF for number in range(sum(CHUNKS) - OFFSET))


@pytest.mark.rule("WSK-DATA-009")
@pytest.mark.parametrize("shape", SHAPES)
def test_send_from_a_shape(scene: Scene, observe: Observe, shape: MdlShape) -> None:
    """Data is taken from an offset in the first MDL, and from a chain in order."""
    rule = observe.rule("WSK-DATA-009")
    pair = scene.accepted(rule, scene.listener(rule))
    sent = scene.wsk.send(pair.socket, TEXT, **_shape(shape))
    rule.must(f"send from {shape.name.lower()}", sent, succeeded())
    rule.must("the peer reads", pair.peer.receive(len(TEXT)) == TEXT, equals(True))


@pytest.mark.rule("WSK-DATA-009")
@pytest.mark.parametrize("shape", SHAPES)
def test_receive_into_a_shape(scene: Scene, observe: Observe, shape: MdlShape) -> None:
    """Data is placed from the offset on, chunk after chunk; nothing else is touched."""
    rule = observe.rule("WSK-DATA-009")
    pair = scene.accepted(rule, scene.listener(rule))
    pair.peer.send(TEXT)
    scene.quiet(STILL_PENDING_S)  # all of it is there: one receive may take it
    record = scene.wsk.receive(pair.socket, len(TEXT), **_shape(shape)).result(scene.within())
    rule.must(f"receive into {shape.name.lower()}", record, succeeded())
    rule.must("its content", record.data == TEXT, equals(True))
    untouched = flagged(RecordFlag.REST_INTACT | RecordFlag.GUARDS_INTACT, "untouched")
    rule.must("outside of the content", record, untouched)


@pytest.mark.rule("WSK-DATA-010")
def test_descriptor_may_go(scene: Scene, observe: Observe) -> None:
    """The WSK_BUF is overwritten when the call has returned; the transfers are right all the same."""
    rule = observe.rule("WSK-DATA-010")
    pair = scene.accepted(rule, scene.listener(rule))
    scribbled = {"switches": Switch.SCRIBBLE_WSK_BUF}
    receiving = scene.wsk.receive(pair.socket, 64, **scribbled)
    pair.peer.send(b"to the driver")
    record = receiving.result(scene.within())
    rule.expect("receive", record.data, equals(b"to the driver"))
    pair.peer.throttle()
    size = 1 << 20
    sending = scene.wsk.submit(
        Operation.send(pair.socket, b"", fill=Fill.PATTERN, buffer_length=size, pattern_seed=3, **scribbled)
    )
    pair.peer.open_up()
    seen = pair.peer.receive(size)
    rule.expect("send", sending.result(scene.within(30.0)), succeeded())
    rule.expect("the peer reads as sent", seen == abi.pattern(size, 3), equals(True))


@pytest.mark.rule("WSK-DATA-011")
@pytest.mark.parametrize("count", [8, 16], ids=["8", "16"])
def test_queued_sends_keep_their_order(scene: Scene, observe: Observe, count: int) -> None:
    """Queued sends of numbered blocks reach the peer whole, in the order of the calls."""
    rule = observe.rule("WSK-DATA-011")
    pair = scene.accepted(rule, scene.listener(rule))
    blocks = [bytes([number]) * 1000 for number in range(count)]
    sending = [scene.wsk.submit(Operation.send(pair.socket, block)) for block in blocks]
    seen = pair.peer.receive(1000 * count)
    for one in sending:
        rule.must("queued send", one.result(scene.within()), succeeded())
    parts = [seen[at : at + 1000] for at in range(0, len(seen), 1000)]
    rule.must("blocks", all(len(set(part)) == 1 for part in parts), holds("whole", "interleaved"))
    order = parts == blocks
    rule.expect("order of the sends", order, holds("as called", "another one"))


@pytest.mark.rule("WSK-DATA-011")
def test_held_up_sends_keep_their_order(scene: Scene, observe: Observe) -> None:
    """Sends that wait behind one that a closed window holds up go out whole, customarily in the order of the calls."""
    rule = observe.rule("WSK-DATA-011")
    pair = scene.accepted(rule, scene.listener(rule))
    pair.peer.throttle()
    first = scene.wsk.submit(Operation.send(pair.socket, b"", fill=Fill.PATTERN, buffer_length=TOO_MUCH))
    scene.still_pending(rule, "preparation: send against a closed window", first, STILL_PENDING_S)
    blocks = [bytes([number]) * 1000 for number in range(8)]
    sending = [scene.wsk.submit(Operation.send(pair.socket, block)) for block in blocks]
    pair.peer.open_up()
    pair.peer.receive(TOO_MUCH)
    seen = pair.peer.receive(1000 * len(blocks))
    for one in (first, *sending):
        rule.must("held up send", one.result(scene.within(60.0)), succeeded())
    parts = [seen[at : at + 1000] for at in range(0, len(seen), 1000)]
    rule.must("blocks", all(len(set(part)) == 1 for part in parts), holds("whole", "interleaved"))
    rule.expect("order of the sends", parts == blocks, holds("as called", "another one"))


@pytest.mark.rule("WSK-DATA-011")
def test_queued_receives_keep_their_order(scene: Scene, observe: Observe) -> None:
    """Eight queued receives are filled in the order of the calls, and none of the data interleaves."""
    rule = observe.rule("WSK-DATA-011")
    pair = scene.accepted(rule, scene.listener(rule))
    receiving = [scene.wsk.receive(pair.socket, 4) for _ in range(8)]
    stream = bytes(range(32))
    pair.peer.send(stream)
    ended = [one.result(scene.within()) for one in receiving]
    rule.must("all data", sorted(b"".join(record.data for record in ended)) == sorted(stream), equals(True))
    by_call = b"".join(record.data for record in ended) == stream
    rule.expect("order of the receives", by_call, holds("as called", "another one"))


@pytest.mark.rule("WSK-DATA-012")
def test_transfers_without_connection(scene: Scene, observe: Observe) -> None:
    """Sending and receiving on a socket that was never connected fails; unknown flags are written down."""
    rule = observe.rule("WSK-DATA-012")
    number = scene.bound(rule, Category.CONNECTION, scene.private())
    sent = scene.wsk.send(number, b"x")
    rule.must("send without connection", sent, failed())
    rule.expect("its status", sent, with_status("STATUS_INVALID_DEVICE_STATE"))
    received = scene.wsk.receive(number, 16).result(scene.within())
    rule.must("receive without connection", received, failed())
    rule.record("status of the receive", outcome(received))
    pair = scene.accepted(rule, scene.listener(rule, 1), 1)
    rule.record("send with unknown flags", outcome(scene.wsk.send(pair.socket, b"x", flags=0x80)))


@pytest.mark.hazard
@pytest.mark.exclusive
@pytest.mark.rule("WSK-DATA-012")
def test_missing_mdl(scene: Scene, observe: Observe) -> None:
    """A length without MDL: what the provider says is written down."""
    rule = observe.rule("WSK-DATA-012")
    pair = scene.accepted(rule, scene.listener(rule))
    operation = Operation.receive(pair.socket, 16, mdl_shape=MdlShape.NULL, switches=Switch.HAZARD)
    rule.record("receive with a length and no MDL", outcome(scene.wsk.submit(operation).wait(scene.within())))


# ---- the events of a connection


def _evented(scene: Scene, rule: RuleObserver, *answers: Answer, mask: EventMask = EventMask.RECEIVE) -> Pair:
    """An accepted connection with events enabled; its receive callback answers by the script."""
    pair = scene.accepted(rule, scene.listener(rule), dispatch=Dispatch.FULL, socket_context=0xDA7A)
    scene.wsk.script(pair.socket, Callback.RECEIVE, *answers)
    scene.enable(rule, pair.socket, mask)
    return pair


def _indicated(scene: Scene, socket: int, total: int) -> int:
    """Wait until so many bytes were indicated and accepted; how many were."""

    def look() -> int | NotYet:
        accepted = sum(scene.answered(enter).accepted for enter in scene.callbacks(Callback.RECEIVE, socket))
        return accepted if accepted >= total else NotYet(f"{accepted} bytes")

    return wait_until(look, scene.within(), what="indicated data", tick_s=0.02)


@pytest.mark.rule("WSK-DATA-013")
def test_indicated_data(scene: Scene, observe: Observe) -> None:
    """100 KiB in odd pieces are indicated in order; the lengths of each list add up to what is announced."""
    rule = observe.rule("WSK-DATA-013")
    pair = _evented(scene, rule, Answer.take(uses=0))
    stream = abi.pattern(100 * 1024, 11)
    sizes = [1, 999, 4096, 33, 60000]
    at = 0
    for size in (*sizes, len(stream) - sum(sizes)):
        pair.peer.send(stream[at : at + size])
        at += size
    rule.must("bytes indicated and taken", _indicated(scene, pair.socket, len(stream)), equals(len(stream)))
    at = 0
    for enter in scene.callbacks(Callback.RECEIVE, pair.socket):
        rule.must("sum of the list", enter.listed == enter.length, holds("BytesIndicated", "another number"))
        piece = abi.digest(stream[at : at + enter.length])
        rule.must("content", enter.digest == piece, holds("the next of the stream", "something else"))
        at += enter.length


@pytest.mark.rule("WSK-DATA-014")
@pytest.mark.parametrize("answer", [Answer.take_some(10), Answer.refuse()], ids=["ten_of_it", "none_of_it"])
def test_partly_accepted(scene: Scene, observe: Observe, answer: Answer) -> None:
    """After a partial or no acceptance indications stop until a WskReceive; then the rest comes without loss."""
    rule = observe.rule("WSK-DATA-014")
    pair = _evented(scene, rule, answer, Answer.take(uses=0))
    stream = abi.pattern(100, 5)
    pair.peer.send(stream)
    (first, *_) = scene.hear(rule, "receive callback", Callback.RECEIVE, pair.socket)
    taken = scene.answered(first).accepted
    pair.peer.send(b"more")
    scene.quiet(NO_CALLBACK_S)
    rule.must("callbacks while stopped", len(scene.callbacks(Callback.RECEIVE, pair.socket)), equals(1))
    resumed = scene.wsk.receive(pair.socket, 0, mdl_shape=MdlShape.NULL).wait(scene.within())
    rule.must("zero-length receive", resumed, succeeded())
    _indicated(scene, pair.socket, len(stream) + 4)
    second = scene.callbacks(Callback.RECEIVE, pair.socket)[1]
    rest = (stream + b"more")[taken : taken + second.length]
    rule.must("the next indication", second.digest == abi.digest(rest), holds("goes on where it stopped", "does not"))


@pytest.mark.rule("WSK-DATA-015")
def test_kept_indications(scene: Scene, observe: Observe) -> None:
    """Two lists are kept with STATUS_PENDING, unchanged after a while, and released; indications go on meanwhile."""
    rule = observe.rule("WSK-DATA-015")
    first, second = scene.wsk.next_object(), scene.wsk.next_object()
    pair = _evented(scene, rule, Answer.keep(first), Answer.keep(second), Answer.take(uses=0))
    texts = [b"first kept", b"second kept"]
    for number, text in enumerate(texts, 1):
        pair.peer.send(text)
        scene.hear(rule, f"callback {number}", Callback.RECEIVE, pair.socket, count=number)
    pair.peer.send(b"taken")
    scene.hear(rule, "callback while two are kept", Callback.RECEIVE, pair.socket, count=3)
    scene.quiet(UNCHANGED_S)
    for number, text in zip((first, second), texts, strict=True):
        kept = scene.wsk.run(Operation.indication(number))
        rule.must("kept data later", kept.data, equals(text))
        released = scene.wsk.run(Operation.release_data(pair.socket, number))
        rule.must("WskRelease", released, returned("STATUS_SUCCESS"))
    left = [entry for entry in scene.wsk.objects() if entry.kind is ObjectKind.DATA]
    rule.must("kept lists in the end", len(left), equals(0))


@pytest.mark.rule("WSK-DATA-016")
def test_receive_before_the_callback(scene: Scene, observe: Observe) -> None:
    """With a receive always queued and the event on, every byte comes once and in order, whichever way."""
    rule = observe.rule("WSK-DATA-016")
    pair = _evented(scene, rule, Answer.take(uses=0))
    pieces: list[tuple[int, bytes | None, int]] = []
    receiving = scene.wsk.receive(pair.socket, 64)
    stream = abi.pattern(96 * 50, 9)
    for number in range(50):
        # more than the queued receive takes: the rest is the callback's, or the next receive's
        pair.peer.send(stream[number * 96 : number * 96 + 96])
        if receiving.wait(scene.within(2.0)).final:
            record = receiving.result(scene.within())
            pieces.append((record.completion_sequence, record.data, len(record.data)))
            receiving = scene.wsk.receive(pair.socket, 64)
    pair.peer.finish()
    record = receiving.result(scene.within())
    pieces.append((record.completion_sequence, record.data, len(record.data)))
    received = sum(length for _, _, length in pieces)

    def all_told() -> bool | NotYet:
        told = received + sum(event.length for event in scene.callbacks(Callback.RECEIVE, pair.socket))
        return True if told >= len(stream) else NotYet(f"{told} bytes")

    # the last receive may have taken what came before the callback's last piece
    with contextlib.suppress(DeadlineExceeded):
        wait_until(all_told, scene.within(2.0), what="the rest by the callback", tick_s=0.02)
    heard = scene.callbacks(Callback.RECEIVE, pair.socket)
    pieces += [(event.sequence, None, event.length) for event in heard]
    rule.must("bytes in all", sum(length for _, _, length in pieces), equals(len(stream)))
    # the driver numbers a completion when its routine runs, which a callback that came later may preempt: the numbers
    # do not show the order in which WSK gave the bytes out; that all pieces make up the stream does
    digests = {event.sequence: event.digest for event in heard}
    left = sorted(pieces)
    in_order = True
    at = 0
    while left:
        fits = [
            piece
            for piece in left
            if (abi.digest(piece[1]) if piece[1] is not None else digests[piece[0]])
            == abi.digest(stream[at : at + piece[2]])
        ]
        rule.must("each piece", bool(fits), holds("the next of the stream", "something else"))
        in_order = in_order and fits[0] == left[0]
        left.remove(fits[0])
        at += fits[0][2]
    rule.record("numbers of completions and callbacks", "in the stream's order" if in_order else "in another order")
    rule.record("pieces by the callback", len(heard))


@pytest.mark.rule("WSK-DATA-017")
def test_graceful_disconnect_event(scene: Scene, observe: Observe) -> None:
    """The peer's FIN gives one disconnect callback without the abortive flag; sending still works."""
    rule = observe.rule("WSK-DATA-017")
    pair = _evented(scene, rule, Answer.take(uses=0), mask=EventMask.DISCONNECT | EventMask.SEND_BACKLOG)
    pair.peer.finish()
    (enter, *_) = scene.hear(rule, "disconnect callback", Callback.DISCONNECT, pair.socket)
    rule.must("abortive flag after FIN", bool(enter.flags & DisconnectFlag.ABORTIVE), equals(False))
    rule.must("send after FIN", scene.wsk.send(pair.socket, b"still open"), succeeded())
    rule.must("the peer reads", pair.peer.receive(10), equals(b"still open"))
    rule.must("disconnect callbacks", len(scene.callbacks(Callback.DISCONNECT, pair.socket)), equals(1))
    rule.record("send backlogs told", [event.length for event in scene.callbacks(Callback.SEND_BACKLOG, pair.socket)])


@pytest.mark.rule("WSK-DATA-017")
def test_abortive_disconnect_event(scene: Scene, observe: Observe) -> None:
    """The peer's reset gives a disconnect callback with the abortive flag; sending fails."""
    rule = observe.rule("WSK-DATA-017")
    pair = _evented(scene, rule, Answer.take(uses=0), mask=EventMask.DISCONNECT)
    pair.peer.reset()
    (enter, *_) = scene.hear(rule, "disconnect callback", Callback.DISCONNECT, pair.socket)
    rule.must("abortive flag after reset", bool(enter.flags & DisconnectFlag.ABORTIVE), equals(True))
    rule.must("send after reset", scene.wsk.send(pair.socket, b"x"), failed())
