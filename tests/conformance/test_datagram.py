"""Datagrams (WSK-DGRAM)."""

from __future__ import annotations

import struct

import pytest

from wsklab import abi
from wsklab.abi import Callback, Category, Dispatch, Fill, Use
from wsklab.channel.operations import Answer, Operation, PendingOperation
from wsklab.deadline import NotYet, wait_until
from wsklab.pytest_plugin import Observe, Scene
from wsklab.pytest_plugin.matchers import (
    completed_once,
    equals,
    failed,
    holds,
    information,
    message_flag,
    outcome,
    returned,
    succeeded,
)
from wsklab.pytest_plugin.observe import RuleObserver
from wsklab.pytest_plugin.quiet import NO_CALLBACK_S, STILL_PENDING_S, UNCHANGED_S
from wsklab.records import SocketAddress
from wsklab.wsk import (
    ControlMessage,
    EventMask,
    MessageFlag,
    SocketIoctl,
    SocketOption,
    control_messages,
    pack_control_message,
)

SIZES = [1, 512, 1472, 8000]
BURST = 20
IPPROTO_IP, IP_PKTINFO = 0, 19
BUILD_WINDOWS_8 = 9200


def _receive(scene: Scene, number: int, length: int = 16384) -> bytes:
    return scene.wsk.receive_from(number, length).result(scene.within()).data


@pytest.mark.rule("WSK-DGRAM-001")
@pytest.mark.parametrize("size", SIZES)
def test_send_to(scene: Scene, observe: Observe, size: int) -> None:
    """One send-to delivers one datagram; Information is its length."""
    rule = observe.rule("WSK-DGRAM-001")
    sender = scene.bound(rule, Category.DATAGRAM, scene.private())
    receiver = scene.bound(rule, Category.DATAGRAM, scene.private(1))
    data = abi.pattern(size, 5)
    sent = scene.wsk.send_to(sender, data, scene.private(1))
    rule.must(f"send-to of {size} bytes", sent, succeeded())
    rule.must("Information is the length", sent, information(size))
    rule.must("the receiver gets it", _receive(scene, receiver) == data, equals(True))


@pytest.mark.rule("WSK-DGRAM-002")
def test_receive_from(scene: Scene, observe: Observe) -> None:
    """Each receive-from gives one datagram with its length and its sender."""
    rule = observe.rule("WSK-DGRAM-002")
    number = scene.datagram(rule)
    peer = scene.peer.datagram()
    texts = [b"first", b"the second one"]
    for text in texts:
        peer.send(scene.guest.port(), text)
    for text in texts:
        record = scene.wsk.receive_from(number, 64).result(scene.within())
        rule.must("receive-from", record, succeeded())
        rule.must("its datagram", record.data, equals(text))
        rule.must("its length", record, information(len(text)))
        rule.must("its sender", record.remote == peer.address, holds("the peer", "somebody else"))


@pytest.mark.rule("WSK-DGRAM-002")
def test_receive_from_without_extras(scene: Scene, observe: Observe) -> None:
    """Without address, control data and flags a receive-from works, too."""
    rule = observe.rule("WSK-DGRAM-002")
    number = scene.datagram(rule)
    scene.peer.datagram().send(scene.guest.port(), b"bare")
    bare = scene.wsk.receive_from(number, 64, address_use=abi.AddressUse(0), argument_use=Use(0))
    rule.must("receive-from, all NULL", bare.result(scene.within()).data, equals(b"bare"))


@pytest.mark.rule("WSK-DGRAM-003")
def test_unbound_transfers(scene: Scene, observe: Observe) -> None:
    """Sending and receiving need a bind."""
    rule = observe.rule("WSK-DGRAM-003")
    number = scene.fresh(rule, Category.DATAGRAM)
    sent = scene.wsk.send_to(number, b"x", scene.private(1))
    rule.must("unbound send-to", sent, failed())
    rule.record("status of the unbound send-to", outcome(sent))
    received = scene.wsk.receive_from(number, 16).result(scene.within())
    rule.must("unbound receive-from", received, failed())
    rule.record("status of the unbound receive-from", outcome(received))


def _fix(scene: Scene, rule: RuleObserver, number: int, code: SocketIoctl, address: SocketAddress | None) -> None:
    """Set or clear a fixed address of a datagram socket."""
    record = scene.wsk.ioctl(number, code, address.raw if address else b"")
    rule.must(f"preparation: {code.name}", record, succeeded())


def _stays_empty(scene: Scene, rule: RuleObserver, name: str, pending: PendingOperation) -> None:
    scene.still_pending(rule, name, pending, STILL_PENDING_S)


@pytest.mark.rule("WSK-DGRAM-004", "WSK-DGRAM-005")
def test_fixed_remote_address(scene: Scene, observe: Observe) -> None:
    """With a fixed remote address a NULL destination means it, an explicit one overrides it, and only it is heard."""
    rule = observe.rule("WSK-DGRAM-004")
    number = scene.datagram(rule)
    fixed, other = scene.peer.datagram(), scene.peer.datagram()
    _fix(scene, rule, number, SocketIoctl.WSK_SET_REMOTE_ADDRESS, fixed.address)
    rule.must("send-to NULL", scene.wsk.send_to(number, b"to the fixed", None), succeeded())
    rule.must("the fixed one receives", fixed.receive()[0], equals(b"to the fixed"))
    receiving = scene.wsk.receive_from(number, 64)
    other.send(scene.guest.port(), b"stranger")
    _stays_empty(scene, rule, "datagram from a stranger", receiving)
    rule = observe.rule("WSK-DGRAM-005")
    explicit = scene.wsk.send_to(number, b"explicit", other.address)
    rule.must("send-to an explicit address", explicit, succeeded())
    rule.must("the explicit one receives", other.receive()[0], equals(b"explicit"))
    other.send(scene.guest.port(), b"answer")
    _stays_empty(scene, rule, "answer from the explicit address", receiving)
    rule = observe.rule("WSK-DGRAM-004")
    fixed.send(scene.guest.port(), b"from the fixed")
    rule.must("datagram from the fixed one", receiving.result(scene.within()).data, equals(b"from the fixed"))


@pytest.mark.rule("WSK-DGRAM-006")
def test_fixed_destination(scene: Scene, observe: Observe) -> None:
    """A fixed send-to address is the default destination and filters nothing; an empty one clears it."""
    rule = observe.rule("WSK-DGRAM-006")
    number = scene.datagram(rule)
    fixed, other = scene.peer.datagram(), scene.peer.datagram()
    _fix(scene, rule, number, SocketIoctl.WSK_SET_SENDTO_ADDRESS, fixed.address)
    rule.must("send-to NULL", scene.wsk.send_to(number, b"default", None), succeeded())
    rule.must("the fixed one receives", fixed.receive()[0], equals(b"default"))
    other.send(scene.guest.port(), b"not filtered")
    rule.must("datagram from another", _receive(scene, number), equals(b"not filtered"))
    _fix(scene, rule, number, SocketIoctl.WSK_SET_SENDTO_ADDRESS, None)
    cleared = scene.wsk.send_to(number, b"x", None)
    rule.must("send-to NULL after clearing", cleared, failed())
    rule.record("status after clearing", outcome(cleared))
    unbound = scene.fresh(rule, Category.DATAGRAM)
    early = scene.wsk.ioctl(unbound, SocketIoctl.WSK_SET_SENDTO_ADDRESS, fixed.address.raw)
    rule.record("set before the bind", outcome(early))


@pytest.mark.rule("WSK-DGRAM-007")
def test_truncated_datagram(scene: Scene, observe: Observe) -> None:
    """A datagram that is larger than the buffer is cut, and the control flags say so."""
    rule = observe.rule("WSK-DGRAM-007")
    number = scene.datagram(rule)
    data = bytes(range(100))
    scene.peer.datagram().send(scene.guest.port(), data)
    record = scene.wsk.receive_from(number, 10).result(scene.within())
    rule.must("completions", record, completed_once())
    rule.must("MSG_TRUNC", record, message_flag(MessageFlag.TRUNC))
    rule.must("the first bytes", record.data[:10], equals(data[:10]))
    rule.record("status and Information", f"{record.completed}, {record.information}")


@pytest.mark.rule("WSK-DGRAM-008")
def test_packet_information(scene: Scene, observe: Observe) -> None:
    """With IP_PKTINFO on, the control data tells the local address; a buffer too small is reported."""
    rule = observe.rule("WSK-DGRAM-008")
    number = scene.datagram(rule)
    on = scene.wsk.set_option(number, IP_PKTINFO, 1, level=IPPROTO_IP)
    rule.must("preparation: IP_PKTINFO", on, succeeded())
    peer = scene.peer.datagram()
    peer.send(scene.guest.port(), b"informed")
    record = scene.wsk.receive_from(number, 64, control=256).result(scene.within())
    rule.must("receive-from with control data", record, succeeded())
    found = [one for one in control_messages(record.extra) if (one.level, one.type) == (IPPROTO_IP, IP_PKTINFO)]
    if rule.expect("IP_PKTINFO objects", len(found), equals(1)):
        local = SocketAddress.of(scene.guest.address).raw[4:8]
        rule.expect("its address", local in found[0].data, holds("the local one", "another one"))
    peer.send(scene.guest.port(), b"too small")
    short = scene.wsk.receive_from(number, 64, control=8).result(scene.within())
    rule.expect("MSG_CTRUNC", short, message_flag(MessageFlag.CTRUNC))
    peer.send(scene.guest.port(), b"no length")
    ignored = scene.wsk.receive_from(number, 64, argument_use=Use.CONTROL_INFO, output_size=64)
    rule.must("control buffer without its length", ignored.result(scene.within()).data, equals(b"no length"))


@pytest.mark.rule("WSK-DGRAM-009")
def test_broadcast(scene: Scene, observe: Observe) -> None:
    """Broadcasting has to be allowed first; a received broadcast is marked."""
    rule = observe.rule("WSK-DGRAM-009")
    everybody = SocketAddress.of("255.255.255.255", scene.guest.port(1))
    receiver = scene.bound(rule, Category.DATAGRAM, scene.anywhere(1))
    sender = scene.datagram(rule)
    denied = scene.wsk.send_to(sender, b"x", everybody)
    rule.must("broadcast without SO_BROADCAST", denied, failed())
    rule.record("status without SO_BROADCAST", outcome(denied))
    rule.must("SO_BROADCAST", scene.wsk.set_option(sender, SocketOption.BROADCAST, 1), succeeded())
    receiving = scene.wsk.receive_from(receiver, 64)
    rule.must("broadcast", scene.wsk.send_to(sender, b"to all", everybody), succeeded())
    record = receiving.result(scene.within())
    rule.must("MSG_BCAST", record, message_flag(MessageFlag.BCAST))


@pytest.mark.rule("WSK-DGRAM-009")
def test_multicast(scene: Scene, observe: Observe) -> None:
    """A received multicast is marked."""
    rule = observe.rule("WSK-DGRAM-009")
    group = "239.255.77.1"
    receiver = scene.bound(rule, Category.DATAGRAM, scene.anywhere(1))
    membership = SocketAddress.of(group).raw[4:8] + SocketAddress.of(scene.guest.address).raw[4:8]
    joined = scene.wsk.set_option(receiver, 12, membership, level=IPPROTO_IP)  # IP_ADD_MEMBERSHIP
    rule.must("preparation: IP_ADD_MEMBERSHIP", joined, succeeded())
    receiving = scene.wsk.receive_from(receiver, 64)
    sender = scene.datagram(rule)
    sent = scene.wsk.send_to(sender, b"to the group", SocketAddress.of(group, scene.guest.port(1)))
    rule.must("multicast", sent, succeeded())
    record = receiving.result(scene.within())
    rule.must("MSG_MCAST", record, message_flag(MessageFlag.MCAST))


# ---- the receive-from event


def _evented(scene: Scene, rule: RuleObserver, *answers: Answer) -> int:
    number = scene.datagram(rule, dispatch=Dispatch.FULL, socket_context=0xDA7A6)
    scene.wsk.script(number, Callback.RECEIVE_FROM, *answers)
    scene.enable(rule, number, EventMask.RECEIVE_FROM)
    return number


def _digests(scene: Scene, number: int) -> list[int]:
    """Of all datagrams that were indicated and not refused, in order."""
    scene.wsk.events()
    heard = scene.wsk.heard
    return [
        one.digest
        for enter in heard.callbacks(Callback.RECEIVE_FROM, number)
        if scene.answered(enter).action not in {abi.Action.REFUSE, abi.Action.DEFAULT}
        for one in scene.wsk.heard.datagrams(enter)
    ]


@pytest.mark.rule("WSK-DGRAM-010")
def test_receive_from_event(scene: Scene, observe: Observe) -> None:
    """A burst of datagrams is indicated, each once, with its sender; those that come during a callback in one list."""
    rule = observe.rule("WSK-DGRAM-010")
    number = _evented(scene, rule, Answer.take(hold_ms=50), Answer.take(uses=0))
    peer = scene.peer.datagram()
    texts = [f"datagram {index}".encode() for index in range(BURST)]
    for text in texts:
        peer.send(scene.guest.port(), text)
    wanted = sorted(abi.digest(text) for text in texts)
    _until(scene, number, BURST)
    rule.must("datagrams", sorted(_digests(scene, number)) == wanted, holds("each once", "lost or doubled"))
    for enter in scene.callbacks(Callback.RECEIVE_FROM, number):
        for one in scene.wsk.heard.datagrams(enter):
            rule.must("sender", one.remote == peer.address, holds("the peer", "somebody else"))


def _until(scene: Scene, number: int, count: int) -> None:
    def look() -> bool | NotYet:
        seen = len(_digests(scene, number))
        return True if seen >= count else NotYet(f"{seen} datagrams")

    wait_until(look, scene.within(), what="indicated datagrams", tick_s=0.02)


@pytest.mark.rule("WSK-DGRAM-010")
def test_kept_datagrams(scene: Scene, observe: Observe) -> None:
    """Kept datagrams are unchanged after a while; WskRelease takes them back, customarily also in parts."""
    rule = observe.rule("WSK-DGRAM-010")
    kept = scene.wsk.next_object()
    number = _evented(scene, rule, Answer.keep(kept), Answer.take(uses=0))
    scene.peer.datagram().send(scene.guest.port(), b"kept for a while")
    scene.hear(rule, "receive-from callback", Callback.RECEIVE_FROM, number)
    scene.quiet(UNCHANGED_S)
    looked = scene.wsk.run(Operation.indication(kept))
    rule.must("kept datagram later", looked.data, equals(b"kept for a while"))
    (entry,) = [one for one in scene.wsk.objects() if one.number == kept]
    for _ in range(entry.count):
        part = scene.wsk.run(Operation.release_datagrams(number, kept, 1))
        if entry.count > 1:
            rule.expect("WskRelease of a part", part, returned("STATUS_SUCCESS"))
        else:
            rule.must("WskRelease", part, returned("STATUS_SUCCESS"))


@pytest.mark.rule("WSK-DGRAM-011")
def test_refusal_switches_off(scene: Scene, observe: Observe) -> None:
    """STATUS_DATA_NOT_ACCEPTED switches an event off that was enabled per socket; enabling it again resumes."""
    rule = observe.rule("WSK-DGRAM-011")
    number = _evented(scene, rule, Answer.refuse(), Answer.take(uses=0))
    peer = scene.peer.datagram()
    peer.send(scene.guest.port(), b"refused")
    scene.hear(rule, "receive-from callback", Callback.RECEIVE_FROM, number)
    peer.send(scene.guest.port(), b"unheard")
    scene.quiet(NO_CALLBACK_S)
    count = len(scene.callbacks(Callback.RECEIVE_FROM, number))
    rule.must("callbacks after a refusal", count, equals(1))
    scene.enable(rule, number, EventMask.RECEIVE_FROM, "enable again")
    peer.send(scene.guest.port(), b"heard")
    scene.hear(rule, "callback after enabling again", Callback.RECEIVE_FROM, number, count=2)


@pytest.mark.rule("WSK-DGRAM-011")
def test_refusal_of_a_static_event(scene: Scene, observe: Observe) -> None:
    """STATUS_DATA_NOT_ACCEPTED does not switch an event off that was enabled statically."""
    rule = observe.rule("WSK-DGRAM-011")
    static = scene.wsk.run(Operation.static_events(EventMask.RECEIVE_FROM))
    rule.must("preparation: WSK_SET_STATIC_EVENT_CALLBACKS", static, returned("STATUS_SUCCESS"))
    number = scene.datagram(rule, dispatch=Dispatch.FULL, socket_context=0x57A71C)
    scene.wsk.script(number, Callback.RECEIVE_FROM, Answer.refuse(), Answer.take(uses=0))
    peer = scene.peer.datagram()
    peer.send(scene.guest.port(), b"refused")
    scene.hear(rule, "static callback", Callback.RECEIVE_FROM, number)
    peer.send(scene.guest.port(), b"heard")
    scene.hear(rule, "static callback after a refusal", Callback.RECEIVE_FROM, number, count=2)


@pytest.mark.rule("WSK-DGRAM-012")
def test_receive_from_before_the_callback(scene: Scene, observe: Observe) -> None:
    """With a receive-from always queued and the event on, each datagram comes once, whichever way."""
    rule = observe.rule("WSK-DGRAM-012")
    number = _evented(scene, rule, Answer.take(uses=0))
    peer = scene.peer.datagram()
    texts = [f"datagram {index}".encode() for index in range(50)]
    seen: list[int] = []
    receiving = scene.wsk.receive_from(number, 64)
    for first in range(0, len(texts), 5):
        # more than one at a time: what the queued request does not take is the callback's
        for text in texts[first : first + 5]:
            peer.send(scene.guest.port(), text)
        if receiving.wait(scene.within(2.0)).final:
            seen.append(abi.digest(receiving.result(scene.within()).data))
            receiving = scene.wsk.receive_from(number, 64)
    scene.quiet(NO_CALLBACK_S)
    if receiving.fetch().final:
        seen.append(abi.digest(receiving.result(scene.within()).data))
    seen += _digests(scene, number)
    wanted = sorted(abi.digest(text) for text in texts)
    rule.must("datagrams", sorted(seen) == wanted, holds("each once", "lost or doubled"))
    rule.record("by the callback", len(scene.callbacks(Callback.RECEIVE_FROM, number)))


# ---- lists and limits


@pytest.mark.rule("WSK-DGRAM-013")
def test_send_messages(scene: Scene, observe: Observe) -> None:
    """Ten datagrams of different lengths go out with one IRP, customarily in order, with their sum as Information."""
    rule = observe.rule("WSK-DGRAM-013")
    _needs_windows_8(scene)
    sender = scene.bound(rule, Category.DATAGRAM, scene.private())
    receiver = scene.bound(rule, Category.DATAGRAM, scene.private(1))
    texts = [bytes([index]) * (index * 10 + 1) for index in range(10)]
    sent = scene.wsk.send_messages(sender, texts, scene.private(1))
    rule.must("WskSendMessages", sent, succeeded())
    rule.expect("Information", sent, information(sum(map(len, texts))))
    seen = [_receive(scene, receiver) for _ in texts]
    rule.must("datagrams", sorted(seen) == sorted(texts), holds("all ten", "something else"))
    rule.expect("their order", seen == texts, holds("as sent", "another one"))


@pytest.mark.rule("WSK-DGRAM-013")
def test_send_messages_to_the_fixed_address(scene: Scene, observe: Observe) -> None:
    """Without a destination the list goes to the fixed remote address."""
    rule = observe.rule("WSK-DGRAM-013")
    _needs_windows_8(scene)
    number = scene.datagram(rule)
    peer = scene.peer.datagram()
    _fix(scene, rule, number, SocketIoctl.WSK_SET_REMOTE_ADDRESS, peer.address)
    rule.must("WskSendMessages to NULL", scene.wsk.send_messages(number, [b"one", b"two"], None), succeeded())
    rule.must("datagrams of the list", {peer.receive()[0], peer.receive()[0]}, equals({b"one", b"two"}))


def _needs_windows_8(scene: Scene) -> None:
    if not scene.since(BUILD_WINDOWS_8):
        pytest.skip("WskSendMessages came with Windows 8")


@pytest.mark.rule("WSK-DGRAM-014")
def test_odd_sizes(scene: Scene, observe: Observe) -> None:
    """A datagram that is too large fails, an empty one arrives; flags are written down."""
    rule = observe.rule("WSK-DGRAM-014")
    number = scene.datagram(rule)
    peer = scene.peer.datagram()
    large = Operation.send_to(number, b"", peer.address, fill=Fill.PATTERN, buffer_length=65508)
    record = scene.wsk.run(large)
    rule.expect("send-to of 65508 bytes", record, failed())
    rule.record("status of 65508 bytes", outcome(record))
    empty = scene.wsk.send_to(number, b"", peer.address)
    if rule.expect("send-to of nothing", empty, succeeded()):
        rule.expect("the peer receives", peer.receive()[0], equals(b""))
    rule.record("send-to with flags", outcome(scene.wsk.send_to(number, b"x", peer.address, flags=1)))


@pytest.mark.rule("WSK-DGRAM-014")
def test_odd_control_data(scene: Scene, observe: Observe) -> None:
    """Control data whose lengths do not fit is written down."""
    rule = observe.rule("WSK-DGRAM-014")
    number = scene.datagram(rule)
    peer = scene.peer.datagram()
    good = pack_control_message(ControlMessage(level=IPPROTO_IP, type=IP_PKTINFO, data=bytes(8)))
    malformed = struct.pack("<Qii", 4, IPPROTO_IP, IP_PKTINFO) + bytes(8)
    for name, control in (("cut short", good[:12]), ("with a length that is too small", malformed)):
        rule.record(f"control data {name}", outcome(scene.wsk.send_to(number, b"x", peer.address, extra=control)))
