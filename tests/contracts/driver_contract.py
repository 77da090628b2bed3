"""What every driver must do; run against the plugin's model in memory and against the real driver in the kernel shim.

A test module makes a `Harness` per implementation and parametrizes over `CONTRACT`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from wsklab import abi
from wsklab.abi import CancelOutcome, Category, State, Switch
from wsklab.channel.operations import DriverRefusal, Operation, WskClient
from wsklab.deadline import Deadline
from wsklab.records import Record, SocketAddress

__all__ = ["CONTRACT", "Harness"]

#: Nothing listens there: the port of a socket that is bound and does not listen.
_QUIET_S = 0.05


@dataclass(frozen=True)
class Harness:
    """One implementation under the contract.

    Attributes:
        client: a fresh handle.
        reach: binds a listening socket to an address of the loopback; where a peer of the host finds it.
    """

    client: WskClient
    reach: Callable[[WskClient, int], tuple[str, int]]


def _soon() -> Deadline:
    return Deadline.after(10.0)


def _status(record: Record) -> str:
    assert record.completion_count == 1, record.describe()
    return abi.status_name(record.completion_status)


def _accepted(harness: Harness) -> tuple[int, int, socket.socket]:
    """A listener, a connection that it accepted, and the peer."""
    client = harness.client
    listener = client.socket(Category.LISTEN).new_socket
    place = harness.reach(client, listener)
    accepting = client.accept(listener)
    peer = socket.create_connection(place, 10)
    record = accepting.result(_soon())
    assert record.succeeded, record.describe()
    return listener, record.new_socket, peer


def check_sockets_are_listed_and_closed(harness: Harness) -> None:
    """Of each category one, by its number, until it is closed; then the ledger is at rest."""
    client = harness.client
    numbers = [
        client.socket(category).new_socket for category in (Category.BASIC, Category.LISTEN, Category.CONNECTION)
    ]
    numbers.append(client.create_listening_socket_sample().new_socket)
    assert [entry.number for entry in client.sockets()] == numbers
    assert all(client.close_socket(number).succeeded for number in numbers)
    assert client.sockets() == ()
    ledger = client.ledger().client
    assert (ledger.at_rest, ledger.sockets_opened, ledger.sockets_closed) == (True, 4, 4)


def check_what_is_no_socket_is_refused(harness: Harness) -> None:
    """A family that nobody has: completed once, with a failure, and no socket."""
    record = harness.client.socket(Category.LISTEN, 99)
    assert _status(record) == "STATUS_NOT_SUPPORTED"
    assert harness.client.sockets() == ()


def check_a_socket_that_is_not_there(harness: Harness) -> None:
    """WSK is not called, and the record says why."""
    record = harness.client.close_socket(77)
    assert (record.state, abi.status_name(record.driver_status)) == (State.NOT_STARTED, "STATUS_NOT_FOUND")
    assert harness.client.ledger().client.issued == 0


def check_operations_have_numbers_of_their_own(harness: Harness) -> None:
    """One that is in use is refused, one that nobody has cannot be awaited."""
    client = harness.client
    client.run(Operation.sample_listen(op_id=5), release=False)
    with pytest.raises(DriverRefusal) as taken:
        client.run(Operation.sample_listen(op_id=5))
    with pytest.raises(DriverRefusal) as unknown:
        client.wait(6, _soon())
    assert abi.status_name(taken.value.status) == "STATUS_OBJECT_NAME_COLLISION"
    assert abi.status_name(unknown.value.status) == "STATUS_NOT_FOUND"


def check_a_socket_is_bound_once(harness: Harness) -> None:
    """The second bind fails, and the first one holds."""
    client = harness.client
    number = client.socket(Category.CONNECTION).new_socket
    assert client.bind(number, SocketAddress.of("127.0.0.1")).succeeded
    assert not client.bind(number, SocketAddress.of("127.0.0.1")).succeeded


def check_a_connection_is_accepted(harness: Harness) -> None:
    """An accept waits for a peer; bytes go both ways; the peer's end is a receive without bytes."""
    listener, number, peer = _accepted(harness)
    client = harness.client
    with peer:
        receiving = client.receive(number, 64)
        assert not receiving.wait(Deadline.after(_QUIET_S)).final
        peer.sendall(b"question")
        record = receiving.result(_soon())
        assert (record.data, record.information) == (b"question", 8)
        assert client.send(number, b"answer").information == 6
        assert peer.recv(64) == b"answer"
    record = client.receive(number, 64).result(_soon())
    assert (_status(record), record.information) == ("STATUS_SUCCESS", 0)
    assert client.close_socket(number).succeeded
    assert client.close_socket(listener).succeeded
    assert client.ledger().client.at_rest


def check_a_connection_is_made(harness: Harness) -> None:
    """Only a bound socket connects; where nobody listens it is refused."""
    client = harness.client
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        there = SocketAddress.of(*server.getsockname())
        number = client.socket(Category.CONNECTION).new_socket
        assert _status(client.connect(number, there)) == "STATUS_INVALID_DEVICE_STATE"
        assert client.bind(number, SocketAddress.of("127.0.0.1")).succeeded
        assert client.connect(number, there).succeeded
        peer, _ = server.accept()
        with peer:
            assert client.send(number, b"hello").succeeded
            assert peer.recv(64) == b"hello"
    other = client.socket(Category.CONNECTION).new_socket
    assert client.bind(other, SocketAddress.of("127.0.0.1")).succeeded
    assert _status(client.connect(other, there)) == "STATUS_CONNECTION_REFUSED"


def check_sending_needs_a_connection(harness: Harness) -> None:
    """Neither a send nor a receive succeeds before there is one."""
    client = harness.client
    number = client.socket(Category.CONNECTION).new_socket
    assert client.bind(number, SocketAddress.of("127.0.0.1")).succeeded
    assert _status(client.send(number, b"x")) == "STATUS_INVALID_DEVICE_STATE"
    assert _status(client.receive(number, 8).result(_soon())) == "STATUS_INVALID_DEVICE_STATE"


def check_what_waits_can_be_cancelled(harness: Harness) -> None:
    """It ends with STATUS_CANCELLED, once; afterwards it is too late."""
    _, number, peer = _accepted(harness)
    with peer:
        receiving = harness.client.receive(number, 64)
        assert receiving.cancel() is CancelOutcome.CALLED
        assert _status(receiving.wait(_soon())) == "STATUS_CANCELLED"
        assert receiving.cancel() is CancelOutcome.TOO_LATE


def check_a_close_ends_what_waits(harness: Harness) -> None:
    """A receive that waits is completed before its socket is gone."""
    _, number, peer = _accepted(harness)
    with peer:
        receiving = harness.client.receive(number, 64)
        closed = harness.client.close_socket(number)
        record = receiving.result(_soon())
    assert (_status(record), closed.succeeded) == ("STATUS_CANCELLED", True)
    assert record.completion_sequence < closed.completion_sequence


def check_a_held_operation_waits_for_another(harness: Harness) -> None:
    """It starts when the one that names it has ended, and not before."""
    client = harness.client
    number = client.socket(Category.LISTEN).new_socket
    held = client.submit(Operation.close(number, switches=Switch.HELD))
    assert client.fetch(held.op_id).state is State.NEW
    assert client.bind(number, SocketAddress.of("127.0.0.1"), then_op=held.op_id).succeeded
    assert held.result(_soon()).succeeded
    assert client.sockets() == ()


def check_a_handle_can_be_drained(harness: Harness) -> None:
    """Nothing outstanding: at once; something: when the time is over, and it is counted."""
    assert harness.client.drain(_soon()).outstanding == 0
    _, number, peer = _accepted(harness)
    with peer:
        harness.client.receive(number, 64)
        drained = harness.client.drain(Deadline.after(1))
    assert (drained.outstanding, drained.timed_out) == (1, True)


CONTRACT: tuple[Callable[[Harness], None], ...] = tuple(
    check for name, check in sorted(globals().items()) if name.startswith("check_")
)
