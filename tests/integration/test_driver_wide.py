"""wsklab.sys under Wine: the functions that Wine 8 has as stubs, and what is refused before any call.

A stub returns STATUS_NOT_IMPLEMENTED and never completes its IRP: the operation is lost, the ledger says so, and
nothing hangs. That these functions do what their pages say is shown where a provider has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from local_wine import MISSING, LocalWine, Prepared

from wsklab import abi
from wsklab.abi import (
    STATUS,
    AddressUse,
    Callback,
    CallContext,
    Category,
    Function,
    InputKind,
    MdlShape,
    RecordFlag,
    State,
    Switch,
    Use,
)
from wsklab.channel.operations import Answer, DriverRefusal, Operation, WskClient
from wsklab.deadline import Deadline
from wsklab.network import listen
from wsklab.records import SocketAddress
from wsklab.wsk import ClientControl, DisconnectFlag, EventMask, SocketIoctl, SocketOption

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not on this host: {MISSING}")

ANY = SocketAddress.of("0.0.0.0")  # noqa: S104 -- the driver's side of a connection, in a namespace of its own
PEER = SocketAddress.of("127.0.0.1", 0)


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


@pytest.fixture
def listener(client: WskClient) -> int:
    return client.socket(Category.LISTEN).new_socket


@pytest.fixture
def connection(wine: LocalWine, client: WskClient) -> Iterator[int]:
    """A connected socket of the driver."""
    with listen(wine.via, ("127.0.0.1", 0)) as server:
        number = client.socket(Category.CONNECTION).new_socket
        client.bind(number, ANY)
        record = client.connect(number, SocketAddress.of("127.0.0.1", server.getsockname()[1]))
        assert record.succeeded, record.describe()
        peer, _ = server.accept()
        yield number
        peer.close()


STUBS: dict[str, Callable[[int], Operation]] = {
    "disconnect": Operation.disconnect,
    "disconnect with data": lambda number: Operation.disconnect(number, b"last"),
    "abort": lambda number: Operation.disconnect(number, flags=DisconnectFlag.ABORTIVE),
    "local address": Operation.local_address,
    "remote address": Operation.remote_address,
    "get option": lambda number: Operation.get_option(number, SocketOption.KEEPALIVE),
    "set option": lambda number: Operation.set_option(number, SocketOption.KEEPALIVE, 1),
    "ioctl": lambda number: Operation.ioctl(number, SocketIoctl.WSK_QUERY_RECEIVE_BACKLOG, output=8),
}


@pytest.mark.parametrize("name", STUBS)
def test_a_stub_is_lost_and_counted(client: WskClient, connection: int, name: str) -> None:
    """The call fails, no completion comes, the operation ends as lost; socket, handle and ledger go on."""
    record = client.run(STUBS[name](connection))
    assert (record.returned, record.state) == ("STATUS_NOT_IMPLEMENTED", State.LOST)
    assert record.completion_count == 0
    mine = client.ledger().client
    assert mine.balanced
    assert mine.lost == 1
    assert client.send(connection, b"still alive").information == 11
    assert client.close_socket(connection).succeeded


@pytest.mark.parametrize("context", list(CallContext))
def test_a_stub_is_lost_from_everywhere(client: WskClient, connection: int, context: CallContext) -> None:
    """Caller, system worker and raised IRQL: the same end."""
    record = client.run(Operation.disconnect(connection, call_context=context))
    assert record.state is State.LOST
    assert record.call_context is context


def test_calls_without_an_irp_end_with_their_return(client: WskClient, connection: int) -> None:
    """Event enabling, transport list, cached descriptors on Wine: a failing return, and nothing is lost."""
    for operation in (
        Operation.events(connection, EventMask.RECEIVE, switches=Switch.NULL_IRP | Switch.HAZARD),
        Operation.ioctl(connection, SocketIoctl.ADDRESS_LIST_QUERY, output=64, switches=Switch.NULL_IRP),
        Operation.transport_list(),
        Operation.static_events(EventMask.RECEIVE),
        Operation.cache_descriptor(),
        Operation.tdi_behavior(),
    ):
        record = client.run(operation)
        assert (record.returned, record.state) == ("STATUS_NOT_IMPLEMENTED", State.COMPLETED), record.describe()
        assert record.extra == b""
        assert record.object == 0
    mine = client.ledger().client
    assert (mine.lost, mine.objects_made) == (0, 0)
    assert client.objects() == ()


def test_socket_connect_is_lost_and_its_number_free_again(client: WskClient) -> None:
    """No socket is left behind, and the number can be used."""
    record = client.run(Operation.socket_connect(ANY, PEER, new_socket=9))
    assert record.state is State.LOST
    assert client.sockets() == ()
    assert client.run(Operation.create(new_socket=9)).succeeded
    client.close_socket(9)


def test_a_lost_operation_holds_its_object_number_only_until_it_is_lost(client: WskClient) -> None:
    """The descriptor that will never come leaves its number."""
    listener = client.socket(Category.LISTEN).new_socket
    assert client.run(Operation.get_security(listener, new_object=5)).state is State.LOST
    assert client.run(Operation.get_security(listener, new_object=5)).state is State.LOST
    assert client.objects() == ()
    client.close_socket(listener)


def not_started(client: WskClient, operation: Operation) -> int:
    record = client.run(operation)
    assert record.state is State.NOT_STARTED, record.describe()
    return record.driver_status


def test_what_the_category_does_not_have_never_reaches_wsk(client: WskClient, listener: int) -> None:
    """Every member of every table: a listener has no data, no peer and no datagrams."""
    for operation in (
        Operation.disconnect(listener),
        Operation.remote_address(listener),
        Operation.connect_ex(listener, PEER),
        Operation.listen(listener),
        Operation.send_to(listener, b"x", PEER),
        Operation.send_messages(listener, (b"x",), PEER),
        Operation.receive_from(listener, 10),
    ):
        assert not_started(client, operation) == STATUS["STATUS_INVALID_DEVICE_REQUEST"]
    assert client.ledger().client.issued == 1


def test_members_of_a_later_windows_are_never_read(client: WskClient, connection: int) -> None:
    """WskConnectEx came with build 15063; a Wine that plays an older Windows has no such member."""
    record = client.run(Operation.connect_ex(connection, PEER, b"first"))
    if client.hello().os_version[2] < 15063:
        assert (record.state, record.driver_status) == (State.NOT_STARTED, STATUS["STATUS_INVALID_DEVICE_REQUEST"])
    else:
        assert record.state is State.LOST


def test_numbers_that_nobody_gave_are_unknown(client: WskClient, listener: int, connection: int) -> None:
    """Kept indications, cached descriptors, inspections: by number, and only the client's own."""
    unknown = STATUS["STATUS_NOT_FOUND"]
    assert not_started(client, Operation.release_data(connection, 1)) == unknown
    assert not_started(client, Operation.indication(1)) == unknown
    assert not_started(client, Operation.release_descriptor(1)) == unknown
    assert not_started(client, Operation.set_security(listener, 1)) == unknown
    assert not_started(client, Operation.create(security=1, object=1)) == unknown
    assert not_started(client, Operation.inspect_complete(listener, 1, 1)) == unknown
    made = client.run(Operation.inspect_complete(listener, 1, 1, switches=Switch.UNKNOWN_ID))
    assert made.state is State.LOST, "an invented id goes to WSK"


def test_an_event_without_a_callback_is_not_enabled(client: WskClient, connection: int) -> None:
    """The connection was made without a dispatch: enabling is a hazard, and not done unless asked for."""
    operation = Operation.events(connection, EventMask.RECEIVE)
    assert not_started(client, operation) == STATUS["STATUS_INVALID_DEVICE_STATE"]
    disabling = client.run(Operation.events(connection, EventMask.RECEIVE | EventMask.DISABLE))
    assert disabling.returned == "STATUS_NOT_IMPLEMENTED"


@pytest.mark.parametrize(
    "operation",
    [
        Operation.set_option(1, SocketOption.WSK_EVENT_CALLBACK, b"\x11" * 16),
        Operation.set_option(1, SocketOption.WSK_SECURITY, b"\x11" * 8),
        Operation.set_option(1, 0x4003, b"\x11" * 8),
        Operation.ioctl(1, SocketIoctl.WSK_REGISTER_EXTENSION, b"\x11" * 24),
        Operation.ioctl(1, 0xCF000009, b"\x11" * 24),
        Operation.control_client(ClientControl.CACHE_SD, extra=b"\x11" * 8, input_kind=InputKind.BYTES),
        Operation.control_client(ClientControl.RELEASE_SD, extra=b"\x11" * 8, input_kind=InputKind.BYTES),
        Operation.control_client(9, extra=b"\x11" * 8, input_kind=InputKind.BYTES),
    ],
    ids=lambda operation: f"{operation.function.name} {operation.control_code:#x}",
)
def test_bytes_never_become_pointers(client: WskClient, operation: Operation) -> None:
    """Codes that take pointers, and codes of WSK's ranges that the driver does not know, take no bytes of ours."""
    with pytest.raises(DriverRefusal) as refusal:
        client.run(operation)
    assert refusal.value.status == STATUS["STATUS_INVALID_PARAMETER"]
    assert client.ledger().client.issued == 0


@pytest.mark.parametrize(
    "operation",
    [
        Operation.set_option(1, SocketOption.KEEPALIVE, 1, input_size=5),
        Operation.events(1, EventMask.ACCEPT, input_size=17),
        Operation.get_option(1, SocketOption.KEEPALIVE, size=abi.MAX_EXTRA + 1),
        Operation.cache_descriptor(new_object=1, object=1),
        Operation.send_to(1, b"x", PEER, argument_use=Use.CONTROL_INFO),
        Operation.receive_from(1, 10, control=64, argument_use=Use.CONTROL_LENGTH),
        Operation.send_messages(1, (b"a",), PEER, mdl_shape=MdlShape.SINGLE, chunks=()),
        Operation.local_address(1, address_use=AddressUse(0)),
        Operation.release_data(1, 0),
        Operation.release_data(1, 0, switches=Switch.UNKNOWN_ID),
        Operation.ioctl(1, SocketIoctl.ADDRESS_LIST_QUERY, output=64, call_context=CallContext.RAISED),
        Operation.socket_connect(ANY, SocketAddress(b"\2")),
        Operation(function=Function.SOCKET_INFO, socket=1, count=1),
        Operation.bind(1, PEER, security=1, object=1),
    ],
    ids=lambda operation: operation.function.name,
)
def test_requests_that_make_no_sense_are_refused(client: WskClient, operation: Operation) -> None:
    """Sizes beyond the input, numbers where none belong, arguments without their buffer: nothing is called."""
    with pytest.raises(DriverRefusal) as refusal:
        client.run(operation)
    assert refusal.value.status == STATUS["STATUS_INVALID_PARAMETER"]
    assert client.ledger().client.issued == 0


def test_scripts_are_checked_kept_and_replaced(client: WskClient) -> None:
    """A script says what the one before it had left; answers that a callback cannot give are refused."""
    client.script(4, Callback.ACCEPT, Answer.take(number=50, uses=3), Answer.refuse(uses=0))
    end = client.script(4, Callback.ACCEPT, Answer.refuse(uses=2))
    assert (end.used, end.left) == (0, None)
    end = client.script(4, Callback.ACCEPT)
    assert (end.used, end.left) == (0, 2)
    assert client.script(4, Callback.ACCEPT).left == 0
    for callback, answer in (
        (Callback.ACCEPT, Answer.take()),
        (Callback.ACCEPT, Answer.keep(1)),
        (Callback.DISCONNECT, Answer.refuse()),
        (Callback.RECEIVE, Answer.keep(0)),
        (Callback.RECEIVE, Answer.take(length=1)),
        (Callback.RECEIVE, Answer.take(hold_ms=51)),
        (Callback.INSPECT, Answer.pend(number=1)),
        (Callback.RECEIVE_FROM, Answer.keep(abi.MAX_NUMBER, uses=2)),
        (Callback.NMR_ATTACH, Answer.default()),
        (Callback.NONE, Answer.default()),
    ):
        with pytest.raises(DriverRefusal) as refusal:
            client.script(4, callback, answer)
        assert refusal.value.status == STATUS["STATUS_INVALID_PARAMETER"], (callback, answer)
    with pytest.raises(DriverRefusal):
        client.script(4, Callback.RECEIVE, Answer.take(uses=0), Answer.take())
    with pytest.raises(DriverRefusal):
        client.script(1, Callback.CLIENT, Answer.default())
    for number in range(1, abi.MAX_SCRIPTS + 1):
        client.script(number, Callback.RECEIVE, Answer.take())
    with pytest.raises(DriverRefusal) as refusal:
        client.script(abi.MAX_SCRIPTS + 1, Callback.RECEIVE, Answer.take())
    assert refusal.value.status == STATUS["STATUS_QUOTA_EXCEEDED"]
    client.script(abi.MAX_SCRIPTS, Callback.RECEIVE, Answer.refuse())


def test_no_event_comes_on_wine(client: WskClient, listener: int) -> None:
    """Full tables, and a peer: Wine calls nobody back, and the ring and the ledger agree."""
    assert client.ledger().client.callbacks == 0
    assert client.events().callbacks(Callback.ACCEPT) == ()


def test_a_null_mdl_with_a_length_is_a_hazard(client: WskClient, connection: int) -> None:
    """Refused unless asked for; Wine refuses it itself, before it completes anything."""
    with pytest.raises(DriverRefusal):
        client.send(connection, b"", buffer_length=5, mdl_shape=MdlShape.NULL)
    record = client.send(connection, b"", buffer_length=5, mdl_shape=MdlShape.NULL, switches=Switch.HAZARD)
    assert record.final
    assert not record.succeeded


def test_the_client_event_can_be_registered(client: WskClient) -> None:
    """REGISTER with a dispatch hands over a client event callback; WSK takes it."""
    assert client.run(Operation(function=Function.REGISTER, version=0x0100, dispatch=1)).succeeded
    assert client.run(Operation(function=Function.CAPTURE)).has(RecordFlag.CLIENT_SET)


def test_a_client_ends_with_lost_operations(wine: LocalWine, client: WskClient) -> None:
    """The handle is closed while an operation is lost: everything else of it goes, and the ledger keeps that one."""
    before = client.ledger().driver
    with wine.client() as victim:
        number = victim.socket(Category.LISTEN).new_socket
        assert victim.run(Operation.local_address(number)).state is State.LOST
    deadline = Deadline.after(15)
    while (now := client.ledger().driver).sockets_opened != now.sockets_closed:
        assert not deadline.expired, now
    assert now.lost == before.lost + 1
    assert now.irps_allocated - now.irps_freed == before.irps_allocated - before.irps_freed + 1
