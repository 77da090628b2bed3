"""The real link of a worker to a guest. Imported when the first guest is leased: a unit-test run needs no SSH."""

from __future__ import annotations

import contextlib
import socket

from wsklab import network
from wsklab.channel.answers import NetTable
from wsklab.channel.device import DeviceClient
from wsklab.channel.operations import IoctlDevice
from wsklab.channel.protocol import CommandResult
from wsklab.channel.ssh import SshChannel
from wsklab.deadline import Deadline, Timeouts
from wsklab.deploy import OWN_SERVICE, WSKCTL, restart
from wsklab.errors import LabError
from wsklab.lease_protocol import GuestHandle
from wsklab.pytest_plugin.links import Reload, read_reloads
from wsklab.service import DriverService

__all__ = ["SshLink"]


class SshLink:
    """The real link: one SSH connection, and on it one `wskctl stdio`, opened when first needed."""

    def __init__(self, handle: GuestHandle, scale: float) -> None:
        self._handle = handle
        self._timeouts = Timeouts(scale=scale)
        self._via = network.Via(handle.netns)
        connection = network.connect(self._via, (handle.address, handle.ssh_port), self._timeouts.after(10.0))
        self.host_address: str = connection.getsockname()[0]
        self._channel = SshChannel.connect(
            socket=connection,
            user=handle.ssh_user,
            key=handle.ssh_key,
            host_key=handle.ssh_host_key,
            deadline=self._timeouts.after(15.0),
        )
        self._client: DeviceClient | None = None

    def open_device(self, path: str, deadline: Deadline) -> IoctlDevice:
        """See `GuestLink`."""
        return self._control().open_device(path, deadline)

    def _control(self) -> DeviceClient:
        if self._client is None:
            self._client = DeviceClient.open(self._channel, self._timeouts.after(15.0))
        return self._client

    def restart_driver(self) -> None:
        """See `GuestLink`."""
        restart(self._channel, DriverService(self._channel, OWN_SERVICE), self._timeouts, own=True)

    def run(self, command: str, deadline: Deadline) -> CommandResult:
        """See `GuestLink`."""
        return self._channel.run(command, deadline)

    def reload(self, times: int, deadline: Deadline) -> tuple[Reload, ...]:
        """See `GuestLink`."""
        result = self._channel.run(f"{WSKCTL} reload {OWN_SERVICE} {times}", deadline, check=False)
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

    def close(self) -> None:
        """End both; a guest that is gone is no error."""
        with contextlib.suppress(LabError, OSError):
            if self._client is not None:
                self._client.close()
        with contextlib.suppress(LabError, OSError):
            self._channel.close()
