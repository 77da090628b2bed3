"""Socket creation (WSK-SOCK): the published page, statement by statement."""

from __future__ import annotations

import pytest

from wsklab.abi import (
    Callback,
    CallContext,
    Category,
    Dispatch,
    EventKind,
    Function,
    IrpSource,
    Owner,
    RecordFlag,
    Security,
    Switch,
)
from wsklab.channel.operations import Operation
from wsklab.pytest_plugin import Attachment, Observe, ObservedClient, Scene
from wsklab.pytest_plugin.matchers import (
    completed_once,
    equals,
    failed,
    flagged,
    holds,
    information,
    new_socket,
    outcome,
    returned,
    succeeded,
)
from wsklab.pytest_plugin.quiet import NO_CALLBACK_S, NO_SECOND_COMPLETION_S
from wsklab.pytest_plugin.values import for_all
from wsklab.wsk import SocketOption

#: An address family that no Windows has a transport for.
NO_FAMILY = 99

WITH_TRANSPORT = [
    pytest.param(Category.LISTEN, id="listen"),
    pytest.param(Category.CONNECTION, id="connection"),
    pytest.param(Category.DATAGRAM, id="datagram"),
    pytest.param(Category.STREAM, id="stream"),
]


@pytest.mark.rule("WSK-SOCK-001", "WSK-SOCK-002", "WSK-SOCK-003", "WSK-SOCK-004")
def test_published_sample(scene: Scene, observe: Observe) -> None:
    """The published code, unchanged in calls, arguments and order, creates a listening socket, and completes once."""
    cookie = 0x5EED_C0DE_0000_0001
    creating = scene.wsk.submit(Operation.sample_listen(completion_cookie=cookie))
    made = creating.wait(scene.within())
    observe.rule("WSK-SOCK-001").must("creation completes with STATUS_SUCCESS", made, succeeded())
    observe.rule("WSK-SOCK-002").must("Information is the socket", made, new_socket())
    rule = observe.rule("WSK-SOCK-003")
    rule.must("the call returns", made, returned("STATUS_SUCCESS", "STATUS_PENDING"))
    rule.expect("the call returns pending", made, returned("STATUS_PENDING"))
    rule.record("returned", made.returned)
    rule = observe.rule("WSK-SOCK-004")
    rule.must("IRP and context", made, flagged(RecordFlag.IRP_MATCH | RecordFlag.CONTEXT_MATCH, "ours"))
    rule.must("context cookie", made.completion_cookie, equals(cookie))
    scene.quiet(NO_SECOND_COMPLETION_S)
    rule.must("completions after a quiet while", creating.fetch(scene.within()), completed_once())


@pytest.mark.rule("WSK-SOCK-001")
def test_creation_with_the_arguments_of_the_sample(wsk: ObservedClient, observe: Observe) -> None:
    """The generic call with the sample's arguments succeeds, too."""
    made = wsk.socket(Category.LISTEN, dispatch=Dispatch.FULL, socket_context=0x1234)
    observe.rule("WSK-SOCK-001").must("creation completes with STATUS_SUCCESS", made, succeeded())


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
    made = pending.wait(scene.within())
    rule.must("creation with an IRP in own memory", made, succeeded())
    freed = scene.wsk.socket(Category.LISTEN)
    rule.must("creation whose routine frees the IRP", freed, succeeded())
    rule.must("freed in the routine", freed, flagged(RecordFlag.IRP_FREED, "the routine freed the IRP"))
    scene.quiet(NO_SECOND_COMPLETION_S)
    later = pending.fetch(scene.within())
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
    bound = bind.result(scene.within())
    rule.must("bind started by the completion routine", bound, succeeded())
    rule.must("its completions", bound, completed_once())
    # how deep the stack gets depends on which side of the creation's return the bind runs
    rule.record("bind entered before the creation returned", 0 < bound.enter_sequence < made.return_sequence)


@pytest.mark.rule("WSK-SOCK-009")
@pytest.mark.parametrize("category", WITH_TRANSPORT)
def test_first_step_of_the_category(scene: Scene, observe: Observe, category: Category) -> None:
    """A new socket binds right after its creation."""
    rule = observe.rule("WSK-SOCK-009")
    number = scene.fresh(rule, category)
    rule.must(f"bind: {category.name.lower()}", scene.wsk.bind(number, scene.private()), succeeded())


@pytest.mark.rule("WSK-SOCK-009")
def test_first_step_of_a_basic_socket(scene: Scene, observe: Observe) -> None:
    """A new basic socket answers a get-option."""
    rule = observe.rule("WSK-SOCK-009")
    number = scene.fresh(rule, Category.BASIC)
    rule.must("option: basic", scene.wsk.get_option(number, SocketOption.RCVBUF), succeeded())


@pytest.mark.rule("WSK-SOCK-010")
@pytest.mark.parametrize("category", WITH_TRANSPORT[:3])
def test_events_are_off(scene: Scene, observe: Observe, category: Category) -> None:
    """With a complete client dispatch and a peer that connects and sends, no callback comes."""
    rule = observe.rule("WSK-SOCK-010")
    events = {"dispatch": Dispatch.FULL, "socket_context": 0xC0FFEE}
    if category is Category.LISTEN:
        scene.listener(rule, **events)
        scene.peer.connect(scene.guest.port()).send(b"anybody there?")
    elif category is Category.CONNECTION:
        scene.connected(rule, **events).peer.send(b"anybody there?")
    else:
        scene.datagram(rule, **events)
        scene.peer.datagram().send(scene.guest.port(), b"anybody there?")
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
    made = [one.result(scene.within(30.0)) for one in pending]
    rule.must("creations", all(one.succeeded for one in made), holds("all succeed", "some fail"))
    unique = all(one.has(RecordFlag.SOCKET_UNIQUE) for one in made)
    rule.must("socket objects", unique, holds("all different", "some are the same"))
    asked = [wsk.submit(Operation(function=Function.SOCKET_INFO, socket=one.new_socket)) for one in made]
    same = all(one.result(scene.within(30.0)).has(RecordFlag.SAME_DISPATCH) for one in asked)
    rule.must("dispatch pointers later", same, holds("as at creation", "some have changed"))
    closing = [wsk.submit(Operation.close(one.new_socket)) for one in made]
    closed = [one.result(scene.within(30.0)).succeeded for one in closing]
    rule.must("closes", all(closed), holds("all succeed", "some fail"))


@pytest.mark.rule("WSK-SOCK-012")
def test_owner_is_optional(wsk: ObservedClient, observe: Observe) -> None:
    """No process and no thread, the current process, and both: the first two must do, the third is recorded."""
    rule = observe.rule("WSK-SOCK-012")
    rule.must("no process, no thread", wsk.socket(Category.LISTEN), succeeded())
    rule.must("current process", wsk.socket(Category.LISTEN, owning_process=Owner.CURRENT), succeeded())
    both = wsk.socket(Category.LISTEN, owning_process=Owner.CURRENT, owning_thread=Owner.CURRENT)
    rule.record("current process and thread", outcome(both))


@pytest.mark.rule("WSK-SOCK-013")
def test_no_descriptor(wsk: ObservedClient, observe: Observe) -> None:
    """Without a security descriptor the default one is taken."""
    observe.rule("WSK-SOCK-013").must("NULL descriptor", wsk.socket(Category.LISTEN), succeeded())


@pytest.mark.rule("WSK-SOCK-013")
def test_cached_descriptor(wsk: ObservedClient, observe: Observe) -> None:
    """A cached copy of a descriptor is taken."""
    rule = observe.rule("WSK-SOCK-013")
    cached = wsk.cache_descriptor()
    rule.must("preparation: WSK_CACHE_SD", cached, returned("STATUS_SUCCESS"))
    made = wsk.socket(Category.LISTEN, security=Security.CACHED, object=cached.object)
    rule.must("cached descriptor", made, succeeded())
    rule.must("close", wsk.close_socket(made.new_socket), succeeded())
    rule.must("WSK_RELEASE_SD", wsk.release_descriptor(cached.object), returned("STATUS_SUCCESS"))


@pytest.mark.rule("WSK-SOCK-014")
def test_null_irp(attachment: Attachment, observe: Observe) -> None:
    """A creation without an IRP is refused in its return value; nothing is completed, nothing is left behind."""
    wsk = attachment.wsk
    rule = observe.rule("WSK-SOCK-014")
    record = wsk.run(Operation.create(Category.LISTEN, switches=Switch.NULL_IRP))
    rule.expect("NULL IRP", record, returned("STATUS_INVALID_PARAMETER"))
    rule.expect("completions", record.completion_count, equals(0))
    attachment.release()
    rule.expect("WskDeregister afterwards", attachment.deregister(), succeeded())


@pytest.mark.rule("WSK-SOCK-015")
def test_null_client(scene: Scene, observe: Observe) -> None:
    """A creation without a client is refused; whether its IRP is completed is recorded."""
    rule = observe.rule("WSK-SOCK-015")
    creating = scene.wsk.submit(Operation.create(Category.LISTEN, switches=Switch.NULL_CLIENT))
    record = creating.result(scene.within())
    rule.expect("NULL client", record, returned("STATUS_INVALID_HANDLE"))
    rule.record("completions", record.completion_count)


@pytest.mark.rule("WSK-SOCK-016")
def test_creation_at_dispatch_level(scene: Scene, observe: Observe) -> None:
    """WskSocket at DISPATCH_LEVEL does what it does at PASSIVE_LEVEL."""
    made = scene.wsk.socket(Category.LISTEN, call_context=CallContext.RAISED)
    rule = scene.at_dispatch(observe.rule("WSK-SOCK-016"), made)
    rule.must("creation at DISPATCH_LEVEL", made, new_socket())
    rule.must("its close", scene.wsk.close_socket(made.new_socket), succeeded())


#: No address, all bits, and a kernel address that nobody owns.
CONTEXTS = {"one": 0x1, "all_bits": 0xFFFF_FFFF_FFFF_FFFF, "unmapped": 0xFFFF_A000_DEAD_0000}


@pytest.mark.rule("WSK-SOCK-017")
@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_context_is_opaque(scene: Scene, observe: Observe, context: int) -> None:
    """A context that is no address does no harm while no event is enabled."""
    rule = observe.rule("WSK-SOCK-017")
    made = scene.wsk.socket(Category.LISTEN, socket_context=context, dispatch=Dispatch.FULL)
    rule.must("creation", made, succeeded())
    rule.must("bind", scene.wsk.bind(made.new_socket, scene.private()), succeeded())
    rule.must("close", scene.wsk.close_socket(made.new_socket), succeeded())


@pytest.mark.rule("WSK-SOCK-017")
def test_any_context(scene: Scene, observe: Observe) -> None:
    """Whatever number the context is, the socket is created, bound and closed."""
    rule = observe.rule("WSK-SOCK-017")

    def harmless(context: int) -> None:
        made = scene.wsk.socket(Category.LISTEN, socket_context=context, dispatch=Dispatch.FULL)
        rule.must("creation with any context", made, succeeded())
        rule.must("bind with any context", scene.wsk.bind(made.new_socket, scene.private()), succeeded())
        rule.must("close with any context", scene.wsk.close_socket(made.new_socket), succeeded())

    for_all((2, 1 << 32, 1 << 63), lambda random: random.getrandbits(64), harmless)


@pytest.mark.rule("WSK-SOCK-017")
@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_context_is_delivered_as_it_is(scene: Scene, observe: Observe, context: int) -> None:
    """The same value comes back in the socket's callback."""
    rule = observe.rule("WSK-SOCK-017")
    listener = scene.listener(rule, socket_context=context, dispatch=Dispatch.FULL)
    enabled = scene.wsk.enable_events(listener, 0x200)
    rule.must("enable the accept event", enabled, returned("STATUS_SUCCESS"))
    scene.peer.connect(scene.guest.port())
    (enter, *_) = scene.hear(rule, "accept callback", Callback.ACCEPT, listener)
    rule.must("the context", enter.context == context, holds("as given", "another one"))
