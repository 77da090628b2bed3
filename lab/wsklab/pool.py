"""Ready guests for a run: made at the same time, replaced when dirty, given back at the end.

`GuestPool` is the broker's `GuestProvider`. It never raises a guest's death at a worker: it says what
happened (`explain`), keeps what proves it (`conclude`) and makes another guest. The successor of a guest that is lost
is begun as soon as somebody asks what happened, before anything of the old one is looked at.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from wsklab import network
from wsklab.artifacts import EvidenceFolder
from wsklab.capture import Capture
from wsklab.channel.device import DeviceClient
from wsklab.crash import CrashReport, classify, gather
from wsklab.deadline import Deadline, Timeouts
from wsklab.deploy import WSKCTL, DriverPackage, deploy, deploy_verified
from wsklab.errors import HostError, HostFull, LabError
from wsklab.evidence import Collector
from wsklab.guest import Claim, Guest
from wsklab.hypervisor.protocol import DomainEvent, DomainEventKind, EventSubscription
from wsklab.lease import DEFAULT_TTL, SlotTable, expiry_after
from wsklab.lease_protocol import GuestHandle, KeptGuest, lost_mark
from wsklab.profile import GuestProfile
from wsklab.ready_links import ReadyLink, ReadyLinks
from wsklab.run_spares import COMING_S, RunSpares
from wsklab.trace import start_trace

__all__ = ["GuestPool"]

_log = logging.getLogger(__name__)

# Beginning a trace takes a dozen commands.
_TRACE_S = 60.0
# How long guests in the making get to be removed.
_CLOSE_S = 30.0
# How often each guest's processor time is looked at, and for how long it is remembered that it stood still.
_PULSE_S = 2.0
_REMEMBERED_S = 90.0

#: Events after which a guest answers nobody, whatever its connections look like.
_LOST = frozenset(
    {DomainEventKind.CRASHED, DomainEventKind.PANICKED, DomainEventKind.IO_ERROR, DomainEventKind.STOPPED}
)

Starter = Callable[[GuestProfile, Claim, DriverPackage], Guest]


class GuestPool:
    """The guests of one run.

    Args:
        profiles: what can be asked for.
        start: makes a guest that boots, or a fork that has the driver already (`Lab.start_guest`).
        claim: whose the guests are.
        package: the driver that is loaded before a guest counts as ready.
        slots: where a guest's slot goes back to.
        events: the hypervisor's events, subscribed before the first guest starts.
        evidence: a directory for what dirty guests leave behind.
        stop: ends what `start` is still making in other threads (`Lab.stop_starting`).
        spares: how many ready guests of a profile are kept once one of it had to be replaced (`run_spares`).
        links: gets what was opened into each guest to see that it is ready; None: nobody wants it.
        symbols: the debug file of the driver in the package; None where there is none.
        verifier: how Driver Verifier watches the driver; only guests of kind windows have it.
        trace: providers of Event Tracing that each guest is traced by; likewise.
    """

    def __init__(
        self,
        *,
        profiles: dict[str, GuestProfile],
        start: Starter,
        claim: Claim,
        package: DriverPackage,
        slots: SlotTable,
        events: EventSubscription,
        timeouts: Timeouts,
        evidence: Path,
        stop: Callable[[], None] = lambda: None,
        spares: int = 0,
        links: ReadyLinks | None = None,
        symbols: Path | None = None,
        verifier: str = "off",
        trace: Sequence[str] = (),
    ) -> None:
        self._profiles = profiles
        self._verifier = verifier
        self._trace = tuple(trace)
        self._start = start
        self._stop = stop
        self._links = links
        self._undone: list[LabError] = []
        self.spares = RunSpares(
            wanted=spares,
            make=lambda profile: self._provide(self._profiles[profile], boot=False),
            find=self._find,
            discard=self._discard,
            links=links,
            timeouts=timeouts,
        )
        self._claim = claim
        self._mark = hashlib.sha256(claim.run.encode()).hexdigest()[:4]
        self._numbers = itertools.count(1)
        self._package = package
        self._slots = slots
        self._timeouts = timeouts
        self._evidence = evidence
        self._events = events
        self._seen: dict[str, list[DomainEvent]] = {}
        self._guests: dict[str, Guest] = {}
        self._kept: dict[str, Guest] = {}
        self._collector = Collector(timeouts, symbols=symbols, driver=package.image.stem.lower(), trace=trace)
        self._captures: dict[str, Capture] = {}
        self._reports: dict[str, CrashReport] = {}
        #: guests that were asked about; each has a successor
        self._doubted: set[str] = set()
        #: successors of guests that are lost: those in the making, and those that wait to be asked for
        self._coming: Counter[str] = Counter()
        self._ready: dict[str, list[GuestHandle]] = {}
        #: uuids of the guests that somebody works with
        self._handed: set[str] = set()
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._providing = 0
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="guest-events", daemon=True)
        self._watcher.start()
        #: when each guest's processors stood still, and for how long
        self._stood_still: dict[str, list[tuple[float, float]]] = {}
        self._pulse = threading.Thread(target=self._feel, name="guest-pulse", daemon=True)
        self._pulse.start()

    def provide(self, profile: str, *, boot: bool = False) -> GuestHandle:
        """Boot a guest, load the driver, see it answer.

        Args:
            boot: never from a template.

        Raises:
            BootError: it never became ready. DriverLoadError: the driver did not start.
            HostError: the lab could not make it.
        """
        handle = self._any(profile, boot=boot)
        with self._lock:
            guest = self._guests.get(handle.name)
            self._handed.update([guest.record.uuid] if guest is not None else [])
        return handle

    def _any(self, profile: str, *, boot: bool) -> GuestHandle:
        spare = None if boot else self._take_successor(profile) or self.spares.take(profile)
        if spare is not None:
            return spare
        try:
            return self._provide(self._profiles[profile], boot=boot)
        except HostFull:
            in_the_way = self.spares.drop_one()
            if in_the_way is None:
                raise
            self._destroy(in_the_way)
            return self._provide(self._profiles[profile], boot=boot)

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        """While there is something of a guest that `close` cannot find: it waits for that."""
        with self._lock:
            self._providing += 1
        try:
            yield
        finally:
            with self._idle:
                self._providing -= 1
                self._idle.notify_all()

    def _begin_successor(self, profile: str) -> None:
        """Start the guest that will take the place of a lost one; where both do not fit, nothing comes of it."""
        with self._lock:
            self._coming[profile] += 1
        name = f"successor-{profile}"
        threading.Thread(target=self._make_successor, args=(profile,), name=name, daemon=True).start()

    def _make_successor(self, profile: str) -> None:
        """The body of a thread. A spare is there at once; the next one is begun for whoever dies next."""
        made: list[GuestHandle] = []
        try:
            spare = self.spares.take(profile)
            self.spares.begin(profile)
            made.append(spare or self._provide(self._profiles[profile], boot=False))
        except LabError as error:
            _log.info("no successor of %s yet: %s", profile, error)
        except Exception:  # noqa: BLE001 - a thread top: whoever waits for it makes one, and says what is wrong
            _log.exception("making a successor of %s failed", profile)
        finally:
            with self._idle:
                self._coming[profile] -= 1
                self._ready.setdefault(profile, []).extend(made)
                self._idle.notify_all()

    def _take_successor(self, profile: str) -> GuestHandle | None:
        """A guest that was begun for whoever asks next; waits for one that is on its way."""
        with self._idle:
            ready = self._ready.setdefault(profile, [])
            self._idle.wait_for(lambda: ready or not self._coming[profile] or self._closed.is_set(), timeout=COMING_S)
            return ready.pop() if ready and not self._closed.is_set() else None

    def _provide(self, facts: GuestProfile, *, boot: bool) -> GuestHandle:
        # a name is never used twice: other workers may still know the guest that this one replaces
        name = f"{facts.name}-{self._mark}-{next(self._numbers)}"
        with self._at_work():
            guest = self._start(facts, dataclasses.replace(self._claim, name=name, fresh=boot), self._package)
            with self._lock:
                if self._closed.is_set():
                    guest.destroy(self._slots)
                    raise _over()
                self._guests[guest.name] = guest
        try:
            return self._make_ready(guest, facts)
        except BaseException as error:
            if self._closed.is_set():  # `close` has taken it away meanwhile
                raise _over() from error
            self._discard(guest, "it did not become ready")
            raise

    def _make_ready(self, guest: Guest, profile: GuestProfile) -> GuestHandle:
        loaded = guest.record.driver == self._package.digest
        if self._verifier != "off":
            guest.enter(self._timeouts.boot(profile.boot_budget_s), ready_check=profile.ready_check).close()
            deploy_verified(guest, self._package, self._verifier, profile, self._timeouts)
            loaded = True
        # the driver's own answer says more than the ready-check
        check = "" if loaded else profile.ready_check
        with contextlib.ExitStack() as opened:
            channel = opened.enter_context(guest.enter(self._timeouts.boot(profile.boot_budget_s), ready_check=check))
            ready_s = guest.age_s
            if not loaded:
                deploy(channel, self._package, self._timeouts, fresh=True)
            if self._trace:
                start_trace(channel, self._trace, self._timeouts.after(_TRACE_S))
            client = opened.enter_context(
                DeviceClient.open(channel, self._timeouts.after(10), command=f"{WSKCTL} stdio")
            )
            hello = client.hello
            if self._links is not None:
                self._links.keep(guest.name, ReadyLink(channel, client))
                opened.pop_all()
        guest.remember(ready_s=round(ready_s, 3))
        self._watch_wire(guest)
        windows = f"{hello.os_major}.{hello.os_minor}.{hello.os_build}.{hello.os_revision}"
        return GuestHandle(
            name=guest.name,
            profile=profile.name,
            kind=profile.kind,
            address=guest.record.address,
            netns=guest.via.netns,
            ssh_user=guest.record.user,
            ssh_key=guest.key,
            ssh_host_key=guest.record.host_key,
            driver_sha256=self._package.digest,
            service=self._package.service,
            build=windows if hello.wine is None else f"wine-{hello.wine}",
            os_version=windows,
            method=guest.record.method,
            why=guest.record.why,
            ready_s=round(ready_s, 3),
            verifier=self._verifier,
            slot=guest.record.slot,
            shared_leases=profile.shared_leases,
            facts=profile.facts.model_dump(),
            baseline=profile.baseline_file,
            console=guest.console.path,
            domain_xml=guest.directory / "domain.xml",
        )

    def _watch_wire(self, guest: Guest) -> None:
        """Begin to keep what crosses the guest's wire; not every host lets us."""
        try:
            capture = Capture(guest.via)
        except HostError as error:
            _log.info("no packets of %s: %s (%s)", guest.name, error.message, error.why)
            return
        with self._lock:
            self._captures[guest.name] = capture

    def explain(self, name: str, *, operation: str, channel_lost: bool) -> CrashReport:
        """Why a case on this guest did not end by itself: the first, provisional verdict."""
        guest = self._known(name)
        since = time.monotonic() - _REMEMBERED_S
        with self._lock:
            first = name not in self._doubted
            self._doubted.add(name)
        # whatever the answer is, nobody works on this guest any more: its successor need not wait for it
        if first and not self._closed.is_set():
            self._begin_successor(guest.record.profile)
        with self._lock:
            events = tuple(self._seen.get(guest.record.uuid, ()))
            still_s = sum(length for at, length in self._stood_still.get(name, ()) if at > since)
        signals = gather(
            guest.domain,
            events=events,
            console_tail=lambda: guest.console.tail(200),
            port_answers=lambda deadline: _port_answers(guest, deadline),
            channel_lost=channel_lost,
            operation=operation,
            deadline=self._timeouts.after(5),
            stood_still_s=still_s,
        )
        report = classify(signals)
        with self._lock:
            # what was seen to die stays dead, whatever the next case on that guest sees of it
            self._reports.setdefault(name, report)
        return report

    def conclude(self, name: str, folder: Path) -> CrashReport | None:
        """See `GuestProvider.conclude`."""
        guest = self._known(name)
        with self._lock:
            report, capture = self._reports.get(name), self._captures.get(name)
        final = self._collector.collect(guest, report, folder, capture=capture)
        if final is not None:
            with self._lock:
                self._reports[name] = final
        return final

    def _find(self, name: str) -> Guest | None:
        with self._lock:
            return self._guests.get(name)

    def _known(self, name: str) -> Guest:
        guest = self._find(name)
        if guest is None:
            raise HostError(f"guest {name} is not of this run", why="it was replaced already")
        return guest

    def replace(self, handle: GuestHandle, reason: str, *, boot: bool = False) -> GuestHandle:
        """Keep the evidence of a dirty guest, remove it, make another of its profile.

        Where another is on its way already, there is room for both, and nobody waits for the removal.
        """
        with self._lock:
            begun = not boot and bool(self._coming[handle.profile] or self._ready.get(handle.profile))
            guest = self._guests.pop(handle.name, None) if begun else None
            self._providing += guest is not None  # `close` waits for the removal as well
        if guest is None:
            self.drop(handle, reason)
            another = self.provide(handle.profile, boot=boot)
        else:
            name = f"discard-{guest.name}"
            beside = threading.Thread(target=self._discard_beside, args=(guest, reason), name=name, daemon=True)
            beside.start()
            try:
                another = self.provide(handle.profile, boot=boot)
            except HostFull:  # there was no room for both
                beside.join(_CLOSE_S)
                another = self.provide(handle.profile, boot=boot)
        self.spares.begin(handle.profile)
        return another

    def drop(self, handle: GuestHandle, reason: str) -> None:
        """See `GuestProvider.drop`."""
        with self._lock:
            guest = self._guests.get(handle.name)
        if guest is not None:
            self._discard(guest, reason)

    def keep(self, handle: GuestHandle, why: str) -> KeptGuest:
        """Make the guest its user's, as if `up` had made it; the end of the run leaves it alone."""
        with self._lock:
            guest = self._guests.get(handle.name)
        metadata = guest.domain.metadata() if guest is not None else None
        if guest is None or metadata is None:
            raise HostError(f"guest {handle.name} cannot be kept", why="it is gone")
        expires = expiry_after(DEFAULT_TTL)
        guest.domain.set_metadata(dataclasses.replace(metadata, run="", purpose="user", expires=expires))
        guest.remember(dirty=why)
        with self._lock:
            self._kept[guest.name] = self._guests.pop(guest.name)
        return KeptGuest(
            name=guest.name,
            profile=handle.profile,
            kind=handle.kind,
            why=why,
            enter=f"wsklab ssh {guest.name}",
            expires=expires,
        )

    def unkeep(self, kept: KeptGuest) -> None:
        """Destroy a kept guest; its evidence stays."""
        with self._lock:
            guest = self._kept.pop(kept.name, None)
        if guest is not None:
            self._discard(guest, kept.why)

    def _discard_beside(self, guest: Guest, reason: str) -> None:
        """The body of a thread; what goes wrong is told at the end of the run."""
        try:
            self._discard(guest, reason)
        except LabError as error:
            _log.warning("guest %s could not be removed: %s", guest.name, error)
            self._undone.append(error)
        except Exception as error:  # noqa: BLE001 - a thread top
            self._undone.append(HostError(f"guest {guest.name} could not be removed", why=repr(error)))
        finally:
            with self._idle:
                self._providing -= 1
                self._idle.notify_all()

    def _discard(self, guest: Guest, reason: str) -> None:
        """Copy what explains a dirty guest, then destroy it."""
        target = self._evidence / guest.name
        kept = EvidenceFolder(target)
        kept.text("why.txt", reason + "\n")
        with contextlib.suppress(OSError):
            kept.text("console.log", guest.console.text())
        for name in ("domain.xml", "guest.json"):
            with contextlib.suppress(OSError):
                kept.copy(name, guest.directory / name)
        self._destroy(guest)

    def _destroy(self, guest: Guest) -> None:
        with self._at_work():
            with self._lock:
                self._guests.pop(guest.name, None)
                capture = self._captures.pop(guest.name, None)
            if capture is not None:
                capture.close()
            if self._links is not None:
                self._links.drop(guest.name)
            guest.destroy(self._slots)

    def close(self) -> None:
        """Give all guests back; safe to call twice."""
        self._closed.set()
        with self._idle:
            self._idle.notify_all()
        self.spares.close()
        self._stop()
        with self._lock:
            guests = list(self._guests.values())
        errors = self._undone
        for guest in guests:
            try:
                self._destroy(guest)
            except LabError as error:  # the others must go all the same
                errors.append(error)
        with self._idle:
            # whoever was still making a guest sees that the pool is closed, and removes it
            self._idle.wait_for(lambda: self._providing == 0, timeout=_CLOSE_S)
        self._events.close()
        if errors:
            raise errors[0]

    def _watch(self) -> None:
        """Sort the hypervisor's events by domain until the pool is closed."""
        while not self._closed.is_set():
            event = self._events.get(Deadline.after(0.5))
            if event is None:
                continue
            with self._lock:
                self._seen.setdefault(event.domain, []).append(event)
                lost = [guest for guest in self._guests.values() if guest.record.uuid == event.domain]
            for guest in lost if self._is_lost(event) else ():
                # its connections may stay silent for ever: the workers look for this
                with contextlib.suppress(OSError):
                    lost_mark(guest.console.path).touch()

    def _is_lost(self, event: DomainEvent) -> bool:
        """Whether nothing is to be expected of a guest any more; spares are suspended by the lab itself."""
        if event.kind is not DomainEventKind.SUSPENDED:
            return event.kind in _LOST
        with self._lock:
            return event.domain in self._handed

    def _feel(self) -> None:
        """Look at every guest's processor time now and then until the pool is closed."""
        before: dict[str, tuple[float, int]] = {}
        while not self._closed.wait(_PULSE_S):
            self.spares.pause_old()
            with self._lock:
                # a spare stands still when the lab has paused it
                guests = [guest for guest in self._guests.values() if guest.record.uuid in self._handed]
            for guest in guests:
                try:
                    used = guest.domain.vcpu_time_ns()
                except LabError:
                    before.pop(guest.name, None)  # off, or being asked about something else
                    continue
                at = time.monotonic()
                known = before.get(guest.name)
                before[guest.name] = (at, used)
                if known is not None and known[1] == used:
                    with self._lock:
                        self._stood_still.setdefault(guest.name, []).append((at, at - known[0]))


def _over() -> HostError:
    return HostError("the run is over", why="the pool was closed while a guest was being made")


def _port_answers(guest: Guest, deadline: Deadline) -> bool:
    try:
        network.connect(guest.via, guest.address, deadline).close()
    except (LabError, OSError):
        return False
    return True
