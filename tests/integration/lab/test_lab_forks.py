"""Templates and forks with the real parts: what must hold, and what may break. Speed is measured elsewhere."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab_home import PROFILE, LabCommand
from local_wine import DEVICE

from wsklab import run_spares, spares, waking
from wsklab.assemble import Lab
from wsklab.channel.agent import GuestAgent
from wsklab.channel.device import DeviceClient
from wsklab.channel.operations import WskClient
from wsklab.config import LabConfig, ModeSetting, WireSetting
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.deploy import DriverPackage
from wsklab.guest import Claim, Guest
from wsklab.hypervisor.libvirt import LibvirtDomain
from wsklab.hypervisor.protocol import DomainState
from wsklab.pool import GuestPool
from wsklab.ready_links import ReadyLinks
from wsklab.template import Template
from wsklab.toolchain import BuildResult

_READY_S = 60.0


@pytest.fixture
def base(lab: LabCommand) -> Template:
    """The base template of private wires; the first test that needs it makes it."""
    with _opened(lab) as opened:
        for one in opened.templates.list():
            if one.manifest.kind == "base" and "wskw" in one.manifest.inputs["machine"]:
                found = opened.templates.find(PROFILE, one.key)
                assert found is not None
                return found
        with _started(opened) as guest:
            assert (guest.record.method, guest.record.why) == ("fork", "")
            found = opened.templates.find(PROFILE, guest.record.template)
            assert found is not None
            return found


@contextmanager
def _opened(lab: LabCommand, **settings: Any) -> Iterator[Lab]:
    """The lab's own code on the module's home."""
    with Lab(LabConfig(home=lab.home, mode=ModeSetting.PRIVATE, **settings)) as opened:
        yield opened


@contextmanager
def _started(lab: Lab, package: DriverPackage | None = None) -> Iterator[Guest]:
    """A guest of a run that lives as long as the context; afterwards nothing of it is left."""
    with lab.home.run_alive("forks"):
        guest = lab.start_guest(lab.profile(PROFILE), Claim(owner=lab.owner, purpose="test", run="forks"), package)
        try:
            yield guest
        finally:
            guest.destroy(lab.slots)
    wires = lab.site().factory.wires
    assert wires is not None
    assert wires.names() == []
    assert list(lab.home.guests.iterdir()) == []


def _inside(guest: Guest, command: str) -> str:
    """What a Linux command in the guest prints."""
    with guest.open_channel(Deadline.after(60)) as channel:
        return channel.run(f"linux: {command}", Deadline.after(60)).stdout


# -- what must hold ------------------------------------------------------------------------------


def test_up_gives_forks_that_are_used_like_any_guest(lab: LabCommand) -> None:
    """Two forks with one address: commands, files and the printed ssh command reach each by itself."""
    names = []
    for _ in range(2):
        (row,) = lab.ok("up", PROFILE, "--ttl", "30m", "--json", seconds=300)["guests"]
        assert (row["method"], row["why"]) == ("fork", "")
        names.append(row["name"])
    rows = {row["name"]: row for row in lab.ok("list", "--json")["guests"]}
    assert len({rows[name]["address"] for name in names}) == 1
    assert len({rows[name]["via"]["netns"] for name in names}) == 2
    for name in names:
        file = lab.folder / f"{name}.txt"
        file.write_text(name)
        lab.ok("put", str(file), name, "--to", r"C:\wsklab\name.txt", "--json")
    for name in names:
        lab.ok("get", name, r"C:\wsklab\name.txt", str(lab.folder / "back"), "--json")
        assert (lab.folder / "back").read_text() == name
        assert "RUNNING" in lab.ok("exec", name, "--json", "--", "sc", "query", "nsiproxy")["result"]["stdout"]
        assert "wsklab: ready" in lab.ok("console", name, "--json")["tail"]
    lab.ok("down", *names, "--json")
    assert lab.ok("gc", "--dry-run", "--json")["removed"] == []


def test_forks_have_the_time_and_randomness_of_their_own(lab: LabCommand, base: Template) -> None:
    """Clocks within half a second of the host's, however old the template is; no two draw the same numbers."""
    drawn = []
    with _opened(lab) as opened:
        for _ in range(3):
            with _started(opened) as guest:
                agent = GuestAgent(guest.domain.agent_command)
                assert abs(agent.offset_s(Deadline.after(20))) < waking.MAX_SKEW_S
                drawn.append(_draw(agent))
    assert len(set(drawn)) == 3


def test_without_a_seed_forks_draw_the_same_numbers(
    lab: LabCommand, base: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other half of the proof: what the test above looks at does repeat when only the clock is set."""
    clock, _, _ = waking._WAKE.partition("read(STDIN")
    monkeypatch.setattr(waking, "_WAKE", clock)
    drawn: list[str] = []
    with _opened(lab) as opened:
        # a fork that was interrupted once more or less draws others: three or four of them are all that were seen
        while len(set(drawn)) == len(drawn) < 12:
            with _started(opened) as guest:
                drawn.append(_draw(GuestAgent(guest.domain.agent_command)))
    assert len(set(drawn)) < len(drawn), drawn


def _draw(agent: GuestAgent) -> str:
    """Sixteen random bytes of the guest's kernel, by the shortest way there is."""
    return agent.run("/usr/bin/od", ["-An", "-tx1", "-N16", "/dev/urandom"], Deadline.after(20)).stdout


def test_a_prepared_fork_answers_its_first_operation(lab: LabCommand, built: BuildResult) -> None:
    """The driver is loaded when the fork starts: nothing is copied, and an operation works at once."""
    package = DriverPackage(image=built.sys, control=built.ctl)
    with _opened(lab) as opened:
        for _ in range(2):
            with _started(opened, package) as guest:
                assert guest.record.driver == package.digest, guest.record.why
                with (
                    guest.enter(Deadline.after(_READY_S), ready_check="") as channel,
                    DeviceClient.open(channel, Deadline.after(30)) as control,
                    control.open_device(DEVICE) as device,
                ):
                    client = WskClient(device, call_s=30)
                    record = client.create_listening_socket_sample()
                    assert record.succeeded, record.describe()
                    assert client.close_socket(record.new_socket).succeeded


def test_guests_on_one_wire_reach_each_other(lab: LabCommand) -> None:
    """Two forks of one template with addresses of their own: each logs the other's SSH greeting."""
    with _opened(lab, wire=WireSetting.SHARED) as opened, _started(opened) as first:
        second = opened.start_guest(opened.profile(PROFILE), Claim(owner=opened.owner, purpose="test", run="forks"))
        try:
            guests = (first, second)
            assert [guest.record.method for guest in guests] == ["fork", "fork"], second.record.why
            assert first.address != second.address
            for one, other in (guests, guests[::-1]):
                assert "SSH-2.0" in _inside(one, f"echo | busybox nc -w 10 {other.address[0]} 22 | head -c 20")
                assert one.record.mac in _inside(one, "cat /sys/class/net/eth0/address")
        finally:
            second.destroy(opened.slots)


def test_up_leaves_a_spare_and_the_next_up_takes_it(lab: LabCommand, base: Template) -> None:
    """It waits paused with a purpose of its own, then runs for its taker; nothing else is left behind."""
    answer = lab.run("up", PROFILE, "--ttl", "30m", "--json", env={"WSKLAB_UP_SPARES": "1"})
    assert answer.code == 0, answer

    # a fork that is being made is paused, too: a spare is one that its maker has let go
    def spare() -> str | NotYet:
        with _opened(lab) as opened:
            ready = spares.waiting(opened.site().factory, opened.owner)
            return ready[0].name if [str(guest.domain.state()) for guest in ready] == ["paused"] else NotYet(str(ready))

    waiting = wait_until(spare, Deadline.after(90), what="a spare", tick_s=0.5)
    assert [row["purpose"] for row in lab.ok("list", waiting, "--json")["guests"]] == ["spare"]
    (row,) = lab.ok("up", PROFILE, "--ttl", "30m", "--json")["guests"]
    assert (row["name"], row["method"]) == (waiting, "fork")
    assert "RUNNING" in lab.ok("exec", waiting, "--json", "--", "sc", "query", "nsiproxy")["result"]["stdout"]
    assert lab.ok("list", "--json")["guests"][0]["purpose"] == "user"
    lab.ok("down", answer.document["guests"][0]["name"], waiting, "--json")
    assert lab.ok("gc", "--dry-run", "--json")["removed"] == []


def test_a_run_replaces_a_guest_by_its_spare(
    lab: LabCommand, built: BuildResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first replacement makes a spare; the second is that spare, at once, with the driver loaded and alive.

    One that is awake has a link that works; one that was paused meanwhile is entered anew.
    """
    links = ReadyLinks()
    with _opened(lab) as opened, opened.home.run_alive("forks"):
        pool = GuestPool(
            profiles={PROFILE: opened.profile(PROFILE)},
            start=opened.start_guest,
            stop=opened.stop_starting,
            spares=1,
            links=links,
            claim=Claim(owner=opened.owner, purpose="run", run="forks"),
            package=DriverPackage(image=built.sys, control=built.ctl),
            slots=opened.slots,
            events=opened.site().hypervisor.subscribe(),
            timeouts=opened.timeouts,
            evidence=tmp_path,
        )

        def spare(state: DomainState) -> str:
            """The name of the spare, once it is in that state."""

            def found() -> str | NotYet:
                (name,) = pool.spares.names(PROFILE) or ("",)
                there = [guest for guest in opened.guests() if guest.name == name]
                return name if there and there[0].domain.state() is state else NotYet(name)

            return wait_until(found, Deadline.after(120), what=f"a spare that is {state}", tick_s=0.2)

        try:
            second = pool.replace(pool.provide(PROFILE), "the test says so")
            waiting = spare(DomainState.RUNNING)
            third = pool.replace(second, "the test says so again")
            assert (third.name, third.method) == (waiting, "fork")
            link = links.take(third.name)
            assert link is not None
            with link.client.open_device(DEVICE) as device:
                assert WskClient(device, call_s=30).create_listening_socket_sample().succeeded
            link.close()
            monkeypatch.setattr(run_spares, "_AWAKE_S", 0.0)
            waiting = spare(DomainState.PAUSED)
            fourth = pool.replace(third, "the test says so once more")
            assert fourth.name == waiting
            assert links.take(fourth.name) is None
            guest = next(guest for guest in opened.guests() if guest.name == waiting)
            with (
                guest.open_channel(Deadline.after(60)) as channel,
                DeviceClient.open(channel, Deadline.after(60)) as control,
                control.open_device(DEVICE) as device,
            ):
                assert abs(GuestAgent(guest.domain.agent_command).offset_s(Deadline.after(20))) < waking.MAX_SKEW_S
                assert WskClient(device, call_s=30).create_listening_socket_sample().succeeded
        finally:
            pool.close()
        assert opened.guests() == []


def test_a_fork_that_is_restarted_boots(lab: LabCommand, base: Template) -> None:
    """Its definition is an ordinary one: after a power-off it boots from its overlay."""
    with _opened(lab) as opened, _started(opened) as guest:
        _inside(guest, "touch /C:/wsklab/kept && sync")
        first = _inside(guest, "cat /proc/sys/kernel/random/boot_id")
        guest.domain.destroy()
        wires = opened.site().factory.wires
        assert wires is not None
        wires.make(guest.record.wire)  # a tap does not outlive its namespace's guest
        guest.domain.start(paused=True)
        wires.plug(guest.record.wire)
        guest.domain.resume()
        guest.wait_ready(opened.timeouts.after(20), ready_check=opened.profile(PROFILE).ready_check)
        assert _inside(guest, "cat /proc/sys/kernel/random/boot_id") != first
        assert "kept" in _inside(guest, "ls /C:/wsklab")


# -- what may break ------------------------------------------------------------------------------


def _cut(template: Template) -> None:
    os.truncate(template.memory, 1 << 20)


def _gone(template: Template) -> None:
    template.state.unlink()


@pytest.mark.parametrize("damage", [_cut, _gone])
def test_a_damaged_template_is_seen_and_made_again(
    lab: LabCommand, base: Template, damage: Callable[[Template], None]
) -> None:
    """`image verify` names the file; the next guest is a fork of a new template."""
    damage(base)
    answer = lab.run("image", "verify", PROFILE, "--json")
    assert answer.code == 3
    assert base.key in answer.document["error"]["message"]
    with _opened(lab) as opened, _started(opened) as guest:
        assert guest.record.method == "fork", guest.record.why
        assert guest.record.template == base.key
    assert lab.run("image", "verify", PROFILE, "--json").code == 0


def _forget_failures(lab: LabCommand) -> None:
    for note in (lab.home / "templates").glob("*/.failed-*"):
        note.unlink()


def test_a_full_host_is_one_line(lab: LabCommand, base: Template) -> None:
    """No memory for one more guest, or no disk: exit code 3, what is missing, nothing left."""
    for variable, word in (("WSKLAB_MEMORY_RESERVE_MIB", "memory"), ("WSKLAB_DISK_RESERVE_MIB", "disk")):
        answer = lab.run("up", PROFILE, "--json", env={variable: str(1 << 30)})
        assert answer.code == 3
        assert answer.document["error"]["class"] == "HostFull"
        assert f"not enough {word}" in answer.document["error"]["message"]
    assert list((lab.home / "guests").iterdir()) == []


def test_a_fork_that_does_not_come_up_becomes_a_boot(
    lab: LabCommand, base: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest whose processors never run after the state was loaded: in time, with the reason."""
    resume = LibvirtDomain.resume
    monkeypatch.setattr(LibvirtDomain, "resume", lambda _domain: None)
    try:
        with _opened(lab, timeout_scale=1.5) as opened, _started(opened) as guest:
            monkeypatch.setattr(LibvirtDomain, "resume", resume)
            assert guest.record.method == "boot"
            assert "the guest agent" in guest.record.why
    finally:
        _forget_failures(lab)


def test_a_clock_that_stays_stale_becomes_a_boot(
    lab: LabCommand, base: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program that sets the clock does nothing: the clock is read back, and the fork is not used."""
    monkeypatch.setattr(waking, "_WAKE", "1;")
    try:
        with _opened(lab) as opened, _started(opened) as guest:
            assert guest.record.method == "boot"
            assert "clock is wrong" in guest.record.why
    finally:
        _forget_failures(lab)


def test_a_daemon_that_is_restarted_in_the_middle(
    lab: LabCommand, base: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libvirtd killed while a fork loads its state: the fork is taken back, the guest boots on the new daemon."""
    thaw = LibvirtDomain.thaw
    holder: list[int] = []

    def killing(domain: LibvirtDomain, state: Path, deadline: Deadline) -> None:
        children = Path(f"/proc/{holder[0]}/task/{holder[0]}/children").read_text().split()
        (daemon,) = (pid for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == "libvirtd")
        os.kill(int(daemon), signal.SIGKILL)
        thaw(domain, state, deadline)

    monkeypatch.setattr(LibvirtDomain, "thaw", killing)
    try:
        with _opened(lab) as opened:
            opened.site()
            pid = opened.daemon().pid
            assert pid is not None
            holder.append(pid)
            with _started(opened) as guest:
                assert guest.record.method == "boot"
                assert guest.record.why
                guest.wait_ready(opened.timeouts.after(20), ready_check="sc query nsiproxy")
                assert len(opened.guests()) == 1
                assert len(lab.processes()) == 1
    finally:
        _forget_failures(lab)


def test_what_a_killed_maker_left_is_swept(lab: LabCommand, base: Template) -> None:
    """`up` killed while it makes a template: gc takes guest, wire, files and the half-made template; then it works."""
    template = base.directory.parent / f".new-{base.key}"
    for one in base.directory.iterdir():
        one.unlink()
    base.directory.rmdir()
    process = lab.start("up", PROFILE, "--json")
    wait_until(
        lambda: True if (template / "memory").exists() and lab.processes() else NotYet("no guest on a new memory file"),
        Deadline.after(60),
        what="a template in the making",
    )
    process.kill()
    process.wait()
    assert lab.processes()
    kinds = {row["kind"] for row in lab.ok("gc", "--json")["removed"]}
    assert {"guest", "template"} <= kinds
    assert lab.processes() == []
    assert not template.exists()
    assert lab.ok("gc", "--dry-run", "--json")["removed"] == []
    with _opened(lab) as opened, _started(opened) as guest:
        assert guest.record.method == "fork"
