"""The real links of a worker to its guests. Imported when the first guest is leased: a unit-test run needs no SSH."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from wsklab import network
from wsklab.channel.answers import NetTable
from wsklab.channel.device import DeviceClient
from wsklab.channel.operations import IoctlDevice
from wsklab.channel.protocol import Channel, CommandResult
from wsklab.channel.shim import ShimChannel
from wsklab.deadline import Deadline, Timeouts
from wsklab.deploy import OWN_SERVICE, WSKCTL, restart
from wsklab.errors import HostError, LabError
from wsklab.lease_protocol import GuestHandle
from wsklab.process import run
from wsklab.pytest_plugin.death_watch import DeathWatch
from wsklab.pytest_plugin.links import Reload, read_reloads
from wsklab.service import DriverService

__all__ = ["ChannelLink", "open_link"]


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


class ChannelLink:
    """The real link: one channel, and on it one `wskctl stdio`, opened when first needed."""

    def __init__(self, handle: GuestHandle, scale: float, channel: Channel, host_address: str) -> None:
        self._handle = handle
        self._timeouts = Timeouts(scale=scale)
        self._via = network.Via(handle.netns)
        self.host_address = host_address
        self._channel = channel
        self._client: DeviceClient | None = None
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

    def connect(self, port: int, deadline: Deadline) -> socket.socket:
        """See `GuestLink`."""
        return network.connect(self._via, (self._handle.address, port), deadline)

    def listen(self) -> socket.socket:
        """See `GuestLink`."""
        return network.listen(self._via, (self.host_address, 0))

    def black_hole(self) -> tuple[socket.socket, socket.socket]:
        """See `GuestLink`."""
        return network.black_hole(self._via, self.host_address)

    def knock(self, port: int) -> Callable[[], None]:
        """See `GuestLink`."""
        return network.bare_syn(self._via, self.host_address, (self._handle.address, port))

    def bind_datagram(self) -> socket.socket:
        """See `GuestLink`."""
        return network.bind_datagram(self._via, (self.host_address, 0))

    def close(self) -> None:
        """End both; a guest that is gone is no error."""
        if self._watch is not None:
            self._watch.close()
        with contextlib.suppress(LabError, OSError):
            if self._client is not None:
                self._client.close()
        with contextlib.suppress(LabError, OSError):
            self._channel.close()
