"""Admission: a full host is told before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsklab.admission import Limits, Room, fitting, require_room, shims_for, workers_for
from wsklab.errors import HostFull
from wsklab.lease import LAB_OWNER, SlotClaim

ROOM = Room(memory_total=8000, memory_available=6000, disk_free=10000, cores=4)
LIMITS = Limits(memory_reserve_mib=1024, disk_reserve_mib=1024, vcpus_per_core=2)


def _guest(**changes: object) -> SlotClaim:
    facts: dict[str, object] = {"owner": "me", "memory_mib": 512, "disk_mib": 2048, "vcpus": 2}
    return SlotClaim(**{**facts, **changes})  # type: ignore[arg-type]


def test_a_guest_that_fits_is_admitted() -> None:
    """No error."""
    require_room(ROOM, _guest(), [], LIMITS)


def test_promised_memory_counts_in_full() -> None:
    """Guests that use little today may use all of it tomorrow, whoever's they are."""
    with pytest.raises(HostFull, match="memory"):
        require_room(ROOM, _guest(), [_guest(memory_mib=2000, owner=owner) for owner in "abc"], LIMITS)


def test_available_memory_counts_too() -> None:
    """Other programs' memory is not ours."""
    with pytest.raises(HostFull, match="memory") as caught:
        require_room(ROOM, _guest(memory_mib=5000), [], LIMITS)
    assert "6000 of 8000 MiB available" in caught.value.why


def test_worst_case_disk_growth_counts(tmp_path: Path) -> None:
    """Overlays are admitted by what they can become; what one has used already it does not need again."""
    (tmp_path / "overlay.qcow2").write_bytes(b"x" * (3 << 20))
    wanted = _guest(directory=tmp_path, disk_mib=4000)
    with pytest.raises(HostFull, match="disk") as caught:
        require_room(ROOM, wanted, [_guest(directory=tmp_path, disk_mib=5000)], LIMITS)
    assert "4997 MiB promised to 1 guests" in caught.value.why
    require_room(ROOM, wanted, [_guest(directory=Path("/proc"), disk_mib=5000)], LIMITS)


def test_processors_are_promised_a_few_times_over() -> None:
    """Four cores with two each carry four guests of two, not five."""
    require_room(ROOM, _guest(), [_guest(disk_mib=0)] * 3, LIMITS)
    with pytest.raises(HostFull, match="processors"):
        require_room(ROOM, _guest(), [_guest(disk_mib=0)] * 4, LIMITS)


def test_guests_of_other_homes_are_named() -> None:
    """They are in no list of this home, so the error says where they are."""
    claims = [
        _guest(directory=Path(home) / "guests" / slot) for home, slot in (("/h/a", "1"), ("/h/b", "2"), ("/h/b", "3"))
    ]
    with pytest.raises(HostFull) as caught:
        require_room(ROOM, _guest(memory_mib=6000, directory=Path("/h/a")), claims, LIMITS)
    assert caught.value.fix.endswith("; guests of other homes: 2 of /h/b (WSKLAB_HOME=... wsklab gc)")
    with pytest.raises(HostFull) as caught:
        require_room(ROOM, _guest(memory_mib=6000, directory=Path("/h/a")), claims[:1], LIMITS)
    assert "other homes" not in caught.value.fix


@pytest.mark.parametrize(
    ("wanted", "there", "in_the_way"),
    [(_guest(), 4, 4), (_guest(memory_mib=7500), 2, 0), (_guest(vcpus=16), 1, 0), (_guest(disk_mib=20000), 1, 0)],
    ids=["crowded", "too much memory", "too many processors", "too much disk"],
)
def test_whether_waiting_helps(wanted: SlotClaim, there: int, in_the_way: int) -> None:
    """Only where the guest would fit on this host alone are the others in its way."""
    with pytest.raises(HostFull) as caught:
        require_room(ROOM, wanted, [_guest(disk_mib=0)] * there, LIMITS)
    assert caught.value.evidence["in_the_way"] == in_the_way


def test_a_user_s_quota() -> None:
    """Only the user's own guests count, and the error names the user, the number and the setting."""
    limits = Limits(memory_reserve_mib=0, disk_reserve_mib=0, vcpus_per_core=8, quota=2)
    require_room(ROOM, _guest(), [_guest(disk_mib=0), *[_guest(owner="you", disk_mib=0)] * 3], limits)
    with pytest.raises(HostFull, match="me holds 2 guests already, no more than 2") as caught:
        require_room(ROOM, _guest(), [_guest()] * 2, limits)
    assert "quota" in caught.value.why
    # templates are everybody's
    require_room(ROOM, _guest(owner=LAB_OWNER), [_guest(owner=LAB_OWNER, disk_mib=0)] * 3, limits)
    assert "wsklab down" in caught.value.fix


@pytest.mark.parametrize(
    ("profiles", "there", "each"),
    [
        (1, 0, 4),  # one guest for each core
        (2, 0, 2),
        (1, 5, 3),  # memory for three more
        (3, 0, 1),
        (1, 9, 1),  # it does not fit: `require_room` tells why
    ],
)
def test_how_many_fit(profiles: int, there: int, each: int) -> None:
    """Cores first, then memory; at least one of each, so that the refusal is told where it happens."""
    limits = Limits(memory_reserve_mib=1024, disk_reserve_mib=0, vcpus_per_core=64)
    wanted = [_guest(disk_mib=0)] * profiles
    assert fitting(ROOM, wanted, [_guest(disk_mib=0, memory_mib=700)] * there, limits) == each


@pytest.mark.parametrize(
    ("carries", "cores", "workers"),
    [
        ([4], 1, 2),
        ([4], 2, 4),
        ([4, 4], 2, 4),
        ([4] * 8, 2, 8),
        ([4], 64, 4),
        ([4] * 4, 64, 16),
        ([1, 1], 64, 2),
        ([1, 4], 64, 5),
    ],
)
def test_how_many_workers(carries: list[int], cores: int, workers: int) -> None:
    """One for each guest at least, as many as the guests carry at most, and two for each core in between."""
    assert workers_for(carries, cores) == workers


@pytest.mark.parametrize(
    ("workers", "profiles", "each"), [(0, 1, 1), (1, 1, 1), (4, 1, 4), (4, 2, 2), (5, 2, 3), (1, 3, 1), (64, 1, 16)]
)
def test_each_worker_gets_its_own_shim_guest(workers: int, profiles: int, each: int) -> None:
    """Never none, and never more than a run may have of one profile."""
    assert shims_for(workers, profiles) == each


def test_this_host_can_be_measured(tmp_path: Path) -> None:
    """The real files parse."""
    room = Room.of_host(tmp_path)

    assert 0 < room.memory_available <= room.memory_total
    assert room.disk_free > 0
    assert room.cores >= 1
