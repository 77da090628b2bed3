"""Event callbacks of the driver against the shim's provider: what is recorded, what is answered, what is kept."""

from __future__ import annotations

import contextlib
import socket

import pytest
from local_shim import LOOPBACK, LocalShim, peer_listener

from wsklab import abi
from wsklab.abi import STATUS, Action, Callback, Category, Dispatch, EventKind, Note, ObjectKind, State, Switch
from wsklab.channel.operations import Answer, DriverRefusal, Operation, WskClient
from wsklab.deadline import Deadline, NotYet, pause, wait_until
from wsklab.event_records import Event, EventBatch
from wsklab.records import SocketAddress
from wsklab.wsk import ControlType, DisconnectFlag, EventFlag, EventMask, InspectAction, SocketIoctl, SocketOption

CONNECTION_EVENTS = EventMask.RECEIVE | EventMask.DISCONNECT | EventMask.SEND_BACKLOG


def soon(seconds: float = 10.0) -> Deadline:
    return Deadline.after(seconds)


class Listening:
    """A bound listening socket of the driver with its events, and all that its client's ring has said so far."""

    def __init__(self, client: WskClient, mask: int = 0, *, context: int = 0x1111) -> None:
        self.client = client
        made = client.socket(Category.LISTEN, dispatch=Dispatch.FULL, socket_context=context)
        assert made.succeeded, made.describe()
        self.number = made.new_socket
        self.ready(mask)

    def ready(self, mask: int) -> None:
        assert self.client.bind(self.number, LOOPBACK).succeeded
        address = self.client.local_address(self.number).local
        assert address is not None
        self.address = address
        self.seen: tuple[Event, ...] = ()
        if mask:
            assert self.client.enable_events(self.number, mask).succeeded

    def connect(self) -> socket.socket:
        """A connection, or one that was refused right after it was made: the caller's own look tells."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex((self.address.host, self.address.port))
        sock.settimeout(10)
        return sock

    def batch(self) -> EventBatch:
        got = self.client.events()
        assert got.dropped == 0
        self.seen += got.events
        return EventBatch(events=self.seen, remaining=0, dropped=0)

    def until(self, callback: Callback, count: int = 1, socket_number: int | None = None) -> EventBatch:
        """All events, once so many callbacks of a kind have come and gone."""

        def look() -> EventBatch | NotYet:
            batch = self.batch()
            enters = batch.callbacks(callback, socket_number)
            exits = [enter for enter in enters if batch.exit_of(enter)]
            return batch if len(exits) >= count else NotYet(f"{len(exits)} of {count} {callback.name}")

        return wait_until(look, soon(), what=f"{count} {callback.name}", tick_s=0.01)


def is_over(peer: socket.socket) -> bool:
    """The connection has ended, by FIN or by RST."""
    try:
        return peer.recv(1) == b""
    except ConnectionResetError:
        return True


def one(batch: EventBatch, callback: Callback, socket_number: int | None = None) -> tuple[Event, Event]:
    (enter,) = batch.callbacks(callback, socket_number)
    leave = batch.exit_of(enter)
    assert leave is not None
    return enter, leave


def test_a_connection_is_taken_by_the_accept_event(client: WskClient) -> None:
    """Context, both addresses, the new socket with its own context; both directions work on it."""
    listening = Listening(client, EventMask.ACCEPT)
    client.script(listening.number, Callback.ACCEPT, Answer.take(number=50, socket_context=0x2222))
    with listening.connect() as peer:
        enter, leave = one(listening.until(Callback.ACCEPT), Callback.ACCEPT)
        assert (enter.socket, enter.context) == (listening.number, 0x1111)
        assert enter.local == listening.address
        assert enter.remote == SocketAddress.of(*peer.getsockname())
        assert (leave.action, leave.status, leave.new_socket) == (Action.TAKE, 0, 50)
        assert Note.SCRIPTED in leave.notes
        assert enter.sequence < leave.sequence
        peer.sendall(b"ping")
        assert client.receive(50, 10).result(soon()).data == b"ping"
        assert client.send(50, b"pong").information == 4
        assert peer.recv(10) == b"pong"
        assert {entry.number: entry.context for entry in client.sockets()} == {listening.number: 0x1111, 50: 0x2222}
    assert client.close_socket(50).succeeded
    assert client.ledger().client.sockets_opened == 2


def test_the_default_refuses_connections(client: WskClient) -> None:
    """Without a script WSK is told STATUS_REQUEST_NOT_ACCEPTED and ends the connection; the next one is asked for."""
    listening = Listening(client, EventMask.ACCEPT)
    for round_ in (1, 2):
        with listening.connect() as peer:
            batch = listening.until(Callback.ACCEPT, round_)
            assert is_over(peer)
    leave = batch.exit_of(batch.callbacks(Callback.ACCEPT)[-1])
    assert leave is not None
    assert (leave.action, leave.status) == (Action.DEFAULT, STATUS["STATUS_REQUEST_NOT_ACCEPTED"])
    assert Note.SCRIPTED not in leave.notes
    assert len(client.sockets()) == 1


def test_a_script_counts_its_uses_and_names_its_sockets(client: WskClient) -> None:
    """Two connections become 50 and 51, the third is refused by the answer behind; then the script is used up."""
    listening = Listening(client, EventMask.ACCEPT)
    client.script(listening.number, Callback.ACCEPT, Answer.take(number=50, uses=2, socket_context=7), Answer.refuse())
    with contextlib.ExitStack() as peers:
        for count in range(1, 4):
            peers.enter_context(listening.connect())
            batch = listening.until(Callback.ACCEPT, count)
    leaves = [batch.exit_of(enter) for enter in batch.callbacks(Callback.ACCEPT)]
    assert [leave and leave.new_socket for leave in leaves] == [50, 51, 0]
    assert [entry.context for entry in client.sockets()] == [0x1111, 7, 8]
    end = client.script(listening.number, Callback.ACCEPT)
    assert (end.used, end.left) == (3, 0)


def test_a_number_in_use_falls_back_to_the_default(client: WskClient) -> None:
    """The script's socket number is taken: the connection is refused, and the event says that there was no room."""
    listening = Listening(client, EventMask.ACCEPT)
    client.script(listening.number, Callback.ACCEPT, Answer.take(number=listening.number))
    with listening.connect() as peer:
        _, leave = one(listening.until(Callback.ACCEPT), Callback.ACCEPT)
        assert is_over(peer)
    assert Note.NO_ROOM in leave.notes
    assert leave.action is Action.DEFAULT


def accepted(client: WskClient, mask: int = CONNECTION_EVENTS) -> tuple[Listening, socket.socket]:
    """A connection taken by the accept event as socket 50; events that are inherited from the listener are on."""
    listening = Listening(client, EventMask.ACCEPT | mask)
    client.script(
        listening.number, Callback.ACCEPT, Answer.take(number=50, socket_context=0x2222, dispatch=Dispatch.FULL)
    )
    peer = listening.connect()
    listening.until(Callback.ACCEPT)
    return listening, peer


def test_received_data_is_measured(client: WskClient) -> None:
    """Length, sum of the list and digest are those of what was sent; inherited events need no call (WSK-EVT-011)."""
    listening, peer = accepted(client)
    client.script(50, Callback.RECEIVE, Answer.take(uses=0))
    sent = bytes(range(256)) * 400
    with peer:
        peer.sendall(sent)

        def all_of_it() -> EventBatch | NotYet:
            batch = listening.batch()
            total = sum(event.length for event in batch.callbacks(Callback.RECEIVE, 50))
            return batch if total == len(sent) else NotYet(f"{total} bytes")

        batch = wait_until(all_of_it, soon(), what="all data", tick_s=0.01)
        at = 0
        for event in batch.callbacks(Callback.RECEIVE, 50):
            assert event.listed == event.length
            assert event.digest == abi.digest(sent[at : at + event.length])
            assert event.context == 0x2222
            assert event.buffers >= 1
            assert (EventFlag.AT_DISPATCH_LEVEL in EventFlag(event.flags & 8)) == (event.irql == 2)
            at += event.length


def test_part_of_the_data_and_the_rest_by_a_receive(client: WskClient) -> None:
    """After TAKE_SOME nothing is indicated until a receive is issued, and no byte is lost (WSK-DATA-014)."""
    listening, peer = accepted(client)
    client.script(50, Callback.RECEIVE, Answer.take_some(10))
    with peer:
        peer.sendall(b"0123456789abcdef")
        _, leave = one(listening.until(Callback.RECEIVE), Callback.RECEIVE)
        assert (leave.action, leave.accepted) == (Action.TAKE_SOME, 10)
        assert client.receive(50, 100).result(soon()).data == b"abcdef"


def test_refused_data_stays(client: WskClient) -> None:
    """The default answers STATUS_DATA_NOT_ACCEPTED: a receive gets all of it."""
    listening, peer = accepted(client)
    with peer:
        peer.sendall(b"kept by WSK")
        _, leave = one(listening.until(Callback.RECEIVE), Callback.RECEIVE)
        assert leave.status == STATUS["STATUS_DATA_NOT_ACCEPTED"]
        assert client.receive(50, 100).result(soon()).data == b"kept by WSK"


def test_kept_data_is_looked_at_and_released(client: WskClient) -> None:
    """An object of the client: its bytes are as they were, the socket cannot be closed meanwhile, release succeeds."""
    listening, peer = accepted(client)
    client.script(50, Callback.RECEIVE, Answer.keep(7, uses=2), Answer.take(uses=0))
    with peer:
        peer.sendall(b"first")
        enter, leave = one(listening.until(Callback.RECEIVE), Callback.RECEIVE)
        assert (leave.action, leave.status, leave.object) == (Action.KEEP, STATUS["STATUS_PENDING"], 7)
        peer.sendall(b"second")
        listening.until(Callback.RECEIVE, 2)
        entries = {entry.number: entry for entry in client.objects()}
        assert {number: (entry.kind, entry.socket, entry.length) for number, entry in entries.items()} == {
            7: (ObjectKind.DATA, 50, 5),
            8: (ObjectKind.DATA, 50, 6),
        }
        look = client.run(Operation.indication(7))
        assert (look.data, look.data_digest, look.count) == (b"first", enter.digest, 1)
        busy = client.close_socket(50)
        assert (busy.state, busy.driver_status) == (State.NOT_STARTED, STATUS["STATUS_DEVICE_BUSY"])
        wrong = client.run(Operation.release_data(listening.number, 7))
        assert wrong.state is State.NOT_STARTED
        assert client.run(Operation.release_data(50, 8)).succeeded
        assert client.run(Operation.indication(7)).data == b"first"
        assert client.run(Operation.release_data(50, 7)).succeeded
        assert client.run(Operation.release_data(50, 7)).state is State.NOT_STARTED
        assert client.close_socket(50).succeeded
    mine = client.ledger().client
    assert (mine.objects_made, mine.objects_released) == (2, 2)


def test_what_is_kept_goes_back_before_its_socket(shim: LocalShim) -> None:
    """A client that ends with kept indications: the teardown releases them first (the provider checks the order)."""
    with shim.clients() as (client,):
        listening, peer = accepted(client)
        client.script(50, Callback.RECEIVE, Answer.keep(7, uses=3))
        with peer:
            peer.sendall(b"kept")
            listening.until(Callback.RECEIVE)
            assert len(client.objects()) == 1


def test_the_peers_end_is_told(client: WskClient) -> None:
    """Graceful: the flag is clear and sending still works; abortive: it is set."""
    listening, peer = accepted(client)
    peer.shutdown(socket.SHUT_WR)
    enter, _ = one(listening.until(Callback.DISCONNECT), Callback.DISCONNECT)
    assert DisconnectFlag.ABORTIVE not in DisconnectFlag(enter.flags & 1)
    assert enter.context == 0x2222
    assert client.send(50, b"still").information == 5
    assert peer.recv(10) == b"still"
    peer.close()


def test_a_reset_is_told(client: WskClient) -> None:
    """The abortive flag of the disconnect event."""
    listening, peer = accepted(client)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    enter, _ = one(listening.until(Callback.DISCONNECT), Callback.DISCONNECT)
    assert enter.flags & DisconnectFlag.ABORTIVE


def test_a_reset_before_the_accept_event_has_returned_is_told(client: WskClient) -> None:
    """The connection is gone when WSK makes it the driver's: its disconnect event comes all the same."""
    listening = Listening(client, EventMask.ACCEPT | CONNECTION_EVENTS)
    client.script(listening.number, Callback.ACCEPT, Answer.take(number=50, dispatch=Dispatch.FULL, hold_ms=50))
    peer = listening.connect()

    def asked() -> bool | NotYet:
        return bool(listening.batch().callbacks(Callback.ACCEPT)) or NotYet("no callback")

    wait_until(asked, soon(), what="the accept event", tick_s=0.001)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    enter, _ = one(listening.until(Callback.DISCONNECT), Callback.DISCONNECT)
    assert enter.socket == 50
    assert enter.flags & DisconnectFlag.ABORTIVE


def test_nothing_comes_before_it_is_enabled_or_after_it_is_disabled(client: WskClient) -> None:
    """A full dispatch alone calls nobody back (WSK-SOCK-010); disabling takes effect at once (WSK-EVT-005)."""
    listening = Listening(client)
    with listening.connect():
        pause(0.2)
        assert listening.batch().callbacks(Callback.ACCEPT) == ()
        assert client.enable_events(listening.number, EventMask.ACCEPT).succeeded
        listening.until(Callback.ACCEPT)  # the one that has waited
        pause(0.2)  # the event is idle when WSK has its answer, which is later than the driver writes it down
        assert client.disable_event(listening.number, EventMask.ACCEPT).returned == "STATUS_SUCCESS"
        with listening.connect():
            pause(0.2)
            assert len(listening.batch().callbacks(Callback.ACCEPT)) == 1


@pytest.mark.parametrize("with_irp", [True, False])
def test_disabling_while_the_callback_runs(client: WskClient, with_irp: bool) -> None:
    """With an IRP it pends until the callback has returned; without, STATUS_EVENT_PENDING (WSK-EVT-006 and 007)."""
    listening = Listening(client, EventMask.ACCEPT)
    client.script(listening.number, Callback.ACCEPT, Answer.refuse(uses=0, hold_ms=50))
    operation = Operation.events(
        listening.number,
        EventMask.ACCEPT | EventMask.DISABLE,
        switches=Switch(0) if with_irp else Switch.NULL_IRP,
    )
    for _ in range(20):
        with listening.connect():
            record = client.run(operation, soon())
        if record.returned in ("STATUS_PENDING", "STATUS_EVENT_PENDING"):
            break
        assert record.succeeded, record.describe()
        assert client.enable_events(listening.number, EventMask.ACCEPT).succeeded
    if with_irp:
        assert (record.returned, record.completed) == ("STATUS_PENDING", "STATUS_SUCCESS")
        batch = listening.until(Callback.ACCEPT)
        ended = [event for event in batch.events if event.kind is EventKind.CALLBACK_EXIT]
        assert record.completion_sequence > max(event.sequence for event in ended)
    else:
        assert record.returned == "STATUS_EVENT_PENDING"


def test_two_clients_may_use_one_context(shim: LocalShim) -> None:
    """A callback belongs to the client whose function was called: the other one's ring stays empty."""
    with shim.clients(2) as (first, second):
        mine, other = (Listening(client, EventMask.ACCEPT, context=1) for client in (first, second))
        first.script(mine.number, Callback.ACCEPT, Answer.take(number=60))
        with mine.connect():
            enter, leave = one(mine.until(Callback.ACCEPT), Callback.ACCEPT)
            assert (enter.context, leave.new_socket) == (1, 60)
            assert other.batch().callbacks(Callback.ACCEPT) == ()
            assert [entry.number for entry in second.sockets()] == [other.number]


@pytest.mark.parametrize("context", [0, 1, 0xFFFF_FFFF_FFFF_FFFF])
def test_a_context_is_any_number(client: WskClient, context: int) -> None:
    """It is delivered as it was given and never followed (WSK-SOCK-017)."""
    listening = Listening(client, EventMask.ACCEPT, context=context)
    with listening.connect():
        enter, _ = one(listening.until(Callback.ACCEPT), Callback.ACCEPT)
    assert enter.context == context
    assert Note.AMBIGUOUS not in enter.notes


def test_sockets_with_the_same_context_are_told_apart_as_far_as_can_be(client: WskClient) -> None:
    """Two listeners with one context: the event says that it may be either."""
    first = Listening(client, EventMask.ACCEPT, context=5)
    Listening(client, EventMask.ACCEPT, context=5)
    with first.connect():
        (enter,) = first.until(Callback.ACCEPT).callbacks(Callback.ACCEPT)
    assert Note.AMBIGUOUS in enter.notes


def test_the_samples_context_is_never_shown(client: WskClient) -> None:
    """The published sample hands over a pointer of the driver: its events have the socket and no context."""
    number = client.create_listening_socket_sample().new_socket
    listening = Listening.__new__(Listening)
    listening.client, listening.number = client, number
    listening.ready(EventMask.ACCEPT)
    with listening.connect():
        enter, _ = one(listening.until(Callback.ACCEPT), Callback.ACCEPT)
    assert (enter.socket, enter.context) == (number, 0)


def test_a_call_from_inside_a_callback(client: WskClient) -> None:
    """`then_op` sends from the receive callback, on its thread; it completes as usual (WSK-EVT-015)."""
    listening, peer = accepted(client)
    held = client.submit(Operation.send(50, b"from inside", switches=Switch.HELD))
    client.script(50, Callback.RECEIVE, Answer.take(uses=0, then_op=held.op_id))
    with peer:
        peer.sendall(b"x")
        assert peer.recv(20) == b"from inside"
        record = held.result(soon())
        enter, leave = one(listening.until(Callback.RECEIVE), Callback.RECEIVE)
        assert record.call_thread == enter.thread
        assert enter.sequence < record.enter_sequence < leave.sequence


def test_a_close_from_inside_a_callback(client: WskClient) -> None:
    """It may be started there; it completes after the callback has returned (WSK-CLOSE-005)."""
    listening, peer = accepted(client)
    held = client.submit(Operation.close(50, switches=Switch.HELD))
    client.script(50, Callback.RECEIVE, Answer.take(then_op=held.op_id, hold_ms=5))
    with peer:
        peer.sendall(b"x")
        record = held.result(soon())
        assert record.succeeded, record.describe()
        _, leave = one(listening.until(Callback.RECEIVE), Callback.RECEIVE)
        assert record.completion_sequence > leave.sequence
    assert [entry.number for entry in client.sockets()] == [listening.number]


def test_events_are_not_disabled_from_inside_a_callback(client: WskClient) -> None:
    """Such a `then_op` is given up before any call."""
    listening = Listening(client, EventMask.ACCEPT)
    disabling = Operation.events(
        listening.number, EventMask.ACCEPT | EventMask.DISABLE, switches=Switch.HELD | Switch.NULL_IRP
    )
    held = client.submit(disabling)
    client.script(listening.number, Callback.ACCEPT, Answer.refuse(then_op=held.op_id))
    listening.connect().close()
    record = held.result(soon())
    assert (record.state, record.driver_status) == (State.NOT_STARTED, STATUS["STATUS_INVALID_DEVICE_REQUEST"])


def conditional(client: WskClient) -> Listening:
    number = client.socket(Category.LISTEN, dispatch=Dispatch.FULL, socket_context=0x1111).new_socket
    assert client.set_option(number, SocketOption.CONDITIONAL_ACCEPT, 1).succeeded
    listening = Listening.__new__(Listening)
    listening.client, listening.number = client, number
    listening.ready(0)
    return listening


def test_an_inspection_is_answered_at_once(client: WskClient) -> None:
    """TAKE lets the connection come to a queued accept; its id is the one seen at the inspection (WSK-INS-003, 009)."""
    listening = conditional(client)
    client.script(listening.number, Callback.INSPECT, Answer.take())
    accepting = client.accept(listening.number)
    with listening.connect():
        enter, leave = one(listening.until(Callback.INSPECT), Callback.INSPECT)
        assert enter.object != 0
        assert leave.status == InspectAction.ACCEPT
        record = accepting.result(soon())
        assert record.succeeded, record.describe()
        query = client.ioctl(record.new_socket, SocketIoctl.WSK_QUERY_INSPECT_ID, output=16, switches=Switch.NULL_IRP)
        assert query.inspect == enter.object
        assert query.extra == b"", "an id may hold a pointer"


def test_an_inspection_is_decided_later(client: WskClient) -> None:
    """PEND, then WskInspectComplete by the inspection's number; the connection is delivered (WSK-INS-005)."""
    listening = conditional(client)
    client.script(listening.number, Callback.INSPECT, Answer.pend(uses=2))
    accepting = client.accept(listening.number)
    with listening.connect() as first:
        batch = listening.until(Callback.INSPECT)
        enter = batch.callbacks(Callback.INSPECT)[0]
        done = client.run(Operation.inspect_complete(listening.number, enter.object, InspectAction.ACCEPT))
        assert done.succeeded, done.describe()
        assert accepting.result(soon()).succeeded
        assert first.fileno() >= 0
    with listening.connect():
        batch = listening.until(Callback.INSPECT, 2)
        second = batch.callbacks(Callback.INSPECT)[1]
        assert second.object != enter.object
        done = client.run(Operation.inspect_complete(listening.number, second.object, InspectAction.REJECT))
        assert done.succeeded


def test_an_invented_inspection_fails(client: WskClient) -> None:
    """An id that WSK never gave (WSK-INS-008); the driver itself knows only its own numbers."""
    listening = conditional(client)
    unknown = client.run(Operation.inspect_complete(listening.number, 99, 1))
    assert unknown.state is State.NOT_STARTED
    made_up = client.run(Operation.inspect_complete(listening.number, 99, 1, switches=Switch.UNKNOWN_ID))
    assert made_up.state is State.COMPLETED
    assert not made_up.succeeded


def test_a_stream_socket_listens_and_connects(client: WskClient) -> None:
    """Bind, listen, accept in one role; connect in the other; its two tables are both served."""
    with peer_listener() as server:
        stream = client.socket(Category.STREAM, dispatch=Dispatch.FULL, socket_context=3).new_socket
        assert client.bind(stream, LOOPBACK).succeeded
        record = client.connect(stream, SocketAddress.of(*server.getsockname()))
        assert record.succeeded, record.describe()
        peer, _ = server.accept()
        with peer:
            assert client.enable_events(stream, EventMask.RECEIVE).succeeded
            client.script(stream, Callback.RECEIVE, Answer.take())
            peer.sendall(b"to a stream")
            listening = Listening.__new__(Listening)
            listening.client, listening.seen = client, ()
            enter, _ = one(listening.until(Callback.RECEIVE), Callback.RECEIVE)
            assert (enter.length, enter.context) == (11, 3)
    other = client.socket(Category.STREAM, dispatch=Dispatch.FULL).new_socket
    assert client.bind(other, LOOPBACK).succeeded
    assert client.listen(other).succeeded
    address = client.local_address(other).local
    assert address is not None
    accepting = client.accept(other)
    with socket.create_connection((address.host, address.port)):
        record = accepting.result(soon())
        assert record.succeeded, record.describe()
        assert record.category in (Category.CONNECTION, Category.STREAM)


def test_the_ring_drops_and_counts(client: WskClient) -> None:
    """More events than the ring holds: the oldest are there, the rest is counted, the driver goes on."""
    while client.events().events:
        pass
    for _ in range(400):
        client.run(Operation(function=abi.Function.PROVIDER_INFO))
    for _ in range(200):
        client.close_socket(client.socket(Category.LISTEN).new_socket)
    batch = client.events()
    assert len(batch.events) + batch.remaining <= abi.EVENT_CAPACITY
    assert batch.dropped > 0
    assert client.ledger().client.events_dropped == batch.dropped


def test_options_of_an_event_request_are_checked_by_wsk(client: WskClient) -> None:
    """Foreign identifiers, wrong sizes and bits of other categories are WSK's to refuse (WSK-EVT-004)."""
    listening = Listening(client)
    for more in (
        {"npi": 2},
        {"npi": 3},
        {"input_size": 8},
        {"event_mask": 0},
        {"event_mask": EventMask.RECEIVE_FROM},
        {"control_type": ControlType.GET_OPTION},
    ):
        operation = Operation.events(listening.number, EventMask.ACCEPT)
        values = {name: getattr(operation, name) for name in operation.__dataclass_fields__} | more
        record = client.run(Operation(**values))
        assert not record.succeeded, (more, record.describe())


def test_scripts_end_with_their_client(shim: LocalShim) -> None:
    """Scripts that were never used leave nothing behind."""
    with shim.clients() as (client,):
        for number in range(1, 20):
            client.script(number, Callback.RECEIVE, Answer.take())
        with pytest.raises(DriverRefusal):
            client.script(1, Callback.ACCEPT, Answer.take())
