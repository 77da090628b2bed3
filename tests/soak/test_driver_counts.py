"""The driver under Wine, ten thousand times: sockets that come and go, connections that are accepted.

The counts are twenty times `--cycles`: 10,000 of each in the soak. (The 100,000 hostile requests are those of
test_driver_hostile.py with WSKLAB_FUZZ_ROUNDS.) After them ledger and memory are what they were after the first tenth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local_wine import MISSING, LocalWine

from wsklab.abi import Category
from wsklab.channel.operations import WskClient
from wsklab.deadline import Deadline
from wsklab.network import connect
from wsklab.records import SocketAddress

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not on this host: {MISSING}")

PER_CYCLE = 20
#: What the host of the drivers may grow by: Wine's own caches, not a page for each of ten thousand.
GROWTH_KIB = 4096


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalWine]:
    wine = LocalWine(tmp_path_factory.mktemp("driver"))
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


def repeat(wine: LocalWine, client: WskClient, count: int, once: Callable[[], None]) -> None:
    """A tenth, a look, the rest, another look: the same numbers."""
    for _ in range(count // 10):
        once()
    before, memory = client.ledger().client, resident_kib(wine)
    for _ in range(count - count // 10):
        once()
    after = client.ledger().client
    assert after.issued - before.issued >= count - count // 10
    assert after.balanced
    assert (after.outstanding, after.lost) == (0, 0)
    assert after.sockets_opened - after.sockets_closed == before.sockets_opened - before.sockets_closed
    assert after.irps_allocated - after.irps_freed == before.irps_allocated - before.irps_freed
    assert after.pool_bytes == before.pool_bytes
    assert resident_kib(wine) - memory < GROWTH_KIB


def test_sockets_come_and_go(wine: LocalWine, count: int) -> None:
    """Created by the published sample, closed."""
    with wine.client() as client:

        def once() -> None:
            record = client.create_listening_socket_sample()
            assert record.succeeded
            assert client.close_socket(record.new_socket).succeeded

        repeat(wine, client, count, once)


def test_connections_are_accepted(wine: LocalWine, count: int) -> None:
    """Accepted by one listener, each closed before the next."""
    port = wine.free_port()
    with wine.client() as client:
        listener = client.socket(Category.LISTEN).new_socket
        assert client.bind(listener, SocketAddress.of("127.0.0.1", port)).succeeded

        def once() -> None:
            accepting = client.accept(listener)
            with connect(wine.via, ("127.0.0.1", port), Deadline.after(20)):
                record = accepting.result(Deadline.after(20))
            assert record.succeeded
            assert client.close_socket(record.new_socket).succeeded

        repeat(wine, client, count, once)
        assert client.close_socket(listener).succeeded
