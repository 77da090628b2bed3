"""Points in time and spans in words, for people."""

from __future__ import annotations

from datetime import datetime, timedelta

__all__ = ["moment", "span", "until"]


def span(length: timedelta) -> str:
    """`45 s`, `12 min`, `3 h 59 min`, `2 d 3 h`: two units at most, rounded down; nothing is below `0 s`."""
    seconds = max(0, int(length.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def moment(text: str, *, now: datetime) -> str:
    """An RFC 3339 time in the zone of `now`, without the date when that is today's; other text as it is."""
    try:
        point = datetime.fromisoformat(text).astimezone(now.tzinfo)
    except ValueError:
        return text
    return point.strftime("%H:%M" if point.date() == now.date() else "%Y-%m-%d %H:%M")


def until(text: str, *, now: datetime) -> str:
    """`18:04 (in 3 h 59 min)`, or `18:04 (over)` for an RFC 3339 time that has passed; other text as it is."""
    try:
        left = datetime.fromisoformat(text) - now
    except ValueError:
        return text
    return f"{moment(text, now=now)} ({'in ' + span(left) if left > timedelta(0) else 'over'})"
