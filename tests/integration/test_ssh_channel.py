"""The channel's contract over real SSH, with a server on 127.0.0.1."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from channel_contract import CONTRACT, ECHO, FAIL, FLOOD, HANG, HELLO, Harness
from local_ssh import LocalSsh

from wsklab.channel.ssh import SshChannel
from wsklab.deadline import Deadline
from wsklab.errors import ChannelLost, ChannelProtocolError, UsageError

_FLOOD = """
import os
for _ in range(48):
    for stream in (1, 2):
        data = b"x" * 65536
        while data:
            data = data[os.write(stream, data):]
"""
_ECHO = """
import os
os.write(2, b"echo ready\\n")
while data := os.read(0, 65536):
    while data:
        data = data[os.write(1, data):]
"""
_COMMANDS = {
    HELLO: ["/bin/sh", "-c", "echo hello"],
    FAIL: ["/bin/sh", "-c", "echo bad thing >&2; exit 7"],
    FLOOD: [sys.executable, "-c", _FLOOD],
    HANG: ["sleep", "600"],
    ECHO: [sys.executable, "-c", _ECHO],
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalSsh]:
    with LocalSsh(tmp_path, _COMMANDS) as server:
        yield server


def _open(server: LocalSsh, host_key: str | None = "") -> SshChannel:
    return SshChannel.connect(
        socket=server.connect(),
        user="Administrator",
        key=server.key_file,
        host_key=server.host_key if host_key == "" else host_key,
        deadline=Deadline.after(10.0),
    )


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_contract(check: Callable[[Harness], None], server: LocalSsh, tmp_path: Path) -> None:
    """SshChannel keeps the channel contract."""
    check(Harness(open=lambda: _open(server), folder=r"C:\wsklab", break_path=server.cut, scratch=tmp_path))


def test_learns_the_host_key(server: LocalSsh) -> None:
    """Without a pinned key the guest's key is learned and can be pinned from then on."""
    with _open(server, None) as channel:
        learned = channel.host_key
    assert learned == server.host_key
    with _open(server, learned) as channel:
        assert channel.host_key == learned


def test_refuses_another_host_key(server: LocalSsh) -> None:
    """Another host key than the pinned one is ChannelProtocolError, before any login."""
    other = server.host_key[:-8] + "AAAAAAAA"
    with pytest.raises(ChannelProtocolError, match="host key"):
        _open(server, other)


def test_refused_login(server: LocalSsh) -> None:
    """A server that does not know the key gives ChannelLost that says so."""
    server.client_key = "AAAA"
    with pytest.raises(ChannelLost, match="refused the login"):
        _open(server)


def test_unknown_cipher_is_a_usage_error(server: LocalSsh) -> None:
    """A cipher that paramiko does not know is named, not ignored."""
    with pytest.raises(UsageError, match="cipher"):
        SshChannel.connect(
            socket=server.connect(),
            user="Administrator",
            key=server.key_file,
            host_key=None,
            deadline=Deadline.after(10.0),
            ciphers=("rot13",),
        )
