"""Images of Windows for the commands: installed from a medium, or made of a disk that somebody brings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsklab.assemble import Lab
    from wsklab.cli.output import Output
    from wsklab.image.store import Image
    from wsklab.profile import GuestProfile
    from wsklab.toolchain import BuildResult

__all__ = ["InstallWishes", "bring", "download_medium", "install", "warn_of_licence"]

#: Builds the driver and wskctl, telling its steps.
Build = Callable[[Callable[[str], None]], "BuildResult"]

#: Budget for a medium of some gigabytes; what came by then is kept.
_DOWNLOAD_S = 6 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallWishes:
    """What the user says about the installation of a Windows.

    Attributes:
        iso: the medium; None: the profile's own evaluation medium is downloaded.
        sha256: the digest that it must have, or "".
        openssh: the unpacked Win32-OpenSSH package, or None.
        virtio: the unpacked virtio-win medium, or None: no virtio drivers, no guest agent.
        emulated: install even where guests are emulated.
    """

    iso: Path | None
    sha256: str = ""
    openssh: Path | None = None
    virtio: Path | None = None
    emulated: bool = False


def install(lab: Lab, profile: GuestProfile, wishes: InstallWishes, output: Output, build: Build) -> Image:
    """The image of a Windows, installed from its medium unless it is there.

    Raises:
        UsageError, HostError, ImageError: something is not right; told before anything is started where it can be
            known then.
    """
    from wsklab.cli.output import stages
    from wsklab.image.install_checks import check_installation, check_medium, recipe_of
    from wsklab.image.virtio import virtio_files
    from wsklab.toolchain import make_certificate

    found = lab.store.find(profile)
    if found is not None:
        output.note(f"image {profile.name} is there already, and its inputs have not changed")
        return found
    if wishes.virtio is not None:
        virtio_files(wishes.virtio, recipe_of(profile))
    host = lab.install_host()
    check_installation(profile, host, emulated=wishes.emulated)
    iso = wishes.iso or download_medium(lab, profile, output)
    with output.progress(f"medium of {profile.name}"):
        medium = check_medium(iso, profile, host, sha256=wishes.sha256, profiles=lab.profiles.values())
    with output.progress("driver and wskctl") as step:
        built = build(step)
    certificate = make_certificate(lab.home.keys)
    installer = lab.installer(
        medium, control=built.ctl, certificate=certificate.cer, openssh=wishes.openssh, virtio=wishes.virtio
    )
    with output.progress(f"image {profile.name}") as step:
        deadline = lab.timeouts.after(recipe_of(profile).install_budget_s)
        return lab.store.build(profile, deadline=deadline, progress=stages(step), builder=installer)


def bring(
    lab: Lab, profile: GuestProfile, disk: Path, *, account: str, provision: bool, output: Output, build: Build
) -> Image:
    """The image of a Windows that somebody else installed.

    Raises:
        UsageError: the profile is none of Windows, or has an image. ImageError: the disk is not fit for it.
    """
    from wsklab.cli.output import stages
    from wsklab.errors import UsageError
    from wsklab.image.install_checks import recipe_of
    from wsklab.toolchain import make_certificate

    recipe = recipe_of(profile)
    found = lab.store.find(profile)
    if found is not None:
        raise UsageError(
            f"there is an image of {profile.name}",
            why="a profile has one image for what it says today",
            fix=f"wsklab image remove {profile.name}, or make a profile of your own: a new folder below images/",
        )
    with output.progress("driver and wskctl") as step:
        built = build(step)
    certificate = make_certificate(lab.home.keys)
    importer = lab.importer(disk, account=account, provision=provision, control=built.ctl, certificate=certificate.cer)
    with output.progress(f"image {profile.name}") as step:
        deadline = lab.timeouts.after(recipe.install_budget_s)
        return lab.store.build(profile, deadline=deadline, progress=stages(step), builder=importer)


def download_medium(lab: Lab, profile: GuestProfile, output: Output) -> Path:
    """The profile's evaluation medium, from where it was published; kept in the home's cache.

    Raises:
        UsageError: none is known, or it is not there any more. HostError: it cannot be had now.
    """
    from wsklab.deadline import Deadline
    from wsklab.download import fetch
    from wsklab.errors import UsageError
    from wsklab.image.install_checks import recipe_of

    known = next((medium for medium in recipe_of(profile).media if medium.url is not None), None)
    if known is None or known.url is None:
        raise UsageError(
            f"no download of {profile.name} is known",
            why="its profile names no medium with an address and a digest",
            fix="get the medium by other means, and give it with --iso",
        )
    target = lab.home.cache / "media" / known.file
    with output.progress(f"downloading {known.file}, {known.size >> 20} MiB") as step:
        return fetch(
            known.url,
            target,
            sha256=known.sha256,
            size=known.size,
            deadline=Deadline.after(_DOWNLOAD_S),
            progress=lambda there, size: step(f"{there >> 20} of {size >> 20} MiB"),
        )


def warn_of_licence(image: Image, output: Output) -> None:
    """Say it when the evaluation licence of a Windows ends within two weeks."""
    from datetime import UTC, datetime

    from wsklab.image.manifest import licence_warning

    warning = licence_warning(image.manifest, datetime.now(UTC))
    if warning:
        output.note(f"warning: {warning}")
