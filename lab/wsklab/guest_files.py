"""The files of a guest that its hypervisor opens: on this host, or on the one where the guest runs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol

from wsklab import qemu_img
from wsklab.console import ConsoleFollower, ConsoleLog
from wsklab.deadline import Deadline
from wsklab.errors import HostError
from wsklab.image.store import Image
from wsklab.remote import RemoteHost

__all__ = ["GuestFiles", "LocalFiles", "RemoteConsole", "RemoteFiles"]

_OVERLAY = "overlay.qcow2"
_CONSOLE = "console.log"

_SHORT_S = 60.0


class GuestFiles(Protocol):
    """Where the files are; `directory` is always the guest's own directory in the lab's home here."""

    def place(self, directory: Path) -> Path:
        """The directory of the guest's files as its hypervisor sees it."""

    def make(self, directory: Path, begins: Path | int, console: Path | None, deadline: Deadline) -> None:
        """Make disk and console log; the log before the log daemon does, so that the lab's user can read it.

        Args:
            begins: the disk's backing file, or its size in bytes where it begins empty.
            console: what a fork's template had printed by then.
        """

    def console(self, directory: Path) -> ConsoleLog:
        """The console log."""

    def remove(self, directory: Path) -> None:
        """Delete everything, the guest's own directory included; no error when it is gone."""


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """On this host, in the guest's own directory."""

    def place(self, directory: Path) -> Path:
        """The same."""
        return directory

    def make(self, directory: Path, begins: Path | int, console: Path | None, deadline: Deadline) -> None:
        """By `qemu-img`."""
        if isinstance(begins, int):
            qemu_img.create_empty(directory / _OVERLAY, begins, deadline)
        else:
            qemu_img.create_overlay(begins, directory / _OVERLAY, deadline)
        path = directory / _CONSOLE
        path.touch(mode=0o664)
        if console is not None:
            path.write_bytes(console.read_bytes())

    def console(self, directory: Path) -> ConsoleLog:
        """A file."""
        return ConsoleLog(directory / _CONSOLE)

    def remove(self, directory: Path) -> None:
        """The directory."""
        shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFiles:
    """On another host, in a store that its users of libvirt share.

    Attributes:
        host: the host.
        store: the store there.
        home_id: whose guests they are.
    """

    host: RemoteHost
    store: Path
    home_id: str

    def place(self, directory: Path) -> Path:
        """A directory of the same name there."""
        return self.store / "hosted" / "guests" / self.home_id / directory.name

    def make(self, directory: Path, begins: Path | int, console: Path | None, deadline: Deadline) -> None:
        """By the host's `qemu-img`; a guest there never continues a template of this host."""
        del console
        if isinstance(begins, int):
            raise TypeError("images are installed on the lab's own host only")
        script = (
            'mkdir -p "$1" && chmod 2775 "$1" && qemu-img create -q -f qcow2 -b "$2" -F qcow2 "$1/overlay.qcow2" '
            '&& : >"$1/console.log" && chmod 664 "$1/console.log"'
        )
        self.host.run(script, str(self.place(directory)), str(begins), deadline=deadline)

    def console(self, directory: Path) -> ConsoleLog:
        """A file there."""
        return RemoteConsole(path=self.place(directory) / _CONSOLE, host=self.host)

    def remove(self, directory: Path) -> None:
        """There and here; a host that cannot be reached keeps what it has, and the directory here says so.

        Raises:
            HostError: the host cannot be reached.
        """
        self.host.run('rm -rf -- "$1"', str(self.place(directory)), deadline=Deadline.after(_SHORT_S))
        shutil.rmtree(directory, ignore_errors=True)

    def bring(self, image: Image, deadline: Deadline) -> Image:
        """The image on that host; its files are copied there when it does not have them.

        Raises:
            HostError: they cannot be copied.
        """
        folder = self.store / "hosted" / "images" / image.digest
        there = self.host.run('test -e "$1/complete"', str(folder), deadline=deadline, check=False).exit_code == 0
        files = [path for path in (image.disk, image.kernel, image.initrd) if path is not None]
        if not there:
            made = self.host.run(
                'mkdir -p "$1" && chmod 2775 "$1" && mktemp -d "$1/.new-XXXXXX"', str(folder.parent), deadline=deadline
            )
            work = Path(made.stdout.strip())
            for path in files:
                self.host.put(path, work / path.name, deadline)
            # two that copy at once: the second one's folder is dropped
            script = (
                'chmod 755 "$1" && chmod 444 "$1"/* && : >"$1/complete" && mv -T "$1" "$2" 2>/dev/null || rm -rf "$1"; '
                'test -e "$2/complete"'
            )
            self.host.run(script, str(work), str(folder), deadline=deadline)
        return replace(
            image,
            directory=folder,
            disk=folder / image.disk.name,
            kernel=folder / image.kernel.name if image.kernel is not None else None,
            initrd=folder / image.initrd.name if image.initrd is not None else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteConsole(ConsoleLog):
    """A console log on another host; one that cannot be reached shows nothing.

    Attributes:
        host: the host.
    """

    host: RemoteHost

    @property
    def size(self) -> int:
        """Bytes written so far."""
        text = self._ask('cat "$1".[0-9] "$1" 2>/dev/null | wc -c').strip()
        return int(text) if text.isdigit() else 0

    def raw(self) -> bytes:
        """The last `limit_bytes`."""
        return self._ask('cat "$1".[0-9] "$1" 2>/dev/null | tail -c "$2"', str(self.limit_bytes)).encode()

    def follower(self) -> ConsoleFollower:
        """From the end on, by asking again and again."""
        return _RemoteFollower(self)

    def added(self, start: int, limit: int) -> bytes:
        """What is behind the first `start` bytes of the current file."""
        return self._ask('tail -c "+$2" "$1" | head -c "$3"', str(start + 1), str(limit)).encode()

    def _ask(self, script: str, *arguments: str) -> str:
        try:
            deadline = Deadline.after(_SHORT_S)
            return self.host.run(script, str(self.path), *arguments, deadline=deadline, check=False).stdout
        except HostError:
            return ""


class _RemoteFollower(ConsoleFollower):
    """Follows a console on another host."""

    def __init__(self, console: RemoteConsole) -> None:
        self._console = console
        self._read = console.size

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def read(self, limit: int = 65536) -> bytes:
        """The next bytes; a file that is shorter than what was read has been rotated."""
        data = self._console.added(self._read, limit)
        self._read += len(data)
        return data
