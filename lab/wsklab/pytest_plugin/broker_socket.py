"""The broker's socket: one connection per worker, one JSON document per line, for the run's user only (mode 0600).

    {"op": "acquire", "profiles": [...], "exclusive": false, "reset": "none", "timeout_s": 600}
                                                                              -> {"lease": {...}} | {"error": {...}}
                                                before that, every few seconds: {"waiting": true}
    {"op": "release", "lease": 7, "dirty": false, "reason": "", "keep": false}   -> {"ok": true}
    {"op": "explain", "guest": "...", "operation": "", "channel_lost": true}     -> {"fault", "reason", "signals", ...}
    {"op": "conclude", "guest": "...", "folder": "..."}                          -> the same; fault "" for none
    {"op": "plan", "needs": [{...}]}                                             -> {"ok": true}

The end of a worker's connection returns its leases dirty.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wsklab.deadline import Deadline
from wsklab.errors import LabError, LeaseError
from wsklab.lease_protocol import Reset
from wsklab.pytest_plugin.leases import error_document, receive_line
from wsklab.pytest_plugin.schedule import Need

if TYPE_CHECKING:
    from wsklab.pytest_plugin.broker import Broker

__all__ = ["BrokerSocket"]

_log = logging.getLogger(__name__)

#: How often a worker that waits for a guest hears that the broker is still there, in seconds.
_SIGN_S = 5.0


class BrokerSocket:
    """Serves workers until it is closed.

    Args:
        broker: what they ask.
        address: path of the socket.
        spawn: starts a thread of the broker's.
    """

    def __init__(self, broker: Broker, address: Path, spawn: Callable[[Callable[[], None], str], None]) -> None:
        self._broker = broker
        self._address = address
        self._spawn = spawn
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._numbers = itertools.count(1)
        self._closed = False

    def open(self) -> None:
        """Listen."""
        self._address.unlink(missing_ok=True)
        self._listener.bind(str(self._address))
        self._address.chmod(0o600)
        self._listener.listen(64)
        self._spawn(self._accept, "accept")

    def close(self) -> None:
        """End all conversations."""
        with self._lock:
            self._closed = True
            connections = tuple(self._connections)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._address.unlink(missing_ok=True)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._closed:
                    connection.close()
                    return
                self._connections.add(connection)
            owner = f"worker-{next(self._numbers)}"
            self._spawn(functools.partial(self._serve, connection, owner), owner)

    def _serve(self, connection: socket.socket, owner: str) -> None:
        """One worker's conversation, until its end of file."""
        buffer = bytearray()
        try:
            while (line := receive_line(connection, buffer)) is not None:
                try:
                    answer = self._answer(line, connection, owner)
                except LabError as error:
                    answer = {"error": error_document(error)}
                except (ValueError, KeyError, TypeError) as error:
                    answer = {"error": error_document(LeaseError("not a request", why=repr(error)))}
                connection.sendall(json.dumps(answer, default=str).encode() + b"\n")
        except OSError as error:
            _log.warning("%s: %s", owner, error)
        finally:
            with self._lock:
                self._connections.discard(connection)
            self._broker.worker_ended(owner)
            connection.close()

    def _answer(self, line: bytes, connection: socket.socket, owner: str) -> Mapping[str, object]:
        request = json.loads(line)
        if request["op"] == "acquire":
            lease = self._broker.acquire(
                [str(profile) for profile in request["profiles"]],
                exclusive=bool(request["exclusive"]),
                deadline=Deadline.after(float(request["timeout_s"])),
                reset=Reset(request.get("reset", Reset.NONE)),
                again=bool(request.get("again")),
                owner=owner,
                alive=_Signs(connection).are_wanted,
            )
            return {"lease": lease.model_dump(mode="json")}
        if request["op"] == "release":
            self._broker.give_back(
                int(request["lease"]),
                dirty=bool(request["dirty"]),
                reason=str(request["reason"]),
                keep=bool(request.get("keep")),
                owner=owner,
            )
            return {"ok": True}
        if request["op"] == "explain":
            story = self._broker.explain(
                str(request["guest"]),
                operation=str(request["operation"]),
                channel_lost=bool(request["channel_lost"]),
            )
            return story.document()
        if request["op"] == "conclude":
            final = self._broker.conclude(str(request["guest"]), Path(str(request["folder"])))
            return final.document() if final is not None else {"fault": ""}
        if request["op"] == "plan":
            self._broker.plan([Need.model_validate(need) for need in request["needs"]])
            return {"ok": True}
        raise LeaseError(f"the broker does not know {str(request['op'])[:40]!r}")


class _Signs:
    """Tell a worker now and then that its request waits: on a full host that is as long as the others' cases take."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._next = Deadline.after(_SIGN_S)

    def are_wanted(self) -> bool:
        """Whether the worker is still there."""
        if self._next.expired:
            self._next = self._next.anew()
            with contextlib.suppress(OSError):
                self._connection.sendall(b'{"waiting": true}\n')
        return _is_open(self._connection)


def _is_open(connection: socket.socket) -> bool:
    """Whether the other side still holds the connection; consumes nothing."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
