"""What users of the driver do, in the shim: under many schedules, and with every allocation failing in turn."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from shim_build import MISSING, build

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not on this host: {MISSING}")

#: Flag of a scenario that leaves something behind on purpose (shim/tests/scenario.h).
LOSES = 4
SITE = re.compile(r"^site (?P<count>\d+) failed (?P<failed>\d+) what (?P<what>.*) where (?P<where>.*)$", re.MULTILINE)
#: Sites that there were on the day of the last look: fewer means that scenarios have gone.
FEWEST_SITES = 125


@pytest.fixture(scope="module")
def folder() -> Path:
    return build("shim", "shim-scenario", "wsklab")


def run(folder: Path, *words: str, timeout_s: float = 500) -> str:
    """The program's output; what it says when it breaks off names the scenario and its seed."""
    argv = [str(folder / "shim-scenario"), str(folder / "wsklab.so"), *words]
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stderr[-6000:]}"
    return done.stdout


def test_schedules(folder: Path, request: pytest.FixtureRequest) -> None:
    """Every scenario under so many schedules: completions inline, later, after the close, after the cancel."""
    seeds = request.config.getoption("--cycles")
    said = run(folder, "explore", "all", "1", str(seeds), timeout_s=max(500, 2 * seeds))
    traces = re.findall(r"^trace (\w+) (\d+) (\w+)$", said, re.MULTILINE)

    names = {name for name, _, _ in traces}
    assert len(names) >= 60
    assert len(traces) == len(names) * seeds
    assert len({trace for _, _, trace in traces}) > len(traces) / 2  # they are different schedules


def test_the_same_seed_is_the_same_schedule(folder: Path) -> None:
    """What a failure prints can be run again, where the host's sockets have no say."""
    first, second = (run(folder, "explore", "Looks", "1", "20") for _ in range(2))

    assert first == second


def test_real_threads(folder: Path) -> None:
    """Every scenario on threads of the host, in real time; those that lose something in a process of their own, too."""
    listed = subprocess.run([folder / "shim-scenario", "--list"], capture_output=True, text=True, check=True).stdout
    names = [line.split(" ")[0] for line in listed.splitlines()]

    assert len(names) >= 40
    for name in names:
        assert run(folder, name, "random", "1", timeout_s=60).endswith("passed\n")


def test_every_allocation_fails(folder: Path) -> None:
    """No site is left out: those that only come to their turn behind another failure fail with it."""
    sites = [match.groupdict() for match in SITE.finditer(run(folder, "sweep", "all"))]

    assert len(sites) >= FEWEST_SITES
    assert [f"{site['what']}: {site['where']}" for site in sites if site["failed"] == "0"] == []
