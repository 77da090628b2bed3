"""A client's ring of events, decoded: calls, completions, and what WSK's event callbacks said and got as answer."""

from __future__ import annotations

from dataclasses import dataclass

from wsklab import abi
from wsklab.abi import Action, Callback, EventKind, Note
from wsklab.decoding import SocketAddress, enumerated, items

__all__ = ["Event", "EventBatch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One entry of a client's ring; from `callback` on about callbacks, 0 or None in other events.

    Attributes:
        value: completions: their count; cancels: the outcome; the exit of a callback: the sequence of its enter;
            one datagram: its place in the list.
        action: what was answered in the end.
        context: the context that WSK delivered.
        length: indicated bytes; the ideal size of a send backlog; InformationLength of a client event.
        accepted: *BytesAccepted as the callback left it.
        digest: `abi.digest` of the indicated bytes.
        listed: the sum of the lengths in the indication's list.
        flags: the Flags argument; EventType of a client event.
        buffers: entries of the indication's list.
        object: the object that a kept indication became; the number of an inspection (inspect and abort).
        new_socket: the number of the accepted socket.
    """

    sequence: int
    time_ns: int
    thread: int
    value: int
    kind: EventKind
    op_id: int
    socket: int
    status: int
    irql: int
    function: int
    callback: Callback = Callback.NONE
    action: Action = Action.DEFAULT
    notes: Note = Note(0)
    context: int = 0
    length: int = 0
    accepted: int = 0
    digest: int = 0
    listed: int = 0
    flags: int = 0
    buffers: int = 0
    object: int = 0
    new_socket: int = 0
    control_length: int = 0
    control_digest: int = 0
    local: SocketAddress | None = None
    remote: SocketAddress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventBatch:
    """Events in order of their sequence numbers; `dropped` counts since the handle was opened."""

    events: tuple[Event, ...]
    remaining: int
    dropped: int

    @classmethod
    def decode(cls, answer: bytes) -> EventBatch:
        """From the answer of EVENTS."""
        head = abi.EVENTS_RESULT.unpack(answer)
        events = []
        for raw in items(abi.EVENT, answer, abi.EVENTS_RESULT.size, head["count"]):
            del raw["reserved"]
            for name, kind in (("kind", EventKind), ("callback", Callback), ("action", Action), ("notes", Note)):
                raw[name] = enumerated(kind, raw[name], f"event.{name}")
            raw["status"] &= 0xFFFFFFFF
            raw["local"] = SocketAddress.from_slot(raw["local"])
            raw["remote"] = SocketAddress.from_slot(raw["remote"])
            events.append(Event(**raw))
        # Two processors may put theirs into the ring in the other order.
        events.sort(key=lambda event: event.sequence)
        return cls(events=tuple(events), remaining=head["remaining"], dropped=head["dropped"])

    def callbacks(self, callback: Callback, socket: int | None = None) -> tuple[Event, ...]:
        """The enters of one callback (of one socket): what WSK said."""
        return tuple(
            event
            for event in self.events
            if event.kind is EventKind.CALLBACK_ENTER and event.callback is callback and socket in (None, event.socket)
        )

    def exit_of(self, enter: Event) -> Event | None:
        """What was answered to a callback; None when its exit is not in this batch."""
        for event in self.events:
            if event.kind is EventKind.CALLBACK_EXIT and event.value == enter.sequence:
                return event
        return None

    def datagrams(self, enter: Event) -> tuple[Event, ...]:
        """The datagrams of one receive-from callback, in the order of its list."""
        end = self.exit_of(enter)
        last = end.sequence if end is not None else 1 << 64
        return tuple(
            event
            for event in self.events
            if event.kind is EventKind.DATAGRAM
            and event.socket == enter.socket
            and event.thread == enter.thread
            and enter.sequence < event.sequence < last
        )
