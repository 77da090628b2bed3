"""Shim guests for a run, and runs with guests of several makers. See `wsklab.pool` for guests with a machine."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from wsklab.artifacts import EvidenceFolder
from wsklab.bugcheck import bucket_of, find_on_console
from wsklab.capture import Capture
from wsklab.channel.device import DeviceClient
from wsklab.crash import Cause, CrashReport
from wsklab.deadline import Deadline, NotYet, Timeouts, wait_until
from wsklab.deploy import WSKCTL, DriverPackage, deploy
from wsklab.errors import DeadlineExceeded, HostError, LabError
from wsklab.lease_protocol import Explanation, GuestHandle, GuestProvider, KeptGuest
from wsklab.profile import GuestProfile
from wsklab.shim_guest import ShimGuest
from wsklab.toolchain import ShimBuild

__all__ = ["MixedPool", "ShimPool"]

#: What the process prints before it breaks off: a rule of the shim, or a sanitizer's finding.
_FINDINGS: Final = (
    re.compile(r"^wsklab-shim: (RULE [^\n]*)", re.MULTILINE),
    re.compile(r"(ERROR: AddressSanitizer[^\n]*)"),
    re.compile(r"(ERROR: LeakSanitizer[^\n]*)"),
    re.compile(r"^(\S+:\d+:\d+: runtime error: [^\n]*)", re.MULTILINE),
)
_PLACES: Final = 1 << 14
#: What differs from one crash to the next.
_NUMBER: Final = re.compile(r"\b0x[0-9a-f]+\b|\b\d{5,}\b")
_LAST_WORDS_S: Final = 2.0


class ShimPool:
    """The shim guests of one run; a `GuestProvider`.

    Args:
        profiles: those of kind shim that can be asked for.
        build: the program and our driver.
        package: the driver that is loaded; None: the build's own.
        folder: where the guests' folders are made.
        evidence: a directory for what dirty guests leave behind.
    """

    def __init__(
        self,
        *,
        profiles: Mapping[str, GuestProfile],
        build: ShimBuild,
        package: DriverPackage | None = None,
        timeouts: Timeouts,
        folder: Path,
        evidence: Path,
    ) -> None:
        self._profiles = profiles
        self._build = build
        self._package = package or DriverPackage(image=build.driver)
        self._timeouts = timeouts
        self._folder = folder
        self._evidence = evidence
        self._numbers = itertools.count(1)
        self._guests: dict[str, ShimGuest] = {}
        self._captures: dict[str, Capture] = {}
        self._reports: dict[str, CrashReport] = {}
        #: guests made ahead for second attempts, by profile
        self._successors: dict[str, Future[GuestHandle]] = {}
        self._ahead = ThreadPoolExecutor(max_workers=2, thread_name_prefix="shim-successor")
        self._lock = threading.Lock()
        self._closed = False

    def provide(self, profile: str, *, boot: bool = False) -> GuestHandle:  # noqa: ARG002 - they only ever boot
        """See `GuestProvider.provide`."""
        with self._lock:
            ahead = self._successors.pop(profile, None)
        if ahead is not None:
            with contextlib.suppress(LabError):  # the second try tells why
                return ahead.result()
        return self._make(profile)

    def _begin_successor(self, profile: str) -> None:
        """Make one guest ahead: a case that lost its guest is tried again."""
        with self._lock:
            if not self._closed and profile not in self._successors:
                self._successors[profile] = self._ahead.submit(self._make, profile)

    def _make(self, profile: str) -> GuestHandle:
        facts = self._profiles[profile]
        asked_at = time.monotonic()
        number = next(self._numbers)
        guest = ShimGuest.start(
            self._build,
            name=f"{profile}-{number}",
            profile=profile,
            folder=self._folder / f"{profile}-{number}",
            place=(os.getpid() * 16 + number) % _PLACES,
            os_build=facts.shim_build,
            deadline=self._timeouts.after(facts.boot_budget_s),
        )
        with self._lock:
            late = self._closed
            if not late:
                self._guests[guest.name] = guest
        if late:
            guest.kill()
            guest.remove()
            raise HostError("the run is over", why="the pool was closed while a guest was being made")
        try:
            handle = self._make_ready(guest, facts, asked_at)
            self._watch_wire(guest)
            return handle
        except BaseException:
            self._discard(guest, "it did not become ready")
            raise

    def _watch_wire(self, guest: ShimGuest) -> None:
        """Keep the packets of a guest that has a network of its own; the host's loopback is everybody's."""
        if guest.via.netns is None:
            return
        with contextlib.suppress(HostError):
            capture = Capture(guest.via)
            with self._lock:
                self._captures[guest.name] = capture

    def _make_ready(self, guest: ShimGuest, profile: GuestProfile, asked_at: float) -> GuestHandle:
        with guest.open_channel() as channel:
            deploy(channel, self._package, self._timeouts, fresh=True)
            with DeviceClient.open(channel, self._timeouts.after(10), command=f"{WSKCTL} stdio") as client:
                hello = client.hello
        system = f"{hello.os_major}.{hello.os_minor}.{hello.os_build}.{hello.os_revision}"
        return GuestHandle(
            name=guest.name,
            profile=profile.name,
            kind=profile.kind,
            address=guest.address,
            host_address=guest.host_address,
            netns=guest.via.netns,
            own_netns=guest.own_netns,
            control=guest.control,
            drive=guest.drive,
            driver_sha256=self._package.digest,
            service=self._package.service,
            build=f"shim-{self._build.digest[:8]}",
            os_version=system,
            ready_s=round(time.monotonic() - asked_at, 3),
            facts=profile.facts.model_dump(),
            baseline=profile.baseline_file,
            console=guest.console.path,
        )

    def explain(self, name: str, *, operation: str, channel_lost: bool) -> Explanation:
        """The shim's own words, where it broke off; else the process is alive, and somebody hangs."""
        with self._lock:
            guest = self._guests.get(name)
        if guest is None:
            raise HostError(f"guest {name} is not of this run", why="it was replaced already")
        with contextlib.suppress(DeadlineExceeded):
            # the connection breaks before the last words are out and the process is gone
            wait_until(
                lambda: self._over(guest, channel_lost=channel_lost), Deadline.after(_LAST_WORDS_S), what="its end"
            )
        signals: dict[str, object] = {
            "exit_code": guest.exit_code,
            "console_tail": guest.console.tail(200),
            "channel_lost": channel_lost,
        }
        report = self._report(guest, operation, signals)
        with self._lock:
            self._reports.setdefault(name, report)
        return report

    @staticmethod
    def _over(guest: ShimGuest, *, channel_lost: bool) -> bool | NotYet:
        return not channel_lost or guest.exit_code is not None or NotYet("the process runs")

    def _report(self, guest: ShimGuest, operation: str, signals: dict[str, object]) -> CrashReport:
        text = guest.console.text()
        stop = find_on_console(text)
        if stop is not None:
            reason, bucket = f"the guest's kernel died ({stop})", bucket_of(stop)
            return CrashReport(cause=Cause.KERNEL_CRASH, reason=reason, signals=signals, bucket=bucket, final=True)
        finding = _finding(text)
        if finding:
            bucket = _NUMBER.sub("N", finding)[:120]
            return CrashReport(cause=Cause.DRIVER_CRASH, reason=finding, signals=signals, bucket=bucket, final=True)
        if guest.exit_code is not None:
            reason = f"the shim's process ended with {guest.exit_code} and said nothing"
            return CrashReport(cause=Cause.DRIVER_CRASH, reason=reason, signals=signals, final=True)
        if operation:
            reason = f"{operation} is beyond its deadline while the guest is alive"
            return CrashReport(cause=Cause.DRIVER_HANG, reason=reason, signals=signals, final=True)
        reason = "channel lost: the guest is alive, the control channel broke"
        return CrashReport(cause=Cause.CHANNEL_LOST, reason=reason, signals=signals, final=True)

    def conclude(self, name: str, folder: Path) -> CrashReport | None:
        """The console is all that a process says; its packets are those of its own network."""
        with self._lock:
            guest, report = self._guests.get(name), self._reports.get(name)
            capture = self._captures.get(name)
        if guest is None:
            raise HostError(f"guest {name} is not of this run", why="it was replaced already")
        kept = EvidenceFolder(folder)
        kept.text("console.log", guest.console.text())
        packets = (
            f"{capture.save(kept.path / 'capture.pcap')} of its own network" if capture else "none on a shared one"
        )
        kept.text("sources.txt", f"console: the process' standard error\npackets: {packets}\n")
        return report

    def replace(self, handle: GuestHandle, reason: str, *, boot: bool = False) -> GuestHandle:  # noqa: ARG002 - as above
        """See `GuestProvider.replace`."""
        self.drop(handle, reason)
        # two are wanted: this one, and one for the second attempt of the case, which asks with `provide`
        self._begin_successor(handle.profile)
        return self._make(handle.profile)

    def drop(self, handle: GuestHandle, reason: str) -> None:
        """See `GuestProvider.drop`."""
        with self._lock:
            guest = self._guests.get(handle.name)
        if guest is not None:
            self._discard(guest, reason)

    def keep(self, handle: GuestHandle, why: str) -> KeptGuest:  # noqa: ARG002
        """A shim guest ends with its run: it is a process of the lab's."""
        raise HostError(f"guest {handle.name} cannot be kept", why="a shim guest ends with its run")

    def unkeep(self, kept: KeptGuest) -> None:
        """None was ever kept."""

    def close(self) -> None:
        """Power all guests off; what a driver has left over is an error of the run.

        Raises:
            HostError: a guest ended with a finding; its console is in the evidence.
        """
        with self._lock:
            self._closed = True
        self._ahead.shutdown()
        with self._lock:
            guests = list(self._guests.values())
            self._guests.clear()
        if not guests:
            return
        # an unload has pauses of its own
        with ThreadPoolExecutor(max_workers=len(guests), thread_name_prefix="shim-end") as ends:
            findings = list(filter(None, ends.map(self._power_off, guests)))
        if findings:
            raise HostError(
                "a shim guest found something left over at its end",
                why="; ".join(findings),
                fix=f"its console is in {self._evidence}",
            )

    def _power_off(self, guest: ShimGuest) -> str:
        """Power one off; returns what its end complains about, or ""."""
        self._end_capture(guest)
        finding = ""
        if guest.name in self._reports:
            # its case has its verdict, and the run ended before its successor was made
            guest.kill()
            self._save(guest, self._reports[guest.name].reason)
        elif (code := guest.stop()) != 0:
            finding = f"{guest.name}: {_finding(guest.console.text()) or f'exit code {code}'}"
            self._save(guest, f"it ended with {code} when it was powered off")
        guest.remove()
        return finding

    def _save(self, guest: ShimGuest, reason: str) -> None:
        kept = EvidenceFolder(self._evidence / guest.name)
        kept.text("why.txt", reason + "\n")
        with contextlib.suppress(OSError):
            kept.text("console.log", guest.console.text())

    def _end_capture(self, guest: ShimGuest) -> None:
        with self._lock:
            capture = self._captures.pop(guest.name, None)
        if capture is not None:
            capture.close()

    def _discard(self, guest: ShimGuest, reason: str) -> None:
        with self._lock:
            if self._guests.pop(guest.name, None) is None:
                return  # the end of the run powers it off: killed meanwhile, it would look like a finding
        self._end_capture(guest)
        guest.kill()
        self._save(guest, reason)
        guest.remove()


def _finding(console: str) -> str:
    """The first thing that a shim or a sanitizer complained about, or ""."""
    found = [match for match in (pattern.search(console) for pattern in _FINDINGS) if match]
    return min(found, key=lambda match: match.start())[1] if found else ""


class MixedPool:
    """Guests of several makers in one run; a `GuestProvider`.

    Args:
        makers: who makes the guests of a profile, by the profile's name.
    """

    def __init__(self, makers: Mapping[str, GuestProvider]) -> None:
        self._makers = makers
        self._of: dict[str, GuestProvider] = {}

    def provide(self, profile: str, *, boot: bool = False) -> GuestHandle:
        """See `GuestProvider.provide`."""
        maker = self._makers[profile]
        handle = maker.provide(profile, boot=boot)
        self._of[handle.name] = maker
        return handle

    def replace(self, handle: GuestHandle, reason: str, *, boot: bool = False) -> GuestHandle:
        """See `GuestProvider.replace`."""
        maker = self._makers[handle.profile]
        fresh = maker.replace(handle, reason, boot=boot)
        self._of[fresh.name] = maker
        return fresh

    def drop(self, handle: GuestHandle, reason: str) -> None:
        """See `GuestProvider.drop`."""
        self._makers[handle.profile].drop(handle, reason)

    def keep(self, handle: GuestHandle, why: str) -> KeptGuest:
        """See `GuestProvider.keep`."""
        return self._makers[handle.profile].keep(handle, why)

    def unkeep(self, kept: KeptGuest) -> None:
        """See `GuestProvider.unkeep`."""
        self._makers[kept.profile].unkeep(kept)

    def explain(self, name: str, *, operation: str, channel_lost: bool) -> Explanation:
        """See `GuestProvider.explain`."""
        return self._maker_of(name).explain(name, operation=operation, channel_lost=channel_lost)

    def conclude(self, name: str, folder: Path) -> Explanation | None:
        """See `GuestProvider.conclude`."""
        return self._maker_of(name).conclude(name, folder)

    def _maker_of(self, name: str) -> GuestProvider:
        maker = self._of.get(name)
        if maker is None:
            raise HostError(f"guest {name} is not of this run")
        return maker

    def close(self) -> None:
        """Close all makers; the first error is raised when all were asked."""
        errors: list[LabError] = []
        for maker in {id(maker): maker for maker in self._makers.values()}.values():
            try:
                maker.close()
            except LabError as error:
                errors.append(error)
        if errors:
            raise errors[0]
