"""The end of a user's lease: moved, or reached. Both under the guest's lock, so that neither happens to the other."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from wsklab.errors import ChannelLost, DeadlineExceeded, HypervisorError, LeaseExpired, UsageError
from wsklab.guest import Guest
from wsklab.hypervisor.protocol import Domain, DomainState
from wsklab.lease import GRACE, KEEP_EXPIRED, LeaseState, lease_state

__all__ = ["end_if_over", "extend", "in_use", "is_kept_for_a_day", "power_off"]

# In the directory of a guest whose lease is over: its overlay is kept for a day from this file's time on.
_EXPIRED_MARK: Final = "expired"


def extend(guest: Guest, expires: str) -> str:
    """Let a user's lease end at `expires` (RFC 3339 UTC) unless it ends later anyway; returns when it ends.

    Raises:
        UsageError: there is no lease whose end could be moved. DomainGone: the guest was removed.
    """
    with guest.locked():
        metadata = guest.domain.metadata()
        if metadata is None or metadata.run:
            raise UsageError(
                f"{guest.name} has no lease that could be extended",
                why=f"it lives as long as run {metadata.run}" if metadata else "it carries no mark of the lab",
                fix="name a guest of yours: `wsklab list` shows the purpose `user`",
                evidence={"name": guest.name},
            )
        if guest.domain.state() is DomainState.OFF:
            raise UsageError(
                f"{guest.name} is going away",
                why="it is powered off",
                fix="`wsklab up` makes another one",
                evidence={"name": guest.name, "expires": metadata.expires},
            )
        later = max(metadata.expires, expires)  # both in UTC and of one form, so they sort as text
        guest.domain.set_metadata(dataclasses.replace(metadata, expires=later))
        return later


def end_if_over(guest: Guest, now: datetime) -> bool:
    """Power off a guest whose lease is over and keep its overlay; False when the lease was extended meanwhile."""
    with guest.locked():
        metadata = guest.domain.metadata()
        over = metadata is None or lease_state(metadata, run_is_alive=lambda _run: False, now=now) is LeaseState.OVER
        if over:
            (guest.directory / _EXPIRED_MARK).touch()
            power_off(guest.domain)
        return over


@contextlib.contextmanager
def in_use(guest: Guest) -> Iterator[None]:
    """Around work inside a guest: where the way into it broke because its lease was over, that is what is told.

    Raises:
        LeaseExpired: the lab has powered it off, after the grace.
        LeaseUnavailable: a static machine is in use by somebody else.
    """
    try:
        with guest.borrowed():
            yield
    except (ChannelLost, DeadlineExceeded) as error:
        if not (guest.directory / _EXPIRED_MARK).exists():
            raise
        raise LeaseExpired(
            f"the lease of {guest.name} ended while it was in use",
            why=f"its time and {GRACE.seconds // 60} minutes of grace are over: the lab has powered it off",
            fix=f"`wsklab extend` in time, or `wsklab up {guest.record.profile} --ttl SPAN`; "
            "its disk is kept for a day, see the evidence",
            evidence={"name": guest.name, "disk": str(guest.directory / "overlay.qcow2"), "error": error.message},
        ) from error


def is_kept_for_a_day(directory: Path, now: datetime) -> bool:
    """Whether the directory belongs to an expired guest whose overlay is still promised."""
    try:
        marked = datetime.fromtimestamp((directory / _EXPIRED_MARK).stat().st_mtime, UTC)
    except FileNotFoundError:
        return False
    return now - marked < KEEP_EXPIRED


def power_off(domain: Domain) -> None:
    """Power off and undefine; another sweeper may have won the undefine."""
    domain.destroy()
    with contextlib.suppress(HypervisorError):
        domain.undefine()
