"""Crash dumps of the Windows kernel, read on the lab's host: which stop, in which module, in which function.

The header is read here: it is enough for the stop code and its parameters, and every kind of dump has it. What
needs the guest's memory (modules, stack) is read by `wsklab.dump_reader` in a child process with limits, because the
file comes from the guest. No Windows and no debugger take part; nothing here has seen a dump of a real Windows yet.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wsklab import process
from wsklab.artifacts import visible
from wsklab.bugcheck import Bugcheck
from wsklab.deadline import Deadline
from wsklab.errors import GuestError, HostCommandError

__all__ = ["DumpReport", "Module", "Place", "read_dump"]

_HEADER: Final = 0x2000
_SIGNATURE: Final = b"PAGEDU64"
_KINDS: Final[Mapping[int, str]] = {
    1: "complete",
    2: "kernel",
    4: "small",
    5: "kernel (bitmap)",
    6: "live kernel (bitmap)",
    8: "kernel memory",
    9: "kernel and user memory",
    10: "complete memory",
}
_SMALL: Final = 4
_OUTPUT_LIMIT: Final = 8 << 20
_STACK_PLACES: Final = 32


@dataclass(frozen=True, slots=True)
class Module:
    """A loaded image: its address, its size in bytes, its file name."""

    base: int
    size: int
    name: str


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a module; `offset` is relative to the module's base."""

    module: str
    offset: int

    def __str__(self) -> str:
        return f"{self.module}+0x{self.offset:x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpReport:
    """What a dump says.

    Attributes:
        kind: how much it holds, in words.
        bugcheck: why the kernel stopped.
        build: the build number of Windows.
        modules: what was loaded; empty where the dump does not hold the list.
        culprit: the code that did it, where the stop's parameters or the processor's state tell.
        stack: places in modules that the stack names, from its top; some are left from earlier calls.
        note: why something is missing, or "".
    """

    kind: str
    bugcheck: Bugcheck
    build: int
    modules: tuple[Module, ...] = ()
    culprit: Place | None = None
    stack: tuple[Place, ...] = ()
    note: str = ""

    def first_of(self, module: str) -> Place | None:
        """The first place in a module: the culprit when it is there, else the top-most one on the stack."""
        wanted = module.lower()
        places = (self.culprit, *self.stack) if self.culprit else self.stack
        return next((place for place in places if place.module.lower() == wanted), None)


def read_dump(path: Path, deadline: Deadline) -> DumpReport:
    """Read a dump.

    Raises:
        GuestError: it is no dump of a 64-bit Windows, or its header is cut.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except OSError as error:
        raise GuestError(f"the crash dump {path.name} cannot be read", why=str(error)) from error
    if len(header) < _HEADER or not header.startswith(_SIGNATURE):
        raise GuestError(
            f"{path.name} is no crash dump of a 64-bit Windows",
            why=f"it starts with {header[:8]!r}" if len(header) == _HEADER else f"it has {len(header)} bytes",
            fix="wait until the guest has written it whole, after its next start",
        )
    (build,) = struct.unpack_from("<I", header, 0x0C)
    (code,) = struct.unpack_from("<I", header, 0x38)
    parameters: tuple[int, int, int, int] = struct.unpack_from("<4Q", header, 0x40)
    (number,) = struct.unpack_from("<I", header, 0xF98)
    report = DumpReport(
        kind=_KINDS.get(number, f"of unknown type {number}"),
        bugcheck=Bugcheck(code, parameters),
        build=build,
    )
    if number == _SMALL:
        return _with(report, note="a small dump: its header only")
    return _deeper(report, path, deadline)


def _deeper(report: DumpReport, path: Path, deadline: Deadline) -> DumpReport:
    """The report with what the child process found, or with the reason why it found nothing."""
    try:
        result = process.run(
            [sys.executable, "-m", "wsklab.dump_reader", str(path)], deadline=deadline, output_limit=_OUTPUT_LIMIT
        )
        document: dict[str, Any] = json.loads(result.stdout)
        modules = tuple(
            Module(int(entry["base"]), int(entry["size"]), visible(str(entry["name"]), 260))
            for entry in document["modules"]
        )
        addresses = [report.bugcheck.culprit, int(document["rip"])]
        stack = [int(value) for value in document["stack"]]
    except HostCommandError as error:
        return _with(report, note=f"its memory cannot be read: {error.message}: {visible(error.why, 200)}")
    except (ValueError, KeyError, TypeError) as error:
        return _with(report, note=f"its memory cannot be read: {visible(str(error), 200)}")
    places = [place for address in addresses if address and (place := _place(modules, address))]
    return DumpReport(
        kind=report.kind,
        bugcheck=report.bugcheck,
        build=report.build,
        modules=modules,
        culprit=places[0] if places else None,
        stack=tuple(place for value in stack if (place := _place(modules, value)))[:_STACK_PLACES],
        note="" if modules else "the list of modules is not in the dump",
    )


def _with(report: DumpReport, *, note: str) -> DumpReport:
    return DumpReport(kind=report.kind, bugcheck=report.bugcheck, build=report.build, note=note)


def _place(modules: Sequence[Module], address: int) -> Place | None:
    for module in modules:
        if module.base <= address < module.base + module.size:
            return Place(module.name, address - module.base)
    return None
