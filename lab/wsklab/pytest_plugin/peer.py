"""The other end of a driver's connection: sockets of the test itself, on the guest's wire."""

from __future__ import annotations

import contextlib
import socket
import struct

from wsklab.deadline import Deadline
from wsklab.errors import ChannelLost
from wsklab.pytest_plugin.links import GuestLink

__all__ = ["Connection", "Listener", "Peer"]


class Connection:
    """A TCP connection with the guest; every call is bounded by the peer's time limit.

    Raises:
        ConnectionResetError: the guest aborted it. TimeoutError: nothing came in time.
    """

    def __init__(self, connection: socket.socket, limit_s: float) -> None:
        connection.settimeout(limit_s)
        self._socket = connection
        self.local: tuple[str, int] = connection.getsockname()[:2]
        self.remote: tuple[str, int] = connection.getpeername()[:2]

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._socket.sendall(data)

    def receive(self, length: int) -> bytes:
        """Exactly `length` bytes, or what came before the end of the stream."""
        parts = bytearray()
        while len(parts) < length:
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

    def __init__(self, listener: socket.socket, limit_s: float) -> None:
        listener.settimeout(limit_s)
        self._socket = listener
        self._limit_s = limit_s
        self.host, self.port = listener.getsockname()[:2]

    def accept(self) -> Connection:
        """The next connection."""
        connection, _ = self._socket.accept()
        return Connection(connection, self._limit_s)

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
            ChannelLost: refused or unreachable. DeadlineExceeded: no answer.
        """
        connection = Connection(self._link.connect(port, Deadline.after(self._limit_s)), self._limit_s)
        self._open.callback(connection.close)
        return connection

    def is_refused(self, port: int) -> bool:
        """Whether nobody listens on a port of the guest."""
        try:
            self._link.connect(port, Deadline.after(self._limit_s)).close()
        except ChannelLost:
            return True
        return False

    def listen(self) -> Listener:
        """Listen for the driver."""
        listener = Listener(self._link.listen(), self._limit_s)
        self._open.callback(listener.close)
        return listener

    def close(self) -> None:
        """Close everything."""
        self._open.close()
