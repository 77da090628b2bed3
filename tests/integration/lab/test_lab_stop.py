"""Taking our driver away from a real guest: asked first, stopped only when nobody uses it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab_home import PROFILE, LabCommand
from local_wine import DEVICE

from wsklab.abi import Category
from wsklab.assemble import Lab
from wsklab.channel.device import DeviceClient
from wsklab.channel.operations import WskClient
from wsklab.config import LabConfig, ModeSetting
from wsklab.deadline import Deadline
from wsklab.guest import Guest
from wsklab.pytest_plugin.links import Reload, read_reloads
from wsklab.records import SocketAddress


@pytest.fixture(scope="module")
def guest(lab: LabCommand) -> str:
    """The name of a guest with our driver; the module's end takes it away."""
    name = str(lab.ok("up", PROFILE, "--ttl", "30m", "--json")["guests"][0]["name"])
    lab.ok("deploy", name, "--json", seconds=300)
    return name


@pytest.fixture
def inside(lab: LabCommand, guest: str) -> Iterator[Guest]:
    """The guest as the lab's own code sees it."""
    with Lab(LabConfig(home=lab.home, mode=ModeSetting.PRIVATE)) as opened:
        yield next(found for found in opened.guests() if found.name == guest)


def _state(lab: LabCommand, guest: str) -> str:
    return str(lab.ok("exec", guest, "--json", "--", "sc", "query", "wsklab")["result"]["stdout"])


def test_an_idle_driver_is_replaced(lab: LabCommand, guest: str, inside: Guest) -> None:
    """A client came and went: quiesce finds nobody, the driver is stopped, and the new one runs."""
    with (
        inside.open_channel(Deadline.after(60)) as channel,
        DeviceClient.open(channel, Deadline.after(60)) as control,
        control.open_device(DEVICE) as device,
    ):
        client = WskClient(device, call_s=60)
        assert client.close_socket(client.socket(Category.LISTEN).new_socket).succeeded
    lab.ok("deploy", guest, "--json", seconds=300)
    assert "RUNNING" in _state(lab, guest)
    assert not inside.console.contains("driver host died")
    assert lab.ok("list", "--json")["guests"][0]["dirty"] == ""


def test_wskctl_asks_by_hand(lab: LabCommand, guest: str) -> None:
    """`wskctl op quiesce` ends with 0 when the driver can be unloaded."""
    answer = lab.ok("exec", guest, "--json", "--", r"C:\wsklab\wskctl.exe", "op", "quiesce")
    assert answer["result"]["stdout"] == ""


def _reload(lab: LabCommand, guest: str, times: int) -> tuple[Reload, ...]:
    answer = lab.run("exec", guest, "--json", "--", r"C:\wsklab\wskctl.exe", "reload", "wsklab", str(times))
    return read_reloads(answer.document["result"]["stdout"])


def test_the_driver_is_reloaded(lab: LabCommand, guest: str, inside: Guest) -> None:
    """Three times unloaded and loaded: no step fails, the driver runs and its host is alive."""
    assert [cycle.failed for cycle in _reload(lab, guest, 3)] == ["", "", ""]
    assert "RUNNING" in _state(lab, guest)
    assert not inside.console.contains("driver host died")


def test_a_driver_in_use_is_not_stopped(lab: LabCommand, guest: str, inside: Guest) -> None:
    """An accept is pending on another handle: exit code 1, the owner named, no `sc stop`, the guest dirty."""
    with (
        inside.open_channel(Deadline.after(60)) as channel,
        DeviceClient.open(channel, Deadline.after(60)) as control,
        control.open_device(DEVICE) as device,
    ):
        client = WskClient(device, call_s=60)
        number = client.hello().client_id
        listener = client.socket(Category.LISTEN).new_socket
        assert client.bind(listener, SocketAddress.of("127.0.0.1", 4556)).succeeded
        accepting = client.accept(listener)
        answer = lab.run("deploy", guest, "--json", seconds=300)
        assert answer.code == 1, answer
        error = answer.document["error"]
        assert error["class"] == "DriverUnloadStuck"
        assert f"client {number} (process " in error["why"]
        assert "HANDLE_OPEN" in error["why"]
        assert "RUNNING" in _state(lab, guest)
        # quiesce has ended what the client owned; its handle is good for looking
        ended = accepting.fetch(Deadline.after(60))
        assert ended.final, ended.describe()
        assert client.ledger().client.at_rest
        by_hand = lab.run("exec", guest, "--json", "--", r"C:\wsklab\wskctl.exe", "op", "quiesce")
        assert by_hand.code == 1
        assert f'"client":{number}' in by_hand.document["result"]["stdout"]
        (cycle,) = _reload(lab, guest, 5)
        assert (cycle.failed, cycle.win32) == ("quiesce", 170)  # ERROR_BUSY
    (row,) = lab.ok("list", "--json")["guests"]
    assert "is busy" in row["dirty"]
    refused = lab.run("deploy", guest, "--json", seconds=300)
    assert refused.code == 2
    assert refused.document["error"]["why"] == row["dirty"]
    assert "RUNNING" in _state(lab, guest), "a dirty guest can still be looked at"
