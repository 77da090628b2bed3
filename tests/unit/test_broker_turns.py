"""A host without room for all profiles of a run: they have turns, and no case is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wsklab.deadline import Deadline, NotYet, pause, wait_until
from wsklab.errors import HostFull, LeaseUnavailable
from wsklab.lease_protocol import GuestHandle, Reset
from wsklab.pytest_plugin import broker as broker_module
from wsklab.pytest_plugin import broker_socket
from wsklab.pytest_plugin.broker import Broker
from wsklab.pytest_plugin.fake_lab import FakeProvider
from wsklab.pytest_plugin.lease_client import LeaseClient


class SmallHost(FakeProvider):
    """Room for so many guests.

    Args:
        evidence: what is said when there is no room.
        before: called between the end of a guest and the making of the one that replaces it.
    """

    def __init__(
        self,
        room: int,
        *,
        evidence: Mapping[str, object] | None = None,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__({"a": "wine", "b": "wine", "c": "wine", "s": "shim"})
        self._room = room
        self._evidence = evidence or {}
        self._before = before
        self._guard = threading.Lock()
        self.living: set[str] = set()
        self.most = 0

    def provide(self, profile: str, *, boot: bool = False) -> GuestHandle:
        with self._guard:
            if profile == "s":
                return super().provide(profile, boot=boot)
            if len(self.living) >= self._room:
                raise HostFull("no room", why="told so", evidence=self._evidence)
            handle = super().provide(profile, boot=boot)
            self.living.add(handle.name)
            self.most = max(self.most, len(self.living))
            return handle

    def replace(self, handle: GuestHandle, reason: str, *, boot: bool = False) -> GuestHandle:
        self.drop(handle, reason)
        self._before()
        return self.provide(handle.profile, boot=boot)

    def drop(self, handle: GuestHandle, reason: str) -> None:
        super().drop(handle, reason)
        with self._guard:
            self.living.discard(handle.name)


@pytest.fixture
def address(tmp_path: Path) -> Path:
    """Where the broker listens."""
    return tmp_path / "broker"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other faster than at real guests."""
    monkeypatch.setattr(broker_module, "LOOK_S", 0.1)


def soon() -> Deadline:
    """Long enough for a few turns on a busy host."""
    return Deadline.after(20.0)


def work(address: Path, profile: str, cases: int, seconds: float = 0.0) -> list[str]:
    """A worker with so many cases, one after the other; the guests that it had."""
    names = []
    with LeaseClient(address) as client:
        for _ in range(cases):
            lease = client.acquire([profile], exclusive=False, deadline=soon())
            names.append(lease.guests[0].name)
            pause(seconds)
            client.release(lease, dirty=False, reason="")
    return names


@pytest.mark.parametrize("evidence", [{"in_the_way": 1}, {}], ids=["no memory", "a quota"])
def test_profiles_that_do_not_fit_have_turns(
    address: Path, evidence: Mapping[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three profiles, room for one: every case gets its guest, and none of the guests is taken from a case."""
    monkeypatch.setattr(broker_module, "LOOK_S", 0.3)  # a busy host may take a while between two cases
    provider = SmallHost(1, evidence=evidence)
    with Broker(provider, ["a", "b", "c"], address=address, room_s=5.0) as broker, ThreadPoolExecutor(3) as pool:
        names = [future.result() for future in [pool.submit(work, address, name, 5, 0.05) for name in "abc"]]
        assert [len(set(own)) for own in names] == [1, 1, 1]
        assert broker.failures == []
        assert sorted(handle.profile for handle in broker.seen) == ["a", "b", "c"]
    assert provider.most == 1


def test_a_turn_lasts_as_long_as_its_cases(address: Path) -> None:
    """Whoever waits for the cases of others waits longer than for the guests of others, and than for its own lease."""
    provider = SmallHost(1, evidence={"in_the_way": 1})
    with Broker(provider, ["a", "b"], address=address, room_s=0.5) as broker, LeaseClient(address) as client:
        first = client.acquire(["a"], exclusive=False, deadline=soon())
        with ThreadPoolExecutor(1) as pool, LeaseClient(address) as other:
            wish = pool.submit(other.acquire, ["b"], exclusive=False, deadline=Deadline.after(1.0))
            pause(2.5)
            assert not wish.done()
            client.release(first, dirty=False, reason="")
            assert wish.result().guests[0].profile == "b"
        assert broker.failures == []


def test_a_profile_comes_back(address: Path) -> None:
    """A guest that made room is made again for a case that comes later."""
    provider = SmallHost(1, evidence={"in_the_way": 1})
    with Broker(provider, ["a", "b"], address=address) as broker:
        first, second, third = (work(address, profile, 2) for profile in "aba")
        assert [name[0] for name in (*first, *second, *third)] == ["a", "a", "b", "b", "a", "a"]
        assert first[0] != third[0]
        assert broker.failures == []


def test_who_has_no_cases_takes_no_room(address: Path) -> None:
    """A profile that no case asks for sends nobody away."""
    provider = SmallHost(1, evidence={"in_the_way": 1})
    with Broker(provider, ["a", "b"], address=address) as broker:
        wait_until(lambda: broker.seen or NotYet(), soon(), what="the first guest")
        mine, other = broker.seen[0].profile, "b" if broker.seen[0].profile == "a" else "a"
        pause(1.0)
        assert provider.dropped == []
        assert work(address, mine, 1) == [broker.seen[0].name]
        assert work(address, other, 1) != []


def test_a_process_makes_no_room(address: Path) -> None:
    """A guest of kind shim is in nobody's way, and stays."""
    provider = SmallHost(1, evidence={"in_the_way": 1})
    with Broker(provider, ["s", "a", "b"], address=address) as broker:
        assert [name[0] for profile in "ab" for name in work(address, profile, 1)] == ["a", "b"]
        assert len(work(address, "s", 1)) == 1
        assert {name[0] for name, _ in provider.dropped} <= {"a", "b"}
        assert broker.failures == []


def test_the_room_of_a_replaced_guest_is_not_free(address: Path) -> None:
    """Between a dirty guest and the next one nobody of the run takes the place."""
    provider = SmallHost(1, evidence={"in_the_way": 1}, before=lambda: pause(1.5))
    with Broker(provider, ["a", "b"], address=address) as broker, ThreadPoolExecutor(1) as pool:
        with LeaseClient(address) as client:
            lease = client.acquire(["a"], exclusive=False, deadline=soon())
            waiting = pool.submit(work, address, "b", 1)
            client.release(lease, dirty=True, reason="it hung")
            lease = client.acquire(["a"], exclusive=True, deadline=soon(), reset=Reset.FORK)
            client.release(lease, dirty=False, reason="")
        assert len(waiting.result()) == 1
        assert broker.failures == []


def test_cases_that_want_more_than_fits(address: Path) -> None:
    """A case with two guests where one has room: nobody waits for ever, and the cases are told what is missing."""
    provider = SmallHost(1, evidence={"in_the_way": 1})
    with Broker(provider, ["a", "b"], address=address, room_s=1.0) as broker, LeaseClient(address) as client:
        with pytest.raises(LeaseUnavailable, match="is left") as caught:
            client.acquire(["a", "b"], exclusive=True, deadline=soon())
        assert "told so" in caught.value.why
        assert [type(failure.error) for failure in broker.failures] == [HostFull]


@pytest.mark.parametrize("evidence", [{"in_the_way": 1}, {}], ids=["no memory", "a quota"])
def test_a_host_that_others_fill(address: Path, evidence: Mapping[str, object]) -> None:
    """No profile finds room: none waits because the other one does."""
    with Broker(SmallHost(0, evidence=evidence), ["a", "b"], address=address, room_s=1.0) as broker:
        for profile in "ab":
            with LeaseClient(address) as client, pytest.raises(LeaseUnavailable, match=f"profile {profile} is left"):
                client.acquire([profile], exclusive=False, deadline=soon())
        assert [type(failure.error) for failure in broker.failures] == [HostFull, HostFull]


def test_a_worker_that_waits_hears_from_the_broker(address: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own deadline for an answer is shorter than others' cases may take; a broker that is silent is none."""
    monkeypatch.setattr(broker_socket, "_SIGN_S", 0.2)
    provider = SmallHost(1, evidence={"in_the_way": 1})
    with Broker(provider, ["a", "b"], address=address), LeaseClient(address) as client:
        first = client.acquire(["a"], exclusive=False, deadline=soon())
        with ThreadPoolExecutor(1) as pool, LeaseClient(address) as other:
            wish = pool.submit(other._ask, _ACQUIRE_B, Deadline.after(1.0))
            pause(2.0)
            assert not wish.done()
            client.release(first, dirty=False, reason="")
            assert wish.result()["lease"]


_ACQUIRE_B = {"op": "acquire", "profiles": ["b"], "exclusive": False, "timeout_s": 20.0}
