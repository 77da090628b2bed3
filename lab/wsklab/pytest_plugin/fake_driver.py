"""A model of `wsklab.sys` in memory: it answers the driver's IOCTLs and moves real bytes over loopback.

For tests of the plugin and of the cases themselves: the whole path from a case to the matrix runs without a
guest. It is a model, not evidence: nothing that passes on it says anything about any WSK.

It keeps the same contract as the driver itself, as far as its users go: sockets, connections and their data. What it
does not have (`MISSING`) is refused with STATUS_NOT_IMPLEMENTED, which a run reports as not implemented: options and
controls, WskSocketConnect, addresses, datagrams, WskDisconnect, names, the module registrar; and there are no events
and no scripts. Whoever needs those takes a guest of kind shim.
"""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from wsklab import abi
from wsklab.abi import (
    Category,
    DeviceObjectKind,
    Function,
    InformationKind,
    Invoke,
    Ioctl,
    IrpSource,
    RecordFlag,
    SocketState,
    State,
    Switch,
)
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import ChannelLost, DeadlineExceeded
from wsklab.ntstatus import STATUS
from wsklab.records import AF_INET, SocketAddress

__all__ = ["MISSING", "FakeDriver", "FakeIoctlResult", "Traits"]

#: The functions that the model does not have.
MISSING = frozenset(function for function in Function if function >= Function.SOCKET_CONNECT)

_OK = STATUS["STATUS_SUCCESS"]
_PENDING = STATUS["STATUS_PENDING"]
_STATE = STATUS["STATUS_INVALID_DEVICE_STATE"]
_PARAMETER = STATUS["STATUS_INVALID_PARAMETER"]
_UNKNOWN = STATUS["STATUS_NOT_FOUND"]
_TAKEN = STATUS["STATUS_OBJECT_NAME_COLLISION"]
#: The functions that act on a socket.
_ON_SOCKET = frozenset(
    {Function.BIND, Function.ACCEPT, Function.CONNECT, Function.SEND, Function.RECEIVE, Function.CLOSE}
)
_FILE_DELETED = 0xC0000123
#: How many pointers a category's table has (catalogue, appendix A.3, Windows 10 1703 and later).
_TABLES = {Category.BASIC: 2, Category.LISTEN: 6, Category.CONNECTION: 11, Category.DATAGRAM: 8, Category.STREAM: 13}


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """How this model differs from a strict one.

    Attributes:
        pending_flag: PendingReturned follows a pending return; Wine leaves it FALSE.
        categories: what can be created; others complete with STATUS_NOT_IMPLEMENTED.
        fault: misbehaviour for tests: "double" completes creations twice, "crash" loses the channel at the first
            bind, "gone" loses the driver at the first bind, "hang" never completes a bind,
            "unknown" does not know WskBind yet.
    """

    pending_flag: bool = True
    categories: frozenset[int] = frozenset(int(category) for category in Category)
    fault: str = ""


@dataclass(frozen=True, slots=True)
class FakeIoctlResult:
    """The end of one request; also its own pending form: the model answers at once."""

    status: int
    win32: int
    data: bytes

    def result(self, deadline: Deadline) -> FakeIoctlResult:  # noqa: ARG002 - the real one may wait
        """It has ended already."""
        return self

    def cancel(self) -> None:
        """Nothing to cancel."""


@dataclass(slots=True)
class _Socket:
    number: int
    category: int
    family: int
    type: int
    protocol: int
    context: int
    real: socket.socket | None = None
    bound: bool = False
    connected: bool = False


@dataclass(slots=True)
class _Operation:
    values: dict[str, Any]
    data: bytes
    record: dict[str, Any]
    complete: Callable[[], bool] = lambda: True
    delivered: bytes = b""
    held: bool = False

    @property
    def final(self) -> bool:
        return State(self.record["state"]).final


@dataclass(slots=True)
class FakeDriver:
    """One handle of the model.

    Attributes:
        ports: a guest's address and port, and the real port of the host that stands for it; shared by its handles.
    """

    traits: Traits
    ports: dict[tuple[str, int], int]
    sockets: dict[int, _Socket] = field(default_factory=dict)
    operations: dict[int, _Operation] = field(default_factory=dict)
    sequence: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    captures: int = 0
    version: int = 0x0100
    issued: int = 0
    opened: int = 0
    closed: int = 0

    # ---- the device

    def ioctl(self, code: int, data: bytes, output_size: int, deadline: Deadline) -> FakeIoctlResult:
        """One DeviceIoControl."""
        del output_size
        handlers: Mapping[int, Callable[[bytes, Deadline], FakeIoctlResult]] = {
            Ioctl.HELLO: self._hello,
            Ioctl.SUBMIT: self._submit,
            Ioctl.RUN: self._run,
            Ioctl.WAIT: self._wait,
            Ioctl.FETCH: self._fetch,
            Ioctl.CANCEL: self._cancel,
            Ioctl.SOCKETS: self._sockets,
            Ioctl.LEDGER: self._ledger,
            Ioctl.EVENTS: lambda _data, _deadline: _answer(abi.EVENTS_RESULT.pack()),
            Ioctl.DRAIN: self._drain,
        }
        handler = handlers.get(code)
        return handler(data, deadline) if handler else FakeIoctlResult(STATUS["STATUS_NOT_SUPPORTED"], 50, b"")

    def close(self) -> None:
        """End everything that the handle owns."""
        for own in tuple(self.sockets.values()):
            self._shut(own)

    # ---- requests

    def _hello(self, _data: bytes, _deadline: Deadline) -> FakeIoctlResult:
        return _answer(
            abi.HELLO.pack(
                size=abi.HELLO.size,
                abi=abi.ABI_VERSION,
                submit_size=abi.SUBMIT.size,
                record_size=abi.RECORD.size,
                socket_entry_size=abi.SOCKET_ENTRY.size,
                event_size=abi.EVENT.size,
                ledger_size=abi.STRUCTURES["LEDGER"].size,
                answer_size=abi.ANSWER.size,
                object_entry_size=abi.OBJECT_ENTRY.size,
                build_label=b"model",
            )
        )

    def _submit(self, data: bytes, _deadline: Deadline) -> FakeIoctlResult:
        values = abi.SUBMIT.unpack(data)
        function = Function(values["function"])
        if function in MISSING or (self.traits.fault == "unknown" and function is Function.BIND):
            return FakeIoctlResult(STATUS["STATUS_NOT_IMPLEMENTED"], 1, b"")
        if self.traits.fault == "gone" and function is Function.BIND:
            return FakeIoctlResult(_FILE_DELETED, 1, b"")
        if values["op_id"] in self.operations:
            return FakeIoctlResult(_TAKEN, 183, b"")
        operation = _Operation(values, data[abi.SUBMIT.size :], self._new_record(values))
        self.operations[values["op_id"]] = operation
        if Switch.HELD in Switch(values["switches"]):
            operation.held = True
        else:
            self._start(operation)
        return _answer(b"")

    def _run(self, data: bytes, deadline: Deadline) -> FakeIoctlResult:
        values = abi.SUBMIT.unpack(data)
        submitted = self._submit(data, deadline)
        if submitted.status != 0:
            return submitted
        wait = abi.WAIT.pack(op_id=values["op_id"], timeout_ms=values["wait_ms"], flags=values["wait_flags"])
        return self._wait(wait, deadline)

    def _wait(self, data: bytes, deadline: Deadline) -> FakeIoctlResult:
        request = abi.WAIT.unpack(data)
        operation = self.operations.get(request["op_id"])
        if operation is None:
            return FakeIoctlResult(_UNKNOWN, 1168, b"")

        def look() -> bool | NotYet:
            self._pump()
            return True if operation.final else NotYet("outstanding")

        with contextlib.suppress(DeadlineExceeded):
            limit = min(request["timeout_ms"] / 1000, deadline.remaining_s)
            wait_until(look, Deadline.after(limit), what="the model", tick_s=0.001)
        return self._record_of(operation, release=bool(request["flags"] & abi.RELEASE))

    def _fetch(self, data: bytes, _deadline: Deadline) -> FakeIoctlResult:
        request = abi.FETCH.unpack(data)
        self._pump()
        operation = self.operations.get(request["op_id"])
        if operation is None:
            return FakeIoctlResult(_UNKNOWN, 1168, b"")
        return self._record_of(operation, release=bool(request["flags"] & abi.RELEASE))

    def _cancel(self, data: bytes, _deadline: Deadline) -> FakeIoctlResult:
        operation = self.operations.get(abi.CANCEL.unpack(data)["op_id"])
        if operation is None or operation.final:
            return _answer(abi.CANCEL_RESULT.pack(outcome=abi.CancelOutcome.TOO_LATE))
        self._end(operation, STATUS["STATUS_CANCELLED"])
        return _answer(abi.CANCEL_RESULT.pack(outcome=abi.CancelOutcome.CALLED))

    def _sockets(self, _data: bytes, _deadline: Deadline) -> FakeIoctlResult:
        entries = [
            abi.SOCKET_ENTRY.pack(
                number=own.number,
                category=own.category,
                state=SocketState.OPEN,
                protocol=own.protocol,
                family=own.family,
                type=own.type,
                context=own.context,
            )
            for own in self.sockets.values()
        ]
        return _answer(abi.SOCKETS_RESULT.pack(count=len(entries), total=len(entries)) + b"".join(entries))

    def _ledger(self, _data: bytes, _deadline: Deadline) -> FakeIoctlResult:
        outstanding = sum(not own.final and not own.held for own in self.operations.values())
        counts = {
            "issued": self.issued,
            "completed": self.issued - outstanding,
            "outstanding": outstanding,
            "sockets_opened": self.opened,
            "sockets_closed": self.closed,
        }
        return _answer(abi.LEDGERS.pack(client=counts, driver=counts))

    def _drain(self, data: bytes, deadline: Deadline) -> FakeIoctlResult:
        del data, deadline
        self._pump()
        left = sum(not own.final and not own.held for own in self.operations.values())
        return _answer(abi.DRAIN_RESULT.pack(outstanding=left, timed_out=int(left > 0)))

    # ---- operations

    def _new_record(self, values: Mapping[str, Any]) -> dict[str, Any]:
        stack = values["stack_count"] or 1
        return {
            "size": abi.RECORD.size,
            "op_id": values["op_id"],
            "function": values["function"],
            "socket": values["socket"],
            "new_socket": values["new_socket"],
            "flags": 0,
            "state": int(State.NEW),
            "irp_source": int(IrpSource(values["irp_source"])),
            "call_context": values["call_context"],
            "stack_count": stack,
            "invoke_flags": values["invoke_flags"] or int(Invoke.SUCCESS | Invoke.ERROR | Invoke.CANCEL),
            "category": values["flags"] & 0xFF if values["function"] == Function.SOCKET else 0,
            "socket_context": values["socket_context"],
            "information": 0,
            "submit_ns": time.monotonic_ns(),
            "call_thread": 8,
            "completion_thread": 8,
        }

    def _start(self, operation: _Operation) -> None:
        record, values = operation.record, operation.values
        function = Function(values["function"])
        if self.traits.fault == "crash" and function is Function.BIND:
            raise ChannelLost("the connection to the guest broke", why="the model was told to crash")
        if function in _ON_SOCKET and values["socket"] not in self.sockets:
            record.update(state=int(State.NOT_STARTED), driver_status=_signed(_UNKNOWN))
            return
        self.issued += 1
        record.update(state=int(State.OUTSTANDING), enter_sequence=next(self.sequence), enter_ns=time.monotonic_ns())
        if function >= Function.REGISTER:
            self._control(function, operation)
            return
        if Switch.NULL_IRP in Switch(values["switches"]):
            self._return(record, _PARAMETER)
            record["state"] = int(State.COMPLETED)
            return
        step = {
            Function.SAMPLE_LISTEN: self._create,
            Function.SOCKET: self._create,
            Function.BIND: self._bind,
            Function.ACCEPT: self._accept,
            Function.CONNECT: self._connect,
            Function.SEND: self._send,
            Function.RECEIVE: self._receive,
            Function.CLOSE: self._close,
        }[function]
        refused = step(operation)
        if refused is None:
            self._return(record, _PENDING)
            operation.complete()
        else:
            self._end(operation, refused)
            self._return(record, refused)

    def _return(self, record: dict[str, Any], status: int) -> None:
        record.update(
            returned_status=_signed(status), return_sequence=next(self.sequence), return_ns=time.monotonic_ns()
        )
        record["flags"] |= int(RecordFlag.RETURNED)
        if status == _PENDING and self.traits.pending_flag:
            record["flags"] |= int(RecordFlag.PENDING_RETURNED)

    def _end(self, operation: _Operation, status: int, information: int = 0, *, is_socket: bool = False) -> bool:
        """Complete the IRP."""
        record = operation.record
        kind = InformationKind.SOCKET if is_socket else InformationKind.INTEGER
        record.update(
            state=int(State.COMPLETED),
            completion_count=2 if self.traits.fault == "double" and is_socket else 1,
            completion_status=_signed(status),
            routine_status=_signed(STATUS["STATUS_MORE_PROCESSING_REQUIRED"]),
            completion_location=record["stack_count"] + 1,
            information_kind=int(kind),
            information=information,
            device_object=int(DeviceObjectKind.NULL),
            completion_sequence=next(self.sequence),
            completion_ns=time.monotonic_ns(),
            completion_cookie=operation.values["completion_cookie"],
            data_total=len(operation.delivered),
        )
        flags = RecordFlag.IRP_MATCH | RecordFlag.CONTEXT_MATCH | RecordFlag.IRP_FREED | RecordFlag.REST_INTACT
        flags |= RecordFlag.GUARDS_CHECKED | RecordFlag.GUARDS_INTACT
        if operation.values["irp_source"] == IrpSource.CALLER_MEMORY:
            flags |= RecordFlag.POISONED | RecordFlag.POISON_INTACT
        if is_socket:
            flags |= RecordFlag.SOCKET_ALIGNED | RecordFlag.SOCKET_DISPATCH | RecordFlag.SOCKET_UNIQUE
        record["flags"] |= int(flags)
        follower = self.operations.get(operation.values["then_op"])
        if follower is not None and follower.held and status == _OK:
            follower.held = False
            self._start(follower)
        return True

    def _pump(self) -> None:
        """Give every outstanding operation a chance to complete."""
        for operation in tuple(self.operations.values()):
            if not operation.final and not operation.held:
                operation.complete()

    def _record_of(self, operation: _Operation, *, release: bool) -> FakeIoctlResult:
        record = dict(operation.record)
        data = operation.delivered if operation.final else b""
        record["data_length"] = len(data)
        if release and operation.final:
            record["flags"] |= int(RecordFlag.RELEASED)
            del self.operations[record["op_id"]]
        return _answer(abi.RECORD.pack(record) + data)

    def _control(self, function: Function, operation: _Operation) -> None:
        record = operation.record
        status = _OK
        late = Switch.AFTER_DEREGISTER in Switch(operation.values["switches"])
        if function is Function.REGISTER:
            self.version = operation.values["version"]
        elif function is Function.DEREGISTER and self.traits.pending_flag:
            operation.complete = lambda: self.captures == 0 and self._answer_control(operation, _OK)
            operation.complete()
            return
        elif function is Function.CAPTURE and late and self.traits.pending_flag:
            status = STATUS["STATUS_DEVICE_NOT_READY"]
        elif function is Function.CAPTURE and self.version != 0x0100 and self.traits.pending_flag:
            status = STATUS["STATUS_NOINTERFACE"]
        elif function is Function.CAPTURE:
            self.captures += 1
            record["flags"] |= int(RecordFlag.CLIENT_SET | RecordFlag.DISPATCH_SET | RecordFlag.SAME_NPI)
        elif function is Function.RELEASE_NPI:
            self.captures -= 1
        elif function is Function.PROVIDER_INFO:
            record.update(version=0x0100, members=0b111111, member_count=6)
            record["flags"] |= int(RecordFlag.CLIENT_SET | RecordFlag.DISPATCH_SET)
        elif function is Function.SOCKET_INFO:
            own = self.sockets.get(operation.values["socket"])
            if own is None:
                status = _UNKNOWN
            else:
                count = _TABLES[Category(own.category)]
                record.update(category=own.category, members=(1 << count) - 1, member_count=count)
                record["flags"] |= int(RecordFlag.SAME_DISPATCH | RecordFlag.SOCKET_DISPATCH)
        self._answer_control(operation, status)

    def _answer_control(self, operation: _Operation, status: int) -> bool:
        """A function without an IRP returns."""
        operation.record.update(captures=self.captures, state=int(State.COMPLETED))
        self._return(operation.record, status)
        return True

    # ---- WSK

    def _create(self, operation: _Operation) -> int | None:
        values = operation.values
        sample = values["function"] == Function.SAMPLE_LISTEN
        category = int(Category.LISTEN) if sample else values["flags"]
        family, kind, protocol = (AF_INET, 1, 6) if sample else (values["family"], values["type"], values["protocol"])
        status = _OK
        if category & ~0xF or category not in self.traits.categories:
            status = STATUS["STATUS_NOT_IMPLEMENTED"]
        elif family not in (2, 23) or (kind, protocol) not in ((1, 6), (2, 17)):
            status = STATUS["STATUS_NOT_SUPPORTED"]

        def complete() -> bool:
            if operation.final:
                return True
            if status != _OK:
                return self._end(operation, status)
            number = values["new_socket"]
            self.sockets[number] = _Socket(number, category, family, kind, protocol, values["socket_context"])
            self.opened += 1
            operation.record["category"] = category
            return self._end(operation, _OK, number, is_socket=True)

        operation.complete = complete
        return None

    def _bind(self, operation: _Operation) -> int | None:
        own = self.sockets[operation.values["socket"]]
        address = SocketAddress.from_slot(operation.values["local"])
        if self.traits.fault == "hang":
            operation.complete = lambda: False
            return None
        status = _OK if address is not None and address.family == own.family else _PARAMETER
        if own.bound:
            status = _PARAMETER
        if status == _OK and address is not None and own.category == Category.LISTEN:
            if (address.host, address.port) in self.ports:
                status = STATUS["STATUS_ADDRESS_ALREADY_EXISTS"]
            else:
                own.real = socket.create_server(("127.0.0.1", 0))
                own.real.setblocking(False)
                self.ports[address.host, address.port] = own.real.getsockname()[1]
        if status == _OK:
            own.bound = True
        operation.complete = lambda: operation.final or self._end(operation, status)
        return None

    def _accept(self, operation: _Operation) -> int | None:
        own = self.sockets[operation.values["socket"]]
        if own.real is None:
            return _PARAMETER

        def complete() -> bool:
            try:
                assert own.real is not None
                connection, remote = own.real.accept()
            except OSError:
                return False
            connection.setblocking(False)
            number = operation.values["new_socket"]
            made = _Socket(number, int(Category.CONNECTION), own.family, own.type, own.protocol, 0, connection)
            made.bound = made.connected = True
            self.sockets[number] = made
            self.opened += 1
            operation.record.update(
                category=made.category,
                local=SocketAddress.of(*connection.getsockname()).slot(),
                remote=SocketAddress.of(*remote).slot(),
            )
            return self._end(operation, _OK, number, is_socket=True)

        operation.complete = complete
        return None

    def _connect(self, operation: _Operation) -> int | None:
        own = self.sockets[operation.values["socket"]]
        if not own.bound:
            return _STATE
        address = SocketAddress.from_slot(operation.values["remote"])

        def complete() -> bool:
            if operation.final:
                return True
            if address is None or address.family != own.family:
                return self._end(operation, _PARAMETER)
            try:
                port = self.ports.get((address.host, address.port), address.port)
                own.real = socket.create_connection((address.host, port), 2.0)
            except OSError:
                return self._end(operation, STATUS["STATUS_CONNECTION_REFUSED"])
            own.real.setblocking(False)
            own.connected = True
            return self._end(operation, _OK)

        operation.complete = complete
        return None

    def _send(self, operation: _Operation) -> int | None:
        own = self.sockets[operation.values["socket"]]
        if own.real is None or not own.connected:
            return _STATE
        length = operation.values["buffer_length"]
        data = operation.data or abi.pattern(length, operation.values["pattern_seed"])
        left = bytearray(data)

        def complete() -> bool:
            assert own.real is not None
            try:
                while left:
                    del left[: own.real.send(left)]
            except BlockingIOError:
                return False
            except OSError:
                return self._end(operation, STATUS["STATUS_CONNECTION_RESET"])
            return self._end(operation, _OK, length)

        operation.complete = complete
        return None

    def _receive(self, operation: _Operation) -> int | None:
        own = self.sockets[operation.values["socket"]]
        if own.real is None or not own.connected:
            return _STATE

        def complete() -> bool:
            assert own.real is not None
            if not select.select([own.real], [], [], 0)[0]:
                return False
            try:
                operation.delivered = own.real.recv(operation.values["buffer_length"])
            except OSError:
                return self._end(operation, STATUS["STATUS_CONNECTION_RESET"])
            return self._end(operation, _OK, len(operation.delivered))

        operation.complete = complete
        return None

    def _close(self, operation: _Operation) -> int | None:
        own = self.sockets[operation.values["socket"]]
        for other in self.operations.values():
            if other is not operation and not other.final and other.values["socket"] == own.number:
                self._end(other, STATUS["STATUS_CANCELLED"])
        self._shut(own)
        operation.complete = lambda: operation.final or self._end(operation, _OK)
        return None

    def _shut(self, own: _Socket) -> None:
        del self.sockets[own.number]
        self.closed += 1
        if own.real is not None:
            if own.category == Category.LISTEN:
                port = own.real.getsockname()[1]
                for endpoint, real in tuple(self.ports.items()):
                    if real == port:
                        del self.ports[endpoint]
            own.real.close()


def _signed(status: int) -> int:
    return status - (1 << 32) if status & 0x80000000 else status


def _answer(data: bytes) -> FakeIoctlResult:
    return FakeIoctlResult(_OK, 0, data)
