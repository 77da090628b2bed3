"""`debug`: the ways to look into a guest's kernel or driver, and the two that need this command to be at work."""

from __future__ import annotations

import hashlib
import shlex
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsklab.cli import exits
from wsklab.cli.debug_case import debug_case, is_case
from wsklab.cli.guest_commands import select_guest
from wsklab.cli.names import existing_file
from wsklab.cli.runtime import Runtime, command
from wsklab.cli.ssh_access import proxy_argv
from wsklab.cli.stdio import shuttle
from wsklab.errors import DeadlineExceeded, DomainGone, LabError, UsageError

if TYPE_CHECKING:
    from wsklab.assemble import Lab
    from wsklab.debugger import DriverHost
    from wsklab.guest import Guest

__all__ = ["register"]

#: The serial port that no console uses: the second one.
_SERIAL_PORT = 1

_CHANNEL_S = 20.0
_LET_GO_S = 10.0

# Wine emulates the IRQL: each `mov` from or to CR8 raises an exception that it handles. gdb must not stop at those,
# and must stop at every other access violation.
_PASS_CR8 = (
    "handle SIGSEGV nostop noprint pass",
    "catch signal SIGSEGV",
    "condition $bpnum (*(unsigned int *)$pc & 0xfdfffe) != 0x200f44",
)

# Microsoft's suggestion is 50000 to 50039.
_KDNET_PORT = 50000


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "debug",
        help="How to debug a guest; a driver under gdb; the second serial port; one case, live, on a guest that stays.",
    )(debug)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """One way to debug.

    Attributes:
        title: what it is for.
        steps: command lines, with what each does.
        notes: what has to be known.
    """

    title: str
    steps: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()


def debug(
    cli: Runtime,
    name: Annotated[str, typer.Argument(metavar="NAME|CASE", help="A guest; or a case: test_bind.py::test_bind.")],
    serial: Annotated[
        str,
        typer.Option("--serial", metavar="PATH", help="Make the second serial port a UNIX socket; - is stdin/stdout."),
    ] = "",
    attach: Annotated[
        str, typer.Option("--attach", metavar="SERVICE", help="Stop the host of this driver for gdb (wine guests).")
    ] = "",
    port: Annotated[
        int, typer.Option("--port", min=1024, max=65535, metavar="P", help="The guest's port for gdb.")
    ] = 2345,
    symbols: Annotated[
        Path | None, typer.Option("--symbols", metavar="FILE", help="Debug file of the driver; ours is found.")
    ] = None,
    profile: Annotated[
        list[str] | None, typer.Option("--guest", metavar="PROFILE", help="For a case: where it runs.")
    ] = None,
    driver: Annotated[
        Path | None, typer.Option("--driver", metavar="FILE", help="For a case: this build of the driver.")
    ] = None,
    pytest_args: Annotated[list[str] | None, typer.Argument(metavar="[-- PYTEST ARGS]...")] = None,
) -> int:
    """Say what can be done, or do one of the two things that need somebody to hold them; or run one case."""
    if is_case(name):
        if serial or attach or symbols:
            raise UsageError("a case has no --serial, --attach or --symbols", why="they are for its guest, which stays")
        existing_file(driver, "a driver image (.sys)")
        return debug_case(cli, name, profile or [], driver, pytest_args or [])
    if profile or driver or pytest_args:
        raise UsageError(f"{name} is no case", why="only a case runs somewhere", fix="name it FILE::FUNCTION")
    if serial and attach:
        raise UsageError("--serial and --attach do not go together", why="each holds the terminal", fix="use two")
    if symbols is not None and not attach:
        raise UsageError("--symbols belongs to --attach", why="nothing is attached to", fix="add --attach SERVICE")
    existing_file(symbols, "a debug file")
    with cli.services.lab(cli.config()) as lab:
        guest = select_guest(lab, name)
        if serial == "-":
            return _serial_on_stdio(guest)
        if serial:
            return _serve_serial(cli, guest, cli.folder / serial)
        if attach:
            return _attach(cli, lab, guest, attach, port, symbols)
        ways = _wine_ways(guest) if guest.record.kind == "wine" else _windows_ways(guest)
    cli.output.document({"name": guest.name, "kind": guest.record.kind, "ways": ways})
    _print_ways(cli, ways)
    return exits.OK


# -- what can be done ----------------------------------------------------------------------------------------------


def _wine_ways(guest: Guest) -> list[_Way]:
    name = guest.name
    return [
        _Way(
            title="a driver, with gdb on this host: Wine's debugger speaks gdb's remote protocol",
            steps=(
                (f"wsklab debug {name} --attach SERVICE", "stops the driver's host, prints the command line for gdb"),
            ),
        ),
        _Way(
            title="a driver, with Wine's debugger in the guest",
            steps=((f"wsklab ssh {name} winedbg", "then: info process, attach 0xPID, bt all, detach, quit"),),
        ),
        _Way(
            title="the second serial port (COM2; /dev/ttyS1 in the Linux below): nothing else uses it",
            steps=_serial_steps(name),
        ),
    ]


def _windows_ways(guest: Guest) -> list[_Way]:
    name, key = guest.name, _kdnet_key(guest.record.uuid)
    host = guest.address[0].rpartition(".")[0] + ".1"
    run = f"wsklab exec {name} --"
    return [
        _Way(
            title="KDNET: the Windows kernel over the network, WinDbg on the machine with the address HOSTIP",
            steps=(
                (f"{run} bcdedit /debug on", ""),
                (f"{run} bcdedit /dbgsettings net hostip:{host} port:{_KDNET_PORT} key:{key}", ""),
                (f"{run} shutdown /r /t 0", ""),
                (f"windbg -k net:port={_KDNET_PORT},key={key}", "on that machine, before the guest is up again"),
            ),
            notes=(
                f"{host} is this host on the guest's isolated network: forward UDP {_KDNET_PORT} from it to WinDbg's "
                "machine, or name the address of another guest there as hostip",
                "KDNET takes the network card over; e1000e is on Microsoft's list, virtio is not",
                "Secure Boot has to be off",
            ),
        ),
        _Way(
            title="the Windows kernel over the second serial port (COM2)",
            steps=(
                (f"{run} bcdedit /debug on", ""),
                (f"{run} bcdedit /dbgsettings serial debugport:2 baudrate:115200", ""),
                (f"{run} shutdown /r /t 0", ""),
                *_serial_steps(name),
                ("windbg -k com:port=COM1,baud=115200", "in a Windows machine whose COM1 is connected to that socket"),
            ),
            notes=(
                f"a QEMU machine gets it by `-serial unix:{_serial_path(name)}`",
                "Secure Boot has to be off",
            ),
        ),
        _Way(title="nobody of this project has run these lines on Windows yet", steps=()),
    ]


def _serial_path(name: str) -> str:
    return f"{name}.com2"


def _serial_steps(name: str) -> tuple[tuple[str, str], ...]:
    return (
        (f"wsklab debug {name} --serial {_serial_path(name)}", "a UNIX socket in this folder, until Ctrl-C"),
        (f"wsklab debug {name} --serial -", "or on standard input and output"),
    )


def _kdnet_key(uuid: str) -> str:
    """Four words of a-z and 0-9: the same for a guest whenever it is asked for."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    number = int.from_bytes(hashlib.sha256(f"kdnet {uuid}".encode()).digest(), "big")
    words = []
    for _ in range(4):
        number, part = divmod(number, 36**12)
        words.append("".join(digits[part // 36**place % 36] for place in range(12)))
    return ".".join(words)


def _print_ways(cli: Runtime, ways: Sequence[_Way]) -> None:
    width = max((len(line) for way in ways for line, meaning in way.steps if meaning), default=0)
    for way in ways:
        cli.output.line(way.title)
        for line, meaning in way.steps:
            cli.output.line(f"  {line:<{width}}  {meaning}".rstrip())
        for note in way.notes:
            cli.output.line(f"  - {note}")


# -- the second serial port ----------------------------------------------------------------------------------------


def _serial_on_stdio(guest: Guest) -> int:
    with guest.domain.open_serial(_SERIAL_PORT) as line:
        shuttle(line, sys.stdin.buffer, sys.stdout.buffer)
    return exits.OK


def _serve_serial(cli: Runtime, guest: Guest, path: Path) -> int:
    """One client after the other, until Ctrl-C or the guest's end."""
    from wsklab.relay import listen_at, relay

    with listen_at(path) as listener:
        guest.domain.open_serial(_SERIAL_PORT).close()  # somebody else has it: said now, not to the first client
        cli.output.document({"name": guest.name, "socket": path})
        cli.output.line(f"{guest.name}: second serial port at {path}, until Ctrl-C")
        try:
            while True:
                client = listener.accept(1.0)
                if client is not None:
                    with client, _patiently_opened(guest) as line:
                        relay(client, line)
                if _is_over(guest):
                    cli.output.note(f"{guest.name} is off")
                    return exits.OK
        except KeyboardInterrupt:  # the usual end
            return exits.INTERRUPTED


def _patiently_opened(guest: Guest) -> socket.socket:
    """The port; libvirt needs a moment to give it back after the last client."""
    from wsklab.deadline import Deadline, NotYet, wait_until
    from wsklab.errors import HypervisorError

    def opened() -> socket.socket | NotYet:
        try:
            return guest.domain.open_serial(_SERIAL_PORT)
        except HypervisorError as error:
            return NotYet(error.why)

    return wait_until(opened, Deadline.after(5), what="the serial port")


def _is_over(guest: Guest) -> bool:
    try:
        return str(guest.domain.state()) == "off"
    except DomainGone:
        return True


# -- gdb at a driver -----------------------------------------------------------------------------------------------


def _attach(cli: Runtime, lab: Lab, guest: Guest, service: str, port: int, symbols: Path | None) -> int:
    """Stop a driver's host for gdb and hold it until gdb has left."""
    from wsklab.deadline import Deadline
    from wsklab.debugger import WineDebugger, symbol_offset

    if guest.record.kind != "wine":
        raise UsageError(
            "--attach is for wine guests",
            why=f"{guest.name} is a {guest.record.kind} guest: there is no driver host, the kernel itself is debugged",
            fix=f"`wsklab debug {guest.name}` shows the ways",
        )
    with guest.open_channel(lab.timeouts.after(_CHANNEL_S)) as channel:
        debugger = WineDebugger(channel, lab.timeouts)
        with cli.output.progress(f"debugger for {service}") as step:
            step("looking for its driver host")
            host = debugger.find(service)
            ours = _our_symbols(lab, host) if symbols is None else None
            found = symbols or ours
            offset = symbol_offset(found, host.base) if found is not None else None
            step("starting winedbg")
            stream = debugger.serve(host, port)
        argv = _gdb_argv([*proxy_argv(cli, lab, guest), str(port)], found, offset, sources=ours is not None)
        cli.output.document({"name": guest.name, "host": host, "symbols": found, "gdb": argv})
        cli.output.line(f"{service} is at {host.base:#x} in driver host {host.process:#x}, which stands still now")
        cli.output.line(f"  {shlex.join(argv)}")
        if found is None:
            cli.output.line(f"  no debug file of {host.image} is known here; --symbols FILE names it")
        cli.output.line("end with `detach` and `quit` in gdb; Ctrl-C here lets the driver host go if no gdb has come")
        try:
            while True:
                try:
                    if not stream.receive(Deadline.after(1.0)):
                        cli.output.note("gdb has left")
                        return exits.OK
                except DeadlineExceeded:
                    continue
        except KeyboardInterrupt:
            return _let_go(cli, lab, guest, port)


def _let_go(cli: Runtime, lab: Lab, guest: Guest, port: int) -> int:
    """Do for gdb what it did not come to do; where it has come, nobody else is let in."""
    from wsklab.debugger import let_go

    seconds = lab.timeouts.seconds(_LET_GO_S)
    try:
        with cli.services.connect(guest, port, seconds) as connection:
            went = let_go(connection, seconds)
    except LabError:
        went = False
    cli.output.note("the driver host runs again" if went else "gdb still holds the driver host: detach there")
    return exits.INTERRUPTED


def _our_symbols(lab: Lab, host: DriverHost) -> Path | None:
    """The debug file of a driver that this home has built: deployed images carry the start of their digest."""
    digest = host.image.removesuffix(".sys").rpartition("-")[2]
    for image in lab.home.driver.glob("*/signed-*/*.sys"):
        symbols = image.parent.parent / f"{image.name}.debug"
        if symbols.exists() and hashlib.sha256(image.read_bytes()).hexdigest()[:12] == digest:
            return symbols
    return None


def _gdb_argv(proxy: Sequence[str], symbols: Path | None, offset: int | None, *, sources: bool) -> list[str]:
    """A command line for gdb that works from any shell.

    Args:
        proxy: the command whose standard streams are the connection.
        sources: whether the driver is ours, so that its sources are here.
    """
    from wsklab.resources import driver_source_root

    steps = ["set architecture i386:x86-64", "set remotetimeout 60", "set auto-solib-add off", *_PASS_CR8]
    if sources:
        steps.append(f"directory {driver_source_root()}")
    steps.append(f"target remote | {shlex.join(proxy)}")
    if symbols is not None and offset is not None:
        steps.append(f"add-symbol-file {shlex.quote(str(symbols))} -o {offset:#x}")
    return ["gdb", "-q", *(word for step in steps for word in ("-ex", step))]
