"""SshChannel against peers that do everything but speak SSH: each call ends in time, with the right error."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest
from local_ssh import make_key

from wsklab.channel import ssh
from wsklab.channel.ssh import ERROR_MAP, SshChannel
from wsklab.deadline import Deadline
from wsklab.errors import ChannelLost, ChannelProtocolError, DeadlineExceeded, LabError, UsageError


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "key"
    make_key(path)
    return path


@pytest.fixture
def peer() -> Iterator[Callable[[Callable[[socket.socket], None]], socket.socket]]:
    """Start a peer with the given behaviour; gives the connected socket of our side."""
    made: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(behave: Callable[[socket.socket], None]) -> socket.socket:
        ours, theirs = socket.socketpair()
        made.extend((ours, theirs))

        def body() -> None:
            with contextlib.suppress(OSError):  # our side has hung up
                behave(theirs)

        threads.append(threading.Thread(target=body, daemon=True))
        threads[-1].start()
        return ours

    yield start
    for end in made:
        end.close()
    for thread in threads:
        thread.join(5)


def _connect(connection: socket.socket, key: Path, seconds: float = 0.4, host_key: str | None = None) -> float:
    """Try to connect; the time it took. The socket is closed whatever happens."""
    started = time.monotonic()
    try:
        SshChannel.connect(
            socket=connection, user="Administrator", key=key, host_key=host_key, deadline=Deadline.after(seconds)
        )
    finally:
        assert connection.fileno() == -1
        assert time.monotonic() - started < seconds + 1.0
    raise AssertionError("a hostile peer was accepted")


def _silent(end: socket.socket) -> None:
    end.recv(1000)
    end.recv(1000)


def test_a_silent_peer_ends_at_the_deadline(peer, key: Path) -> None:
    """A peer that accepts and says nothing gives DeadlineExceeded at the deadline, not at paramiko's 15 s."""
    with pytest.raises(DeadlineExceeded):
        _connect(peer(_silent), key)


def test_half_a_banner_ends_at_the_deadline(peer, key: Path) -> None:
    """A banner without its end gives DeadlineExceeded."""

    def behave(end: socket.socket) -> None:
        end.sendall(b"SSH-2.0-Open")
        _silent(end)

    with pytest.raises(DeadlineExceeded):
        _connect(peer(behave), key)


def test_a_peer_that_closes_is_lost_at_once(peer, key: Path) -> None:
    """A peer that closes before its banner gives ChannelLost at once."""
    with pytest.raises(ChannelLost):
        _connect(peer(lambda end: end.close()), key, 5.0)


def test_a_peer_that_closes_in_the_key_exchange_is_lost(peer, key: Path) -> None:
    """A peer that closes in the middle of a packet of the key exchange gives ChannelLost."""

    def behave(end: socket.socket) -> None:
        end.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\x00\x00\x05\x0c\x07\x14")
        end.recv(100)
        end.close()

    with pytest.raises(ChannelLost):
        _connect(peer(behave), key, 5.0)


def test_another_protocol_is_lost(peer, key: Path) -> None:
    """A peer that speaks HTTP, endlessly, gives an error within the deadline."""

    def behave(end: socket.socket) -> None:
        while True:
            end.sendall(b"HTTP/1.1 200 OK\r\n" * 100)

    with pytest.raises((ChannelLost, DeadlineExceeded)):
        _connect(peer(behave), key, 2.0)


def test_an_endless_line_ends_at_the_deadline(peer, key: Path) -> None:
    """A first line without end does not fill the memory or hang beyond the deadline."""

    def behave(end: socket.socket) -> None:
        while True:
            end.sendall(b"SSH-2.0-" + b"x" * 65536)

    with pytest.raises((ChannelLost, DeadlineExceeded)):
        _connect(peer(behave), key, 1.0)


def test_a_packet_of_nonsense_length_is_refused(peer, key: Path) -> None:
    """A packet that claims 4 GiB gives an error, not an allocation."""

    def behave(end: socket.socket) -> None:
        end.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" + b"\xff" * 64)
        _silent(end)

    with pytest.raises(LabError) as caught:
        _connect(peer(behave), key, 2.0)
    assert isinstance(caught.value, ChannelLost | ChannelProtocolError | DeadlineExceeded)


def test_a_bad_pin_is_a_usage_error(peer, key: Path) -> None:
    """A pinned key in a wrong form is UsageError before anything is sent."""
    with pytest.raises(UsageError):
        _connect(peer(_silent), key, host_key="SHA256:abc")


def test_a_missing_or_broken_key_file_is_a_usage_error(peer, tmp_path: Path) -> None:
    """A key file that is absent, empty or nonsense is UsageError and names the file."""
    for content in (None, b"", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"):
        path = tmp_path / "key"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UsageError, match="key"):
            _connect(peer(_silent), path)


def test_every_exception_of_paramiko_is_mapped() -> None:
    """Each exception class that the installed paramiko defines has an entry in ERROR_MAP, and no entry is stale."""
    defined = set()
    for module in pkgutil.iter_modules(paramiko.__path__):
        if module.name in ("_winapi", "win_openssh", "win_pageant"):  # import only on Windows
            continue
        members = vars(importlib.import_module(f"paramiko.{module.name}")).values()
        defined |= {
            member.__name__
            for member in members
            if inspect.isclass(member) and issubclass(member, Exception) and member.__module__.startswith("paramiko")
        }
    assert defined == set(ERROR_MAP)


def test_a_translated_error_keeps_its_cause() -> None:
    """The lab's error tells paramiko's class and words in `why`."""
    error = ssh.ERROR_MAP["AuthenticationException"]("login of x", paramiko.AuthenticationException("no\nway"))
    assert error.why == "AuthenticationException: no way"
