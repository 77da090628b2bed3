"""The lab is broken on purpose while a case runs: each time the right verdict, the right exit code, and nothing left.

Every scenario is one run with a victim and a witness (`tests/failures/test_victim.py`). Those marked `often` belong to
CI, once each; all of them, ten times each, to the soak (`tox -e soak`).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from incident import Incident, leftovers, opened
from lab_home import PROFILE, LabCommand, furnish

from wsklab import network
from wsklab.deadline import Deadline, NotYet, pause, wait_until
from wsklab.errors import HypervisorError
from wsklab.process import run

often = pytest.mark.often

#: In place of the SSH server: whoever connects gets half of a banner, and nothing after it.
_HALF_A_BANNER = """(setsid perl -MIO::Socket::INET -e '
    sleep 1;
    while (1) {
        system "pkill -9 sshd";
        $server = IO::Socket::INET->new(LocalPort => 22, Listen => 9, ReuseAddr => 1) and last;
    }
    while ($one = $server->accept) { syswrite $one, "SSH-2.0-Op"; push @all, $one }
' </dev/null >/dev/null 2>&1 &)"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all scenarios: its template is made once."""
    if os.geteuid() != 0:
        pytest.skip("private mode needs root")
    made = tmp_path_factory.mktemp("chaos") / "home"
    made.mkdir()
    furnish(made)
    return made


@pytest.fixture
def lab(home: Path, tmp_path: Path) -> Iterator[LabCommand]:
    """Commands on that home; what a scenario leaves behind fails it."""
    made = LabCommand(home, tmp_path)
    yield made
    assert leftovers(made) == {}


@pytest.fixture
def incident(lab: LabCommand, tmp_path: Path) -> Iterator[Incident]:
    """A run in the middle of its victim."""
    made = Incident(lab, tmp_path / "run")
    yield made
    made.stop()


def overcame(incident: Incident, cause: str, words: str) -> dict[str, Any]:
    """The run ended well: the victim's guest was lost by the lab's fault, which is told; alone it passed."""
    code, document = incident.end()
    lines = incident.lines(document)
    victim = lines["victim"]
    assert (victim["verdict"], victim["cause"]) == ("passed", cause), victim
    assert words in victim["lab_fault"]
    assert victim["guest"] != incident.guest
    assert lines["witness"]["verdict"] == "passed"
    assert [problem["class"] for problem in document["problems"]] == ["LabFault"]
    assert code == 0, document
    return document


def without_holder(lab: LabCommand) -> None:
    """The home's private daemon has ended, as `gc` makes it when nothing is left."""

    def gone() -> bool | NotYet:
        return lab.holder() is None or NotYet("the holder runs")

    wait_until(gone, Deadline.after(60), what="the end of the private daemon")


# -- the machine ---------------------------------------------------------------------------------------------------


@often
def test_qemu_is_killed(incident: Incident) -> None:
    """libvirt calls that a crash of the guest; it is one of the lab's."""
    (process,) = incident.lab.processes()
    os.kill(process, signal.SIGKILL)
    overcame(incident, "lab_bug", "QEMU ended")


@often
def test_the_processors_are_stopped(incident: Incident) -> None:
    """Somebody suspends the domain."""
    with opened(incident.lab) as lab:
        incident.guests(lab).domain.suspend()
    overcame(incident, "lab_bug", "the domain is paused and the lab did not do it")


def test_qemu_stands_still_for_good(incident: Incident) -> None:
    """SIGSTOP: the host gives the guest no time at all."""
    (process,) = incident.lab.processes()
    os.kill(process, signal.SIGSTOP)
    overcame(incident, "host_starved", "starved")


@often
def test_qemu_stands_still_for_a_while(incident: Incident) -> None:
    """SIGSTOP, and SIGCONT before anybody's deadline: nothing happened."""
    (process,) = incident.lab.processes()
    os.kill(process, signal.SIGSTOP)
    pause(4.0)
    os.kill(process, signal.SIGCONT)
    incident.go()
    code, document = incident.end()
    assert {line["verdict"] for line in incident.lines(document).values()} == {"passed"}
    assert document["problems"] == []
    assert code == 0


def test_the_guest_s_disk_cannot_grow(home: Path, lab: LabCommand, tmp_path: Path) -> None:
    """The overlay's file system is full: QEMU stops the guest; the host is full, no driver hung."""
    lab.ok("gc", "--json")  # a daemon of before would not see what is mounted now
    without_holder(lab)
    (home / "guests").mkdir(exist_ok=True)
    run(["mount", "-t", "tmpfs", "-o", "size=900m", "none", home / "guests"], deadline=Deadline.after(10))
    try:
        incident = Incident(lab, tmp_path / "run")
        with contextlib.suppress(KeyError):  # the guest stops in the middle of it
            # one random piece again and again: to make 900 MB of them takes an emulated processor too long
            incident.inside(
                "(head -c 4M /dev/urandom >/var/piece; i=0; "
                "while [ $i -lt 225 ] && cat /var/piece; do i=$((i+1)); done >/var/fill; sync) >/dev/null 2>&1 &"
            )
        overcame(incident, "host_full", "host full")
    finally:
        lab.ok("gc", "--json")
        run(["umount", home / "guests"], deadline=Deadline.after(10))


# -- the path into the guest ---------------------------------------------------------------------------------------


def test_ssh_is_silent(incident: Incident) -> None:
    """Packets of port 22 vanish: the channel is lost, the driver did not hang; the guest agent brings the log out."""
    with opened(incident.lab) as lab:
        via = incident.guests(lab).via
        for chain, port in (("INPUT", "--sport"), ("OUTPUT", "--dport")):
            rule = ["iptables", "-w", "-A", chain, "-p", "tcp", port, "22", "-j", "DROP"]
            network.inside(via, lambda rule=rule: run(rule, deadline=Deadline.after(10)))  # type: ignore[misc]
    by_the_agent(overcame(incident, "channel_lost", "channel lost"))


def by_the_agent(document: dict[str, Any]) -> None:
    """The driver's log came out although nobody got in by SSH."""
    folder = Path(document["results_dir"]) / "evidence"
    sources = next(folder.glob("*test_victim/sources.txt")).read_text()
    assert "driver.log: by guest agent" in sources
    assert "wsklab: loaded" in next(folder.glob("*test_victim/driver.log")).read_text()


def test_ssh_says_half_a_banner(incident: Incident) -> None:
    """The SSH server is replaced by one that begins to speak: nobody waits for its end for ever."""
    incident.inside(_HALF_A_BANNER)
    by_the_agent(overcame(incident, "channel_lost", "channel lost"))


# -- the lab's own processes ---------------------------------------------------------------------------------------


def test_the_lab_is_killed(incident: Incident) -> None:
    """kill -9 of the run: nothing cleans up, and the next `gc` finds all of it."""
    os.killpg(incident.child.pid, signal.SIGKILL)
    assert incident.child.wait(30) == -signal.SIGKILL
    removed = {row["kind"] for row in incident.lab.ok("gc", "--json")["removed"]}
    assert {"guest", "run"} <= removed


@often
def test_a_worker_is_killed(lab: LabCommand, tmp_path: Path) -> None:
    """Its case is run once more, on another guest."""
    incident = Incident(lab, tmp_path / "run", workers=2)
    os.kill(incident.worker, signal.SIGKILL)
    code, document = incident.end()
    lines = incident.lines(document)
    assert (lines["victim"]["verdict"], lines["victim"]["rerun"]) == ("passed", True)
    assert lines["victim"]["guest"] != incident.guest
    assert lines["witness"]["verdict"] == "passed"
    assert [problem["class"] for problem in document["problems"]] == ["WorkerDied"]
    assert code == 0


def test_the_holder_is_killed(incident: Incident) -> None:
    """The private daemon goes, and every guest with it: the run ends by itself, undecided, with a document."""
    holder = incident.lab.holder()
    assert holder is not None
    os.kill(holder, signal.SIGKILL)
    code, document = incident.end()
    assert incident.lines(document)["victim"]["verdict"] == "lab_error"
    assert code == 3, document
    assert not {"crashed", "hung", "failed"} & {total["verdict"] for total in document["totals"]}


def test_libvirtd_is_restarted(incident: Incident) -> None:
    """The daemon dies and is started again: the guests live on, the run finds the daemon again, nothing happened."""
    holder = incident.lab.holder()
    assert holder is not None
    children = Path(f"/proc/{holder}/task/{holder}/children").read_text().split()
    (daemon,) = (child for child in children if Path(f"/proc/{child}/comm").read_text().strip() == "libvirtd")
    os.kill(int(daemon), signal.SIGKILL)
    pause(1.0)
    incident.go()
    code, document = incident.end()
    assert {line["verdict"] for line in incident.lines(document).values()} == {"passed"}
    assert document["problems"] == []
    assert code == 0
    # a holder starts its daemon again once; the next scenario gets another holder
    incident.lab.ok("gc", "--json")
    without_holder(incident.lab)


def test_two_labs_at_once(lab: LabCommand, tmp_path: Path) -> None:
    """Two runs on two homes of one host: neither takes anything from the other."""
    other_home = tmp_path / "other"
    other_home.mkdir()
    furnish(other_home)
    (tmp_path / "second").mkdir()
    other = LabCommand(other_home, tmp_path / "second")
    both = [Incident(lab, tmp_path / "run"), Incident(other, tmp_path / "second" / "run")]
    with opened(lab) as first, opened(other) as second:
        slots = [both[0].guests(first).record.slot, both[1].guests(second).record.slot]
    assert len(set(slots)) == 2
    assert lab.ok("gc", "--json")["removed"] == [], "what is alive is nobody's to take"
    for incident in both:
        incident.go()
    for incident in both:
        code, document = incident.end()
        assert {line["verdict"] for line in incident.lines(document).values()} == {"passed"}
        assert code == 0
    other.ok("gc", "--json")
    assert leftovers(other) == {}


# -- files ---------------------------------------------------------------------------------------------------------


def test_the_home_is_read_only(home: Path, tmp_path: Path) -> None:
    """One clear error, exit code 3, and no guest was begun."""
    for words in (["mount", "--bind", home, home], ["mount", "-o", "remount,bind,ro", home]):
        run(words, deadline=Deadline.after(10))
    try:
        answer = LabCommand(home, tmp_path).run("up", PROFILE, "--json")
        assert answer.code == 3, answer
        assert answer.document["error"]["message"] == f"cannot use the lab's home {home}"
        assert "Read-only file system" in answer.document["error"]["why"]
    finally:
        run(["umount", home], deadline=Deadline.after(10))
    assert leftovers(LabCommand(home, tmp_path)) == {}


def test_the_disk_for_images_is_full(tmp_path: Path) -> None:
    """A home without room: the image is not made, the error says why, and no half of one stays."""
    home = tmp_path / "small"
    home.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", home], deadline=Deadline.after(10))
    try:
        answer = LabCommand(home, tmp_path).run("up", PROFILE, "--json", seconds=400)
        assert answer.code == 3, answer
        assert answer.document["error"]["message"] == "not enough room to bake an image"
        assert not list((home / "images").glob("*/*/manifest.json"))
    finally:
        run(["umount", home], deadline=Deadline.after(10))


def test_a_damaged_image_is_not_used(tmp_path: Path) -> None:
    """`image verify` names a file with one wrong bit; one that was cut is no image, and none can be baked here."""
    home = tmp_path / "home"
    home.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=900m", "none", home], deadline=Deadline.after(10))
    try:
        furnish(home)
        lab = LabCommand(home, tmp_path)
        (disk,) = (home / "images" / PROFILE).glob("*/disk.qcow2")
        disk.chmod(0o644)
        with disk.open("r+b") as file:
            file.seek(disk.stat().st_size // 2)
            (byte,) = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
        answer = lab.run("image", "verify", "--json")
        assert answer.code == 3, answer
        assert answer.document["error"]["message"] == f"image {PROFILE} is damaged: disk.qcow2"
        os.truncate(disk, disk.stat().st_size - 4096)
        answer = lab.run("up", PROFILE, "--json")
        assert answer.code == 3, answer
        assert answer.document["error"]["message"] == "not enough room to bake an image"
        rows = {row["profile"]: row["image"] for row in lab.ok("guests", "--json")["guests"]}
        assert rows[PROFILE] == "stale"
        lab.ok("gc", "--json")
        without_holder(lab)
    finally:
        run(["umount", home], deadline=Deadline.after(10))


def test_a_damaged_template_is_not_used(home: Path, lab: LabCommand) -> None:
    """A template whose memory was cut is made anew or passed over: the guest is ready either way, and it says how."""
    (row,) = lab.ok("up", PROFILE, "--json", seconds=400)["guests"]
    lab.ok("down", row["name"], "--json")
    memories = [path for path in (home / "templates").rglob("*") if path.is_file() and path.stat().st_size > 1 << 28]
    assert memories, f"no template could be made here: {row['why']}"
    for path in memories:
        path.chmod(0o644)
        os.truncate(path, path.stat().st_size - 4096)
    (row,) = lab.ok("up", PROFILE, "--json", seconds=400)["guests"]
    assert row["method"] in {"fork", "boot"}
    assert row["method"] == "fork" or row["why"]
    lab.ok("down", row["name"], "--json")
    lab.ok("gc", "--json")


# -- the guest itself ----------------------------------------------------------------------------------------------


def test_the_guest_s_clock_jumps(incident: Incident) -> None:
    """An hour forwards in the middle of a case: the lab's deadlines are its own."""
    assert incident.inside("date -s @$(($(date +%s) + 3600)) >/dev/null; echo set").strip() == "set"
    incident.go()
    code, document = incident.end()
    assert {line["verdict"] for line in incident.lines(document).values()} == {"passed"}
    assert code == 0


def test_a_hostile_guest(incident: Incident) -> None:
    """An endless line, escapes, HTML, thousands of logs; then the driver's host is killed: bounded and harmless."""
    incident.inside(
        r"printf '\033[2J\033]0;owned\007<script>alert(1)</script>\n' >/dev/ttyS0; "
        "head -c 3000000 /dev/zero | tr '\\0' x >>/var/log/wsklab/wine.log; "
        "i=0; while [ $i -lt 3000 ]; do echo '<script>' >/var/log/wsklab/crash-9$i.log; i=$((i+1)); done"
    )
    incident.inside("kill -9 $(pgrep -f '[w]inedevice.exe')")
    code, document = incident.end()
    victim = incident.lines(document)["victim"]
    assert (victim["verdict"], victim["cause"]) == ("crashed", "driver_crash"), victim
    assert victim["second"]["verdict"] == "passed"
    assert code == 1
    results = Path(document["results_dir"])
    for path in results.rglob("*"):
        if path.is_file() and path.suffix not in {".png", ".pcap"}:
            data = path.read_bytes()
            assert len(data) < 3 << 20, path
            assert b"\033" not in data, path
    assert "<script>alert" not in (results / "matrix.html").read_text()
    assert not re.search(rb"\033\]0;owned", (incident.place / "err").read_bytes())


@often
def test_the_kernel_panics(incident: Incident) -> None:
    """A crash of the guest's kernel is noticed on a silent connection, is a finding, and the rest goes on."""
    with contextlib.suppress(HypervisorError, KeyError):
        incident.inside("(sleep 1; echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &")
    code, document = incident.end()
    lines = incident.lines(document)
    victim = lines["victim"]
    assert (victim["verdict"], victim["cause"], victim["second"]["verdict"]) == ("crashed", "kernel_crash", "passed")
    assert victim["bucket"].startswith("Kernel panic")
    assert lines["witness"]["verdict"] == "passed"
    # the victim itself would have waited for eight minutes
    assert victim["seconds"] < 60, "the connection stayed silent and nobody looked at the console"
    assert code == 1


def test_everything_is_put_away_in_the_end(home: Path, tmp_path: Path) -> None:
    """After all of it: no process, no namespace and no claim of the home, but for its daemon, which ends with `gc`."""
    lab = LabCommand(home, tmp_path)
    lab.ok("gc", "--json")
    assert leftovers(lab) == {}
    without_holder(lab)
