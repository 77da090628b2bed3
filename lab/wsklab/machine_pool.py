"""Static machines for a run; a `GuestProvider` as `wsklab.pool` is for guests that the lab makes.

A machine is claimed when the run begins and given back at its end, without the driver. Nothing of it is made anew, so
each rung of the reset ladder is what comes nearest: a guest of a case's own is the machine after a restart, one that
boots from its image is the machine after a power cycle, where somebody can switch it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from wsklab.artifacts import EvidenceFolder
from wsklab.bugcheck import bucket_of
from wsklab.channel.device import DeviceClient
from wsklab.channel.protocol import Channel
from wsklab.crash import Cause, CrashReport, Signals, classify
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.deploy import WSKCTL, DriverPackage, deploy, deploy_verified, is_own, undeploy
from wsklab.dump import read_dump
from wsklab.errors import DeadlineExceeded, GuestError, HostError, LabError
from wsklab.evidence import Collector
from wsklab.guest import Claim
from wsklab.lease import SlotTable
from wsklab.lease_protocol import GuestHandle, KeptGuest
from wsklab.machine import Machine
from wsklab.service import DriverService
from wsklab.trace import remove_trace, start_trace

__all__ = ["MachinePool"]

_log = logging.getLogger(__name__)

_LOOK_S: Final = 3.0
_TRACE_S: Final = 60.0
_MINIDUMPS: Final = r"C:\Windows\Minidump"


class MachinePool:
    """The static machines of one run.

    Args:
        take: claims a machine, by its name (`Machines.take`).
        names: the machines of the run; all are claimed at once.
        claim: whose they are.
        package: the driver that is loaded before a machine counts as ready.
        slots: what every guest is given back with.
        evidence: a directory for what is to be said about a machine that was renewed.
        symbols, verifier, trace: as in `GuestPool`.

    Raises:
        LeaseUnavailable: one of them is in use; then none is claimed.
    """

    def __init__(
        self,
        *,
        take: Callable[[str, Claim], Machine],
        names: tuple[str, ...],
        claim: Claim,
        package: DriverPackage,
        slots: SlotTable,
        evidence: Path,
        symbols: Path | None = None,
        verifier: str = "off",
        trace: Sequence[str] = (),
    ) -> None:
        self._package = package
        self._slots = slots
        self._evidence = evidence
        self._symbols = symbols
        self._verifier = verifier
        self._trace = tuple(trace)
        self._numbers = itertools.count(1)
        self._machines: dict[str, Machine] = {}
        self._of: dict[str, Machine] = {}
        self._reports: dict[str, CrashReport] = {}
        self._loaded: set[str] = set()
        self._lock = threading.Lock()
        #: held by whoever deploys, restarts or switches: whoever closes the pool waits for them
        self._at_work = threading.RLock()
        self._closed = False
        try:
            for name in names:
                self._machines[name] = take(name, claim)
        except BaseException:
            self._give_back()
            raise

    def provide(self, profile: str, *, boot: bool = False) -> GuestHandle:
        """The machine with the driver loaded; a dirty one, or one that does not let go of a driver, is renewed first.

        Raises:
            BootError: it does not answer. DriverLoadError: the driver did not start. HostError: it cannot be switched.
        """
        with self._at_work:
            return self._provide(self._open(profile), boot=boot)

    def _open(self, profile: str) -> Machine:
        """The machine, as long as the run has it.

        Raises:
            HostError: the run is over.
        """
        if self._closed:
            raise HostError("the run is over", why="the pool was closed while a machine was being renewed")
        return self._machines[profile]

    def _provide(self, machine: Machine, *, boot: bool) -> GuestHandle:
        machine.asked_at = time.monotonic()
        if boot or machine.record.dirty:
            machine.renew(hard=boot)
        try:
            return self._make_ready(machine)
        except GuestError as error:
            if not error.dirty:
                raise
            _log.info("%s is renewed: %s (%s)", machine.name, error.message, error.why)
        machine.renew(hard=False)
        return self._make_ready(machine)

    def _make_ready(self, machine: Machine) -> GuestHandle:
        profile, timeouts = machine.profile, machine.timeouts
        with machine.enter(timeouts.after(profile.boot_budget_s), ready_check=profile.ready_check) as channel:
            if self._verifier == "off":
                deploy(channel, self._package, timeouts)
        if self._verifier != "off":
            deploy_verified(machine, self._package, self._verifier, profile, timeouts)
        with (
            machine.enter(timeouts.after(profile.boot_budget_s), ready_check="") as channel,
            DeviceClient.open(channel, timeouts.after(10), command=f"{WSKCTL} stdio") as client,
        ):
            hello = client.hello
            if self._trace:
                start_trace(channel, self._trace, timeouts.after(_TRACE_S))
        ready_s = machine.age_s
        machine.remember(ready_s=round(ready_s, 3))
        # a name is never used twice: workers may still know the machine as it was before it was renewed
        name = f"{profile.name}-{next(self._numbers)}"
        windows = f"{hello.os_major}.{hello.os_minor}.{hello.os_build}.{hello.os_revision}"
        with self._lock:
            self._of[name] = machine
            self._loaded.add(profile.name)
        return GuestHandle(
            name=name,
            profile=profile.name,
            kind=profile.kind,
            static=True,
            address=machine.address[0],
            ssh_user=machine.record.user,
            ssh_key=machine.key,
            ssh_port=machine.address[1],
            ssh_host_key=machine.record.host_key,
            driver_sha256=self._package.digest,
            service=self._package.service,
            build=windows if hello.wine is None else f"wine-{hello.wine}",
            os_version=windows,
            method=machine.record.method,
            why=f"{machine.record.why}, a {machine.record.profile}",
            ready_s=round(ready_s, 3),
            verifier=self._verifier,
            shared_leases=profile.shared_leases,
            facts=profile.facts.model_dump(),
            baseline=profile.baseline_file,
        )

    # -- when something went wrong -------------------------------------------------------------

    def explain(self, name: str, *, operation: str, channel_lost: bool) -> CrashReport:
        """What can be seen from outside: whether it answers, and whether it is the boot of before."""
        machine = self._known(name)
        now = machine.boot_now(machine.timeouts.after(_LOOK_S))
        report = classify(
            Signals(
                domain_state="static",
                events=("rebooted",) if now is not None and not machine.has_seen(now) else (),
                port_answers=now is not None,
                channel_lost=channel_lost,
                operation=operation,
            )
        )
        with self._lock:
            self._reports.setdefault(name, report)
        machine.remember(dirty=report.reason)
        return report

    def conclude(self, name: str, folder: Path) -> CrashReport | None:
        """What it says itself; one that did not answer, and comes back as another boot, had crashed."""
        machine = self._known(name)
        with self._lock:
            report = self._reports.get(name)
        kept = EvidenceFolder(folder)
        if report is not None and report.cause in {Cause.CHANNEL_LOST, Cause.KERNEL_CRASH}:
            report = self._after_its_return(machine, report, kept)
            with self._lock:
                self._reports[name] = report
        died = report is not None and report.cause is Cause.KERNEL_CRASH
        driver = self._package.image.stem.lower()
        collector = Collector(machine.timeouts, symbols=self._symbols, driver=driver, trace=self._trace)
        final = collector.collect(machine, None if died else report, kept.path, capture=None)
        if died and report is not None:
            final = dataclasses.replace(report, final=True)
        if final is not None:
            with self._lock:
                self._reports[name] = final
        return final

    def _after_its_return(self, machine: Machine, report: CrashReport, kept: EvidenceFolder) -> CrashReport:
        """The report with what a machine that restarted by itself tells."""
        deadline = machine.timeouts.after(machine.profile.boot_budget_s)

        def back() -> int | NotYet:
            now = machine.boot_now(deadline.sooner(machine.timeouts.seconds(_LOOK_S)))
            return now if now is not None else NotYet("it does not answer")

        try:
            now = wait_until(back, deadline, what=f"{machine.name} to answer", tick_s=0.2)
        except DeadlineExceeded as error:
            return dataclasses.replace(report, reason=f"{report.reason}; it did not come back: {error.why}")
        if machine.has_seen(now):
            return report
        died = dataclasses.replace(
            report, cause=Cause.KERNEL_CRASH, reason="the machine restarted although nobody asked it to"
        )
        return self._with_dump(machine, died, kept) if machine.record.kind == "windows" else died

    def _with_dump(self, machine: Machine, report: CrashReport, kept: EvidenceFolder) -> CrashReport:
        """The report with what the newest small dump says, which the system wrote before it restarted."""
        target = kept.path / "minidump.dmp"
        try:
            with machine.open_channel(machine.timeouts.after(10)) as channel:
                name = _newest_dump(channel, machine.timeouts.after(10))
                channel.get(rf"{_MINIDUMPS}\{name}", target, machine.timeouts.after(60))
            found = read_dump(target, machine.timeouts.after(60))
        except LabError as error:
            return dataclasses.replace(report, reason=f"{report.reason}; no dump: {error.message}: {error.why}")
        kept.json("dump.json", {"source": "minidump", **dataclasses.asdict(found)})
        place = found.first_of(f"{self._package.image.stem.lower()}.sys") or found.culprit
        return dataclasses.replace(
            report,
            reason=f"the machine's kernel died: {found.bugcheck}{f' in {place}' if place is not None else ''}",
            bucket=bucket_of(
                found.bugcheck,
                module=place.module if place is not None else "",
                offset=place.offset if place is not None else None,
            ),
        )

    def replace(self, handle: GuestHandle, reason: str, *, boot: bool = False) -> GuestHandle:
        """The same machine, restarted; see the module's text."""
        with self._at_work:
            self.drop(handle, reason)
            self._open(handle.profile).renew(hard=boot)
            return self.provide(handle.profile)

    def drop(self, handle: GuestHandle, reason: str) -> None:
        """Nobody uses it under this name any more."""
        with self._lock:
            machine = self._of.pop(handle.name, None)
        if machine is None:
            return
        kept = EvidenceFolder(self._evidence / handle.name)
        kept.text("why.txt", reason + "\n")
        machine.remember(dirty=reason)

    def keep(self, handle: GuestHandle, why: str) -> KeptGuest:  # noqa: ARG002
        """There is one machine, and the run needs it."""
        raise HostError(
            f"machine {handle.profile} cannot be kept aside",
            why="it is the only one",
            fix="look at the case's evidence",
        )

    def unkeep(self, kept: KeptGuest) -> None:
        """None was ever kept."""

    def close(self) -> None:
        """Take the driver out and give the machines back, when nobody renews them any more; safe to call twice.

        Raises:
            HostError: a machine keeps the driver; it is marked as dirty.
        """
        self._closed = True
        with self._at_work:
            loaded, self._loaded = sorted(self._loaded), set()
            errors = [f"{name}: {why}" for name in loaded if (why := self._clean(self._machines[name]))]
            self._give_back()
        if errors:
            raise HostError(
                "a static machine is not as it was before the run",
                why="; ".join(errors),
                fix="its next user restarts it first",
            )

    def _clean(self, machine: Machine) -> str:
        """Unload the driver; why that did not work, or ""."""
        if machine.record.dirty:
            return ""  # the next user renews it before anything else
        try:
            with machine.open_channel(machine.timeouts.after(15)) as channel:
                if self._trace:
                    remove_trace(channel, machine.timeouts.after(_TRACE_S))
                service = DriverService(channel, self._package.service)
                undeploy(channel, service, machine.timeouts, own=is_own(self._package))
        except LabError as error:
            why = f"{error.message}: {error.why}"
            machine.remember(dirty=why)
            return why
        return ""

    def _give_back(self) -> None:
        machines, self._machines = self._machines, {}
        for machine in machines.values():
            with contextlib.suppress(LabError):
                machine.destroy(self._slots)

    def _known(self, name: str) -> Machine:
        with self._lock:
            machine = self._of.get(name)
        if machine is None:
            raise HostError(f"guest {name} is not of this run", why="it was renewed already")
        return machine


def _newest_dump(channel: Channel, deadline: Deadline) -> str:
    """The name of the newest small dump.

    Raises:
        GuestCommandError: there is none.
    """
    lines = channel.run(rf"dir /b /o-d {_MINIDUMPS}\*.dmp", deadline).stdout.splitlines()
    return lines[0].strip().rsplit("\\", 1)[-1] if lines else ""
