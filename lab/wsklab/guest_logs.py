"""Logs that a guest keeps inside itself, read and followed over its channel. Untrusted and bounded."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from wsklab.channel.protocol import Channel, Runs, Stream
from wsklab.console import visible
from wsklab.deadline import Deadline
from wsklab.errors import ChannelProtocolError, UsageError

__all__ = ["GuestLog", "LineSplitter", "LogSource", "log_of"]

# What is read of a log's end before its last lines are chosen.
_TAIL_BYTES: Final = 1 << 18

# A line is cut for people; one that never ends is broken up.
_LINE_SHOWN: Final = 400
_LINE_MAX: Final = 4096

# Wine traces each library of each program, and each exception that a driver handles itself. What is left is what
# drivers print, where drivers were put, and what went wrong.
_WINE_NOISE: Final = re.compile(r'trace:loaddll:(?!.*\.sys")|trace:seh:')


class LogSource(enum.StrEnum):
    """Where a guest says what."""

    CONSOLE = "console"
    DRIVER = "driver"
    AGENT = "agent"


class LineSplitter:
    """Bytes as they come, lines as they are complete: visible, cut, and bounded in memory."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete now."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > _LINE_MAX:
            whole.append(self._rest[:_LINE_MAX])
            self._rest = self._rest[_LINE_MAX:]
        return [_shown(line) for line in whole]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestLog:
    """One log of one kind of guest: a file that can be followed, or a command that prints it.

    Attributes:
        file: its path in a wine guest; "" for a command.
        command: the command, with `{lines}` for how many; "" for a file.
        noise: lines that most readers can do without.
    """

    file: str = ""
    command: str = ""
    noise: re.Pattern[str] | None = None

    @property
    def where(self) -> str:
        """Its file or command, for people."""
        return self.file or self.command.partition(" /c:")[0]

    def keeps(self, line: str) -> bool:
        """Whether a line is more than noise."""
        return self.noise is None or self.noise.search(line) is None

    def tail(self, channel: Runs, deadline: Deadline, *, lines: int, everything: bool) -> tuple[list[str], int]:
        """The last lines, and the place in the file behind them, from which `follow` goes on.

        Args:
            everything: noise as well.

        Raises:
            GuestCommandError: there is no such log in the guest.
        """
        if not self.file:
            text, size = channel.run(self.command.format(lines=lines), deadline).stdout, 0
        else:
            # one length for both, so that nothing falls between the end of this and the start of `follow`
            command = f"linux: size=$(stat -c %s {self.file}) && echo $size && head -c $size {self.file}"
            head, _, text = channel.run(f"{command} | tail -c {_TAIL_BYTES}", deadline).stdout.partition("\n")
            size = _number(head)
        found = [_shown(line.encode()) for line in text.splitlines()]
        return [line for line in found if everything or self.keeps(line)][-lines:], size

    def follow(self, channel: Channel, deadline: Deadline, *, start: int) -> Stream:
        """Everything behind `start`, as it is written.

        Raises:
            UsageError: it is no file.
        """
        if not self.file:
            raise UsageError(
                f"{self.where} cannot be followed", why="a command prints it, it is no file", fix="leave --follow out"
            )
        return channel.open_stream(f"linux: exec tail -c +{start + 1} -F {self.file} 2>/dev/null", deadline)


#: Windows itself says of a driver when its service starts, stops and fails.
_SERVICE_EVENTS: Final = (
    "wevtutil qe System /c:{lines} /rd:true /f:text \"/q:*[System[Provider[@Name='Service Control Manager']]]\""
)

_LOGS: Final[Mapping[tuple[str, LogSource], GuestLog]] = MappingProxyType(
    {
        ("wine", LogSource.DRIVER): GuestLog(file="/var/log/wsklab/wine.log", noise=_WINE_NOISE),
        ("wine", LogSource.AGENT): GuestLog(file="/var/log/wsklab/qemu-ga.log"),
        ("windows", LogSource.DRIVER): GuestLog(command=_SERVICE_EVENTS),
    }
)


def log_of(kind: str, source: LogSource) -> GuestLog | None:
    """The log of this kind of guest; None when it keeps none."""
    return _LOGS.get((kind, source))


def _shown(line: bytes) -> str:
    text = visible(line.decode("utf-8", errors="replace").rstrip("\r"))
    return text if len(text) <= _LINE_SHOWN else text[:_LINE_SHOWN] + " ..."


def _number(text: str) -> int:
    if not re.fullmatch(r"\d{1,15}", text):
        raise ChannelProtocolError("the guest gave no size of its log", why=f"it said {text[:80]!r}")
    return int(text)
