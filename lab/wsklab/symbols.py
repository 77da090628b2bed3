"""Names for places in a driver, from its own debug file (DWARF in a PE file, as the build keeps it)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pefile

from wsklab import process
from wsklab.deadline import Deadline
from wsklab.errors import HostError

__all__ = ["Symbol", "image_base", "symbol_at"]

_TOOL: Final = "x86_64-w64-mingw32-addr2line"
_UNKNOWN: Final = "??"


@dataclass(frozen=True, slots=True)
class Symbol:
    """A function and the line in it; `line` is `file:number`, or "" when it is not known."""

    function: str
    line: str

    def __str__(self) -> str:
        return f"{self.function} ({self.line})" if self.line else self.function


def symbol_at(debug_file: Path, offset: int, deadline: Deadline) -> Symbol | None:
    """The function at an offset from the image's base, or None where there is none.

    Args:
        debug_file: the unstripped image, e.g. `wsklab.sys.debug`, of exactly the build that ran.
        offset: bytes from the image's base.

    Raises:
        HostError: the file is no image. HostCommandError: the tool is missing or failed.
    """
    base = image_base(debug_file)
    result = process.run([_TOOL, "-f", "-e", debug_file, hex(base + offset)], deadline=deadline)
    function, _, line = result.stdout.strip().partition("\n")
    if not function or function == _UNKNOWN:
        return None
    place = line.split(" ")[0]
    return Symbol(function, "" if place.startswith(_UNKNOWN) else place)


def image_base(debug_file: Path) -> int:
    """Where a debug file's addresses begin.

    Raises:
        HostError: the file is no image.
    """
    try:
        with pefile.PE(str(debug_file), fast_load=True) as image:
            return int(image.OPTIONAL_HEADER.ImageBase)
    except (OSError, pefile.PEFormatError) as error:
        raise HostError(f"the debug file {debug_file} cannot be read", why=str(error)) from error
