"""Exit codes: one table for every command.

130 interrupted; 2 usage or configuration; 1 a finding about the driver or a verdict that fails a run;
4 a guest never became ready; 3 the lab's own fault, or nothing decided; 0 otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable

from wsklab.errors import (
    BootError,
    BugcheckError,
    ChannelLost,
    ChannelProtocolError,
    DriverServiceError,
    GuestCommandError,
    LabError,
    UsageError,
)

__all__ = ["FINDING", "GUEST", "INTERRUPTED", "LAB", "OK", "USAGE", "error_exit_code", "worst"]

OK = 0
FINDING = 1
USAGE = 2
LAB = 3
GUEST = 4
INTERRUPTED = 130

#: Strongest first: a finding is not hidden by a fault of the lab.
_PRECEDENCE = (INTERRUPTED, USAGE, FINDING, GUEST, LAB, OK)


def worst(codes: Iterable[int]) -> int:
    """The code that wins by the precedence 130 > 2 > 1 > 4 > 3 > 0."""
    given = set(codes)
    return next((code for code in _PRECEDENCE if code in given), OK)


def error_exit_code(error: LabError) -> int:
    """The exit code of a command that ended with `error`."""
    if isinstance(error, UsageError):
        return USAGE
    if isinstance(error, DriverServiceError | BugcheckError | GuestCommandError):
        return FINDING
    if isinstance(error, BootError | ChannelLost | ChannelProtocolError):
        return GUEST
    return LAB
