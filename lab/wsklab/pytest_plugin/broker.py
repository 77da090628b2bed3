"""The lease broker: a few threads in the pytest controller that hand guests to workers.

Workers speak to it over a UNIX socket (mode 0600), one JSON document per line, one connection per worker:

    {"op": "acquire", "profiles": [...], "exclusive": false, "timeout_s": 600}   -> {"lease": {...}} | {"error": {...}}
    {"op": "release", "lease": 7, "dirty": false, "reason": ""}                  -> {"ok": true}
    {"op": "explain", "guest": "...", "operation": "", "channel_lost": true}     -> {"fault", "reason", "signals"}

The end of a worker's connection returns its leases dirty. Without xdist the same `Broker` is called in
process. Guests are made at the same time, a thread each; requests for a profile wait for its guests only.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wsklab.deadline import Deadline
from wsklab.errors import BootError, LabError, LeaseError, LeaseExpired, LeaseUnavailable
from wsklab.lease_protocol import GuestHandle, GuestProvider, Lease
from wsklab.pytest_plugin.lease_model import PORTS_PER_LEASE, Grant, LeaseModel

__all__ = ["LINE_LIMIT", "Broker", "GuestFailure", "Leases", "Story", "error_document", "receive_line"]

_log = logging.getLogger(__name__)

#: The longest line of the broker's conversation, in bytes; a longer one ends the connection.
LINE_LIMIT = 1 << 18

#: How often the guests of one profile are replaced before the profile is given up.
REPLACEMENTS = 4


class Leases(Protocol):
    """What fixtures use: the broker itself, or the worker's client of it."""

    def acquire(self, profiles: Sequence[str], *, exclusive: bool, deadline: Deadline) -> Lease: ...
    def release(self, lease: Lease, *, dirty: bool, reason: str) -> None: ...
    def explain(self, guest: str, *, operation: str, channel_lost: bool) -> Story: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Story:
    """An explanation as it crosses a process border: `crashed`, `hung` or `lab_error`, why, and the signals."""

    fault: str
    reason: str
    signals: Mapping[str, object]


class GuestFailure:
    """A guest that could not be made.

    Args:
        profile: its profile.
        error: why.
    """

    def __init__(self, profile: str, error: LabError) -> None:
        self.profile = profile
        self.error = error

    @property
    def never_ready(self) -> bool:
        """Whether the guest itself failed to become ready, as against the lab failing to make one."""
        return isinstance(self.error, BootError)


def error_document(error: LabError) -> dict[str, str]:
    """An error as it crosses a process border."""
    return {"class": type(error).__name__, "message": error.message, "why": error.why, "fix": error.fix}


def receive_line(connection: socket.socket, buffer: bytearray) -> bytes | None:
    """The next line without its end; None at end of file, on a broken connection, or when it is too long."""
    while True:
        end = buffer.find(b"\n")
        if end >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            return line
        if len(buffer) > LINE_LIMIT:
            return None
        try:
            piece = connection.recv(65536)
        except OSError:
            return None
        if not piece:
            return None
        buffer.extend(piece)


class Broker:
    """Guests in, leases out. A context manager: entering starts the guests, leaving gives them back.

    Args:
        provider: makes guests.
        profiles: which profiles the run uses.
        each: how many guests of each profile.
        address: path of the UNIX socket for workers; None when there are none.
    """

    def __init__(
        self, provider: GuestProvider, profiles: Sequence[str], *, each: int = 1, address: Path | None = None
    ) -> None:
        self._provider = provider
        self._profiles = tuple(profiles)
        self._each = each
        self._address = address
        self._model = LeaseModel()
        self._change = threading.Condition()
        self._handles: dict[str, GuestHandle] = {}
        self._granted: dict[int, Grant] = {}
        self._coming: dict[str, int] = dict.fromkeys(self._profiles, each)
        self._replacements: dict[str, int] = dict.fromkeys(self._profiles, 0)
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False
        #: every guest that the run had, in the order of readiness
        self.seen: list[GuestHandle] = []
        #: every guest that could not be made
        self.failures: list[GuestFailure] = []

    def __enter__(self) -> Broker:
        if self._address is not None:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener = listener
            self._address.unlink(missing_ok=True)
            listener.bind(str(self._address))
            self._address.chmod(0o600)
            listener.listen(64)
            self._spawn(self._accept, "accept")
        for profile in self._profiles:
            for number in range(self._each):
                self._spawn(functools.partial(self._provide, profile), f"{profile}-{number}")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all conversations and give the guests back; safe to call twice."""
        with self._change:
            if self._closed:
                return
            self._closed = True
            connections = tuple(self._connections)
            self._change.notify_all()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            if self._address is not None:
                self._address.unlink(missing_ok=True)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._provider.close()
        for thread in self._threads:
            thread.join(5.0)

    def acquire(
        self,
        profiles: Sequence[str],
        *,
        exclusive: bool,
        deadline: Deadline,
        owner: str = "main",
        alive: Callable[[], bool] = lambda: True,
    ) -> Lease:
        """Wait for a lease on one guest of each named profile.

        Args:
            owner: who asks; holds one lease at a time.
            alive: asked now and then; when it answers no, the request leaves the queue.

        Raises:
            LeaseUnavailable: a profile has no guest and none is coming; its `why` says why.
            LeaseError: the run is over, or the owner is gone. DeadlineExceeded: nobody gave one back in time.
        """
        with self._change:
            ticket = self._model.request(owner, profiles, exclusive=exclusive)
            try:
                self._pump()
                while ticket not in self._granted:
                    self._check_waiting(profiles, alive)
                    if deadline.expired:
                        raise deadline.exceeded(f"a guest of {', '.join(profiles)}", last="all are leased or not ready")
                    self._change.wait(min(0.2, deadline.remaining_s))
                grant = self._granted.pop(ticket)
                if not alive():
                    self._replace(self._model.release(ticket, dirty=False), "")
                    raise LeaseError("the worker is gone", why="it died just before its request was granted")
                return self._lease(grant)
            except LabError:
                self._model.cancel(ticket)
                self._pump()
                raise

    def release(self, lease: Lease, *, dirty: bool, reason: str) -> None:
        """Give a lease back; a dirty guest is replaced."""
        self._release(lease.id, dirty=dirty, reason=reason)

    def explain(self, guest: str, *, operation: str, channel_lost: bool) -> Story:
        """Ask the provider whose fault it is that a case did not end by itself; never raises for a lost guest."""
        try:
            told = self._provider.explain(guest, operation=operation, channel_lost=channel_lost)
        except LabError as error:
            return Story("lab_error", f"{error.message}: {error.why}", {})
        return Story(str(told.fault), told.reason, dict(told.signals))

    # ---- guests

    def _provide(self, profile: str) -> None:
        self._admit(profile, functools.partial(self._provider.provide, profile))

    def _admit(self, profile: str, make: Callable[[], GuestHandle]) -> None:
        """The body of a guest's thread: make it, offer it; a failure is kept for those who wait for it."""
        try:
            handle = make()
        except LabError as error:
            _log.warning("no guest of %s: %s (%s)", profile, error.message, error.why)
            self._failed(profile, error)
            return
        except Exception as error:  # noqa: BLE001 - a thread top: whatever it is, the waiting cases must be told
            _log.exception("making a guest of %s failed", profile)
            self._failed(profile, LeaseUnavailable(f"making a guest of {profile} failed", why=repr(error)))
            return
        with self._change:
            self._coming[profile] -= 1
            self._handles[handle.name] = handle
            self.seen.append(handle)
            self._model.add_guest(handle.name, profile)
            self._pump()

    def _failed(self, profile: str, error: LabError) -> None:
        with self._change:
            self._coming[profile] -= 1
            self.failures.append(GuestFailure(profile, error))
            self._change.notify_all()

    def _replace(self, names: Sequence[str], reason: str) -> None:
        """Start the replacement of guests that the model has let go; called with the lock held."""
        for name in names:
            handle = self._handles.pop(name)
            if self._closed:
                continue
            if self._replacements[handle.profile] >= REPLACEMENTS:
                self.failures.append(
                    GuestFailure(
                        handle.profile,
                        LeaseUnavailable(
                            f"{handle.profile} was replaced {REPLACEMENTS} times and is given up", why=reason
                        ),
                    )
                )
                continue
            self._replacements[handle.profile] += 1
            self._coming[handle.profile] += 1
            make = functools.partial(self._provider.replace, handle, reason)
            self._spawn(functools.partial(self._admit, handle.profile, make), f"replace-{name}")

    # ---- leases

    def _pump(self) -> None:
        """Grant what can be granted; called with the lock held."""
        for grant in self._model.grant():
            self._granted[grant.ticket] = grant
        self._change.notify_all()

    def _lease(self, grant: Grant) -> Lease:
        return Lease(
            id=grant.ticket,
            owner=grant.owner,
            guests=tuple(self._handles[name] for name in grant.guests),
            exclusive=grant.exclusive,
            first_port=grant.first_port,
            port_count=PORTS_PER_LEASE,
            loopback=grant.loopback,
        )

    def _check_waiting(self, profiles: Sequence[str], alive: Callable[[], bool]) -> None:
        if self._closed:
            raise LeaseError("the run is over", why="the broker was closed while the case waited for a guest")
        if not alive():
            raise LeaseError("the worker is gone")
        for profile in profiles:
            if profile not in self._coming:
                raise LeaseUnavailable(f"the run has no guests of profile {profile}")
            if not self._coming[profile] and not self._has_guest(profile):
                failure = next((one for one in reversed(self.failures) if one.profile == profile), None)
                raise LeaseUnavailable(
                    f"no guest of profile {profile} is left",
                    why=f"{failure.error.message}: {failure.error.why}" if failure else "",
                    fix=failure.error.fix if failure else "",
                )

    def _has_guest(self, profile: str) -> bool:
        return any(handle.profile == profile for handle in self._handles.values())

    def _release(self, lease_id: int, *, dirty: bool, reason: str) -> None:
        with self._change:
            self._replace(self._model.release(lease_id, dirty=dirty), reason)
            self._pump()

    # ---- workers

    def _spawn(self, target: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=target, name=f"broker-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        listener = self._listener
        assert listener is not None
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._change:
                if self._closed:
                    connection.close()
                    return
                self._connections.add(connection)
                owner = f"worker-{len(self._threads)}"
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
            with self._change:
                self._connections.discard(connection)
                for ticket, grant in tuple(self._granted.items()):
                    if grant.owner == owner:
                        del self._granted[ticket]
                self._replace(self._model.drop_owner(owner), f"{owner} died while it held the guest")
                self._pump()
            connection.close()

    def _answer(self, line: bytes, connection: socket.socket, owner: str) -> Mapping[str, object]:
        request = json.loads(line)
        if request["op"] == "acquire":
            lease = self.acquire(
                [str(profile) for profile in request["profiles"]],
                exclusive=bool(request["exclusive"]),
                deadline=Deadline.after(float(request["timeout_s"])),
                owner=owner,
                alive=lambda: _is_open(connection),
            )
            return {"lease": lease.model_dump(mode="json")}
        if request["op"] == "release":
            self._check_owner(int(request["lease"]), owner)
            self._release(int(request["lease"]), dirty=bool(request["dirty"]), reason=str(request["reason"]))
            return {"ok": True}
        if request["op"] == "explain":
            story = self.explain(
                str(request["guest"]),
                operation=str(request["operation"]),
                channel_lost=bool(request["channel_lost"]),
            )
            return {"fault": story.fault, "reason": story.reason, "signals": dict(story.signals)}
        raise LeaseError(f"the broker does not know {str(request['op'])[:40]!r}")

    def _check_owner(self, lease_id: int, owner: str) -> None:
        with self._change:
            if not any(grant.ticket == lease_id and grant.owner == owner for grant in self._model.leases):
                raise LeaseExpired(f"lease {lease_id} does not belong to {owner}")


def _is_open(connection: socket.socket) -> bool:
    """Whether the other side still holds the connection; consumes nothing."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
