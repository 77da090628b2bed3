"""Registration and attachment (WSK-REG)."""

from __future__ import annotations

import pytest

from wsklab.abi import Function, RecordFlag
from wsklab.channel.operations import Operation
from wsklab.pytest_plugin import Observe, ObservedClient
from wsklab.pytest_plugin.matchers import equals, flagged, holds, returned, succeeded

#: The bits of the provider dispatch's pointers, in the order of the table.
SOCKET_CONNECT_CONTROL = 0b000111
NAME_FUNCTIONS = 0b111000


@pytest.mark.rule("WSK-REG-001", "WSK-REG-002")
def test_register_and_capture(wsk: ObservedClient, observe: Observe) -> None:
    """A version 1.0 client registers in the middle of the driver's life, and its capture gives client and dispatch."""
    registered = wsk.run(Operation(function=Function.REGISTER, version=0x0100))
    observe.rule("WSK-REG-001").must("WskRegister returns success", registered, returned("STATUS_SUCCESS"))
    captured = wsk.run(Operation(function=Function.CAPTURE, timeout_ms=5000))
    rule = observe.rule("WSK-REG-002")
    rule.must("WskCaptureProviderNPI returns success", captured, returned("STATUS_SUCCESS"))
    rule.must(
        "client and dispatch",
        captured,
        flagged(RecordFlag.CLIENT_SET | RecordFlag.DISPATCH_SET, "Client and Dispatch are not NULL"),
    )


@pytest.mark.rule("WSK-REG-003")
def test_provider_version(wsk: ObservedClient, observe: Observe) -> None:
    """The provider dispatch has the major version that was asked for; the exact value is recorded per build."""
    info = wsk.run(Operation(function=Function.PROVIDER_INFO))
    rule = observe.rule("WSK-REG-003")
    rule.must("provider dispatch", info, flagged(RecordFlag.DISPATCH_SET, "Dispatch is not NULL"))
    rule.must("major version", info.version >> 8, equals(1))
    rule.record("version", f"0x{info.version:04X}")


@pytest.mark.rule("WSK-REG-004")
def test_provider_entry_points(wsk: ObservedClient, observe: Observe) -> None:
    """WskSocket, WskSocketConnect and WskControlClient are there, and the name functions from Windows 7 on."""
    info = wsk.run(Operation(function=Function.PROVIDER_INFO))
    rule = observe.rule("WSK-REG-004")
    rule.must("version 1.0 entry points", info.members & SOCKET_CONNECT_CONTROL, equals(SOCKET_CONNECT_CONTROL))
    rule.must("name functions", info.members & NAME_FUNCTIONS, equals(NAME_FUNCTIONS))


@pytest.mark.rule("WSK-REG-005")
def test_capture_without_waiting(wsk: ObservedClient, observe: Observe) -> None:
    """With WSK_NO_WAIT the capture answers success or not ready at once."""
    wsk.run(Operation(function=Function.REGISTER, version=0x0100))
    captured = wsk.run(Operation(function=Function.CAPTURE, timeout_ms=0))
    rule = observe.rule("WSK-REG-005")
    rule.must("WskCaptureProviderNPI(WSK_NO_WAIT)", captured, returned("STATUS_SUCCESS", "STATUS_DEVICE_NOT_READY"))
    rule.must("answers at once", captured.call_s < 0.05, holds("within 50 ms", "later than after 50 ms"))


@pytest.mark.rule("WSK-REG-011")
def test_captures_are_counted(wsk: ObservedClient, observe: Observe) -> None:
    """Three captures and three releases leave nothing behind, and the registration can end."""
    rule = observe.rule("WSK-REG-011")
    wsk.run(Operation(function=Function.REGISTER, version=0x0100))
    for number in range(3):
        captured = wsk.run(Operation(function=Function.CAPTURE, timeout_ms=5000))
        rule.must("repeated capture", captured, returned("STATUS_SUCCESS"))
        if number:
            same = captured.has(RecordFlag.SAME_NPI)
            rule.record(f"capture {number + 1} equals the one before", same)
    for _ in range(3):
        rule.must("release", wsk.run(Operation(function=Function.RELEASE_NPI)), succeeded())
    ended = wsk.run(Operation(function=Function.DEREGISTER))
    rule.must("WskDeregister returns", ended, succeeded())


@pytest.mark.rule("WSK-REG-007")
def test_unsupported_version(wsk: ObservedClient, observe: Observe) -> None:
    """A version that no Windows has registers without error, and its capture is refused."""
    rule = observe.rule("WSK-REG-007")
    registered = wsk.run(Operation(function=Function.REGISTER, version=0xFF00))
    rule.must("WskRegister(0xFF00)", registered, returned("STATUS_SUCCESS"))
    captured = wsk.run(Operation(function=Function.CAPTURE, timeout_ms=0))
    rule.must("capture of version 0xFF00", captured, returned("STATUS_NOINTERFACE"))
    rule.record("captures", captured.captures)
