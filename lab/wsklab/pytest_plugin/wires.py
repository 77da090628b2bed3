"""Where a peer's sockets are: the test process itself, or another guest on the same wire."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import NoReturn, Protocol, cast

from wsklab import network
from wsklab.channel.remote_sockets import RemoteSockets
from wsklab.deadline import Deadline
from wsklab.errors import ChannelLost, HostError, UsageError

__all__ = ["GuestWire", "HostWire", "Wire"]

#: A second guest makes a socket within this time, before scaling.
_SOCKET_S = 10.0


class Wire(Protocol):
    """Sockets that reach a guest, and that it reaches."""

    @property
    def host_address(self) -> str:
        """The sockets' own address: where the guest reaches a peer."""

    def connect(self, port: int, deadline: Deadline) -> socket.socket:
        """A TCP connection to a port of the guest, over its wire; `ChannelLost` when it is refused."""

    def listen(self) -> socket.socket:
        """A listening socket at `host_address`, any port."""

    def black_hole(self) -> tuple[socket.socket, socket.socket]:
        """A port of `host_address` where connection requests vanish; see `network.black_hole`."""

    def knock(self, port: int) -> Callable[[], None]:
        """Ask for a connection to a port of the guest and return how to go away before it is answered.

        Raises:
            HostError: this host cannot.
        """

    def bind_datagram(self) -> socket.socket:
        """A UDP socket at `host_address`, any port."""


class HostWire:
    """Sockets of the test process, in the namespace of the guest's wire.

    Args:
        via: that namespace. host: our address on it, of either family. guest: the guest's, of the same.
    """

    def __init__(self, via: network.Via, *, host: str, guest: str) -> None:
        self._via = via
        self._guest = guest
        self.host_address = host

    def connect(self, port: int, deadline: Deadline) -> socket.socket:
        """See `Wire`."""
        return network.connect(self._via, (self._guest, port), deadline)

    def listen(self) -> socket.socket:
        """See `Wire`."""
        return network.listen(self._via, (self.host_address, 0))

    def black_hole(self) -> tuple[socket.socket, socket.socket]:
        """See `Wire`."""
        return network.black_hole(self._via, self.host_address)

    def knock(self, port: int) -> Callable[[], None]:
        """See `Wire`."""
        return network.bare_syn(self._via, self.host_address, (self._guest, port))

    def bind_datagram(self) -> socket.socket:
        """See `Wire`."""
        return network.bind_datagram(self._via, (self.host_address, 0))


class GuestWire:
    """TCP sockets of a second guest: another machine's stack, not the host's.

    Args:
        sockets: the second guest's. own: its address on the wire that both guests share. guest: the first one's.
    """

    def __init__(self, sockets: RemoteSockets, *, own: str, guest: str) -> None:
        self._sockets = sockets
        self._guest = guest
        self.host_address = own

    def connect(self, port: int, deadline: Deadline) -> socket.socket:
        """See `Wire`."""
        try:
            return cast("socket.socket", self._sockets.connect((self._guest, port), deadline))
        except TimeoutError as error:
            raise deadline.exceeded(f"{self._guest}:{port} to accept", last="no answer") from error
        except OSError as error:
            what = f"the second guest cannot connect to {self._guest}:{port}"
            raise ChannelLost(what, why=str(error)) from error

    def listen(self) -> socket.socket:
        """See `Wire`."""
        try:
            return cast("socket.socket", self._sockets.listen(self.host_address, Deadline.after(_SOCKET_S)))
        except OSError as error:
            raise HostError(f"the second guest cannot listen at {self.host_address}", why=str(error)) from error

    def black_hole(self) -> tuple[socket.socket, socket.socket]:
        """See `Wire`."""
        self._refuse("a black hole")

    def knock(self, port: int) -> Callable[[], None]:
        """See `Wire`."""
        self._refuse(f"a bare packet to port {port}")

    def bind_datagram(self) -> socket.socket:
        """See `Wire`."""
        self._refuse("a datagram socket")

    def _refuse(self, what: str) -> NoReturn:
        raise UsageError(f"a second guest has no {what}", why="it has TCP sockets only", fix="use the fixture peer")
