"""Two columns of results side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsklab.errors import UsageError
from wsklab.results.compare import Comparison, compare, parse_side
from wsklab.results.model import AssertionResult, CaseResult, RuleResult
from wsklab.results.store import Run
from wsklab.results.summary import document_of
from wsklab.rules import AssertionClass, load_catalogue
from wsklab.verdict import CaseVerdict, RuleVerdict


def _run(run_id: str, columns: dict[tuple[str, str], dict[str, str]], recorded: str = "0x0100") -> Run:
    """A run whose columns (profile, driver) have these verdicts by rule, and one value that was written down."""
    cases = []
    for (profile, driver), verdicts in columns.items():
        value = AssertionResult(
            kind=AssertionClass.RECORD, name="version", expected="", observed=f"{recorded} {driver[:2]}", held=True
        )
        rules = tuple(
            RuleResult(rule=rule, verdict=RuleVerdict(verdict), notes=(f"{rule} {verdict}",), assertions=(value,))
            for rule, verdict in verdicts.items()
        )
        cases.append(
            CaseResult(
                case="t.py::test_a",
                item=f"t.py::test_a[{profile}]",
                profile=profile,
                kind="wine",
                build="b",
                driver_sha256=driver,
                verdict=CaseVerdict.PASSED,
                rules=rules,
            )
        )
    document = document_of(
        run_id=run_id,
        started="",
        wall_s=1.0,
        results_dir="",
        cases=cases,
        profiles={profile: "wine" for profile, _ in columns},
        guests=(),
        catalogue=load_catalogue(),
        selected=(),
    )
    return Run(document=document, cases=tuple(cases), path=Path())


A, B = "aa" * 32, "bb" * 32


def _compare(first: Run, second: Run, a: str, b: str) -> tuple[Comparison, ...]:
    return compare(first, second, parse_side(a), parse_side(b))


def test_two_runs_profile_by_profile() -> None:
    """Each profile of both runs is a pair; equal rules are counted, different ones told with what both said."""
    first = _run("r1", {("w", A): {"WSK-SOCK-001": "passed", "WSK-SOCK-002": "passed"}, ("x", A): {}})
    second = _run("r2", {("w", B): {"WSK-SOCK-001": "failed", "WSK-SOCK-002": "passed"}})
    (pair,) = _compare(first, second, "r1", "r2")
    assert (pair.a.profile, pair.b.profile, pair.same) == ("w", "w", 1)
    (change,) = pair.rules
    assert (change.rule, change.a, change.b) == ("WSK-SOCK-001", RuleVerdict.PASSED, RuleVerdict.FAILED)
    assert change.why == ("WSK-SOCK-001 passed", "WSK-SOCK-001 failed")
    assert pair.regressions == (change,)
    assert {(value.name, value.a, value.b) for value in pair.values} == {("version", "0x0100 aa", "0x0100 bb")}


def test_two_guests_of_one_run() -> None:
    """Guests are compared whatever their profiles; a rule of one alone is told; what got better is no regression."""
    run = _run("r1", {("w", A): {"WSK-SOCK-001": "failed"}, ("x", A): {"WSK-SOCK-001": "gap", "WSK-IRP-001": "passed"}})
    (pair,) = _compare(run, run, "r1:w", "r1:x")
    assert [(change.rule, change.a, change.b) for change in pair.rules] == [
        ("WSK-SOCK-001", RuleVerdict.FAILED, RuleVerdict.GAP),
        ("WSK-IRP-001", None, RuleVerdict.PASSED),
    ]
    assert pair.regressions == ()


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ("r1:nobody", "r1:w", "means 0 sorts"),
        ("r1:", "r1", "not a run"),
        ("r1:w@", "r1", "not a run"),
        ("r1", "r1:w", "means 2 sorts"),
    ],
)
def test_what_is_meant_must_be_there(a: str, b: str, said: str) -> None:
    """A side that means nothing, or several columns where one is wanted, is a usage error."""
    run = _run("r1", {("w", A): {"WSK-SOCK-001": "passed"}, ("x", A): {"WSK-SOCK-001": "passed"}})
    with pytest.raises(UsageError, match=said):
        _compare(run, run, a, b)


def test_runs_without_a_common_profile() -> None:
    """Two runs with several profiles, none in common, are not guessed together."""
    first = _run("r1", {("w", A): {"WSK-SOCK-001": "passed"}, ("x", A): {"WSK-SOCK-001": "passed"}})
    second = _run("r2", {("y", A): {"WSK-SOCK-001": "passed"}, ("z", A): {"WSK-SOCK-001": "passed"}})
    with pytest.raises(UsageError, match="no guest profile in common"):
        _compare(first, second, "r1", "r2")


def test_a_side_has_three_parts() -> None:
    """Run, profile, beginning of the driver's digest."""
    side = parse_side("20261126-1:wine@ab")
    assert (side.run_id, side.profile, side.driver) == ("20261126-1", "wine", "ab")
