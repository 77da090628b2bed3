"""What stops an installation is told before it begins, one error each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from windows_iso import medium, server, wim

from wsklab.domain_xml import Acceleration, UefiChoice
from wsklab.errors import HostError, HostFull, ImageError, UsageError
from wsklab.firmware import KNOWN_FILES, find_uefi
from wsklab.image.install_checks import InstallHost, check_installation, check_medium
from wsklab.image.install_state import (
    InstallState,
    make_password,
    read_state,
    write_password,
    write_state,
)
from wsklab.image.windows_media import windows_inputs
from wsklab.profile import load_profiles
from wsklab.resources import images_root

PROFILES = load_profiles(images_root())
SERVER = PROFILES["ws2022"].model_copy(update={"disk_gib": 1})


def firmware(folder: Path, name: str = "60-edk2.json", *, features: tuple[str, ...] = (), there: bool = True) -> Path:
    """A description of firmware, as QEMU's packages bring it."""
    code = folder / f"{name}.fd"
    if there:
        code.write_bytes(b"")
    description = {
        "interface-types": ["uefi"],
        "mapping": {"device": "flash", "executable": {"filename": str(code), "format": "raw"}},
        "targets": [{"architecture": "x86_64", "machines": ["pc-i440fx-*", "pc-q35-*"]}],
        "features": list(features),
    }
    (folder / name).write_text(json.dumps(description))
    return code


@pytest.fixture
def host(tmp_path: Path) -> InstallHost:
    """A host on which nothing is missing."""
    folder = tmp_path / "firmware"
    folder.mkdir()
    firmware(folder)
    flags = frozenset({"cx16", "lahf_lm", "sse4_2", "popcnt"})
    return InstallHost(
        place=tmp_path, acceleration=Acceleration.KVM, processor=flags, firmware=(folder,), files=(),
        programs=lambda name: f"/usr/bin/{name}",
    )  # fmt: skip


def test_nothing_is_missing(host: InstallHost) -> None:
    """No error, for every release."""
    for profile in PROFILES.values():
        if profile.windows_recipe is not None:
            check_installation(profile.model_copy(update={"disk_gib": 1}), host)


def test_a_profile_that_is_not_installed(host: InstallHost) -> None:
    """A wine guest has no medium."""
    with pytest.raises(UsageError, match="not installed from a Windows medium"):
        check_installation(PROFILES["wine-bookworm"], host)


def test_emulation_is_asked_for(host: InstallHost) -> None:
    """Hours that nobody wanted are not spent."""
    slow = replace(host, acceleration=Acceleration.TCG, processor=frozenset())
    with pytest.raises(HostError, match="without KVM"):
        check_installation(SERVER, slow)
    check_installation(SERVER, slow, emulated=True)


def test_a_processor_that_lacks_something(host: InstallHost) -> None:
    """24H2 wants POPCNT; Server 2022 does not."""
    old = replace(host, processor=host.processor - {"popcnt"})
    with pytest.raises(HostError, match="processor") as caught:
        check_installation(PROFILES["win11-24h2"], old)
    assert "lacks popcnt" in caught.value.why
    check_installation(SERVER, old)


def test_firmware_that_enforces_secure_boot_is_none(host: InstallHost) -> None:
    """A test-signed driver would be refused; the error says where was looked."""
    firmware(host.firmware[0], features=("secure-boot", "enrolled-keys", "requires-smm"))
    with pytest.raises(HostError, match="no UEFI firmware") as caught:
        check_installation(SERVER, host)
    assert str(host.firmware[0]) in caught.value.why
    check_installation(SERVER.model_copy(update={"firmware": "bios"}), host)


def test_firmware_without_keys_is_in_setup_mode(tmp_path: Path) -> None:
    """It does not enforce Secure Boot either; firmware without Secure Boot is the better one."""
    code = firmware(tmp_path, "50-secure.json", features=("secure-boot", "requires-smm"))
    firmware(tmp_path, "40-enrolled.json", features=("secure-boot", "enrolled-keys"))
    assert find_uefi((tmp_path,), ()) == UefiChoice(code=code, setup_mode=True)
    plain = firmware(tmp_path, "60-plain.json")
    assert find_uefi((tmp_path,), ()) == UefiChoice(code=plain)


def test_known_files_where_nothing_is_described(tmp_path: Path) -> None:
    """Code and variables, both there; the first pair that is."""
    pairs = tuple((tmp_path / f"{name}-code", tmp_path / f"{name}-vars") for name in "abc")
    assert find_uefi((), pairs) is None
    pairs[0][0].touch()
    for path in (*pairs[1], *pairs[2]):
        path.touch()
    assert find_uefi((), pairs) == UefiChoice(code=pairs[1][0], variables=pairs[1][1])
    assert all(code.is_absolute() and variables.is_absolute() for code, variables in KNOWN_FILES)


@pytest.mark.parametrize("absent", ["swtpm", "swtpm_setup"])
def test_a_tpm_wants_its_programs(host: InstallHost, absent: str) -> None:
    """Told before the build; profiles without a TPM do not ask."""
    lacking = replace(host, programs=lambda name: None if name == absent else name)
    with pytest.raises(HostError, match=rf"has a TPM, which {absent} would emulate") as caught:
        check_installation(SERVER.model_copy(update={"tpm": True}), lacking)
    assert "swtpm" in caught.value.fix
    check_installation(SERVER, lacking)
    check_installation(SERVER.model_copy(update={"tpm": True}), host)


def test_firmware_is_found_as_libvirt_finds_it(tmp_path: Path) -> None:
    """A file in /etc hides its namesake; damaged descriptions and missing files are passed over."""
    etc, usr = tmp_path / "etc", tmp_path / "usr"
    etc.mkdir()
    usr.mkdir()
    wanted = firmware(usr, "70-later.json")
    firmware(usr, "60-edk2.json")
    firmware(etc, "60-edk2.json", there=False)
    (usr / "10-damaged.json").write_text("{")
    (usr / "20-other.json").write_text("[]")
    assert find_uefi((etc, usr), ()) == UefiChoice(code=wanted)
    assert find_uefi((tmp_path / "nothing",), ()) is None


def test_no_room(host: InstallHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how much there is and how much is needed."""
    usage = type("Usage", (), {"free": 1 << 30})
    monkeypatch.setattr("wsklab.image.install_checks.shutil.disk_usage", lambda _: usage)
    with pytest.raises(HostFull) as caught:
        check_installation(SERVER, host)
    assert "1024 MiB are free" in caught.value.why
    assert "needs 1536 MiB" in caught.value.why


def test_the_medium_is_looked_at(host: InstallHost, tmp_path: Path) -> None:
    """Missing, and right."""
    with pytest.raises(UsageError, match="there is no file"):
        check_medium(tmp_path / "none.iso", SERVER, host)
    made = check_medium(server(tmp_path / "w.iso"), SERVER, host)
    assert (made.image.edition, made.image.index) == ("ServerStandardEval", 2)
    assert made.boot_patch is not None


def test_another_digest(host: InstallHost, tmp_path: Path) -> None:
    """By option, or because the file has the name of a medium that the profile knows."""
    path = server(tmp_path / "w.iso")
    with pytest.raises(ImageError, match="not the medium that it should be"):
        check_medium(path, SERVER, host, sha256="0" * 64)
    right = check_medium(path, SERVER, host).sha256
    assert check_medium(path, SERVER, host, sha256=right.upper()).sha256 == right
    known = path.rename(tmp_path / "SERVER_EVAL_x64FRE_en-us.iso")
    with pytest.raises(ImageError) as caught:
        check_medium(known, SERVER, host)
    assert right in caught.value.why


def test_another_release_names_its_profile(host: InstallHost, tmp_path: Path) -> None:
    """Not the error of an hour later."""
    data = wim([("ServerStandardEval", "Server", 17763)])
    path = medium(tmp_path / "w.iso", {"sources/install.wim": data})
    with pytest.raises(ImageError) as caught:
        check_medium(path, SERVER, host, profiles=PROFILES.values())
    assert "ws2019" in caught.value.fix


def test_a_closed_file_in_system_mode(host: InstallHost, tmp_path: Path) -> None:
    """QEMU runs as another user there, and the owner of the user's own file is not changed."""
    path = server(tmp_path / "w.iso")
    path.chmod(0o600)
    with pytest.raises(UsageError, match="guests cannot read"):
        check_medium(path, SERVER, replace(host, qemu_user=64055))
    check_medium(path, SERVER, host)


def test_passwords(tmp_path: Path) -> None:
    """Four classes of letters, none like another, readable for the owner only, never overwritten."""
    made = {make_password() for _ in range(50)}
    assert len(made) == 50
    for word in made:
        assert len(word) == 24
        assert any(letter.isupper() for letter in word)
        assert any(letter.islower() for letter in word)
        assert any(letter.isdigit() for letter in word)
        assert any(letter in "-_.!" for letter in word)
    path = tmp_path / "p"
    write_password(path, "x")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        write_password(path, "y")


def test_the_state_survives(tmp_path: Path) -> None:
    """Written and read; a damaged one is none."""
    state = InstallState(
        inputs="i",
        medium_sha256="m",
        token="t",
        password_file="p",
        started_at="2026-01-01T00:00:00Z",
    )
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    (tmp_path / "install.json").write_text("{")
    assert read_state(tmp_path) is None


def test_inputs_of_an_image_are_what_decides_it() -> None:
    """Words for people, and media, do not make an image stale; the edition does."""
    profile, recipe = SERVER, SERVER.windows_recipe
    assert recipe is not None
    base = windows_inputs(profile, recipe, "key")
    assert windows_inputs(profile, recipe.model_copy(update={"media": (), "install_budget_s": 1.0}), "key\n") == base
    assert windows_inputs(profile, recipe.model_copy(update={"editions": ("ServerDatacenter",)}), "key") != base
    assert windows_inputs(profile, recipe, "other") != base
