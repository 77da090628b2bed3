"""The commands, put together. Building the application imports no part of the lab but the command line."""

from __future__ import annotations

import typer

from wsklab.cli import (
    debug_command,
    doctor,
    driver_commands,
    evidence_commands,
    guest_commands,
    image_commands,
    inside_commands,
    results_commands,
    run_command,
    sweep_commands,
    up_command,
)

__all__ = ["build_app"]

_HELP = """wsklab: a test lab for Windows network drivers.

`wsklab run` is the main job: build the driver, make the guests, run the conformance cases, show the matrix."""


def build_app() -> typer.Typer:
    """The application with every command of this version; commands of later versions are not listed."""
    app = typer.Typer(
        help=_HELP,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for module in (
        run_command,
        doctor,
        image_commands,
        driver_commands,
        up_command,
        guest_commands,
        inside_commands,
        evidence_commands,
        debug_command,
        results_commands,
        sweep_commands,
    ):
        module.register(app)
    return app
