"""The long counts in wine guests: SSH, an emulated machine and Wine in a guest's own system between test and driver.

As in test_driver_counts.py: twenty times `--cycles` sockets and connections, WSKLAB_INTERNAL_FUZZ_ROUNDS hostile
requests; the ledger balanced, and the memory of the guest's driver host flat.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest
from driver_counts import DEVICE, accept_and_close, create_and_close, hostile, settle
from lab_home import LabCommand, furnish

from wsklab.assemble import Lab
from wsklab.channel.device import DeviceClient
from wsklab.channel.operations import WskClient
from wsklab.config import LabConfig, ModeSetting
from wsklab.deadline import Deadline
from wsklab.guest import Guest

PROFILES = ("wine-bookworm", "wine-trixie")
PER_CYCLE = 20
SEED = int(os.environ.get("WSKLAB_INTERNAL_FUZZ_SEED", "20261122"))
ROUNDS = int(os.environ.get("WSKLAB_INTERNAL_FUZZ_ROUNDS", "4000"))
#: A guest under emulation takes so many times longer than the host's Wine.
PATIENCE = 10.0
PORT = 4711
#: The longest that one count may take; an idle host needs a fraction of it.
LIMIT_S = 7200.0
_HOSTS = (
    "linux: for one in /proc/[0-9]*; do "
    "if grep -qs winedevice $one/cmdline; then awk '/VmRSS/ {print $2}' $one/status; fi; done"
)


class PatientLab(LabCommand):
    """The soak runs beside other work: a guest that is slow to come up is not what is counted."""

    @property
    def environ(self) -> Mapping[str, str]:
        return {**super().environ, "WSKLAB_TIMEOUT_SCALE": "40"}


@pytest.fixture(scope="module", params=PROFILES)
def guest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A guest with our driver."""
    if os.geteuid() != 0:
        pytest.skip("private mode needs root")
    root = tmp_path_factory.mktemp("lab") / "home"
    root.mkdir()
    furnish(root, request.param)
    lab = PatientLab(root, tmp_path_factory.mktemp("folder"))
    try:
        name = str(lab.ok("up", request.param, "--ttl", "12h", "--json", seconds=1200)["guests"][0]["name"])
        lab.ok("deploy", name, "--json", seconds=1200)
        with Lab(LabConfig(home=root, mode=ModeSetting.PRIVATE)) as opened:
            yield next(found for found in opened.guests() if found.name == name)
        lab.ok("down", name, "--json")
    finally:
        lab.ok("gc", "--json")
    assert lab.processes() == []


@pytest.fixture
def count(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--cycles")) * PER_CYCLE


@pytest.fixture
def resident_kib(guest: Guest) -> Callable[[], int]:
    """Memory of the guest's processes that drivers live in."""

    def measure() -> int:
        with guest.open_channel(Deadline.after(60)) as channel:
            sizes = channel.run(_HOSTS, Deadline.after(60)).stdout.split()
        assert sizes
        return sum(map(int, sizes))

    return measure


@pytest.fixture
def control(guest: Guest) -> Iterator[DeviceClient]:
    """A new wskctl process in the guest."""
    with ExitStack() as stack:
        channel = stack.enter_context(guest.open_channel(Deadline.after(60)))
        yield stack.enter_context(DeviceClient.open(channel, Deadline.after(60)))


def test_sockets_come_and_go(control: DeviceClient, count: int, resident_kib: Callable[[], int]) -> None:
    """Created by the published sample, closed."""
    with control.open_device(DEVICE) as device:
        print(create_and_close(WskClient(device, call_s=60), count, resident_kib, within_s=LIMIT_S))


def test_connections_are_accepted(
    guest: Guest, control: DeviceClient, count: int, resident_kib: Callable[[], int]
) -> None:
    """Accepted by one listener, over the guest's wire, each closed before the next."""
    address, _ = guest.address
    with control.open_device(DEVICE) as device:
        client = WskClient(device, call_s=60)
        counted = accept_and_close(
            client, count, resident_kib, via=guest.via, address=address, port=PORT, within_s=LIMIT_S
        )
        print(counted)


def test_hostile_requests(guest: Guest, control: DeviceClient) -> None:
    """Random requests: each is answered, the driver's host lives, and a fresh client works afterwards."""
    began = time.monotonic()
    hostile(control, ROUNDS, SEED, patience=PATIENCE, within_s=LIMIT_S)
    print(f"{ROUNDS} hostile requests: {time.monotonic() - began:.0f} s")
    with control.open_device(DEVICE) as device:
        settle(WskClient(device, call_s=60), Deadline.after(60))
    assert not guest.console.contains("driver host died")
