"""Whether the host has room for one more guest: told in one line, before anything is started.

Guests of all homes count, each with all that it may use, whatever it uses now: the claims of the slot
table say so, and admission happens under that table's lock.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsklab.config import MAX_GUESTS_EACH
from wsklab.errors import HostFull
from wsklab.lease import LAB_OWNER, SlotClaim

__all__ = ["Limits", "Room", "fitting", "require_room", "shims_for", "workers_for"]

#: What QEMU itself takes beside the guest's memory, in MiB (translation cache of 128 MiB included).
_OVERHEAD_MIB = 192

_GIVE_BACK = "`wsklab list` shows the guests, `wsklab down NAME` gives one back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the host has; memory and disk in MiB.

    Attributes:
        memory_total: its memory.
        memory_available: what can be had without swapping.
        disk_free: free space where the overlays are.
        cores: processors that this process may use.
    """

    memory_total: int
    memory_available: int
    disk_free: int
    cores: int

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
            cores=len(os.sched_getaffinity(0)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the settings leave alone, and what a user may have.

    Attributes:
        memory_reserve_mib: memory that stays untouched.
        disk_reserve_mib: disk space that stays untouched.
        vcpus_per_core: most virtual processors for each processor of the host.
        quota: most guests of one user; None: no limit.
    """

    memory_reserve_mib: int
    disk_reserve_mib: int
    vcpus_per_core: int
    quota: int | None = None


def require_room(room: Room, wanted: SlotClaim, claims: Sequence[SlotClaim], limits: Limits) -> None:
    """Admit one guest or say why not.

    Args:
        room: what the host has.
        wanted: the new guest; its directory is this lab's home.
        claims: the guests that are there already, of all homes and users.

    Raises:
        HostFull: not enough memory, disk or processors, or the user has as many guests as allowed.
            `evidence["in_the_way"]`: how many guests have to end first; 0 when that would not help.
    """
    own = sum(claim.owner == wanted.owner for claim in claims)
    if limits.quota is not None and own >= limits.quota and wanted.owner != LAB_OWNER:
        raise HostFull(
            f"{wanted.owner} holds {own} guests already, no more than {limits.quota} are allowed",
            why=f"the setting quota is {limits.quota}",
            fix=_GIVE_BACK,
        )
    try:
        _require(room, wanted, claims, limits)
    except HostFull as full:
        full.evidence["in_the_way"] = len(claims) if _fits_alone(room, wanted, limits) else 0
        full.fix += _elsewhere(wanted, claims)
        raise


def _elsewhere(wanted: SlotClaim, claims: Sequence[SlotClaim]) -> str:
    """Guests of other homes count, and no command of this home shows them: where they are.

    One whose lab was killed counts until somebody sweeps its home, or the host restarts.
    """
    others = [claim.directory for claim in claims if claim.directory != Path()]
    homes = Counter(str(path.parent.parent) for path in others if not path.is_relative_to(wanted.directory))
    named = ", ".join(f"{count} of {home}" for home, count in homes.most_common(3))
    return f"; guests of other homes: {named} (WSKLAB_HOME=... wsklab gc)" if named else ""


def _fits_alone(room: Room, wanted: SlotClaim, limits: Limits) -> bool:
    try:
        _require(replace(room, memory_available=room.memory_total), wanted, (), limits)
    except HostFull:
        return False
    return True


def _require(room: Room, wanted: SlotClaim, claims: Sequence[SlotClaim], limits: Limits) -> None:
    _require_memory(room, wanted, claims, limits)
    vcpus = sum(claim.vcpus for claim in claims)
    if vcpus + wanted.vcpus > room.cores * limits.vcpus_per_core:
        raise HostFull(
            f"not enough processors for one more guest: it needs {wanted.vcpus} virtual ones, "
            f"{max(room.cores * limits.vcpus_per_core - vcpus, 0)} are left",
            why=f"{room.cores} cores with {limits.vcpus_per_core} each, {vcpus} promised to {len(claims)} guests",
            fix=f"{_GIVE_BACK}; or a larger vcpus_per_core",
        )
    promised = _growth(claims, wanted.directory)
    left = room.disk_free - promised - limits.disk_reserve_mib
    if wanted.disk_mib > left:
        raise HostFull(
            f"not enough disk for one more guest: its overlay can grow to {wanted.disk_mib} MiB, "
            f"{max(left, 0)} MiB are left",
            why=f"{room.disk_free} MiB free, {promised} MiB promised to {len(claims)} guests, "
            f"{limits.disk_reserve_mib} MiB reserved",
            fix="`wsklab gc`, or a home on a larger disk (WSKLAB_HOME)",
        )


def _require_memory(room: Room, wanted: SlotClaim, claims: Sequence[SlotClaim], limits: Limits) -> None:
    need = wanted.memory_mib + _OVERHEAD_MIB
    promised = sum(claim.memory_mib + _OVERHEAD_MIB for claim in claims)
    left = min(room.memory_total - promised, room.memory_available) - limits.memory_reserve_mib
    if need > left:
        raise HostFull(
            f"not enough memory for one more guest: it needs {need} MiB, {max(left, 0)} MiB are left",
            why=f"{room.memory_available} of {room.memory_total} MiB available, {promised} MiB promised to "
            f"{len(claims)} guests, {limits.memory_reserve_mib} MiB reserved",
            fix=f"{_GIVE_BACK}; or fewer --guests-each, or a smaller memory_reserve_mib",
        )


def _growth(claims: Iterable[SlotClaim], store: Path) -> int:
    """How much the overlays of guests on the same file system as `store` can still grow, in MiB."""
    grows = 0
    for claim in claims:
        try:
            if claim.directory.stat().st_dev != store.stat().st_dev:
                continue
            used = sum(path.stat().st_blocks for path in claim.directory.iterdir()) // 2048
        except OSError:  # another user's guest, or one that is just leaving: as if it had used nothing
            used = 0
        grows += max(claim.disk_mib - used, 0)
    return grows


def fitting(room: Room, wanted: Sequence[SlotClaim], claims: Sequence[SlotClaim], limits: Limits) -> int:
    """How many guests of each kind in `wanted` fit beside those that are there; at least 1.

    A guest that is at work wants a processor of its own, so there are no more than cores, however much
    memory is free. Whether the first of each fits is left to `require_room`, which says why not.
    """
    taken = list(claims)
    for count in range(room.cores // max(len(wanted), 1)):
        for claim in wanted:
            try:
                require_room(room, claim, taken, limits)
            except HostFull:
                return max(count, 1)
            taken.append(claim)
    return max(room.cores // max(len(wanted), 1), 1)


def workers_for(shared_leases: Sequence[int], cores: int) -> int:
    """How many workers keep guests busy: a case waits more than it computes, so there may be more than guests.

    Args:
        shared_leases: of each guest, how many cases it carries at the same time.
        cores: processors of the host; each serves two workers.
    """
    return max(len(shared_leases), min(sum(shared_leases), 2 * cores))


def shims_for(workers: int, profiles: int) -> int:
    """How many guests of each of so many shim profiles give each worker its own, as far as a run may have them."""
    return max(1, min(-(-workers // profiles), MAX_GUESTS_EACH))
