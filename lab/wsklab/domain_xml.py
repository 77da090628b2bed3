"""Descriptions of guests and networks for the hypervisor, and their XML. Pure: no process, no libvirt.

The element names are libvirt's (https://libvirt.org/formatdomain.html, formatnetwork.html); everything
here works with libvirt 9.0 and QEMU 7.2 and later. Every value passes through an XML library; values
of our own mark are escaped once more, because XML 1.0 cannot carry control characters at all.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from lxml import etree

from wsklab.domain_mark import DomainMetadata, as_strings, mark_of, parse_xml
from wsklab.errors import HypervisorError, UsageError

__all__ = [
    "NO_TIMER_CHECK",
    "Acceleration",
    "DiskSpec",
    "DomainSpec",
    "HostEntry",
    "MemoryFile",
    "NetworkSpec",
    "NicSpec",
    "UefiChoice",
    "network_digest",
    "parse_qemu_user",
    "render_domain_xml",
    "render_network_xml",
    "with_link",
]

# Translation cache of QEMU's TCG in MiB: 128 instead of its default saves about 270 MB of host memory
# per guest at equal speed (measured with QEMU 7.2, 1 GiB guest, 2 vCPUs).
_TCG_CACHE_MIB: Final = 128

_GUEST_AGENT_CHANNEL: Final = "org.qemu.guest_agent.0"

# What libvirt and dnsmasq accept without quoting trouble, and what fits a file name.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

_ENLIGHTENMENTS: Final = (
    "relaxed",
    "vapic",
    "spinlocks",
    "vpindex",
    "runtime",
    "synic",
    "stimer",
    "reset",
    "frequencies",
    "tlbflush",
    "ipi",
)

_QEMU_URI: Final = "http://libvirt.org/schemas/domain/qemu/1.0"

# The guest's memory as a file: the same name in a template and its forks, because it is part of the device state.
_MEMORY_ID: Final = "wskram"

# Linux: IFNAMSIZ is 16 with the final zero.
_INTERFACE_NAME_MAX: Final = 15


#: For the command line of a Linux. An emulated processor that a busy host gives no time for a few ticks at the wrong
#: moment makes the kernel panic in its first tenth of a second ("IO-APIC + timer doesn't work"); under KVM the kernel
#: leaves the check out by itself.
NO_TIMER_CHECK: Final = "no_timer_check"


class Acceleration(enum.StrEnum):
    """How the guest's instructions are executed."""

    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpec:
    """A disk.

    Attributes:
        path, format: the file.
        bus: virtio or sata.
        device: disk or cdrom (cdrom: always sata, always read-only).
        backing: the images (of `backing_format`) under an overlay, nearest first. libvirt leaves the owners of those
            that are given alone; others it gives to QEMU's user at the first start, and never back. They must be
            readable for all.
        boot: its place in the order that the firmware tries, from 1; 0: it is not tried. When no disk has a place,
            the first disk is started from.
        foreign: whether the file is somebody's, and libvirt must not give it to QEMU's user: readable for all.
    """

    path: Path
    format: str = "qcow2"
    bus: str = "virtio"
    read_only: bool = False
    device: str = "disk"
    backing: tuple[Path, ...] = ()
    backing_format: str = "qcow2"
    boot: int = 0
    foreign: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NicSpec:
    """A network card; `model` is virtio, e1000e, ...

    Attributes:
        network: the libvirt network that it is on.
        tap: an existing tap device instead of a network, or "".
        link_up: whether its cable is plugged in.
    """

    network: str
    mac: str
    model: str = "virtio"
    tap: str = ""
    link_up: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFile:
    """The file that is a guest's memory.

    Attributes:
        path: it has the memory's size. QEMU 7.2 opens it for reading and writing either way.
        shared: whether what the guest writes goes into the file: for the making of a template, and never else.
    """

    path: Path
    shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UefiChoice:
    """Which UEFI firmware a guest gets; none of them enforces Secure Boot.

    Attributes:
        code: its file.
        setup_mode: it could enforce Secure Boot and has no keys yet; libvirt is asked for it as such.
        variables: empty variables beside it; where they are given, the files are named instead of chosen by libvirt.
    """

    code: Path
    setup_mode: bool = False
    variables: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainSpec:
    """A guest as the hypervisor sees it: it has two serial ports, the console and one for debuggers.

    Attributes:
        name: unique on the hypervisor.
        uuid: random, chosen by the caller.
        cpu_model: QEMU's CPU model under TCG; under KVM the guest gets the host's CPU.
        firmware: bios or uefi. UEFI does not enforce Secure Boot: test signing is refused where it is enforced.
        uefi: which UEFI firmware; None: libvirt's choice among those without Secure Boot.
        tpm: whether it has an emulated TPM 2.0, by swtpm.
        generation: its VM generation ID, a UUID that no other guest has, or "" for a guest without one: a system that
            finds another one than before knows that it is a copy, and makes its random numbers anew.
        nvram: the guest's own UEFI variables; None: where libvirt keeps them.
        windows: whether it runs Windows, which wants to know its hypervisor, and other clocks.
        kernel, initrd, cmdline: direct kernel boot; None boots from the first disk.
        console_log: file that the first serial port is logged to. It must exist before the start:
            the log daemon then appends and leaves owner and mode alone (a file that it makes itself
            is root's, mode 0600).
        agent: whether there is a channel for the QEMU guest agent.
        screen: whether there is a VGA, for screenshots.
        memory_file: the guest's memory as a file; None: anonymous memory.
        incoming: whether it waits for the device state of a template (`Domain.thaw`) instead of booting.
        passthrough: PCI devices of the host that it gets, `0000:03:00.0`. Experimental.
    """

    name: str
    uuid: str
    metadata: DomainMetadata
    acceleration: Acceleration
    machine: str = "q35"
    cpu_model: str = "qemu64"
    vcpus: int
    memory_mib: int
    disks: tuple[DiskSpec, ...]
    nics: tuple[NicSpec, ...]
    kernel: Path | None
    initrd: Path | None
    cmdline: str = ""
    firmware: str = "bios"
    uefi: UefiChoice | None = None
    tpm: bool = False
    generation: str = ""
    nvram: Path | None = None
    windows: bool = False
    console_log: Path
    agent: bool = True
    screen: bool = True
    memory_file: MemoryFile | None = None
    incoming: bool = False
    passthrough: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEntry:
    """A fixed DHCP answer: this card always gets this address."""

    mac: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """An isolated network of the lab: guests and the host, nobody else.

    Attributes:
        name, bridge: unique on the host; a bridge's name has at most 15 characters.
        home: id of the lab home that owns it.
        address: the host's address on it; `prefix` its length in bits.
        hosts: the only cards that DHCP answers.
    """

    name: str
    bridge: str
    home: str
    address: str
    prefix: int = 24
    hosts: tuple[HostEntry, ...] = ()


def render_domain_xml(spec: DomainSpec) -> str:
    """The domain's XML.

    Raises:
        UsageError: a value that no hypervisor would take.
    """
    _check_name("domain", spec.name)
    kind = "kvm" if spec.acceleration is Acceleration.KVM else "qemu"
    root = etree.Element("domain", {"type": kind}, nsmap={"qemu": _QEMU_URI} if spec.memory_file else None)
    _text(root, "name", spec.name)
    _text(root, "uuid", spec.uuid)
    if spec.generation:
        _text(root, "genid", spec.generation)
    etree.SubElement(root, "metadata").append(mark_of("domain", as_strings(spec.metadata)))
    _text(root, "memory", str(spec.memory_mib), unit="MiB")
    _text(root, "vcpu", str(spec.vcpus))
    _boot(root, spec)
    _features(root, spec)
    _cpu(root, spec)
    _clock(root, spec)
    _text(root, "on_poweroff", "destroy")
    _text(root, "on_reboot", "restart")
    # A crashed guest stays as it is until the evidence has been taken.
    _text(root, "on_crash", "preserve")
    _devices(root, spec)
    if spec.memory_file is not None:
        _memory_file(root, spec, spec.memory_file)
    return etree.tostring(root, encoding="unicode", pretty_print=True)


def render_network_xml(spec: NetworkSpec) -> str:
    """The network's XML: no `<forward>` (isolated), no name service, DHCP for the given cards only.

    Spanning tree is off and the delay 0, because a bridge port with it stays silent for 4 s.

    Raises:
        UsageError: a value that no host would take.
    """
    _check_name("network", spec.name)
    if len(spec.bridge) > _INTERFACE_NAME_MAX:
        raise UsageError(
            f"the bridge name {spec.bridge} is too long",
            why=f"an interface name has at most {_INTERFACE_NAME_MAX} bytes",
        )
    root = etree.Element("network")
    _text(root, "name", spec.name)
    mark = {"home": spec.home, "digest": network_digest(spec)}
    etree.SubElement(root, "metadata").append(mark_of("network", mark))
    etree.SubElement(root, "bridge", {"name": spec.bridge, "stp": "off", "delay": "0"})
    etree.SubElement(root, "dns", {"enable": "no"})
    address = etree.SubElement(root, "ip", {"address": spec.address, "prefix": str(spec.prefix)})
    if spec.hosts:
        dhcp = etree.SubElement(address, "dhcp")
        for host in spec.hosts:
            etree.SubElement(dhcp, "host", {"mac": host.mac, "ip": host.address})
    return etree.tostring(root, encoding="unicode", pretty_print=True)


def parse_qemu_user(capabilities: str) -> int | None:
    """The user that guests run as, from the host's capabilities; None when files keep their owners.

    The label is `+uid:+gid` (https://libvirt.org/formatcaps.html).
    """
    for model in parse_xml(capabilities).iterfind("host/secmodel"):
        if model.findtext("model") != "dac":
            continue
        for label in model.iterfind("baselabel"):
            found = re.match(r"\+(\d+):", label.text or "")
            if label.get("type") in {"qemu", "kvm"} and found:
                return int(found[1])
    return None


def with_link(xml: str, mac: str, *, up: bool) -> str:
    """The description of one network card out of a domain's XML, with its cable in or out.

    Raises:
        HypervisorError: the domain has no such card.
    """
    for interface in parse_xml(xml).iterfind("devices/interface"):
        address = interface.find("mac")
        if address is None or address.get("address") != mac:
            continue
        link = interface.find("link")
        if link is None:
            link = etree.SubElement(interface, "link")
        link.set("state", "up" if up else "down")
        return etree.tostring(interface, encoding="unicode")
    raise HypervisorError(f"the domain has no network card {mac}")


def network_digest(spec: NetworkSpec) -> str:
    """A digest of the whole specification; equal digests mean the same network."""
    return hashlib.sha256(json.dumps(asdict(spec), sort_keys=True).encode()).hexdigest()[:16]


def _boot(root: etree._Element, spec: DomainSpec) -> None:
    os_element = etree.SubElement(root, "os")
    _text(os_element, "type", "hvm", arch="x86_64", machine=spec.machine)
    if spec.firmware == "uefi":
        _uefi(os_element, spec)
    elif spec.firmware != "bios":
        raise UsageError(f"unknown firmware {spec.firmware!r}", why="it is bios or uefi")
    if spec.kernel is None:
        if not any(disk.boot for disk in spec.disks):
            etree.SubElement(os_element, "boot", {"dev": "hd"})
        return
    _text(os_element, "kernel", str(spec.kernel))
    if spec.initrd is not None:
        _text(os_element, "initrd", str(spec.initrd))
    if spec.cmdline:
        _text(os_element, "cmdline", spec.cmdline)


def _uefi(os_element: etree._Element, spec: DomainSpec) -> None:
    """Firmware, by its features or by its files, and the file of the guest's own variables."""
    chosen = spec.uefi
    named = chosen.variables if chosen is not None else None
    if chosen is not None and named is not None:
        _text(os_element, "loader", str(chosen.code), readonly="yes", type="pflash")
    else:
        os_element.set("firmware", "efi")
        firmware = etree.SubElement(os_element, "firmware")
        setup_mode = chosen is not None and chosen.setup_mode
        etree.SubElement(firmware, "feature", {"enabled": "yes" if setup_mode else "no", "name": "secure-boot"})
        if setup_mode:
            etree.SubElement(firmware, "feature", {"enabled": "no", "name": "enrolled-keys"})
    if spec.nvram is not None:
        _text(os_element, "nvram", str(spec.nvram), **({"template": str(named)} if named is not None else {}))


def _features(root: etree._Element, spec: DomainSpec) -> None:
    features = etree.SubElement(root, "features")
    etree.SubElement(features, "acpi")
    etree.SubElement(features, "apic")
    if spec.uefi is not None and spec.uefi.setup_mode and spec.firmware == "uefi":
        etree.SubElement(features, "smm", {"state": "on"})  # firmware that can do Secure Boot is built for it
    if spec.acceleration is Acceleration.TCG:
        _text(etree.SubElement(features, "tcg"), "tb-cache", str(_TCG_CACHE_MIB), unit="MiB")
    if spec.windows:
        if spec.acceleration is Acceleration.KVM:  # TCG has no enlightenments
            _enlightenments(etree.SubElement(features, "hyperv", {"mode": "custom"}))
        etree.SubElement(features, "vmcoreinfo", {"state": "on"})  # for dumps that the host takes


def _enlightenments(hyperv: etree._Element) -> None:
    """What QEMU recommends for every Windows (docs/system/i386/hyperv.rst); without synic timers an idle guest burns a
    core. None of them stands in the way of migration, and so of forks."""
    for name in _ENLIGHTENMENTS:
        element = etree.SubElement(hyperv, name, {"state": "on"})
        if name == "spinlocks":
            element.set("retries", "8191")
        if name == "stimer":
            etree.SubElement(element, "direct", {"state": "on"})


def _clock(root: etree._Element, spec: DomainSpec) -> None:
    """UTC for all: an installed Windows is told that its zone is UTC, so no host's zone matters."""
    clock = etree.SubElement(root, "clock", {"offset": "utc"})
    if spec.windows:
        etree.SubElement(clock, "timer", {"name": "rtc", "tickpolicy": "catchup"})
        etree.SubElement(clock, "timer", {"name": "pit", "tickpolicy": "delay"})
        etree.SubElement(clock, "timer", {"name": "hpet", "present": "no"})
        if spec.acceleration is Acceleration.KVM:
            etree.SubElement(clock, "timer", {"name": "hypervclock", "present": "yes"})


def _cpu(root: etree._Element, spec: DomainSpec) -> None:
    if spec.acceleration is Acceleration.KVM:
        cpu = etree.SubElement(root, "cpu", {"mode": "host-passthrough", "check": "none", "migratable": "on"})
        if spec.windows:
            _topology(cpu, spec.vcpus)
            for name in ("vmx", "svm"):  # without nested virtualisation no HVCI starts by itself
                etree.SubElement(cpu, "feature", {"policy": "disable", "name": name})
        return
    cpu = etree.SubElement(root, "cpu", {"mode": "custom", "match": "exact", "check": "none"})
    _text(cpu, "model", spec.cpu_model, fallback="forbid")
    if spec.windows:
        _topology(cpu, spec.vcpus)


def _topology(cpu: etree._Element, vcpus: int) -> None:
    """Cores of one socket: client editions use one or two sockets only."""
    etree.SubElement(cpu, "topology", {"sockets": "1", "dies": "1", "cores": str(vcpus), "threads": "1"})


def _memory_file(root: etree._Element, spec: DomainSpec, memory: MemoryFile) -> None:
    """libvirt makes up the path of a memory file itself, so a given one is QEMU's own argument.

    QEMU splits its arguments at commas; a comma in a value is doubled (qemu-options, "comma").
    """
    path = str(memory.path).replace(",", ",,")
    share = "on" if memory.shared else "off"
    words = ["-object", f"memory-backend-file,id={_MEMORY_ID},size={spec.memory_mib}M,mem-path={path},share={share}"]
    words += ["-machine", f"memory-backend={_MEMORY_ID}"]
    if spec.incoming:
        words += ["-incoming", "defer"]
    line = etree.SubElement(root, f"{{{_QEMU_URI}}}commandline")
    for word in words:
        argument = etree.SubElement(line, f"{{{_QEMU_URI}}}arg")
        _attribute(argument, "value", word)
    # Else libvirt asks QEMU for each of 300 features of the processor by name: two thirds of QEMU's start.
    without = etree.SubElement(root, f"{{{_QEMU_URI}}}capabilities")
    _attribute(etree.SubElement(without, f"{{{_QEMU_URI}}}del"), "capability", "cpu-unavailable-features")


def _devices(root: etree._Element, spec: DomainSpec) -> None:
    devices = etree.SubElement(root, "devices")
    letters = {"vd": iter("abcdefgh"), "sd": iter("abcdefgh")}
    for disk in spec.disks:
        _disk(devices, disk, letters)
    # Nothing in a lab guest is on USB; without this line libvirt adds a controller that costs boot time.
    etree.SubElement(devices, "controller", {"type": "usb", "model": "none"})
    for nic in spec.nics:
        interface = etree.SubElement(devices, "interface", {"type": "ethernet" if nic.tap else "network"})
        etree.SubElement(interface, "mac", {"address": nic.mac})
        if nic.tap:
            etree.SubElement(interface, "target", {"dev": nic.tap, "managed": "no"})
        else:
            etree.SubElement(interface, "source", {"network": nic.network})
        etree.SubElement(interface, "model", {"type": nic.model})
        if not nic.link_up:
            etree.SubElement(interface, "link", {"state": "down"})
        # No guest boots from the network: its boot ROM only costs time.
        etree.SubElement(interface, "rom", {"enabled": "no"})
    for card in spec.passthrough:
        hostdev = etree.SubElement(devices, "hostdev", {"mode": "subsystem", "type": "pci", "managed": "yes"})
        domain, bus, slot, function = re.split(r"[:.]", card)
        where = {"domain": f"0x{domain}", "bus": f"0x{bus}", "slot": f"0x{slot}", "function": f"0x{function}"}
        etree.SubElement(etree.SubElement(hostdev, "source"), "address", where)
    for port in ("0", "1"):
        serial = etree.SubElement(devices, "serial", {"type": "pty"})
        if port == "0":
            etree.SubElement(serial, "log", {"file": str(spec.console_log), "append": "on"})
        etree.SubElement(serial, "target", {"type": "isa-serial", "port": port})
    if spec.agent:
        channel = etree.SubElement(devices, "channel", {"type": "unix"})
        etree.SubElement(channel, "target", {"type": "virtio", "name": _GUEST_AGENT_CHANNEL})
    model = {"type": "vga", "vram": "16384"} if spec.screen else {"type": "none"}
    etree.SubElement(etree.SubElement(devices, "video"), "model", model)
    etree.SubElement(devices, "memballoon", {"model": "none"})
    rng = etree.SubElement(devices, "rng", {"model": "virtio"})
    _text(rng, "backend", "/dev/urandom", model="random")
    etree.SubElement(devices, "panic", {"model": "isa"})
    if spec.tpm:
        tpm = etree.SubElement(devices, "tpm", {"model": "tpm-crb"})
        etree.SubElement(tpm, "backend", {"type": "emulator", "version": "2.0"})


def _disk(devices: etree._Element, spec: DiskSpec, letters: dict[str, Iterator[str]]) -> None:
    cdrom = spec.device == "cdrom"
    bus = "sata" if cdrom else spec.bus
    if bus not in {"virtio", "sata"}:
        raise UsageError(f"unknown disk bus {bus!r}", why="it is virtio or sata")
    disk = etree.SubElement(devices, "disk", {"type": "file", "device": spec.device})
    # Overlays are thrown away, so the guest's flushes need not reach the host's disk ("unsafe"). A write
    # that fails stops the guest and raises an I/O-error event: a full host is not the driver's fault.
    driver = {"name": "qemu", "type": spec.format}
    if not cdrom:
        driver |= {"cache": "unsafe", "error_policy": "stop", "discard": "unmap"}
    etree.SubElement(disk, "driver", driver)
    own = etree.SubElement(disk, "source", {"file": str(spec.path)})
    if spec.foreign:
        etree.SubElement(own, "seclabel", {"model": "dac", "relabel": "no"})
    above = disk
    for image in spec.backing:
        above = etree.SubElement(above, "backingStore", {"type": "file"})
        etree.SubElement(above, "format", {"type": spec.backing_format})
        source = etree.SubElement(above, "source", {"file": str(image)})
        etree.SubElement(source, "seclabel", {"model": "dac", "relabel": "no"})
    if spec.backing:
        etree.SubElement(above, "backingStore")
    prefix = "vd" if bus == "virtio" else "sd"
    letter = next(letters[prefix])
    etree.SubElement(disk, "target", {"dev": f"{prefix}{letter}", "bus": bus})
    if spec.read_only or cdrom:
        etree.SubElement(disk, "readonly")
    if spec.boot:
        etree.SubElement(disk, "boot", {"order": str(spec.boot)})


def _text(parent: etree._Element, tag: str, text: str, **attributes: str) -> None:
    element = etree.SubElement(parent, tag, attributes)
    try:
        element.text = text
    except ValueError as error:
        raise UsageError(f"the value of <{tag}> cannot be written to XML", why=str(error)) from error


def _attribute(element: etree._Element, name: str, value: str) -> None:
    try:
        element.set(name, value)
    except ValueError as error:
        raise UsageError(f"the value of {name} cannot be written to XML", why=str(error)) from error


def _check_name(kind: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a {kind}",
            why="a name has 1 to 63 letters, digits, dots, dashes and underscores, and starts with a letter or digit",
        )
