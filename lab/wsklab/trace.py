r"""Event Tracing for Windows into the evidence: one session with the providers that were named.

Two things are made: a session that runs from now on (`logman ... -ets`), and an autologger of the same name, which
Windows starts anew with every boot, so that a restart (Driver Verifier, a crash) does not end the trace. Both write one
bounded, circular file. Commands and registry values are those of Microsoft's documentation; none of it has met a
Windows yet.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from wsklab.channel.protocol import Channel, CommandResult
from wsklab.deadline import Deadline
from wsklab.errors import GuestCommandError, UsageError
from wsklab.profile import GuestProfile

__all__ = ["SESSION", "TRACE_FILE", "check_provider", "fetch_trace", "remove_trace", "require_tracing", "start_trace"]

SESSION: Final = "wsklab-trace"
TRACE_FILE: Final = r"C:\wsklab\trace.etl"
_KEY: Final = rf"HKLM\SYSTEM\CurrentControlSet\Control\WMI\Autologger\{SESSION}"
#: The session's own identity; any GUID that nobody else has.
_SESSION_GUID: Final = "{5ef4c1a2-6a53-4f1d-9e1b-6d0a6f0e77a1}"
_SIZE_MIB: Final = 64
_CIRCULAR: Final = 0x2
_EVERY_KEYWORD: Final = "0xffffffffffffffff"
_EVERY_LEVEL: Final = 255

_GUID: Final = re.compile(r"\{?([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})\}?")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,126}")


def check_provider(text: str) -> str:
    """A provider as it is given to `logman`: a GUID in braces, or a name.

    Raises:
        UsageError: neither.
    """
    guid = _GUID.fullmatch(text.strip())
    if guid:
        return f"{{{guid[1].lower()}}}"
    if not _NAME.fullmatch(text.strip()):
        raise UsageError(
            f"{text!r} is no trace provider",
            why="it is neither a GUID nor a name of letters, digits, blanks, dots, dashes",
            fix="Microsoft-Windows-Winsock-AFD, or {8-4-4-4-12 hexadecimal digits}",
        )
    return text.strip()


def require_tracing(profile: GuestProfile, providers: Sequence[str]) -> None:
    """Nothing, when no provider is asked for, or guests of this profile can be traced.

    Raises:
        UsageError: they cannot.
    """
    if providers and profile.kind != "windows":
        raise UsageError(
            f"--trace is not available on {profile.name}: it is of kind {profile.kind}",
            why="Event Tracing is a part of Windows",
            fix="name guests of kind windows with --guest",
        )


def start_trace(channel: Channel, providers: Sequence[str], deadline: Deadline) -> None:
    """Begin to trace, now and with every boot; a session of before is replaced.

    Args:
        providers: as `check_provider` gives them.

    Raises:
        UsageError: the guest knows no provider of that name. GuestCommandError: Windows refuses, in its own words.
    """
    guids = [_guid_of(channel, provider, deadline) for provider in providers]
    remove_trace(channel, deadline)
    _start_session(channel, guids, deadline)
    for value in (
        ("Guid", "REG_SZ", _SESSION_GUID),
        ("FileName", "REG_SZ", TRACE_FILE),
        ("LogFileMode", "REG_DWORD", str(_CIRCULAR)),
        ("MaxFileSize", "REG_DWORD", str(_SIZE_MIB)),
    ):
        _add_value(channel, _KEY, value, deadline)
    for guid in guids:
        own = rf"{_KEY}\{guid}"
        _add_value(channel, own, ("Enabled", "REG_DWORD", "1"), deadline)
        _add_value(channel, own, ("EnableLevel", "REG_DWORD", str(_EVERY_LEVEL)), deadline)
        _add_value(channel, own, ("MatchAnyKeyword", "REG_QWORD", _EVERY_KEYWORD), deadline)
    # last: an autologger that is only half written is never started
    _add_value(channel, _KEY, ("Start", "REG_DWORD", "1"), deadline)


def fetch_trace(channel: Channel, providers: Sequence[str], target: Path, deadline: Deadline) -> None:
    """End the session, which writes what is still in memory, take the file, and begin a new one.

    Raises:
        GuestCommandError: there is no session. ChannelLost, DeadlineExceeded: the file did not come.
    """
    _require(channel.run(f"logman stop {SESSION} -ets", deadline, check=False), "does not end")
    try:
        channel.get(TRACE_FILE, target, deadline, limit=2 * _SIZE_MIB << 20)
    finally:
        _start_session(channel, [_guid_of(channel, provider, deadline) for provider in providers], deadline)


def remove_trace(channel: Channel, deadline: Deadline) -> None:
    """End the session and the autologger; no error when there is none."""
    channel.run(f"logman stop {SESSION} -ets", deadline, check=False)
    channel.run(f'reg delete "{_KEY}" /f', deadline, check=False)


def _start_session(channel: Channel, guids: Sequence[str], deadline: Deadline) -> None:
    first, *others = guids
    rest = f"-nb 16 64 -bs 1024 -mode Circular -f bincirc -max {_SIZE_MIB} -ets"
    provider = f"{first} {_EVERY_KEYWORD} {_EVERY_LEVEL:#x}"
    command = f"logman create trace {SESSION} -ow -o {TRACE_FILE} -p {provider} {rest}"
    _require(channel.run(command, deadline, check=False), "does not begin")
    for guid in others:
        command = f"logman update trace {SESSION} -p {guid} {_EVERY_KEYWORD} {_EVERY_LEVEL:#x} -ets"
        _require(channel.run(command, deadline, check=False), f"takes no provider {guid}")


def _guid_of(channel: Channel, provider: str, deadline: Deadline) -> str:
    """The provider's GUID; one that is given as such need not be registered: those of WPP are not."""
    if provider.startswith("{"):
        return provider
    said = channel.run(f'logman query providers "{provider}"', deadline, check=False)
    row = re.search(rf"^{re.escape(provider)}\s+({_GUID.pattern})", said.stdout, re.MULTILINE | re.IGNORECASE)
    if said.exit_code != 0 or row is None:
        raise UsageError(
            f"the guest knows no trace provider {provider!r}",
            why=" ".join((said.stderr or said.stdout).split())[:200],
            fix="`wsklab exec NAME -- logman query providers` lists them",
        )
    return check_provider(row[1])


def _add_value(channel: Channel, key: str, value: tuple[str, str, str], deadline: Deadline) -> None:
    name, kind, data = value
    result = channel.run(f'reg add "{key}" /v {name} /t {kind} /d {data} /f', deadline, check=False)
    _require(result, f"cannot be started with the next boot: {name}")


def _require(result: CommandResult, what: str) -> None:
    if result.exit_code != 0:
        raise GuestCommandError(
            f"the trace session {what}",
            command=result.command,
            exit_code=result.exit_code,
            stdout=result.stdout,
            stderr=result.stderr,
            fix="is the login an elevated administrator?",
        )
