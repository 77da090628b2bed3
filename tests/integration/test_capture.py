"""Packets of a wire: a real network namespace, real packets, a file that names them; SSH is left out."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsklab import network
from wsklab.capture import Capture
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.process import run, spawn

#: The one port whose packets are nobody's business.
_SSH = 22


@pytest.fixture
def via() -> Iterator[network.Via]:
    """A namespace with a loopback that is up."""
    if os.geteuid() != 0:
        pytest.skip("packets are for root")
    child = spawn(("unshare", "--net", "--", "sleep", "600"))
    made = network.Via(Path(f"/proc/{child.pid}/ns/net"))
    own = Path("/proc/self/ns/net").readlink()
    try:
        wait_until(
            lambda: (made.netns is not None and made.netns.readlink() != own) or NotYet("in ours"),
            Deadline.after(10), what="the namespace",
        )  # fmt: skip
        network.inside(made, lambda: run(("ip", "link", "set", "lo", "up"), deadline=Deadline.after(10)))
        yield made
    finally:
        child.terminate(Deadline.after(5))


@pytest.fixture
def sink(via: network.Via) -> Iterator[socket.socket]:
    """Where datagrams go."""
    with network.bind_datagram(via, ("127.0.0.1", 0)) as bound:
        yield bound


def datagram(via: network.Via, sink: socket.socket, data: bytes) -> None:
    """One UDP datagram over the loopback."""
    with network.bind_datagram(via, ("127.0.0.1", 0)) as sender:
        sender.sendto(data, sink.getsockname())


def packets(file: Path) -> list[bytes]:
    """The packets of a pcap file."""
    data = file.read_bytes()
    assert struct.unpack_from("<IHH", data) == (0xA1B2C3D4, 2, 4)
    found, at = [], 24
    while at < len(data):
        (kept,) = struct.unpack_from("<I", data, at + 8)
        found.append(data[at + 16 : at + 16 + kept])
        at += 16 + kept
    return found


def test_what_crosses_the_wire_is_kept_once(via: network.Via, sink: socket.socket, tmp_path: Path) -> None:
    """A datagram is in the file, once, although the loopback shows it twice; a connection to port 22 is not."""
    capture = Capture(via)
    try:
        address = ("127.0.0.1", _SSH)
        with network.listen(via, address), network.connect(via, address, Deadline.after(5)) as ssh:
            ssh.sendall(b"this is SSH")
        datagram(via, sink, b"a datagram of the case")

        def there() -> bool | NotYet:
            capture.save(tmp_path / "capture.pcap")
            found = packets(tmp_path / "capture.pcap")
            return any(b"a datagram of the case" in packet[42:] for packet in found) or NotYet(str(len(found)))

        wait_until(there, Deadline.after(10), what="the datagram")
        whole = packets(tmp_path / "capture.pcap")
        assert sum(packet[23] == 17 and b"a datagram of the case" in packet for packet in whole) == 1
        assert not any(b"this is SSH" in packet for packet in whole)
    finally:
        capture.close()


def test_the_ring_forgets_the_oldest(via: network.Via, sink: socket.socket, tmp_path: Path) -> None:
    """What is kept is bounded; the newest stay."""
    capture = Capture(via, limit=20_000)
    try:
        for number in range(100):
            datagram(via, sink, f"number {number:03} ".encode() * 50)

        def last() -> bool | NotYet:
            capture.save(tmp_path / "capture.pcap")
            return b"number 099" in (tmp_path / "capture.pcap").read_bytes() or NotYet("on its way")

        wait_until(last, Deadline.after(10), what="the last datagram")
        data = (tmp_path / "capture.pcap").read_bytes()
        assert len(data) < 22_000
        assert b"number 000" not in data
    finally:
        capture.close()
