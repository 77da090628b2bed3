"""The order of a run: by profile, longest first, alone last; every item runs once, whoever dies on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsklab.lease_protocol import Reset
from wsklab.pytest_plugin.schedule import GuestScheduling, Need, Plan, in_order


def need(item: str, *profiles: str, seconds: float = 1.0, **more: Any) -> Need:
    """An item of profile `a` unless said otherwise."""
    return Need(item=item, profiles=profiles or ("a",), seconds=seconds, **more)


def taken(plan: Plan, worker: str, needs: list[Need]) -> str:
    """The item that a worker is given; "" for none."""
    number = plan.next(worker)
    return "" if number is None else needs[number].item


def test_the_order_within_a_profile() -> None:
    """Shared ones first, the longest first; then sets, then exclusive ones, and the ladder from its cheap end."""
    needs = [
        need("rebuilt", reset=Reset.REBUILD, seconds=9),
        need("forked", reset=Reset.FORK, seconds=1),
        need("alone", exclusive=True, seconds=5),
        need("reloaded", reset=Reset.DRIVER, seconds=7),
        need("set", "a", "a", seconds=8),
        need("short", seconds=1),
        need("long", seconds=2),
    ]
    order = ["long", "short", "set", "alone", "reloaded", "forked", "rebuilt"]
    assert [own.item for own in in_order(needs)] == order


def test_workers_are_spread_by_work_and_keep_to_their_profile() -> None:
    """Two workers go to the profile with twice the work, and each stays where it began until nothing is left there."""
    needs = [need(f"a{n}", "a", seconds=2) for n in range(6)] + [need(f"b{n}", "b", seconds=1) for n in range(6)]
    plan = Plan(needs, each=1)
    first = [taken(plan, worker, needs)[0] for worker in ("w1", "w2", "w3")]
    assert sorted(first) == ["a", "a", "b"]
    home = dict(zip(("w1", "w2", "w3"), first, strict=True))
    for _ in range(2):
        for worker, profile in home.items():
            assert taken(plan, worker, needs)[0] == profile
    keeps_b = next(worker for worker, profile in home.items() if profile == "b")
    while (item := taken(plan, keeps_b, needs)).startswith("b"):
        pass
    assert item == "" or item.startswith("a"), "no work of its own is left: it helps out"
    assert plan.left == 0


@pytest.mark.parametrize(("each", "at_once"), [(1, 1), (2, 2)])
def test_exclusive_items_go_to_as_many_workers_as_there_are_guests(each: int, at_once: int) -> None:
    """More of them at the same time would only wait for each other; whoever has one gets the next one, too."""
    needs = [need(f"x{n}", exclusive=True) for n in range(6)]
    plan = Plan(needs, each=each)
    given_to = [worker for worker in ("w1", "w2", "w3") if plan.next(worker) is not None]
    assert len(given_to) == at_once
    assert plan.next(given_to[0]) is not None


def test_sets_share_the_guests() -> None:
    """Of four guests two sets of two can run at the same time, not three."""
    needs = [need(f"s{n}", "a", "a") for n in range(3)]
    plan = Plan(needs, each=4)
    assert [plan.next(worker) is not None for worker in ("w1", "w2", "w3")] == [True, True, False]


def test_what_a_dead_worker_had_is_handed_out_again() -> None:
    """The item that it ran is told; the next one goes back to its place."""
    needs = [need("a1", seconds=3), need("a2", seconds=2), need("a3", seconds=1)]
    plan = Plan(needs, each=1)
    assert [plan.next("w1"), plan.next("w1")] == [0, 1]
    assert plan.lost("w1") == 0
    assert [plan.next("w2"), plan.next("w2"), plan.next("w2")] == [1, 2, None]
    plan.again(0)
    assert plan.next("w2") == 0


@dataclass(eq=False)
class Node:
    """A worker as xdist's controller has it, which does what xdist's own one does with its queue."""

    name: str
    queue: list[int] = field(default_factory=list)
    ending: bool = False
    gateway: Any = None

    def __post_init__(self) -> None:
        self.gateway = SimpleNamespace(id=self.name)

    @property
    def shutting_down(self) -> bool:
        """Whether it was told to end."""
        return self.ending

    def send_runtest_some(self, indices: list[int]) -> None:
        """More work."""
        assert not self.ending, "work for a worker that ends"
        self.queue.extend(indices)

    def shutdown(self) -> None:
        """No more work."""
        self.ending = True

    @property
    def runs(self) -> bool:
        """Whether it runs an item: it knows the next one, or that there is none."""
        return len(self.queue) > 1 or (bool(self.queue) and self.ending)


class Session:
    """The part of xdist's controller that a scheduler sees."""

    def __init__(self, needs: list[Need], *, workers: int, each: int) -> None:
        self.items = [own.item for own in needs]
        by_id = {own.item: own for own in needs}
        self.complaints: list[str] = []
        self.sched = GuestScheduling(workers, lambda item: by_id[item], each=each, complain=self.complaints.append)
        self.nodes: list[Node] = []
        self.ran: Counter[str] = Counter()
        self.started = 0
        for _ in range(workers):
            self.start()

    def start(self) -> None:
        """A worker comes up and collects."""
        self.started += 1
        node = Node(f"gw{self.started}")
        self.nodes.append(node)
        self.sched.add_node(node)
        self.sched.add_node_collection(node, self.items)
        if self.sched.collection_is_completed:
            self.sched.schedule()

    def step(self, choice: int, *, dies: bool) -> bool:
        """One worker ends its item, or dies with it; False when none runs anything."""
        busy = [node for node in self.nodes if node.runs]
        if not busy:
            return False
        node = busy[choice % len(busy)]
        if not dies:
            number = node.queue.pop(0)
            self.ran[self.items[number]] += 1
            self.sched.mark_test_complete(node, number)
            return True
        self.nodes.remove(node)
        lost = self.sched.remove_node(node)
        assert lost == self.items[node.queue[0]]
        self.sched.mark_test_pending(lost)
        self.start()
        return True


@settings(max_examples=150, deadline=None)
@given(
    needs=st.lists(
        st.tuples(st.sampled_from(["a", "b", ""]), st.booleans(), st.sampled_from(list(Reset)), st.floats(0.1, 9)),
        max_size=25,
    ),
    workers=st.integers(2, 5),
    each=st.integers(1, 3),
    deaths=st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=60),
)
def test_every_item_runs_once_and_the_run_ends(
    needs: list[tuple[str, bool, Reset, float]], workers: int, each: int, deaths: list[tuple[int, bool]]
) -> None:
    """Whatever the items are and whoever dies: each item ends once, no worker waits for ever."""
    made = [
        Need(item=f"{profile}{n}", profiles=(profile,) if profile else (), exclusive=alone, reset=rung, seconds=seconds)
        for n, (profile, alone, rung, seconds) in enumerate(needs)
    ]
    session = Session(made, workers=workers, each=each)
    for choice, dies in deaths:
        if not session.step(choice, dies=dies):
            break
    while session.step(0, dies=False):
        pass
    assert session.ran == Counter(session.items)
    assert session.sched.tests_finished
    assert not session.sched.has_pending
    assert all(node.ending for node in session.nodes), "a worker was never told to end"
    assert session.complaints == []


def test_workers_that_disagree() -> None:
    """Different collections are told, and the run ends without handing anything out."""
    session = Session([need("a1")], workers=2, each=1)
    other = GuestScheduling(2, need, each=1, complain=session.complaints.append)
    nodes = [Node("gw1"), Node("gw2")]
    for node, items in zip(nodes, (["a1"], ["a2"]), strict=True):
        other.add_node(node)
        other.add_node_collection(node, items)
    other.schedule()
    assert session.complaints == ["the workers have collected different items"]
    assert other.tests_finished
    assert [node.queue for node in nodes] == [[], []]


def test_a_late_worker_that_disagrees() -> None:
    """It is told to end; the others go on."""
    session = Session([need("a1"), need("a2"), need("a3")], workers=1, each=1)
    late = Node("gw9")
    session.sched.add_node(late)
    session.sched.add_node_collection(late, ["b1"])
    session.sched.schedule()
    assert late.ending
    assert late.queue == []
    assert len(session.complaints) == 1
    while session.step(0, dies=False):
        pass
    assert session.ran.total() == 3
