"""The whole mutation proof: every mutant is killed by a case that names its rule, or listed with the reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from shim_build import MISSING, build

PROGRAM = Path(__file__).with_name("mutation.py")


@pytest.mark.skipif(bool(MISSING), reason=f"not on this host: {MISSING}")
@pytest.mark.parametrize("sort", ["named", "generated", "record", "driver"])
def test_every_mutant_is_killed_or_listed(sort: str) -> None:
    """Wrong providers by name, wrong providers per MUST assertion, wrong records, wrong drivers."""
    build("shim")
    done = subprocess.run([sys.executable, str(PROGRAM), sort], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
