"""Driver Verifier as an axis: off, standard, volatile, low-resources; set, and read back.

`verifier.exe` takes file names of drivers, ends with 0, or with 2 when a restart is needed, and its exit code is not
the truth on every release: what counts is whether `verifier /query` lists the driver once it runs (project's fact
sheet, f.6). Settings that survive a restart come with the boot mode `resetonbootfail`, so that a driver that crashes
while Windows starts does not do so for ever. None of this has met a Windows yet.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from wsklab.channel.protocol import Channel
from wsklab.deadline import Deadline
from wsklab.errors import GuestCommandError, UsageError
from wsklab.profile import GuestProfile

__all__ = ["MODES", "VerifierSetting", "plan", "require_ability", "require_watched", "set_verifier"]

VerifierSetting = Literal["off", "standard", "volatile", "low-resources"]
MODES: Final[tuple[VerifierSetting, ...]] = get_args(VerifierSetting)

#: What a volatile start asks for where the profile does not know what its release takes: the flags that Windows 10
#: and 11 both have (sheet f.6): deadlock detection, DMA checking.
_VOLATILE_EVERYWHERE: Final = 0xA0
#: Probability per 10000, pool tags, applications, minutes after the boot: always given, because pages differ.
_FAULTS: Final = '600 "" "" 1'
_RESTART: Final = 2
_DRIVER: Final = re.compile(r"[A-Za-z0-9_.-]{1,60}\.sys", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Plan:
    """Commands, and whether they hold only after a restart.

    Attributes:
        commands: in this order; the first that fails ends it.
        restarts: whether the guest has to be restarted.
    """

    commands: tuple[str, ...]
    restarts: bool


def require_ability(profile: GuestProfile, mode: str) -> VerifierSetting:
    """The mode, if guests of this profile have it.

    Raises:
        UsageError: there is no such mode, or not there.
    """
    if mode not in MODES:
        raise UsageError(f"there is no verifier mode {mode}", why=f"known: {', '.join(MODES)}")
    recipe = profile.windows_recipe
    able: Sequence[str] = ("off", *(recipe.verifier.modes if recipe is not None else ()))
    if mode not in able:
        raise UsageError(
            f"guests of {profile.name} have no verifier mode {mode}",
            why=f"they have {', '.join(able)}" if recipe is not None else "Driver Verifier is a part of Windows",
            fix="name guests of kind windows with --guest",
        )
    return next(known for known in MODES if known == mode)


def plan(mode: VerifierSetting, driver: str, profile: GuestProfile) -> Plan:
    """What to do for a driver that does not run yet.

    Args:
        driver: its file name, without a folder.

    Raises:
        UsageError: a name that Driver Verifier does not take.
    """
    if not _DRIVER.fullmatch(driver):
        raise UsageError(f"Driver Verifier takes no {driver!r}", why="it wants the name of a .sys file, without a path")
    if mode == "off":
        return Plan((), restarts=False)
    if mode == "volatile":
        recipe = profile.windows_recipe
        flags = (recipe.verifier.volatile_flags if recipe is not None else 0) or _VOLATILE_EVERYWHERE
        return Plan((f"verifier.exe /volatile /flags {flags:#x} /adddriver {driver}",), restarts=False)
    protect = "verifier.exe /bootmode resetonbootfail"
    if mode == "standard":
        return Plan((f"verifier.exe /standard /driver {driver}", protect), restarts=True)
    return Plan((f"verifier.exe /faults {_FAULTS} /driver {driver}", protect), restarts=True)


def set_verifier(channel: Channel, wanted: Plan, deadline: Deadline) -> None:
    """Give the commands.

    Raises:
        GuestCommandError: Driver Verifier refuses one, in its own words.
    """
    for command in wanted.commands:
        result = channel.run(command, deadline, check=False)
        if result.exit_code not in {0, _RESTART}:
            raise GuestCommandError(
                f"Driver Verifier refuses: {command}",
                command=command,
                exit_code=result.exit_code,
                stdout=result.stdout,
                stderr=result.stderr,
                fix="which modes a release has stands in its profile ([recipe.verifier])",
            )


def require_watched(channel: Channel, driver: str, deadline: Deadline) -> None:
    """See that a driver that runs is watched; exit codes are no proof.

    Raises:
        GuestCommandError: `verifier /query` does not list it.
    """
    command = "verifier.exe /query"
    result = channel.run(command, deadline, check=False)
    listed = re.search(rf"(?<![\w.-]){re.escape(driver)}(?![\w.-])", result.stdout, re.IGNORECASE)
    if listed is None:
        raise GuestCommandError(
            f"Driver Verifier does not watch {driver}",
            command=command,
            exit_code=result.exit_code,
            stdout=result.stdout,
            stderr=result.stderr,
            why="its settings were taken, and it does not list the driver",
            fix="try the mode standard: it holds from the start of the guest on",
        )
