"""A driver that fails on purpose, in the kernel shim: each way has its verdict, its cause and its evidence.

The same cases run on wine guests by hand and in tests/performance/crashes.py: they cost minutes there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from incident import CASES
from lab_home import SOURCE, build_driver

from wsklab.deadline import Deadline
from wsklab.process import run
from wsklab.resources import driver_source_root
from wsklab.toolchain import build_shim

#: case -> verdict, cause, what the message has to name, verdict of the second attempt
WAYS = {
    "crash[null]": ("crashed", "driver_crash", "null pointer", "crashed"),
    "crash[use_after_free]": ("crashed", "driver_crash", "heap-use-after-free", "crashed"),
    "crash[double_completion]": ("crashed", "driver_crash", "RULE double-completion", "crashed"),
    "crash[stack_overrun]": ("crashed", "driver_crash", "stack-buffer-overflow", "crashed"),
    "crash[bugcheck]": ("crashed", "kernel_crash", "0xE2 MANUALLY_INITIATED_CRASH (0x11, 0x22", "crashed"),
    "hang[spin-worker]": ("hung", "driver_hang", "fail_spin #1 (called ", "hung"),
    "hang[deadlock-worker]": ("hung", "driver_hang", "fail_deadlock #1 (called ", "hung"),
    # four MiB, and what else the driver holds at that moment
    "leak": ("failed", "", " bytes were not freed with their client", None),
}


class Shim:
    """Runs on shim guests with the test build."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        home = build_driver().sys.parents[2]
        self.driver = build_shim(driver_source_root(), home, Deadline.after(240), failures=True).driver
        self.plain = build_shim(driver_source_root(), home, Deadline.after(240)).driver
        self.environ = {"WSKLAB_HOME": str(folder / "home"), "WSKLAB_MODE": "private"}

    def run(self, *cases: str, driver: Path | None = None) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """One run, one worker; its document, and its cases by short name."""
        chosen = [word for case in cases for word in ("--case", f"test_failures.py::test_{case}")]
        argv = [sys.executable, "-m", "wsklab", "run", "--json", "--guest", "shim", "--workers", "1", *chosen]
        argv += ["--driver", str(driver or self.driver), "--", str(CASES)]
        environ = {**os.environ, "PYTHONPATH": str(SOURCE), **self.environ}
        done = run(argv, deadline=Deadline.after(300), check=False, cwd=self.folder, env=environ, output_limit=1 << 24)
        document = json.loads(done.stdout)
        text = (Path(document["results_dir"]) / "results.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        return document, {line["case"].partition("::test_")[2]: line for line in lines}


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    """The test build is made once."""
    return Shim(tmp_path_factory.mktemp("shim"))


def test_each_way_to_fail_has_its_verdict(shim: Shim) -> None:
    """Crash, hang, leak: verdict, cause, words, bucket, second attempt, evidence; and the lab is well afterwards."""
    names = list(WAYS)
    seen: dict[str, dict[str, Any]] = {}
    for group in (names[:3], names[3:6], names[6:]):  # four deaths in a row end a profile
        document, lines = shim.run(*group)
        assert document["exit_code"] == 1
        # the shim counts what is left when a guest is powered off, whatever the case has said of it
        told = [problem["why"] for problem in document["problems"]]
        assert len(told) == ("leak" in group), told
        assert all("RULE leak-pool" in why for why in told)
        seen |= {name: {**line, "results": document["results_dir"]} for name, line in lines.items()}
    for name, (verdict, cause, words, again) in WAYS.items():
        line = seen[name]
        assert (line["verdict"], line["cause"]) == (verdict, cause), line
        assert words in line["message"], line["message"]
        assert (line["second"] or {"verdict": None})["verdict"] == again
        assert bool(line["bucket"]) == (verdict == "crashed")
        folder = Path(line["results"]) / line["evidence"]
        kept = {path.name for path in folder.iterdir()}
        assert {"message.txt", "records.json", "timeline.txt", "console.log", "sources.txt", "reproduce.sh"} <= kept
        assert "fails on purpose" in (folder / "console.log").read_text()


def test_the_script_in_the_evidence_reproduces(shim: Shim) -> None:
    """It runs that case alone, with the same driver, from another folder; and the crash is known by its bucket."""
    document, lines = shim.run("crash[stack_overrun]")
    script = Path(document["results_dir"]) / lines["crash[stack_overrun]"]["evidence"] / "reproduce.sh"
    elsewhere = shim.folder / "elsewhere"
    elsewhere.mkdir()
    done = run(["sh", script], deadline=Deadline.after(200), check=False, cwd=elsewhere, output_limit=1 << 22)
    assert done.exit_code == 1, done.stderr[-2000:]
    assert "crashed, reproduced: shim test_failures.py::test_crash[stack_overrun]: evidence/" in done.stdout
    assert "cannot be kept" not in done.stdout
    (results,) = (elsewhere / "results").glob("*/results.jsonl")
    (line,) = (json.loads(text) for text in results.read_text().splitlines())
    assert line["case"] == "test_failures.py::test_crash[stack_overrun]"
    assert line["verdict"] == "crashed"
    (crash,) = json.loads(results.with_name("run.json").read_text())["crashes"]
    assert crash["bucket"] == line["bucket"]
    assert crash["count"] >= 2
    assert not crash["is_new"]


def test_no_other_build_fails_on_request(shim: Shim) -> None:
    """The driver that is deployed has neither the code nor the numbers: the request is refused, and nothing dies."""
    document, lines = shim.run("crash[null]", driver=shim.plain)
    assert lines["crash[null]"]["verdict"] == "failed"
    assert "the driver refused FAIL_NULL" in lines["crash[null]"]["message"]
    assert document["crashes"] == []
    words = b"fails on purpose"
    assert words in shim.driver.read_bytes()
    assert words not in shim.plain.read_bytes()
    assert words not in build_driver().sys.read_bytes()
