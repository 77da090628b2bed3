"""Which lines of the driver ran: the shim's build that counts, and what llvm-cov makes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from shim_build import SOURCE, build

PRESET = "shim-coverage"


@dataclass(frozen=True)
class Coverage:
    """Lines of driver-src/sys that hold code: how many there are, and those that never ran, by file."""

    lines: int
    missed: dict[str, tuple[int, ...]]

    @property
    def percent(self) -> float:
        """How many of the lines ran."""
        return 100 * (1 - sum(map(len, self.missed.values())) / self.lines)

    def describe(self) -> str:
        """The figure, and every line that did not run, with its text."""
        out = [f"{self.percent:.2f} % of {self.lines} lines"]
        for name, numbers in self.missed.items():
            text = (SOURCE / "sys" / name).read_text().splitlines()
            out += [f"{name}:{number}: {text[number - 1].strip()}" for number in numbers]
        return "\n".join(out)


def measure(tmp: Path, *, seeds: int, whole: bool) -> Coverage:
    """Run scenarios and the fuzzers' corpora; with `whole` the failure sweep and the driver's tests, too.

    Run as a program, this prints the figure and the lines: PYTHONPATH=lab:tests/contracts python driver_coverage.py
    """
    folder = build(PRESET)
    driver = folder / "wsklab.so"
    env = {
        **{name: value for name, value in os.environ.items() if name != "WSKLAB_FUZZ_ROUNDS"},
        "LLVM_PROFILE_FILE": f"{tmp}/%m-%p.profraw",
        "WSKLAB_SHIM_DRIVER": str(driver),
        "WSKLAB_SHIM_PRESET": PRESET,
    }
    scenario = (folder / "shim-scenario", driver)
    jobs = [
        (*scenario, "explore", "all", "1", str(seeds)),
        (*scenario, "LostCompletion"),
        *((folder / f"fuzz-{name}", SOURCE / "shim" / "fuzz" / f"corpus-{name}") for name in ("ioctl", "script")),
    ]
    if whole:
        tests = sorted((SOURCE.parent / "tests" / "integration" / "shim").glob("test_driver_*.py"))
        jobs += [(*scenario, "sweep", "all"), (sys.executable, "-m", "pytest", "-q", "-n", "2", *tests)]
    for argv in jobs:
        done = subprocess.run(argv, env=env, capture_output=True, text=True, errors="replace", timeout=900, check=False)
        assert done.returncode == 0, f"{argv}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    merged = tmp / "merged"
    subprocess.run(["llvm-profdata", "merge", "-o", merged, *tmp.glob("*.profraw")], check=True, timeout=120)
    return _read(subprocess.run(
        ["llvm-cov", "export", driver, f"-instr-profile={merged}", "-format=lcov"],
        capture_output=True, text=True, check=True, timeout=120,
    ).stdout)  # fmt: skip


def _read(lcov: str) -> Coverage:
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
    return Coverage(lines, {name: tuple(numbers) for name, numbers in sorted(missed.items())})


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        sys.stdout.write(measure(Path(made), seeds=6, whole=True).describe() + "\n")
