"""Binding (WSK-BIND)."""

from __future__ import annotations

import pytest

from wsklab.abi import Category
from wsklab.channel.operations import IPPROTO_TCP, IPPROTO_UDP, SOCK_DGRAM, SOCK_STREAM
from wsklab.pytest_plugin import Observe, Scene
from wsklab.pytest_plugin.matchers import equals, holds, information, returned, succeeded, with_status
from wsklab.records import AF_INET6, SocketAddress

BINDABLE = [
    pytest.param(Category.LISTEN, SOCK_STREAM, IPPROTO_TCP, id="listen"),
    pytest.param(Category.CONNECTION, SOCK_STREAM, IPPROTO_TCP, id="connection"),
    pytest.param(Category.DATAGRAM, SOCK_DGRAM, IPPROTO_UDP, id="datagram"),
    pytest.param(Category.STREAM, SOCK_STREAM, IPPROTO_TCP, id="stream"),
]


@pytest.mark.rule("WSK-BIND-001")
@pytest.mark.parametrize(("category", "kind", "protocol"), BINDABLE)
def test_specific_address(scene: Scene, observe: Observe, category: Category, kind: int, protocol: int) -> None:
    """A socket binds to a loopback address and a free port."""
    rule = observe.rule("WSK-BIND-001")
    name = category.name.lower()
    made = scene.wsk.socket(category, type=kind, protocol=protocol)
    rule.must(f"creation: {name}", made, succeeded())
    bound = scene.wsk.bind(made.new_socket, scene.private())
    rule.must(f"bind: {name}", bound, succeeded())
    rule.expect("bind's return", bound, returned("STATUS_PENDING"))
    rule.expect("bind's Information", bound, information(0))
    if category is Category.LISTEN:
        scene.guest_sees(rule, "listening", scene.guest.port())


@pytest.mark.rule("WSK-BIND-003")
def test_wildcard(scene: Scene, observe: Observe) -> None:
    """A listener on the wildcard address takes a connection on the wire, and knows its specific local address."""
    rule = observe.rule("WSK-BIND-003")
    made = scene.wsk.socket(Category.LISTEN)
    rule.must("creation", made, succeeded())
    anywhere = SocketAddress.of("0.0.0.0", scene.guest.port())  # noqa: S104 - in the guest
    rule.must("bind to the wildcard", scene.wsk.bind(made.new_socket, anywhere), succeeded())
    pair = scene.accepted(rule, made.new_socket)
    local = pair.record.local
    rule.must("local address of the connection", local.host if local else "", equals(scene.guest.address))


@pytest.mark.rule("WSK-BIND-006")
@pytest.mark.parametrize("wildcard", [False, True], ids=["specific", "wildcard"])
def test_address_in_use(scene: Scene, observe: Observe, wildcard: bool) -> None:
    """With default options a second listener cannot have the address of a first one."""
    rule = observe.rule("WSK-BIND-006")
    host = "0.0.0.0" if wildcard else scene.guest.loopback  # noqa: S104 - in the guest
    address = SocketAddress.of(host, scene.guest.port())
    first, second = scene.wsk.socket(Category.LISTEN), scene.wsk.socket(Category.LISTEN)
    rule.must("first bind", scene.wsk.bind(first.new_socket, address), succeeded())
    taken = scene.wsk.bind(second.new_socket, address)
    rule.must("second bind", taken, with_status("STATUS_ADDRESS_ALREADY_EXISTS"))


@pytest.mark.rule("WSK-BIND-009")
def test_different_addresses(scene: Scene, observe: Observe) -> None:
    """Two loopback addresses never collide on one port, and a closed listener's address is free again."""
    rule = observe.rule("WSK-BIND-009")
    first, second, third = (scene.wsk.socket(Category.LISTEN).new_socket for _ in range(3))
    other = scene.guest.loopback.rpartition(".")[0] + ".2"
    rule.must("first address", scene.wsk.bind(first, scene.private()), succeeded())
    rule.must("second address", scene.wsk.bind(second, SocketAddress.of(other, scene.guest.port())), succeeded())
    rule.must("close of the first", scene.wsk.close_socket(first), succeeded())
    rule.must("first address again", scene.wsk.bind(third, scene.private()), succeeded())


@pytest.mark.rule("WSK-BIND-010")
def test_ipv6(scene: Scene, observe: Observe) -> None:
    """An IPv6 listener binds to ::1."""
    rule = observe.rule("WSK-BIND-010")
    made = scene.wsk.socket(Category.LISTEN, AF_INET6)
    rule.must("creation", made, succeeded())
    rule.must("bind to ::1", scene.wsk.bind(made.new_socket, SocketAddress.of("::1", scene.guest.port())), succeeded())


@pytest.mark.rule("WSK-BIND-012")
def test_listens_from_the_bind_on(scene: Scene, observe: Observe) -> None:
    """A peer connects although no accept is pending."""
    rule = observe.rule("WSK-BIND-012")
    scene.listener(rule)
    connection = scene.peer.connect(scene.guest.port())
    rule.must("the peer connects", bool(connection.remote), holds("connected", "not connected"))
