"""A fork made by hand: QEMU itself, its monitor, `ip`; nothing of libvirt and nothing of the lab's starting code.

It is the yardstick: the same template, the same machine to the last device, the same steps. The command line is that
of a fork which the lab made, with libvirt's descriptors replaced by paths.
"""

from __future__ import annotations

import array
import json
import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsklab import network
from wsklab.channel.agent import GuestAgent
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import ChannelLost, HypervisorError
from wsklab.process import Child, run, spawn
from wsklab.template import Template
from wsklab.waking import wake


def command_line_of(pid: int) -> list[str]:
    """The arguments of a running QEMU."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")


def by_hand(words: list[str], folder: Path, overlay: str, tap: str) -> list[str]:
    """A libvirt QEMU's command line without what only libvirt can give: descriptors, its secret, its sandbox."""
    result: list[str] = []
    pairs = iter(words[1:])
    for word in pairs:
        if word in {"-S", "-no-user-config", "-nodefaults", "-no-shutdown"}:
            result.append(word)
            continue
        value = next(pairs)
        if word in {"-add-fd", "-sandbox"} or "masterKey" in value:
            continue
        if word == "-chardev":
            value = value.split(",fd=")[0] if ",fd=" in value else value.split(",logfile=")[0]
            if "charmonitor" in value or "charchannel0" in value:
                name = "monitor" if "charmonitor" in value else "agent"
                value += f",path={folder / name},server=on,wait=off"
        if word == "-netdev":
            value = json.dumps({"type": "tap", "ifname": tap, "script": "no", "downscript": "no", "id": "hostnet0"})
        result += [word, value.replace(overlay, str(folder / "overlay.qcow2"))]
    return [words[0], *result]


class _Json:
    """One JSON conversation over a UNIX socket: QEMU's monitor, or its guest agent."""

    def __init__(self, path: Path, deadline: Deadline) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

        def connected() -> bool | NotYet:
            try:
                self._socket.connect(str(path))
            except OSError as error:
                return NotYet(str(error))
            return True

        wait_until(connected, deadline, what=str(path), tick_s=0.001, growth=1.0)
        self._buffer = b""

    def read(self, deadline: Deadline) -> dict[str, Any]:
        """The next document."""
        while b"\n" not in self._buffer:
            self._socket.settimeout(max(deadline.remaining_s, 0.01))
            part = self._socket.recv(65536)
            if not part:
                raise HypervisorError("QEMU closed the conversation")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return dict(json.loads(line))

    def ask(self, command: Mapping[str, object], deadline: Deadline, *, descriptor: int | None = None) -> Any:
        """One command; its `return`."""
        data = json.dumps(command).encode() + b"\n"
        if descriptor is None:
            self._socket.sendall(data)
        else:
            rights = array.array("i", [descriptor])
            self._socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        while True:
            answer = self.read(deadline)
            if "error" in answer:
                raise HypervisorError(str(answer["error"]))
            if "return" in answer:
                return answer["return"]

    def close(self) -> None:
        """End it."""
        self._socket.close()


class RawFork:
    """One fork by hand; `start` to `wake` are the steps, `close` takes everything away."""

    def __init__(self, words: list[str], overlay: str, template: Template, wires: network.Wires, number: int) -> None:
        self.folder = Path(f"/run/wsklab/raw-{os.getpid()}-{number}")  # a socket's path is short
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.wire = network.Wires.name_of(900 + number)
        self.via = wires.via(self.wire)
        self._argv = by_hand(words, self.folder, overlay, self.wire)
        self._template = template
        self._wires = wires
        self._child: Child | None = None
        self._monitor: _Json | None = None
        self._agent: _Json | None = None

    def start(self) -> None:
        """Overlay, wire, QEMU, device state; it is paused then."""
        deadline = Deadline.after(60)
        backing = ["-F", "qcow2", "-b", str(self._template.disk)]
        overlay = self.folder / "overlay.qcow2"
        run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(overlay)], deadline=deadline)
        self._wires.make(self.wire)
        holder = network.Via(Path(f"/proc/{self._wires.holder}/ns/net"))
        log = self.folder / "log"
        self._child = network.inside(holder, lambda: spawn(self._argv, stdout=log, stderr=log))
        self._monitor = _Json(self.folder / "monitor", deadline)
        self._monitor.read(deadline)
        self._qmp("qmp_capabilities")
        self._wires.plug(self.wire)
        capability = {"capability": "x-ignore-shared", "state": True}
        self._qmp("migrate-set-capabilities", capabilities=[capability])
        descriptor = os.open(self._template.state, os.O_RDONLY)
        self._qmp("getfd", descriptor=descriptor, fdname="state")
        os.close(descriptor)
        self._qmp("migrate-incoming", uri="fd:state")
        wait_until(
            lambda: True if self._qmp("query-migrate").get("status") == "completed" else NotYet(),
            deadline,
            what="the device state",
            tick_s=0.001,
            growth=1.0,
        )

    def resume(self) -> None:
        """Let it run."""
        self._qmp("cont")

    def agent_answers(self) -> None:
        """Wait for the guest agent's first answer."""
        self._guest_agent().wait(Deadline.after(60))

    def wake(self) -> None:
        """Clock and randomness, as the lab does it."""
        wake(self._guest_agent(), Deadline.after(60))

    def _guest_agent(self) -> GuestAgent:
        if self._agent is None:
            self._agent = _Json(self.folder / "agent", Deadline.after(10))
            # QEMU's documentation of the agent asks for this at the beginning of a conversation; libvirt does it, too
            self._agent.ask({"execute": "guest-sync", "arguments": {"id": 4711}}, Deadline.after(60))
        agent = self._agent

        def send(command: Mapping[str, object], deadline: Deadline) -> Mapping[str, object]:
            return {"return": agent.ask(command, deadline)}

        return GuestAgent(send)

    def _qmp(self, command: str, *, descriptor: int | None = None, **arguments: object) -> Any:
        assert self._monitor is not None
        document = {"execute": command, **({"arguments": arguments} if arguments else {})}
        return self._monitor.ask(document, Deadline.after(30), descriptor=descriptor)

    @property
    def pid(self) -> int:
        """QEMU's."""
        assert self._child is not None
        return self._child.pid

    def connect(self, deadline: Deadline) -> socket.socket:
        """A connection to its SSH server."""

        def connected() -> socket.socket | NotYet:
            try:
                return network.connect(self.via, (network.WIRE_GUEST, 22), deadline)
            except ChannelLost as error:
                return NotYet(error.why)

        return wait_until(connected, deadline, what="port 22", tick_s=0.005)

    def close(self) -> None:
        """QEMU, wire, files."""
        for conversation in (self._monitor, self._agent):
            if conversation is not None:
                conversation.close()
        if self._child is not None:
            self._child.terminate(Deadline.after(5))
        self._wires.remove(self.wire)
        shutil.rmtree(self.folder, ignore_errors=True)
