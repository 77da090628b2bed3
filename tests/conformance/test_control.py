"""Client control operations (WSK-CTL): WskControlClient."""

from __future__ import annotations

from typing import Any

import pytest

from wsklab import wsk as numbers
from wsklab.abi import Category, InputKind, Npi, RecordFlag, Switch
from wsklab.channel.operations import IPPROTO_TCP, IPPROTO_UDP, Operation
from wsklab.pytest_plugin import Observe, ObservedClient, Scene
from wsklab.pytest_plugin.matchers import completed_once, equals, flagged, holds, outcome, returned, succeeded
from wsklab.pytest_plugin.quiet import BLOCKED_S
from wsklab.records import AF_INET, AF_INET6
from wsklab.wsk import ClientControl, EventMask

#: The size of one WSK_TRANSPORT, and cached descriptors in a row.
ENTRY, DESCRIPTORS = 28, 1000
STATIC = EventMask.ACCEPT | EventMask.RECEIVE | EventMask.DISCONNECT | EventMask.RECEIVE_FROM


@pytest.mark.rule("WSK-CTL-001")
@pytest.mark.parametrize("size", [0, 1, ENTRY - 1])
def test_transport_list_too_small(wsk: ObservedClient, observe: Observe, size: int) -> None:
    """Without room the transport list tells how much it needs."""
    rule = observe.rule("WSK-CTL-001")
    asked = wsk.run(Operation.transport_list(size))
    rule.must("WSK_TRANSPORT_LIST_QUERY without room", asked, returned("STATUS_BUFFER_OVERFLOW"))
    rule.must("needed size", asked, flagged(RecordFlag.SIZE_RETURNED, "told"))
    if size:
        rule.must("bytes behind the room", asked, flagged(RecordFlag.GUARDS_INTACT, "untouched"))
    rule.must("needed size is positive", asked.size_returned > 0, equals(True))
    rule.expect("needed size in entries", asked.size_returned % ENTRY, equals(0))


@pytest.mark.rule("WSK-CTL-002")
def test_transport_list(wsk: ObservedClient, observe: Observe) -> None:
    """With room the query succeeds at once; TCP and UDP are listed for both IP families, or for any."""
    rule = observe.rule("WSK-CTL-002")
    size, asked = 0, wsk.run(Operation.transport_list(0))
    while asked.returned == "STATUS_BUFFER_OVERFLOW" and asked.size_returned > size:
        size = asked.size_returned
        asked = wsk.run(Operation.transport_list(size))
    rule.must("WSK_TRANSPORT_LIST_QUERY", asked, returned("STATUS_SUCCESS"))
    rule.must("its size", asked.size_returned % ENTRY, equals(0))
    listed = {(one.family, one.protocol) for one in numbers.transport_list(asked.extra)}
    for family in (AF_INET, AF_INET6):
        for protocol in (IPPROTO_TCP, IPPROTO_UDP):
            there = bool({(family, protocol), (0, protocol)} & listed)
            rule.expect(f"family {family}, protocol {protocol}", there, holds("listed", "not listed"))


@pytest.mark.rule("WSK-CTL-003")
def test_transport_change_waits(scene: Scene, observe: Observe) -> None:
    """A transport list change request pends and stays queued; what a cancel does is written down."""
    rule = observe.rule("WSK-CTL-003")
    waiting = scene.wsk.submit(Operation.transport_change())
    rule.must("WSK_TRANSPORT_LIST_CHANGE", waiting.fetch(), returned("STATUS_PENDING"))
    scene.still_pending(rule, "the request", waiting, BLOCKED_S)
    waiting.cancel()
    rule.record("the cancelled request", outcome(waiting.wait(scene.stated(1.0))))


@pytest.mark.rule("WSK-CTL-003")
def test_transport_change_without_irp(wsk: ObservedClient, observe: Observe) -> None:
    """Without an IRP the request cannot wait; what it says is written down."""
    rule = observe.rule("WSK-CTL-003")
    asked = wsk.run(Operation.transport_change(switches=Switch.NULL_IRP))
    rule.record("WSK_TRANSPORT_LIST_CHANGE without an IRP", outcome(asked))


@pytest.mark.rule("WSK-CTL-004")
def test_cached_descriptor(wsk: ObservedClient, observe: Observe) -> None:
    """A descriptor is cached as a copy of its own, and given back; a thousand times without growth."""
    rule = observe.rule("WSK-CTL-004")
    cached = wsk.cache_descriptor()
    rule.must("WSK_CACHE_SD", cached, returned("STATUS_SUCCESS"))
    rule.must("the copy", cached, flagged(RecordFlag.OBJECT_MADE | RecordFlag.OBJECT_DIFFERS, "not NULL, not ours"))
    rule.must("WSK_RELEASE_SD", wsk.release_descriptor(cached.object), returned("STATUS_SUCCESS"))
    before = wsk.ledger().client
    for number in range(DESCRIPTORS):
        cached = wsk.cache_descriptor()
        rule.must("WSK_CACHE_SD again", cached, returned("STATUS_SUCCESS"))
        rule.must("WSK_RELEASE_SD again", wsk.release_descriptor(cached.object), returned("STATUS_SUCCESS"))
        if number % 200 == 0:
            wsk.events()
    after = wsk.ledger().client
    rule.must("the driver's pool", after.pool_bytes <= before.pool_bytes, holds("back to the start", "grown"))


@pytest.mark.rule("WSK-CTL-005")
def test_static_events(wsk: ObservedClient, observe: Observe) -> None:
    """Before the first socket, events of several categories are switched on for all sockets to come."""
    rule = observe.rule("WSK-CTL-005")
    static = wsk.run(Operation.static_events(STATIC))
    rule.must("WSK_SET_STATIC_EVENT_CALLBACKS", static, returned("STATUS_SUCCESS"))


ODD_STATIC: dict[str, dict[str, Any]] = {
    "with a foreign identifier": {"npi": Npi.OTHER},
    "with a wrong size": {"input_size": 8},
}


@pytest.mark.rule("WSK-CTL-006")
@pytest.mark.parametrize("more", ODD_STATIC.values(), ids=[name.replace(" ", "_") for name in ODD_STATIC])
def test_odd_static_events(scene: Scene, observe: Observe, more: dict[str, Any]) -> None:
    """A foreign identifier and a wrong size are written down; sockets work all the same."""
    rule = observe.rule("WSK-CTL-006")
    static = scene.wsk.run(Operation.static_events(EventMask.ACCEPT, **more))
    name = next(name for name, fields in ODD_STATIC.items() if fields == more)
    rule.record(f"static events {name}", outcome(static))
    rule.must("a socket afterwards", scene.wsk.socket(Category.LISTEN), succeeded())


@pytest.mark.rule("WSK-CTL-006")
def test_late_and_repeated_static_events(scene: Scene, observe: Observe) -> None:
    """Set twice, and set after a socket exists: written down; the existing socket is unaffected."""
    rule = observe.rule("WSK-CTL-006")
    for name in ("static events", "static events again"):
        rule.record(name, outcome(scene.wsk.run(Operation.static_events(EventMask.RECEIVE_FROM))))
    listener = scene.listener(rule)
    late = scene.wsk.run(Operation.static_events(EventMask.ACCEPT))
    rule.record("static events after a socket", outcome(late))
    scene.accepted(rule, listener)


UNKNOWN_CODES = [0, 1, 9, 0xFFFFFFFF]


@pytest.mark.rule("WSK-CTL-007")
@pytest.mark.parametrize("code", UNKNOWN_CODES, ids=[f"0x{code:x}" for code in UNKNOWN_CODES])
def test_unknown_control_codes(wsk: ObservedClient, observe: Observe, code: int) -> None:
    """What unknown control codes say, is written down."""
    rule = observe.rule("WSK-CTL-007")
    rule.record(f"control code 0x{code:x}", outcome(wsk.run(Operation.control_client(code))))


@pytest.mark.rule("WSK-CTL-007")
def test_control_calls_with_a_needless_irp(wsk: ObservedClient, observe: Observe) -> None:
    """A query that takes no IRP, given one: written down; the judge looks at the IRP. A wrong size, too."""
    rule = observe.rule("WSK-CTL-007")
    rule.record("query with an IRP", outcome(wsk.run(Operation.transport_list(switches=Switch(0)))))
    short = Operation.control_client(ClientControl.TDI_BEHAVIOR, extra=b"\1", input_kind=InputKind.BYTES)
    rule.record("WSK_TDI_BEHAVIOR with one byte", outcome(wsk.run(short)))


@pytest.mark.rule("WSK-CTL-008")
def test_tdi_behavior(wsk: ObservedClient, observe: Observe) -> None:
    """Whatever the TDI codes say, a socket is created afterwards."""
    rule = observe.rule("WSK-CTL-008")
    rule.record("WSK_TDI_BEHAVIOR", outcome(wsk.run(Operation.tdi_behavior())))
    mapping = Operation.control_client(
        ClientControl.TDI_DEVICENAME_MAPPING, input_kind=InputKind.TDI_MAP, input_size=16, family=AF_INET, type=1
    )
    rule.record("WSK_TDI_DEVICENAME_MAPPING", outcome(wsk.run(mapping)))
    made = wsk.socket(Category.LISTEN)
    rule.must("creation afterwards", made, completed_once())
    rule.must("its status", made, succeeded())
