"""Profiles of one run that do not all fit on the host have turns: who is through makes room for who waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from wsklab.lease_protocol import GuestHandle
from wsklab.pytest_plugin.lease_model import LeaseModel

__all__ = ["LOOK_S", "Turns"]

#: How often a profile that waits looks for room, in seconds.
LOOK_S = 0.5
#: So many looks at which nobody had or wanted a guest, and its turn is over: between two cases it is free for less.
_LOOKS = 4


class Turns:
    """Who waits for room, and who has made room. Not thread-safe: the broker guards it with its lock."""

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()
        self._away: Counter[str] = Counter()
        #: by who looks: at how many looks in a row a guest was of no use
        self._unused: dict[str, Counter[str]] = {}

    def begin(self, profile: str) -> None:
        """A guest of the profile waits for room."""
        self._waiting[profile] += 1

    def end(self, profile: str) -> None:
        """It waits no longer."""
        self._waiting[profile] -= 1

    def is_waiting(self, profiles: Collection[str]) -> bool:
        """Whether one of them has no guest because it is not its turn."""
        return any(self._waiting[profile] for profile in profiles)

    def is_made(self, profile: str, coming: Mapping[str, int]) -> bool:
        """Whether a guest of another profile is being made, one that does not wait as well.

        Args:
            coming: how many are on their way, by profile.
        """
        return any(count > self._waiting[other] for other, count in coming.items() if other != profile)

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
            if name not in leased and handle.profile != profile and not model.wanted(handle.profile)
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
