"""Every error that the lab raises on purpose, sorted by whose fault it is.

The branch answers one question: *whose fault, and may we retry?*

::

    LabError
    ├─ UsageError                the caller or a file is wrong; retrying is useless          (exit 2)
    │   ├─ ConfigError           a setting: file, key, nearest valid key
    │   └─ ProfileError          a guest profile: file, key, nearest valid key
    ├─ HostError                 our infrastructure failed; not a finding; retrying may help  (exit 3)
    │   ├─ HostCommandError      a command on the host: argv, exit code, output
    │   ├─ HypervisorError       libvirt or QEMU: operation, domain, code
    │   │   └─ DomainGone        the domain is not there any more: somebody removed it meanwhile
    │   ├─ ImageError            an image is missing, damaged or cannot be made
    │   ├─ TemplateError         a template is damaged or cannot be made; a guest can boot instead
    │   ├─ ToolchainError        the driver could not be built, signed or checked
    │   ├─ HostFull              no room for one more guest: disk, memory, quota
    │   ├─ WireGone              the guest's network is not there any more, and neither is the guest
    │   └─ LeaseError            a claim on a guest
    │       ├─ LeaseUnavailable  nobody gives the guest that was asked for
    │       └─ LeaseExpired      the claim ended while it was in use
    ├─ GuestError                the machine under test misbehaved; it is dirty afterwards    (exit 4 or a verdict)
    │   ├─ GuestCommandError     a command in the guest failed; the guest stays clean
    │   ├─ BootError             the guest never became ready
    │   ├─ ChannelLost           the path into the guest broke and no crash explains it
    │   ├─ ChannelProtocolError  the guest said something that the channel's contract forbids
    │   ├─ BugcheckError         the guest's kernel stopped: code and four parameters
    │   └─ DriverServiceError    the driver's kernel service: state, Win32 code, NTSTATUS
    │       ├─ DriverLoadError   it did not start; dirty only while its DriverEntry runs
    │       └─ DriverUnloadStuck it cannot be stopped: somebody still owns something
    └─ DeadlineExceeded          also a TimeoutError; whoever knows whose deadline it was re-raises it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = [
    "BootError",
    "BugcheckError",
    "ChannelLost",
    "ChannelProtocolError",
    "ConfigError",
    "DeadlineExceeded",
    "DomainGone",
    "DriverLoadError",
    "DriverServiceError",
    "DriverUnloadStuck",
    "GuestCommandError",
    "GuestError",
    "HostCommandError",
    "HostError",
    "HostFull",
    "HypervisorError",
    "ImageError",
    "LabError",
    "LeaseError",
    "LeaseExpired",
    "LeaseUnavailable",
    "ProfileError",
    "TemplateError",
    "ToolchainError",
    "UsageError",
    "WireGone",
]


class LabError(Exception):
    """The root. One line what, one why, one what to do next.

    Args:
        message: what failed, one line, lower case, without a final dot.
        why: the cause, as far as it is known.
        fix: what the user can do next; a command where there is one.
        evidence: named facts (paths, codes, last observations) for the report.
    """

    def __init__(
        self,
        message: str,
        *,
        why: str = "",
        fix: str = "",
        evidence: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.why = why
        self.fix = fix
        self.evidence: dict[str, object] = dict(evidence or {})
        # where nobody catches it, as in a failed case, a traceback ends with these
        for word, text in (("why", why), ("fix", fix)):
            if text:
                self.add_note(f"{word}: {text}")


class UsageError(LabError):
    """The caller or a file is wrong."""


class ConfigError(UsageError):
    """A setting is wrong; `evidence` holds `file`, `key` and, where there is one, `nearest`."""


class ProfileError(UsageError):
    """A guest profile is wrong; `evidence` holds `file`, `key` and, where there is one, `nearest`."""


class HostError(LabError):
    """Our own infrastructure failed: never counted against the driver under test."""


class HostCommandError(HostError):
    """A command on the host failed.

    Args:
        argv: the command as it was run.
        exit_code: its exit status; negative for a signal; None when it never ended.
        stdout: what it printed (bounded by the caller).
        stderr: what it complained (bounded by the caller).
    """

    def __init__(
        self,
        message: str,
        *,
        argv: Sequence[str],
        exit_code: int | None,
        stdout: str = "",
        stderr: str = "",
        why: str = "",
        fix: str = "",
    ) -> None:
        tail = stderr.strip() or stdout.strip()
        super().__init__(
            message,
            why=why or (tail.splitlines()[-1] if tail else f"exit status {exit_code}"),
            fix=fix,
            evidence={"argv": list(argv), "exit_code": exit_code, "stdout": stdout, "stderr": stderr},
        )
        self.argv = tuple(argv)
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr


class HypervisorError(HostError):
    """libvirt or QEMU refused; raised only by the back end, from its own exception."""


class DomainGone(HypervisorError):
    """The domain is not there any more: between two looks somebody removed the guest."""


class ImageError(HostError):
    """An image is missing, damaged, stale, or could not be made."""


class TemplateError(HostError):
    """A template is damaged or cannot be made: there is no fork, but a guest can boot."""


class ToolchainError(HostError):
    """The driver could not be built, signed or checked."""


class HostFull(HostError):
    """The host has no room for one more guest (disk, memory, cores or quota).

    `evidence["in_the_way"]`: how many guests others have; when it is there and not 0, waiting makes sense.
    """


class WireGone(HostError):
    """The network namespace that a guest is reached through is not there any more: whoever kept it has ended."""


class LeaseError(HostError):
    """A claim on a guest failed."""


class LeaseUnavailable(LeaseError):
    """Nobody can give the guest that was asked for."""


class LeaseExpired(LeaseError):
    """The claim ended while it was in use."""


class GuestError(LabError):
    """The machine under test misbehaved; it may not be reused, unless `dirty` is False."""

    #: Whether the guest is in a state that nobody knows.
    dirty: bool = True


class GuestCommandError(GuestError):
    """A command in the guest failed; the guest stays clean."""

    dirty = False

    def __init__(
        self,
        message: str,
        *,
        command: str,
        exit_code: int | None,
        stdout: str = "",
        stderr: str = "",
        why: str = "",
        fix: str = "",
    ) -> None:
        tail = stderr.strip() or stdout.strip()
        super().__init__(
            message,
            why=why or (tail.splitlines()[-1] if tail else f"exit status {exit_code}"),
            fix=fix,
            evidence={"command": command, "exit_code": exit_code, "stdout": stdout, "stderr": stderr},
        )
        self.command = command
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr


class BootError(GuestError):
    """The guest never became ready; names the rung of the ready ladder that failed."""


class ChannelLost(GuestError):
    """The path into the guest broke and no crash explains it (yet)."""


class ChannelProtocolError(GuestError):
    """The guest broke the channel's contract: too long, not JSON, an unknown id, a wrong length."""


class BugcheckError(GuestError):
    """The guest's kernel stopped.

    Args:
        code: the stop code.
        parameters: its four parameters.
    """

    def __init__(
        self, message: str, *, code: int, parameters: tuple[int, int, int, int], why: str = "", fix: str = ""
    ) -> None:
        super().__init__(message, why=why, fix=fix, evidence={"code": code, "parameters": parameters})
        self.code = code
        self.parameters = parameters


class DriverServiceError(GuestError):
    """The driver's kernel service misbehaved.

    Args:
        service: the service's name.
        win32: the Win32 error code that the service control manager gave, or None.
        state: the last state seen (`RUNNING`, `STOPPED`, ...), or "".
    """

    def __init__(
        self,
        message: str,
        *,
        service: str,
        win32: int | None = None,
        state: str = "",
        why: str = "",
        fix: str = "",
        evidence: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(
            message,
            why=why,
            fix=fix,
            evidence={"service": service, "win32": win32, "state": state, **dict(evidence or {})},
        )
        self.service = service
        self.win32 = win32
        self.state = state


class DriverLoadError(DriverServiceError):
    """The driver did not start.

    Args:
        still_runs: its DriverEntry has not returned: the guest is dirty. One that was refused leaves it clean.
    """

    def __init__(
        self,
        message: str,
        *,
        service: str,
        win32: int | None = None,
        state: str = "",
        why: str = "",
        fix: str = "",
        evidence: Mapping[str, object] | None = None,
        still_runs: bool = False,
    ) -> None:
        super().__init__(message, service=service, win32=win32, state=state, why=why, fix=fix, evidence=evidence)
        self.dirty = still_runs


class DriverUnloadStuck(DriverServiceError):
    """The driver cannot be stopped: somebody still owns something."""


class DeadlineExceeded(LabError, TimeoutError):
    """A wait ended without its condition.

    Args:
        what: the condition that was awaited.
        waited_s: how long, in seconds.
        last: the last observation.
    """

    def __init__(self, what: str, *, waited_s: float, last: str = "", fix: str = "") -> None:
        super().__init__(
            f"gave up waiting for {what} after {waited_s:.1f} s",
            why=f"last observation: {last}" if last else "nothing was observed",
            fix=fix,
            evidence={"what": what, "waited_s": waited_s, "last": last},
        )
        self.what = what
        self.waited_s = waited_s
        self.last = last
