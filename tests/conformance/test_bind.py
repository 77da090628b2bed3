"""Binding (WSK-BIND)."""

from __future__ import annotations

import pytest

from wsklab.abi import Category, RecordFlag, Security, Switch
from wsklab.pytest_plugin import Observe, Scene
from wsklab.pytest_plugin.matchers import (
    equals,
    failed,
    flagged,
    holds,
    information,
    outcome,
    returned,
    succeeded,
    with_status,
)
from wsklab.pytest_plugin.observe import RuleObserver
from wsklab.pytest_plugin.scene import ANY_IPV4
from wsklab.records import AF_INET6, SocketAddress
from wsklab.wsk import SocketOption

BINDABLE = [
    pytest.param(Category.LISTEN, id="listen"),
    pytest.param(Category.CONNECTION, id="connection"),
    pytest.param(Category.DATAGRAM, id="datagram"),
    pytest.param(Category.STREAM, id="stream"),
]
IPPROTO_IPV6, IPV6_V6ONLY = 41, 27
#: An address that no machine has (TEST-NET-1).
NOT_LOCAL = "192.0.2.1"


@pytest.mark.rule("WSK-BIND-001")
@pytest.mark.parametrize("category", BINDABLE)
def test_specific_address(scene: Scene, observe: Observe, category: Category) -> None:
    """A socket binds to a loopback address and a free port."""
    rule = observe.rule("WSK-BIND-001")
    name = category.name.lower()
    bound = scene.wsk.bind(scene.fresh(rule, category), scene.private())
    rule.must(f"bind: {name}", bound, succeeded())
    rule.expect("bind's return", bound, returned("STATUS_PENDING"))
    rule.expect("bind's Information", bound, information(0))
    if category is Category.LISTEN:
        scene.guest_sees(rule, "listening", scene.guest.port())


@pytest.mark.rule("WSK-BIND-002")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"], ids=["ipv4", "ipv6"])
def test_the_transport_chooses_a_port(scene: Scene, observe: Observe, host: str) -> None:
    """Bound to port 0, a socket tells the real port; nothing is written behind its address."""
    rule = observe.rule("WSK-BIND-002")
    number = scene.bound(rule, Category.LISTEN, SocketAddress.of(host))
    asked = scene.wsk.local_address(number)
    rule.must("WskGetLocalAddress", asked, succeeded())
    local = asked.local
    rule.must("the port", bool(local and local.port), holds("not 0", "0"))
    rule.must("the address", local.host if local else "", equals(host))
    size = 16 if ":" not in host else 28
    rule.must("its bytes", len(local.raw) if local else 0, equals(size))
    rule.must("bytes behind the address", asked, flagged(RecordFlag.GUARDS_INTACT, "untouched"))


@pytest.mark.rule("WSK-BIND-002")
def test_the_chosen_port_is_used(scene: Scene, observe: Observe) -> None:
    """The part that needs no address query: a connection socket bound to port 0 connects from a port of its own."""
    rule = observe.rule("WSK-BIND-002")
    listening = scene.peer.listen()
    number = scene.bound(rule, Category.CONNECTION, SocketAddress.of(scene.guest.address))
    rule.must("connect", scene.wsk.connect(number, scene.address_of(listening)), succeeded())
    host, port = listening.accept().remote
    rule.must("the address that the peer sees", host == scene.guest.address, equals(True))
    rule.must("the port that the peer sees", bool(port), holds("not 0", "0"))


@pytest.mark.rule("WSK-BIND-003")
def test_wildcard(scene: Scene, observe: Observe) -> None:
    """A listener on the wildcard takes connections to the wire's and to a loopback address, and knows which it was."""
    rule = observe.rule("WSK-BIND-003")
    listener = scene.bound(rule, Category.LISTEN, scene.anywhere())
    pair = scene.accepted(rule, listener)
    local = pair.record.local
    rule.must("local address of the connection", local.host if local else "", equals(scene.guest.address))
    accepting = scene.wsk.accept(listener)
    inside = scene.bound(rule, Category.CONNECTION, ANY_IPV4)
    reached = scene.wsk.connect(inside, SocketAddress.of("127.0.0.1", scene.guest.port()))
    rule.must("connect by 127.0.0.1", reached, succeeded())
    local = accepting.result(scene.within()).local
    rule.must("local address inside the guest", local.host if local else "", equals("127.0.0.1"))


@pytest.mark.rule("WSK-BIND-003")
def test_wildcard_for_datagrams(scene: Scene, observe: Observe) -> None:
    """A datagram socket on the wildcard takes datagrams to the wire's and to a loopback address."""
    rule = observe.rule("WSK-BIND-003")
    number = scene.bound(rule, Category.DATAGRAM, scene.anywhere())
    scene.peer.datagram().send(scene.guest.port(), b"by the wire")
    received = scene.wsk.receive_from(number, 64).result(scene.within())
    rule.must("datagram by the wire", received.data, equals(b"by the wire"))
    inside = scene.bound(rule, Category.DATAGRAM, ANY_IPV4)
    scene.wsk.send_to(inside, b"inside", SocketAddress.of("127.0.0.1", scene.guest.port()))
    received = scene.wsk.receive_from(number, 64).result(scene.within())
    rule.must("datagram by 127.0.0.1", received.data, equals(b"inside"))


@pytest.mark.rule("WSK-BIND-004")
def test_wildcard_learns_its_address(scene: Scene, observe: Observe) -> None:
    """A connection socket on the wildcard has its port from the bind and its address from the connect."""
    rule = observe.rule("WSK-BIND-004")
    scene.bound(rule, Category.LISTEN, scene.private())
    number = scene.bound(rule, Category.CONNECTION, ANY_IPV4)
    before = scene.wsk.local_address(number)
    rule.must("WskGetLocalAddress before", before, succeeded())
    rule.must("address before", before.local.host if before.local else "", equals("0.0.0.0"))  # noqa: S104
    port = before.local.port if before.local else 0
    rule.must("port before", port != 0, holds("not 0", "0"))
    rule.must("connect", scene.wsk.connect(number, scene.private()), succeeded())
    after = scene.wsk.local_address(number)
    rule.must("WskGetLocalAddress after", after, succeeded())
    local = after.local
    specific = bool(local) and local is not None and local.host.startswith("127.")
    rule.must("address after", specific, holds("a loopback address", "another one"))
    rule.must("port after", bool(local and local.port == port), holds("the same", "another one"))


@pytest.mark.rule("WSK-BIND-005")
@pytest.mark.parametrize("category", BINDABLE)
def test_unbound_socket_has_no_address(scene: Scene, observe: Observe, category: Category) -> None:
    """Asking an unbound socket for its address fails, and the buffer is untouched."""
    rule = observe.rule("WSK-BIND-005")
    asked = scene.wsk.local_address(scene.fresh(rule, category))
    rule.must("WskGetLocalAddress of an unbound socket", asked, with_status("STATUS_INVALID_DEVICE_STATE"))
    rule.must("the buffer", asked.local is None, holds("untouched", "written to"))


@pytest.mark.rule("WSK-BIND-006")
@pytest.mark.parametrize("wildcard", [False, True], ids=["specific", "wildcard"])
def test_address_in_use(scene: Scene, observe: Observe, wildcard: bool) -> None:
    """With default options a second listener cannot have the address of a first one."""
    rule = observe.rule("WSK-BIND-006")
    address = scene.anywhere() if wildcard else scene.private()
    scene.bound(rule, Category.LISTEN, address)
    taken = scene.wsk.bind(scene.fresh(rule, Category.LISTEN), address)
    rule.must("second bind", taken, with_status("STATUS_ADDRESS_ALREADY_EXISTS"))


OK, IN_USE, DENIED = "STATUS_SUCCESS", "STATUS_ADDRESS_ALREADY_EXISTS", "STATUS_ACCESS_DENIED"
#: An access check, which the default descriptor does not pass.
CHECK = DENIED
#: What the second socket's bind says (catalogue, appendix A.8): a row for the second socket's option and address,
#: a column for the first's; W is the wildcard, S one specific address.
KINDS = [("none", "W"), ("none", "S"), ("reuse", "W"), ("reuse", "S"), ("exclusive", "W"), ("exclusive", "S")]
SHARING = {
    ("none", "W"): [IN_USE, OK, IN_USE, OK, IN_USE, OK],
    ("none", "S"): [CHECK, IN_USE, CHECK, DENIED, DENIED, IN_USE],
    ("reuse", "W"): [DENIED, OK, OK, OK, DENIED, OK],
    ("reuse", "S"): [CHECK, DENIED, OK, OK, DENIED, DENIED],
    ("exclusive", "W"): [IN_USE] * 6,
    ("exclusive", "S"): [CHECK, IN_USE, CHECK, IN_USE, DENIED, IN_USE],
}
OPTIONS = {"reuse": SocketOption.REUSEADDR, "exclusive": SocketOption.EXCLUSIVEADDRUSE}


def _shared(scene: Scene, rule: RuleObserver, category: Category, kind: tuple[str, str]) -> tuple[int, SocketAddress]:
    """A new socket with a sharing option, and the address that it is to bind to."""
    option, place = kind
    number = scene.fresh(rule, category)
    if option != "none":
        written = scene.wsk.set_option(number, OPTIONS[option], 1)
        rule.must(f"preparation: {option} option", written, succeeded())
    return number, scene.anywhere() if place == "W" else scene.private()


@pytest.mark.rule("WSK-BIND-007")
@pytest.mark.parametrize("category", [Category.LISTEN, Category.DATAGRAM], ids=["tcp", "udp"])
@pytest.mark.parametrize("first", KINDS, ids=["-".join(kind) for kind in KINDS])
def test_sharing(scene: Scene, observe: Observe, category: Category, first: tuple[str, str]) -> None:
    """Six kinds of second socket against one kind of first: each bind ends as the table says."""
    rule = observe.rule("WSK-BIND-007")
    for second in KINDS:
        wanted = SHARING[second][KINDS.index(first)]
        holder, address = _shared(scene, rule, category, first)
        rule.must("first bind", scene.wsk.bind(holder, address), succeeded())
        number, address = _shared(scene, rule, category, second)
        name = f"{'-'.join(second)} over {'-'.join(first)}"
        rule.must(name, scene.wsk.bind(number, address), with_status(wanted), stop=False)
        for own in (number, holder):
            rule.must("preparation: close", scene.wsk.close_socket(own), succeeded())


@pytest.mark.rule("WSK-BIND-008")
def test_default_descriptor_refuses(scene: Scene, observe: Observe) -> None:
    """A specific bind over a wildcard one is checked against the first socket's default descriptor, and denied."""
    rule = observe.rule("WSK-BIND-008")
    scene.bound(rule, Category.LISTEN, scene.anywhere())
    second = scene.wsk.bind(scene.fresh(rule, Category.LISTEN), scene.private())
    rule.must("second bind, default descriptor", second, with_status("STATUS_ACCESS_DENIED"))


@pytest.mark.rule("WSK-BIND-008")
def test_permitting_descriptor_allows(scene: Scene, observe: Observe) -> None:
    """With a descriptor that allows everyone on the first socket, the second bind succeeds."""
    rule = observe.rule("WSK-BIND-008")
    cached = scene.wsk.cache_descriptor()
    rule.must("preparation: WSK_CACHE_SD", cached, returned("STATUS_SUCCESS"))
    scene.bound(rule, Category.LISTEN, scene.anywhere(), security=Security.CACHED, object=cached.object)
    second = scene.wsk.bind(scene.fresh(rule, Category.LISTEN), scene.private())
    rule.must("second bind, everyone allowed", second, succeeded())


@pytest.mark.rule("WSK-BIND-009")
def test_different_addresses(scene: Scene, observe: Observe) -> None:
    """Two loopback addresses never collide on one port, and a closed listener's address is free again."""
    rule = observe.rule("WSK-BIND-009")
    first, second, third = (scene.fresh(rule, Category.LISTEN) for _ in range(3))
    other = scene.guest.loopback.rpartition(".")[0] + ".2"
    rule.must("first address", scene.wsk.bind(first, scene.private()), succeeded())
    rule.must("second address", scene.wsk.bind(second, SocketAddress.of(other, scene.guest.port())), succeeded())
    rule.must("close of the first", scene.wsk.close_socket(first), succeeded())
    rule.must("first address again", scene.wsk.bind(third, scene.private()), succeeded())


@pytest.mark.rule("WSK-BIND-010")
def test_ipv6(scene: Scene, observe: Observe) -> None:
    """An IPv6 listener binds to ::1."""
    rule = observe.rule("WSK-BIND-010")
    number = scene.fresh(rule, Category.LISTEN, family=AF_INET6)
    rule.must("bind to ::1", scene.wsk.bind(number, SocketAddress.of("::1", scene.guest.port())), succeeded())


@pytest.mark.rule("WSK-BIND-010")
def test_dual_mode(scene: Scene, observe: Observe) -> None:
    """With IPV6_V6ONLY off a wildcard listener serves IPv4, too; the peer's address is a mapped one."""
    rule = observe.rule("WSK-BIND-010")
    number = scene.fresh(rule, Category.LISTEN, family=AF_INET6)
    off = scene.wsk.set_option(number, IPV6_V6ONLY, 0, level=IPPROTO_IPV6)
    if not rule.expect("IPV6_V6ONLY off", off, succeeded()):
        return
    rule.must("bind to ::", scene.wsk.bind(number, SocketAddress.of("::", scene.guest.port())), succeeded())
    remote = scene.accepted(rule, number).record.remote
    rule.expect("family of the peer", remote.family if remote else 0, equals(AF_INET6))
    mapped = bool(remote) and remote is not None and remote.host.startswith("::ffff:")
    rule.expect("address of the peer", mapped, holds("a mapped one", "another one"))


@pytest.mark.rule("WSK-BIND-011")
def test_unusual_binds(scene: Scene, observe: Observe) -> None:
    """Binding twice and to an address of nobody fails; flags and a missing IRP are written down."""
    rule = observe.rule("WSK-BIND-011")
    bound = scene.bound(rule, Category.LISTEN, scene.private())
    again = scene.wsk.bind(bound, scene.private(1))
    rule.expect("second bind of a socket", again, failed())
    rule.record("status of the second bind", outcome(again))
    elsewhere = scene.wsk.bind(scene.fresh(rule, Category.LISTEN), SocketAddress.of(NOT_LOCAL, scene.guest.port()))
    rule.expect("bind to an address of nobody", elsewhere, failed())
    rule.record("status of the bind to nobody's address", outcome(elsewhere))
    flags = scene.wsk.bind(scene.fresh(rule, Category.LISTEN), scene.private(2), flags=1)
    rule.record("bind with flags", outcome(flags))
    without = scene.wsk.bind(scene.fresh(rule, Category.LISTEN), scene.private(3), switches=Switch.NULL_IRP)
    rule.expect("bind without an IRP", without, returned("STATUS_INVALID_PARAMETER"))


@pytest.mark.rule("WSK-BIND-012")
def test_listens_from_the_bind_on(scene: Scene, observe: Observe) -> None:
    """A peer connects although no accept is pending."""
    rule = observe.rule("WSK-BIND-012")
    scene.listener(rule)
    connection = scene.peer.connect(scene.guest.port())
    rule.must("the peer connects", bool(connection.remote), holds("connected", "not connected"))
