"""Discs and Windows media: what is written is what Setup finds, and a wrong medium is refused with its reason."""

from __future__ import annotations

import io
from pathlib import Path

import pycdlib
import pytest
from windows_iso import PROMPT, SERVER_2022, SILENT, medium, server, wim

from wsklab.errors import ImageError
from wsklab.image.wim import read_wim
from wsklab.image.windows_media import inspect_medium
from wsklab.media import Disc, write_disc
from wsklab.profile import GuestProfile, load_profiles
from wsklab.resources import images_root

PROFILES = load_profiles(images_root())


def refused(path: Path, profile: GuestProfile) -> ImageError:
    with pytest.raises(ImageError) as caught:
        inspect_medium(path, profile, profiles=PROFILES.values())
    return caught.value


def test_a_disc_has_the_names_that_windows_reads(tmp_path: Path) -> None:
    """Joliet names, at any depth, with their content; found whatever the letters' case."""
    files = {
        "Autounattend.xml": b"<unattend/>",
        "wsklab/first-logon.cmd": b"echo\r\n",
        "wsklab/keys/administrators_authorized_keys": b"ssh-ed25519 AAAA",
    }
    path = tmp_path / "answer.iso"
    write_disc(path, files, label="wsklab")
    joliet = pycdlib.PyCdlib()
    joliet.open(str(path))
    assert joliet.has_joliet()
    for name, content in files.items():
        taken = io.BytesIO()
        joliet.get_file_from_iso_fp(taken, joliet_path=f"/{name}")
        assert taken.getvalue() == content
    joliet.close()
    with Disc(path) as disc, disc.open("AUTOUNATTEND.XML") as stream:
        assert stream.read() == b"<unattend/>"


def test_a_name_that_joliet_cuts_is_refused(tmp_path: Path) -> None:
    """A cut name would never be found in the guest."""
    with pytest.raises(ImageError, match="cannot be on a disc"):
        write_disc(tmp_path / "a.iso", {"x" * 65: b""}, label="x")


def test_the_wanted_edition_is_taken_by_its_index(tmp_path: Path) -> None:
    """Desktop, not core; evaluation media get no key; the asking boot image is known with its place."""
    path = server(tmp_path / "ws2022.iso")
    found = inspect_medium(path, PROFILES["ws2022"])
    assert (found.image.index, found.image.edition, found.image.revision) == (2, "ServerStandardEval", 587)
    assert found.product_key is None
    assert found.boot_patch is not None
    assert found.boot_patch.content == SILENT
    with path.open("rb") as file:
        file.seek(found.boot_patch.offset)
        assert file.read(len(PROMPT)) == PROMPT


def test_a_volume_edition_gets_its_public_key(tmp_path: Path) -> None:
    """The key of exactly this edition."""
    path = server(tmp_path / "vl.iso", [("ServerDatacenter", "Server", 20348)])
    assert inspect_medium(path, PROFILES["ws2022"]).product_key == "WX4NM-KYWYW-QJJR4-XV3QB-6VM33"


def test_a_boot_image_that_is_another_is_left_alone(tmp_path: Path) -> None:
    """Bytes are only replaced where the asking image really is."""
    path = medium(
        tmp_path / "x.iso",
        {
            "sources/install.wim": wim(SERVER_2022),
            "efi/microsoft/boot/efisys.bin": PROMPT,
            "efi/microsoft/boot/efisys_noprompt.bin": SILENT,
        },
        boot=b"Q" * 4096,
    )
    assert inspect_medium(path, PROFILES["ws2022"]).boot_patch is None


def test_boot_images_of_two_lengths_are_left_alone(tmp_path: Path) -> None:
    """A longer one would cover what stands behind."""
    path = server(tmp_path / "x.iso", **{"efi/microsoft/boot/efisys_noprompt.bin": SILENT + b"N"})
    assert inspect_medium(path, PROFILES["ws2022"]).boot_patch is None


def test_another_release_names_the_profile_that_fits(tmp_path: Path) -> None:
    """Whoever took the wrong file learns which profile it is for."""
    error = refused(server(tmp_path / "x.iso", [("ServerStandardEval", "Server", 17763)]), PROFILES["ws2022"])
    assert "17763" in error.why
    assert "ws2019" in error.fix


def test_a_missing_edition_lists_what_there_is(tmp_path: Path) -> None:
    """Core only, and the profile wants a desktop."""
    error = refused(server(tmp_path / "x.iso", [("ServerStandardEval", "Server Core", 20348)]), PROFILES["ws2022"])
    assert "Server Core" in error.why


def test_an_edition_without_a_key_is_refused(tmp_path: Path) -> None:
    """A guessed key ends in a dialog that waits for ever."""
    recipe = PROFILES["ws2022"].windows_recipe
    assert recipe is not None
    keyless = PROFILES["ws2022"].model_copy(update={"recipe": recipe.model_copy(update={"keys": {}})})
    assert "key" in refused(server(tmp_path / "x.iso", [("ServerStandard", "Server", 20348)]), keyless).message


def test_another_language_is_refused(tmp_path: Path) -> None:
    """The answer file names a group that is called otherwise there."""
    path = medium(tmp_path / "x.iso", {"sources/install.wim": wim(SERVER_2022, language="de-DE")})
    assert "de-DE" in refused(path, PROFILES["ws2022"]).message


def test_text_is_no_disc(tmp_path: Path) -> None:
    """The HTML page that a browser saved instead of the file."""
    path = tmp_path / "x.iso"
    path.write_text("<html>" * 20000)
    assert "no disc image" in refused(path, PROFILES["ws2022"]).message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The path is in the error."""
    assert "gone.iso" in refused(tmp_path / "gone.iso", PROFILES["ws2022"]).message


def test_a_cut_disc_is_seen(tmp_path: Path) -> None:
    """A download that ended early is told before the installation starts."""
    path = server(tmp_path / "x.iso")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 8192])
    error = refused(path, PROFILES["ws2022"])
    assert "cut" in error.message or "no disc image" in error.message


def test_a_disc_of_something_else_is_no_windows_medium(tmp_path: Path) -> None:
    """Says what was looked for."""
    assert "install.wim" in refused(medium(tmp_path / "x.iso", {"readme": b"x"}), PROFILES["ws2022"]).why


def test_a_split_image_is_told_apart(tmp_path: Path) -> None:
    """A stick's copy, not the published file."""
    error = refused(medium(tmp_path / "x.iso", {"sources/install.swm": b"MSWIM"}), PROFILES["ws2022"])
    assert "split" in error.why


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "no Windows image"),
        (b"PK\x03\x04" + bytes(300), "no Windows image"),
        (wim(SERVER_2022)[:5000], "cut"),
        (wim(SERVER_2022, count=7), "damaged"),
        (wim(SERVER_2022).replace("IMAGE".encode("utf-16-le"), "IMAGX".encode("utf-16-le"), 1), "cannot be read"),
        (wim(SERVER_2022)[:0x48] + b"\xff" * 24 + wim(SERVER_2022)[0x60:], "damaged"),
    ],
)
def test_a_damaged_image_file_is_an_error_of_the_image(data: bytes, complaint: str) -> None:
    """No other exception, whatever the bytes are."""
    with pytest.raises(ImageError, match=complaint):
        read_wim(io.BytesIO(data), what="install.wim")
