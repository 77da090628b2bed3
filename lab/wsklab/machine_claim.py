"""Who has a machine that several labs of this host may use: one small file each, read and written under its lock.

The file says what a domain's metadata says of other guests. It lies in a folder of the host, so that two homes cannot
have one machine; other hosts do not see it. A claim is over with its run, or when its time and the grace have passed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wsklab.domain_mark import DomainMetadata, as_strings
from wsklab.errors import HostError, LeaseUnavailable
from wsklab.home import Home
from wsklab.lease import LeaseState, lease_state

__all__ = ["MachineClaim", "MachineMark"]

_LIMIT: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineMark:
    """What the file says.

    Attributes:
        home: the lab home of whoever has the machine.
        token: tells this claim from every other.
    """

    home: Path
    token: str
    metadata: DomainMetadata

    @property
    def holds(self) -> bool:
        """Whether it still keeps others out."""
        home = Home(root=self.home, id=self.metadata.home)
        with contextlib.suppress(PermissionError):
            if not (self.home / "home.json").exists():
                return False  # the whole home was removed, and nobody could give the machine back

        def alive(run: str) -> bool:
            try:
                return home.run_is_alive(run)
            except PermissionError:  # somebody else's home: not ours to say that nobody is there
                return True

        return lease_state(self.metadata, run_is_alive=alive) in {LeaseState.HELD, LeaseState.EXPIRED}

    @property
    def words(self) -> str:
        """Who has it, and until when."""
        run = f"run {self.metadata.run}" if self.metadata.run else f"until {self.metadata.expires}"
        return f"{self.metadata.owner} has it, {run}, from the home {self.home}"


class MachineClaim:
    """The claim on one machine.

    Args:
        path: its file; its folder is made, writable by every user of the host.
        name: the machine, for errors.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name

    def current(self) -> MachineMark | None:
        """Who has the machine; None when nobody does."""
        with self._locked() as descriptor:
            return self._read(descriptor)

    def take(self, mark: MachineMark) -> None:
        """Claim it.

        Raises:
            LeaseUnavailable: somebody has it.
        """
        with self._locked() as descriptor:
            held = self._read(descriptor)
            if held is not None and held.token != mark.token:
                raise LeaseUnavailable(
                    f"machine {self._name} is in use",
                    why=held.words,
                    fix=f"wait, or `wsklab down {self._name}` by its owner gives it back",
                    evidence={"name": self._name, "owner": held.metadata.owner, "run": held.metadata.run},
                )
            self._write(descriptor, mark)

    def release(self, token: str) -> None:
        """Give it back; no error when that claim is over already."""
        with self._locked() as descriptor:
            held = self._read(descriptor)
            if held is not None and held.token == token:
                os.ftruncate(descriptor, 0)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        folder = self._path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(PermissionError):
                folder.chmod(0o1777)
            descriptor = self._open()
        except OSError as error:
            raise HostError(f"cannot keep the claim on machine {self._name} in {folder}", why=str(error)) from error
        try:
            with contextlib.suppress(PermissionError):
                os.fchmod(descriptor, 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        """In a sticky folder the kernel forbids O_CREAT on another user's file, so it is opened first (`SlotTable`)."""
        with contextlib.suppress(FileNotFoundError):
            return os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    @staticmethod
    def _read(descriptor: int) -> MachineMark | None:
        """A claim that holds; a damaged one, of a process that was killed while it wrote, claims nothing."""
        try:
            document = json.loads(os.pread(descriptor, _LIMIT, 0))
            values = dict(document["mark"])
            metadata = DomainMetadata(**{**values, "slot": int(values["slot"])})
            mark = MachineMark(home=Path(document["home"]), token=str(document["token"]), metadata=metadata)
        except (ValueError, KeyError, TypeError):
            return None
        return mark if mark.holds else None

    @staticmethod
    def _write(descriptor: int, mark: MachineMark) -> None:
        text = json.dumps({"home": str(mark.home), "token": mark.token, "mark": as_strings(mark.metadata)})
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
