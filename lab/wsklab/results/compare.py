"""Two columns of results side by side: between runs, between guests, between builds of the driver.

A column is one sort of guest in one run. `RUN` names all columns of a run, `RUN:PROFILE` one profile's,
`RUN:PROFILE@DRIVER` that profile with the driver whose digest begins so. Two whole runs are compared profile by
profile; two single columns whatever they are, and their kinds are told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from wsklab.errors import UsageError
from wsklab.results.model import CaseResult, RuleRow, RunDocument
from wsklab.results.store import Run
from wsklab.rules import AssertionClass
from wsklab.verdict import FINDINGS, RuleVerdict

__all__ = ["Column", "Comparison", "RuleChange", "ValueChange", "compare", "parse_side"]


@dataclass(frozen=True, slots=True)
class Side:
    """What a user wrote: a run, and the columns of it that are meant."""

    run_id: str
    profile: str = ""
    driver: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One sort of guest in one run."""

    run_id: str
    profile: str
    kind: str
    build: str
    driver_sha256: str

    @property
    def title(self) -> str:
        """In one line."""
        driver = f", driver {self.driver_sha256[:8]}" if self.driver_sha256 else ""
        return f"{self.run_id} {self.profile} ({self.kind}, {self.build}{driver})"


@dataclass(frozen=True, slots=True)
class RuleChange:
    """A rule whose verdicts differ; None where a column does not have the rule."""

    rule: str
    a: RuleVerdict | None
    b: RuleVerdict | None
    why: tuple[str, ...] = ()

    @property
    def is_regression(self) -> bool:
        """Whether the second column has a finding that the first has not."""
        return self.b in FINDINGS and self.a not in FINDINGS


@dataclass(frozen=True, slots=True)
class ValueChange:
    """Something that was written down, and differs; "" where a column does not have it."""

    rule: str
    name: str
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two columns: what differs between them. `same` counts the rules with one verdict."""

    a: Column
    b: Column
    same: int
    rules: tuple[RuleChange, ...] = ()
    values: tuple[ValueChange, ...] = field(default=())

    @property
    def regressions(self) -> tuple[RuleChange, ...]:
        """Findings of the second column that the first has not."""
        return tuple(change for change in self.rules if change.is_regression)


def parse_side(text: str) -> Side:
    """`RUN`, `RUN:PROFILE` or `RUN:PROFILE@DRIVER`.

    Raises:
        UsageError: something else.
    """
    run_id, colon, rest = text.partition(":")
    profile, at, driver = rest.partition("@")
    if not run_id or (colon and not profile) or (at and not driver):
        raise UsageError(
            f"not a run or a guest of one: {text!r}",
            why="wanted RUN, RUN:PROFILE or RUN:PROFILE@DRIVER",
            fix="`wsklab results list` shows the runs and their guests",
        )
    return Side(run_id, profile, driver)


def compare(first: Run, second: Run, a: Side, b: Side) -> tuple[Comparison, ...]:
    """The columns that the sides mean, in pairs.

    Raises:
        UsageError: a side means no column, several where one is wanted, or the runs have no profile in common.
    """
    left, right = _columns(first.document, a), _columns(second.document, b)
    if a.profile or b.profile or len(left) == len(right) == 1:
        pairs = [(_single(left, a), _single(right, b))]
    else:
        by_profile = {column.profile: column for column in right}
        pairs = [(column, by_profile[column.profile]) for column in left if column.profile in by_profile]
    if not pairs:
        raise UsageError(
            f"runs {a.run_id} and {b.run_id} have no guest profile in common",
            why=f"{', '.join(c.profile for c in left)} against {', '.join(c.profile for c in right)}",
            fix="name the guests: results compare RUN:PROFILE RUN:PROFILE",
        )
    return tuple(_compare(first, one, second, other) for one, other in pairs)


def _columns(document: RunDocument, side: Side) -> list[Column]:
    rows = [
        row
        for row in document.results
        if side.profile in {"", row.profile} and row.driver_sha256.startswith(side.driver)
    ]
    found = list(dict.fromkeys((row.profile, row.kind, row.build, row.driver_sha256) for row in rows))
    return [Column(document.run_id, *parts) for parts in found]


def _single(columns: Sequence[Column], side: Side) -> Column:
    if len(columns) == 1:
        return columns[0]
    wanted = ":".join(filter(None, (side.run_id, side.profile))) + (f"@{side.driver}" if side.driver else "")
    raise UsageError(
        f"{wanted} means {len(columns)} sorts of guests, one is wanted",
        why="; ".join(column.title for column in columns) or "the run has no results of such a guest",
        fix="name profile and driver: RUN:PROFILE@DRIVER",
    )


def _compare(first: Run, a: Column, second: Run, b: Column) -> Comparison:
    left, right = _rows(first.document, a), _rows(second.document, b)
    order = list(dict.fromkeys((*left, *right)))
    changes: list[RuleChange] = []
    for rule in order:
        one, other = left.get(rule), right.get(rule)
        if one is None or other is None or one.verdict is not other.verdict:
            why = tuple(dict.fromkeys((*(one.notes if one else ()), *(other.notes if other else ()))))
            changes.append(RuleChange(rule, one.verdict if one else None, other.verdict if other else None, why))
    before, after = _values(first.cases, a), _values(second.cases, b)
    names = dict.fromkeys((*before, *after))
    values = tuple(
        ValueChange(*key, before.get(key, ""), after.get(key, ""))
        for key in names
        if before.get(key, "") != after.get(key, "")
    )
    return Comparison(a=a, b=b, same=len(order) - len(changes), rules=tuple(changes), values=values)


def _rows(document: RunDocument, column: Column) -> dict[str, RuleRow]:
    return {
        row.rule: row
        for row in document.results
        if (row.profile, row.build, row.driver_sha256) == (column.profile, column.build, column.driver_sha256)
    }


def _values(cases: Sequence[CaseResult], column: Column) -> dict[tuple[str, str], str]:
    """What was written down, by rule and name; several cases may write the same name."""
    found: dict[tuple[str, str], set[str]] = {}
    for case in cases:
        if (case.profile, case.driver_sha256) != (column.profile, column.driver_sha256):
            continue
        for result in case.rules:
            for said in result.assertions:
                if said.kind is AssertionClass.RECORD:
                    found.setdefault((result.rule, said.name), set()).add(said.observed)
    return {key: " / ".join(sorted(seen)) for key, seen in found.items()}
