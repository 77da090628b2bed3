"""A rehearsal of a Windows installation, once well and once not; the other variants are in tests/soak."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from rehearsal import Rehearsal

from wsklab.errors import ImageError
from wsklab.guest import Claim


@pytest.fixture
def rehearsal(lab_root: Path, tmp_path: Path) -> Rehearsal:
    return Rehearsal(lab_root, tmp_path)


def test_a_windows_is_installed_read_back_and_started(rehearsal: Rehearsal) -> None:
    """UEFI: the key prompt is answered, all stages are passed, the image's guests let the lab in under one host key,
    the password is kept for its owner only, and no guest is left."""
    with rehearsal.lab() as lab:
        image, said = rehearsal.build(lab, "uefi")
        stages = [line.split(": ")[1].split(",")[0] for line in said if line.startswith("image rehearsal-uefi: ")]
        order = list(dict.fromkeys(stages))
        assert [word for word in order if word in {"winpe", "copy", "provisioning", "seal", "read back"}] == [
            *("winpe", "copy", "provisioning", "seal", "read back")
        ]
        facts = image.manifest.windows
        assert facts is not None
        assert (facts.edition, facts.build, facts.evaluation) == ("ServerStandardEval", "20348.587", True)
        assert facts.licence_expires is not None
        password = lab.home.keys / facts.password_file
        assert stat.S_IMODE(password.stat().st_mode) == 0o600
        assert lab.guests() == []
        lab.store.verify(image)

        profile = rehearsal.profile("uefi")
        assert lab.store.find(profile) is not None
        guest = lab.start_guest(profile, Claim(owner=lab.owner, purpose="test", expires="2999-01-01T00:00:00Z"))
        try:
            guest.wait_ready(lab.timeouts.after(profile.boot_budget_s), ready_check=profile.ready_check)
            assert (guest.record.method, guest.record.why, guest.record.user) == ("fork", "", "wsklab")
        finally:
            guest.destroy(lab.slots)
        lab.store.remove(image)


def test_an_error_dialog_is_found_and_the_logs_are_fetched(rehearsal: Rehearsal) -> None:
    """BIOS: a dialog that nobody answers; the error names the folder with the picture and Setup's log from the disk."""
    with rehearsal.lab(dialog_s=8) as lab:
        with pytest.raises(ImageError, match="waits for somebody") as caught:
            rehearsal.build(lab, "bios", "error")
        folder = Path(str(caught.value.evidence["folder"]))
        assert "in the stage copy" in caught.value.why
        assert "stand-in" in (folder / "panther/setupact.log").read_text()
        assert (folder / "last.png").read_bytes().startswith(b"\x89PNG")
        assert lab.guests() == []
        assert lab.store.find(rehearsal.profile("bios")) is None
