"""The kernel shim, built in the source tree's own build folder: what has not changed is not compiled again."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

NEEDED = ("cmake", "ninja", "clang", "gcc", "llvm-symbolizer")
MISSING = [name for name in NEEDED if shutil.which(name) is None]
SOURCE = Path(__file__).parents[2] / "driver-src"


def build(preset: str, *targets: str) -> Path:
    """Build a preset (all of it, or some targets); the folder of the products."""
    folder = SOURCE / "build" / preset
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for argv in (
            ["cmake", "--preset", preset],
            ["cmake", "--build", str(folder), *(("--target", *targets) if targets else ())],
        ):
            done = subprocess.run(argv, cwd=SOURCE, capture_output=True, text=True, timeout=580, check=False)
            assert done.returncode == 0, f"{argv}:\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return folder
