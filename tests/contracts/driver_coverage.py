"""Which lines of the driver and which branches of its clean-up ran: by the shim's build that counts, and llvm-cov."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shim_build import SOURCE, build

PRESET = "shim-coverage"

#: A condition that asks whether something failed, or is there at all.
_ASKS = re.compile(r"NT_SUCCESS|[!=]= NULL")
#: Functions that undo: every condition in them counts.
_UNDOES = re.compile(
    r"Abandon|Cancel|Close|Delete|Detach|Dispose|Forget|Free|GiveBack|LetGo|Release|Settle|Stop|Teardown|Undo|Uninitialize"
)
_ANNOTATION = re.compile(r"_\w+_\([^)]*\)|_Use_decl_annotations_")
_LABEL = re.compile(r"^(?!default:)\w+:$")
#: Schedules of the scenarios in which two users meet at one moment: more than of the others; and with `whole`.
_EDGES = 60
_WHOLE_EDGES = 1000


@dataclass(frozen=True)
class Coverage:
    """What ran of driver-src/sys.

    Attributes:
        lines: how many hold code.
        missed: those that never ran, by file.
        outcomes: of the branches of the clean-up, as "FILE FUNCTION: CONDITION is true|false".
        untaken: those that never came.
    """

    lines: int
    missed: dict[str, tuple[int, ...]]
    outcomes: frozenset[str]
    untaken: frozenset[str]

    @property
    def percent(self) -> float:
        """How many of the lines ran."""
        return 100 * (1 - sum(map(len, self.missed.values())) / self.lines)

    def describe(self) -> str:
        """The figures, every line that did not run, with its text, and every outcome that did not come."""
        out = [f"{self.percent:.2f} % of {self.lines} lines"]
        for name, numbers in self.missed.items():
            text = (SOURCE / "sys" / name).read_text().splitlines()
            out += [f"{name}:{number}: {text[number - 1].strip()}" for number in numbers]
        out.append(f"{len(self.untaken)} of {len(self.outcomes)} outcomes in the clean-up did not come")
        return "\n".join([*out, *sorted(self.untaken)])


def exemptions(kind: str) -> frozenset[str]:
    """Outcomes that need not come: of kind "exempt" ever, of kind "soak" but in the soak."""
    with (Path(__file__).parent / "driver_exemptions.toml").open("rb") as file:
        return frozenset(outcome for group in tomllib.load(file)[kind] for outcome in group["outcomes"])


def measure(tmp: Path, *, seeds: int, whole: bool) -> Coverage:
    """Run scenarios, the failure sweep and the fuzzers' corpora; with `whole` the driver's tests, too.

    Run as a program, this prints figures, lines and outcomes: PYTHONPATH=lab:tests/contracts python driver_coverage.py
    """
    folder = build(PRESET)
    driver = folder / "wsklab.so"
    env = {
        **{name: value for name, value in os.environ.items() if name != "WSKLAB_INTERNAL_FUZZ_ROUNDS"},
        "LLVM_PROFILE_FILE": f"{tmp}/%m-%p.profraw",
        "WSKLAB_SHIM_DRIVER": str(driver),
        "WSKLAB_SHIM_PRESET": PRESET,
    }
    scenario = (folder / "shim-scenario", driver)
    jobs = [
        (*scenario, "explore", "all", "1", str(seeds)),
        *((*scenario, "explore", name, "1", str(_WHOLE_EDGES if whole else _EDGES)) for name in _edge_scenarios()),
        (*scenario, "LostCompletion"),
        (*scenario, "sweep", "all"),
        *((folder / f"fuzz-{name}", SOURCE / "shim" / "fuzz" / f"corpus-{name}") for name in ("ioctl", "script")),
    ]
    if whole:
        tests = sorted((SOURCE.parent / "tests" / "integration" / "shim").glob("test_driver_*.py"))
        jobs.append((sys.executable, "-m", "pytest", "-q", "-n", "2", *tests))
    for argv in jobs:
        done = subprocess.run(argv, env=env, capture_output=True, text=True, errors="replace", timeout=900, check=False)
        assert done.returncode == 0, f"{argv}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    merged = tmp / "merged"
    subprocess.run(["llvm-profdata", "merge", "-o", merged, *tmp.glob("*.profraw")], check=True, timeout=120)
    return read(driver, merged)


def _edge_scenarios() -> list[str]:
    text = (SOURCE / "shim" / "tests" / "scenario_edges.c").read_text()
    return re.findall(r"^SCENARIO\((\w+)\)", text, re.MULTILINE)


def read(driver: Path, merged: Path) -> Coverage:
    """What the counts of a merged profile say."""
    lines, missed = _read_lines(_export(driver, merged, "lcov"))
    outcomes, untaken = _read_branches(json.loads(_export(driver, merged, "text")))
    return Coverage(lines, missed, outcomes, untaken)


def _export(driver: Path, merged: Path, form: str) -> str:
    argv = ["llvm-cov", "export", driver, f"-instr-profile={merged}", f"-format={form}"]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120).stdout


def _read_lines(lcov: str) -> tuple[int, dict[str, tuple[int, ...]]]:
    lines = 0
    name = ""
    missed: dict[str, list[int]] = {}
    for line in lcov.splitlines():
        word, _, rest = line.partition(":")
        if word == "SF":
            path = Path(rest)
            name = path.name if path.parent.name == "sys" and path.suffix == ".c" else ""
        elif word == "DA" and name:
            number, count = rest.split(",")[:2]
            lines += 1
            if count == "0":
                missed.setdefault(name, []).append(int(number))
    return lines, {name: tuple(numbers) for name, numbers in sorted(missed.items())}


def _read_branches(document: dict[str, Any]) -> tuple[frozenset[str], frozenset[str]]:
    outcomes: dict[str, int] = {}
    for file in document["data"][0]["files"]:
        path = Path(file["filename"])
        if path.parent.name != "sys" or path.suffix != ".c":
            continue
        text = (SOURCE / "sys" / path.name).read_text().splitlines()
        places = _places(text)
        for row, column, end_row, end_column, true, false, *_ in file["branches"]:
            condition = text[row - 1][column - 1 : end_column - 1 if row == end_row else None]
            function, undoes = places[row - 1]
            if not undoes and not _ASKS.search(condition):
                continue
            for word, count in (("true", true), ("false", false)):
                outcome = f"{path.name} {function}: {condition} is {word}"
                outcomes[outcome] = min(count, outcomes.get(outcome, count))
    return frozenset(outcomes), frozenset(outcome for outcome, count in outcomes.items() if count == 0)


def _places(text: list[str]) -> list[tuple[str, bool]]:
    """For each line its function, and whether it undoes: by the function's name, or behind a label."""
    function = ""
    behind_label = False
    places = []
    for line in text:
        if line and not line[0].isspace() and not line.startswith(("/", "#", "}", "*", "{")):
            behind_label = _LABEL.match(line) is not None
            if not behind_label and (head := re.search(r"\b(\w+)\(", _ANNOTATION.sub("", line))):
                function = head[1]
        places.append((function, behind_label or _UNDOES.search(function) is not None))
    return places


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        sys.stdout.write(measure(Path(made), seeds=6, whole=True).describe() + "\n")
