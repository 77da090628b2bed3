"""Whose fault it is: the classifier on its own."""

from __future__ import annotations

import pytest

from wsklab.crash import Fault, Signals, classify

ALIVE = {"domain_state": "running", "vcpu_progress": True, "agent_answers": True, "port_answers": True}


@pytest.mark.parametrize(
    ("signals", "fault", "words"),
    [
        ({**ALIVE, "operation": "accept 7"}, Fault.HUNG, "accept 7"),
        ({**ALIVE, "channel_lost": True}, Fault.LAB_ERROR, "control channel broke"),
        ({**ALIVE, "agent_answers": False, "port_answers": False, "channel_lost": True}, Fault.LAB_ERROR, "any path"),
        ({**ALIVE, "vcpu_progress": False, "operation": "accept 7"}, Fault.LAB_ERROR, "starved"),
        ({**ALIVE, "console_tail": "Kernel panic - not syncing: x"}, Fault.CRASHED, "Kernel panic"),
        ({**ALIVE, "console_tail": "wsklab: driver host died: winedevice"}, Fault.CRASHED, "driver's host"),
        ({**ALIVE, "console_tail": "wsklab: driver host ended: winedevice.exe 7"}, Fault.CRASHED, "nothing says why"),
        (
            {**ALIVE, "console_tail": "wsklab: driver host ended: winedevice.exe 7", "vcpu_progress": False},
            Fault.LAB_ERROR,
            "starved",
        ),
        ({**ALIVE, "events": ("panicked",)}, Fault.CRASHED, "reported a panic"),
        ({**ALIVE, "events": ("rebooted",)}, Fault.CRASHED, "rebooted"),
        ({"domain_state": "crashed"}, Fault.CRASHED, "kernel died"),
        ({"domain_state": "off", "channel_lost": True}, Fault.LAB_ERROR, "QEMU ended"),
        ({"domain_state": "off", "console_tail": "Kernel panic - not syncing"}, Fault.CRASHED, "kernel died"),
        ({"domain_state": "paused"}, Fault.LAB_ERROR, "paused"),
        ({"domain_state": "unknown"}, Fault.LAB_ERROR, "hypervisor"),
        ({"domain_state": "paused", "events": ("io_error",), "operation": "send 1"}, Fault.LAB_ERROR, "host full"),
    ],
)
def test_each_signal_has_its_verdict(signals: dict[str, object], fault: Fault, words: str) -> None:
    """The strongest evidence decides, and a lab fault never becomes a finding."""
    report = classify(Signals(**signals))  # type: ignore[arg-type]

    assert report.fault is fault
    assert words in report.reason


def test_an_expected_stop_is_no_crash() -> None:
    """A domain that the lab stopped is only lost, not dead of its own."""
    report = classify(Signals(domain_state="off", expected_stop=True, channel_lost=True))

    assert report.fault is Fault.LAB_ERROR
    assert "any path" in report.reason
