"""The shipped fake keeps the channel's contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from channel_contract import CONTRACT, ECHO, FAIL, FLOOD, FLOOD_BYTES, HANG, HELLO, Harness

from wsklab.channel.fake import Ended, FakeChannel, Hangs


class _Echo:
    """A process that gives back what it gets."""

    def start(self, reply: Callable[[bytes], None], end: Callable[[], None]) -> None:
        self._reply = reply

    def data(self, data: bytes) -> None:
        self._reply(data)

    def closed(self) -> None:
        pass


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_contract(check: Callable[[Harness], None], tmp_path: Path) -> None:
    """FakeChannel keeps the channel contract."""
    opened: list[FakeChannel] = []

    def open_channel() -> FakeChannel:
        opened.append(
            FakeChannel(
                {
                    HELLO: Ended(stdout="hello\n"),
                    FAIL: Ended(exit_code=7, stderr="bad thing\n"),
                    FLOOD: Ended(stdout="x" * FLOOD_BYTES, stderr="x" * FLOOD_BYTES),
                    HANG: Hangs(),
                },
                streams={ECHO: _Echo},
            )
        )
        return opened[-1]

    check(
        Harness(open=open_channel, folder=r"C:\wsklab", break_path=lambda: [c.lose() for c in opened], scratch=tmp_path)
    )
