"""The inventory used by Ansible on live wine guests."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_home import PROFILE, LabCommand, furnish

from wsklab.deadline import Deadline
from wsklab.process import ProcessResult, run

INVENTORY = Path(__file__).parents[2] / "ansible" / "inventory" / "guests.py"
_PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabCommand]:
    """Two guests in a home of their own."""
    if os.geteuid() != 0:
        pytest.skip("private mode needs root")
    if shutil.which("ansible", path=_PATH) is None:
        pytest.skip("no ansible beside this Python")
    root = tmp_path_factory.mktemp("lab") / "home"
    root.mkdir()
    furnish(root)
    made = LabCommand(root, tmp_path_factory.mktemp("folder"))
    made.ok("up", PROFILE, "--count", "2", "--json", seconds=300)
    yield made
    made.ok("down", "*", "--json")


def _ansible(lab: LabCommand, program: str, *words: str) -> ProcessResult:
    """One of Ansible's programs with the inventory."""
    settings = {**lab.environ, "PATH": _PATH, "ANSIBLE_WSKLAB": shlex.join(lab.argv()), "ANSIBLE_NOCOLOR": "1"}
    argv = [program, "-i", str(INVENTORY), *words]
    return run(argv, deadline=Deadline.after(300), check=False, env=settings, cwd=lab.folder)


def test_guests_are_in_their_groups(lab: LabCommand) -> None:
    """`ansible-inventory` shows both under kind and profile."""
    names = [row["name"] for row in lab.ok("list", "--json")["guests"]]
    graph = _ansible(lab, "ansible-inventory", "--graph").stdout
    for group in ("wine", "wine_bookworm"):
        section = graph.split(f"@{group}:\n", 1)[1].split("@", 1)[0]
        assert all(name in section for name in names), graph


def test_raw_runs_a_windows_command_on_each(lab: LabCommand) -> None:
    """Output and exit code are the guest's."""
    good = _ansible(lab, "ansible", "wine", "-m", "ansible.builtin.raw", "-a", "sc query nsiproxy")
    assert (good.exit_code, len(re.findall("STATE .*RUNNING", good.stdout))) == (0, 2), good.stdout + good.stderr
    bad = _ansible(lab, "ansible", "guests", "-m", "ansible.builtin.raw", "-a", "cmd /c exit 5")
    assert len(re.findall(r"FAILED \| rc=5", bad.stdout)) == 2, bad.stdout + bad.stderr
