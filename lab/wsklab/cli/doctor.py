"""`doctor`: what works on this host, what is missing, the command that mends it."""

from __future__ import annotations

import os
import platform
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from wsklab.cli import exits
from wsklab.cli.runtime import Runtime, command
from wsklab.errors import LabError

if TYPE_CHECKING:
    from wsklab.cli.checks import Check
    from wsklab.config import LabConfig

__all__ = ["register"]

_REPAIR_S = 900.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "doctor", help="Check the host: what works, what is missing, the command that mends it.")(doctor)


def doctor(
    cli: Runtime,
    fix: Annotated[bool, typer.Option("--fix", help="Run the commands that mend what is missing.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Print a Markdown report for an issue.")] = False,
    reprobe: Annotated[bool, typer.Option("--reprobe", help="Probe the acceleration again.")] = False,
    shim: Annotated[bool, typer.Option("--shim", help="Check what guests of kind shim need, too.")] = False,
) -> int:
    """Run every check; a failed one is exit code 3."""
    from wsklab.cli.checks import missing_fixes

    config = cli.config()
    checks, acceleration, mode = _look(cli, config, reprobe=reprobe, shim=shim)
    if fix:
        repairable = missing_fixes(checks)
        for check in repairable:
            _repair(cli, check)
        if repairable:
            checks, acceleration, mode = _look(cli, config, reprobe=reprobe, shim=shim)
    cli.output.document(
        {
            "checks": [{"name": c.name, "ok": c.ok, "detail": c.detail, "fix": c.fix} for c in checks],
            "acceleration": acceleration,
            "mode": mode,
        }
    )
    if report:
        _report(cli, config, checks)
    else:
        rows = [["ok" if c.ok else "missing", c.name, c.detail, c.fix] for c in checks]
        cli.output.table("", ("", "check", "found", "what to do"), rows)
    return exits.OK if all(check.ok for check in checks) else exits.LAB


def _look(cli: Runtime, config: LabConfig, *, reprobe: bool, shim: bool) -> tuple[list[Check], str, str]:
    """All checks; those that need the lab are one failed check when the lab cannot be put together."""
    from wsklab.cli.checks import Check, host_checks, lab_checks, shim_check

    asked = [shim_check()] if shim else []
    try:
        with cli.services.lab(config) as lab:
            checks = host_checks(config, lab.home.root) + asked
            checks += lab_checks(lab, reprobe=reprobe)
            return checks, str(lab.acceleration), str(lab.choice.mode)
    except LabError as error:
        home = config.home or cli.user_home
        broken = Check(name="lab", ok=False, detail=f"{error.message}: {error.why}", fix=error.fix)
        return [*host_checks(config, home), *asked, broken], "tcg", str(config.mode)


def _repair(cli: Runtime, check: Check) -> None:
    """Run one repair, as root; it says what it runs."""
    argv = list(check.repair) if os.geteuid() == 0 else ["sudo", *check.repair]
    cli.output.note(f"fixing {check.name}: {shlex.join(argv)}")
    cli.services.run_host_command(argv, _REPAIR_S)


def _report(cli: Runtime, config: LabConfig, checks: list[Check]) -> None:
    """Facts that an issue needs: no host name, no user name, no address."""
    cli.output.line("### wsklab doctor")
    cli.output.line(f"- kernel {platform.release()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    for check in checks:
        cli.output.line(f"- [{'x' if check.ok else ' '}] **{check.name}**: {check.detail}")
    from wsklab.cli.report import windows_report

    home = cli.services.home(config)
    images = cli.services.store(config).list()
    for line in windows_report(images, home.cache / "installations", cli.folder / config.results_dir):
        cli.output.line(line)
