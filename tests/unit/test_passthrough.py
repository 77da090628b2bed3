"""A card is given to a guest only when it is one, alone, and nobody's; asked of a made-up /sys."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from lxml import etree

from wsklab.domain_mark import DomainMetadata
from wsklab.domain_xml import Acceleration, DomainSpec, render_domain_xml
from wsklab.errors import HostError, UsageError
from wsklab.passthrough import require_card


class Sys:
    """A tree as Linux has it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def device(self, address: str, kind: int, *, group: str = "", interface: str = "", state: str = "down") -> None:
        place = self.root / "bus/pci/devices" / address
        place.mkdir(parents=True)
        (place / "class").write_text(f"{kind:#08x}\n")
        if group:
            members = self.root / "kernel/iommu_groups" / group / "devices"
            members.mkdir(parents=True, exist_ok=True)
            (members / address).symlink_to(place)
            (place / "iommu_group").symlink_to(members.parent)
        if interface:
            (place / "net" / interface).mkdir(parents=True)
            (place / "net" / interface / "operstate").write_text(f"{state}\n")


@pytest.fixture
def sys(tmp_path: Path) -> Sys:
    return Sys(tmp_path)


def test_a_free_card(sys: Sys) -> None:
    """A bridge beside it does not matter; the address gets its domain."""
    sys.device("0000:03:00.0", 0x020000, group="7", interface="eth1")
    sys.device("0000:00:1c.0", 0x060400, group="7")
    assert require_card("03:00.0", root=sys.root) == "0000:03:00.0"
    assert require_card("0000:03:00.0", root=sys.root) == "0000:03:00.0"


@pytest.mark.parametrize("address", ["", "eth0", "03:00", "0000:03:00.8", "0000:03:00.0; rm"])
def test_words_that_are_no_address(sys: Sys, address: str) -> None:
    """Nothing of them reaches a path."""
    with pytest.raises(UsageError, match="not a PCI address"):
        require_card(address, root=sys.root)


def test_what_cannot_be_given(sys: Sys) -> None:
    """Absent, another kind of device, no IOMMU, company in its group, in use: one error each."""
    sys.device("0000:01:00.0", 0x030000, group="1")
    sys.device("0000:02:00.0", 0x020000)
    sys.device("0000:03:00.0", 0x020000, group="3")
    sys.device("0000:03:00.1", 0x020000, group="3")
    sys.device("0000:04:00.0", 0x020000, group="4", interface="enp4s0", state="up")
    for address, kind, words in (
        ("09:00.0", UsageError, "there is no PCI device"),
        ("01:00.0", UsageError, "no network card"),
        ("02:00.0", HostError, "cannot be given to a guest"),
        ("03:00.0", HostError, "alone"),
        ("04:00.0", HostError, "the host uses"),
    ):
        with pytest.raises(kind, match=words):
            require_card(address, root=sys.root)


def test_the_domain_has_the_card(tmp_path: Path) -> None:
    """libvirt takes it from the host while the guest runs, and gives it back."""
    spec = DomainSpec(
        name="w",
        uuid=str(uuid.uuid4()),
        metadata=DomainMetadata(home="h", owner="o", purpose="user", run="", profile="p", slot=1, expires=""),
        acceleration=Acceleration.KVM,
        vcpus=1,
        memory_mib=512,
        disks=(),
        nics=(),
        kernel=None,
        initrd=None,
        console_log=tmp_path / "console.log",
        passthrough=("0000:03:00.1",),
    )
    device = etree.fromstring(render_domain_xml(spec)).find("devices/hostdev")
    assert device is not None
    assert dict(device.attrib) == {"mode": "subsystem", "type": "pci", "managed": "yes"}
    address = device.find("source/address")
    assert address is not None
    assert dict(address.attrib) == {"domain": "0x0000", "bus": "0x03", "slot": "0x00", "function": "0x1"}
