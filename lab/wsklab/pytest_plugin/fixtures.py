"""What a case gets: `guest` or `lab_guests` (leased), `wsk` (its own handle of the driver), `peer`, `observe`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NoReturn

import pytest

from wsklab import network
from wsklab.abi import DEVICE_PATH
from wsklab.channel.answers import NetTable
from wsklab.channel.operations import IoctlDevice
from wsklab.channel.protocol import CommandResult
from wsklab.deadline import Deadline, Timeouts
from wsklab.deploy import OWN_SERVICE
from wsklab.errors import ChannelLost, GuestCommandError, HostError, LabError, UsageError
from wsklab.lease_protocol import GuestHandle
from wsklab.pytest_plugin.case import CASE, Case
from wsklab.pytest_plugin.links import GuestLink, Reload
from wsklab.pytest_plugin.observe import Observe
from wsklab.pytest_plugin.observed import ObservedClient
from wsklab.pytest_plugin.peer import Peer
from wsklab.pytest_plugin.quiet import GRACE_S, quiet_s
from wsklab.pytest_plugin.wires import GuestWire, Wire

__all__ = ["LeasedGuest", "guest", "lab_guests", "observe", "peer", "peer6", "second_peer", "second_peer6", "wsk"]

#: Seconds that an ordinary operation, a peer's call or a command may take, before scaling.
CALL_S = 10.0


#: The commands that add and take away a local address, by kind; documentation addresses that no network has.
_ANOTHER_ADDRESS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "wine": ("linux: ip addr add 198.51.100.77/32 dev eth0", "linux: ip addr del 198.51.100.77/32 dev eth0"),
        "shim": ("ip addr add 198.51.100.77/32 dev wire", "ip addr del 198.51.100.77/32 dev wire"),
        "windows": (
            "netsh interface ipv4 add address interface=1 address=127.77.0.1 mask=255.255.255.255 store=active",
            "netsh interface ipv4 delete address interface=1 address=127.77.0.1 store=active",
        ),
    }
)


class LeasedGuest:
    """The guest of a case: who it is, what it can do, and ways into it."""

    def __init__(self, case: Case, handle: GuestHandle) -> None:
        self._case = case
        self.handle = handle
        self.timeouts = Timeouts(scale=case.worker.options.scale)

    @property
    def link(self) -> GuestLink:
        """The worker's connection to the guest, opened at the first use."""
        return self._case.worker.links.get(self.handle)

    @property
    def facts(self) -> dict[str, bool | str | None]:
        """What the profile says that this guest can do."""
        return self.handle.facts

    @property
    def address(self) -> str:
        """The guest's address on its wire."""
        return self.handle.address

    @property
    def ipv6(self) -> str:
        """Its IPv6 address there, which `link.over_ipv6` gives it."""
        return network.ipv6_beside(self.address)

    @property
    def loopback(self) -> str:
        """A 127.x.y.z address inside the guest that belongs to this case alone."""
        assert self._case.lease is not None
        return self._case.lease.loopback

    def port(self, index: int = 0) -> int:
        """A port that belongs to this case alone; cases never write port numbers."""
        assert self._case.lease is not None
        return self._case.lease.port(index)

    def within(self, seconds: float = CALL_S) -> Deadline:
        """A deadline, scaled for slow hosts."""
        return self.timeouts.after(seconds)

    def run(self, command: str) -> CommandResult:
        """A command line in the guest."""
        return self.link.run(command, self.within(3 * CALL_S))

    def net(self) -> NetTable:
        """The guest's own view of its TCP and UDP endpoints."""
        return self.link.net(self.within())

    def reload_driver(self, times: int) -> tuple[Reload, ...]:
        """Unload the run's driver and load it again, ours in two steps; the case is exclusive, no client is open."""
        return self.link.reload(times, self.within(10.0 * times))

    def finish(self, client: ObservedClient) -> None:
        """End a client before the case's end: everything is closed, awaited, judged and accounted for."""
        client.settle()
        _check_ledger(client, self)
        client.close()
        client.finished = True

    def leave_out(self, why: str) -> NoReturn:
        """Skip the case because this run's guests do not have what it needs."""
        self._case.leave_out(why)

    @property
    def can_change_addresses(self) -> bool:
        """Whether `another_address` knows how on this kind of guest."""
        if self.handle.kind == "shim" and self.handle.own_netns is None:
            return False  # it lives in the host's network, which is not ours to change
        return self.handle.kind in _ANOTHER_ADDRESS

    @contextlib.contextmanager
    def another_address(self) -> Iterator[None]:
        """One more local address of the guest, for as long as it lasts.

        Raises:
            LookupError: nobody knows how on this kind of guest.
        """
        add, remove = _ANOTHER_ADDRESS[self.handle.kind]
        self._command_of_its_system(add)
        try:
            yield
        finally:
            self._command_of_its_system(remove)

    def _command_of_its_system(self, command: str) -> None:
        """A shim guest has the host's commands and a network of its own."""
        if self.handle.kind == "shim":
            self.link.beside(command, self.within(CALL_S))
        else:
            self.run(command)

    def device(self, path: str) -> IoctlDevice:
        """Open any device of the guest, of any driver; the case closes it."""
        return self.link.open_device(path, self.within())

    def client(self) -> ObservedClient:
        """One more client of our driver, with a handle and a judge of its own.

        Raises:
            UsageError: the run is about another driver.
            ChannelLost: the driver is not there: whoever took it away, nothing can be tested on this guest.
        """
        assert self._case.observe is not None
        if self.handle.service != OWN_SERVICE:
            raise UsageError(
                f"the run's driver is {self.handle.service}, not ours",
                fix="talk to it with guest.device(...); `wsk` is for runs of wsklab.sys",
            )
        try:
            device = self.device(DEVICE_PATH)
        except GuestCommandError as error:
            raise ChannelLost("the driver's device cannot be opened", why=error.why or error.message) from error
        grace_ms = round(quiet_s(GRACE_S, self.handle.kind, self.handle.build) * 1000)
        made = ObservedClient(
            device,
            self._case.observe,
            call_s=self.timeouts.seconds(CALL_S),
            grace_ms=grace_ms,
            tell=self._case.worker.tell,
        )
        self._case.clients.append(made)
        return made


@pytest.fixture
def guest(request: pytest.FixtureRequest) -> Iterator[LeasedGuest]:
    """A leased guest of the item's profile, from set-up to tear-down."""
    case = request.node.stash.get(CASE, None)
    if case is None:
        pytest.skip("this pytest run has no guests: start it with `wsklab run`")
    handle = case.acquire()
    try:
        baseline = case.worker.baseline(handle.baseline)
        case.observe = Observe(
            case.worker.catalogue, case.rules, kind=handle.kind, facts=handle.facts, gaps=baseline.gaps
        )
        case.why_not = baseline.why_not(case.case)
        case.observe.story = case.whole_timeline
        case.restart_driver()
        yield LeasedGuest(case, handle)
    finally:
        case.release()


@pytest.fixture
def lab_guests(request: pytest.FixtureRequest, guest: LeasedGuest) -> tuple[LeasedGuest, ...]:
    """The guests that the case's mark `lab_guests` names, in its order; the first one is `guest`.

    They reach each other by their addresses; where each is on a wire of its own they cannot, and the case is left out.
    """
    case = request.node.stash[CASE]
    wires = {handle.netns for handle in case.lease.guests}
    if len(wires) > 1:
        case.leave_out("its guests are on wires of their own and cannot reach each other: the setting wire = shared")
    return (guest, *(LeasedGuest(case, handle) for handle in case.lease.guests[1:]))


@pytest.fixture
def observe(request: pytest.FixtureRequest) -> Observe:
    """Where the case states what it saw of its rules."""
    request.getfixturevalue("guest")
    made: Observe | None = request.node.stash[CASE].observe
    assert made is not None
    return made


@pytest.fixture
def wsk(request: pytest.FixtureRequest, guest: LeasedGuest) -> Iterator[ObservedClient]:
    """A fresh client of the driver: one handle, closed at the end; every operation is judged."""
    case = request.node.stash[CASE]
    yield guest.client()
    failures: list[LabError | AssertionError] = []
    for client in case.clients:
        # a dirty guest is not asked for anything any more: its link is dropped, and the driver may never answer
        if client.finished or case.dirty:
            continue
        try:
            try:
                if case.settled:
                    _check_ledger(client, guest)
            finally:
                client.close()
        except (LabError, AssertionError) as error:
            case.fail(error)
            failures.append(error)
    if failures:
        raise failures[0]


@pytest.fixture
def peer(guest: LeasedGuest) -> Iterator[Peer]:
    """The other end of the driver's connections, on the guest's wire."""
    made = Peer(guest.link, guest.address, guest.timeouts.seconds(CALL_S))
    yield made
    made.close()


@pytest.fixture
def peer6(guest: LeasedGuest) -> Iterator[Peer]:
    """The other end over IPv6, likewise outside of the guest; where the wire cannot have it the case is left out."""
    made = Peer(_over_ipv6(guest), guest.ipv6, guest.timeouts.seconds(CALL_S))
    yield made
    made.close()


@pytest.fixture
def second_peer(lab_guests: tuple[LeasedGuest, ...]) -> Iterator[Peer]:
    """The other end on the case's second guest: the TCP of another machine."""
    first, second = lab_guests[:2]
    wire = GuestWire(second.link.sockets(second.within()), own=second.address, guest=first.address)
    made = Peer(wire, first.address, first.timeouts.seconds(CALL_S))
    yield made
    made.close()


@pytest.fixture
def second_peer6(lab_guests: tuple[LeasedGuest, ...]) -> Iterator[Peer]:
    """The other end on the second guest, over IPv6."""
    first, second = lab_guests[:2]
    for one in (first, second):
        _over_ipv6(one)
    wire = GuestWire(second.link.sockets(second.within()), own=second.ipv6, guest=first.ipv6)
    made = Peer(wire, first.ipv6, first.timeouts.seconds(CALL_S))
    yield made
    made.close()


def _over_ipv6(guest: LeasedGuest) -> Wire:
    try:
        return guest.link.over_ipv6(guest.within())
    except HostError as error:
        guest.leave_out(f"no IPv6 on the guest's wire: {error.message}: {error.why}")


def _check_ledger(client: ObservedClient, guest: LeasedGuest) -> None:
    """Every operation is accounted for: nothing lost but where the profile says so, no event dropped."""
    ledger = client.ledger().client
    assert ledger.balanced, f"the driver's ledger does not add up: {ledger}"
    assert ledger.events_dropped == 0, f"{ledger.events_dropped} events were dropped: the record is incomplete"
    if ledger.lost and not guest.facts.get("provider_drops_irps"):
        raise AssertionError(f"{ledger.lost} operations were lost: a failing return without a completion")
