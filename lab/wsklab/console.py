"""What a guest printed on its serial port. Untrusted: bounded, and made visible before it is shown.

The file is written by libvirt's log daemon, which renames it to `.0`, `.1`, ... when it grows over its
limit (2 MiB and three old ones, unless the host says otherwise).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["ConsoleLog", "visible"]

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

    def contains(self, pattern: str | re.Pattern[str]) -> bool:
        """Whether a regular expression matches somewhere in `text`."""
        return re.search(pattern, self.text(), re.MULTILINE) is not None

    def _files(self) -> list[Path]:
        """Newest first."""
        rotated = [self.path.with_name(f"{self.path.name}.{number}") for number in range(_ROTATED_MAX)]
        return [self.path, *(path for path in rotated if path.exists())]


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
