"""The IRP contract (WSK-IRP). Rules 001 to 005 are judged on every operation of every case."""

from __future__ import annotations

import pytest

from wsklab.abi import Category, IrpSource, Switch
from wsklab.channel.operations import Operation
from wsklab.pytest_plugin import Observe, ObservedClient, Scene
from wsklab.pytest_plugin.matchers import completed_once, equals, information, succeeded


@pytest.mark.rule("WSK-IRP-001", "WSK-IRP-004", "WSK-IRP-005")
def test_ordinary_life_of_a_listener(scene: Scene, observe: Observe) -> None:
    """Create, bind, accept, exchange, close: the judge looks at every completion."""
    rule = observe.rule("WSK-IRP-001")
    listener = scene.listener(rule)
    pair = scene.accepted(rule, listener)
    pair.peer.send(b"x")
    received = scene.wsk.receive(pair.socket, 1).result(scene.guest.within())
    rule.must("receive", received, completed_once())
    rule.must("send", scene.wsk.send(pair.socket, b"y"), completed_once())
    rule.must("close", scene.wsk.close_socket(pair.socket), completed_once())


@pytest.mark.rule("WSK-IRP-002", "WSK-ACC-002")
def test_accept_with_a_waiting_connection(scene: Scene, observe: Observe) -> None:
    """An accept that finds a connection may return success; then the judge sees WSK-IRP-002, else it stays vacuous."""
    rule = observe.rule("WSK-ACC-002")
    listener = scene.listener(rule)
    scene.peer.connect(scene.guest.port())
    record = scene.wsk.accept(listener).result(scene.guest.within())
    rule.record("WskAccept with a waiting connection returned", record.returned)


@pytest.mark.rule("WSK-IRP-003")
def test_connect_without_bind(scene: Scene, observe: Observe) -> None:
    """A call that is refused in its return value is completed with a failure as well."""
    rule = observe.rule("WSK-IRP-003")
    listening = scene.peer.listen()
    made = scene.wsk.socket(Category.CONNECTION)
    target = scene.address_of(listening)
    record = scene.wsk.connect(made.new_socket, target)
    rule.must("completions of a refused connect", record, completed_once())


@pytest.mark.rule("WSK-IRP-006")
def test_one_irp_for_three_calls(scene: Scene, observe: Observe) -> None:
    """Create, bind and close on one IRP, reused twice: each completes once, with its own context."""
    wsk = scene.wsk
    rule = observe.rule("WSK-IRP-006")
    made = wsk.run(Operation.create(Category.LISTEN, switches=Switch.KEEP_IRP, completion_cookie=101), release=False)
    rule.must("creation", made, succeeded())
    bind = Operation.bind(
        made.new_socket,
        scene.private(),
        irp_source=IrpSource.REUSED,
        reuse_op=made.op_id,
        switches=Switch.KEEP_IRP,
        completion_cookie=102,
    )
    bound = wsk.run(bind, release=False)
    rule.must("bind on the reused IRP", bound, succeeded())
    rule.must("bind's completions", bound, completed_once())
    rule.must("bind's context", bound.completion_cookie, equals(102))
    close = Operation.close(made.new_socket, irp_source=IrpSource.REUSED, reuse_op=bound.op_id, completion_cookie=103)
    closed = wsk.run(close)
    rule.must("close on the reused IRP", closed, succeeded())
    rule.must("close's completions", closed, completed_once())
    rule.must("close's context", closed.completion_cookie, equals(103))


@pytest.mark.rule("WSK-IRP-007")
def test_irp_in_own_memory(scene: Scene, observe: Observe) -> None:
    """IRPs set up by IoInitializeIrp in the driver's memory carry creation, bind and close."""
    rule = observe.rule("WSK-IRP-007")
    made = scene.wsk.socket(Category.LISTEN, irp_source=IrpSource.CALLER_MEMORY)
    if rule.expect("creation", made, succeeded()):
        bound = scene.wsk.bind(made.new_socket, scene.private(), irp_source=IrpSource.CALLER_MEMORY)
        rule.expect("bind", bound, succeeded())
        closed = scene.wsk.close_socket(made.new_socket, irp_source=IrpSource.CALLER_MEMORY)
        rule.expect("close", closed, succeeded())


@pytest.mark.rule("WSK-IRP-008")
@pytest.mark.parametrize("locations", [2, 4, 8])
def test_spare_stack_locations(wsk: ObservedClient, observe: Observe, locations: int) -> None:
    """An IRP with more stack locations than needed works as well."""
    rule = observe.rule("WSK-IRP-008")
    made = wsk.socket(Category.LISTEN, stack_count=locations)
    rule.must("creation with spare locations", made, succeeded())
    rule.must("close with spare locations", wsk.close_socket(made.new_socket, stack_count=locations), succeeded())


@pytest.mark.rule("WSK-IRP-014")
def test_information_without_a_result(scene: Scene, observe: Observe) -> None:
    """Bind, connect and close have no documented result: Information is 0."""
    rule = observe.rule("WSK-IRP-014")
    pair = scene.connected(rule)
    rule.expect("Information of connect", pair.record, information(0))
    made = scene.wsk.socket(Category.LISTEN)
    rule.expect("Information of bind", scene.wsk.bind(made.new_socket, scene.private()), information(0))
    rule.expect("Information of close", scene.wsk.close_socket(made.new_socket), information(0))
