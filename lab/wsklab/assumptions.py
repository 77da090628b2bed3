"""What the lab takes for granted about Windows, and what a host has seen of it.

Words for observations: `installed` and `installed:<uefi|bios|evaluation|profile>` (an image exists, so it was read
back), `ran` (a result on a guest of kind windows that the lab itself ran), `verifier:<mode>` (such a result under
Driver Verifier), `forked` (such a result where a guest was a fork), `kit` (a result that the kit brought back), and
`<end>:<stage>` for installations that failed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from wsklab.resources import images_root

__all__ = ["Assumption", "Judged", "judge", "load_assumptions"]

Verdict = Literal["open", "shown", "doubted", "disputed"]

#: By whether something shows it, and whether something speaks against it.
_VERDICTS: Final[dict[tuple[bool, bool], Verdict]] = {
    (False, False): "open",
    (True, False): "shown",
    (False, True): "doubted",
    (True, True): "disputed",
}


class Assumption(BaseModel):
    """One fact of the sheet that code depends on.

    Attributes:
        name: stable, for reports.
        sheet: its section in the sheet of facts.
        says: the fact.
        used_by: the file that depends on it most.
        shown_by, against: observations.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    sheet: Annotated[str, Field(pattern=r"^[a-h](\.\d+)?$")]
    says: str
    used_by: str
    shown_by: tuple[str, ...]
    against: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """An assumption, and what was seen of it."""

    assumption: Assumption
    verdict: Verdict
    seen: tuple[str, ...]


def load_assumptions() -> Sequence[Assumption]:
    """All of them, in the sheet's order."""
    file = images_root() / "common" / "windows" / "assumptions.toml"
    document = tomllib.loads(file.read_text(encoding="utf-8"))
    return [Assumption.model_validate(entry) for entry in document["assumption"]]


def judge(assumptions: Sequence[Assumption], observations: Collection[str]) -> Sequence[Judged]:
    """What the observations say of each."""
    judged = []
    for assumption in assumptions:
        shown = tuple(word for word in assumption.shown_by if word in observations)
        against = tuple(word for word in assumption.against if word in observations)
        judged.append(Judged(assumption, _VERDICTS[bool(shown), bool(against)], (*shown, *against)))
    return judged
