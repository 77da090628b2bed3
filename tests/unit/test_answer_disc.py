"""The answer disc: what each release needs is on it, and nothing is promised that is not there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from pydantic import SecretStr

from wsklab.answer_file import AnswerSettings
from wsklab.errors import ImageError, UsageError
from wsklab.image.answer_disc import DiscContent, disc_files
from wsklab.media import Disc, write_disc
from wsklab.profile import load_profiles
from wsklab.resources import images_root

PROFILES = load_profiles(images_root())


def content(tmp_path: Path, name: str, *, package: bool = True) -> DiscContent:
    """A disc's content for a profile."""
    recipe = PROFILES[name].windows_recipe
    assert recipe is not None
    control, openssh = tmp_path / "wskctl.exe", tmp_path / "OpenSSH-Win64"
    control.write_bytes(b"MZ")
    openssh.mkdir(exist_ok=True)
    (openssh / "sshd.exe").write_bytes(b"MZsshd")
    return DiscContent(
        settings=AnswerSettings(
            firmware="uefi",
            image_index=2,
            language="en-US",
            product_key=None,
            computer_name=name,
            password=SecretStr("Golden-Passw0rd"),
            hardware_check_bypass=recipe.hardware_check_bypass,
        ),
        recipe=recipe,
        token="T0KEN",
        control=control,
        public_key="ssh-ed25519 AAAA lab\n",
        certificate=b"\x30\x82",
        openssh=openssh if package else None,
    )


def virtio_win(folder: Path, *releases: str) -> Path:
    """A virtio-win medium, unpacked."""
    for name in ("vioserial", "NetKVM"):
        for release in releases:
            own = folder / name / release / "amd64"
            own.mkdir(parents=True)
            for suffix in ("inf", "sys", "cat", "pdb"):
                (own / f"{name.lower()}.{suffix}").write_text(release)
    (folder / "guest-agent").mkdir()
    (folder / "guest-agent" / "qemu-ga-x86_64.msi").write_text("msi")
    return folder


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("win10-22h2", "w10"),
        ("win11-23h2", "w11"),
        ("win11-25h2", "w11"),
        ("ws2016", "2k16"),
        ("ws2019", "2k19"),
        ("ws2022", "2k22"),
        ("ws2025", "2k25"),
    ],
)
def test_virtio_drivers_and_agent_are_an_option(tmp_path: Path, name: str, release: str) -> None:
    """Those of the release, without their symbols; installed before the agent, whose service has to be there."""
    medium = virtio_win(tmp_path / "virtio", release, "w7")
    files = disc_files(dataclasses.replace(content(tmp_path, name), virtio=medium))
    on_disc = sorted(str(path).removeprefix("wsklab/virtio/") for path in files if "/virtio/" in str(path))
    assert on_disc == [
        *(f"NetKVM/netkvm.{suffix}" for suffix in ("cat", "inf", "sys")),
        "qemu-ga-x86_64.msi",
        *(f"vioserial/vioserial.{suffix}" for suffix in ("cat", "inf", "sys")),
    ]
    assert files["wsklab/virtio/NetKVM/netkvm.sys"] == medium / "NetKVM" / release / "amd64" / "netkvm.sys"
    lines = text(files, "wsklab/first-logon.cmd").splitlines()
    order = [
        lines.index(next(line for line in lines if line.startswith(word))) for word in ("pnputil", "msiexec", "sc.")
    ]
    assert order == sorted(order)
    assert order[-1] < lines.index(r"echo 1 >C:\wsklab\sealing")
    without = text(disc_files(content(tmp_path, name)), "wsklab/first-logon.cmd")
    assert "msiexec" not in without
    assert "pnputil" not in without


def test_a_folder_that_is_no_virtio_medium(tmp_path: Path) -> None:
    """No agent, or nothing for the release."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="is no virtio-win medium"):
        disc_files(dataclasses.replace(content(tmp_path, "ws2022"), virtio=tmp_path / "empty"))
    old = virtio_win(tmp_path / "old", "2k16")
    with pytest.raises(UsageError, match="no driver for this release"):
        disc_files(dataclasses.replace(content(tmp_path, "ws2022"), virtio=old))


def text(files: object, name: str) -> str:
    data = files[name]  # type: ignore[index]
    assert isinstance(data, bytes)
    return data.decode("ascii")


@pytest.mark.parametrize("name", [name for name, profile in PROFILES.items() if profile.kind == "windows"])
def test_every_release_has_its_disc(tmp_path: Path, name: str) -> None:
    """Answer file in the root under its one name, scripts, wskctl, key, certificate; readable as Windows reads it."""
    files = disc_files(content(tmp_path, name))
    path = tmp_path / "answer.iso"
    write_disc(path, files, label="wsklab")
    with Disc(path) as disc:
        for file in ("Autounattend.xml", "wsklab/specialise.cmd", "wsklab/first-logon.cmd", "wsklab/wskctl.exe"):
            assert disc.has(file)
        with disc.open("wsklab/key.pub") as stream:
            assert stream.read() == b"ssh-ed25519 AAAA lab\n"
        assert disc.has("wsklab/openssh/sshd.exe") == (PROFILES[name].name != "ws2025")


def test_scripts_are_for_cmd(tmp_path: Path) -> None:
    """CRLF ends and plain letters; a lone LF breaks labels in cmd."""
    files = disc_files(content(tmp_path, "ws2022"))
    for name in ("wsklab/specialise.cmd", "wsklab/first-logon.cmd"):
        data = files[name]
        assert isinstance(data, bytes)
        assert data.count(b"\n") == data.count(b"\r\n") == len(data.splitlines())


def test_without_the_package_a_release_falls_back_or_says_what_is_missing(tmp_path: Path) -> None:
    """Server 2022 can ask Windows Update; Server 2016 has nothing else; Server 2025 needs nothing."""
    assert "Add-Capability" in text(disc_files(content(tmp_path, "ws2022", package=False)), "wsklab/first-logon.cmd")
    assert "Add-Capability" not in text(disc_files(content(tmp_path, "ws2022")), "wsklab/first-logon.cmd")
    assert "Add-Capability" not in text(
        disc_files(content(tmp_path, "ws2025", package=False)), "wsklab/first-logon.cmd"
    )
    with pytest.raises(ImageError, match="Win32-OpenSSH"):
        disc_files(content(tmp_path, "ws2016", package=False))


def test_a_folder_that_is_no_package_is_refused(tmp_path: Path) -> None:
    """Before the installation, not hours later."""
    made = content(tmp_path, "ws2016")
    assert made.openssh is not None
    (made.openssh / "sshd.exe").unlink()
    with pytest.raises(ImageError, match=r"sshd\.exe|no Win32-OpenSSH"):
        disc_files(made)


def test_the_token_is_said_last(tmp_path: Path) -> None:
    """Sealed is the last word before the machine goes off."""
    script = text(disc_files(content(tmp_path, "ws2022")), "wsklab/first-logon.cmd").splitlines()
    said = script.index(">%PORT% echo wsklab: sealed T0KEN")
    assert script[said + 1].startswith("shutdown.exe /s")
    assert "call :step seal --token T0KEN" in script[:said]
