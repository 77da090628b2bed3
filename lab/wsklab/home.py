"""The lab's home on this host: where everything of it lives, and the locks that say who is alive.

Layout (design section 8)::

    home.json              {"id": ...}: the mark that domains, networks and slots carry
    images/ driver/ keys/  products, by digest
    templates/             ready guests frozen with their memory, by digest
    guests/<slot>-<uuid>/  one directory per guest, with all its files; `lock` is held by whoever changes it
    runs/<run-id>/alive    held (flock) by a run's controller: no heartbeats
    users                  held shared by every lab process; who gets it exclusively is the last one
    private/               libvirtd's own directories in private mode

A home whose folder is writable for its group and hands its group on (mode 2775, as the launcher makes
/var/lib/wsklab) is *shared*: what the members of the group make in it is usable for all of them, the
guests' key included. Members of the group libvirt are as good as root anyway.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wsklab.errors import HostError, HostFull

__all__ = ["FileLock", "Home", "open_lock", "unwritable", "write_text"]

_DIRECTORIES = ("images", "guests", "runs", "keys", "driver", "private", "cache", "templates")
_RUN_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")


class FileLock:
    """An advisory lock on a file, released by `release` or by the end of the process.

    The file stays: removing a lock file that somebody waits on would give two owners.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def try_acquire(self, *, shared: bool = False) -> bool:
        """Take the lock, or change its mode, without waiting; False when somebody else holds it."""
        if self._fd is None:
            self._fd = open_lock(self._path)
        mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self._fd, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @property
    def held(self) -> bool:
        """Whether this object has the file open (after a successful `try_acquire`: holds it)."""
        return self._fd is not None

    def release(self) -> None:
        """Let go; no error when it was not held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


@dataclass(frozen=True, slots=True)
class Home:
    """One lab home.

    Attributes:
        root: the directory.
        id: its mark, a UUID.
    """

    root: Path
    id: str

    @classmethod
    def open(cls, root: Path) -> Home:
        """Open the home, making what is missing.

        Raises:
            HostError: the directory cannot be made or its `home.json` is damaged.
        """
        try:
            root.mkdir(parents=True, exist_ok=True)
            shared = _is_shared(root)
            for name in _DIRECTORIES:
                (root / name).mkdir(exist_ok=True)
                if shared:
                    _set_mode(root / name, 0o2770 if name == "keys" else 0o2775)
            if not shared:
                (root / "keys").chmod(0o700)
            home_id = _read_or_make_id(root / "home.json")
        except PermissionError as error:
            raise HostError(
                f"cannot use the lab's home {root}",
                why=str(error),
                fix="set WSKLAB_HOME to a directory of yours, or become a member of the group that owns it",
            ) from error
        except OSError as error:  # read-only, full, damaged, or a file where a directory belongs
            raise HostError(
                f"cannot use the lab's home {root}",
                why=str(error),
                fix="make the file system writable and free some space, or set WSKLAB_HOME to another one",
            ) from error
        return cls(root=root, id=home_id)

    @property
    def short_id(self) -> str:
        """The first eight characters of the mark, used in names that have little room."""
        return self.id[:8]

    @property
    def images(self) -> Path:
        """Images by profile and digest."""
        return self.root / "images"

    @property
    def guests(self) -> Path:
        """One directory per guest."""
        return self.root / "guests"

    @property
    def templates(self) -> Path:
        """Templates by profile and key."""
        return self.root / "templates"

    @property
    def runs(self) -> Path:
        """One directory per run that may be alive."""
        return self.root / "runs"

    @property
    def keys(self) -> Path:
        """Private keys, 0700; in a shared home 2770."""
        return self.root / "keys"

    @property
    def driver(self) -> Path:
        """Driver builds by digest."""
        return self.root / "driver"

    @property
    def cache(self) -> Path:
        """Things that may be deleted at any time."""
        return self.root / "cache"

    def guest_key(self) -> Path:
        """The lab's SSH private key for guests; its public half is beside it with `.pub`."""
        path = self.keys / "guest_ed25519"
        with self.locked("keys"):
            if not path.exists():
                _make_ssh_key(path, mode=0o640 if _is_shared(self.keys) else 0o600)
        return path

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold one of the home's short locks; it is held for milliseconds, so waiting is plain flock."""
        descriptor = open_lock(self.root / f".{name}.lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def run_alive(self, run_id: str) -> Iterator[Path]:
        """Say that a run is alive, for as long as the context lasts; yields the run's directory."""
        if not _RUN_ID.fullmatch(run_id):
            raise HostError(f"not a run id: {run_id!r}", fix="use letters, digits, dots, dashes")
        directory = self.runs / run_id
        # made under another name: whoever sees the run sees it locked, and so alive
        hidden = self.runs / f".{run_id}-{uuid.uuid4().hex[:8]}"
        hidden.mkdir()
        lock = FileLock(hidden / "alive")
        lock.try_acquire()
        try:
            try:
                hidden.rename(directory)
            except OSError as error:
                raise HostError(f"run {run_id} exists already", why="another run has its name") from error
            try:
                yield directory
            finally:
                directory.rename(hidden)
        finally:
            (hidden / "alive").unlink()
            # what the run left in it is for the sweep to find
            with contextlib.suppress(OSError):
                hidden.rmdir()
            lock.release()

    def run_is_alive(self, run_id: str) -> bool:
        """Whether the controller of this run holds its lock."""
        if not _RUN_ID.fullmatch(run_id):
            return False
        try:
            descriptor = os.open(self.runs / run_id / "alive", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False


def open_lock(path: Path) -> int:
    """A descriptor for `flock` on a file that is made if need be; the caller closes it.

    Reading is enough to lock, so it does not matter who of a shared home's users made the file.

    Raises:
        OSError: the file cannot be made or read; FileNotFoundError: its folder is gone.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o664)
    with contextlib.suppress(PermissionError):  # not ours: its maker has done this
        os.fchmod(descriptor, 0o664)
    return descriptor


def write_text(path: Path, text: str) -> None:
    """Replace a file, whoever it belongs to; a reader sees the old or the new one, never half."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    temporary.write_text(text)
    temporary.replace(path)


def _is_shared(folder: Path) -> bool:
    """Whether the members of the folder's group use it together."""
    wanted = stat.S_ISGID | stat.S_IWGRP
    return folder.stat().st_mode & wanted == wanted


def _set_mode(path: Path, mode: int) -> None:
    """Set the mode of a file of ours; somebody else's is left as its maker wanted it."""
    status = path.stat()
    if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) != mode:
        path.chmod(mode)


def _read_or_make_id(path: Path) -> str:
    """The id in `home.json`; written atomically by the first who comes."""
    try:
        temporary = path.with_suffix(f".{uuid.uuid4().hex}")
        temporary.write_text(json.dumps({"id": str(uuid.uuid4())}))
        temporary.chmod(0o644)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        temporary.unlink()
        document = json.loads(path.read_text())
        return str(uuid.UUID(document["id"]))
    except (ValueError, KeyError, TypeError) as error:
        raise HostError(f"{path} is damaged", why=str(error), fix="restore it, or start with another home") from error


def _make_ssh_key(path: Path, *, mode: int) -> None:
    """An ed25519 key pair in OpenSSH's formats; `mode` is the private half's."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - 60 ms that `list` need not pay
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    path.with_suffix(".pub").write_bytes(public + b" wsklab\n")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(private)
        os.fchmod(descriptor, mode)


def unwritable(what: str, error: OSError) -> HostError:
    """What it means that a file of the store cannot be written: a full disk is a full host.

    Args:
        what: the file, in words.
    """
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        fix = "`wsklab gc`, or a home on a larger disk (WSKLAB_HOME)"
        return HostFull(f"{what} cannot be written: the disk is full", why=str(error), fix=fix)
    return HostError(f"{what} cannot be written", why=str(error), fix="`wsklab doctor` looks at the store")
