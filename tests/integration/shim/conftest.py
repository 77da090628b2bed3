"""One shim per test: milliseconds, and its end proves that nothing was left over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_shim import MISSING, LocalShim

from wsklab.channel.operations import WskClient


@pytest.fixture
def shim(tmp_path: Path) -> LocalShim:
    if MISSING:
        pytest.skip(f"not on this host: {MISSING}")
    return LocalShim(tmp_path)


@pytest.fixture
def client(shim: LocalShim) -> Iterator[WskClient]:
    with shim.clients() as (client,):
        yield client
