"""Whole runs on the model: sets of guests, resets, kept guests, several workers."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from suite_bench import CASES, Runs

from wsklab.pytest_plugin.fake_lab import FakeExplanation
from wsklab.results.matrix import render_matrix
from wsklab.results.store import load_run
from wsklab.rules import load_catalogue
from wsklab.verdict import CaseVerdict


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """A fresh folder for one run."""
    return Runs(tmp_path)


SETS = '''
"""Cases of the test."""

import pytest

from wsklab.abi import Category
from wsklab.pytest_plugin.matchers import succeeded


@pytest.mark.rule("WSK-SOCK-001")
@pytest.mark.lab_guests(2)
def test_pair(lab_guests, observe):
    """Two guests of one profile, each with a driver of its own."""
    first, second = lab_guests
    assert first.handle.name != second.handle.name
    assert first.handle.profile == second.handle.profile
    for guest in lab_guests:
        client = guest.client()
        observe.rule("WSK-SOCK-001").must("creation", client.socket(Category.LISTEN), succeeded())


@pytest.mark.rule("WSK-SOCK-002")
@pytest.mark.lab_guests("x", "w")
def test_mixed(lab_guests, wsk, observe):
    """One guest of each of two profiles, in this order; `wsk` is on the first one."""
    assert [guest.handle.profile for guest in lab_guests] == ["x", "w"]
    observe.rule("WSK-SOCK-002").must("creation", wsk.socket(Category.LISTEN), succeeded())
'''


def test_sets_of_guests(runs: Runs) -> None:
    """A set of one profile runs on each profile, a set of named ones runs once, under the first of them."""
    document = runs.run(SETS, kinds=(("w", "wine"), ("x", "windows")), each=2, baseline="")
    assert document.exit_code == 0
    cases = load_run(runs.folder / "results", "r1").cases
    ran = sorted((case.case.partition("::")[2], case.profile, case.verdict) for case in cases)
    assert ran == [
        ("test_mixed", "x", CaseVerdict.PASSED),
        ("test_pair", "w", CaseVerdict.PASSED),
        ("test_pair", "x", CaseVerdict.PASSED),
    ]


def test_sets_that_the_run_does_not_have(runs: Runs) -> None:
    """One guest of one profile: both cases are left out, each with what it lacks; nothing waits for ever."""
    runs.run(SETS)
    lines = runs.lines()
    assert {case.verdict for case in lines.values()} == {CaseVerdict.SKIPPED}
    assert lines["test_pair"].message == "it needs 2 guests of w: --guests-each 2"
    assert lines["test_mixed"].message == "it needs guests of x, which this run does not have"


def test_a_set_of_which_one_is_a_static_machine(runs: Runs) -> None:
    """It is there once, whatever --guests-each says: two of it are left out, one beside another is there."""
    document = runs.run(SETS, kinds=(("w", "wine"), ("x", "windows")), each=2, machines=("w",), baseline="")
    cases = load_run(runs.folder / "results", "r1").cases
    ran = {(case.case.partition("::")[2], case.profile): case for case in cases}
    assert ran["test_pair", "w"].message == "it needs 2 guests of w, which is one static machine"
    assert ran["test_pair", "x"].verdict is CaseVerdict.PASSED
    assert ran["test_mixed", "x"].verdict is CaseVerdict.PASSED
    assert {row.static for row in document.totals if row.profile == "w"} == {True}


@pytest.mark.parametrize(
    "mark", ["lab_guests(0)", "lab_guests(1, 2)", "lab_guests()", 'reset("everything")', "reset()"]
)
def test_a_mark_that_means_nothing(runs: Runs, mark: str) -> None:
    """A usage error before any guest is used."""
    text = SETS.replace("lab_guests(2)", mark)
    assert runs.run(text).exit_code == 2


RESETS = CASES.replace(
    '@pytest.mark.rule("WSK-SOCK-001")', '@pytest.mark.rule("WSK-SOCK-001")\n@pytest.mark.reset("{rung}")'
)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("rung", ["driver", "fork", "rebuild"])
def test_resets_and_their_cost(runs: Runs, rung: str, workers: int) -> None:
    """The case has what it asked for; its cost stands in its line, in the document, in the page, on the terminal."""
    document = runs.run(RESETS.replace("{rung}", rung), workers=workers)
    assert document.exit_code == 0
    case = runs.lines()["test_create"]
    assert case.reset == rung
    assert case.reset_s <= case.seconds
    (row,) = document.resets
    assert (row.profile, row.reset, row.cases, row.seconds) == ("w", rung, 1, case.reset_s)
    assert row.costs == {case.case: case.reset_s}
    page = (runs.folder / "results" / "r1" / "matrix.html").read_text()
    assert f"<td>{rung}</td><td>1</td>" in page
    console = Console(file=io.StringIO(), width=200)
    console.print(render_matrix(document, load_catalogue()))
    assert f"w: reset {rung}: 1 cases" in console.file.getvalue()  # type: ignore[attr-defined]
    assert runs.provider is not None
    assert (("w", "boot") in runs.provider.asked) == (rung == "rebuild")


def test_a_driver_reset_reloads(runs: Runs) -> None:
    """Whatever an earlier case left bound is gone; without the reset it is still there."""
    leak = CASES.replace("scene.wsk.bind(made.new_socket, scene.private())", "bound(scene, made)") + LEAK
    assert runs.run(leak).exit_code == 0


LEAK = '''

BOUND = []


def bound(scene, made):
    """Leave a handle open behind the case's back, bound where the next case wants to be."""
    handle = scene.guest.link
    BOUND.append(handle)
    handle._ports[("10.0.0.1", 7)] = 1
    return scene.wsk.bind(made.new_socket, scene.private())


@pytest.mark.rule("WSK-SOCK-002")
@pytest.mark.exclusive
def test_still_there(guest, observe):
    """No reset: the driver is the same."""
    observe.rule("WSK-SOCK-002").record("x", 1)
    assert any(end[1] == 7 for end in guest.link._ports)


@pytest.mark.rule("WSK-SOCK-003")
@pytest.mark.reset("driver")
def test_gone(guest, observe):
    """Reloaded: it knows nothing."""
    observe.rule("WSK-SOCK-003").record("x", 1)
    assert not any(end[1] == 7 for end in guest.link._ports)
'''


@pytest.mark.parametrize("workers", [1, 2])
def test_the_guest_of_a_failed_case_is_kept(runs: Runs, workers: int) -> None:
    """It is in the document with the command that enters it; whatever starts later runs on another guest."""
    text = CASES + "    assert False, 'it failed'\n"
    document = runs.run(text + LATER, keep_failed=True, workers=workers)
    assert document.exit_code == 1
    lines = runs.lines()
    (kept,) = document.kept
    assert kept.name == lines["test_create"].guest
    assert "test_create" in kept.why
    assert kept.enter == f"wsklab ssh {kept.name}"
    assert kept.enter in (runs.folder / "results" / "r1" / "matrix.html").read_text()
    assert lines["test_later"].verdict is CaseVerdict.PASSED
    # a second worker may have been given the exclusive case while the first one still came up
    early = workers > 1 and lines["test_later"].started < lines["test_create"].started
    assert early or lines["test_later"].guest != kept.name
    assert runs.provider is not None
    assert [own.name for own in runs.provider.kept] == [kept.name]


LATER = '''

@pytest.mark.rule("WSK-SOCK-002")
@pytest.mark.exclusive
def test_later(wsk, observe):
    """The last one, because it is exclusive."""
    observe.rule("WSK-SOCK-002").must("creation", wsk.socket(Category.LISTEN), succeeded())
'''


def test_without_the_option_nothing_is_kept(runs: Runs) -> None:
    """A failed assertion leaves the guest clean: it is used again."""
    document = runs.run(CASES + "    assert False, 'it failed'\n" + LATER)
    assert document.kept == ()
    assert len({case.guest for case in runs.lines().values()}) == 1


MANY = '''
"""Cases of the test."""

import pytest

from wsklab.abi import Category
from wsklab.pytest_plugin.matchers import succeeded


@pytest.mark.parametrize("number", range(12))
@pytest.mark.rule("WSK-SOCK-001")
def test_create(wsk, observe, number):
    """A listener is created."""
    observe.rule("WSK-SOCK-001").must("creation", wsk.socket(Category.LISTEN), succeeded())


@pytest.mark.parametrize("number", range(3))
@pytest.mark.exclusive
@pytest.mark.rule("WSK-SOCK-001")
def test_alone(wsk, observe, number):
    """One that wants the guest for itself."""
    observe.rule("WSK-SOCK-001").must("creation", wsk.socket(Category.LISTEN), succeeded())
'''


@pytest.mark.parametrize(("each", "workers"), [(1, 4), (3, 2)])
def test_several_workers_and_several_guests(runs: Runs, each: int, workers: int) -> None:
    """More workers than guests, and more guests than workers: every case once, all pass, exclusive ones last."""
    document = runs.run(MANY, kinds=(("w", "wine"), ("x", "windows")), each=each, workers=workers, baseline="")
    assert document.exit_code == 0, runs.output.getvalue()
    cases = load_run(runs.folder / "results", "r1").cases
    assert len({(case.profile, case.case) for case in cases}) == len(cases) == 30
    assert {case.verdict for case in cases} == {CaseVerdict.PASSED}
    for profile in ("w", "x"):
        order = [case.case for case in cases if case.profile == profile]
        # when the first of them is handed out, a worker has at most two others
        assert not any("test_alone" in case for case in order[: 12 - 2 * workers]), order
    assert len({case.worker for case in cases}) == workers


def test_the_death_of_a_guest_kills_no_worker(runs: Runs) -> None:
    """Two workers; guests die under them; both run on until the end, and xdist has replaced none."""
    binds = CASES.replace('@pytest.mark.rule("WSK-BIND-001")', MANY_BINDS).replace("bind(scene", "bind(number, scene")
    document = runs.run(
        binds, faults={"w": "crash"}, explanation=FakeExplanation("crashed", "bugcheck 0xA"), workers=2, each=2
    )
    cases = load_run(runs.folder / "results", "r1").cases
    assert len(cases) == 5
    assert {case.worker for case in cases} == {"gw0", "gw1"}
    assert sum(case.verdict is CaseVerdict.CRASHED for case in cases) == 4
    assert runs.lines()["test_create"].verdict is CaseVerdict.PASSED
    assert "WorkerDied" not in [problem["class"] for problem in document.problems]
    assert document.exit_code == 1


MANY_BINDS = """@pytest.mark.parametrize("number", range(4))
@pytest.mark.rule("WSK-BIND-001")"""


def test_the_longest_case_comes_first(runs: Runs) -> None:
    """The second run knows from the first how long each case takes."""
    slow = MANY.replace('succeeded())\n\n\n@pytest.mark.parametrize("number", range(3))', PAUSES)
    assert slow != MANY
    history = runs.folder / "durations.json"
    runs.run(slow, history=history)
    assert history.is_file()
    shutil.rmtree(runs.folder / "results")
    runs.run(slow, history=history)
    first = load_run(runs.folder / "results", "r1").cases[0]
    assert first.case.endswith("test_create[7]")


PAUSES = """succeeded())
    if number == 7:
        pause(0.3)


from wsklab.deadline import pause


@pytest.mark.parametrize("number", range(3))"""

BROKEN = """
from wsklab.pytest_plugin.session import SESSION


def pytest_runtest_logreport(report):
    if report.when == "teardown" and hasattr(report, "node"):
        report.node.config.stash[SESSION].broker.close()
"""


def test_what_a_guest_finds_at_its_end_is_told(runs: Runs) -> None:
    """The run is written down all the same, with the finding among its problems."""
    document = runs.run(faults={"w": "leftover"})
    assert document.exit_code == 3
    assert [problem["class"] for problem in document.problems] == ["HostError"]
    assert "left over" in document.problems[0]["message"]
    assert {case.verdict for case in runs.lines().values()} == {"passed"}


def test_without_a_broker_the_workers_stop(runs: Runs) -> None:
    """The broker goes in the middle of a run: the workers' next cases are lab errors, then they end; exit code 3."""
    (runs.cases / "conftest.py").write_text(BROKEN)
    document = runs.run(MANY, workers=2)
    cases = load_run(runs.folder / "results", "r1").cases
    ends = [case for case in cases if case.verdict is CaseVerdict.LAB_ERROR]
    assert ends
    assert all("broker" in case.message or "run is over" in case.message for case in ends)
    assert len(cases) < 15
    assert document.exit_code == 3
