"""The completion contract, judged on every operation of every case (rules WSK-IRP-001 to 005).

The judge sees final records only. An operation that is still outstanding is nobody's failure yet: the fixture
closes the case's sockets first, which must end everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wsklab.abi import DeviceObjectKind, EventKind, Function, RecordFlag, State, is_success
from wsklab.ntstatus import STATUS
from wsklab.pytest_plugin.matchers import call_name, status_text
from wsklab.pytest_plugin.observe import Observe, Seen
from wsklab.records import Event, Record
from wsklab.rules import AssertionClass

__all__ = ["Judged", "judge_record", "timeline"]

_PENDING = STATUS["STATUS_PENDING"]
_MUST = AssertionClass.MUST
_EXPECT = AssertionClass.EXPECT

#: Operations that hand no IRP to WSK.
_WITHOUT_IRP = frozenset(
    {
        Function.REGISTER,
        Function.CAPTURE,
        Function.RELEASE_NPI,
        Function.DEREGISTER,
        Function.QUERY_CHARACTERISTICS,
        Function.PROVIDER_INFO,
        Function.SOCKET_INFO,
        Function.FREE_ADDRESS_INFO,
        Function.RELEASE_DATA,
        Function.RELEASE_DATAGRAM,
        Function.NMR_REGISTER,
        Function.NMR_DEREGISTER,
        Function.INDICATION_INFO,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A record and what only the caller knows of the operation.

    Attributes:
        with_irp: False when the case passed no IRP, or no client, on purpose: what becomes of the IRP then is its own.
        single_location: whether our routine sits in the top stack location; if not, the catch-all above it counts.
    """

    record: Record
    with_irp: bool = True
    single_location: bool = True


def judge_record(observe: Observe, judged: Judged) -> None:
    """Add the assertions of the central rules that this operation is subject to."""
    record = judged.record
    if record.function in _WITHOUT_IRP or not judged.with_irp or not record.has(RecordFlag.RETURNED):
        return
    name = call_name(record.function)
    if not judged.single_location and not record.completion_count:
        return  # the routine was skipped, as its flags say; the catch-all says nothing of status and order
    if record.returned_status == _PENDING:
        _after_pending(observe, name, record)
    elif is_success(record.returned_status):
        _after_success(observe, name, record)
    else:
        _after_failure(observe, name, record)
    if record.completion_count:
        _pending_flag(observe, name, record)
        _arguments(observe, name, record)
        _stack(observe, name, judged)


def _after_pending(observe: Observe, name: str, record: Record) -> None:
    observe.central(
        "WSK-IRP-001",
        _MUST,
        f"{name}: completions after pending",
        Seen(record.completion_count == 1, _count(record)),
        "1 completion",
    )


def _after_success(observe: Observe, name: str, record: Record) -> None:
    held = record.completion_count == 1 and is_success(record.completion_status)
    observe.central(
        "WSK-IRP-002",
        _MUST,
        f"{name}: completion after success",
        Seen(held, _completion(record)),
        "1 completion with success",
    )
    if record.completion_count:
        observe.central(
            "WSK-IRP-002",
            _EXPECT,
            f"{name}: order after success",
            Seen(record.inline, _order(record)),
            "completed before the return",
        )


def _after_failure(observe: Observe, name: str, record: Record) -> None:
    held = record.completion_count == 1 and not is_success(record.completion_status)
    observe.central(
        "WSK-IRP-003",
        _MUST,
        f"{name}: completion after failure",
        Seen(held, f"returned {status_text(record.returned_status)}, {_completion(record)}"),
        "1 completion with a failure",
    )
    if not record.completion_count:
        return
    same = record.completion_status == record.returned_status
    observe.central(
        "WSK-IRP-003",
        _EXPECT,
        f"{name}: IoStatus after failure",
        Seen(same, "the returned status" if same else _completion(record)),
        "the returned status",
    )
    observe.central(
        "WSK-IRP-003",
        _EXPECT,
        f"{name}: order after failure",
        Seen(record.inline, _order(record)),
        "completed before the return",
    )


def _pending_flag(observe: Observe, name: str, record: Record) -> None:
    pending = record.returned_status == _PENDING
    flag = record.has(RecordFlag.PENDING_RETURNED)
    observe.central(
        "WSK-IRP-004",
        _EXPECT,
        f"{name}: PendingReturned after {'pending' if pending else 'another return'}",
        Seen(flag == pending, f"PendingReturned {str(flag).upper()}"),
        f"PendingReturned {str(pending).upper()}",
    )


def _arguments(observe: Observe, name: str, record: Record) -> None:
    """Both stand in the stack location that the client filled."""
    seen = [str(flag.name) for flag in (RecordFlag.IRP_MATCH, RecordFlag.CONTEXT_MATCH) if not record.has(flag)]
    observe.central(
        "WSK-IRP-005",
        _MUST,
        f"{name}: the routine's IRP and context",
        Seen(not seen, f"missing {', '.join(seen)}" if seen else "the client's"),
        "the client's",
    )


def _stack(observe: Observe, name: str, judged: Judged) -> None:
    record = judged.record
    if not judged.single_location:
        return
    observe.central(
        "WSK-IRP-005",
        _MUST,
        f"{name}: stack at completion",
        Seen(
            record.completion_location == record.stack_count + 1,
            f"CurrentLocation {record.completion_location} of {record.stack_count} locations",
        ),
        "CurrentLocation is StackCount + 1",
    )
    observe.central(
        "WSK-IRP-005",
        _EXPECT,
        f"{name}: device object",
        Seen(record.device_object is DeviceObjectKind.NULL, f"DeviceObject {record.device_object.name.lower()}"),
        "DeviceObject null",
    )


def _count(record: Record) -> str:
    lost = " (lost)" if record.state is State.LOST else ""
    return f"{record.completion_count} completions{lost}"


def _completion(record: Record) -> str:
    if not record.completion_count:
        return "0 completions"
    return f"{record.completion_count} completions, IoStatus {status_text(record.completion_status)}"


def _order(record: Record) -> str:
    return "completed before the return" if record.inline else "completed after the return"


def timeline(records: Iterable[Record], events: Iterable[Event] = ()) -> list[str]:
    """Every call, return, completion and callback in the order of the driver's one sequence counter."""
    moments = [moment for event in events if (moment := _callback(event)) is not None]
    for record in records:
        name = f"#{record.op_id} {call_name(record.function)}"
        target = record.socket or record.new_socket
        name += f" socket {target}" if target else ""
        if record.state is State.NOT_STARTED:
            moments.append((1 << 63, record.submit_ns, f"{name} not started: {status_text(record.driver_status)}"))
            continue
        moments.append(
            (
                record.enter_sequence,
                record.enter_ns,
                f"{name} call        t{record.call_thread} irql {record.call_irql}",
            )
        )
        if record.has(RecordFlag.RETURNED):
            moments.append(
                (
                    record.return_sequence,
                    record.return_ns,
                    f"{name} return      t{record.call_thread} {status_text(record.returned_status)}",
                )
            )
        if record.completion_count:
            moments.append(
                (
                    record.completion_sequence,
                    record.completion_ns,
                    f"{name} completion  t{record.completion_thread} irql {record.completion_irql} "
                    f"{record.completion_count}x {status_text(record.completion_status)} "
                    f"Information {record.information_kind.name.lower()} {record.information}"
                    f"{' PendingReturned' if record.has(RecordFlag.PENDING_RETURNED) else ''}",
                )
            )
        elif record.state in {State.OUTSTANDING, State.LOST}:
            moments.append((1 << 62, record.return_ns, f"{name} no completion ({record.state.name.lower()})"))
    moments.sort(key=lambda moment: moment[0])
    start = min((ns for _, ns, _ in moments), default=0)
    return [f"{(ns - start) / 1e6:10.3f} ms  {text}" for _, ns, text in moments]


def _callback(event: Event) -> tuple[int, int, str] | None:
    """One line about an event callback."""
    name = f"{event.callback.name.lower()} callback" + (f" socket {event.socket}" if event.socket else "")
    where = f"t{event.thread} irql {event.irql}"
    if event.kind is EventKind.CALLBACK_ENTER:
        peer = f" from {event.remote}" if event.remote is not None else ""
        said = f" {event.length} bytes" if event.length else ""
        return event.sequence, event.time_ns, f"{name} enter  {where} flags {event.flags:#x}{said}{peer}"
    if event.kind is EventKind.CALLBACK_EXIT:
        done = f"{event.action.name.lower()} {status_text(event.status)}"
        return event.sequence, event.time_ns, f"{name} exit   {where} {done}"
    if event.kind is EventKind.DATAGRAM:
        return event.sequence, event.time_ns, f"{name} datagram {event.value}: {event.length} bytes from {event.remote}"
    return None
