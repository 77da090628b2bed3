"""`ssh`, `proxy`, `exec`, `put`, `get`, `console`, `deploy`: into one guest."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from wsklab.cli import exits
from wsklab.cli.complete import guest_names
from wsklab.cli.guest_commands import Name, Names, select_guest, select_guests
from wsklab.cli.names import existing_file
from wsklab.cli.output import plain
from wsklab.cli.runtime import Runtime, command
from wsklab.cli.ssh_access import ssh_access
from wsklab.cli.stdio import shuttle
from wsklab.errors import HostError, UsageError

__all__ = ["register"]

_CONNECT_S = 20.0
_TRANSFER_S = 600.0
_PASS = {"allow_extra_args": True, "ignore_unknown_options": True}

Command = Annotated[list[str] | None, typer.Argument(metavar="[COMMAND]...", help="A command line for the guest.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "ssh", help="Open a shell in a guest with the OpenSSH client, or run a command there.")(ssh)
    command(app, "proxy", help="Connect standard input and output to a port of a guest (for ssh's ProxyCommand).")(
        proxy
    )
    command(app, "exec", help="Run one command line in a guest; its exit code is ours.")(execute)
    command(app, "put", help="Copy a file into guests.")(put)
    command(app, "get", help="Copy a file out of a guest.")(get)
    command(app, "console", help="The guest's serial console, from the first byte.")(console)
    command(app, "deploy", help="Install a driver in guests as a kernel service, any driver, and start it.")(deploy)


def ssh(cli: Runtime, name: Name, arguments: Command = None) -> int:
    """Become the OpenSSH client."""
    if shutil.which("ssh") is None:
        raise HostError("there is no ssh program", fix="apt install openssh-client")
    with cli.services.lab(cli.config()) as lab:
        guest = select_guest(lab, name)
        if guest.record.method == "static" and not guest.record.host_key:
            guest.open_channel(lab.timeouts.after(_CONNECT_S)).close()  # the first meeting: its host key is kept
        argv = [*ssh_access(cli, lab, guest).argv(), *(arguments or [])]
    if cli.output.json_mode:
        cli.output.document({"ssh": argv})
        return exits.OK
    cli.services.become(argv)
    return exits.OK


def proxy(
    cli: Runtime, name: Name, port: Annotated[int, typer.Argument(min=1, max=65535, help="The port.")] = 22
) -> int:
    """Shuttle bytes until both sides are done."""
    with cli.services.lab(cli.config()) as lab:
        guest = select_guest(lab, name)
        connection = cli.services.connect(guest, port, _CONNECT_S)
    with connection:
        shuttle(connection, sys.stdin.buffer, sys.stdout.buffer)
    return exits.OK


def execute(
    cli: Runtime,
    name: Name,
    arguments: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="As typed at the guest's prompt.")],
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="When to give up.")] = 60.0,
) -> int:
    """Run a command; `exec NAME -- CMD` keeps options for the guest."""
    config = cli.config()
    with cli.services.lab(config) as lab:
        deadline = lab.timeouts.after(timeout_s)
        guest = select_guest(lab, name)
        with cli.services.in_use(guest), guest.open_channel(deadline) as channel:
            result = channel.run(" ".join(arguments), deadline, check=False)
    cli.output.document({"result": result})
    if not cli.output.json_mode:
        cli.output.stdout.write(_lines(result.stdout))
        cli.output.stderr.write(_lines(result.stderr))
    return result.exit_code if 0 <= result.exit_code <= 255 else exits.FINDING


def _lines(text: str) -> str:
    """A guest's text for the terminal: line ends of this world, control characters made visible."""
    return plain(text.replace("\r\n", "\n"))


def put(
    cli: Runtime,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="The file here.")],
    names: Names,
    target: Annotated[
        str, typer.Option("--to", metavar="GUEST-PATH", help=r"Where to; default: its name in C:\wsklab.")
    ] = "",
) -> int:
    """Copy one file into guests."""
    existing_file(source, "a file")
    path = target or "C:\\wsklab\\" + source.name
    copied = []
    with cli.services.lab(cli.config()) as lab:
        for guest in select_guests(lab, names):
            deadline = lab.timeouts.after(_TRANSFER_S)
            with cli.services.in_use(guest), guest.open_channel(deadline) as channel:
                channel.put(source, path, deadline)
            copied.append(guest.name)
            cli.output.line(f"{guest.name}: {path}")
    cli.output.document({"guests": copied, "path": path})
    return exits.OK


def get(
    cli: Runtime,
    name: Name,
    source: Annotated[str, typer.Argument(metavar="GUEST-PATH", help="The file in the guest.")],
    target: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to; default: here.")] = None,
) -> int:
    """Copy one file out of a guest; the last part of its path is checked before it names a file here."""
    last = source.replace("/", "\\").split("\\")[-1]
    if target is None and last in {"", ".", ".."}:
        raise UsageError(f"{source!r} does not end in a file name", fix="name the file to write, too")
    path = target or cli.folder / last
    with cli.services.lab(cli.config()) as lab:
        deadline = lab.timeouts.after(_TRANSFER_S)
        guest = select_guest(lab, name)
        with cli.services.in_use(guest), guest.open_channel(deadline) as channel:
            channel.get(source, path, deadline)
    cli.output.document({"file": path, "bytes": path.stat().st_size})
    cli.output.line(f"{path}: {path.stat().st_size} bytes")
    return exits.OK


def console(
    cli: Runtime,
    name: Name,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000, help="How many of the last lines.")] = 40,
) -> int:
    """Show the end of the console; control characters made visible."""
    with cli.services.lab(cli.config()) as lab:
        guest = select_guest(lab, name)
        text = guest.console.tail(lines=lines)
    cli.output.document({"name": guest.name, "file": guest.console.path, "tail": text})
    cli.output.line(text)
    return exits.OK


def deploy(
    cli: Runtime,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The guest, or a pattern for several.", autocompletion=guest_names),
    ],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE.sys]", help="A driver image; default: ours, built first.")
    ] = None,
    service: Annotated[str, typer.Option("--service", metavar="NAME", help="Default: the file's name.")] = "",
    start: Annotated[bool, typer.Option("--start/--no-start", help="Start the service.")] = True,
    verifier: Annotated[
        str, typer.Option("--verifier", metavar="MODE", help="Driver Verifier: off, standard, volatile, low-resources.")
    ] = "off",
) -> int:
    """Copy, install, start; a driver that does not start is a finding (exit 1) with the Win32 error named."""
    from wsklab.cli.driver_commands import build_driver

    existing_file(file, "a driver image (.sys)")
    control = None
    if file is None:
        built = build_driver(cli)
        file, control = built.sys, built.ctl
    rows = []
    with cli.services.lab(cli.config()) as lab:
        for guest in select_guests(lab, [name]):
            chosen = cli.services.deploy(
                lab, guest, file, service=service, control=control, start=start, verifier=verifier
            )
            rows.append({"name": guest.name, "service": chosen, "started": start})
            cli.output.line(f"{guest.name}: service {chosen} {'started' if start else 'installed'}")
    cli.output.document({"guests": rows, "file": file})
    return exits.OK
