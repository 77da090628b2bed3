r"""The driver's kernel service in a guest: install, start, query, stop, delete.

`sc.exe` does the work on Windows and on wine guests alike. On Windows its exit code is the Win32
error; Wine's `sc` ends with 1 and names the error on standard error, and a Linux login could not
pass a number above 255 anyway: so the error is read from the text in both worlds
(`facts/windows-guests.md` f.3).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wsklab.channel.protocol import Channel, CommandResult
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import (
    DeadlineExceeded,
    DriverLoadError,
    DriverServiceError,
    DriverUnloadStuck,
    UsageError,
)

__all__ = ["DriverService", "ServiceState", "ServiceStatus", "explain_win32"]

#: What a Win32 error of `sc start` usually means for a test driver.
_WIN32 = {
    1: ("ERROR_INVALID_FUNCTION", "DriverEntry answered not implemented or invalid device request"),
    2: ("ERROR_FILE_NOT_FOUND", "the image path is wrong, or DriverEntry answered object name not found"),
    3: ("ERROR_PATH_NOT_FOUND", "the directory of the image path does not exist"),
    5: ("ERROR_ACCESS_DENIED", "the login is not elevated, or the file's ACL forbids it"),
    31: ("ERROR_GEN_FAILURE", "DriverEntry answered STATUS_UNSUCCESSFUL"),
    50: ("ERROR_NOT_SUPPORTED", "DriverEntry answered not supported"),
    87: ("ERROR_INVALID_PARAMETER", "DriverEntry answered invalid parameter"),
    126: ("ERROR_MOD_NOT_FOUND", "a module that the driver imports is missing in this release"),
    127: ("ERROR_PROC_NOT_FOUND", "an import of the driver is not exported by this release"),
    182: ("ERROR_INVALID_ORDINAL", "an import by ordinal does not match: wrong import library"),
    183: ("ERROR_ALREADY_EXISTS", "the device or link name of an earlier load is still there"),
    193: ("ERROR_BAD_EXE_FORMAT", "not an amd64 driver, a wrong checksum, or bad headers"),
    577: ("ERROR_INVALID_IMAGE_HASH", "unsigned, changed after signing, test signing off, or Secure Boot on"),
    998: ("ERROR_NOACCESS", "an exception while the image was loaded"),
    1053: ("ERROR_SERVICE_REQUEST_TIMEOUT", "not normal for a driver: was type= kernel forgotten?"),
    1056: ("ERROR_SERVICE_ALREADY_RUNNING", "it runs already"),
    1058: ("ERROR_SERVICE_DISABLED", "the service is disabled"),
    1060: ("ERROR_SERVICE_DOES_NOT_EXIST", "no service of that name"),
    1062: ("ERROR_SERVICE_NOT_ACTIVE", "it does not run"),
    1072: ("ERROR_SERVICE_MARKED_FOR_DELETE", "handles of an earlier load are still open; reboot the guest"),
    1073: ("ERROR_SERVICE_EXISTS", "a service of that name exists"),
    1114: ("ERROR_DLL_INIT_FAILED", "DriverEntry failed, or the image could not be mapped"),
    1275: ("ERROR_DRIVER_BLOCKED", "Windows' block list or policy refuses it"),
    1450: ("ERROR_NO_SYSTEM_RESOURCES", "an allocation failed in DriverEntry"),
    2001: ("ERROR_BAD_DRIVER", "the image is damaged"),
    4551: ("ERROR_SYSTEM_INTEGRITY_POLICY_VIOLATION", "code integrity policy refuses it"),
}

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_GUEST_PATH = re.compile(r"[A-Za-z]:\\[A-Za-z0-9_.\\-]{1,200}")
#: `[SC] StartService FAILED 1060:` of Windows; `err:sc:wmain failed to start service 1060` of Wine.
_WIN32_IN_TEXT = (
    re.compile(r"\bFAILED\s+(\d{1,5})\b"),
    re.compile(r"err:sc:.*?\b(\d{1,5})\s*$", re.MULTILINE),
)
_STATE = re.compile(r"^\s*STATE\s*:\s*\d+\s+([A-Z_]+)", re.MULTILINE)
_EXIT = re.compile(r"^\s*WIN32_EXIT_CODE\s*:\s*(\d+)", re.MULTILINE)


class ServiceState(enum.StrEnum):
    """States of a service, plus `ABSENT` for one that is not installed."""

    ABSENT = "ABSENT"
    STOPPED = "STOPPED"
    START_PENDING = "START_PENDING"
    STOP_PENDING = "STOP_PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """A service's state and the Win32 code of its last end."""

    state: ServiceState
    win32_exit_code: int


def explain_win32(code: int | None) -> str:
    """The name of a Win32 error and what it usually means here, in one sentence."""
    if code is None:
        return "the service control manager named no error"
    name, meaning = _WIN32.get(code, ("an error", "see `net helpmsg`"))
    return f"Win32 error {code} ({name}): {meaning}"


class DriverService:
    """One driver service in one guest.

    Args:
        channel: a path into the guest.
        name: the service's name.

    Raises:
        UsageError: the name is not one that `sc` takes without quoting.
    """

    def __init__(self, channel: Channel, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"not a service name: {name!r}", why="a letter, then letters, digits, - or _", fix="choose another name"
            )
        self._channel = channel
        self.name = name

    def install(self, guest_path: str, deadline: Deadline) -> None:
        r"""Create the service for the image at `guest_path` (such as `C:\wsklab\x.sys`), start on demand.

        Raises:
            UsageError: a path that needs quoting. DriverServiceError: `sc create` failed.
        """
        if not _GUEST_PATH.fullmatch(guest_path):
            raise UsageError(f"not a plain guest path: {guest_path!r}", fix=r"use one like C:\wsklab\x.sys")
        result = self._sc(f"create {self.name} type= kernel start= demand binPath= {guest_path}", deadline)
        self._require(result, "create", deadline)

    def start(self, deadline: Deadline) -> None:
        """Start the driver and see it running.

        Raises:
            DriverLoadError: it did not start; the Win32 error and its meaning are named; or
                DriverEntry has not returned at the deadline, then the guest is dirty.
        """
        try:
            result = self._sc(f"start {self.name}", deadline)
        except DeadlineExceeded as error:
            raise DriverLoadError(
                f"driver service {self.name} did not start within {error.waited_s:.0f} s",
                service=self.name,
                why="`sc start` has not returned: DriverEntry still runs",
                fix="attach a debugger to the guest, or look for a wait in DriverEntry",
                still_runs=True,
            ) from error
        if result.exit_code != 0:
            code = _win32_of(result)
            raise DriverLoadError(
                f"driver service {self.name} did not start",
                service=self.name,
                win32=code,
                why=explain_win32(code),
                fix="`wsklab driver check FILE` looks at the image; the guest's event log has the rest",
                evidence={"stdout": result.stdout, "stderr": result.stderr},
            )
        try:
            wait_until(lambda: self._reached(ServiceState.RUNNING, deadline), deadline, what=f"{self.name} RUNNING")
        except DeadlineExceeded as error:
            raise DriverLoadError(
                f"driver service {self.name} never reached RUNNING",
                service=self.name,
                state=error.last,
                why=error.why,
                still_runs=error.last == ServiceState.START_PENDING,
            ) from error

    def query(self, deadline: Deadline) -> ServiceStatus:
        """The service's state; `ABSENT` when there is none of that name."""
        result = self._sc(f"query {self.name}", deadline)
        code = _win32_of(result) if result.exit_code != 0 else None
        if code == 1060:
            return ServiceStatus(state=ServiceState.ABSENT, win32_exit_code=code)
        state = _STATE.search(result.stdout)
        ended = _EXIT.search(result.stdout)
        known = state is not None and state[1] in ServiceState.__members__
        return ServiceStatus(
            state=ServiceState(state[1]) if known and state is not None else ServiceState.UNKNOWN,
            win32_exit_code=int(ended[1]) if ended else (code or 0),
        )

    def stop(self, deadline: Deadline, *, quiesce: Callable[[Deadline], Sequence[str]] | None = None) -> None:
        """Stop the driver: first `quiesce`, then `sc stop` (a WDM driver cannot refuse its unload).

        Args:
            quiesce: closes everything in the driver and answers the owners that are still busy;
                None for a driver that is not ours.

        Raises:
            DriverUnloadStuck: somebody still owns something, or `quiesce` has no answer in time (`sc stop` was
                not sent); or the driver does not come to STOPPED. The guest is dirty.
        """
        try:
            owners = list(quiesce(deadline)) if quiesce is not None else []
        except DeadlineExceeded as error:
            raise DriverUnloadStuck(
                f"driver service {self.name} does not answer who uses it",
                service=self.name,
                why=error.message,
                fix="the guest is not reused; `sc stop` was not sent",
            ) from error
        if owners:
            raise DriverUnloadStuck(
                f"driver service {self.name} is busy",
                service=self.name,
                why="still owned by " + ", ".join(owners[:8]),
                fix="close those clients; the guest is not reused",
                evidence={"owners": owners},
            )
        try:
            result = self._sc(f"stop {self.name}", deadline)
            if result.exit_code != 0 and _win32_of(result) != 1062:
                self._require(result, "stop", deadline)
            wait_until(lambda: self._reached(ServiceState.STOPPED, deadline), deadline, what=f"{self.name} STOPPED")
        except DeadlineExceeded as error:
            raise DriverUnloadStuck(
                f"driver service {self.name} does not stop",
                service=self.name,
                state=error.last,
                why="its unload routine has not returned",
                fix="the guest is not reused; its driver log names the owner",
            ) from error

    def delete(self, deadline: Deadline) -> None:
        """Delete the service; no error when there is none."""
        result = self._sc(f"delete {self.name}", deadline)
        if result.exit_code != 0 and _win32_of(result) != 1060:
            self._require(result, "delete", deadline)

    def _reached(self, wanted: ServiceState, deadline: Deadline) -> ServiceState | NotYet:
        state = self.query(deadline).state
        return state if state is wanted else NotYet(str(state))

    def _sc(self, arguments: str, deadline: Deadline) -> CommandResult:
        return self._channel.run(f"sc {arguments}", deadline, check=False)

    def _require(self, result: CommandResult, verb: str, deadline: Deadline) -> None:
        if result.exit_code == 0:
            return
        code = _win32_of(result)
        state = "" if deadline.expired else str(self.query(deadline).state)
        raise DriverServiceError(
            f"cannot {verb} driver service {self.name}",
            service=self.name,
            win32=code,
            state=state,
            why=explain_win32(code),
            evidence={"stdout": result.stdout, "stderr": result.stderr},
        )


def _win32_of(result: CommandResult) -> int | None:
    """The Win32 error that an `sc` command named, or None."""
    text = f"{result.stdout}\n{result.stderr}"
    for pattern in _WIN32_IN_TEXT:
        found = pattern.search(text)
        if found:
            return int(found[1])
    return result.exit_code if result.exit_code > 1 else None
