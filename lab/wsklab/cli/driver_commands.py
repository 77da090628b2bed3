"""`driver build|check|kit`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsklab.cli import exits
from wsklab.cli.names import existing_file
from wsklab.cli.runtime import Runtime, command

if TYPE_CHECKING:
    from wsklab.toolchain import BuildResult

__all__ = ["build_driver", "register"]

Source = Annotated[
    Path | None, typer.Option("--source", metavar="DIR", help="Driver sources; default: the ones of this lab.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="The Windows driver.", rich_markup_mode=None)
    app.add_typer(group, name="driver")
    command(group, "build", help="Cross-build the driver and wskctl, sign and check them.")(build)
    command(group, "check", help="Look at a driver image: headers, sections, imports, signature.")(check)
    command(group, "kit", help="Make the zip that runs on any test-signed x64 Windows.")(kit)


def build_driver(cli: Runtime, source: Path | None = None, *, failures: bool = False) -> BuildResult:
    """Build, sign and check our driver; used by `driver build`, `driver kit`, `deploy` and `run`.

    Raises:
        ToolchainError: one of the three failed; the finding is named.
    """
    with cli.output.progress("driver") as step:
        return cli.services.build_driver(cli.config(), source, step, failures=failures)


def build(
    cli: Runtime,
    source: Source = None,
    failures: Annotated[
        bool, typer.Option("--failures", help="A test build that can fail on purpose, and one for shim guests.")
    ] = False,
) -> int:
    """Build and show where the files are."""
    result = build_driver(cli, source, failures=failures)
    document = {**dataclasses.asdict(result), "driver_sha256": result.driver_sha256}
    if failures:
        with cli.output.progress("kernel shim") as step:
            document["shim"] = cli.services.build_shim(cli.config(), step, failures=True).driver
    cli.output.document({"driver": document})
    cli.output.line(f"driver  {result.sys}{' (built before)' if result.cached else ''}")
    if failures:
        cli.output.line(f"shim    {document['shim']}")
    cli.output.line(f"wskctl  {result.ctl}")
    cli.output.line(f"SHA-256 {result.driver_sha256}")
    return exits.OK


def check(
    cli: Runtime,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A driver image; default: ours, built first.")
    ] = None,
) -> int:
    """Show every check; one that fails is exit code 1."""
    existing_file(file, "a driver image (.sys)")
    path = file or build_driver(cli).sys
    findings = cli.services.check_driver(path, ours=file is None)
    bad = [finding for finding in findings if not finding.ok]
    cli.output.document({"file": path, "ok": not bad, "findings": findings})
    cli.output.table("", ("", "check", "found"), [["ok" if f.ok else "failed", f.check, f.detail] for f in findings])
    return exits.FINDING if bad else exits.OK


def kit(
    cli: Runtime,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The zip to write.")] = Path(
        "wsklab-kit.zip"
    ),
) -> int:
    """Write the kit."""
    result = build_driver(cli)
    path = cli.services.make_kit(cli.config(), result, cli.folder / output)
    cli.output.document({"kit": path, "driver_sha256": result.driver_sha256})
    cli.output.line(f"kit {path}")
    cli.output.line("on the Windows machine: unpack it, open an administrator's prompt, start run.cmd;")
    cli.output.line("bring the JSON back and show it: wsklab results import FILE")
    return exits.OK
