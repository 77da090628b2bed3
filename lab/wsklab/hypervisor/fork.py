"""Freezing a guest into a template and continuing from it, by QEMU's monitor.

A migration into a file that leaves the memory out (`x-ignore-shared`): the memory is a file already. What is
written, half a megabyte, is the state of the devices. A fork maps the same memory file privately and reads that
state. libvirt has no call for either, so its monitor pass-through is used; descriptors are handed over, so QEMU
opens no file itself here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import libvirt
import libvirt_qemu

from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import DeadlineExceeded, HypervisorError

__all__ = ["freeze", "thaw"]

_FD_NAME: Final = "wsklab-state"


def freeze(domain: Any, state: Path, deadline: Deadline) -> None:
    """Write the device state of a paused domain; its memory must be a shared file.

    Raises:
        HypervisorError: QEMU refuses, or the file cannot be written. libvirtError: libvirt refuses.
    """
    if "share=on" not in domain.XMLDesc(0):
        raise HypervisorError("only a guest whose memory is a shared file can be frozen", why="its memory is its own")
    descriptor = _open(state, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        _migrate(domain, descriptor, "migrate", deadline)
    finally:
        os.close(descriptor)


def thaw(domain: Any, state: Path, deadline: Deadline) -> None:
    """Load a device state into a domain that was started paused and waits for it; it is paused afterwards.

    Raises:
        HypervisorError: the state does not fit the domain or is damaged. libvirtError: libvirt refuses.
    """
    descriptor = _open(state, os.O_RDONLY)
    try:
        _migrate(domain, descriptor, "migrate-incoming", deadline)
    finally:
        os.close(descriptor)


def _migrate(domain: Any, descriptor: int, command: str, deadline: Deadline) -> None:
    """One migration over a descriptor, from its capability to its end."""
    capability = {"capability": "x-ignore-shared", "state": True}
    _ask(domain, "migrate-set-capabilities", {"capabilities": [capability]})
    get = json.dumps({"execute": "getfd", "arguments": {"fdname": _FD_NAME}})
    answer, _ = libvirt_qemu.qemuMonitorCommandWithFiles(domain, get, [descriptor], 0)
    _result("getfd", answer)
    _ask(domain, command, {"uri": f"fd:{_FD_NAME}"})

    def ended() -> bool | NotYet:
        status = str(_ask(domain, "query-migrate", {}).get("status", "none"))
        if status in {"failed", "cancelled"}:
            raise HypervisorError(f"{command} {status}", why="QEMU's own words are in the domain's log")
        return True if status == "completed" else NotYet(status)

    try:
        wait_until(ended, deadline, what=f"QEMU's {command}", tick_s=0.002)
    except DeadlineExceeded as error:
        raise HypervisorError(f"{command} did not end", why=error.why) from error
    except libvirt.libvirtError as error:
        # a state that does not fit makes QEMU exit, and its monitor with it
        if not domain.isActive():
            raise HypervisorError(f"QEMU ended during {command}", why=str(error)) from error
        raise


def _ask(domain: Any, command: str, arguments: Mapping[str, object]) -> Mapping[str, Any]:
    text = json.dumps({"execute": command, "arguments": arguments})
    return _result(command, libvirt_qemu.qemuMonitorCommand(domain, text, 0))


def _result(command: str, answer: str) -> Mapping[str, Any]:
    """The monitor's answer; libvirt passes errors on as they are."""
    document = json.loads(answer)
    if "error" in document:
        raise HypervisorError(f"QEMU refused {command}", why=str(document["error"].get("desc", document["error"])))
    value = document.get("return", {})
    return value if isinstance(value, dict) else {}


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise HypervisorError(f"cannot open the device state {path}", why=str(error)) from error
