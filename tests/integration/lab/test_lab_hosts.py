"""Guests on a second host: another libvirtd in namespaces of its own, reached by ssh and by nothing else.

The second host is the environment of the system mode's tests: the distribution's libvirtd, an unprivileged user in its
group. Its sshd speaks over the pipe of a ProxyCommand, so no network joins the two.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_home import PROFILE, Answer, LabCommand, furnish

from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.process import ProcessResult, run

sys.path.insert(0, str(Path(__file__).parents[1]))
from system_mode import SystemMode, system_mode

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces: needs root")

_SSHD = """\
HostKey {place}/host_key
AuthorizedKeysFile {place}/key.pub
UsePAM no
StrictModes no
PidFile none
Subsystem sftp internal-sftp
"""

_SSH = """\
Host rack1
    HostName rack1
    User labuser
    IdentityFile {place}/key
    UserKnownHostsFile {place}/known_hosts
    StrictHostKeyChecking accept-new
    ProxyCommand nsenter --target={pid} --mount --net --pid -- /usr/sbin/sshd -i -f {place}/sshd_config
Host dead
    HostName dead
    ProxyCommand false
"""

_SETTINGS = """\
[[hosts]]
name = "rack1"
uri = "qemu+ssh://rack1/system?command={place}/ssh"
ssh = "rack1"
ssh_options = ["-F", "{place}/config"]

[[hosts]]
name = "dead"
uri = "qemu+ssh://dead/system?command={place}/ssh"
ssh_options = ["-F", "{place}/config"]
"""

_STORE = Path("/var/lib/wsklab/hosted")


@pytest.fixture(scope="module")
def rack() -> Iterator[SystemMode]:
    """The second host."""
    if not Path("/usr/sbin/sshd").exists():
        pytest.skip("no sshd: apt install openssh-server")
    with system_mode() as made:
        made.run(["install", "-d", "-m", "755", "/run/sshd"], deadline=Deadline.after(10), as_root=True)
        yield made


@pytest.fixture(scope="module")
def lab(rack: SystemMode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabCommand]:
    """A lab in private mode whose settings name that host, and one that nobody reaches."""
    # not among pytest's folders: each pytest that starts makes their root 0700, and the host's user reads the key here
    place = Path(tempfile.mkdtemp(prefix="wsklab-hosts-"))
    for name in ("key", "host_key"):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / name)], deadline=Deadline.after(30))
    place.chmod(0o755)
    (place / "sshd_config").write_text(_SSHD.format(place=place))
    (place / "config").write_text(_SSH.format(place=place, pid=rack.pid))
    (place / "ssh").write_text(f'#!/bin/sh\nexec ssh -F {place}/config "$@"\n')
    (place / "ssh").chmod(0o755)
    home = tmp_path_factory.mktemp("lab") / "home"
    home.mkdir()
    furnish(home)
    made = LabCommand(home, tmp_path_factory.mktemp("folder"))
    (made.folder / "wsklab.toml").write_text(_SETTINGS.format(place=place))
    yield made
    made.run("gc", "--json")
    for row in made.ok("list", "--json")["guests"]:
        made.ok("down", row["name"], "--json")
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def guest(lab: LabCommand) -> Iterator[dict[str, Any]]:
    """A guest there."""
    (made,) = lab.ok("up", PROFILE, "--host", "rack1", "--json", seconds=400)["guests"]
    yield made
    lab.run("down", made["name"], "--json")


def _there(rack: SystemMode, script: str) -> str:
    """What a shell of root on the second host says."""
    return rack.run(["sh", "-c", script], deadline=Deadline.after(30), as_root=True, check=False).stdout


def _plain_shell(line: str) -> ProcessResult:
    empty: dict[str, str | None] = dict.fromkeys(os.environ)
    return run(["sh", "-c", line], deadline=Deadline.after(120), env=empty, cwd=Path("/"), check=False)


def test_the_guest_runs_on_the_other_host(lab: LabCommand, rack: SystemMode, guest: dict[str, Any]) -> None:
    """QEMU, overlay and image are there; here is its directory, and no QEMU."""
    assert (guest["host"], guest["via"], guest["name"].startswith(f"{PROFILE}-rack1-")) == ("rack1", None, True)
    assert "templates are on the lab's own host" in guest["why"]
    assert guest["name"] in _there(rack, "virsh -q -c qemu:///system list --name")
    assert _there(rack, f"stat -c %U {_STORE}/guests/*/*/overlay.qcow2").split() == ["libvirt-qemu"]
    assert _there(rack, f"ls {_STORE}/images").split() != []
    assert lab.processes() == []
    assert lab.holder() is None
    document = lab.ok("list", "--json")
    assert document["absent_hosts"] == {}
    (row,) = document["guests"]
    assert (row["host"], row["state"], row["owner"]) == ("rack1", "running", "root")


def test_ssh_works_as_printed_through_the_host(guest: dict[str, Any]) -> None:
    """The printed words in a plain shell with an empty environment."""
    answer = _plain_shell(f"{shlex.join(guest['ssh'])} 'cmd /c ver'")
    assert "Microsoft Windows" in answer.stdout, answer.stderr


def test_commands_reach_it(lab: LabCommand, guest: dict[str, Any], tmp_path: Path) -> None:
    """Commands, files, console, logs, serial port, screen and lease are as for a guest here."""
    name = guest["name"]
    assert "RUNNING" in lab.ok("exec", name, "--json", "--", "sc", "query", "nsiproxy")["result"]["stdout"]
    (tmp_path / "sent").write_text("there and back")
    lab.ok("put", str(tmp_path / "sent"), name, "--to", r"C:\sent", "--json")
    lab.ok("get", name, r"C:\sent", str(tmp_path / "back"), "--json")
    assert (tmp_path / "back").read_text() == "there and back"
    assert "wsklab: ready" in lab.ok("console", name, "-n", "400", "--json")["tail"]
    rows = {row["source"]: row for row in lab.ok("logs", name, "-n", "400", "--json")["logs"]}
    assert ("wsklab: ready" in rows["console"]["text"], rows["driver"]["error"]) == (True, "")
    lab.ok("screenshot", name, "--force", "-o", str(tmp_path), "--json")
    (kept,) = lab.ok("extend", name, "--ttl", "9h", "--json")["guests"]
    assert lab.ok("list", "--json")["guests"][0]["expires"] == kept["expires"]


def test_the_serial_port_comes_by_libvirt(lab: LabCommand, guest: dict[str, Any], tmp_path: Path) -> None:
    """The second port's bytes pass through the host's libvirtd."""
    path = tmp_path / "com2"
    child = lab.start("debug", guest["name"], "--serial", str(path))
    try:
        wait_until(lambda: path.exists() or NotYet(), Deadline.after(60), what="the socket")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.settimeout(60)
            # again and again: nobody hears what is said before the port is open
            words = "linux: for i in $(seq 20); do echo over com2 >/dev/ttyS1; sleep 0.5; done"
            speaker = lab.start_another("exec", guest["name"], "--json", "--", words)
            with client.makefile("rb") as lines:
                first = lines.readline()
            speaker.communicate(timeout=120)
            assert first.rstrip() == b"over com2"
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 130
    finally:
        child.kill()
        child.wait(30)


def test_without_room_here_a_guest_goes_there(lab: LabCommand, guest: dict[str, Any]) -> None:
    """This host's admission refuses; the other host takes it. Only here, or on a dead host, it is an error."""
    full = {"WSKLAB_MEMORY_RESERVE_MIB": "100000000"}
    answer = lab.run("up", PROFILE, "--json", seconds=400, env=full)
    assert answer.code == 0, answer
    (made,) = answer.document["guests"]
    assert (made["host"], answer.document["ended_by"]) == ("rack1", "command")
    assert lab.ok("down", made["name"], "--json")["removed"] == [made["name"]]
    here = lab.run("up", PROFILE, "--host", "local", "--json", env=full)
    assert (here.code, here.document["error"]["class"]) == (3, "HostFull")
    dead = lab.run("up", PROFILE, "--host", "dead", "--json")
    assert (dead.code, dead.document["error"]["message"]) == (3, "host dead cannot be reached")
    unknown = lab.run("up", PROFILE, "--host", "rak1", "--json")
    assert (unknown.code, unknown.document["error"]["evidence"]["nearest"]) == (2, "rack1")


def test_a_killed_up_leaves_work_for_gc_there_too(lab: LabCommand, rack: SystemMode, guest: dict[str, Any]) -> None:
    """kill -9 while a guest boots there: `gc` removes domain and files, and nothing of the living guest's."""
    child = lab.start("up", PROFILE, "--host", "rack1", "--json")

    def boots() -> bool | NotYet:
        assert child.poll() is None, (lab.folder / "err").read_text()
        names = _there(rack, "virsh -q -c qemu:///system list --name").split()
        return True if len(names) == 2 else NotYet(str(names))

    wait_until(boots, Deadline.after(120), what="the second guest", tick_s=0.5)
    child.kill()
    assert child.wait(30) == -signal.SIGKILL
    removed = lab.ok("gc", "--json")["removed"]
    assert [row["kind"] for row in removed].count("guest") == 1, removed
    assert _there(rack, f"ls {_STORE}/guests/*").split().count(guest["name"]) == 0
    assert len(_there(rack, f"ls {_STORE}/guests/*").split()) == 1
    assert [row["name"] for row in lab.ok("list", "--json")["guests"]] == [guest["name"]]


def test_a_host_that_is_gone_is_said(lab: LabCommand, guest: dict[str, Any]) -> None:
    """Guests there are left out of the list, with the reason; nothing of theirs is swept."""
    settings = lab.folder / "wsklab.toml"
    text = settings.read_text()
    try:
        settings.write_text(text.replace('ssh = "rack1"', 'ssh = "dead"'))
        document = lab.ok("list", "--json")
        assert (document["guests"], list(document["absent_hosts"])) == ([], ["rack1"])
        assert _named(lab.run("gc", "--json"), guest) == []
    finally:
        settings.write_text(text)
    assert [row["name"] for row in lab.ok("list", "--json")["guests"]] == [guest["name"]]


def _named(answer: Answer, guest: dict[str, Any]) -> list[str]:
    """What of a guest a sweep removed."""
    return [json.dumps(row) for row in answer.document["removed"] if guest["name"] in row["name"]]


def test_nothing_is_left_there(lab: LabCommand, rack: SystemMode, guest: dict[str, Any]) -> None:
    """After `down` of the last guest: no domain, no file, no network, and nothing for gc."""
    assert lab.ok("down", guest["name"], "--json")["removed"] == [guest["name"]]
    assert _there(rack, "virsh -q -c qemu:///system list --all --name").split() == []
    assert _there(rack, f"find {_STORE}/guests -mindepth 2").split() == []
    assert "wsk" not in _there(rack, "ip -br link")
    assert lab.ok("gc", "--dry-run", "--json") == {"schema": 1, "removed": [], "kept": 0}
