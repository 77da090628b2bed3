"""The entry point: runs one command, turns whatever ends it into words and an exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from typer.exceptions import Abort, Exit, TyperException

from wsklab.cli import exits
from wsklab.cli.output import error_document
from wsklab.cli.runtime import Interrupted, Runtime, default_runtime
from wsklab.errors import LabError, UsageError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, runtime: Runtime | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments without the program's name; `sys.argv` by default.
        runtime: its surroundings; the real ones by default.

    Returns:
        The exit code, see `wsklab.cli.exits`.
    """
    from wsklab.cli.app import build_app

    arguments = list(sys.argv[1:] if argv is None else argv)
    current = runtime or default_runtime()
    # A usage error is found before the command's own --json is: look for it, up to a "--".
    head = arguments[: arguments.index("--")] if "--" in arguments else arguments
    current.output.json_mode = "--json" in head
    try:
        with _polite_signals(current):
            answer = build_app()(arguments, prog_name="wsklab", standalone_mode=False, obj=current)
            return int(answer or 0)
    except LabError as error:
        current.output.error(error)
        return exits.error_exit_code(error)
    except (Interrupted, KeyboardInterrupt, Abort):
        return _interrupted(current)
    except Exit as finished:
        return finished.exit_code
    except TyperException as problem:
        return _usage(current, problem)


def _usage(runtime: Runtime, problem: TyperException) -> int:
    """Report a mistake on the command line."""
    context = getattr(problem, "ctx", None)
    path = context.command_path if context is not None else "wsklab"
    message = problem.format_message().strip().rstrip(".")
    if type(problem).__name__ == "NoArgsIsHelpError":
        # `wsklab` alone, or a group without a sub-command: its message is the help.
        runtime.output.note(message)
        runtime.output.document({"error": error_document(UsageError("a command is missing", fix=f"see {path} --help"))})
        return exits.USAGE
    message = message[:1].lower() + message[1:]
    runtime.output.error(UsageError(message, why=f"{path} was called so", fix=f"see {path} --help"))
    return exits.USAGE


def _interrupted(runtime: Runtime) -> int:
    """Say what has been put away; the context managers have done it on the way here."""
    cleaned = "; ".join(runtime.cleaned) or "nothing had been started"
    error = LabError("interrupted", why="Ctrl-C or a termination signal", evidence={"cleaned": list(runtime.cleaned)})
    runtime.output.document({"error": {**error_document(error), "class": "Interrupted"}})
    runtime.output.note(f"interrupted; cleaned up: {cleaned}")
    return exits.INTERRUPTED


@contextmanager
def _polite_signals(runtime: Runtime) -> Iterator[None]:
    """The first SIGINT or SIGTERM unwinds; later ones do not cut the clean-up short."""
    seen: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) == 1:
            raise KeyboardInterrupt
        runtime.output.note("cleaning up, please wait")

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
