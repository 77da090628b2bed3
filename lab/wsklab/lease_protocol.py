"""What the broker asks of whoever makes guests, and what a lease tells a worker. No libvirt, no pytest.

`GuestHandle` and `Lease` cross process borders as JSON: a worker rebuilds from them everything it needs to
talk to the guest (the wire's namespace, the address, the key), without asking the controller again.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Explanation", "GuestHandle", "GuestProvider", "KeptGuest", "Lease", "Reset", "lost_mark"]


def lost_mark(console: Path) -> Path:
    """The file beside a guest's console whose presence says that the guest is lost: whoever waits for it need not."""
    return console.with_name("lost")


class Reset(enum.StrEnum):
    """How much of its own a case wants to begin with; each rung includes those below it, in order of cost."""

    #: a new handle of the driver: what every case gets
    NONE = "none"
    #: the driver is stopped and started again
    DRIVER = "driver"
    #: a guest of the case's own: nobody has had it, and nobody gets it afterwards
    FORK = "fork"
    #: such a guest, booted from its image: no memory of a template in it
    REBUILD = "rebuild"

    @property
    def cost(self) -> int:
        """Its place in the ladder, 0 for nothing."""
        return list(Reset).index(self)

    @property
    def makes_guest(self) -> bool:
        """Whether it may take another guest than the one that is there."""
        return self.cost >= Reset.FORK.cost


class Explanation(Protocol):
    """Why a case did not end by itself; `wsklab.crash.CrashReport` is one."""

    @property
    def fault(self) -> str:
        """`crashed`, `hung` or `lab_error`."""

    @property
    def cause(self) -> str:
        """A word of `wsklab.crash.Cause`."""

    @property
    def reason(self) -> str:
        """One sentence."""

    @property
    def bucket(self) -> str:
        """The group of crashes that it belongs to; "" for no crash."""

    @property
    def signals(self) -> Mapping[str, object]:
        """What was seen, for the evidence folder."""


class GuestHandle(BaseModel):
    """A ready guest with the driver loaded, as a worker needs to know it.

    Attributes:
        name: unique among the guests of a run; a replacement has another name.
        kind: `windows`, `wine` or `shim`.
        static: it is a machine that exists already, not one that the lab made.
        address: where the guest is reached on its wire.
        host_address: the lab's end of the wire; "" where a connection to the guest tells it.
        netns: path of the network namespace that the wire is in; None for the host's own.
        own_netns: that of the guest itself, where it is a process of the host with a network of its own.
        ssh_key: the lab's key; None for a guest without SSH.
        ssh_host_key: the guest's public key line; None accepts any (a fresh guest on a private wire).
        control, drive: the socket and the folder of a shim guest; None for others.
        driver_sha256: digest of the loaded driver; service: the name of its service.
        build: what reports call the guest's build: `19045.3803` or `wine-8.0`.
        os_version: the system's own words for itself.
        verifier: Driver Verifier mode, `off` where there is none.
        method: `fork` or `boot`; `why` says what stopped a fork.
        ready_s: seconds from the request to the ready guest.
        shared_leases: how many cases may use it at the same time.
        facts: what the profile says the guest can do (`irql_real`, `event_callbacks`, ...).
        baseline: the profile's file of known gaps.
        console: the console log of the guest, on the host.
        domain_xml: the domain's definition, on the host.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    profile: str
    kind: str
    static: bool = False
    address: str
    host_address: str = ""
    netns: Path | None = None
    own_netns: Path | None = None
    ssh_user: str = "Administrator"
    ssh_key: Path | None = None
    ssh_port: int = 22
    ssh_host_key: str | None = None
    control: Path | None = None
    drive: Path | None = None
    driver_sha256: str = ""
    service: str = "wsklab"
    build: str = ""
    os_version: str = ""
    verifier: str = "off"
    method: str = "boot"
    why: str = ""
    ready_s: float = 0.0
    slot: int = 0
    shared_leases: int = 4
    facts: dict[str, bool | str | None] = Field(default_factory=dict)
    baseline: Path | None = None
    console: Path | None = None
    domain_xml: Path | None = None


class KeptGuest(BaseModel):
    """The guest of a failed case, left to the user when the run goes on.

    Attributes:
        why: the case and what it said.
        enter: the command that enters it.
        expires: until when it is the user's.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    profile: str
    kind: str
    why: str
    enter: str
    expires: str


class Lease(BaseModel):
    """A claim on guests, from the set-up of an item to its tear-down.

    Attributes:
        guests: in the order of the request.
        reset_s: seconds that making fresh guests for this lease took.
        first_port: the first of `port_count` ports that belong to this lease alone, in guest and host.
        loopback: an address of 127.0.0.0/8 that belongs to this lease alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int
    owner: str
    guests: tuple[GuestHandle, ...]
    exclusive: bool
    first_port: int
    port_count: int
    loopback: str
    reset_s: float = 0.0

    def port(self, index: int) -> int:
        """The `index`-th port of the lease, from 0."""
        if not 0 <= index < self.port_count:
            raise IndexError(f"a lease has {self.port_count} ports, there is no port {index}")
        return self.first_port + index


class GuestProvider(Protocol):
    """Makes guests. `provide` and `replace` block; the broker calls them from a thread per guest, concurrently."""

    def provide(self, profile: str, *, boot: bool = False) -> GuestHandle:
        """A ready guest of that profile with the driver loaded.

        Args:
            boot: from its image, never from a template.

        Raises:
            BootError: it never became ready. HostFull: there is no room. HostError: the lab could not make it.
        """

    def replace(self, handle: GuestHandle, reason: str, *, boot: bool = False) -> GuestHandle:
        """Keep the evidence of a dirty guest, remove it, and make another one of its profile."""

    def drop(self, handle: GuestHandle, reason: str) -> None:
        """Keep the evidence of a dirty guest and remove it; nobody wants another one."""

    def keep(self, handle: GuestHandle, why: str) -> KeptGuest:
        """Leave a guest to the user: it is no guest of the run any more.

        Raises:
            HostError: it cannot be kept; it is still the run's.
        """

    def unkeep(self, kept: KeptGuest) -> None:
        """Take a kept guest away after all: its room is needed."""

    def explain(self, name: str, *, operation: str, channel_lost: bool) -> Explanation:
        """Whose fault it is that a case on this guest did not end by itself: the provisional verdict, at once.

        Args:
            operation: what was beyond its deadline; empty when nothing was.
            channel_lost: whether the connection broke.

        Raises:
            HostError: nobody knows the guest any more.
        """

    def conclude(self, name: str, folder: Path) -> Explanation | None:
        """Put what a guest has to say into the folder of a case that ended badly on it, and give the final verdict.

        Args:
            folder: made when it is not there.

        Returns:
            what `explain` said, as the evidence amends it; None when nothing had been asked.

        Raises:
            HostError: nobody knows the guest any more.
        """

    def close(self) -> None:
        """Give all guests back; safe to call twice."""
