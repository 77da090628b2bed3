"""IRPs from above in the kernel shim: cancelled at any time, completed exactly once, nothing left over."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from local_shim import LOOPBACK, MISSING, LocalShim, address_of, peer_listener

from wsklab import abi
from wsklab.abi import CallContext, CancelOutcome, Category, Forward, Function, Ioctl, IrpSource, RecordFlag, State
from wsklab.channel.device import PendingIoctl
from wsklab.channel.operations import IPPROTO_UDP, SOCK_DGRAM, Operation, WskClient
from wsklab.deadline import Deadline, pause
from wsklab.records import AF_INET

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not on this host: {MISSING}")

ALL = (Forward.BARE, Forward.PASS, Forward.HOLD)
STATUS = abi.STATUS


def soon(seconds: float = 15.0) -> Deadline:
    return Deadline.after(seconds)


@contextmanager
def connection(client: WskClient) -> Iterator[tuple[int, socket.socket]]:
    with peer_listener() as server:
        number = client.socket(Category.CONNECTION).new_socket
        client.bind(number, LOOPBACK)
        assert client.connect(number, address_of(server)).succeeded
        peer, _ = server.accept()
    with peer:
        yield number, peer


def send_down(client: WskClient, operation: Operation, mode: Forward) -> tuple[int, PendingIoctl]:
    number = client.next_operation()
    operation = replace(operation, op_id=number, forward=mode, irp_source=IrpSource.FORWARDED)
    return number, client._device.submit_ioctl(Ioctl.FORWARD, operation.encode(), 0, soon(30))


@pytest.mark.parametrize("mode", ALL, ids=lambda mode: mode.name)
@pytest.mark.parametrize("context", [CallContext.CALLER, CallContext.RAISED], ids=lambda context: context.name)
def test_both_ways_through_a_connection(client: WskClient, mode: Forward, context: CallContext) -> None:
    """A receive that pends and a send that does not: WSK's status and bytes for the caller; IRQL and IRP are told."""
    with connection(client) as (number, peer):
        operation, request = send_down(client, Operation.receive(number, 64, call_context=context), mode)
        peer.sendall(b"from above")
        answer = request.result(soon())
        assert (answer.status, answer.information) == (0, 10)
        record = client.wait(operation, soon(), release=True)
        assert record.call_irql == (2 if context is CallContext.RAISED else 0)
        assert record.stack_count == 2
        if mode is not Forward.BARE:
            assert record.data == b"from above"
            assert record.has(RecordFlag.IRP_MATCH | RecordFlag.CONTEXT_MATCH | RecordFlag.FORWARDED)
            assert record.completion_location == 2
        operation, request = send_down(client, Operation.send(number, b"and back", call_context=context), mode)
        assert request.result(soon()).information == 8
        client.release(operation)
        assert peer.recv(64) == b"and back"


@pytest.mark.parametrize("mode", ALL, ids=lambda mode: mode.name)
def test_the_callers_own_cancel(client: WskClient, mode: Forward) -> None:
    """CancelIoEx reaches WSK's cancel routine: the request ends with STATUS_CANCELLED, and the socket goes on."""
    with connection(client) as (number, peer):
        operation, request = send_down(client, Operation.receive(number, 64), mode)
        request.cancel()
        assert request.result(soon()).status == STATUS["STATUS_CANCELLED"]
        record = client.wait(operation, soon(), release=True)
        assert record.completion_count == (0 if mode is Forward.BARE else 1)
        peer.sendall(b"still here")
        assert client.receive(number, 64).result(soon()).data == b"still here"


@pytest.mark.parametrize("mode", [Forward.PASS, Forward.HOLD], ids=lambda mode: mode.name)
def test_the_drivers_cancel(client: WskClient, mode: Forward) -> None:
    """IoCancelIrp from another request: a cancel routine ran, and the canceller let the IRP go only afterwards."""
    with connection(client) as (number, _peer):
        operation, request = send_down(client, Operation.receive(number, 64), mode)
        assert client.cancel(operation) is CancelOutcome.CALLED
        assert request.result(soon()).status == STATUS["STATUS_CANCELLED"]
        record = client.wait(operation, soon(), release=True)
        assert record.completion_status & 0xFFFFFFFF == STATUS["STATUS_CANCELLED"]
        assert record.has(RecordFlag.IRP_CANCEL | RecordFlag.CANCEL_REQUESTED)


@pytest.mark.parametrize("seed", range(1, 7))
@pytest.mark.parametrize("mode", ALL, ids=lambda mode: mode.name)
def test_data_cancels_and_closes_at_once(tmp_path_factory: pytest.TempPathFactory, mode: Forward, seed: int) -> None:
    """Whatever comes first ends each request once: the shim aborts on a second completion and on an IRP in use."""
    shim = LocalShim(tmp_path_factory.mktemp("shim"), "--random", "--seed", str(seed))
    ends = {0, STATUS["STATUS_CANCELLED"]}
    with shim.clients() as (client,):
        for _ in range(6):
            with connection(client) as (number, peer):
                requests = [send_down(client, Operation.receive(number, 4), mode) for _ in range(8)]
                peer.sendall(b"1234" * 3)
                for operation, request in requests[2:5]:
                    client.cancel(operation)
                    request.cancel()
                closing = client.submit(Operation.close(number))
                for operation, request in requests:
                    assert request.result(soon()).status in ends
                    assert client.wait(operation, soon(), release=True).final
                assert closing.result(soon()).succeeded
        assert client.ledger().client.at_rest


@pytest.mark.parametrize("mode", ALL, ids=lambda mode: mode.name)
def test_a_client_that_goes(shim: LocalShim, mode: Forward) -> None:
    """Requests inside WSK end with the handle."""
    with shim.clients(2) as (client, other), connection(client) as (number, _peer):
        for _ in range(5):
            send_down(client, Operation.receive(number, 1000), mode)
        client.ledger()
        client.close()
        deadline = soon()
        while other.hello().clients != 1 or other.ledger().driver.outstanding:
            assert not deadline.expired
            pause(0.02)


def test_other_functions(client: WskClient) -> None:
    """Datagrams, addresses, options, disconnecting, accepting: all that acts on a socket goes this way, too."""
    datagram = client.socket(Category.DATAGRAM, AF_INET, SOCK_DGRAM, IPPROTO_UDP).new_socket
    _, request = send_down(client, Operation.bind(datagram, LOOPBACK), Forward.PASS)
    assert request.result(soon()).status == 0
    operation, request = send_down(client, Operation.local_address(datagram), Forward.HOLD)
    assert (request.result(soon()).status, request.result(soon()).information) == (0, 0)
    local = client.wait(operation, soon()).local
    assert local is not None
    _, request = send_down(client, Operation.send_to(datagram, b"to itself", local), Forward.BARE)
    assert request.result(soon()).information == 9
    operation, request = send_down(client, Operation.receive_from(datagram, 64), Forward.HOLD)
    assert request.result(soon()).information == 9
    assert client.wait(operation, soon()).data == b"to itself"
    _, request = send_down(client, Operation.set_option(datagram, 0x1002, 4096), Forward.PASS)
    assert request.result(soon()).status == 0
    operation, request = send_down(client, Operation.get_option(datagram, 0x1002), Forward.HOLD)
    assert request.result(soon()).information == 4
    assert client.wait(operation, soon()).number >= 4096
    refused = [
        (Operation.get_option(datagram, 0x1002), Forward.BARE),
        (Operation(function=Function.CONTROL_CLIENT, control_code=2), Forward.PASS),
        (Operation.address_info("127.0.0.1"), Forward.PASS),
        (Operation(function=Function.RELEASE_DATA, socket=datagram, object=1), Forward.PASS),
    ]
    for one, mode in refused:
        _, request = send_down(client, one, mode)
        assert request.result(soon()).status == STATUS["STATUS_INVALID_PARAMETER"], one
    with connection(client) as (number, peer):
        _, request = send_down(client, Operation.disconnect(number), Forward.PASS)
        assert request.result(soon()).status == 0
        assert peer.recv(1) == b""


def test_a_failure_that_wsk_returns(client: WskClient) -> None:
    """The status is the caller's, the record's is the same, and a second request is served."""
    for mode in ALL:
        number = client.socket(Category.CONNECTION).new_socket
        operation, request = send_down(client, Operation.connect(number, LOOPBACK), mode)
        assert request.result(soon()).status == STATUS["STATUS_INVALID_DEVICE_STATE"]
        record = client.wait(operation, soon(), release=True)
        assert record.state is State.COMPLETED
        seen = record.returned_status if mode is Forward.BARE else record.completion_status
        assert seen & 0xFFFFFFFF in (STATUS["STATUS_INVALID_DEVICE_STATE"], STATUS["STATUS_PENDING"])
        assert client.close_socket(number).succeeded
