"""The driver in the kernel shim, in a process of its own: milliseconds per try, sanitizers on, the host's loopback."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from local_wine import DEVICE, PipeStream
from shim_build import MISSING, build

from wsklab.channel.device import DeviceClient
from wsklab.channel.operations import WskClient
from wsklab.deadline import Deadline
from wsklab.errors import ChannelLost
from wsklab.records import SocketAddress

__all__ = ["LOOPBACK", "MISSING", "LocalShim", "address_of", "peer_listener"]

#: Another build, such as the one that counts lines (test_shim_coverage.py).
PRESET = os.environ.get("WSKLAB_SHIM_PRESET", "shim")

#: The driver's side: any free port of the loopback interface.
LOOPBACK = SocketAddress.of("127.0.0.1")


class LocalShim:
    """One shim with one driver; ends with the fixture, and its end has to be clean."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.errors = folder / "errors.log"
        self._built = build(PRESET, "wsklab", "wsklab-shim")
        self._options = options
        self.streams: list[PipeStream] = []

    def open_stream(self, command: str, deadline: Deadline) -> PipeStream:
        """A new process: kernel, driver, conversation."""
        argv = [str(self._built / "wsklab-shim"), "stdio", "--driver", str(self._built / "wsklab.so"), *self._options]
        stream = PipeStream(argv, dict(os.environ), self.errors)
        self.streams.append(stream)
        return stream

    @contextlib.contextmanager
    def clients(self, count: int = 1, *, call_s: float = 20.0) -> Iterator[list[WskClient]]:
        """So many handles of one driver; at the end the shim unloads it, and whatever is left over fails the test."""
        control = DeviceClient.open(self, Deadline.after(60))  # type: ignore[arg-type]
        try:
            with control:
                clients = [WskClient(control.open_device(DEVICE), call_s=call_s) for _ in range(count)]
                yield clients
                for client in clients:
                    client.close()
        except ChannelLost as lost:
            raise AssertionError(f"the shim ended in the middle:\n{self.errors.read_text()[-6000:]}") from lost
        code = self.streams.pop().wait(30)
        assert code == 0, f"the shim ended with {code}:\n{self.errors.read_text()[-6000:]}"


def address_of(sock: socket.socket) -> SocketAddress:
    """A host socket's own address, for the driver."""
    return SocketAddress.of(*sock.getsockname()[:2])


def peer_listener(host: str = "127.0.0.1") -> socket.socket:
    """A listening socket of the host."""
    sock = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.settimeout(10)
    return sock
