"""What the lab reads, wrong on purpose: every field of a record and of an event dropped, sequence numbers exchanged.

Made from the fields of the two classes, so that a new field has its mutant at once. A field whose loss no case notices
is one that no case looks at.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, replace
from typing import Any, TypeVar

from mutant_runs import Mutant

from wsklab.pytest_plugin.observed import ObservedClient
from wsklab.records import Event, EventBatch, Record

__all__ = ["generated"]

T = TypeVar("T", Record, Event)

#: Neighbours in time: a judge that does not look at the order takes one for the other.
_EXCHANGED = (
    ("enter_sequence", "return_sequence"),
    ("return_sequence", "completion_sequence"),
    ("enter_sequence", "completion_sequence"),
    ("returned_status", "completion_status"),
    ("call_irql", "completion_irql"),
    ("call_thread", "completion_thread"),
    ("local", "remote"),
)


def generated() -> list[Mutant]:
    """All of them."""
    return [
        *(
            Mutant(name=f"record/{one.name}-dropped", change=_on_records(_without(one)))
            for one in fields(Record)
            if one.name != "op_id"  # nothing can be found without it
        ),
        *(
            Mutant(name=f"record/{first}-{second}-exchanged", change=_on_records(_exchange(first, second)))
            for first, second in _EXCHANGED
        ),
        *(Mutant(name=f"event/{one.name}-dropped", change=_on_events(_without(one))) for one in fields(Event)),
        Mutant(name="event/last-dropped", change=_on_batches(lambda events: events[:-1])),
        Mutant(name="event/order-reversed", change=_on_batches(_reversed)),
    ]


def _without(one: Field[Any]) -> Callable[[T], T]:
    def change(value: T) -> T:
        return replace(value, **{one.name: _nothing(getattr(value, one.name), one)})

    return change


def _nothing(value: Any, one: Field[Any]) -> Any:
    """What stands in a field that nobody filled."""
    if one.default is not MISSING:
        return one.default
    if isinstance(value, enum.Flag):
        return type(value)(0)
    if isinstance(value, enum.Enum):
        return next(iter(type(value)))
    return None if value is None or not isinstance(value, int | bytes | str) else type(value)()


def _exchange(first: str, second: str) -> Callable[[Record], Record]:
    def change(record: Record) -> Record:
        return replace(record, **{first: getattr(record, second), second: getattr(record, first)})

    return change


def _reversed(events: tuple[Event, ...]) -> tuple[Event, ...]:
    numbers = sorted((event.sequence for event in events), reverse=True)
    return tuple(replace(event, sequence=number) for event, number in zip(events, numbers, strict=True))


def _on_records(change: Callable[[Record], Record]) -> Callable[[], None]:
    def switch_on() -> None:
        see = ObservedClient._see
        ObservedClient._see = lambda self, record: see(self, change(record))  # type: ignore[method-assign]

    return switch_on


def _on_events(change: Callable[[Event], Event]) -> Callable[[], None]:
    return _on_batches(lambda events: tuple(change(event) for event in events))


def _on_batches(change: Callable[[tuple[Event, ...]], tuple[Event, ...]]) -> Callable[[], None]:
    def switch_on() -> None:
        from wsklab.channel.operations import WskClient

        read = WskClient.events

        def changed(self: WskClient, deadline: Any = None) -> EventBatch:
            batch = read(self, deadline)
            return replace(batch, events=change(batch.events))

        WskClient.events = changed  # type: ignore[method-assign]

    return switch_on
