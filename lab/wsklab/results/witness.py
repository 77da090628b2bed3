"""What real runs showed of each rule, kept as data in the catalogue: who has seen it hold, and where Wine surprised.

`witnesses.toml` has a verdict per rule and guest profile, from one run of each profile. A guest is a *witness* of a
rule that passed there. The page `docs/conformance.md` is made from the same data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from wsklab.artifacts import visible, write_atomic
from wsklab.errors import UsageError
from wsklab.results.model import CaseResult, RunDocument
from wsklab.results.store import load_run
from wsklab.rules import Catalogue, Platform, Rule, Witnesses, load_catalogue, load_witnesses, witnesses_file
from wsklab.verdict import DECIDED, RuleVerdict

__all__ = ["as_toml", "conformance_page", "differs_from_prediction", "keep_witnesses", "with_run"]

#: Verdicts that are worth keeping: the others say that nobody looked.
_KEPT = frozenset(str(verdict) for verdict in DECIDED) | {"vacuous", "not_run"}

#: What Wine's source had led to expect, and the verdicts that agree with it; `mixed` and `record` predict nothing.
_AGREES: Mapping[str, frozenset[str]] = {
    "pass": frozenset({"passed", "recorded", "deviation"}),
    "gap": frozenset({"gap", "not_run"}),
    "vacuous": frozenset({"vacuous"}),
}


def with_run(known: Witnesses, document: RunDocument, cases: Iterable[CaseResult] = ()) -> Witnesses:
    """What is known, with the verdicts of a run in place of older ones of its profiles.

    A run that looked at some rules only replaces what is known of those.

    Args:
        cases: those of the run: they tell which part of a rule with a gap holds.
    """
    platforms = dict(known.platforms)
    verdicts = {rule: dict(seen) for rule, seen in known.verdicts.items()}
    parts = {rule: dict(seen) for rule, seen in known.parts.items()}
    held = _held(cases)
    for row in document.results:
        if row.verdict not in _KEPT:
            continue
        platforms[row.profile] = Platform.model_validate(
            {"kind": row.kind, "build": row.build, "run": document.run_id, "started": document.started}
        )
        verdicts.setdefault(row.rule, {})[row.profile] = str(row.verdict)
        parts.get(row.rule, {}).pop(row.profile, None)
        seen = held.get((row.rule, row.profile), [])
        if row.verdict == RuleVerdict.GAP and any(seen):
            parts.setdefault(row.rule, {})[row.profile] = f"{sum(seen)} of {len(seen)}"
    return Witnesses(platforms=platforms, verdicts=verdicts, parts={rule: own for rule, own in parts.items() if own})


def _held(cases: Iterable[CaseResult]) -> dict[tuple[str, str], list[bool]]:
    """Of each rule on each profile: whether it held, case by case, in those that looked at it."""
    found: dict[tuple[str, str], list[bool]] = {}
    for case in cases:
        for result in case.rules:
            if result.verdict in DECIDED:
                found.setdefault((result.rule, case.profile), []).append(result.verdict == RuleVerdict.PASSED)
    return found


def as_toml(known: Witnesses) -> str:
    """The file, one line per rule."""
    lines = ["# What real runs showed, by guest profile. Written by `wsklab results witness`, not by hand."]
    for name, platform in sorted(known.platforms.items()):
        lines += ["", f"[platforms.{name}]"]
        lines += [f'{key} = "{visible(str(value), 100)}"' for key, value in platform.model_dump().items()]
    for table, rules in (("verdicts", known.verdicts), ("parts", known.parts)):
        lines += ["", f"[{table}]"]
        for rule, seen in sorted(rules.items()):
            lines.append(f"{rule} = {{ " + ", ".join(f'{name} = "{seen[name]}"' for name in sorted(seen)) + " }")
    return "\n".join(lines) + "\n"


def keep_witnesses(root: Path, run_ids: Iterable[str], page: Path | None = None) -> dict[str, list[str]]:
    """Keep what runs showed, and write the page; returns the witnesses of every rule that has one.

    Args:
        root: the folder of all runs.

    Raises:
        UsageError: a run is not there, or the catalogue cannot be written (an installed wheel).
    """
    known = load_witnesses()
    for run_id in run_ids:
        run = load_run(root, run_id)
        known = with_run(known, run.document, run.cases)
    try:
        write_atomic(witnesses_file(), as_toml(known))
    except OSError as error:
        raise UsageError("the catalogue cannot be written", why=str(error), fix="do this in a checkout") from error
    catalogue = load_catalogue()
    if page is not None:
        write_atomic(page, conformance_page(catalogue, known))
    return {rule.id: sorted(rule.witnesses) for rule in catalogue if rule.witnesses}


def differs_from_prediction(rule: Rule, witnesses: Witnesses) -> dict[str, str]:
    """The verdicts of Wine guests that a reading of Wine's source had not led to expect, by profile."""
    agrees = _AGREES.get(rule.wine)
    return {
        name: verdict
        for name, verdict in rule.observed.items()
        if agrees is not None and witnesses.platforms[name].kind == "wine" and verdict not in agrees
    }


def conformance_page(catalogue: Catalogue, witnesses: Witnesses) -> str:
    """`docs/conformance.md`."""
    names = sorted(witnesses.platforms)
    lines = [
        "# Rules and their witnesses",
        "",
        "Made by `wsklab results witness`; a test compares this page with the data. A guest on which a rule passed",
        "is a witness of it. Kinds are never added up: a pass on `shim` is about the driver's logic, one on `wine`",
        "about Wine's WSK. A rule without a witness of kind `windows` is `disputed` at its first failure there: see",
        "[verdicts](verdicts.md).",
        "",
        "| profile | kind | build | run |",
        "|---|---|---|---|",
    ]
    for name in names:
        platform = witnesses.platforms[name]
        lines.append(f"| {name} | {platform.kind} | {platform.build} | {platform.run} of {platform.started[:10]} |")
    lines += ["", "## Where Wine differs from what its source had led to expect", ""]
    lines += ["| rule | | predicted | " + " | ".join(_of_kind(witnesses, "wine")) + " |"]
    lines += ["|---|---|---|" + "---|" * len(_of_kind(witnesses, "wine"))]
    for rule in catalogue:
        if differs_from_prediction(rule, witnesses):
            seen = " | ".join(rule.observed.get(name, "") for name in _of_kind(witnesses, "wine"))
            lines.append(f"| {rule.id} | {rule.title} | {rule.wine} | {seen} |")
    lines += ["", "What lies behind them: [Wine](wine.md).", "", "## All rules", ""]
    lines += [
        "The verdict of a rule is the worst of its cases. Where a guest has a gap in a part of a rule only, the number",
        "of cases that hold there all the same stands beside it: that part is decided.",
        "",
    ]
    lines += ["| rule | | witnesses | " + " | ".join(names) + " |", "|---|---|---|" + "---|" * len(names)]
    lines += [_row(rule, names, witnesses.parts.get(rule.id, {})) for rule in catalogue]
    return "\n".join(lines) + "\n"


def _of_kind(witnesses: Witnesses, kind: str) -> list[str]:
    return sorted(name for name, platform in witnesses.platforms.items() if platform.kind == kind)


def _row(rule: Rule, names: Iterable[str], parts: Mapping[str, str]) -> str:
    notes = {name: f", {part} cases hold" for name, part in parts.items()}
    seen = " | ".join(rule.observed.get(name, "") + notes.get(name, "") for name in names)
    core = " *" if rule.core else ""
    return f"| {rule.id}{core} | {rule.title} | {', '.join(sorted(rule.witnesses))} | {seen} |"
