"""Drivers and guest agent of a virtio-win medium for the answer disc: optional, nothing of the lab depends on them.

The layout is that of the virtio-win ISO: `<driver>/<release>/amd64/*`, and the agent in `guest-agent`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wsklab.errors import UsageError
from wsklab.windows_recipe import WindowsRecipe

__all__ = ["AGENT", "virtio_files"]

#: The agent's installer, below the folder and on the disc.
AGENT: Final = "qemu-ga-x86_64.msi"
#: The agent's line to the host.
_NEEDED: Final = "vioserial"
#: What a guest of the lab can have besides: random numbers, dumps with the host's help, balloon, network.
_WELCOME: Final = ("viorng", "fwcfg", "pvpanic", "Balloon", "NetKVM")
_PARTS: Final = frozenset({".inf", ".sys", ".cat", ".dll", ".exe"})


def virtio_files(folder: Path, recipe: WindowsRecipe) -> Mapping[str, Path]:
    """The files for a release, by their path below the disc's folder `virtio`.

    Args:
        folder: the unpacked (or mounted) virtio-win ISO.

    Raises:
        UsageError: it is none, or has nothing for the release.
    """
    agent = folder / "guest-agent" / AGENT
    if not agent.is_file():
        raise UsageError(
            f"{folder} is no virtio-win medium",
            why=f"it has no guest-agent/{AGENT}",
            fix="unpack or mount virtio-win.iso and give its folder",
        )
    files = {AGENT: agent}
    for driver in (_NEEDED, *_WELCOME):
        own = folder / driver / recipe.virtio_name / "amd64"
        found = [path for path in sorted(own.glob("*")) if path.suffix.lower() in _PARTS]
        if not found and driver == _NEEDED:
            raise UsageError(
                f"{folder} has no driver for this release",
                why=f"there is nothing in {own.relative_to(folder)}, which the guest agent needs",
                fix="get a newer virtio-win.iso",
            )
        files.update({f"{driver}/{path.name}": path for path in found})
    return files
