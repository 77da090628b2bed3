"""Points in time and bounded waits. The only module that sleeps."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from wsklab.errors import DeadlineExceeded

__all__ = ["Deadline", "NotYet", "Timeouts", "pause", "wait_until"]

Clock = Callable[[], float]
T = TypeVar("T")

#: From so many runnable processes per processor on a boot gets more time, and at most so many times its budget.
_CROWDED = 2.0
_MOST_CROWDED = 4.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in time after which waiting is useless.

    Make one with `Deadline.after`; hand it down, so that every step of a long wait shares it.
    """

    at: float
    started: float
    clock: Clock = field(default=time.monotonic, repr=False)

    @classmethod
    def after(cls, seconds: float, *, clock: Clock = time.monotonic) -> Deadline:
        """A deadline `seconds` from now."""
        now = clock()
        return cls(at=now + seconds, started=now, clock=clock)

    @property
    def remaining_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - self.clock())

    @property
    def elapsed_s(self) -> float:
        """Seconds since the deadline was made."""
        return self.clock() - self.started

    @property
    def expired(self) -> bool:
        """Whether the time is over."""
        return self.clock() >= self.at

    def sooner(self, seconds: float) -> Deadline:
        """The earlier of this deadline and `seconds` from now."""
        now = self.clock()
        return Deadline(at=min(self.at, now + seconds), started=now, clock=self.clock)

    def anew(self) -> Deadline:
        """The same length from now on: what was waited for had not begun."""
        return Deadline.after(self.at - self.started, clock=self.clock)

    def exceeded(self, what: str, *, last: str = "", fix: str = "") -> DeadlineExceeded:
        """The error to raise when this deadline has passed while waiting for `what`."""
        return DeadlineExceeded(what, waited_s=self.elapsed_s, last=last, fix=fix)


@dataclass(frozen=True, slots=True)
class NotYet:
    """What a check answers while its condition does not hold: the observation to report."""

    observation: str = ""


def pause(seconds: float) -> None:
    """Let `seconds` pass. For quiet windows; every other wait has a condition: `wait_until`."""
    time.sleep(seconds)


def wait_until(
    check: Callable[[], T | NotYet], deadline: Deadline, *, what: str, tick_s: float = 0.05, growth: float = 1.3
) -> T:
    """Call `check` until it answers something other than `NotYet`.

    Args:
        check: the condition; it must not block longer than the deadline allows.
        deadline: when to give up.
        what: the condition in words, for the error.
        tick_s: the first pause between two checks, in seconds.
        growth: factor by which the pause grows, up to half a second.

    Raises:
        DeadlineExceeded: with the last observation.
    """
    tick = tick_s
    while True:
        answer = check()
        if not isinstance(answer, NotYet):
            return answer
        if deadline.expired:
            raise deadline.exceeded(what, last=answer.observation)
        time.sleep(min(tick, deadline.remaining_s))
        tick = min(tick * growth, 0.5)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The one place where slowness of the host is known.

    Every budget in the lab is written for KVM on current hardware; on a slower host all of them
    grow by the same factor. Quiet windows ("nothing happens for ...") never go through here.

    Attributes:
        scale: 1.0 with KVM; larger under emulation.
    """

    scale: float = 1.0

    def after(self, seconds: float) -> Deadline:
        """A deadline `seconds` (for KVM) from now, scaled."""
        return Deadline.after(seconds * self.scale)

    def boot(self, seconds: float) -> Deadline:
        """The deadline of a boot, which needs its share of the host's processors and nothing else.

        It grows with the number of processes that want to run, up to four times: a guest that gets an eighth of a
        processor boots, only later. What a case waits for does not grow so: a hang has to be told.
        """
        wanted = os.getloadavg()[0] / (os.cpu_count() or 1)
        return self.after(seconds * min(_MOST_CROWDED, max(1.0, wanted / _CROWDED)))

    def seconds(self, seconds: float) -> float:
        """The scaled length of a budget, in seconds."""
        return seconds * self.scale
