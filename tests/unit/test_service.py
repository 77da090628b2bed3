"""The driver service over a scripted channel: both worlds' `sc`."""

from __future__ import annotations

import pytest

from wsklab.channel.fake import Ended, FakeChannel, Hangs
from wsklab.deadline import Deadline
from wsklab.errors import DriverLoadError, DriverServiceError, DriverUnloadStuck, UsageError
from wsklab.service import DriverService, ServiceState

RUNNING = "SERVICE_NAME: x\r\n        TYPE               : 1  \r\n        STATE              : 4  RUNNING\r\n"
STOPPED = RUNNING.replace("4  RUNNING", "1  STOPPED") + "        WIN32_EXIT_CODE    : 1077  (0x435)\r\n"
START = "sc start x"


def _service(commands: dict[str, Ended | Hangs]) -> DriverService:
    return DriverService(FakeChannel(commands), "x")


def _soon() -> Deadline:
    return Deadline.after(0.3)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Ended(exit_code=577, stdout="[SC] StartService FAILED 577:\r\n\r\nWindows cannot verify ..."), 577),
        (Ended(exit_code=1, stderr="013c:err:sc:wmain failed to start service 1114\n"), 1114),
        (Ended(exit_code=1), None),
    ],
    ids=["windows", "wine", "mute"],
)
def test_a_failed_start_names_the_win32_error(answer: Ended, code: int | None) -> None:
    """Windows' and Wine's way to say it both end in the same error with its meaning."""
    with pytest.raises(DriverLoadError) as caught:
        _service({START: answer}).start(_soon())

    assert caught.value.win32 == code
    assert (str(code) if code else "named no error") in caught.value.why


def test_a_driver_entry_that_blocks_has_a_deadline() -> None:
    """`sc start` that does not return is a load error that says so."""
    with pytest.raises(DriverLoadError, match="did not start within") as caught:
        _service({START: Hangs()}).start(_soon())

    assert "DriverEntry still runs" in caught.value.why


def test_start_waits_for_running() -> None:
    """Only RUNNING counts as started."""
    with pytest.raises(DriverLoadError, match="RUNNING") as caught:
        _service({START: Ended(), "sc query x": Ended(stdout=STOPPED)}).start(_soon())

    assert caught.value.state == "STOPPED"


def test_a_running_driver_is_started() -> None:
    """No error, and the state is read."""
    service = _service({START: Ended(), "sc query x": Ended(stdout=RUNNING)})
    service.start(_soon())

    assert service.query(_soon()).state is ServiceState.RUNNING


def test_an_absent_service_is_a_state() -> None:
    """1060 is an answer, not an error."""
    answer = Ended(exit_code=1, stderr="0100:err:sc:query_service failed to open service 1060\n")

    assert _service({"sc query x": answer}).query(_soon()).state is ServiceState.ABSENT


def test_a_busy_driver_is_not_stopped() -> None:
    """With owners named by quiesce, nothing at all is sent: a WDM driver cannot refuse its unload."""
    channel = FakeChannel()
    with pytest.raises(DriverUnloadStuck, match="busy") as caught:
        DriverService(channel, "x").stop(_soon(), quiesce=lambda _deadline: ["client 3 (pid 40)"])

    assert "client 3" in caught.value.why
    assert channel.history == []


def test_an_unload_that_blocks_is_stuck() -> None:
    """A stop beyond its deadline makes the guest dirty with the reason."""
    with pytest.raises(DriverUnloadStuck, match="does not stop"):
        _service({"sc stop x": Hangs()}).stop(_soon())


def test_stopping_a_stopped_driver_is_no_error() -> None:
    """1062 means that the wish is fulfilled."""
    answers = {
        "sc stop x": Ended(exit_code=1062, stdout="[SC] ControlService FAILED 1062:"),
        "sc query x": Ended(stdout=STOPPED),
    }
    _service(dict(answers)).stop(_soon())


def test_a_failed_create_is_explained() -> None:
    """The service error carries state, code and meaning."""
    path = r"C:\wsklab\x.sys"
    commands: dict[str, Ended | Hangs] = {
        f"sc create x type= kernel start= demand binPath= {path}": Ended(exit_code=1073, stdout="FAILED 1073:"),
        "sc query x": Ended(stdout=STOPPED),
    }
    with pytest.raises(DriverServiceError) as caught:
        _service(commands).install(path, _soon())

    assert (caught.value.win32, caught.value.state) == (1073, "STOPPED")


@pytest.mark.parametrize("path", ["x.sys", r"C:\a b\x.sys", 'C:\\x".sys', r"C:\x & del.sys", "/etc/passwd"])
def test_only_plain_paths_are_installed(path: str) -> None:
    """A path that a shell could take apart is refused before anything is sent."""
    with pytest.raises(UsageError, match="guest path"):
        _service({}).install(path, _soon())


@pytest.mark.parametrize("name", ["", "x y", "x&y", "-x", "x" * 65])
def test_only_plain_names_are_services(name: str) -> None:
    """The same for service names."""
    with pytest.raises(UsageError, match="service name"):
        DriverService(FakeChannel({}), name)
