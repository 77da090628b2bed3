"""The spares of a run: ready guests of a profile of which one had to be replaced, for the next time.

Crashes come in rows: the case that crashed is run again, and the next case may crash, too. So a new spare stays awake
for a while, and is there at once with its clock and its link (`ready_links`); later it is paused, and taking it means
resuming it (`spares.rouse`).
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from wsklab.deadline import Timeouts
from wsklab.errors import LabError
from wsklab.guest import Guest
from wsklab.lease_protocol import GuestHandle
from wsklab.ready_links import ReadyLinks
from wsklab.spares import rest, rouse

__all__ = ["COMING_S", "RunSpares"]

_log = logging.getLogger(__name__)

#: How long a spare stays awake. An idle guest takes 6 % of an emulated processor (docs/performance.md).
_AWAKE_S: Final = 30.0
#: The longest that a guest in the making is awaited, whose own steps all have deadlines: another is begun then.
COMING_S: Final = 600.0


@dataclasses.dataclass(frozen=True, slots=True)
class _Spare:
    """One that waits; `since`: when it was ready (`time.monotonic`), None once it is paused."""

    handle: GuestHandle
    since: float | None


class RunSpares:
    """The spares of one run, by profile; safe from several threads.

    Args:
        wanted: how many of each profile; 0 for none.
        make: a new guest of a profile, ready.
        find: the guest of that name; None when it is gone.
        discard: removes a guest, with the reason.
        links: what is open into guests; closed when they are paused.
    """

    def __init__(
        self,
        *,
        wanted: int,
        make: Callable[[str], GuestHandle],
        find: Callable[[str], Guest | None],
        discard: Callable[[Guest, str], None],
        links: ReadyLinks | None,
        timeouts: Timeouts,
    ) -> None:
        self._wanted = wanted
        self._make = make
        self._find = find
        self._discard = discard
        self._links = links
        self._timeouts = timeouts
        self._change = threading.Condition()
        self._waiting: dict[str, list[_Spare]] = {}
        #: the profile of every spare that is being made, or paused: whoever wants one waits for it
        self._coming: list[str] = []
        self._closed = False

    def names(self, profile: str) -> list[str]:
        """The guests that wait."""
        with self._change:
            return [spare.handle.name for spare in self._waiting.get(profile, ())]

    def close(self) -> None:
        """Nobody gets one any more, and none is made; the guests are left to the pool."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def take(self, profile: str) -> GuestHandle | None:
        """A ready guest; None when there is none that wakes.

        One that is in the making is awaited: it is ready before a guest that is begun now.
        """
        while True:
            with self._change:
                waiting = self._waiting.setdefault(profile, [])
                self._change.wait_for(
                    lambda: self._waiting[profile] or profile not in self._coming or self._closed, timeout=COMING_S
                )
                if self._closed or not waiting:
                    return None
                spare = waiting.pop()
            guest = self._find(spare.handle.name)
            if guest is None:
                continue
            asked_at = time.monotonic()
            if spare.since is None:
                try:
                    rouse(guest, self._timeouts)
                except LabError as error:
                    self._discard(guest, f"a spare that did not wake: {error.message}")
                    continue
            return spare.handle.model_copy(update={"ready_s": round(time.monotonic() - asked_at, 3)})

    def drop_one(self) -> Guest | None:
        """One of any profile, for somebody who needs its room; it waits for nobody any more."""
        with self._change:
            spare = next((waiting.pop() for waiting in self._waiting.values() if waiting), None)
        return self._find(spare.handle.name) if spare is not None else None

    def begin(self, profile: str) -> None:
        """See that there will be a spare again, where the run keeps some."""
        if self._wanted and not self._closed:
            threading.Thread(target=self._fill, args=(profile,), name=f"spare-{profile}", daemon=True).start()

    def _fill(self, profile: str) -> None:
        """Make one, unless there are enough; a full host, or one that fails, has none."""
        with self._change:
            there = self._waiting.setdefault(profile, [])
            if len(there) + self._coming.count(profile) >= self._wanted or self._closed:
                return
            self._coming.append(profile)
        made: list[_Spare] = []
        try:
            made.append(_Spare(self._make(profile), time.monotonic()))
        except LabError as error:
            _log.info("no spare of %s: %s", profile, error)
        except Exception:  # noqa: BLE001 - a thread top: nobody but us wants a spare
            _log.exception("making a spare of %s failed", profile)
        finally:
            self._arrived(profile, made)

    def pause_old(self) -> None:
        """Pause those that have been awake for long; to be called now and then."""
        before = time.monotonic() - _AWAKE_S
        with self._change:
            old = [
                (profile, spare)
                for profile, waiting in self._waiting.items()
                for spare in waiting
                if spare.since is not None and spare.since < before
            ]
            for profile, spare in old:
                self._waiting[profile].remove(spare)
                self._coming.append(profile)
        for profile, spare in old:
            guest = self._find(spare.handle.name)
            paused: list[_Spare] = []
            try:
                if guest is not None:
                    # nobody answers for a paused guest: a connection would try for ever longer
                    if self._links is not None:
                        self._links.drop(guest.name)
                    rest(guest)
                    paused.append(_Spare(spare.handle, None))
            except LabError as error:
                _log.info("a spare of %s could not be paused: %s", profile, error)
                paused.append(spare)
            finally:
                self._arrived(profile, paused)

    def _arrived(self, profile: str, spares: list[_Spare]) -> None:
        with self._change:
            self._coming.remove(profile)
            self._waiting[profile].extend(spares)
            self._change.notify_all()
