"""The IRP contract (WSK-IRP). Rules 001 to 005 are judged on every operation of every case."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from wsklab.abi import Category, Forward, Invoke, IrpSource, RecordFlag, Switch
from wsklab.channel.operations import Operation, PendingOperation
from wsklab.pytest_plugin import Observe, ObservedClient, Scene
from wsklab.pytest_plugin.matchers import (
    completed_once,
    equals,
    failed,
    flagged,
    holds,
    information,
    outcome,
    succeeded,
    with_status,
)
from wsklab.pytest_plugin.observe import RuleObserver
from wsklab.pytest_plugin.quiet import STILL_PENDING_S
from wsklab.records import SocketAddress
from wsklab.wsk import SocketOption


@pytest.mark.rule("WSK-IRP-001", "WSK-IRP-004", "WSK-IRP-005")
def test_ordinary_life_of_a_listener(scene: Scene, observe: Observe) -> None:
    """Create, bind, accept, exchange, close: the judge looks at every completion."""
    rule = observe.rule("WSK-IRP-001")
    listener = scene.listener(rule)
    pair = scene.accepted(rule, listener)
    pair.peer.send(b"x")
    received = scene.wsk.receive(pair.socket, 1).result(scene.within())
    rule.must("receive", received, completed_once())
    rule.must("send", scene.wsk.send(pair.socket, b"y"), completed_once())
    rule.must("close", scene.wsk.close_socket(pair.socket), completed_once())


@pytest.mark.rule("WSK-IRP-002", "WSK-ACC-002")
def test_accept_with_a_waiting_connection(scene: Scene, observe: Observe) -> None:
    """An accept that finds a connection may return success; then the judge sees WSK-IRP-002, else it stays vacuous."""
    rule = observe.rule("WSK-ACC-002")
    listener = scene.listener(rule)
    scene.peer.connect(scene.guest.port())
    record = scene.wsk.accept(listener).result(scene.within())
    rule.record("WskAccept with a waiting connection returned", record.returned)


@pytest.mark.rule("WSK-IRP-002")
def test_options_that_succeed_at_once(scene: Scene, observe: Observe) -> None:
    """Setting and getting an option may return success; then the judge sees WSK-IRP-002, else it stays vacuous."""
    rule = observe.rule("WSK-IRP-002")
    number = scene.wsk.socket(Category.LISTEN).new_socket
    written = scene.wsk.set_option(number, SocketOption.RCVBUF, 65536)
    rule.record("WskSetOption returned", written.returned)
    rule.record("WskGetOption returned", scene.wsk.get_option(number, SocketOption.RCVBUF).returned)


@pytest.mark.rule("WSK-IRP-003")
def test_connect_without_bind(scene: Scene, observe: Observe) -> None:
    """A call that is refused in its return value is completed with a failure as well."""
    rule = observe.rule("WSK-IRP-003")
    listening = scene.peer.listen()
    made = scene.wsk.socket(Category.CONNECTION)
    record = scene.wsk.connect(made.new_socket, scene.address_of(listening))
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


@pytest.mark.rule("WSK-IRP-006")
def test_the_irp_of_a_cancelled_call(scene: Scene, observe: Observe) -> None:
    """An IRP whose call was cancelled carries the next one: nothing of the cancel is left in it."""
    rule = observe.rule("WSK-IRP-006")
    pair = scene.accepted(rule, scene.listener(rule))
    first = scene.wsk.receive(pair.socket, 8, switches=Switch.KEEP_IRP)
    first.cancel()
    if not first.wait(scene.stated(1.0)).final:
        pair.peer.send(b"too late")  # nobody heeded the cancel: the call ends as any other
    ended = first.result(scene.within(), release=False)
    again = Operation.receive(pair.socket, 8, irp_source=IrpSource.REUSED, reuse_op=ended.op_id)
    second = scene.wsk.submit(again)
    pair.peer.send(b"eight by")
    record = second.result(scene.within())
    rule.must("receive on the reused IRP", record, succeeded())
    rule.must("its data", record.data, equals(b"eight by"))


@pytest.mark.rule("WSK-IRP-007")
def test_irp_in_own_memory(scene: Scene, observe: Observe) -> None:
    """IRPs set up by IoInitializeIrp in the driver's memory carry creation, bind, connect, send and close."""
    rule = observe.rule("WSK-IRP-007")
    own = {"irp_source": IrpSource.CALLER_MEMORY}
    listening = scene.peer.listen()
    made = scene.wsk.socket(Category.CONNECTION, **own)
    if not rule.expect("creation", made, succeeded()):
        return
    rule.expect("bind", scene.wsk.bind(made.new_socket, scene.anywhere(), **own), succeeded())
    rule.expect("connect", scene.wsk.connect(made.new_socket, scene.address_of(listening), **own), succeeded())
    rule.expect("send", scene.wsk.send(made.new_socket, b"own memory", **own), succeeded())
    rule.expect("the peer reads", listening.accept().receive(10), equals(b"own memory"))
    rule.expect("close", scene.wsk.close_socket(made.new_socket, **own), succeeded())


@pytest.mark.rule("WSK-IRP-008")
@pytest.mark.parametrize("locations", [2, 4, 8])
def test_spare_stack_locations(wsk: ObservedClient, observe: Observe, locations: int) -> None:
    """An IRP with more stack locations than needed works as well."""
    rule = observe.rule("WSK-IRP-008")
    made = wsk.socket(Category.LISTEN, stack_count=locations)
    rule.must("creation with spare locations", made, succeeded())
    rule.must("close with spare locations", wsk.close_socket(made.new_socket, stack_count=locations), succeeded())


@pytest.mark.rule("WSK-IRP-009")
def test_forwarded_receive_travels_back(scene: Scene, observe: Observe) -> None:
    """Without a routine an IRP that came from above goes back there when WSK completes it, pending or at once."""
    rule = observe.rule("WSK-IRP-009")
    pair = scene.accepted(rule, scene.listener(rule))
    with ThreadPoolExecutor(1) as above:
        waiting = above.submit(scene.wsk.forward, _forwarded(pair.socket, Forward.BARE), scene.within())
        pair.peer.send(b"eight by")
        result = waiting.result()
    rule.must("DeviceIoControl's status", result.status, equals(0))
    rule.must("DeviceIoControl's Information", result.information, equals(8))


@pytest.mark.rule("WSK-IRP-009")
def test_forwarded_failure_travels_back(scene: Scene, observe: Observe) -> None:
    """The failure of a forwarded IRP is the caller's, too."""
    rule = observe.rule("WSK-IRP-009")
    pair = scene.accepted(rule, scene.listener(rule))
    with ThreadPoolExecutor(1) as above:
        waiting = above.submit(scene.wsk.forward, _forwarded(pair.socket, Forward.BARE), scene.within())
        pair.peer.reset()
        result = waiting.result()
    rule.must("DeviceIoControl's failure", result.status >> 30, equals(3))
    rule.record("DeviceIoControl's status", f"0x{result.status:08X}")


@pytest.mark.rule("WSK-IRP-009")
def test_forwarded_call_that_ends_at_once(scene: Scene, observe: Observe) -> None:
    """The failure of a call that cannot wait is the caller's, too: it is not left waiting for more."""
    rule = observe.rule("WSK-IRP-009")
    unconnected = scene.bound(rule, Category.CONNECTION, SocketAddress.of(scene.guest.address))
    result = scene.wsk.forward(_forwarded(unconnected, Forward.BARE), scene.within())
    rule.must("DeviceIoControl's failure", result.status >> 30, equals(3))
    rule.record("DeviceIoControl's status on a socket that is not connected", f"0x{result.status:08X}")


@pytest.mark.rule("WSK-IRP-010")
@pytest.mark.parametrize("way", [Forward.PASS, Forward.HOLD], ids=["passed_on", "held"])
def test_routine_of_a_forwarded_irp(scene: Scene, observe: Observe, way: Forward) -> None:
    """The routine passes the IRP on, or holds it and completes it later; either way the caller's ends once."""
    rule = observe.rule("WSK-IRP-010")
    pair = scene.accepted(rule, scene.listener(rule))
    operation = _forwarded(pair.socket, way, op_id=scene.wsk.next_operation())
    with ThreadPoolExecutor(1) as above:
        waiting = above.submit(scene.wsk.forward, operation, scene.within())
        pair.peer.send(b"eight by")
        result = waiting.result()
    name = way.name.lower()
    rule.must(f"{name}: DeviceIoControl's status", result.status, equals(0))
    rule.must(f"{name}: DeviceIoControl's Information", result.information, equals(8))
    record = scene.wsk.fetch(operation.op_id)
    rule.must(f"{name}: completions", record, completed_once())
    rule.must(f"{name}: went back", record, flagged(RecordFlag.FORWARDED, "to the one above"))


def _forwarded(socket: int, way: Forward, **more: int) -> Operation:
    """A receive of eight bytes on the IRP of the request itself."""
    return Operation.receive(socket, 8, forward=way, irp_source=IrpSource.FORWARDED, **more)


@pytest.mark.rule("WSK-IRP-011")
def test_invoke_flags(scene: Scene, observe: Observe) -> None:
    """A routine for success only is skipped when the operation fails; the catch-all above it runs once."""
    rule = observe.rule("WSK-IRP-011")
    listening = scene.peer.listen()
    number = scene.fresh(rule, Category.CONNECTION)
    operation = Operation.connect(
        number,
        scene.address_of(listening),
        stack_count=2,
        second_location=True,
        invoke_flags=Invoke.SUCCESS,
    )
    record = scene.wsk.run(operation)
    rule.must("calls of the routine for success", record.completion_count, equals(0))
    rule.must("calls of the catch-all", record.upper_count, equals(1))


@pytest.mark.rule("WSK-IRP-011")
def test_invoke_flags_on_success(wsk: ObservedClient, observe: Observe) -> None:
    """The same routine runs when the operation succeeds."""
    rule = observe.rule("WSK-IRP-011")
    made = wsk.socket(Category.LISTEN, stack_count=2, second_location=True, invoke_flags=Invoke.SUCCESS)
    rule.must("calls of the routine for success, on success", made.completion_count, equals(1))


@pytest.mark.rule("WSK-IRP-012")
def test_where_completions_run(scene: Scene, observe: Observe) -> None:
    """Completions of every function run at DISPATCH_LEVEL or below; where and when is recorded."""
    pair = scene.accepted(observe.rule("WSK-IRP-012"), scene.listener(observe.rule("WSK-IRP-012")))
    pair.peer.send(b"x")
    scene.wsk.receive(pair.socket, 1).result(scene.within())
    scene.wsk.send(pair.socket, b"y")
    scene.wsk.close_socket(pair.socket)
    rule = observe.rule("WSK-IRP-012").given(bool(observe.facts.get("irql_real")), "IRQL is real")
    completed = [record for record in scene.wsk.records if record.completion_count]
    levels = {record.completion_irql for record in completed}
    rule.must("IRQL of completions", max(levels) <= 2, holds("DISPATCH_LEVEL or below", "above DISPATCH_LEVEL"))
    for record in completed:
        side = "before" if record.inline else "after"
        other = "the caller's" if record.completion_thread == record.call_thread else "another"
        name = record.function.name.lower()
        rule.record(f"completion of {name}", f"{side} the return, {other} thread, IRQL {record.completion_irql}")


@pytest.mark.rule("WSK-IRP-013")
def test_cancelled_receive(scene: Scene, observe: Observe) -> None:
    """A queued receive that is cancelled completes once; the next receive gets the data, nothing was lost."""
    rule = observe.rule("WSK-IRP-013")
    pair = scene.accepted(rule, scene.listener(rule))
    _cancel(scene, rule, "receive", scene.wsk.receive(pair.socket, 16))
    pair.peer.send(b"not lost")
    rule.must("data after a cancelled receive", scene.received(pair.socket, 8), equals(b"not lost"))


@pytest.mark.rule("WSK-IRP-013")
def test_cancelled_accept(scene: Scene, observe: Observe) -> None:
    """A queued accept that is cancelled completes once; the next accept gets the connection."""
    rule = observe.rule("WSK-IRP-013")
    listener = scene.listener(rule)
    _cancel(scene, rule, "accept", scene.wsk.accept(listener))
    scene.peer.connect(scene.guest.port())
    rule.must("accept after a cancelled one", scene.wsk.accept(listener).result(scene.within()), succeeded())


@pytest.mark.rule("WSK-IRP-013")
def test_cancelled_receive_from(scene: Scene, observe: Observe) -> None:
    """A queued receive-from that is cancelled completes once; the next one gets the datagram."""
    rule = observe.rule("WSK-IRP-013")
    number = scene.datagram(rule)
    _cancel(scene, rule, "receive-from", scene.wsk.receive_from(number, 64))
    scene.peer.datagram().send(scene.guest.port(), b"not lost")
    received = scene.wsk.receive_from(number, 64).result(scene.within())
    rule.must("datagram after a cancelled receive-from", received.data, equals(b"not lost"))


def _cancel(scene: Scene, rule: RuleObserver, name: str, pending: PendingOperation) -> None:
    """Cancel a queued request and see how it ends."""
    scene.still_pending(rule, f"{name} before the cancel", pending, STILL_PENDING_S)
    pending.cancel()
    ended = pending.wait(scene.stated(1.0))
    rule.must(f"cancelled {name}", ended.final, holds("ends", "stays queued"))
    rule.must(f"completions of the cancelled {name}", ended, completed_once())
    rule.expect(f"status of the cancelled {name}", ended, with_status("STATUS_CANCELLED"))
    rule.expect(f"Information of the cancelled {name}", ended, information(0))


@pytest.mark.rule("WSK-IRP-014")
def test_information_without_a_result(scene: Scene, observe: Observe) -> None:
    """Bind, connect and close have no documented result, and failures have none: Information is 0."""
    rule = observe.rule("WSK-IRP-014")
    pair = scene.connected(rule)
    rule.expect("Information of connect", pair.record, information(0))
    made = scene.wsk.socket(Category.LISTEN)
    rule.expect("Information of bind", scene.wsk.bind(made.new_socket, scene.private()), information(0))
    rule.expect("Information of close", scene.wsk.close_socket(made.new_socket), information(0))
    refused = scene.wsk.socket(Category.LISTEN, family=99)
    if rule.expect("a failed creation", refused, failed()):
        rule.expect("Information of a failed creation", refused, information(0))
    unbound = scene.wsk.connect(scene.fresh(rule, Category.CONNECTION), scene.private())
    if rule.expect("a failed connect", unbound, failed()):
        rule.expect("Information of a failed connect", unbound, information(0))


@pytest.mark.rule("WSK-IRP-014")
def test_information_of_a_disconnect(scene: Scene, observe: Observe) -> None:
    """A disconnect has no documented result either."""
    rule = observe.rule("WSK-IRP-014")
    record = scene.wsk.disconnect(scene.connected(rule).socket)
    if rule.expect("disconnect", record, succeeded()):
        rule.expect("Information of disconnect", record, information(0))
    rule.record("outcome of disconnect", outcome(record))
