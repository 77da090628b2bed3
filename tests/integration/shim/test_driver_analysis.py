"""The driver's sources, read by two static analysers: no finding."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from shim_build import MISSING, SOURCE, build

SOURCES = sorted((SOURCE / "sys").glob("*.c"))
ABSENT = MISSING + [name for name in ("cppcheck",) if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"not on this host: {ABSENT}")


@pytest.fixture(scope="module")
def include() -> list[str]:
    """The folders of the headers, the generated one among them."""
    generated = build("shim", "wsklab") / "shim" / "generated"
    return [f"-I{folder}" for folder in (SOURCE / "sys", SOURCE / "include", SOURCE / "shim", generated)]


def complaints(*argv: str | Path) -> str:
    done = subprocess.run(argv, cwd=SOURCE, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout + done.stderr


def test_cppcheck(include: list[str]) -> None:
    """Errors, warnings, performance and portability."""
    said = complaints(
        *("cppcheck", "--quiet", "--enable=warning,performance,portability", "--suppress=missingIncludeSystem"),
        *("--std=c11", "-D__GNUC__=12", "-j2", *include, *SOURCES),
    )
    assert said == ""


def test_clang(include: list[str]) -> None:
    """Every path that clang's analyser follows through one file."""

    def analyse(path: Path) -> str:
        words = (
            "clang",
            "--analyze",
            "-Xclang",
            "-analyzer-output=text",
            "-std=gnu11",
            "-fshort-wchar",
            "-o",
            "/dev/null",
        )
        return complaints(*words, *include, path)

    with ThreadPoolExecutor(2) as pool:
        assert "".join(pool.map(analyse, SOURCES)) == ""


def test_they_would_say_something(include: list[str], tmp_path: Path) -> None:
    """Both, of a file with a mistake that each can see."""
    wrong = tmp_path / "wrong.c"
    wrong.write_text("int f(int *p) { int a[2]; if (p == 0) { *p = 1; } return a[2]; }\n")
    assert "a[2]" in complaints("cppcheck", "--quiet", "--enable=warning", *include, wrong)
    assert "null pointer" in complaints(
        "clang", "--analyze", "-Xclang", "-analyzer-output=text", "-o", "/dev/null", wrong
    )
