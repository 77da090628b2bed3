"""Witnesses: what real runs showed, kept as data; the page about them; no contradiction with the baselines."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from wsklab.pytest_plugin.baseline import load_baseline
from wsklab.results.model import CaseResult, RuleResult, RuleRow, RunDocument
from wsklab.results.witness import as_toml, conformance_page, differs_from_prediction, with_run
from wsklab.rules import Catalogue, Platform, Witnesses, load_catalogue, load_statements, load_witnesses
from wsklab.verdict import Assertion, AssertionClass, RuleObservation, RuleVerdict, judge

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """The catalogue in the package, with its witnesses."""
    return load_catalogue()


def run(kind: str, build: str, **verdicts: str) -> RunDocument:
    """A run on one profile; the rules without their prefix, with underscores."""
    return RunDocument(
        run_id="r7",
        exit_code=0,
        started="2026-01-02T00:00:00.000Z",
        wall_s=1.0,
        results_dir="",
        results=tuple(
            RuleRow(
                rule=f"WSK-{name.replace('_', '-')}",
                profile="p",
                kind=kind,
                build=build,
                verifier="off",
                driver_sha256="",
                verdict=RuleVerdict(verdict),
            )
            for name, verdict in verdicts.items()
        ),
    )


def test_the_data_is_from_real_runs(catalogue: Catalogue) -> None:
    """Shim and both wine guests are there, every rule is known, and nobody claims Windows."""
    known = load_witnesses()
    assert {(name, one.kind) for name, one in known.platforms.items()} >= {
        ("shim", "shim"),
        ("wine-bookworm", "wine"),
        ("wine-trixie", "wine"),
    }
    assert set(known.verdicts) == {rule.id for rule in catalogue}
    assert all(re.fullmatch(r"\d{8}-\d{6}-\d+", platform.run) for platform in known.platforms.values())
    assert {witness for rule in catalogue for witness in rule.witnesses} == {"shim", "wine"}


def test_a_witness_does_not_contradict_the_baseline(catalogue: Catalogue) -> None:
    """A rule that passed on a guest has no gap there: one of the two would be out of date."""
    for name in load_witnesses().platforms:
        baseline = load_baseline(ROOT / "images" / name / "baseline.toml", catalogue)
        gaps = {gap.rule for gap in baseline.gaps}
        assert [rule.id for rule in catalogue if rule.observed.get(name) == "passed" and rule.id in gaps] == []


def test_the_page_is_made_from_the_data(catalogue: Catalogue) -> None:
    """`wsklab results witness --page docs/conformance.md` would change nothing."""
    assert (ROOT / "docs" / "conformance.md").read_text("utf-8") == conformance_page(catalogue, load_witnesses())


def test_a_run_replaces_what_was_known_of_its_profile() -> None:
    """Only of the rules that it looked at; what nobody looked at is not kept."""
    known = with_run(Witnesses(), run("wine", "wine-9", SOCK_001="passed", SOCK_002="gap", SOCK_003="lab_error"))
    assert known.verdicts == {"WSK-SOCK-001": {"p": "passed"}, "WSK-SOCK-002": {"p": "gap"}}
    later = with_run(known, run("wine", "wine-10", SOCK_001="failed"))
    assert later.verdicts == {"WSK-SOCK-001": {"p": "failed"}, "WSK-SOCK-002": {"p": "gap"}}
    assert later.platforms["p"].build == "wine-10"
    assert Witnesses.model_validate(tomllib.loads(as_toml(later))) == later


def test_a_gap_tells_which_part_holds() -> None:
    """The cases of a rule that hold on a guest whose verdict is a gap are counted; a later run replaces the number."""
    row = {"case": "c", "profile": "p", "kind": "wine", "item": "i", "started": "s", "duration_s": 0.0}

    def case(verdict: str) -> CaseResult:
        result = RuleResult(rule="WSK-SOCK-001", verdict=RuleVerdict(verdict))
        return CaseResult.model_construct(**row, rules=(result,))

    cases = [case(verdict) for verdict in ("passed", "gap", "passed", "not_run", "vacuous")]
    known = with_run(Witnesses(), run("wine", "wine-9", SOCK_001="gap"), cases)
    held = known.parts["WSK-SOCK-001"]["p"]
    assert held.startswith("2 of ")
    assert f"gap, {held} cases hold" in conformance_page(
        Catalogue([known.of(load_catalogue().get("WSK-SOCK-001"))]), known
    )
    assert Witnesses.model_validate(tomllib.loads(as_toml(known))) == known
    assert with_run(known, run("wine", "wine-9", SOCK_001="gap"), [case("gap")]).parts == {}
    assert with_run(known, run("wine", "wine-9", SOCK_001="passed"), [case("passed")]).parts == {}


def test_windows_witnesses_name_their_build(catalogue: Catalogue) -> None:
    """With one, a failure on Windows is a failure; without, it is disputed."""
    rule = catalogue.get("WSK-SOCK-001")
    broken = RuleObservation(
        rule=rule.id,
        met=1,
        assertions=(Assertion(kind=AssertionClass.MUST, name="n", expected="e", observed="o", held=False),),
    )
    assert judge(broken, rule, kind="windows").verdict is RuleVerdict.DISPUTED
    known = with_run(Witnesses(), run("windows", "26100.1", SOCK_001="passed"))
    seen = known.of(rule)
    assert "windows:26100.1" in seen.witnesses
    assert judge(broken, seen, kind="windows").verdict is RuleVerdict.FAILED


def test_a_surprise_is_one_against_the_prediction(catalogue: Catalogue) -> None:
    """What Wine's source had led to expect stands with every rule; where a Wine guest differs, the page says so."""
    assert all(rule.wine for rule in catalogue)
    rule = catalogue.get("WSK-SOCK-001").model_copy(update={"wine": "pass", "observed": {"p": "gap", "q": "gap"}})
    platforms = {
        name: Platform(kind=kind, build="b", run="r", started="s") for name, kind in (("p", "wine"), ("q", "shim"))
    }
    assert differs_from_prediction(rule, Witnesses(platforms=platforms)) == {"p": "gap"}


def test_the_mission_page_has_core_rules_only_known_ones(catalogue: Catalogue) -> None:
    """17 statements; every one has a core rule; all core rules about creation belong to one."""
    statements = load_statements()
    assert len(statements) == 17
    for statement in statements:
        assert any(catalogue.get(rule).core for rule in statement.rules), statement.text
    named = {rule for statement in statements for rule in statement.rules}
    assert {rule.id for rule in catalogue.core if rule.area in {"SOCK", "CAT", "CTX"}} <= named
