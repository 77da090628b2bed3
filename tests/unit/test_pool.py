"""Who takes the place of a guest that died: a spare, one that is in the making, a new one. On the fake hypervisor."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypervisor_contract import spec_maker

from wsklab import network, pool, run_spares
from wsklab.channel.fake import Ended, FakeChannel
from wsklab.deadline import Deadline, NotYet, Timeouts, pause, wait_until
from wsklab.deploy import DriverPackage
from wsklab.errors import ChannelLost, HostError, HostFull, LabError
from wsklab.guest import Claim, Guest, GuestRecord
from wsklab.hypervisor.fake import FakeHypervisor
from wsklab.hypervisor.protocol import DomainState
from wsklab.lease import SlotTable
from wsklab.lease_protocol import GuestHandle
from wsklab.pool import GuestPool
from wsklab.profile import GuestProfile, load_profile
from wsklab.ready_links import ReadyLinks
from wsklab.resources import images_root

PROFILE = "wine-bookworm"


class Conversation(contextlib.AbstractContextManager["Conversation"]):
    """What a pool needs of a `DeviceClient`."""

    hello = SimpleNamespace(os_major=10, os_minor=0, os_build=19043, os_revision=0, wine="8.0")

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    @property
    def fault(self) -> LabError | None:
        return self._bench.fault[0]

    def close(self) -> None:
        self._bench.closed[0] += 1

    def __exit__(self, *_: object) -> None:
        self.close()


class Bench:
    """A pool with one spare, and what its guests are made of."""

    def __init__(self, folder: Path, hypervisor: FakeHypervisor) -> None:
        self.hypervisor = hypervisor
        self.made: list[Guest] = []
        self.links = ReadyLinks()
        #: how many conversations with guests were closed, and why they are over
        self.closed = [0]
        self.fault: list[LabError | None] = [None]
        #: nobody gets a new guest while this is clear
        self.open = threading.Event()
        self.open.set()
        #: nobody gets through to a guest while this is clear
        self.answers = threading.Event()
        self.answers.set()
        self._folder = folder
        self._home = "0123"
        self._spec = spec_maker(self._home, folder, None)
        (folder / "x.sys").write_bytes(b"MZ")
        self._package = DriverPackage(image=folder / "x.sys", service="x")
        self.pool = GuestPool(
            profiles={PROFILE: load_profile(images_root() / PROFILE)},
            start=self._start,
            spares=1,
            links=self.links,
            claim=Claim(owner="me", purpose="run", run="r1"),
            package=self._package,
            slots=SlotTable(folder / "slots"),
            events=hypervisor.subscribe(),
            timeouts=Timeouts(scale=1.0),
            evidence=folder / "evidence",
        )

    def _start(self, facts: GuestProfile, claim: Claim, package: DriverPackage) -> Guest:
        spec = self._spec()
        domain = self.hypervisor.define(spec)
        folder = self._folder / claim.name
        folder.mkdir()
        record = GuestRecord(
            name=claim.name, profile=facts.name, kind="wine", uuid=spec.uuid, slot=10, mac="", address="192.0.2.1",
            image="", created="", driver=package.digest, method="fork",
        )  # fmt: skip
        guest = Guest(
            record=record, directory=folder, domain=domain, via=network.Via(), key=folder / "key",
            opener=self._channel, timeouts=Timeouts(scale=1.0),
        )  # fmt: skip
        self.made.append(guest)
        assert self.open.wait(30)
        domain.start()
        return guest

    def _channel(self, **_words: Any) -> FakeChannel:
        assert self.answers.wait(30)
        return FakeChannel({"": Ended()})

    def rested(self) -> str:
        """The name of the spare, once there is one."""
        return wait_until(
            lambda: self.pool.spares.names(PROFILE)[0] if self.pool.spares.names(PROFILE) else NotYet(),
            Deadline.after(20), what="a spare",
        )  # fmt: skip

    def dies(self, handle: GuestHandle) -> None:
        """The guest is off, and a case has asked why."""
        self._guest(handle).domain.destroy()
        self.pool.explain(handle.name, operation="", channel_lost=False)

    def stood_still_s(self, handle: GuestHandle) -> object:
        """How long a guest's processors stood still, as a case is told."""
        return self.pool.explain(handle.name, operation="x", channel_lost=False).signals["stood_still_s"]

    def hangs(self, handle: GuestHandle) -> None:
        """The guest's processors stand still from now on."""
        self.hypervisor.hang(self._guest(handle).record.uuid)

    def awaits(self, state: DomainState) -> None:
        """Wait until the guest that was made last is in a state."""
        wait_until(
            lambda: self.made[-1].domain.state() is state or NotYet(), Deadline.after(20), what=f"{state} of a guest"
        )

    def left(self) -> list[str]:
        """The guests that are still there."""
        return [domain.name for domain in self.hypervisor.domains(self._home)]

    def _guest(self, handle: GuestHandle) -> Guest:
        return next(guest for guest in self.made if guest.name == handle.name)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The way into a guest, which has its own tests with real guests, is short."""

    def no_packets(*_words: Any) -> Any:
        raise HostError("no packets here")

    monkeypatch.setattr(pool.DeviceClient, "open", lambda *_words, **_more: Conversation(made))
    monkeypatch.setattr(pool, "Capture", no_packets)
    monkeypatch.setattr(run_spares, "rouse", lambda guest, _timeouts: guest.domain.resume())
    monkeypatch.setattr(pool, "_PULSE_S", 0.02)
    monkeypatch.setattr(network, "connect", lambda *_words: SimpleNamespace(close=lambda: None))
    with FakeHypervisor() as hypervisor:
        made = Bench(tmp_path, hypervisor)
        yield made
        made.open.set()
        made.pool.close()


def test_the_spare_takes_the_place_of_a_guest_that_died(bench: Bench) -> None:
    """It is there at once, and the next spare is begun although nobody has given the dead guest back yet."""
    second = bench.pool.replace(bench.pool.provide(PROFILE), "dirty")
    spare = bench.rested()
    bench.open.clear()  # nothing new is ready
    bench.dies(second)
    third = bench.pool.replace(second, "it died")
    assert third.name == spare
    bench.open.set()
    assert bench.rested() != spare
    assert len(bench.made) == 4, "two guests were made for one that died"


def test_a_successor_without_room_waits_for_the_dead(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both do not fit, the one that is begun early comes to nothing; the next waits until the first is gone."""
    start, discard = bench.pool._start, bench.pool._discard

    def on_a_small_host(facts: GuestProfile, claim: Claim, package: DriverPackage) -> Guest:
        if any(guest.directory.exists() for guest in bench.made):
            # the successor is still in the making when the dead guest is given back
            wait_until(lambda: bench.pool._find(first.name) is None or NotYet(), Deadline.after(20), what="its end")
            raise HostFull("no room")
        return start(facts, claim, package)

    def slowly(guest: Guest, reason: str) -> None:
        pause(0.3)
        discard(guest, reason)

    monkeypatch.setattr(bench.pool, "_start", on_a_small_host)
    monkeypatch.setattr(bench.pool, "_discard", slowly)
    first = bench.pool.provide(PROFILE)
    bench.dies(first)
    second = bench.pool.replace(first, "it died")
    assert second.name != first.name
    assert [guest.directory.exists() for guest in bench.made] == [False, True]


@pytest.mark.parametrize("error", [HostError("no"), OSError("no")], ids=["told", "not foreseen"])
def test_a_successor_that_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Whatever happens in its thread, and in that of a spare, nobody waits for it, and another one is made."""
    start = bench.pool._start
    failing = [error, error]

    def fail_twice(facts: GuestProfile, claim: Claim, package: DriverPackage) -> Guest:
        if bench.made and failing:
            raise failing.pop()
        return start(facts, claim, package)

    monkeypatch.setattr(bench.pool, "_start", fail_twice)
    first = bench.pool.provide(PROFILE)
    bench.dies(first)
    wait_until(lambda: not failing or NotYet(), Deadline.after(20), what="the end of both")
    assert bench.pool.replace(first, "it died").name != first.name


@pytest.mark.parametrize("error", [HostError("no"), OSError("no")], ids=["told", "not foreseen"])
def test_a_dead_guest_that_cannot_be_removed(bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Its successor comes all the same, and the end of the run says so."""
    discard = bench.pool._discard
    first = bench.pool.provide(PROFILE)

    def fail(guest: Guest, reason: str) -> None:
        if guest.name == first.name:
            raise error
        discard(guest, reason)

    monkeypatch.setattr(bench.pool, "_discard", fail)
    bench.dies(first)
    assert bench.pool.replace(first, "it died").name != first.name
    with pytest.raises(HostError) as caught:
        bench.pool.close()
    assert "no" in (caught.value.message, *caught.value.why.split("'"))
    bench.pool._undone.clear()  # told once; the bench closes the pool, too


def test_a_spare_in_the_making_is_awaited(bench: Bench) -> None:
    """The first death begins two guests, for it and for the next one, which begins one more: of two in a row."""
    first = bench.pool.provide(PROFILE)
    bench.dies(first)
    second = bench.pool.replace(first, "it died")
    wait_until(lambda: len(bench.made) == 3 or NotYet(), Deadline.after(20), what="the beginning of a spare")
    bench.dies(second)
    third = bench.pool.replace(second, "it died, too")
    assert {second.name, third.name} == {guest.name for guest in bench.made[1:3]}
    bench.rested()
    assert len(bench.made) == 4


def test_a_spare_was_never_starved(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands still because the lab paused it; one that works and stands still is starved."""
    monkeypatch.setattr(run_spares, "_AWAKE_S", 0.0)
    second = bench.pool.replace(bench.pool.provide(PROFILE), "dirty")
    bench.hangs(second)
    bench.rested()
    bench.awaits(DomainState.PAUSED)
    wait_until(
        lambda: bool(bench.stood_still_s(second)) or NotYet(), Deadline.after(20), what="a guest that stands still"
    )
    third = bench.pool.replace(second, "dirty")
    assert bench.stood_still_s(third) == 0


def test_a_spare_is_awake_until_it_has_waited_for_long(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then it keeps what is open into it, and is there at once; then it is paused, and resumed for its taker."""
    second = bench.pool.replace(bench.pool.provide(PROFILE), "dirty")
    spare = bench.rested()
    assert bench.made[-1].domain.state() is DomainState.RUNNING
    third = bench.pool.replace(second, "dirty")
    assert third.name == spare
    assert bench.links.take(spare) is not None
    assert bench.links.take(spare) is None, "it is somebody's now"

    spare = bench.rested()
    assert spare != third.name
    monkeypatch.setattr(run_spares, "_AWAKE_S", 0.0)
    bench.awaits(DomainState.PAUSED)
    assert bench.links.take(spare) is None, "a paused guest answers nobody"
    bench.rested()
    fourth = bench.pool.replace(third, "dirty")
    assert fourth.name == spare
    assert next(guest for guest in bench.made if guest.name == spare).domain.state() is DomainState.RUNNING


def test_what_is_open_into_a_guest_ends_with_it(bench: Bench) -> None:
    """One that nobody took is closed; one that broke is nobody's."""
    first = bench.pool.provide(PROFILE)
    second = bench.pool.replace(first, "dirty")
    assert bench.links.take(first.name) is None
    assert bench.closed[0] == 1
    bench.fault[0] = ChannelLost("it broke")
    assert bench.links.take(second.name) is None
    assert bench.closed[0] == 2


def test_the_end_does_not_wait_for_a_guest_that_is_not_ready_yet(bench: Bench) -> None:
    """It is taken away; whoever waits for its answer learns that the run is over."""
    first = bench.pool.provide(PROFILE)
    bench.answers.clear()
    bench.dies(first)
    wait_until(lambda: len(bench.made) == 3 or NotYet(), Deadline.after(20), what="the beginning of two successors")
    bench.awaits(DomainState.RUNNING)
    assert len(bench.left()) == 3
    before = time.monotonic()
    bench.pool.close()
    assert time.monotonic() - before < 10, "it waited for a guest that was gone"
    assert bench.left() == []
