"""`results list|show|compare|import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsklab.cli import exits
from wsklab.cli.names import existing_file, one
from wsklab.cli.runtime import Runtime, command
from wsklab.errors import UsageError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Results of runs on this machine.", rich_markup_mode=None)
    app.add_typer(group, name="results")
    command(group, "list", help="The runs whose results are here, newest first.")(list_runs)
    command(group, "show", help="The matrix of a run; default: the newest.")(show)
    command(group, "compare", help="What differs between two runs, two guests, or two builds of the driver.")(compare)
    command(group, "witness", help="Keep what a run showed of each rule in the catalogue of a checkout.")(witness)
    command(group, "import", help="Take in what the kit brought back from a Windows machine.")(import_kit)


def _root(cli: Runtime) -> Path:
    """The folder of all runs."""
    return cli.folder / cli.config().results_dir


def list_runs(cli: Runtime) -> int:
    """Show every run in one line."""
    runs = cli.services.runs(_root(cli))
    cli.output.document({"runs": runs})
    cli.output.table(
        "",
        ("run", "guests", "cases", "exit code", "brought by"),
        [
            [
                run.run_id,
                ", ".join(run.profiles),
                str(run.cases),
                "cut short" if run.exit_code is None else str(run.exit_code),
                run.imported,
            ]
            for run in runs
        ],
    )
    return exits.OK


def show(
    cli: Runtime, run_id: Annotated[str, typer.Argument(metavar="[RUN]", help="A run id, or a pattern.")] = ""
) -> int:
    """Show one run's matrix."""
    runs = [run for run in cli.services.runs(_root(cli)) if run_id or run.exit_code is not None]
    if not runs:
        raise UsageError("there are no results here", why=f"no finished run in {_root(cli)}", fix="wsklab run")
    chosen = (
        one(runs, run_id, name=lambda r: r.run_id, what="run", listing="wsklab results list") if run_id else runs[0]
    )
    document = cli.services.load_run(_root(cli), chosen.run_id)
    cli.output.document(document.model_dump(mode="json", by_alias=True))
    cli.output.draw(cli.services.matrix(document))
    cli.output.line(f"results: {document.results_dir}")
    return exits.OK


Side = Annotated[str, typer.Argument(metavar="RUN[:PROFILE[@DRIVER]]", help="A run, a guest of it, a driver on it.")]


def compare(cli: Runtime, first: Side, second: Side) -> int:
    """Show what differs; 1 when the second has findings that the first has not."""
    pairs = cli.services.compare_runs(_root(cli), first, second)
    for pair in pairs:
        cli.output.line(f"A {pair.a.title}")
        cli.output.line(f"B {pair.b.title}")
        rows = [[change.rule, str(change.a or ""), str(change.b or ""), _first(change.why)] for change in pair.rules]
        cli.output.table("", ("rule", "A", "B", "why"), rows)
        values = [[value.rule, value.name, value.a, value.b] for value in pair.values]
        cli.output.table("", ("rule", "written down", "A", "B"), values)
        cli.output.line(f"{pair.same} rules with the same verdict, {len(pair.rules)} that differ")
    cli.output.document({"comparisons": pairs})
    return exits.FINDING if any(pair.regressions for pair in pairs) else exits.OK


def _first(why: tuple[str, ...]) -> str:
    return why[0] if why else ""


def witness(
    cli: Runtime,
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, the oldest first.")],
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="Also write the page about all rules.")
    ] = None,
) -> int:
    """Write `witnesses.toml`; later runs replace what earlier ones said of the same profile and rule."""
    from wsklab.results.witness import keep_witnesses

    kept = keep_witnesses(_root(cli), run_ids, page)
    cli.output.document({"rules": kept})
    cli.output.line(f"{len(kept)} rules with a witness")
    return exits.OK


def import_kit(
    cli: Runtime,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The JSON that run.cmd wrote.")],
    who: Annotated[str, typer.Option("--by", metavar="NAME", help="Who ran it.")] = "",
) -> int:
    """Check the file and keep it as a run of kind windows."""
    existing_file(file, "the JSON file of the kit")
    document = cli.services.import_kit(file, _root(cli), by=who)
    cli.output.document(document.model_dump(mode="json", by_alias=True))
    cli.output.draw(cli.services.matrix(document))
    return exits.OK
