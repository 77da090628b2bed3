"""The commands that look into a guest: screenshots, logs, debuggers. Fakes stand for the lab."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_bench import Answer, FakeGuest, FakeServices, call

from wsklab.channel.fake import FakeChannel
from wsklab.cli import exits, run_command
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import (
    ChannelLost,
    DeadlineExceeded,
)


@pytest.fixture
def services(tmp_path: Path) -> FakeServices:
    """No guests."""
    return FakeServices(tmp_path)


# -- screenshots and logs ------------------------------------------------------------------------------------------

SCREEN = b"P6\n2 1\n255\nabcdef"


def windows_guest(services: FakeServices, name: str) -> None:
    """Add a guest that has a screen."""
    guest = FakeGuest(name, services.tmp_path)
    guest.record.kind = "windows"
    guest.domain.screenshot = lambda: SCREEN
    services.known.append(guest)


def test_a_screenshot_is_a_png_named_after_the_guest(tmp_path: Path) -> None:
    """Written to the current folder, another folder, or a file."""
    services = FakeServices(tmp_path)
    windows_guest(services, "w1")
    (tmp_path / "pictures").mkdir()

    (row,) = call(services, "screenshot", "w1", "--json", folder=tmp_path).document["pictures"]
    assert (row["file"], row["width"], row["height"]) == (str(tmp_path / "w1.png"), 2, 1)
    assert (tmp_path / "w1.png").read_bytes()[:4] == b"\x89PNG"
    for where, file in (("pictures", "pictures/w1.png"), ("x.png", "x.png")):
        assert call(services, "screenshot", "w1", "-o", where, folder=tmp_path).code == exits.OK
        assert (tmp_path / file).exists()


def test_a_wine_guest_says_that_it_has_no_screen(tmp_path: Path) -> None:
    """Alone it is a mistake with the way out named; among others it is left out and told; --force takes it anyway."""
    services = FakeServices(tmp_path, ["a"])
    services.known[0].domain.screenshot = lambda: SCREEN

    alone = call(services, "screenshot", "a", folder=tmp_path)
    assert (alone.code, "wsklab console a" in alone.err) == (exits.USAGE, True)
    windows_guest(services, "w1")
    both = call(services, "screenshot", "*", "--json", folder=tmp_path)
    assert [row["name"] for row in both.document["pictures"]] == ["w1"]
    assert (both.document["skipped"], "a: no screen" in both.err) == (["a"], True)
    assert call(services, "screenshot", "a", "--force", folder=tmp_path).code == exits.OK


def test_pictures_that_cannot_be_written(tmp_path: Path) -> None:
    """Two pictures do not go into one file, and a folder that is not there is named."""
    services = FakeServices(tmp_path)
    windows_guest(services, "w1")
    windows_guest(services, "w2")

    assert call(services, "screenshot", "w*", "-o", "x.png", folder=tmp_path).code == exits.USAGE
    missing = call(services, "screenshot", "w1", "-o", "no/x.png", folder=tmp_path)
    assert (missing.code, "No such file" in missing.err) == (exits.USAGE, True)


def guest_with_logs(tmp_path: Path) -> FakeServices:
    """A wine guest that answers the two log commands."""
    services = FakeServices(tmp_path, ["a"])
    texts = {"wine.log": "7\nwsklab: loaded\n", "qemu-ga.log": "0\n"}

    class Channel(FakeChannel):
        def run(self, command: str, deadline: Any, *, check: bool = True) -> Any:
            text = next(text for file, text in texts.items() if file in command)
            return SimpleNamespace(stdout=text)

    services.known[0].open_channel = lambda _deadline: Channel()
    return services


def test_logs_show_every_source(tmp_path: Path) -> None:
    """Console, driver and agent with their places; escapes are shown, an empty log is said."""
    answer = call(guest_with_logs(tmp_path), "logs", "a", "-n", "5")

    assert "== console: " in answer.out
    assert "last 5\\x1b[31m" in answer.out
    assert "== driver: /var/log/wsklab/wine.log\nwsklab: loaded" in answer.out
    assert "(empty)" in answer.out
    document = call(guest_with_logs(tmp_path), "logs", "a", "-s", "driver", "--json").document
    assert [(row["source"], row["text"]) for row in document["logs"]] == [("driver", "wsklab: loaded")]


def test_a_guest_that_cannot_be_entered_still_has_a_console(tmp_path: Path) -> None:
    """What cannot be read is said; asked for alone it is the error, with the guest's exit code."""
    services = guest_with_logs(tmp_path)

    def lost(_deadline: Any) -> Any:
        raise ChannelLost("cannot connect", why="no route")

    def deaf(_command: Any, _deadline: Any) -> Any:
        raise DeadlineExceeded("the guest agent", waited_s=0.0)

    services.known[0].open_channel = lost
    services.known[0].domain.agent_command = deaf
    answer = call(services, "logs", "a")
    assert (answer.code, "driver: cannot connect: no route" in answer.err) == (exits.OK, True)
    assert call(services, "logs", "a", "-s", "driver").code == exits.GUEST


@pytest.mark.parametrize("words", [["-f", "--json"], ["--for", "3s"], ["-f", "--for", "soon"], ["-s", "nothing"]])
def test_log_options_that_do_not_fit(tmp_path: Path, words: list[str]) -> None:
    """A document has an end, following has not; a limit needs something to limit."""
    assert call(guest_with_logs(tmp_path), "logs", "a", *words).code == exits.USAGE


# -- debuggers -----------------------------------------------------------------------------------------------------


def test_debug_says_the_ways_for_a_wine_guest(tmp_path: Path) -> None:
    """gdb and winedbg at a driver, the second serial port; every line names the guest."""
    answer = call(FakeServices(tmp_path, ["a"]), "debug", "a")

    for line in ("wsklab debug a --attach SERVICE", "wsklab ssh a winedbg", "wsklab debug a --serial a.com2"):
        assert f"  {line} " in answer.out
    assert "bcdedit" not in answer.out


def test_debug_says_the_ways_for_a_windows_guest(tmp_path: Path) -> None:
    """KDNET by the rules of bcdedit's page: a port from 49152 on, a key of four words of a-z and 0-9."""
    services = FakeServices(tmp_path)
    windows_guest(services, "w1")
    services.known[0].record.uuid = "11111111-2222-3333-4444-555555555555"

    out = call(services, "debug", "w1").out
    found = re.search(r"wsklab exec w1 -- bcdedit /dbgsettings net hostip:(\S+) port:(\d+) key:(\S+)\n", out)
    assert found is not None
    host, port, key = found.groups()
    assert (host, int(port) >= 49152) == ("192.168.213.1", True)
    assert re.fullmatch(r"([a-z0-9]+\.){3}[a-z0-9]+", key)
    assert f"windbg -k net:port={port},key={key}" in out
    assert "debugport:2 baudrate:115200" in out
    assert "nobody of this project has run these lines on Windows yet" in out
    assert call(services, "debug", "w1").out == out  # the same key again


@pytest.mark.parametrize(
    "words",
    [
        ["w1", "--attach", "x"],
        ["a", "--attach", "x", "--serial", "y"],
        ["a", "--symbols", __file__],
        ["a", "--attach", "x", "--symbols", "/nonexistent"],
        ["nobody"],
    ],
    ids=" ".join,
)
def test_debug_options_that_do_not_fit(tmp_path: Path, words: list[str]) -> None:
    """Each is told before anything is stopped."""
    services = FakeServices(tmp_path, ["a"])
    windows_guest(services, "w1")

    answer = call(services, "debug", *words)
    assert (answer.code, "  fix: " in answer.err) == (exits.USAGE, True)


def test_the_serial_port_is_a_socket_until_the_guest_ends(tmp_path: Path) -> None:
    """A client's bytes reach the guest and the guest's the client; the next client finds the port free again."""
    services = FakeServices(tmp_path, ["a"])
    lines: list[socket.socket] = []
    opened = threading.Semaphore(0)

    def open_serial(port: int) -> socket.socket:
        assert port == 1
        ours, theirs = socket.socketpair()
        lines.append(ours)
        opened.release()
        return theirs

    services.known[0].domain.open_serial = open_serial
    answers: list[Answer] = []
    worker = threading.Thread(target=lambda: answers.append(_call_off_main(services, "debug", "a", "--serial", "x")))
    worker.start()
    assert opened.acquire(timeout=10)  # the trial at the start
    for number in (1, 2):
        with socket.socket(socket.AF_UNIX) as client:
            wait_until(
                lambda c=client: _connected(c, tmp_path / "x"),
                Deadline.after(10),
                what="the socket",  # type: ignore[misc]
            )
            assert opened.acquire(timeout=10)
            lines[number].sendall(b"from the guest")
            client.settimeout(10)
            assert client.recv(100) == b"from the guest"
            client.sendall(b"to the guest")
            assert lines[number].recv(100) == b"to the guest"
    services.known[0].domain.state = lambda: "off"
    worker.join(20)
    assert (answers[0].code, "a is off" in answers[0].err) == (exits.OK, True)
    assert not (tmp_path / "x").exists()
    for line in lines:
        line.close()


def _connected(client: socket.socket, path: Path) -> bool | NotYet:
    try:
        client.connect(str(path))
    except OSError as error:
        return NotYet(str(error))
    return True


def _call_off_main(services: FakeServices, *argv: str) -> Answer:
    """Run a command in this thread, where no signal handler can be set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["wsklab.cli.main"], "_polite_signals", lambda _runtime: contextlib.nullcontext())
        return call(services, *argv, folder=services.tmp_path)


# -- the script in the evidence ------------------------------------------------------------------------------------


def test_a_case_is_run_again_with_what_the_run_was_given(tmp_path: Path) -> None:
    """Driver, service, verifier, settings, hazards; with paths that hold in any folder."""
    settings = tmp_path / "wsklab.toml"
    settings.write_text("")
    here: Any = SimpleNamespace(config_file=None, folder=tmp_path)
    options = run_command._again(here, tmp_path / "d.sys", "mine", "standard")
    lab: Any = SimpleNamespace(home=SimpleNamespace(root="/h"), choice=SimpleNamespace(mode="private"))
    line = list(FakeServices(tmp_path).reproduce(lab, [str(tmp_path)], options=options, flags=["--hazard"]))
    assert line[:3] == ["env", "WSKLAB_HOME=/h", "WSKLAB_MODE=private"]
    assert line[line.index("run") :] == [
        *("run", "--config", str(settings), "--driver", str(tmp_path / "d.sys"), "--service", "mine"),
        *("--verifier", "standard", "--hazard", "--", str(tmp_path)),
    ]
    settings.unlink()
    assert run_command._again(here, None, "", "off") == {}
