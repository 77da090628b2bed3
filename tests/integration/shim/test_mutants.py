"""The mutation proof's table is whole, and a slice of it is proved again: see tests/soak/mutation.py for all of it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from shim_build import MISSING, build

from wsklab.rules import AssertionClass, load_catalogue

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not on this host: {MISSING}")

SOAK = Path(__file__).parents[2] / "soak"


def table() -> dict[str, dict[str, str]]:
    """`mutants.toml`."""
    return tomllib.loads((SOAK / "mutants.toml").read_text("utf-8"))


def test_every_named_mutant_has_its_line() -> None:
    """What the provider's sources name is killed or listed, and nothing else stands in the table."""
    program = build("shim", "shim-provider") / "shim-provider"
    listed = subprocess.run([str(program), "--mutants"], capture_output=True, text=True, check=True, timeout=60)
    named = set(listed.stdout.split())
    kept = table()
    survivors = {name for name in kept["survivors"] if name.startswith("WSK-") and name.count("/") == 1}
    assert set(kept["named"]) | survivors == named
    assert set(kept["named"]) & survivors == set()
    assert all(kept["survivors"].values())
    assert all(kept["chance"].values())
    assert not kept["survivors"].keys() & kept["chance"].keys()


def test_every_must_rule_has_a_mutant_that_is_killed() -> None:
    """Of the catalogue's rules with a MUST, those without one are listed with the reason."""
    must = {rule.id for rule in load_catalogue() if AssertionClass.MUST in rule.asserts}
    kept = table()
    killed = {name.partition("/")[0] for sort in ("named", "generated") for name in kept[sort]}
    assert must - killed == set(kept["without"]) & must
    assert set(kept["without"]) <= must


def test_a_slice_is_proved_again() -> None:
    """A few of each hundred wrong providers, against the cases of their rules, as the soak does with all."""
    build("shim")
    words = [sys.executable, str(SOAK / "mutation.py"), "named", "--slice", "7/48"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert " killed, " in done.stdout
