"""What the kit brings back, as a run in the matrix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wsklab.errors import UsageError
from wsklab.results.from_kit import import_kit_result
from wsklab.results.store import list_runs, load_run
from wsklab.rules import load_catalogue
from wsklab.verdict import CaseVerdict, RuleVerdict


def result(*, held: bool = True, wine: str | None = None, start: int = 0) -> dict[str, Any]:
    """A result.json as run.cmd leaves it."""
    case = {
        "rule": "WSK-SOCK-001",
        "name": "sample",
        "verdict": "passed" if held else "failed",
        "findings": [{"text": "a new socket", "held": held}, {"record": {"op": 1}}],
    }
    foreign = {"rule": "KIT-ABI", "name": "abi", "verdict": "passed", "findings": []}
    run = {
        "started": "2026-11-20T10:00:00Z",
        "ended": "2026-11-20T10:00:09Z",
        "open_win32": 0,
        "driver": {"hello_status": 0, "abi_fits": True},
        "cases": [case, foreign],
    }
    identity = {
        "version": "0.1", "sha256": "a" * 64, "driver_sha256": "b" * 64, "os_major": 10, "os_minor": 0,
        "os_build": 19045, "os_revision": 5011, "wine": wine, "architecture": "amd64",
    }  # fmt: skip
    steps = [
        {"name": "test_signing", "code": 1},
        {"name": "start", "code": start},
        {"name": "reload_start_1", "code": 0},
    ]
    return {
        "kind": "wsklab-kit",
        "schema": 1,
        "reported": "2026-11-20T10:00:10Z",
        "computer": "BENCH",
        "user": "someone",
        "wskctl": identity,
        "steps": steps,
        "run": run if start == 0 else None,
    }


def imported(tmp_path: Path, document: dict[str, Any], by: str = "") -> Any:
    """Import one result."""
    file = tmp_path / "result.json"
    file.write_text(json.dumps(document))
    return import_kit_result(file, tmp_path / "results", load_catalogue(), by=by)


def test_passed_result_of_windows(tmp_path: Path) -> None:
    """A good result is a run of kind windows with who and when, and exit code 0."""
    document = imported(tmp_path, result())

    (row,) = document.results
    assert (document.exit_code, row.kind, row.verdict, row.build) == (0, "windows", RuleVerdict.PASSED, "19045.5011")
    assert document.imported == "someone on BENCH, 2026-11-20T10:00:10Z by that machine's clock"


def test_first_failure_on_windows_is_disputed(tmp_path: Path) -> None:
    """A rule that nobody has seen to hold on Windows is disputed at its first failure there."""
    (row,) = imported(tmp_path, result(held=False)).results

    assert row.verdict is RuleVerdict.DISPUTED


def test_result_from_wine_is_of_kind_wine(tmp_path: Path) -> None:
    """The kit run on Wine never counts as Windows, and its failure is a failure."""
    (row,) = imported(tmp_path, result(held=False, wine="8.0")).results

    assert (row.kind, row.verdict) == ("wine", RuleVerdict.FAILED)


def test_driver_that_did_not_start(tmp_path: Path) -> None:
    """Without a started driver the step is a failed case and the reason stands among the problems."""
    document = imported(tmp_path, result(start=577))

    assert (document.exit_code, document.problems[0]["why"]) == (1, "the driver's start ended with 577")
    assert CaseVerdict.FAILED in {total.verdict for total in document.totals}


def test_imported_run_is_listed_and_shown(tmp_path: Path) -> None:
    """It stands among the other runs, with all its files."""
    document = imported(tmp_path, result(), by="Ann")
    root = tmp_path / "results"

    (summary,) = list_runs(root)
    assert (summary.run_id, summary.imported.split(",")[0]) == (document.run_id, "Ann")
    assert load_run(root, document.run_id).document == document
    assert {path.name for path in summary.path.iterdir()} >= {"results.jsonl", "run.json", "junit.xml", "matrix.html"}


def test_second_import_is_refused(tmp_path: Path) -> None:
    """The same file twice would count twice."""
    imported(tmp_path, result())

    with pytest.raises(UsageError, match="imported before"):
        imported(tmp_path, result())
