"""Options of the project's own tests; and the shared contracts made importable.

`from channel_contract import ...` works in every test (pytest runs in importlib mode).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "contracts"))

#: Set for the inner half of a system mode test.
INSIDE = "WSKLAB_TEST_INSIDE_SYSTEM_MODE"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--no-skips`, for CI: it must not go green by skipping. `--cycles`, for the soak."""
    parser.addoption("--cycles", type=int, default=20, metavar="N", help="how often chaos tests break something")
    parser.addoption("--no-skips", action="store_true", help="a test that is skipped is a failed test")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers of the project's own tests."""
    config.addinivalue_line("markers", "often: a scenario of tests/chaos that CI runs, too")
    config.addinivalue_line(
        "markers", "inside_system_mode: run by an outer test, in the environment that it makes; never by itself"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A file of the system mode has an outer and an inner half; each run sees one of them."""
    if not any(item.get_closest_marker("inside_system_mode") for item in items):
        return
    inside = INSIDE in os.environ
    if not inside:
        chosen = [item for item in items if not item.get_closest_marker("inside_system_mode")]
    else:
        chosen = [item for item in items if item.get_closest_marker("inside_system_mode")]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn skips into failures where that was asked for; the reason stays."""
    report: Any = yield
    if item.config.getoption("--no-skips", default=False) and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: {reason}\nA part that is missing is an error here (--no-skips)."
    return report
