"""Logs of guests: what is shown of them, how they are followed, and what an unfriendly guest can do: nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsklab.channel.fake import Ended, FakeChannel
from wsklab.console import ConsoleLog
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import ChannelProtocolError, GuestCommandError, UsageError
from wsklab.guest_logs import GuestLog, LineSplitter, LogSource, log_of
from wsklab.log_feed import LogFeed

LOADED = r'0064:trace:loaddll:build_module Loaded L"C:\\wsklab\\a.sys" at 0: native'
PRINTED = "00cc:warn:debugstr:vDbgPrintExWithPrefix 00000000:00000001: wsklab: loaded"
LIBRARY = r'0064:trace:loaddll:build_module Loaded L"C:\\windows\\system32\\nsi.dll" at 0: builtin'
HANDLED = "00cc:trace:seh:dispatch_exception code=c0000096 flags=0"

DRIVER = log_of("wine", LogSource.DRIVER)
assert DRIVER is not None


def _soon() -> Deadline:
    return Deadline.after(10)


def _saying(text: str, exit_code: int = 0) -> FakeChannel:
    """A guest that answers every command so."""

    class Channel(FakeChannel):
        def run(self, command: str, deadline: Deadline, *, check: bool = True):  # type: ignore[no-untyped-def]
            self.commands[command] = Ended(exit_code=exit_code, stdout=text)
            return super().run(command, deadline, check=check)

    return Channel()


def test_the_driver_log_is_what_drivers_say() -> None:
    """Driver images and their messages are shown, libraries and handled exceptions only on demand."""
    lines = [LOADED, LIBRARY, HANDLED, PRINTED]
    channel = _saying("1234\n" + "\n".join(lines) + "\n")

    assert DRIVER.tail(channel, _soon(), lines=9, everything=False) == ([LOADED, PRINTED], 1234)
    assert DRIVER.tail(channel, _soon(), lines=9, everything=True) == (lines, 1234)
    assert DRIVER.tail(channel, _soon(), lines=1, everything=False)[0] == [PRINTED]


def test_following_starts_where_the_tail_ended() -> None:
    """The first byte that is followed is the one behind the size that the tail was read to."""
    channel = FakeChannel(streams={f"linux: exec tail -c +1235 -F {DRIVER.file} 2>/dev/null": _Says})
    DRIVER.follow(channel, _soon(), start=1234)
    assert channel.history == [f"linux: exec tail -c +1235 -F {DRIVER.file} 2>/dev/null"]


@pytest.mark.parametrize("head", ["", "-1", "1e9", "9" * 40, "rm -rf", "\x1b[31m"])
def test_a_guest_that_gives_no_size_breaks_the_contract(head: str) -> None:
    """The size becomes part of a command; only digits do."""
    with pytest.raises(ChannelProtocolError):
        DRIVER.tail(_saying(f"{head}\nx"), _soon(), lines=1, everything=False)


def test_a_log_that_is_not_there_is_the_guest_s_error() -> None:
    """The guest's own message is kept."""
    with pytest.raises(GuestCommandError):
        DRIVER.tail(_saying("", exit_code=1), _soon(), lines=1, everything=False)


def test_windows_tells_service_events_and_cannot_be_followed() -> None:
    """Windows keeps events, not a file: they are asked for by a command."""
    log = log_of("windows", LogSource.DRIVER)
    assert log is not None
    channel = _saying("Event[0]\r\n  Log Name: System\r\n")

    assert log.tail(channel, _soon(), lines=7, everything=False) == (["Event[0]", "  Log Name: System"], 0)
    assert "/c:7 " in channel.history[0]
    with pytest.raises(UsageError, match="cannot be followed"):
        log.follow(channel, _soon(), start=0)


def test_what_no_guest_keeps() -> None:
    """There is no agent's log on Windows, and the console is the host's."""
    assert log_of("windows", LogSource.AGENT) is None
    assert log_of("wine", LogSource.CONSOLE) is None


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_lines_do_not_depend_on_how_the_bytes_arrive(pieces: list[bytes]) -> None:
    """Split anywhere, the complete lines are those of the whole."""
    splitter, whole = LineSplitter(), LineSplitter()
    apart = [line for piece in pieces for line in splitter.feed(piece)]
    assert apart == whole.feed(b"".join(pieces))


def test_a_line_that_never_ends_is_broken_up_and_cut() -> None:
    """Nothing grows without bound, and nothing reaches the terminal raw."""
    splitter = LineSplitter()
    lines = splitter.feed(b"\x1b]0;" + b"a" * 100_000)
    assert len(lines) == 24
    assert all(len(line) < 410 for line in lines)
    assert lines[0].startswith("\\x1b]0;")


class _Says:
    """A process in the guest whose output a test gives."""

    def __init__(self) -> None:
        self.reply: Callable[[bytes], None] = lambda _data: None
        self.end: Callable[[], None] = lambda: None

    def start(self, reply: Callable[[bytes], None], end: Callable[[], None]) -> None:
        self.reply, self.end = reply, end

    def data(self, data: bytes) -> None: ...

    def closed(self) -> None: ...


def test_a_feed_brings_several_logs_together(tmp_path: Path) -> None:
    """Console and guest logs in one queue; noise is left out; the end of one source does not end the others."""
    console = tmp_path / "console.log"
    console.write_bytes(b"old\n")
    says = _Says()
    stream = FakeChannel(streams={"x": lambda: says}).open_stream("x", _soon())
    with LogFeed() as feed:
        feed.add_console("console", ConsoleLog(console))
        feed.add_stream("driver", stream, DRIVER.keeps)
        says.reply(f"{LIBRARY}\n{PRINTED}\n".encode())
        assert feed.get(10) == ("driver", PRINTED)
        says.end()
        with console.open("ab") as file:
            file.write(b"new\nhalf")
        assert feed.get(10) == ("console", "new")
        assert feed.get(0.01) is None


def test_a_feed_that_nobody_reads_does_not_grow(tmp_path: Path) -> None:
    """A flood stops at the bound, and leaving does not wait for a reader."""
    says = _Says()
    stream = FakeChannel(streams={"x": lambda: says}).open_stream("x", _soon())
    feed = LogFeed()
    with feed:
        feed.add_stream("driver", stream, lambda _line: True)
        says.reply(b"x\n" * 50_000)
        wait_until(
            lambda: True if feed._lines.full() else NotYet(str(feed._lines.qsize())), _soon(), what="a full queue"
        )
    assert [thread for thread in threading.enumerate() if thread.name == "wsklab-log-driver"] == []


def test_a_log_whose_guest_goes_away_says_so() -> None:
    """The last line of a source tells why it ends."""
    stream = FakeChannel(streams={"x": _Says}).open_stream("x", _soon())
    with LogFeed() as feed:
        feed.add_stream("driver", stream, lambda _line: True)
        stream.lose()
        item = feed.get(10)
    assert item is not None
    assert item[1].startswith("(ends: the connection to the guest broke")


def test_a_log_of_no_file_names_its_command() -> None:
    """People see where a log comes from."""
    assert GuestLog(command="wevtutil qe System /c:{lines} /f:text").where == "wevtutil qe System"
