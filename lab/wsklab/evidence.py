"""What is kept of a guest when a case ended badly on it, and what that amends of the first verdict.

Every source is tried for itself, bounded in time, and a source that fails is named in `sources.txt`: a guest that is
half dead gives what it still can. The log of a driver on Wine is read by the guest agent, which answers sooner than an
emulated processor has made the keys of an SSH connection, and where that does not work a command fetches it, over the
agent or SSH. With Windows, where not every guest has an agent, SSH comes first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from wsklab.artifacts import EvidenceFolder, visible
from wsklab.bugcheck import Bugcheck, bucket_of
from wsklab.capture import Capture
from wsklab.channel.agent import AgentChannel, GuestAgent
from wsklab.channel.protocol import Runs
from wsklab.crash import Cause, CrashReport, Fault
from wsklab.deadline import Deadline, Timeouts
from wsklab.dumps import take_dump
from wsklab.errors import DeadlineExceeded, GuestCommandError, GuestError, HostError, LabError
from wsklab.guest import Guest
from wsklab.picture import as_png
from wsklab.symbols import symbol_at
from wsklab.trace import fetch_trace
from wsklab.wine_crash import find_wine_crash

__all__ = ["Collector", "way_in"]

#: How long one source may take, in seconds before scaling.
_SOURCE_S: Final = 3.0
#: Reading a dump out of a guest's disk and looking through it.
_DUMP_S: Final = 120.0
#: Ending a trace session and copying its file.
_TRACE_S: Final = 30.0

#: Where a wine guest keeps what its drivers say, and, numbered, the end of that at the death of each driver host.
_WINE_LOGS: Final = "/var/log/wsklab"
# What is read of a log, and of that kept: where the drivers were loaded was said long before the end, mostly in the
# beginning, and without it a fault is in no module.
_BEGINNING: Final = 1 << 16
_LOADED: Final = re.compile(rb' Loaded L"[^"\n]*(?:\.sys|ntoskrnl\.exe)"')
_LOADED_MAX: Final = 200
_END: Final = 30000
_END_BESIDE_CRASH: Final = 8000
_CRASHES_MAX: Final = 20

# The same where the agent reads no file. On a busy host each process that an emulated guest starts costs the better
# part of a second, so they are few.
_WINE_LOG: Final = (
    f"linux: cd {_WINE_LOGS}; "
    """grep -aEm 200 ' Loaded L"[^"]*(\\.sys|ntoskrnl\\.exe)"' wine.log; """
    """set -- $(ls -t crash-*.log 2>/dev/null); tail -c 30000 "$1" 2>/dev/null; tail -c 8000 wine.log"""
)
_WINDOWS_LOG: Final = "wevtutil qe System /c:200 /rd:true /f:text"


@contextlib.contextmanager
def way_in(guest: Guest, deadline: Deadline, *, share: float = 0.5) -> Iterator[tuple[Runs, str]]:
    """A way into a guest: by SSH, or, where that is gone, by the guest agent; and which it is, with the reason.

    Args:
        share: the part of the deadline after which SSH is given up.

    Raises:
        HostError, GuestError, DeadlineExceeded: neither leads in; what SSH said.
    """
    try:
        channel = guest.open_channel(deadline.sooner(deadline.remaining_s * share))
    except (GuestError, HostError, DeadlineExceeded) as error:
        agent = GuestAgent(guest.domain.agent_command)
        try:
            agent.wait(deadline)
        except LabError:
            raise error from None  # neither leads in: what the first way said is what people know
        yield AgentChannel(agent, guest.record.kind), f"guest agent, because SSH failed: {error.message}"
        return
    with channel:
        yield channel, "SSH"


class Collector:
    """Fills the evidence folder of a case with what one guest has to say.

    Args:
        symbols: the debug file of the driver that the guest runs; None where there is none.
        driver: the file name that the driver's image begins with, without its suffix.
        trace: the providers that guests are traced by.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        *,
        symbols: Path | None = None,
        driver: str = "wsklab",
        trace: Sequence[str] = (),
    ) -> None:
        self._timeouts = timeouts
        self._symbols = symbols
        self._driver = driver
        self._trace = tuple(trace)

    def collect(
        self, guest: Guest, report: CrashReport | None, folder: Path, *, capture: Capture | None
    ) -> CrashReport | None:
        """Take everything that can be had; the report as the evidence amends it.

        Args:
            report: the provisional report; None for a case that failed on a guest that lives.
            capture: the packets of the guest's wire.
        """
        kept = EvidenceFolder(folder)
        sources: list[str] = []
        final = report
        with _telling(sources, "console"):
            kept.text("console.log", guest.console.text())
        for name in ("domain.xml", "guest.json"):
            with _telling(sources, name):
                kept.copy(name, guest.directory / name)
        if capture is not None:
            with _telling(sources, "packets"):
                sources.append(f"packets: {capture.save(kept.path / 'capture.pcap')} of the guest's wire, without SSH")
        else:
            sources.append("packets: none, this host gives no access to the guest's wire")
        with _telling(sources, "screen"):
            (kept.path / "screen.png").write_bytes(as_png(guest.domain.screenshot()))
        if report is None or report.cause is not Cause.KERNEL_CRASH:
            log = self._log(guest, kept, sources)
            self._take_trace(guest, kept, sources)
            if report is not None and report.fault is Fault.CRASHED:
                final = self._placed(report, log)
        elif guest.record.kind == "windows":
            final = self._with_dump(guest, report, kept, sources)
        kept.text("sources.txt", "\n".join(sources) + "\n")
        return dataclasses.replace(final, final=True) if final is not None else None

    def _log(self, guest: Guest, kept: EvidenceFolder, sources: list[str]) -> str:
        """The driver's own log, or that of Windows; "" when it cannot be had."""
        wine = guest.record.kind == "wine"
        name = "driver.log" if wine else "events.txt"
        command = _WINE_LOG if wine else _WINDOWS_LOG
        with _telling(sources, name), contextlib.ExitStack() as ways:
            found = self._by_agent(guest, command) if wine else None
            if found is None:
                way, which = ways.enter_context(way_in(guest, self._timeouts.after(_SOURCE_S)))
                found = way.run(command, self._timeouts.after(_SOURCE_S), check=False).stdout, which
            text, which = found
            kept.text(name, text)
            sources.append(f"{name}: by {which}")
            return text
        return ""

    def _by_agent(self, guest: Guest, command: str) -> tuple[str, str] | None:
        """What a command would say, over the guest agent, and by whom; None where nobody answers."""
        agent = GuestAgent(guest.domain.agent_command)
        deadline = self._timeouts.after(_SOURCE_S / 2)
        try:
            with contextlib.suppress(GuestError):  # it reads no files, or not this one
                log = _read_wine_log(agent, deadline)
                crash = find_wine_crash(log)
                if crash is None or crash.module or crash.bugcheck is not None:  # a stop names no module
                    return log, "guest agent"
            way = AgentChannel(agent, guest.record.kind)
            return way.run(command, deadline, check=False).stdout, "guest agent"
        except LabError:
            return None

    def _take_trace(self, guest: Guest, kept: EvidenceFolder, sources: list[str]) -> None:
        """What the providers said of the guest since it was ready, or since it was last taken."""
        if not self._trace:
            return
        deadline = self._timeouts.after(_TRACE_S)
        with _telling(sources, "trace"), guest.open_channel(deadline) as channel:
            fetch_trace(channel, self._trace, kept.path / "trace.etl", deadline)
            sources.append(f"trace: trace.etl of {', '.join(self._trace)}")

    def _placed(self, report: CrashReport, log: str) -> CrashReport:
        """The report of a crash with the place that the log names, in the driver's own words where it is the driver."""
        crash = find_wine_crash(log)
        if crash is None:
            return report
        place = f"{crash.module}+0x{crash.offset:x}" if crash.module else ""
        function = self._function(crash.module, crash.offset)
        words = f"{crash.what}{f' in {place}' if place else ''}{f', {function[1]}' if function else ''}"
        return dataclasses.replace(
            report,
            reason=f"the driver's host process died: {visible(words, 400)}",
            bucket=crash.bucket(function[0] if function else ""),
        )

    def _function(self, module: str, offset: int) -> tuple[str, str] | None:
        """Function and its line at a place of our driver, where its debug file is here."""
        if self._symbols is None or not module.startswith(self._driver):
            return None
        try:
            symbol = symbol_at(self._symbols, offset, self._timeouts.after(_SOURCE_S))
        except LabError:
            return None
        # the folder of the build says nothing; what is behind "/./" is the path in the driver's sources
        return (symbol.function, str(symbol).replace(symbol.line, symbol.line.rpartition("/./")[2])) if symbol else None

    def _with_dump(self, guest: Guest, report: CrashReport, kept: EvidenceFolder, sources: list[str]) -> CrashReport:
        """The report with what the crash dump says; see `dumps.take_dump` for where it comes from."""
        with _telling(sources, "dump"):
            taken = take_dump(guest, kept.path, self._timeouts.after(_DUMP_S), tell=sources.append)
            if taken is None:
                return report
            place = taken.report.first_of(f"{self._driver}.sys") or taken.report.culprit
            function = self._function(place.module.lower(), place.offset) if place is not None else None
            kept.json("dump.json", {"source": taken.source, **dataclasses.asdict(taken.report)})
            stop: Bugcheck = taken.report.bugcheck
            where = f" in {place}" if place is not None else ""
            return dataclasses.replace(
                report,
                reason=f"the guest's kernel died: {stop}{where}{f', {function[1]}' if function else ''}",
                bucket=bucket_of(
                    stop,
                    module=place.module if place is not None else "",
                    function=function[0] if function else "",
                    offset=place.offset if place is not None else None,
                ),
            )
        return report


def _read_wine_log(agent: GuestAgent, deadline: Deadline) -> str:
    """What `_WINE_LOG` brings, without a process in the guest.

    A driver that was loaded when the log was long already is missed.

    Raises:
        GuestCommandError: there is no log. HypervisorError, DeadlineExceeded: the agent is gone.
    """
    name = f"{_WINE_LOGS}/wine.log"
    beginning = end = agent.read_file(name, deadline, limit=_BEGINNING)
    if len(beginning) == _BEGINNING:
        end = agent.read_file(name, deadline, limit=_END, end=True)
    crash = b""
    with contextlib.suppress(GuestCommandError):
        for number in range(1, _CRASHES_MAX + 1):
            crash = agent.read_file(f"{_WINE_LOGS}/crash-{number}.log", deadline, limit=_END, end=True)
    loaded = [line for line in beginning.splitlines(keepends=True) if _LOADED.search(line)][:_LOADED_MAX]
    end = end[-_END_BESIDE_CRASH if crash else -_END :]
    return b"".join([*loaded, crash, end]).decode("utf-8", "replace")


@contextlib.contextmanager
def _telling(sources: list[str], what: str) -> Iterator[None]:
    """Around one source: one that fails is named, and the next one is tried."""
    try:
        yield
    except (LabError, OSError) as error:
        why = f"{error.message}: {error.why}" if isinstance(error, LabError) and error.why else str(error)
        sources.append(f"{what}: none, {visible(why, 300)}")
