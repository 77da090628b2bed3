"""Results on disk and on screen: one truth, hostile texts harmless, kinds never mixed."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from wsklab.artifacts import EvidenceFolder, safe_name, visible
from wsklab.errors import UsageError
from wsklab.results.matrix import figures, matrix_html, render_matrix, statement_rows
from wsklab.results.model import AssertionResult, CaseResult, RuleResult, RunDocument
from wsklab.results.store import RunDirectory, list_runs, load_run
from wsklab.results.summary import document_of, without_bystanders
from wsklab.rules import AssertionClass, Catalogue, load_catalogue
from wsklab.verdict import CaseVerdict, RuleVerdict

HOSTILE = "<script>alert(1)</script>\x1b[2J\x00\u202eevil & 'quoted'"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """The catalogue in the package."""
    return load_catalogue()


def case(
    profile: str, kind: str, verdict: str = "passed", rule: str = "passed", name: str = "t.py::test_a"
) -> CaseResult:
    """A line of a run."""
    return CaseResult(
        case=name,
        item=f"{name}[{profile}]",
        profile=profile,
        kind=kind,
        guest=f"{profile}-1",
        build=HOSTILE,
        driver_sha256="ab" * 32,
        verdict=CaseVerdict(verdict),
        message=HOSTILE if verdict != "passed" else "",
        rules=(RuleResult(rule="WSK-SOCK-001", verdict=RuleVerdict(rule), notes=(HOSTILE,)),),
        started="2026-01-01T00:00:00.000Z",
        seconds=1.5,
    )


def document(
    cases: list[CaseResult], catalogue: Catalogue, *, allow_unimplemented: bool = False, machines: tuple[str, ...] = ()
) -> RunDocument:
    """The document of these cases."""
    return document_of(
        run_id="r1",
        started="2026-01-01T00:00:00.000Z",
        wall_s=3.0,
        results_dir="/r/r1",
        cases=cases,
        profiles={one.profile: one.kind for one in cases},
        guests=(),
        catalogue=catalogue,
        selected=catalogue.core,
        allow_unimplemented=allow_unimplemented,
        machines=machines,
    )


def test_results_of_a_static_machine_say_so(catalogue: Catalogue) -> None:
    """Rules, totals, and the head of its column; others do not."""
    made = document([case("w", "wine"), case("bench", "windows")], catalogue, machines=("bench",))
    assert {row.profile for row in made.results if row.static} == {"bench"}
    assert {row.profile for row in made.totals if row.static} == {"bench"}
    titles = {column.profile: column.title for figure in figures(made, catalogue) for column in figure.columns}
    assert "static machine" in titles["bench"]
    assert "static" not in titles["w"]


def test_every_core_rule_has_a_verdict_on_every_guest(catalogue: Catalogue) -> None:
    """A core rule without a case is not_implemented, on each profile."""
    made = document([case("w1", "wine"), case("w2", "wine")], catalogue)
    for profile in ("w1", "w2"):
        rows = {row.rule: row.verdict for row in made.results if row.profile == profile}
        assert set(rows) == {rule.id for rule in catalogue.core}
        assert rows["WSK-SOCK-001"] is RuleVerdict.PASSED
        assert rows["WSK-DET-001"] is RuleVerdict.NOT_IMPLEMENTED
    assert made.exit_code == 3
    assert document([case("w1", "wine")], catalogue, allow_unimplemented=True).exit_code == 0


def _in_part(profile: str, name: str, *, met: bool) -> CaseResult:
    """A case that showed one half of a rule, and the other half only when its condition arose."""
    halves = [
        AssertionResult(kind=AssertionClass.MUST, name="at PASSIVE", expected="", observed="", held=True),
        AssertionResult(
            kind=AssertionClass.MUST, name="at DISPATCH", expected="", observed="", held=True, condition="real", met=met
        ),
    ]
    rule = RuleResult(rule="WSK-SOCK-001", verdict=RuleVerdict.PASSED, met=1 + met, assertions=tuple(halves))
    return case(profile, "wine", name=name).model_copy(update={"rules": (rule,)})


def test_a_rule_passes_only_when_each_demand_was_shown_on_that_guest(catalogue: Catalogue) -> None:
    """The half that no case of a profile could show makes the rule vacuous there, and there alone."""
    cases = [
        _in_part("w1", "t.py::test_a", met=False),
        _in_part("w2", "t.py::test_a", met=False),
        _in_part("w2", "t.py::test_b", met=True),
    ]
    rows = {row.profile: row for row in document(cases, catalogue).results if row.rule == "WSK-SOCK-001"}
    assert rows["w1"].verdict is RuleVerdict.VACUOUS
    assert rows["w1"].notes == ("at DISPATCH: not shown here, it presupposes: real",)
    assert rows["w2"].verdict is RuleVerdict.PASSED


def test_a_rerun_is_counted_by_its_last_attempt(catalogue: Catalogue) -> None:
    """A case that was run again after its worker died counts once."""
    lost = case("w1", "wine", "lab_error", "lab_error")
    made = document([lost, case("w1", "wine")], catalogue, allow_unimplemented=True)
    assert [(total.verdict, total.cases) for total in made.totals] == [(CaseVerdict.PASSED, 1)]


def test_kinds_have_figures_of_their_own(catalogue: Catalogue) -> None:
    """No figure shows guests of two kinds, and no count adds them up."""
    made = document([case("w", "wine"), case("x", "windows", "failed", "failed")], catalogue)
    assert [(figure.kind, [column.profile for column in figure.columns]) for figure in figures(made, catalogue)] == [
        ("wine", ["w"]),
        ("windows", ["x"]),
    ]
    assert {(total.kind, total.cases) for total in made.totals} == {("wine", 1), ("windows", 1)}


def test_the_page_is_harmless(catalogue: Catalogue) -> None:
    """Whatever a guest says is escaped, control characters are visible, nothing is fetched from outside."""
    page = matrix_html(document([case("w", "wine", "failed", "failed")], catalogue), catalogue)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert not re.search(r'src="|href="[^#]', page)


def test_the_mission_page_goes_statement_by_statement(catalogue: Catalogue) -> None:
    """Every statement of "Creating Sockets" has its line, with the worst verdict that the run has of its rules."""
    made = document([case("w", "wine", "failed", "failed")], catalogue)
    (figure,) = figures(made, catalogue)
    rows = statement_rows(figure, catalogue)
    assert [row.number for row in rows] == list(range(1, 18))
    core = {rule.id for rule in catalogue.core}
    assert core & {"WSK-SOCK-001", "WSK-CONN-008"} <= {rule.id for row in rows for rule, _ in row.rules}
    said = {row.number: row.worst for row in rows if "WSK-SOCK-001" in row.statement.rules}
    assert said == {1: ("failed",), 2: ("failed",), 11: ("failed",)}
    assert "After attaching, sockets for network I/O can be created." in matrix_html(made, catalogue)


def test_the_terminal_is_harmless(catalogue: Catalogue) -> None:
    """The table writes no escape sequence that came from a guest, and reads no markup from it."""
    stream = io.StringIO()
    Console(file=stream, width=160).print(
        render_matrix(document([case("w", "wine", "failed", "failed")], catalogue), catalogue)
    )
    assert "\x1b" not in stream.getvalue()
    assert "w WSK-SOCK-001 failed" in stream.getvalue()


def test_a_run_is_read_back(tmp_path: Path, catalogue: Catalogue) -> None:
    """What was written is what is read: document, cases, list."""
    cases = [case("w", "wine"), case("w", "wine", "failed", "failed", "t.py::test_b")]
    run = RunDirectory(tmp_path, "r1")
    for one in cases:
        run.append(one)
    made = document(cases, catalogue)
    run.finish(made, cases, catalogue)
    again = load_run(tmp_path, "r1")
    assert again.document == made
    assert list(again.cases) == cases
    (summary,) = list_runs(tmp_path)
    assert (summary.run_id, summary.exit_code, summary.cases, summary.profiles) == ("r1", 1, 2, ("w",))


def test_junit_says_the_same(tmp_path: Path, catalogue: Catalogue) -> None:
    """The XML is well-formed with hostile texts in it, and counts what the lines count."""
    cases = [case("w", "wine", verdict, "failed", f"t.py::{verdict}") for verdict in CaseVerdict]
    RunDirectory(tmp_path, "r1").finish(document(cases, catalogue), cases, catalogue)
    suite = ElementTree.parse(tmp_path / "r1" / "junit.xml").find("testsuite")  # noqa: S314 - we wrote it
    assert suite is not None
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6",
        "failures": "3",
        "errors": "1",
        "skipped": "1",
    }


def test_the_document_has_the_fields_of_the_contract(catalogue: Catalogue) -> None:
    """`run --json`: the names of the design's section 3 are there."""
    made = json.loads(document([case("w", "wine")], catalogue).model_dump_json(by_alias=True))
    assert {"schema", "run_id", "exit_code", "wall_s", "results_dir", "guests", "results", "totals"} <= set(made)
    assert {"rule", "profile", "kind", "build", "verifier", "driver_sha256", "verdict", "cases"} <= set(
        made["results"][0]
    )
    assert {"profile", "kind", "verdict", "cases"} <= set(made["totals"][0])


@pytest.mark.parametrize("run_id", ["../x", "", ".hidden", "a/b", "x" * 200])
def test_a_run_id_is_a_plain_name(tmp_path: Path, run_id: str) -> None:
    """A run cannot be written or read outside the folder of runs."""
    with pytest.raises(UsageError):
        RunDirectory(tmp_path, run_id)
    with pytest.raises(UsageError):
        load_run(tmp_path, run_id)


def test_hostile_texts_become_visible() -> None:
    """Control characters, overrides and surrogates are shown as numbers; long texts are cut and say so."""
    assert visible("a\x1b\u202e\ud800\n") == "a\\x1b\\u202e\\ud800\n"
    assert visible("x" * 10, 4) == "xxxx ... (6 more characters)"


def test_file_names_are_plain() -> None:
    """No name climbs, hides or gets endless."""
    assert safe_name("../../etc/passwd") == "etc_passwd"
    assert safe_name("...") == "_"
    assert len(safe_name("y" * 500)) == 120


def test_the_reproducing_script_quotes(tmp_path: Path) -> None:
    """A case's parameters cannot break out of the script; the run's own options stay, pytest's stay behind `--`."""
    command = ["lab", "run", "--driver", "a b.sys", "--", "own cases"]
    folder = EvidenceFolder(tmp_path / "e")
    script = folder.reproduce(command, profiles=["w"], case="x.py::test[a; rm -rf /]", run_id="r1")
    line = shlex.split(script.read_text().splitlines()[-1])
    assert line[:6] == ["exec", "lab", "run", "--driver", "a b.sys", "--guest"]
    assert line[line.index("--case") + 1] == "x.py::test[a; rm -rf /]"
    assert line[-4:] == ["--keep-failed", "--", "own cases", "$@"]
    assert script.stat().st_mode & 0o111


def test_the_reproducing_script_has_all_guests_of_its_case(tmp_path: Path) -> None:
    """A case of several guests gets as many; a guest that cannot be kept is not asked to be."""
    folder = EvidenceFolder(tmp_path / "e")
    script = folder.reproduce([], profiles=["w", "v", "w"], case="x.py::test", run_id="r1", keep=False)
    words = "exec wsklab run --guest w --guest v --guests-each 2 --workers 1 --case x.py::test --"
    assert shlex.split(script.read_text().splitlines()[-1]) == [*words.split(), "$@"]
    assert "kept" not in script.read_text()


def lost(name: str, again: str, guest: str = "w-1") -> CaseResult:
    """A case that crashed on a guest, and how its second attempt ended."""
    first = case("w", "wine", "crashed", "crashed", name).model_copy(update={"guest": guest})
    second = case("w", "wine", again, "passed" if again == "passed" else again, name)
    return first.with_second(second.model_copy(update={"guest": "w-2"}))


def test_who_only_shared_a_guest_is_cleared() -> None:
    """Of three cases on a guest that died one does it again: the others are what they are alone, and say so."""
    told = without_bystanders(
        [lost("a", "passed"), lost("b", "crashed"), lost("c", "failed"), lost("d", "passed", "w-9")]
    )
    assert [one.verdict for one in told] == ["passed", "crashed", "failed", "crashed"]
    assert [one.bystander for one in told] == ["w-1", "", "w-1", ""]
    assert told[0].message.startswith("w-1 was lost under it, as b shows that does it again; alone: passed")
    assert told[0].rules[0].verdict is RuleVerdict.PASSED
    assert [one.outcome for one in told] == ["passed", "crashed, reproduced", "failed", "crashed once"]


def test_nobody_is_cleared_when_nobody_did_it_again() -> None:
    """A crash that does not come again stays with everybody who had the guest: it is never hidden."""
    told = without_bystanders([lost("a", "passed"), lost("b", "passed"), lost("c", "lab_error")])
    assert [one.outcome for one in told] == ["crashed once", "crashed once", "crashed, could not be tried again"]
