"""Which libvirt daemon serves the guests, and why: decided once, said in one line."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from wsklab.config import ModeSetting
from wsklab.errors import HostError

__all__ = ["HostFacts", "ModeChoice", "choose_mode", "observe_host"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What the choice depends on.

    Attributes:
        root: whether the lab runs as root (private mode makes namespaces).
        service_manager: whether systemd runs this host (`/run/systemd/system`, see sd_booted(3)).
        socket: whether a system-wide libvirt daemon offers a socket.
    """

    root: bool
    service_manager: bool
    socket: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeChoice:
    """The mode (`SYSTEM` or `PRIVATE`) and the reason for it, for people."""

    mode: ModeSetting
    why: str


def observe_host(root: Path = Path("/")) -> HostFacts:
    """Look at this host; `root` is another tree in tests."""
    sockets = ("run/libvirt/libvirt-sock", "run/libvirt/virtqemud-sock")
    return HostFacts(
        root=os.geteuid() == 0,
        service_manager=(root / "run/systemd/system").is_dir(),
        socket=any((root / name).exists() for name in sockets),
    )


def choose_mode(setting: ModeSetting, facts: HostFacts) -> ModeChoice:
    """Resolve `auto`.

    Raises:
        HostError: private mode is needed and we are not root.
    """
    if setting is ModeSetting.SYSTEM:
        return ModeChoice(mode=ModeSetting.SYSTEM, why="the setting mode says so")
    if setting is ModeSetting.AUTO and facts.service_manager:
        return ModeChoice(mode=ModeSetting.SYSTEM, why="a service manager runs this host's libvirt daemon")
    if facts.root:
        why = "the setting mode says so" if setting is ModeSetting.PRIVATE else "no service manager runs libvirtd here"
        return ModeChoice(mode=ModeSetting.PRIVATE, why=why)
    if setting is ModeSetting.AUTO and facts.socket:
        return ModeChoice(mode=ModeSetting.SYSTEM, why="a libvirt daemon answers and we are not root")
    raise HostError(
        "no libvirt daemon can serve the guests",
        why="the lab's own daemon (private mode) needs root, and no system-wide daemon offers a socket",
        fix="run as root, or start the distribution's libvirtd",
    )
