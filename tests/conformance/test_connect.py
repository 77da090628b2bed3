"""Connecting (WSK-CONN). WskSocketConnect and WskConnectEx wait for the driver."""

from __future__ import annotations

import pytest

from wsklab.abi import Category
from wsklab.pytest_plugin import Observe, Scene
from wsklab.pytest_plugin.matchers import completed_once, equals, failed, information, returned, succeeded, with_status
from wsklab.pytest_plugin.scene import ANY_IPV4
from wsklab.records import SocketAddress


@pytest.mark.rule("WSK-CONN-001")
def test_connect_to_a_listening_peer(scene: Scene, observe: Observe) -> None:
    """A bound socket connects; the peer accepts one connection, from the port that the driver bound."""
    rule = observe.rule("WSK-CONN-001")
    listening = scene.peer.listen()
    made = scene.wsk.socket(Category.CONNECTION)
    rule.must("creation", made, succeeded())
    local = SocketAddress.of("0.0.0.0", scene.guest.port())  # noqa: S104 - in the guest
    rule.must("bind", scene.wsk.bind(made.new_socket, local), succeeded())
    record = scene.wsk.connect(made.new_socket, scene.address_of(listening))
    rule.must("connect", record, succeeded())
    rule.expect("connect's Information", record, information(0))
    connection = listening.accept()
    if scene.guest.handle.build != "model":
        rule.must("the peer sees the bound port", connection.remote[1] == scene.guest.port(), equals(True))
        scene.guest_sees(rule, "established", scene.guest.port())
    rule.must("send", scene.wsk.send(made.new_socket, b"hello"), succeeded())
    rule.must("the peer reads", connection.receive(5), equals(b"hello"))


@pytest.mark.rule("WSK-CONN-002")
def test_connect_without_bind(scene: Scene, observe: Observe) -> None:
    """A socket that was never bound cannot connect; the status comes back in the return value and in the IRP."""
    rule = observe.rule("WSK-CONN-002")
    listening = scene.peer.listen()
    made = scene.wsk.socket(Category.CONNECTION)
    rule.must("preparation: creation", made, succeeded())
    record = scene.wsk.connect(made.new_socket, scene.address_of(listening))
    rule.must("a failure", record, failed())
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
    made = scene.wsk.socket(Category.CONNECTION)
    rule.must("preparation: creation", made, succeeded())
    rule.must("preparation: bind", scene.wsk.bind(made.new_socket, ANY_IPV4), succeeded())
    record = scene.wsk.connect(made.new_socket, target, deadline=scene.guest.within(30.0))
    rule.must("completions", record, completed_once())
    rule.must("a failure", record, failed())
    rule.expect("its status", record, with_status("STATUS_CONNECTION_REFUSED"))
