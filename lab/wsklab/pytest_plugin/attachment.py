"""One registration with WSK, step by step: for cases about registering, capturing and detaching.

A client of the driver attaches by itself at its first socket; these cases take the steps by hand.
"""

from __future__ import annotations

from typing import Any

import pytest

from wsklab.abi import Function, HelloFlag, Switch
from wsklab.channel.operations import Operation, PendingOperation
from wsklab.pytest_plugin.observed import ObservedClient
from wsklab.records import Record

__all__ = ["NO_WAIT", "VERSION_1_0", "Attachment", "attachment"]

#: WskCaptureProviderNPI's timeout that never waits.
NO_WAIT = 0
VERSION_1_0 = 0x0100


class Attachment:
    """The registration block of one client."""

    def __init__(self, wsk: ObservedClient) -> None:
        self.wsk = wsk

    @property
    def can_ask(self) -> bool:
        """Whether WskQueryProviderCharacteristics and the Nmr functions can be called: on Wine they raise."""
        return HelloFlag.WINE not in self.wsk.hello().flags

    def register(self, version: int = VERSION_1_0) -> Record:
        """WskRegister."""
        return self.wsk.run(Operation(function=Function.REGISTER, version=version))

    def capture(self, timeout_ms: int, **more: Any) -> Record:
        """WskCaptureProviderNPI."""
        return self.wsk.run(Operation(function=Function.CAPTURE, timeout_ms=timeout_ms, **more))

    def capture_for_ever(self, **more: Any) -> Record:
        """WskCaptureProviderNPI with WSK_INFINITE_WAIT."""
        return self.capture(0, **({"switches": Switch.INFINITE} | more))

    def release(self, **more: Any) -> Record:
        """WskReleaseProviderNPI."""
        return self.wsk.run(Operation(function=Function.RELEASE_NPI, **more))

    def deregister(self) -> Record:
        """WskDeregister, awaited."""
        return self.wsk.run(Operation(function=Function.DEREGISTER))

    def deregistering(self) -> PendingOperation:
        """WskDeregister on a thread of its own."""
        return self.wsk.submit(Operation(function=Function.DEREGISTER))

    def provider(self) -> Record:
        """What the provider dispatch says."""
        return self.wsk.run(Operation(function=Function.PROVIDER_INFO))

    def characteristics(self, **more: Any) -> Record:
        """WskQueryProviderCharacteristics."""
        return self.wsk.run(Operation(function=Function.QUERY_CHARACTERISTICS, **more))


@pytest.fixture
def attachment(wsk: ObservedClient) -> Attachment:
    """The registration of the case's client, untouched."""
    return Attachment(wsk)
