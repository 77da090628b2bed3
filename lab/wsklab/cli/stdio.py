"""Standard input and output on one side, a socket on the other."""

from __future__ import annotations

import os
import select
import socket
import threading
from typing import BinaryIO

__all__ = ["shuttle"]


def shuttle(connection: socket.socket, source: BinaryIO, sink: BinaryIO) -> None:
    """Copy both ways; the connection closing its side ends it."""

    def upstream() -> None:
        descriptor = source.fileno()
        while True:
            select.select([descriptor], [], [])
            data = os.read(descriptor, 65536)
            if not data:
                connection.shutdown(socket.SHUT_WR)
                return
            connection.sendall(data)

    threading.Thread(target=upstream, name="proxy upstream", daemon=True).start()
    while data := connection.recv(65536):
        sink.write(data)
        sink.flush()
