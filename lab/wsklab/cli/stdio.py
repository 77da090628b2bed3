"""Standard input and output on one side, a socket on the other."""

from __future__ import annotations

import os
import select
import socket
import threading
from typing import BinaryIO

from wsklab.errors import ChannelLost

__all__ = ["shuttle"]


def shuttle(connection: socket.socket, source: BinaryIO, sink: BinaryIO) -> None:
    """Copy both ways; the connection closing its side ends it.

    Raises:
        ChannelLost: the connection broke.
    """

    def upstream() -> None:
        descriptor = source.fileno()
        while True:
            select.select([descriptor], [], [])
            data = os.read(descriptor, 65536)
            if not data:
                connection.shutdown(socket.SHUT_WR)
                _expect_an_end(connection)
                return
            connection.sendall(data)

    threading.Thread(target=upstream, name="proxy upstream", daemon=True).start()
    while data := _received(connection):
        sink.write(data)
        sink.flush()


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except OSError as error:
        raise ChannelLost("the connection broke", why=str(error)) from error


def _expect_an_end(connection: socket.socket) -> None:
    """A guest that is gone by now never closes its side: TCP finds out within half a minute."""
    if connection.family in {socket.AF_INET, socket.AF_INET6}:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            (socket.TCP_KEEPIDLE, 15),
            (socket.TCP_KEEPINTVL, 5),
            (socket.TCP_KEEPCNT, 3),
            (socket.TCP_USER_TIMEOUT, 30_000),
        ):
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
