"""A guest path without a guest: scripted commands, files and streams, and a wskctl with scripted devices.

Shipped, because what is built on channels is tested without machines; it passes the same contract as
`SshChannel` (`tests/contracts/channel_contract.py`).
"""

# ruff: noqa: ARG002 - a fake keeps the signatures of what it stands for

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol

from wsklab.channel.protocol import OUTPUT_LIMIT, CommandResult
from wsklab.channel.transfer import sftp_path
from wsklab.deadline import Deadline
from wsklab.errors import ChannelLost, ChannelProtocolError, GuestCommandError, UsageError

__all__ = ["Ended", "FakeChannel", "FakeDevice", "FakeStream", "FakeWskctl", "Hangs", "Pends", "StreamPeer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A scripted command's end."""

    exit_code: int = 0
    stdout: str = ""
    stderr: str = ""


@dataclass(frozen=True, slots=True)
class Hangs:
    """A scripted command that never ends."""


CommandScript = Ended | Hangs | Callable[[str], Ended]


class StreamPeer(Protocol):
    """The process at the other end of a `FakeStream`."""

    def start(self, reply: Callable[[bytes], None], end: Callable[[], None]) -> None:
        """Called once; `reply` gives output, from any thread, `end` ends the process."""

    def data(self, data: bytes) -> None:
        """The lab sent `data`."""

    def closed(self) -> None:
        """The lab closed the stream."""


class FakeStream:
    """A `Stream` whose other end is a `StreamPeer`."""

    def __init__(self, command: str, peer: StreamPeer, *, stderr: str = "") -> None:
        self._command = command
        self._peer = peer
        self._changed = threading.Condition()
        self._output = bytearray()
        self._ended = False
        self._lost = False
        self._stderr = stderr
        peer.start(self._feed, self.end)

    def send(self, data: bytes, deadline: Deadline) -> None:
        with self._changed:
            if self._lost or self._ended:
                raise ChannelLost(f"the connection to the guest broke: input of {self._command}")
        self._peer.data(data)

    def receive(self, deadline: Deadline, limit: int = 65536) -> bytes:
        with self._changed:
            while not self._output and not self._ended and not self._lost:
                if not self._changed.wait(deadline.remaining_s):
                    raise deadline.exceeded(f"output of {self._command}")
            if self._lost and not self._output:
                raise ChannelLost(f"the connection to the guest broke: output of {self._command}")
            data = bytes(self._output[:limit])
            del self._output[:limit]
            return data

    def stderr_tail(self) -> str:
        return self._stderr[-16384:]

    def close(self) -> None:
        with self._changed:
            if self._ended:
                return
        self.end()
        self._peer.closed()

    def end(self) -> None:
        """The process ends: what it wrote can still be read, then end of file."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def lose(self) -> None:
        """The path breaks."""
        with self._changed:
            self._lost = True
            self._changed.notify_all()

    def _feed(self, data: bytes) -> None:
        with self._changed:
            self._output += data
            self._changed.notify_all()


class FakeChannel:
    r"""A `Channel` that does what it was told to.

    Args:
        commands: command line -> what it does; an unknown one ends with code 1, as in a shell.
        files: guest path (`C:\wsklab\x`) -> content.
        streams: command line -> maker of the process behind `open_stream`.
    """

    def __init__(
        self,
        commands: Mapping[str, CommandScript] | None = None,
        *,
        files: Mapping[str, bytes] | None = None,
        streams: Mapping[str, Callable[[], StreamPeer]] | None = None,
    ) -> None:
        self.commands = dict(commands or {})
        self.files = {sftp_path(path): data for path, data in (files or {}).items()}
        self.streams = dict(streams or {})
        #: What a guest's SSH server would show.
        self.host_key = "ssh-ed25519 AAAAfake"
        #: Every command line that was run or opened, in order.
        self.history: list[str] = []
        self._open_streams: list[FakeStream] = []
        self._lost = False

    def __enter__(self) -> FakeChannel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, command: str, deadline: Deadline, *, check: bool = True) -> CommandResult:
        self._begin(command)
        script = self.commands.get(command, Ended(exit_code=1, stderr=f"not a command of this fake: {command}"))
        if isinstance(script, Hangs):
            self.close()
            raise deadline.exceeded(command)
        end = script if isinstance(script, Ended) else script(command)
        stdout, stderr = end.stdout[:OUTPUT_LIMIT], end.stderr[:OUTPUT_LIMIT]
        if check and end.exit_code != 0:
            raise GuestCommandError(
                f"the command failed in the guest with code {end.exit_code}: {command}",
                command=command,
                exit_code=end.exit_code,
                stdout=stdout,
                stderr=stderr,
            )
        truncated = len(end.stdout) - len(stdout) + len(end.stderr) - len(stderr)
        return CommandResult(
            command=command, exit_code=end.exit_code, stdout=stdout, stderr=stderr, truncated=truncated
        )

    def open_stream(self, command: str, deadline: Deadline) -> FakeStream:
        self._begin(command)
        peer = self.streams.get(command, _NoSuchProgram)()
        stderr = f"not a stream of this fake: {command}" if isinstance(peer, _NoSuchProgram) else ""
        stream = FakeStream(command, peer, stderr=stderr)
        self._open_streams.append(stream)
        return stream

    def put(self, source: Path, target: str, deadline: Deadline) -> None:
        path = sftp_path(target)
        self._begin(f"put {target}")
        try:
            self.files[path] = source.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {source}", why=str(error), fix="name an existing file") from error

    def get(self, source: str, target: Path, deadline: Deadline, *, limit: int = 1 << 30) -> None:
        path = sftp_path(source)
        self._begin(f"get {source}")
        if path not in self.files:
            raise GuestCommandError(f"the guest refused to read {path}", command=f"read {path}", exit_code=None)
        if len(self.files[path]) > limit:
            raise ChannelProtocolError(f"{path} in the guest has {len(self.files[path])} bytes, more than {limit}")
        target.write_bytes(self.files[path])

    def close(self) -> None:
        self._lost = True
        for stream in self._open_streams:
            stream.lose()

    def lose(self) -> None:
        """The guest dies: everything over this channel breaks."""
        self.close()

    def _begin(self, what: str) -> None:
        if self._lost:
            raise ChannelLost(f"the connection to the guest broke: {what}", why="the connection is closed")
        self.history.append(what)


class _NoSuchProgram:
    def start(self, reply: Callable[[bytes], None], end: Callable[[], None]) -> None:
        end()

    def data(self, data: bytes) -> None:
        pass

    def closed(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Pends:
    """An ioctl that stays pending until it is cancelled, expires in the guest, or `FakeDevice.complete` ends it."""

    name: str = ""


@dataclass(kw_only=True)
class FakeDevice:
    """A device in the fake guest.

    Attributes:
        ioctls: control code -> called with input and output size; gives (NTSTATUS, output bytes) or `Pends`.
        handles: how many are open now.
        calls: (code, input) of every ioctl that arrived, in order.
    """

    ioctls: Mapping[int, Callable[[bytes, int], tuple[int, bytes] | Pends]] = field(default_factory=dict)
    handles: int = 0
    calls: list[tuple[int, bytes]] = field(default_factory=list)
    _pending: dict[str, Callable[[int, bytes], None]] = field(default_factory=dict)

    def complete(self, name: str, status: int = 0, output: bytes = b"") -> None:
        """End the pending ioctl of that name."""
        self._pending.pop(name)(status, output)


_STATUS_CANCELLED: Final = 0xC0000120
_STATUS_INVALID_DEVICE_REQUEST: Final = 0xC0000010
# RtlNtStatusToDosError of the statuses that tests meet; ERROR_MR_MID_NOT_FOUND (317) is its answer to others.
_WIN32: Final[Mapping[int, int]] = {_STATUS_CANCELLED: 995, _STATUS_INVALID_DEVICE_REQUEST: 1}


class FakeWskctl:
    """The process `wskctl stdio`, with scripted devices: a `StreamPeer`."""

    def __init__(self, devices: Mapping[str, FakeDevice], *, hello: Mapping[str, object] | None = None) -> None:
        self._devices = devices
        self._hello = dict(hello or {})
        self._buffer = b""
        self._open: dict[int, FakeDevice] = {}
        self._pending: dict[int, str] = {}
        self._handles = 0
        self._lock = threading.RLock()
        self._reply: Callable[[bytes], None] = lambda _: None

    def start(self, reply: Callable[[bytes], None], end: Callable[[], None]) -> None:
        self._reply = reply

    def data(self, data: bytes) -> None:
        with self._lock:
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            for line in lines:
                self._handle(json.loads(line))

    def closed(self) -> None:
        with self._lock:
            for device in self._open.values():
                device.handles -= 1
            self._open.clear()

    def _handle(self, request: Mapping[str, Any]) -> None:
        request_id, verb = request["id"], request["verb"]
        if verb == "hello":
            self._good(request_id, **({**_HELLO, **self._hello}))
        elif verb == "net":
            self._good(request_id, tcp=[], udp=[], left_out=0)
        elif verb == "open" and request["path"] in self._devices:
            self._handles += 1
            self._open[self._handles] = device = self._devices[request["path"]]
            device.handles += 1
            self._good(request_id, handle=self._handles)
        elif verb == "open":
            self._bad(request_id, "failed", "the device cannot be opened", 0xC0000034, 2)
        elif verb == "cancel":
            self._good(request_id, found=self._end_pending(request["target"], _STATUS_CANCELLED))
        elif request.get("handle") not in self._open:
            self._bad(request_id, "unknown_handle", "no such handle", 0, 6)
        elif verb == "close":
            self._open.pop(request["handle"]).handles -= 1
            self._good(request_id)
        else:
            self._ioctl(request, self._open[request["handle"]])

    def _ioctl(self, request: Mapping[str, Any], device: FakeDevice) -> None:
        data = bytes.fromhex(request["data"])
        device.calls.append((request["code"], data))
        request_id, size = request["id"], request["out"]
        script = device.ioctls.get(request["code"])
        answer = (_STATUS_INVALID_DEVICE_REQUEST, b"") if script is None else script(data, size)
        if isinstance(answer, Pends):
            name = answer.name or str(request_id)
            self._pending[request_id] = name
            device._pending[name] = lambda status, output: self._finish(request_id, size, status, output)
        else:
            self._finish(request_id, size, *answer)

    def _end_pending(self, request_id: int, status: int) -> bool:
        name = self._pending.get(request_id)
        for device in self._devices.values():
            if name is not None and name in device._pending:
                device.complete(name, status)
                return True
        return False

    def _finish(self, request_id: int, size: int, status: int, output: bytes) -> None:
        failed = status >> 30 == 3
        self._pending.pop(request_id, None)
        self._good(
            request_id,
            status=status,
            win32=_WIN32.get(status, 317) if status >> 31 else 0,
            information=0 if failed else len(output),
            data="" if failed else output[:size].hex(),
        )

    def _good(self, request_id: int, **members: object) -> None:
        self._reply(json.dumps({"id": request_id, "ok": True, **members}).encode() + b"\n")

    def _bad(self, request_id: int, error: str, message: str, status: int, win32: int) -> None:
        answer = {"id": request_id, "ok": False, "error": error, "message": message, "status": status, "win32": win32}
        self._reply(json.dumps(answer).encode() + b"\n")


_HELLO: Final[Mapping[str, object]] = {
    "protocol": 1,
    "version": "0.1.0",
    "sha256": "0" * 64,
    "driver_sha256": None,
    "pid": 4711,
    "os_major": 10,
    "os_minor": 0,
    "os_build": 19045,
    "os_revision": 1,
    "wine": None,
    "architecture": "amd64",
    "boot_time": 133_000_000_000_000_000,
    "uptime_ms": 1000,
}
