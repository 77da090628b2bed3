"""The real hypervisor in the private mode keeps the contract, and survives its daemon."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import libvirt
import pytest
from hypervisor_contract import HypervisorContract, MakeSpec, network_spec

from wsklab import network, process
from wsklab.console import ConsoleLog
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.domain_xml import DiskSpec
from wsklab.errors import HypervisorError
from wsklab.hypervisor.daemon import PrivateDaemon
from wsklab.hypervisor.libvirt import LibvirtHypervisor
from wsklab.hypervisor.link import CallTimeoutError
from wsklab.hypervisor.protocol import Domain, DomainEventKind, DomainState, EventSubscription
from wsklab.media import write_disc


class TestLibvirtContract(HypervisorContract):
    """libvirt passes what the fake passes."""


@pytest.fixture
def domain(hypervisor: LibvirtHypervisor, make_spec: MakeSpec, home: str) -> object:
    """A domain that is defined and off, gone afterwards."""
    yield hypervisor.define(make_spec())
    for found in hypervisor.domains(home):
        found.destroy()
        found.undefine()


def _pid_of(daemon: PrivateDaemon, program: str) -> int:
    """The process id of a daemon among the holder's children, as seen here."""
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    return next(int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == program)


def _wait_for(subscription: EventSubscription, kind: DomainEventKind, identity: str = "") -> str:
    deadline = Deadline.after(20)
    while True:
        event = subscription.get(deadline)
        assert event is not None, f"no {kind}"
        if (event.kind, event.domain) == (kind, identity):
            return event.detail


def test_the_console_is_complete_and_the_file_stays_ours(domain: Domain, make_spec: MakeSpec) -> None:
    """The serial log has the kernel's first and last line; owner, mode and earlier content are untouched."""
    path = Path(domain.xml().split("log file='")[1].split("'")[0])
    path.write_text("before\n")
    path.chmod(0o664)
    domain.start()
    console = ConsoleLog(path)
    wait_until(
        lambda: True if console.contains("end Kernel panic") else NotYet(console.tail(1)),
        Deadline.after(60),
        what="the kernel's panic",
    )
    assert console.text().startswith("before\n")
    assert console.contains(r"\] Linux version")
    assert path.stat().st_mode & 0o777 == 0o664


def test_a_windows_guest_starts_its_firmware(
    hypervisor: LibvirtHypervisor, make_spec: MakeSpec, home: str, tmp_path: Path
) -> None:
    """UEFI without Secure Boot, variables of its own, the disk tried before the disc, and the firmware's words on the
    console: what an installation is watched by. QEMU takes the whole machine of a Windows profile."""
    disk, disc = tmp_path / "disk.qcow2", tmp_path / "disc.iso"
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1G"], deadline=Deadline.after(20))
    write_disc(disc, {"readme": b"nothing to start"}, label="empty")
    spec = make_spec(
        kernel=None,
        cmdline="",
        memory_mib=512,
        cpu_model="Nehalem",
        firmware="uefi",
        nvram=tmp_path / "vars.fd",
        windows=True,
        disks=(DiskSpec(path=disk, bus="sata", boot=1), DiskSpec(path=disc, format="raw", device="cdrom", boot=2)),
    )
    domain = hypervisor.define(spec)
    try:
        domain.start()
        console = ConsoleLog(spec.console_log)
        wait_until(
            lambda: (
                True
                if console.contains(r"BdsDxe: (loading|starting|failed to load) Boot\w+")
                else NotYet(console.tail(1))
            ),
            Deadline.after(90),
            what="the firmware's words",
        )
        tried = re.findall(r"BdsDxe: failed to load Boot\w+ \"UEFI QEMU (HARDDISK|DVD-ROM)", console.text())
        assert tried[:1] in ([], ["HARDDISK"])
        assert (tmp_path / "vars.fd").stat().st_size > 0
    finally:
        domain.destroy()
        domain.undefine()


def test_foreign_domains_are_never_ours(
    daemon: PrivateDaemon, hypervisor: LibvirtHypervisor, domain: Domain, home: str
) -> None:
    """A domain without our mark, or with one that we cannot read, is not listed."""
    connection = libvirt.open(daemon.uri)
    made = []
    try:
        for mark in ("", f"<metadata><w:domain xmlns:w='urn:wsklab:mark:1' home='{home}'/></metadata>"):
            name = f"foreign-{len(made)}"
            rest = "<memory>65536</memory><os><type>hvm</type></os>"
            xml = f"<domain type='qemu'><name>{name}</name>{mark}{rest}</domain>"
            made.append(connection.defineXML(xml))
        assert [found.uuid for found in hypervisor.domains(home)] == [domain.uuid]
        looked_up = hypervisor.lookup(made[0].UUIDString())
        assert looked_up is not None
        assert looked_up.metadata() is None
    finally:
        for one in made:
            one.undefine()
        connection.close()


def test_a_killed_guest_is_a_crash(daemon: PrivateDaemon, hypervisor: LibvirtHypervisor, domain: Domain) -> None:
    """A hypervisor process that ends by itself is told apart from a power-off that was asked for."""
    domain.start()
    subscription = hypervisor.subscribe()
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    qemu = [pid for pid in children if domain.uuid.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(int(qemu[0]), signal.SIGKILL)
    assert _wait_for(subscription, DomainEventKind.CRASHED, domain.uuid) == "failed"
    assert domain.state() is DomainState.OFF


def test_a_daemon_that_dies_is_started_again_and_guests_live_on(
    daemon: PrivateDaemon, hypervisor: LibvirtHypervisor, domain: Domain, home: str
) -> None:
    """libvirtd killed: the subscriber hears it, the same objects work again, no guest was lost.

    What happened to a guest meanwhile is told after the reconnection.
    """
    domain.start()
    subscription = hypervisor.subscribe()
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    qemu = next(pid for pid in children if domain.uuid.encode() in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(_pid_of(daemon, "libvirtd"), signal.SIGKILL)
    _wait_for(subscription, DomainEventKind.CONNECTION_LOST)
    assert Path(f"/proc/{qemu}/cmdline").read_bytes(), "the guest died with libvirtd"

    def again() -> bool | NotYet:
        try:
            return True if domain.state() is DomainState.RUNNING else NotYet("not running")
        except HypervisorError as error:
            return NotYet(error.why)

    wait_until(again, Deadline.after(20), what="the domain after the restart")
    assert [found.uuid for found in hypervisor.domains(home)] == [domain.uuid]
    domain.destroy()
    _wait_for(subscription, DomainEventKind.STOPPED, domain.uuid)


def test_a_daemon_that_stands_still_costs_the_call_timeout(daemon: PrivateDaemon, domain: Domain) -> None:
    """A stopped libvirtd: an error that says the state is unknown, in time; afterwards everything works."""
    with LibvirtHypervisor(daemon.uri, call_timeout_s=1.0) as impatient:
        seen = impatient.lookup(domain.uuid)
        assert seen is not None
        libvirtd = _pid_of(daemon, "libvirtd")
        os.kill(libvirtd, signal.SIGSTOP)
        try:
            watch = Deadline.after(3)
            with pytest.raises(CallTimeoutError, match="read the XML") as caught:
                seen.xml()
            assert "unknown" in caught.value.why
            assert seen.state() is DomainState.UNKNOWN
            assert not watch.expired
        finally:
            os.kill(libvirtd, signal.SIGCONT)
        assert seen.state() is DomainState.OFF


def test_libvirt_trusts_what_it_knows_about_qemu(hypervisor: LibvirtHypervisor) -> None:
    """The second question about QEMU's features takes no time: /dev/kvm is not half there."""
    assert hypervisor.capabilities_are_cached(limit_s=0.5)


def test_a_connection_that_cannot_be_made_is_an_error_with_a_fix(tmp_path: Path) -> None:
    """No socket: what failed, why, and how to start libvirtd."""
    with pytest.raises(HypervisorError) as caught:
        LibvirtHypervisor(f"qemu+unix:///system?socket={tmp_path}/libvirt-sock")
    assert "libvirt-sock" in caught.value.why
    assert "systemctl" in caught.value.fix


def test_the_guests_network_is_in_the_namespace_only(
    daemon: PrivateDaemon, hypervisor: LibvirtHypervisor, home: str
) -> None:
    """The bridge and the host's address exist inside, not on the host; sockets are made inside."""
    spec = network_spec(home)
    hypervisor.ensure_network(spec)
    via = network.Via(netns=daemon.netns)
    try:
        assert network.interfaces(via)[spec.bridge] == [f"{spec.address}/24"]
        assert spec.bridge not in network.interfaces(network.Via())
        bridge = Path(f"/proc/{daemon.pid}/root/sys/class/net/{spec.bridge}/bridge")
        assert bridge.joinpath("stp_state").read_text().strip() == "0"
        with (
            network.listen(via, (spec.address, 0)) as listener,
            network.connect(via, listener.getsockname(), Deadline.after(2)),
        ):
            pass
        assert network.free_subnet(["192.168.249", "192.168.248"], via) == "192.168.248"
    finally:
        hypervisor.remove_network(spec.name)
