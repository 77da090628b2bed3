"""Cases that break the guest on purpose, for the test of whoever has to notice it.

They need a test build of the driver: `wsklab driver build --failures`, then

    wsklab run --guest wine-bookworm --driver .../wsklab.sys --case 'test_failures.py::*' -- tests/failures

With any other build every one of them is refused by the driver, which is a failed case and no crash.
"""

from __future__ import annotations

import pytest

from wsklab.abi import CallContext, Function, Switch
from wsklab.channel.operations import Operation
from wsklab.pytest_plugin import LeasedGuest, ObservedClient

#: A stop code that no fault of anybody has: MANUALLY_INITIATED_CRASH.
_STOP_CODE = 0xE2

pytestmark = pytest.mark.rule("WSK-IRP-001")


def _operation(function: Function, context: CallContext = CallContext.CALLER) -> Operation:
    parameters = {"flags": _STOP_CODE, "protocol": 0x11, "socket_context": 0x22}
    more = parameters if function is Function.FAIL_BUGCHECK else {}
    return Operation(function=function, switches=Switch.HAZARD, call_context=context, **more)


@pytest.mark.parametrize(
    "function",
    [
        Function.FAIL_NULL,
        Function.FAIL_USE_AFTER_FREE,
        Function.FAIL_DOUBLE_COMPLETION,
        Function.FAIL_STACK_OVERRUN,
        Function.FAIL_BUGCHECK,
    ],
    ids=lambda function: function.name.removeprefix("FAIL_").lower(),
)
def test_crash(wsk: ObservedClient, function: Function) -> None:
    """The driver does what no driver survives; nothing comes back."""
    record = wsk.run(_operation(function))
    raise AssertionError(f"nobody noticed: {record.describe()}")


@pytest.mark.parametrize("context", [CallContext.CALLER, CallContext.WORKER], ids=["dispatch", "worker"])
@pytest.mark.parametrize("function", [Function.FAIL_SPIN, Function.FAIL_DEADLOCK], ids=["spin", "deadlock"])
def test_hang(wsk: ObservedClient, guest: LeasedGuest, function: Function, context: CallContext) -> None:
    """The driver never comes back from an operation: in its dispatch routine, or beside it."""
    wsk.run(_operation(function, context), guest.within(3))


@pytest.mark.exclusive
def test_leak(guest: LeasedGuest, wsk: ObservedClient) -> None:
    """A client goes and its memory stays."""
    before = wsk.ledger().driver.pool_bytes
    other = guest.client()
    other.run(_operation(Function.FAIL_LEAK))
    other.close()
    other.finished = True
    left = wsk.ledger().driver.pool_bytes - before
    assert left < 1 << 20, f"{left} bytes were not freed with their client"


@pytest.mark.exclusive
def test_kernel_panic(guest: LeasedGuest, wsk: ObservedClient) -> None:
    """The kernel under Wine panics, as an administrator's hand makes it: wine guests only."""
    if guest.handle.kind != "wine":
        pytest.skip("only a wine guest has a Linux below")
    guest.run("linux: echo 1 >/proc/sys/kernel/sysrq; sync; echo c >/proc/sysrq-trigger")
    wsk.ledger()
    raise AssertionError("the kernel lives")
