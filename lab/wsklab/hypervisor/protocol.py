"""What the lab asks of a hypervisor: small protocols, value types, no libvirt.

Implementations: `wsklab.hypervisor.libvirt.LibvirtHypervisor` and the shipped fake
`wsklab.hypervisor.fake.FakeHypervisor`; both pass `tests/contracts/hypervisor_contract.py`.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from wsklab.deadline import Deadline
from wsklab.domain_mark import DomainMetadata
from wsklab.domain_xml import DomainSpec, NetworkSpec

__all__ = ["Domain", "DomainEvent", "DomainEventKind", "DomainState", "EventSubscription", "Hypervisor"]


class DomainState(enum.StrEnum):
    """What the hypervisor says of a domain. `UNKNOWN` is a state: absence of news is not death."""

    RUNNING = "running"
    PAUSED = "paused"
    OFF = "off"
    CRASHED = "crashed"
    UNKNOWN = "unknown"


class DomainEventKind(enum.StrEnum):
    """Kinds of domain event that the lab reacts to."""

    STARTED = "started"
    RESUMED = "resumed"
    SUSPENDED = "suspended"
    STOPPED = "stopped"
    CRASHED = "crashed"
    PANICKED = "panicked"
    REBOOTED = "rebooted"
    IO_ERROR = "io_error"
    AGENT = "agent"
    UNDEFINED = "undefined"
    CONNECTION_LOST = "connection_lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainEvent:
    """One event; `domain` is a UUID, or "" for the connection itself; `at` is `time.monotonic()`."""

    kind: DomainEventKind
    domain: str
    detail: str
    at: float


class EventSubscription(Protocol):
    """A queue of events; nothing is dropped between `Hypervisor.subscribe` and `close`."""

    def get(self, deadline: Deadline) -> DomainEvent | None:
        """The next event, or None when the deadline passes."""

    def close(self) -> None:
        """Stop receiving."""


class Domain(Protocol):
    """One domain, persistent until `undefine`.

    Every method raises `HypervisorError`; `DomainGone` when the domain is not there any more.
    """

    @property
    def name(self) -> str: ...
    @property
    def uuid(self) -> str: ...
    def start(self, *, paused: bool = False) -> None: ...
    def resume(self) -> None: ...
    def suspend(self) -> None: ...
    def shutdown(self) -> None:
        """Ask the guest to power off; returns at once."""

    def destroy(self) -> None:
        """Power off now; no error when it is off already."""

    def undefine(self) -> None:
        """Forget it; exactly one of several callers wins, the others get `HypervisorError`."""

    def state(self) -> DomainState: ...
    def metadata(self) -> DomainMetadata | None:
        """Our mark, or None for a domain that is not the lab's."""

    def set_metadata(self, metadata: DomainMetadata) -> None: ...
    def xml(self) -> str: ...
    def vcpu_time_ns(self) -> int:
        """CPU time that the vCPUs have used, in ns; it grows while the guest makes progress."""

    def agent_command(self, command: Mapping[str, object], deadline: Deadline) -> Mapping[str, object]:
        """One QEMU guest agent command; returns its `return` member as {"return": ...}."""

    def screenshot(self) -> bytes:
        """The first screen as PPM or PNG."""

    def dump_memory(self, target: Path, deadline: Deadline, *, windows: bool) -> None:
        """Write the guest's memory to a new file: as a Windows crash dump, or as an ELF core.

        A Windows dump needs the guest's help (its firmware-configuration driver); without it that is an error.
        """

    def open_serial(self, port: int) -> socket.socket:
        """A serial port of a running guest, for one holder at a time; closing the socket gives it back."""

    def inject_nmi(self) -> None: ...
    def send_keys(self, codes: Sequence[int]) -> None:
        """Press keys at the same time; codes are Linux' (linux/input-event-codes.h: 28 is Enter)."""

    def freeze(self, state: Path, deadline: Deadline) -> None:
        """Write the device state of a paused domain with a shared memory file to `state`, a new file.

        Memory file and state together are a template. The domain itself is of no use any more: `destroy` it.
        """

    def thaw(self, state: Path, deadline: Deadline) -> None:
        """Continue from a template: load `state` into a domain that was defined `incoming` and started paused.

        It is paused afterwards, at the instruction where the template stopped.
        """

    def set_link(self, mac: str, *, up: bool) -> None:
        """Plug the cable of the network card with this address in or out, while it runs."""


class Hypervisor(Protocol):
    """A connection to one hypervisor; a context manager."""

    def __enter__(self) -> Hypervisor: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def define(self, spec: DomainSpec) -> Domain:
        """Define a persistent domain; defining claims: a taken name raises `HypervisorError`."""

    def redefine(self, spec: DomainSpec) -> None:
        """Replace the definition of an existing domain, for its next start; what runs is not touched."""

    def domains(self, home_id: str) -> Sequence[Domain]:
        """All domains, running or not, that carry the mark of this lab home."""

    def lookup(self, uuid: str) -> Domain | None: ...
    def ensure_network(self, spec: NetworkSpec) -> None:
        """Define and start the network if it is not there; same name and other content is `HypervisorError`."""

    def remove_network(self, name: str) -> None:
        """Stop and undefine; no error when it is gone."""

    def networks(self, home_id: str) -> Sequence[str]:
        """Names of the networks that carry the mark of this lab home."""

    def subscribe(self) -> EventSubscription: ...
    def qemu_user(self) -> int | None:
        """The user that guests run as, or None when the hypervisor changes no owners."""

    def versions(self) -> Mapping[str, str]:
        """{"libvirt": "9.0.0", "qemu": "7.2.22"}."""

    def close(self) -> None: ...
