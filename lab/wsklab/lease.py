"""Claims on guests: slots of this host, and when a claim ends (design section 8).

The *domain* is the lease: its metadata names the home, the owner, the purpose, the run and the expiry.
This module keeps the two things around it: the host-wide slot numbers, from which a guest's MAC and
address follow, and the rules that say whether a lease is over.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from wsklab.domain_mark import DomainMetadata
from wsklab.errors import HostError, HostFull, UsageError
from wsklab.profile import GuestProfile

__all__ = [
    "DEFAULT_TTL",
    "FIRST_SLOT",
    "GRACE",
    "KEEP_EXPIRED",
    "LAB_OWNER",
    "LAST_SLOT",
    "SPARE",
    "LeaseState",
    "SlotClaim",
    "SlotTable",
    "expiry_after",
    "lease_state",
    "parse_duration",
]

#: Slots are the last number of a guest's address; .1 is the host.
FIRST_SLOT = 10
LAST_SLOT = 99
#: An expired user lease is powered off after this grace.
GRACE = timedelta(minutes=10)
#: The overlay of an expired guest is kept this long.
KEEP_EXPIRED = timedelta(hours=24)

#: Purpose of a guest that waits, paused, for the next `up` (see `spares`).
SPARE = "spare"

#: Who owns guests that nobody asked for: those that become templates. A quota is a user's.
LAB_OWNER = "wsklab"

#: Claims that are being written.
_HALF = ".new-"

#: How long a guest is a user's when nobody says otherwise.
DEFAULT_TTL = timedelta(hours=4)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class LeaseState(enum.StrEnum):
    """What a lease is worth now."""

    HELD = "held"
    EXPIRED = "expired"
    OVER = "over"
    ORPHAN = "orphan"


def parse_duration(text: str) -> timedelta:
    """`90s`, `30m`, `4h`, `2d` as a time span.

    Raises:
        UsageError: anything else, or a span that is not positive.
    """
    match = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if match is None or int(match[1]) == 0:
        raise UsageError(f"not a time span: {text!r}", why="wanted a number and a unit", fix="90s, 30m, 4h or 2d")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def expiry_after(span: timedelta, *, now: datetime | None = None) -> str:
    """The expiry (RFC 3339, UTC) of a user lease that is made now."""
    moment = (now or datetime.now(UTC)) + span
    return moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def lease_state(
    metadata: DomainMetadata, *, run_is_alive: Callable[[str], bool], now: datetime | None = None
) -> LeaseState:
    """Whether a lease still holds.

    A lease of a run lives as long as the run's controller; a user's lease until its expiry, then
    `EXPIRED` for the grace, then `OVER`. A mark that names neither is an `ORPHAN`.
    """
    if metadata.run:
        return LeaseState.HELD if run_is_alive(metadata.run) else LeaseState.ORPHAN
    try:
        expires = datetime.fromisoformat(metadata.expires)
    except ValueError:
        return LeaseState.ORPHAN
    moment = now or datetime.now(UTC)
    if moment < expires:
        return LeaseState.HELD
    return LeaseState.EXPIRED if moment < expires + GRACE else LeaseState.OVER


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotClaim:
    """What a claim promises its guest, whoever's it is; 0 and "" where an unreadable claim does not say.

    Attributes:
        directory: the guest's directory, in whichever home.
        owner: the user's name.
        memory_mib: the guest's memory.
        disk_mib: what its overlay can grow to.
        vcpus: its virtual processors.
    """

    directory: Path = Path()
    owner: str = ""
    memory_mib: int = 0
    disk_mib: int = 0
    vcpus: int = 0

    @classmethod
    def of(cls, profile: GuestProfile, owner: str) -> SlotClaim:
        """What a guest of this profile may use."""
        return cls(owner=owner, memory_mib=profile.memory_mib, disk_mib=profile.disk_gib * 1024, vcpus=profile.vcpus)

    def to_json(self) -> str:
        """The claim file's text."""
        return json.dumps({**asdict(self), "directory": str(self.directory)})

    @classmethod
    def from_json(cls, text: str) -> SlotClaim:
        """Read a claim file; a damaged one promises nothing, but its slot is taken."""
        try:
            document = dict(json.loads(text))
            numbers = {key: int(document.get(key, 0)) for key in ("memory_mib", "disk_mib", "vcpus")}
            return cls(directory=Path(str(document["directory"])), owner=str(document.get("owner", "")), **numbers)
        except (ValueError, KeyError, TypeError):
            return cls()


_PROMISES_NOTHING = SlotClaim()


@dataclass(frozen=True, slots=True)
class SlotTable:
    """Slot numbers of this host, shared by all lab homes on it.

    A claim is a file made with O_EXCL that names its guest directory and what the guest may use; it is
    stale once that directory is gone. All changes happen under one flock, admission included: two labs
    that ask at the same time cannot both get the last room.

    Attributes:
        root: the directory of claims, writable by every user of the host (sticky).
    """

    root: Path

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(PermissionError):
                self.root.chmod(0o1777)
            descriptor = self._open_lock()
        except OSError as error:
            raise HostError(f"cannot keep slot numbers in {self.root}", why=str(error)) from error
        try:
            with contextlib.suppress(PermissionError):
                os.fchmod(descriptor, 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _open_lock(self) -> int:
        """The lock's descriptor; in a sticky folder the kernel forbids O_CREAT on a file of another user
        (proc_sys_fs(5), protected_regular), so it is opened first and made only if it is not there."""
        path = self.root / ".lock"
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def claim(
        self,
        make_directory: Callable[[int], Path],
        wanted: SlotClaim = _PROMISES_NOTHING,
        admit: Callable[[SlotClaim, Sequence[SlotClaim]], None] | None = None,
    ) -> tuple[int, Path]:
        """Claim the lowest free slot and make its guest directory in the same step.

        Args:
            make_directory: makes `guests/<slot>-<uuid>/` for the slot it is given.
            wanted: what the guest may use; its directory is filled in.
            admit: given `wanted` and all claims of the host; raises when there is no room for one more.

        Raises:
            HostFull: all slots are taken, or `admit` says so.
        """
        with self._locked():
            if admit is not None:
                admit(wanted, self._claims())
            for slot in range(FIRST_SLOT, LAST_SLOT + 1):
                if not self._claimable(slot):
                    continue
                directory = make_directory(slot)
                self._write(slot, replace(wanted, directory=directory))
                return slot, directory
        raise HostFull(
            f"all {LAST_SLOT - FIRST_SLOT + 1} guest slots of this host are taken",
            fix="`wsklab list` shows the guests, `wsklab down NAME` gives one back",
        )

    def release(self, slot: int, directory: Path) -> None:
        """Give a slot back; no error when it is not ours any more."""
        with self._locked():
            claim = self._read(slot)
            if claim is not None and claim.directory == directory:
                (self.root / str(slot)).unlink(missing_ok=True)

    def claims(self) -> list[SlotClaim]:
        """The claims of all homes whose guest directory exists."""
        with self._locked():
            return self._claims()

    def stale(self) -> list[int]:
        """Claims whose guest directory is gone."""
        with self._locked():
            return [slot for slot in range(FIRST_SLOT, LAST_SLOT + 1) if self._is_stale(slot)]

    def drop_stale(self) -> list[int]:
        """Remove the claims whose guest directory is gone; returns their slots."""
        with self._locked():
            gone = [slot for slot in range(FIRST_SLOT, LAST_SLOT + 1) if self._is_stale(slot)]
            # nobody writes now: what is half written is a dead process's
            for path in (*(self.root / str(slot) for slot in gone), *self.root.glob(f"{_HALF}*")):
                with contextlib.suppress(PermissionError):
                    path.unlink(missing_ok=True)
            return gone

    def _write(self, slot: int, claim: SlotClaim) -> None:
        """Write a claim at once: whoever is killed here leaves no half of one, which nobody could call stale."""
        temporary = self.root / f"{_HALF}{os.getpid()}"
        temporary.write_text(claim.to_json())
        temporary.replace(self.root / str(slot))

    def _claims(self) -> list[SlotClaim]:
        found = ((slot, self._read(slot)) for slot in range(FIRST_SLOT, LAST_SLOT + 1))
        return [claim for slot, claim in found if claim is not None and not self._is_stale(slot)]

    def _claimable(self, slot: int) -> bool:
        """Whether nobody has the slot; a stale claim is removed on the way."""
        path = self.root / str(slot)
        if not path.exists():
            return True
        if not self._is_stale(slot):
            return False
        try:
            path.unlink()
        except PermissionError:  # another user's stale claim in a sticky directory: theirs to sweep
            return False
        return True

    def _is_stale(self, slot: int) -> bool:
        claim = self._read(slot)
        if claim is None:
            return False
        try:
            return not claim.directory.is_dir()
        except PermissionError:
            return False

    def _read(self, slot: int) -> SlotClaim | None:
        """The claim of a slot; one that promises nothing when it is unreadable, None for no claim."""
        try:
            return SlotClaim.from_json((self.root / str(slot)).read_text())
        except FileNotFoundError:
            return None
        except OSError:
            return SlotClaim()
