"""Connections, datagrams and their ends on the driver, against the shim's provider and sockets of the host."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from local_shim import LOOPBACK, LocalShim, address_of, peer_listener

from wsklab import abi, wsk
from wsklab.abi import (
    STATUS,
    Action,
    AddressUse,
    Callback,
    CallContext,
    Category,
    Dispatch,
    Fill,
    IrpSource,
    MdlShape,
    ObjectKind,
    RecordFlag,
    State,
    Switch,
)
from wsklab.channel.operations import IPPROTO_UDP, SOCK_DGRAM, Answer, Operation, WskClient
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.event_records import EventBatch
from wsklab.records import SocketAddress
from wsklab.wsk import DisconnectFlag, EventMask, MessageFlag, ReceiveFlag, SocketIoctl

GUARDS = RecordFlag.GUARDS_CHECKED | RecordFlag.GUARDS_INTACT
IP_LEVEL, IP_PKTINFO, IPV6_LEVEL = 0, 19, 41


def soon(seconds: float = 10.0) -> Deadline:
    return Deadline.after(seconds)


def connected(client: WskClient, host: str = "127.0.0.1", **more: object) -> tuple[int, socket.socket]:
    """A connection by WskSocketConnect, and the peer's end."""
    with peer_listener(host) as server:
        record = client.socket_connect(SocketAddress.of(host), address_of(server), **more)
        assert record.succeeded, record.describe()
        peer, _ = server.accept()
    peer.settimeout(10)
    return record.new_socket, peer


def datagram(client: WskClient, host: str = "127.0.0.1", **more: object) -> tuple[int, SocketAddress]:
    """A bound datagram socket of the driver and its address."""
    family = SocketAddress.of(host).family
    record = client.socket(Category.DATAGRAM, family, SOCK_DGRAM, IPPROTO_UDP, **more)
    assert record.succeeded, record.describe()
    assert client.bind(record.new_socket, SocketAddress.of(host)).succeeded
    local = client.local_address(record.new_socket).local
    assert local is not None
    return record.new_socket, local


def host_datagram(host: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.settimeout(10)
    return sock


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_socket_connect_gives_a_connected_socket(client: WskClient, host: str) -> None:
    """One call; addresses on both sides agree; family and category are told."""
    number, peer = connected(client, host)
    with peer:
        local, remote = client.local_address(number), client.remote_address(number)
        assert local.has(GUARDS)
        assert (local.local, remote.remote) == (
            SocketAddress.of(*peer.getpeername()[:2]),
            SocketAddress.of(*peer.getsockname()[:2]),
        )
        (entry,) = client.sockets()
        assert (entry.category, entry.family) == (Category.CONNECTION, SocketAddress.of(host).family)
        assert client.send(number, b"abc").information == 3
        assert peer.recv(10) == b"abc"


def test_a_socket_connect_that_fails_leaves_no_socket(client: WskClient) -> None:
    """Refused: one completion with a failure, and the number is free again (WSK-CONN-010)."""
    with peer_listener() as server:
        gone = address_of(server)
    record = client.socket_connect(LOOPBACK, gone, new_socket=5)
    assert (record.completion_count, record.succeeded) == (1, False)
    assert client.sockets() == ()
    mixed = client.socket_connect(LOOPBACK, SocketAddress.of("::1", gone.port), new_socket=5)
    assert not mixed.succeeded


def test_addresses_before_there_are_any(client: WskClient) -> None:
    """STATUS_INVALID_DEVICE_STATE, and the buffer is untouched (WSK-BIND-005, WSK-CONN-004)."""
    number = client.socket(Category.CONNECTION).new_socket
    for record in (client.local_address(number), client.remote_address(number)):
        assert record.completed == "STATUS_INVALID_DEVICE_STATE"
        assert record.local is None
        assert record.remote is None
        assert record.has(GUARDS)


def test_connect_ex_sends_with_the_connection(client: WskClient) -> None:
    """The peer reads the bytes; none without a buffer; flags are refused by WSK (WSK-CONN-012 and 013)."""
    with peer_listener() as server:
        for data in (b"", b"x" * 1460):
            number = client.socket(Category.CONNECTION).new_socket
            assert client.bind(number, LOOPBACK).succeeded
            record = client.run(Operation.connect_ex(number, address_of(server), data))
            assert record.succeeded, record.describe()
            with server.accept()[0] as peer:
                peer.settimeout(10)
                assert client.run(Operation.disconnect(number)).succeeded
                got = b""
                while chunk := peer.recv(4096):
                    got += chunk
                assert got == data
        number = client.socket(Category.CONNECTION).new_socket
        client.bind(number, LOOPBACK)
        flagged = client.run(Operation.connect_ex(number, address_of(server), b"x", flags=1))
        assert flagged.completed == "STATUS_INVALID_PARAMETER"


def test_a_graceful_disconnect_sends_its_data_first(client: WskClient) -> None:
    """The peer reads all of it and the end; afterwards receiving still works (WSK-DISC-001 to 003)."""
    number, peer = connected(client)
    with peer:
        client.send(number, b"before ")
        record = client.disconnect(number, b"lastly", chunks=(2, 4))
        assert record.succeeded, record.describe()
        assert record.has(GUARDS)
        got = b""
        while chunk := peer.recv(100):
            got += chunk
        assert got == b"before lastly"
        assert not client.send(number, b"more").succeeded
        peer.sendall(b"still here")
        assert client.receive(number, 100).result(soon()).data == b"still here"


def test_an_abortive_disconnect_resets(client: WskClient) -> None:
    """The peer sees a reset; the socket is only to be closed."""
    number, peer = connected(client)
    with peer:
        assert client.disconnect(number, flags=DisconnectFlag.ABORTIVE).succeeded
        with pytest.raises(ConnectionResetError):
            peer.recv(1)
        assert not client.send(number, b"x").succeeded
        assert client.close_socket(number).succeeded


def test_flags_of_receive_reach_wsk(client: WskClient) -> None:
    """WAITALL holds until the buffer is full (WSK-DATA-006)."""
    number, peer = connected(client)
    with peer:
        pending = client.receive(number, 10, flags=ReceiveFlag.WAITALL)
        peer.sendall(b"0123")
        assert not pending.wait(soon(0.2)).final
        peer.sendall(b"456789")
        assert pending.result(soon()).data == b"0123456789"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_datagram_goes_out_and_comes_in(client: WskClient, host: str) -> None:
    """Boundaries and the sender's address are kept."""
    number, local = datagram(client, host)
    with host_datagram(host) as peer:
        sent = client.send_to(number, b"to the peer", address_of(peer))
        assert (sent.information, sent.has(GUARDS)) == (11, True)
        data, sender = peer.recvfrom(100)
        assert (data, SocketAddress.of(*sender[:2])) == (b"to the peer", local)
        peer.sendto(b"one", (local.host, local.port))
        peer.sendto(b"second", (local.host, local.port))
        first = client.receive_from(number, 100).result(soon())
        second = client.receive_from(number, 100).result(soon())
        assert [first.data, second.data] == [b"one", b"second"]
        assert first.remote == address_of(peer)
        assert first.has(GUARDS | RecordFlag.REST_INTACT | RecordFlag.CONTROL_FLAGS)
        assert (first.control_flags, first.extra) == (0, b"")


def test_everything_optional_may_be_null(client: WskClient) -> None:
    """No address, no control information, no flags (WSK-DGRAM-002); an empty datagram both ways (WSK-DGRAM-014)."""
    number, local = datagram(client)
    with host_datagram() as peer:
        peer.sendto(b"plain", (local.host, local.port))
        record = client.receive_from(number, 100, address_use=AddressUse(0), argument_use=0).result(soon())
        assert (record.data, record.remote, record.has(RecordFlag.CONTROL_FLAGS)) == (b"plain", None, False)
        assert client.send_to(number, b"", address_of(peer)).succeeded
        assert peer.recv(10) == b""
        peer.sendto(b"", (local.host, local.port))
        empty = client.receive_from(number, 100).result(soon())
        assert (empty.succeeded, empty.information, empty.data) == (True, 0, b"")


def test_a_datagram_that_does_not_fit_is_truncated(client: WskClient) -> None:
    """The first bytes, MSG_TRUNC, nothing behind the buffer (WSK-DGRAM-007)."""
    number, local = datagram(client)
    with host_datagram() as peer:
        peer.sendto(b"0123456789", (local.host, local.port))
        record = client.receive_from(number, 4).result(soon())
        assert MessageFlag.TRUNC in MessageFlag(record.control_flags)
        assert record.has(GUARDS)
        assert record.data in (b"0123", b"")


def test_control_information_comes_behind_the_data(client: WskClient) -> None:
    """IP_PKTINFO: its objects are `extra`, the length variable tells their size; too small a buffer: MSG_CTRUNC."""
    number, local = datagram(client)
    assert client.set_option(number, IP_PKTINFO, 1, level=IP_LEVEL).succeeded
    with host_datagram() as peer:
        for room, whole in ((64, True), (8, False)):
            peer.sendto(b"data", (local.host, local.port))
            record = client.receive_from(number, 100, control=room).result(soon())
            assert record.data == b"data"
            assert record.has(GUARDS)
            if whole:
                (message,) = wsk.control_messages(record.extra)
                assert (message.level, message.type) == (IP_LEVEL, IP_PKTINFO)
                assert record.control_length == len(record.extra)
            else:
                assert MessageFlag.CTRUNC in MessageFlag(record.control_flags)


def test_control_information_goes_out(client: WskClient) -> None:
    """What is sent along is the caller's bytes, unchanged afterwards."""
    number, _ = datagram(client)
    info = wsk.ControlMessage(level=IP_LEVEL, type=IP_PKTINFO, data=bytes((127, 0, 0, 1)) + bytes(4))
    with host_datagram() as peer:
        record = client.send_to(number, b"x", address_of(peer), extra=wsk.pack_control_message(info))
        assert record.succeeded, record.describe()
        assert record.has(RecordFlag.INPUT_INTACT | GUARDS)
        assert peer.recv(10) == b"x"


def test_messages_are_a_list(client: WskClient) -> None:
    """Sixteen datagrams with one IRP, in order; Information is their sum (WSK-DGRAM-013)."""
    number, _ = datagram(client)
    messages = [bytes([65 + index]) * (index * 7 + 1) for index in range(16)]
    with host_datagram() as peer:
        record = client.send_messages(number, messages, address_of(peer))
        assert (record.succeeded, record.information) == (True, sum(map(len, messages)))
        assert [peer.recv(1000) for _ in messages] == messages


def test_a_fixed_destination_makes_null_legal(client: WskClient) -> None:
    """SIO_WSK_SET_REMOTE_ADDRESS, then NULL for one datagram and for a list (WSK-DGRAM-004, 013)."""
    number, _ = datagram(client)
    with host_datagram() as peer:
        assert not client.send_to(number, b"x", None).succeeded
        fixed = client.ioctl(number, SocketIoctl.WSK_SET_REMOTE_ADDRESS, address_of(peer).raw)
        assert fixed.succeeded, fixed.describe()
        assert client.send_to(number, b"default", None).succeeded
        assert client.send_messages(number, (b"a", b"b"), None).succeeded
        assert [peer.recv(100) for _ in range(3)] == [b"default", b"a", b"b"]


def test_a_datagram_socket_without_a_bind(client: WskClient) -> None:
    """Sending and receiving fail, each with one completion (WSK-DGRAM-003)."""
    number = client.socket(Category.DATAGRAM, 2, SOCK_DGRAM, IPPROTO_UDP).new_socket
    with host_datagram() as peer:
        for record in (client.send_to(number, b"x", address_of(peer)), client.receive_from(number, 9).result(soon())):
            assert (record.succeeded, record.completion_count) == (False, 1)


def until(client: WskClient, enough: Callable[[EventBatch], bool]) -> EventBatch:
    seen: list[EventBatch] = []

    def look() -> EventBatch | NotYet:
        seen.append(client.events())
        batch = EventBatch(events=tuple(event for one in seen for event in one.events), remaining=0, dropped=0)
        return batch if enough(batch) else NotYet(f"{len(batch.events)} events")

    return wait_until(look, soon(), what="events", tick_s=0.01)


def burst(client: WskClient, answer: Answer) -> tuple[int, EventBatch]:
    """Twenty datagrams for the receive-from event, answered all alike."""
    number, local = datagram(client, dispatch=Dispatch.FULL, socket_context=9)
    client.script(number, Callback.RECEIVE_FROM, answer)
    assert client.enable_events(number, EventMask.RECEIVE_FROM).succeeded
    with host_datagram() as peer:
        for index in range(20):
            peer.sendto(b"%02d" % index, (local.host, local.port))

        def enough(batch: EventBatch) -> bool:
            enters = batch.callbacks(Callback.RECEIVE_FROM)
            return sum(enter.buffers for enter in enters if batch.exit_of(enter)) == 20

        batch = until(client, enough)
        for enter in batch.callbacks(Callback.RECEIVE_FROM):
            singles = batch.datagrams(enter)
            assert len(singles) == enter.buffers
            assert sum(event.length for event in singles) == enter.listed == enter.length
            assert {event.remote for event in singles} == {address_of(peer)}
    return number, batch


def test_datagrams_are_indicated_each_once(client: WskClient) -> None:
    """A burst by the receive-from event: every datagram once, in order, with its sender (WSK-DGRAM-010)."""
    _, batch = burst(client, Answer.take(uses=0))
    digests = [event.digest for enter in batch.callbacks(Callback.RECEIVE_FROM) for event in batch.datagrams(enter)]
    assert digests == [abi.digest(b"%02d" % index) for index in range(20)]


def test_datagrams_are_kept_and_released_piece_by_piece(client: WskClient) -> None:
    """A list stays the client's; its entries can be looked at; the front goes back first, then the rest."""
    number, _ = burst(client, Answer.keep(100, uses=0))
    kept = client.objects()
    assert {entry.kind for entry in kept} == {ObjectKind.DATAGRAM}
    assert sum(entry.count for entry in kept) == 20
    contents = []
    for entry in kept:
        for index in range(entry.count):
            look = client.run(Operation.indication(entry.number, index))
            assert look.remote is not None
            contents.append(look.data)
        assert client.run(Operation.indication(entry.number, entry.count)).returned == "STATUS_NOT_FOUND"
    assert contents == [b"%02d" % index for index in range(20)]
    for entry in kept:
        if entry.count > 1:
            assert client.run(Operation.release_datagrams(number, entry.number, 1)).succeeded
            (left,) = (one for one in client.objects() if one.number == entry.number)
            assert (left.count, left.length) == (entry.count - 1, entry.length - 2)
        assert client.run(Operation.release_datagrams(number, entry.number)).succeeded
    assert client.objects() == ()
    assert client.close_socket(number).succeeded


def test_refused_datagrams_switch_the_event_off(client: WskClient) -> None:
    """STATUS_DATA_NOT_ACCEPTED until it is enabled again (WSK-DGRAM-011); a receive gets what was refused."""
    number, local = datagram(client, dispatch=Dispatch.FULL)
    assert client.enable_events(number, EventMask.RECEIVE_FROM).succeeded
    with host_datagram() as peer:
        peer.sendto(b"no", (local.host, local.port))
        batch = until(client, lambda batch: any(map(batch.exit_of, batch.callbacks(Callback.RECEIVE_FROM))))
        leave = batch.exit_of(batch.callbacks(Callback.RECEIVE_FROM)[0])
        assert leave is not None
        assert (leave.action, leave.status) == (Action.DEFAULT, STATUS["STATUS_DATA_NOT_ACCEPTED"])
        assert client.receive_from(number, 10).result(soon()).data == b"no"


def each_kind(client: WskClient, peer: SocketAddress) -> dict[str, Callable[..., Operation]]:
    """One operation of every new function that succeeds by itself on a fresh connection or datagram socket."""
    number, _ = datagram(client)
    return {
        "send_to": lambda **more: Operation.send_to(number, b"x", peer, **more),
        "send_messages": lambda **more: Operation.send_messages(number, (b"x", b"y"), peer, **more),
        "local_address": lambda **more: Operation.local_address(number, **more),
        "set_option": lambda **more: Operation.set_option(number, 0x20, 1, **more),
        "get_option": lambda **more: Operation.get_option(number, 0x20, **more),
    }


CIRCUMSTANCES: dict[str, dict[str, object]] = {
    "worker": {"call_context": CallContext.WORKER},
    "raised": {"call_context": CallContext.RAISED},
    "delayed": {"delay_ms": 30},
    "caller memory": {"irp_source": IrpSource.CALLER_MEMORY},
    "many locations": {"stack_count": 8},
    "second location": {"stack_count": 2, "second_location": True},
}


@pytest.mark.parametrize("name", CIRCUMSTANCES)
def test_every_function_under_every_circumstance(client: WskClient, name: str) -> None:
    """Contexts, delays, IRP sources and stack counts are the same for all functions."""
    more = CIRCUMSTANCES[name]
    with host_datagram() as peer:
        for kind, build in each_kind(client, address_of(peer)).items():
            record = client.run(build(**more))
            assert record.succeeded, f"{kind}: {record.describe()}"
            assert record.completion_count == 1
            assert record.has(RecordFlag.IRP_MATCH | RecordFlag.CONTEXT_MATCH)
            if name == "caller memory":
                assert record.has(RecordFlag.POISONED | RecordFlag.POISON_INTACT)
        number, other = connected(client)
        with other:
            assert client.run(Operation.remote_address(number, **more)).succeeded
            assert client.run(Operation.disconnect(number, b"end", **more)).succeeded
            assert other.recv(10) == b"end"


def test_pending_calls_are_cancelled(client: WskClient) -> None:
    """IoCancelIrp ends a receive-from once, and the socket goes on."""
    number, local = datagram(client)
    pending = client.receive_from(number, 10)
    assert not pending.wait(soon(0.1)).final
    pending.cancel()
    record = pending.result(soon())
    assert (record.completed, record.completion_count) == ("STATUS_CANCELLED", 1)
    with host_datagram() as peer:
        peer.sendto(b"later", (local.host, local.port))
        assert client.receive_from(number, 10).result(soon()).data == b"later"


def test_a_close_ends_all_that_is_pending(client: WskClient) -> None:
    """Receives, a disconnect behind unread data: one completion each, before the close's own."""
    number, peer = connected(client)
    with peer:
        receives = [client.receive(number, 10) for _ in range(3)]
        sending = client.submit(Operation.send(number, b"", buffer_length=8 << 20, fill=Fill.PATTERN))
        leaving = client.submit(Operation.disconnect(number))
        closing = client.submit(Operation.close(number)).result(soon())
        assert closing.succeeded
        for pending in (*receives, sending, leaving):
            record = pending.result(soon())
            assert record.completion_count == 1, record.describe()


def test_a_client_ends_in_the_middle_of_everything(shim: LocalShim) -> None:
    """Pending calls of every kind, kept data, scripts, held and delayed operations: nothing is left over."""
    with shim.clients() as (client,):
        number, peer = connected(client, dispatch=Dispatch.FULL)
        client.enable_events(number, EventMask.RECEIVE | EventMask.DISCONNECT)
        client.script(number, Callback.RECEIVE, Answer.keep(5, uses=0))
        peer.sendall(b"kept")
        until(client, lambda batch: bool(batch.callbacks(Callback.RECEIVE)))
        box, _ = datagram(client)
        client.receive_from(box, 10)
        client.cache_descriptor()
        client.submit(Operation.transport_change())
        client.submit(Operation.send_to(box, b"x", LOOPBACK, delay_ms=60_000))
        client.submit(Operation.close(box, switches=Switch.HELD))
        sock = client.socket(Category.LISTEN).new_socket
        client.bind(sock, LOOPBACK)
        client.accept(sock)
        peer.close()


def test_quiesce_with_kept_data_and_descriptors(shim: LocalShim) -> None:
    """Everything of everyone is given back while the handles stay open."""
    with shim.clients(2) as (first, second):
        number, peer = connected(first, dispatch=Dispatch.FULL)
        first.enable_events(number, EventMask.RECEIVE)
        first.script(number, Callback.RECEIVE, Answer.keep(5, uses=0))
        peer.sendall(b"kept")
        until(first, lambda batch: bool(batch.callbacks(Callback.RECEIVE)))
        second.cache_descriptor()
        second.submit(Operation.transport_change())
        result = first.quiesce(soon())
        assert not result.timed_out
        for client in (first, second):
            mine = client.ledger().client
            assert mine.at_rest, mine
            assert client.objects() == ()
        peer.close()


def test_wrong_shapes_are_refused(client: WskClient) -> None:
    """A message list is chunks; a disconnect without data has no buffer at all."""
    number, peer = connected(client)
    with peer, pytest.raises(Exception, match="refused"):
        client.run(Operation.send_messages(number, (b"a",), None, mdl_shape=MdlShape.SINGLE, chunks=()))
    assert client.run(Operation.send_messages(number, (b"a",), None)).state is State.NOT_STARTED


def test_a_close_without_an_irp_closes_nothing(client: WskClient) -> None:
    """WSK refuses it; the socket is as it was, and a close with an IRP closes it."""
    number = client.socket(Category.LISTEN).new_socket
    refused = client.close_socket(number, switches=Switch.NULL_IRP)
    assert refused.returned == "STATUS_INVALID_PARAMETER"
    assert client.run(Operation.bind(number, SocketAddress.of("127.0.0.1"))).succeeded
    assert client.close_socket(number).succeeded
