"""Connecting (WSK-CONN): WskConnect, WskSocketConnect, WskConnectEx."""

from __future__ import annotations

from typing import Any

import pytest

from wsklab import abi
from wsklab.abi import Callback, CallContext, Category, Dispatch, EventKind, Fill, Function, Switch
from wsklab.channel.operations import Operation
from wsklab.pytest_plugin import Attachment, Observe, Scene
from wsklab.pytest_plugin.matchers import (
    completed_once,
    equals,
    failed,
    holds,
    information,
    outcome,
    refused,
    returned,
    succeeded,
    with_status,
)
from wsklab.pytest_plugin.quiet import NO_CALLBACK_S, STILL_PENDING_S
from wsklab.pytest_plugin.scene import ANY_IPV4
from wsklab.records import SocketAddress
from wsklab.wsk import EventMask

#: An address that nobody answers for (TEST-NET-1), and one that is not the guest's own.
NOBODY = "192.0.2.1"
BUILD_1703 = 15063


@pytest.mark.rule("WSK-CONN-001")
def test_connect_to_a_listening_peer(scene: Scene, observe: Observe) -> None:
    """A bound socket connects; the peer accepts one connection, from the port that the driver bound."""
    rule = observe.rule("WSK-CONN-001")
    listening = scene.peer.listen()
    number = scene.bound(rule, Category.CONNECTION, scene.anywhere())
    record = scene.wsk.connect(number, scene.address_of(listening))
    rule.must("connect", record, succeeded())
    rule.expect("connect's Information", record, information(0))
    connection = listening.accept()
    if scene.guest.handle.build != "model":
        rule.must("the peer sees the bound port", connection.remote[1] == scene.guest.port(), equals(True))
        scene.guest_sees(rule, "established", scene.guest.port())
    rule.must("a second connection", listening.accepts_another(0.1), equals(False))
    rule.must("send", scene.wsk.send(number, b"hello"), succeeded())
    rule.must("the peer reads", connection.receive(5), equals(b"hello"))


@pytest.mark.rule("WSK-CONN-002")
def test_connect_without_bind(scene: Scene, observe: Observe) -> None:
    """A socket that was never bound cannot connect; the status comes back in the return value and in the IRP."""
    rule = observe.rule("WSK-CONN-002")
    listening = scene.peer.listen()
    record = scene.wsk.connect(scene.fresh(rule, Category.CONNECTION), scene.address_of(listening))
    rule.must("a failure", record, failed())
    rule.must("completions", record, completed_once())
    rule.expect("the call returned", record, returned("STATUS_INVALID_DEVICE_STATE"))
    rule.expect("the IRP's status", record, with_status("STATUS_INVALID_DEVICE_STATE"))
    rule.expect("Information", record, information(0))


@pytest.mark.rule("WSK-CONN-003")
def test_refused_connection(scene: Scene, observe: Observe) -> None:
    """A connect to a port where nobody listens ends in a failure, customarily as refused."""
    rule = observe.rule("WSK-CONN-003")
    listening = scene.peer.listen()
    target = scene.address_of(listening)
    listening.close()
    number = scene.bound(rule, Category.CONNECTION, ANY_IPV4)
    record = scene.wsk.connect(number, target, deadline=scene.within(30.0))
    rule.must("completions", record, completed_once())
    rule.must("a failure", record, failed())
    rule.expect("its status", record, with_status("STATUS_CONNECTION_REFUSED"))


@pytest.mark.rule("WSK-CONN-004")
def test_remote_address(scene: Scene, observe: Observe) -> None:
    """The remote address is the peer after connecting, and an invalid state before."""
    rule = observe.rule("WSK-CONN-004")
    listening = scene.peer.listen()
    number = scene.bound(rule, Category.CONNECTION, ANY_IPV4)
    early = scene.wsk.remote_address(number)
    rule.must("WskGetRemoteAddress before", early, with_status("STATUS_INVALID_DEVICE_STATE"))
    rule.must("connect", scene.wsk.connect(number, scene.address_of(listening)), succeeded())
    asked = scene.wsk.remote_address(number)
    rule.must("WskGetRemoteAddress after", asked, succeeded())
    rule.must("the address", asked.remote == scene.address_of(listening), holds("the peer's", "another one"))


@pytest.mark.rule("WSK-CONN-005")
def test_unusual_connects(scene: Scene, observe: Observe) -> None:
    """Connecting twice, without an IRP, to port 0 or to the wildcard: failures; the first connection lives on."""
    rule = observe.rule("WSK-CONN-005")
    pair = scene.connected(rule)
    listening = scene.peer.listen()
    again = scene.wsk.connect(pair.socket, scene.address_of(listening))
    rule.expect("second connect of a socket", again, failed())
    rule.record("status of the second connect", outcome(again))
    rule.expect("send on the first connection", scene.wsk.send(pair.socket, b"alive"), succeeded())
    rule.expect("the peer reads", pair.peer.receive(5), equals(b"alive"))
    number = scene.bound(rule, Category.CONNECTION, ANY_IPV4)
    without = scene.wsk.connect(number, scene.address_of(listening), switches=Switch.NULL_IRP)
    rule.expect("connect without an IRP", without, returned("STATUS_INVALID_PARAMETER"))
    nowhere = scene.wsk.connect(number, SocketAddress.of("127.0.0.1", 0), deadline=scene.within(30.0))
    rule.expect("connect to port 0", nowhere, failed())
    rule.record("status of the connect to port 0", outcome(nowhere))
    number = scene.bound(rule, Category.CONNECTION, ANY_IPV4)
    wildcard = SocketAddress.of("0.0.0.0", scene.guest.port(5))  # noqa: S104 - in the guest
    rule.record("connect to the wildcard", outcome(scene.wsk.connect(number, wildcard, deadline=scene.within(30.0))))
    number = scene.bound(rule, Category.CONNECTION, ANY_IPV4)
    rule.record("connect with flags", outcome(scene.wsk.connect(number, scene.address_of(listening), flags=1)))


@pytest.mark.rule("WSK-CONN-006")
def test_cancelled_connect(scene: Scene, observe: Observe) -> None:
    """A connect that nobody answers can be cancelled: its IRP completes once, customarily as cancelled."""
    rule = observe.rule("WSK-CONN-006")
    number = scene.bound(rule, Category.CONNECTION, ANY_IPV4)
    connecting = scene.wsk.submit(Operation.connect(number, scene.address_of(scene.peer.black_hole())))
    scene.still_pending(rule, "connect that nobody answers", connecting, STILL_PENDING_S)
    connecting.cancel()
    ended = connecting.wait(scene.stated(1.0))
    if rule.expect("the cancelled connect", ended.final, holds("ends", "stays under way")):
        rule.expect("its status", ended, with_status("STATUS_CANCELLED"))


@pytest.mark.rule("WSK-CONN-006")
def test_closed_connect(scene: Scene, observe: Observe) -> None:
    """Closing a socket whose connect nobody answers ends both, once each, within five seconds."""
    rule = observe.rule("WSK-CONN-006")
    number = scene.bound(rule, Category.CONNECTION, ANY_IPV4)
    connecting = scene.wsk.submit(Operation.connect(number, scene.address_of(scene.peer.black_hole())))
    scene.still_pending(rule, "connect that nobody answers", connecting, STILL_PENDING_S)
    closing = scene.wsk.submit(Operation.close(number))
    rule.must("close", closing.wait(scene.within(5.0)), succeeded())
    ended = connecting.wait(scene.within(5.0))
    rule.must("completions of the connect", ended, completed_once())
    rule.record("status of the connect", outcome(ended))


@pytest.mark.rule("WSK-CONN-007")
def test_unanswered_connect(scene: Scene, observe: Observe) -> None:
    """A connect that nobody answers ends by itself; how and after how long is written down."""
    rule = observe.rule("WSK-CONN-007")
    if scene.guest.handle.kind == "wine":
        # the guest's Linux tries for two minutes; one repetition shows the same end
        # (since Linux 6.5 four more come at first, which an older one does not know)
        for name, value in (("tcp_syn_retries", 1), ("tcp_syn_linear_timeouts", 0)):
            scene.guest.run(f"linux: test ! -e /proc/sys/net/ipv4/{name} || echo {value} > /proc/sys/net/ipv4/{name}")
    number = scene.bound(rule, Category.CONNECTION, ANY_IPV4)
    connecting = scene.wsk.submit(Operation.connect(number, scene.address_of(scene.peer.black_hole())))
    record = connecting.wait(scene.patience(150.0))
    rule.given(record.final, "the transport gave up within the window").must("its end", record, completed_once())
    if record.final:
        rule.record("status", outcome(record))
        rule.record("seconds", round((record.completion_ns - record.enter_ns) / 1e9))
    rule.must("close", scene.wsk.close_socket(number), succeeded())
    rule.must("completions", connecting.wait(scene.within()), completed_once())


@pytest.mark.rule("WSK-CONN-007")
def test_unroutable_connect(scene: Scene, observe: Observe) -> None:
    """A connect to a network that the guest has no way to ends by itself; how is written down."""
    rule = observe.rule("WSK-CONN-007")
    number = scene.bound(rule, Category.CONNECTION, ANY_IPV4)
    target = SocketAddress.of(NOBODY, scene.guest.port(6))
    record = scene.wsk.connect(number, target, deadline=scene.within(60.0))
    rule.must("completions", record, completed_once())
    rule.record("status of an unroutable target", outcome(record))
    rule.must("close", scene.wsk.close_socket(number), succeeded())


# ---- WskSocketConnect


@pytest.mark.rule("WSK-CONN-008")
def test_socket_connect(scene: Scene, observe: Observe) -> None:
    """One call creates, binds and connects; the socket sends at once, from the address that was chosen."""
    rule = observe.rule("WSK-CONN-008")
    listening = scene.peer.listen()
    made = scene.wsk.socket_connect(scene.anywhere(), scene.address_of(listening))
    rule.must("WskSocketConnect", made, succeeded())
    info = scene.wsk.run(Operation(function=Function.SOCKET_INFO, socket=made.new_socket))
    rule.must("the connection table", info.members & 0x3FF, equals(0x3FF))
    rule.must("send", scene.wsk.send(made.new_socket, b"at once"), succeeded())
    peer = listening.accept()
    rule.must("the peer reads", peer.receive(7), equals(b"at once"))
    rule.must("the peer sees the chosen port", peer.remote[1] == scene.guest.port(), equals(True))


@pytest.mark.rule("WSK-CONN-009")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"], ids=["ipv4", "ipv6"])
def test_family_of_the_local_address(scene: Scene, observe: Observe, host: str) -> None:
    """The family comes from the local address: an IPv4 and an IPv6 pair connect."""
    rule = observe.rule("WSK-CONN-009")
    target = SocketAddress.of(host, scene.guest.port(1))
    scene.bound(rule, Category.LISTEN, target)
    made = scene.wsk.socket_connect(SocketAddress.of(host), target)
    rule.must(f"WskSocketConnect from {host}", made, succeeded())
    rule.must("send", scene.wsk.send(made.new_socket, b"x"), succeeded())


@pytest.mark.rule("WSK-CONN-009")
def test_mixed_families(scene: Scene, observe: Observe) -> None:
    """A local and a remote address of different families fail."""
    rule = observe.rule("WSK-CONN-009")
    made = scene.wsk.socket_connect(ANY_IPV4, SocketAddress.of("::1", scene.guest.port()))
    rule.must("mixed families", made, failed())
    rule.record("status of mixed families", outcome(made))


@pytest.mark.rule("WSK-CONN-010")
@pytest.mark.parametrize("what", ["refused", "in_use", "not_local"])
def test_failed_socket_connect(scene: Scene, attachment: Attachment, observe: Observe, what: str) -> None:
    """Refused, local address in use, local address of nobody: one failure, no socket, and nothing is left behind."""
    rule = observe.rule("WSK-CONN-010")
    listening = scene.peer.listen()
    local, target = scene.private(), scene.address_of(listening)
    holder = 0
    if what == "refused":
        local, target = ANY_IPV4, SocketAddress.of("127.0.0.1", scene.guest.port(1))
    elif what == "in_use":
        holder = scene.bound(rule, Category.LISTEN, local)
        target = SocketAddress.of(scene.guest.loopback, scene.guest.port(1))
        scene.bound(rule, Category.LISTEN, target)
    else:
        local = SocketAddress.of(NOBODY, scene.guest.port())
    record = scene.wsk.socket_connect(local, target, deadline=scene.within(30.0))
    rule.must(f"WskSocketConnect, {what}", record, failed())
    rule.must("completions", record, completed_once())
    rule.expect("Information", record, information(0))
    if what == "in_use":
        rule.expect("status of an address in use", record, with_status("STATUS_ADDRESS_ALREADY_EXISTS"))
        rule.must("preparation: close", scene.wsk.close_socket(holder), succeeded())
    if what != "not_local":
        rule.must("the local port afterwards", scene.wsk.bind(scene.fresh(rule, Category.LISTEN), local), succeeded())
    for entry in scene.wsk.sockets():
        rule.must("preparation: close", scene.wsk.close_socket(entry.number), succeeded())
    rule.must("release", attachment.release(), succeeded())
    rule.must("WskDeregister", attachment.deregistering().wait(scene.within()), succeeded())


@pytest.mark.rule("WSK-CONN-011")
def test_events_of_a_socket_connect_are_off(scene: Scene, observe: Observe) -> None:
    """With a full dispatch no callback comes until an event is enabled; then it does."""
    rule = observe.rule("WSK-CONN-011")
    listening = scene.peer.listen()
    given: dict[str, Any] = {"dispatch": Dispatch.FULL, "socket_context": 0x50CC}
    made = scene.wsk.socket_connect(ANY_IPV4, scene.address_of(listening), **given)
    rule.must("WskSocketConnect", made, succeeded())
    listening.accept().send(b"data")
    scene.quiet(NO_CALLBACK_S)
    heard = sum(event.kind is EventKind.CALLBACK_ENTER for event in scene.wsk.events().events)
    rule.must("callbacks before enabling", heard, equals(0))
    scene.enable(rule, made.new_socket, EventMask.RECEIVE)
    scene.hear(rule, "callback after enabling", Callback.RECEIVE, made.new_socket)


@pytest.mark.rule("WSK-CONN-011")
def test_bare_socket_connect(scene: Scene, observe: Observe) -> None:
    """Without context, dispatch, process, thread and descriptor the one-call connect works."""
    rule = observe.rule("WSK-CONN-011")
    listening = scene.peer.listen()
    made = scene.wsk.socket_connect(ANY_IPV4, scene.address_of(listening))
    rule.must("WskSocketConnect, all NULL", made, succeeded())
    rule.must("send", scene.wsk.send(made.new_socket, b"x"), succeeded())


# ---- WskConnectEx


@pytest.mark.rule("WSK-CONN-012")
def test_extended_connect_with_flags(scene: Scene, observe: Observe) -> None:
    """WskConnectEx refuses any flag."""
    rule = observe.rule("WSK-CONN-012")
    _needs_1703(scene)
    number = scene.bound(rule, Category.CONNECTION, ANY_IPV4)
    record = scene.wsk.run(Operation.connect_ex(number, scene.address_of(scene.peer.listen()), flags=1))
    rule.must("WskConnectEx with flags", record, refused("STATUS_INVALID_PARAMETER"))


@pytest.mark.rule("WSK-CONN-012")
def test_extended_connect_with_too_much(scene: Scene, observe: Observe) -> None:
    """WskConnectEx refuses a buffer above 65535 bytes."""
    rule = observe.rule("WSK-CONN-012")
    _needs_1703(scene)
    number = scene.bound(rule, Category.CONNECTION, ANY_IPV4)
    target = scene.address_of(scene.peer.listen())
    record = scene.wsk.run(Operation.connect_ex(number, target, fill=Fill.PATTERN, buffer_length=65536))
    rule.must("WskConnectEx with 65536 bytes", record, refused("STATUS_BUFFER_OVERFLOW"))


@pytest.mark.rule("WSK-CONN-013")
@pytest.mark.parametrize("size", [0, 1, 1460, 65535])
def test_extended_connect(scene: Scene, observe: Observe, size: int) -> None:
    """WskConnectEx connects, and the peer receives the buffer, which may go when the connect completes."""
    rule = observe.rule("WSK-CONN-013")
    _needs_1703(scene)
    listening = scene.peer.listen()
    number = scene.bound(rule, Category.CONNECTION, ANY_IPV4)
    data: dict[str, Any] = {"fill": Fill.PATTERN, "buffer_length": size, "pattern_seed": 7} if size else {}
    record = scene.wsk.run(Operation.connect_ex(number, scene.address_of(listening), **data))
    rule.must("WskConnectEx", record, succeeded())
    # the record is released: the driver has freed buffer and MDL before the peer reads
    seen = listening.accept().receive(size)
    rule.must(f"the peer reads {size} bytes as given", seen == abi.pattern(size, 7), equals(True))


def _needs_1703(scene: Scene) -> None:
    if not scene.since(BUILD_1703):
        pytest.skip("WskConnectEx came with Windows 10 1703")


# ---- at DISPATCH_LEVEL


@pytest.mark.rule("WSK-CONN-014")
def test_calls_at_dispatch_level(scene: Scene, observe: Observe) -> None:
    """Bind, accept, connect, send, receive and close at DISPATCH_LEVEL end as they do at PASSIVE_LEVEL."""
    rule = observe.rule("WSK-CONN-014")
    raised = {"call_context": CallContext.RAISED}
    wsk = scene.wsk
    listener, number = scene.fresh(rule, Category.LISTEN), scene.fresh(rule, Category.CONNECTION)
    bound = wsk.bind(listener, scene.private(), **raised)
    scene.at_dispatch(rule, bound).must("WskBind at DISPATCH_LEVEL", bound, succeeded())
    accepting = wsk.accept(listener, **raised)
    wsk.bind(number, ANY_IPV4)
    connected = wsk.connect(number, scene.private(), **raised)
    scene.at_dispatch(rule, connected).must("WskConnect at DISPATCH_LEVEL", connected, succeeded())
    accepted = accepting.result(scene.within())
    scene.at_dispatch(rule, accepted).must("WskAccept at DISPATCH_LEVEL", accepted, succeeded())
    sent = wsk.send(number, b"raised", **raised)
    scene.at_dispatch(rule, sent).must("WskSend at DISPATCH_LEVEL", sent, succeeded())
    received = wsk.receive(accepted.new_socket, 6, **raised).result(scene.within())
    scene.at_dispatch(rule, received).must("WskReceive at DISPATCH_LEVEL", received, succeeded())
    closed = wsk.close_socket(number, **raised)
    scene.at_dispatch(rule, closed).must("WskCloseSocket at DISPATCH_LEVEL", closed, succeeded())


@pytest.mark.rule("WSK-CONN-014")
def test_disconnect_at_dispatch_level(scene: Scene, observe: Observe) -> None:
    """A disconnect at DISPATCH_LEVEL ends as it does at PASSIVE_LEVEL."""
    pair = scene.connected(observe.rule("WSK-CONN-014"))
    record = scene.wsk.disconnect(pair.socket, call_context=CallContext.RAISED)
    rule = scene.at_dispatch(observe.rule("WSK-CONN-014"), record)
    rule.must("WskDisconnect at DISPATCH_LEVEL", record, succeeded())
