"""Guests by the fastest way that works: forks, and what happens when something stops them. On the fake hypervisor."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wsklab import qemu_img, spares, template_maker, waking
from wsklab.channel.fake import Ended, FakeChannel
from wsklab.deadline import Deadline, Timeouts
from wsklab.deploy import DriverPackage
from wsklab.domain_xml import Acceleration
from wsklab.errors import ChannelLost, HostError, HostFull, HypervisorError, UsageError
from wsklab.factory import GuestFactory
from wsklab.guest import Claim, Guest
from wsklab.home import Home
from wsklab.hypervisor.fake import FakeHypervisor, FakeScript
from wsklab.hypervisor.protocol import DomainState
from wsklab.image.store import Image
from wsklab.lease import SlotTable, expiry_after
from wsklab.network import Via
from wsklab.profile import GuestProfile, load_profile
from wsklab.resources import images_root
from wsklab.starter import GuestStarter
from wsklab.sweep import Sweeper
from wsklab.template import TemplateStore
from wsklab.template_maker import TemplateMaker

CLAIM = Claim(owner="me", purpose="test", run="r1")


@dataclass
class Inside:
    """The one guest of these tests, as its agent shows it: a clock, a pool of seeds, addresses."""

    behind_s: float = 3600.0
    works: bool = True
    seeds: list[bytes] = field(default_factory=list)
    identities: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, command: Mapping[str, object]) -> object:
        """Do what the lab's programs do."""
        arguments = cast(dict[str, Any], command.get("arguments", {}))
        if command["execute"] == "guest-get-time":
            return int((time.time() - self.behind_s) * 1e9)
        if command["execute"] == "guest-exec":
            words = arguments["arg"]
            if arguments["path"] == "/usr/bin/perl":
                self.seeds.append(base64.b64decode(arguments["input-data"]))
                if self.works:
                    self.behind_s -= int(words[-2]) + int(words[-1]) / 1e9
            else:
                self.identities.append((words[-2], words[-1]))
            return {"pid": 1}
        if command["execute"] == "guest-exec-status":
            return {"exited": True, "exitcode": 0}
        return {}


@dataclass
class Bench:
    """One home on one fake hypervisor, and who starts guests there."""

    home: Home
    hypervisor: FakeHypervisor
    starter: GuestStarter
    profile: GuestProfile
    image: Image
    inside: Inside
    networks: list[str]

    def start(self, package: DriverPackage | None = None, **claim: Any) -> Guest:
        """A guest of a run."""
        return self.starter.start(self.profile, self.image, replace(CLAIM, **claim), package)

    def templates(self) -> list[str]:
        """Kinds of the templates that exist."""
        return sorted(template.manifest.kind for template in self.starter.maker.store.list())

    def leftovers(self) -> list[str]:
        """Everything of guests, and of templates half made."""
        domains = [domain.name for domain in self.hypervisor.domains(self.home.id)]
        directories = [path.name for path in self.home.guests.iterdir()]
        runs = [path.name for path in self.home.runs.iterdir()]
        rubbish = [path.name for path in self.home.templates.glob("*/.new-*")]
        claims = [path.name for path in self.starter.maker.factory.slots.root.iterdir() if path.name != ".lock"]
        return domains + directories + runs + rubbish + claims


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Disks are empty files: `qemu-img` has its own tests with the real program."""
    monkeypatch.setattr(qemu_img, "create_overlay", lambda _backing, target, _deadline: target.touch())
    monkeypatch.setattr(qemu_img, "flatten", lambda _source, _base, target, _deadline: target.touch())
    monkeypatch.setattr(template_maker, "deploy", lambda *_words, **_options: None)
    home = Home.open(tmp_path / "home")
    profile = load_profile(images_root() / "wine-bookworm").model_copy(update={"memory_mib": 1})
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
    inside = Inside()
    networks: list[str] = []
    monkeypatch.setattr("wsklab.network.connect", lambda *_words: None)
    with FakeHypervisor(FakeScript(agent=inside.answer, console=b"wsklab: ready\n")) as hypervisor:
        factory = GuestFactory(
            home=home,
            hypervisor=hypervisor,
            slots=SlotTable(tmp_path / "slots"),
            network_name="wsklab-test",
            subnet="192.168.213",
            via=Via(),
            acceleration=Acceleration.TCG,
            timeouts=Timeouts(scale=0.2),
            opener=lambda **_arguments: FakeChannel({profile.ready_check: Ended()}),
            now=lambda: "2026-11-23T12:00:00Z",
        )
        maker = TemplateMaker(
            factory=factory,
            store=TemplateStore(home.templates),
            hypervisor=hypervisor,
            private_wires=False,
            ensure_network=lambda: networks.append("made"),
            disk_reserve_mib=0,
            emulator=None,
        )
        made = GuestStarter(maker=maker, refusal="")
        yield Bench(home, hypervisor, made, profile, image, inside, networks)


@pytest.fixture
def package(tmp_path: Path) -> DriverPackage:
    """A driver without a control program."""
    (tmp_path / "x.sys").write_bytes(b"MZ")
    return DriverPackage(image=tmp_path / "x.sys", service="x")


# -- forks ---------------------------------------------------------------------------------------


def test_the_first_guest_makes_the_template_and_is_its_fork(bench: Bench) -> None:
    """One template for two guests; both say fork and give no excuse; nothing of the making is left."""
    first, second = bench.start(), bench.start()
    assert [(guest.record.method, guest.record.why) for guest in (first, second)] == [("fork", "")] * 2
    assert first.record.template == second.record.template != ""
    assert bench.templates() == ["base"]
    for guest in (first, second):
        guest.destroy(bench.starter.maker.factory.slots)
    assert bench.leftovers() == []


def test_a_prepared_template_has_the_driver(bench: Bench, package: DriverPackage) -> None:
    """The fork says which driver it has; another driver is another template on the same base."""
    assert bench.start(package).record.driver == package.digest
    assert bench.templates() == ["base", "prepared"]
    assert bench.start().record.driver == ""
    package.image.write_bytes(b"MZ2")
    assert bench.start(package).record.driver == package.digest
    assert bench.templates() == ["base", "prepared", "prepared"]


def test_a_fork_has_the_time_and_seeds_of_its_own(bench: Bench) -> None:
    """The clock is set by the difference; no seed comes twice."""
    for _ in range(3):
        bench.inside.behind_s = 86400.0
        bench.start()
        assert abs(bench.inside.behind_s) < waking.MAX_SKEW_S
    assert len(set(bench.inside.seeds)) == len(bench.inside.seeds) == 4  # one more warmed the template
    assert {len(seed) for seed in bench.inside.seeds} == {64}


def test_on_a_shared_network_each_fork_has_its_own_addresses_before_its_cable_is_in(bench: Bench) -> None:
    """The guest is told the addresses of its slot; only then the cable is plugged in."""
    guests = [bench.start() for _ in range(2)]
    assert bench.inside.identities == [(guest.record.mac, f"{guest.record.address}/24") for guest in guests]
    assert len(set(bench.inside.identities)) == 2
    for guest in guests:
        assert "<link" not in guest.domain.xml()  # it was down when the fork was started


def test_a_fork_s_next_start_is_a_boot(bench: Bench) -> None:
    """Its definition names neither the template's memory nor a state that would be waited for."""
    guest = bench.start()
    guest.domain.destroy()
    assert "incoming" not in guest.domain.xml()
    assert "memory-backend-file" not in guest.domain.xml()


def test_a_fork_s_console_begins_with_its_template_s(bench: Bench) -> None:
    """Whoever reads it sees the boot, too."""
    assert bench.start().console.text().count("wsklab: ready") == 2  # the template's, and the fake's own


def test_makers_at_once_make_one_template(bench: Bench) -> None:
    """Four threads ask for the first guest: four forks of one template."""
    guests: list[Guest] = []
    threads = [threading.Thread(target=lambda: guests.append(bench.start())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {guest.record.method for guest in guests} == {"fork"}
    assert len({guest.record.template for guest in guests}) == 1
    assert len(guests) == 4


# -- what stops a fork ---------------------------------------------------------------------------


def test_what_is_refused_boots_and_says_why(bench: Bench) -> None:
    """A host or a setting without forks, a Windows without a wire of its own, a guest that shall be fresh."""
    refused = replace(bench.starter, refusal="the setting forks is off")
    guest = refused.start(bench.profile, bench.image, CLAIM)
    assert (guest.record.method, guest.record.why) == ("boot", "the setting forks is off")
    windows = bench.profile.model_copy(update={"kind": "windows"})
    assert "no wire of its own" in bench.starter.start(windows, bench.image, CLAIM).record.why
    assert "fresh" in bench.start(fresh=True).record.why
    assert bench.templates() == []
    assert bench.networks == ["made"] * 3


def _broken(bench: Bench, template: Path) -> None:
    bench.inside.works = False


def _unreadable(bench: Bench, template: Path) -> None:
    content = (template / "state").read_bytes()
    (template / "state").chmod(0o644)
    (template / "state").write_bytes(b"x" * len(content))
    manifest = json.loads((template / "manifest.json").read_text())
    status = (template / "state").stat()
    manifest["files"]["state"].update(mtime_ns=status.st_mtime_ns)
    (template / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(("damage", "words"), [(_broken, "clock is wrong"), (_unreadable, "cannot thaw")])
def test_a_fork_that_does_not_come_up_is_replaced_by_a_boot(
    bench: Bench, damage: Callable[[Bench, Path], None], words: str
) -> None:
    """The user gets a guest and the reason; nothing of the fork is left."""
    first = bench.start()
    (template,) = [one.directory for one in bench.starter.maker.store.list()]
    first.destroy(bench.starter.maker.factory.slots)
    bench.inside.behind_s = 3600
    damage(bench, template)
    guest = bench.start()
    assert guest.record.method == "boot"
    assert words in guest.record.why
    guest.destroy(bench.starter.maker.factory.slots)
    assert bench.leftovers() == []


def test_a_damaged_template_is_made_again(bench: Bench) -> None:
    """The next guest pays for a new one and is a fork."""
    bench.start()
    (template,) = bench.starter.maker.store.list()
    os.truncate(template.memory, 4096)
    assert bench.start().record.method == "fork"
    (again,) = bench.starter.maker.store.list()
    assert again.memory.stat().st_size == template.manifest.files["memory"].size


def test_a_disk_without_room_for_a_template_still_boots(bench: Bench) -> None:
    """The reason names what is missing and what would help; nothing half made stays."""
    full = GuestStarter(maker=replace(bench.starter.maker, disk_reserve_mib=1 << 40), refusal="")
    guest = full.start(bench.profile, bench.image, CLAIM)
    assert guest.record.method == "boot"
    assert "no room for the template" in guest.record.why
    assert "reserved" in guest.record.why
    guest.destroy(bench.starter.maker.factory.slots)
    assert bench.leftovers() == []


def test_a_file_that_cannot_be_allocated_is_a_reason(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up between the look and the write."""

    def full(*_words: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    guest = bench.start()
    assert (guest.record.method, "No space left" in guest.record.why) == ("boot", True)


def test_after_two_failures_forks_wait_a_while(bench: Bench) -> None:
    """The third guest boots at once, and says until when; later it is tried again; a success forgets."""
    bench.start()
    bench.inside.works = False
    for _ in range(2):
        bench.inside.behind_s = 3600
        assert "clock" in bench.start().record.why
    seeds = len(bench.inside.seeds)
    assert "tried again after" in bench.start().record.why
    assert len(bench.inside.seeds) == seeds
    (note,) = bench.home.templates.glob("*/.failed-*")
    document = json.loads(note.read_text())
    document["at"] = (datetime.now(UTC) - timedelta(minutes=11)).isoformat()
    note.write_text(json.dumps(document))
    bench.inside.works, bench.inside.behind_s = True, 3600
    assert bench.start().record.method == "fork"
    assert not note.exists()


def test_a_full_host_is_not_booted_instead(bench: Bench) -> None:
    """Where no fork is admitted no boot would be: the error comes through, and nothing is left."""
    bench.start().destroy(bench.starter.maker.factory.slots)

    def admit(*_words: object) -> None:
        raise HostFull("not enough memory")

    factory = replace(bench.starter.maker.factory, admit=admit)
    full = GuestStarter(maker=replace(bench.starter.maker, factory=factory), refusal="")
    with pytest.raises(HostFull, match="not enough memory"):
        full.start(bench.profile, bench.image, CLAIM)
    assert bench.leftovers() == []


def test_a_taken_name_is_said_once(bench: Bench) -> None:
    """No boot is tried under a name that a fork could not have."""
    bench.start(name="one")
    before = len(bench.leftovers())
    with pytest.raises(UsageError, match="taken"):
        bench.start(name="one")
    assert len(bench.leftovers()) == before


def test_a_template_of_a_guest_in_which_something_died_is_not_made(bench: Bench, package: DriverPackage) -> None:
    """A driver that takes its host down while it is loaded becomes no template."""
    bench.start()

    def kill(channel: FakeChannel, *_words: object, **_options: object) -> None:
        (console,) = bench.home.guests.glob("*/console.log")
        with console.open("a") as file:
            file.write("wsklab: driver host died: winedevice.exe 77\n")

    for guest in bench.starter.maker.factory.existing():
        guest.destroy(bench.starter.maker.factory.slots)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(template_maker, "deploy", kill)
        guest = bench.start(package)
    assert guest.record.method == "boot"
    assert "died while it became a template" in guest.record.why
    assert bench.templates() == ["base"]


def test_a_hypervisor_that_comes_back_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """libvirtd goes away while a fork is loaded and comes back: the fork is taken back, and the guest boots."""
    bench.start().destroy(bench.starter.maker.factory.slots)
    gone = iter([True, True])
    lookup = FakeHypervisor.lookup

    def sometimes(self: FakeHypervisor, identity: str) -> Any:
        with suppress(StopIteration):
            if next(gone):
                raise HypervisorError("cannot look up", why="the connection is lost")
        return lookup(self, identity)

    def lost(*_words: object) -> None:
        monkeypatch.setattr(FakeHypervisor, "lookup", sometimes)
        raise HypervisorError("cannot thaw", why="the connection is lost")

    monkeypatch.setattr("wsklab.hypervisor.fake.FakeDomain.thaw", lost)
    guest = bench.start()
    assert guest.record.method == "boot"
    assert "connection is lost" in guest.record.why
    assert guest.domain.state() is DomainState.RUNNING
    guest.destroy(bench.starter.maker.factory.slots)
    assert bench.leftovers() == []


def test_leaving_ends_a_template_in_the_making(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start in another thread is waiting for the guest that shall become a template: it ends, and nothing is left."""
    waiting = threading.Event()
    monkeypatch.setattr(Guest, "_climb", lambda guest, _deadline, _check: _wait_for_ever(guest, waiting))
    errors: list[BaseException] = []

    def work() -> None:
        try:
            bench.start()
        except HostError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert waiting.wait(10)
    bench.starter.maker.starts.stop(Deadline.after(10))
    assert bench.leftovers() == []
    thread.join(10)
    assert [str(error) for error in errors] == ["the lab is being left"]
    assert not list(bench.home.templates.glob("*/.failed-*"))
    with pytest.raises(HostError, match="being left"):
        bench.start()


def _wait_for_ever(guest: Guest, waiting: threading.Event) -> None:
    """A guest that never gets ready, and is found off as soon as somebody powers it off."""
    waiting.set()
    raise ChannelLost("no answer")


# -- spares --------------------------------------------------------------------------------------


def _fill(bench: Bench, count: int) -> int:
    return bench.starter.fill_spares(bench.profile, bench.image, "me", count)


def _up(bench: Bench, **claim: Any) -> Guest:
    return bench.start(purpose="user", expires=expiry_after(timedelta(hours=2)), **claim)


def test_up_takes_a_spare_that_was_ready_before(bench: Bench) -> None:
    """It was paused, ready and listed as a spare; now it runs, with a right clock, and is the taker's."""
    assert _fill(bench, 2) == 2
    assert _fill(bench, 2) == 0
    waiting = {guest.name: guest for guest in bench.starter.maker.factory.existing()}
    assert {guest.domain.state() for guest in waiting.values()} == {DomainState.PAUSED}
    bench.inside.behind_s = 1800.0
    taken = _up(bench)
    assert taken.name in waiting
    assert taken.is_ready
    assert abs(bench.inside.behind_s) < waking.MAX_SKEW_S
    assert taken.domain.state() is DomainState.RUNNING
    metadata = taken.domain.metadata()
    assert metadata is not None
    assert (metadata.purpose, metadata.run) == ("user", "r1")
    assert len(bench.starter.maker.factory.existing()) == 2
    assert _fill(bench, 2) == 1


def test_what_a_spare_does_not_fit_is_a_new_fork(bench: Bench, package: DriverPackage) -> None:
    """A name, a driver, a fresh boot, somebody else, a run: none of them takes it."""
    _fill(bench, 1)
    (spare,) = bench.starter.maker.factory.existing()
    others = [
        _up(bench, name="mine"), bench.start(package, purpose="user"), _up(bench, fresh=True),
        _up(bench, owner="you"), bench.start(),
    ]  # fmt: skip
    assert spare.name not in {guest.name for guest in others}
    assert spare.domain.state() is DomainState.PAUSED


def test_a_spare_of_an_older_template_is_not_taken(bench: Bench) -> None:
    """After any input changed a new template's fork is made."""
    _fill(bench, 1)
    (spare,) = bench.starter.maker.factory.existing()
    bench.profile = bench.profile.model_copy(update={"boot_budget_s": 13.0})
    assert _up(bench).name != spare.name


def test_of_many_takers_one_gets_the_spare(bench: Bench) -> None:
    """Four at once: one takes it, three get forks; no guest is given twice."""
    _fill(bench, 1)
    guests: list[Guest] = []
    threads = [threading.Thread(target=lambda: guests.append(_up(bench))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({guest.name for guest in guests}) == 4
    assert [guest.is_ready for guest in guests].count(True) == 1


def test_a_spare_that_does_not_wake_is_removed(bench: Bench) -> None:
    """The user gets a boot in the end, and the broken spare is gone."""
    _fill(bench, 1)
    (spare,) = bench.starter.maker.factory.existing()
    bench.inside.works, bench.inside.behind_s = False, 3600.0
    assert _up(bench).record.method == "boot"
    assert not spare.directory.exists()


def test_spares_make_room(bench: Bench) -> None:
    """A full host gives up a spare before it refuses a guest."""
    _fill(bench, 1)
    (spare,) = bench.starter.maker.factory.existing()

    def admit(_wanted: object, claims: Sequence[object]) -> None:
        if claims:
            raise HostFull("not enough memory")

    factory = replace(bench.starter.maker.factory, admit=admit)
    full = GuestStarter(maker=replace(bench.starter.maker, factory=factory), refusal="")
    guest = full.start(bench.profile, bench.image, CLAIM)
    assert guest.record.method == "fork"
    assert not spare.directory.exists()
    with pytest.raises(HostFull):
        full.start(bench.profile, bench.image, CLAIM)


def test_a_spare_that_nobody_took_is_swept(bench: Bench) -> None:
    """After its hour it goes at once: no grace, no kept overlay."""
    _fill(bench, 1)
    factory = bench.starter.maker.factory
    sweeper = Sweeper(
        home=bench.home,
        slots=factory.slots,
        hypervisor=bench.hypervisor,
        factory=factory,
        network_name="x",
        alone=lambda: nullcontext(True),
    )
    assert sweeper.sweep().removed == []
    later = datetime.now(UTC) + spares.SPARE_TTL + timedelta(seconds=1)
    assert [(item.kind, item.why) for item in sweeper.expire(now=later).removed] == [
        ("guest", "a spare that nobody took")
    ]
    assert bench.leftovers() == []


def test_only_forks_are_spares(bench: Bench) -> None:
    """Where guests boot there is none, and nothing is left of the attempt."""
    refused = GuestStarter(maker=bench.starter.maker, refusal="the setting forks is off")
    with pytest.raises(HostError, match="only forks"):
        refused.fill_spares(bench.profile, bench.image, "me", 1)
    assert bench.leftovers() == []
