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
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from wsklab import abi
from wsklab.abi import (
    AddressUse,
    CallContext,
    CancelOutcome,
    Category,
    Dispatch,
    Fill,
    Function,
    Invoke,
    Ioctl,
    IrpSource,
    MdlShape,
    Owner,
    RecordFlag,
    State,
    Switch,
)
from wsklab.deadline import Deadline
from wsklab.errors import GuestCommandError
from wsklab.records import (
    AF_INET,
    DrainResult,
    EventBatch,
    Hello,
    Ledgers,
    QuiesceResult,
    Record,
    SocketAddress,
    SocketEntry,
)

__all__ = [
    "IPPROTO_TCP",
    "IPPROTO_UDP",
    "SOCK_DGRAM",
    "SOCK_STREAM",
    "DriverRefusal",
    "IoctlDevice",
    "Operation",
    "PendingOperation",
    "WskClient",
]

#: Windows' numbers (winsock2.h), not the host's.
SOCK_STREAM = 1
SOCK_DGRAM = 2
IPPROTO_TCP = 6
IPPROTO_UDP = 17

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One WSK call to make; everything that is not given is the ordinary case.

    Make one with the class methods, and change single points with keyword arguments::

        Operation.bind(3, SocketAddress.of("127.0.0.1", 4711), call_context=CallContext.RAISED)

    Attributes:
        op_id: the operation's number; 0: the client chooses.
        socket: the number of the socket it acts on.
        new_socket: the number that a created or accepted socket gets; 0: the client chooses.
        then_op: number of a held operation (`Switch.HELD`) that the completion routine starts on success.
        reuse_op: whose IRP is reused (`IrpSource.REUSED`); that one was run with `Switch.KEEP_IRP`.
        delay_ms: how long the driver waits before the call, in milliseconds.
        timeout_ms: CAPTURE only: WaitTimeout in milliseconds; 0 is WSK_NO_WAIT.
        address_use: which address arguments are not NULL; None: those that are given.
        flags: the Flags argument of the WSK function; for SOCKET the category.
        completion_cookie: found through the completion routine's context; 0: the client chooses.
        data: bytes to send; `buffer_length` and `fill` follow from it unless given.
    """

    function: Function
    op_id: int = 0
    socket: int = 0
    new_socket: int = 0
    then_op: int = 0
    reuse_op: int = 0
    switches: Switch = Switch(0)
    delay_ms: int = 0
    timeout_ms: int = 0
    dispatch_mask: int = 0
    irp_source: IrpSource = IrpSource.ALLOCATED
    stack_count: int = 1
    invoke_flags: Invoke = Invoke(0)
    second_location: bool = False
    call_context: CallContext = CallContext.CALLER
    dispatch: Dispatch = Dispatch.NULL
    owning_process: Owner = Owner.NULL
    owning_thread: Owner = Owner.NULL
    mdl_shape: MdlShape | None = None
    fill: Fill | None = None
    address_use: AddressUse | None = None
    family: int = 0
    type: int = 0
    protocol: int = 0
    flags: int = 0
    version: int = 0
    socket_context: int = 0
    completion_cookie: int = 0
    buffer_length: int | None = None
    buffer_offset: int = 0
    mdl_bytes: int = 0
    pattern_seed: int = 0
    chunks: tuple[int, ...] = ()
    data: bytes = b""
    local: SocketAddress | None = None
    remote: SocketAddress | None = None

    @classmethod
    def sample_listen(cls, **more: Any) -> Operation:
        """The published sample: CreateListeningSocket, exactly as the page shows it."""
        return cls(function=Function.SAMPLE_LISTEN, **({"dispatch": Dispatch.FULL} | more))

    @classmethod
    def create(
        cls,
        category: int = Category.LISTEN,
        family: int = AF_INET,
        type: int = SOCK_STREAM,  # noqa: A002 -- the WSK page's own word
        protocol: int = IPPROTO_TCP,
        **more: Any,
    ) -> Operation:
        """WskSocket."""
        values: dict[str, Any] = {"flags": category, "family": family, "type": type, "protocol": protocol}
        return cls(function=Function.SOCKET, **(values | more))

    @classmethod
    def bind(cls, socket: int, address: SocketAddress, **more: Any) -> Operation:
        """WskBind."""
        return cls(function=Function.BIND, socket=socket, local=address, **more)

    @classmethod
    def accept(cls, listener: int, **more: Any) -> Operation:
        """WskAccept with both address buffers."""
        values = {"address_use": AddressUse.LOCAL | AddressUse.REMOTE}
        return cls(function=Function.ACCEPT, socket=listener, **(values | more))

    @classmethod
    def connect(cls, socket: int, address: SocketAddress, **more: Any) -> Operation:
        """WskConnect."""
        return cls(function=Function.CONNECT, socket=socket, remote=address, **more)

    @classmethod
    def send(cls, socket: int, data: bytes, **more: Any) -> Operation:
        """WskSend. For large data give `data=b""`, `fill=Fill.PATTERN` and `buffer_length`."""
        return cls(function=Function.SEND, socket=socket, data=data, **more)

    @classmethod
    def receive(cls, socket: int, length: int, **more: Any) -> Operation:
        """WskReceive of at most `length` bytes."""
        return cls(function=Function.RECEIVE, socket=socket, buffer_length=length, **more)

    @classmethod
    def close(cls, socket: int, **more: Any) -> Operation:
        """WskCloseSocket."""
        return cls(function=Function.CLOSE, socket=socket, **more)

    def encode(self, *, wait_ms: int = 0, wait_flags: int = 0) -> bytes:
        """The SUBMIT request; with the two for the wait, the RUN request."""
        use = self.address_use
        if use is None:
            use = (AddressUse.LOCAL if self.local else AddressUse(0)) | (
                AddressUse.REMOTE if self.remote else AddressUse(0)
            )
        length = len(self.data) if self.buffer_length is None else self.buffer_length
        has_buffer = bool(length or self.buffer_offset or self.mdl_bytes)
        shape = self.mdl_shape
        if shape is None:
            shape = MdlShape.CHAIN if self.chunks else MdlShape.SINGLE if has_buffer else MdlShape.NULL
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        del values["data"]
        values.update(
            header=abi.SUBMIT.header(),
            wait_ms=wait_ms,
            wait_flags=wait_flags,
            second_location=int(self.second_location),
            address_use=use,
            buffer_length=length,
            mdl_shape=shape,
            fill=self.fill if self.fill is not None else Fill.DATA if self.data else Fill.NONE,
            data_length=len(self.data),
            local=self.local.slot() if self.local else {},
            remote=self.remote.slot() if self.remote else {},
        )
        return abi.SUBMIT.pack(values) + self.data

    @property
    def expects(self) -> int:
        """How many bytes of data its record may carry."""
        return (self.buffer_length or 0) if self.function is Function.RECEIVE else 0

    @property
    def creates(self) -> bool:
        """Whether it makes a socket."""
        return self.function in (Function.SAMPLE_LISTEN, Function.SOCKET, Function.ACCEPT)


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

    def next_operation(self) -> int:
        """A number for an operation that nobody has used on this handle."""
        return next(self._operations)

    def next_socket(self) -> int:
        """A number for a socket that nobody has used on this handle."""
        return next(self._sockets)

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

    # -- inside -----------------------------------------------------------------------------------------------

    def _within(self, deadline: Deadline | None) -> Deadline:
        return deadline if deadline is not None else Deadline.after(self._call_s)

    def _number(self, operation: Operation) -> Operation:
        """Fill in the numbers that the caller left to us."""
        op_id = operation.op_id or self.next_operation()
        new_socket = operation.new_socket or (self.next_socket() if operation.creates else 0)
        cookie = operation.completion_cookie or 0xC0_0C1E_0000_0000 | op_id
        return replace(operation, op_id=op_id, new_socket=new_socket, completion_cookie=cookie)

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
        return replace(record, data=b"".join(parts), data_offset=0)


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
