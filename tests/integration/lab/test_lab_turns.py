"""Profiles that do not fit on the host together: one after the other, and no case is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from lab_home import LabCommand, furnish

_PROFILES = ("wine-bookworm", "wine-trixie")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabCommand]:
    """A home with the images of both; nothing survives it."""
    if os.geteuid() != 0:
        pytest.skip("private mode needs root")
    home = tmp_path_factory.mktemp("lab") / "home"
    home.mkdir()
    furnish(home, *_PROFILES)
    made = LabCommand(home, home.parent)
    yield made
    made.ok("gc", "--json")
    assert made.processes() == []
    assert made.holder() is None


@pytest.mark.parametrize("workers", ["0", "2"])
def test_profiles_have_turns(lab: LabCommand, workers: str) -> None:
    """The user may have one guest: the run has one of each profile, and every case its normal verdict."""
    words = [word for profile in _PROFILES for word in ("--guest", profile)]
    answer = lab.run(
        *("run", *words, "--workers", workers, "--allow-unimplemented", "--json", "--", "-k", "test_bind"),
        env={"WSKLAB_QUOTA": "1"},
        seconds=500,
    )
    assert answer.code == 0, (answer.document["problems"], answer.errors)
    assert answer.document["problems"] == []
    assert sorted(guest["profile"] for guest in answer.document["guests"]) == sorted(_PROFILES)
    counts = {row["profile"]: row["cases"] for row in answer.document["totals"]}
    assert {row["verdict"] for row in answer.document["totals"]} == {"passed"}
    assert counts["wine-bookworm"] == counts["wine-trixie"] > 1
    assert [line for line in answer.errors.splitlines() if "waits for room" in line] != []
