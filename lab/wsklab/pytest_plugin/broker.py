"""The lease broker: a few threads in the pytest controller that hand guests to workers.

Workers reach it over a UNIX socket (`broker_socket`); without xdist the same `Broker` is called in process.
Guests are made at the same time, a thread each; requests for a profile wait for its guests only.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import (
    BootError,
    HostFull,
    LabError,
    LeaseError,
    LeaseExpired,
    LeaseUnavailable,
)
from wsklab.lease_protocol import GuestHandle, GuestProvider, KeptGuest, Lease, Reset
from wsklab.pytest_plugin.broker_socket import BrokerSocket
from wsklab.pytest_plugin.lease_model import PORTS_PER_LEASE, Grant, LeaseModel
from wsklab.pytest_plugin.leases import Story
from wsklab.pytest_plugin.schedule import Need
from wsklab.pytest_plugin.turns import LOOK_S, Turns

__all__ = ["KEPT", "REPLACEMENTS", "ROOM_S", "Broker", "GuestFailure"]

_log = logging.getLogger(__name__)

#: A driver that kills every guest is found by so many in a row; more would only cost time.
REPLACEMENTS = 4
#: How many guests of one profile are kept for failed cases; a run that fails everywhere must not fill the host.
KEPT = 2
#: How long a run waits for the guests of others to leave a full host, in seconds; below what a case waits for a guest.
ROOM_S = 300.0
#: How long a profile may wait for the cases of others in the same run, in seconds.
_TURN_S = 7 * 86400.0


class GuestFailure:
    """A guest that could not be made.

    Args:
        profile: its profile.
        error: why.
    """

    def __init__(self, profile: str, error: LabError) -> None:
        self.profile = profile
        self.error = error

    @property
    def never_ready(self) -> bool:
        """Whether the guest itself failed to become ready, as against the lab failing to make one."""
        return isinstance(self.error, BootError)


class Broker:
    """Guests in, leases out. A context manager: entering starts the guests, leaving gives them back.

    Args:
        provider: makes guests.
        profiles: which profiles the run uses.
        each: how many guests of each profile.
        machines: the profiles of which there is one guest, whatever `each` says.
        address: path of the UNIX socket for workers; None when there are none.
        replacements: how many dirty guests of one profile in a row are replaced before it is given up; whoever gives
            a guest back clean begins a new row.
        processes: the profiles whose guests are processes of the host: a second attempt gets one more of them.
        room_s: how long a profile without a guest waits on a full host while nothing goes on in the run, in seconds.
        tell: gets a line about what keeps cases waiting, as soon as it is known; called from several threads.
    """

    def __init__(
        self,
        provider: GuestProvider,
        profiles: Sequence[str],
        *,
        each: int = 1,
        machines: Collection[str] = (),
        processes: Collection[str] = (),
        address: Path | None = None,
        replacements: int = REPLACEMENTS,
        room_s: float = ROOM_S,
        tell: Callable[[str], None] = _log.warning,
    ) -> None:
        self._provider = provider
        self._profiles = tuple(profiles)
        self._each = {profile: 1 if profile in machines else each for profile in self._profiles}
        self._processes = frozenset(processes)
        self._limit = replacements
        self._room_s = room_s
        self._tell = tell
        self._model = LeaseModel()
        self._change = threading.Condition()
        self._handles: dict[str, GuestHandle] = {}
        self._granted: dict[int, Grant] = {}
        self._coming: Counter[str] = Counter(self._each)
        self._replacements: Counter[str] = Counter()
        #: leases whose guests nobody gets afterwards
        self._own: set[int] = set()
        #: leases of second attempts: what becomes of their guests says nothing new
        self._second: set[int] = set()
        #: guests that were made for one lease and go with it
        self._apart: set[str] = set()
        self._turns = Turns()
        #: guests that are being replaced: their room is not free
        self._swaps = 0
        self._keeping: Counter[str] = Counter()
        #: why a leased guest is to be kept, by its name
        self._wishes: dict[str, str] = {}
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._socket = BrokerSocket(self, address, self._spawn) if address is not None else None
        #: every guest that the run had, in the order of readiness
        self.seen: list[GuestHandle] = []
        #: every guest that could not be made
        self.failures: list[GuestFailure] = []
        #: the guests of failed cases that are the user's now
        self.kept: list[KeptGuest] = []
        #: what the user should know although it changes no verdict
        self.notes: list[LabError] = []
        #: what the items of the run need, by node id, as the workers said
        self.needs: dict[str, Need] = {}

    def __enter__(self) -> Broker:
        if self._socket is not None:
            self._socket.open()
        for profile in self._profiles:
            for number in range(self._each[profile]):
                self._spawn(functools.partial(self._provide, profile), f"{profile}-{number}")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all conversations and give the guests back; safe to call twice."""
        with self._change:
            if self._closed:
                return
            self._closed = True
            self._change.notify_all()
        if self._socket is not None:
            self._socket.close()
        try:
            self._provider.close()
        finally:
            for thread in self._threads:
                thread.join(5.0)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        with self._change:
            return len(self._model.waiting)

    def free(self, profile: str) -> int:
        """How many clean guests of a profile nobody has."""
        with self._change:
            leased = {name for grant in self._model.leases for name in grant.guests}
            return len(set(self._model.guests(profile)) - leased)

    def plan(self, needs: Sequence[Need]) -> None:
        """A worker says what the items need that it has collected; all workers say the same."""
        self.needs.update((need.item, need) for need in needs)

    def acquire(
        self,
        profiles: Sequence[str],
        *,
        exclusive: bool,
        deadline: Deadline,
        reset: Reset = Reset.NONE,
        again: bool = False,
        owner: str = "main",
        alive: Callable[[], bool] = lambda: True,
    ) -> Lease:
        """Wait for a lease on one guest of each named profile.

        Args:
            reset: from `Reset.DRIVER` on the lease is exclusive; a rung that makes guests is taken here,
                reloading the driver is left to whoever has the lease.
            again: a second attempt: the fresh guest stays in the run when it comes back clean; one that is a process
                is made for it, and the others work on meanwhile.
            owner: who asks; holds one lease at a time.
            alive: asked now and then; when it answers no, the request leaves the queue.

        Raises:
            LeaseUnavailable: a profile has too few guests and none is coming; its `why` says why.
            LeaseError: the run is over, or the owner is gone. DeadlineExceeded: nobody gave one back in time.
        """
        if again and self._processes.issuperset(profiles):
            return self._beside_the_others(profiles, owner, alive)
        alone = exclusive or reset is not Reset.NONE
        with self._change:
            ticket = self._model.request(owner, profiles, exclusive=alone, fresh=reset.makes_guest)
            try:
                self._call_back(profiles)
                self._pump()
                while ticket not in self._granted:
                    self._check_waiting(profiles, alive)
                    if self._turns.is_waiting(profiles):
                        deadline = deadline.anew()
                    if deadline.expired:
                        raise deadline.exceeded(f"a guest of {', '.join(profiles)}", last="all are leased or not ready")
                    self._change.wait(min(0.2, deadline.remaining_s))
                grant = self._granted.pop(ticket)
                if not alive():
                    self._replace(self._model.release(ticket, dirty=False), "")
                    raise LeaseError("the worker is gone", why="it died just before its request was granted")
            except LabError:
                self._model.cancel(ticket)
                self._pump()
                raise
        started = time.monotonic()
        if reset.makes_guest:
            self._renew(grant, reset)
        with self._change:
            if again:
                self._second.add(ticket)
            elif reset.makes_guest:
                self._own.add(ticket)
            return self._lease(ticket, time.monotonic() - started if reset.makes_guest else 0.0)

    def release(self, lease: Lease, *, dirty: bool, reason: str, keep: bool = False) -> None:
        """Give a lease back; a dirty guest is replaced.

        Args:
            keep: leave the guests to the user, as soon as nobody else has them.
        """
        self.give_back(lease.id, dirty=dirty, reason=reason, keep=keep)

    def give_back(self, lease_id: int, *, dirty: bool, reason: str, keep: bool = False, owner: str = "") -> None:
        """See `release`.

        Args:
            owner: who gives it back; "" is not checked.

        Raises:
            LeaseExpired: the lease is not that owner's (any more).
        """
        with self._change:
            grant = next((own for own in self._model.leases if own.ticket == lease_id), None)
            if grant is None or owner not in {"", grant.owner}:
                raise LeaseExpired(f"lease {lease_id} does not belong to {owner or 'anybody'}")
            if keep:
                self._wishes.update(dict.fromkeys(grant.guests, reason))
            own = lease_id in self._own
            planned = own or lease_id in self._second
            self._own.discard(lease_id)
            self._second.discard(lease_id)
            if not dirty:
                for name in grant.guests:
                    self._replacements[self._handles[name].profile] = 0
            finished = self._model.release(lease_id, dirty=dirty or keep or own)
            wanted = {name: self._handles[name] for name in finished if name in self._wishes}
            self._replace([name for name in finished if name not in wanted], reason, planned=planned)
            self._pump()
        for handle in wanted.values():
            self._keep(handle, self._wishes.pop(handle.name))

    def worker_ended(self, owner: str) -> None:
        """A worker's conversation is over: whatever it had comes back dirty."""
        with self._change:
            for ticket, grant in tuple(self._granted.items()):
                if grant.owner == owner:
                    del self._granted[ticket]
            self._replace(self._model.drop_owner(owner), f"{owner} died while it held the guest")
            self._pump()

    def explain(self, guest: str, *, operation: str, channel_lost: bool) -> Story:
        """Ask the provider whose fault it is that a case did not end by itself; never raises for a lost guest."""
        try:
            told = self._provider.explain(guest, operation=operation, channel_lost=channel_lost)
        except LabError as error:
            return Story("lab_error", f"{error.message}: {error.why}", {}, "lab_bug")
        return Story.of(told)

    def conclude(self, guest: str, folder: Path) -> Story | None:
        """See `GuestProvider.conclude`."""
        told = self._provider.conclude(guest, folder)
        return Story.of(told) if told is not None else None

    # ---- guests

    def _spawn(self, target: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=target, name=f"broker-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _provide(self, profile: str) -> None:
        self._admit(profile, functools.partial(self._when_there_is_room, profile))

    def _when_there_is_room(self, profile: str) -> GuestHandle:
        """A guest; the first one of a profile waits on a full host until others have left it.

        Guests of other profiles of the run go when no case wants them; for the rest there is `room_s`.

        Raises:
            HostFull: nobody left in time, or nobody is in the way. LabError: see the provider.
        """
        patience = Deadline.after(self._room_s)
        with self._change:
            place = self._turns.enter(profile)

        def provide() -> GuestHandle | NotYet:
            nonlocal patience
            if self._swaps:
                return NotYet("a guest of the run is being replaced")
            place.looks()
            try:
                return self._provider.provide(profile)
            except HostFull as error:
                with self._change:
                    if not self._may_help(profile, error):
                        raise
                    first = place.refused()
                    name = self._turns.through(profile, self._model, self._handles)
                    if name is not None or self._goes_on(profile):
                        patience = patience.anew()
                    if patience.expired:
                        raise
                    handle = self._send_away(name) if name else None
                if first:
                    self._tell(f"{profile} waits for room: {error.message} ({error.why})")
                if handle is not None:
                    self._drop(handle, f"its room is needed for a guest of {profile}")
                return NotYet(error.message)

        try:
            what = f"room for a guest of {profile}"
            return wait_until(provide, Deadline.after(_TURN_S), what=what, tick_s=LOOK_S, growth=1.0)
        finally:
            with self._change:
                self._turns.leave(place)

    def _goes_on(self, profile: str) -> bool:
        """Whether no case asks for the profile, or one of another profile is at work; with the lock held."""
        if not self._model.wanted(profile) or self._turns.is_made(profile, self._coming):
            return True
        names = (name for grant in self._model.leases for name in grant.guests if name in self._handles)
        return any(self._handles[name].profile != profile for name in names)

    def _may_help(self, profile: str, full: HostFull) -> bool:
        """Whether waiting for room makes sense; with the lock held."""
        if self._closed or any(own.profile == profile for own in self._handles.values()):
            return False
        shares = any(handle.profile != profile for handle in self._handles.values())
        return bool(full.evidence.get("in_the_way", shares or self._turns.is_made(profile, self._coming)))

    def _send_away(self, name: str) -> GuestHandle:
        """Take a guest out of the run; with the lock held."""
        self._model.forget(name)
        handle = self._handles.pop(name)
        self._turns.sent_away(handle.profile)
        return handle

    def _call_back(self, profiles: Sequence[str]) -> None:
        """Make guests again that made room for others; with the lock held."""
        there = Counter(handle.profile for handle in self._handles.values())
        for profile, wanted in Counter(profiles).items():
            for _ in range(self._turns.call_back(profile, wanted - there[profile] - self._coming[profile])):
                self._make(profile, functools.partial(self._when_there_is_room, profile), f"back-{profile}")

    def _instead(self, handle: GuestHandle, reason: str, *, boot: bool = False) -> GuestHandle:
        """Another guest in the place of one: nobody who waits for room gets it meanwhile."""
        with self._change:
            self._swaps += 1
        try:
            return self._provider.replace(handle, reason, boot=boot)
        finally:
            with self._change:
                self._swaps -= 1

    def _admit(self, profile: str, make: Callable[[], GuestHandle]) -> None:
        """The body of a guest's thread: make it, offer it; a failure is kept for those who wait for it."""
        try:
            handle = make()
        except LabError as error:
            self._tell(f"no guest of {profile}: {error.message} ({error.why})")
            self._failed(profile, error)
            return
        except Exception as error:  # noqa: BLE001 - a thread top: whatever it is, the waiting cases must be told
            _log.exception("making a guest of %s failed", profile)
            self._failed(profile, LeaseUnavailable(f"making a guest of {profile} failed", why=repr(error)))
            return
        with self._change:
            self._coming[profile] -= 1
            self._handles[handle.name] = handle
            self.seen.append(handle)
            self._model.add_guest(handle.name, profile, limit=handle.shared_leases)
            self._pump()

    def _failed(self, profile: str, error: LabError) -> None:
        with self._change:
            self._coming[profile] -= 1
            # the end of a run is no failure of the guests that were still being made
            if not self._closed:
                self.failures.append(GuestFailure(profile, error))
            self._change.notify_all()

    def _replace(self, names: Sequence[str], reason: str, *, planned: bool = False) -> None:
        """Start the replacement of guests that the model has let go; called with the lock held.

        Args:
            planned: the case had them for itself; they say nothing about others.
        """
        for name in names:
            handle = self._handles.pop(name)
            self._wishes.pop(name, None)
            if self._closed:
                continue
            if name in self._apart:
                self._apart.discard(name)
                self._spawn(functools.partial(self._drop, handle, reason), f"drop-{name}")
                continue
            if not planned and self._replacements[handle.profile] >= self._limit:
                gone = LeaseUnavailable(
                    f"{handle.profile} was replaced {self._limit} times in a row and is given up", why=reason
                )
                self.failures.append(GuestFailure(handle.profile, gone))
                self._spawn(functools.partial(self._drop, handle, reason), f"drop-{name}")
                continue
            self._replacements[handle.profile] += not planned
            make = functools.partial(self._instead, handle, reason)
            self._make(handle.profile, make, f"replace-{name}")

    def _drop(self, handle: GuestHandle, reason: str) -> None:
        """The body of a thread: put away a guest that gets no successor."""
        try:
            self._provider.drop(handle, reason)
        except LabError as error:
            with self._change:
                self.notes.append(error)

    def _make(self, profile: str, make: Callable[[], GuestHandle], name: str) -> None:
        """Make a guest in a thread of its own; called with the lock held."""
        self._coming[profile] += 1
        self._spawn(functools.partial(self._admit, profile, make), name)

    def _keep(self, handle: GuestHandle, why: str) -> None:
        """Leave a guest to the user and make another; one that cannot be kept is replaced as a dirty one is."""
        with self._change:
            self._keeping[handle.profile] += 1
            if self._closed or self._keeping[handle.profile] > KEPT:
                self._replace([handle.name], why)
                return
        try:
            kept = self._provider.keep(handle, why)
        except LabError as error:
            with self._change:
                self.notes.append(error)
                self._replace([handle.name], why)
            return
        with self._change:
            del self._handles[handle.name]
            self.kept.append(kept)
            self._make(handle.profile, functools.partial(self._beside, kept), f"beside-{handle.name}")

    def _beside(self, kept: KeptGuest) -> GuestHandle:
        """A guest in the place of a kept one; where both do not fit, the run needs the room."""
        try:
            return self._provider.provide(kept.profile)
        except HostFull as error:
            with self._change:
                self.kept.remove(kept)
                self.notes.append(HostFull(f"{kept.name} could not be kept", why=error.message, fix=error.fix))
            self._provider.unkeep(kept)
            return self._provider.provide(kept.profile)

    def _renew(self, grant: Grant, reset: Reset) -> None:
        """Put guests that nobody has had in the place of those of an exclusive lease; they are made at once.

        Raises:
            LeaseUnavailable: one could not be made; the lease has been given back.
        """
        for name in grant.guests:
            with self._change:
                handle = self._handles[name]
            boot = reset is Reset.REBUILD
            if name not in grant.used and not (boot and handle.method != "boot"):
                continue
            try:
                made = self._instead(handle, f"a case asked for the reset {reset}", boot=boot)
            except LabError as error:
                why = f"{error.message}: {error.why}"
                self.give_back(grant.ticket, dirty=True, reason=why)
                raise LeaseUnavailable(
                    f"no fresh guest of {handle.profile} could be made", why=why, fix=error.fix
                ) from error
            with self._change:
                self._model.swap(grant.ticket, name, made.name)
                del self._handles[name]
                self._handles[made.name] = made
                self.seen.append(made)

    def _beside_the_others(self, profiles: Sequence[str], owner: str, alive: Callable[[], bool]) -> Lease:
        """A lease on guests that are made for it.

        Raises:
            LeaseUnavailable: one could not be made. LeaseError: the run is over, or the owner is gone.
        """
        started = time.monotonic()
        made: list[GuestHandle] = []
        try:
            for profile in profiles:
                made.append(self._provider.provide(profile))
        except LabError as error:
            for handle in made:
                self._drop(handle, "another guest of its lease could not be made")
            raise LeaseUnavailable(
                f"no fresh guest of {' and '.join(profiles)} could be made",
                why=f"{error.message}: {error.why}",
                fix=error.fix,
            ) from error
        with self._change:
            for handle in made:
                self._handles[handle.name] = handle
                self._apart.add(handle.name)
            self.seen.extend(made)
            grant = self._model.hand(owner, {handle.name: handle.profile for handle in made})
            self._own.add(grant.ticket)
            lease = self._lease(grant.ticket, time.monotonic() - started)
            if not self._closed and alive():
                return lease
        self.give_back(lease.id, dirty=True, reason="nobody wants it any more")
        raise LeaseError("the run is over, or the worker is gone")

    # ---- leases

    def _pump(self) -> None:
        """Grant what can be granted; called with the lock held."""
        for grant in self._model.grant():
            self._granted[grant.ticket] = grant
        self._change.notify_all()

    def _lease(self, ticket: int, reset_s: float) -> Lease:
        grant = next(own for own in self._model.leases if own.ticket == ticket)
        return Lease(
            id=grant.ticket,
            owner=grant.owner,
            guests=tuple(self._handles[name] for name in grant.guests),
            exclusive=grant.exclusive,
            first_port=grant.first_port,
            port_count=PORTS_PER_LEASE,
            loopback=grant.loopback,
            reset_s=round(reset_s, 3),
        )

    def _check_waiting(self, profiles: Sequence[str], alive: Callable[[], bool]) -> None:
        if self._closed:
            raise LeaseError("the run is over", why="the broker was closed while the case waited for a guest")
        if not alive():
            raise LeaseError("the worker is gone")
        there = Counter(handle.profile for handle in self._handles.values())
        for profile, wanted in Counter(profiles).items():
            if profile not in self._profiles:
                raise LeaseUnavailable(f"the run has no guests of profile {profile}")
            possible = there[profile] + self._coming[profile]
            if possible < wanted:
                failure = next((one for one in reversed(self.failures) if one.profile == profile), None)
                raise LeaseUnavailable(
                    f"no guest of profile {profile} is left"
                    if not possible
                    else f"the case wants {wanted} guests of {profile}, there are {possible}",
                    why=f"{failure.error.message}: {failure.error.why}" if failure else "",
                    fix=failure.error.fix if failure else f"--guests-each {wanted}",
                )
