"""Guest profiles: `images/<name>/guest.toml`, what a guest is and what it can do.

A new guest version is a new folder, no code. A profile is data about the guest; how its image is
made is the `recipe` section, which the builder of that kind reads.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from wsklab.errors import ProfileError
from wsklab.windows_recipe import WindowsRecipe

__all__ = [
    "Facts",
    "GuestProfile",
    "Recipe",
    "ShimRecipe",
    "WineRecipe",
    "load_profile",
    "load_profiles",
    "unknown_profile",
]

#: The file that makes a folder a guest profile.
PROFILE_FILE = "guest.toml"
_NOT_IN_FILE = frozenset({"directory", "static"})

_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,31}$")]


class _Section(BaseModel):
    """A table of the file: read-only, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Facts(_Section):
    """What results from this guest can mean; the judge and the cases read these.

    Attributes:
        irql_real: raising the IRQL has the effect that Windows gives it.
        event_callbacks: WSK event callbacks are delivered.
        provider_drops_irps: the WSK provider may fail a call and never complete its IRP.
        output_clamped: an IOCTL's `Information` is limited to the caller's buffer by the system.
        single_dispatch_thread: all requests of all clients are dispatched by one thread.
        unload_ignores_handles: a driver is unloaded although handles on its device are open.
        access_control: the security descriptor of a device is enforced.
        kernel_dump: a stop of the guest's kernel leaves a Windows crash dump.
        wine_version: the version of Wine, for guests of kind wine.
    """

    irql_real: bool
    event_callbacks: bool
    provider_drops_irps: bool
    output_clamped: bool
    single_dispatch_thread: bool = False
    unload_ignores_handles: bool = False
    access_control: bool = True
    kernel_dump: bool = True
    wine_version: str | None = None


class WineRecipe(_Section):
    """How a guest of kind wine is baked: a Debian suite, packages, and the shared folder of files.

    Attributes:
        builder: always `wine`.
        suite: the Debian suite.
        packages: Debian packages besides the essential ones; their dependencies come along, recommended ones do not.
        common: folder below `images/common` with the guest's own files.
        wine_loader: the Wine loader in the guest, called without the distribution's wrapper script.
        wine_server: the Wine server in the guest.
        modules: kernel modules that the initial RAM disk loads, by name; what they need comes along,
            what the kernel has built in is left out.
        cmdline: the kernel's command line.
    """

    builder: Literal["wine"]
    suite: _Name
    packages: tuple[str, ...]
    common: _Name = "wine"
    wine_loader: str
    wine_server: str
    modules: tuple[str, ...]
    cmdline: str


class ShimRecipe(_Section):
    """A guest of kind shim: a process, built from the driver's sources for this host.

    Attributes:
        builder: always `shim`.
        os_build: the build of Windows that it says it is: which WSK functions there are.
    """

    builder: Literal["shim"]
    os_build: Annotated[int, Field(ge=14393, le=99999)]


#: The `recipe` section, told apart by `builder`.
Recipe = Annotated[WineRecipe | WindowsRecipe | ShimRecipe, Field(discriminator="builder")]


class GuestProfile(_Section):
    """One guest profile.

    Attributes:
        name: its name, that of its folder.
        kind: `windows`, `wine` or `shim`: what a pass on it means.
        release: the system in words.
        build: its build: `10.0.26100.1742`, or Wine's version.
        edition: edition of Windows, or "".
        architecture: Debian's or Windows' name of the processor architecture.
        firmware: `bios` or `uefi` (guests with a kernel of their own are started directly).
        tpm: whether it has an emulated TPM 2.0 (swtpm).
        memory_mib: memory in MiB.
        vcpus: number of virtual processors.
        cpu_model: QEMU's processor model.
        disk_gib: virtual size of the disk in GiB; the file is smaller.
        nic_model: network adapter: `virtio`, `e1000e`, ...
        disk_bus: `virtio`, `sata`, ...
        recipe: how its image is made; None when the image can only be imported.
        boot_budget_s: seconds from start to ready on KVM; scaled by the lab's timeout factor.
        ready_check: a command that succeeds in a guest that is ready.
        shared_leases: how many cases may use it at the same time; 1 where they would get in each other's way.
        facts: what it can do.
        baseline: file name of its known deviations, beside the profile.
        notes: for people.
        directory: the profile's folder (not in the file).
        static: it stands for one machine that exists already, under the machine's name (not in the file).
    """

    name: _Name
    kind: Literal["windows", "wine", "shim"]
    release: str
    build: str
    edition: str = ""
    architecture: Literal["amd64"] = "amd64"
    firmware: Literal["bios", "uefi"] = "bios"
    tpm: bool = False
    memory_mib: Annotated[int, Field(ge=128, le=1 << 20)]
    vcpus: Annotated[int, Field(ge=1, le=64)]
    cpu_model: str
    disk_gib: Annotated[int, Field(ge=1, le=4096)]
    nic_model: str = "virtio"
    disk_bus: str = "virtio"
    recipe: Recipe | None = None
    boot_budget_s: Annotated[float, Field(gt=0)]
    ready_check: str
    shared_leases: Annotated[int, Field(ge=1, le=16)] = 4
    facts: Facts
    baseline: str = "baseline.toml"
    notes: str = ""
    directory: Path
    static: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> GuestProfile:
        if self.kind == "wine" and self.wine_recipe is None:
            raise ValueError("a guest of kind wine needs a recipe section with builder wine")
        if self.kind == "wine" and self.facts.wine_version is None:
            raise ValueError("a guest of kind wine needs facts.wine_version")
        if self.kind == "windows" and self.wine_recipe is not None:
            raise ValueError("a guest of kind windows cannot have a recipe with builder wine")
        if (self.kind == "shim") != isinstance(self.recipe, ShimRecipe):
            raise ValueError("a guest of kind shim has a recipe section with builder shim, and no other kind has one")
        return self

    @property
    def wine_recipe(self) -> WineRecipe | None:
        """The recipe, when it is one for a guest of kind wine."""
        return self.recipe if isinstance(self.recipe, WineRecipe) else None

    @property
    def windows_recipe(self) -> WindowsRecipe | None:
        """The recipe, when it is one for a Windows installation."""
        return self.recipe if isinstance(self.recipe, WindowsRecipe) else None

    @property
    def shim_build(self) -> int:
        """The build of Windows that a guest of kind shim says it is; 0 for other kinds."""
        return self.recipe.os_build if isinstance(self.recipe, ShimRecipe) else 0

    @property
    def has_image(self) -> bool:
        """Whether its guests are started from an image; a guest of kind shim is a process, a static one is there."""
        return self.kind != "shim" and not self.static

    @property
    def baseline_file(self) -> Path:
        """The file of known deviations; it need not exist."""
        return self.directory / self.baseline


def load_profile(directory: Path) -> GuestProfile:
    """Read one profile.

    Raises:
        ProfileError: the file is missing, not TOML, or says something that the schema does not know.
    """
    file = directory / PROFILE_FILE
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise _error(file, "", f"cannot read {file}", str(error), "make the file, or remove the folder") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _error(file, "", f"{file} is not TOML", str(error), "correct the line that is named") from error
    for key in _NOT_IN_FILE.intersection(document):
        raise _error(file, key, f"{file}: unknown key {key}", "it is known without it", "remove it")
    try:
        profile = GuestProfile.model_validate({**document, "directory": directory})
    except ValidationError as error:
        raise _from_validation(file, error) from error
    if profile.name != directory.name:
        raise _error(
            file,
            "name",
            f"{file}: name is {profile.name!r}",
            f"the folder is called {directory.name!r}, and both must agree",
            "rename one of them",
        )
    return profile


def load_profiles(root: Path) -> dict[str, GuestProfile]:
    """Every profile below `root`, by name, in the order of their names.

    Raises:
        ProfileError: the first profile that is wrong.
    """
    files = sorted(root.glob(f"*/{PROFILE_FILE}"))
    return {profile.name: profile for profile in (load_profile(file.parent) for file in files)}


def unknown_profile(name: str, known: Iterable[str]) -> ProfileError:
    """The error for a profile name that nobody has; names the nearest."""
    names = sorted(known)
    nearest = _nearest(name, names)
    return ProfileError(
        f"there is no guest profile {name}",
        why=f"known: {', '.join(names) or 'none'}",
        fix=f"did you mean {nearest}?" if nearest else "wsklab guests lists them",
        evidence={"file": "", "key": name, "nearest": nearest},
    )


def _nearest(word: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return found[0] if found else ""


def _error(file: Path, key: str, message: str, why: str, fix: str, *, nearest: str = "") -> ProfileError:
    return ProfileError(
        message, why=why, fix=fix, evidence={"file": str(file), "key": key, **({"nearest": nearest} if nearest else {})}
    )


def _from_validation(file: Path, error: ValidationError) -> ProfileError:
    """The first complaint, as file, key and, for an unknown key, the nearest one."""
    first = error.errors(include_url=False)[0]
    # After `recipe` comes the builder, which tells two schemas apart and is no key of the file.
    path = tuple(part for part, before in zip(first["loc"], ("", *first["loc"]), strict=False) if before != "recipe")
    key = ".".join(str(part) for part in path)
    if first["type"] == "extra_forbidden":
        nearest = _nearest(str(path[-1]), _keys_of(first["loc"][:-1]))
        fix = f"did you mean {nearest}?" if nearest else "remove it"
        return _error(file, key, f"{file}: unknown key {key}", "the schema has no such key", fix, nearest=nearest)
    if first["type"] in {"missing", "union_tag_not_found"}:
        key = key if first["type"] == "missing" else f"{key}.builder"
        return _error(file, key, f"{file}: {key} is missing", "it has no default", f"add {key}")
    if first["type"] == "union_tag_invalid":
        builder = str(first["ctx"]["tag"])
        nearest = _nearest(builder, ("wine", "windows", "shim"))
        return _error(
            file,
            f"{key}.builder",
            f"{file}: {key}.builder is {builder!r}",
            "known: shim, windows, wine",
            f"did you mean {nearest}?" if nearest else "correct the value",
            nearest=nearest,
        )
    return _error(file, key, f"{file}: {key or 'profile'} is wrong", _complaint(first), "correct the value")


def _complaint(first: Mapping[str, Any]) -> str:
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{message}, not {first['input']!r}" if first["loc"] else message


def _keys_of(path: tuple[int | str, ...]) -> list[str]:
    """The keys of the table that `path`, as pydantic tells it, leads to."""
    models: list[type[BaseModel]] = [GuestProfile]
    for part in path:
        tagged = [model for model in models if part in _builders_of(model)]
        fields = [model.model_fields[str(part)] for model in models if str(part) in model.model_fields]
        models = tagged or [found for field in fields for found in _models_in(field.annotation)] or models
    return [name for model in models for name in model.model_fields if name not in _NOT_IN_FILE]


def _builders_of(model: type[BaseModel]) -> tuple[object, ...]:
    field = model.model_fields.get("builder")
    return get_args(field.annotation) if field is not None else ()


def _models_in(annotation: object) -> list[type[BaseModel]]:
    """The models that an annotation is made of, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _models_in(inner)]
