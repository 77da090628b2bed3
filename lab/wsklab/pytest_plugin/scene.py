"""Steps that several cases share. A step that fails breaks the rule on whose behalf it was taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from wsklab.abi import Category
from wsklab.channel.operations import PendingOperation
from wsklab.deadline import NotYet, pause, wait_until
from wsklab.errors import DeadlineExceeded
from wsklab.pytest_plugin.fixtures import LeasedGuest
from wsklab.pytest_plugin.matchers import holds, new_socket, succeeded
from wsklab.pytest_plugin.observe import Observe, RuleObserver
from wsklab.pytest_plugin.observed import ObservedClient
from wsklab.pytest_plugin.peer import Connection, Listener, Peer
from wsklab.pytest_plugin.quiet import quiet_s
from wsklab.records import Record, SocketAddress

__all__ = ["ANY_IPV4", "Pair", "Scene", "scene"]

#: The wildcard address, port 0.
ANY_IPV4 = SocketAddress.of("0.0.0.0")  # noqa: S104 - in the guest


@dataclass(frozen=True, slots=True)
class Pair:
    """A connection between the driver and the peer: the driver's socket, the record that made it, the peer's end."""

    socket: int
    record: Record
    peer: Connection


class Scene:
    """The guest, one client of the driver, and the peer, with the steps that lead to a connection."""

    def __init__(self, guest: LeasedGuest, wsk: ObservedClient, peer: Peer, observe: Observe) -> None:
        self.guest = guest
        self.wsk = wsk
        self.peer = peer
        self.observe = observe

    def address(self, index: int = 0) -> SocketAddress:
        """An address of the guest on its wire with a port of this case."""
        return SocketAddress.of(self.guest.address, self.guest.port(index))

    def private(self, index: int = 0) -> SocketAddress:
        """A loopback address and port inside the guest that nobody else uses."""
        return SocketAddress.of(self.guest.loopback, self.guest.port(index))

    def address_of(self, listening: Listener) -> SocketAddress:
        """Where the guest reaches a listener of the peer."""
        return SocketAddress.of(listening.host, listening.port)

    def listener(self, rule: RuleObserver, index: int = 0, **more: Any) -> int:
        """A listening socket, bound on the wire."""
        made = self.wsk.socket(Category.LISTEN, **more)
        rule.must("preparation: listening socket", made, succeeded())
        rule.must("preparation: listening bind", self.wsk.bind(made.new_socket, self.address(index)), succeeded())
        return made.new_socket

    def accepted(self, rule: RuleObserver, listener: int, index: int = 0, **more: Any) -> Pair:
        """A connection that the peer made and the driver accepted."""
        accepting = self.wsk.accept(listener, **more)
        connection = self.peer.connect(self.guest.port(index))
        record = accepting.result(self.guest.within())
        rule.must("preparation: accepted socket", record, new_socket())
        return Pair(record.new_socket, record, connection)

    def connected(self, rule: RuleObserver, **more: Any) -> Pair:
        """A connection that the driver made to a listener of the peer."""
        listening = self.peer.listen()
        made = self.wsk.socket(Category.CONNECTION, **more)
        rule.must("preparation: connection socket", made, succeeded())
        bound = self.wsk.bind(made.new_socket, ANY_IPV4)
        rule.must("preparation: connection bind", bound, succeeded())
        record = self.wsk.connect(made.new_socket, self.address_of(listening))
        rule.must("preparation: connect", record, succeeded())
        return Pair(made.new_socket, record, listening.accept())

    def quiet(self, window: Mapping[str, float]) -> None:
        """Let a quiet window pass."""
        pause(quiet_s(window, self.guest.handle.kind, self.guest.handle.build))

    def still_pending(
        self, rule: RuleObserver, name: str, pending: PendingOperation, window: Mapping[str, float]
    ) -> None:
        """The operation has not completed after a quiet window."""
        self.quiet(window)
        record = pending.fetch(self.guest.within())
        rule.must(name, not record.final, holds("pending", "completed already"))

    def guest_sees(self, rule: RuleObserver, state: str, port: int, *, there: bool = True) -> None:
        """The guest's own TCP table has (or loses) an endpoint on a local port in a state.

        A socket leaves the table a moment after it was closed, so this waits, bounded.
        """

        def look() -> bool | NotYet:
            rows = [row for row in self.guest.net().entries if row.local[1] == port and row.state == state]
            return True if bool(rows) == there else NotYet(f"{len(rows)} rows")

        try:
            found = wait_until(look, self.guest.within(5.0), what=f"the guest's table: {state} on {port}")
        except DeadlineExceeded:
            found = False
        said = "in the guest's TCP table" if there else "gone from the guest's TCP table"
        rule.must(f"guest's own view: {state} {'there' if there else 'gone'}", found, holds(said, f"not {said}"))


@pytest.fixture
def scene(guest: LeasedGuest, wsk: ObservedClient, peer: Peer, observe: Observe) -> Scene:
    """Everything that a case about sockets needs."""
    return Scene(guest, wsk, peer, observe)
