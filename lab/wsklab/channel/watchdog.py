"""A bound on calls that cannot be bounded by themselves."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from wsklab.deadline import Deadline

__all__ = ["Watchdog"]


class Watchdog:
    """Calls `expire` when a guarded call is still running at its deadline. One thread, made when first needed."""

    def __init__(self, expire: Callable[[], None]) -> None:
        self._expire = expire
        self._changed = threading.Condition()
        self._watched: dict[object, float] = {}
        self._wakes_at = float("inf")
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextlib.contextmanager
    def watching(self, deadline: Deadline) -> Iterator[None]:
        """Guard the body; it is not interrupted, but what it waits for is torn down."""
        token = object()
        at = time.monotonic() + deadline.remaining_s
        with self._changed:
            self._watched[token] = at
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._watch, name="wsklab-ssh-watchdog", daemon=True)
                self._thread.start()
            if at < self._wakes_at:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._watched.pop(token, None)

    def close(self) -> None:
        """Let the thread end; what is still guarded is guarded no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _watch(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                now = time.monotonic()
                self._wakes_at = min(self._watched.values(), default=float("inf"))
                if self._wakes_at > now:
                    self._changed.wait(None if self._wakes_at == float("inf") else self._wakes_at - now)
                    continue
                self._watched = {token: at for token, at in self._watched.items() if at > now}
            self._expire()
