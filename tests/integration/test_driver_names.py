"""Names under Wine, as far as Wine has them; the whole of it is in shim/test_driver_names.py."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from local_wine import MISSING, LocalWine, Prepared

from wsklab import abi
from wsklab.abi import Function, State, Switch
from wsklab.channel.operations import Operation, WskClient
from wsklab.deadline import Deadline
from wsklab.network import listen
from wsklab.records import AF_INET, SocketAddress

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not on this host: {MISSING}")


def soon(seconds: float = 30.0) -> Deadline:
    return Deadline.after(seconds)


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory, prepared_wine: Prepared) -> Iterator[LocalWine]:
    wine = LocalWine(tmp_path_factory.mktemp("names"), prepared_wine)
    wine.start()
    yield wine
    wine.end()


@pytest.fixture
def client(wine: LocalWine) -> Iterator[WskClient]:
    with wine.client() as client:
        yield client


def test_a_numeric_address(client: WskClient) -> None:
    """An address with a port comes out of Wine's WSK, is held, and is freed."""
    record = client.run(Operation.address_info("127.0.0.1", "12345"), soon())
    assert record.succeeded, record.describe()
    assert {(entry.family, entry.address_length) for entry in record.address_infos} == {(AF_INET, 16)}
    assert {entry.address for entry in record.address_infos} == {SocketAddress.of("127.0.0.1", 12345)}
    assert [entry.number for entry in client.objects()] == [record.object]
    assert client.run(Operation.free_address_info(record.object), soon()).succeeded
    assert client.ledger().client.at_rest


def test_a_name_that_nobody_has(client: WskClient) -> None:
    """One completion with a failure, and nothing to free."""
    record = client.run(Operation.address_info("does-not-exist.invalid"), soon())
    assert (record.completion_count, record.succeeded, record.object) == (1, False, 0)
    assert client.objects() == ()


def test_lookups_at_once_and_a_client_that_goes(wine: LocalWine) -> None:
    """Eight threads of the driver in Wine's WSK at a time; the lists of a closed handle are freed."""
    with wine.client() as client:
        pending = [client.submit(Operation.address_info("127.0.0.1", str(number))) for number in range(1, 9)]
        assert all(one.result(soon()).succeeded for one in pending)
        assert len(client.objects()) == 8
    with wine.client() as other:
        deadline = soon()
        while (driver := other.ledger().driver).objects_made != driver.objects_released:
            assert not deadline.expired, driver


def test_wines_stubs_are_lost_or_not_called(client: WskClient) -> None:
    """WskGetNameInfo returns without completing; the registrar's functions raise, and are refused."""
    record = client.run(Operation.name_info(SocketAddress.of("127.0.0.1", 80), flags=0xA), soon())
    assert record.state is State.LOST
    assert abi.status_name(record.returned_status) == "STATUS_NOT_IMPLEMENTED"
    for switches in (Switch(0), Switch.NMR_RETRY):
        record = client.run(Operation.nmr_register(switches=switches), soon())
        assert (record.state, abi.status_name(record.driver_status)) == (State.NOT_STARTED, "STATUS_NOT_SUPPORTED")
    assert client.run(Operation(function=Function.PROVIDER_INFO)).succeeded, "the usual way is open"


def by_hand(wine: LocalWine, *words: str) -> list[dict[str, Any]]:
    """The lines of `wskctl op`."""
    return [json.loads(line) for line in wine.run("wine", r"C:\wsklab\wskctl.exe", "op", *words).splitlines()]


def test_resolved_by_hand(wine: LocalWine) -> None:
    """`wskctl op resolve`: the record, the addresses, and the list is given back."""
    made, *addresses, freed = by_hand(wine, "resolve", "--name", "127.0.0.1")

    assert (made["function"], freed["function"]) == (Function.GET_ADDRESS_INFO, Function.FREE_ADDRESS_INFO)
    assert addresses
    assert {address["family"] for address in addresses} == {AF_INET}
    assert {address["address"][8:16] for address in addresses} == {"7f000001"}
    assert "--name" in wine.run("wine", r"C:\wsklab\wskctl.exe", "op", "resolve", check=False)


def test_connected_by_hand(wine: LocalWine) -> None:
    """`wskctl op connect`: socket, bind, connect, send, receive, close, each with its record."""
    said = []

    def answer() -> None:
        peer, _ = server.accept()
        with peer:
            said.append(peer.recv(100))
            peer.sendall(b"answer")

    with listen(wine.via, ("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        records = by_hand(wine, "connect", "--address", "127.0.0.1", "--port", str(server.getsockname()[1]))
        thread.join(20)
    steps = ("SOCKET", "BIND", "CONNECT", "SEND", "RECEIVE", "CLOSE")
    assert [record["function"] for record in records] == [Function[step] for step in steps]
    assert said == [b"hello\n"]


@pytest.mark.parametrize("verb", ["send-to", "receive-from"])
def test_datagrams_by_hand(wine: LocalWine, verb: str) -> None:
    """Wine has no datagram sockets: the verb says so with WSK's own answer, and leaves nothing behind."""
    said = wine.run("wine", r"C:\wsklab\wskctl.exe", "op", verb, "--address", "127.0.0.1", "--port", "9", check=False)
    (made,) = map(json.loads, said.splitlines())

    assert (made["function"], abi.status_name(made["completion_status"])) == (Function.SOCKET, "STATUS_NOT_IMPLEMENTED")
    with wine.client() as client:
        driver = client.ledger().driver
        assert (driver.issued, driver.sockets_opened) == (driver.completed + driver.lost, driver.sockets_closed)
