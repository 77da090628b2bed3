"""Steps of `wskctl provision` in a guest, over its channel: done, or only looked at."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from wsklab.channel.protocol import Channel
from wsklab.deadline import Deadline
from wsklab.errors import ImageError

__all__ = [
    "CERTIFICATE",
    "CONTROL",
    "FOLDER",
    "Wrong",
    "build_of",
    "checks",
    "edition_of",
    "require_step",
    "run_step",
    "steps",
]

FOLDER: Final = r"C:\wsklab"
CONTROL: Final = FOLDER + r"\wskctl.exe"
CERTIFICATE: Final = FOLDER + r"\signing.cer"
_VERSION_KEY: Final = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion"


@dataclass(frozen=True, slots=True)
class Wrong:
    """Settings of a step that are not as they should be, in words, and the whole report."""

    step: str
    words: tuple[str, ...]
    report: Any


def checks(account: str) -> Sequence[str]:
    """Steps whose settings can be asked for at any time."""
    return ("crash-control", "boot", "quiet", "firewall", f"account --user {account}")


def steps(account: str) -> Sequence[str]:
    """Everything that makes a Windows with an SSH server a guest of the lab."""
    return (*checks(account), f"trust --file {CERTIFICATE}")


def run_step(channel: Channel, step: str, deadline: Deadline, *, look: bool) -> Wrong | None:
    """Do a step, or only look; what is not as it should be afterwards, or None.

    Args:
        step: its name and options.
        look: change nothing.

    Raises:
        ImageError: `wskctl` does not answer with a report.
    """
    command = f"{CONTROL} provision {step}{' --check' if look else ''}"
    result = channel.run(command, deadline, check=False)
    try:
        document: Any = json.loads(result.stdout)
        wrong = [
            f"{setting['name']}: wanted {setting['wanted']}, is {setting['after']}"
            + (f" ({setting['why']})" if setting.get("why") else "")
            for setting in document["settings"]
            if setting["ok"] is not True
        ]
        if not wrong and document["ok"] is not True:
            wrong = ["it says that not all is well, and names nothing"]
    except (ValueError, KeyError, TypeError) as error:
        said = (result.stderr or result.stdout).strip()[:200]
        raise ImageError(
            f"wskctl in the guest does not report on the step {step}",
            why=f"{error}; it ended with {result.exit_code}: {said}",
        ) from error
    return Wrong(step, tuple(wrong), document["settings"]) if wrong else None


def require_step(channel: Channel, step: str, deadline: Deadline) -> None:
    """Look at a step's settings.

    Raises:
        ImageError: one is not as it should be, or the report is none.
    """
    wrong = run_step(channel, step, deadline, look=True)
    if wrong is not None:
        raise ImageError(
            f"the new image is not as it was made: step {step}",
            why="; ".join(wrong.words[:5]),
            fix="the settings are in the evidence",
            evidence={"settings": wrong.report},
        )


def build_of(channel: Channel, deadline: Deadline) -> str:
    """Build and revision, as the system says: `20348.587`.

    Raises:
        ImageError: it says neither.
    """
    return f"{int(_value(channel, 'CurrentBuildNumber', deadline), 0)}.{int(_value(channel, 'UBR', deadline), 0)}"


def edition_of(channel: Channel, deadline: Deadline) -> str:
    """EDITIONID, as the system says; raises as `build_of`."""
    return _value(channel, "EditionID", deadline)


def _value(channel: Channel, name: str, deadline: Deadline) -> str:
    said = channel.run(f'reg query "{_VERSION_KEY}" /v {name}', deadline).stdout
    found = re.search(rf"^\s+{name}\s+REG_\w+\s+(\S+)", said, re.MULTILINE)
    if found is None:
        raise ImageError(f"the guest does not say its {name}", why=said.strip()[:200])
    return found[1]
