"""The lease broker over its socket: whole conversations with real threads and the model's guests."""

from __future__ import annotations

import json
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import LeaseError, LeaseUnavailable
from wsklab.pytest_plugin.broker import LINE_LIMIT, Broker
from wsklab.pytest_plugin.fake_lab import FakeExplanation, FakeProvider
from wsklab.pytest_plugin.lease_client import BrokerGone, LeaseClient


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
        wait_until(lambda: bool(broker._model.waiting) or NotYet(), soon(), what="the request in the queue")
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
        wait_until(lambda: bool(broker._model.waiting) or NotYet(), soon(), what="the request in the queue")
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
