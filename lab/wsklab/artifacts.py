"""Files that a run leaves behind: bounded, escaped, written whole or not at all.

Whatever comes from a guest is hostile: `visible` makes its control characters visible and bounds its length,
and `EvidenceFolder` accepts plain file names only.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["EvidenceFolder", "now", "safe_name", "visible", "write_atomic"]

#: The longest single text that goes into a result, in characters.
TEXT_LIMIT = 4000

#: The most that is copied of one file (console, log), in bytes; the end of it is what matters.
FILE_LIMIT = 1 << 20

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def now() -> str:
    """The time as reports write it: RFC 3339, UTC, whole milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def visible(text: str, limit: int = TEXT_LIMIT) -> str:
    """A text from outside, fit for terminals and pages.

    Control characters other than the line feed become `\\xNN`, so do bidirectional overrides and lone
    surrogates; the text is cut at `limit` characters with a word about what was left out.
    """
    shown = "".join(
        char if char == "\n" or (char.isprintable() and not "\u202a" <= char <= "\u202e") else _escaped(char)
        for char in text[:limit]
    )
    left = len(text) - limit
    return shown if left <= 0 else f"{shown} ... ({left} more characters)"


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def safe_name(text: str, limit: int = 120) -> str:
    """A text as one path component: letters, digits, dot, dash, underscore; never empty, never hidden."""
    return _UNSAFE.sub("_", text).strip("._")[:limit] or "_"


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write a file so that a reader sees the old or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    if isinstance(data, str):
        temporary.write_text(data, "utf-8", errors="backslashreplace")
    else:
        temporary.write_bytes(data)
    temporary.replace(path)


class EvidenceFolder:
    """The folder of one failed case. Every method is safe on hostile content and replaces what was there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def text(self, name: str, content: str, *, limit: int = FILE_LIMIT) -> Path:
        """Write a text; its control characters become visible."""
        target = self.path / safe_name(name)
        write_atomic(target, visible(content, limit))
        return target

    def json(self, name: str, document: object) -> Path:
        """Write a document."""
        target = self.path / safe_name(name)
        write_atomic(target, json.dumps(document, indent=1, default=str) + "\n")
        return target

    def copy(self, name: str, source: Path | None, *, limit: int = FILE_LIMIT) -> Path | None:
        """Keep the end of a file; None when it is not there."""
        if source is None or not source.is_file():
            return None
        target = self.path / safe_name(name)
        with source.open("rb") as stream:
            stream.seek(max(0, source.stat().st_size - limit))
            write_atomic(target, stream.read(limit))
        return target

    def reproduce(
        self, command: Sequence[str], *, profiles: Sequence[str], case: str, run_id: str, keep: bool = True
    ) -> Path:
        """Write the script that runs one case again, alone, on fresh guests of its profiles.

        Args:
            command: how the run was started, from the program's name to its options, without guests and cases; what
                comes behind `--` is pytest's.
            profiles: of the guests that the case has at once, one for each.
            keep: whether its guests can be kept when it fails.
        """
        target = self.path / "reproduce.sh"
        words = list(command) or ["wsklab", "run"]
        behind = words.index("--") if "--" in words else len(words)
        each = Counter(profiles)
        own = [word for profile in each for word in ("--guest", profile)]
        own += ["--guests-each", str(max(each.values(), default=1)), "--workers", "1", "--case", case]
        own += ["--keep-failed"] if keep else []
        kept = ", which are kept when it fails" if keep else ""
        write_atomic(
            target,
            "#!/bin/sh\n"
            f"# one case of run {safe_name(run_id)}, alone, on fresh guests{kept};\n"
            "# what is given to this script goes to pytest\n"
            f'exec {shlex.join([*words[:behind], *own, *(words[behind:] or ["--"])])} "$@"\n',
        )
        target.chmod(0o755)
        return target

    def remove(self) -> None:
        """Forget the folder: the case turned out well."""
        shutil.rmtree(self.path, ignore_errors=True)
