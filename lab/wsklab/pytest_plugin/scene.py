"""Steps that several cases share. A step that fails breaks the rule on whose behalf it was taken."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from wsklab.abi import Callback, Category, Dispatch
from wsklab.channel.operations import (
    IPPROTO_TCP,
    IPPROTO_UDP,
    SOCK_DGRAM,
    SOCK_STREAM,
    Answer,
    Operation,
    PendingOperation,
)
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import DeadlineExceeded
from wsklab.pytest_plugin.fixtures import LeasedGuest
from wsklab.pytest_plugin.matchers import holds, new_socket, returned, succeeded
from wsklab.pytest_plugin.observe import Observe, RuleObserver
from wsklab.pytest_plugin.observed import ObservedClient
from wsklab.pytest_plugin.peer import BlackHole, Connection, Listener, Peer
from wsklab.pytest_plugin.quiet import PATIENCE_S, pause_for, quiet_s
from wsklab.records import AF_INET6, Event, Record, SocketAddress
from wsklab.wsk import EventMask

__all__ = ["ANY_IPV4", "ANY_IPV6", "DISPATCH_LEVEL", "TRANSPORT", "Pair", "Scene", "scene"]

#: The wildcard addresses, port 0.
ANY_IPV4 = SocketAddress.of("0.0.0.0")  # noqa: S104 - in the guest
ANY_IPV6 = SocketAddress.of("::")

DISPATCH_LEVEL = 2

#: Socket type and protocol of a category's ordinary sockets.
TRANSPORT: Mapping[Category, tuple[int, int]] = {
    Category.BASIC: (SOCK_STREAM, IPPROTO_TCP),
    Category.LISTEN: (SOCK_STREAM, IPPROTO_TCP),
    Category.CONNECTION: (SOCK_STREAM, IPPROTO_TCP),
    Category.DATAGRAM: (SOCK_DGRAM, IPPROTO_UDP),
    Category.STREAM: (SOCK_STREAM, IPPROTO_TCP),
}

#: A call that does not wait is back within this time, in seconds before scaling.
AT_ONCE_S = 0.05


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

    # ---- where and when

    def address(self, index: int = 0) -> SocketAddress:
        """An address of the guest on its wire with a port of this case."""
        return SocketAddress.of(self.guest.address, self.guest.port(index))

    def private(self, index: int = 0) -> SocketAddress:
        """A loopback address and port inside the guest that nobody else uses."""
        return SocketAddress.of(self.guest.loopback, self.guest.port(index))

    def anywhere(self, index: int = 0) -> SocketAddress:
        """The wildcard address with a port of this case."""
        return SocketAddress.of("0.0.0.0", self.guest.port(index))  # noqa: S104 - in the guest

    def address_of(self, listening: Listener | BlackHole) -> SocketAddress:
        """Where the guest reaches a listener (or a black hole) of the peer."""
        return SocketAddress.of(listening.host, listening.port)

    def within(self, seconds: float = 10.0) -> Deadline:
        """A deadline, scaled for slow hosts."""
        return self.guest.within(seconds)

    def stated(self, seconds: float) -> Deadline:
        """A time that a rule itself states; not scaled."""
        return Deadline.after(seconds)

    def patience(self, seconds: float) -> Deadline:
        """How long the transport's own end is waited for: as the rule says, or the kind's window."""
        window = PATIENCE_S.get(self.guest.handle.kind)
        return self.within(seconds) if window is None else Deadline.after(window)

    def since(self, build: int) -> bool:
        """Whether a feature that came with this build of Windows has to be there; other kinds have all of them."""
        here = self.wsk.hello().os_version[2]
        return self.guest.handle.kind != "windows" or here >= build

    def at_once(self, record: Record) -> bool:
        """Whether the call was back without waiting for anything."""
        return record.call_s < self.guest.timeouts.seconds(AT_ONCE_S)

    def at_dispatch(self, rule: RuleObserver, record: Record) -> RuleObserver:
        """The part of a rule about DISPATCH_LEVEL: it counts where the call really ran there."""
        return rule.given(record.call_irql == DISPATCH_LEVEL, "called at DISPATCH_LEVEL")

    # ---- sockets

    def fresh(self, rule: RuleObserver, category: Category, **more: Any) -> int:
        """A new socket of a category."""
        kind, protocol = TRANSPORT[category]
        made = self.wsk.socket(category, **({"type": kind, "protocol": protocol} | more))
        rule.must(f"preparation: {category.name.lower()} socket", made, succeeded())
        return made.new_socket

    def bound(self, rule: RuleObserver, category: Category, address: SocketAddress, **more: Any) -> int:
        """A new socket of a category, bound."""
        number = self.fresh(rule, category, **({"family": address.family} | more))
        record = self.wsk.bind(number, address)
        over = " over IPv6" if address.family == AF_INET6 else ""
        rule.must(f"preparation: {category.name.lower()} bind{over}", record, succeeded())
        return number

    def listener(self, rule: RuleObserver, index: int = 0, **more: Any) -> int:
        """A listening socket, bound on the wire."""
        made = self.wsk.socket(Category.LISTEN, **more)
        rule.must("preparation: listening socket", made, succeeded())
        rule.must("preparation: listening bind", self.wsk.bind(made.new_socket, self.address(index)), succeeded())
        return made.new_socket

    def datagram(self, rule: RuleObserver, index: int = 0, **more: Any) -> int:
        """A datagram socket, bound on the wire."""
        return self.bound(rule, Category.DATAGRAM, self.address(index), **more)

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

    # ---- waiting

    def quiet(self, window: Mapping[str, float]) -> None:
        """Let a quiet window pass."""
        pause_for(window, self.guest.handle.kind, self.guest.handle.build)

    def stays_pending(self, pending: PendingOperation, window: Mapping[str, float]) -> bool:
        """Whether an operation is still under way after a quiet window; known at once when it is not."""
        seconds = quiet_s(window, self.guest.handle.kind, self.guest.handle.build)
        return not pending.wait(Deadline.after(seconds)).final

    def starts(self, rule: RuleObserver, name: str, operation: Operation) -> PendingOperation:
        """Start an operation that others wait for: a call that fails at once breaks the rule before anybody waits."""
        pending = self.wsk.submit(operation)
        rule.must(f"{name}: the call", pending.fetch(), returned("STATUS_SUCCESS", "STATUS_PENDING"))
        return pending

    def still_pending(
        self, rule: RuleObserver, name: str, pending: PendingOperation, window: Mapping[str, float]
    ) -> None:
        """The operation has not completed after a quiet window."""
        rule.must(name, self.stays_pending(pending, window), holds("pending", "completed already"))

    # ---- events

    def numbers(self, count: int) -> int:
        """The first of `count` socket numbers in a row, for a script that accepts connections."""
        first, *_ = [self.wsk.next_socket() for _ in range(count)]
        return first

    def enable(
        self, rule: RuleObserver, socket: int, mask: EventMask, name: str = "preparation: enable events"
    ) -> None:
        """Switch events of a socket on."""
        rule.must(name, self.wsk.enable_events(socket, mask), returned("STATUS_SUCCESS"))

    def disable(self, rule: RuleObserver, socket: int, mask: EventMask, name: str = "preparation: disable") -> None:
        """Switch one event of a socket off."""
        rule.must(name, self.wsk.disable_event(socket, mask), returned("STATUS_SUCCESS"))

    def callbacks(self, callback: Callback, socket: int | None = None) -> tuple[Event, ...]:
        """What WSK has said through one event callback (of one socket) since the case began."""
        return self.wsk.callbacks(callback, socket)

    def hear(
        self, rule: RuleObserver, name: str, callback: Callback, socket: int | None = None, *, count: int = 1
    ) -> tuple[Event, ...]:
        """Wait for `count` callbacks; fewer break the rule."""
        heard: tuple[Event, ...] = ()

        def look() -> bool | NotYet:
            nonlocal heard
            heard = self.callbacks(callback, socket)
            return True if len(heard) >= count else NotYet(f"{len(heard)} callbacks")

        with contextlib.suppress(DeadlineExceeded):
            wait_until(look, self.within(), what=f"{callback.name} callbacks", tick_s=0.01)
        rule.must(name, len(heard) >= count, holds(f"{count} callbacks", f"{len(heard)} callbacks"))
        return heard

    def answered(self, enter: Event) -> Event:
        """The exit of a callback; waits for it."""

        def look() -> Event | NotYet:
            self.wsk.events()
            end = self.wsk.heard.exit_of(enter)
            return NotYet("still inside") if end is None else end

        return wait_until(look, self.within(), what=f"the end of the {enter.callback.name} callback", tick_s=0.01)

    def evented_listener(self, rule: RuleObserver, count: int = 8, index: int = 0, **more: Any) -> tuple[int, int]:
        """A listener whose accept event is on and takes `count` connections, and the first accepted socket's number.

        Args:
            more: fields of the `Answer`: the accepted sockets' context and callbacks.
        """
        listener = self.listener(rule, index, dispatch=Dispatch.FULL, socket_context=0x115_7E4E4)
        first = self.numbers(count)
        self.wsk.script(listener, Callback.ACCEPT, Answer.take(**({"number": first, "uses": count} | more)))
        self.enable(rule, listener, EventMask.ACCEPT)
        return listener, first

    def received(self, socket: int, length: int) -> bytes:
        """Exactly `length` bytes through WskReceive, or what came before the stream's end."""
        parts = bytearray()
        while len(parts) < length:
            record = self.wsk.receive(socket, length - len(parts)).result(self.within())
            if not record.data:
                break
            parts += record.data
        return bytes(parts)

    # ---- the guest's own view

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
