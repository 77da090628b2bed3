"""The driver under Wine, ten thousand times: sockets that come and go, connections that are accepted.

The counts are twenty times `--cycles`: 10,000 of each in the soak. (The 100,000 hostile requests are those of
test_driver_hostile.py with WSKLAB_INTERNAL_FUZZ_ROUNDS.) After them ledger and memory are what they were after the
first tenth.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from driver_counts import accept_and_close, create_and_close
from local_wine import MISSING, LocalWine, prepare

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not on this host: {MISSING}")

PER_CYCLE = 20


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalWine]:
    wine = LocalWine(tmp_path_factory.mktemp("driver"), prepare(tmp_path_factory.mktemp("wine")))
    wine.start()
    yield wine
    wine.end()


@pytest.fixture
def count(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--cycles")) * PER_CYCLE


def resident_kib(wine: LocalWine) -> int:
    """Memory of the prefix' processes that drivers live in."""
    total = 0
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if b"winedevice" not in (process / "cmdline").read_bytes():
                continue
            if str(wine.prefix).encode() not in (process / "environ").read_bytes():
                continue
            status = (process / "status").read_text()
        except OSError:
            continue
        total += int(status.partition("VmRSS:")[2].split()[0])
    assert total > 0
    return total


def test_sockets_come_and_go(wine: LocalWine, count: int) -> None:
    """Created by the published sample, closed."""
    with wine.client() as client:
        create_and_close(client, count, lambda: resident_kib(wine))


def test_connections_are_accepted(wine: LocalWine, count: int) -> None:
    """Accepted by one listener, each closed before the next."""
    port = wine.free_port()
    with wine.client() as client:
        accept_and_close(client, count, lambda: resident_kib(wine), via=wine.via, address="127.0.0.1", port=port)
