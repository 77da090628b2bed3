"""The kit in a wine guest, as a user with a foreign machine has it: files, a prompt, run.cmd, one JSON back."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
from lab_home import PROFILE, LabCommand

from wsklab.deadline import Deadline
from wsklab.process import run


@pytest.fixture(scope="module")
def brought(lab: LabCommand) -> Path:
    """`result.json`, made in a guest by the kit's own run.cmd and fetched from there."""
    lab.ok("driver", "kit", "-o", "kit.zip", "--json", seconds=300)
    with zipfile.ZipFile(lab.folder / "kit.zip") as archive:
        names = archive.namelist()
        archive.extractall(lab.folder / "kit")
    guest = lab.ok("up", PROFILE, "--ttl", "30m", "--json")["guests"][0]["name"]
    lab.ok("exec", guest, "--json", "--", "mkdir", r"C:\kit")
    for name in names:
        lab.ok("put", str(lab.folder / "kit" / name), guest, "--to", rf"C:\kit\{name}", "--json")
    answer = lab.run("exec", guest, "--timeout", "60", "--json", "--", "cmd", "/c", r"C:\kit\run.cmd", seconds=300)
    assert answer.code == 0, answer
    assert "All steps done" in answer.document["result"]["stdout"]
    lab.ok("get", guest, r"C:\kit\result.json", "result.json", "--json")
    lab.ok("down", guest, "--json")
    return lab.folder / "result.json"


@pytest.fixture(scope="module")
def imported(lab: LabCommand, brought: Path) -> dict[str, Any]:
    """The run that `results import` makes of it."""
    return lab.ok("results", "import", str(brought), "--by", "the tester", "--json")


def test_it_is_a_run_of_kind_wine(imported: dict[str, Any]) -> None:
    """Not windows, never mixed with it: guest and every rule say wine."""
    (guest,) = imported["guests"]
    assert guest["kind"] == "wine"
    assert {row["kind"] for row in imported["results"]} == {"wine"}
    assert sum(row["verdict"] == "passed" for row in imported["results"]) > 3


def test_it_says_who_and_when(imported: dict[str, Any]) -> None:
    """The importer's words and the guest's clock."""
    assert imported["imported"].startswith("the tester, 20")


def test_it_stands_in_the_matrix(lab: LabCommand, imported: dict[str, Any]) -> None:
    """`results list` has the run, and `results show` draws its matrix with the kind."""
    rows = lab.ok("results", "list", "--json")["runs"]
    assert imported["run_id"] in [row["run_id"] for row in rows]
    shown = lab.ok("results", "show", imported["run_id"], "--json")
    assert shown["results"] == imported["results"]
    drawn = run(
        lab.argv("results", "show", imported["run_id"]), deadline=Deadline.after(30), env=lab.environ, cwd=lab.folder
    )
    assert "wine" in drawn.stdout
    assert "brought by the tester, 20" in drawn.stdout, drawn.stdout
    assert "SOCK-001" in drawn.stdout, drawn.stdout


def test_it_is_imported_once(lab: LabCommand, brought: Path, imported: dict[str, Any]) -> None:
    """The same file again is a usage error that names the run."""
    answer = lab.run("results", "import", str(brought), "--json")
    assert answer.code == 2
    assert imported["run_id"] in answer.document["error"]["why"]
