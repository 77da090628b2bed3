"""`up`, `list`, `down`: guests that a person holds."""

from __future__ import annotations

import os
import shlex
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsklab.cli import exits
from wsklab.cli.names import existing_file, matching, one
from wsklab.cli.runtime import Runtime, command
from wsklab.errors import UsageError

if TYPE_CHECKING:
    from wsklab.assemble import Lab
    from wsklab.guest import Guest

__all__ = ["describe", "guest_rows", "register", "ssh_argv"]

#: How long `up` keeps a guest when no --ttl is given.
_TTL = "4h"

Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Guest names; patterns are allowed.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "up", help="Start guests of a profile and keep them until they expire.")(up)
    command(app, "list", help="The guests that exist.")(list_guests)
    command(app, "down", help="Stop guests and remove all that belongs to them.")(down)


def ssh_argv(cli: Runtime, lab: Lab, guest: Guest) -> list[str]:
    """The `ssh` command line for a guest, as it works from any shell of this user.

    Where the guest's address exists only in a network namespace, the connection goes through
    `wsklab proxy`; the host key is the one that was made with the image, pinned under the guest's name.
    """
    from wsklab.home import write_text

    options = ["-i", str(_key_for_ssh(guest)), "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"]
    if guest.record.host_key:
        known_hosts = guest.directory / "known_hosts"
        write_text(known_hosts, f"{guest.name} {guest.record.host_key}\n")
        options += ["-o", f"UserKnownHostsFile={known_hosts}", "-o", f"HostKeyAlias={guest.name}"]
    else:
        options += ["-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"]
    if guest.via.netns is None:
        return ["ssh", *options, f"{guest.record.user}@{guest.address[0]}"]
    settings = [f"WSKLAB_HOME={lab.home.root}", f"WSKLAB_MODE={lab.choice.mode}"]
    proxy = shlex.join(["env", *settings, *cli.services.launcher(cli.environ), "proxy", guest.name])
    return ["ssh", *options, "-o", f"ProxyCommand={proxy} %p", f"{guest.record.user}@{guest.name}"]


def _key_for_ssh(guest: Guest) -> Path:
    """The guest's key as OpenSSH takes it: a key of this user that others may read is refused (ssh(1), FILES).

    In a shared home the group may read it; its owner then gets a private copy beside the guest's files.
    """
    try:
        status = guest.key.stat()
    except OSError:
        return guest.key  # ssh itself says best what is wrong with it
    if status.st_uid != os.geteuid() or not status.st_mode & 0o077:
        return guest.key
    copy = guest.directory / f"key-{status.st_uid}"
    if not copy.exists():
        with os.fdopen(os.open(copy, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(guest.key.read_bytes())
    return copy


def describe(cli: Runtime, lab: Lab, guest: Guest) -> dict[str, object]:
    """A guest as the documents of `up` and `list` show it."""
    metadata = guest.domain.metadata()
    netns = guest.via.netns
    return {
        "name": guest.name,
        "profile": guest.record.profile,
        "kind": guest.record.kind,
        "address": guest.address[0],
        "via": None if netns is None else {"netns": str(netns)},
        "ssh": ssh_argv(cli, lab, guest),
        "method": guest.record.method,
        "why": guest.record.why,
        "ready_s": guest.record.ready_s,
        "dirty": guest.record.dirty,
        "expires": metadata.expires if metadata is not None else "",
    }


def guest_rows(cli: Runtime, lab: Lab) -> list[dict[str, object]]:
    """Every guest, as `list` shows it."""
    rows = []
    for guest in lab.guests():
        metadata = guest.domain.metadata()
        rows.append(
            {
                **describe(cli, lab, guest),
                "state": str(guest.domain.state()),
                "owner": metadata.owner if metadata is not None else "",
                "purpose": metadata.purpose if metadata is not None else "",
            }
        )
    return rows


def select_guests(lab: Lab, patterns: list[str]) -> list[Guest]:
    """The guests that the patterns name.

    Raises:
        UsageError: a pattern fits none.
    """
    return matching(lab.guests(), patterns, name=lambda g: g.name, what="guest", listing="wsklab list")


def select_guest(lab: Lab, name: str) -> Guest:
    """The one guest of that name.

    Raises:
        UsageError: none, or several.
    """
    return one(lab.guests(), name, name=lambda g: g.name, what="guest", listing="wsklab list")


def up(
    cli: Runtime,
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="Which profile; see `wsklab guests`.")],
    name: Annotated[str, typer.Option("--name", metavar="N", help="The guest's name; default: made up.")] = "",
    count: Annotated[int, typer.Option("--count", min=1, max=64, metavar="K", help="How many.")] = 1,
    ttl: Annotated[str, typer.Option("--ttl", metavar="SPAN", help="Until when it is yours: 90s, 30m, 4h, 2d.")] = _TTL,
    driver: Annotated[
        Path | None, typer.Option("--driver", metavar="FILE", help="Load this driver when the guest is ready.")
    ] = None,
    service: Annotated[str, typer.Option("--service", metavar="NAME", help="Service name of that driver.")] = "",
) -> int:
    """Start guests, wait until each is ready, say how to reach it and until when."""
    from wsklab.lease import expiry_after, parse_duration

    span: timedelta = parse_duration(ttl)
    existing_file(driver, "a driver image (.sys)")
    if name and count > 1:
        raise UsageError("--name and --count do not go together", why="names are unique", fix="leave one of them out")
    started: list[Guest] = []
    with cli.services.lab(cli.config()) as lab, cli.services.unfinished(lab) as run:
        chosen = one(lab.profiles.values(), profile, name=lambda p: p.name, what="profile", listing="wsklab guests")
        cli.services.ensure_image(lab, chosen, cli.output)
        try:
            for _ in range(count):
                with cli.output.progress(f"guest {chosen.name}") as step:
                    guest = cli.services.start_guest(lab, chosen, name=name, expires=expiry_after(span), run=run)
                    started.append(guest)
                    step("booting")
                    cli.services.wait_ready(lab, guest, chosen)
                    if driver is not None:
                        step(f"loading {driver.name}")
                        cli.services.deploy(lab, guest, driver, service=service, control=None, start=True)
        except BaseException:
            for guest in started:
                cli.services.destroy(lab, guest)
                cli.cleaned.append(f"guest {guest.name}")
            raise
        for guest in started:
            cli.services.hand_over(guest)
        rows = [describe(cli, lab, guest) for guest in started]
    cli.output.document({"guests": rows})
    for row in rows:
        cli.output.line(f"{row['name']}: ready, {row['method']}, until {row['expires']} (it is removed after that)")
        cli.output.line(f"  {shlex.join(row['ssh'])}")  # type: ignore[arg-type]
    return exits.OK


def list_guests(cli: Runtime) -> int:
    """Show every guest of this home."""
    with cli.services.lab(cli.config()) as lab:
        rows = guest_rows(cli, lab)
    cli.output.document({"guests": rows})
    columns = ("name", "profile", "kind", "state", "owner", "purpose", "address", "expires")
    shown = [row | ({"state": f"{row['state']}, dirty"} if row["dirty"] else {}) for row in rows]
    cli.output.table("", columns, [[_cell(row[column]) for column in columns] for row in shown])
    return exits.OK


def down(cli: Runtime, names: Names) -> int:
    """Remove guests; the names that were removed are said."""
    gone: list[str] = []
    with cli.services.lab(cli.config()) as lab:
        for guest in select_guests(lab, names):
            cli.services.destroy(lab, guest)
            gone.append(guest.name)
            cli.output.line(f"{guest.name}: gone")
    cli.output.document({"removed": gone})
    return exits.OK


def _cell(value: object) -> str:
    """A value in a table: times without the date of today."""
    if isinstance(value, str) and value.endswith("Z"):
        try:
            moment = datetime.fromisoformat(value).astimezone()
        except ValueError:
            return value
        return moment.strftime("%H:%M" if moment.date() == datetime.now(moment.tzinfo).date() else "%Y-%m-%d %H:%M")
    return str(value)
