"""How long guests took to become ready, so that a progress line can say what to expect."""

from __future__ import annotations

import contextlib
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from wsklab.home import write_text

__all__ = ["ReadyTimes"]

_KEPT = 9


@dataclass(frozen=True, slots=True)
class ReadyTimes:
    """The last times of each profile, apart for fresh boots and for whatever the lab chose, in the home's cache.

    Attributes:
        path: the file. It may be deleted at any time, and two writers at once may lose a figure of one of them.
    """

    path: Path

    def add(self, profile: str, seconds: float, *, fresh: bool) -> None:
        """Remember one guest."""
        times = self._read()
        key = _key(profile, fresh)
        times[key] = [*times.get(key, []), round(seconds, 2)][-_KEPT:]
        with contextlib.suppress(OSError):  # a cache that cannot be written costs nothing but the estimate
            write_text(self.path, json.dumps(times))

    def expected_s(self, profile: str, *, fresh: bool) -> float | None:
        """The median of what is remembered, in seconds; None when there is nothing."""
        times = self._read().get(_key(profile, fresh))
        return statistics.median(times) if times else None

    def _read(self) -> dict[str, list[float]]:
        try:
            document = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        if not isinstance(document, dict):
            return {}
        return {
            str(key): [float(value) for value in values if isinstance(value, int | float)]
            for key, values in document.items()
            if isinstance(values, list)
        }


def _key(profile: str, fresh: bool) -> str:
    return f"{profile} {'fresh' if fresh else 'chosen'}"
