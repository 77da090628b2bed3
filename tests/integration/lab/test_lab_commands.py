"""The commands of a person on real wine guests, as they are typed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from lab_home import PROFILE, LabCommand

from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.picture import png_size
from wsklab.process import ProcessResult, run


@pytest.fixture(scope="module")
def guests(lab: LabCommand) -> Iterator[list[dict[str, Any]]]:
    """Two guests that were made together, for the tests of this module."""
    document = lab.ok("up", PROFILE, "--count", "2", "--ttl", "1h", "--json", seconds=300)
    assert document["ended_by"] == "daemon"
    yield document["guests"]
    gone = lab.ok("down", f"{PROFILE}*", "--json")
    assert gone == {"schema": 1, "removed": sorted(row["name"] for row in document["guests"]), "kept": []}


@pytest.fixture(scope="module")
def name(guests: list[dict[str, Any]]) -> str:
    """One of them."""
    return str(guests[0]["name"])


def _plain_shell(line: str, *, stdin: str = "", seconds: float = 120.0) -> ProcessResult:
    """A command line in a shell with an empty environment, in a folder of nobody's."""
    empty: dict[str, str | None] = dict.fromkeys(os.environ)
    return run(["sh", "-c", line], deadline=Deadline.after(seconds), env=empty, cwd=Path("/"), check=False, input=stdin)


def _held(lab: LabCommand, *words: str) -> subprocess.Popen[bytes]:
    """A command that goes on until it is interrupted."""
    return lab.start(*words)


def _interrupt(child: subprocess.Popen[bytes], seconds: float = 90.0) -> int:
    child.send_signal(signal.SIGINT)
    return child.wait(seconds)


def test_guests_made_together_are_all_there(lab: LabCommand, guests: list[dict[str, Any]]) -> None:
    """Different names and addresses; `list` knows both, and filters."""
    assert len({row["name"] for row in guests}) == 2
    assert all(row["ready_s"] for row in guests)
    listed = lab.ok("list", "--json")["guests"]
    assert [row["name"] for row in listed] == sorted(row["name"] for row in guests)
    (one,) = lab.ok("list", guests[1]["name"], "--json")["guests"]
    assert (one["state"], one["purpose"]) == ("running", "user")


def test_ssh_works_as_printed_with_an_empty_environment(guests: list[dict[str, Any]]) -> None:
    """The printed words, typed into a plain shell, run a Windows command on each guest."""
    for row in guests:
        answer = _plain_shell(f"{shlex.join(row['ssh'])} 'cmd /c ver'")
        assert "Microsoft Windows" in answer.stdout, answer.stderr


def test_ssh_config_serves_ssh_and_scp(lab: LabCommand, guests: list[dict[str, Any]], tmp_path: Path) -> None:
    """By its name alone each guest is reached: commands by ssh, files by sftp."""
    document = lab.ok("list", "--ssh-config", "--json")
    assert document["names"] == sorted(row["name"] for row in guests)
    file = tmp_path / "config"
    file.write_text(document["ssh_config"])
    for row in guests:
        answer = _plain_shell(f"ssh -F {file} {row['name']} sc query nsiproxy")
        assert "RUNNING" in answer.stdout, answer.stderr
    (tmp_path / "sent").write_text("by sftp")
    name = guests[0]["name"]
    there = "/var/lib/wsklab/prefix/drive_c/sent.txt"
    batch = f"put {tmp_path / 'sent'} {there}\nget {there} {tmp_path / 'back'}\n"
    answer = _plain_shell(f"sftp -F {file} -b - {name}", stdin=batch)
    assert answer.exit_code == 0, answer.stderr
    assert (tmp_path / "back").read_text() == "by sftp"
    assert "by sftp" in _plain_shell(f"ssh -F {file} {name} 'cmd /c type C:\\sent.txt'").stdout


def test_a_lease_is_extended(lab: LabCommand, name: str) -> None:
    """The new end is in the list; a shorter span changes nothing."""
    lab.ok("extend", name, "--ttl", "5h", "--json")
    (row,) = lab.ok("list", name, "--json")["guests"]
    left = datetime.fromisoformat(row["expires"]) - datetime.now(UTC)
    assert timedelta(hours=4, minutes=50) < left <= timedelta(hours=5)
    (kept,) = lab.ok("extend", name, "--ttl", "1h", "--json")["guests"]
    assert kept["expires"] == row["expires"]


def test_taken_and_unknown_names(lab: LabCommand, name: str) -> None:
    """Each is a usage error that says what there is."""
    taken = lab.run("up", PROFILE, "--name", name, "--json")
    assert (taken.code, taken.document["error"]["message"]) == (2, f"the name {name} is taken")
    unknown = lab.run("logs", name[:-1] + "x", "--json")
    assert (unknown.code, unknown.document["error"]["evidence"]["nearest"].startswith(PROFILE)) == (2, True)


def test_logs_have_the_driver_s_words(lab: LabCommand, name: str) -> None:
    """The console from the first line; the driver's message and its image in the driver host's log."""
    lab.ok("deploy", name, "--json", seconds=200)
    rows = {row["source"]: row for row in lab.ok("logs", name, "-n", "400", "--json")["logs"]}
    assert "wsklab: ready" in rows["console"]["text"]
    assert re.search(r'Loaded L"C:.*wsklab-[0-9a-f]{12}\.sys" at', rows["driver"]["text"])
    assert "wsklab: loaded" in rows["driver"]["text"]
    assert "trace:seh" not in rows["driver"]["text"]
    assert [row["error"] for row in rows.values()] == ["", "", ""]


def test_logs_follow_console_and_driver(lab: LabCommand, name: str) -> None:
    """What is added after the start appears with its source, and Ctrl-C is the end."""
    child = _held(lab, "logs", name, "--follow", "-n", "1", "--for", "10m")
    said = lab.folder / "out"

    def has(text: str) -> Callable[[], bool | NotYet]:
        def look() -> bool | NotYet:
            assert child.poll() is None, (lab.folder / "err").read_text()
            return True if text in said.read_text() else NotYet(said.read_text()[-200:])

        return look

    try:
        wait_until(has("== agent"), Deadline.after(60), what="the tails")
        lab.ok(
            "exec",
            name,
            "--json",
            "--",
            "linux: echo over the console >/dev/console; echo in the log >>/var/log/wsklab/wine.log",
        )
        wait_until(has("console | over the console"), Deadline.after(60), what="the console's line")
        wait_until(has("driver | in the log"), Deadline.after(60), what="the driver host's line")
        assert _interrupt(child) == 130
    finally:
        child.kill()


def test_a_wine_guest_has_no_screen(lab: LabCommand, name: str, tmp_path: Path) -> None:
    """It says so; the picture that --force takes is QEMU's VGA."""
    assert lab.run("screenshot", name, "--json").code == 2
    (row,) = lab.ok("screenshot", name, "--force", "-o", str(tmp_path), "--json")["pictures"]
    assert png_size(Path(row["file"]).read_bytes()) == (row["width"], row["height"])
    assert row["width"] >= 640


# -- debuggers -----------------------------------------------------------------------------------------------------


def test_the_second_serial_port_carries_data_both_ways(lab: LabCommand, name: str, tmp_path: Path) -> None:
    """64 KiB of every byte value from the host arrive in the guest, and come back from there."""
    path = tmp_path / "com2"
    child = _held(lab, "debug", name, "--serial", str(path))
    data = bytes(range(256)) * 256
    try:
        wait_until(lambda: path.exists() or NotYet(), Deadline.after(60), what="the socket")
        lab.ok("exec", name, "--json", "--", "linux: stty -F /dev/ttyS1 raw -echo -ixon 115200")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.settimeout(120)
            # holds the port open, says so on it, then gives back what it got
            script = f"exec 3<>/dev/ttyS1; printf ready >&3; head -c {len(data)} <&3 >/tmp/got; cat /tmp/got >&3"
            echo = lab.start_another(
                "exec", name, "--timeout", "110", "--json", "--", f"linux: {script}; md5sum /tmp/got"
            )
            assert _receive(client, 5) == b"ready"
            client.sendall(data)
            assert _receive(client, len(data)) == data
            out, _ = echo.communicate(timeout=120)
            assert hashlib.md5(data, usedforsecurity=False).hexdigest() in json.loads(out)["result"]["stdout"]
        assert _interrupt(child) == 130
    finally:
        child.kill()
    assert not path.exists()


def _receive(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = client.recv(65536)
        assert more, f"the line ended after {len(data)} bytes"
        data += more
    return data


def test_gdb_stops_in_the_driver(lab: LabCommand, name: str) -> None:
    """The printed command line, in a plain shell: a breakpoint by name, hit by a request, with arguments and source."""
    child = _held(lab, "debug", name, "--attach", "wsklab", "--json")
    try:
        said = _document_of(lab, child)
        line = shlex.join(said["gdb"])
        steps = ("set pagination off", "break IoctlDispatch", "continue", "bt 1", "list", "delete", "detach")
        more = " ".join(f"-ex {shlex.quote(step)}" for step in steps)
        request = lab.start_another("exec", name, "--timeout", "170", "--json", "--", r"C:\wsklab\wskctl.exe op hello")
        answer = _plain_shell(f"{line} -nx -batch {more}", seconds=240)
        stopped = r"Breakpoint 2, IoctlDispatch \(Device=0x[0-9a-f]+, Irp=0x[0-9a-f]+\) at \./sys/ioctl\.c:\d+"
        assert re.search(stopped, answer.stdout), answer.stdout + answer.stderr
        assert "NTSTATUS NTAPI IoctlDispatch(" in answer.stdout
        assert child.wait(90) == 0
        out, _ = request.communicate(timeout=180)
        assert json.loads(out)["result"]["exit_code"] == 0
    finally:
        child.kill()


def test_an_interrupted_debugger_lets_the_driver_go(lab: LabCommand, name: str) -> None:
    """No gdb came: Ctrl-C, and the driver answers again."""
    child = _held(lab, "debug", name, "--attach", "wsklab", "--json")
    try:
        _document_of(lab, child)
        assert _interrupt(child) == 130
        assert "the driver host runs again" in (lab.folder / "err").read_text()
    finally:
        child.kill()
    assert lab.ok("exec", name, "--json", "--", r"C:\wsklab\wskctl.exe op hello")["result"]["exit_code"] == 0


def _document_of(lab: LabCommand, child: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The document that a command prints before it goes on."""

    def complete() -> dict[str, Any] | NotYet:
        assert child.poll() is None, (lab.folder / "err").read_text()
        text = (lab.folder / "out").read_text()
        return dict(json.loads(text)) if text.endswith("}\n") else NotYet(text)

    return wait_until(complete, Deadline.after(200), what="the document")
