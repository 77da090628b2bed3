"""Another host, reached by the user's own OpenSSH: short commands and files. Owner of `ssh` and `scp`.

Keys, jump hosts and host keys are what ssh_config(5) says for the host; nobody is asked anything.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wsklab.deadline import Deadline
from wsklab.errors import HostCommandError, HostError
from wsklab.process import ProcessResult, run

__all__ = ["RemoteHost"]

_OPTIONS: Final = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "LogLevel=ERROR")

# ssh(1), EXIT STATUS: the command's, or this one.
_SSH_FAILED: Final = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteHost:
    """One host.

    Attributes:
        name: its name in the settings.
        target: how `ssh` names it.
        options: further options of `ssh` and `scp`, such as `-F FILE`.
    """

    name: str
    target: str
    options: tuple[str, ...] = ()

    @property
    def ssh(self) -> tuple[str, ...]:
        """The `ssh` command line, the host last."""
        return ("ssh", *_OPTIONS, *self.options, self.target)

    def run(self, script: str, *arguments: str, deadline: Deadline, check: bool = True) -> ProcessResult:
        """Run a script of the POSIX shell there; `$1` and so on are the arguments.

        Raises:
            HostError: the host cannot be reached. HostCommandError: the script failed (with `check`).
        """
        words = shlex.join(["sh", "-c", f"umask 002; {script}", "sh", *arguments])
        result = run([*self.ssh, words], deadline=deadline, check=False)
        if result.exit_code == _SSH_FAILED:
            raise self._unreachable(result.stderr)
        if check and result.exit_code != 0:
            raise HostCommandError(
                f"a command on host {self.name} failed with exit status {result.exit_code}",
                argv=result.argv,
                exit_code=result.exit_code,
                stdout=result.stdout,
                stderr=result.stderr,
            )
        return result

    def put(self, source: Path, target: Path, deadline: Deadline) -> None:
        """Copy a file there.

        Raises:
            HostError: it could not be copied.
        """
        argv = ["scp", "-q", *_OPTIONS, *self.options, str(source), f"{self.target}:{target}"]
        result = run(argv, deadline=deadline, check=False)
        if result.exit_code != 0:
            raise HostError(
                f"cannot copy {source.name} to host {self.name}",
                why=result.stderr.strip().splitlines()[-1] if result.stderr.strip() else f"exit {result.exit_code}",
                fix=f"try: {shlex.join(argv)}",
            )

    def _unreachable(self, stderr: str) -> HostError:
        lines = stderr.strip().splitlines()
        return HostError(
            f"host {self.name} cannot be reached",
            why=lines[-1] if lines else "ssh said nothing",
            fix=f"try: {shlex.join([*self.ssh, 'true'])}",
            evidence={"host": self.name},
        )
