"""Hooks of the plugin, for the lab that starts a run and for tests that stand in for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from wsklab.lease_protocol import GuestHandle, GuestProvider
from wsklab.pytest_plugin.links import GuestLink


@pytest.hookspec(firstresult=True)
def pytest_wsklab_provider(config: pytest.Config) -> GuestProvider | None:
    """Whoever makes the guests of this run; asked once, in the controller."""


@pytest.hookspec(firstresult=True)
def pytest_wsklab_link(config: pytest.Config, handle: GuestHandle, scale: float) -> GuestLink | None:
    """A connection to a guest; asked in every worker, once per guest. None: SSH and `wskctl`."""


@pytest.hookspec
def pytest_wsklab_tell(line: str) -> None:
    """A line for whoever watches the run, at once; called in the controller, from any thread, at any time."""


def teller(config: pytest.Config) -> Callable[[str], None]:
    """Calls `pytest_wsklab_tell`."""
    return lambda line: config.hook.pytest_wsklab_tell(line=line)
