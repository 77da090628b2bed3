"""Spares: ready forks that are kept paused, so that the next one who wants a guest has it at once.

A spare has shown that it is ready before it was paused; taking it is resuming it and setting its clock. A run keeps
its own in its pool (`pool`), they end with it. Those of `up` stay between commands: marked with the purpose `spare`,
listed, counted at admission like any guest, and swept an hour after they were made.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from wsklab.deadline import Timeouts
from wsklab.domain_mark import DomainMetadata
from wsklab.errors import HypervisorError, LabError
from wsklab.factory import GuestFactory
from wsklab.guest import Claim, Guest
from wsklab.home import FileLock
from wsklab.hypervisor.protocol import DomainState
from wsklab.lease import SPARE, expiry_after
from wsklab.waking import wake_guest

__all__ = ["SPARE_TTL", "drop_one", "hand_in", "rest", "rouse", "take", "waiting"]

#: How long a spare of `up` waits for somebody.
SPARE_TTL: Final = timedelta(hours=1)

# One that is nearly over is left to the sweep.
_MARGIN: Final = timedelta(minutes=1)

# Budget for KVM, in seconds.
_ROUSE_S: Final = 5.0


def rest(guest: Guest) -> None:
    """Pause a guest that is ready."""
    guest.domain.suspend()


def rouse(guest: Guest, timeouts: Timeouts) -> None:
    """Let it run and set its clock; it is as ready as it was.

    Raises:
        LabError: it does not wake; it is of no use any more.
    """
    guest.domain.resume()
    wake_guest(guest, timeouts.after(_ROUSE_S))
    guest.is_ready = True


def hand_in(guest: Guest) -> None:
    """Make a ready guest a spare for the next `up` of its owner."""
    rest(guest)
    metadata = guest.domain.metadata()
    if metadata is not None:
        expires = expiry_after(SPARE_TTL)
        guest.domain.set_metadata(dataclasses.replace(metadata, purpose=SPARE, run="", expires=expires))


def waiting(factory: GuestFactory, owner: str, template: str = "") -> list[Guest]:
    """The spares of a user; with `template` only those that continue from it."""
    found = []
    for guest in factory.existing():
        with contextlib.suppress(HypervisorError):  # it goes away just now
            if _is_spare(guest.domain.metadata(), owner) and guest.record.template == (
                template or guest.record.template
            ):
                found.append(guest)
    return found


def take(factory: GuestFactory, claim: Claim, template: str) -> Guest | None:
    """A spare that continues from `template`, claimed and roused, or None. Of several takers one wins."""
    for guest in waiting(factory, claim.owner, template):
        if not _claim(guest, claim):
            continue
        try:
            rouse(guest, factory.timeouts)
        except LabError:
            guest.destroy(factory.slots)
            continue
        return guest
    return None


def drop_one(factory: GuestFactory, owner: str) -> bool:
    """Remove one spare of the user to make room; False when there is none."""
    for guest in waiting(factory, owner):
        with _held(guest) as free:
            if not free or not _is_spare(guest.domain.metadata(), owner):
                continue
        guest.destroy(factory.slots)
        return True
    return False


def _claim(guest: Guest, claim: Claim) -> bool:
    """Write the new owner's lease into a spare, under its lock; False when somebody else was faster."""
    with _held(guest) as free, contextlib.suppress(HypervisorError):
        metadata = guest.domain.metadata() if free else None
        if metadata is None or not _is_spare(metadata, claim.owner):
            return False
        if guest.domain.state() is not DomainState.PAUSED:
            return False
        guest.domain.set_metadata(
            dataclasses.replace(metadata, purpose=claim.purpose, run=claim.run, expires=claim.expires)
        )
        return True
    return False


@contextlib.contextmanager
def _held(guest: Guest) -> Iterator[bool]:
    """Hold the guest's lock if nobody else does; yields whether it is held."""
    lock = FileLock(guest.directory / "lock")
    try:
        yield guest.directory.is_dir() and lock.try_acquire()
    finally:
        lock.release()


def _is_spare(metadata: DomainMetadata | None, owner: str) -> bool:
    """Whether it waits for this user, and still will in a minute."""
    if metadata is None or metadata.purpose != SPARE or metadata.run or metadata.owner != owner:
        return False
    with contextlib.suppress(ValueError):
        return datetime.now(UTC) + _MARGIN < datetime.fromisoformat(metadata.expires)
    return False
