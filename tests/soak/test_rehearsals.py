"""Rehearsals of a Windows installation in every variant; CI does two of them (tests/integration/lab)."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_home import furnish
from rehearsal import Rehearsal
from standin_medium import Firmware

from wsklab.cli.output import Output
from wsklab.cli.services import Services
from wsklab.errors import ImageError
from wsklab.image.install_state import read_state
from wsklab.image.install_watch import InstallationWatch, KeyPresses

BOTH: tuple[Firmware, ...] = ("uefi", "bios")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.geteuid() != 0:
        pytest.skip("private mode needs root")
    made = tmp_path_factory.mktemp("lab") / "home"
    made.mkdir()
    furnish(made)
    return made


@pytest.fixture
def rehearsal(root: Path, tmp_path: Path) -> Iterator[Rehearsal]:
    made = Rehearsal(root, tmp_path)
    yield made
    with made.lab() as lab:
        assert lab.guests() == []


@pytest.mark.parametrize("firmware", BOTH)
def test_installed(rehearsal: Rehearsal, firmware: Firmware, tmp_path: Path) -> None:
    """Both kinds of firmware come to an image; one of them with virtio drivers and the agent."""
    virtio = None
    if firmware == "bios":
        virtio = tmp_path / "virtio-win"
        for name, text in (("guest-agent/qemu-ga-x86_64.msi", "msi"), ("vioserial/2k22/amd64/vioser.inf", "inf")):
            (virtio / name).parent.mkdir(parents=True)
            (virtio / name).write_text(text)
    with rehearsal.lab() as lab:
        image, _ = rehearsal.build(lab, firmware, virtio=virtio)
        assert image.manifest.windows is not None
        lab.store.remove(image)


@pytest.mark.parametrize("firmware", BOTH)
@pytest.mark.parametrize("variant", ["hangs", "product-key"])
def test_a_still_screen_before_windows_runs(rehearsal: Rehearsal, firmware: Firmware, variant: str) -> None:
    """Nothing is on the disk: there are no logs, and that is said."""
    with rehearsal.lab(dialog_s=8) as lab:
        with pytest.raises(ImageError, match="waits for somebody") as caught:
            rehearsal.build(lab, firmware, variant)
        assert "in the stage winpe" in caught.value.why
        assert "no NTFS volume" in str(caught.value.evidence["missing"])


def test_a_disk_that_does_not_start(rehearsal: Rehearsal) -> None:
    """The firmware falls back to the medium after the first restart."""
    with rehearsal.lab() as lab, pytest.raises(ImageError, match="does not start from the disk"):
        rehearsal.build(lab, "uefi", "no-loader")


def test_nobody_presses_a_key(rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the key the medium does not start: proof that the prompt of the other rehearsals is a real one."""
    monkeypatch.setattr(KeyPresses, "due", lambda *_: False)
    with rehearsal.lab(dialog_s=8) as lab, pytest.raises(ImageError, match="waits for somebody"):
        rehearsal.build(lab, "uefi")


def test_the_other_boot_image_takes_the_place_of_the_asking_one(
    rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an overlay: no key is pressed, and the medium's file is as it was."""
    monkeypatch.setattr(KeyPresses, "due", lambda *_: pytest.fail("a key was to be pressed"))
    before = rehearsal.medium("uefi", "two-loaders").read_bytes()
    with rehearsal.lab() as lab:
        image, _ = rehearsal.build(lab, "uefi", "two-loaders")
        lab.store.remove(image)
    assert rehearsal.medium("uefi", "two-loaders").read_bytes() == before


def test_a_build_that_was_killed_is_continued(rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest of the first build is the guest of the second; it was not installed anew."""
    seen: list[str] = []

    class Killed(BaseException):
        """What a SIGKILL would do: no handler runs."""

    feed = InstallationWatch.feed

    def until_copy(watch: InstallationWatch, sample: Any) -> Any:
        end = feed(watch, sample)
        if watch.stage == "copy":
            raise Killed
        return end

    with rehearsal.lab() as lab:
        with monkeypatch.context() as patch:
            patch.setattr(InstallationWatch, "feed", until_copy)
            patch.setattr("wsklab.guest.Guest.destroy", lambda *_: None)
            with pytest.raises(Killed):
                rehearsal.build(lab, "bios")
        left = lab.guests()
        state = read_state(left[0].directory)
        assert state is not None
        seen.append(state.token)
        image, _ = rehearsal.build(lab, "bios")
        assert image.manifest.windows is not None
        assert image.manifest.windows.password_file == f"rehearsal-bios-{seen[0][:8]}.password"
        lab.store.remove(image)


@pytest.mark.parametrize("provision", [False, True])
def test_a_disk_that_somebody_brings(rehearsal: Rehearsal, *, provision: bool) -> None:
    """The disk of a good installation becomes an image again; with provisioning its settings are made anew, kept, and
    the guest's host key is the one of before."""
    profile = rehearsal.profile("bios")
    with rehearsal.lab() as lab:
        image, _ = rehearsal.build(lab, "bios")
        disk = rehearsal.place / "brought.qcow2"
        shutil.copyfile(image.disk, disk)
        lab.store.remove(image)
        before = disk.read_bytes()
        imported = Services().import_windows(
            lab, profile, disk, account="wsklab", provision=provision, output=Output(stderr=io.StringIO())
        )
        facts = imported.manifest.windows
        assert facts is not None
        assert (facts.edition, facts.build, facts.acceleration) == ("ServerStandardEval", "20348.587", "")
        assert imported.manifest.host_key == image.manifest.host_key
        assert disk.read_bytes() == before
        lab.store.remove(imported)
