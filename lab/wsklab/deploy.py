r"""Bring a driver into a guest and take it away: `wskctl.exe` and the image by file copy, the service by `sc`.

A loaded image cannot be overwritten on Windows, so each build goes under a name of its own:
`C:\wsklab\<service>-<digest>.sys`.

A WDM driver cannot refuse its unload. So our own driver is asked first, through its device: it closes everything
and names who is still there; only when nobody is, `sc stop` is sent (design section 6). A driver of somebody
else has no such request: it is stopped with a deadline.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wsklab.abi import DEVICE_PATH
from wsklab.channel.device import DeviceClient, DeviceError
from wsklab.channel.operations import DriverRefusal, WskClient
from wsklab.channel.protocol import Channel
from wsklab.deadline import Deadline, Timeouts
from wsklab.errors import ChannelLost, ChannelProtocolError, DriverServiceError, DriverUnloadStuck, UsageError
from wsklab.ntstatus import STATUS
from wsklab.profile import GuestProfile
from wsklab.restart import OpensChannels, restart_guest
from wsklab.service import DriverService, ServiceState
from wsklab.verifier import plan, require_ability, require_watched, set_verifier

__all__ = [
    "GUEST_FOLDER",
    "OWN_SERVICE",
    "WSKCTL",
    "DriverPackage",
    "deploy",
    "deploy_verified",
    "install_package",
    "is_own",
    "restart",
    "stop",
    "undeploy",
]

GUEST_FOLDER: Final = r"C:\wsklab"
WSKCTL: Final = GUEST_FOLDER + r"\wskctl.exe"
#: The name of our own driver's service, unless a user chose another one.
OWN_SERVICE: Final = "wsklab"
#: What pnputil ends with when all is well: installed; no device took it now; installed, and a restart is wanted.
#: Known from its users only (winerror.h names the numbers), never seen by this project.
_PNP_RESTART: Final = 3010
_PNP_GOOD: Final = frozenset({0, 259, _PNP_RESTART})
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
#: The device does not exist: whatever runs under the service's name, it is not our driver.
_NO_DEVICE: Final = frozenset({2, 3})


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverPackage:
    """What is deployed.

    Attributes:
        image: the signed `.sys`.
        service: the name of its kernel service.
        control: `wskctl.exe`, or None for a driver that brings its own user-mode part.
        foreign: it is somebody else's driver, whatever comes with it.
    """

    image: Path
    service: str = OWN_SERVICE
    control: Path | None = None
    foreign: bool = False

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
        if package.control is not None and not _is_there(channel, WSKCTL, timeouts.after(10)):
            # the running driver came without, and nobody could ask it
            channel.put(package.control, WSKCTL, timeouts.after(15))
        undeploy(channel, service, timeouts, own=is_own(package))
    if package.control is not None:
        channel.put(package.control, WSKCTL, timeouts.after(15))
    channel.put(package.image, package.guest_path, timeouts.after(15))
    service.install(package.guest_path, timeouts.after(10))
    if start:
        service.start(timeouts.after(10))
    return service


def deploy_verified(
    guest: OpensChannels, package: DriverPackage, mode: str, profile: GuestProfile, timeouts: Timeouts
) -> None:
    """Copy, install and start a driver under Driver Verifier, and see that it is watched. May restart the guest.

    Raises:
        DriverLoadError: it did not start. BootError: the guest did not come back from the restart.
        GuestCommandError: Driver Verifier refuses, or does not watch the driver. UsageError: no such mode here.
    """
    name = package.guest_path.rsplit("\\", 1)[-1]
    wanted = plan(require_ability(profile, mode), name, profile)
    with guest.open_channel(timeouts.after(20)) as channel:
        deploy(channel, package, timeouts, start=mode == "off")
        if mode == "off":
            return
        set_verifier(channel, wanted, timeouts.after(60))
    if wanted.restarts:
        restart_guest(guest, timeouts.after(profile.boot_budget_s))
    with guest.open_channel(timeouts.after(20)) as channel:
        DriverService(channel, package.service).start(timeouts.after(30))
        require_watched(channel, name, timeouts.after(60))


def is_own(package: DriverPackage) -> bool:
    """Whether a package's service is our own driver's: it brings `wskctl.exe`, or has the name of our service."""
    return not package.foreign and (package.control is not None or package.service == OWN_SERVICE)


def undeploy(channel: Channel, service: DriverService, timeouts: Timeouts, *, own: bool) -> None:
    """Stop and delete a driver service; see `stop` for the errors."""
    if service.query(timeouts.after(10)).state is not ServiceState.STOPPED:
        stop(channel, service, timeouts, own=own)
    service.delete(timeouts.after(10))


def stop(channel: Channel, service: DriverService, timeouts: Timeouts, *, own: bool) -> None:
    """Stop a running driver, ours in two steps.

    Args:
        own: it is our driver: it is asked first who still uses it.

    Raises:
        DriverUnloadStuck: somebody still owns something, or the driver does not answer (then `sc stop` was not
            sent); or its unload does not return. The guest is dirty.
    """
    asked = (lambda deadline: _owners(channel, service.name, deadline)) if own else None
    service.stop(timeouts.after(20 if own else 10), quiesce=asked)


def restart(channel: Channel, service: DriverService, timeouts: Timeouts, *, own: bool) -> None:
    """Unload the driver and load it again.

    Raises:
        DriverUnloadStuck: see `stop`. DriverLoadError: it does not start again.
    """
    stop(channel, service, timeouts, own=own)
    service.start(timeouts.after(10))


def _is_there(channel: Channel, path: str, deadline: Deadline) -> bool:
    return "there" in channel.run(f"if exist {path} echo there", deadline, check=False).stdout


def _owners(channel: Channel, service: str, deadline: Deadline) -> tuple[str, ...]:
    """Close everything in our driver, by its device; who still keeps it loaded, in words.

    Nobody is named when the device is not there (the driver is not ours) and when the driver speaks an older
    version of the conversation, in which nobody can be asked: then only the deadline of the stop protects.

    Raises:
        DriverUnloadStuck: `wskctl` in the guest does not answer, so nobody knows who uses the driver.
    """
    try:
        with (
            DeviceClient.open(channel, deadline, command=f"{WSKCTL} stdio") as control,
            control.open_device(DEVICE_PATH, deadline) as device,
        ):
            result = WskClient(device).quiesce(deadline)
    except DeviceError as error:
        if error.win32 in _NO_DEVICE:
            return ()
        raise
    except DriverRefusal as error:
        if error.status == STATUS["STATUS_REVISION_MISMATCH"]:
            return ()
        raise
    except (ChannelLost, ChannelProtocolError) as error:
        raise DriverUnloadStuck(
            f"driver service {service} cannot be asked who uses it",
            service=service,
            why=f"{error.message}: {error.why}" if error.why else error.message,
            fix="the guest is not reused; `sc stop` was not sent",
        ) from error
    named = tuple(str(owner) for owner in result.owners)
    return named or ((f"{result.busy} clients",) if result.busy else ())


def install_package(channel: Channel, inf: Path, timeouts: Timeouts) -> bool:
    """Bring a driver package into a guest and hand it to Plug and Play; whether the guest wants a restart now.

    Raises:
        UsageError: the folder is no driver package. DriverServiceError: `pnputil` refuses it, in its own words.
    """
    files = _package_files(inf)
    folder = rf"{GUEST_FOLDER}\{inf.stem}"
    channel.run(f"if not exist {folder} mkdir {folder}", timeouts.after(10))
    for file in files:
        channel.put(file, rf"{folder}\{file.name}", timeouts.after(30))
    command = rf"pnputil.exe /add-driver {folder}\{inf.name} /install"
    result = channel.run(command, timeouts.after(180), check=False)
    if result.exit_code not in _PNP_GOOD:
        said = [line for line in result.stdout.splitlines() if "fail" in line.lower()]
        raise DriverServiceError(
            f"Plug and Play refuses {inf.name}",
            service=inf.stem,
            win32=result.exit_code,
            why=said[0].strip() if said else f"pnputil ended with {result.exit_code} and said nothing of a failure",
            fix="the catalog is to be signed by a certificate that the guest trusts: `wskctl provision trust`",
            evidence={"stdout": result.stdout, "stderr": result.stderr},
        )
    return result.exit_code == _PNP_RESTART


def _package_files(inf: Path) -> list[Path]:
    """The files beside an INF.

    Raises:
        UsageError: a name that needs quoting, or what Windows would refuse: no catalog.
    """
    if not _PLAIN_NAME.fullmatch(inf.name):
        raise UsageError(f"{inf.name} cannot be the name of a package here", fix="use letters, digits, dots, dashes")
    files = sorted(path for path in inf.parent.iterdir() if path.is_file() and _PLAIN_NAME.fullmatch(path.name))
    if not any(path.suffix.lower() == ".cat" for path in files):
        raise UsageError(
            f"{inf.parent} has no catalog",
            why="Windows installs a package only with a signed catalog (.cat), which inf2cat makes on Windows",
            fix="for a driver without devices: deploy its .sys as a service",
        )
    return files
