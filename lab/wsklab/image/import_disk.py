"""A Windows that somebody else installed becomes an image: its disk is looked at, started once, and asked.

The lab has to be able to log in: an SSH server, and the lab's key for an administrator. Everything else is asked
for by the steps of `wskctl provision`; what is missing is told, or done.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from wsklab import qemu_img
from wsklab.channel.protocol import Channel
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import ChannelLost, DeadlineExceeded, ImageError
from wsklab.factory import GuestFactory
from wsklab.guest import Guest
from wsklab.hypervisor.protocol import DomainState
from wsklab.image.bake_wine import Bake, Baked
from wsklab.image.manifest import WindowsFacts
from wsklab.image.provisioning import CERTIFICATE, CONTROL, FOLDER, build_of, checks, edition_of, run_step, steps
from wsklab.image.read_back import COMMAND_S, first_guest

__all__ = ["Importer"]

_OFF_S: Final = 180.0
_SHUTDOWN: Final = "shutdown.exe /s /t 0 /f"


@dataclass(frozen=True, slots=True, kw_only=True)
class Importer:
    """A builder for the image store: `store.build(profile, builder=Importer(...))`.

    Attributes:
        factory: makes the guests.
        disk: the disk's file, in a format that QEMU knows; it is only read.
        account: the administrator that has the lab's key.
        provision: do what is missing, instead of telling it.
        control: `wskctl.exe`.
        certificate: the certificate that signs test drivers, DER.
        owner: whose guest it is while it is there.
    """

    factory: GuestFactory
    disk: Path
    account: str
    provision: bool
    control: Path
    certificate: Path
    owner: str

    def __call__(self, bake: Bake) -> Baked:
        """Copy the disk, ask, provision if that was wished.

        Raises:
            ImageError: it is damaged, does not start, does not let the lab in, or is not as guests have to be.
        """
        product = bake.product / "disk.qcow2"
        bake.progress("disk", bake.deadline.elapsed_s, 0)
        qemu_img.check(self.disk, bake.deadline)
        qemu_img.compress(self.disk, product, bake.deadline)
        changed = bake.work / "changed.qcow2"
        key = bake.public_key.read_text(encoding="utf-8").strip()
        fix = f"the account {self.account} needs an SSH server on port 22, addresses by DHCP, and this key: {key}"
        with first_guest(self.factory, bake, owner=self.owner, account=self.account, fix=fix) as (guest, channel):
            bake.progress("asking", bake.deadline.elapsed_s, 0)
            self._bring_control(channel)
            if self.provision:
                self._do(channel, bake)
            else:
                self._require(channel)
            facts = self._facts(channel)
            baked = Baked(
                cmdline="", host_key=channel.host_key, kernel_version=facts.build, wine_version="", packages={}
            )
            if self.provision:
                self._power_off(guest, channel)
                qemu_img.compress(guest.directory / "overlay.qcow2", changed, bake.deadline)
        if self.provision:
            changed.replace(product)
        return replace(baked, windows=facts)

    def _bring_control(self, channel: Channel) -> None:
        """`wskctl` of today, whatever the machine has."""
        channel.run(f"if not exist {FOLDER} mkdir {FOLDER}", self._soon())
        channel.put(self.control, CONTROL, self._soon())
        channel.put(self.certificate, CERTIFICATE, self._soon())

    def _require(self, channel: Channel) -> None:
        wrong = [found for step in checks(self.account) if (found := run_step(channel, step, self._soon(), look=True))]
        if wrong:
            raise ImageError(
                f"{self.disk.name} is not as guests of the lab have to be",
                why="; ".join(f"{found.step}: {found.words[0]}" for found in wrong),
                fix="`wsklab image import ... --provision` makes these settings in the copy; your file stays as it is",
                evidence={"settings": [found.report for found in wrong]},
            )

    def _do(self, channel: Channel, bake: Bake) -> None:
        for step in steps(self.account):
            bake.progress(f"provisioning: {step.split()[0]}", bake.deadline.elapsed_s, 0)
            wrong = run_step(channel, step, self.factory.timeouts.after(5 * COMMAND_S), look=False)
            if wrong is not None:
                raise ImageError(
                    f"the step {step} failed in {self.disk.name}",
                    why="; ".join(wrong.words[:5]),
                    fix="is the account an elevated administrator, and Secure Boot off?",
                    evidence={"settings": wrong.report},
                )

    def _facts(self, channel: Channel) -> WindowsFacts:
        edition = edition_of(channel, self._soon())
        with self.disk.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return WindowsFacts.unknown(self.account).model_copy(
            update={
                "edition": edition,
                "build": build_of(channel, self._soon()),
                "medium_sha256": digest,
                "evaluation": edition.endswith("Eval"),
            }
        )

    def _power_off(self, guest: Guest, channel: Channel) -> None:
        """An orderly end: the disk becomes the image.

        Raises:
            ImageError: it does not go off.
        """
        with contextlib.suppress(ChannelLost, DeadlineExceeded):  # it may go down faster than it answers
            channel.run(_SHUTDOWN, self._soon(), check=False)

        def off() -> bool | NotYet:
            state = guest.domain.state()
            return state is DomainState.OFF or NotYet(f"it is {state}")

        try:
            wait_until(off, self.factory.timeouts.after(_OFF_S), what=f"{guest.name} to go off")
        except DeadlineExceeded as error:
            raise ImageError(f"{self.disk.name} does not shut down", why=error.why) from error

    def _soon(self) -> Deadline:
        return self.factory.timeouts.after(COMMAND_S)
