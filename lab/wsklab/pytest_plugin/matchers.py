"""What cases assert of records and values, in words that a baseline can repeat."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from wsklab.abi import Function, InformationKind, RecordFlag, State, is_success, status_name
from wsklab.ntstatus import STATUS
from wsklab.pytest_plugin.observe import Matcher, Seen
from wsklab.records import Record
from wsklab.wsk import MessageFlag

__all__ = [
    "FUNCTION_NAMES",
    "before",
    "call_name",
    "completed_once",
    "equals",
    "failed",
    "flagged",
    "holds",
    "information",
    "message_flag",
    "new_socket",
    "one_of",
    "outcome",
    "refused",
    "returned",
    "status_text",
    "succeeded",
    "with_status",
]

T = TypeVar("T")

#: The WSK name of what an operation calls; for the report and for the names of central assertions.
FUNCTION_NAMES = {
    Function.SAMPLE_LISTEN: "CreateListeningSocket",
    Function.SOCKET: "WskSocket",
    Function.BIND: "WskBind",
    Function.ACCEPT: "WskAccept",
    Function.CONNECT: "WskConnect",
    Function.SEND: "WskSend",
    Function.RECEIVE: "WskReceive",
    Function.CLOSE: "WskCloseSocket",
    Function.REGISTER: "WskRegister",
    Function.CAPTURE: "WskCaptureProviderNPI",
    Function.RELEASE_NPI: "WskReleaseProviderNPI",
    Function.DEREGISTER: "WskDeregister",
    Function.QUERY_CHARACTERISTICS: "WskQueryProviderCharacteristics",
    Function.SOCKET_CONNECT: "WskSocketConnect",
    Function.CONTROL_CLIENT: "WskControlClient",
    Function.CONTROL_SOCKET: "WskControlSocket",
    Function.GET_ADDRESS_INFO: "WskGetAddressInfo",
    Function.FREE_ADDRESS_INFO: "WskFreeAddressInfo",
    Function.GET_NAME_INFO: "WskGetNameInfo",
    Function.LISTEN: "WskListen",
    Function.CONNECT_EX: "WskConnectEx",
    Function.INSPECT_COMPLETE: "WskInspectComplete",
    Function.GET_LOCAL_ADDRESS: "WskGetLocalAddress",
    Function.GET_REMOTE_ADDRESS: "WskGetRemoteAddress",
    Function.DISCONNECT: "WskDisconnect",
    Function.RELEASE_DATA: "WskRelease",
    Function.SEND_TO: "WskSendTo",
    Function.SEND_MESSAGES: "WskSendMessages",
    Function.RECEIVE_FROM: "WskReceiveFrom",
    Function.RELEASE_DATAGRAM: "WskRelease",
    Function.NMR_REGISTER: "NmrRegisterClient",
    Function.NMR_DEREGISTER: "NmrDeregisterClient",
}


def call_name(function: Function) -> str:
    """The WSK name of a function, or our own for what is none."""
    return FUNCTION_NAMES.get(function, function.name.lower())


def status_text(status: int) -> str:
    """An NTSTATUS as `0xC0000002 STATUS_NOT_IMPLEMENTED`."""
    number = f"0x{status & 0xFFFFFFFF:08X}"
    name = status_name(status)
    return number if name == number else f"{number} {name}"


def _number(status: str | int) -> int:
    return STATUS[status] if isinstance(status, str) else status


def _completion(record: Record) -> str:
    if record.state is State.NOT_STARTED:
        return f"not started: {status_text(record.driver_status)}"
    if record.completion_count:
        return f"IoStatus {status_text(record.completion_status)}"
    if not record.has(RecordFlag.RETURNED):
        return "no completion"
    said = f"returned {status_text(record.returned_status)}"
    return said if _without_irp(record) else f"{said}, no completion"


def _without_irp(record: Record) -> bool:
    """Whether its return is its end: no IRP was handed over."""
    return record.state is State.COMPLETED and record.completion_count == 0


def _outcome(record: Record) -> int | None:
    """What the operation ended with: the IRP's status after one completion, else the return without an IRP."""
    if record.completion_count == 1:
        return record.completion_status
    return record.returned_status if _without_irp(record) else None


def outcome(record: Record) -> str:
    """What an operation ended with, in words; for what is only recorded."""
    return _completion(record)


def completed_once() -> Matcher[Record]:
    """The completion routine ran once."""
    return Matcher(
        "1 completion",
        lambda record: Seen(record.completion_count == 1, f"{record.completion_count} completions"),
    )


def succeeded() -> Matcher[Record]:
    """One completion with STATUS_SUCCESS; without an IRP, such a return."""
    return Matcher("STATUS_SUCCESS", lambda record: Seen(_outcome(record) == 0, _completion(record)))


def with_status(*statuses: str | int) -> Matcher[Record]:
    """One completion with one of these statuses (names or numbers); without an IRP, such a return."""
    numbers = [_number(status) for status in statuses]
    return Matcher(
        "IoStatus " + " or ".join(status_text(number) for number in numbers),
        lambda record: Seen(_outcome(record) in numbers, _completion(record)),
    )


def failed() -> Matcher[Record]:
    """One completion with any failure status; without an IRP, such a return."""

    def look(record: Record) -> Seen:
        outcome = _outcome(record)
        return Seen(outcome is not None and not is_success(outcome), _completion(record))

    return Matcher("one completion with a failure", look)


def refused(*statuses: str | int) -> Matcher[Record]:
    """The call returned one of these failures, and what was completed says the same."""
    numbers = [_number(status) for status in statuses]

    def look(record: Record) -> Seen:
        held = record.has(RecordFlag.RETURNED) and record.returned_status in numbers
        if record.completion_count:
            held = held and record.completion_count == 1 and record.completion_status == record.returned_status
        return Seen(held, f"returned {status_text(record.returned_status)}, {_completion(record)}")

    return Matcher("refused with " + " or ".join(status_text(number) for number in numbers), look)


def returned(*statuses: str | int) -> Matcher[Record]:
    """The call itself returned one of these statuses (names or numbers)."""
    numbers = [_number(status) for status in statuses]
    return Matcher(
        "returned " + " or ".join(status_text(number) for number in numbers),
        lambda record: Seen(
            record.has(RecordFlag.RETURNED) and record.returned_status in numbers,
            f"returned {status_text(record.returned_status)}"
            if record.has(RecordFlag.RETURNED)
            else "has not returned",
        ),
    )


def information(value: int) -> Matcher[Record]:
    """IoStatus.Information is this number."""

    def look(record: Record) -> Seen:
        if record.information_kind is InformationKind.INTEGER:
            return Seen(record.information == value, f"Information {record.information}")
        return Seen(False, f"Information {record.information_kind.name.lower()}")

    return Matcher(f"Information {value}", look)


def new_socket() -> Matcher[Record]:
    """Information is a fresh, aligned socket object with a dispatch table."""
    wanted = RecordFlag.SOCKET_ALIGNED | RecordFlag.SOCKET_DISPATCH | RecordFlag.SOCKET_UNIQUE

    def look(record: Record) -> Seen:
        missing = [str(flag.name) for flag in wanted if flag not in record.flags]
        if record.information_kind is not InformationKind.SOCKET:
            said = f", Information {record.information_kind.name.lower()}" if record.succeeded else ""
            return Seen(False, _completion(record) + said)
        return Seen(not missing, f"a socket without {', '.join(missing)}" if missing else "a socket")

    return Matcher("Information is a socket object: 8-byte aligned, Dispatch set, not seen before", look)


def flagged(flags: RecordFlag, expected: str) -> Matcher[Record]:
    """All of these facts were seen."""

    def look(record: Record) -> Seen:
        missing = [str(flag.name) for flag in flags if flag not in record.flags]
        return Seen(not missing, f"missing {', '.join(missing)}" if missing else "all")

    return Matcher(expected, look)


def message_flag(flag: MessageFlag) -> Matcher[Record]:
    """WskReceiveFrom wrote its control flags, and this one is among them."""

    def look(record: Record) -> Seen:
        if not record.has(RecordFlag.CONTROL_FLAGS):
            return Seen(False, "ControlFlags not written")
        return Seen(bool(record.control_flags & flag), f"ControlFlags {record.control_flags:#x}")

    return Matcher(f"ControlFlags with {flag.name}", look)


def before(earlier: Callable[[T], int], later: Callable[[T], int], expected: str) -> Matcher[T]:
    """One sequence number comes before another, and both happened."""

    def look(subject: T) -> Seen:
        first, second = earlier(subject), later(subject)
        if not first or not second:
            return Seen(False, "one of them did not happen")
        return Seen(first < second, "in this order" if first < second else "in the other order")

    return Matcher(expected, look)


def equals(value: T) -> Matcher[T]:
    """The value itself."""
    return Matcher(repr(value), lambda seen: Seen(seen == value, repr(seen)))


def one_of(*values: T) -> Matcher[T]:
    """One of some values."""
    return Matcher(" or ".join(repr(value) for value in values), lambda seen: Seen(seen in values, repr(seen)))


def holds(expected: str, otherwise: str) -> Matcher[bool]:
    """A fact that the case has worked out itself: how it reads when it holds, and when not."""
    return Matcher(expected, lambda held: Seen(held, expected if held else otherwise))
