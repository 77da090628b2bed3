"""`run`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsklab.cli import exits
from wsklab.cli.driver_commands import build_driver
from wsklab.cli.names import existing_file, matching
from wsklab.cli.output import error_document
from wsklab.cli.runtime import Runtime, command
from wsklab.errors import LabError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsklab.profile import GuestProfile
    from wsklab.results.model import CaseResult, RunDocument
    from wsklab.run_guests import RunDrivers

__all__ = ["perform", "register"]

#: So many cases with evidence are named at the end of a run; the others are in its files.
_SHOWN = 12


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
    guests_each: Annotated[
        str | None, typer.Option("--guests-each", metavar="K|auto", help="Per profile; auto: what fits here.")
    ] = None,
    workers: Annotated[
        str | None, typer.Option("--workers", metavar="N|auto", help="pytest workers; 0: in-process.")
    ] = None,
    rule: Annotated[str, typer.Option("--rule", metavar="GLOB", help="Rules to check: `core`, an id, a pattern.")] = "",
    driver: Annotated[
        Path | None,
        typer.Option(
            "--driver", metavar="FILE", help="Use this build of the driver, already signed (.so: for shim guests)."
        ),
    ] = None,
    service: Annotated[
        str,
        typer.Option(
            "--service", metavar="NAME", help="The driver is not ours but the service NAME: run only its own cases."
        ),
    ] = "",
    hazard: Annotated[
        bool, typer.Option("--hazard", help="Also cases that can crash a machine (the shim always).")
    ] = False,
    case: Annotated[
        list[str] | None,
        typer.Option("--case", metavar="NAME", help="Only cases of that name, as results show it; * is anything."),
    ] = None,
    verifier: Annotated[
        str, typer.Option("--verifier", metavar="MODE", help="Driver Verifier: off, standard, volatile, low-resources.")
    ] = "off",
    trace: Annotated[
        list[str] | None,
        typer.Option(
            "--trace", metavar="PROVIDER", help="Windows: trace this ETW provider (name or GUID) as evidence."
        ),
    ] = None,
    keep_failed: Annotated[bool, typer.Option("--keep-failed", help="Keep the guests of failed cases.")] = False,
    allow_unimplemented: Annotated[
        bool, typer.Option("--allow-unimplemented", help="Rules without a case do not fail the run.")
    ] = False,
    pytest_args: Annotated[list[str] | None, typer.Argument(metavar="[-- PYTEST ARGS]...")] = None,
) -> int:
    """The document is printed even when the run is cut short: what is known by then, and the error."""
    existing_file(driver, "a driver image (.sys)")
    wishes = {
        "rules": rule,
        "cases": tuple(case or ()),
        "hazard": hazard,
        "keep_failed": keep_failed,
        "allow_unimplemented": allow_unimplemented,
    }
    sizes = {"workers": workers, "guests_each": guests_each}
    try:
        document = perform(cli, guest or [], sizes, driver, wishes, pytest_args or [], verifier, service, trace or [])
    except KeyboardInterrupt:
        error = error_document(LabError("interrupted", why="Ctrl-C or a termination signal"))
        cli.output.document(_cut_short(exits.INTERRUPTED, {**error, "class": "Interrupted"}))
        raise
    except LabError as problem:
        cli.output.document(_cut_short(exits.error_exit_code(problem), error_document(problem)))
        raise
    cli.output.document(document.model_dump(mode="json", by_alias=True))
    show_matrix(cli, document)
    if document.exit_code == exits.INTERRUPTED:
        raise KeyboardInterrupt  # pytest took the signal; what was put away is said where it is said for all commands
    return document.exit_code


def perform(
    cli: Runtime,
    patterns: list[str],
    sizes: dict[str, str | None],
    driver: Path | None,
    wishes: dict[str, Any],
    pytest_args: list[str],
    verifier: str,
    service: str = "",
    trace: Sequence[str] = (),
) -> RunDocument:
    """Everything between the options and the document."""
    from wsklab.trace import check_provider, require_tracing
    from wsklab.verifier import require_ability

    providers = tuple(check_provider(text) for text in trace)

    if service and driver is None:
        raise UsageError("--service names whose service the driver is", fix="add --driver FILE")
    config = cli.config(**sizes)
    with cli.services.lab(config) as lab:
        cli.output.note(f"{lab.choice.mode} mode: {lab.choice.why}")
        profiles = matching(
            lab.sources.values(),
            patterns or list(config.guests),
            name=lambda profile: profile.name,
            what="profile",
            listing="wsklab guests",
        )
        for profile in profiles:
            require_tracing(profile, providers)
            if verifier != "off":
                require_ability(profile, verifier)
        for profile in profiles:
            if profile.has_image:
                cli.services.ensure_image(lab, profile, cli.output)
        drivers = _drivers(cli, profiles, driver, service)
        if any(profile.has_image for profile in profiles):
            cli.output.note(f"acceleration: {lab.acceleration}")
        each, workers = cli.services.sizes(lab, profiles)
        cli.output.note(f"guests: {each} of each profile, {workers} workers")
        return cli.services.run_suite(
            lab,
            profiles=profiles,
            drivers=drivers,
            results=cli.folder / config.results_dir,
            workers=workers,
            wishes={
                **wishes,
                "each": each,
                "foreign": drivers.foreign,
                "reproduce": cli.services.reproduce(
                    lab,
                    pytest_args,
                    options=_again(cli, driver, service, verifier),
                    flags=[*(["--hazard"] if wishes.get("hazard") else []), *(f"--trace={text}" for text in trace)],
                ),
            },
            pytest_args=pytest_args,
            # pytest talks on standard error when a document goes to standard output
            output=cli.output.stderr if cli.output.json_mode else cli.output.stdout,
            cleaned=cli.cleaned,
            verifier=verifier,
            **({"trace": providers} if providers else {}),
        )


def _again(cli: Runtime, driver: Path | None, service: str, verifier: str) -> dict[str, str]:
    """The options that a case needs to be run again as it was, from any folder."""
    settings = cli.config_file or cli.folder / "wsklab.toml"
    chosen = {
        "--config": str(settings.absolute()) if settings.is_file() else "",
        "--driver": str(driver.absolute()) if driver is not None else "",
        "--service": service,
        "--verifier": verifier if verifier != "off" else "",
    }
    return {option: value for option, value in chosen.items() if value}


def _drivers(cli: Runtime, profiles: Sequence[GuestProfile], chosen: Path | None, service: str) -> RunDrivers:
    """Build what these guests need: wskctl and the shim also where the driver is another one."""
    from wsklab.deploy import OWN_SERVICE
    from wsklab.run_guests import RunDrivers

    windows = build_driver(cli) if any(profile.kind != "shim" for profile in profiles) else None
    shim = None
    if any(profile.kind == "shim" for profile in profiles):
        with cli.output.progress("kernel shim") as step:
            shim = cli.services.build_shim(cli.config(), step)
    return RunDrivers(windows=windows, shim=shim, chosen=chosen, service=service or OWN_SERVICE)


def _cut_short(code: int, error: dict[str, object]) -> dict[str, object]:
    """The document of a run that did not get as far as its first case."""
    return {
        "run_id": "",
        "exit_code": code,
        "wall_s": 0.0,
        "results_dir": "",
        "guests": [],
        "results": [],
        "totals": [],
        "error": error,
    }


def show_matrix(cli: Runtime, document: RunDocument) -> None:
    """The matrix rule x guest, each kind on its own, and where the rest is."""
    if cli.output.json_mode:
        return
    cli.output.draw(cli.services.matrix(document))
    for crash in document.crashes:
        seen = "seen for the first time" if crash.is_new else f"{crash.count} since {crash.first_seen}"
        cli.output.line(f"crash {crash.bucket} ({seen}): {', '.join(crash.cases)}")
    cli.output.line(f"results: {document.results_dir}")
    for line in _where_evidence_is(cli.services.cases(document), Path(document.results_dir)):
        cli.output.line(line)
    cli.output.line(f"run {document.run_id}: {document.wall_s:.1f} s, exit code {document.exit_code}")


def _where_evidence_is(cases: Sequence[CaseResult], results: Path) -> list[str]:
    """A line for each case that left evidence: how it ended, and the folder below the results."""
    found = [case for case in cases if case.evidence]
    lines = [f"  {case.outcome}: {case.profile} {case.case}: {case.evidence}/reproduce.sh" for case in found[:_SHOWN]]
    more = len(found) - len(lines)
    return [*lines, *([f"  and {more} more: {results / 'results.jsonl'}"] if more else [])]
