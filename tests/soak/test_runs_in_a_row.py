"""The whole suite again and again: a case whose verdict changes between runs is flaky, and is mended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from lab_home import LabCommand, furnish

from wsklab.results.store import load_run

RUNS = 20


def _cases(folder: Path, document: dict[str, Any]) -> dict[str, str]:
    run = load_run(folder / "results", document["run_id"])
    return {case.item: f"{case.verdict}: {case.message.partition(chr(10))[0]}" for case in run.cases}


@pytest.mark.parametrize("profile", ["shim", "wine-bookworm", "wine-trixie"])
def test_no_case_is_flaky(tmp_path: Path, profile: str) -> None:
    """Twenty runs in a row by two workers: every case and every rule has the verdict of the first run, no case fails,
    and no guest has anything left over."""
    if os.geteuid() != 0:
        pytest.skip("guests have networks of their own as root only")
    home = tmp_path / "home"
    home.mkdir()
    if profile != "shim":
        furnish(home, profile)
    lab = LabCommand(home, tmp_path)
    words = ("run", "--guest", profile, "--workers", "2", "--allow-unimplemented", "--json")
    bad: list[str] = []
    first: dict[str, str] = {}
    for number in range(1, RUNS + 1):
        answer = lab.run(*words, seconds=900)
        cases = _cases(tmp_path, answer.document)
        verdicts = {item: said.partition(":")[0] for item, said in cases.items()}
        verdicts |= {row["rule"]: row["verdict"] for row in answer.document["results"]}
        first = first or verdicts
        names = first.keys() | verdicts.keys()
        now = ((name, first.get(name), verdicts.get(name)) for name in sorted(names))
        bad += [
            f"run {number}: {name}: {verdict}, was {before}; {cases.get(name, '')}"
            for name, before, verdict in now
            if verdict != before
        ]
        bad += [
            f"run {number}: {item}: {said}"
            for item, said in cases.items()
            if not said.startswith(("passed", "skipped"))
        ]
        bad += [f"run {number}: {problem}" for problem in answer.document["problems"]]
        bad += [f"run {number}: exit code {answer.code}"] if answer.code else []
    assert bad == []
