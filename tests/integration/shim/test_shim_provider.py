"""The WSK provider of the shim against the host's sockets: every case of driver-src/shim/tests/provider_*.c."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from shim_build import MISSING, SOURCE, build

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not on this host: {MISSING}")

CASE = re.compile(r'^CASE(?:_ABORTS)?\((\w+)(?:, "([\w-]+)")?\) \{', re.MULTILINE)
NETWORK_CASE = re.compile(r"^CASE_NETWORK\((\w+)\) \{", re.MULTILINE)
SEEDS = ("1", "2", "3")
MODES = (("plain",), *(("random", seed) for seed in SEEDS), *(("deterministic", seed) for seed in SEEDS))


def _cases() -> dict[str, str]:
    """Names, and the rule that ends each: empty where none may."""
    sources = sorted((SOURCE / "shim" / "tests").glob("provider_*.c"))
    return dict(pair for path in sources for pair in CASE.findall(path.read_text()))


def _network_cases() -> list[str]:
    """Names of those that test_shim_provider_network.py runs."""
    sources = sorted((SOURCE / "shim" / "tests").glob("provider_*.c"))
    return [name for path in sources for name in NETWORK_CASE.findall(path.read_text())]


def _run(folder: Path, *argv: str) -> tuple[int, str]:
    done = subprocess.run(
        [str(folder / "shim-provider"), *argv],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "ASAN_OPTIONS": "symbolize=0"},  # reading debug information takes longer than the cases
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder() -> Path:
    return build("shim", "shim-provider")


@pytest.mark.parametrize("mode", MODES, ids="-".join)
@pytest.mark.parametrize("name", _cases())
def test_case(folder: Path, name: str, mode: tuple[str, ...]) -> None:
    """It passes whichever way WSK's freedom goes; a case that breaks a rule is told which."""
    if _cases()[name] and mode[0] == "random":
        return  # the mistake is made before anything may go either way
    code, output = _run(folder, name, *mode)
    rule = re.search(r"^wsklab-shim: RULE ([\w-]+): ", output, re.MULTILINE)

    assert (rule.group(1) if rule else "") == _cases()[name], output[-4000:]
    assert (code == 0) == (_cases()[name] == ""), output[-4000:]


def test_the_list_is_whole(folder: Path) -> None:
    """The program has the cases that the sources name."""
    listed = _run(folder, "--list")[1]

    assert {line.split(" ")[0] for line in listed.splitlines()} == set(_cases()) | set(_network_cases())
