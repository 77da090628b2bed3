"""gdb at a wine guest's driver: Wine's debugger as it really answers (texts of Wine 8.0), and as it might."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from wsklab.channel.fake import Ended, FakeChannel
from wsklab.deadline import Timeouts
from wsklab.debugger import DriverHost, WineDebugger, let_go, symbol_offset
from wsklab.errors import ChannelLost, ChannelProtocolError, DeadlineExceeded, DriverServiceError, HostError

PROCESSES = """Wine-dbg> pid      threads  executable (all id:s are in hex)
=000000e0 1        'winedbg.exe'
 00000030 7        'services.exe'
 000000b8 5        \\_ 'winedevice.exe'
 00000058 6        \\_ 'winedevice.exe'
 0000003c 4        \\_ 'plugplay.exe'
Wine-dbg>"""

MODULES = """Wine-dbg>0x000001700555f5 ntdll+0x555f5: ret\t
Wine-dbg>Module\tAddress\t\t\t\t\tDebug info\tName (25 modules)
PE\t00000000021a0000-00000000021b0000\tDeferred        {driver}
PE\t000000007b000000-000000007b5e5000\tDeferred        kernelbase
ELF\t000000007d000000-000000007d005000\tDeferred        <wine-loader>
PE\t00000001d8260000-00000001d82a1000\tDeferred        netio.sys
Wine-dbg>"""

RUNNING = "SERVICE_NAME: wsklab\n        STATE              : 4  RUNNING\n        WIN32_EXIT_CODE    : 0  (0x0)\n"
PATH = r"HKEY_LOCAL_MACHINE\System\...\wsklab" + "\r\n    ImagePath    REG_EXPAND_SZ    C:\\wsklab\\WskLab-7b0a.sys\r\n"


class _Winedbg:
    """A winedbg that answers a script when it has it all."""

    def __init__(self, answers: dict[str, str]) -> None:
        self._answers = answers
        self._script = ""
        self._reply: Callable[[bytes], None] = lambda _data: None
        self._end: Callable[[], None] = lambda: None

    def start(self, reply: Callable[[bytes], None], end: Callable[[], None]) -> None:
        self._reply, self._end = reply, end

    def data(self, data: bytes) -> None:
        self._script += data.decode()
        if self._script.endswith("quit\n"):
            self._reply(self._answers[self._script.splitlines()[0]].encode())
            self._end()

    def closed(self) -> None: ...


def _channel(driver_in: str, *, path: str = PATH, state: str = RUNNING) -> FakeChannel:
    """A guest whose driver is in one of its two hosts, or in none."""
    answers = {"info process": PROCESSES}
    for host in ("0xb8", "0x58"):
        answers[f"attach {host}"] = MODULES.format(driver="wsklab-7b0a.sys" if host == driver_in else "mountmgr.sys")
    return FakeChannel(
        {
            "sc query wsklab": Ended(stdout=state),
            r"reg query HKLM\System\CurrentControlSet\Services\wsklab /v ImagePath": Ended(stdout=path),
        },
        streams={"winedbg": lambda: _Winedbg(answers)},
    )


@pytest.mark.parametrize("host", ["0xb8", "0x58"])
def test_the_host_of_a_driver_is_found_by_its_image(host: str) -> None:
    """The registry names the image, the hosts name their modules; case does not matter."""
    found = WineDebugger(_channel(host), Timeouts()).find("wsklab")
    assert found == DriverHost(process=int(host, 16), image="wsklab-7b0a.sys", base=0x21A0000)


def test_a_driver_in_no_host_is_said() -> None:
    """What was looked for is in the message."""
    with pytest.raises(DriverServiceError, match=r"no driver host has wsklab-7b0a\.sys"):
        WineDebugger(_channel("none"), Timeouts()).find("wsklab")


def test_a_driver_that_does_not_run_has_no_host() -> None:
    """Its state is named, with the command that starts it."""
    with pytest.raises(DriverServiceError, match="does not run") as caught:
        WineDebugger(_channel("0xb8", state=RUNNING.replace("RUNNING", "STOPPED")), Timeouts()).find("wsklab")
    assert (caught.value.state, "sc start wsklab" in caught.value.fix) == ("STOPPED", True)


@pytest.mark.parametrize("path", ["", "ERROR: no", "\x1b[31m" * 1000])
def test_a_registry_that_says_nonsense_is_no_crash(path: str) -> None:
    """The guest broke the contract."""
    with pytest.raises(ChannelProtocolError):
        WineDebugger(_channel("0xb8", path=path), Timeouts()).find("wsklab")


HOST = DriverHost(process=0xB8, image="wsklab-7b0a.sys", base=0x21A0000)
SERVE = "winedbg --gdb --no-start --port 2345 0xb8"
LISTENS = "linux: grep -c ':0929 00000000:0000 0A' /proc/net/tcp || true"


def test_serving_waits_until_the_port_listens() -> None:
    """The guest's own table is asked, because winedbg takes the first connection for gdb."""
    answers = iter(["0\n", "0\n", "1\n"])
    channel = FakeChannel({LISTENS: lambda _line: Ended(stdout=next(answers))}, streams={SERVE: lambda: _Winedbg({})})

    WineDebugger(channel, Timeouts()).serve(HOST, 2345)
    assert channel.history.count(LISTENS) == 3


def test_a_winedbg_that_ends_is_not_waited_for() -> None:
    """Its own words say why."""

    class Refused(_Winedbg):
        def start(self, reply: Callable[[bytes], None], end: Callable[[], None]) -> None:
            reply(b"Can't attach process 00b8: error 5\n")
            end()

    channel = FakeChannel({LISTENS: Ended(stdout="0\n")}, streams={SERVE: lambda: Refused({})})
    with pytest.raises(ChannelLost) as caught:
        WineDebugger(channel, Timeouts()).serve(HOST, 2345)
    assert "error 5" in caught.value.why


def test_a_winedbg_that_never_listens_is_given_up() -> None:
    """The wait is bounded, and the process closed."""
    channel = FakeChannel({LISTENS: Ended(stdout="0\n")}, streams={SERVE: lambda: _Winedbg({})})
    with pytest.raises(DeadlineExceeded):
        WineDebugger(channel, Timeouts(scale=0.02)).serve(HOST, 2345)


@pytest.mark.parametrize(("answer", "went"), [(b"+$OK#9a", True), (b"+", False), (b"", False), (b"x" * 500, False)])
def test_letting_go_speaks_as_gdb_does(answer: bytes, went: bool) -> None:
    """The packet is a detach; only an OK counts."""
    ours, theirs = socket.socketpair()

    def server() -> None:
        assert theirs.recv(100) == b"$D#44"
        theirs.sendall(answer)
        theirs.close()

    thread = threading.Thread(target=server)
    thread.start()
    with ours:
        assert let_go(ours, 10) is went
    thread.join()


def _image(path: Path, base: int) -> Path:
    """The head of an amd64 PE image without sections."""
    dos = b"MZ" + bytes(58) + struct.pack("<I", 64)
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, 0, 0, 0, 0, 240, 0x22)
    optional = struct.pack("<HBBIIIIIQII", 0x20B, 0, 0, 0, 0, 0, 0, 0, base, 4096, 512)
    optional += struct.pack("<HHHHHHIIIIHHQQQQII", 10, 0, 0, 0, 10, 0, 0, 4096, 512, 0, 1, 0, 0, 0, 0, 0, 0, 16)
    path.write_bytes((dos + coff + optional + bytes(128)).ljust(1024, b"\0"))
    return path


def test_symbols_move_with_the_driver(tmp_path: Path) -> None:
    """gdb adds the offset modulo 2^64; a driver below its preferred base has a large one."""
    symbols = _image(tmp_path / "x.sys.debug", 0x140000000)

    assert symbol_offset(symbols, 0x21A0000) == 0xFFFFFFFEC21A0000
    assert symbol_offset(symbols, 0x140001000) == 0x1000


def test_symbols_that_are_none(tmp_path: Path) -> None:
    """An ELF file is no debug file of a driver."""
    (tmp_path / "x").write_bytes(b"\x7fELF" + bytes(100))
    with pytest.raises(HostError):
        symbol_offset(tmp_path / "x", 0)
