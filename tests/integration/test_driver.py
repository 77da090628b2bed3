"""wsklab.sys under Wine: operations, records, ledger, and that nothing in it ever waits or leaks."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from local_wine import DEVICE, MISSING, LocalWine, Prepared

from wsklab import abi
from wsklab.abi import (
    CallContext,
    CancelOutcome,
    Category,
    Dispatch,
    Fill,
    Function,
    HelloFlag,
    InformationKind,
    Invoke,
    Ioctl,
    IrpSource,
    MdlShape,
    OwnerFlag,
    RecordFlag,
    State,
    Switch,
)
from wsklab.channel.operations import DriverRefusal, Operation, WskClient
from wsklab.channel.remote_sockets import RemoteSockets
from wsklab.deadline import Deadline, pause
from wsklab.errors import DeadlineExceeded
from wsklab.network import connect, listen
from wsklab.records import SocketAddress

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not on this host: {MISSING}")

ANY = SocketAddress.of("0.0.0.0")  # noqa: S104 -- the driver's side of a connection, in a namespace of its own
OK = RecordFlag.IRP_MATCH | RecordFlag.CONTEXT_MATCH


#: SO_LINGER with no time to linger: closing resets.
ABORT = struct.pack("ii", 1, 0)


def soon(seconds: float = 15.0) -> Deadline:
    return Deadline.after(seconds)


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory, prepared_wine: Prepared) -> Iterator[LocalWine]:
    wine = LocalWine(tmp_path_factory.mktemp("driver"), prepared_wine)
    wine.start()
    yield wine
    wine.end()


@pytest.fixture
def client(wine: LocalWine) -> Iterator[WskClient]:
    with wine.client() as client:
        yield client


def listener(client: WskClient, port: int, host: str = "127.0.0.1") -> int:
    number = client.socket(Category.LISTEN).new_socket
    record = client.bind(number, SocketAddress.of(host, port))
    assert record.succeeded, record.describe()
    return number


def connected(wine: LocalWine, client: WskClient) -> tuple[int, socket.socket]:
    """A connected socket of the driver and its peer."""
    with listen(wine.via, ("127.0.0.1", 0)) as server:
        number = client.socket(Category.CONNECTION).new_socket
        client.bind(number, ANY)
        record = client.connect(number, SocketAddress.of("127.0.0.1", server.getsockname()[1]))
        assert record.succeeded, record.describe()
        peer, _ = server.accept()
    return number, peer


def at_rest(client: WskClient) -> None:
    """The driver's own ledger settles: nothing outstanding, every IRP, MDL and socket given back."""
    deadline = soon(5)
    while True:
        mine = client.ledger().client
        if mine.at_rest and mine.irps_allocated == mine.irps_freed and mine.mdls_allocated == mine.mdls_freed:
            return
        assert not deadline.expired, mine
        pause(0.05)


def test_hello_tells_versions_limits_and_platform(client: WskClient) -> None:
    """HELLO names the build, the sizes (checked by the decoder), the platform; Wine has no real IRQL."""
    hello = client.hello()
    assert hello.build_label.startswith("wsklab ")
    assert len(hello.build_digest) == 64
    assert set(hello.build_digest) != {"0"}
    assert HelloFlag.WINE in hello.flags
    assert HelloFlag.IRQL_REAL not in hello.flags
    assert hello.clients >= 1


def test_the_published_sample_creates_a_listening_socket(wine: LocalWine, client: WskClient) -> None:
    """The page's code: one completion with our context and IRP, a usable socket, the IRP freed."""
    record = client.create_listening_socket_sample()
    assert record.succeeded, record.describe()
    assert record.information_kind is InformationKind.SOCKET
    assert record.completion_count == 1
    assert record.has(OK | RecordFlag.IRP_FREED | RecordFlag.SOCKET_ALIGNED | RecordFlag.SOCKET_DISPATCH)
    assert record.completion_location == 2
    assert client.bind(record.new_socket, SocketAddress.of("127.0.0.1", wine.free_port())).succeeded
    assert all(entry.context == 0 for entry in client.sockets()), "the sample's context is a pointer: never shown"
    assert client.close_socket(record.new_socket).succeeded
    at_rest(client)


def test_a_connection_from_accept_to_close(wine: LocalWine, client: WskClient) -> None:
    """create, bind, accept, receive, send, close; addresses as the peer sees them; a balanced ledger."""
    port = wine.free_port()
    number = listener(client, port)
    accepting = client.accept(number, socket_context=0x1234)
    assert accepting.wait(soon(0.3)).state is State.OUTSTANDING
    peer = connect(wine.via, ("127.0.0.1", port), soon())
    record = accepting.result(soon())
    assert record.succeeded, record.describe()
    assert record.local is not None
    assert record.remote is not None
    assert (record.local.host, record.local.port) == ("127.0.0.1", port)
    assert (record.remote.host, record.remote.port) == peer.getsockname()
    assert record.has(RecordFlag.GUARDS_CHECKED | RecordFlag.GUARDS_INTACT)
    accepted = record.new_socket
    assert [entry.context for entry in client.sockets() if entry.number == accepted] == [0x1234]
    receiving = client.receive(accepted, 256)
    peer.sendall(b"twenty-two bytes, here")
    record = receiving.result(soon())
    assert record.data == b"twenty-two bytes, here"
    assert record.information == 22
    assert record.has(RecordFlag.GUARDS_INTACT | RecordFlag.REST_INTACT)
    assert record.data_digest == abi.digest(record.data)
    assert client.send(accepted, b"answer").information == 6
    assert peer.recv(100) == b"answer"
    for number_ in (accepted, number):
        assert client.close_socket(number_).succeeded
    assert peer.recv(1) == b""
    peer.close()
    at_rest(client)


def test_connect_and_large_data(wine: LocalWine, client: WskClient) -> None:
    """1 MiB each way: a pattern made in the driver, and data fetched in parts with the digest of all of it."""
    number, peer = connected(wine, client)
    size = 1 << 20
    sending = client.submit(Operation.send(number, b"", buffer_length=size, fill=Fill.PATTERN, pattern_seed=3))
    got = b""
    while len(got) < size:
        got += peer.recv(1 << 16)
    assert got == abi.pattern(size, 3)
    assert sending.result(soon()).information == size
    parts = b""
    peer.sendall(got)
    while len(parts) < size:
        record = client.receive(number, size).result(soon())
        assert record.succeeded, record.describe()
        assert record.data
        assert record.data_digest == abi.digest(record.data)
        parts += record.data
    assert parts == got
    peer.close()
    assert client.receive(number, 10).result(soon()).information == 0
    client.close_socket(number)
    at_rest(client)


def test_sockets_have_their_own_objects(client: WskClient) -> None:
    """64 sockets: all objects differ, their tables stay, every one closes."""
    numbers = []
    for _ in range(64):
        record = client.socket(Category.LISTEN)
        assert record.has(RecordFlag.SOCKET_UNIQUE | RecordFlag.SOCKET_ALIGNED)
        numbers.append(record.new_socket)
    for number in numbers:
        info = client.run(Operation(function=Function.SOCKET_INFO, socket=number))
        assert info.has(RecordFlag.SAME_DISPATCH)
        assert (info.member_count, info.members) == (6, 0b111111)
        assert client.close_socket(number).succeeded
    at_rest(client)


def _seconds(ask: Callable[[], object]) -> float:
    started = time.monotonic()
    ask()
    return time.monotonic() - started


def test_a_pending_wait_blocks_nobody(wine: LocalWine, client: WskClient) -> None:
    """While a WAIT pends, another client and the same client's cancel answer within 100 ms."""
    accepting = client.accept(listener(client, wine.free_port()))
    device = client._device  # the pipelined form has no name in WskClient on purpose
    request = abi.WAIT.pack(header=abi.WAIT.header(), op_id=accepting.op_id, timeout_ms=60_000)
    waiting = device.submit_ioctl(Ioctl.WAIT, request, abi.RECORD.size, soon(70))
    with wine.client() as other:
        other.hello()

        def cancel() -> None:
            assert accepting.cancel() in (CancelOutcome.CALLED, CancelOutcome.MARKED)

        for ask in (other.ledger, cancel):
            assert min(_seconds(ask) for _ in range(5)) < 0.1  # a hiccup of the host is no finding
        assert client.ledger().client.waits_pending == 1
    client.close_socket(accepting.operation.socket)  # Wine's accept has no cancel routine: the close ends it
    record = waiting.result(soon())
    assert record.status == 0
    assert accepting.result(soon()).completed == "STATUS_CANCELLED"
    at_rest(client)


def test_a_wait_ends_by_its_timer_and_by_cancellation(wine: LocalWine, client: WskClient) -> None:
    """The timer's answer says that the operation is still outstanding; CancelIoEx ends a WAIT, not the operation."""
    accepting = client.accept(listener(client, wine.free_port()))
    started = time.monotonic()
    record = accepting.wait(soon(0.5))
    assert 0.4 < time.monotonic() - started < 1.5
    assert record.has(RecordFlag.TIMED_OUT)
    assert not record.final
    with pytest.raises(DeadlineExceeded):
        accepting.result(soon(0.1))
    request = abi.WAIT.pack(header=abi.WAIT.header(), op_id=accepting.op_id, timeout_ms=60_000)
    waiting = client._device.submit_ioctl(Ioctl.WAIT, request, abi.RECORD.size, soon(70))
    waiting.cancel()
    assert abi.status_name(waiting.result(soon()).status) == "STATUS_CANCELLED"
    assert not accepting.fetch().final
    client.close_socket(accepting.operation.socket)
    assert accepting.result(soon()).final
    at_rest(client)


def test_drain_waits_until_nothing_is_outstanding(wine: LocalWine, client: WskClient) -> None:
    """DRAIN times out while an accept pends, and answers when it has ended."""
    accepting = client.accept(listener(client, wine.free_port()))
    result = client.drain(soon(0.5))
    assert (result.outstanding, result.timed_out) == (1, True)
    client.submit(Operation.close(accepting.operation.socket, delay_ms=200))
    result = client.drain(soon(10))
    assert (result.outstanding, result.timed_out) == (0, False)
    assert accepting.result(soon()).final


def test_poison_shows_that_nobody_touches_a_completed_irp(client: WskClient) -> None:
    """An IRP in the driver's own memory is overwritten in the completion routine and still is so 300 ms later."""
    operation = Operation.create(irp_source=IrpSource.CALLER_MEMORY)
    record = client.run(operation, release=False)
    assert record.has(RecordFlag.POISONED | RecordFlag.POISON_INTACT)
    pause(0.3)
    assert client.release(record.op_id).has(RecordFlag.POISON_INTACT | RecordFlag.RELEASED)
    client.close_socket(record.new_socket)
    at_rest(client)


def test_one_irp_for_three_calls(wine: LocalWine, client: WskClient) -> None:
    """IoReuseIrp: socket, bind and close on one IRP, each completing once with its own context."""
    first = client.run(Operation.create(switches=Switch.KEEP_IRP), release=False)
    assert not first.has(RecordFlag.IRP_FREED)
    address = SocketAddress.of("127.0.0.1", wine.free_port())
    more = {"irp_source": IrpSource.REUSED, "reuse_op": first.op_id, "switches": Switch.KEEP_IRP}
    second = client.run(Operation.bind(first.new_socket, address, **more), release=False)
    assert second.succeeded, second.describe()
    assert second.has(OK)
    more = {"irp_source": IrpSource.REUSED, "reuse_op": second.op_id}
    third = client.run(Operation.close(first.new_socket, **more))
    assert third.succeeded
    assert third.has(OK | RecordFlag.IRP_FREED)
    assert len({r.completion_cookie for r in (first, second, third)}) == 3
    client.release(first.op_id)
    client.release(second.op_id)
    mine = client.ledger().client
    assert (mine.irps_allocated, mine.irps_freed) == (1, 1)


def test_then_starts_one_call_inside_the_completion(wine: LocalWine, client: WskClient) -> None:
    """A held bind is called from the creation's completion routine; without success it is given up."""
    created, bound = client.next_operation(), client.next_operation()
    number = client.next_socket()
    address = SocketAddress.of("127.0.0.1", wine.free_port())
    pending = client.submit(Operation.bind(number, address, op_id=bound, switches=Switch.HELD))
    first = client.run(Operation.create(op_id=created, new_socket=number, then_op=bound))
    second = pending.result(soon())
    assert second.succeeded, second.describe()
    assert second.call_thread == first.completion_thread
    assert second.enter_sequence > first.completion_sequence
    held = client.submit(Operation.close(number, switches=Switch.HELD))
    failed = client.run(Operation.create(family=99, then_op=held.op_id))
    assert not failed.succeeded
    assert held.result(soon()).state is State.NOT_STARTED
    client.close_socket(number)
    assert client.ledger().client.not_started == 1
    at_rest(client)


@pytest.mark.parametrize("context", list(CallContext))
def test_calls_come_from_where_they_are_asked_to(client: WskClient, context: CallContext) -> None:
    """Caller, system worker and raised IRQL all give a socket."""
    record = client.run(Operation.create(call_context=context, delay_ms=50 if context is CallContext.WORKER else 0))
    assert record.succeeded, record.describe()
    assert record.call_context is context
    assert client.close_socket(record.new_socket, call_context=context).succeeded
    at_rest(client)


def test_a_delay_delays_and_can_be_cancelled(client: WskClient) -> None:
    """A delayed operation starts later; cancelled before that, it never starts."""
    record = client.run(Operation.create(delay_ms=200))
    assert record.enter_ns - record.submit_ns > 150e6
    pending = client.submit(Operation.close(record.new_socket, delay_ms=60_000))
    assert pending.cancel() is CancelOutcome.ABANDONED
    ended = pending.result(soon(5))
    assert (ended.state, ended.driver_status) == (State.NOT_STARTED, abi.STATUS["STATUS_CANCELLED"])
    client.close_socket(record.new_socket)
    at_rest(client)


@pytest.mark.parametrize("stack_count", [1, 2, 8])
def test_more_stack_locations_do_no_harm(client: WskClient, stack_count: int) -> None:
    """The stack is as it was when the IRP comes back."""
    record = client.run(Operation.create(stack_count=stack_count))
    assert record.succeeded
    assert record.completion_location == stack_count + 1
    client.close_socket(record.new_socket)


def test_invoke_flags_are_honoured(client: WskClient) -> None:
    """A routine for success only is skipped on failure; the catch-all above it always runs."""
    options = {"stack_count": 2, "second_location": True, "invoke_flags": Invoke.SUCCESS}
    failed = client.run(Operation.create(family=99, **options))
    assert (failed.completion_count, failed.upper_count) == (0, 1)
    assert failed.completed == "STATUS_NOT_SUPPORTED"
    good = client.run(Operation.create(**options))
    assert (good.completion_count, good.upper_count) == (1, 1)
    assert good.succeeded
    assert good.completion_sequence < good.upper_sequence
    client.close_socket(good.new_socket)
    at_rest(client)


def test_failures_have_no_socket(client: WskClient) -> None:
    """A family without a transport: one completion with a failure, the number free again."""
    record = client.run(Operation.create(family=99, new_socket=77))
    assert record.completion_count == 1
    assert not record.succeeded
    assert record.information_kind is not InformationKind.SOCKET
    assert client.sockets() == ()
    assert client.run(Operation.create(new_socket=77)).succeeded
    client.close_socket(77)
    at_rest(client)


def test_null_irp_and_null_client(client: WskClient) -> None:
    """No IRP: refused, nothing is completed. No client on Wine: a failing return without completion is lost, apart."""
    record = client.run(Operation.create(switches=Switch.NULL_IRP))
    assert (record.returned, record.completion_count) == ("STATUS_INVALID_PARAMETER", 0)
    record = client.run(Operation.create(switches=Switch.NULL_CLIENT))
    assert record.returned == "STATUS_INVALID_HANDLE"
    mine = client.ledger().client
    assert mine.balanced
    if record.state is State.LOST:
        assert mine.lost == 1
        assert mine.irps_allocated == mine.irps_freed + 1


def test_registration_by_hand(client: WskClient) -> None:
    """register, capture three times, release three times, deregister, register again - and what is refused."""
    register = Operation(function=Function.REGISTER, version=0x0100)
    assert client.run(register).succeeded
    again = client.run(register)
    assert (again.state, abi.status_name(again.driver_status)) == (State.NOT_STARTED, "STATUS_INVALID_DEVICE_STATE")
    for_ever = Operation(function=Function.CAPTURE, switches=Switch.INFINITE)
    for capture in (*(Operation(function=Function.CAPTURE, timeout_ms=limit) for limit in (0, 5000)), for_ever):
        record = client.run(capture)
        assert record.succeeded
        assert record.has(RecordFlag.CLIENT_SET | RecordFlag.DISPATCH_SET)
    assert record.captures == 3
    assert record.version >> 8 == 1
    info = client.run(Operation(function=Function.PROVIDER_INFO))
    assert (info.member_count, info.members, info.count) == (6, 0b111111, 6)
    with pytest.raises(DriverRefusal):
        client.submit(replace(for_ever, call_context=CallContext.RAISED))
    for _ in range(3):
        assert client.run(Operation(function=Function.RELEASE_NPI)).succeeded
    assert client.run(Operation(function=Function.RELEASE_NPI)).state is State.NOT_STARTED
    assert client.run(Operation(function=Function.DEREGISTER)).succeeded
    late = client.run(Operation(function=Function.CAPTURE, switches=Switch.AFTER_DEREGISTER))
    assert late.state is State.COMPLETED
    refused = client.run(Operation(function=Function.QUERY_CHARACTERISTICS))
    assert refused.state is State.NOT_STARTED, "raises on Wine"
    assert client.run(register).succeeded
    at_rest(client)


def test_calls_of_the_wrong_category_never_reach_wsk(client: WskClient) -> None:
    """A listener has no send: refused by the driver, since the offset would be another function."""
    number = client.socket(Category.LISTEN).new_socket
    record = client.send(number, b"x")
    assert (record.state, abi.status_name(record.driver_status)) == (State.NOT_STARTED, "STATUS_INVALID_DEVICE_REQUEST")
    client.close_socket(number)
    assert client.close_socket(number).state is State.NOT_STARTED
    at_rest(client)


def test_buffers_of_every_shape(wine: LocalWine, client: WskClient) -> None:
    """Offsets work; a chain is passed (Wine refuses it); a NULL MDL with a length is refused by the driver."""
    number, peer = connected(wine, client)
    record = client.send(number, b"abc", buffer_offset=7, mdl_bytes=100, switches=Switch.SCRIBBLE_WSK_BUF)
    assert record.information == 3
    assert peer.recv(10) == b"abc"
    receiving = client.receive(number, 10, buffer_offset=5, mdl_bytes=50)
    peer.sendall(b"0123456789abc")
    record = receiving.result(soon())
    assert record.data == b"0123456789"
    assert record.has(RecordFlag.REST_INTACT | RecordFlag.GUARDS_INTACT)
    chained = client.send(number, b"x" * 394, chunks=(100, 1, 300), buffer_offset=7)
    assert chained.final
    with pytest.raises(DriverRefusal):
        client.send(number, b"", buffer_length=5, mdl_shape=MdlShape.NULL)
    with pytest.raises(DriverRefusal):
        client.send(number, b"abc", mdl_bytes=2)
    peer.close()
    client.close_socket(number)
    at_rest(client)


def test_numbers_are_the_clients_own(wine: LocalWine, client: WskClient) -> None:
    """A number in use is refused; another client's numbers are unknown."""
    record = client.run(Operation.create(op_id=5, new_socket=5, dispatch=Dispatch.FULL), release=False)
    with pytest.raises(DriverRefusal) as refusal:
        client.submit(Operation.create(op_id=5, new_socket=6))
    assert refusal.value.status == abi.STATUS["STATUS_OBJECT_NAME_COLLISION"]
    with pytest.raises(DriverRefusal):
        client.submit(Operation.create(op_id=6, new_socket=5))
    with wine.client() as other:
        with pytest.raises(DriverRefusal):
            other.fetch(5)
        assert other.close_socket(5).state is State.NOT_STARTED
    assert client.close_socket(record.new_socket).succeeded


def test_a_closed_handle_ends_everything_it_owned(wine: LocalWine, client: WskClient) -> None:
    """Outstanding accept and receive, open sockets, a pending WAIT: all gone soon after the process was killed."""
    before = client.ledger().driver
    control = wine.device_client()
    victim = WskClient(control.open_device(DEVICE))
    accepting = victim.accept(listener(victim, wine.free_port()))
    number, peer = connected(wine, victim)
    victim.receive(number, 100)
    request = abi.WAIT.pack(header=abi.WAIT.header(), op_id=accepting.op_id, timeout_ms=60_000)
    victim._device.submit_ioctl(Ioctl.WAIT, request, abi.RECORD.size, soon(70))
    assert client.ledger().driver.outstanding == before.outstanding + 2
    wine.streams[-1].kill()
    deadline = soon(10)
    while (now := client.ledger().driver).outstanding != before.outstanding or now.sockets_opened != now.sockets_closed:
        assert not deadline.expired, now
        pause(0.05)
    assert now.irps_allocated - now.irps_freed == before.irps_allocated - before.irps_freed
    assert now.captures - now.releases <= before.captures - before.releases
    assert peer.recv(1) == b""
    peer.close()
    while client.hello().clients != 1:
        assert not deadline.expired
        pause(0.05)
    assert client.ledger().driver.waits_pending == 0
    control.close()


def test_quiesce_closes_all_and_names_who_is_left(wine: LocalWine) -> None:
    """Everything of everyone is closed; the other handle is named; this one's own handle is not busy."""
    with wine.client() as other, wine.client() as client:
        accepting = other.accept(listener(other, wine.free_port()))
        mine = client.socket(Category.LISTEN)
        result = client.quiesce(soon(10))
        assert not result.timed_out
        assert result.busy == 1
        (owner,) = result.owners
        assert owner.client_id == other.hello().client_id
        assert owner.flags == OwnerFlag.HANDLE_OPEN
        assert (owner.outstanding, owner.sockets) == (0, 0)
        assert accepting.result(soon()).completed == "STATUS_CANCELLED"
        assert other.sockets() == client.sockets() == ()
        assert HelloFlag.CLOSED in other.hello().flags
        with pytest.raises(DriverRefusal) as refusal:
            other.socket(Category.LISTEN)
        assert refusal.value.status == abi.STATUS["STATUS_FILE_CLOSED"]
        assert mine.succeeded
        assert other.ledger().client.at_rest
    with wine.client() as client:
        assert client.quiesce(soon(10)).busy == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_peer_of_a_second_guest(wine: LocalWine, host: str) -> None:
    """`wskctl peer`: connections both ways, FIN and RST as the other end sees them, refusals as Python's own errors."""
    sockets = RemoteSockets.open(wine, soon(60))  # type: ignore[arg-type]
    try:
        with listen(wine.via, (host, 0)) as server:
            made = sockets.connect(server.getsockname()[:2], soon())
            there, _ = server.accept()
            assert made.getsockname() == there.getpeername()[:2]
            made.sendall(bytes(200_000))
            with there:
                assert len(there.recv(200_000, socket.MSG_WAITALL)) == 200_000
                there.sendall(b"answer")
                assert made.recv(100) == b"answer"
                made.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    made.recv(1)
                made.shutdown(socket.SHUT_WR)
                assert there.recv(1) == b""
            made = sockets.connect(server.getsockname()[:2], soon())
            there, _ = server.accept()
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            made.close()
            with there, pytest.raises(ConnectionResetError):
                there.recv(1)
            nobody = server.getsockname()[:2]
        with pytest.raises(ConnectionRefusedError):
            sockets.connect(nobody, soon())
        listening = sockets.listen(host, soon())
        with connect(wine.via, listening.getsockname(), soon()) as mine:
            taken, peer = listening.accept()
            assert peer == mine.getsockname()[:2]
            mine.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        with contextlib.suppress(ConnectionResetError):
            assert taken.recv(1) == b""  # what Wine 8 makes of a reset
        listening.close()
        with pytest.raises(OSError, match="no such socket"):
            listening.accept()
    finally:
        sockets.close()
