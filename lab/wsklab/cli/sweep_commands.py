"""`gc`: remove what nobody holds any more; and small hidden commands about settings."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from wsklab.cli import exits
from wsklab.cli.runtime import Runtime, command

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "gc", help="Remove guests, files and claims of this lab home that nobody holds.")(gc)
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, hidden=True)
    app.add_typer(group, name="config")
    command(group, "schema", help="The JSON Schema of wsklab.toml.")(schema)
    command(group, "show", help="The settings as they are after merging all sources.")(show)


def gc(
    cli: Runtime,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say it, do not do it.")] = False,
    expired: Annotated[bool, typer.Option("--expired", hidden=True, help="Only leases that are over.")] = False,
) -> int:
    """Sweep this home."""
    with cli.services.lab(cli.config()) as lab:
        report = lab.expire() if expired else lab.sweep(dry_run=dry_run)
    removed = [{"kind": item.kind, "name": item.name, "why": item.why} for item in report.removed]
    cli.output.document({"removed": removed, "kept": report.kept})
    if removed:
        cli.output.table("", ("kind", "name", "why"), [list(row.values()) for row in removed])
    cli.output.line(f"{len(removed)} {'would go' if dry_run else 'gone'}, {report.kept} kept")
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
