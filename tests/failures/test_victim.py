"""A case that something is done to from outside, and one that comes after it; for tests/chaos."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wsklab.deadline import NotYet, wait_until
from wsklab.pytest_plugin import LeasedGuest, ObservedClient

pytestmark = pytest.mark.rule("WSK-IRP-001")


def test_victim(guest: LeasedGuest, wsk: ObservedClient) -> None:
    """Says which guest it has and in which process, then asks the driver until it is told to stop; only once."""
    place = Path(os.environ["CHAOS_PLACE"])
    if (place / "victim").exists():
        return
    (place / "half").write_text(f"{guest.handle.name} {os.getpid()}")
    (place / "half").rename(place / "victim")

    def told() -> bool | NotYet:
        wsk.ledger()
        return (place / "go").exists() or NotYet("nobody said go")

    # on a busy host it takes minutes to do something to it
    wait_until(told, guest.within(120), what="the word to go on", tick_s=0.05)


def test_witness(wsk: ObservedClient) -> None:
    """The rest of the run goes on."""
    assert wsk.ledger().client.balanced
