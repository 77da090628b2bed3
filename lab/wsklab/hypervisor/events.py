"""libvirt's events: one thread that pumps them, and what they mean.

libvirt's event loop is one per process and must be registered before the first connection is opened;
a connection that is opened earlier never hears anything, without any error. So `event_loop` is asked
for by the connection itself, and nobody else opens one.
"""

from __future__ import annotations

import atexit
import functools
import logging
import threading
import time
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

import libvirt

from wsklab.hypervisor.protocol import DomainEvent, DomainEventKind

__all__ = ["event_loop", "lifecycle_event", "register", "unregister"]

_log = logging.getLogger(__name__)

# The loop wakes at least this often, so that it survives a wake-up that was lost.
_HEARTBEAT_MS: Final = 500

Sink = Callable[[DomainEvent], None]


class EventLoop:
    """The thread that runs libvirt's default event loop for this process, until the interpreter ends.

    It must not outlive the interpreter: a heartbeat that calls into Python while that is being taken down can end
    the process by SIGSEGV, with its work done and its exit code lost.
    """

    def __init__(self) -> None:
        libvirt.registerErrorHandler(_note_error, None)
        libvirt.virEventRegisterDefaultImpl()
        self._timer = libvirt.virEventAddTimeout(_HEARTBEAT_MS, lambda _timer, _opaque: None, None)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._pump, name="wsklab-libvirt-events", daemon=True)
        self._thread.start()
        atexit.register(self.stop)

    def stop(self) -> None:
        """End the thread; libvirt is deaf afterwards."""
        self._over.set()
        libvirt.virEventUpdateTimeout(self._timer, 0)
        self._thread.join(2.0)

    def _pump(self) -> None:
        while not self._over.is_set():
            try:
                libvirt.virEventRunDefaultImpl()
            except libvirt.libvirtError as error:
                # one failed turn (a descriptor that was closed meanwhile) must not make the process deaf
                _log.warning("libvirt's event loop: %s", error)

    @property
    def alive(self) -> bool:
        """Whether it still pumps; without it no event and no keepalive arrives."""
        return self._thread.is_alive()


@functools.cache
def event_loop() -> EventLoop:
    """The process's event loop; started by the first call. libvirt has no second one and no way back."""
    return EventLoop()


_LIFECYCLE: Final = MappingProxyType(
    {
        libvirt.VIR_DOMAIN_EVENT_UNDEFINED: DomainEventKind.UNDEFINED,
        libvirt.VIR_DOMAIN_EVENT_STARTED: DomainEventKind.STARTED,
        libvirt.VIR_DOMAIN_EVENT_SUSPENDED: DomainEventKind.SUSPENDED,
        libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: DomainEventKind.SUSPENDED,
        libvirt.VIR_DOMAIN_EVENT_RESUMED: DomainEventKind.RESUMED,
        libvirt.VIR_DOMAIN_EVENT_STOPPED: DomainEventKind.STOPPED,
        libvirt.VIR_DOMAIN_EVENT_CRASHED: DomainEventKind.PANICKED,
    }
)

_DETAILS: Final = MappingProxyType(
    {
        libvirt.VIR_DOMAIN_EVENT_UNDEFINED: ("removed", "renamed"),
        libvirt.VIR_DOMAIN_EVENT_STARTED: ("booted", "migrated", "restored", "from snapshot", "wake-up"),
        libvirt.VIR_DOMAIN_EVENT_SUSPENDED: (
            "paused",
            "migrated",
            "I/O error",
            "watchdog",
            "restored",
            "from snapshot",
            "API error",
        ),
        libvirt.VIR_DOMAIN_EVENT_RESUMED: ("unpaused", "migrated", "from snapshot"),
        libvirt.VIR_DOMAIN_EVENT_STOPPED: (
            "shutdown",
            "destroyed",
            "crashed",
            "migrated",
            "saved",
            "failed",
            "from snapshot",
        ),
        libvirt.VIR_DOMAIN_EVENT_CRASHED: ("panicked", "crash-loaded"),
    }
)

# "crashed" and "failed": the hypervisor process went away by itself.
_STOPPED_BY_ITSELF: Final = (libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED, libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED)


def lifecycle_event(uuid: str, event: int, detail: int) -> DomainEvent | None:
    """Our event for one of libvirt's lifecycle events; None for those that say nothing to the lab.

    STOPPED is a power-off that somebody asked for; CRASHED is a hypervisor process that ended by itself;
    PANICKED is the guest's own kernel, reported by its panic device.
    """
    kind = _LIFECYCLE.get(event)
    if kind is None:
        return None
    if event == libvirt.VIR_DOMAIN_EVENT_STOPPED and detail in _STOPPED_BY_ITSELF:
        kind = DomainEventKind.CRASHED
    words = _DETAILS.get(event, ())
    return _event(kind, uuid, words[detail] if 0 <= detail < len(words) else f"detail {detail}")


def register(connection: Any, sink: Sink) -> list[int]:
    """Subscribe a connection to every event that the lab reacts to; the callbacks' ids."""

    def lifecycle(_conn: Any, domain: Any, event: int, detail: int, _opaque: Any) -> None:
        made = lifecycle_event(domain.UUIDString(), event, detail)
        if made is not None:
            sink(made)

    def reboot(_conn: Any, domain: Any, _opaque: Any) -> None:
        sink(_event(DomainEventKind.REBOOTED, domain.UUIDString(), ""))

    def io_error(  # the signature is libvirt's
        _conn: Any, domain: Any, path: str, device: str, action: int, reason: str, _opaque: Any
    ) -> None:
        detail = f"{device} {path}: {reason or 'error'}, action {action}"
        sink(_event(DomainEventKind.IO_ERROR, domain.UUIDString(), detail))

    def agent(_conn: Any, domain: Any, state: int, _reason: int, _opaque: Any) -> None:
        connected = state == libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED
        sink(_event(DomainEventKind.AGENT, domain.UUIDString(), "connected" if connected else "disconnected"))

    wanted = (
        (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle),
        (libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, reboot),
        (libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, io_error),
        (libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, agent),
    )
    return [connection.domainEventRegisterAny(None, number, callback, None) for number, callback in wanted]


def unregister(connection: Any, callbacks: list[int]) -> None:
    """Undo `register`; a connection that is dead already has forgotten them itself."""
    for number in callbacks:
        try:
            connection.domainEventDeregisterAny(number)
        except libvirt.libvirtError:
            return


def _event(kind: DomainEventKind, uuid: str, detail: str) -> DomainEvent:
    return DomainEvent(kind=kind, domain=uuid, detail=detail, at=time.monotonic())


def _note_error(_context: object, error: tuple[Any, ...]) -> None:
    """libvirt would print each error to standard error; every one comes as an exception anyway."""
    _log.debug("libvirt: %s", error)
