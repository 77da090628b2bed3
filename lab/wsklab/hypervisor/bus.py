"""Events to whoever wants them: unbounded queues that lose nothing. Knows no libvirt."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final

from wsklab.deadline import Deadline
from wsklab.hypervisor.protocol import DomainEvent

__all__ = ["EventBus", "QueueSubscription"]

# How long one wait for an event lasts before the connection is looked at.
_LOOK_S: Final = 1.0


class EventBus:
    """Hands every event to every subscription that is open at that moment."""

    def __init__(self, look: Callable[[], None]) -> None:
        """`look` is called now and then by a waiting subscriber: it mends a lost connection."""
        self._look = look
        self._lock = threading.Lock()
        self._subscriptions: list[QueueSubscription] = []

    def publish(self, event: DomainEvent) -> None:
        """Queue an event everywhere; never blocks."""
        with self._lock:
            for subscription in self._subscriptions:
                subscription.put(event)

    def subscribe(self) -> QueueSubscription:
        """A new queue; it has every event from now on."""
        subscription = QueueSubscription(self._look, self._forget)
        with self._lock:
            self._subscriptions.append(subscription)
        return subscription

    def close(self) -> None:
        """End every subscription; their waits return."""
        with self._lock:
            subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            subscription.end()

    def _forget(self, subscription: QueueSubscription) -> None:
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)


class QueueSubscription:
    """An `EventSubscription`: an unbounded queue."""

    def __init__(self, look: Callable[[], None], forget: Callable[[QueueSubscription], None]) -> None:
        self._queue: queue.SimpleQueue[DomainEvent | None] = queue.SimpleQueue()
        self._look = look
        self._forget = forget
        self._ended = False

    def put(self, event: DomainEvent) -> None:
        """Called by the bus."""
        self._queue.put(event)

    def end(self) -> None:
        """Let the waiting `get` return."""
        self._ended = True
        self._queue.put(None)

    def get(self, deadline: Deadline) -> DomainEvent | None:
        """The next event in order, or None at the deadline or after `close`."""
        while True:
            try:
                return self._queue.get(timeout=min(_LOOK_S, deadline.remaining_s))
            except queue.Empty:
                if deadline.expired or self._ended:
                    return None
                self._look()

    def close(self) -> None:
        """Stop receiving."""
        self._forget(self)
        self.end()
