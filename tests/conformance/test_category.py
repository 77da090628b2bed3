"""Socket categories and their dispatch tables (WSK-CAT). Pointers are counted, never called beyond the table."""

from __future__ import annotations

import pytest

from wsklab.abi import Category, Function, State
from wsklab.channel.operations import IPPROTO_TCP, IPPROTO_UDP, SOCK_DGRAM, SOCK_STREAM, Operation
from wsklab.pytest_plugin import Observe, ObservedClient, Scene
from wsklab.pytest_plugin.matchers import (
    completed_once,
    equals,
    failed,
    holds,
    information,
    new_socket,
    outcome,
    returned,
    succeeded,
    with_status,
)
from wsklab.pytest_plugin.observe import RuleObserver
from wsklab.pytest_plugin.scene import ANY_IPV4, TRANSPORT
from wsklab.records import AF_INET
from wsklab.wsk import SocketOption

#: The builds of Windows that brought WskSendMessages, and stream sockets with extended connects.
BUILD_WINDOWS_8, BUILD_1703 = 9200, 15063


def _pointers(wsk: ObservedClient, rule: RuleObserver, socket: int, required: int) -> None:
    """The first `required` pointers of a socket's table are set."""
    info = wsk.run(Operation(function=Function.SOCKET_INFO, socket=socket))
    mask = (1 << required) - 1
    missing = [number for number in range(required) if not info.members >> number & 1]
    rule.must(
        f"the first {required} pointers", info.members & mask == mask, holds("all set", f"NULL: number {missing}")
    )
    rule.record("pointers of the table", f"0x{info.members:x} of {info.member_count}")


TCP_AND_UDP = [
    pytest.param(SOCK_STREAM, IPPROTO_TCP, id="tcp"),
    pytest.param(SOCK_DGRAM, IPPROTO_UDP, id="udp"),
]


@pytest.mark.rule("WSK-CAT-001")
@pytest.mark.parametrize(("kind", "protocol"), TCP_AND_UDP)
def test_basic_socket(wsk: ObservedClient, observe: Observe, kind: int, protocol: int) -> None:
    """Category 0 gives a socket with control and close: a get-option and the close work."""
    rule = observe.rule("WSK-CAT-001")
    made = wsk.socket(Category.BASIC, type=kind, protocol=protocol)
    rule.must("creation of a basic socket", made, new_socket())
    _pointers(wsk, rule, made.new_socket, 2)
    rule.must("get-option of a basic socket", wsk.get_option(made.new_socket, SocketOption.RCVBUF), succeeded())
    rule.must("close of a basic socket", wsk.close_socket(made.new_socket), succeeded())


@pytest.mark.rule("WSK-CAT-002")
def test_listening_socket(scene: Scene, observe: Observe) -> None:
    """A listening socket's table has its six functions, and accept works."""
    rule = observe.rule("WSK-CAT-002")
    listener = scene.listener(rule)
    _pointers(scene.wsk, rule, listener, 6)
    scene.accepted(rule, listener)


@pytest.mark.rule("WSK-CAT-003")
def test_datagram_socket(scene: Scene, observe: Observe) -> None:
    """A datagram socket's table has seven functions, eight from Windows 8 on, and a datagram is sent."""
    rule = observe.rule("WSK-CAT-003")
    made = scene.wsk.socket(Category.DATAGRAM, type=SOCK_DGRAM, protocol=IPPROTO_UDP)
    rule.must("creation of a datagram socket", made, new_socket())
    _pointers(scene.wsk, rule, made.new_socket, 8 if scene.since(BUILD_WINDOWS_8) else 7)
    rule.must("bind of a datagram socket", scene.wsk.bind(made.new_socket, scene.address()), succeeded())
    peer = scene.peer.datagram()
    rule.must("send-to", scene.wsk.send_to(made.new_socket, b"x", peer.address), succeeded())
    rule.must("the peer receives", peer.receive()[0], equals(b"x"))


@pytest.mark.rule("WSK-CAT-004")
def test_connection_socket(scene: Scene, observe: Observe) -> None:
    """A connection socket's table has ten functions, eleven from Windows 10 1703 on; connect and send work."""
    rule = observe.rule("WSK-CAT-004")
    pair = scene.connected(rule)
    _pointers(scene.wsk, rule, pair.socket, 11 if scene.since(BUILD_1703) else 10)
    rule.must("send", scene.wsk.send(pair.socket, b"ten functions"), succeeded())
    rule.must("the peer reads", pair.peer.receive(13), equals(b"ten functions"))


@pytest.mark.rule("WSK-CAT-005")
def test_stream_socket(scene: Scene, observe: Observe) -> None:
    """On Windows 10 1703 and later a stream socket's table covers both roles; before, the status is recorded."""
    rule = observe.rule("WSK-CAT-005")
    made = scene.wsk.socket(Category.STREAM)
    if not scene.since(BUILD_1703):
        rule.record("creation of a stream socket on an older Windows", made.completed)
        return
    rule.must("creation of a stream socket", made, new_socket())
    _pointers(scene.wsk, rule, made.new_socket, 11)


COMBINATIONS = [0x1 | 0x2, 0x1 | 0x4, 0x2 | 0x4, 0x10, 0x8000_0000, 0xFFFF_FFFF]


@pytest.mark.rule("WSK-CAT-006")
@pytest.mark.parametrize("flags", COMBINATIONS, ids=[f"0x{flags:x}" for flags in COMBINATIONS])
def test_undefined_categories(wsk: ObservedClient, observe: Observe, flags: int) -> None:
    """Combined and undefined category flags end in one completion; what comes out closes normally."""
    rule = observe.rule("WSK-CAT-006")
    made = wsk.run(Operation.create(flags))
    rule.must("completions", made, completed_once())
    rule.record(f"status of category 0x{flags:x}", made.completed)
    if made.succeeded:
        rule.must("close", wsk.close_socket(made.new_socket), succeeded())


@pytest.mark.rule("WSK-CAT-007")
@pytest.mark.parametrize("category", list(TRANSPORT), ids=[category.name.lower() for category in TRANSPORT])
def test_close_through_the_basic_view(scene: Scene, observe: Observe, category: Category) -> None:
    """The driver closes every socket through offset 8 of its table, seen as a basic one."""
    rule = observe.rule("WSK-CAT-007")
    number = scene.fresh(rule, category)
    rule.must(f"close: {category.name.lower()}", scene.wsk.close_socket(number), succeeded())


@pytest.mark.rule("WSK-CAT-008")
def test_category_is_not_compared_with_type(scene: Scene, observe: Observe) -> None:
    """UDP with the listening flag creates; its bind then says that this is not implemented."""
    rule = observe.rule("WSK-CAT-008")
    made = scene.wsk.socket(Category.LISTEN, type=SOCK_DGRAM, protocol=IPPROTO_UDP)
    if rule.expect("creation of UDP with the listening flag", made, succeeded()):
        bound = scene.wsk.bind(made.new_socket, scene.private())
        rule.expect("return of its bind", bound, returned("STATUS_PENDING"))
        rule.expect("bind of UDP with the listening flag", bound, with_status("STATUS_NOT_IMPLEMENTED"))
        rule.expect("Information of its bind", bound, information(0))
    rule.record("creation of TCP with the datagram flag", outcome(scene.wsk.socket(Category.DATAGRAM)))


@pytest.mark.rule("WSK-CAT-009")
def test_accepted_socket_is_a_connection(scene: Scene, observe: Observe) -> None:
    """An accepted socket sends and receives; both of its addresses are of the listener's family."""
    rule = observe.rule("WSK-CAT-009")
    pair = scene.accepted(rule, scene.listener(rule))
    families = {address.family for address in (pair.record.local, pair.record.remote) if address is not None}
    rule.must("families of both addresses", families, equals({AF_INET}))
    _pointers(scene.wsk, rule, pair.socket, 10)
    rule.must("send", scene.wsk.send(pair.socket, b"1"), succeeded())
    rule.must("the peer reads", pair.peer.receive(1), equals(b"1"))
    pair.peer.send(b"2")
    received = scene.wsk.receive(pair.socket, 1).result(scene.within())
    rule.must("receive", received.state is State.COMPLETED and received.data == b"2", holds("1 byte", "something else"))


@pytest.mark.rule("WSK-CAT-010")
def test_stream_socket_that_listens(scene: Scene, observe: Observe) -> None:
    """After a successful listen a stream socket refuses to connect."""
    rule = observe.rule("WSK-CAT-010")
    number = scene.bound(rule, Category.STREAM, scene.address())
    rule.must("listen", scene.wsk.listen(number), succeeded())
    record = scene.wsk.connect(number, scene.address_of(scene.peer.listen()))
    rule.must("connect after listen", record, failed())
    rule.record("status of connect after listen", outcome(record))


@pytest.mark.rule("WSK-CAT-010")
def test_stream_socket_that_connects(scene: Scene, observe: Observe) -> None:
    """After a successful connect a stream socket refuses to listen and to accept."""
    rule = observe.rule("WSK-CAT-010")
    number = scene.bound(rule, Category.STREAM, ANY_IPV4)
    listening = scene.peer.listen()
    rule.must("connect", scene.wsk.connect(number, scene.address_of(listening)), succeeded())
    listened = scene.wsk.listen(number)
    rule.must("listen after connect", listened, failed())
    rule.record("status of listen after connect", outcome(listened))
    accepted = scene.wsk.accept(number).result(scene.within())
    rule.must("accept after connect", accepted, failed())
    rule.record("status of accept after connect", outcome(accepted))
