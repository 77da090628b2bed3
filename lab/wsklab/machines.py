"""The static guests of the settings: what there is, under which profile, and the claim on one of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wsklab.deadline import Timeouts
from wsklab.errors import ConfigError, ProfileError, UsageError
from wsklab.guest import ChannelOpener, Claim
from wsklab.home import Home
from wsklab.machine import Machine
from wsklab.machine_claim import MachineClaim
from wsklab.machine_config import MachineConfig
from wsklab.profile import GuestProfile, unknown_profile

__all__ = ["Machines"]

#: Claims of all homes of this host; /run/lock is writable by everybody (Debian, Fedora).
_CLAIMS: Final = Path("/run/lock/wsklab-machines")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """All machines of the settings.

    Attributes:
        configs: the settings' tables.
        known: the guest profiles.
        owner: the user.
        timeouts: theirs: no emulation of this host slows them.
        claims: where the claims of all homes of this host are.
    """

    home: Home
    configs: tuple[MachineConfig, ...]
    known: Mapping[str, GuestProfile]
    owner: str
    opener: ChannelOpener
    timeouts: Timeouts
    claims: Path = _CLAIMS

    def profiles(self) -> dict[str, GuestProfile]:
        """A profile for each machine, under the machine's name.

        Raises:
            ConfigError: a machine names a profile that there is not, one of kind shim, or has the name of a profile.
        """
        return {config.name: self._profile(config) for config in self.configs}

    def all(self) -> list[Machine]:
        """The machines, whoever has them; nobody is asked.

        Raises:
            ConfigError: see `profiles`.
        """
        return [self._machine(config) for config in self.configs]

    def take(self, name: str, claim: Claim) -> Machine:
        """Claim a machine; it may have to be switched on or renewed before it is of use.

        Raises:
            LeaseUnavailable: somebody has it. UsageError: what a machine cannot be asked for.
        """
        if claim.fresh or claim.passthrough:
            raise UsageError(
                f"{name} is a static machine: it has no image to boot from, and no hypervisor",
                fix="leave --fresh and --passthrough out",
            )
        machine = self._machine(next(config for config in self.configs if config.name == name))
        machine.take(claim)
        machine.asked_at = time.monotonic()
        return machine

    def _machine(self, config: MachineConfig) -> Machine:
        place = f"{config.address}-{config.port}".replace("/", "_")
        return Machine(
            config,
            self._profile(config),
            home=self.home,
            owner=self.owner,
            claim=MachineClaim(self.claims / place, config.name),
            opener=self.opener,
            timeouts=self.timeouts,
        )

    def _profile(self, config: MachineConfig) -> GuestProfile:
        profile = self.known.get(config.profile)
        if profile is None:
            wrong: ProfileError = unknown_profile(config.profile, self.known)
            raise _wrong(config, "profile", wrong.why, wrong.fix, str(wrong.evidence["nearest"]))
        if profile.kind == "shim":
            raise _wrong(
                config, "profile", "a guest of kind shim is a process of this host, no machine", "name another"
            )
        if config.name in self.known:
            raise _wrong(config, "name", "a guest profile has that name", "choose another")
        changes = {"name": config.name, "static": True, "shared_leases": 1}
        budget = {"boot_budget_s": config.boot_s} if config.boot_s is not None else {}
        return profile.model_copy(update={**changes, **budget})


def _wrong(config: MachineConfig, key: str, why: str, fix: str, nearest: str = "") -> ConfigError:
    return ConfigError(
        f"setting {key!r} of machine {config.name} does not fit: {getattr(config, key)!r}",
        why=why,
        fix=fix,
        evidence={"file": "wsklab.toml", "key": f"machines.{key}", "nearest": nearest},
    )
