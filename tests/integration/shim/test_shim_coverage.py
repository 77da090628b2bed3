"""How much of the driver the shim's own runs execute. The lines that are left, and why: docs/shim.md."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from driver_coverage import measure
from shim_build import MISSING

ABSENT = MISSING + [name for name in ("llvm-profdata", "llvm-cov") if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"not on this host: {ABSENT}")

#: Scenarios under a few schedules and the fuzzers' corpora.
FLOOR = 91.0
#: All of that, the failure sweep and the driver's tests (`tox -e soak`).
WHOLE_FLOOR = 95.0
#: From so many cycles on it is the soak.
SOAK = 100


def test_lines_of_the_driver_run(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The figure has a floor; below it the message lists every line that did not run."""
    whole = request.config.getoption("--cycles") >= SOAK
    coverage = measure(tmp_path, seeds=10 if whole else 3, whole=whole)

    assert coverage.lines > 5000
    assert coverage.percent >= (WHOLE_FLOOR if whole else FLOOR), coverage.describe()
