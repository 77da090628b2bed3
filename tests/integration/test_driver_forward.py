"""IRPs that come from above: the very request goes on to WSK, and its end is the caller's, exactly once."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest
from local_wine import DEVICE, MISSING, LocalWine, Prepared

from wsklab import abi
from wsklab.abi import (
    CallContext,
    CancelOutcome,
    Category,
    Fault,
    Forward,
    Function,
    InformationKind,
    Ioctl,
    IrpSource,
    RecordFlag,
    State,
    Switch,
)
from wsklab.channel.device import PendingIoctl
from wsklab.channel.operations import DriverRefusal, Operation, WskClient
from wsklab.deadline import Deadline, pause
from wsklab.errors import ChannelLost
from wsklab.network import connect, listen
from wsklab.records import SocketAddress

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not on this host: {MISSING}")

ANY = SocketAddress.of("0.0.0.0")  # noqa: S104 -- the driver's side of a connection, in a namespace of its own
ALL = (Forward.BARE, Forward.PASS, Forward.HOLD)
SEEN = (Forward.PASS, Forward.HOLD)
#: What the completion routine returns: the IRP goes on at once, or is kept and completed by a work item.
ROUTINE = {Forward.PASS: 0, Forward.HOLD: abi.STATUS["STATUS_MORE_PROCESSING_REQUIRED"]}


def soon(seconds: float = 15.0) -> Deadline:
    return Deadline.after(seconds)


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory, prepared_wine: Prepared) -> Iterator[LocalWine]:
    wine = LocalWine(tmp_path_factory.mktemp("forward"), prepared_wine)
    wine.start()
    yield wine
    wine.end()


@pytest.fixture
def client(wine: LocalWine) -> Iterator[WskClient]:
    with wine.client() as client:
        yield client


@contextmanager
def connection(client: WskClient, wine: LocalWine) -> Iterator[tuple[int, socket.socket]]:
    """A connected socket of the driver and its peer; closed afterwards unless the test has done so."""
    with listen(wine.via, ("127.0.0.1", 0)) as server:
        number = client.socket(Category.CONNECTION).new_socket
        client.bind(number, ANY)
        assert client.connect(number, SocketAddress.of("127.0.0.1", server.getsockname()[1])).succeeded
        peer, _ = server.accept()
    with peer:
        yield number, peer
    with suppress(ChannelLost):  # the test may have ended the client's process
        if any(entry.number == number for entry in client.sockets()):
            client.close_socket(number)


def send_down(client: WskClient, operation: Operation, mode: Forward) -> tuple[int, PendingIoctl]:
    """Forward an operation and go on; its number, and the request that will end with WSK's answer."""
    number = client.next_operation()
    operation = replace(operation, op_id=number, forward=mode, irp_source=IrpSource.FORWARDED)
    return number, client._device.submit_ioctl(Ioctl.FORWARD, operation.encode(), 0, soon(30))


def at_rest(client: WskClient) -> None:
    deadline = soon(5)
    while (
        not (mine := client.ledger().client).at_rest or mine.operations_held or mine.mdls_allocated != mine.mdls_freed
    ):
        assert not deadline.expired, mine
        pause(0.02)


@pytest.mark.parametrize("mode", ALL, ids=lambda mode: mode.name)
@pytest.mark.parametrize("context", [CallContext.CALLER, CallContext.RAISED], ids=lambda context: context.name)
def test_a_receive_that_pends(wine: LocalWine, client: WskClient, mode: Forward, context: CallContext) -> None:
    """The request ends when the peer sends, with WSK's status and number of bytes; the record holds what was seen."""
    with connection(client, wine) as (number, peer):
        operation, request = send_down(client, Operation.receive(number, 64, call_context=context), mode)
        before = client.fetch(operation)
        assert before.has(RecordFlag.FORWARDED | RecordFlag.RETURNED)
        assert before.state is (State.COMPLETED if mode is Forward.BARE else State.OUTSTANDING)
        peer.sendall(b"twenty-two bytes, here")
        answer = request.result(soon())
        assert (answer.status, answer.information, answer.data) == (0, 22, b"")
        record = client.wait(operation, soon(), release=True)
        if mode is Forward.BARE:
            assert (record.completion_count, record.data) == (0, b"")
        else:
            assert (record.completion_count, record.data) == (1, b"twenty-two bytes, here")
            assert record.has(RecordFlag.IRP_MATCH | RecordFlag.CONTEXT_MATCH | RecordFlag.REST_INTACT)
            assert record.routine_status & 0xFFFFFFFF == ROUTINE[mode]
            assert not record.has(RecordFlag.IRP_FREED), "it is not ours to free"
    at_rest(client)


@pytest.mark.parametrize("mode", ALL, ids=lambda mode: mode.name)
def test_a_send_that_ends_at_once(wine: LocalWine, client: WskClient, mode: Forward) -> None:
    """An operation that is complete before its call has returned ends the request as well, once."""
    with connection(client, wine) as (number, peer):
        for index in range(20):
            operation, request = send_down(client, Operation.send(number, b"seven %d" % (index % 10)), mode)
            answer = request.result(soon())
            assert (answer.status, answer.information) == (0, 7)
            client.release(operation)
        got = b""
        while len(got) < 140:
            got += peer.recv(200)
        assert got == b"".join(b"seven %d" % (index % 10) for index in range(20))
    at_rest(client)


@pytest.mark.parametrize("mode", SEEN, ids=lambda mode: mode.name)
def test_an_accepted_socket_is_no_number_for_the_caller(wine: LocalWine, client: WskClient, mode: Forward) -> None:
    """WSK's Information is an address: the caller gets 0, the record the socket's number."""
    port = wine.free_port()
    listener = client.socket(Category.LISTEN).new_socket
    client.bind(listener, SocketAddress.of("127.0.0.1", port))
    accepted = client.next_socket()
    operation, request = send_down(
        client, Operation(function=Function.ACCEPT, socket=listener, new_socket=accepted), mode
    )
    peer = connect(wine.via, ("127.0.0.1", port), soon())
    answer = request.result(soon())
    assert (answer.status, answer.information) == (0, 0)
    record = client.wait(operation, soon(), release=True)
    assert record.information_kind is InformationKind.SOCKET
    assert client.send(accepted, b"usable").information == 6
    assert peer.recv(16) == b"usable"
    for number in (accepted, listener):
        assert client.close_socket(number).succeeded
    peer.close()
    at_rest(client)


@pytest.mark.parametrize("mode", ALL, ids=lambda mode: mode.name)
def test_a_failure_is_the_callers(wine: LocalWine, client: WskClient, mode: Forward) -> None:
    """Connecting without a bind: the request ends with WSK's own status."""
    number = client.socket(Category.CONNECTION).new_socket
    address = SocketAddress.of("127.0.0.1", wine.free_port())
    operation, request = send_down(client, Operation.connect(number, address), mode)
    assert request.result(soon()).status == abi.STATUS["STATUS_INVALID_DEVICE_STATE"]
    record = client.wait(operation, soon(), release=True)
    assert record.returned_status & 0xFFFFFFFF == abi.STATUS["STATUS_INVALID_DEVICE_STATE"]
    assert record.completion_count == (0 if mode is Forward.BARE else 1)
    client.close_socket(number)
    at_rest(client)


@pytest.mark.parametrize("mode", ALL, ids=lambda mode: mode.name)
def test_closing_the_socket_ends_the_request(wine: LocalWine, client: WskClient, mode: Forward) -> None:
    """What is queued on a socket ends with it, the caller's request as well; memory that WSK had goes back then."""
    with connection(client, wine) as (number, _peer):
        before = client.ledger().client.pool_bytes
        operations = [send_down(client, Operation.receive(number, 1000), mode) for _ in range(4)]
        for operation, _ in operations if mode is Forward.BARE else []:
            client.release(operation)
        assert client.ledger().client.pool_bytes > before + 4000
        assert client.close_socket(number).succeeded
        for operation, request in operations:
            assert request.result(soon()).status == abi.STATUS["STATUS_CANCELLED"]
            if mode is not Forward.BARE:
                client.release(operation)
        assert client.ledger().client.pool_bytes < before
    at_rest(client)


@pytest.mark.parametrize("mode", ALL, ids=lambda mode: mode.name)
def test_closing_the_handle_ends_the_request(wine: LocalWine, mode: Forward) -> None:
    """A process that dies with a request inside WSK leaves nothing behind."""
    control = wine.device_client()
    victim = WskClient(control.open_device(DEVICE))
    listener = victim.socket(Category.LISTEN).new_socket
    victim.bind(listener, SocketAddress.of("127.0.0.1", wine.free_port()))
    with connection(victim, wine) as (number, _peer):
        send_down(victim, Operation.receive(number, 64), mode)
        victim.ledger()
        wine.streams[-1].kill()
        with wine.client() as other:
            deadline = soon(10)
            while (driver := other.ledger().driver).sockets_opened != driver.sockets_closed or driver.outstanding:
                assert not deadline.expired, driver
                pause(0.05)
            assert other.hello().clients == 1


def test_a_cancel_of_the_operation(wine: LocalWine, client: WskClient) -> None:
    """The driver cancels the caller's IRP for as long as it knows it; one that nobody watches it leaves alone."""
    with connection(client, wine) as (number, _peer):
        for mode in ALL:
            operation, request = send_down(client, Operation.receive(number, 64), mode)
            outcome = client.cancel(operation)
            if mode is Forward.BARE:
                assert outcome is CancelOutcome.TOO_LATE
            else:
                assert outcome in (CancelOutcome.CALLED, CancelOutcome.MARKED)
        client.close_socket(number)
        assert request.result(soon()).status == abi.STATUS["STATUS_CANCELLED"]


def test_what_cannot_be_forwarded(wine: LocalWine, client: WskClient) -> None:
    """Refused before any call: other IRP sources, closes, threads of our own, results that only a routine can hide."""
    with connection(client, wine) as (number, _peer):
        send = Operation.send(number, b"x")
        refused = [
            (send, Forward.NONE),
            (Operation.close(number), Forward.PASS),
            (Operation.create(), Forward.PASS),
            (Operation.receive(number, 1, call_context=CallContext.WORKER), Forward.PASS),
            (Operation.receive(number, 1, delay_ms=5), Forward.HOLD),
            (Operation.receive(number, 1, switches=Switch.HELD), Forward.HOLD),
            (Operation.receive(number, 1, switches=Switch.KEEP_IRP), Forward.HOLD),
            (Operation.receive(number, 1, stack_count=2, second_location=True), Forward.PASS),
            (Operation(function=Function.ACCEPT, socket=number, new_socket=90), Forward.BARE),
            (Operation.receive(number, 1, then_op=77), Forward.BARE),
            (Operation(function=Function.SOCKET_INFO, socket=number), Forward.PASS),
        ]
        for operation, mode in refused:
            _, request = send_down(client, operation, mode)
            assert request.result(soon()).status == abi.STATUS["STATUS_INVALID_PARAMETER"], operation
        for operation in (replace(send, irp_source=IrpSource.FORWARDED), replace(send, forward=Forward.PASS)):
            with pytest.raises(DriverRefusal) as caught:
                client.run(operation)
            assert caught.value.status == abi.STATUS["STATUS_INVALID_PARAMETER"]
        encoded = replace(send, op_id=88, forward=Forward.PASS, irp_source=IrpSource.FORWARDED).encode()
        answer = client._device.ioctl(Ioctl.FORWARD, encoded, 64, soon())
        assert answer.status == abi.STATUS["STATUS_INVALID_PARAMETER"], (
            "an output buffer would be filled with the input"
        )
        _, request = send_down(client, Operation.receive(4242, 1), Forward.PASS)
        assert request.result(soon()).status == abi.STATUS["STATUS_NOT_FOUND"]


@pytest.mark.parametrize("kind", [Fault.POOL, Fault.MDL, Fault.WORK_ITEM, Fault.COMPLETION], ids=lambda kind: kind.name)
def test_every_failure(wine: LocalWine, client: WskClient, kind: Fault) -> None:
    """Without memory, MDL, work item or routine the caller's request ends with that, and the next one works."""
    with connection(client, wine) as (number, peer):
        for index in range(8):
            client.faults(kind, skip=index, deny=1, clear=True)
            operation, request = send_down(client, Operation.send(number, b"x" * 8), Forward.HOLD)
            answer = request.result(soon())
            denied = client.faults().denied[kind]
            client.faults(clear=True)
            if not denied:
                assert index > 0
                break
            assert answer.status == abi.STATUS["STATUS_INSUFFICIENT_RESOURCES"]
        else:
            pytest.fail("it never succeeded")
        assert (answer.status, answer.information) == (0, 8)
        assert peer.recv(16) == b"x" * 8
        client.wait(operation, soon(), release=True)
