"""What crosses a guest's wire, in a ring of bounded memory, as a file for Wireshark when somebody asks.

One thread per guest reads copies of the packets from a socket in the wire's namespace. SSH is left out by a filter in
the kernel: it is the lab's own conversation, encrypted, and most of the traffic.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
import struct
import threading
import time
from collections import deque
from pathlib import Path
from typing import Final

from wsklab import network
from wsklab.artifacts import write_atomic
from wsklab.errors import HostError

__all__ = ["Capture"]

_ETH_P_ALL: Final = 3
_SO_ATTACH_FILTER: Final = 26
_SNAP: Final = 65535
_LINKTYPE_ETHERNET: Final = 1
_RECEIVE_BUFFER: Final = 4 << 20

#: Classic BPF: drop IPv4 TCP without options from or to port 22, take everything else.
_NO_SSH: Final = (
    (0x28, 0, 0, 12),  # ldh [12]: EtherType
    (0x15, 0, 8, 0x0800),  # IPv4, else take
    (0x30, 0, 0, 23),  # ldb [23]: protocol
    (0x15, 0, 6, 6),  # TCP, else take
    (0xB1, 0, 0, 14),  # ldxb 4*([14]&0xf): length of the IP header
    (0x48, 0, 0, 14),  # ldh [x + 14]: source port
    (0x15, 2, 0, 22),
    (0x48, 0, 0, 16),  # ldh [x + 16]: destination port
    (0x15, 0, 1, 22),
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, _SNAP),  # take
)


class Capture:
    """The packets of one wire, from `start` to `close`.

    Args:
        via: the wire's namespace.
        limit: how many bytes of packets are kept; the oldest go first.

    Raises:
        HostError: packets are for root, and for namespaces that can be entered.
    """

    def __init__(self, via: network.Via, *, limit: int = 4 << 20) -> None:
        self._limit = limit
        self._packets: deque[tuple[float, int, bytes]] = deque()
        self._size = 0
        self._lock = threading.Lock()
        try:
            self._socket = network.inside(via, _open)
        except OSError as error:
            raise HostError(
                "the packets of a wire cannot be read", why=str(error), fix="private mode as root can"
            ) from error
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._read, name="wsklab-capture", daemon=True)
        self._thread.start()

    def save(self, target: Path) -> int:
        """Write the packets of now as a pcap file; how many."""
        with self._lock:
            packets = list(self._packets)
        parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, _SNAP, _LINKTYPE_ETHERNET)]
        for at, length, data in packets:
            parts += [struct.pack("<IIII", int(at), int(at % 1 * 1e6), len(data), length), data]
        write_atomic(target, b"".join(parts))
        return len(packets)

    def close(self) -> None:
        """Stop reading; what is kept stays until the object goes."""
        with contextlib.suppress(OSError):
            os.close(self._stopped)
        self._thread.join(5.0)

    def _read(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        try:
            while True:
                ready = dict(poll.poll())
                if self._stop in ready or ready.get(self._socket.fileno(), 0) & select.POLLNVAL:
                    return
                self._take()
        finally:
            self._socket.close()
            os.close(self._stop)

    def _take(self) -> None:
        try:
            data, where = self._socket.recvfrom(_SNAP)
        except OSError:
            return
        if where[0] == "lo" and where[2] == socket.PACKET_OUTGOING:
            return  # the loopback shows each packet twice
        with self._lock:
            self._packets.append((time.time(), len(data), data))
            self._size += len(data)
            while self._size > self._limit:
                self._size -= len(self._packets.popleft()[2])


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    try:
        code = b"".join(struct.pack("=HBBI", *step) for step in _NO_SSH)
        kept = ctypes.create_string_buffer(code)
        program = bytes(_Filter(len(_NO_SSH), ctypes.cast(kept, ctypes.c_void_p)))
        opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    except BaseException:
        opened.close()
        raise
    return opened
