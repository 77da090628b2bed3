"""Profiles of one run that do not all fit on the host have turns: who is through makes room for who waits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping

from wsklab.lease_protocol import GuestHandle
from wsklab.pytest_plugin.lease_model import LeaseModel

__all__ = ["LOOK_S", "Place", "Turns"]

#: How often a profile that waits looks for room, in seconds.
LOOK_S = 0.5
#: Who looks for room is told in less than this that there is none, in seconds.
_FOUND_S = 2.0
#: So many looks at which nobody had or wanted a guest, and its turn is over: between two cases it is free for less.
_LOOKS = 4


class Place:
    """Somebody who wants a guest of a profile, until there is one.

    Args:
        profile: which.
    """

    def __init__(self, profile: str) -> None:
        self.profile = profile
        self._refused = False
        self._since: float | None = None

    def looks(self) -> None:
        """Room is looked for; the answer is `refused`, or a guest after a while."""
        self._since = time.monotonic()

    def refused(self) -> bool:
        """There is none; whether that is the first time."""
        self._since = None
        first, self._refused = not self._refused, True
        return first

    @property
    def waits(self) -> bool:
        """Whether there was no room, and has not been any since: a guest in the making has found its room."""
        return self._refused and (self._since is None or time.monotonic() - self._since < _FOUND_S)


class Turns:
    """Who waits for room, and who has made room. Not thread-safe: the broker guards it with its lock."""

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._away: Counter[str] = Counter()
        #: by who looks: at how many looks in a row a guest was of no use
        self._unused: dict[str, Counter[str]] = {}

    def enter(self, profile: str) -> Place:
        """Somebody begins to want a guest."""
        place = Place(profile)
        self._places.append(place)
        return place

    def leave(self, place: Place) -> None:
        """There is one, or none will be."""
        self._places.remove(place)

    def is_waiting(self, profiles: Collection[str]) -> bool:
        """Whether one of them has no guest because it is not its turn."""
        return any(place.waits and place.profile in profiles for place in self._places)

    def is_made(self, profile: str, coming: Mapping[str, int]) -> bool:
        """Whether a guest of another profile is being made, one that does not wait as well.

        Args:
            coming: how many are on their way, by profile.
        """
        waiting = Counter(place.profile for place in self._places if place.waits)
        return any(count > waiting[other] for other, count in coming.items() if other != profile)

    def through(self, profile: str, model: LeaseModel, handles: Mapping[str, GuestHandle]) -> str | None:
        """A guest of another profile that has had its turn; to be called every `LOOK_S` by who waits.

        Returns:
            its name; "" while that has to be seen at a few more looks; None while no guest is free that could go, or
            no case asks for `profile`.
        """
        leased = {name for grant in model.leases for name in grant.guests}
        unused = [
            name
            for name, handle in handles.items()
            if name not in leased
            and handle.profile != profile
            and not model.wanted(handle.profile)
            and not handle.static  # a machine of its own, or a process: its room is not what is missing
            and handle.kind != "shim"
        ]
        before = self._unused.get(profile, Counter())
        looks = self._unused[profile] = Counter({name: before[name] + 1 for name in unused})
        if not unused or not model.wanted(profile):
            return None
        return next((name for name in unused if looks[name] >= _LOOKS), "")

    def sent_away(self, profile: str) -> None:
        """A guest of that profile has made room."""
        self._away[profile] += 1

    def call_back(self, profile: str, missing: int) -> int:
        """How many of the guests that made room are to be made again, for a case that lacks so many."""
        count = max(min(missing, self._away[profile]), 0)
        self._away[profile] -= count
        return count
