"""Detaching (WSK-DET)."""

from __future__ import annotations

import contextlib

import pytest

from wsklab.abi import Category, Switch
from wsklab.channel.operations import Operation, PendingOperation
from wsklab.deadline import NotYet, wait_until
from wsklab.errors import DeadlineExceeded
from wsklab.pytest_plugin import Attachment, LeasedGuest, Observe, Scene
from wsklab.pytest_plugin.attachment import NO_WAIT
from wsklab.pytest_plugin.matchers import completed_once, equals, holds, returned, succeeded, with_status
from wsklab.pytest_plugin.observe import RuleObserver
from wsklab.pytest_plugin.quiet import BLOCKED_S, STILL_PENDING_S
from wsklab.pytest_plugin.scene import ANY_IPV4

#: Cycles of registration in one load of the driver, and loads of it.
CYCLES, RELOADS = 100, 10


@pytest.mark.rule("WSK-DET-001")
def test_registration_cycles(guest: LeasedGuest, attachment: Attachment, observe: Observe) -> None:
    """Register, capture, create and close a socket, release, deregister: a hundred times, each end within a second."""
    rule = observe.rule("WSK-DET-001")
    wsk = attachment.wsk
    before = wsk.ledger().client
    for number in range(CYCLES):
        rule.must("WskRegister", attachment.register(), returned("STATUS_SUCCESS"))
        rule.must("WskCaptureProviderNPI", attachment.capture(NO_WAIT), returned("STATUS_SUCCESS"))
        made = wsk.socket(Category.LISTEN)
        rule.must("creation", made, succeeded())
        rule.must("close", wsk.close_socket(made.new_socket), succeeded())
        rule.must("WskReleaseProviderNPI", attachment.release(), succeeded())
        ended = attachment.deregister()
        rule.must("WskDeregister", ended, succeeded())
        rule.must("WskDeregister's time", ended.call_s < 1.0, holds("below 1 s", "1 s or more"))
        if number % 25 == 0:
            wsk.events()  # the ring holds a thousand
    # what the last operation needed is given back when its thread has ended, a moment after its record
    with contextlib.suppress(DeadlineExceeded):
        wait_until(
            lambda: wsk.ledger().client.pool_bytes <= before.pool_bytes or NotYet("more than before"),
            guest.within(2.0),
            what="the driver's pool",
        )
    after = wsk.ledger().client
    rule.must("IRPs", after.irps_allocated == after.irps_freed, holds("all freed", "some kept"))
    rule.must("sockets", after.sockets_opened == after.sockets_closed, holds("all closed", "some open"))
    rule.must("the driver's pool", after.pool_bytes <= before.pool_bytes, holds("back to the start", "grown"))


@pytest.mark.exclusive
@pytest.mark.rule("WSK-DET-001")
def test_reloads(guest: LeasedGuest, observe: Observe) -> None:
    """The driver is unloaded and loaded ten times, with a whole cycle in its first and in its last life."""
    rule = observe.rule("WSK-DET-001")
    _cycle_in_a_life(guest, rule)
    for cycle in guest.reload_driver(RELOADS):
        rule.must("reload", cycle.failed == "", holds("unloaded and loaded", f"{cycle.failed}: Win32 {cycle.win32}"))
    _cycle_in_a_life(guest, rule)


def _cycle_in_a_life(guest: LeasedGuest, rule: RuleObserver) -> None:
    client = guest.client()
    made = client.socket(Category.LISTEN)
    rule.must("creation in a life of the driver", made, succeeded())
    rule.must("close in a life of the driver", client.close_socket(made.new_socket), succeeded())
    guest.finish(client)


def _blocked(scene: Scene, rule: RuleObserver, what: str, ending: PendingOperation) -> None:
    """WskDeregister is still inside after a while."""
    blocked = scene.stays_pending(ending, BLOCKED_S)
    rule.must(f"WskDeregister with {what}", blocked, holds("blocked", "returned"))


@pytest.mark.rule("WSK-DET-002")
def test_deregister_waits_for_captures(scene: Scene, attachment: Attachment, observe: Observe) -> None:
    """With a capture outstanding WskDeregister does not return; the release lets it, within a second."""
    rule = observe.rule("WSK-DET-002")
    attachment.register()
    rule.must("preparation: capture", attachment.capture(NO_WAIT), returned("STATUS_SUCCESS"))
    ending = attachment.deregistering()
    blocked = scene.stays_pending(ending, BLOCKED_S)
    attachment.release()  # before anything is asserted: a capture must not outlive the case
    rule.must("WskDeregister with a capture", blocked, holds("blocked", "returned"))
    rule.must("WskDeregister after the release", ending.wait(scene.within(1.0)), succeeded())


@pytest.mark.rule("WSK-DET-003")
def test_deregister_waits_for_sockets(scene: Scene, attachment: Attachment, observe: Observe) -> None:
    """With a socket open WskDeregister does not return, although the NPI was released; the close lets it."""
    rule = observe.rule("WSK-DET-003")
    number = scene.fresh(rule, Category.LISTEN)
    rule.must("preparation: release", attachment.release(), succeeded())
    ending = attachment.deregistering()
    _blocked(scene, rule, "an open socket", ending)
    rule.must("close", scene.wsk.close_socket(number), succeeded())
    rule.must("WskDeregister after the close", ending.wait(scene.within(1.0)), succeeded())


@pytest.mark.rule("WSK-DET-004")
def test_deregister_waits_for_calls(scene: Scene, attachment: Attachment, observe: Observe) -> None:
    """With a one-call connect under way WskDeregister does not return; it does once that IRP has completed."""
    rule = observe.rule("WSK-DET-004")
    hole = scene.peer.black_hole()
    scene.fresh(rule, Category.LISTEN)  # attaches
    connecting = scene.wsk.submit(Operation.socket_connect(ANY_IPV4, scene.address_of(hole)))
    scene.still_pending(rule, "preparation: WskSocketConnect to a black hole", connecting, STILL_PENDING_S)
    for entry in scene.wsk.sockets():
        scene.wsk.close_socket(entry.number)
    attachment.release()
    ending = attachment.deregistering()
    _blocked(scene, rule, "a connect under way", ending)
    hole.close()  # the next attempt is refused
    ended = connecting.wait(scene.within(60.0))
    rule.must("the connect", ended, completed_once())
    gone = ending.wait(scene.within())
    rule.must("WskDeregister after the connect", gone, succeeded())
    order = ended.completion_sequence < gone.return_sequence
    rule.must("order", order, holds("the connect first", "WskDeregister first"))


@pytest.mark.rule("WSK-DET-005")
def test_deregister_cancels_a_transport_change_request(scene: Scene, attachment: Attachment, observe: Observe) -> None:
    """A queued transport list change request completes once when its client deregisters."""
    rule = observe.rule("WSK-DET-005")
    waiting = scene.wsk.submit(Operation.transport_change())
    rule.must("preparation: WSK_TRANSPORT_LIST_CHANGE", waiting.fetch(), returned("STATUS_PENDING"))
    attachment.release()
    ending = attachment.deregistering()
    record = waiting.wait(scene.within())
    rule.must("completions of the request", record, completed_once())
    rule.expect("its status", record, with_status("STATUS_CANCELLED"))
    rule.must("WskDeregister", ending.wait(scene.within()), succeeded())


@pytest.mark.rule("WSK-DET-006")
@pytest.mark.parametrize("switches", [Switch(0), Switch.INFINITE], ids=["no_wait", "infinite"])
def test_capture_after_deregister(attachment: Attachment, observe: Observe, switches: Switch) -> None:
    """A capture with a deregistered block is refused, however long it may wait."""
    rule = observe.rule("WSK-DET-006")
    attachment.register()
    rule.must("preparation: deregister", attachment.deregister(), succeeded())
    late = attachment.capture(0, switches=Switch.AFTER_DEREGISTER | switches)
    rule.must("capture after WskDeregister", late, returned("STATUS_DEVICE_NOT_READY"))


@pytest.mark.rule("WSK-DET-007")
def test_sockets_outlive_the_release(scene: Scene, attachment: Attachment, observe: Observe) -> None:
    """A socket that was created under a capture binds, accepts and echoes after the release."""
    rule = observe.rule("WSK-DET-007")
    attachment.register()
    attachment.capture(NO_WAIT)
    number = scene.fresh(rule, Category.LISTEN)
    rule.must("preparation: release", attachment.release(), succeeded())
    rule.must("bind", scene.wsk.bind(number, scene.address()), succeeded())
    pair = scene.accepted(rule, number)
    pair.peer.send(b"alive")
    rule.must("receive", scene.received(pair.socket, 5), equals(b"alive"))
    rule.must("send", scene.wsk.send(pair.socket, b"alive"), succeeded())
    rule.must("the peer reads", pair.peer.receive(5), equals(b"alive"))
