"""Windows installation media: is it the right one, which edition of it, and does its boot loader ask for a key?

Everything is found out before a build starts; what is wrong is told in one error that says what the medium has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wsklab.errors import ImageError
from wsklab.image.wim import WimImage, read_wim
from wsklab.media import Disc
from wsklab.profile import GuestProfile
from wsklab.windows_recipe import WindowsRecipe

__all__ = ["BootPatch", "WindowsMedium", "inspect_medium", "product_key_for", "windows_inputs"]

#: Raised whenever the same medium would become another image.
_BUILDER_VERSION: Final = 1

#: What a recipe says for people and progress bars only; the medium is in the manifest, not in the key.
_NOT_INPUTS: Final = {"stages", "media", "verifier", "install_budget_s", "cpu_features"}

_WIMS: Final = ("sources/install.wim", "sources/install.esd")
_PROMPT: Final = "efi/microsoft/boot/efisys.bin"
_NO_PROMPT: Final = "efi/microsoft/boot/efisys_noprompt.bin"


@dataclass(frozen=True, slots=True)
class BootPatch:
    """How the medium boots under UEFI without asking for a key: bytes to put over its boot image.

    Attributes:
        offset: where in the disc image, in bytes.
        content: what stands there afterwards; exactly as long as what stood there before.
    """

    offset: int
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowsMedium:
    """A medium that fits a profile.

    Attributes:
        path: the ISO file.
        sha256: its digest, or "" when nobody asked for it.
        image: the edition that will be installed.
        product_key: the key that the answer file names; None for evaluation editions.
        boot_patch: see `BootPatch`; None where it cannot be done and keys have to be sent instead.
    """

    path: Path
    sha256: str
    image: WimImage
    product_key: str | None
    boot_patch: BootPatch | None


def windows_inputs(profile: GuestProfile, recipe: WindowsRecipe, public_key: str) -> dict[str, Any]:
    """Everything but the medium that decides what an installation makes, as plain data."""
    return {
        "builder": [recipe.builder, _BUILDER_VERSION],
        "architecture": profile.architecture,
        "firmware": profile.firmware,
        "disk_gib": profile.disk_gib,
        "disk_bus": profile.disk_bus,
        "recipe": recipe.model_dump(mode="json", exclude=_NOT_INPUTS),
        "public_key": public_key.strip(),
    }


def inspect_medium(path: Path, profile: GuestProfile, *, profiles: Iterable[GuestProfile] = ()) -> WindowsMedium:
    """Look at an ISO file and choose what to install from it.

    Args:
        path: the file.
        profile: a profile with a Windows recipe.
        profiles: all profiles, to name the one that the medium fits instead.

    Raises:
        ImageError: it is not an ISO, cut, not Windows, of another release, or has no wanted edition.
    """
    recipe = profile.windows_recipe
    if recipe is None:
        raise ImageError(
            f"profile {profile.name} is not installed from Windows media", fix="wsklab image build without --iso"
        )
    with Disc(path) as disc:
        images = _editions(disc, path)
        image = _choose(images, path, profile, recipe, profiles)
        patch = _boot_patch(disc)
    return WindowsMedium(
        path=path,
        sha256=_sha256(path),
        image=image,
        product_key=product_key_for(image, recipe, path),
        boot_patch=patch,
    )


def product_key_for(image: WimImage, recipe: WindowsRecipe, path: Path) -> str | None:
    """The key for an edition: none for evaluation editions, the public setup key otherwise.

    Raises:
        ImageError: the edition wants a key and the profile has none for it. A key of another edition
            ends in a dialog that waits for ever, so no key is guessed.
    """
    if image.is_evaluation:
        return None
    try:
        return recipe.keys[image.edition]
    except KeyError:
        raise ImageError(
            f"no product key for {image.edition} of {path}",
            why="it is no evaluation edition, and the profile names no public setup key for it",
            fix=f"add it to [recipe.keys] of the profile, or use evaluation media; known: {', '.join(recipe.keys)}",
        ) from None


def _editions(disc: Disc, path: Path) -> Sequence[WimImage]:
    for name in _WIMS:
        if disc.has(name):
            with disc.open(name) as stream:
                return read_wim(stream, what=f"{name} in {path}")
    split = disc.has("sources/install.swm")
    raise ImageError(
        f"{path} is no Windows installation medium",
        why="its install.wim is split, as on hand-made USB sticks" if split else f"it has none of {', '.join(_WIMS)}",
        fix="give an ISO file as Microsoft publishes it",
    )


def _choose(
    images: Sequence[WimImage],
    path: Path,
    profile: GuestProfile,
    recipe: WindowsRecipe,
    profiles: Iterable[GuestProfile],
) -> WimImage:
    builds = {image.build for image in images}
    if recipe.media_build not in builds:
        fitting = [
            other.name for other in profiles if other.windows_recipe and other.windows_recipe.media_build in builds
        ]
        raise ImageError(
            f"{path} is another release than {profile.release}",
            why=f"it has build {', '.join(map(str, sorted(builds)))}, the profile wants {recipe.media_build}",
            fix=f"wsklab image build {' or '.join(fitting)} --iso ..." if fitting else "give the right medium",
        )
    for edition in recipe.editions:
        for image in images:
            if (image.edition, image.installation_type) == (edition, recipe.installation_type) and image.amd64:
                _check_language(image, path)
                return image
    offered = ", ".join(f"{image.index}: {image.edition} ({image.installation_type})" for image in images)
    raise ImageError(
        f"{path} has no edition that {profile.name} wants",
        why=f"wanted {', '.join(recipe.editions)} ({recipe.installation_type}, x64); it has {offered}",
        fix="add the edition to recipe.editions of the profile, or give another medium",
    )


def _check_language(image: WimImage, path: Path) -> None:
    if not image.language.startswith("en-"):
        raise ImageError(
            f"{path} is in {image.language or 'an unknown language'}",
            why="the group Administrators has another name there, and the answer file has to name it",
            fix="use English media",
        )


def _boot_patch(disc: Disc) -> BootPatch | None:
    """The boot image that does not ask, in place of the one that does; only where both have one length and the
    disc's boot entry really is the asking one (sheet b.9: the safe variant without making a new disc)."""
    if not (disc.has(_PROMPT) and disc.has(_NO_PROMPT)):
        return None
    with disc.open(_PROMPT) as asking, disc.open(_NO_PROMPT) as silent:
        before, after = asking.read(), silent.read()
    entry = disc.efi_boot_image(len(before))
    if entry is None or len(before) != len(after) or entry.content != before:
        return None
    return BootPatch(entry.offset, after)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
