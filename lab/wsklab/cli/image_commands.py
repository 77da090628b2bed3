"""`guests` and `image build|list|verify`."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsklab.cli.names import existing_file, matching
from wsklab.cli.output import stages
from wsklab.cli.runtime import Runtime, command
from wsklab.cli.windows_images import InstallWishes
from wsklab.errors import ImageError, TemplateError, UsageError

if TYPE_CHECKING:
    from wsklab.config import LabConfig
    from wsklab.image.store import Image
    from wsklab.profile import GuestProfile

__all__ = ["capabilities", "register"]

#: Budget for one bake, in seconds at timeout factor 1; a slow mirror is the usual reason for using it up.
_BAKE_S = 1800.0

Profiles = Annotated[list[str], typer.Argument(metavar="PROFILE...", help="Profile names; patterns are allowed.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "guests", help="Guest profiles, their images, what each can do.")(guests)
    group = typer.Typer(no_args_is_help=True, help="Images of guests.", rich_markup_mode=None)
    app.add_typer(group, name="image")
    command(group, "build", help="Make the images of profiles; one that is up to date is left alone.")(build)
    command(group, "import", help="Make the image of a profile from a Windows disk that you bring.")(import_image)
    command(group, "list", help="Images in the store.")(list_images)
    command(group, "remove", help="Delete images that no guest uses, their templates, and the password of a Windows.")(
        remove
    )
    command(group, "verify", help="Compare every file of images with its digest.")(verify)


def capabilities(profile: GuestProfile) -> list[str]:
    """What a guest of this profile can do, as words: its facts that are true."""
    facts = profile.facts.model_dump()
    return sorted(name for name, value in facts.items() if value is True)


def select_profiles(cli: Runtime, patterns: list[str]) -> list[GuestProfile]:
    """The profiles that the patterns name.

    Raises:
        UsageError: a pattern fits none. ProfileError: a profile is wrong.
    """
    return matching(
        cli.services.profiles().values(), patterns, name=lambda p: p.name, what="profile", listing="wsklab guests"
    )


def guests(cli: Runtime) -> int:
    """Show every profile."""
    store = cli.services.store(cli.config())
    rows: list[dict[str, Any]] = [
        {
            "profile": profile.name,
            "kind": profile.kind,
            "release": profile.release,
            "build": profile.build,
            "image": str(store.state(profile)) if profile.has_image else "present",
            "capabilities": capabilities(profile),
        }
        for profile in cli.services.profiles().values()
    ]
    cli.output.document({"guests": rows})
    columns = ("profile", "kind", "release", "build", "image")
    cli.output.table(
        "",
        (*columns, "facts"),
        [[*(str(row[key]) for key in columns), ", ".join(row["capabilities"])] for row in rows],
    )
    return 0


def build(
    cli: Runtime,
    profiles: Profiles,
    iso: Annotated[Path | None, typer.Option("--iso", metavar="FILE", help="The medium of a Windows.")] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Get the evaluation medium that the profile knows.")
    ] = False,
    sha256: Annotated[str, typer.Option("--sha256", metavar="HEX", help="The digest that the medium must have.")] = "",
    openssh: Annotated[
        Path | None, typer.Option("--openssh", metavar="FOLDER", help="The unpacked Win32-OpenSSH package.")
    ] = None,
    virtio: Annotated[
        Path | None, typer.Option("--virtio", metavar="FOLDER", help="virtio-win, unpacked: its drivers and agent too.")
    ] = None,
    emulated: Annotated[bool, typer.Option("--emulated", help="Install a Windows even without KVM.")] = False,
) -> int:
    """Make the images that are absent or stale."""
    from wsklab.deadline import Deadline

    config = cli.config()
    chosen = select_profiles(cli, profiles)
    if iso is not None or download:
        wishes = InstallWishes(iso=iso, sha256=sha256, openssh=openssh, virtio=virtio, emulated=emulated)
        _show(cli, [_install(cli, config, chosen, wishes, download=download)])
        return 0
    store = cli.services.store(config)
    images = []
    for profile in chosen:
        with cli.output.progress(f"image {profile.name}") as step:
            deadline = Deadline.after(_BAKE_S * (config.timeout_scale or 1.0))
            images.append(store.build(profile, deadline=deadline, progress=stages(step)))
    _show(cli, images)
    return 0


def _install(
    cli: Runtime, config: LabConfig, chosen: list[GuestProfile], wishes: InstallWishes, *, download: bool
) -> Image:
    """Install the one profile that a medium is for.

    Raises:
        UsageError: several were named, or what was given is not there.
    """
    _just_one(chosen)
    if download and wishes.iso is not None:
        raise UsageError("--iso and --download exclude each other", fix="give one of them")
    if wishes.sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", wishes.sha256):
        raise UsageError("--sha256 is no SHA-256", why=f"it is {wishes.sha256!r}", fix="64 hexadecimal digits")
    if wishes.openssh is not None and not (wishes.openssh / "sshd.exe").is_file():
        raise UsageError(
            f"{wishes.openssh} is no Win32-OpenSSH package",
            why="it has no sshd.exe",
            fix="give the folder that OpenSSH-Win64.zip unpacks to",
        )
    with cli.services.lab(config) as lab:
        return cli.services.install_windows(lab, chosen[0], wishes, cli.output)


def import_image(
    cli: Runtime,
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="Which profile it is; see `wsklab guests`.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The disk: qcow2, raw, vhdx, ...; it is only read.")],
    user: Annotated[
        str, typer.Option("--user", metavar="NAME", help="The administrator that accepts the lab's key.")
    ] = "wsklab",
    provision: Annotated[
        bool, typer.Option("--provision", help="Make the settings that a guest of the lab has, in the copy.")
    ] = False,
) -> int:
    """Copy the disk, start a guest on it, ask what is missing; with --provision do it."""
    existing_file(file, "a disk image")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,19}", user):
        raise UsageError(f"not the name of an account: {user!r}", why="1 to 20 letters, digits, dots, dashes")
    (chosen,) = _just_one(select_profiles(cli, [profile]))
    with cli.services.lab(cli.config()) as lab:
        image = cli.services.import_windows(lab, chosen, file, account=user, provision=provision, output=cli.output)
    _show(cli, [image])
    return 0


def _just_one(chosen: list[GuestProfile]) -> list[GuestProfile]:
    if len(chosen) != 1:
        raise UsageError(
            "a medium is for one profile",
            why=f"{', '.join(profile.name for profile in chosen)} were named",
            fix="name one",
        )
    return chosen


def list_images(cli: Runtime) -> int:
    """Show the store."""
    _show(cli, cli.services.store(cli.config()).list())
    return 0


def remove(
    cli: Runtime,
    profiles: Annotated[list[str], typer.Argument(metavar="PROFILE...", help="Whose images; patterns are allowed.")],
) -> int:
    """Every image of these profiles, outdated and damaged ones too; refused as long as one of them has a guest."""
    config = cli.config()
    store, templates = cli.services.store(config), cli.services.templates(config)
    with cli.services.lab(config) as lab:
        images = list(store.list(damaged=True))
        images = matching(images, profiles, name=lambda i: i.profile, what="image", listing="wsklab image list")
        digests = {image.digest for image in images}
        used = sorted(guest.name for guest in lab.guests() if guest.record.image in digests)
        if used:
            raise UsageError(
                f"{len(used)} guests are on these images",
                why=", ".join(used),
                fix="`wsklab down` them first",
                evidence={"guests": used},
            )
        for template in templates.list():
            if template.manifest.image in digests:
                templates.discard(template.directory)
        for image in images:
            store.remove(image)
            cli.output.line(f"{image.profile} {image.digest[:12]}: gone")
    _show_json(cli, images)
    return 0


def verify(cli: Runtime, profiles: Annotated[list[str] | None, typer.Argument(metavar="[PROFILE]...")] = None) -> int:
    """Check digests, those of templates too; a damaged one is an error that names the file."""
    config = cli.config()
    store, templates = cli.services.store(config), cli.services.templates(config)
    images = list(store.list(damaged=True))
    if profiles:
        images = matching(images, profiles, name=lambda i: i.profile, what="image", listing="wsklab image list")
    chosen = {image.profile for image in images}
    damaged: list[ImageError | TemplateError] = []

    def check(name: str, verify: Callable[[], None]) -> None:
        try:
            verify()
            cli.output.line(f"ok      {name}")
        except (ImageError, TemplateError) as error:
            damaged.append(error)
            cli.output.line(f"damaged {name}: {error.message}")

    for image in images:
        check(f"{image.profile} {image.digest[:12]}", functools.partial(store.verify, image))
    for template in templates.list():
        if template.profile in chosen:
            name = f"{template.profile} {template.manifest.kind} template {template.key[:12]}"
            check(name, functools.partial(templates.verify, template))
    if damaged:
        raise damaged[0]
    _show_json(cli, images)
    return 0


def _show(cli: Runtime, images: list[Image]) -> None:
    _show_json(cli, images)
    cli.output.table(
        "",
        ("profile", "digest", "size", "made", "folder"),
        [
            [
                image.profile,
                image.digest[:12],
                f"{_size_mib(image.directory)} MiB",
                str(image.manifest.built_at),
                str(image.directory),
            ]
            for image in images
        ],
    )


def _show_json(cli: Runtime, images: list[Image]) -> None:
    cli.output.document(
        {
            "images": [
                {
                    "profile": image.profile,
                    "digest": image.digest,
                    "directory": image.directory,
                    "manifest": image.manifest,
                }
                for image in images
            ]
        }
    )


def _size_mib(directory: Path) -> int:
    """Disk space that the files of an image take, in MiB."""
    return sum(path.stat().st_blocks * 512 for path in directory.iterdir() if path.is_file()) >> 20
