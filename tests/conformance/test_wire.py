"""The same rules with the other end on another machine, and over IPv6: what loopback and the host's TCP would hide."""

from __future__ import annotations

import pytest

from wsklab.abi import Category
from wsklab.pytest_plugin import LeasedGuest, Observe, Peer, Scene
from wsklab.pytest_plugin.matchers import completed_once, equals, failed, holds, information, new_socket, succeeded
from wsklab.pytest_plugin.observe import RuleObserver
from wsklab.pytest_plugin.peer import Connection
from wsklab.pytest_plugin.scene import ANY_IPV4, ANY_IPV6, Pair
from wsklab.records import AF_INET6, SocketAddress

TWO_GUESTS = pytest.mark.lab_guests(2)


def _accepted(scene: Scene, rule: RuleObserver, address: SocketAddress, peer: Peer) -> Pair:
    """A connection of a peer to a listener of the driver at that address; both ends see the same addresses."""
    over = " over IPv6" if address.family == AF_INET6 else ""
    # a refusal is the guest's own TCP's answer: what comes later does not fail because of the wire
    refused = peer.is_refused(address.port)
    rule.must(f"before the bind{over}", refused, holds("the guest refuses", "somebody listens"))
    listener = scene.bound(rule, Category.LISTEN, address)
    accepting = scene.wsk.accept(listener)
    connection = peer.connect(address.port)
    record = accepting.result(scene.within())
    rule.must(f"accept{over}", record, new_socket())
    _same_ends(rule, record.local, record.remote, connection)
    return Pair(record.new_socket, record, connection)


def _connected(scene: Scene, rule: RuleObserver, local: SocketAddress, peer: Peer) -> Pair:
    """A connection of the driver to a listener of a peer."""
    listening = peer.listen()
    number = scene.bound(rule, Category.CONNECTION, local)
    record = scene.wsk.connect(number, SocketAddress.of(listening.host, listening.port))
    rule.must("connect", record, succeeded())
    return Pair(number, record, listening.accept())


def _same_ends(
    rule: RuleObserver, local: SocketAddress | None, remote: SocketAddress | None, connection: Connection
) -> None:
    """What the driver is told of a connection's ends is what the peer sees."""
    for name, told, seen in (("local", local, connection.remote), ("remote", remote, connection.local)):
        same = told is not None and (told.host, told.port) == seen
        rule.must(f"{name} address", same, holds("what the peer sees", "another one"))


def _talks(scene: Scene, rule: RuleObserver, pair: Pair) -> None:
    """A word in each direction."""
    pair.peer.send(b"question")
    rule.must("the driver reads", scene.received(pair.socket, 8), equals(b"question"))
    rule.must("send", scene.wsk.send(pair.socket, b"answer"), succeeded())
    rule.must("the peer reads", pair.peer.receive(6), equals(b"answer"))


@pytest.mark.rule("WSK-BIND-010")
def test_accept_over_ipv6(scene: Scene, peer6: Peer, observe: Observe) -> None:
    """A listener at the guest's own IPv6 address takes a connection from outside of the guest."""
    rule = observe.rule("WSK-BIND-010")
    _talks(scene, rule, _accepted(scene, rule, SocketAddress.of(scene.guest.ipv6, scene.guest.port()), peer6))


@pytest.mark.rule("WSK-FAM-002")
def test_connect_over_ipv6(scene: Scene, peer6: Peer, observe: Observe) -> None:
    """A connection socket over IPv6 reaches a peer outside of the guest, from the guest's own IPv6 address."""
    rule = observe.rule("WSK-FAM-002")
    pair = _connected(scene, rule, ANY_IPV6, peer6)
    rule.must("the peer sees the guest's address", pair.peer.remote[0] == scene.guest.ipv6, equals(True))
    _talks(scene, rule, pair)


@pytest.mark.rule("WSK-FAM-004")
def test_datagrams_over_ipv6(scene: Scene, peer6: Peer, observe: Observe) -> None:
    """A datagram socket over IPv6 hears a peer outside of the guest, and answers it."""
    rule = observe.rule("WSK-FAM-004")
    address = SocketAddress.of(scene.guest.ipv6, scene.guest.port())
    number = scene.bound(rule, Category.DATAGRAM, address)
    outside = peer6.datagram()
    receiving = scene.wsk.receive_from(number, 64)
    outside.send(address.port, b"question")
    record = receiving.result(scene.within())
    rule.must("the driver reads", record.data, equals(b"question"))
    rule.must("the sender", record.remote == outside.address, equals(True))
    rule.must("send", scene.wsk.send_to(number, b"answer", outside.address), succeeded())
    data, sender = outside.receive()
    rule.must("the peer reads", data, equals(b"answer"))
    rule.must("the peer sees the guest's address", sender == address, equals(True))


@TWO_GUESTS
@pytest.mark.rule("WSK-ACC-001")
def test_accept_from_a_second_guest(scene: Scene, second_peer: Peer, observe: Observe) -> None:
    """A connection from another guest's TCP is accepted, with the addresses that both ends see."""
    rule = observe.rule("WSK-ACC-001")
    pair = _accepted(scene, rule, scene.address(), second_peer)
    rule.must("it is not the host", pair.peer.local[0] != scene.guest.link.host_address, equals(True))
    scene.guest_sees(rule, "established", scene.guest.port())
    _talks(scene, rule, pair)


@TWO_GUESTS
@pytest.mark.rule("WSK-CONN-001")
def test_connect_to_a_second_guest(
    scene: Scene, second_peer: Peer, lab_guests: tuple[LeasedGuest, ...], observe: Observe
) -> None:
    """The driver connects to a listener of another guest, whose own table has the connection, too."""
    rule = observe.rule("WSK-CONN-001")
    pair = _connected(scene, rule, ANY_IPV4, second_peer)
    rule.must("the second guest sees the first", pair.peer.remote[0] == scene.guest.address, equals(True))
    rows = [row for row in lab_guests[1].net().entries if row.remote == pair.peer.remote]
    rule.must("in the second guest's table", [row.state for row in rows], equals(["established"]))
    _talks(scene, rule, pair)


@TWO_GUESTS
@pytest.mark.rule("WSK-DATA-004")
def test_a_second_guest_finishes(scene: Scene, second_peer: Peer, observe: Observe) -> None:
    """The FIN of another guest ends receives with success and no bytes."""
    rule = observe.rule("WSK-DATA-004")
    pair = _accepted(scene, rule, scene.address(), second_peer)
    pending = scene.wsk.receive(pair.socket, 16)
    pair.peer.finish()
    for name, receiving in (("pending receive", pending), ("later receive", scene.wsk.receive(pair.socket, 16))):
        record = receiving.result(scene.within())
        rule.expect(name, record, succeeded())
        rule.expect(f"Information of the {name}", record, information(0))


@TWO_GUESTS
@pytest.mark.rule("WSK-DATA-005")
def test_a_second_guest_resets(scene: Scene, second_peer: Peer, observe: Observe) -> None:
    """The RST of another guest ends a pending receive in a failure."""
    rule = observe.rule("WSK-DATA-005")
    pair = _accepted(scene, rule, scene.address(), second_peer)
    receiving = scene.wsk.receive(pair.socket, 16)
    pair.peer.reset()
    record = receiving.result(scene.within())
    rule.must("completions", record, completed_once())
    rule.must("pending receive", record, failed())


@TWO_GUESTS
@pytest.mark.rule("WSK-BIND-010")
def test_a_second_guest_over_ipv6(scene: Scene, second_peer6: Peer, observe: Observe) -> None:
    """A listener at the guest's own IPv6 address takes a connection from another guest."""
    rule = observe.rule("WSK-BIND-010")
    _talks(scene, rule, _accepted(scene, rule, SocketAddress.of(scene.guest.ipv6, scene.guest.port()), second_peer6))
