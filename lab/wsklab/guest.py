"""A guest: domain, overlay, console and the path into it.

One directory per guest holds all its files; the domain's metadata says whose it is. A guest is made
in the order *directory and lock, define, files, start* (design section 7), so whatever dies half-way
leaves something that `sweep` finds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from wsklab import network, qemu_img
from wsklab.channel.protocol import Channel
from wsklab.console import ConsoleLog
from wsklab.deadline import Deadline, NotYet, Timeouts, pause, wait_until
from wsklab.domain_xml import Acceleration, DiskSpec, DomainMetadata, DomainSpec, NicSpec
from wsklab.errors import (
    BootError,
    ChannelLost,
    DeadlineExceeded,
    GuestError,
    HostError,
    HypervisorError,
    LabError,
    UsageError,
)
from wsklab.home import Home, open_lock
from wsklab.hypervisor.protocol import Domain, DomainState, Hypervisor
from wsklab.image.store import Image
from wsklab.lease import SlotClaim, SlotTable
from wsklab.profile import GuestProfile

__all__ = ["ChannelOpener", "Claim", "Guest", "GuestFactory", "GuestRecord"]

GUEST_USER = "Administrator"
_SSH_PORT = 22
_RECORD = "guest.json"


class ChannelOpener(Protocol):
    """Opens a channel on a connected socket; chosen by the composition root."""

    def __call__(
        self, *, socket: socket.socket, user: str, key: Path, host_key: str | None, deadline: Deadline
    ) -> Channel: ...


class GuestRecord(BaseModel):
    """What a guest's directory says of it (`guest.json`); the lease itself is in the domain's metadata.

    Attributes:
        dirty: why it may not be tested on any more; "" for a clean one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    profile: str
    kind: str
    uuid: str
    slot: int
    mac: str
    address: str
    user: str = GUEST_USER
    host_key: str | None = None
    image: str
    method: str = "boot"
    why: str = ""
    ready_s: float | None = None
    created: str
    dirty: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Whose a new guest is.

    Attributes:
        owner: the user's name.
        purpose: one of `run`, `user`, `test`.
        run: the run id, or "" for a user's lease.
        expires: RFC 3339, or "" for a run's lease.
        name: the guest's name, or "" for one made from profile and slot.
        fresh: whether it must boot from its image, whatever would be faster.
    """

    owner: str
    purpose: str
    run: str = ""
    expires: str = ""
    name: str = ""
    fresh: bool = False


class Guest:
    """One guest that exists. Safe to destroy twice.

    Attributes:
        record: its constant facts.
        directory: all its files.
        domain: its domain.
        via: the network namespace from which its address is reached.
        console: its serial output from the first byte.
    """

    def __init__(
        self,
        *,
        record: GuestRecord,
        directory: Path,
        domain: Domain,
        via: network.Via,
        key: Path,
        opener: ChannelOpener,
        timeouts: Timeouts,
    ) -> None:
        self.record = record
        self.directory = directory
        self.domain = domain
        self.via = via
        self.key = key
        self.console = ConsoleLog(directory / "console.log")
        self._opener = opener
        self._timeouts = timeouts

    @property
    def name(self) -> str:
        """The name the user types."""
        return self.record.name

    @property
    def address(self) -> tuple[str, int]:
        """Address and port of its SSH server, on its wire."""
        return self.record.address, _SSH_PORT

    def open_channel(self, deadline: Deadline) -> Channel:
        """A new SSH connection.

        Raises:
            ChannelLost: the guest refuses or the connection broke. DeadlineExceeded: no answer.
        """
        connection = network.connect(self.via, self.address, deadline)
        return self._opener(
            socket=connection,
            user=self.record.user,
            key=self.key,
            host_key=self.record.host_key,
            deadline=deadline,
        )

    def wait_ready(self, deadline: Deadline, *, ready_check: str) -> float:
        """Climb the ladder running, console, port, login, ready-check; seconds since the deadline was made.

        Raises:
            BootError: names the rung that failed and shows the console's tail.
        """
        while True:
            try:
                self._climb(deadline, ready_check)
                return deadline.elapsed_s
            except (DeadlineExceeded, GuestError, HostError) as error:
                last = error
            dead = self._cannot_boot()
            if dead or deadline.expired:
                raise BootError(
                    f"guest {self.name} did not become ready: {dead or 'out of time'}",
                    why=f"{last.message}: {last.why}" if last.why else last.message,
                    fix=f"the console's end is in the evidence; the whole log: {self.console.path}",
                    evidence={"waited_s": deadline.elapsed_s, "console": self.console.tail()},
                ) from last
            pause(0.1)

    def _climb(self, deadline: Deadline, ready_check: str) -> None:
        """One attempt at the ladder; what it raises names the rung."""
        wait_until(self._port_open, deadline, what=f"port {_SSH_PORT} of {self.name}", tick_s=0.1)
        with self.open_channel(deadline) as channel:
            channel.run(ready_check, deadline)

    def _port_open(self) -> bool | NotYet:
        if self._cannot_boot():
            raise ChannelLost(f"guest {self.name} stopped while it was awaited")
        try:
            network.connect(self.via, self.address, Deadline.after(self._timeouts.seconds(0.5))).close()
        except (LabError, OSError) as error:
            return NotYet(str(error))
        return True

    def _cannot_boot(self) -> str:
        """Why waiting any longer is useless, or ""."""
        state = self.domain.state()
        if state in {DomainState.OFF, DomainState.CRASHED}:
            return f"the domain is {state}"
        if self.console.contains(r"Kernel panic - not syncing"):
            return "its kernel panicked"
        return ""

    def remember(self, **changes: object) -> None:
        """Write changed facts to `guest.json`, atomically."""
        self.record = self.record.model_copy(update=changes)
        write_record(self.directory, self.record)

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Hold the guest's lock: whoever changes the guest or its lease holds it."""
        return _directory_lock(self.directory)

    def destroy(self, slots: SlotTable) -> None:
        """Power off, undefine, delete the files, give the slot back. Nothing is left behind."""
        with self.locked():
            _forget(self.domain)
            shutil.rmtree(self.directory, ignore_errors=True)
        slots.release(self.record.slot, self.directory)


def write_record(directory: Path, record: GuestRecord) -> None:
    """Write `guest.json` so that a reader sees the old or the new one, never half."""
    temporary = directory / f".{_RECORD}.new"
    temporary.write_text(record.model_dump_json(indent=1))
    temporary.replace(directory / _RECORD)


def read_record(directory: Path) -> GuestRecord | None:
    """The guest's facts, or None when they were never written or are damaged."""
    try:
        return GuestRecord.model_validate_json((directory / _RECORD).read_text())
    except (OSError, ValidationError):
        return None


@contextlib.contextmanager
def _directory_lock(directory: Path) -> Iterator[None]:
    """Hold the guest directory's lock; a directory that is gone needs none."""
    try:
        descriptor = open_lock(directory / "lock")
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFactory:
    """Makes guests on one hypervisor, and finds those that exist.

    Attributes:
        network_name: the lab's isolated network.
        subnet: the first three numbers of its addresses, such as `192.168.213`.
        acceleration: what the probe found.
        admit: raises when the host has no room beside the guests of all homes; None lets everybody in.
    """

    home: Home
    hypervisor: Hypervisor
    slots: SlotTable
    network_name: str
    subnet: str
    via: network.Via
    acceleration: Acceleration
    timeouts: Timeouts
    opener: ChannelOpener
    now: Callable[[], str]
    admit: Callable[[SlotClaim, Sequence[SlotClaim]], None] | None = None

    def domain_name(self, name: str) -> str:
        """The domain's name: the lab's mark and the guest's name."""
        return f"wsklab-{self.home.short_id}-{name}"

    def create(self, profile: GuestProfile, image: Image, claim: Claim) -> Guest:
        """Define and start a guest on a fresh overlay of `image`; it is booting when this returns.

        Raises:
            UsageError: the name is taken. HostFull: no slot or no room. HypervisorError, HostCommandError.
        """
        identity = str(uuid.uuid4())

        with contextlib.ExitStack() as held:

            def make_directory(slot: int) -> Path:
                # locked inside the slot table's lock: no sweep ever sees a new directory without its lock
                directory = self.home.guests / f"{slot}-{identity}"
                directory.mkdir()
                directory.chmod(0o2775)  # QEMU's user enters it in system mode
                held.enter_context(_directory_lock(directory))
                return directory

            slot, directory = self.slots.claim(make_directory, SlotClaim.of(profile, claim.owner), self.admit)
            domain: Domain | None = None
            try:
                guest = self._define(profile, image, claim, identity=identity, slot=slot, directory=directory)
                domain = guest.domain
                qemu_img.create_overlay(image.disk, directory / "overlay.qcow2", self.timeouts.after(30))
                _prepare_console(directory / "console.log")
                domain.start()
                return guest
            except BaseException:
                if domain is not None:
                    _forget(domain)
                shutil.rmtree(directory, ignore_errors=True)
                self.slots.release(slot, directory)
                raise

    def _define(
        self, profile: GuestProfile, image: Image, claim: Claim, *, identity: str, slot: int, directory: Path
    ) -> Guest:
        record = GuestRecord(
            name=claim.name or f"{profile.name}-{slot}",
            profile=profile.name,
            kind=profile.kind,
            uuid=identity,
            slot=slot,
            mac=network.mac_of(slot),
            address=network.address_of(self.subnet, slot),
            host_key=image.manifest.host_key,
            image=image.digest,
            why="a fresh boot was asked for" if claim.fresh else "",
            created=self.now(),
        )
        spec = self._spec(profile, image, claim, record, directory)
        try:
            domain = self.hypervisor.define(spec)
        except HypervisorError as error:
            if any(domain.name == spec.name for domain in self.hypervisor.domains(self.home.id)):
                raise UsageError(
                    f"the name {record.name} is taken",
                    why="a guest of that name exists",
                    fix=f"`wsklab down {record.name}`, or another --name",
                ) from error
            raise
        write_record(directory, record)
        (directory / "domain.xml").write_text(domain.xml())
        return self._guest(record, directory, domain)

    def _spec(
        self, profile: GuestProfile, image: Image, claim: Claim, record: GuestRecord, directory: Path
    ) -> DomainSpec:
        return DomainSpec(
            name=self.domain_name(record.name),
            uuid=record.uuid,
            metadata=DomainMetadata(
                home=self.home.id,
                owner=claim.owner,
                purpose=claim.purpose,
                run=claim.run,
                profile=profile.name,
                slot=record.slot,
                expires=claim.expires,
            ),
            acceleration=self.acceleration,
            cpu_model=profile.cpu_model,
            vcpus=profile.vcpus,
            memory_mib=profile.memory_mib,
            disks=(DiskSpec(path=directory / "overlay.qcow2", bus=profile.disk_bus, backing=image.disk),),
            nics=(NicSpec(network=self.network_name, mac=record.mac, model=profile.nic_model),),
            kernel=image.kernel,
            initrd=image.initrd,
            cmdline=image.cmdline,
            firmware=profile.firmware,
            console_log=directory / "console.log",
        )

    def existing(self) -> list[Guest]:
        """Every guest of this home, running or not, whose directory is still readable."""
        guests = []
        for domain in self.hypervisor.domains(self.home.id):
            for directory in self.home.guests.glob(f"*-{domain.uuid}"):
                record = read_record(directory)
                if record is not None:
                    guests.append(self._guest(record, directory, domain))
        return sorted(guests, key=lambda guest: guest.name)

    def _guest(self, record: GuestRecord, directory: Path, domain: Domain) -> Guest:
        return Guest(
            record=record,
            directory=directory,
            domain=domain,
            via=self.via,
            key=self.home.guest_key(),
            opener=self.opener,
            timeouts=self.timeouts,
        )


def _forget(domain: Domain) -> None:
    """Power off and undefine; another sweeper may have won the undefine."""
    domain.destroy()
    with contextlib.suppress(HypervisorError):
        domain.undefine()


def _prepare_console(path: Path) -> None:
    """Make the log before the log daemon does, so that the lab's user can read what root writes."""
    path.touch(mode=0o664)
