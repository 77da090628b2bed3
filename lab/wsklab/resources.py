"""Where the lab's own files are: guest profiles, driver source, conformance cases.

Two ways to have wsklab: a checkout (the folders stand beside `lab/`) and a wheel (the build puts
them into the package, under `_files/`).
"""

from __future__ import annotations

from pathlib import Path

from wsklab.errors import HostError

__all__ = ["conformance_root", "driver_source_root", "images_root"]

_PACKAGE = Path(__file__).resolve().parent


def images_root() -> Path:
    """The folder of guest profiles.

    Raises:
        HostError: neither a checkout nor a complete wheel.
    """
    return _find("images", marker="common")


def driver_source_root() -> Path:
    """The folder of the driver's source; raises as `images_root`."""
    return _find("driver-src", marker="include")


def conformance_root() -> Path:
    """The folder of the conformance cases; raises as `images_root`."""
    return _find("tests/conformance", marker="")


def _find(name: str, *, marker: str, package: Path = _PACKAGE) -> Path:
    """The folder `name`, which contains `marker`, in the checkout or in the wheel."""
    candidates = (package.parent.parent / name, package / "_files" / name)
    for candidate in candidates:
        if (candidate / marker).is_dir():
            return candidate
    raise HostError(
        f"the folder {name} of wsklab is not there",
        why="looked at " + " and ".join(str(candidate) for candidate in candidates),
        fix="run from a complete checkout, or install the wheel again",
    )
