"""A `WskClient` that hands every record to the case's observations."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace

from wsklab.abi import Action, Callback, Function, IrpSource, ObjectKind, RecordFlag, SocketState, State, Switch
from wsklab.channel.operations import (
    Answer,
    DriverRefusal,
    IoctlDevice,
    IoctlResult,
    Operation,
    PendingOperation,
    ScriptEnd,
    WskClient,
)
from wsklab.deadline import Deadline
from wsklab.errors import DeadlineExceeded, GuestError
from wsklab.ntstatus import STATUS
from wsklab.pytest_plugin.judge import Judged, judge_record
from wsklab.pytest_plugin.matchers import call_name
from wsklab.pytest_plugin.observe import Observe
from wsklab.records import Event, EventBatch, Record

__all__ = ["DRIVER_GONE", "ObservedClient"]

#: How a request ends when the driver, or the process that hosts it on Wine, went away under an open handle:
#: STATUS_DELETE_PENDING, STATUS_DEVICE_NOT_CONNECTED, STATUS_FILE_DELETED.
DRIVER_GONE = frozenset({0xC0000056, 0xC000009D, 0xC0000123})

#: How long a driver that seems to hang is asked about that, in seconds; each question.
_ASK_S = 1.0
_NOT_IMPLEMENTED = STATUS["STATUS_NOT_IMPLEMENTED"]
_NOT_SUPPORTED = STATUS["STATUS_NOT_SUPPORTED"]


class ObservedClient(WskClient):
    """The client of one case. Every operation it makes is judged when the case settles.

    An operation that the driver does not have yet ends the case as `not_implemented`.

    Args:
        device: the case's own handle. call_s: the default bound of an operation, in seconds.
        tell: shown each record as it comes; None: nobody watches.
        grace_ms: `Operation.grace_ms` of those that do not say; 0: the driver's default.
    """

    def __init__(
        self,
        device: IoctlDevice,
        observe: Observe,
        *,
        call_s: float,
        grace_ms: int = 0,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(device, call_s=call_s)
        self._grace_ms = grace_ms
        self._observe = observe
        self._settle_s = call_s
        self._made: dict[int, Operation] = {}
        self._sent: dict[int, float] = {}
        #: calls that the driver's end ended
        self._cut: list[str] = []
        self._is_silent = False
        self._records: dict[int, Record] = {}
        self._events: list[Event] = []
        self._keeps = False
        self._tell = tell
        #: settled and closed before the case's end
        self.finished = False

    @property
    def records(self) -> tuple[Record, ...]:
        """The latest record of every operation, in the order of the operations."""
        return tuple(self._records[op_id] for op_id in sorted(self._records))

    @property
    def heard(self) -> EventBatch:
        """All events that were taken out of the ring so far."""
        return EventBatch(events=tuple(self._events), remaining=0, dropped=0)

    def events(self, deadline: Deadline | None = None) -> EventBatch:
        """See `WskClient.events`; they stay in `heard`."""
        batch = super().events(deadline)
        self._events.extend(batch.events)
        self._events.sort(key=lambda event: event.sequence)
        return batch

    def callbacks(self, callback: Callback, socket: int | None = None) -> tuple[Event, ...]:
        """What WSK has said through one event callback (of one socket) since the case began."""
        self.events()
        return self.heard.callbacks(callback, socket)

    def script(self, socket: int, callback: Callback, *answers: Answer, deadline: Deadline | None = None) -> ScriptEnd:
        """See `WskClient.script`."""
        self._keeps = self._keeps or any(answer.action is Action.KEEP for answer in answers)
        try:
            return super().script(socket, callback, *answers, deadline=deadline)
        except DriverRefusal as refusal:
            if refusal.not_implemented:
                self._observe.not_implemented("scripts for event callbacks")
            raise

    def forward(self, operation: Operation, deadline: Deadline) -> IoctlResult:
        """See `WskClient.forward`; its record is judged, too."""
        operation = self._remember(operation)
        result = super().forward(operation, deadline)
        if result.status in {_NOT_IMPLEMENTED, _NOT_SUPPORTED}:
            self._made.pop(operation.op_id)
            self._observe.not_implemented("forwarded IRPs")
        self.fetch(operation.op_id, deadline)
        return result

    def submit(self, operation: Operation, deadline: Deadline | None = None) -> PendingOperation:
        """See `WskClient.submit`."""
        operation = self._remember(operation)
        try:
            return super().submit(operation, deadline)
        except DriverRefusal as refusal:
            self._refused(operation, refusal)
            raise

    def run(self, operation: Operation, deadline: Deadline | None = None, *, release: bool = True) -> Record:
        """See `WskClient.run`."""
        operation = self._remember(operation)
        try:
            return self._see(super().run(operation, deadline, release=release))
        except DriverRefusal as refusal:
            self._refused(operation, refusal)
            raise

    def wait(self, op_id: int, deadline: Deadline, *, release: bool = False, expects: int = 0) -> Record:
        """See `WskClient.wait`."""
        return self._see(super().wait(op_id, deadline, release=release, expects=expects))

    def fetch(self, op_id: int, deadline: Deadline | None = None, *, release: bool = False) -> Record:
        """See `WskClient.fetch`."""
        return self._see(super().fetch(op_id, deadline, release=release))

    def settle(self) -> None:
        """Close what the case left open, await everything, and judge every operation.

        Raises:
            DeadlineExceeded: a close did not end.
        """
        deadline = Deadline.after(self._settle_s)
        self._release_kept(deadline)
        # the newest first, so that what was accepted goes before its listener (docs/wine.md: Wine closes it twice)
        for entry in reversed(self.sockets(deadline)):
            if entry.state is SocketState.OPEN:
                self.close_socket(entry.number, deadline=deadline)
        for op_id, operation in self._made.items():
            known = self._records.get(op_id)
            if known is not None and known.final:
                continue
            with contextlib.suppress(DriverRefusal):  # released by the case, or never taken
                self.wait(op_id, deadline.sooner(2.0), expects=operation.expects)
        self.judge(ended_only=False)

    def _release_kept(self, deadline: Deadline) -> None:
        """Give kept indications back before their sockets close, as every client has to."""
        for entry in self.objects(deadline) if self._keeps else ():
            if entry.kind is ObjectKind.DATA:
                self.run(Operation.release_data(entry.socket, entry.number), deadline)
            elif entry.kind is ObjectKind.DATAGRAM:
                self.run(Operation.release_datagrams(entry.socket, entry.number), deadline)

    def look_back(self) -> None:
        """Take the events that the case did not look at, for the story of its failure."""
        with contextlib.suppress(GuestError, DeadlineExceeded):
            self.events(Deadline.after(2.0))

    def judge(self, *, ended_only: bool = True) -> None:
        """Judge every operation that has a record; once per case.

        Args:
            ended_only: leave out what is still outstanding; False after everything was closed and awaited.
        """
        for record in self.records:
            if ended_only and not record.final:
                continue
            operation = self._made.get(record.op_id)
            judge_record(
                self._observe,
                Judged(
                    record=record,
                    with_irp=operation is None or not operation.switches & (Switch.NULL_IRP | Switch.NULL_CLIENT),
                    single_location=operation is None
                    or (not operation.second_location and operation.irp_source is not IrpSource.FORWARDED),
                ),
            )

    def outstanding(self) -> str:
        """The calls that have not ended, and since when, in words; for whoever explains a hang.

        The driver is asked, shortly: by its clock and its ledger where it answers, else by ours.
        """
        return ", ".join(f"{name} ({self._since(op_id)})" for op_id, name in list(self._unfinished().items())[-4:])

    def unfinished(self) -> list[str]:
        """The calls whose end was not seen."""
        return [*self._cut, *self._unfinished().values()]

    def _unfinished(self) -> dict[int, str]:
        return {
            op_id: f"{call_name(operation.function)} #{op_id}"
            for op_id, operation in self._made.items()
            if (record := self._records.get(op_id)) is None or not record.final
        }

    def _since(self, op_id: int) -> str:
        sent = f"sent {time.monotonic() - self._sent.get(op_id, time.monotonic()):.1f} s ago"
        if self._is_silent:
            return sent
        try:
            record = super().fetch(op_id, Deadline.after(_ASK_S))
            now = super().hello(Deadline.after(_ASK_S)).now_ns
            ledger = super().ledger(Deadline.after(_ASK_S)).client
        except DriverRefusal as refusal:
            return f"{sent}; the driver: {refusal.why}"
        except (GuestError, DeadlineExceeded):
            self._is_silent = True
            return f"{sent}; the driver answers nothing"
        called = f"called {(now - record.enter_ns) / 1e9:.1f} s ago" if record.enter_ns else "not called yet"
        returned = "returned" if record.has(RecordFlag.RETURNED) else "not returned"
        return f"{called}, {returned}, by the driver's clock; its ledger: {ledger.outstanding} outstanding"

    def _remember(self, operation: Operation) -> Operation:
        operation = replace(
            operation,
            op_id=operation.op_id or self.next_operation(),
            grace_ms=operation.grace_ms or self._grace_ms,
        )
        self._made[operation.op_id] = operation
        self._sent[operation.op_id] = time.monotonic()
        if self._tell is not None:
            self._tell(f"-> {call_name(operation.function)} #{operation.op_id}")
        return operation

    def _see(self, record: Record) -> Record:
        self._records[record.op_id] = record
        if self._tell is not None:
            self._tell(record.describe())
        if record.state is State.NOT_STARTED and record.driver_status == _NOT_IMPLEMENTED:
            self._observe.not_implemented(call_name(record.function))
        return record

    def _refused(self, operation: Operation, refusal: DriverRefusal) -> None:
        del self._made[operation.op_id]
        if refusal.status in DRIVER_GONE:
            self._cut.append(f"{call_name(operation.function)} #{operation.op_id}")
        if refusal.not_implemented:
            self._observe.not_implemented(call_name(Function(operation.function)))
