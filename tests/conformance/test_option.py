"""Socket options and I/O controls (WSK-OPT): WskControlSocket."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from wsklab import wsk as numbers
from wsklab.abi import Category, InputKind, Npi, RecordFlag, Switch
from wsklab.channel.operations import IPPROTO_TCP, Operation
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
from wsklab.pytest_plugin.quiet import STILL_PENDING_S
from wsklab.pytest_plugin.scene import TRANSPORT
from wsklab.records import AF_INET, AF_INET6, Record
from wsklab.wsk import ControlType, SocketIoctl, SocketOption

TCP_NODELAY, IPPROTO_IPV6, IPV6_V6ONLY = 1, 41, 27
NO_IRP: dict[str, Any] = {"switches": Switch.NULL_IRP}

#: Each option with a category that has it, and a value that is not its default.
OPTIONS = [
    pytest.param(SocketOption.EXCLUSIVEADDRUSE, Category.LISTEN, 1, id="exclusive"),
    pytest.param(SocketOption.REUSEADDR, Category.LISTEN, 1, id="reuse"),
    pytest.param(SocketOption.KEEPALIVE, Category.CONNECTION, 1, id="keepalive"),
    pytest.param(SocketOption.RCVBUF, Category.CONNECTION, 65536, id="rcvbuf"),
    pytest.param(SocketOption.BROADCAST, Category.DATAGRAM, 1, id="broadcast"),
    pytest.param(SocketOption.CONDITIONAL_ACCEPT, Category.LISTEN, 1, id="conditional"),
]
SWITCHES = [pytest.param(*param.values[:2], id=param.id) for param in OPTIONS if param.id != "rcvbuf"]


def _query(scene: Scene, socket: int, size: int, **more: Any) -> Record:
    """SIO_ADDRESS_LIST_QUERY without an IRP."""
    operation = Operation.ioctl(socket, SocketIoctl.ADDRESS_LIST_QUERY, output=size, **(NO_IRP | more))
    return scene.wsk.run(operation)


@pytest.mark.rule("WSK-OPT-001")
@pytest.mark.parametrize(("option", "category", "value"), OPTIONS)
def test_option_round_trip(
    scene: Scene, observe: Observe, option: SocketOption, category: Category, value: int
) -> None:
    """A number option is set and read back; Information tells the bytes of the answer."""
    rule = observe.rule("WSK-OPT-001")
    number = scene.fresh(rule, category)
    written = scene.wsk.set_option(number, option, value)
    rule.must(f"set {option.name}", written, succeeded())
    rule.expect("Information of a set", written, information(0))
    asked = scene.wsk.get_option(number, option)
    rule.must(f"get {option.name}", asked, succeeded())
    rule.must("Information of a get", asked, information(4))
    rule.must("the value", asked.number, equals(value))


@pytest.mark.rule("WSK-OPT-002")
@pytest.mark.parametrize(("option", "category"), SWITCHES)
def test_defaults(scene: Scene, observe: Observe, option: SocketOption, category: Category) -> None:
    """The switches are off on a fresh socket."""
    rule = observe.rule("WSK-OPT-002")
    asked = scene.wsk.get_option(scene.fresh(rule, category), option)
    rule.must(f"get {option.name}", asked, succeeded())
    rule.must(f"default of {option.name}", asked.number, equals(0))


@pytest.mark.rule("WSK-OPT-002")
def test_default_buffer(scene: Scene, observe: Observe) -> None:
    """The default receive buffer is written down."""
    rule = observe.rule("WSK-OPT-002")
    asked = scene.wsk.get_option(scene.fresh(rule, Category.CONNECTION), SocketOption.RCVBUF)
    rule.record("default of SO_RCVBUF", asked.number if asked.succeeded else outcome(asked))


@pytest.mark.rule("WSK-OPT-003")
@pytest.mark.parametrize(("option", "category", "value"), OPTIONS)
def test_option_without_irp(
    scene: Scene, observe: Observe, option: SocketOption, category: Category, value: int
) -> None:
    """Without an IRP: written down; a set that failed has changed nothing, one that succeeded took effect."""
    rule = observe.rule("WSK-OPT-003")
    number = scene.fresh(rule, category)
    before = scene.wsk.get_option(number, option)
    rule.must(f"preparation: get {option.name}", before, succeeded())
    written = scene.wsk.set_option(number, option, value, **NO_IRP)
    rule.record(f"set {option.name} without an IRP", outcome(written))
    rule.record(f"get {option.name} without an IRP", outcome(scene.wsk.get_option(number, option, **NO_IRP)))
    after = scene.wsk.get_option(number, option)
    took = written.returned == "STATUS_SUCCESS"
    wanted = value.to_bytes(4, "little") if took else before.extra
    rule.must("the value afterwards", after.extra == wanted, holds("as the status says", "another one"))


LATE = [
    pytest.param(SocketOption.EXCLUSIVEADDRUSE, id="exclusive"),
    pytest.param(SocketOption.REUSEADDR, id="reuse"),
]


@pytest.mark.rule("WSK-OPT-004")
@pytest.mark.parametrize("option", LATE)
def test_late_sharing_option(scene: Scene, observe: Observe, option: SocketOption) -> None:
    """A sharing option that is set after the bind: written down; the address is shared as little as before."""
    rule = observe.rule("WSK-OPT-004")
    first = scene.bound(rule, Category.LISTEN, scene.private())
    rule.record(f"{option.name} after the bind", outcome(scene.wsk.set_option(first, option, 1)))
    second = scene.wsk.bind(scene.fresh(rule, Category.LISTEN), scene.private())
    rule.must("second bind after a late option", second, failed())


@pytest.mark.rule("WSK-OPT-004")
def test_late_conditional_accept(scene: Scene, observe: Observe) -> None:
    """Conditional accept that is set after the bind: written down; connections are accepted as before."""
    rule = observe.rule("WSK-OPT-004")
    listener = scene.listener(rule)
    late = scene.wsk.set_option(listener, SocketOption.CONDITIONAL_ACCEPT, 1)
    rule.record("SO_CONDITIONAL_ACCEPT after the bind", outcome(late))
    scene.accepted(rule, listener)


@pytest.mark.rule("WSK-OPT-004")
def test_late_security(scene: Scene, observe: Observe) -> None:
    """A descriptor that is set after the bind: written down; the address is shared as little as before."""
    rule = observe.rule("WSK-OPT-004")
    cached = scene.wsk.cache_descriptor()
    rule.must("preparation: WSK_CACHE_SD", cached, returned("STATUS_SUCCESS"))
    first = scene.bound(rule, Category.LISTEN, scene.anywhere())
    rule.record("SO_WSK_SECURITY after the bind", outcome(scene.wsk.run(Operation.set_security(first, cached.object))))
    second = scene.wsk.bind(scene.fresh(rule, Category.LISTEN), scene.private())
    rule.must("second bind after a late descriptor", second, failed())


MISPLACED: dict[str, tuple[Category, dict[str, Any]]] = {
    "broadcast on TCP": (Category.CONNECTION, {"control_code": SocketOption.BROADCAST}),
    "conditional accept on a connection": (Category.CONNECTION, {"control_code": SocketOption.CONDITIONAL_ACCEPT}),
    "keep-alive on UDP": (Category.DATAGRAM, {"control_code": SocketOption.KEEPALIVE}),
    "an unknown option": (Category.LISTEN, {"control_code": 0x7777}),
    "an unknown level": (Category.LISTEN, {"control_code": SocketOption.RCVBUF, "control_level": 0x7777}),
    "an unknown request type": (Category.LISTEN, {"control_code": SocketOption.RCVBUF, "control_type": 9}),
    "a short value": (Category.LISTEN, {"control_code": SocketOption.RCVBUF, "extra": b"\1"}),
}


@pytest.mark.rule("WSK-OPT-005")
@pytest.mark.parametrize("what", MISPLACED, ids=[name.replace(" ", "_") for name in MISPLACED])
def test_misplaced_option(scene: Scene, observe: Observe, what: str) -> None:
    """An option on the wrong category, and unknown ones: customarily failures; each is written down."""
    rule = observe.rule("WSK-OPT-005")
    category, fields = MISPLACED[what]
    number = scene.fresh(rule, category)
    value = (1).to_bytes(4, "little")
    ordinary = {"control_type": ControlType.SET_OPTION, "control_level": numbers.SOL_SOCKET, "extra": value}
    operation = Operation.set_option(number, 0, value)
    record = scene.wsk.run(replace(operation, **(ordinary | fields)))
    rule.expect(what, record, failed())
    rule.record(f"status of {what}", outcome(record))


@pytest.mark.rule("WSK-OPT-006")
def test_level_of_an_ioctl(scene: Scene, observe: Observe) -> None:
    """The level is ignored for I/O controls: four levels, the same answer."""
    rule = observe.rule("WSK-OPT-006")
    listener = scene.listener(rule)
    answers = [_query(scene, listener, 4096, level=level) for level in (0, 1, 0xFFFF, 0x29)]
    for answer in answers:
        rule.must("SIO_ADDRESS_LIST_QUERY", answer, returned("STATUS_SUCCESS"))
        rule.must("its answer", answer.extra == answers[0].extra, holds("the same", "another one"))


@pytest.mark.rule("WSK-OPT-007")
@pytest.mark.parametrize("category", list(TRANSPORT), ids=[category.name.lower() for category in TRANSPORT])
def test_address_list(scene: Scene, observe: Observe, category: Category) -> None:
    """Without room the query tells the size; with room it lists local addresses of the socket's family."""
    rule = observe.rule("WSK-OPT-007")
    number = scene.fresh(rule, category)
    told: set[int] = set()
    for size in (0, 16):
        short = _query(scene, number, size)
        rule.must("SIO_ADDRESS_LIST_QUERY without room", short, returned("STATUS_BUFFER_OVERFLOW"))
        rule.must("needed size", short, flagged(RecordFlag.SIZE_RETURNED, "told"))
        if size:
            rule.must("bytes behind the room", short, flagged(RecordFlag.GUARDS_INTACT, "untouched"))
        told.add(short.size_returned)
    listed = _query(scene, number, 4096)
    rule.must("the needed size", told == {listed.size_returned}, holds("that of the list", "another one"))
    rule.must("SIO_ADDRESS_LIST_QUERY", listed, returned("STATUS_SUCCESS"))
    addresses = numbers.address_list(listed.extra)
    rule.must("families", {address.family for address in addresses}, equals({AF_INET}))
    there = scene.guest.address in {address.host for address in addresses}
    rule.must("the guest's address on its wire", there, holds("listed", "not listed"))


@pytest.mark.exclusive
@pytest.mark.rule("WSK-OPT-008")
def test_address_change(scene: Scene, observe: Observe) -> None:
    """An address change request pends, and completes when a local address comes."""
    rule = observe.rule("WSK-OPT-008")
    number = scene.listener(rule)
    waiting = scene.wsk.submit(Operation.ioctl(number, SocketIoctl.ADDRESS_LIST_CHANGE))
    rule.must("SIO_ADDRESS_LIST_CHANGE", waiting.fetch(), returned("STATUS_PENDING"))
    scene.still_pending(rule, "the request", waiting, STILL_PENDING_S)
    told = rule.given(scene.guest.can_change_addresses, "the lab can add an address to the guest")
    if not scene.guest.can_change_addresses:
        told.unmet("the request when an address comes")
        return
    with scene.guest.another_address():
        told.must("the request when an address comes", waiting.wait(scene.within()), succeeded())


@pytest.mark.rule("WSK-OPT-009")
@pytest.mark.parametrize(
    ("option", "value"), [(SocketOption.KEEPALIVE, 1), (SocketOption.RCVBUF, 32768)], ids=["keepalive", "rcvbuf"]
)
def test_inherited_options(scene: Scene, observe: Observe, option: SocketOption, value: int) -> None:
    """An accepted socket starts with the listener's setting, and changing it there leaves the listener alone."""
    rule = observe.rule("WSK-OPT-009")
    listener = scene.listener(rule)
    rule.must(f"set {option.name} on the listener", scene.wsk.set_option(listener, option, value), succeeded())
    pair = scene.accepted(rule, listener)
    rule.must("value of the accepted socket", scene.wsk.get_option(pair.socket, option).number, equals(value))
    changed = 0 if option is SocketOption.KEEPALIVE else 16384
    rule.must("change on the accepted socket", scene.wsk.set_option(pair.socket, option, changed), succeeded())
    rule.must("value of the listener", scene.wsk.get_option(listener, option).number, equals(value))


@pytest.mark.rule("WSK-OPT-010")
@pytest.mark.parametrize("category", list(TRANSPORT), ids=[category.name.lower() for category in TRANSPORT])
def test_unknown_extension(scene: Scene, observe: Observe, category: Category) -> None:
    """An extension interface that nobody has is not supported, said at once."""
    rule = observe.rule("WSK-OPT-010")
    operation = Operation.ioctl(
        scene.fresh(rule, category),
        SocketIoctl.WSK_REGISTER_EXTENSION,
        input_kind=InputKind.EXTENSION,
        input_size=24,
        npi=Npi.OTHER,
        output=16,
        **NO_IRP,
    )
    rule.must("SIO_WSK_REGISTER_EXTENSION", scene.wsk.run(operation), returned("STATUS_NOT_SUPPORTED"))


@pytest.mark.rule("WSK-OPT-011")
def test_backlogs(scene: Scene, observe: Observe) -> None:
    """The receive backlog counts what has come and was not read; the ideal send backlog is positive."""
    rule = observe.rule("WSK-OPT-011")
    pair = scene.accepted(rule, scene.listener(rule))
    pair.peer.send(bytes(1000))
    scene.quiet(STILL_PENDING_S)
    rule.must("receive backlog", _backlog(scene, rule, pair.socket, "RECEIVE"), equals(1000))
    scene.received(pair.socket, 400)
    rule.must("receive backlog after reading", _backlog(scene, rule, pair.socket, "RECEIVE"), equals(600))
    rule.must("ideal send backlog", _backlog(scene, rule, pair.socket, "IDEAL_SEND") > 0, holds("above 0", "0"))


def _backlog(scene: Scene, rule: RuleObserver, socket: int, which: str) -> int:
    code = SocketIoctl[f"WSK_QUERY_{which}_BACKLOG"]
    asked = scene.wsk.ioctl(socket, code, output=8)
    rule.must(f"SIO_{code.name}", asked, succeeded())
    return asked.number


@pytest.mark.rule("WSK-OPT-011")
@pytest.mark.parametrize("category", [Category.CONNECTION, Category.LISTEN], ids=["unconnected", "listen"])
def test_backlogs_without_connection(scene: Scene, observe: Observe, category: Category) -> None:
    """Before connecting and on other categories the queries are written down."""
    rule = observe.rule("WSK-OPT-011")
    number = scene.fresh(rule, category)
    for code in (SocketIoctl.WSK_QUERY_RECEIVE_BACKLOG, SocketIoctl.WSK_QUERY_IDEAL_SEND_BACKLOG):
        asked = scene.wsk.ioctl(number, code, output=8)
        rule.record(f"SIO_{code.name} of {category.name.lower()}, unconnected", outcome(asked))


@pytest.mark.rule("WSK-OPT-012")
def test_silent_mode(scene: Scene, observe: Observe) -> None:
    """A silent connection cannot send or disconnect, only close; the peer sees neither end nor reset."""
    rule = observe.rule("WSK-OPT-012")
    if not scene.since(9200):
        pytest.skip("silent mode came with Windows 8")
    pair = scene.accepted(rule, scene.listener(rule))
    silent = scene.wsk.ioctl(pair.socket, SocketIoctl.WSK_SET_TCP_SILENT_MODE)
    rule.must("SIO_WSK_SET_TCP_SILENT_MODE", silent, succeeded())
    rule.must("send", scene.wsk.send(pair.socket, b"x"), with_status("STATUS_INVALID_DEVICE_STATE"))
    rule.must("disconnect", scene.wsk.disconnect(pair.socket), with_status("STATUS_INVALID_DEVICE_STATE"))
    rule.must("close", scene.wsk.close_socket(pair.socket), succeeded())
    rule.must("the peer's end", pair.peer.end(1.0), equals("open"))


@pytest.mark.rule("WSK-OPT-012")
def test_silent_mode_on_loopback(scene: Scene, observe: Observe) -> None:
    """On loopback silent mode is not available; what it says is written down."""
    rule = observe.rule("WSK-OPT-012")
    scene.bound(rule, Category.LISTEN, scene.private())
    number = scene.bound(rule, Category.CONNECTION, scene.private(1))
    rule.must("preparation: connect", scene.wsk.connect(number, scene.private()), succeeded())
    silent = scene.wsk.ioctl(number, SocketIoctl.WSK_SET_TCP_SILENT_MODE)
    rule.record("silent mode on loopback", outcome(silent))


@pytest.mark.rule("WSK-OPT-013")
def test_security(scene: Scene, observe: Observe) -> None:
    """A cached descriptor is set before the bind; the get gives a cached copy, which is released like any other."""
    rule = observe.rule("WSK-OPT-013")
    cached = scene.wsk.cache_descriptor()
    rule.must("preparation: WSK_CACHE_SD", cached, returned("STATUS_SUCCESS"))
    number = scene.fresh(rule, Category.LISTEN)
    rule.must("set SO_WSK_SECURITY", scene.wsk.run(Operation.set_security(number, cached.object)), succeeded())
    copy = scene.wsk.run(Operation.get_security(number))
    rule.must("get SO_WSK_SECURITY", copy, succeeded())
    rule.must("its Information", copy, information(8))
    rule.must("the copy", copy, flagged(RecordFlag.OBJECT_MADE, "not NULL"))
    for descriptor in (copy.object, cached.object):
        rule.must("WSK_RELEASE_SD", scene.wsk.release_descriptor(descriptor), returned("STATUS_SUCCESS"))


@pytest.mark.rule("WSK-OPT-013")
def test_default_security(scene: Scene, observe: Observe) -> None:
    """What the get gives where nothing was set, is written down."""
    rule = observe.rule("WSK-OPT-013")
    copy = scene.wsk.run(Operation.get_security(scene.fresh(rule, Category.LISTEN)))
    rule.record("get SO_WSK_SECURITY without a set", outcome(copy))


@pytest.mark.rule("WSK-OPT-014")
def test_transport_option(scene: Scene, observe: Observe) -> None:
    """TCP_NODELAY goes through the same call at the level of its protocol."""
    rule = observe.rule("WSK-OPT-014")
    number = scene.fresh(rule, Category.CONNECTION)
    written = scene.wsk.set_option(number, TCP_NODELAY, 1, level=IPPROTO_TCP)
    if rule.expect("set TCP_NODELAY", written, succeeded()):
        asked = scene.wsk.get_option(number, TCP_NODELAY, level=IPPROTO_TCP)
        rule.expect("its value", asked.number != 0, holds("on", "off"))


@pytest.mark.rule("WSK-OPT-014")
def test_ipv6_option(scene: Scene, observe: Observe) -> None:
    """IPV6_V6ONLY is switched off before the bind, and read back."""
    rule = observe.rule("WSK-OPT-014")
    number = scene.fresh(rule, Category.LISTEN, family=AF_INET6)
    written = scene.wsk.set_option(number, IPV6_V6ONLY, 0, level=IPPROTO_IPV6)
    if rule.expect("set IPV6_V6ONLY", written, succeeded()):
        rule.expect("its value", scene.wsk.get_option(number, IPV6_V6ONLY, level=IPPROTO_IPV6).number, equals(0))
