"""`run`: the main job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from wsklab.cli import exits
from wsklab.cli.names import existing_file, matching
from wsklab.cli.output import error_document
from wsklab.cli.runtime import Runtime, command
from wsklab.errors import LabError

__all__ = ["register"]

#: How a rule is drawn in the matrix of the terminal when it was not looked at on a guest.
_NOTHING = "-"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "run",
        help="Build the driver, make the guests, run the conformance cases in parallel, show the matrix.",
    )(run)


def run(
    cli: Runtime,
    guest: Annotated[
        list[str] | None, typer.Option("--guest", metavar="PROFILE", help="A profile, or a pattern; may be repeated.")
    ] = None,
    guests_each: Annotated[int, typer.Option("--guests-each", min=1, max=16, metavar="K", help="Per profile.")] = 1,
    workers: Annotated[
        int | None, typer.Option("--workers", min=0, max=256, metavar="N", help="pytest workers; 0: in-process.")
    ] = None,
    rule: Annotated[
        list[str] | None, typer.Option("--rule", metavar="GLOB", help="Rules to check, or `core`; may be repeated.")
    ] = None,
    driver: Annotated[
        Path | None, typer.Option("--driver", metavar="FILE", help="Use this build of the driver, already signed.")
    ] = None,
    keep_failed: Annotated[bool, typer.Option("--keep-failed", help="Keep the guests of failed cases.")] = False,
    allow_unimplemented: Annotated[
        bool, typer.Option("--allow-unimplemented", help="Rules without a case do not fail the run.")
    ] = False,
    pytest_args: Annotated[list[str] | None, typer.Argument(metavar="[-- PYTEST ARGS]...")] = None,
) -> int:
    """The document is printed even when the run is cut short: what is known by then, and the error."""
    from wsklab.cli.driver_commands import build_driver

    existing_file(driver, "a driver image (.sys)")
    config = cli.config(workers=workers)
    document: dict[str, Any] = {
        "run_id": "",
        "exit_code": exits.LAB,
        "wall_s": 0.0,
        "results_dir": "",
        "guests": [],
        "results": [],
        "totals": [],
    }
    try:
        with cli.services.lab(config) as lab:
            cli.output.note(f"{lab.choice.mode} mode: {lab.choice.why}")
            profiles = matching(
                lab.profiles.values(),
                guest or list(config.guests),
                name=lambda p: p.name,
                what="profile",
                listing="wsklab guests",
            )
            for profile in profiles:
                cli.services.ensure_image(lab, profile, cli.output)
            built = build_driver(cli) if driver is None else cli.services.given_driver(driver)
            cli.output.note(f"acceleration: {lab.acceleration}")
            outcome = cli.services.run_suite(
                lab,
                profiles=profiles,
                driver=built,
                output=cli.output,
                guests_each=guests_each,
                workers=config.workers,
                rules=rule or [],
                keep_failed=keep_failed,
                allow_unimplemented=allow_unimplemented,
                pytest_args=pytest_args or [],
                results_dir=(cli.folder / config.results_dir),
                cleaned=cli.cleaned,
                document=document,
            )
            document.update(outcome)
    except KeyboardInterrupt:
        document["exit_code"] = exits.INTERRUPTED
        document["error"] = {"class": "Interrupted", "message": "interrupted", "why": "", "fix": "", "evidence": {}}
        cli.output.document(document)
        raise
    except LabError as error:
        document["exit_code"] = exits.error_exit_code(error)
        document["error"] = error_document(error)
        cli.output.document(document)
        raise
    cli.output.document(document)
    show_matrix(cli, document)
    return int(document["exit_code"])


def show_matrix(cli: Runtime, document: Mapping[str, Any]) -> None:
    """The matrix rule x guest, the kind in each heading, totals by kind, where the rest is."""
    if cli.output.json_mode:
        return
    results: Sequence[Mapping[str, Any]] = document["results"]
    columns = list(dict.fromkeys((row["profile"], row["kind"]) for row in results))
    verdicts = {(row["rule"], row["profile"], row["kind"]): str(row["verdict"]) for row in results}
    rules = list(dict.fromkeys(row["rule"] for row in results))
    cli.output.table(
        "",
        ("rule", *(f"{profile} ({kind})" for profile, kind in columns)),
        [[rule, *(verdicts.get((rule, *column), _NOTHING) for column in columns)] for rule in rules],
    )
    for profile, kind in columns:
        counts = [row for row in document["totals"] if (row["profile"], row["kind"]) == (profile, kind)]
        words = ", ".join(f"{row['cases']} {row['verdict']}" for row in counts)
        cli.output.line(f"{profile} ({kind}): cases: {words}")
    if document.get("results_dir"):
        cli.output.line(f"results: {document['results_dir']}")
    wall = float(document.get("wall_s") or 0)
    cli.output.line(f"run {document['run_id']}: {wall:.1f} s, exit code {document['exit_code']}")
