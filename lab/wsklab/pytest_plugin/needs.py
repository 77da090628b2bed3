"""What the marks of a case say: its rules, its guests, what is done to them first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import pytest

from wsklab.errors import UsageError
from wsklab.lease_protocol import Reset
from wsklab.pytest_plugin.options import RunOptions
from wsklab.pytest_plugin.schedule import Need
from wsklab.rules import Catalogue

__all__ = ["alone_on_a_fresh_guest", "is_chosen", "lacks", "need_of", "profile_of", "profiles_for", "rules_of"]

#: No case needs more; a slip must not ask for a thousand.
_MOST_GUESTS = 16


def profile_of(item: pytest.Item) -> str:
    """The guest profile that an item was made for; "" for one without a guest."""
    callspec = getattr(item, "callspec", None)
    return str(callspec.params.get("guest", "")) if callspec is not None else ""


def profiles_for(item: pytest.Item, options: RunOptions) -> list[str]:
    """The profiles that a case is repeated for: all of the run; one, when it names the profiles of its guests."""
    names = [profile.name for profile in options.profiles]
    named = _named(item)
    if not named:
        return names
    # where the run has none of them the case is left out, with the reason, under the run's first profile
    return [name for name in named if name in names][:1] or names[:1]


def rules_of(item: pytest.Item, catalogue: Catalogue, *, foreign: bool = False) -> tuple[str, ...]:
    """The rules that a case names; a case that measures, or is about a driver that is not ours, need not.

    Raises:
        UsageError: none, or one that the catalogue does not have.
    """
    named = [str(rule_id) for mark in item.iter_markers("rule") for rule_id in mark.args]
    if not named and not foreign and item.get_closest_marker("performance") is None:
        raise UsageError(f"{item.nodeid} names no rule", fix='add @pytest.mark.rule("WSK-...")')
    return tuple(dict.fromkeys(catalogue.get(rule_id).id for rule_id in named))


def need_of(item: pytest.Item) -> Need:
    """What an item needs.

    Raises:
        UsageError: a mark that means nothing.
    """
    profile = profile_of(item)
    if not profile:
        return Need(item=item.nodeid)
    count = _count(item)
    need = Need(
        item=item.nodeid,
        profiles=_named(item) or (profile,) * count,
        exclusive=item.get_closest_marker("exclusive") is not None,
        reset=_reset(item),
    )
    # what can crash a guest, or leave it as nobody knows it, happens once in the guest's life
    return alone_on_a_fresh_guest(need) if item.get_closest_marker("hazard") is not None else need


def is_chosen(case: str, names: Sequence[str]) -> bool:
    """Whether a case is among those that were named; `*` in a name stands for anything, nothing else does."""
    return any(re.fullmatch(".*".join(map(re.escape, name.split("*"))), case) for name in names)


def alone_on_a_fresh_guest(need: Need) -> Need:
    """The need of a second attempt: nothing that another case did can explain its outcome."""
    reset = need.reset if need.reset.makes_guest else Reset.FORK
    return need.model_copy(update={"exclusive": True, "reset": reset})


def lacks(need: Need, options: RunOptions) -> str:
    """What the run does not have for an item, in words; "" when it has everything."""
    known = {profile.name for profile in options.profiles}
    missing = [profile for profile in dict.fromkeys(need.profiles) if profile not in known]
    if missing:
        return f"it needs guests of {' and '.join(missing)}, which this run does not have"
    for profile, most in Counter(need.profiles).items():
        if profile in options.machines and most > 1:
            return f"it needs {most} guests of {profile}, which is one static machine"
    most = max(Counter(need.profiles).values(), default=0)
    if most > options.each:
        return f"it needs {most} guests of {need.profile}: --guests-each {most}"
    return ""


def _reset(item: pytest.Item) -> Reset:
    mark = item.get_closest_marker("reset")
    if mark is None:
        return Reset.NONE
    try:
        (word,) = mark.args
        return Reset(word)
    except ValueError:
        known = ", ".join(Reset)
        raise UsageError(f"{item.nodeid}: reset{mark.args} is no rung of the ladder", fix=f"one of {known}") from None


def _named(item: pytest.Item) -> tuple[str, ...]:
    mark = item.get_closest_marker("lab_guests")
    return tuple(mark.args) if mark is not None and all(isinstance(word, str) for word in mark.args) else ()


def _count(item: pytest.Item) -> int:
    mark = item.get_closest_marker("lab_guests")
    if mark is None:
        return 1
    words = mark.args
    if _named(item):
        return len(words)
    if len(words) != 1 or not isinstance(words[0], int) or not 1 <= words[0] <= _MOST_GUESTS:
        raise UsageError(
            f"{item.nodeid}: lab_guests{words} says neither how many guests nor which",
            fix=f'lab_guests(2), at most {_MOST_GUESTS}, or lab_guests("profile", "profile")',
        )
    return words[0]
