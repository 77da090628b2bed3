"""Starts guests the fastest way that works here: a fork of a template, else a cold boot; and says which, and why.

A *base* template is the image, booted and warm; a *prepared* one is a fork of it with a driver loaded. Both are made
by the first guest that needs them, under a lock, so of several makers at once one makes and the others wait.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from wsklab import qemu_img
from wsklab.channel.agent import GuestAgent
from wsklab.channel.device import DeviceClient
from wsklab.deploy import WSKCTL, DriverPackage, deploy
from wsklab.domain_xml import MemoryFile
from wsklab.errors import GuestError, HostFull, LabError, TemplateError, UsageError
from wsklab.factory import GuestFactory, StartPlan
from wsklab.guest import Claim, Guest
from wsklab.home import write_text
from wsklab.hypervisor.protocol import Hypervisor
from wsklab.image.store import Image
from wsklab.process import run
from wsklab.profile import GuestProfile
from wsklab.template import Kind, Template, TemplateStore, allow_user, key_of
from wsklab.waking import identify, wake

__all__ = ["GuestStarter"]

#: Raised whenever this module makes other templates from the same inputs.
_FORMAT: Final = 1

# Budgets for KVM, in seconds.
_WAKE_S: Final = 5.0
_FREEZE_S: Final = 10.0
_DEPLOY_S: Final = 30.0

# Forks that failed so often are not tried again for a while: each try costs the time of a boot.
_FAILURES_MAX: Final = 2
_REFUSED_FOR: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestStarter:
    """Starts guests on one hypervisor.

    Attributes:
        factory: makes them.
        store: the templates.
        refusal: why nothing is ever forked here, or "".
        private_wires: whether forks get wires of their own; else each takes a new identity on the lab's network.
        ensure_network: makes the lab's network, which booted guests and re-identified forks are on.
        disk_reserve_mib: free space that making a template leaves alone.
        emulator: QEMU's program, part of a template's key.
    """

    factory: GuestFactory
    store: TemplateStore
    hypervisor: Hypervisor
    refusal: str
    private_wires: bool
    ensure_network: Callable[[], None]
    disk_reserve_mib: int
    emulator: Path | None

    def start(self, profile: GuestProfile, image: Image, claim: Claim, package: DriverPackage | None = None) -> Guest:
        """A guest that boots or has continued its template; in the second case clock and randomness are its own.

        Args:
            package: a driver that a fork should have loaded already; a guest that boots never has it.

        Raises:
            UsageError: the name is taken. HostFull: no slot. HypervisorError, ImageError: not even a boot works.
        """
        asked_at = time.monotonic()
        guest, why = self._try_fork(profile, image, claim, package)
        if guest is None:
            self.ensure_network()
            guest = self.factory.create(profile, image, claim, StartPlan(why=why))
        guest.asked_at = asked_at
        return guest

    def _try_fork(
        self, profile: GuestProfile, image: Image, claim: Claim, package: DriverPackage | None
    ) -> tuple[Guest | None, str]:
        """The fork, or what stopped it."""
        kind: Kind = "base" if package is None else "prepared"
        why = self.refusal or _kind_refusal(profile)
        if why or claim.fresh:
            return None, "" if claim.fresh else why
        inputs = self._inputs(profile, image, package)
        note = _Note(self.store.folder(profile.name) / f".failed-{kind}-{key_of(inputs)}")
        if why := note.refusal():
            return None, why
        try:
            with self._template(profile, image, package) as template:
                guest = self._fork(profile, image, claim, template)
        except (UsageError, HostFull):
            raise
        except LabError as error:
            why = f"{error.message}: {error.why}" if error.why else error.message
            note.failed(why)
            return None, why
        note.forget()
        return guest, ""

    # -- forks ---------------------------------------------------------------------------------

    def _fork(self, profile: GuestProfile, image: Image, claim: Claim, template: Template) -> Guest:
        guest = self.factory.create(profile, image, claim, self._plan(template, MemoryFile(path=template.memory)))
        try:
            self._wake(guest)
        except BaseException:
            guest.destroy(self.factory.slots)
            raise
        return guest

    def _plan(self, template: Template, memory: MemoryFile) -> StartPlan:
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

    def _wake(self, guest: Guest) -> None:
        """Clock, randomness, and on the lab's network an identity; only then its cable is plugged in."""
        deadline = self.factory.timeouts.after(_WAKE_S)
        agent = GuestAgent(guest.domain.agent_command)
        wake(agent, deadline)
        if not guest.record.wire:
            identify(agent, mac=guest.record.mac, address=f"{guest.record.address}/24", deadline=deadline)
            guest.domain.set_link(guest.record.mac, up=True)

    # -- templates -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _template(self, profile: GuestProfile, image: Image, package: DriverPackage | None) -> Iterator[Template]:
        """The template, made if need be, and kept from being removed for as long as the context lasts."""
        kind: Kind = "base" if package is None else "prepared"
        inputs = self._inputs(profile, image, package)
        key = key_of(inputs)
        patience = self.factory.timeouts.after(2 * profile.boot_budget_s + _DEPLOY_S + _FREEZE_S)
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
                claim = Claim(owner="wsklab", purpose="template", run=name, name=name)
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
        try:
            deadline = self.factory.timeouts.after(profile.boot_budget_s)
            guest.wait_ready(deadline, ready_check=profile.ready_check)
            # not for the clock, which is right: so that every fork finds the program in its memory
            wake(GuestAgent(guest.domain.agent_command), deadline)
            self._freeze(guest, image, work)
        finally:
            guest.destroy(self.factory.slots)

    def _make_prepared(
        self, profile: GuestProfile, image: Image, claim: Claim, work: Path, package: DriverPackage
    ) -> None:
        """Continue the base in a copy of its memory, load the driver, freeze that."""
        with self._template(profile, image, None) as base:
            self._check_room(profile)
            memory = work / "memory"
            run(["cp", "--sparse=always", str(base.memory), str(memory)], deadline=self.factory.timeouts.after(30))
            self._let_qemu_in(memory)
            guest = self.factory.create(profile, image, claim, self._plan(base, MemoryFile(path=memory, shared=True)))
            try:
                self._wake(guest)
                timeouts = self.factory.timeouts
                with guest.enter(timeouts.after(_WAKE_S), ready_check="") as channel:
                    deploy(channel, package, timeouts, fresh=True)
                    if package.control is not None:
                        with DeviceClient.open(channel, timeouts.after(_WAKE_S), command=f"{WSKCTL} stdio"):
                            pass  # it has answered hello
                wake(GuestAgent(guest.domain.agent_command), timeouts.after(_WAKE_S))
                self._freeze(guest, image, work)
            finally:
                guest.destroy(self.factory.slots)

    def _freeze(self, guest: Guest, image: Image, work: Path) -> None:
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
        qemu_img.flatten(guest.directory / "overlay.qcow2", image.disk, work / "disk.qcow2", timeouts.after(30))
        shutil.copyfile(guest.console.path, work / "console.log")
        # pages that the guest never wrote take no room on the disk any more
        run(["fallocate", "--dig-holes", str(work / "memory")], deadline=timeouts.after(30))

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

    def _inputs(self, profile: GuestProfile, image: Image, package: DriverPackage | None) -> dict[str, Any]:
        """Everything that a template depends on; what is not in here must not matter."""
        emulator = self.emulator.stat() if self.emulator is not None else None
        inputs: dict[str, Any] = {
            "format": _FORMAT,
            "profile": profile.model_dump(mode="json", exclude={"directory", "notes"}),
            "image": image.digest,
            "machine": self.factory.machine(profile, image, private_wire=self.private_wires),
            "versions": dict(self.hypervisor.versions()),
            "emulator": emulator and [str(self.emulator), emulator.st_size, emulator.st_mtime_ns, emulator.st_ino],
            "cpu": _cpu_digest(),
        }
        if package is not None:
            control = package.control
            inputs["driver"] = package.digest
            inputs["service"] = package.service
            inputs["control"] = "" if control is None else hashlib.sha256(control.read_bytes()).hexdigest()
            inputs["verifier"] = "off"
        return inputs


@dataclass(frozen=True, slots=True)
class _Note:
    """Remembers that forking a template failed, beside it."""

    path: Path

    def refusal(self) -> str:
        """Why it is not tried now, or ""."""
        try:
            note = json.loads(self.path.read_text())
            until = datetime.fromisoformat(note["at"]) + _REFUSED_FOR
            if note["count"] < _FAILURES_MAX or datetime.now(UTC) > until:
                return ""
            return f"forks failed {note['count']} times and are tried again after {until:%H:%M} UTC: {note['why']}"
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def failed(self, why: str) -> None:
        """Count one failure."""
        try:
            count = int(json.loads(self.path.read_text())["count"]) + 1
        except (OSError, ValueError, KeyError, TypeError):
            count = 1
        note = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "count": count, "why": why}
        with contextlib.suppress(OSError):  # a full disk may be what stopped the fork
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, json.dumps(note))

    def forget(self) -> None:
        """It works."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def _kind_refusal(profile: GuestProfile) -> str:
    if profile.kind != "wine":
        return f"forks of guests of kind {profile.kind} have never been run"
    return ""


def _cpu_digest() -> str:
    """The host's processor: model and flags. Another one may not understand a device state."""
    lines = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0].splitlines()
    facts = sorted(line for line in lines if line.startswith(("model name", "flags", "vendor_id", "cpu family")))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
