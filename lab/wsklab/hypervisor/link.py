"""The connection to libvirt: bounded calls, one translation of errors, reconnection.

Any libvirt call can block for ever (a guest's monitor that does not answer, a daemon that was stopped),
and no call can be cancelled. So each runs in a thread of its own and the caller waits for a limited time;
after that the state is *unknown*, which is what the error says. The thread ends when libvirt answers.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

import libvirt

from wsklab.errors import DomainGone, HypervisorError
from wsklab.hypervisor import events
from wsklab.hypervisor.bus import EventBus
from wsklab.hypervisor.protocol import DomainEvent, DomainEventKind

__all__ = ["CallTimeoutError", "Link", "code_name", "translate"]

T = TypeVar("T")

# A dead peer is noticed after about 5 s x (3 + 1).
_KEEPALIVE_INTERVAL_S: Final = 5
_KEEPALIVE_COUNT: Final = 3

# Calls that never came back, before new ones are refused at once.
_LOST_CALLS_MAX: Final = 16

_RECONNECT_PAUSE_S: Final = 1.0

# A libvirtd that has just been restarted forgets to tell of a guest that ends while it finds its guests
# again (seen with 9.0.0), so for a while the list is compared with what the events said.
_SETTLE_S: Final = 10.0

_FIXES: Final[Mapping[int, str]] = MappingProxyType(
    {
        libvirt.VIR_ERR_AUTH_FAILED: "add yourself to the group libvirt and log in again",
        libvirt.VIR_ERR_AUTH_UNAVAILABLE: "add yourself to the group libvirt and log in again",
        libvirt.VIR_ERR_AUTH_CANCELLED: "add yourself to the group libvirt and log in again",
        libvirt.VIR_ERR_ACCESS_DENIED: "add yourself to the group libvirt and log in again",
        libvirt.VIR_ERR_NO_CONNECT: "start libvirtd: systemctl start libvirtd",
        libvirt.VIR_ERR_OPERATION_TIMEOUT: "the guest's monitor does not answer: destroy the guest",
        libvirt.VIR_ERR_NO_MEMORY: "free memory on this host",
        libvirt.VIR_ERR_AGENT_UNRESPONSIVE: "the guest agent does not run in the guest (yet)",
        libvirt.VIR_ERR_AGENT_UNSYNCED: "the guest agent is out of step: try again",
        libvirt.VIR_ERR_DOM_EXIST: "choose another name, or remove the domain that has it",
        libvirt.VIR_ERR_NO_DOMAIN: "`wsklab list` shows the guests that there are",
    }
)


class CallTimeoutError(HypervisorError):
    """A call did not come back in time; whether it took effect is not known."""


@functools.cache
def _code_names() -> Mapping[int, str]:
    names = {value: name for name, value in vars(libvirt).items() if name.startswith("VIR_ERR_") and _is_code(name)}
    return MappingProxyType(names)


def _is_code(name: str) -> bool:
    # VIR_ERR_NONE, _WARNING, _ERROR are levels and share their numbers with codes
    return name not in {"VIR_ERR_NONE", "VIR_ERR_WARNING", "VIR_ERR_ERROR"}


def code_name(code: int) -> str:
    """libvirt's name of an error code, or `VIR_ERR_<number>` for one that is newer than the library."""
    return _code_names().get(code, f"VIR_ERR_{code}")


def translate(error: libvirt.libvirtError, operation: str, domain: str = "") -> HypervisorError:
    """Our error for libvirt's: the one place where they meet.

    Args:
        error: what libvirt raised.
        operation: what was attempted, e.g. "start".
        domain: name or UUID of what it was attempted on.
    """
    code = error.get_error_code()
    reason = error.get_error_message() or str(error)
    fix = _FIXES.get(code, "")
    if code == libvirt.VIR_ERR_SYSTEM_ERROR and "libvirt-sock" in reason:
        denied = "Permission denied" in reason
        fix = _FIXES[libvirt.VIR_ERR_AUTH_FAILED if denied else libvirt.VIR_ERR_NO_CONNECT]
    gone = code == libvirt.VIR_ERR_NO_DOMAIN
    return (DomainGone if gone else HypervisorError)(
        f"cannot {operation} {domain}".rstrip(),
        why=f"it was removed meanwhile ({reason})" if gone else reason,
        fix=fix,
        evidence={"operation": operation, "domain": domain, "code": None if code is None else code_name(code)},
    )


class Link:
    """One libvirt connection that mends itself.

    Args:
        uri: libvirt's connection URI.
        call_timeout_s: how long a call may take, in seconds.
    """

    def __init__(self, uri: str, call_timeout_s: float) -> None:
        self.uri = uri
        self._timeout_s = call_timeout_s
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._connection: Any = None
        self._callbacks: list[int] = []
        self._closed = False
        self._lost_calls = 0
        self._next_try = 0.0
        self._settle_until = 0.0
        self._active: dict[str, bool] = {}
        self._told: set[tuple[str, DomainEventKind]] = set()
        self.bus = EventBus(self._look)
        self._connect()

    def call(
        self,
        operation: str,
        action: Callable[[Any], T],
        *,
        domain: str = "",
        accept: Mapping[int, T] | None = None,
        timeout_s: float | None = None,
    ) -> T:
        """Run `action(connection)` with a time limit.

        Args:
            operation: what it is, for the error.
            action: a few libvirt calls; it runs in another thread.
            domain: what it is done to, for the error.
            accept: error codes that are an answer, with the answer.
            timeout_s: another limit than the link's.

        Raises:
            CallTimeoutError: no answer in time. HypervisorError: libvirt refused.
        """
        connection = self._usable(operation)
        try:
            return self._bounded(operation, lambda: action(connection), domain, timeout_s)
        except libvirt.libvirtError as error:
            code = error.get_error_code()
            if accept is not None and code in accept:
                return accept[code]
            if not self._is_alive(connection):
                self._on_lost(connection, str(error))
            raise translate(error, operation, domain) from error

    def close(self) -> None:
        """Close the connection and end the subscriptions."""
        with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
        self.bus.close()
        if connection is not None and os.getpid() == self._pid:
            try:
                self._bounded("close the connection", lambda: self._shut(connection), "", None)
            except (libvirt.libvirtError, CallTimeoutError):
                return  # the daemon is gone or deaf: nothing is left to close

    def _shut(self, connection: Any) -> None:
        events.unregister(connection, self._callbacks)
        try:
            connection.unregisterCloseCallback()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                raise
        finally:
            connection.close()

    def _usable(self, operation: str) -> Any:
        if os.getpid() != self._pid:
            raise HypervisorError(
                f"cannot {operation}", why="this process was forked from the one that opened the connection"
            )
        if self._lost_calls >= _LOST_CALLS_MAX:
            raise CallTimeoutError(
                f"cannot {operation}",
                why=f"{self._lost_calls} earlier calls to libvirt never came back",
                fix="restart libvirtd",
            )
        with self._lock:
            if self._closed:
                raise HypervisorError(f"cannot {operation}", why="the connection was closed")
            if self._connection is None:
                self._connect()
            return self._connection

    def _connect(self) -> None:
        """Open, register everything, then read what is there (in this order: nothing falls between)."""
        events.event_loop()
        try:
            connection = self._bounded("connect to libvirt", lambda: libvirt.open(self.uri), self.uri, None)
            callbacks, active = self._bounded("watch libvirt", lambda: self._watch(connection), self.uri, None)
        except libvirt.libvirtError as error:
            raise translate(error, "connect to libvirt at", self.uri) from error
        again = bool(self._callbacks)
        with self._lock:
            self._connection = connection
            self._callbacks = callbacks
        self._tell_changes(dict(self._active), active)
        if again:
            self._settle_until = time.monotonic() + _SETTLE_S

    def _watch(self, connection: Any) -> tuple[list[int], dict[str, bool]]:
        try:
            connection.setKeepAlive(_KEEPALIVE_INTERVAL_S, _KEEPALIVE_COUNT)
            connection.registerCloseCallback(lambda lost, why, _: self._on_lost(lost, f"reason {why}"), None)
        except libvirt.libvirtError as error:
            # a driver inside this process (test:///) has no peer that could be lost
            if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                raise
        callbacks = events.register(connection, self._on_event)
        return callbacks, _who_runs(connection)

    def _on_event(self, event: DomainEvent) -> None:
        """In the event thread: note who runs, pass on; nothing is told twice."""
        if event.kind is DomainEventKind.STARTED:
            self._active[event.domain] = True
            self._told.discard((event.domain, DomainEventKind.STOPPED))
        elif event.kind in {DomainEventKind.STOPPED, DomainEventKind.CRASHED}:
            self._active[event.domain] = False
            if (event.domain, DomainEventKind.STOPPED) in self._told:
                self._told.discard((event.domain, DomainEventKind.STOPPED))
                return
        elif event.kind is DomainEventKind.UNDEFINED:
            self._active.pop(event.domain, None)
            if (event.domain, DomainEventKind.UNDEFINED) in self._told:
                self._told.discard((event.domain, DomainEventKind.UNDEFINED))
                return
        self.bus.publish(event)

    def _tell_changes(self, before: Mapping[str, bool], now: Mapping[str, bool]) -> None:
        """Publish what no event told: domains that ran before and do not run now.

        Args:
            before: who ran, as far as events told, when `now` was asked for.
            now: who runs, as libvirt says.
        """
        for uuid, active in now.items():
            self._active.setdefault(uuid, active)
        for uuid, was_active in before.items():
            if was_active and not now.get(uuid, False) and self._active.get(uuid, False):
                self._active[uuid] = False
                self._told.add((uuid, DomainEventKind.STOPPED))
                self.bus.publish(_found(DomainEventKind.STOPPED, uuid))
            if uuid not in now and self._active.pop(uuid, None) is not None:
                self._told.add((uuid, DomainEventKind.UNDEFINED))
                self.bus.publish(_found(DomainEventKind.UNDEFINED, uuid))

    def _on_lost(self, connection: Any, reason: str) -> None:
        """The connection is dead: say so once; whoever needs it next opens another."""
        with self._lock:
            if self._closed or self._connection is None or connection is not self._connection:
                return
            self._connection = None
            self._next_try = time.monotonic() + _RECONNECT_PAUSE_S
        self.bus.publish(
            DomainEvent(kind=DomainEventKind.CONNECTION_LOST, domain="", detail=reason, at=time.monotonic())
        )

    def _look(self) -> None:
        """Called by waiting subscribers: reconnect, so that they do not wait for ever."""
        with self._lock:
            if self._closed or time.monotonic() < self._next_try:
                return
            self._next_try = time.monotonic() + _RECONNECT_PAUSE_S
            connection = self._connection
            try:
                if connection is None:
                    self._connect()
                elif time.monotonic() < self._settle_until:
                    before = dict(self._active)
                    self._tell_changes(before, self._bounded("list", lambda: _who_runs(connection), self.uri, None))
            except (HypervisorError, libvirt.libvirtError):
                return  # not there yet: the next look tries again

    def _is_alive(self, connection: Any) -> bool:
        try:
            return bool(connection.isAlive())
        except libvirt.libvirtError:
            return False

    def _bounded(self, operation: str, action: Callable[[], T], domain: str, timeout_s: float | None) -> T:
        limit = self._timeout_s if timeout_s is None else timeout_s
        call = _Call(action)
        thread = threading.Thread(target=call.run, name=f"wsklab-libvirt {operation}", daemon=True)
        thread.start()
        if not call.done.wait(limit) and call.abandon(self._came_back):
            self._lost_calls += 1
            raise CallTimeoutError(
                f"cannot {operation} {domain}".rstrip(),
                why=f"libvirt did not answer within {limit:.0f} s; whether it happened is unknown",
                fix="look at libvirtd's log; restarting libvirtd does not stop guests",
                evidence={"operation": operation, "domain": domain, "code": None},
            )
        if call.error is not None:
            raise call.error
        return call.values[0]  # type: ignore[no-any-return]  # the list has what `action` returned

    def _came_back(self) -> None:
        self._lost_calls -= 1


class _Call:
    """One call in a thread of its own."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self._action = action
        self._lock = threading.Lock()
        self._late: Callable[[], None] | None = None
        self.done = threading.Event()
        self.values: list[Any] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.values.append(self._action())
        except BaseException as error:  # noqa: BLE001 - the top of a thread: handed to the caller, which raises it
            self.error = error
        with self._lock:
            self.done.set()
            if self._late is not None:
                self._late()

    def abandon(self, late: Callable[[], None]) -> bool:
        """Give up waiting; `late` is called if it ends after all. False when it has just ended."""
        with self._lock:
            if self.done.is_set():
                return False
            self._late = late
            return True


def _who_runs(connection: Any) -> dict[str, bool]:
    active = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    known = {domain.UUIDString(): False for domain in connection.listAllDomains(0)}
    return known | {domain.UUIDString(): True for domain in active}


def _found(kind: DomainEventKind, uuid: str) -> DomainEvent:
    return DomainEvent(kind=kind, domain=uuid, detail="seen after the connection came back", at=time.monotonic())
