"""The channel into shim guests keeps the channel's contract, with the real login code of the shim."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from channel_contract import CONTRACT, Harness
from shim_build import MISSING, build

from wsklab.channel.shim import ShimChannel
from wsklab.deadline import Deadline, NotYet, wait_until

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not on this host: {MISSING}")


@pytest.fixture(scope="module")
def program() -> Path:
    return build("shim", "shim-login") / "shim-login"


@pytest.fixture
def guest(program: Path, tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A process that serves logins in `tmp_path`; its socket and itself."""
    (tmp_path / "drive" / "wsklab").mkdir(parents=True)
    with (tmp_path / "log").open("wb") as log:
        child = subprocess.Popen(
            [str(program), "listen", "--socket", "control", "--root", "drive"], cwd=tmp_path, stderr=log
        )
    wait_until(
        lambda: (tmp_path / "control").exists() or NotYet("no socket"), Deadline.after(20), what="the shim's socket"
    )
    yield tmp_path / "control", child
    child.terminate()
    assert child.wait(20) in {0, -9}, (tmp_path / "log").read_text()[-3000:]


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_contract(
    check: Callable[[Harness], None], guest: tuple[Path, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """ShimChannel keeps the channel contract; the shim ends with nothing left over."""
    control, child = guest
    check(
        Harness(
            open=lambda: ShimChannel(control, tmp_path / "drive"),
            folder=r"C:\wsklab",
            break_path=child.kill,
            scratch=tmp_path,
        )
    )
