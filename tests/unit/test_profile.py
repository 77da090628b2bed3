"""Guest profiles: the shipped ones are right, and a wrong one is named with file, key and nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from wsklab.errors import ProfileError
from wsklab.profile import load_profile, load_profiles, unknown_profile
from wsklab.resources import images_root

_GOOD = """
name = "demo"
kind = "wine"
release = "Debian 12, Wine 8.0"
build = "8.0"
memory_mib = 512
vcpus = 2
cpu_model = "qemu64"
disk_gib = 2
boot_budget_s = 12
ready_check = "cmd /c ver"

[facts]
irql_real = false
event_callbacks = false
provider_drops_irps = true
output_clamped = true
wine_version = "8.0"

[recipe]
builder = "wine"
suite = "bookworm"
packages = ["wine64"]
wine_loader = "/usr/lib/wine/wine64"
wine_server = "/usr/lib/wine/wineserver64"
modules = ["virtio_blk"]
cmdline = "console=ttyS0"
"""


def _write(tmp_path: Path, text: str, *, folder: str = "demo") -> Path:
    directory = tmp_path / folder
    directory.mkdir(parents=True)
    (directory / "guest.toml").write_text(text)
    return directory


def _refused(tmp_path: Path, text: str, *, folder: str = "demo") -> ProfileError:
    with pytest.raises(ProfileError) as caught:
        load_profile(_write(tmp_path, text, folder=folder))
    return caught.value


def test_the_shipped_profiles_are_valid_and_honest() -> None:
    """Both wine guests load, and neither claims what Wine cannot do."""
    profiles = load_profiles(images_root())
    assert {"wine-bookworm", "wine-trixie"} <= set(profiles)
    for profile in profiles.values():
        if profile.kind == "wine":
            assert not profile.facts.irql_real
            assert not profile.facts.event_callbacks
            assert profile.facts.provider_drops_irps
            assert profile.facts.output_clamped
            assert profile.memory_mib <= 512
            assert profile.recipe is not None


def test_the_two_wine_guests_differ_in_suite_and_wine() -> None:
    """Two independent versions of the stand-in for Windows, not one twice."""
    profiles = load_profiles(images_root())
    recipes = [profiles[name].wine_recipe for name in ("wine-bookworm", "wine-trixie")]
    assert [recipe.suite for recipe in recipes if recipe] == ["bookworm", "trixie"]
    assert profiles["wine-bookworm"].facts.wine_version != profiles["wine-trixie"].facts.wine_version


def test_a_good_profile_has_defaults_and_its_folder(tmp_path: Path) -> None:
    """What the file does not say has a default; the baseline is a path beside the file."""
    directory = _write(tmp_path, _GOOD)
    profile = load_profile(directory)
    assert (profile.firmware, profile.nic_model, profile.architecture) == ("bios", "virtio", "amd64")
    assert profile.baseline_file == directory / "baseline.toml"


def test_a_profile_cannot_be_changed(tmp_path: Path) -> None:
    """A profile is shared by threads; nobody changes it."""
    profile = load_profile(_write(tmp_path, _GOOD))
    with pytest.raises(ValidationError):
        profile.vcpus = 4


@pytest.mark.parametrize(
    ("line", "slip", "key", "nearest"),
    [
        ("vcpus = 2", "vcpu = 2", "vcpu", "vcpus"),
        ("irql_real = false", "irqlreal = false", "facts.irqlreal", "irql_real"),
        ('suite = "bookworm"', 'suit = "bookworm"', "recipe.suit", "suite"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(tmp_path: Path, line: str, slip: str, key: str, nearest: str) -> None:
    """A slip in a key, at any depth, is an error that says file, key and what was probably meant."""
    error = _refused(tmp_path, _GOOD.replace(line, f"{line}\n{slip}"))
    assert error.evidence["key"] == key
    assert error.evidence["nearest"] == nearest
    assert nearest in error.fix
    assert str(error.evidence["file"]).endswith("guest.toml")


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("vcpus = 2", "vcpus = 0", "vcpus"),
        ('kind = "wine"', 'kind = "dos"', "kind"),
        ("memory_mib = 512", 'memory_mib = "much"', "memory_mib"),
        ("disk_gib = 2\n", "", "disk_gib"),
    ],
)
def test_a_wrong_or_missing_value_is_named(tmp_path: Path, old: str, new: str, key: str) -> None:
    """Every complaint names the key that is to be corrected."""
    assert _refused(tmp_path, _GOOD.replace(old, new)).evidence["key"] == key


def test_text_that_is_not_toml_is_named_with_its_line(tmp_path: Path) -> None:
    """The reason of the TOML reader, which has the line, is in the error."""
    assert "line" in _refused(tmp_path, "name = \n").why


def test_a_missing_file_is_an_error_of_the_profile(tmp_path: Path) -> None:
    """A folder without guest.toml is no guest."""
    with pytest.raises(ProfileError):
        load_profile(tmp_path)


def test_the_name_must_be_that_of_the_folder(tmp_path: Path) -> None:
    """Otherwise two profiles could have one name."""
    assert _refused(tmp_path, _GOOD, folder="other").evidence["key"] == "name"


def test_the_folder_cannot_be_set_in_the_file(tmp_path: Path) -> None:
    """`directory` is known from where the file is."""
    assert _refused(tmp_path, 'directory = "/"\n' + _GOOD).evidence["key"] == "directory"


def test_a_wine_guest_needs_a_recipe_and_its_wine(tmp_path: Path) -> None:
    """Without them it can neither be made nor judged."""
    without_recipe = _GOOD[: _GOOD.index("[recipe]")]
    assert "recipe" in _refused(tmp_path, without_recipe).why


def test_an_unknown_profile_names_the_nearest() -> None:
    """A slip on the command line gets the right name back."""
    error = unknown_profile("wine-bokworm", ["wine-bookworm", "wine-trixie"])
    assert error.evidence["nearest"] == "wine-bookworm"
    assert "wine-trixie" in error.why


WINDOWS = ("win10-22h2", "win11-23h2", "win11-24h2", "win11-25h2", "ws2016", "ws2019", "ws2022", "ws2025")


@pytest.mark.parametrize("name", WINDOWS)
def test_a_windows_profile_suits_its_release(name: str) -> None:
    """What would only be noticed hours into an installation is looked at here (fact sheet c.2, c.8, f.6)."""
    profile = load_profiles(images_root())[name]
    recipe = profile.windows_recipe
    assert recipe is not None
    assert profile.kind == "windows"
    assert profile.build.split(".")[2] == str(recipe.media_build)
    assert (profile.disk_bus, profile.nic_model, profile.firmware) == ("sata", "e1000e", "uefi")
    assert profile.memory_mib >= 4096
    assert profile.facts.irql_real
    assert profile.facts.event_callbacks
    assert not profile.facts.provider_drops_irps
    if recipe.media_build >= 26100:
        assert {"sse4.2", "popcnt"} <= set(recipe.cpu_features)
        assert profile.cpu_model != "qemu64"
    assert recipe.hardware_check_bypass == name.startswith("win11")
    assert all(medium.url is None or medium.url.endswith(medium.file) for medium in recipe.media)


def test_no_medium_belongs_to_two_releases() -> None:
    """A digest tells which profile a file is for."""
    digests = [
        digest
        for profile in load_profiles(images_root()).values()
        if profile.windows_recipe
        for digest in profile.windows_recipe.media_digests
    ]
    assert len(digests) == len(set(digests)) == len(WINDOWS)


_WINDOWS = """
name = "demo"
kind = "windows"
release = "Windows"
build = "10.0.20348"
memory_mib = 4096
vcpus = 2
cpu_model = "qemu64"
disk_gib = 64
boot_budget_s = 300
ready_check = "sc.exe query sshd"

[facts]
irql_real = true
event_callbacks = true
provider_drops_irps = false
output_clamped = false

[recipe]
builder = "windows"
family = "server"
media_build = 20348
editions = ["ServerStandardEval"]
installation_type = "Server"
openssh = ["package"]
evaluation_days = 180
stages = {}

[recipe.verifier]
modes = ["standard"]
standard_flags = 1
volatile_flags = 0
"""


@pytest.mark.parametrize(
    ("old", "new", "key", "nearest"),
    [
        ('openssh = ["package"]', 'openssh = ["package"]\nmedia_bild = 3', "recipe.media_bild", "media_build"),
        ('modes = ["standard"]', 'modes = ["standard"]\nmods = 3', "recipe.verifier.mods", "modes"),
        ('builder = "windows"', 'builder = "window"', "recipe.builder", "windows"),
        ('builder = "windows"\n', "", "recipe.builder", ""),
        ('openssh = ["package"]', 'openssh = ["inbox"]', "recipe", ""),
        ('installation_type = "Server"', 'installation_type = "Client"', "recipe", ""),
        ('openssh = ["package"]', 'openssh = ["telnet"]', "recipe.openssh.0", ""),
    ],
)
def test_a_slip_in_a_windows_recipe_is_named(tmp_path: Path, old: str, new: str, key: str, nearest: str) -> None:
    """The builder, which tells the schemas apart, is no part of the key that a person reads."""
    load_profile(_write(tmp_path, _WINDOWS))
    error = _refused(tmp_path / "second", _WINDOWS.replace(old, new))
    assert error.evidence["key"] == key
    assert error.evidence.get("nearest", "") == nearest


def test_a_windows_guest_cannot_have_a_wine_recipe(tmp_path: Path) -> None:
    """The kind says what a pass means; the recipe has to agree."""
    text = _GOOD.replace('kind = "wine"', 'kind = "windows"')
    assert "builder wine" in _refused(tmp_path, text).why
