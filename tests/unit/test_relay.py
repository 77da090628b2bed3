"""Bytes between sockets, and a socket in the file system that is nobody else's."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from wsklab.errors import UsageError
from wsklab.relay import listen_at, relay


def test_a_relay_loses_nothing_either_way() -> None:
    """Megabytes in both directions at once arrive as they were sent; the end of one side ends it."""
    ends = [socket.socketpair() for _ in range(2)]
    (client, one), (line, other) = ends
    worker = threading.Thread(target=relay, args=(one, other))
    worker.start()
    data = os.urandom(3 << 20)
    sums: dict[str, str] = {}

    def read(name: str, end: socket.socket) -> None:
        got = b""
        while len(got) < len(data):
            got += end.recv(65536)
        sums[name] = hashlib.sha256(got).hexdigest()

    threads = [threading.Thread(target=read, args=item) for item in (("a", client), ("b", line))]
    threads += [threading.Thread(target=end.sendall, args=(data,)) for end in (client, line)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    client.close()
    worker.join(10)
    assert not worker.is_alive()
    assert sums == dict.fromkeys("ab", hashlib.sha256(data).hexdigest())
    for pair in ends:
        for end in pair:
            end.close()


def test_a_listener_is_private_and_leaves_nothing(tmp_path: Path) -> None:
    """Mode 0600 from its making on; one client after the other; gone at the end."""
    path = tmp_path / "x.com2"
    with listen_at(path) as listener:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert listener.accept(0.01) is None
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                served = listener.accept(5)
                assert served is not None
                with served:
                    client.sendall(b"x")
                    assert served.recv(1) == b"x"
    assert not path.exists()


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    """What a killed process left is no obstacle."""
    path = tmp_path / "x.com2"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with listen_at(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize("kind", ["file", "used", "long", "folder"])
def test_paths_that_no_socket_gets(tmp_path: Path, kind: str) -> None:
    """A file, a socket in use, a path that is too long, a folder that is not there: each is a mistake that is told."""
    path = {"long": tmp_path / ("x" * 120), "folder": tmp_path / "no" / "x"}.get(kind, tmp_path / "x")
    with socket.socket(socket.AF_UNIX) as other:
        if kind == "file":
            path.write_text("precious")
        elif kind == "used":
            other.bind(str(path))
            other.listen(1)
        with pytest.raises(UsageError) as caught, listen_at(path):
            pytest.fail("it listens")
        assert caught.value.fix
        if kind in {"file", "used"}:
            assert path.exists()
