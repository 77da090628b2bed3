"""gc: find everything that is ours and that nobody needs any more, and remove it (design section 8).

It acts on its own home id only, on a directory only with its lock, and never where a run is alive.
Order: expired and orphaned guests, domains without a directory, directories without a domain, runs
without a controller, slots without a directory, wires without a guest, templates that nobody uses, the network when
no guest is left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from wsklab.deadline import Deadline
from wsklab.domain_mark import DomainMetadata
from wsklab.errors import DeadlineExceeded, DomainGone, HypervisorError
from wsklab.factory import GuestFactory
from wsklab.guest import Guest, read_record
from wsklab.guest_files import LocalFiles
from wsklab.home import Home
from wsklab.hypervisor.protocol import Domain, DomainState, Hypervisor
from wsklab.lease import SPARE, LeaseState, SlotTable, lease_state
from wsklab.network import Wires
from wsklab.template import TemplateStore
from wsklab.user_lease import end_if_over, is_kept_for_a_day, power_off

__all__ = ["Removed", "SweepReport", "Sweeper"]

#: How long a directory may be between two states at most, in seconds.
_MOMENT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Removed:
    """One thing that was removed, or would be."""

    kind: str
    name: str
    why: str


@dataclass(slots=True)
class SweepReport:
    """What a sweep did; `kept` counts the guests that stay."""

    removed: list[Removed] = field(default_factory=list)
    kept: int = 0

    def join(self, other: SweepReport) -> None:
        """Add what another sweep did; what both saw counts once."""
        self.removed += [item for item in other.removed if item not in self.removed]
        self.kept += other.kept

    def add(self, kind: str, name: str, why: str) -> None:
        """Note one removal."""
        self.removed.append(Removed(kind, name, why))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeper:
    """Sweeps one home.

    Attributes:
        hypervisor: the running one, or None when none runs (then no domain of ours can exist).
        factory: finds the guests; None exactly when `hypervisor` is None.
        network_name: the lab's network, removed with its last guest.
        alone: holds every other lab process off this home, if there is none in it; yields whether it does. Only
            then the network may go.
        templates: the home's templates; None leaves them alone.
    """

    home: Home
    slots: SlotTable
    hypervisor: Hypervisor | None
    factory: GuestFactory | None
    network_name: str
    alone: Callable[[], AbstractContextManager[bool]]
    templates: TemplateStore | None = None

    def expire(self, *, now: datetime | None = None) -> SweepReport:
        """Only end the users' leases that are over: what every command does at its start."""
        report = SweepReport()
        for guest in self.factory.existing() if self.factory else ():
            with contextlib.suppress(DomainGone):  # somebody else was faster
                metadata = guest.domain.metadata()
                if metadata is not None and not metadata.run:
                    self._domain(guest.domain, guest, report, dry_run=False, now=now or datetime.now(UTC))
        return report

    def sweep(self, *, dry_run: bool = False, now: datetime | None = None) -> SweepReport:
        """Remove what nobody needs; with `dry_run` only say what would go."""
        moment = now or datetime.now(UTC)
        report = SweepReport()
        guests = {guest.record.uuid: guest for guest in self.factory.existing()} if self.factory else {}
        for domain in self.hypervisor.domains(self.home.id) if self.hypervisor else ():
            with contextlib.suppress(DomainGone):  # somebody else was faster
                self._domain(domain, guests.get(domain.uuid), report, dry_run=dry_run, now=moment)
        self._directories_without_domain(report, dry_run=dry_run, now=moment)
        self._dead_runs(report, dry_run=dry_run)
        for slot in self.slots.stale() if dry_run else self.slots.drop_stale():
            report.add("slot", str(slot), "its guest directory is gone")
        self._wires(report, dry_run=dry_run)
        self._templates(report, dry_run=dry_run, now=moment)
        self._network(report, dry_run=dry_run)
        return report

    def _domain(
        self, domain: Domain, guest: Guest | None, report: SweepReport, *, dry_run: bool, now: datetime
    ) -> None:
        """Judge one domain by its lease; `guest` is None when its directory is gone or unreadable."""
        metadata = domain.metadata()
        if metadata is None:
            return
        state = lease_state(metadata, run_is_alive=self.home.run_is_alive, now=now)
        spare = metadata.purpose == SPARE and state in {LeaseState.EXPIRED, LeaseState.OVER}
        why = "a spare that nobody took" if spare else _why_gone(metadata, state)
        if guest is None and not any(self.home.guests.glob(f"*-{domain.uuid}")):
            why = "its guest directory is gone"
        if not why:
            report.kept += 1
            if guest is not None and state is LeaseState.EXPIRED and not dry_run:
                _give_notice(guest)
            return
        if self.hypervisor is None or self.hypervisor.lookup(domain.uuid) is None:
            return  # its owner has ended it, and its run, since the list was made
        if not dry_run and not self._end(domain, guest, LeaseState.ORPHAN if spare else state, now):
            report.kept += 1
            return
        report.add("guest", guest.name if guest is not None else domain.name, why)

    def _end(self, domain: Domain, guest: Guest | None, state: LeaseState, now: datetime) -> bool:
        """End a guest that nobody holds; False when somebody extended its lease just now."""
        if guest is None:
            power_off(domain)
            return True
        if state is LeaseState.OVER:
            return end_if_over(guest, now)
        guest.destroy(self.slots)
        return True

    def _directories_without_domain(self, report: SweepReport, *, dry_run: bool, now: datetime) -> None:
        for directory in sorted(self.home.guests.iterdir()):
            with _unless_locked(directory) as free:
                if not free or _is_in_transit(directory):
                    continue
                if self._has_domain(directory) or is_kept_for_a_day(directory, now):
                    continue
                report.add("directory", directory.name, "no domain uses it")
                if not dry_run:
                    (self.factory.files if self.factory else LocalFiles()).remove(directory)

    def _has_domain(self, directory: Path) -> bool:
        if self.hypervisor is None:
            return False
        _, _, identity = directory.name.partition("-")
        return self.hypervisor.lookup(identity) is not None

    def _dead_runs(self, report: SweepReport, *, dry_run: bool) -> None:
        for directory in sorted(self.home.runs.iterdir()):
            # a run that has just ended is not there any more under the name that it had a moment ago
            if self.home.run_is_alive(directory.name) or _is_in_transit(directory) or not directory.exists():
                continue
            report.add("run", directory.name, "its controller is gone")
            if not dry_run:
                shutil.rmtree(directory, ignore_errors=True)

    def _wires(self, report: SweepReport, *, dry_run: bool) -> None:
        """Wires whose guest was killed half-way, or was powered off and is only kept."""
        wires = self.factory.wires if self.factory else None
        for name in wires.names() if wires else ():
            directories = list(self.home.guests.glob(f"{Wires.slot_of(name)}-*"))
            if any(self._is_needed(directory) for directory in directories):
                continue
            report.add("wire", name, "no guest is on it")
            if wires is not None and not dry_run:
                wires.remove(name)

    def _is_needed(self, directory: Path) -> bool:
        """Whether a guest's directory is somebody's: being changed, or with a domain."""
        with _unless_locked(directory) as free:
            return not free or self._has_domain(directory)

    def _templates(self, report: SweepReport, *, dry_run: bool, now: datetime) -> None:
        if self.templates is None:
            return
        records = [read_record(directory) for directory in self.home.guests.iterdir()]
        in_use = {record.template for record in records if record is not None}
        for name, why in self.templates.sweep(in_use, now=now, dry_run=dry_run):
            report.add("template", name, why)

    def _network(self, report: SweepReport, *, dry_run: bool) -> None:
        with self.alone() as alone:
            if not alone or self.hypervisor is None or self.network_name not in self.hypervisor.networks(self.home.id):
                return
            if any(domain.state() is not DomainState.OFF for domain in self.hypervisor.domains(self.home.id)):
                return
            report.add("network", self.network_name, "no guest is left")
            if not dry_run:
                self.hypervisor.remove_network(self.network_name)


def _why_gone(metadata: DomainMetadata, state: LeaseState) -> str:
    """Why nobody needs a guest any more, or "" when somebody does."""
    if state is LeaseState.OVER:
        return f"its lease ended at {metadata.expires}; its overlay is kept for a day"
    if state is LeaseState.ORPHAN:
        return f"run {metadata.run} is not alive" if metadata.run else "its mark names neither run nor expiry"
    return ""


@contextlib.contextmanager
def _unless_locked(directory: Path) -> Iterator[bool]:
    """Hold the directory's lock if nobody else does; yields whether it is free.

    One without a lock file is being removed at this moment, or was when somebody died: its age tells.
    """
    try:
        descriptor = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield not _is_young(directory)
        return
    except OSError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # a lock whose file is gone is the one of a directory that was removed meanwhile
        yield os.fstat(descriptor).st_nlink > 0
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _is_in_transit(directory: Path) -> bool:
    """Whether a directory is just coming into being or going: then its name begins with a dot, for a moment."""
    return directory.name.startswith(".") and _is_young(directory)


def _is_young(directory: Path) -> bool:
    """Whether something was made or removed in the directory just now; one that is gone needs no sweep either."""
    try:
        return time.time() - directory.stat().st_mtime < _MOMENT_S
    except FileNotFoundError:
        return True


def _give_notice(guest: Guest) -> None:
    """Tell the guest's console that its lease is over; best effort, an unwilling guest is powered off anyway."""
    message = "wsklab: this guest's lease has ended; it is powered off within ten minutes"
    command = {
        "execute": "guest-exec",
        "arguments": {"path": "/bin/sh", "arg": ["-c", f"echo {shlex.quote(message)} >/dev/console"]},
    }
    with contextlib.suppress(HypervisorError, DeadlineExceeded):
        guest.domain.agent_command(command, Deadline.after(2.0))
