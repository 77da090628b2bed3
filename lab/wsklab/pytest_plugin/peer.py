"""The other end of a driver's connection: sockets of the test itself, on the guest's wire."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

from wsklab.deadline import Deadline
from wsklab.errors import ChannelLost
from wsklab.pytest_plugin.links import GuestLink

__all__ = ["Connection", "Listener", "Peer"]


@contextlib.contextmanager
def _observed(what: str) -> Iterator[None]:
    """Turn what the guest did to a connection into an observation."""
    try:
        yield
    except TimeoutError as error:
        raise AssertionError(f"the peer waited in vain for {what}") from error
    except ConnectionError as error:
        raise AssertionError(f"the guest broke the connection while the peer waited for {what}: {error}") from error


class Connection:
    """A TCP connection with the guest; every call is bounded by the peer's time limit.

    What the guest does to the connection is an observation: a reset or a silence that the case did not expect is
    an `AssertionError`.
    """

    def __init__(self, connection: socket.socket, limit_s: float) -> None:
        connection.settimeout(limit_s)
        self._socket = connection
        self.local: tuple[str, int] = connection.getsockname()[:2]
        self.remote: tuple[str, int] = connection.getpeername()[:2]

    def send(self, data: bytes) -> None:
        """Send all of it."""
        with _observed("send"):
            self._socket.sendall(data)

    def receive(self, length: int) -> bytes:
        """Exactly `length` bytes, or what came before the end of the stream."""
        parts = bytearray()
        while len(parts) < length:
            with _observed(f"byte {len(parts)} of {length}"):
                part = self._socket.recv(min(length - len(parts), 1 << 20))
            if not part:
                break
            parts.extend(part)
        return bytes(parts)

    def end(self) -> str:
        """Wait for the connection's end: `closed` (end of stream), `reset`, or `open` when none came in time."""
        try:
            while self._socket.recv(65536):
                pass
        except ConnectionResetError:
            return "reset"
        except TimeoutError:
            return "open"
        return "closed"

    def finish(self) -> None:
        """Say that nothing more will be sent; receiving goes on."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Abort the connection: the guest sees a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        """Close it; safe to call twice."""
        self._socket.close()


class Listener:
    """A listening socket on the wire, for the driver to connect to."""

    def __init__(self, listener: socket.socket, limit_s: float, opened: contextlib.ExitStack) -> None:
        listener.settimeout(limit_s)
        self._opened = opened
        self._socket = listener
        self._limit_s = limit_s
        self.host, self.port = listener.getsockname()[:2]

    def accept(self) -> Connection:
        """The next connection."""
        with _observed("a connection from the guest"):
            raw, _ = self._socket.accept()
        connection = Connection(raw, self._limit_s)
        self._opened.callback(connection.close)
        return connection

    def close(self) -> None:
        """Stop listening; connections that wait are reset."""
        self._socket.close()


class Peer:
    """Makes connections and listeners on the guest's wire; a case's fixture closes all that are left."""

    def __init__(self, link: GuestLink, limit_s: float) -> None:
        self._link = link
        self._limit_s = limit_s
        self._open: contextlib.ExitStack = contextlib.ExitStack()

    def connect(self, port: int) -> Connection:
        """Connect to a port of the guest.

        Raises:
            AssertionError: the guest refused. ChannelLost: it cannot be reached. DeadlineExceeded: no answer.
        """
        try:
            raw = self._link.connect(port, Deadline.after(self._limit_s))
        except ChannelLost as error:
            if not isinstance(error.__cause__, ConnectionRefusedError):
                raise
            raise AssertionError(f"the guest refuses connections to port {port}") from error
        connection = Connection(raw, self._limit_s)
        self._open.callback(connection.close)
        return connection

    def is_refused(self, port: int) -> bool:
        """Whether nobody listens on a port of the guest."""
        try:
            self._link.connect(port, Deadline.after(self._limit_s)).close()
        except ChannelLost as error:
            if isinstance(error.__cause__, ConnectionRefusedError):
                return True
            raise
        return False

    def listen(self) -> Listener:
        """Listen for the driver."""
        listener = Listener(self._link.listen(), self._limit_s, self._open)
        self._open.callback(listener.close)
        return listener

    def close(self) -> None:
        """Close everything."""
        self._open.close()
