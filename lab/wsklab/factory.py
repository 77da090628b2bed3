"""Makes guests, and finds those that exist.

A guest is made in the order *directory and lock, define, files, start* (design section 7), so whatever dies
half-way leaves something that `sweep` finds. It boots, or it continues from a template (a *fork*).
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsklab import network
from wsklab.answer_file import GUEST_ACCOUNT
from wsklab.deadline import Timeouts
from wsklab.domain_mark import DomainMetadata
from wsklab.domain_xml import (
    NO_TIMER_CHECK,
    Acceleration,
    DiskSpec,
    DomainSpec,
    MemoryFile,
    NicSpec,
    UefiChoice,
    render_domain_xml,
)
from wsklab.errors import HostError, HypervisorError, LabError, UsageError
from wsklab.guest import (
    GUEST_USER,
    ChannelOpener,
    Claim,
    Guest,
    GuestRecord,
    directory_lock,
    forget,
    read_record,
    write_record,
)
from wsklab.guest_files import GuestFiles, LocalFiles
from wsklab.home import Home, unwritable
from wsklab.hypervisor.protocol import Domain, Hypervisor
from wsklab.image.store import Image
from wsklab.lease import FIRST_SLOT, SlotClaim, SlotTable
from wsklab.profile import GuestProfile

__all__ = ["GuestFactory", "StartPlan"]

_HERE = LocalFiles()


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPlan:
    """How a guest comes into being; the defaults are a cold boot on the lab's network.

    Attributes:
        why: what stopped a fork, for a guest that boots instead.
        backing: the disks between its overlay and the image, nearest first.
        memory: the file that is its memory; None: anonymous memory.
        state: the device state that it continues from; None: it boots.
        private_wire: whether it gets a wire of its own instead of the lab's network.
        static: whether the kernel's command line tells its address; else DHCP does.
        cable_out: whether its cable is out until somebody plugs it in (`Domain.set_link`).
        template: the key of the template, for a fork.
        driver: SHA-256 of the driver that is loaded in the template, or "".
        console: what the template had printed; the fork's console begins with it.
        discs: what a new system is installed from, on an empty disk: the order in which the firmware tries them,
            after the disk. Such a guest has no image. A path that is not absolute is below the guest's directory.
        prepare: makes those files, given the directory.
    """

    why: str = ""
    backing: tuple[Path, ...] = ()
    memory: MemoryFile | None = None
    state: Path | None = None
    private_wire: bool = False
    static: bool = False
    cable_out: bool = False
    template: str = ""
    driver: str = ""
    console: Path | None = None
    discs: tuple[DiskSpec, ...] = ()
    prepare: Callable[[Path], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFactory:
    """Makes guests on one hypervisor, and finds those that exist.

    Attributes:
        network_name: the lab's isolated network.
        subnet: the first three numbers of its addresses, such as `192.168.213`.
        wires: makes private wires; None where none can be made.
        uefi: the firmware of guests whose profile asks for UEFI; None: libvirt's choice.
        acceleration: what the probe found.
        files: where the guests' files are.
        label: stands in made-up names between profile and slot.
        admit: raises when the host has no room beside the guests of all homes; None lets everybody in.
    """

    home: Home
    hypervisor: Hypervisor
    slots: SlotTable
    network_name: str
    subnet: str
    via: network.Via
    wires: network.Wires | None = None
    uefi: UefiChoice | None = None
    acceleration: Acceleration
    timeouts: Timeouts
    opener: ChannelOpener
    now: Callable[[], str]
    files: GuestFiles = _HERE
    label: str = ""
    admit: Callable[[SlotClaim, Sequence[SlotClaim]], None] | None = None

    def domain_name(self, name: str) -> str:
        """The domain's name: the lab's mark and the guest's name."""
        return f"wsklab-{self.home.short_id}-{name}"

    def create(
        self,
        profile: GuestProfile,
        image: Image | None,
        claim: Claim,
        plan: StartPlan | None = None,
        *,
        paused: bool = False,
    ) -> Guest:
        """Define and start a guest on a fresh overlay; it runs when this returns: it boots, or continues its template.

        Args:
            image: None for a guest on an empty disk, whose plan names what is installed on it.
            paused: whether it is only prepared, and runs when it is resumed (`Domain.resume`).

        Raises:
            UsageError: the name is taken. HostFull: no slot or no room. HypervisorError, HostCommandError, ImageError.
        """
        chosen = plan or StartPlan()
        asked_at = time.monotonic()
        identity = str(uuid.uuid4())

        with contextlib.ExitStack() as held:

            def make_directory(slot: int) -> Path:
                # made under another name: whoever sees the directory, a sweep above all, sees it locked
                hidden = self.home.guests / f".{slot}-{identity}"
                hidden.mkdir()
                hidden.chmod(0o2775)  # QEMU's user enters it in system mode
                held.enter_context(directory_lock(hidden))
                return hidden.rename(self.home.guests / f"{slot}-{identity}")

            try:
                slot, directory = self.slots.claim(make_directory, SlotClaim.of(profile, claim.owner), self.admit)
            except OSError as error:
                raise unwritable(f"the directory of a guest of {profile.name}", error) from error
            record = self._record(profile, image, claim, chosen, identity=identity, slot=slot)
            try:
                spec = self._spec(profile, image, record, directory, claim=claim, plan=chosen)
                domain = self._define(spec, record, directory)
                disk = spec.disks[0]
                begins = disk.backing[0] if disk.backing else profile.disk_gib << 30
                self.files.make(directory, begins, chosen.console, self.timeouts.after(30))
                if chosen.prepare is not None:
                    chosen.prepare(directory)
                self._power_on(domain, spec, record, chosen, paused=paused)
                return self._guest(record, directory, domain, asked_at=asked_at)
            except BaseException as error:
                self._undo(record, directory)
                if isinstance(error, OSError) and not isinstance(error, LabError):
                    raise unwritable(f"the directory of guest {record.name}", error) from error
                raise

    def _power_on(
        self, domain: Domain, spec: DomainSpec, record: GuestRecord, plan: StartPlan, *, paused: bool
    ) -> None:
        """Start it, by way of a pause where something is to be done before its first instruction."""
        if not record.wire and plan.state is None:
            domain.start(paused=paused)
            return
        domain.start(paused=True)
        if record.wire and self.wires is not None:
            self.wires.plug(record.wire)
            if spec.windows:
                self.wires.serve_address(record.wire)
        if plan.state is not None:
            domain.thaw(plan.state, self.timeouts.after(10))
            # The next start is an ordinary boot from the overlay: nothing waits for a state, no template is needed.
            self.hypervisor.redefine(replace(spec, memory_file=None, incoming=False))
        if not paused:
            domain.resume()

    def _undo(self, record: GuestRecord, directory: Path) -> None:
        """Take back a guest that did not come into being."""
        # what cannot be taken back now is found by gc: the domain's mark, the directory, the wire
        with contextlib.suppress(HypervisorError):
            forget(lambda: self.hypervisor.lookup(record.uuid), hopeless=self.via.is_gone)
        if record.wire and self.wires is not None:
            with contextlib.suppress(HostError):
                self.wires.remove(record.wire)
        self.slots.release(record.slot, directory)
        with contextlib.suppress(HostError):
            self.files.remove(directory)

    def _record(
        self, profile: GuestProfile, image: Image | None, claim: Claim, plan: StartPlan, *, identity: str, slot: int
    ) -> GuestRecord:
        wire = network.Wires.name_of(slot) if plan.private_wire else ""
        return GuestRecord(
            name=claim.name or f"{profile.name}{self.label}-{slot}",
            profile=profile.name,
            kind=profile.kind,
            uuid=identity,
            slot=slot,
            mac=network.WIRE_GUEST_MAC if wire else network.mac_of(slot),
            address=network.WIRE_GUEST if wire else network.address_of(self.subnet, slot),
            user=_account_of(profile, image),
            host_key=(image.manifest.host_key or None) if image is not None else None,
            image=image.digest if image is not None else "",
            wire=wire,
            template=plan.template,
            driver=plan.driver,
            method="boot" if plan.state is None else "fork",
            why=plan.why or ("a fresh boot was asked for" if claim.fresh else ""),
            created=self.now(),
        )

    def _define(self, spec: DomainSpec, record: GuestRecord, directory: Path) -> Domain:
        """Claim the name, make the wire, write down what the guest is."""
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
        if record.wire:
            if self.wires is None:
                raise HostError("no private wire can be made here", why="the lab has no daemon of its own")
            self.wires.make(record.wire)
        return domain

    def _spec(
        self,
        profile: GuestProfile,
        image: Image | None,
        record: GuestRecord,
        directory: Path,
        *,
        claim: Claim,
        plan: StartPlan,
    ) -> DomainSpec:
        nic = NicSpec(
            network="" if record.wire else self.network_name,
            tap=record.wire,
            mac=record.mac,
            model=profile.nic_model,
            link_up=not plan.cable_out,
        )
        windows = profile.kind == "windows"
        static = f" {network.guest_cmdline(record.address)}" if plan.static or record.wire else ""
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
            disks=(
                DiskSpec(
                    path=self.files.place(directory) / "overlay.qcow2",
                    bus=profile.disk_bus,
                    backing=(*plan.backing, image.disk) if image is not None else (),
                    boot=1 if plan.discs else 0,
                ),
                *(
                    replace(disc, path=directory / disc.path, boot=order)
                    for order, disc in enumerate(plan.discs, start=2)
                ),
            ),
            nics=(nic,),
            kernel=image.kernel if image is not None else None,
            initrd=image.initrd if image is not None else None,
            cmdline="" if windows or image is None else f"{image.cmdline} {NO_TIMER_CHECK}{static}",
            firmware=profile.firmware,
            uefi=self.uefi if profile.firmware == "uefi" else None,
            tpm=profile.tpm,
            # a fork of Windows has no other word for its kernel that it is a copy
            generation=str(uuid.uuid5(uuid.UUID(record.uuid), "generation")) if windows else "",
            # The variables are the guest's own and begin empty: Windows starts from the disk's default path as well.
            nvram=directory / "nvram.fd" if profile.firmware == "uefi" else None,
            windows=windows,
            console_log=self.files.place(directory) / "console.log",
            memory_file=plan.memory,
            incoming=plan.state is not None,
            passthrough=claim.passthrough,
        )

    def machine(self, profile: GuestProfile, image: Image, *, private_wire: bool) -> str:
        """What a template's machine is, without what differs from guest to guest: a part of its key."""
        plan = StartPlan(
            backing=(Path("/template"),), memory=MemoryFile(path=Path("/memory")), private_wire=private_wire
        )
        claim = Claim(owner="", purpose="")
        record = self._record(profile, image, claim, plan, identity=str(uuid.UUID(int=0)), slot=FIRST_SLOT)
        return render_domain_xml(self._spec(profile, image, record, Path("/guest"), claim=claim, plan=plan))

    def existing(self) -> list[Guest]:
        """Every guest of this home, running or not, whose directory is still readable."""
        guests = []
        for domain in self.hypervisor.domains(self.home.id):
            for directory in self.home.guests.glob(f"*-{domain.uuid}"):
                record = read_record(directory)
                if record is not None:
                    guests.append(self._guest(record, directory, domain))
        return sorted(guests, key=lambda guest: guest.name)

    def _guest(self, record: GuestRecord, directory: Path, domain: Domain, *, asked_at: float | None = None) -> Guest:
        return Guest(
            record=record,
            directory=directory,
            domain=domain,
            via=self.wires.via(record.wire) if record.wire and self.wires is not None else self.via,
            wires=self.wires,
            files=self.files,
            asked_at=asked_at,
            key=self.home.guest_key(),
            opener=self.opener,
            timeouts=self.timeouts,
        )


def _account_of(profile: GuestProfile, image: Image | None) -> str:
    """Who the lab logs in as."""
    if profile.kind != "windows":
        return GUEST_USER
    known = image.manifest.windows if image is not None else None
    return known.account if known is not None else GUEST_ACCOUNT
