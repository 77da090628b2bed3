"""Socket creation (WSK-SOCK): the published page, statement by statement."""

from __future__ import annotations

import pytest

from wsklab.abi import Category, Dispatch, EventKind, Function, IrpSource, RecordFlag, Switch
from wsklab.channel.operations import Operation
from wsklab.pytest_plugin import Observe, ObservedClient, Scene
from wsklab.pytest_plugin.matchers import (
    completed_once,
    equals,
    failed,
    flagged,
    holds,
    information,
    new_socket,
    returned,
    succeeded,
)
from wsklab.pytest_plugin.quiet import NO_CALLBACK_S, NO_SECOND_COMPLETION_S

#: An address family that no Windows has a transport for.
NO_FAMILY = 99


@pytest.mark.rule("WSK-SOCK-001", "WSK-SOCK-002", "WSK-SOCK-003", "WSK-SOCK-004")
def test_published_sample(scene: Scene, observe: Observe) -> None:
    """The published code, unchanged in calls, arguments and order, creates a listening socket."""
    wsk = scene.wsk
    cookie = 0x5EED_C0DE_0000_0001
    made = wsk.create_listening_socket_sample(completion_cookie=cookie)
    observe.rule("WSK-SOCK-001").must("creation completes with STATUS_SUCCESS", made, succeeded())
    observe.rule("WSK-SOCK-002").must("Information is the socket", made, new_socket())
    rule = observe.rule("WSK-SOCK-003")
    rule.must("the call returns", made, returned("STATUS_SUCCESS", "STATUS_PENDING"))
    rule.expect("the call returns pending", made, returned("STATUS_PENDING"))
    rule.record("returned", made.returned)
    rule = observe.rule("WSK-SOCK-004")
    rule.must("completions", made, completed_once())
    rule.must("IRP and context", made, flagged(RecordFlag.IRP_MATCH | RecordFlag.CONTEXT_MATCH, "ours"))
    rule.must("context cookie", made.completion_cookie, equals(cookie))


@pytest.mark.rule("WSK-SOCK-001", "WSK-SOCK-004")
def test_generic_creation_completes_once(scene: Scene, observe: Observe) -> None:
    """A creation with the sample's arguments completes once, and still has after a quiet while."""
    pending = scene.wsk.submit(Operation.create(Category.LISTEN, dispatch=Dispatch.FULL, socket_context=0x1234))
    made = pending.wait(scene.guest.within())
    observe.rule("WSK-SOCK-001").must("creation completes with STATUS_SUCCESS", made, succeeded())
    scene.quiet(NO_SECOND_COMPLETION_S)
    later = pending.fetch(scene.guest.within())
    observe.rule("WSK-SOCK-004").must("completions after a quiet while", later, completed_once())


@pytest.mark.rule("WSK-SOCK-005")
def test_failed_creation_completes(wsk: ObservedClient, observe: Observe) -> None:
    """A creation that fails completes once with a failure, and hands out no socket."""
    made = wsk.socket(Category.LISTEN, family=NO_FAMILY)
    rule = observe.rule("WSK-SOCK-005")
    rule.must("completions", made, completed_once())
    rule.must("a failure status", made, failed())
    rule.expect("Information after a failure", made, information(0))


@pytest.mark.rule("WSK-SOCK-006")
def test_one_stack_location(wsk: ObservedClient, observe: Observe) -> None:
    """An IRP from IoAllocateIrp(1, FALSE) carries a creation."""
    made = wsk.socket(Category.LISTEN, stack_count=1)
    observe.rule("WSK-SOCK-006").must("creation with one stack location", made, succeeded())


@pytest.mark.rule("WSK-SOCK-007")
def test_completed_irp_is_left_alone(scene: Scene, observe: Observe) -> None:
    """An IRP in the driver's own memory, overwritten in its completion routine, keeps the pattern."""
    rule = observe.rule("WSK-SOCK-007")
    pending = scene.wsk.submit(Operation.create(Category.LISTEN, irp_source=IrpSource.CALLER_MEMORY))
    made = pending.wait(scene.guest.within())
    rule.must("creation with an IRP in own memory", made, succeeded())
    scene.quiet(NO_SECOND_COMPLETION_S)
    later = pending.fetch(scene.guest.within())
    rule.must("poisoned in the routine", later, flagged(RecordFlag.POISONED, "the routine overwrote the IRP"))
    rule.must("pattern after a quiet while", later, flagged(RecordFlag.POISON_INTACT, "nobody wrote to the IRP"))


@pytest.mark.rule("WSK-SOCK-008")
def test_next_call_from_the_completion_routine(scene: Scene, observe: Observe) -> None:
    """The success branch of the completion routine starts a bind with an IRP of its own."""
    wsk = scene.wsk
    rule = observe.rule("WSK-SOCK-008")
    number, follower = wsk.next_socket(), wsk.next_operation()
    bind = wsk.submit(Operation.bind(number, scene.private(), op_id=follower, switches=Switch.HELD))
    made = wsk.run(Operation.create(Category.LISTEN, new_socket=number, then_op=follower))
    rule.must("creation", made, succeeded())
    bound = bind.result(scene.guest.within())
    rule.must("bind started by the completion routine", bound, succeeded())
    rule.must("its completions", bound, completed_once())
    # how deep the stack gets depends on which side of the creation's return the bind runs
    rule.record("bind entered before the creation returned", 0 < bound.enter_sequence < made.return_sequence)


FIRST_STEPS = [
    pytest.param(Category.LISTEN, 1, 6, id="listen"),
    pytest.param(Category.CONNECTION, 1, 6, id="connection"),
    pytest.param(Category.DATAGRAM, 2, 17, id="datagram"),
    pytest.param(Category.STREAM, 1, 6, id="stream"),
]


@pytest.mark.rule("WSK-SOCK-009")
@pytest.mark.parametrize(("category", "kind", "protocol"), FIRST_STEPS)
def test_first_step_of_the_category(
    scene: Scene, observe: Observe, category: Category, kind: int, protocol: int
) -> None:
    """A new socket binds right after its creation."""
    rule = observe.rule("WSK-SOCK-009")
    made = scene.wsk.socket(category, type=kind, protocol=protocol)
    rule.must(f"creation: {category.name.lower()}", made, succeeded())
    rule.must(f"bind: {category.name.lower()}", scene.wsk.bind(made.new_socket, scene.private()), succeeded())


@pytest.mark.rule("WSK-SOCK-009")
def test_first_step_of_a_basic_socket(wsk: ObservedClient, observe: Observe) -> None:
    """A new basic socket answers a get-option."""
    rule = observe.rule("WSK-SOCK-009")
    made = wsk.socket(Category.BASIC)
    rule.must("creation: basic", made, succeeded())
    rule.must(
        "option: basic", wsk.run(Operation(function=Function.CONTROL_SOCKET, socket=made.new_socket)), succeeded()
    )


@pytest.mark.rule("WSK-SOCK-010")
def test_events_are_off(scene: Scene, observe: Observe) -> None:
    """With a complete client dispatch and a peer that connects and sends, no callback comes."""
    rule = observe.rule("WSK-SOCK-010")
    scene.listener(rule, dispatch=Dispatch.FULL, socket_context=0xC0FFEE)
    scene.peer.connect(scene.guest.port()).send(b"anybody there?")
    scene.quiet(NO_CALLBACK_S)
    batch = scene.wsk.events()
    callbacks = sum(event.kind is EventKind.CALLBACK_ENTER for event in batch.events)
    rule.must("callbacks of a socket whose events are off", callbacks, equals(0))


@pytest.mark.rule("WSK-SOCK-011")
def test_many_sockets_are_different(scene: Scene, observe: Observe) -> None:
    """Sixty-four sockets that live at the same time are sixty-four objects, and keep their tables."""
    wsk = scene.wsk
    rule = observe.rule("WSK-SOCK-011")
    pending = [wsk.submit(Operation.create(Category.LISTEN)) for _ in range(64)]
    made = [one.result(scene.guest.within(30.0)) for one in pending]
    rule.must("creations", all(one.succeeded for one in made), holds("all succeed", "some fail"))
    unique = all(one.has(RecordFlag.SOCKET_UNIQUE) for one in made)
    rule.must("socket objects", unique, holds("all different", "some are the same"))
    for one in (made[0], made[31], made[63]):
        info = wsk.run(Operation(function=Function.SOCKET_INFO, socket=one.new_socket))
        rule.must("dispatch pointer later", info, flagged(RecordFlag.SAME_DISPATCH, "as at creation"))
    closing = [wsk.submit(Operation.close(one.new_socket)) for one in made]
    closed = [one.result(scene.guest.within(30.0)).succeeded for one in closing]
    rule.must("closes", all(closed), holds("all succeed", "some fail"))


@pytest.mark.rule("WSK-SOCK-014")
def test_null_irp(wsk: ObservedClient, observe: Observe) -> None:
    """A creation without an IRP is refused in its return value, and nothing is completed."""
    rule = observe.rule("WSK-SOCK-014")
    record = wsk.run(Operation.create(Category.LISTEN, switches=Switch.NULL_IRP))
    rule.expect("NULL IRP", record, returned("STATUS_INVALID_PARAMETER"))
    rule.expect("completions", record.completion_count, equals(0))


@pytest.mark.rule("WSK-SOCK-017")
@pytest.mark.parametrize("context", [0x1, 0xFFFF_FFFF_FFFF_FFFF], ids=["one", "all_bits"])
def test_context_is_opaque(scene: Scene, observe: Observe, context: int) -> None:
    """A context that is no address does no harm while no event is enabled."""
    rule = observe.rule("WSK-SOCK-017")
    made = scene.wsk.socket(Category.LISTEN, socket_context=context, dispatch=Dispatch.FULL)
    rule.must("creation", made, succeeded())
    rule.must("bind", scene.wsk.bind(made.new_socket, scene.private()), succeeded())
    rule.must("close", scene.wsk.close_socket(made.new_socket), succeeded())
