"""Restarting a Windows guest on purpose, and knowing that it was restarted: by the boot that answers, not by a port.

The SSH server of a Windows answers for seconds after `shutdown`; only another boot identity is a restart (project's
fact sheet, d.5).
"""

from __future__ import annotations

import json
from typing import Final, Protocol

from wsklab.channel.protocol import Channel
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import BootError, ChannelLost, ChannelProtocolError, DeadlineExceeded, GuestCommandError, LabError

__all__ = ["OpensChannels", "boot_time", "is_same_boot", "restart_guest", "wait_for_another_boot"]

_HELLO: Final = r"C:\wsklab\wskctl.exe hello"
_SHUTDOWN: Final = "shutdown.exe /r /t 0 /f"
_ASK_S: Final = 10.0
#: Boots whose times differ by less are one: a clock that was set moves the time of the boot a little (100 ns).
_SAME: Final = 10_000_000


class OpensChannels(Protocol):
    """A guest, as far as a restart needs it: `Guest`, or a machine that only has an address."""

    @property
    def name(self) -> str: ...
    def open_channel(self, deadline: Deadline) -> Channel: ...


def boot_time(channel: Channel, deadline: Deadline) -> int:
    """When the guest booted, in 100 ns since 1601: its boot identity.

    Raises:
        ChannelProtocolError: `wskctl` says something else. GuestCommandError: there is no `wskctl`.
    """
    said = channel.run(_HELLO, deadline).stdout
    try:
        number = json.loads(said)["boot_time"]
    except (ValueError, KeyError, TypeError) as error:
        raise ChannelProtocolError("wskctl does not say when the guest booted", why=said.strip()[:200]) from error
    if not isinstance(number, int):
        raise ChannelProtocolError("wskctl does not say when the guest booted", why=f"boot_time is {number!r}")
    return number


def is_same_boot(one: int, other: int) -> bool:
    """Whether two answers of `boot_time` mean the same boot."""
    return abs(one - other) <= _SAME


def restart_guest(guest: OpensChannels, deadline: Deadline, *, command: str = _SHUTDOWN) -> None:
    """Restart, and wait until another boot answers. Channels that were open are dead afterwards.

    Args:
        command: what asks for the restart.

    Raises:
        BootError: no other boot answers in time; says whether the old one still does.
    """
    with guest.open_channel(deadline) as channel:
        before = boot_time(channel, deadline.sooner(_ASK_S))
        try:
            channel.run(command, deadline.sooner(_ASK_S))
        except (ChannelLost, DeadlineExceeded):
            pass  # it went down faster than it answered
        except GuestCommandError as error:
            raise BootError(
                f"guest {guest.name} does not restart", why=error.why, fix="is the login an administrator?"
            ) from error

    wait_for_another_boot(
        guest, before, deadline, after="a restart", fix="look at its screen: a driver that crashes at start can stop it"
    )


def wait_for_another_boot(
    guest: OpensChannels, before: int | None, deadline: Deadline, *, after: str, fix: str
) -> None:
    """Wait until a boot answers that is not `before`; None: nobody knows which it was, so any counts.

    Args:
        after: what should have made it boot, and `fix`: what to do when it did not; both for the error.

    Raises:
        BootError: no other boot answers in time; says whether the old one still does.
    """
    old = ""

    def another() -> bool | NotYet:
        nonlocal old
        try:
            with guest.open_channel(deadline.sooner(_ASK_S)) as channel:
                if before is None or not is_same_boot(boot_time(channel, deadline.sooner(_ASK_S)), before):
                    return True
        except (LabError, OSError) as error:
            return NotYet(f"{old}nobody answers: {error}")
        old = "the boot of before answered last; then "
        return NotYet("the boot of before still answers")

    try:
        wait_until(another, deadline, what=f"another boot of {guest.name}", tick_s=0.2)
    except DeadlineExceeded as error:
        raise BootError(
            f"guest {guest.name} did not come back from {after}", why=error.why, fix=fix, evidence=error.evidence
        ) from error
