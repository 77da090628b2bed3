"""The long counts of the driver, on whatever runs it: sockets that come and go, connections, hostile requests."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from hostile_requests import request

from wsklab.abi import Category, Ioctl
from wsklab.channel.device import DeviceClient
from wsklab.channel.operations import WskClient
from wsklab.deadline import Deadline, pause
from wsklab.errors import DeadlineExceeded
from wsklab.network import Via, connect
from wsklab.records import SocketAddress

__all__ = ["DEVICE", "GROWTH_KIB", "Counted", "accept_and_close", "create_and_close", "hostile", "live", "settle"]

DEVICE = r"\\.\wsklab"
#: What the host of the drivers may grow by: Wine's own caches, not a page for each of ten thousand.
GROWTH_KIB = 4096
#: The longest that a count may take under the host's Wine.
WITHIN_S = 1800.0
_BATCH = 20


@dataclass(frozen=True, slots=True)
class Counted:
    """What a count came to: how long it took, and the memory of the drivers' host after a tenth and at the end."""

    count: int
    seconds: float
    kib: tuple[int, int]


def _repeat(
    client: WskClient, count: int, once: Callable[[], None], resident_kib: Callable[[], int], within_s: float
) -> Counted:
    """A tenth, a look, the rest, another look: the same numbers."""
    began = time.monotonic()
    limit = Deadline.after(within_s)

    def repeat(times: int) -> None:
        for done in range(times):
            if limit.expired:
                raise limit.exceeded(f"a count of {count}", last=f"{done} of {times}")
            once()

    repeat(count // 10)
    before, memory = client.ledger().client, resident_kib()
    repeat(count - count // 10)
    after = client.ledger().client
    assert after.issued - before.issued >= count - count // 10
    assert after.balanced
    assert (after.outstanding, after.lost) == (0, 0)
    assert after.sockets_opened - after.sockets_closed == before.sockets_opened - before.sockets_closed
    assert after.irps_allocated - after.irps_freed == before.irps_allocated - before.irps_freed
    assert after.pool_bytes == before.pool_bytes
    at_the_end = resident_kib()
    assert at_the_end - memory < GROWTH_KIB
    return Counted(count, time.monotonic() - began, (memory, at_the_end))


def create_and_close(
    client: WskClient, count: int, resident_kib: Callable[[], int], *, within_s: float = WITHIN_S
) -> Counted:
    """So many listening sockets, made by the published sample, each closed before the next."""

    def once() -> None:
        record = client.create_listening_socket_sample()
        assert record.succeeded, record.describe()
        assert client.close_socket(record.new_socket).succeeded

    return _repeat(client, count, once, resident_kib, within_s)


def accept_and_close(
    client: WskClient,
    count: int,
    resident_kib: Callable[[], int],
    *,
    via: Via,
    address: str,
    port: int,
    within_s: float = WITHIN_S,
) -> Counted:
    """So many connections, accepted by one listener, each closed before the next."""
    listener = client.socket(Category.LISTEN).new_socket
    assert client.bind(listener, SocketAddress.of(address, port)).succeeded

    def once() -> None:
        accepting = client.accept(listener)
        with connect(via, (address, port), Deadline.after(60)):
            record = accepting.result(Deadline.after(60))
        assert record.succeeded, record.describe()
        assert client.close_socket(record.new_socket).succeeded

    counted = _repeat(client, count, once, resident_kib, within_s)
    assert client.close_socket(listener).succeeded
    return counted


def hostile(
    control: DeviceClient, rounds: int, seed: int, *, patience: float = 1.0, within_s: float = WITHIN_S
) -> None:
    """Random requests (seeded) on one handle: each is answered. `patience` stretches every wait, for slow guests."""
    rng = random.Random(seed)  # noqa: S311 -- repeatable on purpose
    device = control.open_device(DEVICE)
    answered = 0
    batch = []
    limit = Deadline.after(within_s)
    for count in range(rounds):
        if limit.expired:
            raise limit.exceeded(f"{rounds} hostile requests", last=f"{count} were sent, {answered} answered")
        code, data, room = request(rng)
        if code == Ioctl.QUIESCE and rng.random() < 0.9:
            continue  # it ends the client for good
        batch.append((code, data, room, device.submit_ioctl(code, data, room, Deadline.after(120 * patience))))
        if len(batch) == _BATCH:
            for asked, sent, size, pending in batch:
                try:
                    result = pending.result(Deadline.after(0.5 * patience))
                except DeadlineExceeded:  # a wait whose time was made minutes long: it can be cancelled
                    pending.cancel()
                    try:
                        result = pending.result(Deadline.after((30 if asked != Ioctl.FORWARD else 3) * patience))
                    except DeadlineExceeded:
                        # Wine's receive has no cancel routine: an IRP of a caller's that waits there ends with its
                        # socket, when the handle is closed. `settle` sees that it did.
                        assert asked == Ioctl.FORWARD, f"neither answered nor cancelled: {sent.hex()}"
                        device.close()
                        device = control.open_device(DEVICE)
                        break
                assert len(result.data) <= size
                # without an output buffer Windows copies nothing, whatever Information says
                assert result.information <= size or (asked == Ioctl.FORWARD and size == 0), (
                    "Windows would copy that many bytes"
                )
                answered += 1
            batch.clear()
        if count % 500 == 499:
            device.close()
            device = control.open_device(DEVICE)
            batch.clear()
    assert answered > rounds * 0.8
    device.close()


def settle(client: WskClient, deadline: Deadline) -> None:
    """A fresh client works, and the driver's ledger comes to rest."""
    record = client.create_listening_socket_sample()
    assert record.succeeded
    assert client.close_socket(record.new_socket).succeeded
    while True:
        ledger = client.ledger().driver
        at_rest = ledger.outstanding == 0 and ledger.sockets_opened == ledger.sockets_closed
        # a client that has ended gives its last IRPs back a moment after its last completion
        if at_rest and client.hello().clients == 1 and ledger.irps_allocated - ledger.irps_freed == ledger.irps_kept:
            break
        assert not deadline.expired, ledger
        pause(0.05)
    assert ledger.balanced
    assert ledger.irps_kept <= ledger.lost


def live(client: WskClient, server: socket.socket, address: SocketAddress, rounds: int) -> None:
    """One client's life: connections, queued accepts and receives, cancels, closes in the middle.

    Args:
        server: listens on 127.0.0.1, for this client alone. address: the client's own.
    """
    for _ in range(rounds):
        number = client.socket(Category.LISTEN).new_socket
        record = client.bind(number, address)
        assert record.succeeded, record.describe()
        accepting = client.accept(number)
        accepting.cancel()
        connection = client.socket(Category.CONNECTION).new_socket
        client.bind(connection, SocketAddress.of("127.0.0.1"))
        assert client.connect(connection, SocketAddress.of("127.0.0.1", server.getsockname()[1])).succeeded
        peer, _ = server.accept()
        receiving = client.receive(connection, 64)
        peer.sendall(b"x")
        assert receiving.result(Deadline.after(15)).data == b"x"
        pending = client.receive(connection, 64)
        pending.cancel()
        client.close_socket(connection)
        assert pending.result(Deadline.after(15)).completion_count == 1
        client.close_socket(number)
        assert accepting.result(Deadline.after(15)).completion_count == 1
        peer.close()
    ledger = client.ledger().client
    assert ledger.at_rest
    assert ledger.lost == 0
