"""Taking a driver away and replacing it, over a scripted channel: ours is asked first, others are just stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wsklab import abi
from wsklab.abi import DEVICE_PATH, STATUS, Ioctl, OwnerFlag
from wsklab.assemble import Lab
from wsklab.channel import operations
from wsklab.channel.fake import Ended, FakeChannel, FakeDevice, FakeWskctl, Hangs, Pends
from wsklab.cli.services import Services
from wsklab.deadline import Timeouts
from wsklab.deploy import WSKCTL, DriverPackage, deploy
from wsklab.errors import DriverLoadError, DriverUnloadStuck, UsageError
from wsklab.guest import Guest

STDIO = f"{WSKCTL} stdio"
RUNNING = Ended(stdout="STATE : 4  RUNNING\r\n")
STOPPED = Ended(stdout="STATE : 1  STOPPED\r\n")
ABSENT = Ended(exit_code=1, stderr="0100:err:sc:query_service failed to open service 1060\n")
#: Fast, because one of these guests does not answer.
TIMEOUTS = Timeouts(scale=0.05)

Quiesce = Callable[[bytes, int], tuple[int, bytes] | Pends]


class World(FakeChannel):
    """A guest with a running driver under `service`; it has our device when `quiesce` is given."""

    def __init__(self, service: str, quiesce: Quiesce | None = None, *, control: bool = True) -> None:
        self.device = FakeDevice(ioctls={Ioctl.QUIESCE: quiesce} if quiesce else {})
        devices = {DEVICE_PATH: self.device} if quiesce else {}
        super().__init__(streams={STDIO: lambda: FakeWskctl(devices)} if control else {})
        self.service = service
        self.has_control = control
        self.state = RUNNING
        self.handles_at_stop = -1

    def run(self, command: str, deadline: Any, *, check: bool = True) -> Any:
        """`sc` as a guest answers it."""
        verb = command.split()[1]
        if command == f"if exist {WSKCTL} echo there":
            self.commands[command] = Ended(stdout="there\r\n" if self.has_control else "")
            return super().run(command, deadline, check=check)
        if verb == "stop":
            self.handles_at_stop = self.device.handles
            self.state = STOPPED
        elif verb == "delete":
            self.state = ABSENT
        elif verb == "start":
            self.state = RUNNING
        self.commands[command] = self.state if verb == "query" else Ended()
        return super().run(command, deadline, check=check)

    def sent(self, verb: str) -> bool:
        """Whether `sc <verb>` was sent."""
        return any(line.startswith(f"sc {verb}") for line in self.history)


def _idle(_data: bytes, _size: int) -> tuple[int, bytes]:
    return 0, abi.QUIESCE_RESULT.pack()


def _busy(_data: bytes, _size: int) -> tuple[int, bytes]:
    owner = abi.OWNER.pack(client_id=3, flags=OwnerFlag.HANDLE_OPEN, process_id=40, outstanding=2, sockets=1)
    return 0, abi.QUIESCE_RESULT.pack(busy=1, count=1) + owner


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A driver file and a `wskctl.exe`; nobody looks inside."""
    (tmp_path / "x.sys").write_bytes(b"driver")
    (tmp_path / "wskctl.exe").write_bytes(b"control")
    return tmp_path / "x.sys"


def _ours(image: Path, service: str = "wsklab") -> DriverPackage:
    return DriverPackage(image=image, service=service, control=image.with_name("wskctl.exe"))


def test_our_driver_is_asked_then_stopped(image: Path) -> None:
    """Quiesce through the device, its handle closed, `sc stop`, then the new image."""
    world = World("wsklab", _idle)
    deploy(world, _ours(image), TIMEOUTS)

    assert [code for code, _ in world.device.calls] == [Ioctl.QUIESCE]
    assert world.handles_at_stop == 0
    order = [world.history.index(line) for line in (STDIO, "sc stop wsklab", "sc delete wsklab", f"put {WSKCTL}")]
    assert order == sorted(order)


def test_a_driver_that_came_without_wskctl(image: Path) -> None:
    """`up --driver` brings the image alone: our package brings wskctl first, so that the driver can be asked."""
    world = World("wsklab", control=False)

    world.device = FakeDevice(ioctls={Ioctl.QUIESCE: _idle})
    world.streams[STDIO] = lambda: FakeWskctl({DEVICE_PATH: world.device} if world.files else {})
    deploy(world, _ours(image), TIMEOUTS)

    assert [code for code, _ in world.device.calls] == [Ioctl.QUIESCE]
    order = [world.history.index(line) for line in (f"put {WSKCTL}", STDIO, "sc stop wsklab")]
    assert order == sorted(order)


def test_a_busy_driver_stays(image: Path) -> None:
    """Somebody's handle is open: the owner is named, nothing is stopped, nothing is copied."""
    world = World("wsklab", _busy)
    with pytest.raises(DriverUnloadStuck, match="busy") as caught:
        deploy(world, _ours(image), TIMEOUTS)

    assert caught.value.dirty
    assert "client 3 (process 40)" in caught.value.why
    assert not world.sent("stop")
    assert not world.files


def test_our_service_by_its_name_alone(image: Path) -> None:
    """A user's own build of our driver comes without wskctl; it replaces ours all the same way."""
    world = World("wsklab", _busy)
    with pytest.raises(DriverUnloadStuck):
        deploy(world, DriverPackage(image=image), TIMEOUTS)

    assert not world.sent("stop")


def test_somebody_elses_driver_has_nothing_to_be_asked(image: Path) -> None:
    """A foreign service is stopped with a deadline, and our own driver in the same guest is left in peace."""
    world = World("echo", _busy)
    deploy(world, DriverPackage(image=image, service="echo"), TIMEOUTS)

    assert STDIO not in world.history
    assert world.sent("stop")
    assert world.device.calls == []


def test_a_service_of_our_name_without_our_device(image: Path) -> None:
    """Whatever runs there, it is not ours: it is stopped."""
    world = World("wsklab")
    deploy(world, _ours(image), TIMEOUTS)

    assert world.sent("stop")


def test_an_older_version_of_ours_is_stopped(image: Path) -> None:
    """A driver that refuses our version of the conversation cannot be asked; it is stopped with a deadline."""
    world = World("wsklab", lambda _data, _size: (STATUS["STATUS_REVISION_MISMATCH"], b""))
    deploy(world, _ours(image), TIMEOUTS)

    assert world.sent("stop")


def test_without_wskctl_nobody_knows(image: Path) -> None:
    """When the driver cannot be asked, it is not stopped: nobody knows who uses it."""
    world = World("wsklab", _idle, control=False)
    with pytest.raises(DriverUnloadStuck, match="cannot be asked"):
        deploy(world, _ours(image), TIMEOUTS)

    assert not world.sent("stop")


def test_a_driver_that_does_not_answer_is_not_stopped(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quiesce that never ends is a stuck driver."""
    monkeypatch.setattr(operations, "_ANSWER_S", 0.1)
    world = World("wsklab", lambda _data, _size: Pends())
    with pytest.raises(DriverUnloadStuck, match="does not answer who uses it"):
        deploy(world, _ours(image), TIMEOUTS)

    assert not world.sent("stop")


class Held:
    """A user's guest, as the commands see it: a channel and a memory."""

    def __init__(self, channel: FakeChannel, dirty: str = "") -> None:
        self.name = "g1"
        self.record = SimpleNamespace(dirty=dirty, profile="wine-bookworm")
        self._channel = channel

    def borrowed(self) -> contextlib.AbstractContextManager[None]:
        """The lab's own: nothing to claim."""
        return contextlib.nullcontext()

    def open_channel(self, _deadline: object) -> FakeChannel:
        """The channel."""
        return self._channel

    def remember(self, **changes: object) -> None:
        """Keep what is said."""
        vars(self.record).update(changes)


def _deploy(held: Held, image: Path, service: str) -> None:
    lab = cast(Lab, SimpleNamespace(timeouts=TIMEOUTS))
    guest = cast(Guest, held)
    Services().deploy(lab, guest, image, service=service, control=None, start=True)


@pytest.fixture(autouse=True)
def _any_file_is_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsklab.pe_check.require_deployable", lambda _file: None)


def test_a_stuck_unload_marks_the_users_guest(image: Path) -> None:
    """The guest is dirty with the reason, and takes no further driver."""
    held = Held(World("wsklab", _busy))
    with pytest.raises(DriverUnloadStuck):
        _deploy(held, image, "wsklab")

    assert "still owned by client 3" in held.record.dirty
    with pytest.raises(UsageError, match="dirty") as caught:
        _deploy(held, image, "other")
    assert caught.value.why == held.record.dirty


@pytest.mark.parametrize(
    ("start", "dirty"),
    [(Hangs(), True), (Ended(exit_code=1, stderr="err:sc:wmain failed to start service 31\n"), False)],
    ids=["blocks", "refused"],
)
def test_a_driver_entry_that_blocks_marks_the_guest(image: Path, start: Ended | Hangs, dirty: bool) -> None:
    """A DriverEntry that still runs leaves nobody knows what; one that failed leaves the guest clean."""
    path = DriverPackage(image=image, service="x").guest_path
    commands: dict[str, Any] = {
        "sc query x": ABSENT,
        f"sc create x type= kernel start= demand binPath= {path}": Ended(),
        "sc start x": start,
    }
    held = Held(FakeChannel(commands))
    with pytest.raises(DriverLoadError) as caught:
        _deploy(held, image, "x")

    assert caught.value.dirty is dirty
    assert bool(held.record.dirty) is dirty
