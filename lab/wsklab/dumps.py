"""The crash dump of a Windows guest whose kernel died: taken from wherever there is one, with the source recorded.

The chain: the small dump and `MEMORY.DMP` that the guest itself wrote, read from its disk when it is off; then the dump
that the host took of its memory before that. A dump that names modules says more than one that does not, so the first
of those is the answer; else the first that can be read. Windows writes its files at the start after the crash, so a
guest that reboots by itself is waited for. No guest of the project has been a Windows yet: the parts are tested with
synthetic dumps on real NTFS volumes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wsklab.deadline import Deadline
from wsklab.dump import DumpReport, read_dump
from wsklab.errors import DeadlineExceeded, GuestError, HostError, LabError
from wsklab.guest import Guest
from wsklab.hypervisor.protocol import DomainState
from wsklab.offline_disk import copy_out, list_folder

__all__ = ["TakenDump", "take_dump"]

_MINIDUMPS: Final = "Windows/Minidump"
_MEMORY: Final = "Windows/MEMORY.DMP"
#: The share of the time that the guest gets for writing its dump and coming back.
_WRITING_SHARE: Final = 0.6
_KEPT_LIMIT: Final = 4 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenDump:
    """A dump that could be read; `source` is `minidump`, `MEMORY.DMP` or `host dump`."""

    source: str
    file: Path
    report: DumpReport


def take_dump(guest: Guest, folder: Path, deadline: Deadline, *, tell: Callable[[str], None]) -> TakenDump | None:
    """Take the dumps of a guest and leave it powered off; the one that says most, or None.

    Args:
        folder: where the files go.
        tell: told of each source, what it gave or why it gave nothing.
    """
    back = _came_back(guest, deadline.sooner(deadline.remaining_s * _WRITING_SHARE))
    host = folder / "host.dmp"
    if not back:
        _host_dump(guest, host, deadline, tell)
    guest.domain.destroy()
    taken: list[TakenDump] = []
    for source, path in _files(guest, folder, host, deadline, tell):
        try:
            report = read_dump(path, deadline)
        except LabError as error:
            tell(f"{source}: {error.message}: {error.why}")
            continue
        tell(f"{source}: {report.kind}, {report.bugcheck}{f' ({report.note})' if report.note else ''}")
        taken.append(TakenDump(source=source, file=path, report=report))
    return next((one for one in taken if one.report.modules), taken[0] if taken else None)


def _came_back(guest: Guest, deadline: Deadline) -> bool:
    """Whether the guest wrote its dump, rebooted and lets somebody in; one that stands still is not waited for."""
    while not deadline.expired:
        if guest.domain.state() is not DomainState.RUNNING:
            return False
        try:
            guest.open_channel(deadline.sooner(5.0)).close()
        except (GuestError, HostError, DeadlineExceeded):
            continue
        return True
    return False


def _host_dump(guest: Guest, target: Path, deadline: Deadline, tell: Callable[[str], None]) -> None:
    try:
        guest.domain.dump_memory(target, deadline, windows=True)
    except (LabError, OSError) as error:
        tell(f"host dump: none, {error.why or error.message if isinstance(error, LabError) else error}")


def _files(
    guest: Guest, folder: Path, host: Path, deadline: Deadline, tell: Callable[[str], None]
) -> Iterator[tuple[str, Path]]:
    """The dumps that there are, in the order of the chain."""
    disk = guest.directory / "overlay.qcow2"
    try:
        small = sorted(name for name in list_folder(disk, _MINIDUMPS, deadline) if name.lower().endswith(".dmp"))
        wanted = {_MEMORY: folder / "MEMORY.DMP"}
        if small:
            wanted = {f"{_MINIDUMPS}/{small[-1]}": folder / "minidump.dmp", **wanted}
        missing = copy_out(disk, wanted, deadline, limit=_KEPT_LIMIT)
        if not small:
            tell("minidump: none in the guest")
        for name, why in missing.items():
            tell(f"{name}: none, {why}")
        yield from ((_source(name), path) for name, path in wanted.items() if name not in missing)
    except LabError as error:
        tell(f"the guest's disk: {error.message}: {error.why}")
    if host.exists():
        yield "host dump", host


def _source(name: str) -> str:
    return "MEMORY.DMP" if name == _MEMORY else "minidump"
