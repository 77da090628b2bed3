"""Admission: a full host is told before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsklab.admission import Room, require_room
from wsklab.errors import HostFull

ROOM = Room(memory_total=8000, memory_available=6000, disk_free=10000)


def _ask(**changes: object) -> None:
    arguments: dict[str, object] = {
        "memory_mib": 512,
        "disk_mib": 2048,
        "running": [],
        "memory_reserve_mib": 1024,
        "disk_reserve_mib": 1024,
    }
    require_room(ROOM, **{**arguments, **changes})  # type: ignore[arg-type]


def test_a_guest_that_fits_is_admitted() -> None:
    """No error."""
    _ask()


def test_promised_memory_counts_in_full() -> None:
    """Guests that use little today may use all of it tomorrow."""
    with pytest.raises(HostFull, match="memory"):
        _ask(running=[2000, 2000, 2000])


def test_available_memory_counts_too() -> None:
    """Other programs' memory is not ours."""
    with pytest.raises(HostFull, match="memory"):
        _ask(memory_mib=5000)


def test_worst_case_disk_growth_counts() -> None:
    """An overlay is admitted by what it can become."""
    with pytest.raises(HostFull, match="disk"):
        _ask(disk_mib=9500)


def test_this_host_can_be_measured(tmp_path: Path) -> None:
    """The real files parse."""
    room = Room.of_host(tmp_path)

    assert 0 < room.memory_available <= room.memory_total
    assert room.disk_free > 0
