"""What has to be right before a Windows is installed: the host, the medium, what else is needed.

An installation takes an hour; whatever can be known to stop it is told before it begins, one error each.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wsklab.domain_xml import Acceleration
from wsklab.errors import HostError, HostFull, ImageError, UsageError
from wsklab.firmware import FIRMWARE_FOLDERS, KNOWN_FILES, find_uefi
from wsklab.image.windows_media import WindowsMedium, inspect_medium
from wsklab.profile import GuestProfile
from wsklab.windows_recipe import WindowsRecipe

__all__ = ["InstallHost", "check_installation", "check_medium", "processor_flags", "recipe_of"]

#: What an installed Windows has written, in GiB; its image takes half of that. The guest may fill its whole disk, and
#: admission counts it so.
_INSTALLED_GIB: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallHost:
    """What of the host an installation depends on.

    Attributes:
        place: a folder on the disk that gets the image.
        acceleration: how guests run here.
        processor: the processor's flags, as Linux names them.
        qemu_user: the user that guests run as, when libvirt changes owners: not the lab's user.
        firmware: folders with descriptions of firmware; files: firmware that is known without one.
        programs: finds a program of the host.
    """

    place: Path
    acceleration: Acceleration
    processor: frozenset[str]
    qemu_user: int | None = None
    firmware: tuple[Path, ...] = FIRMWARE_FOLDERS
    files: tuple[tuple[Path, Path], ...] = KNOWN_FILES
    programs: Callable[[str], str | None] = shutil.which


def recipe_of(profile: GuestProfile) -> WindowsRecipe:
    """The profile's Windows recipe.

    Raises:
        UsageError: it has none.
    """
    if profile.windows_recipe is None:
        raise UsageError(
            f"profile {profile.name} is not installed from a Windows medium",
            why=f"it is of kind {profile.kind}",
            fix=f"wsklab image build {profile.name}   (without --iso and --download)",
        )
    return profile.windows_recipe


def check_installation(profile: GuestProfile, host: InstallHost, *, emulated: bool = False) -> None:
    """Look at the host.

    Args:
        emulated: install even where guests are emulated.

    Raises:
        UsageError: the profile is none of Windows. HostError: no KVM, no firmware, no swtpm, another processor.
        HostFull: no room.
    """
    recipe = recipe_of(profile)
    if host.acceleration is Acceleration.TCG and not emulated:
        raise HostError(
            f"{profile.name} is not installed without KVM",
            why="an emulated Windows takes many hours to install, and its own watchdogs may stop it",
            fix="use a host with KVM (wsklab doctor), or --emulated to try it all the same",
        )
    lacking = [name for name in recipe.cpu_features if name.replace(".", "_") not in host.processor]
    if host.acceleration is Acceleration.KVM and lacking:
        raise HostError(
            f"{profile.release} does not start on this host's processor",
            why=f"it lacks {', '.join(lacking)}",
            fix="use another host, or an older release",
        )
    if profile.firmware == "uefi" and find_uefi(host.firmware, host.files) is None:
        raise HostError(
            "there is no UEFI firmware for guests",
            why=f"none of {', '.join(map(str, host.firmware))} describes one for x86_64 and q35 that does not enforce "
            f"Secure Boot, and none of {', '.join(str(code) for code, _ in host.files)} is there",
            fix="apt-get install ovmf",
        )
    absent = [name for name in ("swtpm", "swtpm_setup") if host.programs(name) is None] if profile.tpm else []
    if absent:
        raise HostError(
            f"{profile.name} has a TPM, which {' and '.join(absent)} would emulate",
            why="no such program is on this host",
            fix="apt-get install swtpm swtpm-tools",
        )
    need = (profile.disk_gib << 30) + (min(profile.disk_gib, _INSTALLED_GIB) << 29)
    free = shutil.disk_usage(host.place).free
    if free < need:
        raise HostFull(
            f"not enough room to install {profile.name}",
            why=f"{free >> 20} MiB are free at {host.place}, an installation needs {need >> 20} MiB",
            fix="make room, or set WSKLAB_HOME to a larger disk",
        )


def check_medium(
    iso: Path, profile: GuestProfile, host: InstallHost, *, sha256: str = "", profiles: Iterable[GuestProfile] = ()
) -> WindowsMedium:
    """Look at the medium.

    Args:
        sha256: the digest that it must have; "": the profile's own for a file of that name, if it knows one.
        profiles: all profiles, to name the one that the medium fits instead.

    Raises:
        UsageError: it is not there, or QEMU may not read it. ImageError: it is the wrong one; see `inspect_medium`.
    """
    if not iso.is_file():
        raise UsageError(f"there is no file {iso}", fix="give the ISO file of a Windows medium")
    if host.qemu_user is not None and not _open_to_all(iso):
        raise UsageError(
            f"guests cannot read {iso}",
            why="they run as another user, and the file or a folder above it is closed to others",
            fix=f"chmod o+r {iso}, and put it where everybody can go, e.g. /var/tmp",
        )
    medium = inspect_medium(iso, profile, profiles=profiles)
    known = {known.file: known.sha256 for known in recipe_of(profile).media}
    wanted = sha256.lower() or known.get(iso.name, "")
    if wanted and medium.sha256 != wanted:
        raise ImageError(
            f"{iso} is not the medium that it should be",
            why=f"its SHA-256 is {medium.sha256}, wanted is {wanted}",
            fix="get it again; a copy that somebody changed has another digest too",
        )
    return medium


def processor_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The flags of the host's first processor."""
    for line in path.read_text(errors="replace").splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def _open_to_all(path: Path) -> bool:
    absolute = path.resolve()
    return bool(absolute.stat().st_mode & 0o004) and all(folder.stat().st_mode & 0o001 for folder in absolute.parents)
