"""Starts guests the fastest way that works here: a fork of a template, else a cold boot; and says which, and why."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from wsklab import spares
from wsklab.deploy import DriverPackage
from wsklab.domain_xml import MemoryFile
from wsklab.errors import HostError, HostFull, LabError, UsageError
from wsklab.factory import StartPlan
from wsklab.guest import Claim, Guest
from wsklab.home import write_text
from wsklab.image.store import Image
from wsklab.lease import SPARE
from wsklab.profile import GuestProfile
from wsklab.template import Kind, Template, key_of
from wsklab.template_maker import TemplateMaker

__all__ = ["GuestStarter"]

# Forks that failed so often are not tried again for a while: each try costs the time of a boot.
_FAILURES_MAX: Final = 2
_REFUSED_FOR: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestStarter:
    """Starts guests on one hypervisor.

    Attributes:
        maker: makes the templates, and knows how to continue from one.
        refusal: why nothing is ever forked here, or "".
    """

    maker: TemplateMaker
    refusal: str

    def fill_spares(self, profile: GuestProfile, image: Image, owner: str, count: int) -> int:
        """Make spares for the next `up` of this user until there are `count`; how many were made.

        Raises:
            HostError: guests are not forked here, or there is no room.
        """
        factory, made = self.maker.factory, 0
        template = key_of(self.maker.inputs(profile, image, None))
        while len(spares.waiting(factory, owner, template)) < count:
            name = f"spare-{uuid.uuid4().hex[:12]}"
            # of a run that lives as long as this: who is killed here leaves nothing that gc would not take
            with factory.home.run_alive(name):
                guest = self.start(profile, image, Claim(owner=owner, purpose=SPARE, run=name))
                try:
                    _require_fork(guest)
                    guest.wait_ready(factory.timeouts.boot(profile.boot_budget_s), ready_check=profile.ready_check)
                    spares.hand_in(guest)
                except BaseException:
                    guest.destroy(factory.slots)
                    raise
            made += 1
        return made

    def start(self, profile: GuestProfile, image: Image, claim: Claim, package: DriverPackage | None = None) -> Guest:
        """A guest that boots or has continued its template; in the second case clock and randomness are its own.

        Args:
            package: a driver that a fork should have loaded already; a guest that boots never has it.

        Raises:
            UsageError: the name is taken. HostFull: no slot. HypervisorError, ImageError: not even a boot works.
        """
        asked_at = time.monotonic()
        with self.maker.starts.working():
            try:
                guest = self._start(profile, image, claim, package)
            except HostFull:
                # spares are the first to go
                if not spares.drop_one(self.maker.factory, claim.owner):
                    raise
                guest = self._start(profile, image, claim, package)
        guest.asked_at = asked_at
        return guest

    def _start(self, profile: GuestProfile, image: Image, claim: Claim, package: DriverPackage | None) -> Guest:
        guest, why = self._try_fork(profile, image, claim, package)
        if guest is None:
            self.maker.starts.check()
            self.maker.ensure_network()
            guest = self.maker.factory.create(profile, image, claim, StartPlan(why=why))
        return guest

    def _try_fork(
        self, profile: GuestProfile, image: Image, claim: Claim, package: DriverPackage | None
    ) -> tuple[Guest | None, str]:
        """The fork, or what stopped it."""
        kind: Kind = "base" if package is None else "prepared"
        card = "a card of the host cannot be a part of a template" if claim.passthrough else ""
        why = self.refusal or _kind_refusal(profile, private_wires=self.maker.private_wires) or card
        if why or claim.fresh:
            return None, "" if claim.fresh else why
        inputs = self.maker.inputs(profile, image, package)
        note = _Note(self.maker.store.folder(profile.name) / f".failed-{kind}-{key_of(inputs)}")
        if why := note.refusal():
            return None, why
        if claim.purpose == "user" and not claim.name and package is None:
            spare = spares.take(self.maker.factory, claim, key_of(inputs))
            if spare is not None:
                return spare, ""
        try:
            with self.maker.template(profile, image, package) as template:
                guest = self._fork(profile, image, claim, template)
        except (UsageError, HostFull):
            raise
        except LabError as error:
            self.maker.starts.check()  # what was interrupted says nothing about forks
            why = f"{error.message}: {error.why}" if error.why else error.message
            note.failed(why)
            return None, why
        note.forget()
        return guest, ""

    def _fork(self, profile: GuestProfile, image: Image, claim: Claim, template: Template) -> Guest:
        if not self.maker.private_wires:
            self.maker.ensure_network()  # the template may be older than the network
        guest = self.maker.factory.create(
            profile, image, claim, self.maker.plan(template, MemoryFile(path=template.memory))
        )
        try:
            self.maker.wake(guest)
        except BaseException:
            guest.destroy(self.maker.factory.slots)
            raise
        return guest


@dataclass(frozen=True, slots=True)
class _Note:
    """Remembers that forking a template failed, beside it."""

    path: Path

    def refusal(self) -> str:
        """Why it is not tried now, or ""."""
        try:
            note = json.loads(self.path.read_text())
            until = datetime.fromisoformat(note["at"]) + _REFUSED_FOR
            if note["count"] < _FAILURES_MAX or datetime.now(UTC) > until:
                return ""
            return f"forks failed {note['count']} times and are tried again after {until:%H:%M} UTC: {note['why']}"
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def failed(self, why: str) -> None:
        """Count one failure."""
        try:
            count = int(json.loads(self.path.read_text())["count"]) + 1
        except (OSError, ValueError, KeyError, TypeError):
            count = 1
        note = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "count": count, "why": why}
        with contextlib.suppress(OSError):  # a full disk may be what stopped the fork
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, json.dumps(note))

    def forget(self) -> None:
        """It works."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def _require_fork(guest: Guest) -> None:
    if guest.record.method != "fork":
        raise HostError("only forks are kept as spares", why=guest.record.why)


def _kind_refusal(profile: GuestProfile, *, private_wires: bool) -> str:
    """Why guests of a profile are not forked on such a host, or ""."""
    if profile.kind == "windows" and not private_wires:
        return "a Windows keeps its template's addresses, and no wire of its own can be made here"
    return ""
