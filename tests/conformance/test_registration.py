"""Registration and attachment (WSK-REG)."""

from __future__ import annotations

import pytest

from wsklab.abi import Callback, CallContext, Category, RecordFlag
from wsklab.channel.operations import Operation
from wsklab.pytest_plugin import Attachment, LeasedGuest, Observe, ObservedClient, Scene
from wsklab.pytest_plugin.attachment import NO_WAIT, VERSION_1_0
from wsklab.pytest_plugin.matchers import equals, flagged, holds, returned, succeeded
from wsklab.pytest_plugin.quiet import BLOCKED_S

#: The bits of the provider dispatch's pointers, in the order of the table.
SOCKET_CONNECT_CONTROL = 0b000111
NAME_FUNCTIONS = 0b111000

#: A version that no Windows has, and one below the first.
FAR_TOO_NEW, TOO_OLD = 0xFF00, 0x0000


@pytest.mark.rule("WSK-REG-001", "WSK-REG-002")
def test_register_and_capture(attachment: Attachment, observe: Observe) -> None:
    """A version 1.0 client registers in the middle of the driver's life; a capture without limit fills the NPI."""
    registered = attachment.register()
    observe.rule("WSK-REG-001").must("WskRegister", registered, returned("STATUS_SUCCESS"))
    captured = attachment.capture_for_ever()
    rule = observe.rule("WSK-REG-002")
    rule.must("WskCaptureProviderNPI(WSK_INFINITE_WAIT)", captured, returned("STATUS_SUCCESS"))
    both = flagged(RecordFlag.CLIENT_SET | RecordFlag.DISPATCH_SET, "Client and Dispatch are not NULL")
    rule.must("client and dispatch", captured, both)


@pytest.mark.rule("WSK-REG-003")
def test_provider_version(attachment: Attachment, observe: Observe) -> None:
    """The provider dispatch has the major version that was asked for; the exact value is recorded per build."""
    info = attachment.provider()
    rule = observe.rule("WSK-REG-003")
    rule.must("provider dispatch", info, flagged(RecordFlag.DISPATCH_SET, "Dispatch is not NULL"))
    rule.must("major version", info.version >> 8, equals(1))
    rule.must("minor version", info.version & 0xFF >= 0, holds("at least 0", "below 0"))
    rule.record("version", f"0x{info.version:04X}")


@pytest.mark.rule("WSK-REG-004")
def test_provider_entry_points(scene: Scene, attachment: Attachment, observe: Observe) -> None:
    """WskSocket, WskSocketConnect and WskControlClient are there, the name functions from Windows 7 on, in an image."""
    info = attachment.provider()
    rule = observe.rule("WSK-REG-004")
    rule.must("version 1.0 entry points", info.members & SOCKET_CONNECT_CONTROL, equals(SOCKET_CONNECT_CONTROL))
    if scene.since(7600):
        rule.must("name functions", info.members & NAME_FUNCTIONS, equals(NAME_FUNCTIONS))
    set_pointers = info.members.bit_count()
    rule.must("inside a loaded image", info.count, equals(set_pointers))


@pytest.mark.rule("WSK-REG-005")
@pytest.mark.parametrize("context", [CallContext.CALLER, CallContext.RAISED], ids=["passive", "dispatch"])
def test_capture_without_waiting(scene: Scene, attachment: Attachment, observe: Observe, context: CallContext) -> None:
    """With WSK_NO_WAIT the capture answers success or not ready at once, at DISPATCH_LEVEL too; so does the release."""
    attachment.register()
    captured = attachment.capture(NO_WAIT, call_context=context)
    rule = observe.rule("WSK-REG-005")
    where = "at PASSIVE_LEVEL"
    if context is CallContext.RAISED:
        rule, where = scene.at_dispatch(rule, captured), "at DISPATCH_LEVEL"
    answer = returned("STATUS_SUCCESS", "STATUS_DEVICE_NOT_READY")
    rule.must(f"WskCaptureProviderNPI(WSK_NO_WAIT) {where}", captured, answer)
    rule.must(f"the capture's time {where}", scene.at_once(captured), holds("at once", "later than after 50 ms"))
    released = attachment.release(call_context=context)
    rule.must(f"WskReleaseProviderNPI {where}", released, succeeded())
    rule.must(f"the release's time {where}", scene.at_once(released), holds("at once", "later than after 50 ms"))
    if context is CallContext.CALLER:
        return
    asked = rule.given(attachment.can_ask, "WskQueryProviderCharacteristics does not raise")
    name = "WskQueryProviderCharacteristics at DISPATCH_LEVEL"
    if attachment.can_ask:
        asked.must(name, attachment.characteristics(call_context=context), answer)
    else:
        asked.unmet(name)


@pytest.mark.rule("WSK-REG-006")
@pytest.mark.parametrize("timeout_ms", [1, 100, 5000])
def test_bounded_capture(scene: Scene, attachment: Attachment, observe: Observe, timeout_ms: int) -> None:
    """With the provider up, a capture with any bound succeeds at once."""
    attachment.register()
    captured = attachment.capture(timeout_ms)
    rule = observe.rule("WSK-REG-006")
    rule.must("WskCaptureProviderNPI with a bound", captured, returned("STATUS_SUCCESS"))
    rule.must("its time", scene.at_once(captured), holds("at once", "later than after 50 ms"))


@pytest.mark.rule("WSK-REG-007", "WSK-REG-009")
def test_unsupported_version(attachment: Attachment, observe: Observe) -> None:
    """A version that no Windows has registers, its capture is refused, and then the same block serves version 1.0."""
    rule = observe.rule("WSK-REG-007")
    rule.must("WskRegister(0xFF00)", attachment.register(FAR_TOO_NEW), returned("STATUS_SUCCESS"))
    captured = attachment.capture(NO_WAIT)
    refused = rule.must("capture of version 0xFF00", captured, returned("STATUS_NOINTERFACE"), stop=False)
    if not refused and captured.captures:
        attachment.release()
    rule = observe.rule("WSK-REG-009")
    rule.must("WskDeregister after a refused capture", attachment.deregister(), succeeded())
    rule.must("WskRegister(1.0) with the same block", attachment.register(VERSION_1_0), returned("STATUS_SUCCESS"))
    rule.must("capture of version 1.0", attachment.capture(NO_WAIT), returned("STATUS_SUCCESS"))


@pytest.mark.rule("WSK-REG-007")
def test_version_zero(attachment: Attachment, observe: Observe) -> None:
    """What a client that asks for version 0.0 is told, is written down."""
    rule = observe.rule("WSK-REG-007")
    rule.must("WskRegister(0x0000)", attachment.register(TOO_OLD), returned("STATUS_SUCCESS"))
    captured = attachment.capture(NO_WAIT)
    rule.record("capture of version 0x0000", captured.returned)
    if captured.captures:
        attachment.release()
    rule.must("WskDeregister of version 0x0000", attachment.deregister(), succeeded())


@pytest.mark.rule("WSK-REG-008")
@pytest.mark.parametrize("version", [VERSION_1_0, FAR_TOO_NEW], ids=["supported", "refused"])
def test_characteristics(attachment: Attachment, observe: Observe, version: int) -> None:
    """The supported range contains 1.0, and not the version that was refused."""
    if not attachment.can_ask:
        observe.not_run("WskQueryProviderCharacteristics raises an exception here")
    attachment.register(version)
    attachment.capture(NO_WAIT)
    asked = attachment.characteristics()
    rule = observe.rule("WSK-REG-008")
    rule.must("WskQueryProviderCharacteristics", asked, returned("STATUS_SUCCESS"))
    low, high = asked.lowest_version, asked.highest_version
    rule.must("order", low <= high, holds("lowest <= highest", "lowest > highest"))
    rule.must("version 1.0", low <= VERSION_1_0 <= high, holds("inside", "outside"))
    rule.must("version 0xFF00", low <= FAR_TOO_NEW <= high, equals(False))
    rule.record("range", f"0x{low:04X} to 0x{high:04X}")


@pytest.mark.rule("WSK-REG-010")
def test_two_registrations(guest: LeasedGuest, attachment: Attachment, wsk: ObservedClient, observe: Observe) -> None:
    """Two registrations of one driver: the second creates, binds and closes after the first has been torn down."""
    rule = observe.rule("WSK-REG-010")
    other = Attachment(guest.client())
    first, second = attachment, other
    for one in (first, second):
        rule.must("WskRegister", one.register(), returned("STATUS_SUCCESS"))
        rule.must("WskCaptureProviderNPI", one.capture(NO_WAIT), returned("STATUS_SUCCESS"))
        rule.must("a socket under each", one.wsk.socket(Category.LISTEN), succeeded())
    rule.must("close of the first's", wsk.close_socket(1), succeeded())
    rule.must("release of the first", first.release(), succeeded())
    rule.must("WskDeregister of the first", first.deregister(), succeeded())
    made = other.wsk.socket(Category.LISTEN)
    rule.must("another socket of the second", made, succeeded())
    rule.must("its close", other.wsk.close_socket(made.new_socket), succeeded())


@pytest.mark.rule("WSK-REG-011")
def test_captures_are_counted(attachment: Attachment, observe: Observe) -> None:
    """Three captures and three releases leave nothing behind, and the registration can end."""
    rule = observe.rule("WSK-REG-011")
    attachment.register()
    for number in range(3):
        captured = attachment.capture(NO_WAIT)
        rule.must("repeated capture", captured, returned("STATUS_SUCCESS"))
        if number:
            rule.record(f"capture {number + 1} equals the one before", captured.has(RecordFlag.SAME_NPI))
    for _ in range(3):
        rule.must("release", attachment.release(), succeeded())
    rule.must("WskDeregister", attachment.deregister(), succeeded())


@pytest.mark.rule("WSK-REG-011")
def test_a_missing_release_blocks(scene: Scene, attachment: Attachment, observe: Observe) -> None:
    """With three captures and two releases WskDeregister does not return; the third release lets it."""
    rule = observe.rule("WSK-REG-011")
    attachment.register()
    for _ in range(3):
        attachment.capture(NO_WAIT)
    for _ in range(2):
        attachment.release()
    ending = attachment.deregistering()
    blocked = scene.stays_pending(ending, BLOCKED_S)
    attachment.release()  # before anything is asserted: a capture must not outlive the case
    rule.must("WskDeregister with one capture left", blocked, holds("blocked", "returned"))
    rule.must("WskDeregister after the last release", ending.result(scene.within()), succeeded())


@pytest.mark.rule("WSK-REG-012")
def test_network_module_registrar(scene: Scene, attachment: Attachment, observe: Observe) -> None:
    """NmrRegisterClient leads to one attach callback, and the dispatch obtained there creates a socket."""
    if not attachment.can_ask:
        observe.not_run("the Nmr functions raise an exception here")
    rule = observe.rule("WSK-REG-012")
    rule.must("NmrRegisterClient", scene.wsk.run(Operation.nmr_register()), returned("STATUS_SUCCESS"))
    scene.hear(rule, "attach callback", Callback.NMR_ATTACH)
    made = scene.wsk.socket(Category.LISTEN)
    rule.must("a socket by that dispatch", made, succeeded())
    rule.must("its close", scene.wsk.close_socket(made.new_socket), succeeded())
    rule.must("attach callbacks", len(scene.callbacks(Callback.NMR_ATTACH)), equals(1))
    rule.must("NmrDeregisterClient", scene.wsk.run(Operation.nmr_deregister()), returned("STATUS_SUCCESS"))
