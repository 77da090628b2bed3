"""Random requests against the driver in the shim: sanitizers, the shim's rules, and nothing left over at the end."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from driver_counts import live
from hostile_requests import request
from local_shim import LocalShim, address_of, peer_listener

from wsklab.abi import Ioctl
from wsklab.channel.operations import WskClient
from wsklab.deadline import Deadline
from wsklab.errors import DeadlineExceeded
from wsklab.records import SocketAddress

SEED = int(os.environ.get("WSKLAB_INTERNAL_FUZZ_SEED", "20261122"))
ROUNDS = int(os.environ.get("WSKLAB_INTERNAL_FUZZ_ROUNDS", "1500"))
#: Requests under way at a time: they meet each other in the driver.
_BATCH = 20
#: Requests per handle: after some time little is left that can be done with one.
_PER_HANDLE = 400


def soon(seconds: float = 15.0) -> Deadline:
    return Deadline.after(seconds)


def bombard(client: WskClient, rng: random.Random, rounds: int) -> int:
    """So many requests in batches; how many were answered."""
    device = client._device
    answered = 0
    batch = []
    for _ in range(rounds):
        code, data, room = request(rng)
        if code == Ioctl.QUIESCE:
            continue  # it ends the client for good
        batch.append((code, room, device.submit_ioctl(code, data, room, soon(120))))
        if len(batch) < _BATCH:
            continue
        for asked, size, pending in batch:
            try:
                result = pending.result(soon(0.3))
            except DeadlineExceeded:  # a wait whose time was made minutes long: it can be cancelled
                pending.cancel()
                result = pending.result(soon(30))
            assert len(result.data) <= size
            # without an output buffer nothing is copied, whatever a forwarded IRP says
            assert result.information <= size or (asked == Ioctl.FORWARD and size == 0)
            answered += 1
        batch.clear()
    return answered


@pytest.mark.parametrize("seed", range(SEED, SEED + 4))
def test_hostile_requests(shim: LocalShim, seed: int) -> None:
    """Each is answered within its bounds, the client ends, the driver unloads, and nothing is left over."""
    rng = random.Random(seed)  # noqa: S311 -- repeatable on purpose
    handles = max(1, ROUNDS // _PER_HANDLE)
    answered = 0
    with shim.clients(handles) as clients:
        for client in clients:
            answered += bombard(client, rng, _PER_HANDLE)
            assert client.ledger().client.balanced
    assert answered > handles * _PER_HANDLE // 3


def test_a_fresh_client_works_beside_a_hostile_one(shim: LocalShim) -> None:
    """What one handle does is nothing to another."""
    rng = random.Random(SEED)  # noqa: S311 -- repeatable on purpose
    with shim.clients(2) as (hostile, honest):
        bombard(hostile, rng, ROUNDS // 3)
        record = honest.create_listening_socket_sample()
        assert record.succeeded
        assert honest.close_socket(record.new_socket).succeeded
        assert honest.ledger().client.at_rest


def test_clients_at_once(shim: LocalShim) -> None:
    """Four clients of one driver in parallel, each with its own numbers and ports, all balanced at the end."""
    with shim.clients(4) as clients, ExitStack() as opened, ThreadPoolExecutor(4) as threads:
        servers = [opened.enter_context(peer_listener()) for _ in clients]
        # addresses that nothing else of this host has: whoever asks for any port meanwhile gets none of theirs
        own = [SocketAddress.of(f"127.88.0.{n}", address_of(server).port) for n, server in enumerate(servers, 1)]
        list(threads.map(live, clients, servers, own, [25] * 4))
