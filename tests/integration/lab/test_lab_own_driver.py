"""A driver that is not wsklab's on a wine guest, as docs/own-driver.md has it typed."""

from __future__ import annotations

from pathlib import Path

from lab_home import PROFILE, LabCommand
from shim_build import build

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "test_echo.py"


def test_the_documented_example(lab: LabCommand) -> None:
    """The echo driver answers a peer on the guest's wire, tells its counters by its device, and reloads three times."""
    driver = build("mingw", "wskecho") / "wskecho.sys"
    words = ["run", "--guest", PROFILE, "--guests-each", "1", "--workers", "0", "--json"]
    answer = lab.run(*words, "--driver", str(driver), "--service", "wskecho", "--", str(EXAMPLE), seconds=240)
    assert answer.code == 0, answer
    assert [(row["kind"], row["verdict"], row["cases"]) for row in answer.document["totals"]] == [("wine", "passed", 2)]
    assert answer.document["results"] == []
