"""Accepting connections (WSK-ACC)."""

from __future__ import annotations

import pytest

from wsklab.abi import AddressUse, RecordFlag
from wsklab.pytest_plugin import Observe, Scene
from wsklab.pytest_plugin.matchers import completed_once, equals, flagged, new_socket, returned, succeeded, with_status
from wsklab.pytest_plugin.quiet import STILL_PENDING_S


@pytest.mark.rule("WSK-ACC-001")
def test_accept_waits_for_a_connection(scene: Scene, observe: Observe) -> None:
    """Three sides of one socket: the driver's record, the guest's own table, and the peer outside."""
    wsk, guest = scene.wsk, scene.guest
    rule = observe.rule("WSK-ACC-001")
    listener = scene.listener(rule)
    scene.guest_sees(rule, "listening", guest.port())
    accepting = wsk.accept(listener)
    scene.still_pending(rule, "accept with nobody waiting", accepting, STILL_PENDING_S)
    connection = scene.peer.connect(guest.port())
    record = accepting.result(guest.within())
    rule.must("the call returned", record, returned("STATUS_PENDING"))
    rule.must("the accepted socket", record, new_socket())
    scene.guest_sees(rule, "established", guest.port())
    connection.send(b">")
    received = wsk.receive(record.new_socket, 1).result(guest.within())
    rule.must("a byte to the driver", received.data, equals(b">"))
    rule.must("a byte from the driver", wsk.send(record.new_socket, b"<"), succeeded())
    rule.must("the peer reads it", connection.receive(1), equals(b"<"))
    wsk.close_socket(record.new_socket)
    wsk.close_socket(listener)
    rule.must("after the close the guest refuses", scene.peer.is_refused(guest.port()), equals(True))
    scene.guest_sees(rule, "listening", guest.port(), there=False)


@pytest.mark.rule("WSK-ACC-002")
def test_accept_finds_a_connection(scene: Scene, observe: Observe) -> None:
    """An accept that finds a waiting connection completes with it; the page wants success as the return value."""
    rule = observe.rule("WSK-ACC-002")
    listener = scene.listener(rule)
    scene.peer.connect(scene.guest.port())
    scene.quiet(STILL_PENDING_S)
    record = scene.wsk.accept(listener).result(scene.guest.within())
    rule.must("the accepted socket", record, new_socket())
    rule.expect("the call returned", record, returned("STATUS_SUCCESS"))


@pytest.mark.rule("WSK-ACC-003")
@pytest.mark.parametrize(
    "wanted",
    [AddressUse.LOCAL | AddressUse.REMOTE, AddressUse.LOCAL, AddressUse.REMOTE, AddressUse(0)],
    ids=["both", "local", "remote", "none"],
)
def test_addresses_of_the_connection(scene: Scene, observe: Observe, wanted: AddressUse) -> None:
    """The address buffers that are given hold what the peer sees; either may be missing."""
    rule = observe.rule("WSK-ACC-003")
    pair = scene.accepted(rule, scene.listener(rule), address_use=wanted)
    if AddressUse.LOCAL in wanted:
        rule.must("local address", str(pair.record.local) == "{}:{}".format(*pair.peer.remote), equals(True))
    if AddressUse.REMOTE in wanted:
        rule.must("remote address", str(pair.record.remote) == "{}:{}".format(*pair.peer.local), equals(True))
    if wanted:
        rule.must("bytes behind the buffers", pair.record, flagged(RecordFlag.GUARDS_INTACT, "untouched"))


@pytest.mark.rule("WSK-ACC-011")
def test_closing_the_listener_ends_its_accept(scene: Scene, observe: Observe) -> None:
    """A queued accept completes when its listener is closed, customarily as cancelled."""
    rule = observe.rule("WSK-ACC-011")
    listener = scene.listener(rule)
    accepting = scene.wsk.accept(listener)
    rule.must("close", scene.wsk.close_socket(listener), succeeded())
    record = accepting.result(scene.guest.within())
    rule.must("completions of the accept", record, completed_once())
    rule.expect("its status", record, with_status("STATUS_CANCELLED"))
