"""Socket context and client dispatch (WSK-CTX). Rules about callbacks wait for the driver to enable events."""

from __future__ import annotations

import pytest

from wsklab.abi import Category, Dispatch, Function
from wsklab.channel.operations import Operation
from wsklab.pytest_plugin import Observe, ObservedClient, Scene
from wsklab.pytest_plugin.matchers import equals, holds, succeeded


@pytest.mark.rule("WSK-CTX-004")
def test_no_context_listening(scene: Scene, observe: Observe) -> None:
    """A listening socket without context and dispatch accepts, and what it accepted sends and receives."""
    rule = observe.rule("WSK-CTX-004")
    listener = scene.listener(rule, dispatch=Dispatch.NULL, socket_context=0)
    pair = scene.accepted(rule, listener, dispatch=Dispatch.NULL, socket_context=0)
    rule.must("send", scene.wsk.send(pair.socket, b"from the driver"), succeeded())
    rule.must("the peer reads", pair.peer.receive(15), equals(b"from the driver"))
    pair.peer.send(b"from the peer")
    received = scene.wsk.receive(pair.socket, 64).result(scene.guest.within())
    rule.must("the driver reads", received.data, equals(b"from the peer"))
    rule.must("close", scene.wsk.close_socket(pair.socket), succeeded())


@pytest.mark.rule("WSK-CTX-004")
def test_no_context_connection(scene: Scene, observe: Observe) -> None:
    """A connection socket without context and dispatch connects, sends, receives and closes."""
    rule = observe.rule("WSK-CTX-004")
    pair = scene.connected(rule, dispatch=Dispatch.NULL, socket_context=0)
    rule.must("send", scene.wsk.send(pair.socket, b"out"), succeeded())
    rule.must("the peer reads", pair.peer.receive(3), equals(b"out"))
    pair.peer.send(b"in")
    received = scene.wsk.receive(pair.socket, 64).result(scene.guest.within())
    rule.must("the driver reads", received.data, equals(b"in"))
    rule.must("close", scene.wsk.close_socket(pair.socket), succeeded())


@pytest.mark.hazard
@pytest.mark.exclusive
@pytest.mark.rule("WSK-CTX-005")
def test_event_without_callback(scene: Scene, observe: Observe) -> None:
    """Enabling the accept event of a listener that has no client dispatch: the status is recorded."""
    rule = observe.rule("WSK-CTX-005")
    listener = scene.listener(rule, dispatch=Dispatch.NULL)
    enabled = scene.wsk.run(Operation(function=Function.CONTROL_SOCKET, socket=listener))
    rule.record("status of enabling an event without callback", enabled.completed or enabled.returned)
    rule.must("close", scene.wsk.close_socket(listener), succeeded())


@pytest.mark.rule("WSK-CTX-007")
def test_contexts_are_separate(wsk: ObservedClient, observe: Observe) -> None:
    """The completion routine gets the IRP's context, not the socket's."""
    rule = observe.rule("WSK-CTX-007")
    made = wsk.socket(Category.LISTEN, socket_context=0x50C4E7, completion_cookie=0x1E9_C0DE, dispatch=Dispatch.FULL)
    rule.must("creation", made, succeeded())
    rule.must("the routine's context", made.completion_cookie == 0x1E9_C0DE, holds("the IRP's", "another one"))
