"""The manifest of an image: what went into it and what came out, written beside the files."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wsklab.answer_file import GUEST_ACCOUNT
from wsklab.errors import ImageError

__all__ = ["FileRecord", "Manifest", "WindowsFacts", "licence_warning", "read_manifest"]

MANIFEST_FILE = "manifest.json"

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileRecord(BaseModel):
    """One file of an image: its size in bytes and its SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Annotated[int, Field(ge=0)]
    sha256: _Sha256


class WindowsFacts(BaseModel):
    """What is known of an installed Windows.

    Attributes:
        edition: EDITIONID of what was installed.
        build: build and revision that the system itself said, e.g. `20348.587`.
        medium_sha256: the installation medium.
        evaluation: whether the edition is an evaluation, which expires.
        licence_expires: when, UTC, reckoned from the day of the installation; None for other editions.
        password_file: file below the home's `keys` with the password of the account and of the administrator; "" where
            the lab knows none.
        acceleration: what the installation ran on; "" for an imported disk.
        account: the administrator that the lab logs in as.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    edition: str
    build: str
    medium_sha256: str
    evaluation: bool
    licence_expires: datetime | None
    password_file: str
    acceleration: str
    account: str = GUEST_ACCOUNT

    @classmethod
    def unknown(cls, account: str) -> WindowsFacts:
        """Of a disk that nobody has looked into yet."""
        return cls(
            edition="", build="", medium_sha256="", evaluation=False, licence_expires=None, password_file="",
            acceleration="", account=account,
        )  # fmt: skip


class Manifest(BaseModel):
    """What an image is.

    Attributes:
        version: version of this format.
        profile: the profile that it was made for.
        key: SHA-256 over all inputs; its beginning names the folder.
        inputs: the inputs by name, as they went into the key.
        cmdline: command line for the guest's kernel.
        host_key: the guest's SSH host key, "ssh-ed25519 AAAA...", for the lab to pin.
        kernel_version: release of the guest's kernel, or "".
        wine_version: what Wine says of itself, or "".
        packages: exact versions by package name.
        files: the image's files by name.
        built_at: when, UTC.
        seconds: how long the bake took, in seconds.
        windows: what is known of an installed Windows; None for other guests.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1
    profile: str
    key: _Sha256
    inputs: dict[str, Any]
    cmdline: str
    host_key: str
    kernel_version: str
    wine_version: str
    packages: dict[str, str]
    files: dict[str, FileRecord]
    built_at: datetime
    seconds: float
    windows: WindowsFacts | None = None


#: A licence that ends sooner is told about.
_WARN_BEFORE: Final = timedelta(days=14)


def licence_warning(manifest: Manifest, now: datetime) -> str:
    """What to say about an evaluation licence that ends soon or has ended; "" when there is nothing to say."""
    expires = manifest.windows.licence_expires if manifest.windows is not None else None
    if expires is None or now < expires - _WARN_BEFORE:
        return ""
    again = f"install it anew: wsklab image build {manifest.profile} --iso FILE"
    if now >= expires:
        return f"the evaluation licence of {manifest.profile} ended on {expires:%Y-%m-%d}; {again}"
    days = (expires - now).days
    return f"the evaluation licence of {manifest.profile} ends on {expires:%Y-%m-%d}, in {days} days; {again}"


def read_manifest(directory: Path) -> Manifest:
    """The manifest of the image in `directory`.

    Raises:
        ImageError: it is missing or damaged.
    """
    path = directory / MANIFEST_FILE
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ImageError(
            f"the image {directory} has no manifest", why=str(error), fix="wsklab image build makes it again"
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ImageError(
            f"the manifest {path} is damaged",
            why=f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}",
            fix="wsklab image build makes it again",
        ) from error
