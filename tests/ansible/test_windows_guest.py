"""The role windows_guest on a Windows-shaped SSH server: orchestration only, no evidence about Windows.

The server is real SSH with OpenSSH's own ssh and scp as clients; what a step of `wskctl provision` does is only kept in
mind. The real `wskctl` is met on wine guests (test_live_inventory.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from windows_shell import WindowsShell, WindowsSsh

from wsklab.deadline import Deadline
from wsklab.image.provisioning import steps
from wsklab.process import ProcessResult, run

ANSIBLE = Path(__file__).parents[2] / "ansible"
_PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


@dataclass
class Provisioned(WindowsShell):
    """A Windows whose `wskctl` is there once it was copied, and remembers the steps that were made."""

    root: Path = Path()
    made: set[str] = field(default_factory=set)
    refuses: str = ""

    def _wskctl(self, words: list[str]) -> tuple[int, str]:
        program = self.root / "C:" / "wsklab" / "wskctl.exe"
        if not program.exists():
            return 1, "'C:\\wsklab\\wskctl.exe' is not recognized as an internal or external command\n"
        if words == ["hello"]:
            digest = hashlib.sha256(program.read_bytes()).hexdigest()
            return 0, json.dumps({"sha256": digest, "boot_time": self.boot_time}) + "\n"
        look = "--check" in words
        step = " ".join(word for word in words[1:] if word != "--check")
        usable = step.split()[0] != self.refuses
        if step.startswith("trust") and not (self.root / "C:" / "wsklab" / "signing.cer").exists():
            usable = False
        ok = step in self.made or (usable and not look)
        changed = ok and step not in self.made
        if changed:
            self.made.add(step)
        return 0 if ok else 1, json.dumps({"step": step, "settings": [], "ok": ok, "changed": changed}) + "\n"


class Playbook:
    """The project's playbook against one server."""

    def __init__(self, folder: Path, server: WindowsSsh, shell: Provisioned) -> None:
        self.shell = shell
        self.folder = folder
        server.key_file.chmod(0o600)  # or OpenSSH refuses it
        for name in ("wskctl.exe", "signing.cer"):
            (folder / name).write_text(f"this is {name}")
        known = folder / "known_hosts"
        known.write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
        options = f"-o IdentityFile={server.key_file} -o UserKnownHostsFile={known} -o Port={server.port}"
        variables = {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_user": "Administrator",
            "ansible_ssh_common_args": options,
            "ansible_shell_type": "cmd",
            "ansible_ssh_use_tty": False,
            "windows_guest_control": str(folder / "wskctl.exe"),
            "windows_guest_certificate": str(folder / "signing.cer"),
            "windows_guest_restart_tries": 3,
        }
        (folder / "hosts.json").write_text(json.dumps({"windows": {"hosts": {"bench": variables}}}))

    def run(self, *words: str) -> ProcessResult:
        argv = ["ansible-playbook", "-i", str(self.folder / "hosts.json"), str(ANSIBLE / "windows.yml"), *words]
        settings = {
            "PATH": _PATH,
            "ANSIBLE_ROLES_PATH": str(ANSIBLE / "roles"),
            "ANSIBLE_NOCOLOR": "1",
            # a connection that is kept open would live as long as its server, which ends before it
            "ANSIBLE_SSH_ARGS": shlex.join(["-o", "ControlMaster=no"]),
        }
        return run(argv, deadline=Deadline.after(300), check=False, env=settings, cwd=self.folder)


@pytest.fixture
def playbook(tmp_path: Path) -> Iterator[Playbook]:
    if shutil.which("ansible-playbook", path=_PATH) is None or shutil.which("scp") is None:
        pytest.skip("no ansible-playbook beside this Python, or no OpenSSH client")
    folder = tmp_path / "ssh"
    folder.mkdir()
    shell = Provisioned()
    with WindowsSsh(folder, shell) as server:
        shell.root = server.root
        yield Playbook(tmp_path, server, shell)


def recap(result: ProcessResult) -> dict[str, int]:
    """Ansible's closing line as numbers."""
    line = re.search(r"^bench\s+: (.*)$", result.stdout, re.MULTILINE)
    assert line is not None, result.stdout[-3000:] + result.stderr[-1000:]
    return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line[1])}


def test_the_second_run_changes_nothing(playbook: Playbook) -> None:
    """The first brings the files, makes every step of `image import` and restarts; another boot is seen."""
    booted = playbook.shell.boot_time
    first = playbook.run()
    numbers = recap(first)
    assert (numbers["failed"], numbers["unreachable"]) == (0, 0), first.stdout[-3000:]
    assert playbook.shell.made == set(steps("Administrator"))
    assert playbook.shell.boot_time == booted + 600_000_000
    for name in ("wskctl.exe", "signing.cer"):
        assert (playbook.shell.root / "C:" / "wsklab" / name).read_text() == f"this is {name}"
    second = playbook.run()
    numbers = recap(second)
    assert (numbers["failed"], numbers["changed"]) == (0, 0), second.stdout[-3000:]
    assert playbook.shell.boot_time == booted + 600_000_000
    (playbook.folder / "wskctl.exe").write_text("a newer one")
    assert recap(playbook.run())["changed"] == 1


def test_a_step_that_fails_is_an_error(playbook: Playbook) -> None:
    """The others are made all the same, nothing restarts, and the next run goes on from there."""
    playbook.shell.refuses = "boot"
    booted = playbook.shell.boot_time
    result = playbook.run()
    assert recap(result)["failed"] == 1
    assert re.search(r"failed: \[bench\] \(item=boot\)", result.stdout)
    assert playbook.shell.made == set(steps("Administrator")) - {"boot"}
    assert playbook.shell.boot_time == booted
    playbook.shell.refuses = ""
    assert recap(playbook.run())["failed"] == 0
    assert "boot" in playbook.shell.made


def test_a_machine_that_only_says_it_restarts(playbook: Playbook) -> None:
    """The boot of before answers: that is no restart."""
    playbook.shell.restarts = False
    result = playbook.run()
    assert recap(result)["failed"] == 1
    assert "no other boot answers" in result.stdout


def test_the_steps_are_those_of_the_lab() -> None:
    """The role's defaults and `image import` make the same settings in the same order."""
    defaults = yaml.safe_load((ANSIBLE / "roles/windows_guest/defaults/main.yml").read_text())
    named = [step.replace("{{ windows_guest_account }}", "wsklab") for step in defaults["windows_guest_steps"]]
    assert named == list(steps("wsklab"))
