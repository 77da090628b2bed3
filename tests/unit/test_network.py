"""Facts about sockets, subnets and slot names (in the host's own namespace, loopback only)."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from wsklab import network
from wsklab.deadline import Deadline
from wsklab.errors import ChannelLost, DeadlineExceeded, HostError, UsageError, WireGone
from wsklab.network import Via, address_of, bind_datagram, connect, free_subnet, interfaces, listen, mac_of


def test_a_connection_has_no_delay_and_blocks() -> None:
    """A connected socket sends at once (TCP_NODELAY) and is in blocking mode."""
    with listen(Via(), ("127.0.0.1", 0)) as listener, connect(Via(), listener.getsockname(), Deadline.after(2)) as made:
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert made.gettimeout() is None


def test_the_way_to_a_guest_tells_the_hosts_own_address() -> None:
    """Without a packet: nobody listens there."""
    assert network.host_address(Via(), ("127.0.0.2", 9)) == "127.0.0.1"
    with pytest.raises(ChannelLost):
        network.host_address(Via(), ("255.255.255.255", 9))


def test_a_refused_connection_is_a_lost_channel() -> None:
    """Nobody listening is the guest's fault, with the address in the message."""
    with listen(Via(), ("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ChannelLost, match=f"127.0.0.1:{port}"):
        connect(Via(), ("127.0.0.1", port), Deadline.after(2))


def test_silence_ends_at_the_deadline() -> None:
    """A peer that never answers costs no more than the deadline."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        held = [socket.socket() for _ in range(3)]
        try:
            for one in held:
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            with pytest.raises(DeadlineExceeded):
                connect(Via(), full.getsockname(), Deadline.after(0.2))
        finally:
            for one in held:
                one.close()


def test_a_port_that_is_taken_is_a_host_error() -> None:
    """Our own side failing is never blamed on the guest."""
    with listen(Via(), ("127.0.0.1", 0)) as first, pytest.raises(HostError):
        listen(Via(), first.getsockname())
    with pytest.raises(HostError):
        bind_datagram(Via(), ("192.0.2.1", 0))


def test_a_namespace_that_is_gone_is_named() -> None:
    """The path of a dead holder's namespace is in the error."""
    with pytest.raises(WireGone, match="/nonexistent/ns"):
        connect(Via(Path("/nonexistent/ns")), ("127.0.0.1", 1), Deadline.after(1))


def test_errors_cross_the_thread() -> None:
    """What the action raises, the caller of `inside` gets."""

    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        network.inside(Via(), fail)


def test_the_loopback_is_among_the_interfaces() -> None:
    """`ip` is read as JSON; lo always exists."""
    assert "lo" in interfaces(Via())


def test_a_subnet_that_overlaps_anything_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses, routes (wider and narrower) and neighbours block a candidate; the default route blocks none."""
    answers: dict[str, list[dict[str, object]]] = {
        "address": [{"ifname": "eth0", "addr_info": [{"local": "192.168.1.7", "prefixlen": 24}]}],
        "route": [{"dst": "default"}, {"dst": "10.0.0.0/8"}, {"dst": "192.168.3.9"}],
        "neighbour": [{"dst": "192.168.4.2"}],
    }
    monkeypatch.setattr(network, "_ip", lambda _via, *words: answers[words[0]])
    candidates = ["192.168.1", "10.77.0", "192.168.3", "192.168.4", "192.168.5"]
    assert free_subnet(candidates) == "192.168.5"
    with pytest.raises(HostError, match="no subnet"):
        free_subnet(candidates[:4])


def test_slots_give_unique_cards_and_addresses() -> None:
    """Every slot has its own card address; numbers that are the host's or the broadcast are refused."""
    assert mac_of(3) == "52:54:00:77:00:03"
    assert mac_of(0x102) == "52:54:00:77:01:02"
    assert address_of("192.168.213", 250) == "192.168.213.250"
    for slot in (0, 1, 255):
        with pytest.raises(UsageError):
            address_of("192.168.213", slot)
