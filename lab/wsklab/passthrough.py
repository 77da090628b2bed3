"""A network card of the host in a guest: is it one, is it free, can it be taken? Experimental, never yet done.

Only what Linux itself says below /sys is asked (Documentation/ABI/testing/sysfs-bus-pci, -kernel-iommu_groups).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from wsklab.errors import HostError, UsageError

__all__ = ["require_card"]

_ADDRESS: Final = re.compile(r"(?:([0-9a-f]{4}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", re.IGNORECASE)
_NETWORK: Final = 0x02
#: A bridge in the group stays with the host: it is not handed on.
_BRIDGE: Final = 0x06


def require_card(address: str, *, root: Path = Path("/sys")) -> str:
    """The card's full address, `0000:03:00.0`.

    Args:
        root: another tree in tests.

    Raises:
        UsageError: no PCI address, or no network card. HostError: it cannot be taken, or the host uses it.
    """
    found = _ADDRESS.fullmatch(address.strip())
    if found is None:
        raise UsageError(f"not a PCI address: {address!r}", fix="lspci -D shows them, e.g. 0000:03:00.0")
    full = f"{found[1] or '0000'}:{found[2]}:{found[3]}.{found[4]}".lower()
    device = root / "bus/pci/devices" / full
    if not device.is_dir():
        raise UsageError(f"there is no PCI device {full}", why=f"{device} does not exist", fix="lspci -D")
    if _class_of(device) != _NETWORK:
        raise UsageError(f"{full} is no network card", why="its PCI class is another one", fix="lspci -D -d ::0200")
    group = device / "iommu_group/devices"
    if not group.is_dir():
        raise HostError(
            f"{full} cannot be given to a guest",
            why="it is in no IOMMU group: the host has no IOMMU, or it is switched off",
            fix="switch VT-d or AMD-Vi on in the firmware, and start the host with intel_iommu=on",
        )
    others = [other.name for other in sorted(group.iterdir()) if other.name != full and _class_of(other) != _BRIDGE]
    if others:
        raise HostError(
            f"{full} cannot be given to a guest alone",
            why=f"its IOMMU group has {', '.join(others)} as well",
            fix="put the card into another slot",
        )
    used = [card.name for card in sorted((device / "net").glob("*")) if _read(card / "operstate") == "up"]
    if used:
        raise HostError(
            f"the host uses {full}",
            why=f"its interface {used[0]} is up",
            fix=f"ip link set {used[0]} down, if nothing needs it: the lab does not take a card from its host",
        )
    return full


def _class_of(device: Path) -> int:
    """The device's base class."""
    try:
        return int(_read(device / "class"), 16) >> 16
    except ValueError:
        return -1


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return ""
