"""The wine guests are what their profiles say: baked here, booted here, spoken to as Windows.

Root on Debian with qemu-system-x86, mmdebstrap and mingw-w64. QEMU runs in a network namespace of its own
and its user network is restricted: nothing reaches the outside. Images are kept between sessions.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from raw_machine import RawMachine

from wsklab import qemu_img
from wsklab.channel.ssh import SshChannel
from wsklab.deadline import Deadline
from wsklab.home import Home
from wsklab.image.store import Image, ImageStore
from wsklab.process import run
from wsklab.profile import GuestProfile, load_profiles
from wsklab.resources import images_root

_NAMES = ("wine-bookworm", "wine-trixie")

# Loads, prints, unloads; with CRASH it dies in DriverEntry at a known address.
_DRIVER = """
#include <ntddk.h>
static DRIVER_UNLOAD Unload;
static void Unload(PDRIVER_OBJECT driver) { DbgPrint("hello: unloaded\\n"); }
NTSTATUS DriverEntry(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    driver->DriverUnload = Unload;
    DbgPrint("hello: loaded\\n");
#ifdef CRASH
    *(volatile int *)0x10 = 1;
#endif
    return STATUS_SUCCESS;
}
"""


@pytest.fixture(scope="session")
def home() -> Home:
    """A lab home that is kept between sessions: a bake is not repeated without need."""
    if os.geteuid() != 0:
        pytest.skip("baking needs root")
    return Home.open(Path(tempfile.gettempdir()) / "wsklab-test-images")


@pytest.fixture(scope="session", params=_NAMES)
def profile(request: pytest.FixtureRequest) -> GuestProfile:
    """Each wine guest in turn."""
    return load_profiles(images_root())[request.param]


@pytest.fixture(scope="session")
def image(home: Home, profile: GuestProfile) -> Image:
    """Its image, baked when an input changed."""
    return ImageStore(home.images).build(profile, deadline=Deadline.after(600))


@pytest.fixture(scope="session")
def machine(
    home: Home, profile: GuestProfile, image: Image, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RawMachine]:
    """One guest for the tests that do not harm it."""
    made = RawMachine(profile, image, home.guest_key(), tmp_path_factory.mktemp(profile.name))
    with made.process:
        yield made


@pytest.fixture
def channel(machine: RawMachine) -> Iterator[SshChannel]:
    """A login."""
    with machine.channel(Deadline.after(60)) as made:
        yield made


@pytest.fixture(scope="session")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`hello.sys` and `crash.sys`."""
    place = tmp_path_factory.mktemp("drivers")
    (place / "driver.c").write_text(_DRIVER)
    found = run(["x86_64-w64-mingw32-gcc", "-print-file-name=include"], deadline=Deadline.after(10)).stdout.strip()
    ddk = [path for path in (Path(found).parents[3] / "x86_64-w64-mingw32/include/ddk",) if path.is_dir()]
    include = ddk[0] if ddk else Path("/usr/x86_64-w64-mingw32/include/ddk")
    compiler = ["x86_64-w64-mingw32-gcc", "-O2", f"-I{include}", "-shared", "-nostdlib", "-nostartfiles"]
    linking = ["-Wl,--subsystem,native", "-Wl,-e,DriverEntry", str(place / "driver.c"), "-lntoskrnl"]
    for name, extra in (("hello", []), ("crash", ["-DCRASH"])):
        run([*compiler, *extra, "-o", str(place / f"{name}.sys"), *linking], deadline=Deadline.after(60))
    return place


def test_the_image_is_small_sound_and_described(image: Image, profile: GuestProfile) -> None:
    """Below 700 MB; every digest right; the manifest knows Wine, kernel, packages and the host key."""
    ImageStore(image.directory.parent.parent).verify(image)
    assert sum(record.size for record in image.manifest.files.values()) < 700e6
    assert qemu_img.info(image.disk, Deadline.after(30)).virtual_size == profile.disk_gib << 30
    assert profile.facts.wine_version is not None
    assert profile.facts.wine_version in image.manifest.wine_version
    assert image.manifest.packages["wine64"]
    assert image.manifest.host_key.startswith("ssh-ed25519 ")


def test_the_guest_is_up_soon(machine: RawMachine) -> None:
    """Login and an answer of a Windows program within 30 s of the start, on an emulated processor too."""
    with machine.channel(Deadline.after(60)) as channel:
        channel.run("cmd /c ver", Deadline.after(60))
        assert time.monotonic() - machine.started < 30
    assert machine.console.contains(r"wsklab: ready boot_id=[0-9a-f-]{36}")
    assert machine.console.contains("wsklab: wine ready")


def test_windows_commands_answer_with_their_codes(channel: SshChannel) -> None:
    """What a test types on Windows works here: services, registry, command processor, quoting, exit codes."""
    deadline = Deadline.after(60)
    assert "RUNNING" in channel.run("sc query nsiproxy", deadline).stdout
    assert channel.run("cmd /c exit 9", deadline, check=False).exit_code == 9
    assert channel.run('echo "a  b" & echo %OS%', deadline).stdout.split() == ['"a', 'b"', "Windows_NT"]
    channel.run(r'reg add "HKLM\Software\ws k" /v "a b" /d "c d" /f', deadline)
    assert "c d" in channel.run(r'reg query "HKLM\Software\ws k"', deadline).stdout
    absent = channel.run("sc query absent", deadline, check=False)
    assert absent.exit_code != 0
    assert "1060" in absent.stderr
    assert channel.run("linux: id -un", deadline).stdout.strip() == "Administrator"


def test_no_notice_of_wine_disturbs_a_program(channel: SshChannel) -> None:
    """Standard error holds only what the program wrote."""
    assert channel.run("reg query HKLM\\System", Deadline.after(30)).stderr == ""


def test_files_travel_by_windows_paths(channel: SshChannel, tmp_path: Path) -> None:
    r"""`C:\wsklab\x` names the same file for SFTP and for a Windows program."""
    deadline = Deadline.after(60)
    (tmp_path / "x.txt").write_bytes(b"from the lab\r\n")
    channel.put(tmp_path / "x.txt", r"C:\wsklab\x.txt", deadline)
    assert channel.run(r"type C:\wsklab\x.txt", deadline).stdout.strip() == "from the lab"
    channel.run(r"echo from the guest> C:\wsklab\y.txt", deadline)
    channel.get(r"C:\wsklab\y.txt", tmp_path / "y.txt", deadline)
    assert (tmp_path / "y.txt").read_text().strip() == "from the guest"


def test_there_is_one_wine_server_and_no_zombie(channel: SshChannel) -> None:
    """Process 1 reaps; every login uses the server that it keeps."""
    deadline = Deadline.after(60)
    channel.run("cmd /c ver", deadline)
    assert channel.run("linux: pgrep -c wineserver", deadline).stdout.strip() == "1"
    assert channel.run("linux: ps -eo stat= | grep -c Z || true", deadline).stdout.strip() == "0"


def test_the_connection_ends_with_its_program(channel: SshChannel) -> None:
    """Services started by a command do not hold its connection open."""
    started = time.monotonic()
    channel.run("sc start RpcSs", Deadline.after(60), check=False)
    assert time.monotonic() - started < 30


def test_a_driver_loads_prints_and_unloads(channel: SshChannel, drivers: Path) -> None:
    """create, start, query, stop, delete with the words of Windows; what it prints is in a file."""
    deadline = Deadline.after(90)
    channel.put(drivers / "hello.sys", r"C:\wsklab\hello.sys", deadline)
    channel.run(r"sc create hello type= kernel start= demand binPath= C:\wsklab\hello.sys", deadline)
    assert "RUNNING" in channel.run("sc start hello", deadline).stdout
    assert "1056" in channel.run("sc start hello", deadline, check=False).stderr
    assert "STOPPED" in channel.run("sc stop hello", deadline).stdout
    channel.run("sc delete hello", deadline)
    log = channel.run("linux: cat /var/log/wsklab/wine.log", deadline).stdout
    assert "hello: loaded" in log
    assert "hello: unloaded" in log


def test_the_death_of_a_driver_host_is_said_and_kept(machine: RawMachine, channel: SshChannel, drivers: Path) -> None:
    """An exception in a driver: the console says it at once, a file has module and registers, the rest lives."""
    deadline = Deadline.after(90)
    channel.put(drivers / "crash.sys", r"C:\wsklab\crash.sys", deadline)
    channel.run(r"sc create crash type= kernel start= demand binPath= C:\wsklab\crash.sys", deadline)
    assert channel.run("sc start crash", deadline, check=False).exit_code != 0
    machine.says(r"wsklab: driver host died: winedevice\.exe \d+: .*0000000000000010", deadline)
    log = channel.run("linux: cat /var/log/wsklab/crash-1.log", deadline).stdout
    assert "code=c0000005" in log
    assert "crash.sys" in log
    assert "RUNNING" in channel.run("sc query nsiproxy", deadline).stdout


def test_an_orderly_end_is_no_death(machine: RawMachine, channel: SshChannel, drivers: Path) -> None:
    """Stopping the last driver of a host ends the host without an alarm."""
    deadline = Deadline.after(90)
    before = machine.console.tail(400).count("driver host died")
    channel.put(drivers / "hello.sys", r"C:\wsklab\quiet.sys", deadline)
    channel.run(r"sc create quiet type= kernel start= demand binPath= C:\wsklab\quiet.sys", deadline)
    channel.run("sc start quiet", deadline)
    channel.run("sc stop quiet", deadline)
    channel.run("linux: for i in 1 2 3 4 5 6; do pgrep -f quiet; sleep 0.5; done", deadline, check=False)
    assert machine.console.tail(400).count("driver host died") == before


def test_the_agent_answers_and_powers_off(home: Home, profile: GuestProfile, image: Image, tmp_path: Path) -> None:
    """A guest with an address from its command line; the agent answers, and its shutdown ends the machine."""
    machine = RawMachine(profile, image, home.guest_key(), tmp_path, cmdline="wsklab.ip=10.0.2.15/24 wsklab.name=fork7")
    with machine.process:
        with machine.channel(Deadline.after(60)) as channel:
            assert channel.run("hostname", Deadline.after(60)).stdout.strip().lower() == "fork7"
            assert channel.run("linux: pgrep -c udhcpc || true", Deadline.after(20)).stdout.strip() == "0"
        with socket.socket(socket.AF_UNIX) as agent:
            agent.settimeout(20)
            agent.connect(str(machine.agent))
            agent.sendall(b'{"execute": "guest-ping"}\n')
            with agent.makefile("rb") as answers:
                assert json.loads(answers.readline()) == {"return": {}}
            agent.sendall(b'{"execute": "guest-shutdown"}\n')
        assert machine.process.wait(Deadline.after(30)) == 0
    assert machine.console.contains("wsklab: power off")
    assert not machine.console.contains("driver host died")
