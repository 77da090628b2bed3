"""What a guest printed on its serial port. Untrusted: bounded, and made visible before it is shown.

The file is written by libvirt's log daemon, which renames it to `.0`, `.1`, ... when it grows over its
limit (2 MiB and three old ones, unless the host says otherwise).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

__all__ = ["ConsoleFollower", "ConsoleLog", "visible"]

_LINE_MAX: Final = 400

# How many rotated files are looked for; the daemon's default keeps three.
_ROTATED_MAX: Final = 9


def visible(text: str) -> str:
    """Text in which nothing can move a cursor, change a colour or reverse a line.

    Line feeds and tabs stay; every other character that is not printable is shown as an escape.
    """
    return "".join(char if char.isprintable() or char in "\n\t" else _escaped(char) for char in text)


@dataclass(frozen=True, slots=True)
class ConsoleLog:
    """A guest's console.

    Attributes:
        path: the current file.
        limit_bytes: how much of the end is ever read into memory.
    """

    path: Path
    limit_bytes: int = 1 << 20

    @property
    def size(self) -> int:
        """Bytes written so far, over all files that are still there; 0 when there is none yet."""
        return sum(_size(path) for path in self._files())

    def grown_since(self, size: int) -> bool:
        """Whether anything was printed since `size` was read (a rotation counts as growth)."""
        return self.size != size

    def raw(self) -> bytes:
        """The last `limit_bytes`, as they are."""
        chunks: list[bytes] = []
        missing = self.limit_bytes
        for path in self._files():
            if missing <= 0:
                break
            chunk = _end_of(path, missing)
            chunks.append(chunk)
            missing -= len(chunk)
        return b"".join(reversed(chunks))

    def text(self) -> str:
        """The last `limit_bytes` as text, one line per line, made visible."""
        decoded = self.raw().decode("utf-8", errors="replace")
        return visible(re.sub(r"\r*\n|\r+(?=\Z)", "\n", decoded))

    def tail(self, lines: int = 40) -> str:
        """The last lines, each cut at 400 characters."""
        kept = self.text().rstrip("\n").split("\n")[-lines:]
        return "\n".join(line if len(line) <= _LINE_MAX else line[:_LINE_MAX] + " ..." for line in kept)

    def follower(self) -> ConsoleFollower:
        """What is printed from now on."""
        return ConsoleFollower(self.path)

    def contains(self, pattern: str | re.Pattern[str]) -> bool:
        """Whether a regular expression matches somewhere in `text`."""
        return re.search(pattern, self.text(), re.MULTILINE) is not None

    def _files(self) -> list[Path]:
        """Newest first."""
        rotated = [self.path.with_name(f"{self.path.name}.{number}") for number in range(_ROTATED_MAX)]
        return [self.path, *(path for path in rotated if path.exists())]


class ConsoleFollower:
    """What is printed from now on; survives the log daemon's rotation. A context manager.

    Args:
        path: the current file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._open(at_end=True)

    def __enter__(self) -> ConsoleFollower:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def read(self, limit: int = 65536) -> bytes:
        """The next bytes; b"" when nothing new was printed."""
        if self._file is None:
            self._open(at_end=False)
        if self._file is None:
            return b""
        data = self._file.read(limit)
        if data or not self._rotated():
            return data
        self._file.close()
        self._open(at_end=False)
        return self._file.read(limit) if self._file is not None else b""

    def _open(self, *, at_end: bool) -> None:
        try:
            self._file = self._path.open("rb")
        except OSError:
            self._file = None
            return
        if at_end:
            self._file.seek(0, os.SEEK_END)

    def _rotated(self) -> bool:
        """Whether the file was renamed and another one has its name: this one is at its end for good."""
        try:
            return self._file is not None and self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino
        except OSError:
            return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _end_of(path: Path, count: int) -> bytes:
    """The last `count` bytes; nothing when the file is gone or (rotated by root) not readable."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - count))
            return file.read(count)
    except OSError:
        return b""


def _escaped(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
