"""WskClient: what it sends, in how many round trips, and what it makes of the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from wsklab import abi
from wsklab.abi import (
    AddressUse,
    Category,
    Dispatch,
    Fill,
    Function,
    InputKind,
    Ioctl,
    MdlShape,
    RecordFlag,
    State,
    Switch,
    Use,
)
from wsklab.channel.operations import DriverRefusal, Operation, WskClient
from wsklab.deadline import Deadline
from wsklab.errors import DeadlineExceeded
from wsklab.records import SocketAddress
from wsklab.wsk import DisconnectFlag, EventMask, InspectAction, SocketIoctl, SocketOption

ADDRESS = SocketAddress.of("127.0.0.1", 9)


@dataclass
class Answer:
    status: int = 0
    win32: int = 0
    data: bytes = b""


@dataclass
class Recorder:
    """A device that writes down what it is asked and answers from a function."""

    reply: Callable[[int, bytes], Answer]
    sent: list[tuple[int, bytes, int]] = field(default_factory=list)
    closed: bool = False

    def ioctl(self, code: int, data: bytes, output_size: int, deadline: Deadline) -> Answer:
        self.sent.append((code, data, output_size))
        return self.reply(code, data)

    def close(self) -> None:
        self.closed = True


def record(data: bytes = b"", **values: object) -> Answer:
    base: dict[str, object] = {
        "size": abi.RECORD.size,
        "function": 3,
        "state": State.COMPLETED,
        "data_length": len(data),
        "data_total": len(data),
    }
    return Answer(data=abi.RECORD.pack(base | values) + data)


def answers(code: int, data: bytes) -> Answer:
    return record() if code in (Ioctl.RUN, Ioctl.WAIT, Ioctl.FETCH) else Answer()


def sent_submit(device: Recorder) -> dict[str, object]:
    return abi.SUBMIT.unpack(next(data for code, data, _ in device.sent if code in (Ioctl.SUBMIT, Ioctl.RUN)))


def test_run_is_one_request() -> None:
    """Fact: starting an operation, waiting for its end and releasing it travel as one request with a time limit."""
    device = Recorder(answers)
    WskClient(device).bind(7, SocketAddress.of("127.0.0.1", 80))
    assert [Ioctl(code).name for code, _, _ in device.sent] == ["RUN"]
    assert sent_submit(device)["wait_flags"] == abi.RELEASE
    assert 0 < int(str(sent_submit(device)["wait_ms"])) <= 20_000


def test_numbers_are_chosen_here_and_never_twice() -> None:
    """Fact: operations, new sockets and cookies get numbers of their own; given ones are kept."""
    device = Recorder(answers)
    client = WskClient(device)
    client.socket(Category.LISTEN)
    client.socket(Category.LISTEN, new_socket=50)
    submits = [abi.SUBMIT.unpack(data) for code, data, _ in device.sent if code == Ioctl.RUN]
    assert submits[0]["op_id"] != submits[1]["op_id"]
    assert submits[0]["completion_cookie"] != submits[1]["completion_cookie"]
    assert submits[0]["new_socket"] > 0
    assert submits[1]["new_socket"] == 50


def test_the_sample_has_no_arguments_of_its_own() -> None:
    """Fact: the published sample is one function number; family, type and flags are the page's, in the driver."""
    device = Recorder(answers)
    WskClient(device).create_listening_socket_sample()
    submit = sent_submit(device)
    assert submit["function"] == Function.SAMPLE_LISTEN
    assert submit["dispatch"] == Dispatch.FULL
    assert (submit["family"], submit["flags"]) == (0, 0)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (
            Operation.send(1, b"abc"),
            {"buffer_length": 3, "data_length": 3, "fill": Fill.DATA, "mdl_shape": MdlShape.SINGLE},
        ),
        (
            Operation.receive(1, 9),
            {"buffer_length": 9, "data_length": 0, "fill": Fill.NONE, "mdl_shape": MdlShape.SINGLE},
        ),
        (Operation.receive(1, 0), {"buffer_length": 0, "mdl_shape": MdlShape.NULL}),
        (Operation.send(1, b"abcd", chunks=(1, 3)), {"mdl_shape": MdlShape.CHAIN, "chunks": (1, 3, *[0] * 14)}),
        (Operation.accept(1), {"address_use": AddressUse.LOCAL | AddressUse.REMOTE}),
        (Operation.accept(1, address_use=AddressUse(0)), {"address_use": 0}),
        (Operation.connect(1, SocketAddress.of("::1", 2)), {"address_use": AddressUse.REMOTE}),
        (Operation.close(1, switches=Switch.HELD), {"switches": Switch.HELD, "socket": 1}),
        (
            Operation.set_option(1, SocketOption.KEEPALIVE, 1),
            {"control_type": 0, "control_code": 8, "control_level": 0xFFFF, "input_size": 4, "extra_length": 4},
        ),
        (
            Operation.get_option(1, SocketOption.RCVBUF),
            {"control_type": 1, "output_size": 4, "input_kind": InputKind.NONE, "input_size": 0, "argument_use": 0},
        ),
        (
            Operation.events(1, EventMask.ACCEPT),
            {
                "input_kind": InputKind.EVENT_CALLBACK,
                "input_size": 16,
                "switches": Switch.NULL_IRP,
                "event_mask": 0x200,
            },
        ),
        (
            Operation.ioctl(1, SocketIoctl.ADDRESS_LIST_QUERY, output=9, switches=Switch.NULL_IRP),
            {"control_type": 2, "output_size": 9, "argument_use": Use.SIZE_RETURNED},
        ),
        (Operation.release_descriptor(5), {"object": 5, "input_kind": InputKind.CACHED, "input_size": 8}),
        (Operation.send_to(1, b"ab", None), {"address_use": 0, "data_length": 2, "extra_length": 0}),
        (
            Operation.send_to(1, b"ab", ADDRESS, extra=b"c" * 16),
            {"address_use": AddressUse.REMOTE, "extra_length": 16, "argument_use": Use.CONTROL_INFO},
        ),
        (
            Operation.send_messages(1, (b"a", b"bc"), ADDRESS),
            {"chunks": (1, 2, *[0] * 14), "buffer_length": 3, "mdl_shape": MdlShape.CHAIN},
        ),
        (
            Operation.receive_from(1, 100, control=64),
            {"buffer_length": 100, "output_size": 64, "argument_use": 14, "address_use": AddressUse.REMOTE},
        ),
        (Operation.receive_from(1, 100), {"output_size": 0, "argument_use": Use.CONTROL_FLAGS}),
        (
            Operation.address_info("ab", None),
            {"node_length": 4, "service_length": 0, "extra_length": 4, "argument_use": Use.NODE, "output_size": 0},
        ),
        (
            Operation.name_info(ADDRESS, service=0),
            {"node_length": 512, "service_length": 0, "argument_use": Use.NODE, "address_use": AddressUse.REMOTE},
        ),
        (Operation.inspect_complete(1, 3, InspectAction.PEND), {"object": 3, "inspect_action": 2}),
        (Operation.release_datagrams(1, 3, 2), {"object": 3, "count": 2}),
        (Operation.disconnect(1, flags=DisconnectFlag.ABORTIVE), {"flags": 1, "mdl_shape": MdlShape.NULL}),
    ],
)
def test_operations_encode_what_they_say(operation: Operation, expected: dict[str, object]) -> None:
    """Fact: lengths, shapes and address use follow from the arguments."""
    fields = abi.SUBMIT.unpack(operation.encode())
    assert {name: fields[name] for name in expected} == expected
    assert operation.encode()[abi.SUBMIT.size :] == operation.data + operation.extra


def test_new_objects_get_numbers_of_their_own() -> None:
    """Fact: what makes an object names it; what does not, sends 0."""
    device = Recorder(answers)
    client = WskClient(device)
    client.cache_descriptor()
    client.run(Operation.get_security(1))
    client.set_option(1, SocketOption.BROADCAST, 1)
    numbers = [abi.SUBMIT.unpack(data)["new_object"] for _, data, _ in device.sent]
    assert numbers == [1, 2, 0]


def test_data_and_extra_are_parted() -> None:
    """Fact: control information comes behind the datagram; `data` and `extra` are the two."""

    def reply(code: int, data: bytes) -> Answer:
        return record(b"datagramcontrol", data_total=15, extra_total=7) if code == Ioctl.WAIT else Answer()

    got = WskClient(Recorder(reply)).receive_from(1, 8, control=7).result(Deadline.after(5))
    assert (got.data, got.extra) == (b"datagram", b"control")


def test_a_refusal_is_an_error_with_the_status() -> None:
    """Fact: STATUS_NOT_IMPLEMENTED on SUBMIT is `not_implemented`; the wait sent along is read all the same."""

    def reply(code: int, data: bytes) -> Answer:
        return Answer(status=abi.STATUS["STATUS_NOT_IMPLEMENTED"], win32=1)

    with pytest.raises(DriverRefusal) as refusal:
        WskClient(Recorder(reply)).run(Operation(function=Function.DISCONNECT))
    assert refusal.value.not_implemented
    assert "STATUS_NOT_IMPLEMENTED" in refusal.value.why


def test_an_operation_that_does_not_end_is_a_deadline() -> None:
    """Fact: run and result raise with the record in words; wait gives the record as it is."""

    def reply(code: int, data: bytes) -> Answer:
        outstanding = record(state=State.OUTSTANDING, flags=RecordFlag.TIMED_OUT)
        return outstanding if code in (Ioctl.RUN, Ioctl.WAIT) else Answer()

    client = WskClient(Recorder(reply))
    with pytest.raises(DeadlineExceeded) as error:
        client.run(Operation.close(1), Deadline.after(0.1))
    assert "OUTSTANDING" in error.value.why
    pending = client.accept(1)
    assert not pending.wait(Deadline.after(0.1)).final
    with pytest.raises(DeadlineExceeded):
        pending.result(Deadline.after(0.1))


def test_data_that_does_not_fit_is_fetched() -> None:
    """Fact: the rest of a large receive is fetched by offset until all of it is there."""
    whole = bytes(range(256)) * 4

    def reply(code: int, data: bytes) -> Answer:
        at = 0 if code == Ioctl.WAIT else abi.FETCH.unpack(data)["data_offset"] if code == Ioctl.FETCH else None
        if at is None:
            return Answer()
        return record(whole[at : at + 300], data_total=len(whole), data_offset=at)

    client = WskClient(Recorder(reply))
    assert client.receive(1, 2048).result(Deadline.after(5)).data == whole


def test_the_drivers_timer_fires_before_the_channels_deadline() -> None:
    """Fact: run's timer is sooner than its deadline; a wait's timer is the deadline, the channel gets more."""
    device = Recorder(answers)
    client = WskClient(device)
    client.run(Operation.close(1), Deadline.after(4))
    client.wait(1, Deadline.after(4))
    (_, run, _), (_, wait, _) = device.sent
    assert 3000 <= abi.SUBMIT.unpack(run)["wait_ms"] < 3600
    assert 3900 <= abi.WAIT.unpack(wait)["timeout_ms"] <= 4000


def test_close_closes_the_handle() -> None:
    """Fact: a client's end is its handle's end."""
    device = Recorder(answers)
    WskClient(device).close()
    assert device.closed
