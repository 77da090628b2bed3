"""Whether the host has room for one more guest: told in one line, before anything is started."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsklab.errors import HostFull

__all__ = ["Room", "require_room"]

#: What QEMU itself takes beside the guest's memory, in MiB (translation cache of 128 MiB included).
_OVERHEAD_MIB = 192


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the host has, in MiB.

    Attributes:
        memory_total: its memory.
        memory_available: what can be had without swapping.
        disk_free: free space where the overlays are.
    """

    memory_total: int
    memory_available: int
    disk_free: int

    @classmethod
    def of_host(cls, store: Path, *, meminfo: Path = Path("/proc/meminfo")) -> Room:
        """Measure this host."""
        text = meminfo.read_text()
        values = {key: int(kib) // 1024 for key, kib in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
        space = os.statvfs(store)
        return cls(
            memory_total=values["MemTotal"],
            memory_available=values["MemAvailable"],
            disk_free=space.f_bavail * space.f_frsize // (1 << 20),
        )


def require_room(
    room: Room,
    *,
    memory_mib: int,
    disk_mib: int,
    running: Sequence[int],
    memory_reserve_mib: int,
    disk_reserve_mib: int,
) -> None:
    """Admit one guest or say why not.

    Args:
        room: what the host has.
        memory_mib: the new guest's memory.
        disk_mib: what its overlay can grow to.
        running: the memory of each guest that is there already: promised in full, whatever it uses now.
        memory_reserve_mib: memory that stays untouched.
        disk_reserve_mib: disk space that stays untouched.

    Raises:
        HostFull: not enough memory or disk.
    """
    need = memory_mib + _OVERHEAD_MIB
    promised = sum(memory + _OVERHEAD_MIB for memory in running)
    left = min(room.memory_total - promised, room.memory_available) - memory_reserve_mib
    if need > left:
        raise HostFull(
            f"not enough memory for one more guest: it needs {need} MiB, {max(left, 0)} MiB are left",
            why=f"{room.memory_available} of {room.memory_total} MiB available, {promised} MiB promised to "
            f"{len(running)} guests, {memory_reserve_mib} MiB reserved",
            fix="`wsklab list` and `wsklab down`, fewer --workers, or a smaller memory_reserve_mib",
        )
    if disk_mib + disk_reserve_mib > room.disk_free:
        raise HostFull(
            f"not enough disk for one more guest: its overlay can grow to {disk_mib} MiB, "
            f"{max(room.disk_free - disk_reserve_mib, 0)} MiB are left",
            why=f"{room.disk_free} MiB free, {disk_reserve_mib} MiB reserved",
            fix="`wsklab gc`, or a home on a larger disk (WSKLAB_HOME)",
        )
