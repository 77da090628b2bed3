"""What the pool opened into a guest is what a case in the same process works over, once."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wsklab.channel.device import DeviceClient
from wsklab.channel.fake import Ended, FakeChannel
from wsklab.channel.operations import IoctlDevice
from wsklab.deadline import Deadline
from wsklab.errors import ChannelLost
from wsklab.lease_protocol import GuestHandle
from wsklab.pytest_plugin.suite import _Provider
from wsklab.ready_links import ReadyLink, ReadyLinks

HANDLE = GuestHandle(name="w-1", profile="w", kind="wine", address="127.0.0.1")


class Client:
    """What a link needs of a `DeviceClient`."""

    def __init__(self) -> None:
        self.fault: ChannelLost | None = None
        self.closed = 0
        self.opened: list[str] = []

    def open_device(self, path: str, _deadline: Deadline) -> IoctlDevice:
        self.opened.append(path)
        return cast(IoctlDevice, SimpleNamespace())

    def close(self) -> None:
        self.closed += 1


def kept(links: ReadyLinks) -> Client:
    """A link into the guest of these tests, for whoever takes it."""
    client = Client()
    channel = FakeChannel({"sc query wsklab": Ended(stdout="RUNNING")})
    links.keep(HANDLE.name, ReadyLink(channel, cast(DeviceClient, client)))
    return client


def test_the_first_user_of_a_guest_in_this_process_logs_in_no_more() -> None:
    """Commands and devices go over what is open; the next one who asks gets a link of his own."""
    links = ReadyLinks()
    client = kept(links)
    plugin = _Provider(cast(Any, None), links, sys.stdout)
    link = plugin.pytest_wsklab_link(cast(pytest.Config, None), HANDLE, 1.0)
    assert link is not None
    assert link.run("sc query wsklab", Deadline.after(5)).stdout == "RUNNING"
    link.open_device(r"\\.\wsklab", Deadline.after(5))
    assert client.opened == [r"\\.\wsklab"]
    assert link.host_address == "127.0.0.1"
    assert plugin.pytest_wsklab_link(cast(pytest.Config, None), HANDLE, 1.0) is None
    links.drop(HANDLE.name)
    assert client.closed == 0, "it is its user's"
    link.close()
    assert client.closed == 1


def test_a_link_that_broke_is_nobodys() -> None:
    """It is closed, and its guest is entered anew."""
    links = ReadyLinks()
    client = kept(links)
    client.fault = ChannelLost("wskctl in the guest ended")
    assert links.take(HANDLE.name) is None
    assert client.closed == 1


def test_a_run_whose_cases_run_elsewhere_has_none() -> None:
    """Workers enter guests themselves."""
    assert (
        _Provider(cast(Any, None), None, sys.stdout).pytest_wsklab_link(cast(pytest.Config, None), HANDLE, 1.0) is None
    )
