"""How fast WSK is under the driver, by the driver's own clock wherever both ends of a span are the driver's.

    wsklab run --guest P --workers 0 --case 'test_wsk_speed.py::*' -- tests/performance/cases

A case here states numbers, not rules: each has a unit and says which direction is better. They compare two builds of a
driver, or two builds of Windows, on one host. On Wine they tell of Wine and the emulator; on the shim, of sanitizers.
"""

from __future__ import annotations

import threading
import time

import pytest

from wsklab.abi import Category, Fill, Switch
from wsklab.channel.operations import Operation
from wsklab.pytest_plugin import Measure, Scene

pytestmark = [pytest.mark.performance, pytest.mark.exclusive]

#: How often; a guest under emulation takes 20 ms for one operation and its record.
TIMES = 100
#: Half of the sockets that one client may have.
MANY = 128
PING = b"ping"


def test_create_and_close(scene: Scene, measure: Measure) -> None:
    """From the call of WskSocket, and of WskCloseSocket, to the completion."""
    created, closed = [], []
    for _ in range(TIMES):
        made = scene.wsk.socket(Category.LISTEN)
        assert made.succeeded
        end = scene.wsk.close_socket(made.new_socket)
        assert end.succeeded
        created.append(made.completion_ns - made.enter_ns)
        closed.append(end.completion_ns - end.enter_ns)
    measure.histogram("WskSocket", created)
    measure.histogram("WskCloseSocket", closed)


def test_accepted_connections(scene: Scene, measure: Measure) -> None:
    """Connections that wait already, accepted one after the other: from the first completion to the last."""
    made = scene.wsk.socket(Category.LISTEN)
    assert scene.wsk.bind(made.new_socket, scene.address()).succeeded
    ends = []
    for _ in range(TIMES):
        connection = scene.peer.connect(scene.guest.port())
        record = scene.wsk.accept(made.new_socket).result(scene.within())
        assert record.succeeded
        ends.append(record.completion_ns)
        connection.reset()
        scene.wsk.close_socket(record.new_socket)
    measure("accepted connections", (len(ends) - 1) / ((ends[-1] - ends[0]) / 1e9), "1/s", better="higher")


def test_echo_round_trip(scene: Scene, measure: Measure) -> None:
    """A peer's message is sent back by the receive's own completion routine: no request travels in between."""
    made = scene.wsk.socket(Category.LISTEN)
    assert scene.wsk.bind(made.new_socket, scene.address()).succeeded
    accepting = scene.wsk.accept(made.new_socket)
    peer = scene.peer.connect(scene.guest.port())
    socket = accepting.result(scene.within()).new_socket
    spans = []
    for _ in range(TIMES):
        held = Operation.send(socket, PING, op_id=scene.wsk.next_operation(), switches=Switch.HELD)
        sending = scene.wsk.submit(held)
        receiving = scene.wsk.receive(socket, len(PING), then_op=held.op_id)
        began = time.perf_counter_ns()
        peer.send(PING)
        assert peer.receive(len(PING)) == PING
        spans.append(time.perf_counter_ns() - began)
        assert receiving.result(scene.within()).succeeded
        assert sending.result(scene.within()).succeeded
    measure.histogram("echo round trip", spans)


@pytest.mark.parametrize("size", [4 << 10, 64 << 10, 1 << 20], ids=["4KiB", "64KiB", "1MiB"])
def test_throughput(scene: Scene, measure: Measure, size: int) -> None:
    """Sends of one size to a peer that reads all the time: bytes by the time inside WSK."""
    made = scene.wsk.socket(Category.LISTEN)
    assert scene.wsk.bind(made.new_socket, scene.address()).succeeded
    accepting = scene.wsk.accept(made.new_socket)
    peer = scene.peer.connect(scene.guest.port())
    socket = accepting.result(scene.within()).new_socket
    count = max(4, min(TIMES, (4 << 20) // size))
    reader = threading.Thread(target=peer.receive, args=(size * count,), name="peer reads")
    reader.start()
    spent = 0
    for _ in range(count):
        sent = scene.wsk.submit(Operation.send(socket, b"", fill=Fill.PATTERN, buffer_length=size))
        record = sent.result(scene.within(60.0))
        assert record.succeeded
        spent += record.completion_ns - record.enter_ns
    reader.join()
    measure("throughput", size * count / (spent / 1e9) / 1e6, "MB/s", better="higher")


def test_many_sockets(scene: Scene, measure: Measure) -> None:
    """The last of many sockets should be created as fast as the first."""
    records = [scene.wsk.socket(Category.LISTEN) for _ in range(MANY)]
    assert all(record.succeeded for record in records)
    spans = [record.completion_ns - record.enter_ns for record in records]
    quarter = MANY // 4
    measure("first quarter of the sockets", sum(spans[:quarter]) / quarter / 1e3, "us", better="lower")
    measure("last quarter of the sockets", sum(spans[-quarter:]) / quarter / 1e3, "us", better="lower")
    began = time.perf_counter()
    for record in records:
        scene.wsk.close_socket(record.new_socket)
    measure("closing them, with the control channel", (time.perf_counter() - began) / MANY * 1e3, "ms", better="lower")
