"""The worker's side of the broker's conversation."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from wsklab import errors
from wsklab.deadline import Deadline
from wsklab.errors import LabError, LeaseError
from wsklab.lease_protocol import Lease
from wsklab.pytest_plugin.broker import Story, receive_line

__all__ = ["BrokerGone", "LeaseClient"]


class BrokerGone(LeaseError):  # noqa: N818 - named for the state, like its relatives in errors.py
    """The broker's side of the connection ended: the worker has nothing left to do."""


class LeaseClient:
    """Asks the broker for leases over its UNIX socket; a context manager.

    Raises:
        BrokerGone: from every call, once the controller is gone.
    """

    def __init__(self, address: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._buffer = bytearray()
        try:
            self._socket.connect(str(address))
        except OSError as error:
            self._socket.close()
            raise BrokerGone("the lease broker does not answer", why=str(error)) from error

    def __enter__(self) -> LeaseClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the conversation; leases that are out come back dirty."""
        self._socket.close()

    def acquire(self, profiles: Sequence[str], *, exclusive: bool, deadline: Deadline) -> Lease:
        """Wait for a lease; see `Broker.acquire` for the errors."""
        answer = self._ask(
            {
                "op": "acquire",
                "profiles": list(profiles),
                "exclusive": exclusive,
                "timeout_s": deadline.remaining_s,
            },
            # the broker's own deadline ends first, with a better story
            Deadline.after(deadline.remaining_s + 10.0),
        )
        try:
            return Lease.model_validate(answer["lease"])
        except (KeyError, ValidationError) as error:
            raise LeaseError("the broker's answer is no lease", why=str(error)) from error

    def release(self, lease: Lease, *, dirty: bool, reason: str) -> None:
        """Give a lease back."""
        self._ask({"op": "release", "lease": lease.id, "dirty": dirty, "reason": reason[:2000]}, Deadline.after(30.0))

    def explain(self, guest: str, *, operation: str, channel_lost: bool) -> Story:
        """Ask the controller whose fault it is that a case did not end by itself."""
        answer = self._ask(
            {"op": "explain", "guest": guest, "operation": operation[:2000], "channel_lost": channel_lost},
            Deadline.after(60.0),
        )
        signals = answer.get("signals")
        return Story(str(answer.get("fault")), str(answer.get("reason")), signals if isinstance(signals, dict) else {})

    def _ask(self, request: Mapping[str, object], deadline: Deadline) -> Mapping[str, object]:
        self._socket.settimeout(deadline.remaining_s)
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise BrokerGone("the lease broker is gone", why=str(error)) from error
        line = receive_line(self._socket, self._buffer)
        if line is None:
            raise BrokerGone("the lease broker is gone", why="its connection ended without an answer")
        answer = json.loads(line)
        if "error" in answer:
            raise _as_error(answer["error"])
        return dict(answer)


def _as_error(document: Mapping[str, str]) -> LabError:
    """The broker's error, of its own class where that takes no more than the three sentences."""
    known = {"LeaseUnavailable": errors.LeaseUnavailable, "LeaseExpired": errors.LeaseExpired}
    kind = known.get(document.get("class", ""), LeaseError)
    return kind(document.get("message", "?"), why=document.get("why", ""), fix=document.get("fix", ""))
