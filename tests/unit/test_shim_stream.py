"""Facts about one connection into a shim guest."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from wsklab.channel.shim import ShimStream
from wsklab.deadline import Deadline
from wsklab.errors import ChannelLost, DeadlineExceeded


def test_close_ends_whoever_reads() -> None:
    """At whatever moment: the reader never goes on with a descriptor that somebody else has got meanwhile."""
    for round_ in range(1500):
        ours, its = socket.socketpair()
        stream = ShimStream(ours, "wskctl stdio")
        ended: list[BaseException] = []

        def read(stream: ShimStream = stream, ended: list[BaseException] = ended) -> None:
            try:
                stream.receive(Deadline.after(20))
            except ChannelLost as error:
                ended.append(error)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        stream.close()
        with contextlib.ExitStack() as others:
            others.enter_context(its)
            for other in socket.socketpair():  # they get the number that is free now
                others.enter_context(other)
            reader.join(5)
            assert not reader.is_alive(), f"round {round_}: the reader waits"
        assert ended


def test_a_closed_stream_is_closed() -> None:
    """As often as one likes, and the far end sees it; every use after it says where it was closed."""
    ours, its = socket.socketpair()
    with its:
        stream = ShimStream(ours, "wskctl stdio")
        with pytest.raises(DeadlineExceeded):
            stream.receive(Deadline.after(0.01))
        stream.close()
        stream.close()
        assert its.recv(1) == b""
        assert ours.fileno() == -1
        with pytest.raises(ChannelLost) as caught:
            stream.send(b"x", Deadline.after(1))
        assert caught.value.why == "it was closed here"
        stream.end_input()
