"""Answer files: golden for every Windows profile and firmware, and right by rules that the builder does not know."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import SecretStr, ValidationError

from wsklab.answer_file import ANSWER_FILE_NAME, AnswerSettings, render_answer_file
from wsklab.profile import GuestProfile, load_profiles
from wsklab.resources import images_root

_TESTS = Path(__file__).parents[1]
_GOLDEN = _TESTS / "golden" / "answers"


def _rules() -> ModuleType:
    spec = importlib.util.spec_from_file_location("unattend_rules", _TESTS / "contracts" / "unattend_rules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RULES = _rules()
WINDOWS = [profile for profile in load_profiles(images_root()).values() if profile.kind == "windows"]
CASES = [(profile, firmware) for profile in WINDOWS for firmware in ("bios", "uefi")]


def settings_of(profile: GuestProfile, firmware: str, **changes: object) -> AnswerSettings:
    """Settings as a build would make them, with a fixed password."""
    recipe = profile.windows_recipe
    assert recipe is not None
    values: dict[str, object] = {
        "firmware": firmware,
        "image_index": 2,
        "language": "en-US",
        "product_key": None,
        "computer_name": profile.name,
        "password": SecretStr("Golden-Passw0rd"),
        "hardware_check_bypass": recipe.hardware_check_bypass,
    }
    return AnswerSettings.model_validate({**values, **changes})


def test_there_are_the_eight_releases() -> None:
    """Folders only: a release is data."""
    assert {profile.name for profile in WINDOWS} >= {
        "win10-22h2",
        "win11-23h2",
        "win11-24h2",
        "win11-25h2",
        "ws2016",
        "ws2019",
        "ws2022",
        "ws2025",
    }


@pytest.mark.parametrize(("profile", "firmware"), CASES, ids=lambda value: getattr(value, "name", value))
def test_the_answer_file_is_the_golden_one(profile: GuestProfile, firmware: str) -> None:
    """A change of an answer file is seen in a diff before any Windows sees it."""
    assert (
        render_answer_file(settings_of(profile, firmware)) == (_GOLDEN / f"{profile.name}-{firmware}.xml").read_bytes()
    )


@pytest.mark.parametrize(("profile", "firmware"), CASES, ids=lambda value: getattr(value, "name", value))
def test_the_answer_file_keeps_setups_rules(profile: GuestProfile, firmware: str) -> None:
    """Passes, components, order, lengths, partitions and passwords, by rules written down on their own."""
    assert RULES.problems(render_answer_file(settings_of(profile, firmware)), firmware=firmware) == []


def test_a_key_is_named_only_when_there_is_one() -> None:
    """Evaluation media refuse a key; others want theirs."""
    profile = WINDOWS[0]
    key = "NPPR9-FWDCX-D2C8J-H872K-2YT43"
    assert b"<Key>NPPR9" not in render_answer_file(settings_of(profile, "uefi"))
    text = render_answer_file(settings_of(profile, "uefi", product_key=key))
    assert f"<Key>{key}</Key>".encode() in text
    assert RULES.problems(text, firmware="uefi") == []


def test_only_windows_11_skips_the_hardware_checks() -> None:
    """Server and Windows 10 have none to skip."""
    for profile in WINDOWS:
        assert (b"LabConfig" in render_answer_file(settings_of(profile, "uefi"))) == profile.name.startswith("win11")


def test_a_password_is_not_readable_at_a_glance() -> None:
    """Setup decodes it; whoever looks over a shoulder does not."""
    assert b"Golden-Passw0rd" not in render_answer_file(settings_of(WINDOWS[0], "uefi"))
    assert "Golden" not in repr(settings_of(WINDOWS[0], "uefi"))


@pytest.mark.parametrize(
    "changes",
    [
        {"computer_name": "a-name-of-16-chr"},
        {"computer_name": "a b"},
        {"language": "de-DE"},
        {"image_index": 0},
        {"product_key": "NPPR9"},
        {"firmware": "coreboot"},
    ],
    ids=str,
)
def test_settings_that_setup_would_choke_on_are_refused(changes: dict[str, object]) -> None:
    """A wrong value is an error here, not a dialog in a machine that nobody watches."""
    with pytest.raises(ValidationError):
        AnswerSettings.model_validate({**settings_of(WINDOWS[0], "uefi").model_dump(), **changes})


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (b'pass="windowsPE"', b'pass="oobeSystem"', "pass"),
        (b"Microsoft-Windows-Deployment", b"Microsoft-Windows-Setup", "does not belong"),
        (b"<Order>2</Order>", b"<Order>3</Order>", "orders"),
        (b"<Type>MSR</Type>", b"<Type>Primary</Type>", "partitions"),
        (b' wcm:action="add"', b"", "wcm:action"),
        (
            b"<PartitionID>3</PartitionID>\n          </InstallTo>",
            b"<PartitionID>2</PartitionID>\n          </InstallTo>",
            "last",
        ),
        (b"<PlainText>false", b"<PlainText>true", "element's name"),
        (b"for %i in (D", b"for %i in (" + b"D " * 200, "characters"),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else value,
)
def test_the_rules_see_what_is_wrong(old: bytes, new: bytes, complaint: str) -> None:
    """The independent rules are no rubber stamp: each kind of mistake is named."""
    text = render_answer_file(settings_of(WINDOWS[0], "uefi"))
    assert old in text
    found = RULES.problems(text.replace(old, new), firmware="uefi")
    assert any(complaint in problem for problem in found), found


def test_the_name_is_the_one_that_setup_looks_for() -> None:
    """Another name is never found, and Setup waits at its first page."""
    assert ANSWER_FILE_NAME == "Autounattend.xml"
