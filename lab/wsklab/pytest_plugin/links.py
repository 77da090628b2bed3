"""Connections of one worker to its guests: SSH, the control channel, and sockets on the guest's wire (`wires`).

A link is kept from case to case as long as the guest is the same; a broken one is thrown away.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from wsklab.channel.answers import NetTable
from wsklab.channel.operations import IoctlDevice
from wsklab.channel.protocol import CommandResult
from wsklab.channel.remote_sockets import RemoteSockets
from wsklab.deadline import Deadline
from wsklab.errors import ChannelProtocolError
from wsklab.lease_protocol import GuestHandle
from wsklab.pytest_plugin.wires import Wire

__all__ = ["GuestLink", "Links", "Reload", "read_reloads"]


@dataclass(frozen=True, slots=True)
class Reload:
    """The driver unloaded and loaded again, once; `failed` names the step that did not work, with its Win32 code."""

    stop_s: float
    start_s: float
    failed: str = ""
    win32: int = 0


def read_reloads(output: str) -> tuple[Reload, ...]:
    """What `wskctl reload` printed.

    Raises:
        ChannelProtocolError: something else.
    """
    try:
        lines = [json.loads(line) for line in output.splitlines()[:1000]]
        return tuple(
            Reload(
                stop_s=line["stop_ms"] / 1000,
                start_s=line["start_ms"] / 1000,
                failed=str(line["failed"]),
                win32=int(line["win32"]),
            )
            for line in lines
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ChannelProtocolError("wskctl reload printed something else than its lines", why=str(error)) from error


class GuestLink(Wire, Protocol):
    """One worker's connection to one guest; its sockets are those of the test process, over IPv4."""

    def over_ipv6(self, deadline: Deadline) -> Wire:
        """The same over IPv6: both ends of the wire have such an address from then on.

        Raises:
            HostError: this host or this network has none.
        """

    def sockets(self, deadline: Deadline) -> RemoteSockets:
        """Sockets of the guest itself."""

    def open_device(self, path: str, deadline: Deadline) -> IoctlDevice:
        """A new handle of a device in the guest."""

    def restart_driver(self) -> None:
        """Stop the driver, once nobody uses it any more, and start it again.

        Raises:
            DriverUnloadStuck: somebody still uses it. DriverLoadError: it does not start again.
        """

    def run(self, command: str, deadline: Deadline) -> CommandResult:
        """A command line in the guest; raises `GuestCommandError` when it fails."""

    def beside(self, command: str, deadline: Deadline) -> None:
        """A command of the host in the network of a guest that is a process of the host."""

    def reload(self, times: int, deadline: Deadline) -> tuple[Reload, ...]:
        """Unload the driver and load it again; ends with the first step that fails. Every handle must be closed."""

    def net(self, deadline: Deadline) -> NetTable:
        """The guest's own TCP and UDP tables."""

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
