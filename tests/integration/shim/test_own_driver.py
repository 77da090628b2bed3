"""A driver that is not wsklab's, with cases of its own: docs/own-driver.md, on a guest of kind shim."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from shim_build import MISSING, build

from wsklab.deadline import Timeouts
from wsklab.deploy import DriverPackage
from wsklab.errors import UsageError
from wsklab.profile import load_profiles
from wsklab.pytest_plugin.suite import options_of, run_suite
from wsklab.resources import images_root
from wsklab.results.model import RunDocument
from wsklab.shim_pool import ShimPool
from wsklab.toolchain import ShimBuild

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "test_echo.py"


@pytest.fixture
def pool(tmp_path: Path) -> ShimPool:
    if MISSING:
        pytest.skip(f"not on this host: {MISSING}")
    built = build("shim", "wskecho", "wsklab", "wsklab-shim")
    return ShimPool(
        profiles={"shim": load_profiles(images_root())["shim"]},
        build=ShimBuild(program=built / "wsklab-shim", driver=built / "wsklab.so", digest="0" * 64),
        package=DriverPackage(image=built / "wskecho.so", service="wskecho", foreign=True),
        timeouts=Timeouts(),
        folder=tmp_path / "g",
        evidence=tmp_path / "e",
    )


def _run(pool: ShimPool, folder: Path, *words: str) -> RunDocument:
    options = options_of([("shim", "shim")], run_id="own", results=folder / "results", foreign=True)
    return run_suite(pool, options, workers=0, extra=[*words, "-q"], output=io.StringIO())


def test_the_documented_example(pool: ShimPool, tmp_path: Path) -> None:
    """Echo, counters, three reloads with a connection open; afterwards the shim finds nothing left over."""
    document = _run(pool, tmp_path, str(EXAMPLE))
    assert document.problems == ()
    assert [(row.verdict, row.cases) for row in document.totals] == [("passed", 2)]
    assert document.exit_code == 0
    assert document.results == ()  # no rule was asked for


def test_ours_is_not_there(pool: ShimPool, tmp_path: Path) -> None:
    """A case that asks for `wsk` in such a run is told why it gets none."""
    (tmp_path / "test_wrong.py").write_text("def test_wrong(wsk):\n    pass\n")
    document = _run(pool, tmp_path, str(tmp_path / "test_wrong.py"))
    assert [(row.verdict, row.cases) for row in document.totals] == [("lab_error", 1)]
    assert "wskecho, not ours" in (tmp_path / "results" / "own" / "results.jsonl").read_text()


def test_cases_have_to_be_named(pool: ShimPool, tmp_path: Path) -> None:
    """The conformance cases say nothing about such a driver, so none is run by itself."""
    with pytest.raises(UsageError, match="the driver is not ours"):
        _run(pool, tmp_path)
    pool.close()
