"""`screenshot`, `logs`: what a guest shows and says."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsklab.cli import exits
from wsklab.cli.guest_commands import Name, Names, select_guest, select_guests
from wsklab.cli.runtime import Runtime, command
from wsklab.errors import DeadlineExceeded, DomainGone, GuestError, HostError, LabError, UsageError
from wsklab.guest_logs import GuestLog, LogSource, log_of

if TYPE_CHECKING:
    from wsklab.assemble import Lab
    from wsklab.deadline import Deadline
    from wsklab.guest import Guest
    from wsklab.log_feed import LogFeed

__all__ = ["register"]

_LOG_S = 15.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "screenshot", help="Guests' screens as PNG files.")(screenshot)
    command(app, "logs", help="What a guest says: console, driver host, guest agent.")(logs)


# -- screenshot ----------------------------------------------------------------------------------------------------


def screenshot(
    cli: Runtime,
    names: Names,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE|FOLDER", help="Default: NAME.png here.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also of guests whose programs draw on no screen (wine).")
    ] = False,
) -> int:
    """Take one picture per guest; a wine guest has no screen of its own, and says so."""
    from wsklab.picture import as_png, png_size

    rows: list[dict[str, object]] = []
    with cli.services.lab(cli.config()) as lab:
        chosen = select_guests(lab, names)
        blind = [] if force else [guest for guest in chosen if guest.record.kind == "wine"]
        for guest in blind:
            if len(blind) == len(chosen):
                raise _no_screen(guest)
            cli.output.note(f"{guest.name}: no screen; `wsklab console {guest.name}` shows what it prints")
        guests = [guest for guest in chosen if guest not in blind]
        for guest in guests:
            picture = as_png(guest.domain.screenshot())
            path = _picture_path(cli, output, guest.name, several=len(guests) > 1)
            _write_picture(path, picture)
            width, height = png_size(picture)
            rows.append({"name": guest.name, "file": path, "width": width, "height": height})
            cli.output.line(f"{guest.name}: {path} ({width} x {height})")
    cli.output.document({"pictures": rows, "skipped": [guest.name for guest in blind]})
    return exits.OK


def _no_screen(guest: Guest) -> UsageError:
    return UsageError(
        f"{guest.name} has no screen",
        why="programs of a wine guest draw nowhere; its VGA still shows the firmware's last line",
        fix=f"`wsklab console {guest.name}` shows what it prints; --force takes the picture anyway",
        evidence={"name": guest.name},
    )


def _picture_path(cli: Runtime, output: Path | None, name: str, *, several: bool) -> Path:
    """Where a guest's picture goes.

    Raises:
        UsageError: several pictures cannot go into one file.
    """
    if output is None:
        return cli.folder / f"{name}.png"
    path = cli.folder / output
    if path.is_dir():
        return path / f"{name}.png"
    if several:
        raise UsageError(
            f"several pictures cannot go into {output}",
            why="it is no folder",
            fix="name an existing folder, or leave --output out",
        )
    return path


def _write_picture(path: Path, picture: bytes) -> None:
    try:
        path.write_bytes(picture)
    except OSError as error:
        raise UsageError(f"cannot write {path}", why=str(error), fix="name another --output") from error


# -- logs ----------------------------------------------------------------------------------------------------------


def logs(
    cli: Runtime,
    name: Name,
    source: Annotated[
        list[LogSource] | None, typer.Option("--source", "-s", help="Only this one; may be repeated. Default: all.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000, help="How many of the last lines.")] = 40,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C or the guest's end.")] = False,
    span: Annotated[str, typer.Option("--for", metavar="SPAN", help="With --follow: at most so long, 30s.")] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Wine's traces of libraries and handled exceptions as well.")
    ] = False,
) -> int:
    """Show the ends of the logs, and what is added to them."""
    from wsklab.deadline import Deadline
    from wsklab.lease import parse_duration
    from wsklab.log_feed import LogFeed

    if follow and cli.output.json_mode:
        raise UsageError("--follow and --json do not go together", why="a document has an end", fix="leave one out")
    if span and not follow:
        raise UsageError("--for limits --follow", why="nothing is followed", fix="add --follow")
    if span:
        parse_duration(span)
    with cli.services.lab(cli.config()) as lab:
        guest = select_guest(lab, name)
        chosen = list(dict.fromkeys(source or LogSource))
        reader = _Reader(lab, guest, everything=everything)
        with contextlib.ExitStack() as channels, LogFeed() as feed:
            if follow and LogSource.CONSOLE in chosen:
                feed.add_console(LogSource.CONSOLE, guest.console)
            rows = [reader.tail(one, lines) for one in chosen]
            if source and all(row["error"] for row in rows):
                raise reader.errors[chosen[0]]
            for note in reader.notes:
                cli.output.note(note)
            _print_tails(cli, rows)
            if follow:
                reader.follow(feed, channels)
                limit = Deadline.after(parse_duration(span).total_seconds()) if span else None
                return _follow(cli, guest, feed, limit, named=len(chosen) > 1)
    cli.output.document({"name": guest.name, "logs": rows})
    return exits.OK


def _print_tails(cli: Runtime, rows: list[dict[str, object]]) -> None:
    for row in rows:
        if len(rows) > 1:
            cli.output.line(f"== {row['source']}: {row['where']}")
        if row["error"]:
            cli.output.note(f"{row['source']}: {row['error']}")
        elif row["text"] or len(rows) > 1:
            cli.output.line(str(row["text"]) or "(empty)")


class _Reader:
    """The logs of one guest."""

    def __init__(self, lab: Lab, guest: Guest, *, everything: bool) -> None:
        self._lab = lab
        self._guest = guest
        self._everything = everything
        self._places: dict[LogSource, int] = {}
        self.errors: dict[LogSource, LabError] = {}
        self.notes: list[str] = []

    def tail(self, source: LogSource, lines: int) -> dict[str, object]:
        """The last lines of one log, or why there are none."""
        if source is LogSource.CONSOLE:
            console = self._guest.console
            return {"source": source, "where": str(console.path), "text": console.tail(lines=lines), "error": ""}
        log = log_of(self._guest.record.kind, source)
        row: dict[str, object] = {"source": source, "where": log.where if log else "", "text": "", "error": ""}
        try:
            found, self._places[source] = self._tail(source, log, lines)
            row["text"] = "\n".join(found)
        except (GuestError, HostError, DeadlineExceeded, UsageError) as error:
            self.errors[source] = error
            row["error"] = f"{error.message}: {error.why}" if error.why else error.message
        return row

    def _tail(self, source: LogSource, log: GuestLog | None, lines: int) -> tuple[list[str], int]:
        kind = self._guest.record.kind
        if log is None:
            raise UsageError(
                f"a {kind} guest keeps no {source} log",
                why="none is known",
                fix="leave --source out to see what there is",
            )
        from wsklab.evidence import way_in

        deadline = self._lab.timeouts.after(_LOG_S)
        with way_in(self._guest, deadline) as (way, which):
            if which != "SSH":
                self.notes.append(f"{source}: read by the {which}")
            return log.tail(way, deadline, lines=lines, everything=self._everything)

    def follow(self, feed: LogFeed, channels: contextlib.ExitStack) -> None:
        """Feed what is added to the guest's own logs, from where `tail` ended."""
        for source, start in self._places.items():
            log = log_of(self._guest.record.kind, source)
            if log is None:
                continue
            deadline = self._lab.timeouts.after(_LOG_S)
            channel = channels.enter_context(self._guest.open_channel(deadline))
            keeps = (lambda _line: True) if self._everything else log.keeps
            feed.add_stream(source, log.follow(channel, deadline, start=start), keeps)


def _follow(cli: Runtime, guest: Guest, feed: LogFeed, limit: Deadline | None, *, named: bool) -> int:
    """Print lines as they come; the guest's end, the limit or Ctrl-C ends it."""
    try:
        while limit is None or not limit.expired:
            item = feed.get(0.5)
            if item is not None:
                source, line = item
                cli.output.line(f"{source} | {line}" if named else line)
            elif _is_over(guest):
                cli.output.note(f"{guest.name} is off")
                return exits.OK
    except KeyboardInterrupt:  # the usual end of following
        return exits.INTERRUPTED
    return exits.OK


def _is_over(guest: Guest) -> bool:
    try:
        return str(guest.domain.state()) == "off"
    except DomainGone:
        return True
