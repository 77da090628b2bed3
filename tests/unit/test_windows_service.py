"""Driver service, Driver Verifier, restarts and packages against a Windows-shaped SSH server (contracts/windows_shell).

What passes here says that the lab asks the right questions and understands the sheet's answers: nothing about Windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from windows_shell import WindowsShell, WindowsSsh

from wsklab.channel.ssh import SshChannel
from wsklab.deadline import Deadline, Timeouts
from wsklab.deploy import DriverPackage, deploy, deploy_verified, install_package, undeploy
from wsklab.errors import (
    BootError,
    DriverLoadError,
    DriverServiceError,
    GuestCommandError,
    UsageError,
)
from wsklab.profile import load_profiles
from wsklab.resources import images_root
from wsklab.restart import restart_guest
from wsklab.service import DriverService, ServiceState
from wsklab.verifier import MODES, plan, require_ability

PROFILES = load_profiles(images_root())
SERVER = PROFILES["ws2022"]
FAST = Timeouts()


@dataclass
class Guest:
    """A guest that has an address only."""

    server: WindowsSsh
    name: str = "w"

    def open_channel(self, deadline: Deadline) -> SshChannel:
        return SshChannel.connect(
            socket=self.server.connect(),
            user="Administrator",
            key=self.server.key_file,
            host_key=self.server.host_key,
            deadline=deadline,
        )


@pytest.fixture
def shell() -> WindowsShell:
    return WindowsShell()


@pytest.fixture
def guest(tmp_path: Path, shell: WindowsShell) -> Iterator[Guest]:
    folder = tmp_path / "ssh"
    folder.mkdir()
    with WindowsSsh(folder, shell) as server:
        yield Guest(server)


@pytest.fixture
def package(tmp_path: Path) -> DriverPackage:
    image = tmp_path / "other.sys"
    image.write_bytes(b"MZ driver")
    return DriverPackage(image=image, service="other")


def soon() -> Deadline:
    return Deadline.after(20)


def test_a_driver_from_its_copy_to_its_end(guest: Guest, shell: WindowsShell, package: DriverPackage) -> None:
    """Install, start, replace, stop, delete; the service is one of the kernel, on demand, with a file of its own."""
    with guest.open_channel(soon()) as channel:
        service = deploy(channel, package, FAST)
        assert service.query(soon()).state is ServiceState.RUNNING
        assert shell.services["other"].path == package.guest_path
        copied = guest.server.root / package.guest_path.replace("\\", "/")
        assert copied.read_bytes() == b"MZ driver"
        deploy(channel, package, FAST)
        undeploy(channel, service, FAST, own=False)
        assert service.query(soon()).state is ServiceState.ABSENT
        undeploy_again = DriverService(channel, "other")
        undeploy_again.delete(soon())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (577, "unsigned, changed after signing, test signing off, or Secure Boot on"),
        (1275, "block list or policy"),
        (127, "not exported by this release"),
        (126, "a module that the driver imports is missing"),
        (193, "not an amd64 driver"),
        (183, "of an earlier load is still there"),
        (2, "the image path is wrong"),
    ],
)
def test_every_refusal_in_one_sentence(
    guest: Guest, shell: WindowsShell, package: DriverPackage, code: int, words: str
) -> None:
    """The number, its name, and what it usually means here."""
    shell.load = lambda _path: code
    with guest.open_channel(soon()) as channel, pytest.raises(DriverLoadError) as caught:
        deploy(channel, package, FAST)
    assert caught.value.win32 == code
    assert words in caught.value.why
    assert not caught.value.dirty


def test_a_service_that_is_marked_for_delete(guest: Guest, shell: WindowsShell, package: DriverPackage) -> None:
    """It says that a restart helps, and it does."""
    shell.open_handles = True
    with guest.open_channel(soon()) as channel:
        service = deploy(channel, package, FAST)
        undeploy(channel, service, FAST, own=False)
        with pytest.raises(DriverServiceError) as caught:
            service.install(package.guest_path, soon())
        assert caught.value.win32 == 1072
        assert "reboot" in caught.value.why
    restart_guest(guest, soon())
    with guest.open_channel(soon()) as channel:
        deploy(channel, package, FAST)


def test_a_restart_is_another_boot(guest: Guest, shell: WindowsShell) -> None:
    """Connections die, the identity differs."""
    before = shell.boot_time
    restart_guest(guest, soon())
    assert shell.boot_time != before
    assert shell.history[1] == "shutdown.exe /r /t 0 /f"


def test_a_port_that_answers_is_no_restart(guest: Guest, shell: WindowsShell) -> None:
    """The old boot goes on answering, as an SSH server does while Windows shuts down: that is no restart."""
    shell.restarts = False
    with pytest.raises(BootError, match="did not come back") as caught:
        restart_guest(guest, Deadline.after(2))
    assert "the boot of before" in caught.value.why


def test_verifier_that_lasts(guest: Guest, shell: WindowsShell, package: DriverPackage) -> None:
    """Set, protected against a loop, restarted, started, read back."""
    deploy_verified(guest, package, "standard", SERVER, FAST)
    name = package.guest_path.rsplit("\\", 1)[-1]
    said = [line for line in shell.history if line.startswith(("verifier", "shutdown", "sc start"))]
    assert said == [
        f"verifier.exe /standard /driver {name}",
        "verifier.exe /bootmode resetonbootfail",
        "shutdown.exe /r /t 0 /f",
        "sc start other",
        "verifier.exe /query",
    ]
    assert shell.boot_mode == "resetonbootfail"
    assert shell.services["other"].running


def test_verifier_without_a_restart(guest: Guest, shell: WindowsShell, package: DriverPackage) -> None:
    """Volatile flags are those of the release; where they are unknown, those that every release has."""
    deploy_verified(guest, package, "volatile", SERVER, FAST)
    deploy_verified(guest, package, "volatile", PROFILES["win11-24h2"], FAST)
    flags = [line.split()[3] for line in shell.history if line.startswith("verifier.exe /volatile")]
    assert flags == ["0xa0", "0x6a4"]
    assert not any(line.startswith("shutdown") for line in shell.history)


def test_low_resources_says_all_its_numbers(guest: Guest, shell: WindowsShell, package: DriverPackage) -> None:
    """Defaults differ between pages: probability and delay are always given."""
    deploy_verified(guest, package, "low-resources", SERVER, FAST)
    assert any(line.startswith('verifier.exe /faults 600 "" "" 1 /driver other-') for line in shell.history)


def test_verifier_that_only_says_so(guest: Guest, shell: WindowsShell, package: DriverPackage) -> None:
    """Exit code 0, and the driver is not listed: that is an error, not a mode."""
    shell.watches = False
    with pytest.raises(GuestCommandError, match="does not watch other-"):
        deploy_verified(guest, package, "volatile", SERVER, FAST)


def test_verifier_that_refuses(guest: Guest, shell: WindowsShell, package: DriverPackage) -> None:
    """1 is an error; the driver is not started and the guest is not restarted."""
    shell.verifier_code = 1
    with pytest.raises(GuestCommandError, match="Driver Verifier refuses"):
        deploy_verified(guest, package, "standard", SERVER, FAST)
    assert not shell.services["other"].running
    assert not any(line.startswith("shutdown") for line in shell.history)


def test_modes_are_those_of_the_guest() -> None:
    """A wine guest has none; an unknown one is named with the known ones."""
    for mode in MODES:
        assert require_ability(SERVER, mode) == mode
    with pytest.raises(UsageError, match="wine-bookworm have no verifier mode standard"):
        require_ability(PROFILES["wine-bookworm"], "standard")
    assert require_ability(PROFILES["wine-bookworm"], "off") == "off"
    with pytest.raises(UsageError, match="no verifier mode hard"):
        require_ability(SERVER, "hard")
    with pytest.raises(UsageError):
        plan("standard", r"C:\x.sys", SERVER)


@pytest.mark.parametrize(("code", "restart"), [(0, False), (259, False), (3010, True)])
def test_a_package_for_plug_and_play(
    guest: Guest, shell: WindowsShell, tmp_path: Path, code: int, restart: bool
) -> None:
    """Every file beside the INF is there before pnputil is called."""
    folder = tmp_path / "package"
    folder.mkdir()
    for name in ("nic.inf", "nic.sys", "nic.cat"):
        (folder / name).write_text(name)
    shell.pnputil_code = code
    with guest.open_channel(soon()) as channel:
        assert install_package(channel, folder / "nic.inf", FAST) is restart
    assert shell.drivers == [r"C:\wsklab\nic\nic.inf"]
    copied = guest.server.root / "C:" / "wsklab" / "nic"
    assert sorted(path.name for path in copied.iterdir()) == ["nic.cat", "nic.inf", "nic.sys"]


def test_a_package_that_windows_refuses(guest: Guest, shell: WindowsShell, tmp_path: Path) -> None:
    """pnputil's own words; without a catalog nothing is tried."""
    inf = tmp_path / "nic.inf"
    inf.write_text("[Version]")
    with guest.open_channel(soon()) as channel:
        with pytest.raises(UsageError, match="has no catalog"):
            install_package(channel, inf, FAST)
        (tmp_path / "nic.cat").touch()
        shell.pnputil_code = 0x800B0109 & 0xFF
        with pytest.raises(DriverServiceError, match="Plug and Play refuses") as caught:
            install_package(channel, inf, FAST)
    assert "hash for the file is not present" in caught.value.why


def test_the_shell_knows_what_it_does_not_know(guest: Guest) -> None:
    """An unknown program is cmd's own error, so that a new command of the lab is seen."""
    with guest.open_channel(soon()) as channel:
        result = channel.run("wmic os get version", soon(), check=False)
    assert result.exit_code == 1
    assert "is not recognized as an internal or external command" in result.stderr
