r"""Devices in a guest: the client of `wskctl stdio`, over any channel's stream.

The wire: one JSON object per line, at most 1 MiB, both ways.

::

    -> {"id": 7, "deadline_ms": 5000, "verb": "ioctl", "handle": 1, "code": 2236420, "out": 280, "data": "00ff"}
    <- {"id": 7, "ok": true, "status": 0, "win32": 0, "information": 280, "data": "..."}
    <- {"id": 8, "ok": false, "error": "timeout", "message": "...", "status": 0, "win32": 258}

Verbs: `hello`, `open {path}`, `ioctl {handle, code, data, out}`, `cancel {target}`, `close {handle}`, `net`.
Answers come in the order of completion and are matched by id; requests on one handle reach the driver in
the order in which they were sent, so several can be under way. An ioctl's deadline is kept on both sides:
wskctl cancels and says `timeout`, and the client gives up by itself when even that does not come.

Nothing that the guest says is believed: length of a line, JSON, ids, types and lengths of data are checked,
and one breach ends the conversation with `ChannelProtocolError` (the guest is dirty from then on).
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from wsklab.channel.answers import Hello, NetTable, decode_answer, decode_hello, decode_net
from wsklab.channel.protocol import Channel, Stream
from wsklab.deadline import Deadline
from wsklab.errors import ChannelLost, ChannelProtocolError, DeadlineExceeded, GuestCommandError, GuestError, UsageError

__all__ = [
    "DATA_LIMIT",
    "DEFAULT_COMMAND",
    "LINE_LIMIT",
    "Device",
    "DeviceClient",
    "DeviceError",
    "Hello",
    "IoctlResult",
    "NetTable",
    "PendingIoctl",
]

DEFAULT_COMMAND: Final = r"C:\wsklab\wskctl.exe stdio"

#: Longest line in either direction, newline included, in bytes.
LINE_LIMIT: Final = 1 << 20

#: Most bytes of input or output of one ioctl: twice as many digits fit a line.
DATA_LIMIT: Final = 512_000

#: Version of the conversation that this client speaks (`protocol` of hello).
PROTOCOL: Final = 1

# The guest's deadline is this much earlier than ours, so that its own "timeout", which proves that the
# path works and the driver does not, arrives first.
_GUEST_MARGIN_S: Final = 0.25
_GUEST_MARGIN_SHARE: Final = 0.1

# Largest deadline that wskctl accepts.
_LARGEST_DEADLINE_MS: Final = 24 * 3600 * 1000

# How long one look of the reader thread at the stream lasts; it only bounds a thread that nobody needs any more.
_LOOK_S: Final = 3600.0

_DEFAULT_CALL_S: Final = 30.0


class DeviceError(GuestCommandError):
    """wskctl refused a request, or could not do it; the guest stays clean.

    Attributes:
        reason: a word of the protocol: `failed`, `bad_argument`, `unknown_handle`, `busy`, `no_memory`, ...
        status: NTSTATUS, 0 where there is none.
        win32: Win32 code, 0 where there is none.
    """

    def __init__(self, what: str, *, reason: str, detail: str, status: int, win32: int) -> None:
        codes = f" (Win32 {win32}, NTSTATUS 0x{status:08X})" if status or win32 else ""
        super().__init__(f"{what}: {detail}{codes}", command=what, exit_code=win32, why=f"{reason}: {detail}{codes}")
        self.reason = reason
        self.status = status
        self.win32 = win32


@dataclass(frozen=True, slots=True, kw_only=True)
class IoctlResult:
    """How a DeviceIoControl ended.

    Attributes:
        status: NTSTATUS, unsigned.
        win32: the Win32 code that GetLastError would give; 0 for a success status.
        information: bytes that the driver says it returned; can exceed the buffer (Wine does not check).
        data: the bytes returned, at most `output_size`; empty for an error status.
    """

    status: int
    win32: int
    information: int
    data: bytes


class _Reply:
    """The place where the reader thread puts one answer."""

    __slots__ = ("_answer", "_error", "_ready", "output_size")

    def __init__(self, output_size: int) -> None:
        self.output_size = output_size
        self._ready = threading.Event()
        self._answer: Mapping[str, Any] | None = None
        self._error: GuestError | None = None

    @property
    def is_there(self) -> bool:
        return self._ready.is_set()

    def give(self, answer: Mapping[str, Any]) -> None:
        self._answer = answer
        self._ready.set()

    def fail(self, error: GuestError) -> None:
        self._error = error
        self._ready.set()

    def take(self, deadline: Deadline, what: str) -> Mapping[str, Any]:
        """The answer.

        Raises:
            DeadlineExceeded: none came.
            GuestError: the conversation ended.
        """
        if not self._ready.wait(deadline.remaining_s):
            raise deadline.exceeded(what, last="no answer from wskctl")
        if self._error is not None:
            raise _copy(self._error)
        assert self._answer is not None
        return self._answer


class PendingIoctl:
    """A DeviceIoControl under way. Made by `Device.submit_ioctl`."""

    __slots__ = ("_client", "_id", "_reply", "_started", "_what")

    def __init__(self, client: DeviceClient, request_id: int, reply: _Reply, what: str, started: Deadline) -> None:
        self._client = client
        self._id = request_id
        self._reply = reply
        self._what = what
        self._started = started

    @property
    def done(self) -> bool:
        """Whether `result` answers at once."""
        return self._reply.is_there

    def result(self, deadline: Deadline) -> IoctlResult:
        """Its end; may be asked again.

        Raises:
            DeadlineExceeded: it is still pending at `deadline`, or was at the deadline it was submitted with.
            DeviceError: wskctl refused it.
            ChannelLost: the conversation ended; ChannelProtocolError: the guest broke it.
        """
        answer = self._reply.take(deadline, self._what)
        if answer["ok"]:
            return IoctlResult(
                status=answer["status"], win32=answer["win32"], information=answer["information"], data=answer["data"]
            )
        if answer["error"] == "timeout":
            raise self._started.exceeded(self._what, last="wskctl: pending at its deadline, cancelled")
        raise _refusal(self._what, answer)

    def cancel(self) -> None:
        """Ask the guest to cancel it; does not wait. Its end still comes by `result`.

        Raises:
            ChannelLost: the conversation ended.
        """
        self._client.cancel(self._id)


class Device:
    """An open device in the guest. Made by `DeviceClient.open_device`; closes once."""

    def __init__(self, client: DeviceClient, path: str, handle: int) -> None:
        self._client = client
        self._handle = handle
        self._is_open = True
        self.path = path

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except (GuestError, DeadlineExceeded):
            if value is None:  # the first error says more than the one of cleaning up after it
                raise

    def ioctl(self, code: int, data: bytes, output_size: int, deadline: Deadline) -> IoctlResult:
        """One DeviceIoControl, awaited; an error status is an answer, not an exception.

        Raises:
            UsageError: `data` or `output_size` exceeds `DATA_LIMIT`.
            DeadlineExceeded: it was not complete in time; the guest cancelled it.
            DeviceError, ChannelLost, ChannelProtocolError: see `PendingIoctl.result`.
        """
        return self.submit_ioctl(code, data, output_size, deadline).result(deadline)

    def submit_ioctl(self, code: int, data: bytes, output_size: int, deadline: Deadline) -> PendingIoctl:
        """Send one DeviceIoControl and go on. `deadline` is the guest's: then it cancels."""
        if len(data) > DATA_LIMIT or not 0 <= output_size <= DATA_LIMIT:
            raise UsageError(
                f"an ioctl takes and gives at most {DATA_LIMIT} bytes",
                why=f"input {len(data)}, output {output_size}",
                fix="split it",
            )
        if not 0 <= code <= 0xFFFFFFFF:
            raise UsageError(f"not a 32-bit control code: {code:#x}")
        body = f'"verb":"ioctl","handle":{self._handle},"code":{code},"out":{output_size},"data":"{data.hex()}"'
        request_id, reply = self._client.send(body, deadline, output_size=output_size)
        return PendingIoctl(self._client, request_id, reply, f"ioctl 0x{code:08X} of {self.path}", deadline)

    def close(self, deadline: Deadline | None = None) -> None:
        """Close the handle; what is pending is up to the driver. No error when it is closed already."""
        if not self._is_open:
            return
        self._is_open = False
        if self._client.fault is None:
            self._client.call(f'"verb":"close","handle":{self._handle}', deadline, f"close {self.path}")


class DeviceClient:
    """One conversation with `wskctl stdio`; safe to use from several threads; a context manager."""

    def __init__(self, stream: Stream) -> None:
        """Use `open`."""
        self._stream = stream
        self._sending = threading.Lock()
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._waiting: dict[int, _Reply] = {}
        self._fault: GuestError | None = None
        self._closing = False
        self._hello: Hello | None = None
        self._reader = threading.Thread(target=self._read, name="wsklab-device-reader", daemon=True)
        self._reader.start()

    @classmethod
    def open(
        cls, channel: Channel, deadline: Deadline, *, command: str = DEFAULT_COMMAND, driver: str = ""
    ) -> DeviceClient:
        """Start `wskctl stdio` in the guest and greet it.

        Args:
            channel: the path into the guest.
            deadline: bounds start and greeting.
            command: what to run there.
            driver: guest path of the driver file whose digest hello reports; "" is `wsklab.sys` beside wskctl.

        Raises:
            ChannelLost: the process ended at once; its standard error is in `why`.
            ChannelProtocolError: it speaks another version, or not this protocol at all.
        """
        client = cls(channel.open_stream(command, deadline))
        try:
            body = '"verb":"hello"' + (f',"driver":{json.dumps(driver)}' if driver else "")
            client._hello = decode_hello(client.call(body, deadline, "hello of wskctl"))
            _check_version(client._hello)
        except BaseException:
            client.close()
            raise
        return client

    @property
    def hello(self) -> Hello:
        """What wskctl said about itself and the guest at the start."""
        assert self._hello is not None
        return self._hello

    @property
    def fault(self) -> GuestError | None:
        """Why the conversation is over; None while it is not."""
        return self._fault

    @property
    def is_dirty(self) -> bool:
        """Whether the guest broke the protocol: it is not to be used again."""
        return isinstance(self._fault, ChannelProtocolError)

    def __enter__(self) -> DeviceClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open_device(self, path: str, deadline: Deadline | None = None) -> Device:
        r"""Open a device for reading and writing, overlapped.

        Args:
            path: such as `\\.\wsklab`.
            deadline: None is 30 s.

        Raises:
            DeviceError: it does not exist (Win32 2), access is denied (5), ...
        """
        answer = self.call(f'"verb":"open","path":{json.dumps(path)}', deadline, f"open {path}")
        handle = answer.get("handle")
        if not isinstance(handle, int) or isinstance(handle, bool) or not 0 < handle < 1 << 32:
            raise self._break(ChannelProtocolError(f"wskctl gave no handle for {path}"))
        return Device(self, path, handle)

    def net(self, deadline: Deadline | None = None) -> NetTable:
        """The guest's own TCP and UDP tables.

        Raises:
            DeviceError: they cannot be read there.
        """
        try:
            return decode_net(self.call('"verb":"net"', deadline, "net table"))
        except ChannelProtocolError as error:
            raise self._break(error) from None

    def close(self) -> None:
        """End the conversation: wskctl sees end of file, cancels, closes its devices and exits."""
        self._closing = True
        self._stream.close()
        if threading.current_thread() is not self._reader:
            self._reader.join(5.0)

    def call(self, body: str, deadline: Deadline | None, what: str) -> Mapping[str, Any]:
        """Send a request and return its good answer. `body`: the members after `deadline_ms`, as JSON.

        Raises:
            DeviceError: the answer is an error.
        """
        deadline = deadline or Deadline.after(_DEFAULT_CALL_S)
        _, reply = self.send(body, deadline)
        answer = reply.take(deadline, what)
        if not answer["ok"]:
            raise _refusal(what, answer)
        return answer

    def send(self, body: str, deadline: Deadline, *, output_size: int = -1) -> tuple[int, _Reply]:
        """Send a request; `output_size` >= 0 says that the answer is an ioctl's."""
        reply = _Reply(output_size)
        margin = min(_GUEST_MARGIN_S, deadline.remaining_s * _GUEST_MARGIN_SHARE)
        guest_ms = max(1, min(_LARGEST_DEADLINE_MS, int((deadline.remaining_s - margin) * 1000)))
        with self._sending:  # the order on the wire is the order of the ids
            with self._lock:
                if self._fault is not None:
                    raise _copy(self._fault)
                request_id = next(self._ids)
                self._waiting[request_id] = reply
            line = f'{{"id":{request_id},"deadline_ms":{guest_ms},{body}}}\n'.encode()
            try:
                self._stream.send(line, deadline)
            except (ChannelLost, DeadlineExceeded):
                with self._lock:
                    self._waiting.pop(request_id, None)
                raise
        return request_id, reply

    def cancel(self, request_id: int) -> None:
        """Ask for the cancellation of a request; the answer to that is not awaited."""
        self.send(f'"verb":"cancel","target":{request_id}', Deadline.after(_DEFAULT_CALL_S))

    def _break(self, error: ChannelProtocolError) -> ChannelProtocolError:
        """End the conversation because of what the guest said."""
        self._end(error)
        self._stream.close()
        return error

    def _end(self, error: GuestError) -> None:
        with self._lock:
            self._fault = self._fault or error
            waiting, self._waiting = self._waiting, {}
        for reply in waiting.values():
            reply.fail(error)

    def _read(self) -> None:
        """The reader thread: lines to replies, until the stream or the protocol ends."""
        try:
            self._read_lines()
            lost = ChannelLost("wskctl in the guest ended")
        except ChannelProtocolError as error:
            self._break(error)
            return
        except ChannelLost as error:
            lost = error
        tail = self._stream.stderr_tail().strip()[-400:]
        why = "closed by the lab" if self._closing else "; ".join(filter(None, [lost.why, tail]))
        self._end(ChannelLost(lost.message, why=why or "no word on its standard error"))

    def _read_lines(self) -> None:
        buffer = bytearray()
        while data := self._receive():
            searched = len(buffer)
            buffer += data
            while (newline := buffer.find(b"\n", searched)) >= 0:
                self._answer(bytes(buffer[:newline]))
                del buffer[: newline + 1]
                searched = 0
            _check_length(len(buffer))

    def _receive(self) -> bytes:
        while True:
            try:
                return self._stream.receive(Deadline.after(_LOOK_S))
            except DeadlineExceeded:
                continue

    def _answer(self, line: bytes) -> None:
        _check_length(len(line))
        if not line.strip():
            raise ChannelProtocolError("the guest sent an empty line")
        request_id, answer = decode_answer(line)
        if request_id is None:
            raise ChannelProtocolError("wskctl did not understand a request", why=str(answer.get("message"))[:200])
        with self._lock:
            reply = self._waiting.pop(request_id, None)
        if reply is None:
            raise ChannelProtocolError(f"the guest answered request {request_id}, which nobody awaits")
        if answer["ok"] and reply.output_size >= 0:
            answer = _checked_ioctl(answer, reply)
        reply.give(answer)


def _check_version(hello: Hello) -> None:
    if hello.protocol != PROTOCOL:
        raise ChannelProtocolError(
            f"wskctl in the guest speaks protocol {hello.protocol}, the lab {PROTOCOL}",
            fix="deploy the wskctl.exe that belongs to this version of the lab",
        )


def _check_length(length: int) -> None:
    if length >= LINE_LIMIT:
        raise ChannelProtocolError(f"the guest sent a line of more than {LINE_LIMIT} bytes")


def _checked_ioctl(answer: Mapping[str, Any], reply: _Reply) -> Mapping[str, Any]:
    """The answer of an ioctl with its data decoded; fails the reply too when it is wrong."""
    try:
        status, win32, information = answer["status"], answer["win32"], answer["information"]
        data = bytes.fromhex(answer["data"])
        sane = all(type(number) is int and 0 <= number < 1 << 64 for number in (status, win32, information))
    except (KeyError, TypeError, ValueError):
        sane, data = False, b""
    if not sane or status >= 1 << 32 or win32 >= 1 << 32:
        problem = "an ioctl's answer lacks a member, or one has a wrong type"
    elif status >> 30 == 3 and data:
        problem = "an ioctl that failed returned data"
    elif status >> 30 != 3 and len(data) != min(information, reply.output_size):
        problem = f"an ioctl returned {len(data)} bytes, said {information}, had room for {reply.output_size}"
    else:
        return {"ok": True, "status": status, "win32": win32, "information": information, "data": data}
    error = ChannelProtocolError(f"the guest broke the protocol: {problem}")
    reply.fail(error)
    raise error


def _refusal(what: str, answer: Mapping[str, Any]) -> GuestError | DeadlineExceeded:
    return DeviceError(
        what, reason=answer["error"], detail=answer["message"], status=answer["status"], win32=answer["win32"]
    )


def _copy(error: GuestError) -> GuestError:
    """A fresh exception for each waiter: one object raised in several threads would mix their tracebacks."""
    kind = ChannelProtocolError if isinstance(error, ChannelProtocolError) else ChannelLost
    return kind(error.message, why=error.why, fix=error.fix, evidence=error.evidence)
