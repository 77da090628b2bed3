"""The worker's side of the broker's conversation."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wsklab import errors
from wsklab.deadline import Deadline
from wsklab.errors import LabError, LeaseError
from wsklab.lease_protocol import Lease, Reset
from wsklab.pytest_plugin.leases import Story, receive_line
from wsklab.pytest_plugin.schedule import Need

__all__ = ["BrokerGone", "LeaseClient"]


#: Longest that making fresh guests for one lease may take; their own deadlines end long before.
_RESET_S = 3600.0
#: Longest that a guest's evidence may take, a crash dump included; each part ends long before.
_CONCLUDE_S = 600.0
#: Needs in one line.
_PORTION = 200


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

    def acquire(
        self,
        profiles: Sequence[str],
        *,
        exclusive: bool,
        deadline: Deadline,
        reset: Reset = Reset.NONE,
        again: bool = False,
    ) -> Lease:
        """Wait for a lease; see `Broker.acquire` for the errors."""
        answer = self._ask(
            {
                "op": "acquire",
                "profiles": list(profiles),
                "exclusive": exclusive,
                "reset": reset,
                "again": again,
                "timeout_s": deadline.remaining_s,
            },
            # the broker's own deadline ends first, with a better story
            Deadline.after(deadline.remaining_s + (_RESET_S if reset.makes_guest else 10.0)),
        )
        try:
            return Lease.model_validate(answer["lease"])
        except (KeyError, ValidationError) as error:
            raise LeaseError("the broker's answer is no lease", why=str(error)) from error

    def release(self, lease: Lease, *, dirty: bool, reason: str, keep: bool = False) -> None:
        """Give a lease back; see `Broker.release`."""
        self._ask(
            {"op": "release", "lease": lease.id, "dirty": dirty, "reason": reason[:2000], "keep": keep},
            # libvirt takes up to 30 s to mark a guest that is sick
            Deadline.after(90.0 if keep else 30.0),
        )

    def plan(self, needs: Sequence[Need]) -> None:
        """Tell the controller what the collected items need."""
        for first in range(0, len(needs), _PORTION):
            portion = [need.model_dump(mode="json") for need in needs[first : first + _PORTION]]
            self._ask({"op": "plan", "needs": portion}, Deadline.after(30.0))

    def explain(self, guest: str, *, operation: str, channel_lost: bool) -> Story:
        """Ask the controller whose fault it is that a case did not end by itself."""
        answer = self._ask(
            {"op": "explain", "guest": guest, "operation": operation[:2000], "channel_lost": channel_lost},
            Deadline.after(60.0),
        )
        return Story.read(answer)

    def conclude(self, guest: str, folder: Path) -> Story | None:
        """See `GuestProvider.conclude`."""
        answer = self._ask({"op": "conclude", "guest": guest, "folder": str(folder)}, Deadline.after(_CONCLUDE_S))
        return Story.read(answer) if answer.get("fault") else None

    def _ask(self, request: Mapping[str, object], deadline: Deadline) -> Mapping[str, object]:
        """The broker's answer; as long as it says that the request waits, the deadline begins anew with every sign."""
        self._socket.settimeout(deadline.remaining_s)
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise BrokerGone("the lease broker is gone", why=str(error)) from error
        answer: dict[str, Any] = {"waiting": True}
        while "waiting" in answer:
            line = receive_line(self._socket, self._buffer)
            if line is None:
                raise BrokerGone("the lease broker is gone", why="its connection ended without an answer")
            answer = json.loads(line)
        if "error" in answer:
            raise _as_error(answer["error"])
        return answer


def _as_error(document: Mapping[str, str]) -> LabError:
    """The broker's error, of its own class where that takes no more than the three sentences."""
    known = {"LeaseUnavailable": errors.LeaseUnavailable, "LeaseExpired": errors.LeaseExpired}
    kind = known.get(document.get("class", ""), LeaseError)
    return kind(document.get("message", "?"), why=document.get("why", ""), fix=document.get("fix", ""))
