"""The image store: read-only images by the digest of everything that went into them.

Layout below the store's root::

    <profile>/<digest>/{disk.qcow2,vmlinuz,initrd.img,manifest.json}    0444, complete or not there
    <profile>/.lock                held (flock) by whoever builds or removes
    <profile>/.new-<digest>        a build at work; without a holder of the lock it is rubbish
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import ImageError
from wsklab.home import FileLock, Home
from wsklab.image.bake_wine import Bake, Baked, Progress, bake_wine, wine_inputs
from wsklab.image.manifest import MANIFEST_FILE, FileRecord, Manifest, read_manifest
from wsklab.image.windows_media import windows_inputs
from wsklab.profile import GuestProfile, WineRecipe
from wsklab.windows_recipe import WindowsRecipe

__all__ = ["Builder", "Image", "ImageState", "ImageStore", "Progress"]

ImageState = Literal["present", "absent", "stale"]

#: Length of the folder's name: 80 bits of the key.
_DIGEST_LENGTH: Final = 20

#: Free room that a build needs: packages, the unpacked root and the raw disk, in bytes.
_ROOM: Final = 3 << 30

#: Makes the files of an image from a profile and tells what went into them.
Builder = Callable[[Bake], Baked]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image in the store.

    Attributes:
        profile: name of the profile that it was made for.
        digest: the folder's name.
        directory: the folder.
        disk: the read-only disk; guests get overlays on it.
        kernel: kernel for a direct start, or None.
        initrd: initial RAM disk, or None.
        cmdline: the kernel's command line.
        manifest: everything else.
    """

    profile: str
    digest: str
    directory: Path
    disk: Path
    kernel: Path | None
    initrd: Path | None
    cmdline: str
    manifest: Manifest


class ImageStore:
    """Images below one folder.

    Args:
        root: the folder; `<home>/images` in a lab home.
        public_key: the lab's public SSH key for guests; by default the home's own, made on the first build.
        cache: folder for downloaded packages, may be deleted at any time; by default the home's.
        common: the folder of shared guest files; by default `common` beside the profile's folder.
        builder: makes the files; tests give their own.
    """

    def __init__(
        self,
        root: Path,
        *,
        public_key: Path | None = None,
        cache: Path | None = None,
        common: Path | None = None,
        builder: Builder = bake_wine,
    ) -> None:
        self._root = root
        self._public_key = public_key or root.parent / "keys" / "guest_ed25519.pub"
        self._owns_key = public_key is None
        self._cache = cache or root.parent / "cache"
        self._common = common
        self._builder = builder

    def key(self, profile: GuestProfile) -> str:
        """SHA-256 of all inputs of the profile's image; hexadecimal.

        Raises:
            ImageError: the profile has no recipe, or an input cannot be read.
        """
        return _key_of(self._inputs(profile))

    def find(self, profile: GuestProfile) -> Image | None:
        """The image for the profile as it is now, or None; sizes are compared, digests are not (see `verify`)."""
        if (profile.wine_recipe or profile.windows_recipe) is None or not self._public_key.exists():
            return None
        return self._load(self._directory(profile.name, self.key(profile)))

    def state(self, profile: GuestProfile) -> ImageState:
        """`present`; `stale` when there is one but of other inputs, or damaged; else `absent`."""
        if self.find(profile) is not None:
            return "present"
        return "stale" if any(_image_directories(self._root / profile.name)) else "absent"

    def list(self, *, damaged: bool = False) -> list[Image]:
        """Every complete image, by profile and age; with `damaged` those too whose files are missing or cut."""
        if not self._root.is_dir():
            return []
        found = [
            image
            for folder in sorted(self._root.iterdir())
            if folder.is_dir()
            for directory in _image_directories(folder)
            if (image := self._load(directory, damaged=damaged)) is not None
        ]
        return sorted(found, key=lambda image: (image.profile, image.manifest.built_at))

    def build(
        self,
        profile: GuestProfile,
        *,
        deadline: Deadline,
        progress: Progress | None = None,
        builder: Builder | None = None,
    ) -> Image:
        """The profile's image, made when it is not there. Two builders of one profile: the second waits and finds it.

        Args:
            profile: what to make.
            deadline: when to give up, waiting for another builder included.
            progress: called with the stage, the seconds since the start, and the seconds expected in all.
            builder: makes the files, instead of the store's own builder; needed for a Windows, which is installed.

        Raises:
            ImageError: it cannot be made; nothing is left behind.
            DeadlineExceeded: another builder holds the lock too long.
        """
        if self._owns_key:
            Home.open(self._root.parent).guest_key()
        folder = self._root / profile.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except PermissionError as error:
            raise ImageError(
                f"the image of {profile.name} cannot be made by this user",
                why=str(error),
                fix=f"sudo wsklab image build {profile.name}",
            ) from error
        with _locked(folder, deadline):
            found = self.find(profile)
            if found is not None:
                return found
            if builder is None and profile.windows_recipe is not None:
                raise ImageError(
                    f"there is no image of {profile.name}",
                    why="a Windows is installed from its medium, which nobody named",
                    fix=f"wsklab image build {profile.name} --iso FILE   (or --download)",
                )
            _remove_rubbish(folder)
            self._check_room()
            return self._build(profile, deadline, progress or _silent, builder or self._builder)

    def verify(self, image: Image) -> None:
        """Compare every file with its digest.

        Raises:
            ImageError: names the first file that differs.
        """
        for name, record in image.manifest.files.items():
            path = image.directory / name
            actual = _record(path) if path.is_file() else None
            if actual != record:
                raise ImageError(
                    f"image {image.profile} is damaged: {name}",
                    why=_difference(record, actual),
                    fix=f"wsklab image build {image.profile} makes it again once the folder is removed",
                    evidence={"file": str(path), "expected": record.sha256, "actual": actual and actual.sha256},
                )

    def remove(self, image: Image, *, deadline: Deadline | None = None) -> None:
        """Delete an image, and the password that was made for it; guests on it break, so ask the pool first.

        No error when it is gone.
        """
        with _locked(image.directory.parent, deadline or Deadline.after(10.0)):
            _delete(image.directory)
            known = image.manifest.windows
            if known is not None and known.password_file:
                (self._public_key.parent / Path(known.password_file).name).unlink(missing_ok=True)

    # -- parts ---------------------------------------------------------------------------------

    def _inputs(self, profile: GuestProfile) -> dict[str, Any]:
        recipe = profile.recipe
        if not isinstance(recipe, WineRecipe | WindowsRecipe):
            raise ImageError(
                f"the image of {profile.name} cannot be made",
                why="the profile has no recipe for one",
                fix="add a recipe section to guest.toml",
            )
        try:
            public_key = self._public_key.read_text(encoding="utf-8")
        except OSError as error:
            raise ImageError(
                "the lab's public key cannot be read", why=str(error), fix="wsklab image build makes it"
            ) from error
        if isinstance(recipe, WindowsRecipe):
            return windows_inputs(profile, recipe, public_key)
        return wine_inputs(profile, recipe, self._common_of(profile), public_key)

    def _common_of(self, profile: GuestProfile) -> Path:
        root = self._common or profile.directory.parent / "common"
        return root / profile.wine_recipe.common if profile.wine_recipe is not None else root

    def _directory(self, profile: str, key: str) -> Path:
        return self._root / profile / key[:_DIGEST_LENGTH]

    def _load(self, directory: Path, *, damaged: bool = False) -> Image | None:
        """The image in a folder, or None when it is not complete and `damaged` ones are not wanted."""
        try:
            manifest = read_manifest(directory)
            for name, record in manifest.files.items():
                if not damaged and (directory / name).stat().st_size != record.size:
                    return None
        except (ImageError, OSError):
            return None
        files = manifest.files
        return Image(
            profile=manifest.profile,
            digest=directory.name,
            directory=directory,
            disk=directory / "disk.qcow2",
            kernel=directory / "vmlinuz" if "vmlinuz" in files else None,
            initrd=directory / "initrd.img" if "initrd.img" in files else None,
            cmdline=manifest.cmdline,
            manifest=manifest,
        )

    def _check_room(self) -> None:
        free = shutil.disk_usage(self._root).free
        if free < _ROOM:
            raise ImageError(
                "not enough room to bake an image",
                why=f"{free >> 20} MiB are free below {self._root}, a bake needs {_ROOM >> 20} MiB",
                fix="make room, or set WSKLAB_HOME to a larger disk",
            )

    def _build(self, profile: GuestProfile, deadline: Deadline, progress: Progress, builder: Builder) -> Image:
        inputs = self._inputs(profile)
        key = _key_of(inputs)
        target = self._directory(profile.name, key)
        work = target.with_name(f".new-{target.name}")
        product = work / "product"
        product.mkdir(parents=True)
        started = time.monotonic()
        try:
            baked = builder(
                Bake(
                    profile=profile,
                    common=self._common_of(profile),
                    public_key=self._public_key,
                    cache=self._cache,
                    work=work,
                    product=product,
                    deadline=deadline,
                    progress=progress,
                    key=key,
                )
            )
            manifest = _manifest(profile, key, inputs, baked, product, seconds=time.monotonic() - started)
            (product / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
            for path in product.iterdir():
                path.chmod(0o444)
            _delete(target)  # only a damaged one can be there
            product.rename(target)
        finally:
            _delete(work)
        image = self._load(target)
        if image is None:
            raise ImageError(f"the new image {target} is not complete", why="its files changed after the bake")
        return image


def _manifest(
    profile: GuestProfile, key: str, inputs: Mapping[str, Any], baked: Baked, product: Path, *, seconds: float
) -> Manifest:
    return Manifest(
        profile=profile.name,
        key=key,
        inputs=dict(inputs),
        cmdline=baked.cmdline,
        host_key=baked.host_key,
        kernel_version=baked.kernel_version,
        wine_version=baked.wine_version,
        packages=dict(baked.packages),
        files={path.name: _record(path) for path in sorted(product.iterdir())},
        built_at=datetime.now(UTC),
        seconds=round(seconds, 1),
        windows=baked.windows,
    )


def _key_of(inputs: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _record(path: Path) -> FileRecord:
    with path.open("rb") as file:
        return FileRecord(size=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def _difference(expected: FileRecord, actual: FileRecord | None) -> str:
    if actual is None:
        return "the file is missing"
    if actual.size != expected.size:
        return f"it has {actual.size} bytes instead of {expected.size}"
    return "its content differs from the digest in the manifest"


def _image_directories(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _remove_rubbish(folder: Path) -> None:
    """Delete builds that were killed; whoever calls holds the lock, so nobody works in them."""
    for path in folder.glob(".new-*"):
        _delete(path)


def _delete(directory: Path) -> None:
    """Remove a tree at once for everybody else: a reader never sees half an image."""
    if not directory.exists():
        return
    trash = directory.with_name(f".new-trash-{directory.name.lstrip('.')}")
    if trash != directory and not trash.exists():
        directory.rename(trash)
        directory = trash
    shutil.rmtree(directory)


@contextlib.contextmanager
def _locked(folder: Path, deadline: Deadline) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")

    def taken() -> bool | NotYet:
        return lock.try_acquire() or NotYet("another process builds this image")

    try:
        wait_until(taken, deadline, what=f"the lock of the images of {folder.name}")
        yield
    finally:
        lock.release()


def _silent(stage: str, elapsed_s: float, expected_s: float) -> None:
    """Progress that nobody asked for."""
