"""Facts about the XML of guests and networks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from wsklab.domain_mark import DomainMetadata, parse_mark, parse_metadata, parse_network_mark, render_mark
from wsklab.domain_xml import (
    Acceleration,
    DiskSpec,
    DomainSpec,
    HostEntry,
    MemoryFile,
    NetworkSpec,
    NicSpec,
    UefiChoice,
    render_domain_xml,
    render_network_xml,
)
from wsklab.errors import HypervisorError, UsageError

_MARK = DomainMetadata(
    home="0123abcd", owner="ann", purpose="run", run="r1", profile="wine-bookworm", slot=3, expires=""
)


def _spec(**changes: object) -> DomainSpec:
    spec = DomainSpec(
        name="wsklab-3-x",
        uuid="5b6f3e0e-9f1d-4f62-bd7c-4a1f3b6f0c11",
        metadata=_MARK,
        acceleration=Acceleration.TCG,
        vcpus=2,
        memory_mib=1024,
        disks=(DiskSpec(path=Path("/lab/a & b/overlay.qcow2")),),
        nics=(NicSpec(network="wsklab-0123", mac="52:54:00:77:00:03"),),
        kernel=Path("/lab/vmlinuz"),
        initrd=Path("/lab/initrd.img"),
        cmdline="root=/dev/vda console=ttyS0",
        console_log=Path("/lab/console.log"),
    )
    return dataclasses.replace(spec, **changes)  # type: ignore[arg-type]


def _find(xml: str, path: str) -> etree._Element:
    found = etree.fromstring(xml).find(path)
    assert found is not None, path
    return found


def test_a_fork_s_processor_is_not_asked_for_each_feature() -> None:
    """libvirt would ask by 300 questions, where QEMU reads each byte of a question by itself; other guests keep it."""
    words = "{http://libvirt.org/schemas/domain/qemu/1.0}"
    xml = render_domain_xml(_spec(memory_file=MemoryFile(path=Path("/lab/memory"))))
    assert _find(xml, f"{words}capabilities/{words}del").get("capability") == "cpu-unavailable-features"
    assert words not in render_domain_xml(_spec())


def test_a_tcg_guest_gets_the_profile_s_cpu_and_a_small_translation_cache() -> None:
    """Under TCG the CPU is the profile's model, without fallback, and the translation cache is 128 MiB."""
    xml = render_domain_xml(_spec())
    assert etree.fromstring(xml).get("type") == "qemu"
    assert _find(xml, "cpu/model").text == "qemu64"
    assert _find(xml, "cpu/model").get("fallback") == "forbid"
    assert _find(xml, "features/tcg/tb-cache").text == "128"


def test_a_kvm_guest_gets_the_host_s_cpu() -> None:
    """Under KVM the guest has the host's CPU and no TCG settings."""
    xml = render_domain_xml(_spec(acceleration=Acceleration.KVM))
    assert etree.fromstring(xml).get("type") == "kvm"
    assert _find(xml, "cpu").get("mode") == "host-passthrough"
    assert etree.fromstring(xml).find("features/tcg") is None


def test_a_crashed_guest_is_kept_for_the_evidence() -> None:
    """On a crash the domain is preserved, and a panic device reports it."""
    xml = render_domain_xml(_spec())
    assert _find(xml, "on_crash").text == "preserve"
    assert _find(xml, "devices/panic").get("model") == "isa"


def test_a_generation_is_told_to_who_asks() -> None:
    """Guests of kind wine have none, and no device for it."""
    assert etree.fromstring(render_domain_xml(_spec())).find("genid") is None
    made = render_domain_xml(_spec(generation="11111111-2222-5333-8444-555555555555"))
    assert _find(made, "genid").text == "11111111-2222-5333-8444-555555555555"


def test_the_console_log_is_appended_to() -> None:
    """The serial port is logged to a file that keeps its owner: append is on."""
    log = _find(render_domain_xml(_spec()), "devices/serial/log")
    assert (log.get("file"), log.get("append")) == ("/lab/console.log", "on")


def test_the_second_serial_port_is_for_debuggers() -> None:
    """A terminal without a path, the same in every guest, so that a template's forks have it too; it is not logged."""
    ports = etree.fromstring(render_domain_xml(_spec())).findall("devices/serial")

    assert [port.find("target").get("port") for port in ports] == ["0", "1"]  # type: ignore[union-attr]
    assert [port.get("type") for port in ports] == ["pty", "pty"]
    assert ports[1].find("log") is None


def test_no_balloon_no_usb_no_network_boot_no_graphics() -> None:
    """Devices that cost time or blur a test are absent."""
    xml = render_domain_xml(_spec())
    assert _find(xml, "devices/memballoon").get("model") == "none"
    assert _find(xml, "devices/controller[@type='usb']").get("model") == "none"
    assert _find(xml, "devices/interface/rom").get("enabled") == "no"
    assert etree.fromstring(xml).find("devices/graphics") is None


def test_disks_are_named_per_bus() -> None:
    """Each bus counts its own letters; a CD-ROM is on SATA and read-only."""
    disks = (
        DiskSpec(path=Path("/a")),
        DiskSpec(path=Path("/b"), device="cdrom", format="raw"),
        DiskSpec(path=Path("/c"), bus="sata"),
        DiskSpec(path=Path("/d"), read_only=True),
    )
    root = etree.fromstring(render_domain_xml(_spec(disks=disks)))
    targets = [(t.get("dev"), t.get("bus")) for t in root.findall("devices/disk/target")]
    assert targets == [("vda", "virtio"), ("sda", "sata"), ("sdb", "sata"), ("vdb", "virtio")]
    assert [disk.find("readonly") is not None for disk in root.findall("devices/disk")] == [False, True, False, True]


def test_a_shared_image_is_never_given_to_qemu() -> None:
    """The image under an overlay is named, ends the chain, and keeps its owner."""
    xml = render_domain_xml(_spec(disks=(DiskSpec(path=Path("/o"), backing=(Path("/i/disk.qcow2"),)),)))
    assert _find(xml, "devices/disk/backingStore/source").get("file") == "/i/disk.qcow2"
    assert _find(xml, "devices/disk/backingStore/source/seclabel").get("relabel") == "no"
    assert len(_find(xml, "devices/disk/backingStore/backingStore")) == 0


def test_a_full_host_stops_the_guest() -> None:
    """A failing write stops the guest and is reported, instead of showing the driver an I/O error."""
    assert _find(render_domain_xml(_spec()), "devices/disk/driver").get("error_policy") == "stop"


def test_without_a_kernel_the_disk_boots() -> None:
    """No direct kernel: first disk; UEFI is chosen by its word."""
    xml = render_domain_xml(_spec(kernel=None, firmware="uefi"))
    assert _find(xml, "os/boot").get("dev") == "hd"
    assert _find(xml, "os").get("firmware") == "efi"


def test_a_windows_guest_knows_its_hypervisor_under_kvm_only() -> None:
    """Enlightenments need KVM; under TCG QEMU refuses them. Nested virtualisation is off, one socket has all cores."""
    xml = render_domain_xml(_spec(kernel=None, windows=True, vcpus=4, acceleration=Acceleration.KVM))
    names = [element.tag for element in _find(xml, "features/hyperv")]
    assert {"relaxed", "vpindex", "synic", "stimer", "reset"} <= set(names)
    assert names.index("vpindex") < names.index("synic") < names.index("stimer")
    assert {feature.get("name") for feature in etree.fromstring(xml).iterfind("cpu/feature")} == {"vmx", "svm"}
    assert _find(xml, "cpu/topology").get("cores") == "4"
    assert _find(xml, "clock").get("offset") == "utc"
    slow = render_domain_xml(_spec(kernel=None, windows=True, acceleration=Acceleration.TCG))
    assert etree.fromstring(slow).find("features/hyperv") is None
    assert "hypervclock" not in slow


def test_firmware_is_asked_for_by_what_it_can_or_by_its_files() -> None:
    """Secure Boot is never enforced: without it, or without keys; files are named where libvirt does not know them."""
    nvram = Path("/d/vars.fd")
    plain = UefiChoice(code=Path("/f/code.fd"))
    assert render_domain_xml(_spec(kernel=None, firmware="uefi", nvram=nvram, uefi=plain)) == render_domain_xml(
        _spec(kernel=None, firmware="uefi", nvram=nvram)
    )
    setup = render_domain_xml(
        _spec(kernel=None, firmware="uefi", nvram=nvram, uefi=UefiChoice(code=Path("/f/c"), setup_mode=True))
    )
    features = {one.get("name"): one.get("enabled") for one in etree.fromstring(setup).iterfind("os/firmware/feature")}
    assert features == {"secure-boot": "yes", "enrolled-keys": "no"}
    assert _find(setup, "features/smm").get("state") == "on"
    files = UefiChoice(code=Path("/f/code.fd"), variables=Path("/f/vars.fd"))
    named = render_domain_xml(_spec(kernel=None, firmware="uefi", nvram=nvram, uefi=files))
    assert _find(named, "os").get("firmware") is None
    assert dict(_find(named, "os/loader").attrib) == {"readonly": "yes", "type": "pflash"}
    assert _find(named, "os/nvram").get("template") == "/f/vars.fd"
    bios = render_domain_xml(_spec(kernel=None, uefi=UefiChoice(code=Path("/f/c"), setup_mode=True)))
    assert etree.fromstring(bios).find("features/smm") is None


def test_a_tpm_is_emulated() -> None:
    """Only where the profile says so."""
    assert etree.fromstring(render_domain_xml(_spec())).find("devices/tpm") is None
    tpm = _find(render_domain_xml(_spec(tpm=True)), "devices/tpm")
    assert tpm.get("model") == "tpm-crb"
    backend = tpm.find("backend")
    assert backend is not None
    assert dict(backend.attrib) == {"type": "emulator", "version": "2.0"}


def test_disks_have_a_place_in_the_boot_order() -> None:
    """Disk first, disc second: an empty disk falls through to the disc, a full one does not ask for a key again."""
    disks = (
        DiskSpec(path=Path("/d/disk.qcow2"), bus="sata", boot=1),
        DiskSpec(path=Path("/d/windows.iso"), format="raw", device="cdrom", boot=2),
        DiskSpec(path=Path("/d/answer.iso"), format="raw", device="cdrom"),
    )
    xml = render_domain_xml(_spec(kernel=None, firmware="uefi", nvram=Path("/d/vars.fd"), disks=disks))
    root = etree.fromstring(xml)
    assert [disk.findtext("boot") is not None for disk in root.iterfind("devices/disk")] == [True, True, False]
    assert [boot.get("order") for boot in root.iterfind("devices/disk/boot")] == ["1", "2"]
    assert root.find("os/boot") is None
    assert root.findtext("os/nvram") == "/d/vars.fd"
    assert _find(xml, "os/firmware/feature").get("enabled") == "no"


@pytest.mark.parametrize("name", ["", "../x", "a b", "-a", "a\n", "a" * 64, "a/b"])
def test_hostile_names_are_refused(name: str) -> None:
    """A name that is a path, an option or too long never reaches the hypervisor."""
    with pytest.raises(UsageError):
        render_domain_xml(_spec(name=name))


def test_a_control_character_in_the_command_line_is_a_usage_error() -> None:
    """What XML cannot carry is refused with our own error."""
    with pytest.raises(UsageError, match="cmdline"):
        render_domain_xml(_spec(cmdline="a\x00b"))


@given(owner=st.text(), purpose=st.text(), expires=st.text())
def test_every_mark_survives_the_round_trip(owner: str, purpose: str, expires: str) -> None:
    """Any text at all, control characters and markup included, comes back unchanged from both forms."""
    mark = dataclasses.replace(_MARK, owner=owner, purpose=purpose, expires=expires)
    assert parse_mark(render_mark(mark)) == mark
    assert parse_metadata(render_domain_xml(_spec(metadata=mark))) == mark


def test_a_foreign_domain_has_no_mark() -> None:
    """Without our element, or with the same word in another namespace, a domain is not ours."""
    assert parse_metadata("<domain><name>x</name></domain>") is None
    assert parse_metadata("<domain><metadata><domain home='h' xmlns='urn:other'/></metadata></domain>") is None


@pytest.mark.parametrize(
    "xml",
    [
        "no xml",
        "<domain home='h'/>",
        "<domain home='\\{ffffff}' owner='' purpose='' run='' profile='' slot='1' expires=''/>",
        "<domain home='' owner='' purpose='' run='' profile='' slot='x' expires=''/>",
    ],
)
def test_a_damaged_mark_is_an_error_of_ours(xml: str) -> None:
    """Damage is reported, never guessed around."""
    with pytest.raises(HypervisorError):
        parse_mark(xml)


def test_an_isolated_network_answers_known_cards_only() -> None:
    """No forwarding, no name service, no spanning tree, and DHCP without a range."""
    spec = NetworkSpec(
        name="wsklab-0123abcd",
        bridge="wl0123abcd",
        home="0123abcd",
        address="192.168.213.1",
        hosts=(HostEntry(mac="52:54:00:77:00:03", address="192.168.213.13"),),
    )
    xml = render_network_xml(spec)
    root = etree.fromstring(xml)
    assert root.find("forward") is None
    assert root.find("ip/dhcp/range") is None
    assert _find(xml, "dns").get("enable") == "no"
    assert (_find(xml, "bridge").get("stp"), _find(xml, "bridge").get("delay")) == ("off", "0")
    assert _find(xml, "ip/dhcp/host").get("ip") == "192.168.213.13"
    mark = parse_network_mark(xml)
    assert mark is not None
    assert mark.home == "0123abcd"
    other = dataclasses.replace(spec, hosts=())
    assert parse_network_mark(render_network_xml(other)) != mark


def test_a_bridge_name_fits_the_kernel() -> None:
    """An interface name of 16 characters is refused before anything is made."""
    with pytest.raises(UsageError, match="too long"):
        render_network_xml(NetworkSpec(name="n", bridge="b" * 16, home="h", address="192.168.1.1"))
