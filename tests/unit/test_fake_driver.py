"""The plugin's model of the driver keeps the driver's contract, and says what it does not have."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from driver_contract import CONTRACT, Harness

from wsklab.abi import Function
from wsklab.channel.operations import DriverRefusal, Operation, WskClient
from wsklab.pytest_plugin.fake_driver import MISSING, FakeDriver, Traits
from wsklab.records import SocketAddress


def model() -> FakeDriver:
    return FakeDriver(traits=Traits(), ports={})


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_contract(check: Callable[[Harness], None]) -> None:
    """FakeDriver keeps the driver's contract."""
    driver = model()

    def reach(client: WskClient, listener: int) -> tuple[str, int]:
        place = ("192.0.2.1", 1)
        assert client.bind(listener, SocketAddress.of(*place)).succeeded
        return ("127.0.0.1", driver.ports[place])

    check(Harness(client=WskClient(driver), reach=reach))
    driver.close()


@pytest.mark.parametrize("function", sorted(Function))
def test_functions_that_the_model_does_not_have(function: Function) -> None:
    """Refused before anything is called, by name; every other one is taken."""
    client = WskClient(model())
    if function not in MISSING:
        client.submit(Operation(function=function))
        return
    with pytest.raises(DriverRefusal, match=function.name) as refused:
        client.submit(Operation(function=function))
    assert refused.value.not_implemented
