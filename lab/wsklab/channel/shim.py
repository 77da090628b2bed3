r"""The path into a guest of kind shim: logins on the UNIX socket of the `wsklab-shim` process.

Every command has a connection of its own. Outwards it carries the command line and then the command's standard
input; inwards come frames: one byte that names the stream (output, complaints, exit code), four bytes of length
(little-endian), the bytes. A connection that ends without an exit code was cut: the process is gone. Files are
copied by way of the guest's folder, which is its drive `C:\`.

Nothing that the process says is believed, as in every channel: it may be about to break.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from wsklab.channel.protocol import OUTPUT_LIMIT, CommandResult
from wsklab.deadline import Deadline
from wsklab.errors import ChannelLost, ChannelProtocolError, GuestCommandError, UsageError

__all__ = ["ShimChannel", "ShimStream"]

_STDOUT: Final = 1
_STDERR: Final = 2
_EXIT: Final = 3
_HEAD: Final = struct.Struct("<BI")

#: Longest frame: a line of `wskctl stdio`, with room to spare.
_FRAME_LIMIT: Final = 2 << 20
_STDERR_TAIL: Final = 16 << 10
_READ: Final = 1 << 16

_DRIVE_PATH: Final = re.compile(r"[Cc]:[\\/]([^\x00-\x1f:]*)\Z")


class ShimStream:
    """One command in the guest, spoken to over its standard streams. Made by `ShimChannel.open_stream`."""

    def __init__(self, connection: socket.socket, command: str) -> None:
        self._socket = connection
        self._socket.setblocking(False)
        self._command = command
        self._raw = bytearray()
        self._output = bytearray()
        self._stderr = bytearray()
        self._dropped = 0
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False
        self.exit_code: int | None = None

    def send(self, data: bytes, deadline: Deadline) -> None:
        """Send all of `data` to the command's standard input.

        Raises:
            ChannelLost: the process is gone, or the command has ended.
            DeadlineExceeded: it takes nothing.
        """
        rest = memoryview(data)
        what = f"input of {self._command}"
        with self._use(what):
            while rest:
                self._wait(select.POLLOUT, deadline, what)
                try:
                    rest = rest[self._socket.send(rest) :]
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise self._lost(what, error) from error

    def end_input(self) -> None:
        """The command's standard input has an end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def receive(self, deadline: Deadline, limit: int = 65536) -> bytes:
        """The next bytes of its output; b"" when it has ended. One reader at a time.

        Raises:
            DeadlineExceeded: nothing came.
            ChannelLost: the process is gone. ChannelProtocolError: it sent what is no frame.
        """
        while not self._output and self.exit_code is None:
            self._read(deadline)
        data = bytes(self._output[:limit])
        del self._output[:limit]
        return data

    def stderr_tail(self) -> str:
        """The last bytes (at most 16 KiB) that the command complained."""
        return bytes(self._stderr[-_STDERR_TAIL:]).decode("utf-8", "replace")

    def close(self) -> None:
        """Close: the command gets end of file, and whoever reads or sends here ends. As often as one likes."""
        with self._lock:
            self._closed = True
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._close_unused()

    @contextlib.contextmanager
    def _use(self, what: str) -> Iterator[None]:
        """The descriptor stays ours meanwhile: one that was given back is somebody else's at once."""
        with self._lock:
            if self._closed:
                raise self._lost(what, None)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                self._close_unused()

    def _close_unused(self) -> None:
        if self._closed and self._users == 0:
            self._socket.close()

    def to_end(self, deadline: Deadline) -> CommandResult:
        """Read until the command has ended; of each stream `OUTPUT_LIMIT` bytes are kept.

        Raises:
            As `receive`.
        """
        while self.exit_code is None:
            self._read(deadline)
            for kept in (self._output, self._stderr):
                self._dropped += max(0, len(kept) - OUTPUT_LIMIT)
                del kept[OUTPUT_LIMIT:]
        return CommandResult(
            command=self._command,
            exit_code=self.exit_code,
            stdout=self._output.decode("utf-8", "replace"),
            stderr=self._stderr.decode("utf-8", "replace"),
            truncated=self._dropped,
        )

    def _wait(self, events: int, deadline: Deadline, what: str) -> None:
        poll = select.poll()
        poll.register(self._socket, events)
        if not poll.poll(max(deadline.remaining_s * 1000, 1)):
            raise deadline.exceeded(what, last=self.stderr_tail()[-200:])

    def _read(self, deadline: Deadline) -> None:
        """Take what has come, frame by frame; waits until something has."""
        what = f"output of {self._command}"
        with self._use(what):
            self._wait(select.POLLIN, deadline, what)
            try:
                data = self._socket.recv(_READ)
            except BlockingIOError:
                return
            except OSError as error:
                raise self._lost(what, error) from error
        if not data:
            raise self._lost(what, EOFError("the shim's process closed the connection before the command had ended"))
        self._raw += data
        while len(self._raw) >= _HEAD.size:
            stream, length = _HEAD.unpack_from(self._raw)
            if length > _FRAME_LIMIT:
                raise ChannelProtocolError(f"the guest sent a frame of {length} bytes")
            if len(self._raw) < _HEAD.size + length:
                break
            self._frame(stream, bytes(self._raw[_HEAD.size : _HEAD.size + length]))
            del self._raw[: _HEAD.size + length]

    def _frame(self, stream: int, data: bytes) -> None:
        if stream == _STDOUT:
            self._output += data
        elif stream == _STDERR:
            self._stderr += data
        elif stream == _EXIT and len(data) <= 10 and data.isdigit():
            self.exit_code = int(data)
        else:
            raise ChannelProtocolError(f"the guest sent a frame of an unknown kind: {stream}, {len(data)} bytes")

    def _lost(self, what: str, error: BaseException | None) -> ChannelLost:
        why = "it was closed here" if self._closed else f"{type(error).__name__}: {error}"
        return ChannelLost(f"the connection to the guest broke: {what}", why=why)


class ShimChannel:
    """A path into one shim guest; satisfies `wsklab.channel.protocol.Channel`.

    Args:
        control: the UNIX socket of its process.
        drive: the folder that is its drive `C:\\`.
    """

    def __init__(self, control: Path, drive: Path) -> None:
        self._control = control
        self._drive = drive
        self._lock = threading.Lock()
        self._streams: list[ShimStream] = []
        self._closed = False

    @property
    def host_key(self) -> str:
        """A process of this host has none."""
        return ""

    def __enter__(self) -> ShimChannel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, command: str, deadline: Deadline, *, check: bool = True) -> CommandResult:
        """See `Channel.run`; a command that outlives its deadline costs the channel."""
        stream = self.open_stream(command, deadline)
        try:
            stream.end_input()
            result = stream.to_end(deadline)
        except BaseException:
            self.close()
            raise
        finally:
            self._forget(stream)
        if check and result.exit_code != 0:
            raise GuestCommandError(
                f"the command failed in the guest with code {result.exit_code}: {command}",
                command=command,
                exit_code=result.exit_code,
                stdout=result.stdout,
                stderr=result.stderr,
            )
        return result

    def open_stream(self, command: str, deadline: Deadline) -> ShimStream:
        """See `Channel.open_stream`."""
        if "\n" in command:
            raise UsageError("a command of a guest is one line", why=repr(command[:80]))
        stream = ShimStream(self._connect(), command)
        with self._lock:
            if self._closed:
                stream.close()
                raise ChannelLost("the channel is closed")
            self._streams.append(stream)
        stream.send(f"{command}\n".encode(), deadline)
        return stream

    def put(self, source: Path, target: str, deadline: Deadline) -> None:  # noqa: ARG002 - a local copy
        """See `Channel.put`."""
        path = self._file(target)
        try:
            part = path.with_name(path.name + ".part")
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, part)
            part.replace(path)
        except OSError as error:
            raise UsageError(f"cannot copy {source}", why=str(error), fix="name an existing file") from error

    def get(self, source: str, target: Path, deadline: Deadline, *, limit: int = 1 << 30) -> None:  # noqa: ARG002
        """See `Channel.get`."""
        path = self._file(source)
        try:
            size = path.stat().st_size
            if size > limit:
                raise ChannelProtocolError(f"{source} in the guest has {size} bytes, more than the {limit} allowed")
            shutil.copyfile(path, target)
        except OSError as error:
            what = f"read {source}"
            raise GuestCommandError(
                f"the guest refused to {what}", command=what, exit_code=None, why=str(error)
            ) from error

    def close(self) -> None:
        """Close everything that runs over it; from any thread, as often as one likes."""
        with self._lock:
            self._closed = True
            streams, self._streams = self._streams, []
        for stream in streams:
            stream.close()

    def _forget(self, stream: ShimStream) -> None:
        stream.close()
        with self._lock:
            if stream in self._streams:
                self._streams.remove(stream)

    def _connect(self) -> socket.socket:
        """A connection, by a short name: the path of a UNIX socket has at most 107 bytes."""
        if self._closed:
            raise ChannelLost("the channel is closed")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            folder = os.open(self._control.parent, os.O_PATH | os.O_DIRECTORY)
            try:
                connection.connect(f"/proc/self/fd/{folder}/{self._control.name}")
            finally:
                os.close(folder)
        except OSError as error:
            connection.close()
            raise ChannelLost("the shim's process does not answer", why=str(error)) from error
        return connection

    def _file(self, path: str) -> Path:
        found = _DRIVE_PATH.match(path)
        parts = found[1].replace("\\", "/").split("/") if found else [".."]
        if ".." in parts:
            raise UsageError(f"not an absolute guest path: {path!r}", fix=r"write it as C:\folder\file")
        return self._drive.joinpath(*parts)
