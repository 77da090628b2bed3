"""The WSK provider where a network of its own is needed: addresses that come and go, a peer on another machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from shim_build import MISSING, build

NEEDED = ("ip", "unshare", "nsenter")
ABSENT = MISSING + [name for name in NEEDED if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"not on this host: {ABSENT}")

#: Accepts one connection and tells what became of it within some seconds.
PEER = """
import socket, sys
listener = socket.create_server((sys.argv[1], 0))
print(listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
connection.settimeout(4)
got = b""
try:
    while data := connection.recv(100):
        got += data
    end = "fin"
except TimeoutError:
    end = "silence"
except ConnectionResetError:
    end = "reset"
print(got.decode(), end, flush=True)
"""


class Wire:
    """Two network namespaces with a link: `here` for the provider, `there` for a peer."""

    HERE, THERE = "10.83.0.1", "10.83.0.2"

    def __init__(self) -> None:
        self._holders: list[subprocess.Popen[str]] = []
        first = self._hold(["unshare", "--user", "--map-root-user", "--net"])
        self._here = ["nsenter", f"--target={first}", "--user", "--net", "--preserve-credentials"]
        second = self._hold([*self._here, "unshare", "--net"])
        self._there = ["nsenter", f"--target={second}", "--user", "--net", "--preserve-credentials"]
        self.here("ip", "link", "set", "lo", "up")
        self.here("ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", str(second))
        for run, address in ((self.here, self.HERE), (self.there, self.THERE)):
            run("ip", "address", "add", f"{address}/24", "dev", "wire")
            run("ip", "link", "set", "wire", "up")

    def _hold(self, argv: list[str]) -> int:
        """Start a process in new namespaces that does nothing; its id."""
        holder = subprocess.Popen(
            [*argv, "sh", "-c", "echo $$; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._holders.append(holder)
        assert holder.stdout is not None
        line = holder.stdout.readline()
        if not line:
            pytest.skip("no user or network namespace may be made on this host")
        return int(line)

    def here(self, *argv: str) -> None:
        subprocess.run([*self._here, *argv], check=True, timeout=20)

    def there(self, *argv: str) -> None:
        subprocess.run([*self._there, *argv], check=True, timeout=20)

    def start(self, side: str, *argv: str, **settings: str) -> subprocess.Popen[str]:
        prefix = self._here if side == "here" else self._there
        return subprocess.Popen(
            [*prefix, *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **{f"WSKLAB_SHIM_{name.upper()}": value for name, value in settings.items()}},
        )

    def close(self) -> None:
        for holder in reversed(self._holders):
            holder.kill()
            holder.communicate(timeout=20)


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.fixture(scope="module")
def program() -> str:
    folder: Path = build("shim", "shim-provider")
    return str(folder / "shim-provider")


def test_an_address_change_is_told(wire: Wire, program: str) -> None:
    """OPT-008: the request ends when an address of the family is added or removed."""
    running = wire.start("here", program, "AddressChangeIsTold")
    assert running.stdout is not None
    for verb in ("add", "del"):
        assert running.stdout.readline().startswith("change")
        wire.here("ip", "address", verb, "10.83.9.9/32", "dev", "lo")

    rest = running.communicate(timeout=60)[0]
    assert running.returncode == 0, rest


def test_silent_mode(wire: Wire, program: str) -> None:
    """OPT-012: after it the connection sends nothing, not even when it is closed."""
    peer = wire.start("there", sys.executable, "-c", PEER, Wire.THERE)
    assert peer.stdout is not None
    port = peer.stdout.readline().strip()
    running = wire.start("here", program, "SilentMode", peer=f"{Wire.THERE} {port}")

    rest = running.communicate(timeout=60)[0]
    assert running.returncode == 0, rest
    assert peer.communicate(timeout=60)[0].strip() == "hello silence"


def test_connect_to_a_black_hole(wire: Wire, program: str) -> None:
    """CONN-006: a connect that nobody answers can be cancelled, and its socket closed."""
    wire.here("ip", "neigh", "add", "10.83.0.77", "lladdr", "02:00:00:00:00:77", "dev", "wire", "nud", "permanent")
    running = wire.start("here", program, "ConnectToABlackHole", peer="10.83.0.77 7")

    rest = running.communicate(timeout=60)[0]
    assert running.returncode == 0, rest
