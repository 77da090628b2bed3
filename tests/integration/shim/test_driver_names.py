"""Names, and the module registrar: every path of sys/names.c and sys/nmr.c, in the kernel shim under sanitizers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from local_shim import LOOPBACK, MISSING, LocalShim

from wsklab import abi
from wsklab.abi import (
    Callback,
    CallContext,
    Category,
    EventKind,
    Fault,
    Function,
    ObjectKind,
    Owner,
    OwnerFlag,
    RecordFlag,
    State,
    Switch,
    Use,
)
from wsklab.channel.operations import DriverRefusal, Operation, WskClient
from wsklab.deadline import Deadline, pause
from wsklab.event_records import Event
from wsklab.records import AF_INET, AF_INET6, Record, SocketAddress

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not on this host: {MISSING}")

#: ws2def.h and ws2tcpip.h
AI_CANONNAME, AI_NUMERICHOST = 0x2, 0x4
NI_NUMERICHOST, NI_NAMEREQD, NI_NUMERICSERV = 0x2, 0x4, 0x8
NUMERIC = NI_NUMERICHOST | NI_NUMERICSERV
STATUS = abi.STATUS


def soon(seconds: float = 15.0) -> Deadline:
    return Deadline.after(seconds)


def completed(record: Record) -> int:
    return record.completion_status & 0xFFFFFFFF


def refused(record: Record) -> int:
    assert record.state is State.NOT_STARTED, record.describe()
    return record.driver_status & 0xFFFFFFFF


def lists(client: WskClient) -> list[int]:
    return [entry.number for entry in client.objects() if entry.kind is ObjectKind.ADDRESS_LIST]


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("node", "family", "size"), [("127.0.0.1", AF_INET, 16), ("::1", AF_INET6, 28)])
def test_a_numeric_address(client: WskClient, node: str, family: int, size: int) -> None:
    """WSK-NAME-001: each entry has the family, its length and the port; the list is the client's until it is freed."""
    record = client.run(Operation.address_info(node, "12345"))
    assert record.succeeded, record.describe()
    assert record.has(RecordFlag.OBJECT_MADE | RecordFlag.GUARDS_INTACT | RecordFlag.INPUT_INTACT)
    assert record.count == len(record.address_infos) >= 1
    for entry in record.address_infos:
        assert (entry.family, entry.address_length) == (family, size)
        assert entry.address is not None
        assert (entry.address.host, entry.address.port) == (node, 12345)
    assert lists(client) == [record.object]
    assert client.objects()[0].count == record.count
    assert client.run(Operation.free_address_info(record.object)).succeeded
    assert lists(client) == []
    assert client.ledger().client.at_rest


def test_a_canonical_name_and_hints(client: WskClient) -> None:
    """WSK-NAME-006: hints go through; a canonical name comes out as text."""
    hints = Use.NODE | Use.SERVICE | Use.HINTS
    record = client.run(
        Operation.address_info(
            "localhost", "80", argument_use=hints, hint_flags=AI_CANONNAME, family=AF_INET, type=1, protocol=6
        )
    )
    assert record.succeeded, record.describe()
    assert {(entry.family, entry.type, entry.protocol) for entry in record.address_infos} == {(AF_INET, 1, 6)}
    assert record.address_infos[0].canonical == "localhost"
    client.run(Operation.free_address_info(record.object))
    numeric = Operation.address_info("localhost", argument_use=Use.NODE | Use.HINTS, hint_flags=AI_NUMERICHOST)
    assert not client.run(numeric).succeeded


def test_what_cannot_be_resolved(client: WskClient) -> None:
    """WSK-NAME-002: a failure, no object, and its number can be used again."""
    number = client.next_object()
    for name in ("does-not-exist.invalid", "127.0.0.1"):
        record = client.run(Operation.address_info(name, new_object=number))
        assert record.object == (number if record.succeeded else 0)
        assert record.count == len(record.address_infos) == (1 if record.succeeded else 0)
    assert lists(client) == [number]


def test_arguments_that_wsk_refuses(client: WskClient) -> None:
    """WSK-NAME-003, 004, 005: no IRP, a thread without a process, no name at all."""
    record = client.run(Operation.address_info("127.0.0.1", switches=Switch.NULL_IRP))
    assert record.returned_status & 0xFFFFFFFF == STATUS["STATUS_INVALID_PARAMETER"]
    record = client.run(Operation.address_info("127.0.0.1", owning_thread=Owner.CURRENT))
    assert completed(record) == STATUS["STATUS_INVALID_PARAMETER"]
    assert not client.run(Operation.address_info(None)).succeeded
    assert client.run(Operation.address_info("127.0.0.1", owning_process=Owner.CURRENT)).succeeded
    assert len(lists(client)) == 1


@pytest.mark.parametrize("service", [None, "80"])
def test_names_without_a_zero(client: WskClient, service: str | None) -> None:
    """WSK-NAME-005: what stands behind an unterminated string is not part of it."""
    record = client.run(Operation.address_info("127.0.0.1", service, switches=Switch.UNTERMINATED))
    assert record.succeeded, record.describe()
    address = record.address_infos[0].address
    assert address is not None
    assert (address.host, address.port) == ("127.0.0.1", int(service or 0))


def test_the_name_of_an_address(client: WskClient) -> None:
    """WSK-NAME-007: numeric forms with their lengths, both or either."""
    address = SocketAddress.of("127.0.0.1", 0x1234)
    record = client.run(Operation.name_info(address, flags=NUMERIC))
    assert (record.node, record.service) == ("127.0.0.1", "4660")
    assert (record.node_length, record.service_length) == (18, 8)
    assert record.has(RecordFlag.GUARDS_INTACT)
    record = client.run(Operation.name_info(address, flags=NUMERIC, service=0))
    assert (record.node, record.service) == ("127.0.0.1", "")
    record = client.run(Operation.name_info(address, flags=NUMERIC, node=0))
    assert (record.node, record.service) == ("", "4660")
    assert client.run(Operation.name_info(SocketAddress.of("::1", 0), flags=NUMERIC)).node == "::1"


def test_no_room_for_a_name(client: WskClient) -> None:
    """WSK-NAME-008: no output at all is refused; a buffer that is too small is not overrun."""
    address = SocketAddress.of("127.0.0.1", 80)
    record = client.run(Operation.name_info(address, flags=NUMERIC, node=0, service=0))
    assert completed(record) == STATUS["STATUS_INVALID_PARAMETER"]
    for room in (2, 8, 16, 18):
        record = client.run(Operation.name_info(address, flags=NUMERIC, node=room, service=2))
        assert record.has(RecordFlag.GUARDS_CHECKED | RecordFlag.GUARDS_INTACT)
        assert len(record.extra) <= room + 2
    named = Operation.name_info(SocketAddress.of("192.0.2.1", 80), flags=NI_NAMEREQD)
    assert not client.run(named).succeeded


def test_a_list_is_freed_once(client: WskClient) -> None:
    """A second time, another kind of object, an unknown number: not called."""
    made = client.run(Operation.address_info("127.0.0.1")).object
    descriptor = client.cache_descriptor().object
    assert client.run(Operation.free_address_info(made)).succeeded
    assert refused(client.run(Operation.free_address_info(made))) == STATUS["STATUS_NOT_FOUND"]
    assert refused(client.run(Operation.free_address_info(descriptor))) == STATUS["STATUS_OBJECT_TYPE_MISMATCH"]
    assert refused(client.run(Operation.free_address_info(4242))) == STATUS["STATUS_NOT_FOUND"]
    client.release_descriptor(descriptor)


def test_fifty_at_once(client: WskClient) -> None:
    """WSK-NAME-009: all complete, all are freed, the ledger balances."""
    before = client.ledger().client.pool_bytes
    pending = [client.submit(Operation.address_info("localhost", str(port))) for port in range(1, 51)]
    records = [one.result(soon()) for one in pending]
    assert all(record.succeeded for record in records)
    for record in records:
        assert client.run(Operation.free_address_info(record.object)).succeeded
    # An answer is given before the thread that made it has dropped its reference: a moment later all is freed.
    deadline = soon()
    while not (ledger := client.ledger().client).at_rest or ledger.pool_bytes != before:
        assert not deadline.expired, ledger
        pause(0.02)


@pytest.mark.parametrize("seed", range(1, 9))
def test_completions_above_passive_level(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Nothing says that the list is in nonpaged memory: it is read at PASSIVE_LEVEL, wherever the completion came."""
    shim = LocalShim(tmp_path_factory.mktemp("shim"), "--random", "--seed", str(seed))
    with shim.clients() as (client,):
        irqls = set()
        for _ in range(10):
            record = client.run(Operation.address_info("127.0.0.1", "7"))
            assert record.succeeded, record.describe()
            assert record.address_infos[0].address == SocketAddress.of("127.0.0.1", 7)
            irqls.add(record.completion_irql)
            assert client.run(Operation.free_address_info(record.object)).succeeded
        assert irqls == {0, 2}


def test_lists_of_a_client_that_goes(shim: LocalShim) -> None:
    """Closing the handle gives everything back; the shim would tell of a list that is left."""
    with shim.clients(2) as (client, other):
        for _ in range(5):
            assert client.run(Operation.address_info("localhost")).succeeded
        client.close()
        deadline = soon()
        while (driver := other.ledger().driver).objects_made != driver.objects_released:
            assert not deadline.expired, driver
            pause(0.02)


def fail_each(client: WskClient, make: Callable[[], Operation], undo: Callable[[Record], object]) -> dict[Fault, int]:
    """Run an operation with each of its allocations failed in turn; how many there were."""
    counts = {}
    for kind in Fault:
        client.faults(clear=True)
        undo(client.run(make()))
        client.faults(clear=True)
        record = client.run(make())
        counts[kind] = client.faults().seen[kind]
        client.faults(clear=True)
        undo(record)
        for index in range(counts[kind]):
            client.faults(kind, skip=index, deny=1, clear=True)
            try:
                status = refused(client.run(make()))
            except DriverRefusal as refusal:
                status = refusal.status
            assert client.faults().denied[kind] == 1, (kind, index)
            client.faults(clear=True)
            assert status == STATUS["STATUS_INSUFFICIENT_RESOURCES"]
    return counts


def test_every_failure(client: WskClient) -> None:
    """Memory, IRP, work item, thread, routine: told, and nothing is left behind."""
    counts = fail_each(
        client,
        lambda: Operation.address_info("127.0.0.1", "80"),
        lambda record: client.run(Operation.free_address_info(record.object)),
    )
    assert {kind for kind, count in counts.items() if count} == set(Fault) - {Fault.MDL}
    counts = fail_each(
        client, lambda: Operation.name_info(SocketAddress.of("::1", 80), flags=NUMERIC), lambda _record: None
    )
    assert {kind for kind, count in counts.items() if count} == set(Fault) - {Fault.MDL, Fault.WORK_ITEM}
    assert client.ledger().client.at_rest


@pytest.mark.parametrize(
    "operation",
    [
        Operation.address_info("127.0.0.1", node_length=17),
        Operation.address_info("127.0.0.1", node_length=16),
        Operation.address_info("127.0.0.1", argument_use=Use.SERVICE),
        Operation.address_info("127.0.0.1", hint_flags=4),
        Operation.address_info("127.0.0.1", argument_use=Use.NODE | Use.CONTROL_INFO),
        Operation.address_info("127.0.0.1", output_size=8),
        Operation.address_info("127.0.0.1", call_context=CallContext.RAISED),
        Operation.address_info("127.0.0.1", switches=Switch.HELD),
        Operation.address_info("127.0.0.1", object=3),
        Operation.address_info("127.0.0.1", socket=3),
        Operation.name_info(LOOPBACK, node=0x4001),
        Operation.name_info(LOOPBACK, node=0x4000, service=2),
        Operation.name_info(LOOPBACK, extra=b"xx"),
        Operation.name_info(LOOPBACK, name_space=1),
        Operation.name_info(LOOPBACK, switches=Switch.UNTERMINATED),
        Operation(function=Function.GET_NAME_INFO, argument_use=Use.NODE, node_length=64),
        Operation.free_address_info(0),
        Operation.free_address_info(1, node_length=2),
    ],
)
def test_nonsense_is_refused(client: WskClient, operation: Operation) -> None:
    """Lengths, uses, contexts and numbers that do not fit together never reach WSK."""
    with pytest.raises(DriverRefusal) as caught:
        client.run(operation)
    assert caught.value.status == STATUS["STATUS_INVALID_PARAMETER"]


# -- the module registrar ------------------------------------------------------------------------


def registrar_events(client: WskClient) -> list[Event]:
    return [
        event
        for event in client.events().events
        if event.callback in (Callback.NMR_ATTACH, Callback.NMR_DETACH, Callback.NMR_CLEANUP)
    ]


def told(client: WskClient) -> list[tuple[EventKind, Callback, str]]:
    """The registrar's callbacks since the last look: kind, which, and what was answered."""
    return [
        (event.kind, event.callback, abi.status_name(event.status) if event.kind is EventKind.CALLBACK_EXIT else "")
        for event in registrar_events(client)
    ]


def call(callback: Callback, status: str = "STATUS_SUCCESS") -> list[tuple[EventKind, Callback, str]]:
    return [(EventKind.CALLBACK_ENTER, callback, ""), (EventKind.CALLBACK_EXIT, callback, status)]


def test_a_life_with_the_registrar(client: WskClient) -> None:
    """WSK-REG-012: one attach callback, a socket through what it handed out, detach and clean-up, then WskRegister."""
    record = client.run(Operation.nmr_register())
    assert record.succeeded, record.describe()
    assert record.has(RecordFlag.CLIENT_SET | RecordFlag.DISPATCH_SET)
    assert (record.version >> 8, record.captures) == (1, 1)
    assert record.lowest_version <= 0x100 <= record.highest_version
    assert told(client) == call(Callback.NMR_ATTACH)
    socket = client.socket(Category.LISTEN).new_socket
    assert client.bind(socket, LOOPBACK).succeeded
    assert client.close_socket(socket).succeeded
    told(client)
    record = client.run(Operation.nmr_deregister())
    assert record.succeeded, record.describe()
    assert record.captures == 0
    assert told(client) == call(Callback.NMR_DETACH) + call(Callback.NMR_CLEANUP)
    # and the usual way afterwards, with the same handle
    assert client.socket(Category.LISTEN).succeeded
    ledger = client.ledger().client
    assert (ledger.captures, ledger.releases, ledger.callbacks) == (2, 1, 3)


def test_again_and_again(client: WskClient) -> None:
    """Registered and deregistered ten times over."""
    for _ in range(10):
        assert client.run(Operation.nmr_register()).succeeded
        socket = client.socket(Category.CONNECTION)
        assert socket.succeeded
        assert client.close_socket(socket.new_socket).succeeded
        assert client.run(Operation.nmr_deregister()).succeeded
    assert client.ledger().client.at_rest


def test_a_version_that_nobody_has(client: WskClient) -> None:
    """Not attached, so nothing can be called; a retry with 1.0, where it is wanted, attaches."""
    record = client.run(Operation.nmr_register(0xFF00))
    assert record.succeeded
    assert not record.has(RecordFlag.CLIENT_SET)
    assert told(client) == call(Callback.NMR_ATTACH, "STATUS_NOINTERFACE")
    assert refused(client.socket(Category.LISTEN)) == STATUS["STATUS_INVALID_DEVICE_STATE"]
    assert client.run(Operation.nmr_deregister()).succeeded
    assert told(client) == []
    record = client.run(Operation.nmr_register(0xFF00, switches=Switch.NMR_RETRY))
    assert record.has(RecordFlag.CLIENT_SET)
    assert client.socket(Category.LISTEN).succeeded
    assert told(client) == call(Callback.NMR_ATTACH)


def test_deregistering_waits_for_sockets(client: WskClient) -> None:
    """It blocks while a socket is open, and only itself: the socket can be used and closed, and then it ends."""
    client.run(Operation.nmr_register())
    socket = client.socket(Category.LISTEN).new_socket
    leaving = client.submit(Operation.nmr_deregister())
    assert leaving.wait(soon(0.5)).state is State.CALLING
    assert refused(client.socket(Category.LISTEN)) == STATUS["STATUS_INVALID_DEVICE_STATE"]
    assert client.bind(socket, LOOPBACK).succeeded
    assert client.close_socket(socket).succeeded
    assert leaving.result(soon()).succeeded


@pytest.mark.parametrize("registrar", [True, False])
def test_a_list_is_freed_before_its_registration(client: WskClient, *, registrar: bool) -> None:
    """Nobody could free it afterwards: deregistering is refused while one is held."""
    if registrar:
        client.run(Operation.nmr_register())
    made = client.run(Operation.address_info("127.0.0.1")).object
    leave = Operation.nmr_deregister() if registrar else Operation(function=Function.DEREGISTER)
    if not registrar:
        assert client.run(Operation(function=Function.RELEASE_NPI)).succeeded
    assert refused(client.run(leave)) == STATUS["STATUS_DEVICE_BUSY"]
    assert client.run(Operation.free_address_info(made)).succeeded
    if not registrar:
        assert client.run(Operation(function=Function.RELEASE_NPI)).succeeded, "freeing has captured once more"
    assert client.run(leave).succeeded


def test_a_list_that_comes_while_deregistering(client: WskClient) -> None:
    """WskDeregister waits for the capture; a list that comes meanwhile is told and freed at once."""
    client.run(Operation(function=Function.PROVIDER_INFO))
    leaving = client.submit(Operation(function=Function.DEREGISTER))
    assert leaving.wait(soon(0.3)).state is State.CALLING
    record = client.run(Operation.address_info("localhost"))
    assert record.succeeded, record.describe()
    assert record.count == len(record.address_infos) >= 1
    assert (record.object, record.has(RecordFlag.OBJECT_MADE), lists(client)) == (0, False, [])
    assert client.run(Operation(function=Function.RELEASE_NPI)).succeeded
    assert leaving.result(soon()).succeeded
    assert client.ledger().client.at_rest


def test_a_list_that_comes_while_the_registrar_detaches(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The lookup holds the attachment until its list was read and freed; the shim would name one that is left."""
    seen = set()
    for seed in range(1, 100):
        shim = LocalShim(tmp_path_factory.mktemp("shim"), "--random", "--seed", str(seed))
        with shim.clients() as (client,):
            client.run(Operation.nmr_register())
            lookup = client.submit(Operation.address_info("localhost"))
            client.submit(Operation.nmr_deregister())
            record = lookup.result(soon())
            if record.state is State.COMPLETED and record.succeeded:
                assert record.count >= 1
                seen.add(record.object != 0)
        if seen == {True, False}:
            return
    pytest.fail(f"only {seen}")


def test_two_ways_at_once_are_refused(client: WskClient) -> None:
    """While the registrar has the client, WskRegister and what belongs to it are refused, and the other way round."""
    state = STATUS["STATUS_INVALID_DEVICE_STATE"]
    assert refused(client.run(Operation.nmr_deregister())) == state
    client.run(Operation.nmr_register())
    assert refused(client.run(Operation.nmr_register())) == state
    for function in (Function.REGISTER, Function.CAPTURE, Function.RELEASE_NPI, Function.DEREGISTER):
        assert refused(client.run(Operation(function=function, version=0x100))) == state, function
    assert client.run(Operation(function=Function.PROVIDER_INFO)).has(RecordFlag.CLIENT_SET)
    assert client.run(Operation.nmr_deregister()).succeeded
    assert client.socket(Category.LISTEN).succeeded
    assert refused(client.run(Operation.nmr_register())) == state


@pytest.mark.parametrize("kinds", [(), (Fault.THREAD,), (Fault.POOL,)])
def test_a_client_that_goes_while_attached(shim: LocalShim, kinds: tuple[Fault, ...]) -> None:
    """Quiesce closes its sockets and takes it from the registrar, also when threads and memory fail at first."""
    with shim.clients(2) as (client, other):
        client.run(Operation.nmr_register())
        for _ in range(3):
            assert client.socket(Category.LISTEN).succeeded
        assert client.run(Operation.address_info("127.0.0.1")).succeeded
        for kind in kinds:
            client.faults(kind, deny=2)
        result = other.quiesce(soon())
        assert not result.timed_out, result
        assert not any(OwnerFlag.REGISTERED in owner.flags for owner in result.owners)
        assert told(client)[-4:] == call(Callback.NMR_DETACH) + call(Callback.NMR_CLEANUP)


def test_a_handle_that_is_closed_while_attached(shim: LocalShim) -> None:
    """Nothing is left: the shim would name a client that the registrar still has."""
    with shim.clients(2) as (client, other):
        client.run(Operation.nmr_register())
        socket = client.socket(Category.LISTEN).new_socket
        client.bind(socket, LOOPBACK)
        client.accept(socket)
        client.close()
        deadline = soon()
        while other.hello().clients != 1 or other.ledger().driver.outstanding:
            assert not deadline.expired
            pause(0.02)


@pytest.mark.parametrize("slow", [False, True])
def test_a_call_that_is_running_while_the_registrar_detaches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    """The detach callback answers STATUS_PENDING then, and the last one tells the registrar.

    A lookup of addresses counts until its list was read and freed.
    """
    if slow:
        monkeypatch.setenv("WSKLAB_SHIM_FAULT", "GetAddressInfo:0:delay")
    with LocalShim(tmp_path).clients() as (client,):
        client.run(Operation.nmr_register())
        told(client)
        lookups = [client.submit(Operation.address_info("localhost")) for _ in range(5 if slow else 0)]
        deadline = soon()
        while client.ledger().client.outstanding < len(lookups):
            assert not deadline.expired
            pause(0.01)
        leaving = client.submit(Operation.nmr_deregister())
        assert all(lookup.result(soon()).completion_count == 1 for lookup in lookups)
        assert leaving.result(soon()).succeeded
        (answer,) = (status for kind, which, status in told(client) if which is Callback.NMR_DETACH and status)
    assert answer == ("STATUS_PENDING" if slow else "STATUS_SUCCESS")
