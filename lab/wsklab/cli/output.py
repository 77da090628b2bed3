"""Everything that the commands print: documents for machines, tables and lines for people.

Results go to standard output, remarks and errors to standard error. In JSON mode exactly one document
reaches standard output. rich is imported only when a table or a progress line is drawn.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from wsklab.errors import LabError

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Output", "error_document", "plain", "stages", "timestamp"]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def timestamp(moment: datetime | None = None) -> str:
    """RFC 3339 in UTC, whole seconds; now by default."""
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def plain(text: str) -> str:
    """Text without terminal control sequences: what a guest says must not reach the terminal raw."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match.group()):02x}", text)


def to_json(value: object) -> object:
    """Values of the lab as JSON: paths, enumerations, dataclasses, models, bytes, sets."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    for kinds, convert in _CONVERSIONS:
        if isinstance(value, kinds):
            return convert(value)
    return str(value)


_CONVERSIONS: tuple[tuple[type | tuple[type, ...], Callable[[Any], object]], ...] = (
    (enum.Enum, lambda value: value.value),
    (bytes, bytes.hex),
    (datetime, timestamp),
    ((set, frozenset), lambda value: sorted(value, key=str)),
)


def error_document(error: LabError) -> dict[str, object]:
    """The member `error` of a JSON document."""
    return {
        "class": type(error).__name__,
        "message": error.message,
        "why": error.why,
        "fix": error.fix,
        "evidence": error.evidence,
    }


class Output:
    """Where one command writes.

    Args:
        json_mode: one JSON document on `stdout`, remarks on `stderr`.
        verbose: 0 quiet, 1 remarks about what is being done, 2 everything.
    """

    def __init__(
        self,
        *,
        json_mode: bool = False,
        verbose: int = 0,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.json_mode = json_mode
        self.verbose = verbose
        self.stdout = stdout if stdout is not None else sys.stdout
        self.stderr = stderr if stderr is not None else sys.stderr
        self._clock = clock
        self._document_printed = False

    def document(self, body: Mapping[str, object]) -> None:
        """Print the command's one JSON document; nothing in human mode."""
        if not self.json_mode or self._document_printed:
            return
        self._document_printed = True
        text = json.dumps({"schema": 1, **body}, indent=2, ensure_ascii=False, default=to_json)
        print(text, file=self.stdout, flush=True)

    def line(self, text: str = "") -> None:
        """One line of result for a person; nothing in JSON mode."""
        if not self.json_mode:
            print(plain(text), file=self.stdout, flush=True)

    def note(self, text: str, *, level: int = 0) -> None:
        """A remark on standard error, shown from verbosity `level` on."""
        if self.verbose >= level:
            print(plain(text), file=self.stderr, flush=True)

    def error(self, error: LabError) -> None:
        """What, why, what to do; as a document in JSON mode too."""
        self.document({"error": error_document(error)})
        self.note(f"error: {error.message}")
        if error.why:
            self.note(f"  why: {error.why}")
        if error.fix:
            self.note(f"  fix: {error.fix}")
        if self.verbose:
            for key, value in error.evidence.items():
                self.note(f"  {key}: {value}")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table for a person; nothing in JSON mode. Verdict words get a colour on a terminal."""
        if self.json_mode:
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title or None, title_justify="left", header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(plain(cell), style=_STYLES.get(cell.split(" ")[0], "")) for cell in row))
        self.draw(table)

    def draw(self, thing: RenderableType) -> None:
        """Something that rich can draw, for a person; nothing in JSON mode."""
        if self.json_mode:
            return
        from rich.console import Console

        # A pipe has no width; a table that is cut at 80 columns would lose what scripts look for.
        Console(file=self.stdout, width=None if self.stdout.isatty() else 200, highlight=False).print(thing)

    @contextlib.contextmanager
    def progress(self, what: str, *, expected_s: float | None = None) -> Iterator[Callable[[str], None]]:
        """Show that long work goes on: elapsed and expected time on a terminal, plain lines elsewhere.

        Yields:
            A function that changes the text of the current step.
        """
        started = self._clock()
        expected = f", expected {expected_s:.0f} s" if expected_s else ""
        if not self.stderr.isatty():
            self.note(f"{what} ...{expected.replace(', ', ' ')}")
            yield lambda step: self.note(f"{what}: {step}", level=1)
            self.note(f"{what}: done in {self._clock() - started:.1f} s")
            return
        from rich.console import Console

        lock = threading.Lock()
        current = [what]
        with Console(file=self.stderr).status(what) as status:

            def draw() -> None:
                with lock:
                    status.update(f"{current[0]} ({self._clock() - started:.0f} s{expected})")

            def step(text: str) -> None:
                current[0] = f"{what}: {plain(text)}"
                draw()

            with _every_second(draw):
                yield step
        self.note(f"{what}: done in {self._clock() - started:.1f} s")


#: How a word looks on a terminal.
_STYLES: Mapping[str, str] = {
    "passed": "green",
    "ok": "green",
    "present": "green",
    "recorded": "green",
    "failed": "bold red",
    "crashed": "bold red",
    "hung": "bold red",
    "missing": "bold red",
    "unexpected_pass": "red",
    "disputed": "magenta",
    "lab_error": "yellow",
    "stale": "yellow",
    "absent": "yellow",
    "gap": "cyan",
    "deviation": "cyan",
    "vacuous": "dim",
    "not_run": "dim",
    "not_implemented": "dim",
    "skipped": "dim",
}


def stages(step: Callable[[str], None]) -> Callable[[str, float, float], None]:
    """A progress function of the lab (stage, elapsed and expected seconds) over one of `Output.progress`."""
    return lambda stage, _elapsed_s, expected_s: step(f"{stage}, about {expected_s:.0f} s in all")


@contextlib.contextmanager
def _every_second(draw: Callable[[], None]) -> Iterator[None]:
    """Call `draw` each second from a thread of its own until the block ends."""
    done = threading.Event()

    def tick() -> None:
        while not done.wait(1.0):
            draw()

    thread = threading.Thread(target=tick, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
