"""Event Tracing against a Windows-shaped SSH server: the questions are right, as far as documentation goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from windows_shell import WindowsShell, WindowsSsh

from wsklab.channel.ssh import SshChannel
from wsklab.deadline import Deadline
from wsklab.errors import GuestCommandError, UsageError
from wsklab.profile import load_profiles
from wsklab.resources import images_root
from wsklab.trace import SESSION, TRACE_FILE, check_provider, fetch_trace, remove_trace, require_tracing, start_trace

PROFILES = load_profiles(images_root())
AFD = "{e53c6823-7bb8-44bb-90dc-3f86090d48a6}"
WPP = "{11111111-2222-3333-4444-555555555555}"
KEY = rf"hklm\system\currentcontrolset\control\wmi\autologger\{SESSION}"


def soon() -> Deadline:
    return Deadline.after(20)


@pytest.fixture
def shell() -> WindowsShell:
    return WindowsShell(providers={"Microsoft-Windows-Winsock-AFD": AFD})


@pytest.fixture
def channel(tmp_path: Path, shell: WindowsShell) -> Iterator[SshChannel]:
    with WindowsSsh(tmp_path, shell) as server:
        (server.root / "C:" / "wsklab" / "trace.etl").write_bytes(b"events")
        with SshChannel.connect(
            socket=server.connect(), user="Administrator", key=server.key_file, host_key=server.host_key,
            deadline=soon(),
        ) as made:  # fmt: skip
            yield made


@pytest.mark.parametrize(
    ("text", "provider"),
    [
        (WPP, WPP),
        (WPP.strip("{}").upper(), WPP),
        (" Microsoft-Windows-Winsock-AFD ", "Microsoft-Windows-Winsock-AFD"),
        ("Windows Kernel Trace", "Windows Kernel Trace"),
    ],
)
def test_a_name_or_a_guid(text: str, provider: str) -> None:
    """Braces or none, any case."""
    assert check_provider(text) == provider


@pytest.mark.parametrize("text", ["", "{1111}", 'a" & format c:', "%PATH%", "x" * 200, "-ets"])
def test_neither(text: str) -> None:
    """Nothing that a command processor could read as something else."""
    with pytest.raises(UsageError, match="is no trace provider"):
        check_provider(text)


def test_where_it_is_not_available() -> None:
    """Said before anything starts."""
    for name in ("wine-bookworm", "shim"):
        with pytest.raises(UsageError, match=f"not available on {name}"):
            require_tracing(PROFILES[name], (AFD,))
        require_tracing(PROFILES[name], ())
    require_tracing(PROFILES["ws2022"], (AFD,))


def test_a_session_now_and_with_every_boot(channel: SshChannel, shell: WindowsShell) -> None:
    """One bounded file; a name is looked up, a GUID need not be registered."""
    start_trace(channel, ("Microsoft-Windows-Winsock-AFD", WPP), soon())
    assert shell.session == [AFD, WPP]
    assert shell.traced == TRACE_FILE
    assert shell.registry[KEY, "start"] == ("REG_DWORD", "1")
    assert shell.registry[KEY, "filename"] == ("REG_SZ", TRACE_FILE)
    assert shell.registry[KEY, "maxfilesize"] == ("REG_DWORD", "64")
    for guid in (AFD, WPP):
        assert shell.registry[rf"{KEY}\{guid}", "enabled"] == ("REG_DWORD", "1")
        assert shell.registry[rf"{KEY}\{guid}", "matchanykeyword"] == ("REG_QWORD", "0xffffffffffffffff")
    adds = [line for line in shell.history if line.startswith("reg add")]
    assert "/v Start" in adds[-1]


def test_the_file_is_taken_and_the_trace_goes_on(channel: SshChannel, shell: WindowsShell, tmp_path: Path) -> None:
    """What is still in memory is written by ending the session."""
    start_trace(channel, (AFD,), soon())
    fetch_trace(channel, (AFD,), tmp_path / "got.etl", soon())
    assert (tmp_path / "got.etl").read_bytes() == b"events"
    assert shell.session == [AFD]
    ends = [number for number, line in enumerate(shell.history) if line.startswith("logman stop")]
    assert ends[-1] > max(number for number, line in enumerate(shell.history) if line.startswith("reg add"))


def test_nothing_is_left(channel: SshChannel, shell: WindowsShell) -> None:
    """Session and autologger; a second time is no error."""
    start_trace(channel, (AFD,), soon())
    remove_trace(channel, soon())
    remove_trace(channel, soon())
    assert shell.session == []
    assert not [key for key, _ in shell.registry if key.startswith(KEY)]


def test_an_unknown_provider_is_told_and_nothing_begins(channel: SshChannel, shell: WindowsShell) -> None:
    """In the words of the guest."""
    with pytest.raises(UsageError, match="knows no trace provider") as caught:
        start_trace(channel, (AFD, "Microsoft-Windows-Winsock-ADF"), soon())
    assert "Element not found" in caught.value.why
    assert shell.session == []
    assert shell.registry == {}


def test_a_session_that_is_gone(channel: SshChannel, tmp_path: Path) -> None:
    """Somebody ended it: there is nothing to take, and that is said."""
    with pytest.raises(GuestCommandError, match="does not end"):
        fetch_trace(channel, (AFD,), tmp_path / "got.etl", soon())
