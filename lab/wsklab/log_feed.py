"""Lines of several logs in one queue, as they are written."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final

from wsklab.channel.protocol import Stream
from wsklab.console import ConsoleLog
from wsklab.deadline import Deadline, pause
from wsklab.errors import DeadlineExceeded, LabError
from wsklab.guest_logs import LineSplitter

__all__ = ["LogFeed"]

# Lines that nobody has taken yet; whoever writes faster than they are taken waits.
_WAITING: Final = 1000

_TICK_S: Final = 0.25


class LogFeed:
    """A context manager; leaving it ends its threads and closes what was added."""

    def __init__(self) -> None:
        self._lines: queue.Queue[tuple[str, str]] = queue.Queue(maxsize=_WAITING)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._held = contextlib.ExitStack()

    def __enter__(self) -> LogFeed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(5)
        self._held.close()

    def add_console(self, name: str, console: ConsoleLog) -> None:
        """What is printed on a console from now on."""
        follower = self._held.enter_context(console.follower())

        def read() -> bytes:
            data = follower.read()
            if not data:
                pause(_TICK_S)
            return data

        self._start(name, read, lambda _line: True)

    def add_stream(self, name: str, stream: Stream, keeps: Callable[[str], bool]) -> None:
        """Lines of a stream that are worth keeping. Its end ends only this source."""
        self._held.callback(stream.close)

        def read() -> bytes | None:
            try:
                return stream.receive(Deadline.after(_TICK_S)) or None
            except DeadlineExceeded:
                return b""

        self._start(name, read, keeps)

    def get(self, timeout_s: float) -> tuple[str, str] | None:
        """The next line with its source's name; None when there is none in time."""
        try:
            return self._lines.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def _start(self, name: str, read: Callable[[], bytes | None], keeps: Callable[[str], bool]) -> None:
        def work() -> None:
            splitter = LineSplitter()
            while not self._stop.is_set():
                try:
                    data = read()
                except LabError as error:
                    self._put(name, f"(ends: {error.message})")
                    return
                if data is None:
                    return
                for line in splitter.feed(data):
                    if keeps(line):
                        self._put(name, line)

        thread = threading.Thread(target=work, name=f"wsklab-log-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _put(self, name: str, line: str) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._lines.put((name, line), timeout=_TICK_S)
                return
