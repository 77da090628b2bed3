"""A lab home in private mode for the session, furnished from a baked one; root only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_home import LabCommand, build_driver, furnish

from wsklab.toolchain import BuildResult


@pytest.fixture(scope="session")
def lab_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A furnished home, shared by the tests of the session: each leaves it without a guest."""
    if os.geteuid() != 0:
        pytest.skip("private mode needs root")
    root = tmp_path_factory.mktemp("lab") / "home"
    root.mkdir()
    furnish(root)
    return root


@pytest.fixture(scope="session")
def built() -> BuildResult:
    """The driver and wskctl."""
    return build_driver()


@pytest.fixture(scope="module")
def lab(lab_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabCommand]:
    """Commands on that home, in a folder of the module's own; nothing survives the module."""
    made = LabCommand(lab_root, tmp_path_factory.mktemp("folder"))
    yield made
    made.ok("gc", "--json")
    for row in made.ok("list", "--json")["guests"]:
        made.ok("down", row["name"], "--json")
    assert made.processes() == []
    assert made.holder() is None
