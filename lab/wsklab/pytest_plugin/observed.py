"""A `WskClient` that hands every record to the case's observations."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from wsklab.abi import Function, IrpSource, SocketState, State, Switch
from wsklab.channel.operations import DriverRefusal, IoctlDevice, Operation, PendingOperation, WskClient
from wsklab.deadline import Deadline
from wsklab.ntstatus import STATUS
from wsklab.pytest_plugin.judge import Judged, judge_record
from wsklab.pytest_plugin.matchers import call_name
from wsklab.pytest_plugin.observe import Observe
from wsklab.records import Record

__all__ = ["ObservedClient"]

_NOT_IMPLEMENTED = STATUS["STATUS_NOT_IMPLEMENTED"]


class ObservedClient(WskClient):
    """The client of one case. Every operation it makes is judged when the case settles.

    An operation that the driver does not have yet ends the case as `not_implemented`.

    Args:
        device: the case's own handle. call_s: the default bound of an operation, in seconds.
    """

    def __init__(self, device: IoctlDevice, observe: Observe, *, call_s: float) -> None:
        super().__init__(device, call_s=call_s)
        self._observe = observe
        self._settle_s = call_s
        self._made: dict[int, Operation] = {}
        self._records: dict[int, Record] = {}

    @property
    def records(self) -> tuple[Record, ...]:
        """The latest record of every operation, in the order of the operations."""
        return tuple(self._records[op_id] for op_id in sorted(self._records))

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
                    with_irp=operation is None or Switch.NULL_IRP not in operation.switches,
                    single_location=operation is None
                    or (not operation.second_location and operation.irp_source is not IrpSource.FORWARDED),
                ),
            )

    def outstanding(self) -> str:
        """The calls that have not ended, in words; for whoever explains a hang."""
        names = [
            f"{call_name(operation.function)} #{op_id}"
            for op_id, operation in self._made.items()
            if (record := self._records.get(op_id)) is None or not record.final
        ]
        return ", ".join(names[-4:])

    def _remember(self, operation: Operation) -> Operation:
        if not operation.op_id:
            operation = replace(operation, op_id=self.next_operation())
        self._made[operation.op_id] = operation
        return operation

    def _see(self, record: Record) -> Record:
        self._records[record.op_id] = record
        if record.state is State.NOT_STARTED and record.driver_status == _NOT_IMPLEMENTED:
            self._observe.not_implemented(call_name(record.function))
        return record

    def _refused(self, operation: Operation, refusal: DriverRefusal) -> None:
        del self._made[operation.op_id]
        if refusal.not_implemented:
            self._observe.not_implemented(call_name(Function(operation.function)))
