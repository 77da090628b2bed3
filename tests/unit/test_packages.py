"""The lists of packages: one truth for launcher, doctor and errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsklab.cli.checks import PROGRAMS

REQUIREMENTS = Path(__file__).parents[2] / "requirements"


def listed(name: str) -> list[str]:
    """The packages of a list, as the launcher reads it."""
    lines = (line.split("#")[0].strip() for line in (REQUIREMENTS / name).read_text().splitlines())
    return [line for line in lines if line]


def test_doctor_names_installed_packages() -> None:
    """Every package that `doctor` would install is one that the launcher installs."""
    assert set(PROGRAMS.values()) - set(listed("debian-packages.txt")) == set()


@pytest.mark.parametrize("name", ["debian-packages.txt", "debian-packages-test.txt", "fedora-packages.txt"])
def test_lists_have_no_doubles(name: str) -> None:
    """Each package stands once, in letters that a package name has."""
    names = listed(name)

    assert (len(names), [n for n in names if not n.replace("-", "").replace("+", "").replace(".", "").isalnum()]) == (
        len(set(names)),
        [],
    )
