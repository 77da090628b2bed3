"""The real links of a worker to its guests. Imported when the first guest is leased: a unit-test run needs no SSH."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import MappingProxyType

from wsklab import network
from wsklab.channel.answers import NetTable
from wsklab.channel.device import DeviceClient
from wsklab.channel.operations import IoctlDevice
from wsklab.channel.protocol import Channel, CommandResult
from wsklab.channel.remote_sockets import RemoteSockets
from wsklab.channel.shim import ShimChannel
from wsklab.deadline import Deadline, Timeouts
from wsklab.deploy import OWN_SERVICE, WSKCTL, restart
from wsklab.errors import HostError, LabError
from wsklab.lease_protocol import GuestHandle
from wsklab.process import run
from wsklab.pytest_plugin.death_watch import DeathWatch
from wsklab.pytest_plugin.links import Reload, read_reloads
from wsklab.pytest_plugin.wires import HostWire
from wsklab.ready_links import ReadyLink
from wsklab.service import DriverService

__all__ = ["ChannelLink", "link_over", "open_link"]

#: The command that gives a guest its IPv6 address on the wire, by kind.
_IPV6: Mapping[str, str] = MappingProxyType(
    {
        "wine": "linux: ip address replace {v6}/64 dev eth0",
        "shim": "ip address replace {v6}/64 dev wire nodad",
        "windows": (
            "powershell -NoProfile -Command "
            '"New-NetIPAddress -InterfaceIndex (Get-NetIPAddress -IPAddress {v4}).InterfaceIndex -IPAddress {v6} '
            '-PrefixLength 64 -PolicyStore ActiveStore -ErrorAction SilentlyContinue"'
        ),
    }
)


def open_link(handle: GuestHandle, scale: float) -> ChannelLink:
    """The link to a guest: by SSH, or to the process that a shim guest is.

    Raises:
        ChannelLost: it does not answer. HostError: its handle says neither.
    """
    if handle.control is not None and handle.drive is not None:
        return ChannelLink(handle, scale, ShimChannel(handle.control, handle.drive), handle.host_address)
    from wsklab.channel.ssh import SshChannel  # noqa: PLC0415 - paramiko is not needed for shim guests

    if handle.ssh_key is None:
        raise HostError(f"guest {handle.name} has no way in")
    timeouts = Timeouts(scale=scale)
    connection = network.connect(network.Via(handle.netns), (handle.address, handle.ssh_port), timeouts.after(10.0))
    host_address: str = connection.getsockname()[0]
    channel = SshChannel.connect(
        socket=connection,
        user=handle.ssh_user,
        key=handle.ssh_key,
        host_key=handle.ssh_host_key,
        deadline=timeouts.after(15.0),
    )
    return ChannelLink(handle, scale, channel, host_address)


def link_over(handle: GuestHandle, scale: float, ready: ReadyLink) -> ChannelLink:
    """The link to a guest that the pool has looked at, over what it opened for that; ended when no link comes of it.

    Raises:
        ChannelLost, HostError: the wire is gone.
    """
    try:
        host_address = network.host_address(network.Via(handle.netns), (handle.address, handle.ssh_port))
    except LabError:
        ready.close()
        raise
    return ChannelLink(handle, scale, ready.channel, host_address, ready.client)


class ChannelLink(HostWire):
    """The real link: one channel, and on it one `wskctl stdio`, opened when first needed."""

    def __init__(
        self,
        handle: GuestHandle,
        scale: float,
        channel: Channel,
        host_address: str,
        client: DeviceClient | None = None,
    ) -> None:
        self._handle = handle
        self._timeouts = Timeouts(scale=scale)
        super().__init__(network.Via(handle.netns), host=host_address, guest=handle.address)
        self._channel = channel
        self._client = client
        self._sockets: RemoteSockets | None = None
        self._over_ipv6: HostWire | None = None
        # a process that is a guest closes its connections when it dies
        machine = handle.console is not None and handle.control is None
        self._watch = DeathWatch(handle.console, channel.close) if handle.console and machine else None

    def open_device(self, path: str, deadline: Deadline) -> IoctlDevice:
        """See `GuestLink`."""
        return self._control().open_device(path, deadline)

    def _control(self) -> DeviceClient:
        if self._client is None:
            self._client = DeviceClient.open(self._channel, self._timeouts.after(15.0))
        return self._client

    def restart_driver(self) -> None:
        """See `GuestLink`."""
        own = self._handle.service == OWN_SERVICE
        restart(self._channel, DriverService(self._channel, self._handle.service), self._timeouts, own=own)

    def run(self, command: str, deadline: Deadline) -> CommandResult:
        """See `GuestLink`."""
        return self._channel.run(command, deadline)

    def beside(self, command: str, deadline: Deadline) -> None:
        """See `GuestLink`."""
        network.inside(network.Via(self._handle.own_netns), lambda: run(tuple(command.split()), deadline=deadline))

    def reload(self, times: int, deadline: Deadline) -> tuple[Reload, ...]:
        """See `GuestLink`."""
        result = self._channel.run(f"{WSKCTL} reload {self._handle.service} {times}", deadline, check=False)
        return read_reloads(result.stdout)

    def net(self, deadline: Deadline) -> NetTable:
        """See `GuestLink`."""
        return self._control().net(deadline)

    def over_ipv6(self, deadline: Deadline) -> HostWire:
        """See `GuestLink`. The guest takes its address by a command: no image and no template knows it."""
        if self._over_ipv6 is None:
            address = network.ipv6_beside(self._handle.address)
            host = network.add_ipv6(self._via, self.host_address, deadline)
            self._take_ipv6(address, deadline)
            self._over_ipv6 = HostWire(self._via, host=host, guest=address)
        return self._over_ipv6

    def _take_ipv6(self, address: str, deadline: Deadline) -> None:
        if self._handle.kind == "shim":
            if self._handle.own_netns is None:
                raise HostError("the guest has no network of its own", why="that takes root's rights")
            self.beside(_IPV6["shim"].format(v6=address), deadline)
        else:
            self._channel.run(_IPV6[self._handle.kind].format(v6=address, v4=self._handle.address), deadline)

    def sockets(self, deadline: Deadline) -> RemoteSockets:
        """See `GuestLink`."""
        if self._sockets is None:
            self._sockets = RemoteSockets.open(self._channel, deadline)
        return self._sockets

    def close(self) -> None:
        """End both; a guest that is gone is no error."""
        if self._watch is not None:
            self._watch.close()
        for conversation in (self._client, self._sockets):
            with contextlib.suppress(LabError, OSError):
                if conversation is not None:
                    conversation.close()
        with contextlib.suppress(LabError, OSError):
            self._channel.close()
