"""Guests of this home on other hosts: libvirt by URI, files and connections by the user's own OpenSSH.

The lab keeps a directory per host, `hosts/<name>` in its home, that is like a home of its own: guests, slots, locks. So
whatever counts, finds or sweeps guests there does it as it does here; keys and runs are the home's. A guest on another
host boots: templates are files of this host.
"""

from __future__ import annotations

import contextlib
import difflib
import ipaddress
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from wsklab import network
from wsklab.admission import Limits, Room, require_room
from wsklab.config import AccelerationSetting, HostConfig
from wsklab.deadline import Deadline, Timeouts
from wsklab.domain_xml import Acceleration
from wsklab.errors import HostError, UsageError
from wsklab.factory import GuestFactory, StartPlan
from wsklab.guest import ChannelOpener, Claim, Guest
from wsklab.guest_files import RemoteFiles
from wsklab.home import Home, write_text
from wsklab.hypervisor.libvirt import LibvirtHypervisor
from wsklab.image.store import Image
from wsklab.lab_network import lab_network, name_of_network
from wsklab.lease import SlotClaim, SlotTable
from wsklab.profile import GuestProfile
from wsklab.remote import RemoteHost
from wsklab.sweep import Sweeper

__all__ = ["HostSite", "has_guests", "open_host", "unknown_host"]

_LOOK_S: Final = 60.0
_COPY_S: Final = 1800.0

# How much slower guests are under emulation, as on this host.
_SCALE: Final = {Acceleration.KVM: 1.0, Acceleration.TCG: 4.0}

_LOOK: Final = """\
cat /proc/meminfo
echo "Cores: $(nproc)"
mkdir -p "$1/hosted" && echo "Free: $(df -Pk "$1" | awk 'NR == 2 {print $4}')"
[ -r /dev/kvm ] && [ -w /dev/kvm ] && echo "Kvm: 1" || echo "Kvm: 0"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSite:
    """One host, connected.

    Attributes:
        name: its name in the settings.
        room: what it has, seen when the connection was made.
        home: the directory of its guests, as a home.
    """

    name: str
    room: Room
    home: Home
    hypervisor: LibvirtHypervisor
    factory: GuestFactory
    files: RemoteFiles

    def start(self, profile: GuestProfile, image: Image, claim: Claim) -> Guest:
        """A guest that boots there.

        Raises:
            HostFull: no room. HostError: the image cannot be brought there, or the host refuses.
        """
        with self.home.locked("images"):
            there = self.files.bring(image, Deadline.after(_COPY_S))
        with self.home.locked("network"):
            self.hypervisor.ensure_network(lab_network(self.home, self.factory.subnet))
        why = f"on {self.name}: templates are on the lab's own host"
        return self.factory.create(profile, there, claim, StartPlan(why=why))

    def sweeper(self, alone: Callable[[], AbstractContextManager[bool]]) -> Sweeper:
        """Sweeps what the home has there; `alone` as in `Sweeper`."""
        return Sweeper(
            home=self.home,
            slots=self.factory.slots,
            hypervisor=self.hypervisor,
            factory=self.factory,
            network_name=name_of_network(self.home),
            alone=alone,
        )

    def close(self, *, alone: bool) -> None:
        """Let go; the last lab process takes the network with the last guest."""
        if alone and not self.hypervisor.domains(self.home.id):
            self.hypervisor.remove_network(name_of_network(self.home))
        self.hypervisor.close()


def has_guests(home: Home, name: str) -> bool:
    """Whether the home has guests on that host, or their leftovers; nobody is asked."""
    return any((home.root / "hosts" / name / "guests").glob("*"))


def unknown_host(name: str, known: Sequence[str]) -> UsageError:
    """The error for a host that no setting names."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return UsageError(
        f"no host is called {name!r}",
        why=f"known: {', '.join(known)}",
        fix=f"did you mean {close[0]!r}?" if close else "add a table [[hosts]] to wsklab.toml",
        evidence={"name": name, "nearest": close[0] if close else ""},
    )


def open_host(
    config: HostConfig,
    home: Home,
    *,
    opener: ChannelOpener,
    limits: Limits,
    subnets: Sequence[str],
    timeout_scale: float | None,
) -> HostSite:
    """Connect to a host.

    Raises:
        HostError: it cannot be reached, or its libvirt refuses.
    """
    host = RemoteHost(name=config.name, target=config.target, options=config.ssh_options)
    said = host.run(_LOOK, str(config.store), deadline=Deadline.after(_LOOK_S)).stdout
    values = {key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+)", said, re.MULTILINE)}
    try:
        room = Room(
            memory_total=values["MemTotal"] // 1024,
            memory_available=values["MemAvailable"] // 1024,
            disk_free=values["Free"] // 1024,
            cores=values["Cores"],
        )
    except KeyError as error:
        raise HostError(f"host {config.name} does not say what it has", why=f"no {error} in its answer") from error
    acceleration = _acceleration(config.acceleration, usable=bool(values.get("Kvm")))
    own = _home_of(home, config.name)
    via = network.Via(jump=host.ssh, host=config.name)
    files = RemoteFiles(host=host, store=config.store, home_id=home.id)
    hypervisor = LibvirtHypervisor(config.uri, call_timeout_s=30.0)
    try:
        factory = GuestFactory(
            home=own,
            hypervisor=hypervisor,
            slots=SlotTable(own.root / "slots"),
            network_name=name_of_network(own),
            subnet=_subnet(own, hypervisor, via, subnets),
            via=via,
            acceleration=acceleration,
            timeouts=Timeouts(scale=timeout_scale or _SCALE[acceleration]),
            opener=opener,
            now=lambda: datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            files=files,
            label=f"-{config.name}",
            admit=lambda wanted, claims: _admit(config, room, limits, wanted, claims),
        )
    except BaseException:
        hypervisor.close()
        raise
    return HostSite(name=config.name, room=room, home=own, hypervisor=hypervisor, factory=factory, files=files)


def _admit(config: HostConfig, room: Room, limits: Limits, wanted: SlotClaim, claims: Sequence[SlotClaim]) -> None:
    """Whether the host has room beside the guests that this home has there, and what others use."""
    own = replace(
        limits,
        memory_reserve_mib=config.memory_reserve_mib,
        disk_reserve_mib=config.disk_reserve_mib,
        quota=None,
    )
    require_room(room, wanted, claims, own)


def _acceleration(setting: AccelerationSetting, *, usable: bool) -> Acceleration:
    if setting is AccelerationSetting.AUTO:
        return Acceleration.KVM if usable else Acceleration.TCG
    return Acceleration(setting.value)


def _home_of(home: Home, name: str) -> Home:
    """The directory of a host's guests; keys and runs are links to the home's own."""
    root = home.root / "hosts" / name
    root.mkdir(parents=True, exist_ok=True)
    for shared in ("keys", "runs"):
        with contextlib.suppress(FileExistsError):
            (root / shared).symlink_to(home.root / shared)
    return replace(Home.open(root), id=home.id)


def _subnet(home: Home, hypervisor: LibvirtHypervisor, via: network.Via, subnets: Sequence[str]) -> str:
    """The first three numbers of the network there; kept as long as the network exists."""
    memory: Path = home.root / "subnet"
    if name_of_network(home) in hypervisor.networks(home.id) and memory.exists():
        return memory.read_text().strip()
    candidates = [str(ipaddress.IPv4Network(text).network_address).rpartition(".")[0] for text in subnets]
    subnet = network.free_subnet(candidates, via)
    write_text(memory, subnet + "\n")
    return subnet
