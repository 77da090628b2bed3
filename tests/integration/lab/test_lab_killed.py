"""The lab ended in the middle, politely and not: nothing is left after `gc`, and what is left before it is found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_home import PROFILE, LabCommand

from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.lease import SlotTable

_RUN = ("run", "--guest", PROFILE, "--workers", "0", "--allow-unimplemented", "--json", "--", "-k", "test_bind")
_UP = ("up", PROFILE, "--json")


@pytest.fixture
def started(lab: LabCommand) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Commands that a test starts here are not left at work, whatever happens."""
    children: list[subprocess.Popen[bytes]] = []
    yield children
    for child in children:
        if child.poll() is None:
            child.kill()
        child.wait(30)


def _until_a_guest_boots(lab: LabCommand, child: subprocess.Popen[bytes]) -> None:
    """Return when a guest has printed something and its QEMU is there: so are its directory, domain and slot."""

    def boots() -> bool | NotYet:
        assert child.poll() is None, (lab.folder / "err").read_text()
        logs = list((lab.home / "guests").glob("*/console.log"))
        # a fork's console begins with what its template printed, before there is a process
        seen = any(log.stat().st_size for log in logs) and lab.processes() != []
        return True if seen else NotYet(f"{len(logs)} guests")

    wait_until(boots, Deadline.after(120), what="the first line of a guest")


def _nothing_is_left(lab: LabCommand) -> None:
    """No process, file, slot or run; and the lab itself sees nothing to remove."""
    assert lab.ok("gc", "--dry-run", "--json") == {"schema": 1, "removed": [], "kept": 0}
    assert lab.processes() == []
    assert lab.holder() is None
    assert list((lab.home / "guests").iterdir()) == []
    assert list((lab.home / "runs").iterdir()) == []
    slots = Path("/run/lock/wsklab-slots")
    ours = [slot for slot in slots.glob("[0-9]*") if str(lab.home) in slot.read_text()]
    assert ours == [], SlotTable(slots).stale()


@pytest.mark.parametrize("words", [_RUN, _UP], ids=["run", "up"])
def test_gc_removes_what_a_killed_command_leaves(
    lab: LabCommand, started: list[subprocess.Popen[bytes]], words: tuple[str, ...]
) -> None:
    """kill -9 while the guest boots: QEMU runs on, `gc` finds guest, network, run, and removes them all."""
    child = lab.start(*words)
    started.append(child)
    _until_a_guest_boots(lab, child)
    child.kill()
    assert child.wait(30) == -signal.SIGKILL
    assert len(lab.processes()) == 1
    seen = lab.ok("gc", "--dry-run", "--json")["removed"]
    removed = lab.ok("gc", "--json")["removed"]
    assert {row["kind"] for row in removed} >= {"guest", "run"}
    assert [row for row in seen if row["kind"] != "network"] == [row for row in removed if row["kind"] != "network"]
    _nothing_is_left(lab)


@pytest.mark.parametrize("words", [_RUN, _UP], ids=["run", "up"])
def test_ctrl_c_leaves_nothing(lab: LabCommand, started: list[subprocess.Popen[bytes]], words: tuple[str, ...]) -> None:
    """SIGINT while the guest boots: exit code 130, one document that says so, no `gc` needed."""
    child = lab.start(*words)
    started.append(child)
    _until_a_guest_boots(lab, child)
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 130, (lab.folder / "err").read_text()
    errors = (lab.folder / "err").read_text()
    assert "Traceback" not in errors, errors
    document = json.loads((lab.folder / "out").read_text())
    assert document["error"]["class"] == "Interrupted"
    assert "cleaned up" in errors
    _nothing_is_left(lab)


def test_the_holder_s_death_takes_everything_with_it(lab: LabCommand) -> None:
    """kill -9 of the private daemon: guests end with it; `list` works, `gc` takes the files, `up` starts anew."""
    lab.ok(*_UP)
    holder = lab.holder()
    assert holder is not None
    os.kill(holder, signal.SIGKILL)
    wait_until(
        lambda: NotYet("it runs") if lab.processes() else True, Deadline.after(20), what="the guest's end", tick_s=0.02
    )
    assert lab.ok("list", "--json")["guests"] == []
    kinds = [row["kind"] for row in lab.ok("gc", "--json")["removed"]]
    assert "directory" in kinds
    _nothing_is_left(lab)
    name = lab.ok(*_UP)["guests"][0]["name"]
    assert lab.ok("down", name, "--json")["removed"] == [name]
    _nothing_is_left(lab)
