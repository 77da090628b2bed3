"""The whole suite on the shim, again and again: a case whose verdict changes between runs is flaky, and is mended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from lab_home import LabCommand

from wsklab.results.store import load_run

RUNS = 20


def _verdicts(folder: Path, document: dict[str, Any]) -> dict[str, str]:
    run = load_run(folder / "results", document["run_id"])
    return {case.item: f"{case.verdict}: {case.message.partition(chr(10))[0]}" for case in run.cases}


def test_no_case_is_flaky(tmp_path: Path) -> None:
    """Twenty runs in a row by two workers: every case passes every time, every rule has the verdict of the first run,
    and no guest has anything left over."""
    if os.geteuid() != 0:
        pytest.skip("shim guests have networks of their own as root only")
    home = tmp_path / "home"
    home.mkdir()
    lab = LabCommand(home, tmp_path)
    bad: list[str] = []
    rules: dict[str, str] = {}
    for number in range(1, RUNS + 1):
        answer = lab.run("run", "--guest", "shim", "--workers", "2", "--json", seconds=900)
        bad += [
            f"run {number}: {item}: {said}"
            for item, said in _verdicts(tmp_path, answer.document).items()
            if not said.startswith(("passed", "skipped"))
        ]
        for row in answer.document["results"]:
            before = rules.setdefault(row["rule"], row["verdict"])
            bad += [f"run {number}: {row['rule']}: {row['verdict']}, was {before}"] if row["verdict"] != before else []
        bad += [f"run {number}: {problem}" for problem in answer.document["problems"]]
        bad += [f"run {number}: exit code {answer.code}"] if answer.code else []
    assert bad == []
