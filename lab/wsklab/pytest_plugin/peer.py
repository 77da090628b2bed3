"""The other end of a driver's connection: sockets of the test itself, on the guest's wire."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import NoReturn, cast

from wsklab.deadline import Deadline, pause
from wsklab.errors import ChannelLost, DeadlineExceeded
from wsklab.pytest_plugin.peer_datagram import DatagramPeer
from wsklab.pytest_plugin.wires import Wire

__all__ = ["BlackHole", "Connection", "Listener", "Peer"]


#: No flood is larger.
MOST_OF_A_FLOOD = 256


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
        try:
            self.remote: tuple[str, int] = connection.getpeername()[:2]
        except OSError:  # reset since: using it says so
            self.remote = ("", 0)

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

    def end(self, within_s: float | None = None) -> str:
        """Wait for the connection's end: `closed` (end of stream), `reset`, or `open` when none came in time."""
        limit = self._socket.gettimeout()
        self._socket.settimeout(limit if within_s is None else within_s)
        try:
            while self._socket.recv(65536):
                pass
        except ConnectionResetError:
            return "reset"
        except TimeoutError:
            return "open"
        finally:
            self._socket.settimeout(limit)
        return "closed"

    def receives_until_the_end(self) -> bytes:
        """Everything that comes before the end, however it comes."""
        parts = bytearray()
        with contextlib.suppress(ConnectionError, TimeoutError):
            while part := self._socket.recv(65536):
                parts += part
        return bytes(parts)

    def throttle(self) -> None:
        """Make the receive window small until `open_up`: whoever sends much without being read, soon sees it closed."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def open_up(self) -> None:
        """Let the window grow again: through a small one a megabyte takes half a minute."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, 4 << 20)

    def receive_slowly(self, length: int, *, piece: int, pause_s: float) -> bytes:
        """As `receive`, a piece at a time with a pause after each."""
        parts = bytearray()
        while len(parts) < length:
            part = self.receive(min(piece, length - len(parts)))
            if not part:
                break
            parts += part
            pause(pause_s)
        return bytes(parts)

    def was_reset(self) -> bool:
        """Whether the guest has aborted the connection: tried by sending, which only an aborted one refuses."""
        try:
            self._socket.send(b"?")
            return self.end(1.0) == "reset"
        except OSError:
            return True

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


class _ResetSocket:
    """Stands for a socket that the guest reset before its `connect` had returned: the kernel has told that already.

    A guest that accepts and refuses at once wins this race now and then; the connection was made all the same.
    """

    def __init__(self, remote: tuple[str, int]) -> None:
        self._remote = remote

    def getsockname(self) -> tuple[str, int]:
        return ("", 0)

    def getpeername(self) -> tuple[str, int]:
        return self._remote

    def gettimeout(self) -> float | None:
        return None

    def settimeout(self, seconds: float | None) -> None:
        """Nothing is waited for."""

    def setsockopt(self, *option: object) -> None:
        """It has none any more."""

    def close(self) -> None:
        """It is."""

    def _use(self, *_: object) -> NoReturn:
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))

    recv = send = sendall = shutdown = _use


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

    def accepts_another(self, within_s: float) -> bool:
        """Whether one more connection comes within so long."""
        limit = self._socket.gettimeout()
        self._socket.settimeout(within_s)
        try:
            self._socket.accept()[0].close()
        except TimeoutError:
            return False
        finally:
            self._socket.settimeout(limit)
        return True

    def close(self) -> None:
        """Stop listening; connections that wait are reset."""
        self._socket.close()


class BlackHole:
    """An address of the wire where connection requests are neither answered nor refused.

    A listener that accepts nobody and whose queue is full: Linux drops what comes then.
    """

    def __init__(self, listener: socket.socket, filler: socket.socket) -> None:
        self._sockets = (filler, listener)
        self.host, self.port = listener.getsockname()[:2]

    def close(self) -> None:
        """Let go of it: what still tries is refused."""
        for one in self._sockets:
            one.close()


class Peer:
    """Makes connections and listeners on the guest's wire; a case's fixture closes all that are left."""

    def __init__(self, wire: Wire, guest: str, limit_s: float) -> None:
        self._wire = wire
        self._guest = guest
        self._limit_s = limit_s
        self._open: contextlib.ExitStack = contextlib.ExitStack()

    def connect(self, port: int) -> Connection:
        """Connect to a port of the guest. A connection that was reset at once is one: using it says so.

        Raises:
            AssertionError: the guest refused. ChannelLost: it cannot be reached. DeadlineExceeded: no answer.
        """
        try:
            raw = self._wire.connect(port, Deadline.after(self._limit_s))
        except ChannelLost as error:
            if isinstance(error.__cause__, ConnectionResetError):
                return Connection(cast("socket.socket", _ResetSocket((self._guest, port))), self._limit_s)
            if not isinstance(error.__cause__, ConnectionRefusedError):
                raise
            raise AssertionError(f"the guest refuses connections to port {port}") from error
        connection = Connection(raw, self._limit_s)
        self._open.callback(connection.close)
        return connection

    def is_refused(self, port: int) -> bool:
        """Whether nobody listens on a port of the guest."""
        try:
            self._wire.connect(port, Deadline.after(self._limit_s)).close()
        except ChannelLost as error:
            if isinstance(error.__cause__, ConnectionRefusedError):
                return True
            raise
        return False

    def listen(self) -> Listener:
        """Listen for the driver."""
        listener = Listener(self._wire.listen(), self._limit_s, self._open)
        self._open.callback(listener.close)
        return listener

    def flood(self, port: int, count: int) -> int:
        """Open up to `count` connections at the same time, and reset them all; how many were taken.

        Bounded on purpose: it tests the guest's queue, not its endurance.
        """
        taken: list[Connection] = []
        for _ in range(min(count, MOST_OF_A_FLOOD)):
            try:
                raw = self._wire.connect(port, Deadline.after(min(self._limit_s, 1.0)))
            except (ChannelLost, DeadlineExceeded):
                break
            taken.append(Connection(raw, self._limit_s))
        for connection in taken:
            connection.reset()
        return len(taken)

    def tries(self, port: int, within_s: float) -> str:
        """How an attempt to connect ends: `connected` (and closed again), `refused`, or `silent` when nothing came."""
        try:
            self._wire.connect(port, Deadline.after(within_s)).close()
        except ChannelLost:
            return "refused"
        except DeadlineExceeded:
            return "silent"
        return "connected"

    def knock(self, port: int) -> Callable[[], None]:
        """Ask for a connection and return how to go away before it is answered; done at the case's end at the latest.

        Raises:
            HostError: this host cannot.
        """
        knocking = contextlib.ExitStack()
        knocking.callback(self._wire.knock(port))
        self._open.callback(knocking.close)
        return knocking.close

    def datagram(self) -> DatagramPeer:
        """A UDP socket for the driver's datagrams."""
        made = DatagramPeer(self._wire.bind_datagram(), self._guest, self._limit_s)
        self._open.callback(made.close)
        return made

    def black_hole(self) -> BlackHole:
        """An address where connection requests vanish."""
        hole = BlackHole(*self._wire.black_hole())
        self._open.callback(hole.close)
        return hole

    def close(self) -> None:
        """Close everything."""
        self._open.close()
