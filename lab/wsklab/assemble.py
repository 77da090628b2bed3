"""The composition root: the one place where concrete back ends are chosen and joined."""

from __future__ import annotations

import contextlib
import getpass
import ipaddress
import os
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from wsklab import network
from wsklab.admission import Limits, Room, require_room
from wsklab.channel.protocol import Channel
from wsklab.config import LOCAL_HOST, AccelerationSetting, HostConfig, LabConfig, ModeSetting, WireSetting, default_home
from wsklab.deadline import Deadline, Timeouts
from wsklab.deploy import DriverPackage
from wsklab.domain_xml import Acceleration
from wsklab.errors import HostError, HostFull, HypervisorError
from wsklab.factory import GuestFactory
from wsklab.firmware import find_uefi
from wsklab.gc_timer import GcTimer
from wsklab.guest import Claim, Guest
from wsklab.home import FileLock, Home, write_text
from wsklab.hosts import HostSite, has_guests, open_host, unknown_host
from wsklab.hypervisor.daemon import PrivateDaemon
from wsklab.hypervisor.libvirt import LibvirtHypervisor
from wsklab.hypervisor.probe import ProbeResult, probe_acceleration
from wsklab.hypervisor.protocol import Hypervisor
from wsklab.image.import_disk import Importer
from wsklab.image.install import Installer
from wsklab.image.install_checks import InstallHost, processor_flags
from wsklab.image.store import Image, ImageStore
from wsklab.image.windows_media import WindowsMedium
from wsklab.lab_network import lab_network, name_of_network
from wsklab.lease import SlotClaim, SlotTable
from wsklab.machines import Machines
from wsklab.mode import ModeChoice, choose_mode, observe_host
from wsklab.profile import GuestProfile, load_profiles, unknown_profile
from wsklab.resources import images_root
from wsklab.starter import GuestStarter
from wsklab.sweep import Sweeper, SweepReport
from wsklab.template import TemplateStore
from wsklab.template_maker import Starts, TemplateMaker

__all__ = ["Lab", "LeaseEnder", "Site"]

Progress = Callable[[str, float, float], None]

#: How much slower guests are under emulation: the factor on every timeout.
_SCALE = {Acceleration.KVM: 1.0, Acceleration.TCG: 4.0}
#: How long starts that are at work get to clean up.
_STOP_S = 30.0
#: Slot claims of all homes on this host; /run/lock is writable by everybody (Debian, Fedora).
_SLOTS = Path("/run/lock/wsklab-slots")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A connected hypervisor with the lab's network on it."""

    hypervisor: Hypervisor
    factory: GuestFactory
    via: network.Via


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseEnder:
    """Who ends a user's lease that is over.

    Attributes:
        kind: `daemon`, `timer` or `command`.
        words: for people.
    """

    kind: str
    words: str


class Lab:
    """Everything that a command needs, joined; a context manager.

    Entering opens the home and says that a lab process is at work; nothing else is started until a
    method needs it. Leaving gives back what only this process needed: the last process without a
    guest takes the network and, in private mode, the daemon with it.

    Args:
        config: the settings.
        environ: the environment, for the default place of the home.
    """

    def __init__(self, config: LabConfig, *, environ: Mapping[str, str] | None = None) -> None:
        self.config = config
        self.choice: ModeChoice = choose_mode(config.mode, observe_host())
        root = config.home or default_home(self.choice.mode, environ or dict(os.environ), Path.home())
        self.home = Home.open(root.expanduser().absolute())
        self.profiles: dict[str, GuestProfile] = load_profiles(images_root())
        self.store = ImageStore(self.home.images)
        self.templates = TemplateStore(self.home.templates)
        self.slots = SlotTable(_SLOTS)
        self._users = FileLock(self.home.root / "users")
        self._probe: ProbeResult | None = None
        self._site: Site | None = None
        self._stay = False
        self._hosts: dict[str, HostSite] = {}
        self._hosts_lock = threading.Lock()
        #: Hosts with guests of ours that could not be reached, and why.
        self.absent_hosts: dict[str, str] = {}
        self._starts = Starts()

    def __enter__(self) -> Lab:
        with self.home.locked("users"):
            if not self._users.try_acquire(shared=True):
                raise HostError(f"the home {self.home.root} is being taken down", fix="try again")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the hypervisor; the last lab process without a guest leaves nothing running."""
        self.stop_starting()
        with self.home.locked("users"):
            alone = not self._stay and self._users.held and self._users.try_acquire()
            try:
                if alone:
                    self._leave_nothing()
            finally:
                self._close_hosts(alone=alone)
                if self._site is not None:
                    self._site.hypervisor.close()
                    self._site = None
                self._users.release()

    def _leave_nothing(self) -> None:
        """Alone in the home: without a guest neither network nor daemon is needed."""
        site = self.running_site()
        if site is None or site.hypervisor.domains(self.home.id):
            return
        site.hypervisor.remove_network(self.network_name)
        if self.choice.mode is ModeSetting.PRIVATE:
            site.hypervisor.close()
            self._site = None
            self.daemon().stop(Deadline.after(20))

    # -- what there is -------------------------------------------------------------------------

    @property
    def private(self) -> bool:
        """Whether the lab runs its own libvirt daemon."""
        return self.choice.mode is ModeSetting.PRIVATE

    @property
    def gc_timer(self) -> GcTimer:
        """The timer of this home, installed or not."""
        config_home = os.environ.get("XDG_CONFIG_HOME", "")
        base = Path(config_home) if config_home.startswith("/") else Path.home() / ".config"
        return GcTimer(home_id=self.home.short_id, root=os.geteuid() == 0, user_units=base / "systemd" / "user")

    @property
    def lease_ender(self) -> LeaseEnder:
        """Who ends leases while nobody types a command; the lab's daemon cannot reach other hosts."""
        if self.private and not self._hosts:
            return LeaseEnder(kind="daemon", words="the lab's daemon ends it")
        if self.gc_timer.enabled:
            return LeaseEnder(kind="timer", words=f"{self.gc_timer.name}.timer ends it")
        return LeaseEnder(kind="command", words="the next wsklab command ends it (or `wsklab gc --install-timer`)")

    @property
    def network_name(self) -> str:
        """The lab's isolated network."""
        return name_of_network(self.home)

    @property
    def timeouts(self) -> Timeouts:
        """The one timeout factor."""
        return Timeouts(scale=self.config.timeout_scale or _SCALE[self.acceleration])

    @property
    def acceleration(self) -> Acceleration:
        """What the setting says or the probe found; TCG as long as no image with a kernel exists."""
        if self.config.acceleration is AccelerationSetting.AUTO:
            probe = self.probe()
            return probe.acceleration if probe is not None else Acceleration.TCG
        return Acceleration(self.config.acceleration.value)

    def probe(self, *, reprobe: bool = False) -> ProbeResult | None:
        """Boot a guest kernel with KVM and see whether it gets anywhere; None without any kernel."""
        if self._probe is None or reprobe:
            kernel = next((image.kernel for image in self.store.list() if image.kernel is not None), None)
            if kernel is None:
                return None
            self._probe = probe_acceleration(kernel, self.home.cache, reprobe=reprobe, deadline=Deadline.after(120))
        return self._probe

    def profile(self, name: str) -> GuestProfile:
        """The profile of that name.

        Raises:
            ProfileError: there is none; names the nearest.
        """
        try:
            return self.profiles[name]
        except KeyError:
            raise unknown_profile(name, self.profiles) from None

    @property
    def machines(self) -> Machines:
        """The static machines of the settings."""
        return Machines(
            home=self.home,
            configs=self.config.machines,
            known=self.profiles,
            owner=self.owner,
            opener=self._open_channel,
            timeouts=Timeouts(scale=self.config.timeout_scale or 1.0),
        )

    @property
    def sources(self) -> dict[str, GuestProfile]:
        """Whatever `up` and `run` take guests from, by name: the profiles, and the static machines.

        Raises:
            ConfigError: a machine of the settings does not fit the profiles.
        """
        return {**self.profiles, **self.machines.profiles()}

    # -- images and hypervisor -----------------------------------------------------------------

    def ensure_image(self, profile: GuestProfile, progress: Progress | None = None) -> Image:
        """The profile's image; built when it is absent or stale."""
        found = self.store.find(profile)
        if found is not None:
            return found
        return self.store.build(profile, deadline=Deadline.after(1800), progress=progress)

    def install_host(self) -> InstallHost:
        """What of this host the installation of a Windows depends on."""
        return InstallHost(
            place=self.home.images,
            acceleration=self.acceleration,
            processor=processor_flags(),
            qemu_user=None if self.private else self.site().hypervisor.qemu_user(),
        )

    def installer(
        self,
        medium: WindowsMedium,
        *,
        control: Path,
        certificate: Path,
        openssh: Path | None = None,
        virtio: Path | None = None,
    ) -> Installer:
        """Who installs a Windows from this medium: a builder for `store.build`.

        Args:
            control: `wskctl.exe`.
            certificate: what signs test drivers, DER.
            openssh: the unpacked Win32-OpenSSH package.
            virtio: the unpacked virtio-win medium.
        """
        site = self.site()
        return Installer(
            factory=site.factory,
            medium=medium,
            control=control,
            certificate=certificate,
            openssh=openssh,
            virtio=virtio,
            ensure_network=lambda: self._ensure_network(site),
            owner=self.owner,
            evidence=self.home.cache / "installations",
        )

    def importer(self, disk: Path, *, account: str, provision: bool, control: Path, certificate: Path) -> Importer:
        """Who makes an image of a Windows disk that somebody brings: a builder for `store.build`; see `Importer`."""
        site = self.site()
        self._ensure_network(site)
        return Importer(
            factory=site.factory,
            disk=disk,
            account=account,
            provision=provision,
            control=control,
            certificate=certificate,
            owner=self.owner,
        )

    def daemon(self) -> PrivateDaemon:
        """The lab's own libvirt daemon, running or not."""
        return PrivateDaemon(
            home=self.home.root,
            runtime=Path("/run/wsklab") / self.home.short_id,
            hide_kvm=self.acceleration is Acceleration.TCG,
            expire_argv=self._expire_argv(),
        )

    def _expire_argv(self) -> list[str]:
        """What the daemon's holder runs each minute, for leases that end while nobody looks."""
        source = Path(__file__).resolve().parents[1]
        settings = [f"WSKLAB_HOME={self.home.root}", f"WSKLAB_MODE={self.choice.mode}", f"PYTHONPATH={source}"]
        return ["env", *settings, sys.executable, "-m", "wsklab", "gc", "--expired"]

    def running_site(self) -> Site | None:
        """The site if its hypervisor runs already; None in private mode without a daemon."""
        if self._site is None:
            if self.private and self.daemon().pid is None:
                return None
            self._site = self._connect()
            self._sweeper(self._site).expire()
        return self._site

    def site(self) -> Site:
        """The site; starts the private daemon when it is not there."""
        if self.private:
            self.daemon().start(Deadline.after(30))
        site = self.running_site()
        if site is None:
            raise HypervisorError("the private daemon ended right after its start", fix="see `wsklab doctor`")
        return site

    def _ensure_network(self, site: Site) -> None:
        """The network of guests that boot; forks on private wires need none."""
        with self.home.locked("network"):
            site.hypervisor.ensure_network(lab_network(self.home, site.factory.subnet))

    def _connect(self) -> Site:
        wires = None
        if self.private:
            daemon = self.daemon()
            hypervisor = LibvirtHypervisor(daemon.uri)
            via = network.Via(netns=daemon.netns)
            if daemon.pid is not None:
                wires = network.Wires(daemon.pid)
        else:
            hypervisor = LibvirtHypervisor(self.config.uri)
            via = network.Via()
        factory = GuestFactory(
            home=self.home,
            hypervisor=hypervisor,
            slots=self.slots,
            network_name=self.network_name,
            subnet=self._subnet(hypervisor, via),
            via=via,
            wires=wires,
            uefi=find_uefi(),
            acceleration=self.acceleration,
            timeouts=self.timeouts,
            opener=self._open_channel,
            now=lambda: datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            admit=self._admit,
        )
        return Site(hypervisor=hypervisor, factory=factory, via=via)

    def starter(self, *, together: bool = False) -> GuestStarter:
        """Who starts guests here; `together`: guests that reach each other."""
        site = self.site()
        wanted = self.config.wire
        shared = wanted is WireSetting.SHARED or (together and wanted is WireSetting.AUTO)
        private = site.factory.wires is not None and not shared
        refusal = "" if self.config.forks else "the setting forks is off"
        if self.config.wire is WireSetting.PRIVATE and site.factory.wires is None:
            refusal = "the setting wire asks for private wires, and only the lab's own daemon (private mode) has them"
        emulator = shutil.which("qemu-system-x86_64")
        maker = TemplateMaker(
            factory=site.factory,
            store=self.templates,
            hypervisor=site.hypervisor,
            private_wires=private,
            ensure_network=lambda: self._ensure_network(site),
            disk_reserve_mib=self.config.disk_reserve_mib,
            emulator=Path(emulator).resolve() if emulator else None,
            starts=self._starts,
        )
        return GuestStarter(maker=maker, refusal=refusal)

    def _open_channel(
        self, *, socket: socket.socket, user: str, key: Path, host_key: str | None, deadline: Deadline
    ) -> Channel:
        # paramiko costs a third of the start of commands that never enter a guest
        from wsklab.channel.ssh import CIPHERS, SshChannel  # noqa: PLC0415

        return SshChannel.connect(
            socket=socket,
            user=user,
            key=key,
            host_key=host_key,
            deadline=deadline,
            ciphers=self.config.ssh_ciphers or CIPHERS,
        )

    def _subnet(self, hypervisor: Hypervisor, via: network.Via) -> str:
        """The first three numbers of the lab's network; kept as long as the network exists.

        A new network takes the first candidate that collides with nothing on its side of the wire.
        """
        memory = self.home.root / "subnet"
        if self.network_name in hypervisor.networks(self.home.id) and memory.exists():
            return memory.read_text().strip()
        networks = [ipaddress.IPv4Network(text) for text in self.config.subnets]
        candidates = [str(item.network_address).rpartition(".")[0] for item in networks]
        subnet = network.free_subnet(candidates, via)
        write_text(memory, subnet + "\n")
        return subnet

    # -- guests --------------------------------------------------------------------------------

    def start_guest(self, profile: GuestProfile, claim: Claim, package: DriverPackage | None = None) -> Guest:
        """Admit, define and start a guest; it boots or is forked when this returns (`Guest.wait_ready` waits).

        Args:
            package: a driver that a fork should have loaded already; a guest that boots never has it.

        Raises:
            HostFull: not enough memory, disk or processors, or the user's quota is reached.
        """
        image = self.ensure_image(profile)
        return self.starter(together=claim.together).start(profile, image, claim, package)

    def fill_spares(self, profile: GuestProfile) -> int:
        """Make the spares that the setting `up_spares` asks for, unless somebody is at it; how many were made."""
        lock = FileLock(self.home.cache / f".spares-{profile.name}")
        try:
            if not lock.try_acquire():
                return 0
            return self.starter().fill_spares(profile, self.ensure_image(profile), self.owner, self.config.up_spares)
        finally:
            lock.release()

    def start_user_guest(self, profile: GuestProfile, claim: Claim, host: str = "") -> Guest:
        """A guest on the first host that has room for it: this one, then the others, the emptiest first.

        Args:
            host: only there; `local` is this host.

        Raises:
            HostFull: none has room; each one's reason is told. UsageError: there is no such host.
        """
        if profile.static:
            return self.machines.take(profile.name, claim)
        names = [LOCAL_HOST, *(config.name for config in self.config.hosts)]
        if host and host not in names:
            raise unknown_host(host, names)
        refusals: dict[str, str] = {}
        if host in {"", LOCAL_HOST}:
            try:
                return self.start_guest(profile, claim)
            except HostFull as error:
                if host or not self.config.hosts:
                    raise
                refusals[LOCAL_HOST] = error.message
        image = self.ensure_image(profile)
        if host:
            return self._host(next(config for config in self.config.hosts if config.name == host)).start(
                profile, image, claim
            )
        for site in self._host_sites(names[1:], refusals):
            try:
                return site.start(profile, image, claim)
            except HostError as error:
                refusals[site.name] = error.message
        raise HostFull(
            "no host has room for one more guest",
            why="; ".join(f"{name}: {why}" for name, why in refusals.items()),
            fix="`wsklab list` shows the guests, `wsklab down NAME` gives one back",
            evidence={"hosts": refusals},
        )

    def _host_sites(self, names: Sequence[str], refusals: dict[str, str]) -> list[HostSite]:
        """These hosts, connected, the one with the most memory to spare first; why others are not among them."""
        sites = []
        for config in self.config.hosts:
            if config.name in names:
                try:
                    sites.append(self._host(config))
                except HostError as error:
                    refusals[config.name] = f"{error.message}: {error.why}"
        return sorted(sites, key=lambda site: site.room.memory_available, reverse=True)

    def _host(self, config: HostConfig) -> HostSite:
        """The host, connected; leases that are over are ended there first."""
        with self._hosts_lock:
            if config.name not in self._hosts:
                site = open_host(
                    config,
                    self.home,
                    opener=self._open_channel,
                    limits=self.limits,
                    subnets=self.config.subnets,
                    timeout_scale=self.config.timeout_scale,
                )
                self._hosts[config.name] = site
                site.sweeper(self._alone).expire()
            return self._hosts[config.name]

    def _hosts_with_guests(self) -> list[HostSite]:
        """Only those where the home has anything; what cannot be reached is noted in `absent_hosts`."""
        names = [config.name for config in self.config.hosts if has_guests(self.home, config.name)]
        return self._host_sites(names, self.absent_hosts) if names else []

    def _close_hosts(self, *, alone: bool) -> None:
        while self._hosts:
            _, site = self._hosts.popitem()
            with contextlib.suppress(HostError):
                site.close(alone=alone)

    def stop_starting(self) -> None:
        """End what other threads are still making; nothing of it is left when this returns."""
        self._starts.stop(Deadline.after(_STOP_S))

    def _admit(self, wanted: SlotClaim, claims: Sequence[SlotClaim]) -> None:
        """Called under the slot table's lock, with the guests of all homes on this host."""
        require_room(Room.of_host(self.home.root), replace(wanted, directory=self.home.root), claims, self.limits)

    @property
    def limits(self) -> Limits:
        """What the settings leave alone, and what a user may have."""
        return Limits(
            memory_reserve_mib=self.config.memory_reserve_mib,
            disk_reserve_mib=self.config.disk_reserve_mib,
            vcpus_per_core=self.config.vcpus_per_core,
            quota=self.config.quota,
        )

    def guests(self) -> list[Guest]:
        """Every guest of this home, on whichever host, and the static machines, whoever has them."""
        site = self.running_site()
        found = site.factory.existing() if site is not None else []
        found += self.machines.all()
        for host in self._hosts_with_guests():
            found += host.factory.existing()
        return sorted(found, key=lambda guest: guest.name)

    def expire(self) -> SweepReport:
        """Only end the users' leases that are over; whatever else runs stays, the daemon included.

        The daemon's holder calls this from inside its namespaces, where it could not stop the daemon anyway.
        """
        self._stay = True
        return self._sweeper(self.running_site()).expire()

    def sweep(self, *, dry_run: bool = False) -> SweepReport:
        """gc: remove what nobody needs."""
        report = self._sweeper(self.running_site()).sweep(dry_run=dry_run)
        for host in self._hosts_with_guests():
            report.join(host.sweeper(self._alone).sweep(dry_run=dry_run))
        return report

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other process is in the home; whoever wants to enter waits until this is over."""
        with self.home.locked("users"):
            try:
                yield self._users.try_acquire()
            finally:
                self._users.try_acquire(shared=True)

    def _sweeper(self, site: Site | None) -> Sweeper:
        return Sweeper(
            home=self.home,
            slots=self.slots,
            hypervisor=site.hypervisor if site else None,
            factory=site.factory if site else None,
            network_name=self.network_name,
            alone=self._alone,
            templates=self.templates,
        )

    @property
    def owner(self) -> str:
        """The user, as written into leases."""
        return getpass.getuser()
