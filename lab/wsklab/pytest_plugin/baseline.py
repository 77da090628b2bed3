"""What is known to be different on a guest profile: the file that its `guest.toml` names as its baseline."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wsklab.errors import ProfileError
from wsklab.rules import Catalogue
from wsklab.verdict import Gap

__all__ = ["Baseline", "LeftOut", "load_baseline"]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Cases that are not run on a guest profile, by a glob over their names: they would hang or raise there."""

    case: str
    reason: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known to be different on a guest profile."""

    gaps: tuple[Gap, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def why_not(self, case: str) -> str:
        """Why a case is not run; "" when it is."""
        return next((one.reason for one in self.left_out if fnmatch.fnmatchcase(case, one.case)), "")


def load_baseline(path: Path | None, catalogue: Catalogue) -> Baseline:
    """The known deviations of a guest profile.

    The file holds tables `[[gap]]` with `rule`, `reason` and `observed`, a table from the name of an assertion
    (or a glob over names) to the exact observation; and tables `[[not_run]]` with `case`, a glob over the names of
    cases (`test_close.py::test_close_from_*`), and `reason`.

    Raises:
        ProfileError: no TOML, a missing or unknown key. UsageError: an unknown rule.
    """
    if path is None or not path.is_file():
        return Baseline()
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{path} is no TOML", why=str(error), evidence={"file": str(path)}) from error
    _check_keys(path, "table", document, {"gap", "not_run"}, needed=set())
    gaps: list[Gap] = []
    for number, entry in enumerate(document.get("gap", ()), 1):
        _check_keys(path, f"gap {number}", entry, {"rule", "reason", "observed"})
        gaps.append(
            Gap(
                rule=catalogue.get(entry["rule"]).id,
                reason=str(entry["reason"]),
                observed={str(name): str(seen) for name, seen in entry["observed"].items()},
            )
        )
    left_out: list[LeftOut] = []
    for number, entry in enumerate(document.get("not_run", ()), 1):
        _check_keys(path, f"not_run {number}", entry, {"case", "reason"})
        left_out.append(LeftOut(case=str(entry["case"]), reason=str(entry["reason"])))
    return Baseline(tuple(gaps), tuple(left_out))


def _check_keys(
    path: Path, what: str, entry: Mapping[str, object], known: set[str], *, needed: set[str] | None = None
) -> None:
    wrong = (set(entry) - known) | ((known if needed is None else needed) - set(entry))
    if wrong:
        raise ProfileError(
            f"{path}: {what} has a missing or unknown key",
            why=", ".join(sorted(wrong)),
            fix=f"it has exactly: {', '.join(sorted(known))}",
            evidence={"file": str(path), "key": sorted(wrong)[0]},
        )
