"""Files out of a Windows guest's disk while the guest is off: logs of Setup, crash dumps.

QEMU's own tools read the disk (whatever stack of overlays it is) and offer it as a file through FUSE; the NTFS
driver's user-space tools read that file. Nothing is mounted into the host's tree, nothing is written to the disk, and
neither root nor a kernel module of the host is needed.
"""

from __future__ import annotations

import contextlib
import json
import signal
import struct
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from wsklab import process, qemu_img
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import DeadlineExceeded, HostError

__all__ = ["NtfsVolume", "copy_out", "find_volumes", "list_folder"]

_SECTOR: Final = 512
_NTFS: Final = b"NTFS    "
_GPT_ENTRIES_LIMIT: Final = 256
_FILE_LIMIT: Final = 8 << 30


@dataclass(frozen=True, slots=True)
class NtfsVolume:
    """A volume on the disk: where it begins and how long it is, in bytes."""

    offset: int
    size: int


def copy_out(disk: Path, files: Mapping[str, Path], deadline: Deadline, *, limit: int = _FILE_LIMIT) -> dict[str, str]:
    """Copy files from the largest NTFS volume of a disk.

    Args:
        disk: the guest's disk or overlay; the guest must be off, or what is read may be torn.
        files: target on the host by path in the guest, e.g. `Windows/Panther/setupact.log`.
        limit: the most that one file may have, in bytes: what a guest has written is not trusted.

    Returns:
        Why a file is not there, by path in the guest; empty when all were copied.

    Raises:
        HostError: the disk has no NTFS volume, or cannot be offered as a file. HostCommandError: a tool is missing.
    """
    volume = _largest(disk, deadline)
    missing: dict[str, str] = {}
    with _offered(disk, deadline, volume) as path:
        for name, target in files.items():
            why = _copy(path, name, target, deadline, limit)
            if why:
                target.unlink(missing_ok=True)
                missing[name] = why
    return missing


def list_folder(disk: Path, folder: str, deadline: Deadline) -> list[str]:
    """The names in a folder of the largest NTFS volume of a disk; none where there is no such folder.

    Raises:
        HostError: as `copy_out`.
    """
    with _offered(disk, deadline, _largest(disk, deadline)) as path:
        argv = ["ntfsls", "--force", "--path", folder, str(path)]
        result = process.run(argv, deadline=deadline, check=False)
    return [name for name in result.stdout.splitlines() if name not in {"", ".", ".."}]


def _largest(disk: Path, deadline: Deadline) -> NtfsVolume:
    volumes = find_volumes(disk, deadline)
    if not volumes:
        raise HostError(f"{disk} has no NTFS volume", why="Setup had not made one yet, or the disk is damaged")
    return max(volumes, key=lambda found: found.size)


def find_volumes(disk: Path, deadline: Deadline) -> list[NtfsVolume]:
    """The NTFS volumes of a disk with a GPT or an MBR.

    Raises:
        HostError: the disk cannot be offered as a file.
    """
    with _offered(disk, deadline, None) as path, path.open("rb") as file:
        candidates = list(_gpt(file)) or list(_mbr(file))
        found = []
        for volume in candidates:
            file.seek(volume.offset + 3)
            if file.read(len(_NTFS)) == _NTFS:
                found.append(volume)
        return found


def _gpt(file: BinaryIO) -> Iterator[NtfsVolume]:
    """UEFI specification 2.10, 5.3: the header is in the second sector."""
    file.seek(_SECTOR)
    header = file.read(_SECTOR)
    if len(header) < _SECTOR or not header.startswith(b"EFI PART"):
        return
    (entries,) = struct.unpack_from("<Q", header, 72)
    count, size = struct.unpack_from("<II", header, 80)
    for number in range(min(count, _GPT_ENTRIES_LIMIT)):
        file.seek(entries * _SECTOR + number * size)
        entry = file.read(128)
        if len(entry) < 128 or not any(entry[:16]):
            continue
        first, last = struct.unpack_from("<QQ", entry, 32)
        if first <= last:
            yield NtfsVolume(first * _SECTOR, (last - first + 1) * _SECTOR)


def _mbr(file: BinaryIO) -> Iterator[NtfsVolume]:
    """The four primary partitions; Setup makes no others here."""
    file.seek(0)
    sector = file.read(_SECTOR)
    if len(sector) < _SECTOR or sector[510:] != b"\x55\xaa":
        return
    for number in range(4):
        first, length = struct.unpack_from("<II", sector, 446 + 16 * number + 8)
        if length:
            yield NtfsVolume(first * _SECTOR, length * _SECTOR)


@contextlib.contextmanager
def _offered(disk: Path, deadline: Deadline, volume: NtfsVolume | None) -> Iterator[Path]:
    """The disk, or a part of it, as a file that can be read.

    Raises:
        HostError: the daemon does not offer it; with what the daemon says.
    """
    image = qemu_img.info(disk, deadline)
    nodes: list[dict[str, object]] = [
        {"driver": "file", "node-name": "file", "filename": str(disk.absolute()), "locking": "off", "read-only": True},
        {"driver": image.format, "node-name": "disk", "file": "file", "read-only": True},
    ]
    if volume is not None:
        part = {"driver": "raw", "node-name": "part", "file": "disk", "offset": volume.offset, "size": volume.size}
        nodes.append({**part, "read-only": True})
    with tempfile.TemporaryDirectory(prefix="wsklab-disk-") as folder:
        view, said = Path(folder) / "view", Path(folder) / "said"
        view.touch()
        argv = ["qemu-storage-daemon"]
        for node in nodes:
            argv += ["--blockdev", json.dumps(node)]
        export = {"type": "fuse", "id": "view", "node-name": nodes[-1]["node-name"], "mountpoint": str(view)}
        argv += ["--export", json.dumps(export)]
        with process.spawn(argv, stdout=said, stderr=said) as daemon:
            _wait_for(view, said, daemon, deadline)
            yield view


def _wait_for(view: Path, said: Path, daemon: process.Child, deadline: Deadline) -> None:
    def there() -> bool | NotYet:
        if daemon.poll() is not None:
            raise HostError(
                "the disk cannot be offered as a file",
                why=said.read_text(errors="replace").strip()[-300:],
                fix="FUSE (/dev/fuse, package fuse3) is needed, and the guest must be off",
            )
        return view.stat().st_size > 0 or NotYet("the view is empty")

    try:
        wait_until(there, deadline.sooner(10), what="the disk to be offered as a file", tick_s=0.02)
    except DeadlineExceeded as error:
        raise HostError("the disk cannot be offered as a file", why=error.message) from error


def _copy(volume: Path, name: str, target: Path, deadline: Deadline, limit: int) -> str:
    """Copy one file; why it could not be, or ""."""
    target.parent.mkdir(parents=True, exist_ok=True)
    said = target.with_name(f".{target.name}.said")
    try:
        # --force: a guest that was powered off has left its volume dirty
        argv = ["prlimit", f"--fsize={limit}", "ntfscat", "--force", str(volume), name]
        with process.spawn(argv, stdout=target, stderr=said) as tool:
            status = tool.wait(deadline)
        return "" if status == 0 else _reason(said, status)
    except DeadlineExceeded as error:
        return error.message
    finally:
        said.unlink(missing_ok=True)


def _reason(said: Path, status: int) -> str:
    text = said.read_text(errors="replace").strip() if said.exists() else ""
    if status == -signal.SIGXFSZ:
        return "it is larger than the limit"
    return text.splitlines()[-1][:200] if text else f"ntfscat ended with {status}"
