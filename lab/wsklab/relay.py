"""Bytes between two sockets, and a UNIX socket that hands each client on."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wsklab.errors import UsageError

__all__ = ["Listener", "listen_at", "relay"]

_CHUNK: Final = 65536

# <sys/un.h>: 108 bytes with the final zero
_PATH_MAX: Final = 107


def relay(one: socket.socket, other: socket.socket) -> None:
    """Copy both ways until either side ends; neither is closed."""
    other_of = {one: other, other: one}
    with selectors.DefaultSelector() as ready:
        for end in other_of:
            ready.register(end, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                try:
                    data = source.recv(_CHUNK)
                    if not data:
                        return
                    other_of[source].sendall(data)
                except OSError:
                    return


class Listener:
    """A UNIX socket of this user's, for one client after the other."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener

    def accept(self, timeout_s: float) -> socket.socket | None:
        """The next client; None when none came in time."""
        self._listener.settimeout(timeout_s)
        try:
            client, _ = self._listener.accept()
        except TimeoutError:
            return None
        client.setblocking(True)
        return client


@contextlib.contextmanager
def listen_at(path: Path) -> Iterator[Listener]:
    """Listen at a path, which is gone afterwards; a socket that nobody listens at any more is replaced.

    Raises:
        UsageError: the path is too long, or something is there that is in use.
    """
    if len(os.fsencode(path)) > _PATH_MAX:
        raise UsageError(f"{path} is too long for a socket", why=f"{_PATH_MAX} bytes fit", fix="name a shorter path")
    with socket.socket(socket.AF_UNIX) as listener:
        _remove_stale(path)
        with _private_files():
            _bind(listener, path)
        listener.listen(1)
        try:
            yield Listener(listener)
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _private_files() -> Iterator[None]:
    """What is made now belongs to this user alone: a socket has its mode from its making on."""
    previous = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(previous)


def _bind(listener: socket.socket, path: Path) -> None:
    try:
        listener.bind(str(path))
    except OSError as error:
        raise UsageError(f"cannot make a socket at {path}", why=str(error), fix="name another path") from error


def _remove_stale(path: Path) -> None:
    """Remove a socket whose listener is gone; anything else stays."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UsageError(f"{path} exists", why="it is no socket", fix="name another path")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise UsageError(f"cannot use {path}", why=str(error), fix="name another path") from error
    raise UsageError(f"{path} is in use", why="somebody listens there", fix="name another path")
