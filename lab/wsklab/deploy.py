r"""Bring a driver into a guest and start it: `wskctl.exe` and the image by file copy, the service by `sc`.

A loaded image cannot be overwritten on Windows, so each build goes under a name of its own:
`C:\wsklab\<service>-<digest>.sys`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsklab.channel.protocol import Channel
from wsklab.deadline import Deadline, Timeouts
from wsklab.errors import UsageError
from wsklab.service import DriverService, ServiceState

__all__ = ["GUEST_FOLDER", "DriverPackage", "deploy", "undeploy"]

GUEST_FOLDER = r"C:\wsklab"
WSKCTL = GUEST_FOLDER + r"\wskctl.exe"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverPackage:
    """What is deployed.

    Attributes:
        image: the signed `.sys`.
        service: the name of its kernel service.
        control: `wskctl.exe`, or None for a driver that brings its own user-mode part.
    """

    image: Path
    service: str = "wsklab"
    control: Path | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the image, hexadecimal.

        Raises:
            UsageError: the file cannot be read.
        """
        try:
            return hashlib.sha256(self.image.read_bytes()).hexdigest()
        except OSError as error:
            raise UsageError(
                f"cannot read the driver {self.image}", why=str(error), fix="name an existing file"
            ) from error

    @property
    def guest_path(self) -> str:
        """Where the image goes in the guest."""
        return rf"{GUEST_FOLDER}\{self.service}-{self.digest[:12]}.sys"


def deploy(
    channel: Channel, package: DriverPackage, timeouts: Timeouts, *, start: bool = True, fresh: bool = False
) -> DriverService:
    """Copy, install and (by default) start a driver; an older one under the same service name is replaced.

    Args:
        fresh: the guest has never had a driver, so there is nothing to look for (a second in a guest under emulation).

    Returns:
        its service.

    Raises:
        DriverLoadError: it did not start; the Win32 error and its meaning are named.
        DriverUnloadStuck: the older driver cannot be stopped.
    """
    service = DriverService(channel, package.service)
    if not fresh and service.query(timeouts.after(10)).state is not ServiceState.ABSENT:
        undeploy(service, timeouts)
    if package.control is not None:
        channel.put(package.control, WSKCTL, timeouts.after(15))
    channel.put(package.image, package.guest_path, timeouts.after(15))
    service.install(package.guest_path, timeouts.after(10))
    if start:
        service.start(timeouts.after(10))
    return service


def undeploy(
    service: DriverService, timeouts: Timeouts, *, quiesce: Callable[[Deadline], Sequence[str]] | None = None
) -> None:
    """Stop and delete a driver service."""
    if service.query(timeouts.after(10)).state is not ServiceState.STOPPED:
        service.stop(timeouts.after(10), quiesce=quiesce)
    service.delete(timeouts.after(10))
