"""The driver under a Wine of this host, in a network namespace of its own: no guest, no SSH, seconds per try."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from wsklab.channel.device import DeviceClient
from wsklab.channel.operations import WskClient
from wsklab.deadline import Deadline
from wsklab.errors import ChannelLost, HostError
from wsklab.network import Via, listen

NEEDED = ("wine", "wineserver", "x86_64-w64-mingw32-gcc", "cmake", "ninja", "unshare", "nsenter", "taskset", "ip")
MISSING = [name for name in NEEDED if shutil.which(name) is None]
SOURCE = Path(__file__).parents[2] / "driver-src"
DEVICE = r"\\.\wsklab"
#: As a guest has it. On two, Wine frees a socket under its own wait callbacks (docs/wine.md): on a busy machine every
#: hundredth close of a socket with a request ends the driver's host.
ON_ONE_PROCESSOR = ("taskset", "--cpu-list", str(min(os.sched_getaffinity(0))))


@dataclass(frozen=True)
class Prepared:
    """A build of driver and `wskctl`, and a prefix in which nothing has run. Making them costs half a minute: they are
    made once, and every user copies the prefix.
    """

    build: Path
    prefix: Path

    def copy_to(self, prefix: Path) -> None:
        """A prefix of one's own; nothing in it names its place."""
        subprocess.run(["cp", "-a", str(self.prefix), str(prefix)], check=True, timeout=120)


def prepare(folder: Path) -> Prepared:
    """Build, and make the prefix."""
    made = Prepared(folder / "build", folder / "prefix")
    for argv in (
        ["cmake", "--preset", "mingw", "-B", str(made.build)],
        ["cmake", "--build", str(made.build)],
    ):
        subprocess.run(argv, cwd=SOURCE, check=True, capture_output=True, timeout=300)
    env = {**os.environ, "WINEPREFIX": str(made.prefix), "WINEDEBUG": "-all"}
    for argv in (["wine", "wineboot", "-i"], ["wineserver", "-w"]):
        # Not a pipe: Wine's server inherits it, and stays for a while.
        subprocess.run(
            ["unshare", "--net", *argv],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=180,
            check=False,
        )
    assert (made.prefix / "system.reg").exists(), "wineboot made no prefix"
    return made


class PipeStream:
    """A process spoken to over its pipes; what `wsklab.channel.protocol.Stream` asks for."""

    def __init__(self, argv: list[str], env: dict[str, str], errors: Path) -> None:
        with errors.open("ab") as sink:
            self._child = subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink)
        self._chunks: queue.Queue[bytes] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._child.pid

    def _read(self) -> None:
        assert self._child.stdout is not None
        while True:
            try:
                chunk = os.read(self._child.stdout.fileno(), 65536)
            except (OSError, ValueError):  # closed under us
                chunk = b""
            self._chunks.put(chunk)
            if not chunk:
                return

    def send(self, data: bytes, deadline: Deadline) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(data)
            self._child.stdin.flush()
        except (OSError, ValueError) as error:
            raise ChannelLost("the process is gone", why=str(error)) from error

    def receive(self, deadline: Deadline, limit: int = 65536) -> bytes:
        try:
            return self._chunks.get(timeout=deadline.remaining_s)
        except queue.Empty:
            raise deadline.exceeded("output of the process") from None

    def stderr_tail(self) -> str:
        return ""

    def close(self) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait(10)
        self._reader.join(10)
        self._child.stdout.close()

    def wait(self, seconds: float) -> int:
        """The process's exit code; its input has to be closed already."""
        return self._child.wait(seconds)

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self._child.kill()
        self._child.wait(10)


class LocalWine:
    """A prefix with driver and wskctl in `C:\\wsklab`. `start` before use, `end` after it."""

    def __init__(self, folder: Path, prepared: Prepared) -> None:
        self.prefix = folder / "prefix"
        self.errors = folder / "errors.log"
        self._prepared = prepared
        self._holder: subprocess.Popen[bytes] | None = None
        self.env = {**os.environ, "WINEPREFIX": str(self.prefix), "WINEDEBUG": "-all"}
        self.streams: list[PipeStream] = []
        first, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        self._ports = iter(range(int(first) - 5000, int(first)))

    @property
    def via(self) -> Via:
        """Where the driver's sockets are."""
        assert self._holder is not None
        return Via(netns=Path(f"/proc/{self._holder.pid}/ns/net"))

    def free_port(self) -> int:
        """A port of 127.0.0.1 that nobody has in the namespace, where only the driver and its peers live.

        One of its own each time, and none of those that Linux gives to whoever binds to port 0: a case may close and
        bind again, and another client's connection must not have come by it meanwhile.
        """
        for port in self._ports:
            with contextlib.suppress(HostError), listen(self.via, ("127.0.0.1", port)):
                return port
        raise AssertionError("no port is free")

    def replace_driver(self, image: Path) -> None:
        """Stop the driver and start another build of it."""
        self.stop_driver()
        shutil.copy(image, self.prefix / "drive_c" / "wsklab" / "wsklab.sys")
        self.start_driver()

    def run(self, *argv: str, check: bool = True) -> str:
        """Run a command in the namespace; output through a file, since Wine's server inherits it and stays."""
        with tempfile.TemporaryFile() as out:
            done = subprocess.run(
                self._inside(*argv),
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                timeout=120,
                check=False,
            )
            out.seek(0)
            text = out.read().decode(errors="replace")
        if check and done.returncode != 0:
            raise AssertionError(f"{argv} ended with {done.returncode}: {text}")
        return text

    def _inside(self, *argv: str) -> list[str]:
        assert self._holder is not None
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", *ON_ONE_PROCESSOR, *argv]

    def start(self) -> None:
        """Copy the prefix, load the driver."""
        self._prepared.copy_to(self.prefix)
        # cat waits for its standard input to end: it dies with us, whatever happens.
        self._holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
        self._await_namespace()
        self.run("ip", "link", "set", "lo", "up")
        target = self.prefix / "drive_c" / "wsklab"
        target.mkdir(exist_ok=True)
        shutil.copy(self._prepared.build / "wsklab.sys", target)
        shutil.copy(self._prepared.build / "ctl" / "wskctl.exe", target)
        self.run("wineserver", "-p")
        self.run(
            *("wine", "sc", "create", "wsklab", "type=", "kernel", "start=", "demand"),
            *("binPath=", r"C:\wsklab\wsklab.sys"),
        )
        self.start_driver()

    def _await_namespace(self) -> None:
        assert self._holder is not None
        own = Path("/proc/self/ns/net").readlink()
        deadline = Deadline.after(10)
        while Path(f"/proc/{self._holder.pid}/ns/net").readlink() == own:
            assert not deadline.expired

    def start_driver(self) -> None:
        assert "RUNNING" in self.run("wine", "sc", "start", "wsklab")

    def stop_driver(self) -> None:
        assert "STOPPED" in self.run("wine", "sc", "stop", "wsklab")

    def end(self) -> None:
        for stream in self.streams:
            stream.close()
        self.run("wine", "sc", "stop", "wsklab", check=False)
        self.run("wineserver", "-k", check=False)
        assert self._holder is not None
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        self._holder.wait(10)
        shutil.rmtree(self.prefix, ignore_errors=True)  # 700 MB each: a session has a dozen

    def open_stream(self, command: str, deadline: Deadline) -> PipeStream:
        """`wsklab.channel.protocol.Channel.open_stream`, the only part of a channel that a DeviceClient needs."""
        stream = PipeStream(self._inside("wine", *command.split()), self.env, self.errors)
        self.streams.append(stream)
        return stream

    def device_client(self) -> DeviceClient:
        """A new wskctl process."""
        try:
            return DeviceClient.open(self, Deadline.after(60))  # type: ignore[arg-type]
        except ChannelLost as lost:
            said = self.errors.read_text(errors="replace")[-3000:]
            raise AssertionError(f"wskctl ended before its hello; Wine said:\n{said}") from lost

    @contextlib.contextmanager
    def client(self, call_s: float = 20.0):  # type: ignore[no-untyped-def]
        """A new handle of the driver, in a process of its own."""
        with self.device_client() as control:
            client = WskClient(control.open_device(DEVICE), call_s=call_s)
            try:
                yield client
            finally:
                with contextlib.suppress(ChannelLost):
                    client.close()
