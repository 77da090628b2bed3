"""`gc`: remove what nobody holds any more; and small hidden commands about settings."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from wsklab.cli import exits
from wsklab.cli.runtime import Runtime, command
from wsklab.errors import HostError

if TYPE_CHECKING:
    from wsklab.assemble import Lab

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "gc", help="Remove guests, files and claims of this lab home that nobody holds.")(gc)
    internal = typer.Typer(no_args_is_help=True, rich_markup_mode=None, hidden=True)
    app.add_typer(internal, name="internal")
    command(internal, "spares", help="Make the paused, ready guests that the setting up_spares asks for.")(spares)
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, hidden=True)
    app.add_typer(group, name="config")
    command(group, "schema", help="The JSON Schema of wsklab.toml.")(schema)
    command(group, "show", help="The settings as they are after merging all sources.")(show)


def gc(
    cli: Runtime,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say it, do not do it.")] = False,
    expired: Annotated[bool, typer.Option("--expired", hidden=True, help="Only leases that are over.")] = False,
    install: Annotated[
        bool, typer.Option("--install-timer", help="Let systemd do it every five minutes; --dry-run shows the units.")
    ] = False,
) -> int:
    """Sweep this home, once or from now on."""
    with cli.services.lab(cli.config()) as lab:
        if install:
            return _install_timer(cli, lab, dry_run=dry_run)
        report = lab.expire() if expired else lab.sweep(dry_run=dry_run)
    removed = [{"kind": item.kind, "name": item.name, "why": item.why} for item in report.removed]
    cli.output.document({"removed": removed, "kept": report.kept})
    if removed:
        cli.output.table("", ("kind", "name", "why"), [list(row.values()) for row in removed])
    cli.output.line(f"{len(removed)} {'would go' if dry_run else 'gone'}, {report.kept} kept")
    return exits.OK


def _install_timer(cli: Runtime, lab: Lab, *, dry_run: bool) -> int:
    """Write the units and start the timer, of the system for root, else of the user.

    Raises:
        HostError: no systemd runs here; the fix is a line for cron.
    """
    from wsklab.gc_timer import render_units

    timer = lab.gc_timer
    settings = {"WSKLAB_HOME": str(lab.home.root), "WSKLAB_MODE": str(lab.choice.mode)}
    argv = [*cli.services.launcher(cli.environ), "gc"]
    if argv[0] == "env":
        argv[0] = "/usr/bin/env"  # systemd wants a whole path
    units = render_units(timer, lab.home.root, settings, argv)
    if not dry_run:
        _require_systemd(cli, settings, argv)
        cli.services.write_units(units)
        for command_line in timer.commands():
            cli.services.run_host_command(command_line, 60.0)
    rows = [{"path": path, "text": text} for path, text in units.items()]
    cli.output.document(
        {"timer": f"{timer.name}.timer", "installed": not dry_run, "units": rows, "commands": timer.commands()}
    )
    for path, text in units.items():
        cli.output.line(f"# {path}\n{text}" if dry_run else f"written: {path}")
    for command_line in timer.commands():
        cli.output.line(f"{'then: ' if dry_run else 'done: '}{shlex.join(command_line)}")
    if not timer.root:
        cli.output.line("it runs while you are logged in; `loginctl enable-linger` lets it run always")
    return exits.OK


def _require_systemd(cli: Runtime, settings: Mapping[str, str], argv: Sequence[str]) -> None:
    if cli.services.has_service_manager():
        return
    words = shlex.join(["env", *(f"{key}={value}" for key, value in settings.items()), *argv])
    raise HostError(
        "no systemd runs on this host",
        why="there is no /run/systemd/system",
        fix="let another service run it every five minutes, for example cron: */5 * * * * " + words.replace("%", r"\%"),
        evidence={"command": words},
    )


def spares(cli: Runtime, profile: Annotated[str, typer.Argument(metavar="PROFILE")]) -> int:
    """Fill up; started by `up` when it is done."""
    with cli.services.lab(cli.config()) as lab:
        made = lab.fill_spares(lab.profile(profile))
    cli.output.document({"made": made})
    cli.output.line(f"{made} made")
    return exits.OK


def schema(cli: Runtime) -> int:
    """Print the schema (a document of its own, without our version field)."""
    from wsklab.config import config_schema

    print(json.dumps(config_schema(), indent=2), file=cli.output.stdout)
    return exits.OK


def show(cli: Runtime) -> int:
    """Print the merged settings."""
    config = cli.config()
    cli.output.document({"config": config})
    for key, value in config.model_dump(mode="json").items():
        cli.output.line(f"{key} = {json.dumps(value)}")
    return exits.OK
