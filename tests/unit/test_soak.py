"""The soak can begin: what it is to repeat is collected as often as it says. Nothing else collects it for months."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from wsklab.deadline import Deadline
from wsklab.process import run

_ROOT = Path(__file__).parents[2]


def _collected(*words: str) -> Counter[str]:
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *words]
    lines = run(argv, deadline=Deadline.after(120), cwd=_ROOT).stdout.splitlines()
    return Counter(line.partition("[")[0] for line in lines if line.startswith("tests/"))


def test_every_scenario_is_there_ten_times() -> None:
    """All of them with the soak's count, a few of them once without it."""
    soak = _collected("tests/chaos/test_scenarios.py", "--cycles", "500")
    assert set(soak.values()) == {10}
    assert len(soak) >= 16
    often = _collected("tests/chaos/test_scenarios.py")
    assert set(often.values()) == {1}
    assert len(often) == 5
    assert set(often) < set(soak)


def test_the_soak_collects() -> None:
    """The command line of tox.ini, as it is there."""
    (line,) = (line for line in (_ROOT / "tox.ini").read_text().splitlines() if "pytest tests/chaos tests/soak" in line)
    words = line.split("pytest ")[1].replace("{posargs}", "").split()
    assert _collected(*words)
