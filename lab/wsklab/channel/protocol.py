"""What the lab asks of a path into a guest: commands, files, streams. No paramiko here.

Implementations: `wsklab.channel.ssh.SshChannel` and the shipped fake `wsklab.channel.fake.FakeChannel`;
both pass `tests/contracts/channel_contract.py`. Everything that a guest says is untrusted: every
answer is bounded in bytes and in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from wsklab.deadline import Deadline

__all__ = ["Channel", "CommandResult", "Runs", "Stream"]

#: The largest output of one command that is kept, in bytes; the rest is counted and dropped.
OUTPUT_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """A command's end. `truncated` counts the bytes of output that were dropped."""

    command: str
    exit_code: int
    stdout: str
    stderr: str
    truncated: int = 0


class Stream(Protocol):
    """A long-lived process in the guest, spoken to over its standard input and output (no pty)."""

    def send(self, data: bytes, deadline: Deadline) -> None: ...
    def receive(self, deadline: Deadline, limit: int = 65536) -> bytes:
        """The next bytes; b"" at end of file.

        Raises:
            DeadlineExceeded: nothing came.
            ChannelLost: the path broke.
        """

    def stderr_tail(self) -> str:
        """The last bytes (at most 16 KiB) that the process wrote to its standard error."""

    def close(self) -> None: ...


class Runs(Protocol):
    """A way into a guest, as far as looking at it needs one: a `Channel`, or the guest agent."""

    def run(self, command: str, deadline: Deadline, *, check: bool = True) -> CommandResult:
        """See `Channel.run`."""


class Channel(Protocol):
    """A path into one guest; a context manager; safe to close twice, from any thread."""

    @property
    def host_key(self) -> str:
        """The guest's public host key, `type base64`; what was learned where none was pinned."""

    def __enter__(self) -> Channel: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def run(self, command: str, deadline: Deadline, *, check: bool = True) -> CommandResult:
        """Run one command line, as typed at the guest's prompt.

        Raises:
            GuestCommandError: it ended with another code than 0 and `check` is set.
            ChannelLost: the path broke. DeadlineExceeded: it did not end in time; its process is closed.
        """

    def open_stream(self, command: str, deadline: Deadline) -> Stream: ...
    def put(self, source: Path, target: str, deadline: Deadline) -> None:
        """Copy a file into the guest; `target` is a guest path such as `C:\\wsklab\\x.sys`."""

    def get(self, source: str, target: Path, deadline: Deadline, *, limit: int = 1 << 30) -> None: ...
    def close(self) -> None: ...
