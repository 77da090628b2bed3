"""wskctl.exe under Wine, over a real SSH channel, with a small kernel driver of the tests' own."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from local_ssh import LocalSsh
from local_wine import Prepared

from wsklab.channel.device import Device, DeviceClient, DeviceError
from wsklab.channel.ssh import SshChannel
from wsklab.deadline import Deadline
from wsklab.errors import DeadlineExceeded
from wsklab.process import run

_SOURCE = Path(__file__).parents[2] / "driver-src"
_NEEDED = ("wine", "wineserver", "x86_64-w64-mingw32-gcc", "cmake", "ninja", "unshare")
_MISSING = [name for name in _NEEDED if shutil.which(name) is None]

pytestmark = pytest.mark.skipif(bool(_MISSING), reason=f"not on this host: {_MISSING}")

_DRIVER_FLAGS = (
    *("-std=gnu11", "-O2", "-s", "-ffreestanding", "-fno-builtin", "-mno-stack-arg-probe", "-fno-stack-protector"),
    *("-shared", "-nostdlib", "-nostartfiles", "-Wl,--subsystem,native", "-Wl,--dynamicbase,--nxcompat"),
    *("-Wl,--exclude-all-symbols", "-Wl,--entry,DriverEntry"),
)

STATUS_CANCELLED = 0xC0000120
STATUS_BUFFER_OVERFLOW = 0x80000005
STATUS_INVALID_DEVICE_REQUEST = 0xC0000010


def _code(number: int) -> int:
    return 0x22 << 16 | (0x900 + number) << 2


ECHO, PEND, RELEASE, WARN, STUCK, PENDING = (_code(n) for n in range(6))


def _soon(seconds: float = 10.0) -> Deadline:
    return Deadline.after(seconds)


@dataclass(frozen=True)
class Wine:
    """A Wine prefix with wskctl in `C:\\wsklab` and the echo driver running, in a network namespace of its own."""

    prefix: Path

    def argv(self, *words: str) -> list[str]:
        return ["unshare", "-n", "env", f"WINEPREFIX={self.prefix}", "WINEDEBUG=-all", *words]

    def run(self, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run to the end. Output goes to files: Wine's server inherits it and stays, and would hold a pipe open."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as source:
            source.write(data)
            source.seek(0)
            done = subprocess.run(self.argv(*words), stdin=source, stdout=out, stderr=err, timeout=120, check=False)
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, out.read(), err.read())

    def wskctl(self, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return self.run("wine", r"C:\wsklab\wskctl.exe", *words, data=data)


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory, prepared_wine: Prepared) -> Iterator[Wine]:
    folder = tmp_path_factory.mktemp("wskctl")
    wine = Wine(folder / "prefix")
    deadline = Deadline.after(180)
    prepared_wine.copy_to(wine.prefix)
    drive = wine.prefix / "drive_c"
    (drive / "wsklab").mkdir()
    shutil.copy(prepared_wine.build / "ctl" / "wskctl.exe", drive / "wsklab")
    run(
        (
            "x86_64-w64-mingw32-gcc", *_DRIVER_FLAGS, "-I/usr/x86_64-w64-mingw32/include/ddk",
            _SOURCE / "ctl" / "tests" / "echo_driver.c", "-lntoskrnl", "-lhal", "-o", drive / "wsklab" / "echo.sys",
        ),
        deadline=deadline,
    )  # fmt: skip
    wine.run("wineserver", "-p")
    wine.run(
        "wine", "sc", "create", "wsklabecho", "type=", "kernel", "start=", "demand", "binPath=", r"C:\wsklab\echo.sys"
    )
    assert b"RUNNING" in wine.run("wine", "sc", "start", "wsklabecho").stdout
    yield wine
    wine.run("wineserver", "-k")
    shutil.rmtree(wine.prefix, ignore_errors=True)


@pytest.fixture
def channel(wine: Wine, tmp_path: Path) -> Iterator[SshChannel]:
    commands = {r"C:\wsklab\wskctl.exe stdio": wine.argv("wine", r"C:\wsklab\wskctl.exe", "stdio")}
    with (
        LocalSsh(tmp_path, commands) as server,
        SshChannel.connect(
            socket=server.connect(), user="Administrator", key=server.key_file, host_key=None, deadline=_soon()
        ) as channel,
    ):
        yield channel


@pytest.fixture
def device(channel: SshChannel) -> Iterator[Device]:
    with DeviceClient.open(channel, _soon(30)) as client, client.open_device(r"\\.\wsklabecho") as device:
        yield device
        assert client.fault is None


def _pending(device: Device) -> int:
    return int.from_bytes(device.ioctl(PENDING, b"", 4, _soon()).data, "little")


def test_clock_tells_the_time_of_each_line(wine: Wine) -> None:
    """Nanoseconds since 1970, in the order of the lines; a line that is no number is refused with a code of Windows,
    and the conversation goes on. That it moves a clock is for a guest: here it would be this host's."""
    before = time.time()
    done = wine.wskctl("clock", data=b"0\nx\n0\n")
    after = time.time()
    first, refused, second = (json.loads(line) for line in done.stdout.splitlines())
    assert done.returncode == 0
    assert before - 0.01 <= first["unix_ns"] / 1e9 <= second["unix_ns"] / 1e9 <= after + 0.01
    assert refused == {"win32": 87}
    assert wine.wskctl("clock", "now").returncode == 2


def test_hello_tells_versions_and_digests(channel: SshChannel, wine: Wine) -> None:
    """hello reports the protocol, its own SHA-256, the digest of the driver file named, and Wine's version."""
    image = wine.prefix / "drive_c" / "wsklab"
    with DeviceClient.open(channel, _soon(30), driver=r"C:\wsklab\echo.sys") as client:
        digests = [run(("sha256sum", image / n), deadline=_soon()).stdout[:64] for n in ("wskctl.exe", "echo.sys")]
        assert [client.hello.sha256, client.hello.driver_sha256] == digests
        assert client.hello.wine is not None
        assert (client.hello.protocol, client.hello.architecture) == (1, "amd64")


def test_net_gives_the_tables(channel: SshChannel) -> None:
    """net answers with the guest's tables, well-formed."""
    with DeviceClient.open(channel, _soon(30)) as client:
        assert client.net().left_out == 0


def test_ioctl_carries_bytes(device: Device) -> None:
    """Bytes arrive and come back, from nothing to 500 kB."""
    for size in (0, 1, 280, 65536, 500_000):
        data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        assert device.ioctl(ECHO, data, size, _soon()).data == data


def test_statuses_come_as_the_driver_gave_them(device: Device) -> None:
    """A warning carries data and its NTSTATUS; an error carries none; both tell the Win32 code."""
    result = device.ioctl(WARN, b"abc", 8, _soon())
    assert (result.status, result.win32, result.data) == (STATUS_BUFFER_OVERFLOW, 234, b"abc")
    result = device.ioctl(_code(50), b"", 8, _soon())
    assert (result.status, result.win32, result.data) == (STATUS_INVALID_DEVICE_REQUEST, 1, b"")


def test_a_pending_ioctl_blocks_nobody(device: Device) -> None:
    """Eight pending ioctls, others are answered meanwhile, and the pending ones end in the driver's order."""
    pending = [device.submit_ioctl(PEND, b"", 8, _soon(30)) for _ in range(8)]

    def echo() -> float:
        started = time.monotonic()
        assert device.ioctl(ECHO, b"x", 1, _soon()).data == b"x"
        return time.monotonic() - started

    assert min(echo() for _ in range(5)) < 0.1  # a hiccup of the host is no finding
    for number in range(8):
        device.ioctl(RELEASE, bytes([number]), 0, _soon())
    assert [one.result(_soon()).data for one in pending] == [bytes([n]) for n in range(8)]


def test_a_deadline_cancels_in_the_guest(device: Device) -> None:
    """An ioctl past its deadline is answered `timeout` by the guest, and the driver's IRP is cancelled."""

    def late() -> float:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded) as caught:
            device.ioctl(PEND, b"", 8, _soon(0.5))
        assert "wskctl" in caught.value.last
        return time.monotonic() - started

    assert min(late() for _ in range(3)) < 0.6  # a hiccup of the host is no finding
    deadline = _soon(2)
    while _pending(device) and not deadline.expired:
        pass
    assert _pending(device) == 0


def test_cancel_ends_a_pending_ioctl(device: Device) -> None:
    """cancel() reaches the driver's cancel routine; the ioctl ends with STATUS_CANCELLED."""
    pending = device.submit_ioctl(PEND, b"", 8, _soon(30))
    pending.cancel()
    result = pending.result(_soon())
    assert (result.status, result.win32) == (STATUS_CANCELLED, 995)


def test_a_request_that_cannot_be_cancelled_holds_nobody(device: Device) -> None:
    """A driver that ignores the cancel costs one timeout; its late completion is no breach of the protocol."""
    with pytest.raises(DeadlineExceeded):
        device.ioctl(STUCK, b"", 8, _soon(0.4))
    assert device.ioctl(ECHO, b"x", 1, _soon()).data == b"x"
    device.ioctl(RELEASE, b"late", 0, _soon())
    assert device.ioctl(ECHO, b"y", 1, _soon()).data == b"y"


def test_opening_an_absent_device_tells_why(channel: SshChannel) -> None:
    """An absent device is ERROR_FILE_NOT_FOUND with STATUS_OBJECT_NAME_NOT_FOUND; a file path is refused."""
    with DeviceClient.open(channel, _soon(30)) as client:
        with pytest.raises(DeviceError) as caught:
            client.open_device(r"\\.\nothing")
        assert (caught.value.win32, caught.value.status) == (2, 0xC0000034)
        with pytest.raises(DeviceError, match="path must begin"):
            client.open_device(r"C:\wsklab\echo.sys")


def test_end_of_input_ends_the_process_at_once(wine: Wine) -> None:
    """End of input with requests pending: they are cancelled and the process ends within its grace of a second."""
    request = {"id": 2, "deadline_ms": 60000, "verb": "ioctl", "handle": 1, "code": PEND, "out": 8, "data": ""}
    lines = [{"id": 1, "deadline_ms": 1000, "verb": "open", "path": r"\\.\wsklabecho"}, request]
    started = time.monotonic()
    done = wine.wskctl("stdio", data=b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    assert time.monotonic() - started < 5
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert [a["id"] for a in answers] == [1, 2]
    assert answers[1]["status"] == STATUS_CANCELLED


def test_malformed_lines_get_answers_not_a_crash(wine: Wine) -> None:
    """Nonsense is answered with an error each, the id where it is known, and the next good line works."""
    lines = [
        b"",
        b"nonsense",
        b'{"id":7,"verb":[]}',
        b'{"id":8}',
        b'{"verb":"hello","deadline_ms":1}',
        b'{"id":9,"deadline_ms":1,"verb":"provision"}',
        b'{"id":10,"deadline_ms":1,"verb":"ioctl","handle":99,"code":1,"out":1,"data":""}',
        b'{"id":11,"deadline_ms":1,"verb":"ioctl","handle":1,"code":1,"out":1,"data":"0"}',
        b'{"id":12,"deadline_ms":1,"verb":"ioctl","handle":1,"code":1,"out":512001,"data":""}',
        b"x" * (1 << 20),
        b"y" * (3 << 20),
        b'{"id":13,"deadline_ms":1000,"verb":"close","handle":5}',
        b'{"id":14,"deadline_ms":1000,"verb":"hello"}',
        b'{"id":15,"deadline_ms":1000,"verb":"hello"',
    ]
    done = wine.wskctl("stdio", data=b"\n".join(lines))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(a["id"], a.get("error")) for a in answers] == [
        (None, "malformed"),
        (None, "malformed"),
        (7, "malformed"),
        (8, "bad_argument"),
        (None, "bad_argument"),
        (9, "unknown_verb"),
        (10, "unknown_handle"),
        (11, "bad_argument"),
        (12, "bad_argument"),
        (None, "line_too_long"),
        (None, "line_too_long"),
        (13, "unknown_handle"),
        (14, None),
    ]
    assert done.returncode == 0


def test_verbs_of_the_command_line(wine: Wine) -> None:
    """hello and net print JSON; an unknown step of provision and nonsense are code 2."""
    assert json.loads(wine.wskctl("hello").stdout)["protocol"] == 1
    assert json.loads(wine.wskctl("net").stdout)["schema"] == 1
    done = wine.wskctl("provision", "x")
    assert (done.returncode, b"crash-control" in done.stderr) == (2, True)
    assert wine.wskctl("nonsense").returncode == 2
    assert wine.wskctl("op", "hello").returncode == 1


def test_it_imports_only_what_it_may(wine: Wine) -> None:
    """wskctl.exe is bound to kernel32 and ntdll alone, so it starts everywhere and fast."""
    path = wine.prefix / "drive_c" / "wsklab" / "wskctl.exe"
    listing = run(("x86_64-w64-mingw32-objdump", "-p", path), deadline=_soon()).stdout
    names = {line.split()[-1].lower() for line in listing.splitlines() if "DLL Name" in line}
    assert names == {"kernel32.dll", "ntdll.dll"}
