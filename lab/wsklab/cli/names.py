"""Names and patterns that the user types, against the names that exist."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from wsklab.errors import UsageError

__all__ = ["check_guest_name", "existing_file", "matching", "one"]

T = TypeVar("T")

# libvirt allows more; but a name is also typed, completed, and used as a host name by ssh.
_GUEST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


def matching(
    things: Iterable[T], patterns: Sequence[str], *, name: Callable[[T], str], what: str, listing: str
) -> list[T]:
    """Every thing whose name fits one of the patterns (`*`, `?`, `[...]`), each once, in the given order.

    Args:
        what: the kind of thing, for the error.
        listing: the command that lists them, for the error.

    Raises:
        UsageError: a pattern fits nothing; a plain name gets the nearest one that exists.
    """
    known = list(things)
    names = [name(thing) for thing in known]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            close = difflib.get_close_matches(pattern, names, n=1, cutoff=0.4)
            raise UsageError(
                f"no {what} is called {pattern!r}",
                why=f"known: {', '.join(names)}" if names else f"there is no {what}",
                fix=f"did you mean {close[0]!r}?" if close else f"`{listing}` shows them",
                evidence={"name": pattern, "nearest": close[0] if close else ""},
            )
    return [thing for thing in known if any(fnmatch.fnmatchcase(name(thing), pattern) for pattern in patterns)]


def one(things: Iterable[T], pattern: str, *, name: Callable[[T], str], what: str, listing: str) -> T:
    """The one thing that fits.

    Raises:
        UsageError: none does, or several do.
    """
    found = matching(things, [pattern], name=name, what=what, listing=listing)
    if len(found) > 1:
        raise UsageError(
            f"{pattern!r} fits {len(found)} {what}s",
            why=", ".join(name(thing) for thing in found),
            fix="name one",
        )
    return found[0]


def check_guest_name(name: str) -> None:
    """Nothing, when a guest may be called so.

    Raises:
        UsageError: it may not.
    """
    if not _GUEST_NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a guest",
            why="a name has 1 to 40 letters, digits, dots, dashes and underscores, and starts with a letter or digit",
            fix="choose another --name",
            evidence={"name": name},
        )


def existing_file(path: Path | None, what: str) -> None:
    """Nothing, when `path` is a file or was not given.

    Args:
        what: what the file should be, for the error.

    Raises:
        UsageError: there is none.
    """
    if path is None or path.is_file():
        return
    why = "it is a folder" if path.is_dir() else "no such file"
    raise UsageError(f"cannot read {path}", why=why, fix=f"name {what}", evidence={"file": str(path)})
