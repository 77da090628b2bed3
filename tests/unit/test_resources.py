"""The lab finds its own files in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsklab import resources
from wsklab.errors import HostError


def test_a_checkout_has_profiles_and_the_driver() -> None:
    """Beside `lab/` are the guest profiles and the driver's source."""
    assert (resources.images_root() / "wine-bookworm" / "guest.toml").is_file()
    assert (resources.driver_source_root() / "include").is_dir()
    assert resources.conformance_root().is_dir()


def test_a_wheel_has_them_inside_the_package(tmp_path: Path) -> None:
    """Where nothing stands beside the package, the copy in it is taken."""
    package = tmp_path / "site-packages" / "wsklab"
    (package / "_files" / "images" / "common").mkdir(parents=True)
    assert resources._find("images", marker="common", package=package) == package / "_files" / "images"


def test_a_stranger_of_the_same_name_is_not_taken(tmp_path: Path) -> None:
    """A folder `images` that is not ours does not count: the error says where was looked."""
    package = tmp_path / "lib" / "site" / "wsklab"
    (tmp_path / "lib" / "images").mkdir(parents=True)
    with pytest.raises(HostError, match="images") as caught:
        resources._find("images", marker="common", package=package)
    assert "_files" in caught.value.why
