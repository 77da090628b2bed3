"""A run about somebody else's driver: what is refused before anything starts, and what the page shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsklab.deploy import DriverPackage, is_own
from wsklab.errors import UsageError
from wsklab.pytest_plugin.suite import options_of, suite_arguments
from wsklab.run_guests import RunDrivers

ROOT = Path(__file__).parents[2]


def test_the_page_shows_the_file_that_is_run() -> None:
    """The example in docs/own-driver.md is, letter by letter, what the integration tests run."""
    page = (ROOT / "docs" / "own-driver.md").read_text("utf-8")
    shown = page.split("```python\n")[1].split("```")[0]
    assert shown == (ROOT / "docs" / "examples" / "test_echo.py").read_text("utf-8")


@pytest.mark.parametrize(("service", "foreign"), [("wsklab", False), ("wskecho", True)])
def test_a_driver_is_ours_by_its_service(service: str, foreign: bool, tmp_path: Path) -> None:
    """Nobody asks another driver who uses it, also when wskctl comes along."""
    drivers = RunDrivers(windows=None, shim=None, chosen=tmp_path / "x.sys", service=service)
    package = drivers.package(tmp_path / "x.sys", tmp_path / "wskctl.exe")
    assert drivers.foreign is foreign
    assert is_own(package) is not foreign
    assert package == DriverPackage(
        image=tmp_path / "x.sys", service=service, control=tmp_path / "wskctl.exe", foreign=foreign
    )


def test_the_conformance_cases_are_left_out(tmp_path: Path) -> None:
    """pytest collects what the user names, and nothing else."""
    mine = tmp_path / "mine"
    mine.mkdir()
    options = options_of([("shim", "shim")], run_id="r", results=tmp_path, foreign=True)
    words = suite_arguments(
        options, cases=tmp_path / "conformance", settings=tmp_path / "i", workers=0, extra=[str(mine)]
    )
    assert str(tmp_path / "conformance") not in words
    assert f"--rootdir={mine}" in words


def test_a_service_needs_its_driver() -> None:
    """`--service` alone means nothing."""
    from wsklab.cli import run_command
    from wsklab.cli.runtime import Runtime

    with pytest.raises(UsageError, match="--service"):
        run_command.perform(Runtime.__new__(Runtime), [], {}, None, {}, [], "off", "x")
