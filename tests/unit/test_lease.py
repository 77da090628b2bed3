"""Claims: slots of the host, and when a lease is over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from wsklab.domain_mark import DomainMetadata
from wsklab.errors import HostFull, UsageError
from wsklab.lease import (
    FIRST_SLOT,
    GRACE,
    LAST_SLOT,
    LeaseState,
    SlotClaim,
    SlotTable,
    expiry_after,
    lease_state,
    parse_duration,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def _mark(*, run: str = "", expires: str = "") -> DomainMetadata:
    return DomainMetadata(
        home="h", owner="me", purpose="test", run=run, profile="wine-bookworm", slot=10, expires=expires
    )


def _maker(root: Path, tag: str = "g") -> Callable[[int], Path]:
    def make(slot: int) -> Path:
        directory = root / f"{slot}-{tag}"
        directory.mkdir()
        return directory

    return make


def test_slots_are_different(tmp_path: Path) -> None:
    """Two claims never share a number."""
    table = SlotTable(tmp_path / "slots")

    assert table.claim(_maker(tmp_path, "a"))[0] == FIRST_SLOT
    assert table.claim(_maker(tmp_path, "b"))[0] == FIRST_SLOT + 1


def test_twenty_claims_at_once_get_twenty_slots(tmp_path: Path) -> None:
    """The host-wide lock makes claims of parallel lab processes distinct."""
    found: list[int] = []

    def claim(tag: str) -> None:
        found.append(SlotTable(tmp_path / "slots").claim(_maker(tmp_path, tag))[0])

    threads = [threading.Thread(target=claim, args=(str(number),)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(found) == list(range(FIRST_SLOT, FIRST_SLOT + 20))


def test_a_claim_is_stale_when_its_directory_is_gone(tmp_path: Path) -> None:
    """A slot whose guest directory was removed is found, dropped, and claimable again."""
    table = SlotTable(tmp_path / "slots")
    slot, directory = table.claim(_maker(tmp_path))
    assert table.stale() == []
    directory.rmdir()

    assert table.stale() == [slot]
    assert table.drop_stale() == [slot]
    assert table.claim(_maker(tmp_path, "again"))[0] == slot


def test_a_full_host_is_told(tmp_path: Path) -> None:
    """The claim after the last slot is HostFull."""
    table = SlotTable(tmp_path / "slots")
    for number in range(LAST_SLOT - FIRST_SLOT + 1):
        table.claim(_maker(tmp_path, str(number)))

    with pytest.raises(HostFull, match="slots"):
        table.claim(_maker(tmp_path, "one more"))


def test_the_last_room_is_given_once(tmp_path: Path) -> None:
    """Twenty labs ask at the same time for room for seven: admission and claim are one step."""
    refused: list[HostFull] = []

    def admit(_wanted: SlotClaim, claims: Sequence[SlotClaim]) -> None:
        if sum(claim.memory_mib for claim in claims) + 100 > 700:
            raise HostFull("no memory")

    def claim(tag: str) -> None:
        wanted = SlotClaim(owner="me", memory_mib=100)
        try:
            SlotTable(tmp_path / "slots").claim(_maker(tmp_path, tag), wanted, admit)
        except HostFull as error:
            refused.append(error)

    threads = [threading.Thread(target=claim, args=(str(number),)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    claims = SlotTable(tmp_path / "slots").claims()
    assert [(claim.owner, claim.memory_mib) for claim in claims] == [("me", 100)] * 7
    assert len(refused) == 13
    assert len(list(tmp_path.glob("*-*"))) == 7


def test_a_guest_that_is_gone_promises_nothing(tmp_path: Path) -> None:
    """Only claims whose directory exists count; a damaged one keeps its slot and promises nothing."""
    table = SlotTable(tmp_path / "slots")
    _, gone = table.claim(_maker(tmp_path, "a"), SlotClaim(owner="me", memory_mib=100))
    table.claim(_maker(tmp_path, "b"), SlotClaim(owner="you", memory_mib=200))
    gone.rmdir()
    (table.root / str(FIRST_SLOT + 2)).write_text("{")

    assert [claim.memory_mib for claim in table.claims()] == [200, 0]
    assert table.claim(_maker(tmp_path, "c"))[0] == FIRST_SLOT
    assert table.claim(_maker(tmp_path, "d"))[0] == FIRST_SLOT + 3


def test_a_half_written_claim_is_swept(tmp_path: Path) -> None:
    """A lab that was killed while it wrote leaves its slot free, and the sweep takes the rest."""
    table = SlotTable(tmp_path / "slots")
    table.claim(_maker(tmp_path, "a"))
    (table.root / ".new-99999").write_text('{"directory": "/ho')

    assert table.drop_stale() == []
    assert sorted(path.name for path in table.root.iterdir()) == [".lock", str(FIRST_SLOT)]


def test_only_the_owner_releases(tmp_path: Path) -> None:
    """A release that names another directory changes nothing."""
    table = SlotTable(tmp_path / "slots")
    slot, directory = table.claim(_maker(tmp_path))
    table.release(slot, tmp_path / "other")
    assert table.claim(_maker(tmp_path, "b"))[0] == slot + 1
    table.release(slot, directory)

    assert table.claim(_maker(tmp_path, "c"))[0] == slot


def test_a_run_lease_lives_with_its_controller() -> None:
    """No expiry, no heartbeat: the controller's lock decides."""
    mark = _mark(run="r1")

    assert lease_state(mark, run_is_alive=lambda run: run == "r1", now=NOW) is LeaseState.HELD
    assert lease_state(mark, run_is_alive=lambda _run: False, now=NOW) is LeaseState.ORPHAN


def test_a_user_lease_ends_in_two_steps() -> None:
    """Held until its expiry, then a grace, then over."""
    mark = _mark(expires=expiry_after(timedelta(hours=4), now=NOW))
    end = NOW + timedelta(hours=4)

    def state(moment: datetime) -> LeaseState:
        return lease_state(mark, run_is_alive=lambda _run: True, now=moment)

    assert state(end - timedelta(seconds=1)) is LeaseState.HELD
    assert state(end) is LeaseState.EXPIRED
    assert state(end + GRACE) is LeaseState.OVER


@pytest.mark.parametrize("expires", ["", "soon", "2026-13-01T00:00:00Z"])
def test_a_mark_without_a_meaning_is_an_orphan(expires: str) -> None:
    """Neither run nor a readable expiry: nobody owns it."""
    assert lease_state(_mark(expires=expires), run_is_alive=lambda _run: True, now=NOW) is LeaseState.ORPHAN


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("4h", 14400), ("2d", 172800)])
def test_durations(text: str, seconds: int) -> None:
    """A number and a unit."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "4", "h", "-1h", "0s", "4 h", "9999999s", "4h30m"])
def test_no_other_durations(text: str) -> None:
    """Anything else is a usage error that shows the form."""
    with pytest.raises(UsageError, match="time span"):
        parse_duration(text)
