"""A result that the kit brought back, as a run: judged by the same judge, shown in the same matrix.

The kind is what the machine was (`windows` or `wine`); the profile says that no lab stood behind it. Who, where
and when come from the result and from whoever imports it; nothing of that is proof.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from wsklab.errors import UsageError
from wsklab.kit import KitCase, KitFinding, KitResult, read_kit_result
from wsklab.results.model import AssertionResult, CaseResult, GuestResult, RuleResult, RunDocument
from wsklab.results.store import RunDirectory
from wsklab.results.summary import document_of
from wsklab.rules import AssertionClass, Catalogue
from wsklab.verdict import Assertion, CaseVerdict, RuleObservation, judge, with_case_verdict

__all__ = ["import_kit_result", "kit_cases", "kit_profile"]

#: Steps of `run.cmd` that make a case of their own; the others say something about the machine only.
_DECISIVE = ("copy", "create", "start", "stop", "delete")
_RELOAD = "reload_"

_CASE_VERDICTS = {
    "passed": CaseVerdict.PASSED,
    "failed": CaseVerdict.FAILED,
    "not_run": CaseVerdict.SKIPPED,
}


def import_kit_result(path: Path, root: Path, catalogue: Catalogue, *, by: str) -> RunDocument:
    """Read `result.json` and keep it as a run below `root`.

    Args:
        by: who ran it, in words of the importer; "" takes the user and computer that the result names.

    Raises:
        UsageError: no result of the kit, or it has been imported before.
    """
    result = read_kit_result(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    run_id = f"kit-{result.reported:%Y%m%d-%H%M%S}-{digest[:8]}"
    if (root / run_id).exists():
        raise UsageError(
            f"{path} has been imported before",
            why=f"run {run_id} is there",
            fix=f"`wsklab results show {run_id}`, or remove {root / run_id}",
        )
    profile = kit_profile(result)
    cases = kit_cases(result, catalogue)
    who = by or " on ".join(part for part in (result.user, result.computer) if part) or "unknown"
    directory = RunDirectory(root, run_id)
    document = document_of(
        run_id=run_id,
        started=_rfc3339(result.run.started if result.run is not None else result.reported),
        wall_s=_seconds(result),
        results_dir=str(directory.path),
        cases=cases,
        profiles={profile: result.platform},
        guests=[_guest(result, profile)],
        catalogue=catalogue,
        selected=(),
        problems=_problems(result),
    ).model_copy(update={"imported": f"{who}, {_rfc3339(result.reported)} by that machine's clock"})
    for case in cases:
        directory.append(case)
    directory.finish(document, cases, catalogue)
    return document


def kit_profile(result: KitResult) -> str:
    """What stands in the profile's place: the kit and the build."""
    return f"kit-{result.build}"


def kit_cases(result: KitResult, catalogue: Catalogue) -> list[CaseResult]:
    """The kit's cases, and one case for each decisive step of `run.cmd`."""
    own = [_case(result, case, catalogue) for case in (result.run.cases if result.run is not None else ())]
    steps = [
        _line(
            result,
            f"kit::{step.name}",
            CaseVerdict.PASSED if step.code == 0 else CaseVerdict.FAILED,
            "" if step.code == 0 else f"step {step.name} ended with {step.code}",
        )
        for step in result.steps
        if step.name in _DECISIVE or step.name.startswith(_RELOAD)
    ]
    return [*steps, *own]


def _case(result: KitResult, case: KitCase, catalogue: Catalogue) -> CaseResult:
    """One case of the kit; a rule that the catalogue does not know is left out, the case stays."""
    verdict = _CASE_VERDICTS[case.verdict]
    message = "; ".join(case.failures)
    rules: tuple[RuleResult, ...] = ()
    if case.rule in catalogue:
        stated = [_assertion(finding) for finding in case.findings if finding.held is not None]
        observation = RuleObservation(
            rule=case.rule,
            met=len(stated),
            assertions=tuple(stated),
            not_run="left out by the kit" if case.verdict == "not_run" else "",
        )
        judgement = judge(observation, catalogue.get(case.rule), kind=result.platform)
        judgement = with_case_verdict(judgement, verdict, message)
        rules = (
            RuleResult(
                rule=judgement.rule,
                verdict=judgement.verdict,
                notes=judgement.notes,
                met=len(stated),
                assertions=tuple(
                    AssertionResult(kind=a.kind, name=a.name, expected=a.expected, observed=a.observed, held=a.held)
                    for a in stated
                ),
            ),
        )
    return _line(result, f"kit::{case.name}", verdict, message, rules)


def _assertion(finding: KitFinding) -> Assertion:
    held = bool(finding.held)
    return Assertion(
        kind=AssertionClass.MUST,
        name=finding.text,
        expected="to hold",
        observed="held" if held else "did not hold",
        held=held,
    )


def _line(
    result: KitResult, name: str, verdict: CaseVerdict, message: str, rules: Sequence[RuleResult] = ()
) -> CaseResult:
    return CaseResult(
        case=name,
        item=name,
        profile=kit_profile(result),
        kind=result.platform,
        guest=result.computer or "",
        build=result.build,
        driver_sha256=result.wskctl.driver_sha256 or "",
        verdict=verdict,
        message=message,
        rules=tuple(rules),
        worker="kit",
        started=_rfc3339(result.reported),
    )


def _guest(result: KitResult, profile: str) -> GuestResult:
    identity = result.wskctl
    return GuestResult(
        name=result.computer or "unknown",
        profile=profile,
        kind=result.platform,
        method="kit",
        build=result.build,
        os_version=f"{identity.os_major}.{identity.os_minor}.{identity.os_build}.{identity.os_revision}",
        driver_sha256=identity.driver_sha256 or "",
    )


def _problems(result: KitResult) -> list[dict[str, str]]:
    """What kept the kit from its cases."""
    if result.run is None:
        start = result.step("start")
        why = f"the driver's start ended with {start.code}" if start is not None else "run.cmd never got as far"
        return [{"message": "the kit's cases did not run", "why": why}]
    if result.run.open_win32 != 0:
        return [{"message": "the driver's device could not be opened", "why": f"Win32 error {result.run.open_win32}"}]
    return []


def _seconds(result: KitResult) -> float:
    if result.run is None:
        return 0.0
    return max(0.0, (result.run.ended - result.run.started).total_seconds())


def _rfc3339(moment: datetime) -> str:
    """A foreign machine's time, in its own words."""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
