"""The lab's settings: read once, frozen, handed down in slices.

Precedence, strongest first: options of the command line, environment `WSKLAB_<KEY>`, the project's
`wsklab.toml`, the user's `~/.config/wsklab/config.toml`, the defaults below. Nothing is read at import;
the environment and the folders arrive as arguments, so that a test passes a dict.

A key that nobody knows is an error with the nearest known key: a setting must never be lost by a typing slip.
"""

from __future__ import annotations

import difflib
import enum
import ipaddress
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from wsklab.errors import ConfigError
from wsklab.machine_config import MachineConfig, PowerConfig

__all__ = [
    "ENVIRONMENT_PREFIX",
    "LOCAL_HOST",
    "MAX_GUESTS_EACH",
    "RESERVED_ENVIRONMENT",
    "SYSTEM_HOME",
    "AccelerationSetting",
    "HostConfig",
    "LabConfig",
    "MachineConfig",
    "ModeSetting",
    "WireSetting",
    "config_schema",
    "default_home",
    "load_config",
]

#: Environment variables that begin so are settings.
ENVIRONMENT_PREFIX = "WSKLAB_"
#: ... except these, which the launcher and the pytest controller hand to their own children.
RESERVED_ENVIRONMENT = "WSKLAB_INTERNAL_"
#: The store in system mode: QEMU runs as another user there and cannot enter a home folder of mode 0700.
SYSTEM_HOME = Path("/var/lib/wsklab")
#: The name of the host that the lab itself is on, beside those of the setting `hosts`.
LOCAL_HOST = "local"
#: Guests that a run may have of one profile.
MAX_GUESTS_EACH = 16


class ModeSetting(enum.StrEnum):
    """Which libvirt daemon serves the guests."""

    AUTO = "auto"
    SYSTEM = "system"
    PRIVATE = "private"


class AccelerationSetting(enum.StrEnum):
    """How guests execute; `auto` asks the probe."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


class WireSetting(enum.StrEnum):
    """Which network forks are on."""

    AUTO = "auto"
    PRIVATE = "private"
    SHARED = "shared"


class HostConfig(BaseModel):
    """Another host for guests of `wsklab up`: a table `[[hosts]]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,19}$", description="Its name for people, and in the names of its guests."
    )
    uri: str = Field(description="Its libvirt, such as qemu+ssh://lab@rack1/system.")
    ssh: str = Field(default="", description="How ssh names it, such as lab@rack1; default: user and host of the URI.")
    ssh_options: tuple[str, ...] = Field(
        default=(), description="Further options of ssh and scp; most belong into ~/.ssh/config instead."
    )
    store: Path = Field(default=SYSTEM_HOME, description="Folder there that the group libvirt shares.")
    acceleration: AccelerationSetting = Field(
        default=AccelerationSetting.AUTO, description="auto: kvm where the user may open /dev/kvm there."
    )
    memory_reserve_mib: int = Field(default=1024, ge=0, description="Memory that admission leaves alone, in MiB.")
    disk_reserve_mib: int = Field(default=2048, ge=0, description="Space that admission leaves alone, in MiB.")

    @model_validator(mode="after")
    def _reachable(self) -> HostConfig:
        if self.name == LOCAL_HOST:
            raise ValueError(f"{LOCAL_HOST} is this host's own name")
        if not self.target:
            raise ValueError(f"the uri {self.uri} names no host for ssh: give ssh as well")
        return self

    @property
    def target(self) -> str:
        """How `ssh` names it."""
        if self.ssh:
            return self.ssh
        parts = urlsplit(self.uri)
        if not parts.scheme.endswith("+ssh") or not parts.hostname:
            return ""
        user = f"{parts.username}@" if parts.username else ""
        return f"ssh://{user}{parts.hostname}:{parts.port}" if parts.port else f"{user}{parts.hostname}"


#: The tables that may be given several times.
_TABLES: dict[str, type[BaseModel]] = {"hosts": HostConfig, "machines": MachineConfig}


class LabConfig(BaseModel):
    """Every setting of the lab. Field descriptions go into the published JSON Schema and the docs."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    home: Path | None = Field(
        default=None,
        description="Store of images, guests and keys. Default: /var/lib/wsklab in system mode, "
        "$XDG_DATA_HOME/wsklab (~/.local/share/wsklab) in private mode.",
    )
    mode: ModeSetting = Field(
        default=ModeSetting.AUTO,
        description="auto: the distribution's libvirtd when a service manager runs it, else the lab's own daemon "
        "in its own namespaces (needs root).",
    )
    uri: str = Field(default="qemu:///system", description="libvirt connection of system mode.")
    acceleration: AccelerationSetting = Field(
        default=AccelerationSetting.AUTO, description="auto: what the probe found to work."
    )
    forks: bool = Field(
        default=True, description="Whether guests are forks of a template where that works; else each boots."
    )
    wire: WireSetting = Field(
        default=WireSetting.AUTO,
        description="private: each fork has a network of its own with the lab; shared: forks take addresses of their "
        "own on the lab's network and reach each other; auto: private in private mode, else shared.",
    )
    run_spares: Annotated[int, Field(ge=0, le=16)] = Field(
        default=1,
        description="Ready guests of each profile that a run keeps after the first one had to be replaced; "
        "paused after half a minute.",
    )
    up_spares: Annotated[int, Field(ge=0, le=16)] = Field(
        default=0,
        description="Ready, paused guests that `wsklab up` leaves for the next `up` of the same profile, for an hour; "
        "each holds its memory.",
    )
    timeout_scale: Annotated[float, Field(gt=0, le=100)] | None = Field(
        default=None,
        description="Factor on every timeout (no unit); quiet windows are not scaled. "
        "Default: by acceleration, 1.0 with kvm, 4.0 with tcg.",
    )
    subnets: tuple[str, ...] = Field(
        default=("192.168.213.0/24", "192.168.214.0/24", "10.213.0.0/24", "172.30.213.0/24"),
        min_length=1,
        description="Candidates for the lab's own network, first free one wins; IPv4 with a prefix length.",
    )
    memory_reserve_mib: int = Field(default=1024, ge=0, description="Host memory that admission leaves alone, in MiB.")
    disk_reserve_mib: int = Field(
        default=2048, ge=0, description="Free space in the store that admission leaves alone, in MiB."
    )
    vcpus_per_core: Annotated[int, Field(ge=1, le=256)] = Field(
        default=8, description="Most virtual processors that guests may have for each processor of the host."
    )
    quota: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Most guests that one user may hold on this host; default: no limit but the host's."
    )
    guests: tuple[str, ...] = Field(
        default=("wine-bookworm", "wine-trixie"),
        min_length=1,
        description="Profiles that `wsklab run` uses without --guest.",
    )
    guests_each: Annotated[int, Field(ge=1, le=MAX_GUESTS_EACH)] | Literal["auto"] = Field(
        default=1,
        description="Guests of each profile in a run; auto: as many as cores and memory allow. Without it a run on "
        "nothing but shim guests gives each worker its own.",
    )
    workers: Annotated[int, Field(ge=0, le=256)] | Literal["auto"] = Field(
        default="auto",
        description="pytest-xdist workers of a run; 0 runs in the controller; auto: by guests and cores.",
    )
    hosts: tuple[HostConfig, ...] = Field(
        default=(), description="Other hosts for guests of `wsklab up`, each a table [[hosts]]; see docs/hosts.md."
    )
    machines: tuple[MachineConfig, ...] = Field(
        default=(), description="Machines that exist already, each a table [[machines]]; see docs/machines.md."
    )
    results_dir: Path = Field(default=Path("results"), description="Where runs leave their folder.")
    ssh_ciphers: tuple[str, ...] = Field(
        default=(), description="SSH ciphers to offer, strongest wish first; default: the library's own order."
    )

    @field_validator("subnets")
    @classmethod
    def _subnets_are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for subnet in value:
            network = ipaddress.IPv4Network(subnet)
            if not network.is_private:
                raise ValueError(f"{subnet} is not a private network")
        return value

    @field_validator("hosts", "machines")
    @classmethod
    def _names_are_unique(cls, value: tuple[HostConfig | MachineConfig, ...], info: ValidationInfo) -> object:
        names = [one.name for one in value]
        if len(set(names)) != len(names):
            raise ValueError(f"two {info.field_name} have the same name")
        return value


def config_schema() -> dict[str, Any]:
    """The JSON Schema of `wsklab.toml`, as published in the docs."""
    schema = LabConfig.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "wsklab.toml"
    return schema


def default_home(mode: ModeSetting, environ: Mapping[str, str], user_home: Path) -> Path:
    """The store when no setting names one (`WSKLAB_HOME` is the setting `home`).

    Args:
        mode: the resolved mode, `SYSTEM` or `PRIVATE`.
        environ: the environment; only XDG_DATA_HOME is looked at.
        user_home: the user's home folder.
    """
    if mode is ModeSetting.SYSTEM:
        return SYSTEM_HOME
    data = environ.get("XDG_DATA_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    base = Path(data) if data.startswith("/") else user_home / ".local" / "share"
    return base / "wsklab"


def load_config(
    *,
    options: Mapping[str, object] | None = None,
    environ: Mapping[str, str],
    file: Path | None = None,
    folder: Path,
    user_home: Path,
) -> LabConfig:
    """Read all sources and merge them.

    Args:
        options: settings given on the command line; None values mean "not given".
        environ: the environment.
        file: the file named by `--config`; it must exist and takes the place of `folder/wsklab.toml`.
        folder: where `wsklab.toml` is looked for.
        user_home: the user's home folder.

    Raises:
        ConfigError: unreadable file, unknown key, or a value that does not fit.
    """
    merged: dict[str, object] = {}
    sources: dict[str, str] = {}

    def add(values: Mapping[str, object], source: str) -> None:
        for key, value in values.items():
            merged[key] = value
            sources[key] = source

    for path in _files(environ, file, folder, user_home):
        add(_read_file(path), str(path))
    add(_from_environment(environ), "environment")
    add({key: value for key, value in (options or {}).items() if value is not None}, "command line")
    try:
        return LabConfig.model_validate(merged)
    except ValidationError as problem:
        raise _translate(problem, sources) from problem


def _files(environ: Mapping[str, str], file: Path | None, folder: Path, user_home: Path) -> list[Path]:
    """The files to read, weakest first."""
    base = environ.get("XDG_CONFIG_HOME", "")
    config_home = Path(base) if base.startswith("/") else user_home / ".config"
    found = [path for path in (config_home / "wsklab" / "config.toml",) if path.is_file()]
    if file is not None:
        return [*found, file]
    project = folder / "wsklab.toml"
    return [*found, project] if project.is_file() else found


def _read_file(path: Path) -> dict[str, object]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ConfigError(
            f"cannot read the configuration file {path}",
            why=str(problem),
            fix="correct or remove the file",
            evidence={"file": str(path), "key": ""},
        ) from problem
    for key in values:
        _check_key(key, str(path), key)
    return values


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    """Settings from WSKLAB_*; lists are comma-separated. pydantic reads numbers and paths from the text."""
    values: dict[str, object] = {}
    for name, text in environ.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name.startswith(RESERVED_ENVIRONMENT):
            continue
        key = name.removeprefix(ENVIRONMENT_PREFIX).lower()
        _check_key(key, "environment", name)
        if str(LabConfig.model_fields[key].annotation).startswith("tuple["):
            values[key] = tuple(part.strip() for part in text.split(",") if part.strip())
        else:
            values[key] = text
    return values


def _check_key(key: str, source: str, shown: str) -> None:
    """Refuse an unknown key, naming the nearest known one in the spelling of its source."""
    if key in LabConfig.model_fields:
        return
    close = difflib.get_close_matches(key, LabConfig.model_fields, n=1, cutoff=0.5)
    nearest = close[0] if close else ""
    if source == "environment" and nearest:
        nearest = ENVIRONMENT_PREFIX + nearest.upper()
    known = ", ".join(sorted(LabConfig.model_fields))
    raise ConfigError(
        f"unknown setting {shown!r} in {source}",
        why=f"the nearest known one is {nearest!r}" if nearest else f"known settings are {known}",
        fix=f"write {nearest!r}, or remove it" if nearest else "remove it",
        evidence={"file": source, "key": shown, "nearest": nearest},
    )


def _translate(problem: ValidationError, sources: Mapping[str, str]) -> ConfigError:
    """The first complaint of pydantic as one line."""
    first = problem.errors(include_url=False)[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    source = sources.get(key, "command line")
    field = LabConfig.model_fields.get(key)
    if len(first["loc"]) > 1 and first["type"] == "extra_forbidden":
        return _unknown_in_table(tuple(str(part) for part in first["loc"]), source)
    inner = _TABLES[key].model_fields.get(str(first["loc"][2])) if key in _TABLES and len(first["loc"]) > 2 else None
    field = inner or field
    return ConfigError(
        f"setting {'.'.join(str(part) for part in first['loc'])!r} from {source} does not fit: {first['msg'].lower()}",
        why=f"it was given as {first.get('input')!r}",
        fix=(field.description or "") if field is not None else "remove it",
        evidence={"file": source, "key": key, "nearest": ""},
    )


def _unknown_in_table(path: tuple[str, ...], source: str) -> ConfigError:
    """A key that no table of that sort has; `path` as pydantic tells it: table, number, perhaps an inner table, key."""
    table, key = path[0], path[-1]
    model = PowerConfig if "power" in path[:-1] else _TABLES[table]
    inner = ".power" if model is PowerConfig else ""
    close = difflib.get_close_matches(key, model.model_fields, n=1, cutoff=0.5)
    nearest = close[0] if close else ""
    return ConfigError(
        f"unknown key {key!r} in [[{table}]]{inner} of {source}",
        why=f"the nearest known one is {nearest!r}" if nearest else f"known: {', '.join(model.model_fields)}",
        fix=f"write {nearest!r}, or remove it" if nearest else "remove it",
        evidence={"file": source, "key": f"{table}{inner}.{key}", "nearest": nearest},
    )
