"""`results list|show|import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsklab.cli import exits
from wsklab.cli.names import one
from wsklab.cli.run_command import show_matrix
from wsklab.cli.runtime import Runtime, command
from wsklab.errors import UsageError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Results of runs on this machine.", rich_markup_mode=None)
    app.add_typer(group, name="results")
    command(group, "list", help="The runs whose results are here, newest first.")(list_runs)
    command(group, "show", help="The matrix of a run; default: the newest.")(show)
    command(group, "import", help="Take in what the kit brought back from a Windows machine.")(import_kit)


def _runs(cli: Runtime) -> list[str]:
    """Run ids, newest first: they begin with the time."""
    root = cli.folder / cli.config().results_dir
    if not root.is_dir():
        return []
    return sorted((path.parent.name for path in root.glob("*/results.jsonl")), reverse=True)


def list_runs(cli: Runtime) -> int:
    """Show every run with its totals."""
    root = cli.folder / cli.config().results_dir
    rows = [cli.services.load_run(root / run_id) for run_id in _runs(cli)]
    cli.output.document({"runs": [{key: value for key, value in row.items() if key != "results"} for row in rows]})
    cli.output.table(
        "",
        ("run", "guests", "cases", "exit code"),
        [
            [
                str(row["run_id"]),
                ", ".join(f"{g['profile']} ({g['kind']})" for g in row["guests"]),
                ", ".join(f"{t['cases']} {t['verdict']}" for t in row["totals"]),
                str(row["exit_code"]),
            ]
            for row in rows
        ],
    )
    return exits.OK


def show(
    cli: Runtime, run_id: Annotated[str, typer.Argument(metavar="[RUN]", help="A run id, or a pattern.")] = ""
) -> int:
    """Show one run's matrix."""
    runs = _runs(cli)
    if not runs:
        raise UsageError("there are no results here", why="no run has left a folder", fix="wsklab run")
    chosen = one(runs, run_id, name=str, what="run", listing="wsklab results list") if run_id else runs[0]
    document = cli.services.load_run(cli.folder / cli.config().results_dir / chosen)
    cli.output.document(document)
    show_matrix(cli, document)
    return exits.OK


def import_kit(
    cli: Runtime,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The JSON that run.cmd wrote.")],
    who: Annotated[str, typer.Option("--by", metavar="NAME", help="Who ran it.")] = "",
) -> int:
    """Check the file and keep it as a run of kind windows."""
    if not file.is_file():
        raise UsageError(f"there is no file {file}", fix="name the JSON file of the kit")
    root = cli.folder / cli.config().results_dir
    document = cli.services.import_kit(file, root, by=who)
    cli.output.document(document)
    show_matrix(cli, document)
    return exits.OK
