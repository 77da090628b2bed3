"""What workers and broker have in common: the calls, and lines of JSON between two processes."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from wsklab.deadline import Deadline
from wsklab.errors import LabError
from wsklab.lease_protocol import Explanation, Lease, Reset
from wsklab.pytest_plugin.schedule import Need

__all__ = ["LINE_LIMIT", "Leases", "Story", "error_document", "receive_line"]

#: The longest line of the broker's conversation, in bytes; a longer one ends the connection.
LINE_LIMIT = 1 << 18


class Leases(Protocol):
    """What fixtures use: the broker itself, or the worker's client of it."""

    def acquire(
        self,
        profiles: Sequence[str],
        *,
        exclusive: bool,
        deadline: Deadline,
        reset: Reset = Reset.NONE,
        again: bool = False,
    ) -> Lease: ...
    def release(self, lease: Lease, *, dirty: bool, reason: str, keep: bool = False) -> None: ...
    def explain(self, guest: str, *, operation: str, channel_lost: bool) -> Story: ...
    def conclude(self, guest: str, folder: Path) -> Story | None: ...
    def plan(self, needs: Sequence[Need]) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Story:
    """An explanation as it crosses a process border.

    Attributes:
        fault: `crashed`, `hung` or `lab_error`; `cause`: finer, a word of `wsklab.crash.Cause`.
        bucket: the group of crashes that it belongs to; "" for none.
    """

    fault: str
    reason: str
    signals: Mapping[str, object]
    cause: str = ""
    bucket: str = ""

    @classmethod
    def of(cls, told: Explanation) -> Story:
        """What a provider said."""
        return cls(str(told.fault), told.reason, dict(told.signals), str(told.cause), told.bucket)

    def document(self) -> dict[str, object]:
        """For the other process, and for the evidence folder."""
        return asdict(self)

    @classmethod
    def read(cls, document: Mapping[str, object]) -> Story:
        """What the other process sent."""
        signals = document.get("signals")
        words = [str(document.get(name) or "") for name in ("fault", "reason", "cause", "bucket")]
        return cls(words[0], words[1], dict(signals) if isinstance(signals, dict) else {}, words[2], words[3])


def error_document(error: LabError) -> dict[str, str]:
    """An error as it crosses a process border."""
    return {"class": type(error).__name__, "message": error.message, "why": error.why, "fix": error.fix}


def receive_line(connection: socket.socket, buffer: bytearray) -> bytes | None:
    """The next line without its end; None at end of file, on a broken connection, or when it is too long."""
    while True:
        end = buffer.find(b"\n")
        if end >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            return line
        if len(buffer) > LINE_LIMIT:
            return None
        try:
            piece = connection.recv(65536)
        except OSError:
            return None
        if not piece:
            return None
        buffer.extend(piece)
