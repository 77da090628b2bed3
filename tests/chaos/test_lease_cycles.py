"""Owners of leases are killed at random: no guest is claimed twice, or given on as its dead owner left it, or lost."""

from __future__ import annotations

import contextlib
import os
import random
import selectors
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_home import SOURCE, LabCommand

from wsklab.assemble import Lab
from wsklab.config import LabConfig, ModeSetting
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import DomainGone
from wsklab.pytest_plugin.broker import Broker
from wsklab.pytest_plugin.fake_lab import FakeProvider

_OWNER = Path(__file__).with_name("lease_owner.py")


class Owners:
    """Several owners at work at the same time, each until it is killed."""

    def __init__(self, sort: str, place: Path, witness: Path, rng: random.Random, count: int) -> None:
        self._words = (sort, str(place), str(witness))
        self._rng = rng
        self._selector = selectors.DefaultSelector()
        self._children: list[subprocess.Popen[bytes]] = []
        self._by_child: dict[int, Counter[str]] = {}
        self.said: Counter[str] = Counter()
        #: owners that were killed, and those of them that held something
        self.kills = 0
        self.in_hand = 0
        witness.mkdir()
        for _ in range(count):
            self._start()

    def _start(self) -> None:
        child = subprocess.Popen(
            [sys.executable, str(_OWNER), *self._words, str(self._rng.randrange(1 << 30))],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )  # fmt: skip
        assert child.stdout is not None
        self._children.append(child)
        self._selector.register(child.stdout, selectors.EVENT_READ, child)

    def listen(self, seconds: float) -> None:
        """Take in what they say for a while; whoever ends by itself has found something."""
        deadline = Deadline.after(seconds)
        while not deadline.expired:
            for key, _ in self._selector.select(deadline.remaining_s):
                text = os.read(key.fd, 65536)
                assert text, f"an owner ended by itself with {key.data.wait(30)}"
                self._count(key.data, text)

    def _count(self, child: subprocess.Popen[bytes], text: bytes) -> None:
        words = text.decode().split("\n")
        assert set(words) <= {"held", "back", ""}, words
        self.said.update(filter(None, words))
        self._by_child.setdefault(child.pid, Counter()).update(filter(None, words))

    def kill_one(self) -> None:
        """kill -9, and another one takes its place; those that have not had a lease yet are left alone."""
        grown = [child for child in self._children if self._by_child.get(child.pid)]
        if not grown:
            return
        child = self._rng.choice(grown)
        self._children.remove(child)
        self._end(child)
        said = self._by_child.pop(child.pid)
        self.kills += 1
        self.in_hand += said["held"] - said["back"]
        self._start()

    def kill_all(self) -> None:
        """The end."""
        while self._children:
            self._end(self._children.pop())
        self._selector.close()

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        child.kill()
        child.wait(30)
        assert child.stdout is not None
        self._selector.unregister(child.stdout)
        with child.stdout as stream:
            self._count(child, stream.read())


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    """Where owners prove their claims."""
    return tmp_path / "witness"


def _until_killed(owners: Owners, cycles: int, rng: random.Random, pause_s: tuple[float, float]) -> None:
    """Leases come and go, owners die at any moment, until so many leases were taken and a share of them died."""
    while owners.said["held"] < cycles or owners.kills < cycles // 5 or not owners.in_hand:
        owners.listen(rng.uniform(*pause_s))
        owners.kill_one()
    assert owners.said["back"] > 0


def test_workers_of_a_run_are_killed(tmp_path: Path, witness: Path, cycles: int, rng: random.Random) -> None:
    """Shared, exclusive and whole sets, of two profiles with two guests each, four workers."""
    provider = FakeProvider({"a": "wine", "b": "wine"})
    address = tmp_path / "broker"
    with Broker(provider, ["a", "b"], each=2, address=address, replacements=1 << 30) as broker:
        owners = Owners("broker", address, witness, rng, 4)
        try:
            _until_killed(owners, cycles, rng, (0.0, 0.3))
        finally:
            owners.kill_all()

        def whole() -> bool | NotYet:
            names = [broker.free(profile) for profile in ("a", "b")]
            return True if names == [2, 2] and not broker.waiting else NotYet(f"free: {names}, {broker.waiting} wait")

        wait_until(whole, Deadline.after(30), what="all guests back or replaced")
        assert broker.failures == []
        made, replaced = len(provider.asked), len(provider.replaced)
        assert made - replaced == 4, "a guest was lost"
        assert len({name for name, _ in provider.replaced}) == replaced, "a guest was replaced twice"
        # a few may have been killed after their guest was back and before they could say so
        assert replaced >= owners.in_hand / 2
    assert not address.exists()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("broker-")] == []


@pytest.fixture
def sweeping(lab: LabCommand) -> Iterator[Counter[str]]:
    """`gc`, again and again, beside everything else; counts what it took."""
    taken: Counter[str] = Counter()
    over = threading.Event()
    problems: list[BaseException] = []

    def sweep() -> None:
        try:
            while not over.wait(1.0):
                taken.update(row["kind"] for row in lab.ok("gc", "--json", seconds=200)["removed"])
        except BaseException as error:  # noqa: BLE001 - the top of a thread: raised again below
            problems.append(error)

    thread = threading.Thread(target=sweep)
    thread.start()
    yield taken
    over.set()
    thread.join(300)
    assert problems == []


def test_owners_of_domains_are_killed(
    lab: LabCommand, sweeping: Counter[str], witness: Path, cycles: int, rng: random.Random
) -> None:
    """Three lab processes make guests on one home and die in the middle of anything, while a fourth one sweeps."""
    owners = Owners("home", lab.home, witness, rng, 3)
    try:
        while owners.said["held"] < cycles or owners.kills < cycles // 5 or not owners.in_hand:
            owners.listen(rng.uniform(0.2, 3.0))
            _no_slot_twice(lab)
            owners.kill_one()
    finally:
        owners.kill_all()
    assert owners.said["back"] > 0

    def gone() -> bool | NotYet:
        lab.ok("gc", "--json", seconds=200)
        left = lab.ok("gc", "--dry-run", "--json")
        # a dry run says nothing of what the other sweep is about to remove
        directories = [entry for place in ("guests", "runs") for entry in (lab.home / place).iterdir()]
        clean = left["removed"] == [] and left["kept"] == 0 and lab.processes() == [] and directories == []
        return True if clean else NotYet(f"{left} {lab.processes()} {directories}")

    wait_until(gone, Deadline.after(200), what="nothing left")
    assert sweeping["run"] > 0, "the sweep never met a dead owner"
    claims = Path("/run/lock/wsklab-slots")
    assert [slot.name for slot in claims.glob("[0-9]*") if str(lab.home) in slot.read_text()] == []


def _no_slot_twice(lab: LabCommand) -> None:
    """Whoever is alive or dead: no two domains of the home have the same slot."""
    slots: Counter[int] = Counter()
    with Lab(LabConfig(home=lab.home, mode=ModeSetting.PRIVATE)) as opened:
        site = opened.running_site()
        for domain in site.hypervisor.domains(opened.home.id) if site else ():
            with contextlib.suppress(DomainGone):
                mark = domain.metadata()
                slots.update([mark.slot] if mark is not None else [])
    assert [slot for slot, count in slots.items() if count > 1] == []
