"""Name resolution (WSK-NAME), at PASSIVE_LEVEL only."""

from __future__ import annotations

import contextlib
import ipaddress

import pytest

from wsklab.abi import Owner, Switch, Use
from wsklab.channel.operations import IPPROTO_TCP, SOCK_STREAM, Operation
from wsklab.deadline import NotYet, wait_until
from wsklab.errors import DeadlineExceeded
from wsklab.pytest_plugin import Observe, Scene
from wsklab.pytest_plugin.matchers import equals, failed, holds, outcome, refused, returned, succeeded, with_status
from wsklab.pytest_plugin.values import for_all
from wsklab.records import AF_INET, AF_INET6, SocketAddress

NI_NUMERICHOST, NI_NAMEREQD, NI_NUMERICSERV = 0x2, 0x4, 0x8
AI_NUMERICHOST = 0x4
#: A name that no resolver knows (RFC 6761), and an address that has no name (TEST-NET-1).
NO_NAME, NAMELESS = "does-not-exist.invalid", "192.0.2.1"
#: Lookups at the same time.
PARALLEL = 50


@pytest.mark.rule("WSK-NAME-001")
@pytest.mark.parametrize(
    ("text", "family", "length"), [("127.0.0.1", AF_INET, 16), ("::1", AF_INET6, 28)], ids=["ipv4", "ipv6"]
)
def test_numeric_names(scene: Scene, observe: Observe, text: str, family: int, length: int) -> None:
    """A numeric address and a numeric service give entries of that address and port."""
    rule = observe.rule("WSK-NAME-001")
    port = scene.guest.port()
    found = scene.wsk.run(Operation.address_info(text, str(port)))
    rule.must("WskGetAddressInfo", found, succeeded())
    entries = found.address_infos
    rule.must("entries", bool(entries), holds("some", "none"))
    for entry in entries:
        rule.must("family", entry.family, equals(family))
        rule.must("length", entry.address_length, equals(length))
        rule.must("address", entry.address == SocketAddress.of(text, port), holds("as asked", "another one"))
    freed = scene.wsk.run(Operation.free_address_info(found.object))
    rule.must("WskFreeAddressInfo", freed, succeeded())


@pytest.mark.rule("WSK-NAME-001")
def test_any_numeric_name(scene: Scene, observe: Observe) -> None:
    """Any IPv4 address in digits gives that address."""
    rule = observe.rule("WSK-NAME-001")

    def resolves(address: ipaddress.IPv4Address) -> None:
        found = scene.wsk.run(Operation.address_info(str(address), str(scene.guest.port())))
        rule.must("WskGetAddressInfo of any address", found, succeeded())
        same = [entry.address == SocketAddress.of(str(address), scene.guest.port()) for entry in found.address_infos]
        rule.must("what it gives", bool(same) and all(same), holds("that address", "another one"))
        freed = scene.wsk.run(Operation.free_address_info(found.object))
        rule.must("WskFreeAddressInfo of any address", freed, succeeded())

    edges = (ipaddress.IPv4Address(number) for number in (1, (1 << 32) - 1))
    for_all(edges, lambda random: ipaddress.IPv4Address(random.getrandbits(32)), resolves)


@pytest.mark.rule("WSK-NAME-002")
def test_unknown_name(scene: Scene, observe: Observe) -> None:
    """A name that nobody knows completes with a failure."""
    rule = observe.rule("WSK-NAME-002")
    record = scene.wsk.run(Operation.address_info(NO_NAME), scene.within(30.0))
    rule.must("WskGetAddressInfo of an unknown name", record, failed())
    rule.expect("its status", record, with_status("STATUS_NO_MATCH", "STATUS_NOT_FOUND"))


@pytest.mark.rule("WSK-NAME-003")
def test_lookup_without_irp(scene: Scene, observe: Observe) -> None:
    """A lookup without an IRP is refused, and no list is made."""
    rule = observe.rule("WSK-NAME-003")
    record = scene.wsk.run(Operation.address_info("127.0.0.1", switches=Switch.NULL_IRP))
    rule.expect("WskGetAddressInfo without an IRP", record, returned("STATUS_INVALID_PARAMETER"))
    rule.expect("the result pointer", record.object, equals(0))


@pytest.mark.rule("WSK-NAME-004")
@pytest.mark.parametrize("what", ["address", "name"])
def test_thread_without_process(scene: Scene, observe: Observe, what: str) -> None:
    """A thread without its process is refused by both lookups."""
    rule = observe.rule("WSK-NAME-004")
    owner = {"owning_thread": Owner.CURRENT}
    if what == "address":
        operation = Operation.address_info("127.0.0.1", **owner)
    else:
        operation = Operation.name_info(scene.private(), **owner)
    record = scene.wsk.run(operation)
    rule.must(f"{what} lookup with a thread and no process", record, refused("STATUS_INVALID_PARAMETER"))


@pytest.mark.rule("WSK-NAME-005")
def test_information_of_a_lookup(scene: Scene, observe: Observe) -> None:
    """What Information holds is written down."""
    rule = observe.rule("WSK-NAME-005")
    record = scene.wsk.run(Operation.address_info("127.0.0.1"))
    rule.record("Information of a lookup", f"{record.information_kind.name.lower()} {record.information}")


@pytest.mark.rule("WSK-NAME-005")
def test_lookup_of_nothing(scene: Scene, observe: Observe) -> None:
    """Neither node nor service: customarily a failure."""
    rule = observe.rule("WSK-NAME-005")
    record = scene.wsk.run(Operation.address_info(None, None))
    rule.expect("lookup of nothing", record, failed())
    rule.record("status of the lookup of nothing", outcome(record))


@pytest.mark.rule("WSK-NAME-005")
def test_unterminated_name(scene: Scene, observe: Observe) -> None:
    """A node string without terminating zero: customarily its Length is honoured."""
    rule = observe.rule("WSK-NAME-005")
    record = scene.wsk.run(Operation.address_info("127.0.0.1", switches=Switch.UNTERMINATED))
    if rule.expect("lookup of an unterminated name", record, succeeded()):
        hosts = {entry.address.host for entry in record.address_infos if entry.address}
        rule.expect("its address", hosts, equals({"127.0.0.1"}))


@pytest.mark.rule("WSK-NAME-006")
@pytest.mark.parametrize("family", [AF_INET, AF_INET6], ids=["ipv4", "ipv6"])
def test_hints_restrict_the_family(scene: Scene, observe: Observe, family: int) -> None:
    """With a family in the hints only addresses of that family come."""
    rule = observe.rule("WSK-NAME-006")
    text = "127.0.0.1" if family == AF_INET else "::1"
    plain = Operation.address_info(text, argument_use=Use.NODE | Use.HINTS, family=family)
    found = scene.wsk.run(plain)
    rule.must("lookup with a family", found, succeeded())
    rule.must("families", {entry.family for entry in found.address_infos}, equals({family}))
    other = "::1" if family == AF_INET else "127.0.0.1"
    foreign = Operation.address_info(other, argument_use=Use.NODE | Use.HINTS, family=family)
    rule.must("an address of the other family", scene.wsk.run(foreign), failed())


@pytest.mark.rule("WSK-NAME-006")
def test_hints_restrict_type_and_protocol(scene: Scene, observe: Observe) -> None:
    """With a type and a protocol in the hints only those come."""
    rule = observe.rule("WSK-NAME-006")
    found = scene.wsk.run(
        Operation.address_info(
            "127.0.0.1", argument_use=Use.NODE | Use.HINTS, family=AF_INET, type=SOCK_STREAM, protocol=IPPROTO_TCP
        )
    )
    rule.must("lookup with type and protocol", found, succeeded())
    pairs = {(entry.type, entry.protocol) for entry in found.address_infos}
    rule.must("types and protocols", pairs, equals({(SOCK_STREAM, IPPROTO_TCP)}))


@pytest.mark.rule("WSK-NAME-006")
def test_numeric_only(scene: Scene, observe: Observe) -> None:
    """With AI_NUMERICHOST a name is not looked up."""
    rule = observe.rule("WSK-NAME-006")
    operation = Operation.address_info("localhost", argument_use=Use.NODE | Use.HINTS, hint_flags=AI_NUMERICHOST)
    rule.must("AI_NUMERICHOST with a name", scene.wsk.run(operation), failed())


@pytest.mark.rule("WSK-NAME-007")
def test_numeric_strings(scene: Scene, observe: Observe) -> None:
    """With the numeric flags an address turns into its numeric forms, with their lengths."""
    rule = observe.rule("WSK-NAME-007")
    address = SocketAddress.of("127.0.0.1", scene.guest.port())
    record = scene.wsk.run(Operation.name_info(address, flags=NI_NUMERICHOST | NI_NUMERICSERV))
    rule.must("WskGetNameInfo", record, succeeded())
    rule.must("node", record.node, equals("127.0.0.1"))
    rule.must("service", record.service == str(scene.guest.port()), holds("the port", "something else"))


@pytest.mark.rule("WSK-NAME-008")
def test_no_string_asked_for(scene: Scene, observe: Observe) -> None:
    """Neither node nor service asked for: a failure."""
    rule = observe.rule("WSK-NAME-008")
    record = scene.wsk.run(Operation.name_info(scene.private(), node=0, service=0))
    rule.must("WskGetNameInfo for nothing", record, failed())
    rule.expect("its status", record, with_status("STATUS_INVALID_PARAMETER"))


@pytest.mark.rule("WSK-NAME-008")
def test_required_name(scene: Scene, observe: Observe) -> None:
    """A name that is required and does not exist is a failure; a buffer too small is written down."""
    rule = observe.rule("WSK-NAME-008")
    nameless = Operation.name_info(SocketAddress.of(NAMELESS, scene.guest.port()), flags=NI_NAMEREQD)
    rule.must("NI_NAMEREQD without a name", scene.wsk.run(nameless, scene.within(30.0)), failed())
    short = Operation.name_info(scene.private(), node=4, flags=NI_NUMERICHOST | NI_NUMERICSERV)
    rule.record("buffer too small", outcome(scene.wsk.run(short)))


@pytest.mark.rule("WSK-NAME-009")
def test_parallel_lookups(scene: Scene, observe: Observe) -> None:
    """Fifty lookups at the same time all complete; their lists belong to the caller until they are freed."""
    rule = observe.rule("WSK-NAME-009")
    scene.wsk.hello()
    before = scene.wsk.ledger().client
    looking = [scene.wsk.submit(Operation.address_info("localhost")) for _ in range(PARALLEL)]
    found = [one.result(scene.within(30.0)) for one in looking]
    rule.must("lookups", all(record.succeeded for record in found), holds("all succeed", "some fail"))
    freed = [scene.wsk.run(Operation.free_address_info(record.object)).succeeded for record in found]
    rule.must("frees", all(freed), holds("all succeed", "some fail"))
    # what the last operation needed is given back a moment after its record
    with contextlib.suppress(DeadlineExceeded):
        wait_until(
            lambda: scene.wsk.ledger().client.pool_bytes <= before.pool_bytes or NotYet("more than before"),
            scene.within(2.0),
            what="the driver's pool",
        )
    after = scene.wsk.ledger().client
    held = after.objects_made - after.objects_released
    rule.must("lists held in the end", held, equals(0))
    pool = after.pool_bytes <= before.pool_bytes
    rule.must("the driver's pool", pool, holds("back to the start", "grown"))
