"""The lease broker over its socket: whole conversations with real threads and the model's guests."""

from __future__ import annotations

import json
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsklab.deadline import Deadline, NotYet, pause, wait_until
from wsklab.errors import HostError, HostFull, LeaseError, LeaseUnavailable
from wsklab.lease_protocol import GuestHandle, Reset
from wsklab.pytest_plugin.broker import KEPT, REPLACEMENTS, Broker
from wsklab.pytest_plugin.fake_lab import FakeExplanation, FakeProvider
from wsklab.pytest_plugin.lease_client import BrokerGone, LeaseClient
from wsklab.pytest_plugin.leases import LINE_LIMIT
from wsklab.pytest_plugin.schedule import Need


@pytest.fixture
def address(tmp_path: Path) -> Path:
    """Where the broker listens."""
    return tmp_path / "broker"


@pytest.fixture
def provider() -> FakeProvider:
    """Guests of two profiles; what they died of is known."""
    return FakeProvider({"a": "wine", "b": "wine"}, explanation=FakeExplanation("crashed", "a bugcheck", {"code": 10}))


@pytest.fixture
def broker(address: Path, provider: FakeProvider) -> Iterator[Broker]:
    """A broker with one guest of each profile."""
    with Broker(provider, ["a", "b"], address=address) as made:
        yield made


def soon() -> Deadline:
    """Long enough for threads on a busy host."""
    return Deadline.after(10.0)


def test_a_worker_gets_and_returns_a_guest(broker: Broker, address: Path) -> None:
    """The lease carries the whole handle, so that a worker can connect without asking again."""
    with LeaseClient(address) as client:
        lease = client.acquire(["a", "b"], exclusive=True, deadline=soon())
        assert [guest.profile for guest in lease.guests] == ["a", "b"]
        assert lease.loopback.startswith("127.")
        client.release(lease, dirty=False, reason="")
        assert client.acquire(["a"], exclusive=True, deadline=soon()).guests[0].name == lease.guests[0].name


def test_a_static_machine_is_there_once(provider: FakeProvider) -> None:
    """However many guests of each profile are wanted: a second one is never asked for, and never waited for."""
    with Broker(provider, ["a", "b"], each=2, machines={"b"}) as made:
        with pytest.raises(LeaseUnavailable, match="the case wants 2 guests of b, there are 1"):
            made.acquire(["b", "b"], exclusive=True, deadline=soon())
        assert len(made.acquire(["a", "a", "b"], exclusive=True, deadline=soon()).guests) == 3
        assert sorted(handle.profile for handle in made.seen) == ["a", "a", "b"]


def test_the_socket_is_private(broker: Broker, address: Path) -> None:
    """Only the user of the run can speak to the broker."""
    assert stat.S_IMODE(address.stat().st_mode) == 0o600


def test_a_dirty_guest_is_replaced(broker: Broker, address: Path, provider: FakeProvider) -> None:
    """The next lease of the profile is another guest; the provider heard why."""
    with LeaseClient(address) as client:
        first = client.acquire(["a"], exclusive=False, deadline=soon())
        client.release(first, dirty=True, reason="it hung")
        second = client.acquire(["a"], exclusive=False, deadline=soon())
        assert second.guests[0].name != first.guests[0].name
        # while the client is there: its end is the death of a worker, with a replacement of its own
        assert provider.replaced == [(first.guests[0].name, "it hung")]


def test_a_dead_worker_returns_its_guest_dirty(broker: Broker, address: Path, provider: FakeProvider) -> None:
    """The end of the connection is the end of the lease, and nobody knows the guest's state."""
    dead = LeaseClient(address)
    name = dead.acquire(["a"], exclusive=True, deadline=soon()).guests[0].name
    dead.close()
    with LeaseClient(address) as client:
        assert client.acquire(["a"], exclusive=True, deadline=soon()).guests[0].name != name
        # before this client ends, too, and makes the broker replace its guest
        assert [replaced for replaced, _ in provider.replaced] == [name]


def test_a_dead_waiting_worker_leaves_the_queue(broker: Broker, address: Path) -> None:
    """A worker that died while it waited blocks nobody behind it."""
    with LeaseClient(address) as holder, LeaseClient(address) as next_one:
        held = holder.acquire(["a"], exclusive=True, deadline=soon())
        waiting = socket.socket(socket.AF_UNIX)
        waiting.connect(str(address))
        request = {"op": "acquire", "profiles": ["a"], "exclusive": True, "timeout_s": 60}
        waiting.sendall(json.dumps(request).encode() + b"\n")
        wait_until(lambda: bool(broker.waiting) or NotYet(), soon(), what="the request in the queue")
        waiting.close()
        holder.release(held, dirty=False, reason="")
        assert next_one.acquire(["a"], exclusive=True, deadline=soon()).guests[0].name == held.guests[0].name


def test_the_end_of_the_broker_reaches_its_workers(broker: Broker, address: Path) -> None:
    """A worker without a controller learns it at its next request, and while it waits."""
    with LeaseClient(address) as holder, LeaseClient(address) as waiting:
        holder.acquire(["a"], exclusive=True, deadline=soon())
        caught: list[BaseException] = []

        def wait() -> None:
            try:
                waiting.acquire(["a"], exclusive=True, deadline=soon())
            except LeaseError as error:
                caught.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        wait_until(lambda: bool(broker.waiting) or NotYet(), soon(), what="the request in the queue")
        broker.close()
        thread.join(10.0)
        assert caught
        with pytest.raises(BrokerGone):
            holder.acquire(["b"], exclusive=True, deadline=soon())


def test_a_profile_whose_guest_never_became_ready(address: Path) -> None:
    """Cases of that profile get the reason at once; cases of the other one run."""
    provider = FakeProvider({"a": "wine", "b": "wine"}, faults={"a": "boot"})
    with Broker(provider, ["a", "b"], address=address) as broker, LeaseClient(address) as client:
        with pytest.raises(LeaseUnavailable) as caught:
            client.acquire(["a"], exclusive=False, deadline=soon())
        assert "never became ready" in caught.value.why
        assert client.acquire(["b"], exclusive=False, deadline=soon()).guests[0].profile == "b"
        assert [failure.never_ready for failure in broker.failures] == [True]


def test_an_unknown_profile(broker: Broker, address: Path) -> None:
    """A profile that the run does not have is refused, not awaited."""
    with LeaseClient(address) as client, pytest.raises(LeaseUnavailable, match="no guests of profile"):
        client.acquire(["c"], exclusive=False, deadline=soon())


def test_explanations_cross_the_border(broker: Broker, address: Path) -> None:
    """A worker learns from the controller what its guest died of."""
    with LeaseClient(address) as client:
        story = client.explain("a-1", operation="", channel_lost=True)
    assert (story.fault, story.reason, story.signals) == ("crashed", "a bugcheck", {"code": 10})


@pytest.mark.parametrize(
    "line",
    [b"{}\n", b"nonsense\n", b'{"op": "dance"}\n', b'{"op": "release", "lease": 99, "dirty": 0, "reason": ""}\n'],
)
def test_nonsense_is_answered(broker: Broker, address: Path, line: bytes) -> None:
    """A request that is none gets an error, and the conversation goes on."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(10.0)
        raw.connect(str(address))
        for _ in range(2):
            raw.sendall(line)
            assert b'"error"' in raw.recv(65536)


def test_an_endless_line_ends_the_conversation(broker: Broker, address: Path) -> None:
    """A line is bounded: whoever sends more is cut off."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(10.0)
        raw.connect(str(address))
        for _ in range(64):
            try:
                raw.sendall(b"x" * LINE_LIMIT)
            except OSError:
                return
    pytest.fail("the broker took 16 MiB without a line's end")


def test_without_workers_the_broker_is_called_in_process(provider: FakeProvider) -> None:
    """The same broker serves a run without xdist, without a socket."""
    with Broker(provider, ["a"]) as broker:
        lease = broker.acquire(["a"], exclusive=False, deadline=soon())
        broker.release(lease, dirty=False, reason="")
    assert provider.closed


# -- sets ----------------------------------------------------------------------------------------


def test_a_set_that_the_run_cannot_have(broker: Broker, address: Path) -> None:
    """More guests of a profile than there are: refused at once, with the option that gives them."""
    with LeaseClient(address) as client, pytest.raises(LeaseUnavailable, match="wants 2 guests of a") as caught:
        client.acquire(["a", "a"], exclusive=False, deadline=soon())
    assert caught.value.fix == "--guests-each 2"


def test_a_set_is_given_back_whole(address: Path, provider: FakeProvider) -> None:
    """A worker dies with two guests of one profile and one of another: all three are replaced."""
    with Broker(provider, ["a", "b"], each=2, address=address) as broker:
        dead = LeaseClient(address)
        lease = dead.acquire(["a", "b", "a"], exclusive=False, deadline=soon())
        assert [guest.profile for guest in lease.guests] == ["a", "b", "a"]
        names = {guest.name for guest in lease.guests}
        assert len(names) == 3
        dead.close()
        with LeaseClient(address) as client:
            after = client.acquire(["a", "a", "b", "b"], exclusive=True, deadline=soon())
            assert not {guest.name for guest in after.guests} & names
            assert {name for name, _ in provider.replaced} == names
        assert broker.waiting == 0


# -- the reset ladder ------------------------------------------------------------------------------


def test_a_case_s_own_guest(broker: Broker, address: Path, provider: FakeProvider) -> None:
    """Nobody has had it, nobody gets it afterwards; a guest that is new already is taken as it is."""
    with LeaseClient(address) as client:
        first = client.acquire(["a"], exclusive=False, deadline=soon(), reset=Reset.FORK)
        assert first.exclusive
        assert provider.replaced == [], "it was new"
        client.release(first, dirty=False, reason="")
        second = client.acquire(["a"], exclusive=False, deadline=soon())
        assert second.guests[0].name != first.guests[0].name
        client.release(second, dirty=False, reason="")
        third = client.acquire(["a"], exclusive=False, deadline=soon(), reset=Reset.FORK)
        assert third.guests[0].name not in {first.guests[0].name, second.guests[0].name}
        assert [name for name, _ in provider.replaced] == [first.guests[0].name, second.guests[0].name]
        assert "reset fork" in provider.replaced[1][1]


def test_what_a_reset_costs_is_told(address: Path) -> None:
    """The lease carries the time that its fresh guests took, and none for one that was fresh already."""
    with Broker(SlowProvider({"a": "wine"}), ["a"], address=address), LeaseClient(address) as client:
        first = client.acquire(["a"], exclusive=True, deadline=soon(), reset=Reset.FORK)
        assert first.reset_s < 1
        client.release(first, dirty=False, reason="")
        used = client.acquire(["a"], exclusive=True, deadline=soon())
        client.release(used, dirty=False, reason="")
        assert client.acquire(["a"], exclusive=True, deadline=soon(), reset=Reset.FORK).reset_s >= 1


class SlowProvider(FakeProvider):
    """Takes its time for a replacement."""

    def replace(self, handle: GuestHandle, reason: str, *, boot: bool = False) -> GuestHandle:
        """See `FakeProvider`."""
        pause(1)
        return super().replace(handle, reason, boot=boot)


def test_a_rebuilt_guest_is_booted(broker: Broker, address: Path, provider: FakeProvider) -> None:
    """A fork that nobody has had is no booted guest: it is replaced by one."""
    with LeaseClient(address) as client:
        lease = client.acquire(["a"], exclusive=False, deadline=soon(), reset=Reset.REBUILD)
        assert lease.guests[0].method == "boot"
        assert provider.asked.count(("a", "boot")) == 1


def test_a_driver_reset_only_wants_to_be_alone(broker: Broker, address: Path, provider: FakeProvider) -> None:
    """Reloading is the worker's business; the guest stays and is used again."""
    with LeaseClient(address) as client:
        lease = client.acquire(["a"], exclusive=False, deadline=soon(), reset=Reset.DRIVER)
        assert lease.exclusive
        assert lease.reset_s == 0
        client.release(lease, dirty=False, reason="")
        again = client.acquire(["a"], exclusive=False, deadline=soon())
        assert again.guests[0].name == lease.guests[0].name
    assert ("a", "boot") not in provider.asked


def test_resets_are_no_sign_of_trouble(broker: Broker, address: Path) -> None:
    """A profile is given up after too many dirty guests, never after resets that cases asked for."""
    with LeaseClient(address) as client:
        for _ in range(REPLACEMENTS + 3):
            lease = client.acquire(["a"], exclusive=False, deadline=soon(), reset=Reset.FORK)
            client.release(lease, dirty=False, reason="")
        assert broker.failures == []


def test_a_reset_that_fails(address: Path) -> None:
    """The case is told why it has no guest; the lab tries once more in the background, and the next case has one."""
    provider = FlakyProvider({"a": "wine"})
    with Broker(provider, ["a"], address=address) as broker, LeaseClient(address) as client:
        used = client.acquire(["a"], exclusive=False, deadline=soon())
        client.release(used, dirty=False, reason="")
        provider.failures_left = 1
        with pytest.raises(LeaseUnavailable, match="no fresh guest of a") as caught:
            client.acquire(["a"], exclusive=False, deadline=soon(), reset=Reset.FORK)
        assert "the model was told so" in caught.value.why
        assert client.acquire(["a"], exclusive=False, deadline=soon()).guests[0].name != used.guests[0].name
        assert broker.failures == []


class FlakyProvider(FakeProvider):
    """Fails to make a number of guests."""

    failures_left = 0

    def provide(self, profile: str, *, boot: bool = False) -> GuestHandle:
        """See `FakeProvider`."""
        if self.failures_left:
            self.failures_left -= 1
            raise HostError("no guest today", why="the model was told so")
        return super().provide(profile, boot=boot)


# -- kept guests -----------------------------------------------------------------------------------


def test_a_kept_guest_leaves_the_run(broker: Broker, address: Path, provider: FakeProvider) -> None:
    """It is the user's when its last lease has come back; the run goes on with another one."""
    with LeaseClient(address) as failing, LeaseClient(address) as other:
        first = failing.acquire(["a"], exclusive=False, deadline=soon())
        shared = other.acquire(["a"], exclusive=False, deadline=soon())
        assert shared.guests[0].name == first.guests[0].name
        failing.release(first, dirty=False, reason="test_x: it failed", keep=True)
        assert provider.kept == [], "somebody still has it"
        other.release(shared, dirty=False, reason="")
        assert [(kept.name, kept.why) for kept in broker.kept] == [(first.guests[0].name, "test_x: it failed")]
        assert broker.kept == provider.kept
        assert failing.acquire(["a"], exclusive=True, deadline=soon()).guests[0].name != first.guests[0].name
    assert first.guests[0].name not in [name for name, _ in provider.replaced]


def test_only_a_few_guests_are_kept(broker: Broker, address: Path, provider: FakeProvider) -> None:
    """A run in which everything fails does not fill the host."""
    with LeaseClient(address) as client:
        for _ in range(KEPT + 2):
            lease = client.acquire(["a"], exclusive=True, deadline=soon())
            client.release(lease, dirty=False, reason="it failed", keep=True)
        client.acquire(["a"], exclusive=True, deadline=soon())
    assert len(broker.kept) == KEPT


@pytest.mark.parametrize("fault", ["unkeepable", "full"])
def test_the_run_comes_first(address: Path, fault: str) -> None:
    """A guest that cannot be kept, or for which there is no room beside the run's, is replaced, and a note says so."""
    provider = FakeProvider({"a": "wine"}, faults={"a": fault})
    with Broker(provider, ["a"], address=address) as broker, LeaseClient(address) as client:
        lease = client.acquire(["a"], exclusive=True, deadline=soon())
        client.release(lease, dirty=False, reason="it failed", keep=True)
        again = client.acquire(["a"], exclusive=True, deadline=soon())
        assert again.guests[0].name != lease.guests[0].name
        assert broker.kept == provider.kept == []
        (note,) = broker.notes
        assert "kept" in note.message
        assert broker.failures == []


def test_workers_say_what_items_need(broker: Broker, address: Path) -> None:
    """More needs than one line holds arrive, each as it was said."""
    needs = [Need(item=f"t::{n}", profiles=("a", "a"), reset=Reset.FORK) for n in range(2001)]
    with LeaseClient(address) as client:
        client.plan(needs)
    assert list(broker.needs.values()) == needs


def test_only_guests_that_die_in_a_row_end_a_profile(broker: Broker, address: Path, provider: FakeProvider) -> None:
    """Many crashes with passed cases between them are no reason to give up; as many without are, and the last guest is
    put away, too."""
    with LeaseClient(address) as client:
        for dirty in [*([True, False] * (REPLACEMENTS + 2)), *([True] * (REPLACEMENTS + 1))]:
            lease = client.acquire(["a"], exclusive=False, deadline=soon())
            client.release(lease, dirty=dirty, reason="it crashed")
        with pytest.raises(LeaseUnavailable, match="no guest of profile a is left"):
            client.acquire(["a"], exclusive=False, deadline=soon())
        assert [failure.error.message for failure in broker.failures] == [
            f"a was replaced {REPLACEMENTS} times in a row and is given up"
        ]

        def away() -> bool | NotYet:
            return provider.dropped == [(lease.guests[0].name, "it crashed")] or NotYet(str(provider.dropped))

        wait_until(away, soon(), what="the last guest put away")


# ---- a full host


class CrowdedProvider(FakeProvider):
    """The guests of others leave after a few attempts."""

    def __init__(self, attempts: int, in_the_way: int) -> None:
        super().__init__({"a": "wine"})
        self._left = attempts
        self._in_the_way = in_the_way
        self.attempts = 0

    def provide(self, profile: str, *, boot: bool = False) -> GuestHandle:
        self.attempts += 1
        if self._left > 0:
            self._left -= 1
            raise HostFull("no room", why="told so", evidence={"in_the_way": self._in_the_way})
        return super().provide(profile, boot=boot)


def test_a_full_host_is_waited_for(address: Path) -> None:
    """Others' guests end: the run begins late, and no case is lost."""
    with Broker(CrowdedProvider(2, 8), ["a"], address=address) as broker, LeaseClient(address) as client:
        assert client.acquire(["a"], exclusive=False, deadline=soon()).guests[0].profile == "a"
        assert broker.failures == []


@pytest.mark.parametrize(
    ("provider", "attempts"),
    [(CrowdedProvider(1, 0), 1), (CrowdedProvider(1 << 30, 8), 2)],
    ids=["nobody is in the way", "nobody leaves"],
)
def test_a_host_that_stays_full(address: Path, provider: CrowdedProvider, attempts: int) -> None:
    """Waiting that cannot help, or that did not: the cases are told what is missing."""
    with Broker(provider, ["a"], address=address, room_s=0.8) as broker, LeaseClient(address) as client:
        with pytest.raises(LeaseUnavailable, match="no guest of profile a is left") as caught:
            client.acquire(["a"], exclusive=False, deadline=soon())
        assert "told so" in caught.value.why
        assert [type(failure.error) for failure in broker.failures] == [HostFull]
    assert provider.attempts >= attempts
    assert (provider.attempts == 1) == (attempts == 1)


def test_the_guest_of_a_second_attempt_stays_in_the_run(broker: Broker, address: Path, provider: FakeProvider) -> None:
    """It is one that nobody has had, and when it comes back clean the next case gets it; nothing is made for that."""
    with LeaseClient(address) as client:
        first = client.acquire(["a"], exclusive=False, deadline=soon())
        client.release(first, dirty=True, reason="it crashed")
        again = client.acquire(["a"], exclusive=True, deadline=soon(), reset=Reset.FORK, again=True)
        assert again.exclusive
        assert again.guests[0].name != first.guests[0].name
        client.release(again, dirty=False, reason="")
        after = client.acquire(["a"], exclusive=False, deadline=soon())
        assert after.guests[0].name == again.guests[0].name
        client.release(after, dirty=False, reason="")
        assert len(provider.replaced) == 1


def test_a_second_attempt_beside_the_others(address: Path) -> None:
    """Where guests are processes: it waits for no one, nobody waits for it, and its guest is nobody else's."""
    provider = FakeProvider({"a": "shim"})
    with (
        Broker(provider, ["a"], address=address, processes={"a"}) as broker,
        LeaseClient(address) as one,
        LeaseClient(address) as other,
        LeaseClient(address) as third,
    ):
        held = one.acquire(["a"], exclusive=False, deadline=soon())
        again = other.acquire(["a"], exclusive=True, deadline=soon(), reset=Reset.FORK, again=True)
        assert again.exclusive
        assert again.guests[0].name != held.guests[0].name
        beside = third.acquire(["a"], exclusive=False, deadline=soon())
        assert beside.guests == held.guests, "nobody waits for a second attempt, or shares its guest"
        assert len({lease.first_port for lease in (held, again, beside)}) == 3
        other.release(again, dirty=False, reason="it passed")
        wait_until(lambda: bool(provider.dropped) or NotYet(), soon(), what="the end of its guest")
        assert [name for name, _ in provider.dropped] == [again.guests[0].name]
        assert provider.replaced == []
        assert [guest.name for guest in broker.seen] == [held.guests[0].name, again.guests[0].name]
        after = other.acquire(["a"], exclusive=False, deadline=soon())
        assert after.guests == held.guests


def test_a_worker_that_dies_in_a_second_attempt(address: Path) -> None:
    """Its guest goes; that of the others stays."""
    provider = FakeProvider({"a": "shim"})
    with Broker(provider, ["a"], address=address, processes={"a"}):
        with LeaseClient(address) as client:
            again = client.acquire(["a"], exclusive=True, deadline=soon(), reset=Reset.FORK, again=True)
        wait_until(lambda: bool(provider.dropped) or NotYet(), soon(), what="the end of its guest")
        assert [name for name, _ in provider.dropped] == [again.guests[0].name]
        with LeaseClient(address) as client:
            assert client.acquire(["a"], exclusive=True, deadline=soon()).guests[0].name != again.guests[0].name
        assert len(provider.asked) == 2


def test_a_second_attempt_for_which_no_guest_can_be_made(address: Path) -> None:
    """The case learns why, and the run goes on."""
    provider = FlakyProvider({"a": "shim"})
    with Broker(provider, ["a"], address=address, processes={"a"}), LeaseClient(address) as client:
        held = client.acquire(["a"], exclusive=False, deadline=soon())
        client.release(held, dirty=False, reason="")
        provider.failures_left = 1
        with pytest.raises(LeaseUnavailable, match="no fresh guest of a could be made"):
            client.acquire(["a"], exclusive=True, deadline=soon(), reset=Reset.FORK, again=True)
        assert client.acquire(["a"], exclusive=False, deadline=soon()).guests == held.guests
