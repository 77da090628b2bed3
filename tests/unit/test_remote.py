"""Another host, with an `ssh` and `scp` that stay on this one: what is sent, and what becomes of failures."""

from __future__ import annotations

import os
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wsklab import network
from wsklab.deadline import Deadline
from wsklab.errors import ChannelLost, DeadlineExceeded, HostCommandError, HostError
from wsklab.guest_files import RemoteConsole, RemoteFiles
from wsklab.image.store import Image
from wsklab.remote import RemoteHost

#: `ssh [options] [-W host:port] rack [command]` as OpenSSH does it, without the way.
_SSH = """\
#!{python}
import os, socket, sys, threading
words, forward = sys.argv[1:], None
while words and words[0].startswith("-"):
    option = words.pop(0)
    if option in ("-o", "-F", "-W"):
        value = words.pop(0)
        forward = value if option == "-W" else forward
host, command = words[0], words[1:]
if host != "rack":
    print("ssh: Could not resolve hostname " + host, file=sys.stderr)
    sys.exit(255)
if forward is None:
    os.execvp("sh", ["sh", "-c", " ".join(command)])
name, port = forward.rsplit(":", 1)
try:
    far = socket.create_connection((name, int(port)))
except OSError as error:
    print(error, file=sys.stderr)
    sys.exit(255)
def up():
    while data := os.read(0, 65536):
        far.sendall(data)
    far.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := far.recv(65536):
    os.write(1, data)
"""

_SCP = """\
#!/bin/sh
while [ "${1#-}" != "$1" ]; do case $1 in -o|-F) shift 2 ;; *) shift ;; esac; done
[ "${2%%:*}" = rack ] || { echo "scp: no such host" >&2; exit 1; }
exec cp "$1" "${2#*:}"
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteHost:
    """The host `rack`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("ssh", _SSH.format(python=sys.executable)), ("scp", _SCP)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return RemoteHost(name="rack1", target="rack", options=("-F", "/some/config"))


@pytest.fixture
def dead(host: RemoteHost) -> RemoteHost:
    """A host that nobody reaches."""
    return RemoteHost(name="dead", target="nowhere")


def _soon() -> Deadline:
    return Deadline.after(20)


def test_arguments_arrive_as_they_were_given(host: RemoteHost) -> None:
    """Blanks, quotes, dollar signs and line ends survive two shells."""
    words = ["a b", "it's", '"', "$HOME", "*", "", "x\ny"]
    script = 'for word; do printf "%s|" "$word"; done'
    assert host.run(script, *words, deadline=_soon()).stdout == "".join(f"{word}|" for word in words)


def test_a_host_that_is_not_reached_is_no_failed_command(host: RemoteHost, dead: RemoteHost) -> None:
    """255 is ssh's own; what else a script ends with is the script's."""
    with pytest.raises(HostError, match="host dead cannot be reached") as unreached:
        dead.run("true", deadline=_soon())
    assert "Could not resolve" in unreached.value.why
    assert "ssh -o BatchMode=yes" in unreached.value.fix
    with pytest.raises(HostCommandError, match="exit status 7"):
        host.run("exit 7", deadline=_soon())
    assert host.run("exit 7", deadline=_soon(), check=False).exit_code == 7
    with pytest.raises(HostError, match="cannot copy"):
        dead.put(Path("/etc/hostname"), Path("/x"), _soon())


@pytest.fixture
def server() -> Iterator[Any]:
    """A server that speaks first, echoes, or says nothing, one connection each."""
    made: list[socket.socket] = []

    def serve(hello: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        made.append(listener)

        def work() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(hello)
                while data := connection.recv(100):
                    connection.sendall(data)

        threading.Thread(target=work, daemon=True).start()
        return int(listener.getsockname()[1])

    yield serve
    for listener in made:
        listener.close()


def test_a_connection_through_the_host_carries_bytes(host: RemoteHost, server: Any) -> None:
    """What the other side says first is not lost by waiting for it; silence counts as a connection."""
    via = network.Via(jump=host.ssh, host="rack1")
    for hello in (b"SSH-2.0-x", b""):
        with network.connect(via, ("127.0.0.1", server(hello)), _soon()) as connection:
            connection.settimeout(10)
            connection.sendall(b"ping")
            got = b""
            while len(got) < len(hello) + 4:
                got += connection.recv(100)
            assert got == hello + b"ping"


def test_a_refused_connection_is_lost_at_once(host: RemoteHost, dead: RemoteHost) -> None:
    """Nobody listens there, or the host itself is not reached: the same error with the way to try it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for way in (host, dead):
        watch = Deadline.after(15)
        with pytest.raises(ChannelLost) as caught:
            network.connect(network.Via(jump=way.ssh, host=way.name), ("127.0.0.1", port), Deadline.after(30))
        assert not watch.expired
        assert caught.value.fix.startswith("try: ssh ")


def test_an_ssh_server_that_says_nothing_is_waited_for_in_vain(
    host: RemoteHost, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the port of SSH silence is no connection."""
    port = server(b"")
    monkeypatch.setattr(network, "_SSH_PORT", port)
    with pytest.raises(DeadlineExceeded):
        network.connect(network.Via(jump=host.ssh, host="rack1"), ("127.0.0.1", port), Deadline.after(1))


def test_interfaces_are_the_other_host_s(host: RemoteHost) -> None:
    """The subnet is chosen by what that host has."""
    assert "127.0.0.1/8" in network.interfaces(network.Via(jump=host.ssh, host="rack1"))["lo"]


# -- files ---------------------------------------------------------------------------------------------------------


def _image(folder: Path) -> Image:
    """An image with three files."""
    folder.mkdir()
    for name in ("disk.qcow2", "vmlinuz", "initrd.img"):
        (folder / name).write_text(name)
    return Image(
        profile="wine-bookworm", digest="0" * 20, directory=folder, disk=folder / "disk.qcow2",
        kernel=folder / "vmlinuz", initrd=folder / "initrd.img", cmdline="", manifest=cast(Any, SimpleNamespace()),
    )  # fmt: skip


def test_an_image_is_brought_once(host: RemoteHost, tmp_path: Path) -> None:
    """Complete, read-only, by digest; the second time nothing is copied, and no half copy stays."""
    files = RemoteFiles(host=host, store=tmp_path / "store", home_id="h")
    there = files.bring(_image(tmp_path / "image"), _soon())

    assert there.disk.read_text() == "disk.qcow2"
    assert there.kernel is not None
    assert stat.S_IMODE(there.kernel.stat().st_mode) == 0o444
    before = there.disk.stat()
    assert files.bring(_image(tmp_path / "again"), _soon()) == there.__class__(
        **{name: getattr(there, name) for name in ("profile", "digest", "directory", "disk", "kernel", "initrd")},
        cmdline="", manifest=files.bring(_image(tmp_path / "third"), _soon()).manifest,
    )  # fmt: skip
    assert there.disk.stat() == before
    assert [path.name for path in there.directory.parent.iterdir()] == ["0" * 20]


def test_a_copy_that_breaks_off_leaves_no_image(host: RemoteHost, tmp_path: Path) -> None:
    """An image without its mark is not used; the next one starts anew."""
    files = RemoteFiles(host=host, store=tmp_path / "store", home_id="h")
    image = _image(tmp_path / "image")
    image.disk.unlink()
    with pytest.raises(HostError, match=r"cannot copy disk\.qcow2"):
        files.bring(image, _soon())
    image.disk.write_text("whole")
    assert files.bring(image, _soon()).disk.read_text() == "whole"


def test_a_guest_s_files_come_and_go(host: RemoteHost, dead: RemoteHost, tmp_path: Path) -> None:
    """Removing takes both sides; a host that is not reached keeps its side and ours."""
    files = RemoteFiles(host=host, store=tmp_path / "store", home_id="h")
    here = tmp_path / "guests" / "10-uuid"
    here.mkdir(parents=True)
    there = files.place(here)
    there.mkdir(parents=True)
    (there / "console.log").write_text("x")
    gone = RemoteFiles(host=dead, store=tmp_path / "store", home_id="h")
    with pytest.raises(HostError):
        gone.remove(here)
    assert here.is_dir()
    files.remove(here)
    assert (here.exists(), there.exists()) == (False, False)
    files.remove(here)


def test_a_console_there_is_read_and_followed(host: RemoteHost, dead: RemoteHost, tmp_path: Path) -> None:
    """Old files first; a follower sees what is added; nobody home is an empty console."""
    path = tmp_path / "console.log"
    (tmp_path / "console.log.0").write_text("old\n")
    path.write_text("line\x1b[31m\n")
    console = RemoteConsole(path=path, host=host)

    assert (console.text(), console.size) == ("old\nline\\x1b[31m\n", 14)
    assert console.contains("^line")
    path.write_text("")
    (tmp_path / "console.log.0").unlink()
    with console.follower() as follower:
        assert follower.read() == b""
        path.write_text("new\n")
        assert follower.read() == b"new\n"
        assert follower.read() == b""
    assert (RemoteConsole(path=path, host=dead).tail(), RemoteConsole(path=path, host=dead).size) == ("", 0)
