"""The clock of a Windows that continues from a template, over the conversation of `wskctl clock`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from wsklab.channel.fake import FakeChannel
from wsklab.deadline import Deadline, pause
from wsklab.errors import BootError, ChannelLost, ChannelProtocolError, DeadlineExceeded
from wsklab.waking import MAX_SKEW_S, wake_windows


@dataclass
class Clock:
    """`wskctl clock` in a guest whose clock is behind.

    Attributes:
        says: an answer instead of the right one; "" ends the program.
        late_s: how long the first answer takes: the program starts.
        slow: answers, counted from 0, that wait for more than a second on their way back.
        moves: what it was asked for.
    """

    behind_s: float
    says: str | None = None
    late_s: float = 0.0
    works: bool = True
    slow: list[int] = field(default_factory=list)
    moves: list[int] = field(default_factory=list)

    def start(self, reply: Callable[[bytes], None], end: Callable[[], None]) -> None:
        self._reply, self._end = reply, end

    def data(self, data: bytes) -> None:
        (moved,) = map(int, data.split())
        self.moves.append(moved)
        if self.works:
            self.behind_s -= moved / 1e9
        if self.says == "":
            self._end()
            return
        right = b'{"unix_ns":%d}\n' % int((time.time() - self.behind_s) * 1e9)
        answer = right if self.says is None else self.says.encode()
        if self.late_s:
            pause(self.late_s)
            self.late_s = 0.0
        if len(self.moves) - 1 in self.slow:
            pause(1.2)
        self._reply(answer[:5])
        self._reply(answer[5:])

    def closed(self) -> None:
        self.moves.append(-1)  # the end of the conversation


def _wake(clock: Clock, seconds: float = 5.0) -> float:
    return wake_windows(FakeChannel(streams={r"C:\wsklab\wskctl.exe clock": lambda: clock}), Deadline.after(seconds))


@pytest.mark.parametrize("behind", [86400.0, -90.0, 0.0])
def test_the_clock_is_moved_by_what_it_is_wrong(behind: float) -> None:
    """Late, early or right: right afterwards, and the program is ended. The start of the program does not count."""
    clock = Clock(behind, late_s=1.2)
    assert abs(_wake(clock)) < MAX_SKEW_S
    assert abs(clock.behind_s) < 0.1
    assert clock.moves[:2] == [0, 0]  # a clock that is right is only asked
    assert clock.moves[-1] == -1


def test_a_busy_host_is_asked_again() -> None:
    """Answers that take long on one way only may be wrong by half of it: they neither move the clock nor count."""
    clock = Clock(3600.0, slow=[2, 3])
    assert abs(_wake(clock, 10.0)) < MAX_SKEW_S
    assert abs(clock.behind_s) < 0.1
    moved = [abs(move) > 10**9 for move in clock.moves]
    assert moved[:5] == [False, False, True, False, False]
    assert not any(moved[5:])  # a host that is busy itself asks once more


def test_a_clock_that_does_not_move() -> None:
    """It says that it did."""
    with pytest.raises(BootError, match=r"wrong by 60\.0 s"):
        _wake(Clock(60.0, works=False))


@pytest.mark.parametrize(
    ("says", "error", "words"),
    [
        ('{"win32":1314}\n', BootError, "code 1314"),
        ("usage: wskctl VERB ...\n", ChannelProtocolError, "usage"),
        ('{"unix_ns":"soon"}\n', ChannelProtocolError, "soon"),
        ("[1]\n", ChannelProtocolError, "1"),
        ("x" * 5000, ChannelProtocolError, "xxx"),
        ("", ChannelLost, "said nothing"),
    ],
)
def test_other_answers_are_told(says: str, error: type[Exception], words: str) -> None:
    """A refusal by its code; an image with an older `wskctl`; nonsense; an end."""
    with pytest.raises(error) as caught:
        _wake(Clock(60.0, says=says))
    assert words in caught.value.why  # type: ignore[attr-defined]


def test_a_guest_that_stops_in_the_middle_of_a_line() -> None:
    """The deadline ends it."""
    with pytest.raises(DeadlineExceeded):
        _wake(Clock(60.0, says='{"unix'), 0.3)
