"""Who holds which guest, who waits: the broker's state without threads, sockets or guests.

Rules. A request names all its profiles at once, one of them several times if it wants several such guests, and is
granted whole or not at all, so no two owners can wait for each other. Requests are served in order of arrival per
profile: a request that cannot be granted stops later ones for the same profiles, so an exclusive request waits only
for the shared leases that are out. Between two leases an owner has no claim, only a preference for the guest that it
knows, and that counts for nothing when another guest is less busy. A dirty guest gets no new lease and is handed
out for replacement when its last lease has come back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from wsklab.errors import LeaseError

__all__ = ["Grant", "LeaseModel"]

#: Ports of leases: below the ephemeral ranges of Linux (32768) and Windows (49152), above the usual services.
FIRST_PORT = 10240
PORTS_PER_LEASE = 32
PORT_BLOCKS = 688


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A request that was granted just now.

    Attributes:
        ticket: never repeats.
        guests: in the order of the request's profiles.
        used: those of them that somebody has had before.
        block: the lease's own port block.
    """

    ticket: int
    owner: str
    guests: tuple[str, ...]
    exclusive: bool
    block: int
    used: tuple[str, ...] = ()

    @property
    def first_port(self) -> int:
        """The first port of the block."""
        return FIRST_PORT + self.block * PORTS_PER_LEASE

    @property
    def loopback(self) -> str:
        """127.x.y.1: 127.0.0.x is left to the guest's own services."""
        return f"127.{1 + self.block // 250}.{1 + self.block % 250}.1"


@dataclass(slots=True)
class _Guest:
    profile: str
    limit: int
    holders: set[int] = field(default_factory=set)
    exclusive: bool = False
    dirty: bool = False
    used: bool = False


@dataclass(slots=True)
class _Request:
    ticket: int
    owner: str
    profiles: tuple[str, ...]
    exclusive: bool
    fresh: bool


class LeaseModel:
    """The state. Not thread-safe: the broker guards it with one lock."""

    def __init__(self) -> None:
        self._guests: dict[str, _Guest] = {}
        self._waiting: list[_Request] = []
        self._out: dict[int, Grant] = {}
        #: the guests that an owner knows, the latest last
        self._known: dict[str, list[str]] = {}
        self._next = 1

    @property
    def leases(self) -> tuple[Grant, ...]:
        """The leases that are out."""
        return tuple(self._out.values())

    @property
    def waiting(self) -> tuple[int, ...]:
        """The tickets that wait, the oldest first."""
        return tuple(request.ticket for request in self._waiting)

    def guests(self, profile: str) -> tuple[str, ...]:
        """The clean guests of a profile."""
        return tuple(name for name, guest in self._guests.items() if guest.profile == profile and not guest.dirty)

    def wanted(self, profile: str) -> int:
        """How many requests wait for a guest of a profile."""
        return sum(profile in request.profiles for request in self._waiting)

    def add_guest(self, name: str, profile: str, *, limit: int = 4) -> None:
        """A guest is ready; `limit` is how many shared leases it carries at the same time."""
        if name in self._guests:
            raise LeaseError(f"guest {name} was offered twice")
        self._guests[name] = _Guest(profile, limit)

    def request(self, owner: str, profiles: Sequence[str], *, exclusive: bool, fresh: bool = False) -> int:
        """Queue up; returns the ticket. An owner holds or waits for one lease at a time.

        Args:
            fresh: a guest that nobody has had is preferred; whether it is one, the grant says.
        """
        ticket = self._ticket(owner, profiles)
        self._waiting.append(_Request(ticket, owner, tuple(profiles), exclusive, fresh))
        return ticket

    def hand(self, owner: str, guests: Mapping[str, str]) -> Grant:
        """An exclusive lease on guests that were made for it; it waits for nobody, and nobody for it.

        Args:
            guests: names that the model does not know, and their profiles.
        """
        ticket = self._ticket(owner, guests)
        for name, profile in guests.items():
            self.add_guest(name, profile, limit=1)
        return self._grant(_Request(ticket, owner, tuple(guests.values()), exclusive=True, fresh=True), tuple(guests))

    def _ticket(self, owner: str, what: Collection[str]) -> int:
        if not what:
            raise LeaseError("a request names at least one profile")
        if any(grant.owner == owner for grant in self.leases) or any(own.owner == owner for own in self._waiting):
            raise LeaseError(
                f"{owner} asked for a second lease",
                why="an owner that waits while it holds could block another for ever",
                fix="name all guests of a case in one request",
            )
        ticket = self._next
        self._next += 1
        return ticket

    def cancel(self, ticket: int) -> None:
        """Leave the queue; no error when the ticket is not in it."""
        self._waiting = [request for request in self._waiting if request.ticket != ticket]

    def grant(self) -> tuple[Grant, ...]:
        """Grant every request that can be granted now, in order of arrival."""
        granted: list[Grant] = []
        blocked: set[str] = set()
        for request in tuple(self._waiting):
            chosen = None if blocked.intersection(request.profiles) else self._choose(request)
            if chosen is None:
                blocked.update(request.profiles)
                continue
            granted.append(self._grant(request, chosen))
            self._waiting.remove(request)
        return tuple(granted)

    def _grant(self, request: _Request, chosen: tuple[str, ...]) -> Grant:
        grant = Grant(
            ticket=request.ticket,
            owner=request.owner,
            guests=chosen,
            exclusive=request.exclusive,
            block=self._free_block(request.ticket),
            used=tuple(name for name in chosen if self._guests[name].used),
        )
        for name in chosen:
            guest = self._guests[name]
            guest.holders.add(grant.ticket)
            guest.exclusive = request.exclusive
            guest.used = True
            self._remember(request.owner, name)
        self._out[grant.ticket] = grant
        return grant

    def swap(self, ticket: int, old: str, new: str) -> None:
        """Put a new guest in the place of one that an exclusive lease has; the old one is forgotten.

        Raises:
            LeaseError: the lease is not out, is shared, or does not have that guest.
        """
        grant = self._out.get(ticket)
        if grant is None or not grant.exclusive or old not in grant.guests or new in self._guests:
            raise LeaseError(f"lease {ticket} cannot take {new} for {old}")
        guest = self._guests.pop(old)
        self._guests[new] = guest
        self._remember(grant.owner, new)
        names = tuple(new if name == old else name for name in grant.guests)
        self._out[ticket] = replace(grant, guests=names, used=tuple(name for name in grant.used if name != old))

    def forget(self, name: str) -> None:
        """A guest is gone; the leases that have it come back without it."""
        guest = self._guests.pop(name, None)
        for ticket in guest.holders if guest else ():
            grant = self._out[ticket]
            self._out[ticket] = replace(grant, guests=tuple(own for own in grant.guests if own != name))

    def release(self, ticket: int, *, dirty: bool) -> tuple[str, ...]:
        """A lease comes back; returns the guests that are to be replaced now (the model has forgotten them)."""
        grant = self._out.pop(ticket, None)
        if grant is None:
            raise LeaseError(f"lease {ticket} is not out")
        finished: list[str] = []
        for name in grant.guests:
            guest = self._guests[name]
            guest.holders.discard(ticket)
            guest.dirty = guest.dirty or dirty
            if guest.holders:
                continue
            guest.exclusive = False
            if guest.dirty:
                del self._guests[name]
                finished.append(name)
        return tuple(finished)

    def drop_owner(self, owner: str) -> tuple[str, ...]:
        """An owner died: its leases come back dirty, its requests leave the queue."""
        self._known.pop(owner, None)
        self._waiting = [request for request in self._waiting if request.owner != owner]
        finished: list[str] = []
        for grant in self.leases:
            if grant.owner == owner:
                finished.extend(self.release(grant.ticket, dirty=True))
        return tuple(finished)

    def _choose(self, request: _Request) -> tuple[str, ...] | None:
        chosen: list[str] = []
        for profile in request.profiles:
            free = [
                name
                for name, guest in self._guests.items()
                if guest.profile == profile and name not in chosen and self._has_room(guest, request)
            ]
            if not free:
                return None
            chosen.append(min(free, key=lambda name: self._cost(request, name)))
        return tuple(chosen)

    def _cost(self, request: _Request, name: str) -> tuple[bool, int, int]:
        """What speaks against a guest: a fresh one is wanted, it is busy, the owner does not know it."""
        known = self._known.get(request.owner, [])
        age = len(known) - known.index(name) if name in known else len(known) + 1
        guest = self._guests[name]
        return request.fresh and guest.used, len(guest.holders), age

    def _remember(self, owner: str, name: str) -> None:
        known = [own for own in self._known.get(owner, []) if own in self._guests and own != name]
        self._known[owner] = [*known, name]

    def _has_room(self, guest: _Guest, request: _Request) -> bool:
        if guest.dirty or guest.exclusive:
            return False
        return not guest.holders if request.exclusive else len(guest.holders) < guest.limit

    def _free_block(self, ticket: int) -> int:
        """The port block of a lease: they go round, so that a port rests before it is used again."""
        taken = {grant.block for grant in self.leases}
        return next(block for step in range(PORT_BLOCKS) if (block := (ticket - 1 + step) % PORT_BLOCKS) not in taken)
