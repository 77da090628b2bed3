"""Notices a guest's death for a worker that waits on a silent connection: a kernel that dies closes none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from wsklab.console import ConsoleFollower
from wsklab.crash import kernel_died
from wsklab.lease_protocol import lost_mark

__all__ = ["DeathWatch"]

_TICK_S: Final = 0.2
#: So much of what was printed last is looked at again, for words that came in two pieces.
_OVERLAP: Final = 200


class DeathWatch:
    """Calls `died` once: when the guest's console tells of its kernel's end, or the lab's mark says that it is lost.

    Args:
        console: the guest's console log; the mark lies beside it.
        died: closes what waits for the guest.
    """

    def __init__(self, console: Path, died: Callable[[], None]) -> None:
        self._mark = lost_mark(console)
        self._console = console
        self._died = died
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="wsklab-death-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._over.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(5.0)

    def _watch(self) -> None:
        rest = ""
        with ConsoleFollower(self._console) as follower:
            while not self._over.wait(_TICK_S):
                rest = rest[-_OVERLAP:] + follower.read().decode("utf-8", "replace")
                if self._mark.exists() or kernel_died(rest):
                    self._over.set()
                    self._died()
