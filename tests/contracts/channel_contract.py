"""What every `Channel` must do; run against the shipped fake and against SSH with a real server.

A test module makes a `Harness` per implementation and parametrizes over `CONTRACT`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from wsklab.channel.protocol import OUTPUT_LIMIT, Channel, Stream
from wsklab.deadline import Deadline
from wsklab.errors import (
    ChannelLost,
    ChannelProtocolError,
    DeadlineExceeded,
    GuestCommandError,
    UsageError,
)

#: The commands that an implementation's guest must know, by what they do.
HELLO = "say-hello"  # prints "hello\n", ends with 0
FAIL = "fail-with-7"  # prints "bad thing\n" on standard error, ends with 7
FLOOD = "flood"  # prints 3 MiB on each stream, in turns of 64 KiB, ends with 0
HANG = "hang"  # never ends by itself, prints nothing
ECHO = "echo-stream"  # gives back what it gets, complains "echo ready\n" at its start, ends at end of input
FLOOD_BYTES = 3 << 20


@dataclass(frozen=True)
class Harness:
    """One implementation under the contract.

    Attributes:
        open: a fresh channel.
        folder: an existing guest folder, such as `C:\\wsklab`.
        break_path: makes the path into the guest fail, without a word from either side's `close`.
    """

    open: Callable[[], Channel]
    folder: str
    break_path: Callable[[], None]
    scratch: Path


def _soon() -> Deadline:
    return Deadline.after(10.0)


def _read_exactly(stream: Stream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = stream.receive(_soon())
        assert more, f"end of file after {data!r}"
        data += more
    return data


def a_command_gives_output_and_code(harness: Harness) -> None:
    """A command's output, error output and code are returned as they were."""
    with harness.open() as channel:
        result = channel.run(HELLO, _soon())
        assert (result.exit_code, result.stdout, result.stderr, result.truncated) == (0, "hello\n", "", 0)
        result = channel.run(FAIL, _soon(), check=False)
        assert (result.exit_code, result.stdout, result.stderr) == (7, "", "bad thing\n")


def a_failing_command_is_an_error_when_checked(harness: Harness) -> None:
    """With `check`, a code other than 0 raises GuestCommandError with everything in it; the channel stays usable."""
    with harness.open() as channel:
        with pytest.raises(GuestCommandError) as caught:
            channel.run(FAIL, _soon())
        assert (caught.value.exit_code, caught.value.stderr, caught.value.why) == (7, "bad thing\n", "bad thing")
        assert channel.run(HELLO, _soon()).stdout == "hello\n"


def much_output_is_bounded_and_counted(harness: Harness) -> None:
    """3 MiB on both streams do not deadlock; 1 MiB of each is kept, the rest counted."""
    with harness.open() as channel:
        result = channel.run(FLOOD, Deadline.after(30.0))
        assert (len(result.stdout), len(result.stderr)) == (OUTPUT_LIMIT, OUTPUT_LIMIT)
        assert result.truncated == 2 * (FLOOD_BYTES - OUTPUT_LIMIT)


def a_hanging_command_ends_at_its_deadline(harness: Harness) -> None:
    """A command that hangs raises DeadlineExceeded at the deadline, not later, and costs the connection."""
    with harness.open() as channel:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            channel.run(HANG, Deadline.after(0.3))
        assert time.monotonic() - started < 2.0
        with pytest.raises(ChannelLost):
            channel.run(HELLO, _soon())


def a_stream_carries_bytes_both_ways(harness: Harness) -> None:
    """A stream gives back all bytes in order, zeros and high bytes included, and b"" after its end."""
    data = bytes(range(256)) * 1024
    with harness.open() as channel:
        stream = channel.open_stream(ECHO, _soon())
        sender = threading.Thread(target=stream.send, args=(data, _soon()))
        sender.start()
        assert _read_exactly(stream, len(data)) == data
        sender.join()
        stream.close()
        stream.close()


def a_silent_stream_raises_at_the_deadline_and_lives(harness: Harness) -> None:
    """Nothing to receive is DeadlineExceeded, and the stream works on."""
    with harness.open() as channel:
        stream = channel.open_stream(ECHO, _soon())
        with pytest.raises(DeadlineExceeded):
            stream.receive(Deadline.after(0.1))
        stream.send(b"x", _soon())
        assert stream.receive(_soon()) == b"x"
        stream.close()


def two_streams_do_not_disturb_each_other(harness: Harness) -> None:
    """Two streams and a command run side by side over one channel."""
    with harness.open() as channel:
        first, second = channel.open_stream(ECHO, _soon()), channel.open_stream(ECHO, _soon())
        first.send(b"1", _soon())
        second.send(b"2", _soon())
        assert channel.run(HELLO, _soon()).stdout == "hello\n"
        assert (second.receive(_soon()), first.receive(_soon())) == (b"2", b"1")
        first.close()
        second.close()


def a_process_that_ends_is_end_of_file(harness: Harness) -> None:
    """A stream whose process ends by itself gives b"" and its complaint."""
    with harness.open() as channel:
        stream = channel.open_stream("no-such-program", _soon())
        assert stream.receive(_soon()) == b""
        stream.close()
        assert "no-such-program" in stream.stderr_tail()


def a_broken_path_ends_every_wait(harness: Harness) -> None:
    """When the path breaks, a waiting receive and later calls raise ChannelLost at once."""
    with harness.open() as channel:
        stream = channel.open_stream(ECHO, _soon())
        breaker = threading.Timer(0.2, harness.break_path)
        breaker.start()
        started = time.monotonic()
        with pytest.raises(ChannelLost):
            stream.receive(_soon())
        assert time.monotonic() - started < 3.0
        with pytest.raises(ChannelLost):
            stream.send(b"x" * 100_000, _soon())
        with pytest.raises(ChannelLost):
            channel.run(HELLO, _soon())
        breaker.join()


def files_go_in_and_come_back(harness: Harness) -> None:
    """A file comes back as it went in; an existing one is replaced."""
    source, back = harness.scratch / "source.bin", harness.scratch / "back.bin"
    with harness.open() as channel:
        for content in (b"first", bytes(range(256)) * 1000, b""):
            source.write_bytes(content)
            channel.put(source, harness.folder + r"\file.bin", _soon())
            channel.get(harness.folder + r"\file.bin", back, _soon())
            assert back.read_bytes() == content


def a_file_that_is_not_there_is_a_command_error(harness: Harness) -> None:
    """Reading an absent guest file is GuestCommandError and leaves nothing on the host."""
    target = harness.scratch / "absent.bin"
    with harness.open() as channel:
        with pytest.raises(GuestCommandError):
            channel.get(harness.folder + r"\absent.bin", target, _soon())
        assert not target.exists()
        assert channel.run(HELLO, _soon()).stdout == "hello\n"


def a_file_beyond_the_limit_is_refused(harness: Harness) -> None:
    """A guest file longer than the limit is ChannelProtocolError and leaves nothing on the host."""
    source, target = harness.scratch / "long.bin", harness.scratch / "long-back.bin"
    source.write_bytes(b"x" * 1001)
    with harness.open() as channel:
        channel.put(source, harness.folder + r"\long.bin", _soon())
        with pytest.raises(ChannelProtocolError):
            channel.get(harness.folder + r"\long.bin", target, _soon(), limit=1000)
        assert not target.exists()


def wrong_paths_are_usage_errors(harness: Harness) -> None:
    """A host file that is not there, or a guest path that is not absolute, is UsageError."""
    with harness.open() as channel:
        with pytest.raises(UsageError):
            channel.put(harness.scratch / "nothing", harness.folder + r"\x", _soon())
        with pytest.raises(UsageError):
            channel.get(r"relative\x", harness.scratch / "x", _soon())


def closing_twice_is_no_error(harness: Harness) -> None:
    """close() may be called again, and calls after it raise ChannelLost."""
    channel = harness.open()
    channel.close()
    channel.close()
    with pytest.raises(ChannelLost):
        channel.run(HELLO, _soon())


CONTRACT: tuple[Callable[[Harness], None], ...] = (
    a_command_gives_output_and_code,
    a_failing_command_is_an_error_when_checked,
    much_output_is_bounded_and_counted,
    a_hanging_command_ends_at_its_deadline,
    a_stream_carries_bytes_both_ways,
    a_silent_stream_raises_at_the_deadline_and_lives,
    two_streams_do_not_disturb_each_other,
    a_process_that_ends_is_end_of_file,
    a_broken_path_ends_every_wait,
    files_go_in_and_come_back,
    a_file_that_is_not_there_is_a_command_error,
    a_file_beyond_the_limit_is_refused,
    wrong_paths_are_usage_errors,
    closing_twice_is_no_error,
)
