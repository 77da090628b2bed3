"""Address families, socket types and protocols (WSK-FAM)."""

from __future__ import annotations

import pytest

from wsklab.abi import Category
from wsklab.channel.operations import IPPROTO_TCP, IPPROTO_UDP, SOCK_DGRAM, SOCK_STREAM
from wsklab.pytest_plugin import Observe, ObservedClient, Scene
from wsklab.pytest_plugin.matchers import completed_once, failed, new_socket, succeeded
from wsklab.records import AF_INET, AF_INET6, SocketAddress

TCP_CATEGORIES = [
    pytest.param(Category.BASIC, id="basic"),
    pytest.param(Category.LISTEN, id="listen"),
    pytest.param(Category.CONNECTION, id="connection"),
]
UDP_CATEGORIES = [pytest.param(Category.BASIC, id="basic"), pytest.param(Category.DATAGRAM, id="datagram")]


@pytest.mark.rule("WSK-FAM-001")
@pytest.mark.parametrize("category", TCP_CATEGORIES)
def test_tcp_over_ipv4(wsk: ObservedClient, observe: Observe, category: Category) -> None:
    """AF_INET, SOCK_STREAM, TCP can be created as basic, listening and connection socket."""
    made = wsk.socket(category, AF_INET, SOCK_STREAM, IPPROTO_TCP)
    observe.rule("WSK-FAM-001").must(f"creation: {category.name.lower()}", made, new_socket())


@pytest.mark.rule("WSK-FAM-002")
@pytest.mark.parametrize("category", TCP_CATEGORIES)
def test_tcp_over_ipv6(wsk: ObservedClient, observe: Observe, category: Category) -> None:
    """AF_INET6, SOCK_STREAM, TCP can be created as basic, listening and connection socket."""
    made = wsk.socket(category, AF_INET6, SOCK_STREAM, IPPROTO_TCP)
    observe.rule("WSK-FAM-002").must(f"creation: {category.name.lower()}", made, new_socket())


@pytest.mark.rule("WSK-FAM-003")
@pytest.mark.parametrize("category", UDP_CATEGORIES)
def test_udp_over_ipv4(wsk: ObservedClient, observe: Observe, category: Category) -> None:
    """AF_INET, SOCK_DGRAM, UDP can be created as basic and datagram socket."""
    made = wsk.socket(category, AF_INET, SOCK_DGRAM, IPPROTO_UDP)
    observe.rule("WSK-FAM-003").must(f"creation: {category.name.lower()}", made, new_socket())


@pytest.mark.rule("WSK-FAM-004")
@pytest.mark.parametrize("category", UDP_CATEGORIES)
def test_udp_over_ipv6(wsk: ObservedClient, observe: Observe, category: Category) -> None:
    """AF_INET6, SOCK_DGRAM, UDP can be created as basic and datagram socket."""
    made = wsk.socket(category, AF_INET6, SOCK_DGRAM, IPPROTO_UDP)
    observe.rule("WSK-FAM-004").must(f"creation: {category.name.lower()}", made, new_socket())


@pytest.mark.rule("WSK-FAM-006")
@pytest.mark.parametrize("family", [16, 99, 0xFFFF])
def test_unknown_family(wsk: ObservedClient, observe: Observe, family: int) -> None:
    """A family that the system has no transport for is refused, with one completion."""
    rule = observe.rule("WSK-FAM-006")
    made = wsk.socket(Category.LISTEN, family, SOCK_STREAM, IPPROTO_TCP)
    rule.must("completions", made, completed_once())
    rule.must(f"refusal of family {family}", made, failed())
    rule.record(f"status of family {family}", made.completed)


MISFITS = [
    pytest.param(SOCK_STREAM, IPPROTO_UDP, id="stream-udp"),
    pytest.param(SOCK_DGRAM, IPPROTO_TCP, id="dgram-tcp"),
    pytest.param(0, IPPROTO_TCP, id="type0"),
    pytest.param(4, IPPROTO_TCP, id="type4"),
    pytest.param(5, IPPROTO_TCP, id="type5"),
    pytest.param(99, IPPROTO_TCP, id="type99"),
    pytest.param(SOCK_STREAM, 250, id="protocol250"),
]


@pytest.mark.rule("WSK-FAM-007")
@pytest.mark.parametrize(("kind", "protocol"), MISFITS)
def test_type_and_protocol_misfit(wsk: ObservedClient, observe: Observe, kind: int, protocol: int) -> None:
    """A type and a protocol that do not fit, or that nobody knows, are refused, with one completion."""
    rule = observe.rule("WSK-FAM-007")
    made = wsk.socket(Category.CONNECTION, AF_INET, kind, protocol)
    rule.must("completions", made, completed_once())
    rule.must(f"refusal of type {kind}, protocol {protocol}", made, failed())
    rule.record(f"status of type {kind}, protocol {protocol}", made.completed)


@pytest.mark.rule("WSK-FAM-010")
@pytest.mark.parametrize(
    ("family", "address"),
    [pytest.param(AF_INET, "::1", id="v6-on-v4"), pytest.param(AF_INET6, "127.0.0.1", id="v4-on-v6")],
)
def test_address_of_another_family(scene: Scene, observe: Observe, family: int, address: str) -> None:
    """A bind with an address of another family is refused."""
    rule = observe.rule("WSK-FAM-010")
    made = scene.wsk.socket(Category.LISTEN, family)
    rule.must("preparation: creation", made, succeeded())
    bound = scene.wsk.bind(made.new_socket, SocketAddress.of(address, scene.guest.port()))
    rule.must("bind with another family's address", bound, failed())
    rule.record("its status", bound.completed)
