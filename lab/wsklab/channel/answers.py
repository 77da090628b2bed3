"""What `wskctl` may say, decoded and bounded. Every breach is a `ChannelProtocolError`; nothing else is raised.

The limits are those of the wire (`wsklab.channel.device`): a line has at most 1 MiB, so the sizes of lists
and texts are bounded by it; what is checked here is form.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from wsklab.errors import ChannelProtocolError

__all__ = ["Hello", "NetEntry", "NetTable", "decode_answer", "decode_hello", "decode_net"]

_LARGEST_ID: Final = (1 << 53) - 1

_TCP_STATES: Final = frozenset(
    {
        "closed",
        "listening",
        "syn_sent",
        "syn_received",
        "established",
        "fin_wait_1",
        "fin_wait_2",
        "close_wait",
        "closing",
        "last_ack",
        "time_wait",
        "delete_tcb",
        "?",
    }
)

_PRINTABLE: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Who answers in the guest.

    Attributes:
        protocol: version of the conversation.
        version: version of wskctl.
        sha256: digest of the running wskctl.exe; "" when it could not be read.
        driver_sha256: digest of the driver file beside it; "" without one.
        pid: process id of this wskctl in the guest.
        os_major, os_minor, os_build, os_revision: as RtlGetVersion and the registry (UBR) say; Wine plays a Windows.
        wine: version of Wine, or None on Windows.
        architecture: `amd64`, `arm64`, ...
        boot_time: when the guest booted, in 100 ns since 1601 by its own clock: tells one boot from another.
        uptime_ms: milliseconds since then.
    """

    protocol: int
    version: str
    sha256: str
    driver_sha256: str
    pid: int
    os_major: int
    os_minor: int
    os_build: int
    os_revision: int
    wine: str | None
    architecture: str
    boot_time: int
    uptime_ms: int

    @property
    def os_version(self) -> str:
        """For people: `10.0.19045.5011`."""
        return f"{self.os_major}.{self.os_minor}.{self.os_build}.{self.os_revision}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetEntry:
    """One row of the guest's tables. UDP rows have no state and no remote side.

    Attributes:
        protocol: `tcp` or `udp`.
        family: 4 or 6.
        state: `listening`, `established`, ... (lower case, MIB_TCP_STATE); "" for UDP.
        local, remote: address and port; the address in its shortest form.
        pid: the owning process; 0 when the guest does not know (Wine's driver sockets).
    """

    protocol: str
    family: int
    state: str
    local: tuple[str, int]
    remote: tuple[str, int] | None
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetTable:
    """The guest's own TCP and UDP tables. `left_out`: rows that did not fit into the answer."""

    entries: tuple[NetEntry, ...]
    left_out: int = 0

    def listening(self, port: int) -> tuple[NetEntry, ...]:
        """The TCP rows that listen on `port`."""
        return tuple(e for e in self.entries if e.state == "listening" and e.local[1] == port)


def _broken(problem: str, line: bytes | str = b"") -> NoReturn:
    shown = repr(line[:120]) if line else ""
    raise ChannelProtocolError(f"the guest broke the protocol: {problem}", why=shown)


def decode_answer(line: bytes) -> tuple[int | None, Mapping[str, Any]]:
    """One line of `wskctl stdio`: its id (None: it could not tell) and its members, `ok` and errors checked."""
    try:
        answer = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        _broken("not a line of JSON", line)
    if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
        _broken("an answer is an object with a boolean `ok`", line)
    request_id = answer.get("id")
    if request_id is not None and (type(request_id) is not int or not 0 <= request_id <= _LARGEST_ID):
        _broken("an id is an integer or null", line)
    if not answer["ok"]:
        for name in ("error", "message"):
            if not isinstance(answer.get(name), str) or len(answer[name]) > _PRINTABLE:
                _broken(f"an error has a short text `{name}`", line)
        for name in ("status", "win32"):
            if type(answer.get(name)) is not int or not 0 <= answer[name] < 1 << 32:
                _broken(f"an error has a number `{name}`", line)
    return request_id, answer


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _number(answer: Mapping[str, Any], name: str, bits: int = 64) -> int:
    value = answer.get(name)
    if type(value) is not int or not 0 <= value < 1 << bits:
        _broken(f"`{name}` is a number of {bits} bits")
    return value


def _text(answer: Mapping[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or len(value) > 256 or not value.isprintable():
        _broken(f"`{name}` is a short printable text")
    return value


def _digest(answer: Mapping[str, Any], name: str) -> str:
    if answer.get(name) is None:
        return ""
    value = _text(answer, name)
    if len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        _broken(f"`{name}` is a SHA-256 digest")
    return value


def decode_hello(answer: Mapping[str, Any]) -> Hello:
    """The answer to `hello`."""
    return Hello(
        protocol=_number(answer, "protocol", 32),
        version=_text(answer, "version"),
        sha256=_digest(answer, "sha256"),
        driver_sha256=_digest(answer, "driver_sha256"),
        pid=_number(answer, "pid", 32),
        os_major=_number(answer, "os_major", 32),
        os_minor=_number(answer, "os_minor", 32),
        os_build=_number(answer, "os_build", 32),
        os_revision=_number(answer, "os_revision", 32),
        wine=None if answer.get("wine") is None else _text(answer, "wine"),
        architecture=_text(answer, "architecture"),
        boot_time=_number(answer, "boot_time"),
        uptime_ms=_number(answer, "uptime_ms"),
    )


def decode_net(answer: Mapping[str, Any]) -> NetTable:
    """The answer to `net`, or the document of `wskctl net`."""
    entries = []
    for protocol in ("tcp", "udp"):
        rows = answer.get(protocol)
        if not isinstance(rows, list):
            _broken(f"`{protocol}` is a list")
        entries += [_entry(protocol, row) for row in rows]
    return NetTable(entries=tuple(entries), left_out=_number(answer, "left_out"))


def _entry(protocol: str, row: object) -> NetEntry:
    if not isinstance(row, dict):
        _broken("a row of the net table is an object")
    state = row.get("state", "")
    if not isinstance(state, str) or state not in (_TCP_STATES if protocol == "tcp" else {""}):
        _broken("a row of the net table has a known state")
    local = _endpoint(row, "local")
    return NetEntry(
        protocol=protocol,
        family=ipaddress.ip_address(local[0]).version,
        state=state,
        local=local,
        remote=_endpoint(row, "remote") if protocol == "tcp" else None,
        pid=_number(row, "pid", 32),
    )


def _endpoint(row: Mapping[str, Any], side: str) -> tuple[str, int]:
    try:
        address = str(ipaddress.ip_address(_text(row, side)))
    except ValueError:
        _broken(f"`{side}` is an address")
    return address, _number(row, f"{side}_port", 16)
