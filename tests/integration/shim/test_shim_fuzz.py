"""A slice of the fuzzing: random sequences of requests, from the corpus on; whatever is found breaks off."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from shim_build import MISSING, SOURCE, build

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not on this host: {MISSING}")

#: Sequences per target: what CI runs is a slice; `tox -e soak` sets half a million.
RUNS = int(os.environ.get("WSKLAB_INTERNAL_FUZZ_RUNS", "1000"))
_SECONDS_PER_RUN = 0.2


@pytest.fixture(scope="module")
def folder() -> Path:
    return build("shim-fuzz", "wsklab", "fuzz-ioctl", "fuzz-script")


@pytest.mark.parametrize("target", ["ioctl", "script"])
def test_sequences(folder: Path, tmp_path: Path, target: str) -> None:
    """No rule of the shim, no sanitizer, no leak: the driver is as before after each, and unloads at the end."""
    corpus = tmp_path / "corpus"
    shutil.copytree(SOURCE / "shim" / "fuzz" / f"corpus-{target}", corpus)
    known = len(list(corpus.iterdir()))
    assert known > 20
    done = subprocess.run(
        [
            *(folder / f"fuzz-{target}", corpus, f"-runs={known + RUNS}", "-max_len=800", "-timeout=120"),
            *("-print_final_stats=1", f"-artifact_prefix={tmp_path}/"),
        ],
        env={
            **os.environ,
            "WSKLAB_SHIM_DRIVER": str(folder / "wsklab.so"),
            "ASAN_OPTIONS": "detect_leaks=0",  # the shim counts what is left, by itself
        },
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120 + (known + RUNS) * _SECONDS_PER_RUN,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    ran = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    assert ran is not None
    assert int(ran[1]) >= RUNS
    assert "wsklab: unloaded" in done.stderr + done.stdout
