"""What every command gets: its output, its settings, its way to the rest of the lab.

Commands are declared with `command`, which adds the options that all of them share and hands the body a
`Runtime`. Tests build a `Runtime` with fakes and call `wsklab.cli.main.main` with it.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsklab.cli.output import Output
from wsklab.cli.services import Services

if TYPE_CHECKING:
    from wsklab.config import LabConfig

__all__ = ["Interrupted", "Runtime", "command", "default_runtime"]


class Interrupted(Exception):  # noqa: N818 - not an error of anybody
    """A command was interrupted and has cleaned up."""


@dataclass(slots=True, kw_only=True)
class Runtime:
    """The surroundings of one command.

    Attributes:
        output: where it writes.
        services: how it reaches images, guests, driver tools, results.
        environ: the environment.
        folder: the current folder.
        user_home: the user's home folder.
        config_file: the file named by --config.
        cleaned: what an interrupted command has put away, in words, for the last message.
    """

    output: Output
    services: Services
    environ: Mapping[str, str]
    folder: Path
    user_home: Path
    config_file: Path | None = None
    cleaned: list[str] = field(default_factory=list)

    def config(self, **options: object) -> LabConfig:
        """The settings, `options` of the command line on top; None means not given."""
        from wsklab.config import load_config

        return load_config(
            options=options,
            environ=self.environ,
            file=self.config_file,
            folder=self.folder,
            user_home=self.user_home,
        )


def default_runtime() -> Runtime:
    """The real surroundings."""
    return Runtime(
        output=Output(),
        services=Services(),
        environ=dict(os.environ),
        folder=Path.cwd(),
        user_home=Path.home(),
    )


JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings file instead of ./wsklab.toml.")
]
VerboseOption = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Say more on standard error; twice for everything.")
]
_SHARED: tuple[tuple[str, object, object], ...] = (
    ("json_mode", JsonOption, False),
    ("config_file", ConfigOption, None),
    ("verbose", VerboseOption, 0),
)


def command(
    app: typer.Typer, name: str, *, hidden: bool = False, **settings: Any
) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """Register a command whose first parameter is its `Runtime` and which returns an exit code (None is 0).

    Adds --json, --config and --verbose after the command's own options.
    """

    def register(body: Callable[..., int | None]) -> Callable[..., int | None]:
        @functools.wraps(body)
        def wrapper(context: typer.Context, **values: Any) -> int | None:
            base: Runtime = context.obj
            base.output.json_mode = values.pop("json_mode")
            base.output.verbose = values.pop("verbose")
            runtime = dataclasses.replace(base, config_file=values.pop("config_file"), cleaned=base.cleaned)
            _configure_logging(base.output.verbose)
            # typer would swallow both of these
            try:
                return body(runtime, **values)
            except KeyboardInterrupt:
                raise Interrupted from None
            except BrokenPipeError:
                # The reader of a pipe left, as in `wsklab list | head -1`: there is nobody to talk to.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 0

        own = inspect.signature(body, eval_str=True)
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)]
        parameters += [p.replace(kind=keyword) for p in list(own.parameters.values())[1:]]
        parameters += [
            inspect.Parameter(key, keyword, default=default, annotation=annotation)
            for key, annotation, default in _SHARED
        ]
        wrapper.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
        app.command(name, hidden=hidden, **settings)(wrapper)
        return body

    return register


def _configure_logging(verbose: int) -> None:
    """Log records of the lab on standard error from -v on; the only place that configures logging."""
    if verbose == 0:
        return
    import logging

    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if verbose > 1 else logging.INFO,
        format="%(asctime)s %(name)s %(levelname)s %(message)s",
    )
    logging.getLogger("paramiko").setLevel(logging.WARNING)
