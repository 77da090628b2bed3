"""Closing (WSK-CLOSE)."""

from __future__ import annotations

import pytest

from wsklab.abi import Category
from wsklab.channel.operations import IPPROTO_TCP, IPPROTO_UDP, SOCK_DGRAM, SOCK_STREAM
from wsklab.pytest_plugin import Observe, Scene
from wsklab.pytest_plugin.matchers import (
    completed_once,
    equals,
    information,
    new_socket,
    one_of,
    succeeded,
    with_status,
)
from wsklab.pytest_plugin.observe import RuleObserver

FRESH = [
    pytest.param(Category.BASIC, SOCK_STREAM, IPPROTO_TCP, id="basic"),
    pytest.param(Category.LISTEN, SOCK_STREAM, IPPROTO_TCP, id="listen"),
    pytest.param(Category.CONNECTION, SOCK_STREAM, IPPROTO_TCP, id="connection"),
    pytest.param(Category.DATAGRAM, SOCK_DGRAM, IPPROTO_UDP, id="datagram"),
    pytest.param(Category.STREAM, SOCK_STREAM, IPPROTO_TCP, id="stream"),
]


def _close(scene: Scene, rule: RuleObserver, state: str, socket: int) -> None:
    closed = scene.wsk.close_socket(socket)
    rule.must(f"close: {state}", closed, succeeded())
    rule.must("completions", closed, completed_once())
    rule.expect("Information", closed, information(0))


@pytest.mark.rule("WSK-CLOSE-001")
@pytest.mark.parametrize(("category", "kind", "protocol"), FRESH)
def test_close_fresh(scene: Scene, observe: Observe, category: Category, kind: int, protocol: int) -> None:
    """A socket of any category closes right after its creation."""
    rule = observe.rule("WSK-CLOSE-001")
    made = scene.wsk.socket(category, type=kind, protocol=protocol)
    rule.must(f"creation: {category.name.lower()}", made, new_socket())
    _close(scene, rule, "fresh", made.new_socket)


@pytest.mark.rule("WSK-CLOSE-001")
def test_close_in_every_state(scene: Scene, observe: Observe) -> None:
    """A listening, an accepted, a connected and a refused socket close with success."""
    rule = observe.rule("WSK-CLOSE-001")
    listener = scene.listener(rule)
    pair = scene.accepted(rule, listener)
    _close(scene, rule, "accepted", pair.socket)
    rule.must("the peer sees the end", pair.peer.end(), one_of("closed", "reset"))
    _close(scene, rule, "listening", listener)
    rule.must("the guest refuses", scene.peer.is_refused(scene.guest.port()), equals(True))
    _close(scene, rule, "connected", scene.connected(rule).socket)
    refused = scene.wsk.socket(Category.CONNECTION)
    scene.wsk.connect(refused.new_socket, scene.private())
    _close(scene, rule, "after a failed connect", refused.new_socket)


@pytest.mark.rule("WSK-CLOSE-002")
def test_close_ends_queued_requests(scene: Scene, observe: Observe) -> None:
    """Queued receives complete once when their socket is closed, customarily as cancelled and before the close."""
    rule = observe.rule("WSK-CLOSE-002")
    pair = scene.accepted(rule, scene.listener(rule))
    receives = [scene.wsk.receive(pair.socket, 8) for _ in range(4)]
    closed = scene.wsk.close_socket(pair.socket)
    rule.must("close", closed, succeeded())
    for receiving in receives:
        record = receiving.result(scene.guest.within())
        rule.must("completions of a queued receive", record, completed_once())
        rule.expect("its status", record, with_status("STATUS_CANCELLED"))
        rule.expect("before the close completes", record.completion_sequence < closed.completion_sequence, equals(True))


@pytest.mark.rule("WSK-CLOSE-006")
def test_address_is_free_after_close(scene: Scene, observe: Observe) -> None:
    """A listener's address can be bound again right after each of many closes."""
    rule = observe.rule("WSK-CLOSE-006")
    for _ in range(20):
        listener = scene.wsk.socket(Category.LISTEN).new_socket
        rule.must("bind again", scene.wsk.bind(listener, scene.private()), succeeded())
        rule.must("close", scene.wsk.close_socket(listener), succeeded())


@pytest.mark.rule("WSK-CLOSE-007")
def test_closing_a_listener_spares_accepted_sockets(scene: Scene, observe: Observe) -> None:
    """A connection that waits unaccepted ends with its listener; an accepted one lives on."""
    rule = observe.rule("WSK-CLOSE-007")
    listener = scene.listener(rule)
    pair = scene.accepted(rule, listener)
    waiting = scene.peer.connect(scene.guest.port())
    rule.must("close", scene.wsk.close_socket(listener), succeeded())
    rule.must("the waiting connection", waiting.end(), one_of("closed", "reset"))
    sent = scene.wsk.send(pair.socket, b"still here")
    if rule.expect("send on the accepted socket", sent, succeeded()):
        rule.expect("the peer reads", pair.peer.receive(10), equals(b"still here"))
