"""The inventory used by Ansible on live wine guests."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_home import PROFILE, LabCommand, build_driver, furnish

from wsklab.deadline import Deadline
from wsklab.process import ProcessResult, run
from wsklab.toolchain import make_certificate

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


def test_the_role_provisions_them_once(lab: LabCommand) -> None:
    """windows_guest on both, as far as Wine has the interfaces: the second run changes nothing, and what `image import`
    asks for is there by then."""
    built = build_driver()
    certificate = make_certificate(lab.home / "keys").cer
    wishes = {
        "windows_guest_control": str(built.ctl),
        "windows_guest_certificate": str(certificate),
        "windows_guest_steps": ["crash-control"],
        "windows_guest_restart": False,
    }
    playbook = lab.folder / "wine.yml"
    playbook.write_text(json.dumps([{"hosts": "wine", "gather_facts": False, "roles": ["windows_guest"]}]))
    words = (str(playbook), "-e", json.dumps(wishes))
    looked = _ansible(lab, "ansible-playbook", *words, "--check")
    assert looked.exit_code == 2, "without wskctl in the guest nothing can be looked at"
    first = _ansible(lab, "ansible-playbook", *words)
    second = _ansible(lab, "ansible-playbook", *words)
    for result, changed in ((first, True), (second, False)):
        recap = re.findall(r"^\S+\s+: ok=\d+\s+changed=(\d+).*unreachable=(\d+)\s+failed=(\d+)", result.stdout, re.M)
        assert len(recap) == 2, result.stdout + result.stderr
        for line in recap:
            assert (int(line[0]) > 0, line[1], line[2]) == (changed, "0", "0"), result.stdout
    (name, *_) = [row["name"] for row in lab.ok("list", "--json")["guests"]]
    for step in wishes["windows_guest_steps"]:
        said = lab.ok("exec", name, "--json", "--", rf"C:\wsklab\wskctl.exe provision {step} --check")["result"]
        assert json.loads(said["stdout"])["ok"], said


def _ansible(lab: LabCommand, program: str, *words: str) -> ProcessResult:
    """One of Ansible's programs with the inventory."""
    roles = str(INVENTORY.parents[1] / "roles")
    settings = {
        **lab.environ,
        "PATH": _PATH,
        "ANSIBLE_ROLES_PATH": roles,
        "ANSIBLE_WSKLAB": shlex.join(lab.argv()),
        "ANSIBLE_NOCOLOR": "1",
    }
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
