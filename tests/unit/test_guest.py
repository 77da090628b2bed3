"""Guests and the sweep, on the fake hypervisor: whatever dies half-way, nothing is left."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wsklab import qemu_img
from wsklab.channel.fake import Ended, FakeChannel
from wsklab.deadline import Deadline, Timeouts
from wsklab.domain_xml import Acceleration, NetworkSpec
from wsklab.errors import (
    BootError,
    ChannelLost,
    DomainGone,
    HostCommandError,
    HostError,
    HostFull,
    HypervisorError,
    LabError,
    LeaseExpired,
    UsageError,
    WireGone,
)
from wsklab.factory import GuestFactory
from wsklab.guest import Claim, Guest
from wsklab.home import FileLock, Home
from wsklab.hypervisor.fake import FakeHypervisor, FakeScript
from wsklab.hypervisor.protocol import Domain
from wsklab.image.store import Image
from wsklab.lease import GRACE, KEEP_EXPIRED, SlotClaim, SlotTable, expiry_after
from wsklab.network import Via
from wsklab.profile import GuestProfile, load_profile
from wsklab.resources import images_root
from wsklab.sweep import Sweeper, SweepReport
from wsklab.user_lease import end_if_over, extend, in_use

NETWORK = "wsklab-test"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@dataclass
class Bench:
    """One home on one fake hypervisor."""

    home: Home
    hypervisor: FakeHypervisor
    slots: SlotTable
    factory: GuestFactory
    profile: GuestProfile
    image: Image

    def create(self, **claim: str) -> Guest:
        """A guest of a run that is alive only if the test says so."""
        return self.factory.create(
            self.profile, self.image, Claim(**{"owner": "me", "purpose": "test", "run": "r1", **claim})
        )

    def sweep(self, *, dry_run: bool = False, now: datetime = NOW) -> SweepReport:
        """One gc, alone in the home."""
        return Sweeper(
            home=self.home,
            slots=self.slots,
            hypervisor=self.hypervisor,
            factory=self.factory,
            network_name=NETWORK,
            alone=lambda: contextlib.nullcontext(True),
        ).sweep(dry_run=dry_run, now=now)

    def leftovers(self) -> list[str]:
        """Everything that exists because of a guest."""
        domains = [domain.name for domain in self.hypervisor.domains(self.home.id)]
        directories = [path.name for path in self.home.guests.iterdir()]
        claims = [path.name for path in self.slots.root.iterdir() if path.name != ".lock"]
        return domains + directories + claims


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The overlay is an empty file: `qemu-img` has its own tests with the real program."""
    monkeypatch.setattr(qemu_img, "create_overlay", lambda _backing, target, _deadline: target.touch())
    home = Home.open(tmp_path / "home")
    profile = load_profile(images_root() / "wine-bookworm")
    image = Image(
        profile=profile.name,
        digest="0" * 20,
        directory=tmp_path,
        disk=tmp_path / "disk.qcow2",
        kernel=tmp_path / "vmlinuz",
        initrd=tmp_path / "initrd.img",
        cmdline="console=ttyS0",
        manifest=cast(Any, SimpleNamespace(host_key="ssh-ed25519 AAAA", windows=None)),
    )
    with FakeHypervisor() as hypervisor:
        factory = GuestFactory(
            home=home,
            hypervisor=hypervisor,
            slots=SlotTable(tmp_path / "slots"),
            network_name=NETWORK,
            subnet="192.168.213",
            via=Via(),
            acceleration=Acceleration.TCG,
            timeouts=Timeouts(scale=0.1),
            opener=lambda **_arguments: FakeChannel({profile.ready_check: Ended()}),
            now=lambda: "2026-11-23T12:00:00Z",
        )
        yield Bench(home, hypervisor, factory.slots, factory, profile, image)


def test_a_full_host_leaves_nothing(bench: Bench) -> None:
    """Whoever is not admitted has no directory, no slot and no domain; the guests that count are all of the host."""
    bench.create()
    seen: list[SlotClaim] = []

    def admit(wanted: SlotClaim, claims: Sequence[SlotClaim]) -> None:
        seen.extend([wanted, *claims])
        raise HostFull("no room")

    before = bench.leftovers()
    full = replace(bench.factory, admit=admit)
    with pytest.raises(HostFull):
        full.create(bench.profile, bench.image, Claim(owner="me", purpose="test", run="r1"))
    assert [claim.memory_mib for claim in seen] == [bench.profile.memory_mib] * 2
    assert bench.leftovers() == before


def test_a_guest_exists_in_one_directory_and_one_domain(bench: Bench) -> None:
    """Its record, console and overlay are in its directory, and it can be found again."""
    guest = bench.create(name="one")
    found = bench.factory.existing()

    assert [again.record for again in found] == [guest.record]
    files = {path.name for path in guest.directory.iterdir()}
    assert files == {"guest.json", "domain.xml", "overlay.qcow2", "console.log", "lock"}
    assert guest.address == (f"192.168.213.{guest.record.slot}", 22)


def test_destroying_leaves_nothing(bench: Bench) -> None:
    """Twice is as good as once."""
    guest = bench.create()
    guest.destroy(bench.slots)
    guest.destroy(bench.slots)

    assert bench.leftovers() == []


def test_a_taken_name_is_the_users_error(bench: Bench) -> None:
    """The second guest of a name is refused and leaves nothing of itself."""
    bench.create(name="one")
    before = bench.leftovers()
    with pytest.raises(UsageError, match="taken"):
        bench.create(name="one")

    assert bench.leftovers() == before


@pytest.mark.parametrize("failing", ["overlay", "start"])
def test_a_failure_half_way_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """Files, domain and slot go when a later step fails."""
    if failing == "overlay":

        def fail(_backing: Path, _target: Path, _deadline: Deadline) -> None:
            raise HostCommandError("no room", argv=["qemu-img"], exit_code=1)

        monkeypatch.setattr(qemu_img, "create_overlay", fail)
    else:
        bench.hypervisor.script(bench.factory.domain_name("one"), FakeScript(start_error="no memory"))
    with pytest.raises((HostCommandError, HypervisorError)):
        bench.create(name="one")

    assert bench.leftovers() == []


@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENOSPC, HostFull), (errno.EDQUOT, HostFull), (errno.EROFS, HostError)]
)
@pytest.mark.parametrize("failing", ["directory", "record", "domain"])
def test_a_disk_that_takes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, failing: str, number: int, expected: type[HostError]
) -> None:
    """Whichever file cannot be written: an error of the lab's, a full host where the disk is full, nothing left."""

    def fail(*_arguments: object, **_words: object) -> None:
        raise OSError(number, os.strerror(number))

    def failing_for(real: Callable[..., object], names: Callable[[Path], bool]) -> Callable[..., object]:
        return lambda path, *words, **more: (fail if names(path) else real)(path, *words, **more)

    if failing == "directory":
        monkeypatch.setattr(Path, "mkdir", failing_for(Path.mkdir, lambda path: path.parent.name == "guests"))
    else:
        file = {"record": ".guest.json.new", "domain": "domain.xml"}[failing]
        monkeypatch.setattr(Path, "write_text", failing_for(Path.write_text, lambda path: path.name == file))
    with pytest.raises(HostError, match="cannot be written") as caught:
        bench.create(name="one")
    monkeypatch.undo()

    assert type(caught.value) is expected
    assert os.strerror(number) in caught.value.why
    assert bench.leftovers() == []


def test_a_kernel_panic_ends_the_wait_at_once(bench: Bench) -> None:
    """Waiting for a dead kernel is useless: the error names the panic long before the deadline."""
    panic = FakeScript(console=b"[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n")
    bench.hypervisor.script(bench.factory.domain_name("one"), panic)
    guest = bench.create(name="one")
    deadline = Deadline.after(30)
    with pytest.raises(BootError, match="panicked") as caught:
        guest.wait_ready(deadline, ready_check="true")

    assert deadline.elapsed_s < 5
    assert "Unable to mount root fs" in str(caught.value.evidence["console"])


def test_a_network_that_is_gone_ends_the_wait_at_once(bench: Bench) -> None:
    """The private daemon was killed: its namespace is gone, and nobody will ever answer."""
    guest = bench.create()
    guest.via = Via(Path("/nonexistent/ns/net"))
    deadline = Deadline.after(60)
    with pytest.raises(WireGone, match="/nonexistent/ns/net is gone"):
        guest.wait_ready(deadline, ready_check="")
    assert deadline.elapsed_s < 30


def test_a_guest_of_a_dead_run_is_swept(bench: Bench) -> None:
    """gc removes what a killed controller left, and says so; with --dry-run it only says so."""
    guest = bench.create()
    (bench.home.runs / "r1").mkdir()
    planned = bench.sweep(dry_run=True)

    assert bench.leftovers() != []
    report = bench.sweep()
    assert [item.name for item in report.removed] == [item.name for item in planned.removed] == [guest.name, "r1"]
    assert bench.leftovers() == []
    assert list(bench.home.runs.iterdir()) == []


def test_a_living_run_is_left_alone(bench: Bench) -> None:
    """No gc touches a guest whose controller lives."""
    with bench.home.run_alive("r1"):
        bench.create()
        before = bench.leftovers()
        report = bench.sweep()

    assert (report.removed, report.kept) == ([], 1)
    assert bench.leftovers() == before


def test_another_homes_guests_are_left_alone(bench: Bench, tmp_path: Path) -> None:
    """gc acts on its own mark only."""
    bench.create()
    other = Home.open(tmp_path / "other")
    report = Sweeper(
        home=other,
        slots=bench.slots,
        hypervisor=bench.hypervisor,
        factory=None,
        network_name="x",
        alone=lambda: contextlib.nullcontext(True),
    ).sweep(now=NOW)

    assert report.removed == []
    assert bench.hypervisor.domains(bench.home.id) != []


def test_a_users_lease_ends_with_grace_and_a_kept_overlay(bench: Bench) -> None:
    """Held, then notice, then powered off with the overlay kept for a day, then gone."""
    guest = bench.create(run="", expires=expiry_after(timedelta(hours=1), now=NOW))
    end = NOW + timedelta(hours=1)

    assert bench.sweep(now=end - timedelta(minutes=1)).kept == 1
    assert bench.sweep(now=end + timedelta(minutes=1)).kept == 1
    assert [item.kind for item in bench.sweep(now=end + GRACE).removed] == ["guest"]
    assert (guest.directory / "overlay.qcow2").exists()
    assert bench.hypervisor.domains(bench.home.id) == []

    later = datetime.now(UTC) + KEEP_EXPIRED + timedelta(minutes=1)
    assert "directory" in [item.kind for item in bench.sweep(now=later).removed]
    assert bench.leftovers() == []


def _only_directory(bench: Bench, guest: Guest) -> None:
    guest.domain.destroy()
    guest.domain.undefine()


def _only_domain(bench: Bench, guest: Guest) -> None:
    for path in guest.directory.iterdir():
        path.unlink()
    guest.directory.rmdir()


@pytest.mark.parametrize("break_it", [_only_directory, _only_domain])
def test_each_half_of_a_guest_is_found(bench: Bench, break_it: Callable[[Bench, Guest], None]) -> None:
    """A directory without a domain and a domain without a directory both go, with the slot."""
    break_it(bench, bench.create())
    bench.sweep()

    assert bench.leftovers() == []


def test_a_directory_that_somebody_changes_is_left_alone(bench: Bench) -> None:
    """The lock of a guest that is being made keeps gc away."""
    directory = bench.home.guests / "11-new"
    directory.mkdir()
    lock = FileLock(directory / "lock")
    assert lock.try_acquire()

    assert bench.sweep().removed == []
    lock.release()
    assert [item.name for item in bench.sweep().removed] == ["11-new"]


def test_the_network_goes_with_the_last_guest(bench: Bench) -> None:
    """It stays while a guest runs."""
    spec = NetworkSpec(name=NETWORK, bridge="wskt", home=bench.home.id, address="192.168.213.1")
    bench.hypervisor.ensure_network(spec)
    with bench.home.run_alive("r1"):
        guest = bench.create()
        assert "network" not in [item.kind for item in bench.sweep().removed]
        guest.destroy(bench.slots)

    assert [item.name for item in bench.sweep().removed] == [NETWORK]
    assert bench.hypervisor.networks(bench.home.id) == []


def test_a_damaged_record_does_not_hide_the_guest(bench: Bench) -> None:
    """A guest whose guest.json is unreadable is still swept by its domain."""
    guest = bench.create()
    (guest.directory / "guest.json").write_text(json.dumps({"name": 1}))
    bench.sweep()

    assert bench.leftovers() == []


# -- leases of users -----------------------------------------------------------------------------------------------


def test_an_extended_lease_ends_later_and_never_sooner(bench: Bench) -> None:
    """The later end counts, and it is in the domain's mark."""
    guest = bench.create(run="", expires=expiry_after(timedelta(hours=2), now=NOW))
    later = expiry_after(timedelta(hours=3), now=NOW)

    assert extend(guest, expiry_after(timedelta(hours=1), now=NOW)) == expiry_after(timedelta(hours=2), now=NOW)
    assert extend(guest, later) == later
    metadata = guest.domain.metadata()
    assert metadata is not None
    assert metadata.expires == later


def test_what_cannot_be_extended_is_told_apart(bench: Bench) -> None:
    """A run's guest, one that is powered off, and one that is gone."""
    of_a_run = bench.create(run="r1")
    ended = bench.create(run="", expires=expiry_after(timedelta(hours=1), now=NOW))
    ended.domain.destroy()

    with pytest.raises(UsageError, match="no lease") as caught:
        extend(of_a_run, "2030-01-01T00:00:00Z")
    assert "r1" in caught.value.why
    with pytest.raises(UsageError, match="is going away"):
        extend(ended, "2030-01-01T00:00:00Z")
    ended.destroy(bench.slots)
    with pytest.raises(DomainGone):
        extend(ended, "2030-01-01T00:00:00Z")


def test_a_lease_that_was_extended_in_the_last_moment_is_kept(bench: Bench) -> None:
    """The sweeper has read an old end; under the lock it sees the new one and lets the guest run."""
    end = NOW + timedelta(hours=1)
    guest = bench.create(run="", expires=expiry_after(timedelta(hours=1), now=NOW))
    extend(guest, expiry_after(timedelta(hours=5), now=NOW))

    assert not end_if_over(guest, end + GRACE)
    assert str(guest.domain.state()) == "running"
    assert end_if_over(guest, NOW + timedelta(hours=5) + GRACE)
    assert bench.factory.existing() == []
    assert guest.directory.is_dir()


def test_a_guest_that_vanishes_while_it_is_swept_is_no_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sweeps at once: the slower one finds the domain gone and goes on."""
    first = bench.create(run="dead")
    bench.create(run="dead", name="second")
    listed = list(bench.hypervisor.domains(bench.home.id))
    first.destroy(bench.slots)
    monkeypatch.setattr(bench.hypervisor, "domains", lambda _home: listed)

    assert [item.name for item in bench.sweep().removed if item.kind == "guest"] == ["second"]


def test_a_fresh_guest_says_why_it_boots(bench: Bench) -> None:
    """`--fresh` is the reason in the record."""
    assert bench.create().record.why == ""
    fresh = bench.factory.create(bench.profile, bench.image, Claim(owner="me", purpose="test", run="r1", fresh=True))
    assert "fresh" in fresh.record.why


@pytest.mark.parametrize("over", [True, False])
def test_a_way_that_broke_because_the_lease_was_over(bench: Bench, over: bool) -> None:
    """Whoever was at work in the guest is told the end of the lease; any other broken way stays what it is."""
    guest = bench.create(run="", expires=expiry_after(timedelta(hours=-1), now=NOW))
    if over:
        assert end_if_over(guest, NOW)
    expected: type[LabError] = LeaseExpired if over else ChannelLost
    with pytest.raises(expected) as caught, in_use(guest):
        raise ChannelLost("the connection broke")
    if over:
        assert caught.value.message == f"the lease of {guest.name} ended while it was in use"
        assert Path(str(caught.value.evidence["disk"])).name == "overlay.qcow2"


def test_a_sweep_beside_living_runs_takes_nothing(bench: Bench) -> None:
    """Runs begin and end, guests come and go, all the time: none of it ever looks forsaken to a sweep."""
    over = threading.Event()
    problems: list[BaseException] = []
    rounds: list[int] = []

    def live(number: int) -> None:
        try:
            while not over.is_set():
                rounds.append(number)
                run = f"r{number}-{len(rounds)}"
                with bench.home.run_alive(run):
                    bench.create(run=run, name=run).destroy(bench.slots)
        except BaseException as error:  # noqa: BLE001 - the top of a thread: raised again below
            problems.append(error)

    threads = [threading.Thread(target=live, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(300):
            assert bench.sweep(now=datetime.now(UTC)).removed == []
    finally:
        over.set()
        for thread in threads:
            thread.join(30)
    assert problems == []
    assert len(rounds) > 30
    assert bench.leftovers() == []
    assert list(bench.home.runs.iterdir()) == []


@pytest.mark.parametrize(("folder", "kind"), [("guests", "directory"), ("runs", "run")])
def test_what_a_killed_process_left_half_way_is_swept(bench: Bench, folder: str, kind: str) -> None:
    """A directory that was coming or going when its process died: left alone for a moment, then it is rubbish."""
    half = bench.home.root / folder / ".10-abc"
    half.mkdir()
    assert bench.sweep().removed == []
    past = datetime.now(UTC).timestamp() - 60
    os.utime(half, (past, past))
    assert [(row.kind, row.name) for row in bench.sweep().removed] == [
        (kind.removesuffix("s").replace("guest", "directory"), half.name)
    ]
    assert not half.exists()


@pytest.mark.parametrize(("load", "times"), [(0.0, 1.0), (4.0, 1.0), (8.0, 2.0), (16.0, 4.0), (100.0, 4.0)])
def test_a_boot_has_more_time_on_a_crowded_host(monkeypatch: pytest.MonkeyPatch, load: float, times: float) -> None:
    """By the number of processes that want to run, bounded; nothing else that is waited for has."""
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    timeouts = Timeouts(scale=4.0)
    assert timeouts.boot(12).remaining_s == pytest.approx(48 * times, abs=1)
    assert timeouts.after(12).remaining_s == pytest.approx(48, abs=1)


@pytest.mark.parametrize("step", ["destroy", "undefine"])
def test_a_guest_goes_while_the_daemon_is_being_restarted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whichever step meets a daemon that is not there, it is taken again until one is: nothing is left to gc."""
    guest = bench.create()
    real, refusals = getattr(type(guest.domain), step), [1, 2]

    def busy(domain: Domain) -> None:
        if refusals:
            refusals.pop()
            raise HypervisorError(f"cannot {step}", why="Connection reset by peer")
        real(domain)

    monkeypatch.setattr(type(guest.domain), step, busy)
    guest.destroy(bench.slots)
    assert bench.leftovers() == []


def test_a_guest_stays_whole_where_no_daemon_comes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are not taken without its domain: gc would not know whose that is. A daemon's end is not awaited."""
    guest = bench.create()

    def refuses(_domain: Domain) -> None:
        raise HypervisorError("cannot undefine", why="Connection reset by peer")

    guest.via = Via(netns=Path("/nonexistent"))
    with monkeypatch.context() as patched:
        patched.setattr(type(guest.domain), "undefine", refuses)
        with pytest.raises(HypervisorError):
            guest.destroy(bench.slots)
    assert len(bench.leftovers()) == 3
    guest.destroy(bench.slots)
    assert bench.leftovers() == []
