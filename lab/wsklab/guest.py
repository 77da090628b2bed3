"""A guest: domain, overlay, console and the path into it.

One directory per guest holds all its files; the domain's metadata says whose it is. `factory` makes guests.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from wsklab import network
from wsklab.channel.protocol import Channel
from wsklab.deadline import Deadline, NotYet, Timeouts, pause, wait_until
from wsklab.errors import (
    BootError,
    ChannelLost,
    DeadlineExceeded,
    DomainGone,
    GuestError,
    HostError,
    HypervisorError,
    LabError,
    WireGone,
)
from wsklab.guest_files import GuestFiles, LocalFiles
from wsklab.home import open_lock, unwritable
from wsklab.hypervisor.protocol import Domain, DomainState
from wsklab.lease import SlotTable

__all__ = [
    "ChannelOpener",
    "Claim",
    "Guest",
    "GuestRecord",
    "directory_lock",
    "forget",
    "read_record",
    "write_record",
]

GUEST_USER = "Administrator"
_SSH_PORT = 22
_RECORD = "guest.json"
_HERE = LocalFiles()
# How long a daemon that is being started again gets to answer: it takes a second or two, on a busy host more.
_PATIENCE_S: Final = 15.0


class ChannelOpener(Protocol):
    """Opens a channel on a connected socket; chosen by the composition root."""

    def __call__(
        self, *, socket: socket.socket, user: str, key: Path, host_key: str | None, deadline: Deadline
    ) -> Channel: ...


class GuestRecord(BaseModel):
    """What a guest's directory says of it (`guest.json`); the lease itself is in the domain's metadata.

    Attributes:
        dirty: why it may not be tested on any more; "" for a clean one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    profile: str
    kind: str
    uuid: str
    slot: int
    mac: str
    address: str
    user: str = GUEST_USER
    host_key: str | None = None
    image: str
    wire: str = ""
    template: str = ""
    driver: str = ""
    method: str = "boot"
    why: str = ""
    ready_s: float | None = None
    created: str
    dirty: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Whose a new guest is.

    Attributes:
        owner: the user's name.
        purpose: one of `run`, `user`, `test`.
        run: the run id, or "" for a user's lease.
        expires: RFC 3339, or "" for a run's lease.
        name: the guest's name, or "" for one made from profile and slot.
        fresh: whether it must boot from its image, whatever would be faster.
        together: whether other guests must be able to reach it: then it is on the lab's network.
        passthrough: PCI devices of the host that it gets (`passthrough.require_card`); then it boots.
    """

    owner: str
    purpose: str
    run: str = ""
    expires: str = ""
    name: str = ""
    fresh: bool = False
    together: bool = False
    passthrough: tuple[str, ...] = ()


class Guest:
    """One guest that exists. Safe to destroy twice.

    Attributes:
        record: its constant facts.
        directory: all its files.
        domain: its domain.
        via: the network namespace from which its address is reached.
        console: its serial output from the first byte (a fork's: of its template).
        asked_at: when it was asked for, or found (`time.monotonic`).
        is_ready: whether it is known to be ready: a spare that showed it before it was paused.
    """

    def __init__(
        self,
        *,
        record: GuestRecord,
        directory: Path,
        domain: Domain,
        via: network.Via,
        key: Path,
        opener: ChannelOpener,
        timeouts: Timeouts,
        wires: network.Wires | None = None,
        files: GuestFiles = _HERE,
        asked_at: float | None = None,
    ) -> None:
        self.record = record
        self.directory = directory
        self.domain = domain
        self.via = via
        self.key = key
        self.console = files.console(directory)
        self.asked_at = time.monotonic() if asked_at is None else asked_at
        self.is_ready = False
        self._opener = opener
        self._timeouts = timeouts
        self._wires = wires
        self._files = files

    @property
    def name(self) -> str:
        """The name the user types."""
        return self.record.name

    @property
    def address(self) -> tuple[str, int]:
        """Address and port of its SSH server, on its wire."""
        return self.record.address, _SSH_PORT

    @property
    def timeouts(self) -> Timeouts:
        """How slow it is."""
        return self._timeouts

    @property
    def age_s(self) -> float:
        """Seconds since it was asked for, or found."""
        return time.monotonic() - self.asked_at

    def open_channel(self, deadline: Deadline) -> Channel:
        """A new SSH connection.

        Raises:
            ChannelLost: the guest refuses or the connection broke. DeadlineExceeded: no answer.
        """
        return self._log_in(network.connect(self.via, self.address, deadline), deadline)

    def _log_in(self, connection: socket.socket, deadline: Deadline) -> Channel:
        """The channel on a connection to its SSH server, which belongs to it from now on."""
        return self._opener(
            socket=connection,
            user=self.record.user,
            key=self.key,
            host_key=self.record.host_key,
            deadline=deadline,
        )

    def wait_ready(self, deadline: Deadline, *, ready_check: str) -> float:
        """Wait until it is ready; seconds since the guest was asked for.

        Raises:
            BootError: as `enter`.
        """
        if not self.is_ready:
            self.enter(deadline, ready_check=ready_check).close()
        return self.age_s

    def enter(self, deadline: Deadline, *, ready_check: str) -> Channel:
        """Climb the ladder running, console, port, login, ready-check; the channel that got there.

        Args:
            ready_check: a command that succeeds in a guest that is ready; "" where the caller has a better check.

        Raises:
            BootError: names the rung that failed and shows the console's tail.
            HostError: the time is over and the hypervisor does not answer, so nobody knows what the guest does.
            WireGone: the hypervisor has ended, at once.
        """
        while True:
            try:
                return self._climb(deadline, ready_check)
            except WireGone:
                raise  # the hypervisor has ended: nobody will ever answer
            except (DeadlineExceeded, GuestError, HostError) as error:
                last = error
            dead = self._cannot_boot()
            if deadline.expired and self._is_unknown():
                raise HostError(
                    f"guest {self.name} did not become ready: the hypervisor does not answer",
                    why=last.message,
                    fix="`wsklab doctor` says how the hypervisor is",
                ) from last
            if dead or deadline.expired:
                raise BootError(
                    f"guest {self.name} did not become ready: {dead or 'out of time'}",
                    why=f"{last.message}: {last.why}" if last.why else last.message,
                    fix=f"the console's end is in the evidence; the whole log: {self.console.path}",
                    evidence={"waited_s": deadline.elapsed_s, "console": self.console.tail()},
                ) from last
            pause(0.1)

    def _climb(self, deadline: Deadline, ready_check: str) -> Channel:
        """One attempt at the ladder; what it raises names the rung."""
        connection = wait_until(self._reached, deadline, what=f"port {self.address[1]} of {self.name}", tick_s=0.1)
        channel = self._log_in(connection, deadline)
        try:
            if ready_check:
                channel.run(ready_check, deadline)
        except BaseException:
            channel.close()
            raise
        return channel

    def _reached(self) -> socket.socket | NotYet:
        """A connection to its SSH server, for the login: the server starts a process for each, used or not."""
        if self._cannot_boot():
            raise ChannelLost(f"guest {self.name} stopped while it was awaited")
        try:
            return network.connect(self.via, self.address, Deadline.after(self._timeouts.seconds(0.5)))
        except WireGone:
            raise
        except (LabError, OSError) as error:
            return NotYet(str(error))

    def _is_unknown(self) -> bool:
        """Whether the one who should know what it does is silent."""
        return self.domain.state() is DomainState.UNKNOWN

    def _cannot_boot(self) -> str:
        """Why waiting any longer is useless, or ""."""
        state = self.domain.state()
        if state in {DomainState.OFF, DomainState.CRASHED}:
            return f"the domain is {state}"
        if self.console.contains(r"Kernel panic - not syncing"):
            return "its kernel panicked"
        return ""

    def remember(self, **changes: object) -> None:
        """Write changed facts to `guest.json`, atomically."""
        self.record = self.record.model_copy(update=changes)
        write_record(self.directory, self.record)

    def renew(self) -> None:
        """Make a dirty one clean, where that can be done to something that is not made anew: here it cannot.

        Raises:
            HostError: always.
        """
        raise HostError(f"guest {self.name} is not made clean again", fix="`wsklab down` it, and make another one")

    def borrowed(self) -> contextlib.AbstractContextManager[None]:
        """Around a command's work in it: the lab's own guests need nothing for that."""
        return contextlib.nullcontext()

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Hold the guest's lock: whoever changes the guest or its lease holds it."""
        return directory_lock(self.directory)

    def destroy(self, slots: SlotTable) -> None:
        """Power off, undefine, delete the files, give the slot back. Nothing is left behind."""
        with self.locked():
            forget(lambda: self.domain, hopeless=self.via.is_gone)
            if self.record.wire and self._wires is not None:
                self._wires.remove(self.record.wire)
            # before the files: a slot whose directory is gone is a stale one for every sweep beside us
            slots.release(self.record.slot, self.directory)
            self._files.remove(self.directory)


def write_record(directory: Path, record: GuestRecord) -> None:
    """Write `guest.json` so that a reader sees the old or the new one, never half.

    Raises:
        HostError: it cannot be written; HostFull where the disk is full.
    """
    temporary = directory / f".{_RECORD}.new"
    try:
        temporary.write_text(record.model_dump_json(indent=1))
        temporary.replace(directory / _RECORD)
    except OSError as error:
        raise unwritable(f"what guest {record.name} is", error) from error


def read_record(directory: Path) -> GuestRecord | None:
    """The guest's facts, or None when they were never written or are damaged."""
    try:
        return GuestRecord.model_validate_json((directory / _RECORD).read_text())
    except (OSError, ValidationError):
        return None


@contextlib.contextmanager
def directory_lock(directory: Path) -> Iterator[None]:
    """Hold the guest directory's lock; a directory that is gone needs none."""
    try:
        descriptor = open_lock(directory / "lock")
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def forget(find: Callable[[], Domain | None], *, hopeless: Callable[[], bool]) -> None:
    """Power off and undefine; another sweeper may be faster. A daemon that is being started again gets some time.

    Args:
        find: the domain; None when it is gone.
        hopeless: whether no daemon will ever answer.

    Raises:
        HypervisorError: it does not answer, or refuses.
    """
    deadline = Deadline.after(_PATIENCE_S)
    while True:
        # asked before: a call that took all the time, because it waited for a job that was cut short, is made once more
        last = deadline.expired or hopeless()
        try:
            domain = find()
            if domain is not None:
                domain.destroy()
                domain.undefine()
        except DomainGone:
            return
        except HypervisorError:
            if last:
                raise
        else:
            return
        pause(0.1)
