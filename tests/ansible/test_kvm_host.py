"""The role kvm_host on a new Debian system: the second time it changes nothing.

The system is a folder made by mmdebstrap, entered by chroot in a mount and a PID namespace of its own; Ansible runs in
there over the connection `local`. Ubuntu and Fedora are not run here, only read by ansible-lint.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from wsklab.deadline import Deadline
from wsklab.image.debian import apt_options, find_mirror
from wsklab.process import ProcessResult, run

REPOSITORY = Path(__file__).parents[2]

# Where Ansible is, as seen from inside as well.
_PLAYBOOK = shutil.which(
    "ansible-playbook", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
)

_INVENTORY = """\
kvm_hosts:
  hosts:
    new:
      ansible_connection: local
      ansible_python_interpreter: /usr/bin/python3
      kvm_host_users: [alice]
"""

# The chroot has its own /proc; /dev and the folders of Ansible and of this checkout are the host's.
_ENTER = """\
root=$1; shift
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
for folder in $SHOWN; do mkdir -p "$root$folder"; mount --bind -o ro "$folder" "$root$folder"; done
exec chroot "$root" env -i HOME=/root PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"
"""


@dataclass(frozen=True, slots=True)
class System:
    """A Debian system in a folder."""

    root: Path

    def run(self, *words: str, seconds: float = 60.0, check: bool = True) -> ProcessResult:
        """A command inside."""
        shown = f"{REPOSITORY} {Path(str(_PLAYBOOK)).parents[1]}"
        argv = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-ec",
            _ENTER,
            "sh",
            str(self.root),
            *words,
        ]
        return run(argv, deadline=Deadline.after(seconds), check=check, env={"SHOWN": shown})

    def playbook(self, *words: str) -> ProcessResult:
        """The project's playbook."""
        assert _PLAYBOOK is not None
        site = str(REPOSITORY / "ansible" / "site.yml")
        return self.run(_PLAYBOOK, "-i", "/root/hosts.yml", site, *words, seconds=1200, check=False)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A new one of the host's own suite, with Python and a user."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    if os.geteuid() != 0 or release.get("ID") != "debian" or shutil.which("mmdebstrap") is None:
        pytest.skip("makes a Debian system: needs root, Debian and mmdebstrap")
    if _PLAYBOOK is None:
        pytest.skip("no ansible-playbook beside this Python")
    place = tmp_path_factory.mktemp("system")
    (place / "apt.conf").write_text(apt_options(Deadline.after(20)))
    suite = release["VERSION_CODENAME"].strip('"')
    argv = ["mmdebstrap", "--mode=root", "--variant=apt", "--include=python3,python3-apt,passwd,ca-certificates"]
    argv += [f"--aptopt={place / 'apt.conf'}", suite, str(place / "root")]
    run([*argv, *filter(None, [find_mirror(suite)])], deadline=Deadline.after(600))
    made = System(place / "root")
    (made.root / "root/hosts.yml").write_text(_INVENTORY)
    # no daemon is started in there
    policy = made.root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    made.run("useradd", "--create-home", "alice")
    yield made
    shutil.rmtree(place)


def _recap(result: ProcessResult) -> dict[str, int]:
    """Ansible's closing line as numbers."""
    line = re.search(r"^new\s+: (.*)$", result.stdout, re.MULTILINE)
    assert line is not None, result.stdout[-3000:] + result.stderr[-1000:]
    return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line[1])}


def test_the_second_run_changes_nothing(system: System) -> None:
    """The first run makes a host; the second finds everything in place."""
    first = system.playbook()
    recap = _recap(first)
    assert (recap["failed"], recap["unreachable"]) == (0, 0), first.stdout[-3000:]
    assert recap["changed"] >= 3
    second = system.playbook()
    recap = _recap(second)
    assert (recap["failed"], recap["changed"]) == (0, 0), second.stdout[-3000:]


def test_a_host_for_guests_is_there(system: System) -> None:
    """Programs, groups and the store are as the lab wants them."""
    for program in ("libvirtd", "qemu-system-x86_64", "qemu-img", "swtpm", "virsh"):
        assert system.run(program, "--version").stdout
    assert {"libvirt", "kvm"} <= set(system.run("id", "-nG", "alice").stdout.split())
    store = (system.root / "var/lib/wsklab").stat()
    group = system.run("getent", "group", "libvirt").stdout.split(":")[2]
    assert (stat.S_IMODE(store.st_mode), store.st_uid, store.st_gid) == (0o2775, 0, int(group))


def test_what_is_there_is_said(system: System) -> None:
    """KVM, nesting and firewall are told in words."""
    said = system.playbook("--check").stdout
    assert re.search(r'"kvm": "(no /dev/kvm|usable by|closed to QEMU)', said), said[-2000:]
    assert '"firewall": "neither firewalld nor ufw is active"' in said


def test_a_user_who_does_not_exist_is_not_made(system: System) -> None:
    """A typing slip in the inventory is an error and no new account."""
    result = system.playbook("-e", '{"kvm_host_users": ["alcie"]}')
    assert _recap(result)["failed"] == 1
    assert "alcie" not in (system.root / "etc/passwd").read_text()
