"""Every allocation of the driver, failed in turn: each failure is told, nothing leaks, and the next try succeeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from local_wine import MISSING, LocalWine, Prepared

from wsklab import abi
from wsklab.abi import CallContext, Category, Fault, Function, IrpSource, State
from wsklab.channel.operations import DriverRefusal, Operation, WskClient
from wsklab.deadline import Deadline, pause
from wsklab.network import listen
from wsklab.records import Record, SocketAddress

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not on this host: {MISSING}")

NO_RESOURCES = abi.STATUS["STATUS_INSUFFICIENT_RESOURCES"]
ANY = SocketAddress.of("0.0.0.0")  # noqa: S104 -- the driver's side of a connection, in a namespace of its own


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory, prepared_wine: Prepared) -> Iterator[LocalWine]:
    wine = LocalWine(tmp_path_factory.mktemp("faults"), prepared_wine)
    wine.start()
    yield wine
    wine.end()


def soon(seconds: float = 15.0) -> Deadline:
    return Deadline.after(seconds)


def at_rest(client: WskClient, *, sockets: int = 0) -> None:
    """Nothing outstanding, every IRP and MDL given back, all but so many sockets closed."""
    deadline = soon(5)
    while True:
        mine = client.ledger().client
        balance = (
            mine.outstanding,
            mine.operations_held,
            mine.waits_pending,
            mine.irps_allocated - mine.irps_freed,
            mine.mdls_allocated - mine.mdls_freed,
            mine.sockets_opened - mine.sockets_closed - sockets,
        )
        if not any(balance):
            return
        assert not deadline.expired, mine
        pause(0.02)


def attempt(client: WskClient, operation: Operation) -> Record | None:
    """The record of an operation that was called; None for one that failed for want of resources, and only for that."""
    try:
        record = client.run(operation, soon())
    except DriverRefusal as refusal:
        if refusal.status != NO_RESOURCES:
            raise
        return None
    if record.state is State.NOT_STARTED:
        assert record.driver_status & 0xFFFFFFFF == NO_RESOURCES, record.describe()
        return None
    if record.completion_count == 0 and record.returned_status & 0xFFFFFFFF == NO_RESOURCES:
        return None  # the published sample hands its own failure on
    # Wine's WSK refuses chained MDLs, after the call: all that is tested here happens before it.
    assert record.succeeded or operation.chunks, record.describe()
    return record


@contextmanager
def connection(client: WskClient, wine: LocalWine) -> Iterator[int]:
    """A connected socket of the driver; its peer has sent 100 bytes."""
    with listen(wine.via, ("127.0.0.1", 0)) as server:
        number = client.socket(Category.CONNECTION).new_socket
        client.bind(number, ANY)
        assert client.connect(number, SocketAddress.of("127.0.0.1", server.getsockname()[1])).succeeded
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"x" * 100)
            yield number
    client.close_socket(number)


def fail_each(
    client: WskClient, make: Callable[[], Operation], kinds: set[Fault], *, sockets: int = 0
) -> dict[Fault, int]:
    """Run an operation with each of its allocations failed in turn; how many there were of each kind.

    `make` is called for every try; what succeeds is undone by closing the socket that it made.
    """
    counts = {}
    for kind in Fault:
        client.faults(clear=True)
        record = attempt(client, make())
        counts[kind] = client.faults().seen[kind]
        undo(client, record)
        for index in range(counts[kind]):
            client.faults(kind, skip=index, deny=1, clear=True)
            record = attempt(client, make())
            assert denied(client, kind) == 1, (kind, index)
            assert record is None, f"{kind.name} {index}: {record.describe() if record else ''}"
            at_rest(client, sockets=sockets)
    assert {kind for kind, count in counts.items() if count} == kinds, counts
    undo(client, attempt(client, make()))
    return counts


def denied(client: WskClient, kind: Fault) -> int:
    """How many were made to fail; ends all failures."""
    count = client.faults().denied[kind]
    client.faults(clear=True)
    return count


def undo(client: WskClient, record: Record | None) -> None:
    if record is not None and record.new_socket:
        assert client.close_socket(record.new_socket).succeeded


ORDINARY = {Fault.POOL, Fault.IRP, Fault.COMPLETION}


@pytest.mark.parametrize(
    ("make", "kinds"),
    [
        pytest.param(Operation.sample_listen, {Fault.POOL, Fault.IRP}, id="sample"),
        pytest.param(Operation.create, ORDINARY, id="socket"),
        pytest.param(
            lambda: Operation.create(irp_source=IrpSource.CALLER_MEMORY), {Fault.POOL, Fault.COMPLETION}, id="memory"
        ),
        pytest.param(lambda: Operation.create(second_location=True, stack_count=2), ORDINARY, id="two locations"),
        pytest.param(
            lambda: Operation.create(call_context=CallContext.WORKER), ORDINARY | {Fault.WORK_ITEM}, id="worker"
        ),
        pytest.param(lambda: Operation.create(delay_ms=1), ORDINARY | {Fault.WORK_ITEM}, id="delayed"),
        pytest.param(
            lambda: Operation(function=Function.PROVIDER_INFO), {Fault.POOL}, id="a look at the provider"
        ),
    ],
)  # fmt: skip
def test_every_failure_of_a_creation(wine: LocalWine, make: Callable[[], Operation], kinds: set[Fault]) -> None:
    """Memory, IRP, completion routine, work item: refused or not started, and the socket's number is free again."""
    with wine.client() as client:
        fail_each(client, make, kinds)
        assert client.sockets() == ()
        at_rest(client)


def test_every_failure_of_a_transfer(wine: LocalWine) -> None:
    """Buffers of one MDL and of five: each allocation failed, no byte is lost, the guards stand."""
    with wine.client() as client, connection(client, wine) as number:
        chunks = (4, 4, 4, 4, 4)
        kinds = ORDINARY | {Fault.MDL}
        counts = fail_each(client, lambda: Operation.send(number, b"y" * 20, chunks=chunks), kinds, sockets=1)
        assert counts[Fault.MDL] == len(chunks)
        fail_each(client, lambda: Operation.send(number, b"one"), kinds, sockets=1)
        fail_each(client, lambda: Operation.receive(number, 5), kinds, sockets=1)


def test_every_failure_of_a_close(wine: LocalWine) -> None:
    """A socket whose close could not even be called is open as before."""
    with wine.client() as client:
        for kind in Fault:
            for skip in range(3):
                number = client.socket(Category.LISTEN).new_socket
                client.faults(kind, skip=skip, deny=1, clear=True)
                record = attempt(client, Operation.close(number))
                assert (record is None) == (denied(client, kind) == 1), (kind, skip)
                if record is None:
                    assert [entry.number for entry in client.sockets()] == [number]
                    assert client.close_socket(number).succeeded
                assert client.sockets() == ()
        at_rest(client)


def test_every_failure_of_a_deregistration(wine: LocalWine) -> None:
    """It runs on a thread of its own; without one it does not start, and the registration stays."""
    with wine.client() as client:
        undo(client, client.socket(Category.LISTEN))
        assert client.run(Operation(function=Function.RELEASE_NPI)).succeeded
        for kind, least in ((Fault.POOL, 1), (Fault.THREAD, 1)):
            client.faults(kind, deny=least, clear=True)
            assert attempt(client, Operation(function=Function.DEREGISTER)) is None
            assert denied(client, kind) == 1
        assert client.run(Operation(function=Function.DEREGISTER)).succeeded
        undo(client, client.socket(Category.LISTEN))


def test_a_wait_without_memory_leaves_the_operation(wine: LocalWine) -> None:
    """WAIT and DRAIN need memory to pend; without it they are refused, and what they wait for goes on."""
    with wine.client() as client:
        number = client.socket(Category.LISTEN).new_socket
        client.bind(number, SocketAddress.of("127.0.0.1", wine.free_port()))
        accepting = client.accept(number)
        for wait in (lambda: accepting.wait(soon(0.2)), lambda: client.drain(soon(0.2))):
            client.faults(Fault.POOL, deny=1, clear=True)
            with pytest.raises(DriverRefusal) as caught:
                wait()
            assert caught.value.status == NO_RESOURCES
        client.faults(clear=True)
        assert accepting.wait(soon(0.2)).state is State.OUTSTANDING
        client.close_socket(number)
        assert accepting.result(soon()).completion_count == 1
        at_rest(client)


@pytest.mark.parametrize("kind", [Fault.POOL, Fault.IRP, Fault.COMPLETION, Fault.THREAD])
def test_closing_everything_survives_failures(wine: LocalWine, kind: Fault) -> None:
    """A quiesce whose own closes and threads fail three times tries again, and comes to its end."""
    with wine.client() as client, wine.client() as other:
        for _ in range(3):
            assert client.socket(Category.LISTEN).succeeded
        client.faults(kind, deny=1 if kind is Fault.THREAD else 3, clear=True)
        result = other.quiesce(soon(10))
        assert not result.timed_out, result
        assert client.faults().denied[kind] >= 1
        assert client.sockets() == ()


def test_closing_everything_pauses_between_failures(wine: LocalWine) -> None:
    """Endless failures are met about forty times a second, not as fast as the processor can; then it goes on."""
    with wine.client() as client, wine.client() as other:
        assert client.socket(Category.LISTEN).succeeded
        client.faults(Fault.COMPLETION, deny=0xFFFFFFFF, clear=True)
        result = other.quiesce(soon(1))
        assert result.timed_out
        assert 2 <= denied(client, Fault.COMPLETION) <= 100
        assert not other.quiesce(soon(10)).timed_out
        assert client.sockets() == ()


def test_failures_end_with_their_handle(wine: LocalWine) -> None:
    """Endless failures are ended by closing the handle: nothing of the driver stays behind."""
    with wine.client() as client:
        for _ in range(3):
            assert client.socket(Category.LISTEN).succeeded
        for kind in Fault:
            client.faults(kind, deny=0xFFFFFFFF)
    with wine.client() as other:
        deadline = soon(10)
        while (driver := other.ledger().driver).sockets_opened != driver.sockets_closed:
            assert not deadline.expired, driver
            pause(0.05)
        assert other.hello().clients == 1
        wine.stop_driver()
    wine.start_driver()


def test_nonsense_is_refused(wine: LocalWine) -> None:
    """An unknown kind, numbers without a kind, a third value of a switch: refused, nothing is changed."""
    with wine.client() as client:
        client.faults(Fault.MDL, skip=3, deny=4, clear=True)
        for values in ({"kind": 7}, {"kind": 6, "deny": 1}, {"kind": 6, "skip": 1}, {"kind": 0, "clear": 2}):
            request = abi.FAULTS.pack(**({"header": abi.FAULTS.header(), "skip": 0, "deny": 0, "clear": 0} | values))
            answer = client._device.ioctl(abi.Ioctl.FAULTS, request, abi.FAULTS_RESULT.size, soon())
            assert answer.status & 0xFFFFFFFF == abi.STATUS["STATUS_INVALID_PARAMETER"], values
        with connection(client, wine) as number:
            client.faults(Fault.MDL, skip=3, deny=4)
            assert attempt(client, Operation.send(number, b"three", chunks=(2, 2, 1))) is not None
            assert attempt(client, Operation.send(number, b"again")) is None
