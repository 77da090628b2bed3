"""Every way to ask for UEFI firmware starts a guest: each is what one host or another has."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from lab_home import furnish
from rehearsal import Rehearsal

from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.domain_xml import DiskSpec, UefiChoice
from wsklab.factory import StartPlan
from wsklab.firmware import FIRMWARE_FOLDERS, KNOWN_FILES, find_uefi
from wsklab.guest import Claim


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    if os.geteuid() != 0:
        pytest.skip("private mode needs root")
    root = tmp_path_factory.mktemp("lab") / "home"
    root.mkdir()
    furnish(root)
    return Rehearsal(root, tmp_path_factory.mktemp("media"))


def described(folder: Path, *, setup_mode: bool) -> UefiChoice:
    """What this host describes of that sort: such descriptions alone, in a folder of their own."""
    for file in (file for place in FIRMWARE_FOLDERS for file in sorted(place.glob("*.json"))):
        features = json.loads(file.read_text())["features"]
        if ("secure-boot" in features) is setup_mode and "enrolled-keys" not in features:
            (folder / file.name).symlink_to(file)
    found = find_uefi((folder,), ())
    if found is None:
        pytest.skip("this host describes no such firmware")
    return found


@pytest.mark.parametrize("way", ["without secure boot", "in setup mode", "by its files"])
def test_a_guest_starts(rehearsal: Rehearsal, tmp_path: Path, way: str) -> None:
    """The firmware looks for something to start, on an empty disk."""
    chosen = (
        find_uefi((), KNOWN_FILES) if way == "by its files" else described(tmp_path, setup_mode=way == "in setup mode")
    )
    assert chosen is not None
    profile = rehearsal.profile("uefi")
    medium = rehearsal.medium("uefi", "good")
    with rehearsal.lab() as lab:
        site = lab.site()
        lab._ensure_network(site)
        factory = dataclasses.replace(site.factory, uefi=chosen)
        plan = StartPlan(discs=(DiskSpec(path=medium, format="raw", device="cdrom", bus="sata"),))
        claim = Claim(owner=lab.owner, purpose="test", expires="2999-01-01T00:00:00Z")
        guest = factory.create(profile, None, claim, plan)
        try:
            wait_until(
                lambda: guest.console.contains("BdsDxe") or NotYet(guest.console.tail(3)),
                Deadline.after(240), what="the firmware's first words",
            )  # fmt: skip
        finally:
            guest.destroy(lab.slots)
