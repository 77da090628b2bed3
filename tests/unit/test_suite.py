"""Whole runs on the model: cases, judge, evidence, matrix and exit code, without a guest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from suite_bench import CASES, Runs, rule

from wsklab.pytest_plugin.fake_lab import FakeExplanation, FakeProvider
from wsklab.pytest_plugin.session import RunSession
from wsklab.pytest_plugin.suite import options_of
from wsklab.results.store import load_run
from wsklab.rules import load_catalogue
from wsklab.verdict import CaseVerdict, RuleVerdict


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """A fresh folder for one run."""
    return Runs(tmp_path)


BASELINE = """
[[gap]]
rule = "WSK-IRP-004"
reason = "the model of Wine does not mark IRPs"
observed = { "*: PendingReturned after pending" = "PendingReturned FALSE" }
"""


def test_a_good_run(runs: Runs) -> None:
    """Cases pass on both guests, the judge looks at every operation, and the exit code is 0."""
    document = runs.run(kinds=(("w", "wine"), ("x", "windows")), baseline="")
    assert document.exit_code == 0
    assert rule(document, "WSK-BIND-001") is RuleVerdict.PASSED
    assert rule(document, "WSK-IRP-001") is RuleVerdict.PASSED
    assert rule(document, "WSK-IRP-002") is RuleVerdict.VACUOUS or rule(document, "WSK-IRP-002") == "not_implemented"
    assert rule(document, "WSK-IRP-004") is RuleVerdict.DEVIATION
    assert rule(document, "WSK-IRP-004", "x") is RuleVerdict.PASSED
    assert {(total.profile, total.verdict, total.cases) for total in document.totals} == {
        ("w", CaseVerdict.PASSED, 2),
        ("x", CaseVerdict.PASSED, 2),
    }
    assert runs.provider is not None
    assert runs.provider.closed


def test_a_known_gap(runs: Runs) -> None:
    """The baseline's observation is a gap and the case passes."""
    document = runs.run(baseline=BASELINE)
    assert document.exit_code == 0
    assert rule(document, "WSK-IRP-004") is RuleVerdict.GAP


def test_a_gap_that_closed(runs: Runs) -> None:
    """On a guest that does it right, the baselined gap is an unexpected pass, and a finding."""
    document = runs.run(kinds=(("x", "windows"),), baseline=BASELINE)
    assert document.exit_code == 1
    assert rule(document, "WSK-IRP-004", "x") is RuleVerdict.UNEXPECTED_PASS


def test_the_judge_fails_a_double_completion(runs: Runs) -> None:
    """A case that asserts nothing wrong fails, because an IRP was completed twice; the report tells the timeline."""
    document = runs.run(faults={"w": "double"})
    assert document.exit_code == 1
    assert rule(document, "WSK-IRP-001") is RuleVerdict.FAILED
    case = runs.lines()["test_create"]
    assert case.verdict is CaseVerdict.FAILED
    assert "WskSocket socket 1 completion" in runs.evidence(case, "timeline.txt")
    assert "expected 1 completion, observed 2 completions" in runs.evidence(case, "rules.txt")
    assert "expected STATUS_SUCCESS" in case.message
    assert " 2x 0x00000000 STATUS_SUCCESS" in case.message
    assert runs.evidence(case, "reproduce.sh").startswith("#!/bin/sh")


def test_a_broken_rule_on_windows_is_disputed(runs: Runs) -> None:
    """Nobody has seen the rule hold on Windows: the case fails, the rule is disputed, the exit code is 1."""
    document = runs.run(CASES.replace("succeeded()", 'with_status("STATUS_CANCELLED")'), kinds=(("x", "windows"),))
    assert document.exit_code == 1
    assert rule(document, "WSK-SOCK-001", "x") is RuleVerdict.DISPUTED


@pytest.mark.parametrize("fault", ["crash", "gone"])
def test_a_guest_that_dies(runs: Runs, fault: str) -> None:
    """Channel or driver lost: the case is crashed, its guest is replaced, and the next case runs on the new one."""
    document = runs.run(faults={"w": fault}, explanation=FakeExplanation("crashed", "bugcheck 0xA", {"code": 10}))
    assert document.exit_code == 1
    assert rule(document, "WSK-BIND-001") is RuleVerdict.CRASHED
    lines = runs.lines()
    assert lines["test_bind"].verdict is CaseVerdict.CRASHED
    assert lines["test_bind"].message.startswith("crashed, reproduced: bugcheck 0xA")
    assert "sent, and its end was never seen: " in runs.evidence(lines["test_bind"], "timeline.txt")
    assert lines["test_bind"].again is CaseVerdict.CRASHED
    assert lines["test_create"].verdict is CaseVerdict.PASSED
    assert lines["test_create"].guest != lines["test_bind"].guest
    assert '"code": 10' in runs.evidence(lines["test_bind"], "fault.json")


def test_a_guest_that_dies_once(runs: Runs) -> None:
    """The case is run once more, alone on a fresh guest: both outcomes are in its one line, each has its evidence."""
    document = runs.run(
        faults={"w": "first:crash"}, explanation=FakeExplanation("crashed", "bugcheck 0xA", cause="kernel_crash")
    )
    line = runs.lines()["test_bind"]
    assert (line.verdict, line.again, line.outcome) == (CaseVerdict.CRASHED, CaseVerdict.PASSED, "crashed once")
    assert line.message.startswith("crashed once: bugcheck 0xA")
    assert line.cause == "kernel_crash"
    assert document.exit_code == 1, "that it did not come again takes nothing from it"
    assert "the model's guest w-1" in runs.evidence(line, "sources.txt")
    assert len(load_run(runs.folder / "results", "r1").cases) == 2, "one line for each case"


def test_the_second_attempt_has_a_guest_of_its_own(runs: Runs) -> None:
    """Nobody had the guest before and nobody gets it afterwards, and its evidence lies beside that of the first."""
    runs.run(faults={"w": "crash"}, explanation=FakeExplanation("crashed", "bugcheck 0xA"))
    line = runs.lines()["test_bind"]
    assert line.outcome == "crashed, reproduced"
    again = runs.folder / "results" / "r1" / f"{line.evidence}-again"
    assert json.loads((again / "handle.json").read_text())["name"] != line.guest
    assert line.guest != runs.lines()["test_create"].guest


def test_what_the_evidence_amends_is_what_the_line_says(runs: Runs) -> None:
    """The final verdict takes the place of the provisional one: its words, its bucket."""
    runs.final = FakeExplanation("crashed", "a page fault in wsklab.sys", cause="driver_crash", bucket="fault wsklab!F")
    runs.run(faults={"w": "crash"}, explanation=FakeExplanation("crashed", "it died", cause="driver_crash"))
    line = runs.lines()["test_bind"]
    assert line.message.startswith("crashed, reproduced: a page fault in wsklab.sys (")
    assert line.bucket == "fault wsklab!F"
    assert "a page fault" in runs.evidence(line, "fault.json")


def test_cases_are_chosen_by_name(runs: Runs) -> None:
    """A name chooses its case alone; a name that no case has is a usage error."""
    document = runs.run(cases=("*::test_create",))
    assert list(runs.lines()) == ["test_create"]
    assert document.exit_code == 0
    rules = {row.rule for row in document.results}
    assert "WSK-SOCK-001" in rules
    assert "WSK-BIND-001" not in rules, "its case was not asked for, and so no verdict on it either"


def test_a_case_that_is_not_there(runs: Runs) -> None:
    """The user is told, and nothing counts as decided."""
    assert runs.run(cases=("test_x.py::test_create",)).exit_code == 2


def test_an_operation_beyond_its_deadline(runs: Runs) -> None:
    """The controller says hung: the case is hung and the message names the call."""
    document = runs.run(faults={"w": "hang"}, explanation=FakeExplanation("hung", "the guest is alive"), scale=0.05)
    assert document.exit_code == 1
    assert runs.lines()["test_bind"].verdict is CaseVerdict.HUNG
    assert rule(document, "WSK-BIND-001") is RuleVerdict.HUNG


def test_a_lab_fault_is_not_a_finding(runs: Runs) -> None:
    """A channel that broke for no fault of the guest is a lab error: exit code 3."""
    document = runs.run(faults={"w": "crash"})
    assert document.exit_code == 3
    assert runs.lines()["test_bind"].verdict is CaseVerdict.LAB_ERROR


def test_a_guest_that_never_becomes_ready(runs: Runs) -> None:
    """Its cases are lab errors with the reason, the other guest's run, and the exit code is 4."""
    document = runs.run(kinds=(("w", "wine"), ("v", "wine")), faults={"v": "boot"})
    assert document.exit_code == 4
    assert rule(document, "WSK-SOCK-001", "v") is RuleVerdict.LAB_ERROR
    assert rule(document, "WSK-SOCK-001", "w") is RuleVerdict.PASSED
    assert document.problems[0]["class"] == "BootError"
    # whoever watches knows before the first case ends
    printed = runs.output.getvalue()
    assert printed.index("no guest of v: v never became ready (the model was told so)") < printed.index(" ERRORS ")


def test_an_operation_that_the_driver_does_not_have(runs: Runs) -> None:
    """The rule is not implemented, the case passes, and the exit code depends on what the user allows."""
    document = runs.run(faults={"w": "unknown"})
    assert document.exit_code == 0
    assert rule(document, "WSK-BIND-001") is RuleVerdict.NOT_IMPLEMENTED


def test_unimplemented_rules_count(runs: Runs) -> None:
    """Without permission a run with unimplemented core rules has not decided everything: exit code 3."""
    assert runs.run(allow_unimplemented=False).exit_code == 3


def test_a_fault_of_the_case_itself(runs: Runs) -> None:
    """An exception that is no assertion never counts against the driver."""
    document = runs.run(CASES + "    raise KeyError('typing slip')\n")
    assert runs.lines()["test_create"].verdict is CaseVerdict.LAB_ERROR
    assert document.exit_code == 3


def test_a_plain_assert_breaks_the_declared_rules(runs: Runs) -> None:
    """Nothing says which rule was meant, so all of the case's rules fail."""
    document = runs.run(CASES + "    assert False, 'plain'\n")
    assert rule(document, "WSK-SOCK-001") is RuleVerdict.FAILED
    assert document.exit_code == 1


def test_hazards_are_left_out(runs: Runs) -> None:
    """A hazardous case is not run unless asked for, and the rule says so."""
    text = CASES.replace('@pytest.mark.rule("WSK-SOCK-001")', '@pytest.mark.hazard\n@pytest.mark.rule("WSK-SOCK-001")')
    document = runs.run(text)
    assert rule(document, "WSK-SOCK-001") is RuleVerdict.NOT_RUN
    assert runs.lines()["test_create"].verdict is CaseVerdict.SKIPPED
    assert document.exit_code == 0


def test_hazards_run_on_the_shim(runs: Runs) -> None:
    """A shim guest is a process of the lab: what could crash it is always tried there, in a process of its own."""
    text = CASES.replace('@pytest.mark.rule("WSK-SOCK-001")', '@pytest.mark.hazard\n@pytest.mark.rule("WSK-SOCK-001")')
    document = runs.run(text, kinds=(("s", "shim"),))
    assert rule(document, "WSK-SOCK-001", "s") is RuleVerdict.PASSED
    assert runs.lines()["test_create"].reset == "fork"


def test_a_hazard_that_a_guest_cannot_survive_is_left_out(runs: Runs) -> None:
    """Where a baseline names a hazard, the rest of the rule decides, as where hazards are not asked for."""
    text = CASES.replace('@pytest.mark.rule("WSK-SOCK-001")', '@pytest.mark.hazard\n@pytest.mark.rule("WSK-BIND-001")')
    text = text.replace('observe.rule("WSK-SOCK-001")', 'observe.rule("WSK-BIND-001")')
    known = '[[not_run]]\ncase = "*::test_create"\nreason = "it ends there"\n'
    document = runs.run(text, kinds=(("s", "shim"),), baseline=known)
    assert rule(document, "WSK-BIND-001", "s") is RuleVerdict.PASSED
    assert runs.lines()["test_create"].message == "it ends there"


def test_a_core_run_brings_the_twins(runs: Runs) -> None:
    """A choice of rules runs also the cases of the twins without which silence proves nothing."""
    quiet = """

@pytest.mark.rule("WSK-SOCK-010")
def test_quiet(wsk, observe):
    observe.rule("WSK-SOCK-010").must("creation", wsk.socket(Category.LISTEN), succeeded())


@pytest.mark.rule("WSK-EVT-001")
def test_spoken(wsk, observe):
    observe.rule("WSK-EVT-001").must("creation", wsk.socket(Category.LISTEN), succeeded())
"""
    document = runs.run(CASES + quiet, rules="core")
    assert rule(document, "WSK-SOCK-010") is RuleVerdict.PASSED


def test_a_case_without_its_guests_takes_nothing_from_its_rule(runs: Runs) -> None:
    """What this run has no guests for is left out; the rule's other cases decide."""
    pair = """

@pytest.mark.lab_guests(2)
@pytest.mark.rule("WSK-SOCK-001")
def test_pair(lab_guests, observe): ...
"""
    document = runs.run(CASES + pair)
    assert rule(document, "WSK-SOCK-001") is RuleVerdict.PASSED
    assert runs.lines()["test_pair"].verdict is CaseVerdict.SKIPPED


def test_a_hazard_has_a_guest_of_its_own(runs: Runs) -> None:
    """Asked for, it runs alone in a guest that nobody had before it and nobody gets after it."""
    text = CASES.replace('@pytest.mark.rule("WSK-SOCK-001")', '@pytest.mark.hazard\n@pytest.mark.rule("WSK-SOCK-001")')
    runs.run(text, hazard=True)
    lines = runs.lines()
    hazard = lines.pop("test_create")
    assert hazard.verdict is CaseVerdict.PASSED
    assert hazard.exclusive
    assert hazard.reset == "fork"
    assert lines
    assert hazard.guest not in {case.guest for case in lines.values()}


def test_a_half_that_a_guest_cannot_show(runs: Runs) -> None:
    """A MUST whose condition does not arise keeps the rule from passing, on that guest alone."""
    half = """
    at_dispatch = observe.rule("WSK-SOCK-001").given(bool(observe.facts["irql_real"]), "IRQL is real")
    at_dispatch.must("at DISPATCH_LEVEL", wsk.socket(Category.LISTEN), with_status(EXPECTED))
"""
    held = CASES + half.replace("EXPECTED", '"STATUS_SUCCESS"')
    document = runs.run(held, kinds=(("w", "wine"), ("x", "windows")))
    assert document.exit_code == 0
    assert rule(document, "WSK-SOCK-001") is RuleVerdict.VACUOUS
    assert rule(document, "WSK-SOCK-001", "x") is RuleVerdict.PASSED
    row = next(row for row in document.results if row.rule == "WSK-SOCK-001" and row.profile == "w")
    assert "at DISPATCH_LEVEL: not shown here, it presupposes: IRQL is real" in row.notes


def test_a_broken_half_fails_only_where_it_can_be_shown(runs: Runs) -> None:
    """The same observation fails the rule where its condition arose, and says nothing elsewhere."""
    half = """
    at_dispatch = observe.rule("WSK-SOCK-001").given(bool(observe.facts["irql_real"]), "IRQL is real")
    at_dispatch.must("at DISPATCH_LEVEL", wsk.socket(Category.LISTEN), with_status("STATUS_CANCELLED"))
"""
    document = runs.run(CASES + half, kinds=(("w", "wine"), ("x", "windows")))
    assert rule(document, "WSK-SOCK-001") is RuleVerdict.VACUOUS
    assert rule(document, "WSK-SOCK-001", "x") is RuleVerdict.DISPUTED


def test_rules_select_cases(runs: Runs) -> None:
    """With a rule glob only the cases that cover it run, and the document shows what was asked for."""
    runs.run(rules="WSK-SOCK-001")
    assert set(runs.lines()) == {"test_create"}


def test_a_case_that_was_left_out(runs: Runs) -> None:
    """A rule whose cases the user deselected was not run; that is no gap in the suite."""
    document = runs.run(extra=("-k", "test_create"))
    assert rule(document, "WSK-BIND-001") is RuleVerdict.NOT_RUN
    assert rule(document, "WSK-DATA-001") is RuleVerdict.NOT_IMPLEMENTED


@pytest.mark.parametrize(
    "text",
    [CASES.replace("WSK-SOCK-001", "WSK-SOCK-999"), CASES.replace('@pytest.mark.rule("WSK-SOCK-001")', "")],
    ids=["unknown", "none"],
)
def test_a_case_names_known_rules(runs: Runs, text: str) -> None:
    """A case with an unknown rule, or with none, stops the run before any guest is used: exit code 2."""
    assert runs.run(text).exit_code == 2


def test_a_broken_case_file(runs: Runs) -> None:
    """A case file that cannot be imported is a usage error."""
    assert runs.run("import nonsense_that_is_not_there\n").exit_code == 2


KILLED = (
    CASES
    + """
    marker = Path(os.environ["WSKLAB_TEST_MARKER"])
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), 9)
"""
)


def test_a_killed_worker(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers and two guests: the case of a worker that died runs once more, labelled, on another guest."""
    monkeypatch.setenv("WSKLAB_TEST_MARKER", str(runs.folder / "marker"))
    document = runs.run(KILLED, kinds=(("w", "wine"), ("v", "wine")), workers=2)
    cases = load_run(runs.folder / "results", "r1").cases
    assert {case.verdict for case in cases} == {CaseVerdict.PASSED}
    assert len(cases) == 4, runs.output.getvalue()
    assert [case.case.partition("::")[2] for case in cases if case.rerun] == ["test_create"]
    assert len({case.worker for case in cases}) >= 2
    assert document.problems[0]["class"] == "WorkerDied"
    assert document.exit_code == 0
    assert runs.provider is not None
    assert len(runs.provider.replaced) == 1


def test_a_case_that_kills_every_worker(tmp_path: Path) -> None:
    """The second death is a lab error of the case and its rules; nothing is run a third time."""
    options = options_of((("w", "wine"),), run_id="r1", results=tmp_path)
    run = RunSession(options, load_catalogue(), FakeProvider({"w": "wine"}), shared=False, tell=print)
    item = "cases/test_a.py::test_create[w-1]"
    run.rules[item] = ("WSK-SOCK-001",)
    assert run.worker_died(item, "worker gw0 crashed")
    assert not run.worker_died(item, "worker gw1 crashed")
    (case,) = run.cases
    assert (case.case, case.verdict, case.rerun) == ("test_a.py::test_create[1]", CaseVerdict.LAB_ERROR, True)
    document = run.finish(())
    assert rule(document, "WSK-SOCK-001") is RuleVerdict.LAB_ERROR
    assert document.exit_code == 3
