"""The other end of a driver's datagrams: UDP sockets of the test itself, on the guest's wire."""

from __future__ import annotations

import contextlib
import socket

from wsklab.records import SocketAddress

__all__ = ["DatagramPeer"]

#: More than any datagram.
_LARGEST = 65536


class DatagramPeer:
    """A bound UDP socket; every call is bounded by the peer's time limit.

    Args:
        bound: the socket. guest: the guest's address on the wire. limit_s: seconds.
    """

    def __init__(self, bound: socket.socket, guest: str, limit_s: float) -> None:
        bound.settimeout(limit_s)
        self._socket = bound
        self._guest = guest
        self._limit_s = limit_s
        self.address = SocketAddress.of(*bound.getsockname()[:2])

    def send(self, port: int, data: bytes) -> None:
        """Send one datagram to a port of the guest."""
        self._socket.sendto(data, (self._guest, port))

    def receive(self) -> tuple[bytes, SocketAddress]:
        """The next datagram and its sender."""
        try:
            data, sender = self._socket.recvfrom(_LARGEST)
        except TimeoutError as error:
            raise AssertionError("the peer waited in vain for a datagram") from error
        return data, SocketAddress.of(*sender[:2])

    def hears_nothing(self, seconds: float) -> bool:
        """Whether no datagram comes for so long."""
        self._socket.settimeout(seconds)
        try:
            self._socket.recvfrom(_LARGEST)
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(self._limit_s)
        return False

    def close(self) -> None:
        """Close it; safe to call twice."""
        with contextlib.suppress(OSError):
            self._socket.close()
