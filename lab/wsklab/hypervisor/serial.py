"""A guest's serial port as a socket: libvirt's stream on one side, an ordinary socket on the other.

libvirt carries the bytes, so this works for every user whom it lets in and for a libvirt on another host; no
path of a pseudo-terminal, which exists only where QEMU runs, is ever opened.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

import libvirt

__all__ = ["carry"]

_CHUNK: Final = 16384

# What `recv` and `send` of a stream that does not block answer when they would have to wait.
_WOULD_BLOCK: Final = -2


def carry(stream: Any) -> socket.socket:
    """A socket whose bytes go through a non-blocking libvirt stream; closing it ends the stream, and the reverse.

    Args:
        stream: opened already (`virDomainOpenConsole`); libvirt's event loop must run.
    """
    ours, theirs = socket.socketpair()
    _Carrier(stream, ours).start()
    return theirs


class _Carrier:
    """Two threads, one for each direction. libvirt's event thread only wakes them."""

    def __init__(self, stream: Any, ours: socket.socket) -> None:
        self._stream = stream
        self._ours = ours
        self._changed = threading.Condition()
        self._ready = 0
        self._awaited = 0
        self._ended = False

    def start(self) -> None:
        self._stream.eventAddCallback(0, self._on_event, None)
        for name, work in (("in", self._from_guest), ("out", self._to_guest)):
            threading.Thread(target=self._work, args=(work,), name=f"wsklab-serial-{name}", daemon=True).start()

    def _on_event(self, _stream: Any, events: int, _opaque: object) -> None:
        """In libvirt's event thread. What is ready is not asked for again before somebody has used it."""
        with self._changed:
            self._ready |= events
            self._ask(self._awaited & ~events)
            self._changed.notify_all()

    def _ask(self, events: int) -> None:
        """Be told of these events; the lock is held."""
        self._awaited = events
        with contextlib.suppress(libvirt.libvirtError):  # the stream has just ended: the threads find out
            self._stream.eventUpdateCallback(events)

    def _wait_for(self, event: int) -> None:
        """Return when the event has come, or the stream has ended."""
        hangup = libvirt.VIR_STREAM_EVENT_ERROR | libvirt.VIR_STREAM_EVENT_HANGUP
        with self._changed:
            self._ready &= ~event
            self._ask(self._awaited | event | hangup)
            self._changed.wait_for(lambda: self._ended or self._ready & (event | hangup))

    def _work(self, direction: Callable[[], None]) -> None:
        """One direction, to its end; then the other one ends, too."""
        with contextlib.suppress(OSError, libvirt.libvirtError):
            direction()
        with self._changed:
            first, self._ended = not self._ended, True
            self._changed.notify_all()
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        if first:
            with contextlib.suppress(libvirt.libvirtError):
                self._stream.eventRemoveCallback()
            with contextlib.suppress(libvirt.libvirtError):
                self._stream.abort()
        else:
            self._ours.close()

    def _from_guest(self) -> None:
        while not self._ended:
            data = self._stream.recv(_CHUNK)
            if data == _WOULD_BLOCK:
                self._wait_for(libvirt.VIR_STREAM_EVENT_READABLE)
            elif data:
                self._ours.sendall(data)
            else:
                return

    def _to_guest(self) -> None:
        while not self._ended:
            data = self._ours.recv(_CHUNK)
            if not data:
                return
            while data and not self._ended:
                sent = self._stream.send(data)
                if sent == _WOULD_BLOCK:
                    self._wait_for(libvirt.VIR_STREAM_EVENT_WRITABLE)
                else:
                    data = data[sent:]
