"""A machine that exists already, physical ones too, as the settings name it: a table `[[machines]]`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["LEARN", "MachineConfig", "PowerConfig"]

#: The host key policy that keeps the first key it sees.
LEARN: Final = "learn"
_FINGERPRINT: Final = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")

_Words = tuple[Annotated[str, Field(min_length=1)], ...]


class PowerConfig(BaseModel):
    """Commands of this host that switch a machine: each a list of words, run without a shell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    on: _Words = Field(default=(), description='Switches it on: a list of words such as ["pdu", "on", "3"].')
    off: _Words = Field(default=(), description="Switches it off at once, whatever it does: a list of words.")
    cycle: _Words = Field(default=(), description="Off and on again; default: off, then on. A list of words.")
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=60.0, description="Most seconds that one of these commands may take."
    )

    @property
    def cycling(self) -> tuple[tuple[str, ...], ...]:
        """The commands that make a power cycle, in their order; none where the settings name no such."""
        if self.cycle:
            return (self.cycle,)
        return (self.off, self.on) if self.off and self.on else ()


class MachineConfig(BaseModel):
    """One machine: how it is reached, what it is, and who switches it."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,31}$", description="Its name, as `--guest NAME` takes it.")
    profile: str = Field(description="The guest profile that says what it is and can do.")
    address: str = Field(
        min_length=1, description="Its address or host name; the lab is reached by it on the way back."
    )
    port: int = Field(default=22, ge=1, le=65535, description="The port of its SSH server.")
    user: str = Field(default="", description="An administrator there; default: the account of the lab's own guests.")
    key: Path | None = Field(default=None, description="Private key (ed25519) for that user; default: the lab's own.")
    host_key: str = Field(
        default=LEARN,
        description="Which host key is accepted: its fingerprint (SHA256:...), or `learn`: the first one that is seen.",
    )
    boot_s: Annotated[float, Field(gt=0, le=7200)] | None = Field(
        default=None, description="Most seconds from a start to ready; default: what the profile allows its guests."
    )
    power: PowerConfig = Field(default=PowerConfig(), description="Who switches it: tables on, off, cycle, timeout_s.")

    @field_validator("host_key")
    @classmethod
    def _policy(cls, value: str) -> str:
        if value != LEARN and not _FINGERPRINT.fullmatch(value):
            raise ValueError(
                f"write {LEARN!r}, or the fingerprint as ssh-keygen -l shows it (SHA256: and 43 characters)"
            )
        return value
