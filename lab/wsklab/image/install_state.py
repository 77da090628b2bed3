"""What a build knows of its installation, kept beside the guest: a build that was killed is continued by the next.

And what else is made for one installation: its token, its password.
"""

from __future__ import annotations

import os
import secrets
import string
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from wsklab.home import write_text

__all__ = ["InstallState", "make_password", "read_state", "write_password", "write_state"]

_FILE: Final = "install.json"
_SIGNS: Final = "-_.!"


class InstallState(BaseModel):
    """One installation.

    Attributes:
        inputs: key of the image that it becomes.
        medium_sha256: what it is installed from.
        token: what the guest says when it is sealed.
        password_file: name of the file below the home's `keys`.
        started_at: when, UTC.
        restarts: how often the guest has started anew.
        sealed: whether it is installed, and off.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: str
    medium_sha256: str
    token: str
    password_file: str
    started_at: datetime
    restarts: int = 0
    sealed: bool = False


def read_state(directory: Path) -> InstallState | None:
    """The state in a guest's directory; None when there is none, or it is damaged."""
    try:
        return InstallState.model_validate_json((directory / _FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def write_state(directory: Path, state: InstallState) -> None:
    """Keep the state; a reader sees the old or the new one."""
    write_text(directory / _FILE, state.model_dump_json(indent=1))


def make_password() -> str:
    """A random password with a letter of each class that a server's policy asks for."""
    letters = string.ascii_letters + string.digits
    parts = [secrets.choice(kind) for kind in (string.ascii_uppercase, string.ascii_lowercase, string.digits, _SIGNS)]
    return secrets.choice(string.ascii_letters) + "".join(parts) + "".join(secrets.choice(letters) for _ in range(19))


def write_password(path: Path, password: str) -> None:
    """Keep a password, readable for its owner only; one per installation."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(password + "\n")
