"""Bakes a guest of kind wine: Debian packages, our own few files, a Wine prefix, one disk file.

The steps: `mmdebstrap` unpacks a Debian suite (what a driver host does not need is filtered while
unpacking) and calls `images/common/wine/customize`; the kernel and a small initial RAM disk are taken
out; `mkfs.ext4 -d` and `qemu-img` make the disk. Nothing is mounted by the lab itself.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import DeadlineExceeded, HostCommandError, ImageError
from wsklab.image.debian import apt_options, find_mirror
from wsklab.image.initrd import InitrdError, make_initrd
from wsklab.image.manifest import WindowsFacts
from wsklab.process import Child, run, spawn
from wsklab.profile import GuestProfile, WineRecipe

__all__ = ["Bake", "Baked", "Progress", "bake_wine", "wine_inputs"]

#: Raised whenever this module makes other images from the same files.
BUILDER_VERSION: Final = 1

#: Seconds that a bake takes on two cores with a near mirror; the progress line says "expected".
EXPECTED_S: Final = 80.0

#: (stage, seconds since the start, seconds expected in all)
Progress = Callable[[str, float, float], None]

_LOG_TAIL: Final = 30
_HOST_KEY: Final = Path("etc/ssh/ssh_host_ed25519_key.pub")

# What mmdebstrap and `customize` print, and what the user is told then. The last match counts.
_STAGES: Final = (
    (re.compile(r"^I: running --setup-hook|^I: running apt-get update"), "package lists"),
    (re.compile(r"^I: downloading packages"), "downloading packages"),
    (re.compile(r"^I: (extracting archives|installing essential)"), "unpacking the base system"),
    (re.compile(r"^I: installing remaining"), "installing packages"),
    (re.compile(r"^wsklab-stage: (.+)$"), ""),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bake:
    """One bake.

    Attributes:
        profile: what to make.
        common: the folder with the guest's own files.
        public_key: file with the lab's public SSH key.
        cache: folder that keeps downloaded packages.
        work: an empty folder for intermediate files; the caller deletes it.
        product: an empty folder that gets `disk.qcow2`, `vmlinuz` and `initrd.img`.
        deadline: when to give up.
        progress: told the stages.
        key: SHA-256 over all inputs of the image.
    """

    profile: GuestProfile
    common: Path
    public_key: Path
    cache: Path
    work: Path
    product: Path
    deadline: Deadline
    progress: Progress
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baked:
    """What a bake found out; fields as in the manifest."""

    cmdline: str
    host_key: str
    kernel_version: str
    wine_version: str
    packages: Mapping[str, str]
    windows: WindowsFacts | None = None


def wine_inputs(profile: GuestProfile, recipe: WineRecipe, common: Path, public_key: str) -> dict[str, Any]:
    """Everything that decides what a bake makes, as plain data.

    Raises:
        ImageError: a file of `common` cannot be read.
    """
    return {
        "builder": [recipe.builder, BUILDER_VERSION],
        "architecture": profile.architecture,
        "disk_gib": profile.disk_gib,
        "recipe": recipe.model_dump(mode="json"),
        "files": _tree_digests(common),
        "public_key": public_key.strip(),
    }


def bake_wine(bake: Bake) -> Baked:
    """Make the image's files in `bake.product`.

    Raises:
        ImageError: it cannot be made; names the step and holds the end of the log.
    """
    recipe = bake.profile.wine_recipe
    if recipe is None:
        raise ImageError(f"profile {bake.profile.name} has no recipe", fix="add a recipe section to guest.toml")
    if os.geteuid() != 0:
        raise ImageError(
            "baking an image needs root",
            why="the guest's files belong to root and are made in a chroot",
            fix=f"sudo wsklab image build {bake.profile.name}",
        )
    root = bake.work / "root"
    try:
        _install(bake, recipe, root)
        kernel_version = _take_kernel(bake, recipe, root)
        facts = Baked(
            cmdline=f"root=/dev/vda rw {recipe.cmdline}",
            host_key=" ".join((root / _HOST_KEY).read_text().split()[:2]),
            kernel_version=kernel_version,
            wine_version=(root / "var/lib/wsklab/wine-version").read_text().strip(),
            packages=_packages(root / "var/lib/wsklab/packages"),
        )
        _make_disk(bake, root)
    except HostCommandError as error:
        raise ImageError(
            f"image {bake.profile.name} could not be made", why=f"{error.message}: {error.why}", fix=error.fix
        ) from error
    except OSError as error:
        raise ImageError(f"image {bake.profile.name} could not be made", why=str(error)) from error
    return facts


def _tell(bake: Bake, stage: str) -> None:
    bake.progress(stage, bake.deadline.elapsed_s, EXPECTED_S)


# -- packages ------------------------------------------------------------------------------------


def _install(bake: Bake, recipe: WineRecipe, root: Path) -> None:
    """Run mmdebstrap into `root`."""
    debs = bake.cache / "debs" / recipe.suite
    debs.mkdir(parents=True, exist_ok=True)
    options = bake.work / "apt.conf"
    options.write_text(apt_options(bake.deadline), encoding="utf-8")
    mirror = find_mirror(recipe.suite)
    argv = [
        "mmdebstrap",
        "--mode=root",
        "--variant=essential",
        "--format=directory",
        f"--architectures={bake.profile.architecture}",
        f"--include={','.join(recipe.packages)}",
        f"--aptopt={options}",
        *(f"--dpkgopt={option}" for option in _path_filters(bake.common)),
        # Without it bookworm would install perl and a converter to merge /usr afterwards.
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        # The packages stay until `customize` has kept them for the next bake.
        "--skip=download/empty,essential/unlink,cleanup/apt",
        f"--setup-hook=mkdir -p \"$1/var/cache/apt/archives\" && find '{debs}' -name '*.deb' "
        '-exec cp -t "$1/var/cache/apt/archives" {} +',
        f"--customize-hook='{bake.common / 'customize'}' \"$1\"",
        recipe.suite,
        str(root),
        *([mirror] if mirror else []),
    ]
    environment = {
        "INITRD": "No",  # Debian's own initial RAM disk would take half of the bake and is not used
        "WSKLAB_COMMON": str(bake.common),
        "WSKLAB_PUBLIC_KEY": str(bake.public_key),
        "WSKLAB_WINE_LOADER": recipe.wine_loader,
        "WSKLAB_WINE_SERVER": recipe.wine_server,
        "WSKLAB_DEBS": str(debs),
    }
    log = bake.work / "build.log"
    _tell(bake, "package lists")
    with spawn(argv, stdout=log, stderr=log, env=environment) as child:
        _watch(bake, child, log)


def _watch(bake: Bake, child: Child, log: Path) -> None:
    """Wait for mmdebstrap, telling the stages that its log shows."""

    def ended() -> int | NotYet:
        status = child.poll()
        stage = _stage_of(log)
        if status is None:
            _tell(bake, stage)
            return NotYet(stage)
        return status

    try:
        status = wait_until(ended, bake.deadline, what="the packages of the image", tick_s=0.2)
    except DeadlineExceeded as error:
        raise _failed(bake, log, why=error.message) from error
    if status != 0:
        raise _failed(bake, log, why=_complaint(log) or f"mmdebstrap ended with status {status}")


def _stage_of(log: Path) -> str:
    stage = "package lists"
    for line in _lines(log):
        for pattern, name in _STAGES:
            match = pattern.match(line)
            if match:
                stage = name or match[1]
    return stage


def _lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines() if log.exists() else []


def _complaint(log: Path) -> str:
    complaints = [line for line in _lines(log) if line.startswith(("E:", "customize:", "tar:", "cp:"))]
    return complaints[0] if complaints else ""


def _failed(bake: Bake, log: Path, *, why: str) -> ImageError:
    return ImageError(
        f"image {bake.profile.name} could not be made: {_stage_of(log)}",
        why=why,
        fix="the end of the log is in the evidence; is the package mirror reachable (apt update)?",
        evidence={"log": "\n".join(_lines(log)[-_LOG_TAIL:])},
    )


def _path_filters(common: Path) -> list[str]:
    """dpkg options: the paths of `exclude.txt`, then the Windows files that `pe-files.txt` keeps."""
    options = []
    for line in (common / "exclude.txt").read_text(encoding="utf-8").splitlines():
        sign, _, pattern = line.strip().partition(" ")
        if sign in {"+", "-"}:
            options.append(f"path-{'include' if sign == '+' else 'exclude'}={pattern}")
    for line in (common / "pe-files.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            options += [f"path-include=/usr/lib/x86_64-linux-gnu/wine/x86_64-windows/{name}" for name in line.split()]
    return options


def _packages(listing: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in listing.read_text().splitlines())


# -- kernel and disk -----------------------------------------------------------------------------


def _take_kernel(bake: Bake, recipe: WineRecipe, root: Path) -> str:
    """Move the kernel out of `root`, make the initial RAM disk; the kernel's release."""
    _tell(bake, "kernel")
    kernels = sorted((root / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise ImageError(
            f"image {bake.profile.name} could not be made: kernel",
            why=f"expected one kernel in /boot, found {[path.name for path in kernels]}",
            fix="name one kernel package in the recipe",
        )
    release = kernels[0].name.removeprefix("vmlinuz-")
    shutil.copyfile(kernels[0], bake.product / "vmlinuz")
    try:
        image = make_initrd(root, release, recipe.modules, (bake.common / "init").read_bytes())
    except InitrdError as error:
        raise ImageError(f"image {bake.profile.name} could not be made: initial RAM disk", why=str(error)) from error
    (bake.product / "initrd.img").write_bytes(image)
    shutil.rmtree(root / "boot")
    (root / "boot").mkdir()
    return release


def _make_disk(bake: Bake, root: Path) -> None:
    """One ext4 file system without a partition table, as a compressed qcow2."""
    _tell(bake, "disk")
    shutil.rmtree(root / "etc/apt", ignore_errors=True)  # the host's mirror is nobody's business in the guest
    raw = bake.work / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(bake.profile.disk_gib << 30)
    features = "^has_journal,^metadata_csum"  # guests are throw-away, and a journal is written at every boot
    make = ["mkfs.ext4", "-q", "-F", "-L", "wsklab", "-m", "0", "-O", features, "-E", "root_owner=0:0"]
    run([*make, "-d", str(root), str(raw)], deadline=bake.deadline)
    shutil.rmtree(root)
    _tell(bake, "compressing the disk")
    convert = ["qemu-img", "convert", "-c", "-o", "compression_type=zstd", "-f", "raw", "-O", "qcow2"]
    run([*convert, str(raw), str(bake.product / "disk.qcow2")], deadline=bake.deadline)
    raw.unlink()


def _tree_digests(folder: Path) -> dict[str, str]:
    """Path -> mode and SHA-256 of every file below `folder`; only the executable bit of a mode counts."""
    digests = {}
    try:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                digests[name] = f"link {path.readlink()}"
            elif path.is_file():
                mark = "x" if path.stat().st_mode & stat.S_IXUSR else "-"
                digests[name] = f"{mark} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    except OSError as error:
        raise ImageError("a file of the recipe cannot be read", why=str(error), fix="repair the checkout") from error
    if not digests:
        raise ImageError(f"the recipe's folder {folder} is not there", fix="repair the checkout, or recipe.common")
    return digests
