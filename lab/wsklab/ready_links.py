"""Ways into guests that were opened to see that they are ready, kept for whoever works with them first.

A login and the start of `wskctl` take an emulated guest half a second, and the pool needs both before it calls a guest
ready. They cannot cross a process border: only a run whose cases run in the pool's own process has any use for them.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass

from wsklab.channel.device import DeviceClient
from wsklab.channel.protocol import Channel
from wsklab.errors import LabError

__all__ = ["ReadyLink", "ReadyLinks"]


@dataclass(frozen=True, slots=True)
class ReadyLink:
    """A channel into a guest, and on it the conversation with `wskctl`, greeted."""

    channel: Channel
    client: DeviceClient

    def close(self) -> None:
        """End both; a guest that is gone is no error."""
        for conversation in (self.client, self.channel):
            with contextlib.suppress(LabError, OSError):
                conversation.close()


class ReadyLinks:
    """The links of a run that nobody has taken yet, by the guest's name; safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._links: dict[str, ReadyLink] = {}

    def keep(self, guest: str, link: ReadyLink) -> None:
        """Leave a link for whoever asks first; it is theirs then."""
        with self._lock:
            self._links[guest] = link

    def take(self, guest: str) -> ReadyLink | None:
        """The link into a guest, once; None where there is none, or it broke meanwhile."""
        with self._lock:
            link = self._links.pop(guest, None)
        if link is None or link.client.fault is None:
            return link
        link.close()
        return None

    def drop(self, guest: str) -> None:
        """Close a link that nobody took: the guest goes, or is paused."""
        with self._lock:
            link = self._links.pop(guest, None)
        if link is not None:
            link.close()
