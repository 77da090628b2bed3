"""Cases of a driver that is not wsklab's: an echo server (driver-src/examples/echo). See docs/own-driver.md."""

from __future__ import annotations

import struct

import pytest

from wsklab.deadline import NotYet, wait_until
from wsklab.pytest_plugin import LeasedGuest, Peer

PORT = 7007
#: CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, FILE_READ_ACCESS), and what it answers.
COUNTERS = 0x0022_6000
ANSWER = struct.Struct("<IIQ")


def counters(guest: LeasedGuest) -> tuple[int, int, int]:
    """Connections, the listener's status, bytes: by the driver's own device."""
    device = guest.device(r"\\.\wskecho")
    answer = device.ioctl(COUNTERS, b"", ANSWER.size, guest.within()).data
    device.close()
    return ANSWER.unpack(answer)


def await_listener(guest: LeasedGuest) -> None:
    """The guest's own TCP table shows the listener, which the driver makes in a thread of its own."""
    wait_until(
        lambda: bool(guest.net().listening(PORT)) or NotYet("nobody listens"),
        guest.within(),
        what="the echo port in the guest's table",
    )


@pytest.mark.exclusive  # the counters are the driver's, not the case's
def test_echo(guest: LeasedGuest, peer: Peer) -> None:
    """What a peer sends comes back, and the driver counts it."""
    await_listener(guest)
    connections, status, told = counters(guest)
    assert status == 0
    connection = peer.connect(PORT)
    for size in (1, 1000, 100_000):
        text = bytes(range(256)) * (size // 256 + 1)
        connection.send(text[:size])
        assert connection.receive(size) == text[:size]
    connection.finish()
    assert connection.end() in {
        "closed",
        "reset",
    }  # it only closes, which aborts (WSK-CLOSE-003); on Wine it ends the stream
    assert counters(guest) == (connections + 1, 0, told + 101_001)


@pytest.mark.exclusive
def test_reload(guest: LeasedGuest, peer: Peer) -> None:
    """Unloaded with a connection open and loaded again, three times: nothing of it stays in the guest, and it serves."""
    for _ in range(3):
        await_listener(guest)
        connection = peer.connect(PORT)
        connection.send(b"x")
        assert connection.receive(1) == b"x"
        (reload,) = guest.reload_driver(1)
        assert reload.failed == "", f"{reload.failed}: Win32 error {reload.win32}"
        assert connection.end() in {"closed", "reset"}
    await_listener(guest)
    assert peer.connect(PORT).local
