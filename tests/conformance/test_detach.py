"""Detaching (WSK-DET)."""

from __future__ import annotations

import pytest

from wsklab.abi import Category, Function, Switch
from wsklab.channel.operations import Operation
from wsklab.pytest_plugin import Observe, ObservedClient, Scene
from wsklab.pytest_plugin.matchers import holds, returned, succeeded
from wsklab.pytest_plugin.quiet import STILL_PENDING_S

#: Cycles of registration in one load of the driver.
CYCLES = 25


@pytest.mark.rule("WSK-DET-001")
def test_registration_cycles(wsk: ObservedClient, observe: Observe) -> None:
    """Register, capture, create and close a socket, release, deregister: again and again, each end within a second."""
    rule = observe.rule("WSK-DET-001")
    for _ in range(CYCLES):
        registered = wsk.run(Operation(function=Function.REGISTER, version=0x0100))
        rule.must("WskRegister", registered, returned("STATUS_SUCCESS"))
        captured = wsk.run(Operation(function=Function.CAPTURE, timeout_ms=5000))
        rule.must("WskCaptureProviderNPI", captured, returned("STATUS_SUCCESS"))
        made = wsk.socket(Category.LISTEN)
        rule.must("creation", made, succeeded())
        rule.must("close", wsk.close_socket(made.new_socket), succeeded())
        rule.must("WskReleaseProviderNPI", wsk.run(Operation(function=Function.RELEASE_NPI)), succeeded())
        ended = wsk.run(Operation(function=Function.DEREGISTER))
        rule.must("WskDeregister", ended, succeeded())
        rule.must("WskDeregister's time", ended.call_s < 1.0, holds("below 1 s", "1 s or more"))
    ledger = wsk.ledger().client
    rule.must("IRPs", ledger.irps_allocated == ledger.irps_freed, holds("all freed", "some kept"))


@pytest.mark.rule("WSK-DET-002")
def test_deregister_waits_for_captures(wsk: ObservedClient, scene: Scene, observe: Observe) -> None:
    """With a capture outstanding WskDeregister does not return; the release lets it."""
    rule = observe.rule("WSK-DET-002")
    wsk.run(Operation(function=Function.REGISTER, version=0x0100))
    captured = wsk.run(Operation(function=Function.CAPTURE, timeout_ms=5000))
    rule.must("preparation: capture", captured, returned("STATUS_SUCCESS"))
    ending = wsk.submit(Operation(function=Function.DEREGISTER))
    scene.quiet(STILL_PENDING_S)
    waits = not ending.fetch(scene.guest.within()).final
    # released before anything is asserted: a capture must not outlive the case
    wsk.run(Operation(function=Function.RELEASE_NPI))
    rule.must("WskDeregister while captured", waits, holds("pending", "completed already"))
    rule.must("WskDeregister after the release", ending.result(scene.guest.within()), succeeded())


@pytest.mark.rule("WSK-DET-006")
def test_capture_after_deregister(wsk: ObservedClient, observe: Observe) -> None:
    """A capture with a deregistered block is refused."""
    rule = observe.rule("WSK-DET-006")
    wsk.run(Operation(function=Function.REGISTER, version=0x0100))
    rule.must("preparation: deregister", wsk.run(Operation(function=Function.DEREGISTER)), succeeded())
    late = wsk.run(Operation(function=Function.CAPTURE, timeout_ms=0, switches=Switch.AFTER_DEREGISTER))
    rule.must("capture after WskDeregister", late, returned("STATUS_DEVICE_NOT_READY"))


@pytest.mark.rule("WSK-DET-007")
def test_sockets_outlive_the_release(scene: Scene, observe: Observe) -> None:
    """A socket that was created under a capture binds, accepts and echoes after the release."""
    wsk = scene.wsk
    rule = observe.rule("WSK-DET-007")
    wsk.run(Operation(function=Function.REGISTER, version=0x0100))
    wsk.run(Operation(function=Function.CAPTURE, timeout_ms=5000))
    made = wsk.socket(Category.LISTEN)
    rule.must("preparation: creation", made, succeeded())
    rule.must("preparation: release", wsk.run(Operation(function=Function.RELEASE_NPI)), succeeded())
    rule.must("bind", wsk.bind(made.new_socket, scene.address()), succeeded())
    pair = scene.accepted(rule, made.new_socket)
    rule.must("send", wsk.send(pair.socket, b"alive"), succeeded())
