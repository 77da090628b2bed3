"""`up`: guests that a person holds. Several are made at the same time, and all or none of them are given out."""

from __future__ import annotations

import shlex
import threading
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsklab.cli import exits
from wsklab.cli.complete import profile_names
from wsklab.cli.guest_commands import TTL, describe
from wsklab.cli.names import check_guest_name, existing_file, one
from wsklab.cli.output import error_document
from wsklab.cli.runtime import Runtime, command
from wsklab.cli.times import until
from wsklab.errors import LabError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsklab.assemble import Lab
    from wsklab.guest import Guest
    from wsklab.profile import GuestProfile

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "up", help="Start guests of a profile and keep them until they expire.")(up)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What is wanted: how many, for how long, and what shall be in them."""

    profile: GuestProfile
    count: int
    name: str
    expires: str
    fresh: bool
    driver: Path | None
    service: str
    verifier: str
    host: str
    passthrough: tuple[str, ...]
    trace: tuple[str, ...]


def up(
    cli: Runtime,
    profile: Annotated[
        str,
        typer.Argument(metavar="PROFILE", help="Which profile; see `wsklab guests`.", autocompletion=profile_names),
    ],
    name: Annotated[str, typer.Option("--name", metavar="N", help="The guest's name; default: made up.")] = "",
    count: Annotated[int, typer.Option("--count", min=1, max=64, metavar="K", help="How many, made together.")] = 1,
    ttl: Annotated[str, typer.Option("--ttl", metavar="SPAN", help="Until when it is yours: 90s, 30m, 4h, 2d.")] = TTL,
    fresh: Annotated[bool, typer.Option("--fresh", help="Boot from the image, whatever would be faster.")] = False,
    driver: Annotated[
        Path | None, typer.Option("--driver", metavar="FILE", help="Load this driver when the guest is ready.")
    ] = None,
    service: Annotated[str, typer.Option("--service", metavar="NAME", help="Service name of that driver.")] = "",
    verifier: Annotated[
        str, typer.Option("--verifier", metavar="MODE", help="How Driver Verifier watches that driver.")
    ] = "off",
    host: Annotated[
        str,
        typer.Option("--host", metavar="NAME", help="Only there (local: here). Default: where there is room."),
    ] = "",
    passthrough: Annotated[
        list[str] | None,
        typer.Option("--passthrough", metavar="PCI", help="Experimental: give it this network card of the host."),
    ] = None,
    trace: Annotated[
        list[str] | None,
        typer.Option("--trace", metavar="PROVIDER", help="Windows: trace this ETW provider, a name or a GUID."),
    ] = None,
) -> int:
    """Start guests, wait until each is ready, say how to reach it and until when."""
    from wsklab.lease import expiry_after, parse_duration
    from wsklab.trace import check_provider, require_tracing
    from wsklab.verifier import require_ability

    span = parse_duration(ttl)
    providers = tuple(check_provider(text) for text in trace or ())
    existing_file(driver, "a driver image (.sys)")
    if service and driver is None:
        raise UsageError("--service names the service of --driver", why="no driver was given", fix="add --driver FILE")
    if passthrough and (count > 1 or host not in {"", "local"}):
        raise UsageError(
            "--passthrough is for one guest on this host",
            why="a card is in one place",
            fix="leave --count and --host out",
        )
    if verifier != "off" and driver is None:
        raise UsageError("--verifier is for --driver", why="no driver was given", fix="add --driver FILE")
    if name and count > 1:
        raise UsageError("--name and --count do not go together", why="names are unique", fix="leave one of them out")
    if name:
        check_guest_name(name)
    with cli.services.lab(cli.config()) as lab, cli.services.unfinished(lab) as run:
        chosen = one(lab.sources.values(), profile, name=lambda p: p.name, what="profile", listing="wsklab guests")
        require_tracing(chosen, providers)
        if verifier != "off":
            require_ability(chosen, verifier)
        if chosen.static:
            _require_plain(chosen, name=name, count=count, elsewhere=host not in {"", "local"})
        _require_free(lab, name)
        if chosen.has_image:
            cli.services.ensure_image(lab, chosen, cli.output)
        order = _Order(
            profile=chosen, count=count, name=name, expires=expiry_after(span),
            fresh=fresh, driver=driver, service=service, verifier=verifier,
            host="local" if passthrough else host, passthrough=tuple(passthrough or ()), trace=providers,
        )  # fmt: skip
        guests = _make(cli, lab, order, run)
        for guest in guests:
            cli.services.hand_over(guest)
        if not fresh:
            cli.services.refill_spares(lab, chosen.name)
        rows = [describe(cli, lab, guest) for guest in guests]
        ender = lab.lease_ender
    cli.output.document({"guests": rows, "ended_by": ender.kind})
    _tell(cli, rows, ender.words, traced=bool(providers))
    return exits.OK


def _require_plain(machine: GuestProfile, *, name: str, count: int, elsewhere: bool) -> None:
    """Nothing, unless a static machine is wanted as only guests that the lab makes can be had."""
    for wrong, option in ((name, "--name"), (count > 1, "--count"), (elsewhere, "--host")):
        if wrong:
            raise UsageError(
                f"{option} does not go with {machine.name}",
                why="it is one machine, which exists already, under its own name",
                fix=f"leave {option} out",
            )


def _require_free(lab: Lab, name: str) -> None:
    """Nothing, when no guest has the name; asked early, before minutes are spent on an image."""
    if name and any(guest.name == name for guest in lab.guests()):
        raise UsageError(
            f"the name {name} is taken",
            why="a guest of that name exists",
            fix=f"`wsklab down {name}`, or another --name",
            evidence={"name": name},
        )


def _make(cli: Runtime, lab: Lab, order: _Order, run: str) -> list[Guest]:
    """All the guests, ready; when one fails none is left, and the document says what became of each."""
    expected = cli.services.expected_ready_s(lab, order.profile, fresh=order.fresh)
    what = f"guest {order.profile.name}" if order.count == 1 else f"{order.count} guests {order.profile.name}"
    batch = _Batch(cli, lab, order, run)
    try:
        with cli.output.progress(what, expected_s=expected) as step:
            return batch.make(step)
    except LabError as error:
        error.evidence["guests"] = batch.report()
        cli.output.document({"guests": [], "error": error_document(error)})
        if order.count > 1:
            for row in batch.report():
                cli.output.note(f"{row['name']}: {row['state']}; removed again")
        raise


class _Batch:
    """Guests that are being made together, each in a thread of its own."""

    def __init__(self, cli: Runtime, lab: Lab, order: _Order, run: str) -> None:
        self._cli = cli
        self._lab = lab
        self._order = order
        self._run = run
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._guests: list[Guest] = []
        self._states: dict[str, str] = {}
        self._step: Callable[[str], None] = lambda _text: None

    def make(self, step: Callable[[str], None]) -> list[Guest]:
        """Make them all; the first failure, or an interrupt, takes back what was made."""
        self._step = step
        with ThreadPoolExecutor(max_workers=self._order.count, thread_name_prefix="up") as pool:
            futures = [pool.submit(self._one) for _ in range(self._order.count)]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                _raise_first(done)
            except BaseException:
                self._stop.set()
                self._lab.stop_starting()
                self._take_back()  # whoever waits for one of these stops waiting
                wait(futures)
                self._take_back()  # and this is what was just being started
                raise
        return sorted(self._guests, key=lambda guest: guest.name)

    def report(self) -> list[dict[str, str]]:
        """What became of each guest that was begun."""
        with self._lock:
            return [{"name": name, "state": state} for name, state in sorted(self._states.items())]

    def _one(self) -> None:
        """Make one guest."""
        if self._stop.is_set():
            return
        services, order = self._cli.services, self._order
        guest = services.start_guest(
            self._lab,
            order.profile,
            name=order.name,
            expires=order.expires,
            run=self._run,
            fresh=order.fresh,
            host=order.host,
            **({"passthrough": order.passthrough} if order.passthrough else {}),
        )
        with self._lock:
            self._guests.append(guest)
        try:
            self._say(guest, "booting")
            services.wait_ready(self._lab, guest, order.profile, fresh=order.fresh)
            if order.trace:
                self._say(guest, "beginning the trace")
                services.start_trace(guest, order.trace)
            if order.driver is not None:
                self._say(guest, f"loading {order.driver.name}")
                services.deploy(
                    self._lab, guest, order.driver, service=order.service, control=None, start=True,
                    verifier=order.verifier,
                )  # fmt: skip
        except LabError as error:
            if not self._stop.is_set():
                self._say(guest, f"failed: {error.message}")
            raise
        self._say(guest, "ready")

    def _say(self, guest: Guest, state: str) -> None:
        """Note what a guest is doing, and show it."""
        with self._lock:
            self._states[guest.name] = state
            states = list(self._states.values())
        ready = states.count("ready")
        counted = f"{ready} of {self._order.count} ready, " if self._order.count > 1 else ""
        self._step(f"{counted}{guest.name} {state}")

    def _take_back(self) -> None:
        with self._lock:
            guests, self._guests = self._guests, []
        for guest in guests:
            self._cli.services.destroy(self._lab, guest)
            self._cli.cleaned.append(f"guest {guest.name}")


def _raise_first(done: set[Future[None]]) -> None:
    for future in done:
        future.result()


def _tell(cli: Runtime, rows: list[dict[str, object]], ender: str, *, traced: bool) -> None:
    """What a person wants to know: the names, how to get in, until when, and who ends it."""
    now = datetime.now(UTC).astimezone()
    for row in rows:
        method = f"{row['method']}: {row['why']}" if row["why"] else str(row["method"])
        took = "" if row["ready_s"] is None else f" after {row['ready_s']:.1f} s"
        cli.output.line(f"{row['name']}: ready{took} ({method}), yours until {until(str(row['expires']), now=now)}")
        cli.output.line(f"  wsklab ssh {row['name']}    or, from any shell:")
        cli.output.line(f"  {shlex.join(row['ssh'])}")  # type: ignore[arg-type]
    cli.output.line(f"then {ender}; `wsklab extend` keeps, `wsklab down` ends")
    if traced:
        from wsklab.trace import SESSION, TRACE_FILE

        cli.output.line(f"the trace: `wsklab exec NAME -- logman stop {SESSION} -ets`, `wsklab get NAME {TRACE_FILE}`")
