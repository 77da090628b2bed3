"""How much of the driver the shim's own runs execute. The lines that are left, and why: docs/shim.md."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from driver_coverage import exemptions, measure
from shim_build import MISSING

ABSENT = MISSING + [name for name in ("llvm-profdata", "llvm-cov") if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"not on this host: {ABSENT}")

#: Scenarios under a few schedules, the failure sweep, and the fuzzers' corpora.
FLOOR = 95.0
#: All of that and the driver's tests (`tox -e soak`).
WHOLE_FLOOR = 96.0
#: From so many cycles on it is the soak.
SOAK = 100


def test_the_driver_runs(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The lines have a floor, and every outcome in the clean-up comes but for those with a reason."""
    whole = request.config.getoption("--cycles") >= SOAK
    coverage = measure(tmp_path, seeds=10 if whole else 3, whole=whole)
    all_excused = exemptions("exempt") | exemptions("soak")
    excused = exemptions("exempt") if whole else all_excused

    assert coverage.lines > 5000
    assert coverage.percent >= (WHOLE_FLOOR if whole else FLOOR), coverage.describe()
    assert len(coverage.outcomes) > 600
    assert sorted(coverage.untaken - excused) == []
    # An excuse for what is no longer there has gone with it.
    assert sorted(all_excused - coverage.outcomes) == []
