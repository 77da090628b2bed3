"""A systemd timer that runs `wsklab gc`, so that leases end in time although nobody types a command."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["GcTimer", "render_units"]

# Well below the grace of ten minutes that an expired lease has.
_INTERVAL_MIN: Final = 5

_SERVICE: Final = """\
# Written by `wsklab gc --install-timer`.
[Unit]
Description=wsklab: end leases that are over, remove what nobody holds ({home})

[Service]
Type=oneshot
{environment}ExecStart={command}
Nice=10
TimeoutStartSec=10min
"""

_TIMER: Final = """\
# Written by `wsklab gc --install-timer`.
[Unit]
Description=wsklab: gc every {minutes} minutes ({home})

[Timer]
OnActiveSec=1min
OnUnitActiveSec={minutes}min
AccuracySec=30s

[Install]
WantedBy=timers.target
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GcTimer:
    """The timer of one home.

    Attributes:
        home_id: the home's short id; each home has a timer of its own.
        root: whether the lab runs as root: the timer is then the system's, else the user's.
        user_units: the user's unit folder, `~/.config/systemd/user`.
        system_units: the system's.
    """

    home_id: str
    root: bool
    user_units: Path
    system_units: Path = Path("/etc/systemd/system")

    @property
    def name(self) -> str:
        """The unit's name without its suffix."""
        return f"wsklab-gc-{self.home_id}"

    @property
    def folder(self) -> Path:
        """Where its units go."""
        return self.system_units if self.root else self.user_units

    @property
    def systemctl(self) -> list[str]:
        """The command that speaks with its service manager."""
        return ["systemctl"] if self.root else ["systemctl", "--user"]

    @property
    def enabled(self) -> bool:
        """Whether either service manager, the user's or the system's, starts this home's timer."""
        folders = (self.system_units, self.user_units)
        return any((folder / "timers.target.wants" / f"{self.name}.timer").is_symlink() for folder in folders)

    def commands(self) -> list[list[str]]:
        """What makes written units take effect."""
        return [[*self.systemctl, "daemon-reload"], [*self.systemctl, "enable", "--now", f"{self.name}.timer"]]


def render_units(timer: GcTimer, home: Path, environment: Mapping[str, str], argv: Sequence[str]) -> dict[Path, str]:
    """The text of the two units, by their paths.

    Args:
        home: the lab's home, for people.
        environment: what the command needs beside its arguments.
        argv: the command; its first word is an absolute path.
    """
    lines = "".join(f"Environment={_quoted(f'{key}={value}')}\n" for key, value in environment.items())
    # In ExecStart a dollar sign is a variable; in Environment it is itself (systemd.exec(5)).
    command = " ".join(_quoted(word).replace("$", "$$") for word in argv)
    shown = str(home).replace("%", "%%")
    service = _SERVICE.format(home=shown, environment=lines, command=command)
    return {
        timer.folder / f"{timer.name}.service": service,
        timer.folder / f"{timer.name}.timer": _TIMER.format(home=shown, minutes=_INTERVAL_MIN),
    }


def _quoted(word: str) -> str:
    """A word as systemd.syntax(7) reads it: specifiers escaped, quoted where it is not plain."""
    text = word.replace("%", "%%")
    if re.fullmatch(r"[\w@%+=:,./-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
