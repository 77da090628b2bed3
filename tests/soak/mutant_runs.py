"""Conformance cases against something that is wrong on purpose: one process per mutant, many at the same time.

A mutant is *killed* when a case that names its rule finds that rule broken on it, and does not find it broken without
it. What a mutant is made of differs (see `provider_mutants`, `driver_mutants`, `record_mutants`); here it is only an
environment, a driver file, and a change of what the lab reads.
"""

from __future__ import annotations

import ast
import contextlib
import json
import multiprocessing
import multiprocessing.connection
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import case_choice

from wsklab.deadline import Timeouts
from wsklab.deploy import DriverPackage
from wsklab.errors import LabError
from wsklab.profile import GuestProfile, load_profiles
from wsklab.pytest_plugin.options import Profile, RunOptions
from wsklab.pytest_plugin.suite import run_suite
from wsklab.resources import conformance_root, images_root
from wsklab.results.model import CaseResult
from wsklab.results.store import load_run
from wsklab.shim_pool import ShimPool
from wsklab.toolchain import ShimBuild
from wsklab.verdict import FINDINGS, CaseVerdict, RuleVerdict

__all__ = ["Bench", "Killer", "Mutant", "Outcome", "cases_by_file", "run_all", "unmutated"]

#: Verdicts of a rule that kill a mutant; a deviation does where the rule has nothing stronger to say.
_KILLING = FINDINGS | {RuleVerdict.DEVIATION}
#: Ends of cases that decide something.
_ENDS = frozenset({CaseVerdict.PASSED, CaseVerdict.FAILED, CaseVerdict.CRASHED, CaseVerdict.HUNG})
#: What a pool says when the shim or a sanitizer has found something: nothing else ran in that guest.
_AT_ITS_END = "left over at its end"
#: Seconds for one mutant, whatever it does to the driver.
_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """Something that is wrong on purpose.

    Attributes:
        name: `WSK-AREA-NNN/what`; the driver's and the record's name no rule.
        rule: the rule whose cases are run; empty: all cases, until one of them finds something.
        case: only this one of them. file: only the cases of this file, all of them.
        files: only the cases of these files, until one of them finds something; empty: of all files.
        environ: switches it on.
        driver: another driver.
        change: applied in the process before the cases run.
    """

    name: str
    rule: str = ""
    case: str = ""
    file: str = ""
    files: frozenset[str] = frozenset()
    environ: Mapping[str, str] = field(default_factory=dict)
    driver: Path | None = None
    change: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Killer:
    """A case, the rule that it found broken, the verdict, and the first assertion that did not hold."""

    case: str
    rule: str
    verdict: str
    assertion: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        killers: the findings, the first of them first.
        decided: how many cases ran to an end of their own.
        problem: what else went wrong; the guest's finding at its end among it.
    """

    name: str
    killers: tuple[Killer, ...] = ()
    decided: int = 0
    problem: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What all runs share.

    Attributes:
        build: the shim and our driver.
        folder: short (a UNIX socket's path is), one folder per mutant is made and removed in it.
        skipped: cases that are left out: they take long, or find something without any mutant.
        known: findings that are there without any mutant.
    """

    build: ShimBuild
    folder: Path
    skipped: frozenset[str] = frozenset()
    known: frozenset[Killer] = frozenset()

    @property
    def profile(self) -> GuestProfile:
        """The shim's."""
        return load_profiles(images_root())["shim"]


def cases_by_file() -> dict[str, frozenset[str]]:
    """The rules that each file of cases names."""
    found: dict[str, frozenset[str]] = {}
    for path in sorted(conformance_root().glob("test_*.py")):
        calls = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call))
        marks = (call for call in calls if ast.unparse(call.func) == "pytest.mark.rule")
        found[path.name] = frozenset(
            str(word.value) for mark in marks for word in mark.args if isinstance(word, ast.Constant)
        )
    return found


def unmutated(bench: Bench, mutants: Sequence[Mutant], *, jobs: int) -> Iterator[Killer]:
    """What the cases of these mutants find where nothing is wrong on purpose: such a case can kill none of them."""
    rules = {mutant.rule for mutant in mutants}
    names = (name for name, own in cases_by_file().items() if "" in rules or own & rules)
    files = [Mutant(name=name, file=name) for name in names]
    for outcome in run_all(files, replace(bench, folder=bench.folder / "control"), jobs=jobs):
        yield from outcome.killers


def run_all(
    mutants: Sequence[Mutant], bench: Bench, *, jobs: int, say: Callable[[str], None] = lambda _line: None
) -> Iterator[Outcome]:
    """Run them, so many at the same time; in the order in which they end."""
    context = multiprocessing.get_context("fork")
    waiting = list(enumerate(mutants))[::-1]
    running: dict[int, tuple[BaseProcess, Mutant, Path, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            number, mutant = waiting.pop()
            folder = bench.folder / f"{number}"
            folder.mkdir(parents=True)
            process = context.Process(target=_child, args=(mutant, bench, folder))
            process.start()
            running[process.sentinel] = (process, mutant, folder, time.monotonic())
        for ready in multiprocessing.connection.wait(list(running), timeout=1.0):
            process, mutant, folder, began = running.pop(int(ready))  # type: ignore[call-overload]
            process.join()
            yield _outcome_of(mutant, folder, time.monotonic() - began)
        for sentinel, (process, mutant, folder, began) in tuple(running.items()):
            if time.monotonic() - began > _LIMIT_S:
                process.kill()
                process.join()
                del running[sentinel]
                say(f"{mutant.name} did not end")
                yield _outcome_of(mutant, folder, time.monotonic() - began)


def _outcome_of(mutant: Mutant, folder: Path, seconds: float) -> Outcome:
    file = folder / "outcome.json"
    if file.is_file():
        told = json.loads(file.read_text("utf-8"))
        killers = tuple(Killer(**killer) for killer in told.pop("killers"))
        outcome = Outcome(**{**told, "killers": killers, "seconds": round(seconds, 2)})
    else:
        outcome = Outcome(name=mutant.name, problem="the run did not end by itself", seconds=round(seconds, 2))
    shutil.rmtree(folder, ignore_errors=True)
    return outcome


def _child(mutant: Mutant, bench: Bench, folder: Path) -> None:
    """In a process of its own: nothing of it comes back but the file."""
    os.environ.update(mutant.environ)
    if mutant.change is not None:
        mutant.change()
    os.environ[case_choice.WANTED] = mutant.case
    os.environ[case_choice.UNWANTED] = "\n".join(sorted(bench.skipped))
    os.environ[case_choice.FIRST_ONLY] = "" if mutant.rule or mutant.file else "yes"
    pool = ShimPool(
        profiles={"shim": bench.profile},
        build=bench.build,
        package=DriverPackage(image=mutant.driver or bench.build.driver),
        timeouts=Timeouts(),
        folder=folder,
        evidence=folder / "evidence",
    )
    options = RunOptions(
        profiles=(Profile(name="shim", kind="shim"),),
        run_id="r",
        results=folder / "results",
        rules=mutant.rule,
        allow_unimplemented=True,
    )
    cases: Sequence[CaseResult] = ()
    with (folder / "pytest.log").open("w") as log, contextlib.redirect_stderr(log):
        problem = ""
        try:
            document = run_suite(
                pool, options, workers=0, plugins=("case_choice",), extra=_arguments(mutant), output=log
            )
            problem = "; ".join(": ".join(part for part in row.values() if part) for row in document.problems)
        except LabError as error:
            problem = f"{error.message}: {error.why}"
        with contextlib.suppress(LabError):
            cases = load_run(folder / "results", "r").cases
    undecided = (f"{case.case} {case.verdict}: {case.message}" for case in cases if case.verdict == "lab_error")
    problem = "; ".join(filter(None, (*undecided, problem)))
    # one case alone was made to fail: by whichever of its rules it says so
    killers = [one for one in _killers(cases, "" if mutant.case else mutant.rule) if one not in bench.known]
    if not killers and _AT_ITS_END in problem and "exit code" not in problem:
        killers.append(Killer("the guest's end after these cases", mutant.rule, "crashed"))
    decided = sum(case.verdict in _ENDS for case in cases)
    if not killers and decided == 0 and problem:
        # nothing at all works, which the control run without a mutant does
        killers.append(Killer("no case comes to an end", mutant.rule, "lab_error"))
    outcome = Outcome(
        name=mutant.name,
        killers=tuple(killers),
        decided=decided,
        problem=problem[:400],
    )
    (folder / "outcome.part").write_text(json.dumps(asdict(outcome)))
    (folder / "outcome.part").rename(folder / "outcome.json")
    os._exit(0)  # threads of a broken conversation keep nobody here


def _arguments(mutant: Mutant) -> list[str]:
    """Only the files that can matter are read, and without a rule the first finding is enough."""
    if mutant.case or mutant.file:
        wanted = {mutant.file or mutant.case.partition("::")[0]}
    elif mutant.rule:
        wanted = {name for name, rules in cases_by_file().items() if mutant.rule in rules}
    elif mutant.files:
        wanted = set(mutant.files)
    else:
        return ["-q"]
    return ["-q", *(f"--ignore={conformance_root() / name}" for name in cases_by_file() if name not in wanted)]


def _killers(cases: Iterable[CaseResult], rule: str) -> Iterator[Killer]:
    for case in cases:
        for result in case.rules:
            if result.verdict in _KILLING and rule in {"", result.rule}:
                broken = (said.name for said in result.assertions if said.met and not said.held)
                yield Killer(case.case, result.rule, str(result.verdict), next(broken, ""))
