"""The template store: ready guests frozen with their memory, as immutable folders by the digest of all inputs.

Layout below the store's root::

    <profile>/<key>/{memory,state,disk.qcow2,console.log,manifest.json}    complete or not there
    <profile>/.lock-<kind>-<hex digit>   held exclusively by whoever makes or removes, shared by whoever forks
    <profile>/.new-<key>                 a making at work; without a holder of the lock it is rubbish

The time of last use is the folder's own modification time; nothing in it changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import TemplateError
from wsklab.home import FileLock, write_text

__all__ = ["Kind", "Template", "TemplateFile", "TemplateManifest", "TemplateStore", "allow_user", "key_of"]

Kind = Literal["base", "prepared"]

MANIFEST: Final = "manifest.json"
#: Length of a key, and of the folder's name: 80 bits of the digest.
_KEY_LENGTH: Final = 20
#: A template that nobody forked for so long is pruned; it comes back by itself when it is needed again.
UNUSED_AFTER: Final = {"base": timedelta(days=7), "prepared": timedelta(days=1)}

# Notes about forks that failed (see `starter`) say nothing any more after a day.
_NOTE_S: Final = 86400.0

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

# <linux/posix_acl_xattr.h>: version 2, then tag, permissions, id of each entry
_ACL: Final = "system.posix_acl_access"
_NO_ID: Final = 0xFFFFFFFF


class TemplateFile(BaseModel):
    """One file of a template: what tells damage at a glance (size, inode, time of change), and its SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    inode: int
    mtime_ns: int
    sha256: str


class TemplateManifest(BaseModel):
    """What a template is.

    Attributes:
        version: version of this format.
        profile: the guest profile.
        kind: `base`: the image, warm; `prepared`: with a driver loaded.
        key: digest over `inputs`; names the folder.
        inputs: everything that went in, by name.
        image: digest of the image below its disk.
        host_key: the guest's SSH host key; equal in all forks.
        driver: SHA-256 of the loaded driver, or "".
        files: by name.
        boot: the host's boot during which the digests were last known to hold. Files of an earlier one are
            compared with their digests before they are used: nothing was flushed to the disk on purpose.
        made_at: when, UTC.
        seconds: how long it took.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1
    profile: str
    kind: Kind
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{20}$")]
    inputs: dict[str, Any]
    image: str
    host_key: str
    driver: str = ""
    files: dict[str, TemplateFile]
    boot: str
    made_at: datetime
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One template in the store."""

    directory: Path
    manifest: TemplateManifest

    @property
    def key(self) -> str:
        """The folder's name."""
        return self.directory.name

    @property
    def profile(self) -> str:
        """The profile that it was made for."""
        return self.manifest.profile

    @property
    def memory(self) -> Path:
        """The guest's memory; forks map it privately."""
        return self.directory / "memory"

    @property
    def state(self) -> Path:
        """The state of its devices."""
        return self.directory / "state"

    @property
    def disk(self) -> Path:
        """Its overlay on the image."""
        return self.directory / "disk.qcow2"

    @property
    def console(self) -> Path:
        """What it printed while it was made."""
        return self.directory / "console.log"


def key_of(inputs: Mapping[str, Any]) -> str:
    """The key of a template that is made from these inputs."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:_KEY_LENGTH]


class TemplateStore:
    """Templates below one folder, `<home>/templates`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextlib.contextmanager
    def locked(self, profile: str, kind: Kind, key: str, deadline: Deadline, *, shared: bool = False) -> Iterator[None]:
        """Hold a template's lock: shared while forking from it, exclusively while making it.

        Raises:
            TemplateError: the folder cannot be used. DeadlineExceeded: another maker takes too long.
        """
        folder = self._root / profile
        lock = FileLock(folder / f".lock-{kind}-{key[0]}")

        def taken() -> bool | NotYet:
            return lock.try_acquire(shared=shared) or NotYet("another process makes it")

        try:
            folder.mkdir(parents=True, exist_ok=True)
            wait_until(taken, deadline, what=f"the template of {profile}")
            yield
        except PermissionError as error:
            raise TemplateError(f"the templates of {profile} cannot be used by this user", why=str(error)) from error
        finally:
            lock.release()

    def find(self, profile: str, key: str) -> Template | None:
        """The template, or None when there is none.

        Raises:
            TemplateError: there is one and it is damaged.
        """
        directory = self._root / profile / key
        if not directory.is_dir():
            return None
        template = _load(directory)
        _look(template)
        if template.manifest.boot != _boot_id():
            self.verify(template)
            fresh = template.manifest.model_copy(update={"boot": _boot_id()})
            write_text(directory / MANIFEST, fresh.model_dump_json(indent=1) + "\n")
        with contextlib.suppress(OSError):  # another user's: it was used all the same
            os.utime(directory)
        return template

    def verify(self, template: Template) -> None:
        """Compare every file with its digest.

        Raises:
            TemplateError: names the first file that differs.
        """
        _look(template)
        for name, record in template.manifest.files.items():
            if _digest(template.directory / name) != record.sha256:
                raise _damage(template.directory, name, "its content differs from the digest in the manifest")

    def list(self) -> list[Template]:
        """Every template whose manifest can be read, damaged ones too."""
        found = []
        for directory in sorted(self._root.glob("*/[0-9a-f]*")):
            with contextlib.suppress(TemplateError):
                found.append(_load(directory))
        return found

    def folder(self, profile: str) -> Path:
        """Where the templates of a profile are."""
        return self._root / profile

    def work_folder(self, profile: str, key: str) -> Path:
        """An empty folder to make a template in; what a killed maker left goes first. The lock must be held."""
        work = self._root / profile / f".new-{key}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        work.chmod(0o2775)  # QEMU's user enters it in system mode
        return work

    def publish(
        self, work: Path, *, kind: Kind, inputs: Mapping[str, Any], facts: Mapping[str, Any], seconds: float
    ) -> Template:
        """Make the files in a work folder a template. The lock must be held exclusively.

        Args:
            facts: `profile`, `image`, `host_key` and `driver` of the manifest.

        Raises:
            TemplateError: a file cannot be read.
        """
        target = work.with_name(key_of(inputs))
        try:
            files = {}
            for path in sorted(work.iterdir()):
                if path.name != "memory":  # which QEMU opens for writing, whatever it does with it
                    path.chmod(0o444)
                files[path.name] = _record(path)
            manifest = TemplateManifest(
                kind=kind,
                key=target.name,
                inputs=dict(inputs),
                files=files,
                boot=_boot_id(),
                made_at=datetime.now(UTC),
                seconds=round(seconds, 1),
                **facts,
            )
            write_text(work / MANIFEST, manifest.model_dump_json(indent=1) + "\n")
            self.discard(target)
            work.rename(target)
        except OSError as error:
            raise TemplateError(f"the template {target} could not be made", why=str(error)) from error
        return Template(directory=target, manifest=manifest)

    def discard(self, directory: Path) -> None:
        """Delete a template at once for everybody else; guests that run on it have its files open and go on."""
        if directory.exists():
            trash = directory.with_name(f".new-trash-{directory.name}")
            _delete(trash)
            directory.rename(trash)
            _delete(trash)

    def sweep(self, in_use: set[str], *, now: datetime, dry_run: bool = False) -> Iterator[tuple[str, str]]:
        """Remove what nobody needs: rubbish of killed makers, templates long unused; yields name and reason.

        Args:
            in_use: keys that guests of this home continue from.
        """
        for folder in sorted(path for path in self._root.glob("*") if path.is_dir()):
            for path in sorted(folder.iterdir()):
                reason = self._why_gone(path, in_use, now)
                if not reason:
                    continue
                with _unless_busy(folder, path) as free:
                    # asked again with the lock: it may just have been forked
                    if not free or not self._why_gone(path, in_use, now):
                        continue
                    if not dry_run:
                        self.discard(path) if path.is_dir() else path.unlink(missing_ok=True)
                yield f"{folder.name}/{path.name}", reason

    def _why_gone(self, path: Path, in_use: set[str], now: datetime) -> str:
        if path.name.startswith(".new-"):
            return "its maker is gone"
        if path.name.startswith(".failed-"):
            return "it is old" if now.timestamp() - path.stat().st_mtime > _NOTE_S else ""
        if path.name.startswith(".") or path.name in in_use or not path.is_dir():
            return ""
        try:
            kind = _load(path).manifest.kind
            used = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        except TemplateError as error:
            return error.why
        except OSError:
            return ""
        span = UNUSED_AFTER[kind]
        return f"it was not used for {span.days} days" if now - used > span else ""


def allow_user(path: Path, user: int) -> None:
    """Let one more user read and write a file that nobody else may: an access control list of one entry.

    Raises:
        TemplateError: the file system has none.
    """
    owner, group, mask, other = (0x01, 6, _NO_ID), (0x04, 4, _NO_ID), (0x10, 6, _NO_ID), (0x20, 0, _NO_ID)
    entries = [owner, (0x02, 6, user), group, mask, other]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, _ACL, value)
    except OSError as error:
        raise TemplateError(
            f"QEMU's user cannot be let into {path}",
            why=str(error),
            fix="keep the store on a file system with access control lists (ext4, xfs, btrfs)",
        ) from error


def _delete(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)


def _load(directory: Path) -> Template:
    try:
        manifest = TemplateManifest.model_validate_json((directory / MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        raise _damage(directory, MANIFEST, str(error).splitlines()[0]) from error
    return Template(directory=directory, manifest=manifest)


def _look(template: Template) -> None:
    """Compare size, inode and time of change of every file: a few microseconds."""
    for name, record in template.manifest.files.items():
        try:
            status = (template.directory / name).stat()
        except OSError as error:
            raise _damage(template.directory, name, error.strerror or str(error)) from error
        if status.st_size != record.size:
            raise _damage(template.directory, name, f"it has {status.st_size} bytes instead of {record.size}")
        if (status.st_ino, status.st_mtime_ns) != (record.inode, record.mtime_ns):
            raise _damage(template.directory, name, "it was replaced or written after the template was made")


def _damage(directory: Path, name: str, why: str) -> TemplateError:
    return TemplateError(
        f"the template {directory.parent.name}/{directory.name} is damaged: {name}",
        why=why,
        fix="it is made again by the next guest that needs it",
        evidence={"file": str(directory / name)},
    )


def _record(path: Path) -> TemplateFile:
    status = path.stat()
    return TemplateFile(size=status.st_size, inode=status.st_ino, mtime_ns=status.st_mtime_ns, sha256=_digest(path))


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _damage(path.parent, path.name, str(error)) from error


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()


@contextlib.contextmanager
def _unless_busy(folder: Path, path: Path) -> Iterator[bool]:
    """Hold every lock that may be about this path, without waiting; yields whether they were free."""
    digit = path.name[-_KEY_LENGTH]
    locks = [FileLock(folder / f".lock-{kind}-{digit}") for kind in ("base", "prepared")]
    try:
        yield all(lock.try_acquire() for lock in locks)
    finally:
        for lock in locks:
            lock.release()
