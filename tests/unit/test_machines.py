"""Static machines against a Windows-shaped SSH server: claims, keys, restarts, power commands, the provider of a run.

Real SSH, real commands of the host, real claim files; the Windows is contracts/windows_shell and no evidence about one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from synthetic_dump import SyntheticDump
from windows_shell import Service, WindowsShell, WindowsSsh

from wsklab.channel.ssh import SshChannel
from wsklab.cli.services import Services
from wsklab.deadline import Deadline, Timeouts
from wsklab.deploy import DriverPackage
from wsklab.errors import (
    ChannelProtocolError,
    ConfigError,
    DriverLoadError,
    GuestError,
    HostCommandError,
    HostError,
    HypervisorError,
    LeaseError,
    LeaseUnavailable,
    UsageError,
)
from wsklab.guest import Claim
from wsklab.home import Home
from wsklab.lease import SlotTable, expiry_after, parse_duration
from wsklab.machine import fingerprint
from wsklab.machine_config import MachineConfig, PowerConfig
from wsklab.machine_pool import MachinePool
from wsklab.machines import Machines
from wsklab.profile import load_profiles
from wsklab.resources import images_root

PROFILES = load_profiles(images_root())
HOUR = expiry_after(parse_duration("1h"))


class Windows:
    """The server, and what switches it: a script of the host that writes down what it was asked for."""

    def __init__(self, folder: Path, shell: WindowsShell, server: WindowsSsh) -> None:
        self.shell = shell
        self.server = server
        self.folder = folder
        self.switch = folder / "switch"
        self.switch.write_text(f'#!/bin/sh\necho "$1" >>{folder}/switched\n[ "$1" != broken ]\n')
        self.switch.chmod(0o755)

    @property
    def switched(self) -> list[str]:
        log = self.folder / "switched"
        return log.read_text().split() if log.exists() else []

    def config(self, **changes: object) -> MachineConfig:
        power = PowerConfig(on=(str(self.switch), "on"), off=(str(self.switch), "off"), timeout_s=20)
        values = {
            "name": "bench",
            "profile": "ws2022",
            "address": "127.0.0.1",
            "port": self.server.port,
            "user": "Administrator",
            "key": self.server.key_file,
            "host_key": fingerprint(self.server.host_key),
            "power": power,
            "boot_s": 30.0,
        }
        return MachineConfig.model_validate({**values, **changes})

    def machines(self, home: str = "home", owner: str = "ann", scale: float = 1.0, **changes: object) -> Machines:
        return Machines(
            home=Home.open(self.folder / home),
            configs=(self.config(**changes),),
            known=PROFILES,
            owner=owner,
            opener=SshChannel.connect,
            timeouts=Timeouts(scale=scale),
            claims=self.folder / "claims",
        )


@pytest.fixture
def windows(tmp_path: Path) -> Iterator[Windows]:
    folder = tmp_path / "ssh"
    folder.mkdir()
    shell = WindowsShell(services={"sshd": Service("sshd.exe", running=True)})
    with WindowsSsh(folder, shell) as server:
        yield Windows(tmp_path, shell, server)


@pytest.fixture
def package(tmp_path: Path) -> DriverPackage:
    (tmp_path / "wsklab.sys").write_bytes(b"MZ driver")
    (tmp_path / "wskctl.exe").write_bytes(b"MZ control")
    return DriverPackage(image=tmp_path / "wsklab.sys", control=tmp_path / "wskctl.exe")


def users(name: str = "ann", expires: str = HOUR) -> Claim:
    return Claim(owner=name, purpose="user", expires=expires)


def soon() -> Deadline:
    return Deadline.after(20)


@contextlib.contextmanager
def pool_of(
    windows: Windows, package: DriverPackage, *, trace: tuple[str, ...] = (), **changes: object
) -> Iterator[MachinePool]:
    # nothing in these tests waits for a time-out: a slow host may take its time
    machines = windows.machines(scale=10.0, **changes)
    with machines.home.run_alive("r1"):
        pool = MachinePool(
            take=machines.take, names=("bench",), claim=Claim(owner="ann", purpose="run", run="r1"), package=package,
            slots=SlotTable(windows.folder / "slots"), evidence=windows.folder / "evidence", trace=trace,
        )  # fmt: skip
        try:
            yield pool
        finally:
            pool.close()


# ---- whose it is


def test_one_user_at_a_time(windows: Windows) -> None:
    """Another user and another home are refused, with who has it; given back, it is theirs."""
    mine = windows.machines().take("bench", users())
    metadata = mine.domain.metadata()
    assert metadata is not None
    assert (metadata.owner, metadata.purpose, metadata.expires) == ("ann", "user", HOUR)
    theirs = windows.machines(home="other", owner="bob")
    with pytest.raises(LeaseUnavailable, match="machine bench is in use") as caught:
        theirs.take("bench", users("bob"))
    assert "ann has it" in caught.value.why
    (seen,) = theirs.all()
    with pytest.raises(LeaseError, match="not given back"):
        seen.destroy(SlotTable(windows.folder / "slots"))
    (again,) = windows.machines().all()
    again.destroy(SlotTable(windows.folder / "slots"))
    assert again.domain.metadata() is None
    theirs.take("bench", users("bob"))


@pytest.mark.parametrize(("expires", "free"), [("2020-01-01T00:00:00Z", True), ("2999-01-01T00:00:00Z", False)])
def test_a_claim_ends_with_its_time(windows: Windows, expires: str, *, free: bool) -> None:
    """After the grace nobody has to give it back."""
    windows.machines().take("bench", users(expires=expires))
    with contextlib.nullcontext() if free else pytest.raises(LeaseUnavailable):
        windows.machines(owner="bob").take("bench", users("bob"))


def test_a_claim_ends_with_its_run(windows: Windows) -> None:
    """The lock of the run's controller is what counts: the claim of one that died holds nobody up."""
    machines = windows.machines()
    with machines.home.run_alive("r1"):
        machines.take("bench", Claim(owner="ann", purpose="run", run="r1"))
        with pytest.raises(LeaseUnavailable, match="in use"):
            windows.machines(home="other").take("bench", users())
        (seen,) = windows.machines().all()
        with pytest.raises(LeaseError, match="not given back"):
            seen.destroy(SlotTable(windows.folder / "slots"))
    windows.machines(home="other").take("bench", users())


def test_a_command_borrows_it(windows: Windows) -> None:
    """For its own length; whoever has it as a user needs no second claim."""
    (machine,) = windows.machines().all()
    with machine.borrowed(), pytest.raises(LeaseUnavailable):
        windows.machines(owner="bob").take("bench", users("bob"))
    windows.machines().take("bench", users())
    (machine,) = windows.machines().all()
    with machine.borrowed(), machine.open_channel(soon()) as channel:
        assert channel.run("sc.exe query sshd", soon()).exit_code == 0
    metadata = machine.domain.metadata()
    assert metadata is not None
    assert metadata.purpose == "user"


def test_a_claim_ends_with_its_home(windows: Windows) -> None:
    """Nobody could give the machine back."""
    windows.machines(home="gone").take("bench", users())
    shutil.rmtree(windows.folder / "gone")
    windows.machines(owner="bob").take("bench", users("bob"))


def test_a_damaged_claim_claims_nothing(windows: Windows) -> None:
    """What a process that was killed half-way left behind."""
    machines = windows.machines()
    machines.take("bench", users())
    (file,) = (windows.folder / "claims").iterdir()
    file.write_text('{"home": "/x", "tok')
    machines.take("bench", users())


# ---- the way in


def test_the_fingerprint_is_checked_and_the_key_kept(windows: Windows) -> None:
    """The key of the first meeting is pinned, and OpenSSH gets it."""
    (machine,) = windows.machines().all()
    assert machine.record.host_key is None
    machine.open_channel(soon()).close()
    (again,) = windows.machines().all()
    assert again.record.host_key == windows.server.host_key


@pytest.mark.parametrize("policy", ["learn", f"SHA256:{'A' * 43}"])
def test_another_machine_is_refused(windows: Windows, policy: str) -> None:
    """Whether the settings name a key or the first one was kept."""
    if policy == "learn":
        (machine,) = windows.machines(host_key="learn").all()
        (machine.directory / "host_key").write_text(f"ssh-ed25519 {'A' * 68}\n")
    (machine,) = windows.machines(host_key=policy).all()
    with pytest.raises(ChannelProtocolError) as caught:
        machine.open_channel(soon())
    assert caught.value.fix


def test_nothing_of_a_hypervisor_is_there(windows: Windows) -> None:
    """Whatever needs one says so; the machine is never switched off by the lab's own clean-up."""
    (machine,) = windows.machines().all()
    domain = machine.domain
    attempts = [
        domain.start, domain.resume, domain.suspend, domain.shutdown, domain.destroy, domain.undefine, domain.xml,
        domain.vcpu_time_ns, domain.screenshot, domain.inject_nmi, lambda: domain.send_keys([28]),
        lambda: domain.set_link("", up=False), lambda: domain.open_serial(0),
        lambda: domain.agent_command({}, soon()), lambda: domain.dump_memory(Path("x"), soon(), windows=True),
        lambda: domain.freeze(Path("x"), soon()), lambda: domain.thaw(Path("x"), soon()),
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(HypervisorError, match="bench is a static machine"):
            attempt()
    with pytest.raises(UsageError, match="has no image to boot from"):
        windows.machines().take("bench", dataclasses.replace(users(), fresh=True))


# ---- as fresh as it gets


def test_a_restart_is_another_boot(windows: Windows) -> None:
    """No power command is needed for it."""
    machine = windows.machines().take("bench", users())
    before = windows.shell.boot_time
    machine.renew()
    assert windows.shell.boot_time != before
    assert machine.has_seen(windows.shell.boot_time)
    assert windows.switched == []


def test_a_machine_that_does_not_restart_is_power_cycled(windows: Windows) -> None:
    """Off, on, and another boot; the switch is a real command."""
    windows.shell.restarts = False
    machine = windows.machines(
        power=PowerConfig(cycle=("sh", "-c", f"{windows.switch} cycle && touch {windows.folder}/cut"), timeout_s=20),
        boot_s=6.0,
    ).take("bench", users())
    machine.remember(dirty="a case hung")

    original = windows.shell.run

    def run(line: str) -> tuple[int, str, str]:
        if (windows.folder / "cut").exists():
            (windows.folder / "cut").unlink()
            windows.shell.boot_time += 600_000_000
        return original(line)

    windows.shell.run = run  # type: ignore[method-assign]
    machine.renew()
    assert windows.switched == ["cycle"]
    assert machine.record.dirty == ""


def test_a_cycle_that_changes_nothing_is_told(windows: Windows) -> None:
    """The commands switch something else: the boot of before still answers."""
    machine = windows.machines(boot_s=1.5).take("bench", users())
    machine.enter(soon(), ready_check="").close()
    with pytest.raises(GuestError, match="did not come back from a power cycle"):
        machine.cycle()
    assert windows.switched == ["off", "on"]


def test_what_a_switch_says_is_told(windows: Windows) -> None:
    """One that fails, one that hangs, none at all."""
    broken = PowerConfig(cycle=(str(windows.switch), "broken"))
    with pytest.raises(HostCommandError, match=r"power\.cycle of machine bench failed"):
        windows.machines(power=broken).take("bench", users()).cycle()
    hangs = PowerConfig(cycle=("sleep", "60"), timeout_s=0.2)
    (machine,) = windows.machines(power=hangs).all()
    with pytest.raises(HostCommandError, match="did not end within"):
        machine.cycle()
    (machine,) = windows.machines(power=PowerConfig()).all()
    with pytest.raises(HostError, match="cannot be power cycled"):
        machine.cycle()


def test_a_silent_machine_is_switched_on(windows: Windows) -> None:
    """By `on`, and only when it does not answer."""
    machine = windows.machines().take("bench", users())
    machine.enter(soon(), ready_check="sc.exe query sshd").close()
    assert windows.switched == []
    (silent,) = windows.machines(port=1).all()
    with pytest.raises(GuestError, match="did not become ready"):
        silent.enter(Deadline.after(1), ready_check="")
    assert windows.switched == ["on"]


@pytest.mark.parametrize(("code", "restarts"), [(0, False), (3010, True)])
def test_a_package_that_wants_a_restart_gets_it(windows: Windows, tmp_path: Path, code: int, *, restarts: bool) -> None:
    """By the command, on a machine that nobody has: it is claimed for as long as that takes."""
    for name in ("nic.inf", "nic.sys", "nic.cat"):
        (tmp_path / name).write_text(name)
    windows.shell.pnputil_code = code
    booted = windows.shell.boot_time
    lab: Any = SimpleNamespace(timeouts=Timeouts(scale=10.0), profile=lambda name: PROFILES[name])
    (machine,) = windows.machines().all()
    Services().deploy(lab, machine, tmp_path / "nic.inf", service="", control=None, start=True)
    assert (windows.shell.boot_time != booted) is restarts
    assert machine.domain.metadata() is None


# ---- in a run


def test_a_run_has_it_with_the_driver(windows: Windows, package: DriverPackage) -> None:
    """Claimed, deployed, told as static; at the end the driver is out and the machine free."""
    with pool_of(windows, package) as pool:
        handle = pool.provide("bench")
        assert (handle.kind, handle.static, handle.method, handle.build) == (
            "windows",
            True,
            "static",
            "10.0.20348.587",
        )
        assert (handle.profile, handle.ssh_port, handle.shared_leases) == ("bench", windows.server.port, 1)
        assert windows.shell.services["wsklab"].running
        with pytest.raises(LeaseUnavailable):
            windows.machines(owner="bob").take("bench", users("bob"))
    assert "wsklab" not in windows.shell.services
    windows.machines(owner="bob").take("bench", users("bob"))


def test_the_reset_ladder(windows: Windows, package: DriverPackage) -> None:
    """A guest of a case's own is a restart, one from its image a power cycle where somebody can switch it."""
    with pool_of(windows, package, power=PowerConfig()) as pool:
        first = pool.provide("bench")
        booted = windows.shell.boot_time
        second = pool.replace(first, "a case asked for the reset fork")
        third = pool.replace(second, "a case asked for the reset rebuild", boot=True)
        assert windows.shell.boot_time == booted + 2 * 600_000_000
        assert [first.name, second.name, third.name] == ["bench-1", "bench-2", "bench-3"]
        with pytest.raises(HostError, match="cannot be kept aside"):
            pool.keep(third, "a case failed")
    assert (windows.folder / "evidence" / "bench-1" / "why.txt").read_text().startswith("a case asked")


def test_the_end_of_a_run_waits_for_a_renewal(windows: Windows, package: DriverPackage) -> None:
    """Nobody else gets a machine that is just being restarted, and none is renewed for a run that is over."""
    begun, go = threading.Event(), threading.Event()
    with pool_of(windows, package, power=PowerConfig()) as pool:
        handle = pool.provide("bench")
        restart = windows.shell.run

        def slow(line: str) -> tuple[int, str, str]:
            if line.startswith("shutdown"):
                begun.set()
                assert go.wait(60)
            return restart(line)

        windows.shell.run = slow  # type: ignore[method-assign]

        def renew() -> None:
            with pytest.raises(HostError, match="the run is over"):
                pool.replace(handle, "its case had it for itself")

        worker = threading.Thread(target=renew)
        worker.start()
        assert begun.wait(60)
        ended = threading.Thread(target=pool.close)
        ended.start()
        ended.join(0.5)
        assert ended.is_alive()
        with pytest.raises(LeaseUnavailable):
            windows.machines(owner="bob").take("bench", users("bob"))
        go.set()
        ended.join(60)
        worker.join(60)
        with pytest.raises(HostError, match="the run is over"):
            pool.provide("bench")
    assert "wsklab" not in windows.shell.services
    windows.machines(owner="bob").take("bench", users("bob"))


def test_a_refused_driver_is_no_reason_for_a_restart(windows: Windows, package: DriverPackage) -> None:
    """The signature will not get better by it."""
    windows.shell.load = lambda _path: 577
    booted = windows.shell.boot_time
    with pool_of(windows, package) as pool, pytest.raises(DriverLoadError, match="did not start"):
        pool.provide("bench")
    assert windows.shell.boot_time == booted


def test_a_crash_is_known_by_the_boot_after_it(windows: Windows, package: DriverPackage, tmp_path: Path) -> None:
    """The newest dump is fetched and read; the machine is renewed for whoever comes next."""
    with pool_of(windows, package) as pool:
        handle = pool.provide("bench")
        assert pool.explain(handle.name, operation="WskSend", channel_lost=False).fault == "hung"
    with pool_of(windows, package) as pool:
        handle = pool.provide("bench")
        windows.shell.start_anew(asked=False)
        folder = windows.server.root / "C:" / "Windows" / "Minidump"
        folder.mkdir(parents=True)
        dump = SyntheticDump(code=0xD1, parameters=(1, 2, 3, 4), modules=[])
        (folder / windows.shell.dumps[-1]).write_bytes(dump.small())
        report = pool.explain(handle.name, operation="", channel_lost=True)
        assert report.fault == "crashed"
        final = pool.conclude(handle.name, tmp_path / "case")
        assert final is not None
        assert final.final
        assert "0xD1" in final.reason or "d1" in final.reason.lower()
        assert json.loads((tmp_path / "case" / "dump.json").read_text())["source"] == "minidump"
        assert "static machine" in (tmp_path / "case" / "sources.txt").read_text()
        pool.replace(handle, report.reason)
    assert windows.machines().all()[0].record.dirty == ""


def test_a_trace_is_in_the_evidence(windows: Windows, package: DriverPackage, tmp_path: Path) -> None:
    """Begun with the driver, taken when a case ends badly, going on afterwards, gone with the run."""
    provider = "{e53c6823-7bb8-44bb-90dc-3f86090d48a6}"
    with pool_of(windows, package, trace=(provider,)) as pool:
        handle = pool.provide("bench")
        assert windows.shell.session == [provider]
        (windows.server.root / "C:" / "wsklab" / "trace.etl").write_bytes(b"events")
        assert pool.conclude(handle.name, tmp_path / "case") is None
        assert (tmp_path / "case" / "trace.etl").read_bytes() == b"events"
        assert f"trace.etl of {provider}" in (tmp_path / "case" / "sources.txt").read_text()
        assert windows.shell.session == [provider]
    assert windows.shell.session == []


# ---- settings


@pytest.mark.parametrize(
    ("changes", "key", "nearest"),
    [({"profile": "ws2022r"}, "machines.profile", "ws2022"), ({"name": "ws2019"}, "machines.name", "")],
)
def test_a_machine_that_does_not_fit_the_profiles(
    windows: Windows, changes: dict[str, object], key: str, nearest: str
) -> None:
    """File, key, and the nearest value that would."""
    with pytest.raises(ConfigError) as caught:
        windows.machines(**changes).profiles()
    assert caught.value.evidence == {"file": "wsklab.toml", "key": key, "nearest": nearest}
    with pytest.raises(ConfigError, match="profile"):
        windows.machines(profile="shim").profiles()
