"""Connections of one worker to its guests: SSH, the control channel, and sockets on the guest's wire.

A link is kept from case to case as long as the guest is the same; a broken one is thrown away.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from wsklab.channel.operations import IoctlDevice
from wsklab.channel.protocol import CommandResult
from wsklab.deadline import Deadline
from wsklab.errors import ChannelProtocolError
from wsklab.lease_protocol import GuestHandle

__all__ = ["NET_COMMAND", "GuestLink", "Links", "TcpRow", "parse_tcp_table"]

#: The guest's own tables: one JSON document, `{"schema": 1, "tcp": [...], "udp": [...]}`.
NET_COMMAND = r"C:\wsklab\wskctl.exe net"


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpRow:
    """A line of the guest's TCP table; `state` in netstat's words with underscores (`listening`, `established`)."""

    family: str
    state: str
    local: str
    local_port: int
    remote: str
    remote_port: int
    pid: int


def parse_tcp_table(text: str) -> tuple[TcpRow, ...]:
    """The TCP part of what `wskctl net` prints.

    Raises:
        ChannelProtocolError: it is not that.
    """
    try:
        rows = json.loads(text)["tcp"]
        return tuple(
            TcpRow(
                family=str(row["family"]),
                state=str(row["state"]),
                local=str(ipaddress.ip_address(row["local"])),
                local_port=int(row["local_port"]),
                remote=str(ipaddress.ip_address(row["remote"])),
                remote_port=int(row["remote_port"]),
                pid=int(row["pid"]),
            )
            for row in rows
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ChannelProtocolError("the guest's TCP table cannot be read", why=repr(error)) from error


class GuestLink(Protocol):
    """One worker's connection to one guest."""

    @property
    def host_address(self) -> str:
        """The worker's own address on the guest's wire: where the guest reaches a peer."""

    def open_device(self, path: str, deadline: Deadline) -> IoctlDevice:
        """A new handle of a device in the guest."""

    def run(self, command: str, deadline: Deadline) -> CommandResult:
        """A command line in the guest; raises `GuestCommandError` when it fails."""

    def tcp_table(self, deadline: Deadline) -> tuple[TcpRow, ...]:
        """The guest's own TCP table."""

    def connect(self, port: int, deadline: Deadline) -> socket.socket:
        """A TCP connection to a port of the guest, over its wire; `ChannelLost` when it is refused."""

    def listen(self) -> socket.socket:
        """A listening socket at `host_address`, any port."""

    def close(self) -> None: ...


class Links:
    """The links of one worker, by guest.

    Args:
        make: opens a link.
        limit: how many are kept; the longest unused one goes first.
    """

    def __init__(self, make: Callable[[GuestHandle], GuestLink], *, limit: int = 8) -> None:
        self._make = make
        self._limit = limit
        self._links: dict[str, GuestLink] = {}

    def get(self, handle: GuestHandle) -> GuestLink:
        """The link to a guest, opened when there is none."""
        link = self._links.pop(handle.name, None) or self._make(handle)
        self._links[handle.name] = link
        while len(self._links) > self._limit:
            self._links.pop(next(iter(self._links))).close()
        return link

    def drop(self, name: str) -> None:
        """Throw a link away: the guest is dirty, or the link broke."""
        link = self._links.pop(name, None)
        if link is not None:
            link.close()

    def close(self) -> None:
        """End all links."""
        for name in tuple(self._links):
            self.drop(name)
