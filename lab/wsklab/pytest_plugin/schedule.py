"""Which worker runs which item next: grouped by profile, longest first, those that want a guest alone last.

A worker keeps to one profile as long as that has work, so it keeps its connections; then it goes where most work per
worker is left. An exclusive item waits until all shared leases of its guest have come back, and meanwhile stops new
ones: so it comes when no shared item of its profile is left to hand out, and no more workers take such items than
can have a guest at the same time.

xdist starts an item only when it knows the next one, so every worker has two; a worker for which nothing is left is
told to end after what it has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from wsklab.lease_protocol import Reset

__all__ = ["GuestScheduling", "Need", "Plan", "in_order"]

#: Items that a worker has at the same time: the one that it runs and the next.
_AHEAD = 2


class Need(BaseModel):
    """What an item needs, and how long it took in earlier runs.

    Attributes:
        item: its node id.
        profiles: of the guests that it leases; the first one is its own; empty for an item without guests.
        seconds: the median of earlier runs, or what an unknown case is taken for.
    """

    model_config = ConfigDict(frozen=True)

    item: str
    profiles: tuple[str, ...] = ()
    exclusive: bool = False
    reset: Reset = Reset.NONE
    seconds: float = 1.0

    @property
    def profile(self) -> str:
        """Where it is queued."""
        return self.profiles[0] if self.profiles else ""

    @property
    def alone(self) -> bool:
        """Whether only as many of its sort as there are guests can run at the same time."""
        return self.exclusive or self.reset is not Reset.NONE or len(self.profiles) > 1

    @property
    def place(self) -> tuple[bool, bool, int, float]:
        """Its place among the items of its profile."""
        return self.alone, self.exclusive or self.reset is not Reset.NONE, self.reset.cost, -self.seconds


def in_order(needs: Iterable[Need]) -> list[Need]:
    """The order in which the items of one profile are started."""
    return sorted(needs, key=lambda need: need.place)


class Plan:
    """The items that are not handed out yet, by profile; knows nothing of xdist.

    Args:
        needs: all items of the run, in the order in which they were collected.
        each: guests of each profile.
    """

    def __init__(self, needs: Sequence[Need], *, each: int) -> None:
        self._needs = list(needs)
        self._each = each
        index = {need.item: number for number, need in enumerate(needs)}
        self._queues: dict[str, list[int]] = {}
        for need in in_order(needs):
            self._queues.setdefault(need.profile, []).append(index[need.item])
        #: worker -> the profile that it keeps to
        self._home: dict[str, str] = {}
        #: worker -> the items that it has and has not ended
        self._out: dict[str, list[int]] = {}

    @property
    def left(self) -> int:
        """How many items are not handed out."""
        return sum(map(len, self._queues.values()))

    def next(self, worker: str) -> int | None:
        """Hand out an item; None when there is none that this worker could begin."""
        for profile in self._by_wish(worker):
            queue = self._queues[profile]
            if queue and self._may_begin(worker, self._needs[queue[0]]):
                number = queue.pop(0)
                self._home[worker] = profile
                self._out.setdefault(worker, []).append(number)
                return number
        return None

    def ended(self, worker: str, number: int) -> None:
        """An item has ended."""
        self._out[worker].remove(number)

    def lost(self, worker: str) -> int | None:
        """A worker is gone; what it had not begun is handed out again. Returns the item that it was running."""
        self._home.pop(worker, None)
        had = self._out.pop(worker, [])
        running = had.pop(0) if had else None
        for number in reversed(had):
            self.again(number)
        return running

    def again(self, number: int) -> None:
        """Hand an item out once more, before the others of its sort."""
        queue = self._queues.setdefault(self._needs[number].profile, [])
        sort = self._needs[number].place[:3]
        at = next((place for place, own in enumerate(queue) if self._needs[own].place[:3] >= sort), len(queue))
        queue.insert(at, number)

    def _by_wish(self, worker: str) -> list[str]:
        """The profiles in the order in which this worker would take them: its own, then by work per worker."""
        others = Counter(profile for own, profile in self._home.items() if own != worker)
        home = self._home.get(worker)

        def wish(profile: str) -> tuple[bool, float]:
            seconds = sum(self._needs[number].seconds for number in self._queues[profile])
            return profile != home, -seconds / (others[profile] + 1)

        return sorted(self._queues, key=wish)

    def _may_begin(self, worker: str, need: Need) -> bool:
        if not need.alone:
            return True
        room = max(self._each // max(Counter(need.profiles).values(), default=1), 1)
        busy = {own for own, items in self._out.items() if own != worker and any(map(self._is_alone(need), items))}
        return len(busy) < room

    def _is_alone(self, need: Need) -> Callable[[int], bool]:
        def test(number: int) -> bool:
            own = self._needs[number]
            return own.alone and not set(own.profiles).isdisjoint(need.profiles)

        return test


class _Node(Protocol):
    """A worker as xdist's controller has it."""

    gateway: Any

    @property
    def shutting_down(self) -> bool: ...
    def send_runtest_some(self, indices: Sequence[int]) -> None: ...
    def shutdown(self) -> None: ...


class GuestScheduling:
    """xdist's side of it: the interface of `xdist.scheduler.Scheduling`.

    Args:
        workers: how many workers the run begins with.
        need: what an item needs; asked when all workers have collected.
        each: guests of each profile.
        complain: told when the workers do not agree about the items.
    """

    def __init__(
        self, workers: int, need: Callable[[str], Need], *, each: int, complain: Callable[[str], None]
    ) -> None:
        self._workers = workers
        self._need = need
        self._each = each
        self._complain = complain
        self._nodes: dict[_Node, int] = {}
        self._collected: dict[_Node, list[str]] = {}
        self._items: list[str] | None = None
        self._plan: Plan | None = None

    @property
    def nodes(self) -> list[_Node]:
        """The workers."""
        return list(self._nodes)

    @property
    def collection_is_completed(self) -> bool:
        """Whether all workers that the run began with have collected, or had when it began."""
        return self._items is not None or len(self._collected) >= self._workers

    @property
    def has_pending(self) -> bool:
        """Whether there is work that has not ended."""
        return self._plan is not None and (self._plan.left > 0 or any(self._nodes.values()))

    @property
    def tests_finished(self) -> bool:
        """Whether nothing is left to hand out and no worker waits for a second item."""
        if self._plan is None:
            return self._items is not None
        return not self._plan.left and all(held < _AHEAD for held in self._nodes.values())

    def add_node(self, node: _Node) -> None:
        """A worker is there; it has not collected yet."""
        self._nodes[node] = 0

    def add_node_collection(self, node: _Node, collection: Sequence[str]) -> None:
        """A worker has collected; one that comes later must have found the same items."""
        if self._items is not None and list(collection) != self._items:
            self._complain(f"worker {_name(node)}, which came later, has collected other items")
            node.shutdown()
            return
        self._collected[node] = list(collection)

    def schedule(self) -> None:
        """Every worker that the run began with has collected, or one that came later."""
        if self._plan is None:
            self._begin()
        self._feed()

    def mark_test_complete(self, node: _Node, item_index: int, duration: float = 0) -> None:
        """An item has ended; its worker gets the next one."""
        del duration  # the run's history has it, by case
        assert self._plan is not None
        self._nodes[node] -= 1
        self._plan.ended(_name(node), item_index)
        self._feed()

    def mark_test_pending(self, item: str) -> None:
        """An item whose worker died is to be run again."""
        assert self._plan is not None
        assert self._items is not None
        self._plan.again(self._items.index(item))
        self._feed()

    def remove_pending_tests_from_node(self, node: _Node, indices: Sequence[int]) -> None:
        """The answer to a call that this scheduler never makes."""
        raise NotImplementedError(f"{_name(node)} gave back {list(indices)}, nobody asked it to")

    def remove_node(self, node: _Node) -> str | None:
        """A worker has ended or died; the item that it was running, if it was."""
        self._nodes.pop(node)
        self._collected.pop(node, None)
        if self._plan is None:
            return None
        assert self._items is not None
        running = self._plan.lost(_name(node))
        self._feed()
        return None if running is None else self._items[running]

    def _begin(self) -> None:
        first, *others = self._collected.values()
        self._items = first
        if any(other != first for other in others):
            self._complain("the workers have collected different items")
            return
        self._plan = Plan([self._need(item) for item in first], each=self._each)

    def _feed(self) -> None:
        """Give every worker what it lacks; one for which there is nothing ends after what it has."""
        if self._plan is None:
            return
        # one item each in turn: the longest ones begin at the same time
        for _ in range(_AHEAD):
            for node, held in self._nodes.items():
                if held >= _AHEAD or node.shutting_down or node not in self._collected:
                    continue
                number = self._plan.next(_name(node))
                if number is not None:
                    self._nodes[node] += 1
                    node.send_runtest_some([number])
        for node, held in self._nodes.items():
            if held < _AHEAD and not node.shutting_down and node in self._collected:
                node.shutdown()


def _name(node: _Node) -> str:
    return str(node.gateway.id)
