"""From the lines of a run to its document: a verdict for every selected rule on every guest profile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from wsklab.lease_protocol import KeptGuest, Reset
from wsklab.results.model import CaseResult, CrashRow, GuestResult, ResetRow, RuleResult, RuleRow, RunDocument, TotalRow
from wsklab.rules import Catalogue, Rule
from wsklab.verdict import CaseVerdict, RuleVerdict, apply_twins, combine, exit_code, not_shown

__all__ = ["document_of", "resets", "rule_rows", "totals", "without_bystanders"]

#: The most explaining sentences that a row of the matrix keeps.
NOTES_LIMIT = 6


def without_bystanders(cases: Sequence[CaseResult]) -> tuple[CaseResult, ...]:
    """The lines, with the cases cleared that only had their guest in common with one that lost it.

    Cases share guests, so a guest that dies takes several with it. Each is run once more, alone. Where one of them
    does it again, it was that one: the others are what their second attempt says. Where none does, nobody is cleared,
    because then nobody knows.
    """
    culprits = {case.guest: case for case in cases if case.guest and _did_it_again(case)}
    return tuple(_cleared(case, culprits.get(case.guest)) for case in cases)


def _did_it_again(case: CaseResult) -> bool:
    lost = {CaseVerdict.CRASHED, CaseVerdict.HUNG}
    return case.verdict in lost and case.again in lost


def _cleared(case: CaseResult, culprit: CaseResult | None) -> CaseResult:
    second = case.second
    if culprit is None or second is None or _did_it_again(case) or second.verdict is CaseVerdict.LAB_ERROR:
        return case
    told = f"{case.guest} was lost under it, as {culprit.case} shows that does it again; alone: {second.verdict}"
    return second.model_copy(
        update={
            "bystander": case.guest,
            "message": f"{told}: {second.message}" if second.message else told,
            "started": case.started,
            "worker": case.worker,
        }
    )


def totals(cases: Iterable[CaseResult], machines: Collection[str] = ()) -> tuple[TotalRow, ...]:
    """How the cases of each profile ended; kinds are never added up. `machines`: see `rule_rows`."""
    counted = Counter((case.kind, case.profile, case.verdict) for case in cases)
    return tuple(
        TotalRow(kind=kind, profile=profile, static=profile in machines, verdict=verdict, cases=count)
        for (kind, profile, verdict), count in sorted(counted.items(), key=lambda entry: entry[0][:2])
    )


def resets(cases: Iterable[CaseResult]) -> tuple[ResetRow, ...]:
    """What was spent on guests before cases got them; the cheapest rung, which costs nothing, is left out."""
    costs: dict[tuple[str, str, Reset], dict[str, float]] = {}
    for case in cases:
        if case.reset is not Reset.NONE:
            own = costs.setdefault((case.kind, case.profile, case.reset), {})
            own[case.case] = round(own.get(case.case, 0.0) + case.reset_s, 3)
    return tuple(
        ResetRow(
            kind=kind, profile=profile, reset=reset, cases=len(own), seconds=round(sum(own.values()), 3), costs=own
        )
        for (kind, profile, reset), own in sorted(costs.items(), key=lambda row: (*row[0][:2], row[0][2].cost))
    )


def rule_rows(
    cases: Sequence[CaseResult],
    profiles: Mapping[str, str],
    catalogue: Catalogue,
    selected: Sequence[Rule],
    with_cases: Collection[str] = (),
    *,
    machines: Collection[str] = (),
) -> tuple[RuleRow, ...]:
    """A row for every rule that was selected or that a case covered, for every profile.

    Args:
        profiles: the profiles of the run and their kinds.
        selected: rules that must have a verdict: without a case they are `not_implemented`.
        with_cases: rules that have cases, whether this run chose them or not: without a result they are `not_run`.
        machines: the profiles that stand for static machines.
    """
    rows: list[RuleRow] = []
    for profile, kind in profiles.items():
        own = [case for case in cases if case.profile == profile]
        # a replacement guest of a profile runs the same image and driver: any case tells the build
        sample = next((case for case in own if case.build), None)
        verdicts: dict[str, RuleVerdict] = {}
        covered: dict[str, list[str]] = {}
        notes: dict[str, list[str]] = {}
        for rule_id, results in _by_rule(own).items():
            missing = not_shown(said for _, result in results for said in result.assertions)
            verdicts[rule_id] = combine((result.verdict for _, result in results), shown=not missing)
            covered[rule_id] = [case for case, _ in results]
            notes[rule_id] = [*missing, *(note for _, result in results for note in result.notes)]
        for rule in selected:
            if rule.id not in verdicts:
                absent = rule.id not in with_cases
                verdicts[rule.id] = RuleVerdict.NOT_IMPLEMENTED if absent else RuleVerdict.NOT_RUN
                notes[rule.id] = ["no case covers this rule yet" if absent else "this run left its cases out"]
        verdicts = apply_twins(verdicts, catalogue)
        rows.extend(
            RuleRow(
                rule=rule.id,
                profile=profile,
                kind=kind,
                static=profile in machines,
                build=sample.build if sample else "",
                verifier=sample.verifier if sample else "off",
                driver_sha256=sample.driver_sha256 if sample else "",
                verdict=verdicts[rule.id],
                cases=tuple(dict.fromkeys(covered.get(rule.id, ()))),
                notes=tuple(dict.fromkeys(notes.get(rule.id, ())))[:NOTES_LIMIT],
            )
            for rule in catalogue
            if rule.id in verdicts
        )
    return tuple(rows)


def _by_rule(cases: Iterable[CaseResult]) -> dict[str, list[tuple[str, RuleResult]]]:
    """What the cases of one profile saw of each rule."""
    found: dict[str, list[tuple[str, RuleResult]]] = {}
    for case in cases:
        for result in case.rules:
            found.setdefault(result.rule, []).append((case.case, result))
    return found


def document_of(
    *,
    run_id: str,
    started: str,
    wall_s: float,
    results_dir: str,
    cases: Sequence[CaseResult],
    profiles: Mapping[str, str],
    guests: Iterable[GuestResult],
    catalogue: Catalogue,
    selected: Sequence[Rule],
    with_cases: Collection[str] = (),
    machines: Collection[str] = (),
    problems: Sequence[Mapping[str, str]] = (),
    kept: Sequence[KeptGuest] = (),
    crashes: Sequence[CrashRow] = (),
    size: tuple[int, int] = (0, 0),
    lab_error: bool = False,
    never_ready: bool = False,
    allow_unimplemented: bool = False,
    usage_error: bool = False,
    interrupted: bool = False,
) -> RunDocument:
    """The document of a finished (or cut short) run; `size` is guests of each profile and workers."""
    rows = rule_rows(cases, profiles, catalogue, selected, with_cases, machines=machines)
    # a case that was run again after its worker died is counted by its last attempt
    last = {(case.profile, case.item): case.verdict for case in cases}
    code = exit_code(
        (row.verdict for row in rows),
        last.values(),
        usage_error=usage_error,
        never_ready=never_ready,
        allow_unimplemented=allow_unimplemented,
        lab_error=lab_error or not cases,
        interrupted=interrupted,
    )
    return RunDocument(
        run_id=run_id,
        exit_code=code,
        started=started,
        wall_s=round(wall_s, 3),
        results_dir=results_dir,
        guests=tuple(guests),
        results=rows,
        totals=totals((case for case in cases if last[case.profile, case.item] is case.verdict), machines),
        resets=resets(cases),
        kept=tuple(kept),
        crashes=tuple(crashes),
        guests_each=size[0],
        workers=size[1],
        problems=tuple(dict(problem) for problem in problems),
        error={
            "class": "Interrupted",
            "message": "the run was interrupted",
            "why": "",
            "fix": "start it again",
            "evidence": {},
        }
        if interrupted
        else None,
    )


def decided(cases: Iterable[CaseResult]) -> int:
    """How many cases passed or found something."""
    return sum(case.verdict not in {CaseVerdict.SKIPPED, CaseVerdict.LAB_ERROR} for case in cases)
