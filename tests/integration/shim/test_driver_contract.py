"""The contract that the plugin's model keeps (tests/unit/test_fake_driver.py), kept by the driver itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from driver_contract import CONTRACT, Harness
from local_shim import LOOPBACK

from wsklab.channel.operations import WskClient


def reach(client: WskClient, listener: int) -> tuple[str, int]:
    assert client.bind(listener, LOOPBACK).succeeded
    address = client.local_address(listener).local
    assert address is not None
    return address.host, address.port


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_contract(check: Callable[[Harness], None], client: WskClient) -> None:
    """The driver keeps the contract of its model."""
    check(Harness(client=client, reach=reach))
