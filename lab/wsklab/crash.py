"""Whose fault it is when a guest stops answering: signals in, one verdict out (design section 9).

`classify` is pure and first: it sees what was gathered and names the cause, from which the case's verdict follows.
`gather` collects the signals of one guest, each bounded, without trusting the guest.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from wsklab.bugcheck import bucket_of, find_on_console
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import DeadlineExceeded, HypervisorError
from wsklab.hypervisor.protocol import Domain, DomainEvent, DomainEventKind, DomainState

__all__ = [
    "Cause",
    "CrashReport",
    "Fault",
    "Signals",
    "bucket_on_console",
    "classify",
    "gather",
    "kernel_died",
    "makes_progress",
]

#: A guest whose processors stood still for longer than this was starved, in seconds: an idle one still takes ticks, but
#: its time is counted in hundredths.
_STARVED_S = 5.0

#: Lines on the console that only a dying kernel or a dying driver host prints.
_KERNEL_DIED = re.compile(
    r"Kernel panic - not syncing|BUG: unable to handle|Oops: |\*\*\* STOP: 0x|general protection fault"
)
_DRIVER_HOST_DIED = re.compile(r"wsklab: driver host died")
#: Weaker: a host that ended without a reason. A driver that failed to start looks so, too.
_DRIVER_HOST_ENDED = re.compile(r"wsklab: driver host ended")
#: The guest looks after its driver host once a second; its word has to come before a provisional verdict is due (3 s).
_LATE_S = 2.5


class Fault(enum.StrEnum):
    """Verdicts of a case that did not end by itself."""

    CRASHED = "crashed"
    HUNG = "hung"
    LAB_ERROR = "lab_error"


class Cause(enum.StrEnum):
    """What it was, finer than a verdict. The last four are faults of the lab: they never count against the driver."""

    DRIVER_CRASH = "driver_crash"
    DRIVER_HANG = "driver_hang"
    KERNEL_CRASH = "kernel_crash"
    CHANNEL_LOST = "channel_lost"
    HOST_FULL = "host_full"
    HOST_STARVED = "host_starved"
    LAB_BUG = "lab_bug"

    @property
    def fault(self) -> Fault:
        """The verdict of a case that it befell."""
        if self in {Cause.DRIVER_CRASH, Cause.KERNEL_CRASH}:
            return Fault.CRASHED
        return Fault.HUNG if self is Cause.DRIVER_HANG else Fault.LAB_ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What is known about a guest at one moment; None means that it could not be asked."""

    domain_state: str
    events: tuple[str, ...] = ()
    console_tail: str = ""
    vcpu_progress: bool | None = None
    agent_answers: bool | None = None
    port_answers: bool | None = None
    channel_lost: bool = False
    operation: str = ""
    expected_stop: bool = False
    #: how long its processors stood still lately although it was running, in seconds
    stood_still_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashReport:
    """What befell a guest, and why that is known.

    Attributes:
        signals: what was seen, for the evidence folder.
        bucket: the group of crashes that it belongs to (`bugcheck.bucket_of`, or the like of it); "" for no crash.
        final: whether the evidence has been looked at; a report that is not may still be amended.
    """

    cause: Cause
    reason: str
    signals: dict[str, object] = field(default_factory=dict)
    bucket: str = ""
    final: bool = False

    @property
    def fault(self) -> Fault:
        """The verdict of the case in flight."""
        return self.cause.fault


def classify(signals: Signals) -> CrashReport:
    """The verdict that the signals allow; a lab fault never counts against the driver."""
    cause, reason = _decide(signals)
    bucket = bucket_on_console(signals.console_tail) if cause.fault is Fault.CRASHED else ""
    return CrashReport(cause=cause, reason=reason, signals=asdict(signals), bucket=bucket)


def kernel_died(text: str) -> bool:
    """Whether some of a console tells of the end of the guest's kernel."""
    return _KERNEL_DIED.search(text) is not None


def bucket_on_console(text: str) -> str:
    """The group of the crash that a console tells of: a stop code, or the words without what differs each time."""
    stop = find_on_console(text)
    if stop is not None:
        return bucket_of(stop)
    lines = [line for line in text.splitlines() if _KERNEL_DIED.search(line) or _DRIVER_HOST_DIED.search(line)]
    if not lines:
        return ""
    words = _KERNEL_DIED.split(lines[0], maxsplit=1) if _KERNEL_DIED.search(lines[0]) else ["", lines[0]]
    told = _KERNEL_DIED.search(lines[0])
    text = (told[0] if told else "") + words[-1]
    text = re.sub(r"^.*driver host died: (winedevice\.exe \d+: )?", "driver host died: ", text)
    text = re.sub(r"\(thread [0-9a-f]+\)", "", text)
    return re.sub(r"\b(?:0x)?[0-9A-Fa-f]{6,16}\b", "N", text).strip()[:120]


def _decide(signals: Signals) -> tuple[Cause, str]:
    """The first finding, strongest evidence first: a death that was seen, then what the host did, then silence."""
    for finding in (_death(signals), _host(signals), _silence(signals)):
        if finding is not None:
            return finding
    return Cause.CHANNEL_LOST, "channel lost: the guest does not answer on any path"


def _death(signals: Signals) -> tuple[Cause, str] | None:
    """Whether the guest's kernel or the driver's host died; a full disk only looks like it."""
    if "io_error" in signals.events:
        return Cause.HOST_FULL, "host full: the guest's disk could not grow, QEMU stopped it"
    died = _KERNEL_DIED.search(signals.console_tail)
    stop = find_on_console(signals.console_tail)
    # the event "crashed" is the end of QEMU itself: then the domain is off, and nobody says that a kernel panicked
    if died or signals.domain_state == DomainState.CRASHED or "panicked" in signals.events:
        told = str(stop) if stop else died[0] if died else "the hypervisor reported a panic"
        return Cause.KERNEL_CRASH, f"the guest's kernel died ({told})"
    host = _DRIVER_HOST_DIED.search(signals.console_tail)
    if host:
        line = signals.console_tail[host.start() :].split("\n", 1)[0]
        return (
            Cause.DRIVER_CRASH,
            f"the driver's host process died ({line.partition('died: ')[2] or 'it said no more'})",
        )
    if "rebooted" in signals.events and not signals.expected_stop:
        return Cause.KERNEL_CRASH, "the guest rebooted although nobody asked it to"
    return None


def _host(signals: Signals) -> tuple[Cause, str] | None:
    """Whether the host or the hypervisor explains it."""
    reasons = {
        DomainState.UNKNOWN: "lab bug: the hypervisor does not answer",
        DomainState.PAUSED: "lab bug: the domain is paused and the lab did not do it",
    }
    if not signals.expected_stop:
        reasons[DomainState.OFF] = (
            "lab bug: the domain is off although nobody stopped it and no crash was seen: QEMU ended"
        )
    for state, reason in reasons.items():
        if signals.domain_state == state:
            return Cause.LAB_BUG, reason
    if signals.vcpu_progress is False:
        return Cause.HOST_STARVED, "starved: the guest's CPUs made no progress"
    if signals.stood_still_s > _STARVED_S:
        return Cause.HOST_STARVED, f"starved: the guest's CPUs stood still for {signals.stood_still_s:.0f} s meanwhile"
    return None


def _silence(signals: Signals) -> tuple[Cause, str] | None:
    """A guest that lives: its driver is gone, or hangs, or only our channel to it broke."""
    if _DRIVER_HOST_ENDED.search(signals.console_tail):
        return Cause.DRIVER_CRASH, "the driver's host process ended and nothing says why"
    answers = bool(signals.agent_answers or signals.port_answers)
    if signals.agent_answers and signals.port_answers is False:
        return Cause.CHANNEL_LOST, "channel lost: the guest is alive, and nobody gets through to its port 22"
    if signals.operation and (answers or not signals.channel_lost):
        return Cause.DRIVER_HANG, f"{signals.operation} is beyond its deadline while the guest is alive"
    if signals.channel_lost and answers:
        return Cause.CHANNEL_LOST, "channel lost: the guest is alive, the control channel broke"
    return None


def gather(
    domain: Domain,
    *,
    events: Sequence[DomainEvent],
    console_tail: Callable[[], str],
    port_answers: Callable[[Deadline], bool],
    channel_lost: bool,
    operation: str,
    deadline: Deadline,
    stood_still_s: float = 0.0,
) -> Signals:
    """Collect the signals of one guest.

    A lost connection can come before the kernel's last words, so the console is read again for a
    second when the channel broke and no death has been seen yet.
    """
    state = _state(domain)
    tail = console_tail()
    if channel_lost and not _tells_of_a_death(tail):
        tail = _late_words(console_tail, deadline)
        state = _state(domain)
    # whoever is dead is not asked: the verdict is there, and each question takes a second
    dead = _KERNEL_DIED.search(tail) or _DRIVER_HOST_DIED.search(tail)
    running = state is DomainState.RUNNING and not dead
    return Signals(
        domain_state=str(state),
        events=tuple(str(event.kind) for event in events if event.kind is not DomainEventKind.AGENT),
        console_tail=tail,
        vcpu_progress=makes_progress(domain, deadline) if running else None,
        agent_answers=_agent(domain, deadline) if running else None,
        port_answers=port_answers(deadline.sooner(2.0)) if running else None,
        channel_lost=channel_lost,
        operation=operation,
        stood_still_s=stood_still_s,
    )


def _state(domain: Domain) -> DomainState:
    try:
        return domain.state()
    except HypervisorError:
        return DomainState.UNKNOWN


def _tells_of_a_death(tail: str) -> bool:
    return any(words.search(tail) for words in (_KERNEL_DIED, _DRIVER_HOST_DIED, _DRIVER_HOST_ENDED))


def _late_words(console_tail: Callable[[], str], deadline: Deadline) -> str:
    """The console's tail, once it tells of a death or the time for late words is over."""

    def look() -> str | NotYet:
        tail = console_tail()
        return tail if _tells_of_a_death(tail) else NotYet("no death on the console")

    try:
        return wait_until(look, deadline.sooner(_LATE_S), what="late words on the console", tick_s=0.01)
    except DeadlineExceeded:
        return console_tail()


def makes_progress(domain: Domain, deadline: Deadline) -> bool | None:
    """Whether the vCPUs used any time within one second (an idle guest still takes timer ticks)."""
    try:
        before = domain.vcpu_time_ns()

        def look() -> bool | NotYet:
            return True if domain.vcpu_time_ns() > before else NotYet("no CPU time used")

        return wait_until(look, deadline.sooner(1.0), what="vCPU progress", tick_s=0.1)
    except DeadlineExceeded:
        return False
    except HypervisorError:
        return None


def _agent(domain: Domain, deadline: Deadline) -> bool:
    try:
        domain.agent_command({"execute": "guest-ping"}, deadline.sooner(2.0))
    except (HypervisorError, DeadlineExceeded):
        return False
    return True
