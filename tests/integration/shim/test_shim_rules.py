"""Every rule of the kernel shim fires: one deliberately wrong driver for each (driver-src/shim/tests/wrong.c)."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from shim_build import MISSING, SOURCE, build

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not on this host: {MISSING}")

#: Seen by AddressSanitizer, not by a rule of the shim's own.
BY_ADDRESS_SANITIZER = "ASAN"
#: Seen otherwise, or (None) not at all, where threads are threads.
PLAIN = {"PagedTouchedRaised": "leak-pool", "NullPointer": BY_ADDRESS_SANITIZER, "Deadlock": None}

#: Rules about the shim itself and what is built on it, which no driver can break.
NOT_FOR_DRIVERS = {"shim", "no-identity", "leak-buffer", "leak-provider"}


def _mistakes() -> dict[str, str]:
    text = (SOURCE / "shim" / "tests" / "wrong.h").read_text()
    return dict(re.findall(r'X\((\w+), "([\w-]*)"\)', text))


#: Reading debug information takes longer than everything else together.
WITHOUT_NAMES = {"ASAN_OPTIONS": "symbolize=0", "UBSAN_OPTIONS": "symbolize=0"}


def _run(folder: Path, name: str, *seed: str, names: bool = False) -> tuple[int, str]:
    done = subprocess.run(
        [str(folder / "shim-wrong"), str(folder / "wrong.so"), name, *seed],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=dict(os.environ) if names else {**os.environ, **WITHOUT_NAMES},
    )
    return done.returncode, done.stdout + done.stderr


def _broken(output: str) -> str:
    rule = re.search(r"^wsklab-shim: RULE ([\w-]+): ", output, re.MULTILINE)
    if rule is not None:
        return rule.group(1)
    return BY_ADDRESS_SANITIZER if "ERROR: AddressSanitizer" in output else ""


@pytest.fixture(scope="module", params=["shim", "shim-gcc"])
def folder(request: pytest.FixtureRequest) -> Path:
    return build(request.param, "wrong", "shim-wrong")


@pytest.mark.parametrize("mode", ["plain", "deterministic"])
@pytest.mark.parametrize("name", _mistakes())
def test_the_mistake_is_seen(folder: Path, name: str, mode: str) -> None:
    """The rule that the mistake breaks is named, with a stack that leads to who made it."""
    if (folder.name, mode) == ("shim-gcc", "deterministic"):
        return  # the compiler has no say in the schedule
    rule = PLAIN.get(name, _mistakes()[name]) if mode == "plain" else _mistakes()[name]
    if rule is None:
        return  # nothing would end it
    code, output = _run(folder, name, *(("5",) if mode == "deterministic" else ()))
    assert _broken(output) == rule, output[-3000:]
    if rule == "":
        assert code == 0, output
        assert "all is well" in output
    else:
        assert code != 0
        assert re.search(r"#\d+ 0x\w+ .*wrong", output), output[-3000:]


def test_the_stack_names_functions_and_lines(folder: Path) -> None:
    """As users see it: with debug information."""
    output = _run(folder, "WaitRaised", names=True)[1]
    assert re.search(r"in \w+ \S*wrong\.c:\d+", output), output[-3000:]


def test_the_list_is_whole(folder: Path) -> None:
    """The program's list is the one that the tests run through; no rule is without a mistake that breaks it."""
    listed = subprocess.run(
        [str(folder / "shim-wrong"), "--list"], capture_output=True, text=True, check=True, timeout=60
    )
    names = dict(line.split(" ", 1) for line in listed.stdout.splitlines())
    assert {name: rule.strip() for name, rule in names.items()} == _mistakes()
    kernel = "".join(path.read_text() for path in (SOURCE / "shim" / "kernel").glob("*.c"))
    rules = set(re.findall(r'ShimAbort\("([\w-]+)"', kernel)) | set(re.findall(r'"(leak-[\w-]+)"', kernel))
    assert rules - set(_mistakes().values()) == NOT_FOR_DRIVERS
