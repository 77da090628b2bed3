r"""gdb at a driver in a wine guest: Wine's own debugger finds the driver host and serves gdb's remote protocol.

A driver host (`winedevice.exe`) is stopped while a debugger looks at it; when its debugger ends without detaching,
Wine ends the driver host with it. So whoever starts `serve` either lets gdb detach or calls `let_go`.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wsklab.channel.protocol import Channel, Stream
from wsklab.deadline import Deadline, NotYet, Timeouts, wait_until
from wsklab.errors import ChannelLost, ChannelProtocolError, DeadlineExceeded, DriverServiceError
from wsklab.service import DriverService, ServiceState
from wsklab.symbols import image_base

__all__ = ["DriverHost", "WineDebugger", "let_go", "symbol_offset"]

# Budgets for KVM, in seconds.
_SCRIPT_S: Final = 20.0
_LISTEN_S: Final = 20.0

# What winedbg may say in answer to a script.
_ANSWER_MAX: Final = 1 << 18

_PROCESS: Final = re.compile(r"([0-9a-f]{8})\s+\d+\s.*'winedevice\.exe'")
_MODULE: Final = re.compile(r"^(?:Wine-dbg>)?PE\s+([0-9a-f]{16})-[0-9a-f]{16}\s+\S+\s+(\S+)", re.MULTILINE)
_IMAGE_PATH: Final = re.compile(r"ImagePath\s+REG_\w+\s+(\S.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverHost:
    """The process that a driver runs in.

    Attributes:
        process: its number in Wine.
        image: the driver's file name, lower case.
        base: where the driver is in its memory.
    """

    process: int
    image: str
    base: int


class WineDebugger:
    """Wine's debugger in one guest."""

    def __init__(self, channel: Channel, timeouts: Timeouts) -> None:
        self._channel = channel
        self._timeouts = timeouts

    def find(self, service: str) -> DriverHost:
        """The host of a running driver; each driver host is stopped for a moment while it is looked at.

        Raises:
            DriverServiceError: the service does not run, or no host has its image.
        """
        image = self._image(service)
        for process in self._hosts():
            answer = self._script(f"attach 0x{process:x}", "info share", "detach")
            for base, name in _MODULE.findall(answer):
                if name.lower() == image:
                    return DriverHost(process=process, image=image, base=int(base, 16))
        raise DriverServiceError(
            f"no driver host has {image}",
            service=service,
            why="winedbg saw other modules only, or another debugger is attached",
            fix="`wsklab logs NAME --source driver` shows what was loaded",
        )

    def serve(self, host: DriverHost, port: int) -> Stream:
        """Stop a driver host and wait for one gdb at a TCP port of the guest; the stream ends when gdb has left.

        Raises:
            DeadlineExceeded, ChannelLost: winedbg did not get so far.
        """
        deadline = self._timeouts.after(_LISTEN_S)
        stream = self._channel.open_stream(f"winedbg --gdb --no-start --port {port} 0x{host.process:x}", deadline)

        def listens() -> bool | NotYet:
            self._require_running(stream, host)
            # a connection would be taken for gdb: the guest's own table is asked (0A is LISTEN)
            found = self._channel.run(f"linux: grep -c ':{port:04X} 00000000:0000 0A' /proc/net/tcp || true", deadline)
            return True if found.stdout.strip() not in {"", "0"} else NotYet("winedbg does not listen yet")

        try:
            wait_until(listens, deadline, what=f"winedbg at port {port}", tick_s=0.2)
        except BaseException:
            stream.close()
            raise
        return stream

    def _require_running(self, stream: Stream, host: DriverHost) -> None:
        """Nothing, as long as winedbg runs; it says nothing before gdb is there."""
        try:
            said = stream.receive(Deadline.after(0.01))
        except DeadlineExceeded:
            return
        raise ChannelLost(
            f"winedbg does not serve process {host.process:#x}",
            why=said.decode(errors="replace").strip()[:200] or stream.stderr_tail().strip()[-200:] or "it ended",
            fix="another debugger may be attached: `wsklab exec NAME 'linux: ps'`",
        )

    def _image(self, service: str) -> str:
        r"""The file name of a running service's image, from its registry key (Wine's `sc` has no `qc`)."""
        status = DriverService(self._channel, service).query(self._timeouts.after(10))
        if status.state is not ServiceState.RUNNING:
            raise DriverServiceError(
                f"driver service {service} does not run",
                service=service,
                state=status.state,
                why=f"its state is {status.state}",
                fix=f"`wsklab exec NAME -- sc start {service}`, or name another service",
            )
        key = rf"HKLM\System\CurrentControlSet\Services\{service}"
        answer = self._channel.run(f"reg query {key} /v ImagePath", self._timeouts.after(10))
        found = _IMAGE_PATH.search(answer.stdout)
        if found is None:
            raise ChannelProtocolError(f"the service {service} has no image path", why=answer.stdout[-200:])
        return found[1].strip().strip('"').replace("/", "\\").split("\\")[-1].lower()

    def _hosts(self) -> list[int]:
        """The driver hosts, the youngest first: that is where a driver of ours is."""
        return sorted((int(number, 16) for number in _PROCESS.findall(self._script("info process"))), reverse=True)

    def _script(self, *commands: str) -> str:
        """What winedbg answers to these commands."""
        deadline = self._timeouts.after(_SCRIPT_S)
        stream = self._channel.open_stream("winedbg", deadline)
        answer = bytearray()
        try:
            stream.send("\n".join([*commands, "quit", ""]).encode(), deadline)
            while (data := stream.receive(deadline)) and len(answer) < _ANSWER_MAX:
                answer += data
        finally:
            stream.close()
        return answer.decode(errors="replace")


def let_go(connection: socket.socket, timeout_s: float) -> bool:
    """Make a `serve` that no gdb came to detach, by saying so as gdb does; whether it answered."""
    connection.settimeout(timeout_s)
    answer = b""
    try:
        connection.sendall(b"$D#44")
        while b"OK" not in answer and len(answer) < 100:
            data = connection.recv(100)
            if not data:
                break
            answer += data
    except OSError:
        return False
    return b"OK" in answer


def symbol_offset(symbols: Path, base: int) -> int:
    """How far the driver is from where its debug file has it, as gdb's `add-symbol-file -o` takes it.

    Raises:
        HostError: the file is no PE image.
    """
    return (base - image_base(symbols)) % (1 << 64)
