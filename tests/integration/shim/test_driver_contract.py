"""The contract that the plugin's model keeps (tests/unit/test_fake_driver.py), kept by the driver itself."""

from __future__ import annotations

from driver_contract import CONTRACT, Harness
from local_shim import LOOPBACK, LocalShim

from wsklab.channel.operations import WskClient


def reach(client: WskClient, listener: int) -> tuple[str, int]:
    assert client.bind(listener, LOOPBACK).succeeded
    address = client.local_address(listener).local
    assert address is not None
    return address.host, address.port


def test_contract(shim: LocalShim) -> None:
    """Every check, each on a handle of its own."""
    with shim.clients(len(CONTRACT)) as clients:
        for check, client in zip(CONTRACT, clients, strict=True):
            check(Harness(client=client, reach=reach))
