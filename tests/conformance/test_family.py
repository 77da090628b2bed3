"""Address families, socket types and protocols (WSK-FAM)."""

from __future__ import annotations

import pytest

from wsklab import wsk as numbers
from wsklab.abi import Category
from wsklab.channel.operations import IPPROTO_TCP, IPPROTO_UDP, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM, Operation
from wsklab.pytest_plugin import Observe, ObservedClient, Scene
from wsklab.pytest_plugin.matchers import completed_once, failed, holds, new_socket, outcome, returned, succeeded
from wsklab.records import AF_INET, AF_INET6, SocketAddress

TCP_CATEGORIES = [
    pytest.param(Category.BASIC, id="basic"),
    pytest.param(Category.LISTEN, id="listen"),
    pytest.param(Category.CONNECTION, id="connection"),
    pytest.param(Category.STREAM, id="stream"),
]
UDP_CATEGORIES = [pytest.param(Category.BASIC, id="basic"), pytest.param(Category.DATAGRAM, id="datagram")]
BUILD_1703 = 15063


@pytest.mark.rule("WSK-FAM-001")
@pytest.mark.parametrize("category", TCP_CATEGORIES)
def test_tcp_over_ipv4(scene: Scene, observe: Observe, category: Category) -> None:
    """AF_INET, SOCK_STREAM, TCP: basic, listening, connection, and from Windows 10 1703 on stream sockets."""
    if category is Category.STREAM and not scene.since(BUILD_1703):
        pytest.skip("stream sockets came with Windows 10 1703")
    made = scene.wsk.socket(category, AF_INET, SOCK_STREAM, IPPROTO_TCP)
    observe.rule("WSK-FAM-001").must(f"creation: {category.name.lower()}", made, new_socket())


@pytest.mark.rule("WSK-FAM-002")
@pytest.mark.parametrize("category", TCP_CATEGORIES)
def test_tcp_over_ipv6(scene: Scene, observe: Observe, category: Category) -> None:
    """AF_INET6, SOCK_STREAM, TCP likewise."""
    if category is Category.STREAM and not scene.since(BUILD_1703):
        pytest.skip("stream sockets came with Windows 10 1703")
    made = scene.wsk.socket(category, AF_INET6, SOCK_STREAM, IPPROTO_TCP)
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


@pytest.mark.rule("WSK-FAM-005")
@pytest.mark.parametrize("category", UDP_CATEGORIES)
@pytest.mark.parametrize(("family", "protocol"), [(AF_INET, 1), (AF_INET6, 58)], ids=["icmp", "icmpv6"])
def test_raw_sockets(wsk: ObservedClient, observe: Observe, category: Category, family: int, protocol: int) -> None:
    """SOCK_RAW with an IP protocol number can be created as basic and datagram socket in both families."""
    made = wsk.socket(category, family, SOCK_RAW, protocol)
    observe.rule("WSK-FAM-005").must(
        f"creation: raw {category.name.lower()} of protocol {protocol}", made, new_socket()
    )


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


NOT_DESCRIBED = [
    pytest.param(AF_INET, SOCK_STREAM, 0, id="stream-0"),
    pytest.param(AF_INET, SOCK_DGRAM, 0, id="dgram-0"),
    pytest.param(0, SOCK_STREAM, IPPROTO_TCP, id="unspecified"),
]


@pytest.mark.rule("WSK-FAM-008")
@pytest.mark.parametrize(("family", "kind", "protocol"), NOT_DESCRIBED)
def test_protocol_zero_and_no_family(
    wsk: ObservedClient, observe: Observe, family: int, kind: int, protocol: int
) -> None:
    """Protocol 0 and the unspecified family end in one completion; what it says is recorded."""
    rule = observe.rule("WSK-FAM-008")
    category = Category.DATAGRAM if kind == SOCK_DGRAM else Category.CONNECTION
    made = wsk.socket(category, family, kind, protocol)
    rule.must("completions", made, completed_once())
    rule.record(f"family {family}, type {kind}, protocol {protocol}", outcome(made))


@pytest.mark.rule("WSK-FAM-009")
def test_listed_transports(wsk: ObservedClient, observe: Observe) -> None:
    """Every triple of the transport list creates and closes a basic socket; no family stands for both of IP."""
    rule = observe.rule("WSK-FAM-009")
    listed = wsk.run(Operation.transport_list())
    rule.must("preparation: WSK_TRANSPORT_LIST_QUERY", listed, returned("STATUS_SUCCESS"))
    transports = numbers.transport_list(listed.extra)
    rule.must("entries", bool(transports), holds("some", "none"))
    for transport in transports:
        for family in [transport.family] if transport.family else [AF_INET, AF_INET6]:
            made = wsk.socket(Category.BASIC, family, transport.socket_type, transport.protocol)
            rule.must("creation of a listed transport", made, succeeded())
            rule.must("its close", wsk.close_socket(made.new_socket), succeeded())
    rule.record("transports", [f"{one.family}/{one.socket_type}/{one.protocol}" for one in transports])


FOREIGN = [pytest.param(AF_INET, "::1", id="v6-on-v4"), pytest.param(AF_INET6, "127.0.0.1", id="v4-on-v6")]


@pytest.mark.rule("WSK-FAM-010")
@pytest.mark.parametrize(("family", "address"), FOREIGN)
def test_bind_to_another_family(scene: Scene, observe: Observe, family: int, address: str) -> None:
    """A bind with an address of another family is refused."""
    rule = observe.rule("WSK-FAM-010")
    number = scene.fresh(rule, Category.LISTEN, family=family)
    bound = scene.wsk.bind(number, SocketAddress.of(address, scene.guest.port()))
    rule.must("bind with another family's address", bound, failed())
    rule.record("status of the bind", bound.completed)


@pytest.mark.rule("WSK-FAM-010")
@pytest.mark.parametrize(("family", "address"), FOREIGN)
def test_connect_to_another_family(scene: Scene, observe: Observe, family: int, address: str) -> None:
    """A connect to an address of another family is refused."""
    rule = observe.rule("WSK-FAM-010")
    own = "127.0.0.1" if family == AF_INET else "::1"
    number = scene.bound(rule, Category.CONNECTION, SocketAddress.of(own))
    record = scene.wsk.connect(number, SocketAddress.of(address, scene.guest.port()))
    rule.must("connect to another family's address", record, failed())
    rule.record("status of the connect", outcome(record))
