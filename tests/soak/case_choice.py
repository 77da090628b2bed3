"""A pytest plugin for the runs of mutants: one case, or all but some, by the names that results give them."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from wsklab.pytest_plugin.case import CASE, case_name
from wsklab.verdict import CaseVerdict

#: The one case to keep; empty: all.
WANTED = "WSKLAB_TEST_CASE"
#: Cases to leave out, one a line.
UNWANTED = "WSKLAB_TEST_LEFT_OUT"
#: Not empty: the first finding ends the run; what the lab could not look at does not.
FIRST_ONLY = "WSKLAB_TEST_FIRST_FINDING"

_FINDINGS = frozenset({CaseVerdict.FAILED, CaseVerdict.CRASHED, CaseVerdict.HUNG})


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before the lab's own plugin sees them."""
    wanted = os.environ.get(WANTED, "")
    unwanted = set(os.environ.get(UNWANTED, "").splitlines())
    names = {item: case_name(item.nodeid, "shim") for item in items}
    items[:] = [item for item in items if names[item] not in unwanted and wanted in {"", names[item]}]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """After the lab's own plugin has given its verdict."""
    report = yield
    case = item.stash.get(CASE, None)
    if os.environ.get(FIRST_ONLY) and call.when == "teardown" and case is not None and case.verdict in _FINDINGS:
        item.session.shouldstop = "a finding"
    return report
