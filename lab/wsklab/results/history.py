"""How long cases took in earlier runs of this home: what the order of the next run is made from.

One file of the home's cache. It may be deleted at any time, and a damaged one is as good as none.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path

from wsklab.artifacts import write_atomic
from wsklab.results.model import CaseResult
from wsklab.verdict import CaseVerdict

__all__ = ["History"]

#: How many durations of a case are remembered.
_KEPT = 5
#: How many cases of a profile are remembered.
_CASES = 5000
#: What a case is taken for when nothing at all is known, in seconds.
_UNKNOWN_S = 1.0
#: Verdicts of cases that ran to their end.
_COUNTS = frozenset({CaseVerdict.PASSED, CaseVerdict.FAILED})


class History:
    """Durations of cases by profile.

    Args:
        seconds: profile -> case -> the latest durations in seconds, the newest last.
    """

    def __init__(self, seconds: Mapping[str, Mapping[str, list[float]]] | None = None) -> None:
        self._seconds = {profile: dict(cases) for profile, cases in (seconds or {}).items()}

    @classmethod
    def load(cls, path: Path | None) -> History:
        """Read the file; empty when there is none."""
        if path is None:
            return cls()
        try:
            document = json.loads(path.read_text("utf-8"))
            return cls(
                {
                    str(profile): {str(case): [float(value) for value in values] for case, values in cases.items()}
                    for profile, cases in document["seconds"].items()
                }
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls()

    def expected_s(self, profile: str, case: str) -> float:
        """The median of a case's durations; else what it took on other profiles; else that of all known cases.

        One yardstick for all profiles: two of which only one has a past would otherwise not be comparable.
        """
        own = self._seconds.get(profile, {}).get(case)
        if own:
            return statistics.median(own)
        elsewhere = [statistics.median(cases[case]) for cases in self._seconds.values() if cases.get(case)]
        if elsewhere:
            return statistics.median(elsewhere)
        known = [statistics.median(values) for cases in self._seconds.values() for values in cases.values() if values]
        return statistics.median(known) if known else _UNKNOWN_S

    def add(self, cases: Iterable[CaseResult]) -> None:
        """Take in a run."""
        for case in cases:
            if case.verdict in _COUNTS:
                own = self._seconds.setdefault(case.profile, {})
                # taken out first, so that the cases that were seen last are last
                own[case.case] = [*own.pop(case.case, []), case.seconds][-_KEPT:]

    def save(self, path: Path) -> None:
        """Write the file; the cases that were not seen for longest go when there are too many."""
        seconds = {profile: dict(list(cases.items())[-_CASES:]) for profile, cases in self._seconds.items()}
        write_atomic(path, json.dumps({"schema": 1, "seconds": seconds}, separators=(",", ":")) + "\n")
