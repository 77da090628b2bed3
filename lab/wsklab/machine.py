"""Static guests: machines that exist already, physical ones too, as the settings name them (`[[machines]]`).

Such a guest has no image, no overlay and no hypervisor: it is reached by SSH and switched by commands of the host. It
is claimed, never made, and given back, never destroyed. What makes it fresh again is what there is: the driver loaded
anew, a restart, a power cycle; its disk stays as it is. `wsklab.machines` makes the objects.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import socket
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from wsklab import network
from wsklab.answer_file import GUEST_ACCOUNT
from wsklab.channel.protocol import Channel
from wsklab.deadline import Deadline, Timeouts
from wsklab.domain_mark import DomainMetadata
from wsklab.errors import (
    ChannelProtocolError,
    DeadlineExceeded,
    GuestError,
    HostCommandError,
    HostError,
    LabError,
    LeaseError,
)
from wsklab.guest import GUEST_USER, ChannelOpener, Claim, Guest, GuestRecord, read_record
from wsklab.home import Home, write_text
from wsklab.lease import SlotTable
from wsklab.machine_claim import MachineClaim, MachineMark
from wsklab.machine_config import LEARN, MachineConfig
from wsklab.machine_domain import NoDomain
from wsklab.process import run
from wsklab.profile import GuestProfile
from wsklab.restart import boot_time, is_same_boot, restart_guest, wait_for_another_boot

__all__ = ["Machine", "fingerprint"]

_log = logging.getLogger(__name__)

_ANSWER_S: Final = 3.0
_ASK_S: Final = 10.0

#: How a machine of each kind is restarted in order.
_RESTART: Final = {"windows": "shutdown.exe /r /t 0 /f", "wine": "linux: /usr/sbin/shutdown -r"}


class Machine(Guest):
    """One static guest. Its domain's metadata is the claim.

    Attributes:
        config: how it is reached and switched.
        profile: what it is; under the machine's own name, for one case at a time.
        boots: boots that were seen, in order (`restart.boot_time`); the last one is the boot that is known.
    """

    def __init__(
        self,
        config: MachineConfig,
        profile: GuestProfile,
        *,
        home: Home,
        owner: str,
        claim: MachineClaim,
        opener: ChannelOpener,
        timeouts: Timeouts,
    ) -> None:
        self.config = config
        self.profile = profile
        self.boots: list[int] = []
        self._home = home
        self._owner = owner
        self._claim = claim
        self._token = ""
        directory = home.root / "machines" / config.name
        directory.mkdir(parents=True, exist_ok=True)
        self._pin = directory / "host_key"
        identity = str(uuid.uuid5(uuid.NAMESPACE_URL, f"ssh://{config.address}:{config.port}"))
        super().__init__(
            record=_record(config, profile, directory, identity, self._pinned()),
            directory=directory,
            domain=NoDomain(config.name, identity, claim),
            via=network.Via(),
            key=(config.key or home.guest_key()).expanduser(),
            opener=opener,
            timeouts=timeouts,
        )

    @property
    def address(self) -> tuple[str, int]:
        """As the settings say."""
        return self.config.address, self.config.port

    # -- whose it is ---------------------------------------------------------------------------

    def take(self, claim: Claim) -> None:
        """Claim it for a run, or for a user until a time.

        Raises:
            LeaseUnavailable: somebody has it.
        """
        metadata = DomainMetadata(
            home=self._home.id,
            owner=claim.owner,
            purpose=claim.purpose,
            run=claim.run,
            profile=self.config.profile,
            slot=0,
            expires=claim.expires,
        )
        token = str(uuid.uuid4())
        self._claim.take(MachineMark(home=self._home.root, token=token, metadata=metadata))
        self._token = token

    def destroy(self, slots: SlotTable) -> None:
        """Give it back. The machine itself stays as it is.

        Raises:
            LeaseError: a run that lives has it, or another user.
        """
        del slots
        held = self._claim.current()
        if held is None:
            return
        if held.token != self._token and (held.metadata.run or self._is_foreign(held)):
            raise LeaseError(f"machine {self.name} is not given back", why=held.words, fix="wait for its end")
        self._claim.release(held.token)

    def _is_foreign(self, held: MachineMark) -> bool:
        return held.metadata.owner != self._owner or held.home != self._home.root

    @contextlib.contextmanager
    def borrowed(self) -> Iterator[None]:
        """For the length of one command; whoever has it as a user, or has just taken it, needs no other claim.

        Raises:
            LeaseUnavailable: somebody has it.
        """
        held = self._claim.current()
        if held is not None and (held.token == self._token or not (held.metadata.run or self._is_foreign(held))):
            yield
            return
        name = f"use-{uuid.uuid4().hex[:12]}"
        with self._home.run_alive(name):
            self.take(Claim(owner=self._owner, purpose="command", run=name))
            try:
                yield
            finally:
                self._claim.release(self._token)

    # -- the way in ----------------------------------------------------------------------------

    def _log_in(self, connection: socket.socket, deadline: Deadline) -> Channel:
        """As `Guest._log_in`; the host key is the one that the settings or the first meeting say.

        Raises:
            ChannelProtocolError: it shows another host key.
        """
        pinned = self._pinned()
        try:
            channel = self._opener(
                socket=connection, user=self.record.user, key=self.key, host_key=pinned, deadline=deadline
            )
        except ChannelProtocolError as error:
            error.fix = error.fix or f"is it another machine, or newly installed? then remove {self._pin}"
            raise
        if pinned is None:
            try:
                self._meet(channel.host_key)
            except BaseException:
                channel.close()
                raise
        return channel

    def enter(self, deadline: Deadline, *, ready_check: str) -> Channel:
        """As `Guest.enter`; a machine that does not answer is switched on, where somebody can."""
        if self.config.power.on and not self._answers():
            self._switch("on", self.config.power.on)
        channel = super().enter(deadline, ready_check=ready_check)
        self._remember_boot(channel, deadline)
        return channel

    def _is_unknown(self) -> bool:
        """Nobody should know: one that does not answer did not become ready."""
        return False

    def _answers(self) -> bool:
        try:
            network.connect(self.via, self.address, self._timeouts.after(_ANSWER_S)).close()
        except (LabError, OSError):
            return False
        return True

    def _pinned(self) -> str | None:
        """The key that was kept, unless the settings say another fingerprint by now."""
        try:
            kept = self._pin.read_text(encoding="ascii").strip()
        except OSError:
            return None
        return kept if self.config.host_key in {LEARN, fingerprint(kept)} else None

    def _meet(self, host_key: str) -> None:
        """Keep the key of the first meeting.

        Raises:
            ChannelProtocolError: the settings name another one.
        """
        shown = fingerprint(host_key)
        if self.config.host_key not in {LEARN, shown}:
            raise ChannelProtocolError(
                f"machine {self.name} shows another host key than the settings name",
                why=f"{shown}, not {self.config.host_key}",
                fix="compare with `ssh-keygen -lf` on the machine, then correct host_key",
            )
        write_text(self._pin, host_key + "\n")
        self.record = self.record.model_copy(update={"host_key": host_key})

    # -- as fresh as it gets -------------------------------------------------------------------

    def restart(self) -> None:
        """An orderly restart.

        Raises:
            BootError: no other boot answers in time.
        """
        command = _RESTART.get(self.record.kind, _RESTART["windows"])
        restart_guest(self, self._timeouts.after(self.profile.boot_budget_s), command=command)
        self.enter(self._timeouts.after(self.profile.boot_budget_s), ready_check=self.profile.ready_check).close()

    @property
    def can_cycle(self) -> bool:
        """Whether the settings say how to take its power away."""
        return bool(self.config.power.cycling)

    def cycle(self) -> None:
        """Take its power away, give it back, and see another boot.

        Raises:
            HostError: a power command failed. BootError: it does not come back.
        """
        if not self.can_cycle:
            raise HostError(
                f"machine {self.name} cannot be power cycled",
                why="the settings name no power.cycle, nor power.off with power.on",
                fix="switch it by hand, or add the commands",
            )
        before = self.boots[-1] if self.boots else self.boot_now(self._timeouts.after(_ANSWER_S))
        for words in self.config.power.cycling:
            self._switch("cycle", words)
        deadline = self._timeouts.after(self.profile.boot_budget_s)
        wait_for_another_boot(
            self, before, deadline, after="a power cycle", fix="do the power commands switch this machine?"
        )
        self.enter(deadline, ready_check=self.profile.ready_check).close()

    def renew(self, *, hard: bool = False) -> None:
        """A restart, or a power cycle where that is wanted or a restart does not help; it is clean afterwards.

        Raises:
            BootError, HostError: nothing helps; what the last step said.
        """
        if not hard or not self.can_cycle:
            try:
                self.restart()
            except (GuestError, HostError, DeadlineExceeded) as error:
                if not self.can_cycle:
                    raise
                _log.info("%s is power cycled: %s (%s)", self.name, error.message, error.why)
                self.cycle()
        else:
            self.cycle()
        self.remember(dirty="")

    def _switch(self, what: str, words: Sequence[str]) -> None:
        try:
            run(words, deadline=Deadline.after(self.config.power.timeout_s))
        except HostCommandError as error:
            raise HostCommandError(
                f"power.{what} of machine {self.name} failed: {error.message}",
                argv=error.argv,
                exit_code=error.exit_code,
                stdout=error.stdout,
                stderr=error.stderr,
                why=error.why,
                fix=error.fix or "try the command by hand; the settings have it under machines, power",
            ) from error

    def boot_now(self, deadline: Deadline) -> int | None:
        """The boot that answers; None when nobody does, or nobody can say."""
        try:
            with self.open_channel(deadline) as channel:
                return boot_time(channel, deadline)
        except (LabError, OSError):
            return None

    def has_seen(self, boot: int) -> bool:
        """Whether it is the boot that is known."""
        return bool(self.boots) and is_same_boot(boot, self.boots[-1])

    def _remember_boot(self, channel: Channel, deadline: Deadline) -> None:
        """Which boot answers, where `wskctl` is there to say; a machine that has never had a driver has none."""
        with contextlib.suppress(GuestError):
            now = boot_time(channel, deadline.sooner(_ASK_S))
            if not self.has_seen(now):
                self.boots.append(now)


def _record(
    config: MachineConfig, profile: GuestProfile, directory: Path, identity: str, host_key: str | None
) -> GuestRecord:
    """What is said of it; what was remembered stays."""
    kept = read_record(directory)
    return GuestRecord(
        name=config.name,
        profile=config.profile,
        kind=profile.kind,
        uuid=identity,
        slot=0,
        mac="",
        address=config.address,
        user=config.user or (GUEST_ACCOUNT if profile.kind == "windows" else GUEST_USER),
        host_key=host_key,
        image="",
        method="static",
        why="a machine that exists already",
        ready_s=kept.ready_s if kept is not None else None,
        created="",
        dirty=kept.dirty if kept is not None else "",
    )


def fingerprint(host_key: str) -> str:
    """As `ssh-keygen -l` shows it."""
    words = host_key.split()
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (IndexError, ValueError):
        return ""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
