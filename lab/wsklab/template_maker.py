"""Makes templates, and tells how a guest continues from one.

A *base* template is the image, booted and warm; a *prepared* one is a fork of it with a driver loaded. Both are made
by the first guest that needs them, under a lock, so of several makers at once one makes and the others wait.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from wsklab import qemu_img
from wsklab.channel.agent import GuestAgent
from wsklab.channel.device import DeviceClient
from wsklab.deadline import Deadline
from wsklab.deploy import WSKCTL, DriverPackage, deploy
from wsklab.domain_xml import MemoryFile
from wsklab.errors import GuestError, HostError, HypervisorError, TemplateError
from wsklab.factory import GuestFactory, StartPlan
from wsklab.guest import Claim, Guest
from wsklab.hypervisor.protocol import Hypervisor
from wsklab.image.store import Image
from wsklab.lease import LAB_OWNER, SlotTable
from wsklab.process import run
from wsklab.profile import GuestProfile
from wsklab.template import Kind, Template, TemplateStore, allow_user, key_of
from wsklab.waking import identify, wake_guest

__all__ = ["Starts", "TemplateMaker"]

#: Raised whenever this module makes other templates from the same inputs.
_FORMAT: Final = 1

# Budgets for KVM, in seconds.
_WAKE_S: Final = 5.0
_FREEZE_S: Final = 10.0
_DEPLOY_S: Final = 30.0
# For each GiB of memory.
_COPY_S: Final = 30.0


class Starts:
    """The starts that are at work, so that an interrupted lab can end them: each has guests that nobody else knows."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._working = 0
        self._hidden: list[Guest] = []
        self._stopped = False

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """One start, from its first step until its caller has the guest.

        Raises:
            HostError: `stop` was called.
        """
        with self._change:
            self.check()
            self._working += 1
        try:
            yield
        finally:
            with self._change:
                self._working -= 1
                self._change.notify_all()

    @contextlib.contextmanager
    def hidden(self, guest: Guest, slots: SlotTable) -> Iterator[None]:
        """A guest that is only there to become a template; it is gone when the context ends."""
        with self._change:
            self._hidden.append(guest)
        try:
            self.check()
            yield
        finally:
            with self._change:
                self._hidden.remove(guest)
            guest.destroy(slots)

    def check(self) -> None:
        """Raises `HostError` once `stop` was called."""
        if self._stopped:
            raise HostError("the lab is being left", why="it was interrupted, or its work is done")

    def stop(self, deadline: Deadline) -> None:
        """Let no start begin, end those that are at work, wait until they have cleaned up or the deadline passes."""
        with self._change:
            self._stopped = True
            hidden = list(self._hidden)
        for guest in hidden:
            with contextlib.suppress(HypervisorError):
                guest.domain.destroy()  # whoever waits for it sees that it is off
        with self._change:
            self._change.wait_for(lambda: self._working == 0, timeout=deadline.remaining_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateMaker:
    """Makes templates on one hypervisor.

    Attributes:
        factory: makes their guests.
        store: where they are kept.
        private_wires: whether forks get wires of their own; else each takes a new identity on the lab's network.
        ensure_network: makes the lab's network.
        disk_reserve_mib: free space that making a template leaves alone.
        emulator: QEMU's program, part of a template's key.
        starts: those that are at work.
    """

    factory: GuestFactory
    store: TemplateStore
    hypervisor: Hypervisor
    private_wires: bool
    ensure_network: Callable[[], None]
    disk_reserve_mib: int
    emulator: Path | None
    starts: Starts = field(default_factory=Starts)

    def plan(self, template: Template, memory: MemoryFile) -> StartPlan:
        return StartPlan(
            backing=(template.disk,),
            memory=memory,
            state=template.state,
            private_wire=self.private_wires,
            static=True,
            cable_out=not self.private_wires,
            template=template.key,
            driver=template.manifest.driver,
            console=template.console,
        )

    def wake(self, guest: Guest) -> None:
        """Clock, randomness, and on the lab's network an identity; only then its cable is plugged in."""
        deadline = self.factory.timeouts.after(_WAKE_S)
        wake_guest(guest, deadline)
        if not guest.record.wire:
            agent = GuestAgent(guest.domain.agent_command)
            identify(agent, mac=guest.record.mac, address=f"{guest.record.address}/24", deadline=deadline)
            guest.domain.set_link(guest.record.mac, up=True)

    @contextlib.contextmanager
    def template(self, profile: GuestProfile, image: Image, package: DriverPackage | None) -> Iterator[Template]:
        """The template, made if need be, and kept from being removed for as long as the context lasts."""
        kind: Kind = "base" if package is None else "prepared"
        inputs = self.inputs(profile, image, package)
        key = key_of(inputs)
        patience = self.factory.timeouts.boot(2 * profile.boot_budget_s + _DEPLOY_S + _FREEZE_S)
        if self._find(profile, key) is None:
            with self.store.locked(profile.name, kind, key, patience):
                if self._find(profile, key) is None:  # else another maker was faster
                    self._make(profile, image, package, inputs)
        with self.store.locked(profile.name, kind, key, patience, shared=True):
            template = self.store.find(profile.name, key)
            if template is None:
                raise TemplateError(f"the template of {profile.name} vanished", why="somebody removed it just now")
            yield template

    def _find(self, profile: GuestProfile, key: str) -> Template | None:
        """The template; None also for a damaged one, which is then made again."""
        try:
            return self.store.find(profile.name, key)
        except TemplateError:
            return None

    def _make(self, profile: GuestProfile, image: Image, package: DriverPackage | None, inputs: dict[str, Any]) -> None:
        """Make a template; the lock is held. Whatever happens, no guest and no half-made folder stays."""
        started = time.monotonic()
        work = self.store.work_folder(profile.name, key_of(inputs))
        name = f"template-{uuid.uuid4().hex[:12]}"
        try:
            # the guest is of a run that lives as long as this: gc finds it when we are killed
            with self.factory.home.run_alive(name):
                claim = Claim(owner=LAB_OWNER, purpose="template", run=name, name=name)
                if package is None:
                    self._make_base(profile, image, claim, work)
                else:
                    self._make_prepared(profile, image, claim, work, package)
            self.store.publish(
                work,
                kind="base" if package is None else "prepared",
                inputs=inputs,
                facts={
                    "profile": profile.name,
                    "image": image.digest,
                    "host_key": image.manifest.host_key,
                    "driver": "" if package is None else package.digest,
                },
                seconds=time.monotonic() - started,
            )
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _make_base(self, profile: GuestProfile, image: Image, claim: Claim, work: Path) -> None:
        """Boot the image with its memory in a file, until it is ready and warm; freeze it."""
        if not self.private_wires:
            self.ensure_network()
        plan = StartPlan(memory=self._memory(profile, work), private_wire=self.private_wires, static=True)
        guest = self.factory.create(profile, image, claim, plan)
        with self.starts.hidden(guest, self.factory.slots):
            deadline = self.factory.timeouts.boot(profile.boot_budget_s)
            guest.wait_ready(deadline, ready_check=profile.ready_check)
            # not for the clock, which is right: so that every fork finds the program in its memory
            wake_guest(guest, deadline)
            self._freeze(guest, profile, image, work)

    def _make_prepared(
        self, profile: GuestProfile, image: Image, claim: Claim, work: Path, package: DriverPackage
    ) -> None:
        """Continue the base in a copy of its memory, load the driver, freeze that."""
        with self.template(profile, image, None) as base:
            if not self.private_wires:
                self.ensure_network()  # the base may be older than the network
            self._check_room(profile)
            memory = work / "memory"
            run(["cp", "--sparse=always", str(base.memory), str(memory)], deadline=self._copying(profile))
            self._let_qemu_in(memory)
            guest = self.factory.create(profile, image, claim, self.plan(base, MemoryFile(path=memory, shared=True)))
            with self.starts.hidden(guest, self.factory.slots):
                self.wake(guest)
                timeouts = self.factory.timeouts
                with guest.enter(timeouts.after(_WAKE_S), ready_check="") as channel:
                    deploy(channel, package, timeouts, fresh=True)
                    if package.control is not None:
                        with DeviceClient.open(channel, timeouts.after(_WAKE_S), command=f"{WSKCTL} stdio"):
                            pass  # it has answered hello
                wake_guest(guest, timeouts.after(_WAKE_S))
                self._freeze(guest, profile, image, work)

    def _freeze(self, guest: Guest, profile: GuestProfile, image: Image, work: Path) -> None:
        """Stop the guest for ever and keep what it was."""
        timeouts = self.factory.timeouts
        died = guest.console.contains(r"Kernel panic|driver host (died|ended)|service process died")
        if died:
            raise GuestError("something in the guest died while it became a template", why=guest.console.tail(5))
        if not guest.record.wire:
            # the cable's state is part of the template: a fork starts without, until it has an identity of its own
            guest.domain.set_link(guest.record.mac, up=False)
        guest.domain.suspend()
        guest.domain.freeze(work / "state", timeouts.after(_FREEZE_S))
        guest.domain.destroy()
        qemu_img.flatten(guest.directory / "overlay.qcow2", image.disk, work / "disk.qcow2", self._copying(profile))
        shutil.copyfile(guest.console.path, work / "console.log")
        # pages that the guest never wrote take no room on the disk any more
        run(["fallocate", "--dig-holes", str(work / "memory")], deadline=self._copying(profile))

    def _copying(self, profile: GuestProfile) -> Deadline:
        """Time for reading or writing everything that a guest has in its memory, or as much on its disk, once."""
        return self.factory.timeouts.after(_COPY_S * max(profile.memory_mib / 1024, 1.0))

    def _memory(self, profile: GuestProfile, work: Path) -> MemoryFile:
        """A file for a guest's memory, with its room promised: a full disk would kill QEMU in the middle (SIGBUS)."""
        self._check_room(profile)
        path = work / "memory"
        try:
            with path.open("xb") as file:
                os.posix_fallocate(file.fileno(), 0, profile.memory_mib << 20)
        except OSError as error:
            raise TemplateError(
                f"no room for the template of {profile.name}",
                why=str(error),
                fix="`wsklab gc`, or a home on a larger disk (WSKLAB_HOME)",
            ) from error
        self._let_qemu_in(path)
        return MemoryFile(path=path, shared=True)

    def _check_room(self, profile: GuestProfile) -> None:
        free_mib = shutil.disk_usage(self.factory.home.root).free >> 20
        if free_mib < profile.memory_mib + self.disk_reserve_mib:
            raise TemplateError(
                f"no room for the template of {profile.name}",
                why=f"its memory takes {profile.memory_mib} MiB of disk, {free_mib} MiB are free, "
                f"{self.disk_reserve_mib} MiB are reserved",
                fix="`wsklab gc`, or a home on a larger disk (WSKLAB_HOME)",
            )

    def _let_qemu_in(self, memory: Path) -> None:
        """QEMU opens the memory by itself; where it is not our user, it needs a right of its own."""
        memory.chmod(0o640)
        user = self.hypervisor.qemu_user()
        if user is not None and user != os.geteuid():
            allow_user(memory, user)

    def inputs(self, profile: GuestProfile, image: Image, package: DriverPackage | None) -> dict[str, Any]:
        """Everything that a template depends on; what is not in here must not matter."""
        emulator = self.emulator.stat() if self.emulator is not None else None
        inputs: dict[str, Any] = {
            "format": _FORMAT,
            "profile": profile.model_dump(mode="json", exclude={"directory", "notes"}),
            "image": image.digest,
            "machine": self.factory.machine(profile, image, private_wire=self.private_wires),
            "versions": dict(self.hypervisor.versions()),
            "emulator": emulator and [str(self.emulator), emulator.st_size, emulator.st_mtime_ns, emulator.st_ino],
            "firmware": self._firmware(profile),
            "cpu": _cpu_digest(),
        }
        if package is not None:
            control = package.control
            inputs["driver"] = package.digest
            inputs["service"] = package.service
            inputs["control"] = "" if control is None else hashlib.sha256(control.read_bytes()).hexdigest()
            inputs["verifier"] = "off"
        return inputs

    def _firmware(self, profile: GuestProfile) -> list[object] | None:
        """The UEFI firmware's file: its code and the guest's variables travel in the device state."""
        chosen = self.factory.uefi if profile.firmware == "uefi" else None
        if chosen is None:
            return None
        status = chosen.code.stat()
        return [str(chosen.code), status.st_size, status.st_mtime_ns, status.st_ino]


def _cpu_digest() -> str:
    """The host's processor: model and flags. Another one may not understand a device state."""
    lines = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0].splitlines()
    facts = sorted(line for line in lines if line.startswith(("model name", "flags", "vendor_id", "cpu family")))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
