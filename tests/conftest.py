"""Options of the project's own tests; and the shared contracts made importable.

`from channel_contract import ...` works in every test (pytest runs in importlib mode).
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "contracts"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--no-skips`, for CI: it must not go green by skipping."""
    parser.addoption("--no-skips", action="store_true", help="a test that is skipped is a failed test")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn skips into failures where that was asked for; the reason stays."""
    report: Any = yield
    if item.config.getoption("--no-skips", default=False) and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: {reason}\nA part that is missing is an error here (--no-skips)."
    return report
