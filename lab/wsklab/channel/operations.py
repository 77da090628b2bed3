"""WSK operations in a guest: what to call, one round trip per call, records back.

`WskClient` speaks to the driver through one open device handle. The numbers of operations and sockets
are chosen here, so starting an operation and waiting for its end is one request (RUN).

Example::

    client = WskClient(device)                               # device: wsklab.channel.device.Device
    listener = client.socket(Category.LISTEN).new_socket
    client.bind(listener, SocketAddress.of("127.0.0.1", port))
    accepting = client.accept(listener)                      # a PendingOperation
    peer = connect_from_outside(port)
    accepted = accepting.result(Deadline.after(5)).new_socket
    received = client.receive(accepted, 256)
    peer.sendall(b"hello")
    assert received.result(Deadline.after(5)).data == b"hello"
    client.close_socket(accepted)
    client.close_socket(listener)
    assert client.ledger().client.at_rest
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from wsklab import abi
from wsklab.abi import (
    Callback,
    CancelOutcome,
    Category,
    Descriptor,
    Fault,
    Ioctl,
    IrpSource,
    RecordFlag,
    State,
)
from wsklab.channel.operation import (
    IPPROTO_TCP,
    IPPROTO_UDP,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_STREAM,
    Operation,
)
from wsklab.channel.script import Answer, ScriptEnd, encode_script
from wsklab.deadline import Deadline
from wsklab.errors import GuestCommandError
from wsklab.records import (
    AF_INET,
    DrainResult,
    EventBatch,
    FaultCounts,
    Hello,
    Ledgers,
    ObjectEntry,
    QuiesceResult,
    Record,
    SocketAddress,
    SocketEntry,
)
from wsklab.wsk import SOL_SOCKET, EventMask

__all__ = [
    "IPPROTO_TCP",
    "IPPROTO_UDP",
    "SOCK_DGRAM",
    "SOCK_RAW",
    "SOCK_STREAM",
    "Answer",
    "DriverRefusal",
    "IoctlDevice",
    "Operation",
    "PendingOperation",
    "ScriptEnd",
    "WskClient",
]

#: How much sooner than our own deadline the driver's timer fires, in seconds: the answer has to travel.
_TRAVEL_S = 0.5
#: How much longer than a wait's deadline the channel may take for the answer, in seconds.
_ANSWER_S = 10.0
#: Data per round trip; in base64 it stays well below one line of the control channel.
_CHUNK = 256 * 1024


class IoctlResult(Protocol):
    """The end of one DeviceIoControl, as `wsklab.channel.device` gives it."""

    @property
    def status(self) -> int:
        """NTSTATUS."""

    @property
    def win32(self) -> int:
        """Win32 error code, 0 on success."""

    @property
    def data(self) -> bytes:
        """The bytes returned."""


class IoctlDevice(Protocol):
    """An open device handle in a guest."""

    def ioctl(self, code: int, data: bytes, output_size: int, deadline: Deadline) -> IoctlResult:
        """One DeviceIoControl, awaited."""

    def close(self) -> None:
        """Close the handle."""


class DriverRefusal(GuestCommandError):
    """The driver refused a request; no WSK function was called and the guest stays clean.

    Args:
        request: what was asked, in words.
        status: NTSTATUS of the IOCTL, unsigned; 0 when only `win32` is known.
        win32: Win32 error code of the IOCTL.
    """

    def __init__(self, request: str, *, status: int, win32: int) -> None:
        name = abi.status_name(status) if status else f"Win32 error {win32}"
        super().__init__(
            f"the driver refused {request}",
            command=request,
            exit_code=status,
            why=name,
            fix="see the rules at the top of driver-src/include/wsklab_ioctl.h",
        )
        self.status = status & 0xFFFFFFFF
        self.win32 = win32

    @property
    def not_implemented(self) -> bool:
        """Whether the driver knows the function and does not offer it (yet)."""
        return self.status == abi.STATUS["STATUS_NOT_IMPLEMENTED"]


class PendingOperation:
    """An operation that was submitted. Ask as often as you like; `result` releases it in the driver."""

    def __init__(self, client: WskClient, operation: Operation) -> None:
        self._client = client
        self.operation = operation
        self._last: Record | None = None

    @property
    def op_id(self) -> int:
        """The operation's number."""
        return self.operation.op_id

    def wait(self, deadline: Deadline) -> Record:
        """The record at the operation's end or at the deadline, whichever is first; nothing is released."""
        if self._last is not None and self._last.has(RecordFlag.RELEASED):
            return self._last
        self._last = self._client.wait(self.op_id, deadline, expects=self.operation.expects)
        return self._last

    def result(self, deadline: Deadline, *, release: bool = True) -> Record:
        """The final record, all data included; the operation is released unless told otherwise.

        Raises:
            DeadlineExceeded: it is still outstanding; it stays so, and can be asked for again.
        """
        if self._last is not None and self._last.has(RecordFlag.RELEASED):
            return self._last
        record = self._client.wait(self.op_id, deadline, release=release, expects=self.operation.expects)
        self._last = record
        if not record.final:
            raise deadline.exceeded(f"the end of {record.function.name} #{record.op_id}", last=record.describe())
        return record

    def fetch(self, deadline: Deadline | None = None) -> Record:
        """The record as it is now, without waiting."""
        return self._client.fetch(self.op_id, deadline)

    def cancel(self, deadline: Deadline | None = None) -> CancelOutcome:
        """Ask the driver to cancel it; its end still has to be awaited."""
        return self._client.cancel(self.op_id, deadline)


class WskClient:
    """One client of the driver: its own registration, sockets and records, ended by `close`.

    Not safe for threads: one client per thread. Where a deadline is optional, `call_s` bounds the call.

    Args:
        device: the open handle `\\\\.\\wsklab`.
        call_s: seconds for a request that the driver answers at once, and the default for operations.
    """

    def __init__(self, device: IoctlDevice, *, call_s: float = 20.0) -> None:
        self._device = device
        self._call_s = call_s
        self._operations: Iterator[int] = itertools.count(1)
        self._sockets: Iterator[int] = itertools.count(1)
        self._objects: Iterator[int] = itertools.count(1)

    def next_operation(self) -> int:
        """A number for an operation that nobody has used on this handle."""
        return next(self._operations)

    def next_socket(self) -> int:
        """A number for a socket that nobody has used on this handle."""
        return next(self._sockets)

    def next_object(self) -> int:
        """A number for an object (cached descriptor, kept indication, address list) that nobody has used here."""
        return next(self._objects)

    def hello(self, deadline: Deadline | None = None) -> Hello:
        """Versions, limits and facts of the driver.

        Raises:
            ChannelProtocolError: it speaks another version.
        """
        return Hello.decode(self._ask(Ioctl.HELLO, abi.HELLO_REQUEST, abi.HELLO.size, deadline))

    def submit(self, operation: Operation, deadline: Deadline | None = None) -> PendingOperation:
        """Start an operation and go on.

        Raises:
            DriverRefusal: the driver did not take it; `not_implemented` tells functions of later versions.
        """
        operation = self._number(operation)
        self._call(Ioctl.SUBMIT, operation.encode(), 0, self._within(deadline), what=_describe(operation))
        return PendingOperation(self, operation)

    def run(self, operation: Operation, deadline: Deadline | None = None, *, release: bool = True) -> Record:
        """Start an operation and wait for its end: one request.

        Args:
            operation: what to call.
            deadline: for the whole; without one `call_s` seconds.
            release: free the operation in the driver; keep it for `reuse_op` or to look at its poison later.

        Raises:
            DriverRefusal: the driver did not take it.
            DeadlineExceeded: it is still outstanding.
        """
        deadline = self._within(deadline)
        operation = self._number(operation)
        size = abi.RECORD.size + min(operation.expects, _CHUNK)
        request = operation.encode(wait_ms=_sooner_ms(deadline), wait_flags=abi.RELEASE if release else 0)
        answer = self._call(Ioctl.RUN, request, size, deadline, what=_describe(operation))
        record = self._complete(Record.decode(answer), deadline, release=release)
        if not record.final:
            raise deadline.exceeded(f"the end of {record.function.name} #{record.op_id}", last=record.describe())
        return record

    def forward(self, operation: Operation, deadline: Deadline) -> IoctlResult:
        """Send WSK the very IRP of this request (WSK-IRP-009, WSK-IRP-010); its end is the answer.

        Args:
            operation: with `forward` BARE, PASS or HOLD and a number of its own; its record is fetched as usual.
            deadline: of the request; the driver sets no timer.

        Raises:
            DeadlineExceeded: WSK has not completed it.
        """
        operation = replace(self._number(operation), irp_source=IrpSource.FORWARDED)
        return self._device.ioctl(Ioctl.FORWARD, operation.encode(), 0, deadline)

    def wait(self, op_id: int, deadline: Deadline, *, release: bool = False, expects: int = 0) -> Record:
        """The record at the operation's end or at the deadline: `record.final` tells which."""
        size = abi.RECORD.size + min(expects, _CHUNK)
        request = _wait_request(op_id, _bounded_ms(deadline.remaining_s), release=release)
        answer = self._call(Ioctl.WAIT, request, size, _patience(deadline), what=f"a wait for #{op_id}")
        return self._complete(Record.decode(answer), deadline, release=release)

    def fetch(self, op_id: int, deadline: Deadline | None = None, *, release: bool = False) -> Record:
        """The record as it is now, with all data that was delivered."""
        deadline = self._within(deadline)
        return self._complete(self._fetch(op_id, 0, deadline, release=release), deadline, release=release)

    def release(self, op_id: int, deadline: Deadline | None = None) -> Record:
        """Free an operation that has ended; its number and its IRP are free afterwards."""
        return self.fetch(op_id, deadline, release=True)

    def cancel(self, op_id: int, deadline: Deadline | None = None) -> CancelOutcome:
        """IoCancelIrp; an operation that has not started is abandoned instead."""
        request = abi.CANCEL.pack(header=abi.CANCEL.header(), op_id=op_id)
        answer = self._call(
            Ioctl.CANCEL, request, abi.CANCEL_RESULT.size, self._within(deadline), what=f"to cancel #{op_id}"
        )
        return CancelOutcome(abi.CANCEL_RESULT.unpack(answer)["outcome"])

    def sockets(self, deadline: Deadline | None = None) -> tuple[SocketEntry, ...]:
        """This client's sockets."""
        size = abi.SOCKETS_RESULT.size + abi.MAX_SOCKETS * abi.SOCKET_ENTRY.size
        return SocketEntry.decode_all(self._ask(Ioctl.SOCKETS, abi.SOCKETS, size, deadline))

    def ledger(self, deadline: Deadline | None = None) -> Ledgers:
        """The counts of this client and of the driver."""
        return Ledgers.decode(self._ask(Ioctl.LEDGER, abi.LEDGER_REQUEST, abi.LEDGERS.size, deadline))

    def events(self, deadline: Deadline | None = None) -> EventBatch:
        """Take the events out of this client's ring."""
        size = abi.EVENTS_RESULT.size + abi.EVENT_CAPACITY * abi.EVENT.size
        return EventBatch.decode(self._ask(Ioctl.EVENTS, abi.EVENTS, size, deadline))

    def objects(self, deadline: Deadline | None = None) -> tuple[ObjectEntry, ...]:
        """What this client owns beside sockets: cached descriptors, kept indications, address lists."""
        size = abi.OBJECTS_RESULT.size + abi.MAX_OBJECTS * abi.OBJECT_ENTRY.size
        return ObjectEntry.decode_all(self._ask(Ioctl.OBJECTS, abi.OBJECTS, size, deadline))

    def script(self, socket: int, callback: Callback, *answers: Answer, deadline: Deadline | None = None) -> ScriptEnd:
        """What a callback of a socket answers from now on, in order; then, and without answers, the default.

        The socket need not exist yet; 0 is for all sockets without a script of their own for this callback, and for
        `Callback.CLIENT`.

        Returns:
            what the script that was replaced had answered, and what was left of it.
        """
        request = encode_script(socket, callback, answers)
        what = f"a script for {callback.name} of socket {socket}"
        answer = self._call(Ioctl.SCRIPT, request, abi.SCRIPT_RESULT.size, self._within(deadline), what=what)
        return ScriptEnd.decode(answer)

    def faults(self, kind: Fault | None = None, *, skip: int = 0, deny: int = 0, clear: bool = False) -> FaultCounts:
        """Make allocations of the driver fail for this client: let `skip` pass, then fail `deny`.

        Without a kind nothing is changed; `clear` ends all failures and counts from zero, first.
        """
        request = abi.FAULTS.pack(
            header=abi.FAULTS.header(),
            kind=len(Fault) if kind is None else kind,
            skip=skip,
            deny=deny,
            clear=int(clear),
        )
        what = f"failures of {kind.name}" if kind is not None else "the failure counts"
        answer = self._call(Ioctl.FAULTS, request, abi.FAULTS_RESULT.size, self._within(None), what=what)
        return FaultCounts.decode(answer)

    def drain(self, deadline: Deadline) -> DrainResult:
        """Wait until none of this client's operations is outstanding, or until the deadline."""
        request = abi.DRAIN.pack(header=abi.DRAIN.header(), timeout_ms=_bounded_ms(deadline.remaining_s))
        answer = self._call(Ioctl.DRAIN, request, abi.DRAIN_RESULT.size, _patience(deadline), what="to drain")
        return DrainResult.decode(answer)

    def quiesce(self, deadline: Deadline) -> QuiesceResult:
        """Close everything of every client, this one included; who still keeps the driver busy is named."""
        request = abi.QUIESCE.pack(header=abi.QUIESCE.header(), timeout_ms=_bounded_ms(deadline.remaining_s))
        size = abi.QUIESCE_RESULT.size + abi.MAX_CLIENTS * abi.OWNER.size
        return QuiesceResult.decode(self._call(Ioctl.QUIESCE, request, size, _patience(deadline), what="to quiesce"))

    def close(self) -> None:
        """Close the handle: the driver ends everything that this client owns."""
        self._device.close()

    # -- for cases: the ordinary calls by name ---------------------------------------------------------------

    def create_listening_socket_sample(self, deadline: Deadline | None = None, **more: Any) -> Record:
        """Run the published sample; the listening socket's number is `record.new_socket`."""
        return self.run(Operation.sample_listen(**more), deadline)

    def socket(
        self,
        category: int = Category.LISTEN,
        family: int = AF_INET,
        type: int = SOCK_STREAM,  # noqa: A002 -- the WSK page's own word
        protocol: int = IPPROTO_TCP,
        *,
        deadline: Deadline | None = None,
        **more: Any,
    ) -> Record:
        """WskSocket; the number is `record.new_socket` when `record.succeeded`."""
        return self.run(Operation.create(category, family, type, protocol, **more), deadline)

    def bind(self, socket: int, address: SocketAddress, *, deadline: Deadline | None = None, **more: Any) -> Record:
        """WskBind."""
        return self.run(Operation.bind(socket, address, **more), deadline)

    def accept(self, listener: int, *, deadline: Deadline | None = None, **more: Any) -> PendingOperation:
        """WskAccept, pending; the accepted socket's number is `result(...).new_socket`."""
        return self.submit(Operation.accept(listener, **more), deadline)

    def connect(self, socket: int, address: SocketAddress, *, deadline: Deadline | None = None, **more: Any) -> Record:
        """WskConnect."""
        return self.run(Operation.connect(socket, address, **more), deadline)

    def send(self, socket: int, data: bytes, *, deadline: Deadline | None = None, **more: Any) -> Record:
        """WskSend."""
        return self.run(Operation.send(socket, data, **more), deadline)

    def receive(self, socket: int, length: int, *, deadline: Deadline | None = None, **more: Any) -> PendingOperation:
        """WskReceive, pending; the bytes are `result(...).data`."""
        return self.submit(Operation.receive(socket, length, **more), deadline)

    def close_socket(self, socket: int, *, deadline: Deadline | None = None, **more: Any) -> Record:
        """WskCloseSocket."""
        return self.run(Operation.close(socket, **more), deadline)

    def socket_connect(
        self, local: SocketAddress, remote: SocketAddress, *, deadline: Deadline | None = None, **more: Any
    ) -> Record:
        """WskSocketConnect; the number is `record.new_socket` when `record.succeeded`."""
        return self.run(Operation.socket_connect(local, remote, **more), deadline)

    def listen(self, socket: int, *, deadline: Deadline | None = None, **more: Any) -> Record:
        """WskListen on a bound stream socket."""
        return self.run(Operation.listen(socket, **more), deadline)

    def local_address(self, socket: int, *, deadline: Deadline | None = None, **more: Any) -> Record:
        """WskGetLocalAddress; the answer is `record.local`."""
        return self.run(Operation.local_address(socket, **more), deadline)

    def remote_address(self, socket: int, *, deadline: Deadline | None = None, **more: Any) -> Record:
        """WskGetRemoteAddress; the answer is `record.remote`."""
        return self.run(Operation.remote_address(socket, **more), deadline)

    def disconnect(self, socket: int, data: bytes = b"", *, deadline: Deadline | None = None, **more: Any) -> Record:
        """WskDisconnect, graceful unless `flags=DisconnectFlag.ABORTIVE`."""
        return self.run(Operation.disconnect(socket, data, **more), deadline)

    def send_to(
        self,
        socket: int,
        data: bytes,
        address: SocketAddress | None,
        *,
        deadline: Deadline | None = None,
        **more: Any,
    ) -> Record:
        """WskSendTo."""
        return self.run(Operation.send_to(socket, data, address, **more), deadline)

    def send_messages(
        self,
        socket: int,
        messages: Sequence[bytes],
        address: SocketAddress | None,
        *,
        deadline: Deadline | None = None,
        **more: Any,
    ) -> Record:
        """WskSendMessages."""
        return self.run(Operation.send_messages(socket, messages, address, **more), deadline)

    def receive_from(
        self, socket: int, length: int, *, control: int = 0, deadline: Deadline | None = None, **more: Any
    ) -> PendingOperation:
        """WskReceiveFrom, pending; sender, bytes, control information: `remote`, `data`, `extra` of the result."""
        return self.submit(Operation.receive_from(socket, length, control=control, **more), deadline)

    def set_option(
        self,
        socket: int,
        option: int,
        value: int | bytes,
        *,
        level: int = SOL_SOCKET,
        deadline: Deadline | None = None,
        **more: Any,
    ) -> Record:
        """Set a socket option, with an IRP; a number is passed as ULONG."""
        return self.run(Operation.set_option(socket, option, value, level=level, **more), deadline)

    def get_option(
        self,
        socket: int,
        option: int,
        *,
        level: int = SOL_SOCKET,
        size: int = 4,
        deadline: Deadline | None = None,
        **more: Any,
    ) -> Record:
        """Get a socket option, with an IRP; the value is `record.extra` (`record.number` for integers)."""
        return self.run(Operation.get_option(socket, option, level=level, size=size, **more), deadline)

    def ioctl(
        self,
        socket: int,
        code: int,
        value: int | bytes = b"",
        *,
        output: int = 0,
        deadline: Deadline | None = None,
        **more: Any,
    ) -> Record:
        """An I/O control of a socket, with an IRP unless `switches=Switch.NULL_IRP`; the output is `record.extra`."""
        return self.run(Operation.ioctl(socket, code, value, output=output, **more), deadline)

    def enable_events(self, socket: int, mask: int, *, deadline: Deadline | None = None, **more: Any) -> Record:
        """Enable event callbacks, without an IRP."""
        return self.run(Operation.events(socket, mask, **more), deadline)

    def disable_event(self, socket: int, mask: int, *, deadline: Deadline | None = None, **more: Any) -> Record:
        """Disable one event callback, without an IRP."""
        return self.run(Operation.events(socket, mask | EventMask.DISABLE, **more), deadline)

    def cache_descriptor(
        self, descriptor: Descriptor = Descriptor.EVERYONE, *, deadline: Deadline | None = None, **more: Any
    ) -> Record:
        """WSK_CACHE_SD; the number is `record.object`."""
        return self.run(Operation.cache_descriptor(descriptor, **more), deadline)

    def release_descriptor(self, cached: int, *, deadline: Deadline | None = None, **more: Any) -> Record:
        """WSK_RELEASE_SD."""
        return self.run(Operation.release_descriptor(cached, **more), deadline)

    # -- inside -----------------------------------------------------------------------------------------------

    def _within(self, deadline: Deadline | None) -> Deadline:
        return deadline if deadline is not None else Deadline.after(self._call_s)

    def _number(self, operation: Operation) -> Operation:
        """Fill in the numbers that the caller left to us."""
        op_id = operation.op_id or self.next_operation()
        new_socket = operation.new_socket or (self.next_socket() if operation.creates else 0)
        new_object = operation.new_object or (self.next_object() if operation.makes_object else 0)
        cookie = operation.completion_cookie or 0xC0_0C1E_0000_0000 | op_id
        return replace(operation, op_id=op_id, new_socket=new_socket, new_object=new_object, completion_cookie=cookie)

    def _ask(self, code: Ioctl, structure: abi.Structure, size: int, deadline: Deadline | None) -> bytes:
        request = structure.pack(header=structure.header())
        return self._call(code, request, size, self._within(deadline), what=code.name)

    def _call(self, code: Ioctl, request: bytes, size: int, deadline: Deadline, *, what: str) -> bytes:
        return _check(self._device.ioctl(code, request, size, deadline), what)

    def _fetch(self, op_id: int, offset: int, deadline: Deadline, *, release: bool) -> Record:
        request = abi.FETCH.pack(
            header=abi.FETCH.header(),
            op_id=op_id,
            flags=abi.RELEASE if release else 0,
            data_offset=offset,
            data_length=_CHUNK,
        )
        answer = self._call(Ioctl.FETCH, request, abi.RECORD.size + _CHUNK, deadline, what=f"to fetch #{op_id}")
        return Record.decode(answer)

    def _complete(self, record: Record, deadline: Deadline, *, release: bool) -> Record:
        """Fetch the data that did not fit into the first answer."""
        parts = [record.data]
        have = len(record.data)
        while record.state is State.COMPLETED and have < record.data_total:
            record = self._fetch(record.op_id, have, deadline, release=release)
            if not record.data:
                break
            parts.append(record.data)
            have += len(record.data)
        return record.with_data(b"".join(parts))


def _bounded_ms(seconds: float) -> int:
    """The driver's timer, within the driver's limit."""
    return max(0, min(abi.MAX_TIMEOUT_MS, int(seconds * 1000)))


def _patience(deadline: Deadline) -> Deadline:
    """For requests whose end is the driver's timer: the channel gets some seconds more, so that the answer arrives."""
    return Deadline.after(deadline.remaining_s + _ANSWER_S, clock=deadline.clock)


def _sooner_ms(deadline: Deadline) -> int:
    """The driver's timer for a request that shares our deadline: a little sooner, so that the answer can travel."""
    left = deadline.remaining_s
    return _bounded_ms(left - min(_TRAVEL_S, left / 4))


def _wait_request(op_id: int, timeout_ms: int, *, release: bool) -> bytes:
    flags = abi.RELEASE if release else 0
    return abi.WAIT.pack(header=abi.WAIT.header(), op_id=op_id, timeout_ms=timeout_ms, flags=flags)


def _check(result: IoctlResult, what: str) -> bytes:
    """The answer's bytes, or DriverRefusal."""
    if not abi.is_success(result.status) or result.win32:
        raise DriverRefusal(what, status=result.status, win32=result.win32)
    return result.data


def _describe(operation: Operation) -> str:
    return f"{operation.function.name} #{operation.op_id}"
