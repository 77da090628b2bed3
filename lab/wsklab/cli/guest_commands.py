"""`list`, `extend`, `down`: guests that exist, and whose they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from wsklab.cli import exits
from wsklab.cli.complete import guest_names
from wsklab.cli.names import matching, one
from wsklab.cli.runtime import Runtime, command
from wsklab.cli.ssh_access import ssh_access, ssh_config
from wsklab.cli.times import moment, until
from wsklab.errors import DomainGone, HostError, LabError, UsageError

if TYPE_CHECKING:
    from wsklab.assemble import Lab
    from wsklab.guest import Guest

#: The host that the lab is on, as `--host` and the documents name it (`wsklab.config.LOCAL_HOST`).
LOCAL_HOST = "local"

__all__ = ["LOCAL_HOST", "TTL", "Name", "Names", "describe", "guest_rows", "register", "select_guest", "select_guests"]

#: How long a guest stays when no --ttl is given.
TTL = "4h"

Name = Annotated[str, typer.Argument(metavar="NAME", help="The guest.", autocompletion=guest_names)]
Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="Guest names; patterns are allowed.", autocompletion=guest_names),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "list", help="The guests that exist.")(list_guests)
    command(app, "extend", help="Keep guests of yours for longer.")(extend)
    command(app, "down", help="Stop guests and remove all that belongs to them.")(down)


def describe(cli: Runtime, lab: Lab, guest: Guest) -> dict[str, object]:
    """A guest as the documents of `up` and `list` show it."""
    metadata = guest.domain.metadata()
    netns = guest.via.netns
    return {
        "name": guest.name,
        "profile": guest.record.profile,
        "kind": guest.record.kind,
        "address": guest.address[0],
        "host": guest.via.host or LOCAL_HOST,
        "via": None if netns is None else {"netns": str(netns)},
        "ssh": ssh_access(cli, lab, guest).argv(),
        "method": guest.record.method,
        "why": guest.record.why,
        "ready_s": guest.record.ready_s,
        "dirty": guest.record.dirty,
        "expires": metadata.expires if metadata is not None else "",
    }


def guest_rows(cli: Runtime, lab: Lab, patterns: list[str] | None = None) -> list[dict[str, object]]:
    """The guests, or those that the patterns name, as `list` shows them; one that goes away meanwhile is left out."""
    rows = []
    for guest in select_guests(lab, patterns) if patterns else lab.guests():
        try:
            metadata = guest.domain.metadata()
            row = {**describe(cli, lab, guest), "state": str(guest.domain.state())}
        except (DomainGone, FileNotFoundError):
            continue
        row["owner"] = metadata.owner if metadata is not None else ""
        row["purpose"] = metadata.purpose if metadata is not None else ""
        rows.append(row)
    return rows


def select_guests(lab: Lab, patterns: list[str]) -> list[Guest]:
    """The guests that the patterns name.

    Raises:
        UsageError: a pattern fits none.
    """
    guests = lab.guests()
    with _missing_hosts_told(lab):
        return matching(guests, patterns, name=lambda g: g.name, what="guest", listing="wsklab list")


def select_guest(lab: Lab, name: str) -> Guest:
    """The one guest of that name.

    Raises:
        UsageError: none, or several.
    """
    guests = lab.guests()
    with _missing_hosts_told(lab):
        return one(guests, name, name=lambda g: g.name, what="guest", listing="wsklab list")


@contextlib.contextmanager
def _missing_hosts_told(lab: Lab) -> Iterator[None]:
    """A name that nobody has may be that of a guest on a host that cannot be reached."""
    try:
        yield
    except UsageError as error:
        for host, why in lab.absent_hosts.items():
            raise HostError(
                f"{error.message}, as far as can be seen: host {host} is not reachable",
                why=why,
                fix="try again when it is; `wsklab list` tells",
                evidence=error.evidence,
            ) from error
        raise


def list_guests(
    cli: Runtime,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Only these; patterns are allowed.", autocompletion=guest_names),
    ] = None,
    as_ssh_config: Annotated[
        bool, typer.Option("--ssh-config", help="Print a piece of ssh_config instead, for ssh -F, scp and Ansible.")
    ] = False,
) -> int:
    """Show every guest of this home."""
    with cli.services.lab(cli.config()) as lab:
        if as_ssh_config:
            return _print_ssh_config(cli, lab, names)
        rows = guest_rows(cli, lab, names)
        absent = dict(lab.absent_hosts)
    cli.output.document({"guests": rows, "absent_hosts": absent})
    for host, why in absent.items():
        cli.output.note(f"host {host} is not reachable, its guests are missing here: {why}")
    if not rows:
        cli.output.line("no guests; `wsklab up PROFILE` makes one, `wsklab guests` shows the profiles")
        return exits.OK
    now = datetime.now(UTC).astimezone()
    somewhere = ("host",) if any(row["host"] != LOCAL_HOST for row in rows) else ()
    columns = ("name", "profile", "kind", "state", *somewhere, "owner", "purpose", "address", "method", "expires")
    shown = [
        row
        | ({"state": f"{row['state']}, dirty"} if row["dirty"] else {})
        | {"expires": until(str(row["expires"]), now=now)}
        for row in rows
    ]
    cli.output.table("", columns, [[str(row[column]) for column in columns] for row in shown])
    return exits.OK


def _print_ssh_config(cli: Runtime, lab: Lab, names: list[str] | None) -> int:
    accesses = []
    for guest in select_guests(lab, names) if names else lab.guests():
        try:
            accesses.append(ssh_access(cli, lab, guest))
        except FileNotFoundError:
            continue
    text = ssh_config(accesses, lab.home.root)
    cli.output.document({"ssh_config": text, "names": [access.name for access in accesses]})
    cli.output.line(text.rstrip("\n"))
    return exits.OK


def extend(
    cli: Runtime,
    names: Names,
    ttl: Annotated[str, typer.Option("--ttl", metavar="SPAN", help="From now on: 90s, 30m, 4h, 2d.")] = TTL,
) -> int:
    """Move the end of leases; a lease that already ends later stays as it is."""
    from wsklab.lease import expiry_after, parse_duration

    expires = expiry_after(parse_duration(ttl))
    rows: list[dict[str, object]] = []
    with cli.services.lab(cli.config()) as lab:
        for guest in select_guests(lab, names):
            try:
                rows.append({"name": guest.name, "expires": cli.services.extend(guest, expires)})
            except LabError as error:
                error.evidence["extended"] = rows
                raise
    cli.output.document({"guests": rows})
    now = datetime.now(UTC).astimezone()
    for row in rows:
        kept = "" if row["expires"] == expires else f", which is later than {moment(expires, now=now)}"
        cli.output.line(f"{row['name']}: yours until {until(str(row['expires']), now=now)}{kept}")
    return exits.OK


def down(cli: Runtime, names: Names) -> int:
    """Remove guests; a pattern means your own ones that no run is using, a full name means just that guest."""
    gone: list[str] = []
    with cli.services.lab(cli.config()) as lab:
        chosen, kept = _to_remove(lab, names)
        failures: list[LabError] = []
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="down") as pool:
            for guest, ended in [(guest, pool.submit(cli.services.destroy, lab, guest)) for guest in chosen]:
                try:
                    ended.result()
                except LabError as error:
                    failures.append(error)
                    continue
                gone.append(guest.name)
                cli.output.line(f"{guest.name}: {'given back' if guest.record.method == 'static' else 'gone'}")
    for name, why in kept:
        cli.output.note(f"{name}: kept, {why}; name it in full to remove it")
    body: dict[str, object] = {"removed": gone, "kept": [{"name": name, "why": why} for name, why in kept]}
    if failures:
        failures[0].evidence["removed"] = gone
        raise failures[0]
    cli.output.document(body)
    return exits.OK


def _to_remove(lab: Lab, patterns: list[str]) -> tuple[list[Guest], list[tuple[str, str]]]:
    """The guests to remove, and those that a pattern fits but that are somebody's, with the reason."""
    chosen: list[Guest] = []
    kept: list[tuple[str, str]] = []
    for guest in select_guests(lab, patterns):
        why = "" if guest.name in patterns else _somebody_s(lab, guest)
        if why:
            kept.append((guest.name, why))
        else:
            chosen.append(guest)
    return chosen, kept


def _somebody_s(lab: Lab, guest: Guest) -> str:
    """Why a pattern does not mean this guest, or ""."""
    static = guest.record.method == "static"
    try:
        metadata = guest.domain.metadata()
    except DomainGone:
        return ""
    if metadata is None:
        return "nobody has it" if static else ""
    if metadata.run and lab.home.run_is_alive(metadata.run):
        return f"run {metadata.run} is using it"
    return f"it is {metadata.owner}'s" if metadata.owner != lab.owner else ""
