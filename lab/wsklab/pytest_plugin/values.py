"""Rules that speak of all values: some of them are drawn, the same ones in every run and on every guest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import TypeVar

__all__ = ["for_all"]

T = TypeVar("T")

#: How many values are drawn; each is a few calls in the guest, and a guest may be an emulated one.
DRAWN = 12


def for_all(edges: Iterable[T], draw: Callable[[Random], T], check: Callable[[T], None]) -> None:
    """Check a statement with values at the edges and with drawn ones; an error names the value that broke it.

    Args:
        edges: values that are tried in any case, and first.
        draw: one more value, by nothing but the random numbers that it is given.
        check: states what holds of one value.
    """
    random = Random(0)  # noqa: S311 - the same values for everybody, no secret
    for value in _values(edges, draw, random):
        try:
            check(value)
        except AssertionError as error:
            error.add_note(f"with the value {value!r:.200}")
            raise


def _values(edges: Iterable[T], draw: Callable[[Random], T], random: Random) -> Iterator[T]:
    yield from edges
    for _ in range(DRAWN):
        yield draw(random)
