"""Whose fault it is: the classifier on its own."""

from __future__ import annotations

import pytest

from wsklab.crash import Cause, Fault, Signals, classify
from wsklab.wine_crash import find_wine_crash

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


@pytest.mark.parametrize(
    ("signals", "cause"),
    [
        (
            {**ALIVE, "console_tail": "wsklab: driver host died: winedevice.exe 7: wine: Unhandled x"},
            Cause.DRIVER_CRASH,
        ),
        ({**ALIVE, "console_tail": "Kernel panic - not syncing: sysrq"}, Cause.KERNEL_CRASH),
        ({**ALIVE, "operation": "send 1"}, Cause.DRIVER_HANG),
        ({**ALIVE, "channel_lost": True}, Cause.CHANNEL_LOST),
        ({**ALIVE, "vcpu_progress": False}, Cause.HOST_STARVED),
        ({"domain_state": "paused", "events": ("io_error",)}, Cause.HOST_FULL),
        ({"domain_state": "off", "events": ("crashed",), "channel_lost": True}, Cause.LAB_BUG),
        ({"domain_state": "paused"}, Cause.LAB_BUG),
        ({"domain_state": "unknown"}, Cause.LAB_BUG),
    ],
)
def test_each_cause_is_told_apart(signals: dict[str, object], cause: Cause) -> None:
    """Seven causes; QEMU that ends by itself, which libvirt calls a crash, is no crash of the driver's."""
    report = classify(Signals(**signals))  # type: ignore[arg-type]

    assert report.cause is cause
    assert report.fault is cause.fault
    assert not report.final


def test_a_crash_has_the_same_bucket_whenever_it_comes() -> None:
    """Addresses, process numbers and threads are no part of it."""
    lines = [
        "wsklab: driver host died: winedevice.exe 533: wine: Unhandled page fault on write access to 0000000000000000"
        " at address 00000000021A6ACD (thread 00bc), starting debugger...",
        "wsklab: driver host died: winedevice.exe 61: wine: Unhandled page fault on write access to 0000000000000000"
        " at address 00000000031B6ACD (thread 01a0), starting debugger...",
    ]
    buckets = {classify(Signals(**{**ALIVE, "console_tail": line})).bucket for line in lines}  # type: ignore[arg-type]

    assert len(buckets) == 1
    assert "page fault on write access" in buckets.pop()


def test_a_stop_of_windows_has_its_code_as_bucket() -> None:
    """The code, not the parameters, which are addresses."""
    line = "*** STOP: 0x000000D1 (0x0000000000000010,0x0000000000000002,0x0000000000000000,0xFFFFF80012345678)"
    report = classify(Signals(**{**ALIVE, "console_tail": line}))  # type: ignore[arg-type]

    assert report.bucket == "0xD1"
    assert "DRIVER_IRQL_NOT_LESS_OR_EQUAL" in report.reason


#: What a wine guest kept of a driver host that died (a deliberate failure, from a run of this lab).
_WINE_LOG = r"""0024:trace:loaddll:build_module Loaded L"C:\windows\system32\ntoskrnl.exe" at 000000031CA80000: builtin
0024:trace:loaddll:build_module Loaded L"C:\wsklab\wsklab-a4acbf5f1720.sys" at 00000000021A0000: native
wine: Unhandled page fault on write access to 0000000000000000 at address 00000000021A6ACD (thread 00bc), starting
"""


def test_a_fault_is_placed_in_its_module() -> None:
    """The last fault, the module that it is in, and how far behind its base."""
    crash = find_wine_crash(_WINE_LOG)

    assert crash is not None
    assert (crash.module, crash.offset) == ("wsklab-a4acbf5f1720.sys", 0x6ACD)
    assert crash.what == "page fault on write access to 0000000000000000"
    assert crash.bucket("WriteToNull") == "page fault on write access to N wsklab-a4acbf5f1720.sys!WriteToNull"


def test_a_stop_on_wine_has_code_and_parameters() -> None:
    """KeBugCheckEx ends the process; Wine's own line has all five numbers."""
    crash = find_wine_crash(_WINE_LOG + "00bc:err:ntoskrnl:KeBugCheckEx e2 11 22 0 0\n")

    assert crash is not None
    assert crash.bugcheck is not None
    assert (crash.bugcheck.code, crash.bugcheck.parameters) == (0xE2, (0x11, 0x22, 0, 0))
    assert crash.bucket().startswith("0xE2")


@pytest.mark.parametrize("text", ["", "wine: Unhandled", _WINE_LOG[:100], "wine: Unhandled x at address zz"])
def test_a_log_without_a_crash(text: str) -> None:
    """Nothing is made up."""
    assert find_wine_crash(text) is None
