"""Whose fault it is when a guest stops answering: signals in, one verdict out (design section 9).

`classify` is pure and first: it sees what was gathered and decides `crashed`, `hung` or `lab_error`.
`gather` collects the signals of one guest, each bounded, without trusting the guest.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import DeadlineExceeded, HypervisorError
from wsklab.hypervisor.protocol import Domain, DomainEvent, DomainEventKind, DomainState

__all__ = ["CrashReport", "Fault", "Signals", "classify", "gather"]

#: Lines on the console that only a dying kernel or a dying driver host prints.
_KERNEL_DIED = re.compile(
    r"Kernel panic - not syncing|BUG: unable to handle|Oops: |\*\*\* STOP: 0x|general protection fault"
)
_DRIVER_HOST_DIED = re.compile(r"wsklab: driver host died")
#: Weaker: a host that ended without a reason. A driver that failed to start looks so, too.
_DRIVER_HOST_ENDED = re.compile(r"wsklab: driver host ended")


class Fault(enum.StrEnum):
    """Verdicts of a case that did not end by itself."""

    CRASHED = "crashed"
    HUNG = "hung"
    LAB_ERROR = "lab_error"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashReport:
    """The verdict and why; `signals` for the evidence folder."""

    fault: Fault
    reason: str
    signals: dict[str, object] = field(default_factory=dict)


def classify(signals: Signals) -> CrashReport:
    """The verdict that the signals allow; a lab fault never counts against the driver."""
    fault, reason = _decide(signals)
    return CrashReport(fault=fault, reason=reason, signals=asdict(signals))


def _decide(signals: Signals) -> tuple[Fault, str]:
    """The first finding, strongest evidence first: a death that was seen, then what the host did, then silence."""
    for finding in (_death(signals), _host(signals), _silence(signals)):
        if finding is not None:
            return finding
    return Fault.LAB_ERROR, "channel lost: the guest does not answer on any path"


def _death(signals: Signals) -> tuple[Fault, str] | None:
    """Whether the guest's kernel or the driver's host died; a full disk only looks like it."""
    if "io_error" in signals.events:
        return Fault.LAB_ERROR, "host full: the guest's disk could not grow, QEMU stopped it"
    died = _KERNEL_DIED.search(signals.console_tail)
    if died or signals.domain_state == DomainState.CRASHED or {"crashed", "panicked"} & set(signals.events):
        return Fault.CRASHED, f"the guest's kernel died ({died[0] if died else 'the hypervisor reported a panic'})"
    if _DRIVER_HOST_DIED.search(signals.console_tail):
        return Fault.CRASHED, "the driver's host process died"
    if "rebooted" in signals.events and not signals.expected_stop:
        return Fault.CRASHED, "the guest rebooted although nobody asked it to"
    return None


def _host(signals: Signals) -> tuple[Fault, str] | None:
    """Whether the host or the hypervisor explains it."""
    reasons = {
        DomainState.UNKNOWN: "the hypervisor does not answer",
        DomainState.PAUSED: "the domain is paused and the lab did not do it",
    }
    if not signals.expected_stop:
        reasons[DomainState.OFF] = "the domain is off although nobody stopped it and no crash was seen: QEMU ended"
    for state, reason in reasons.items():
        if signals.domain_state == state:
            return Fault.LAB_ERROR, reason
    if signals.vcpu_progress is False:
        return Fault.LAB_ERROR, "starved: the guest's CPUs made no progress"
    return None


def _silence(signals: Signals) -> tuple[Fault, str] | None:
    """A guest that lives: its driver is gone, or hangs, or only our channel to it broke."""
    if _DRIVER_HOST_ENDED.search(signals.console_tail):
        return Fault.CRASHED, "the driver's host process ended and nothing says why"
    answers = bool(signals.agent_answers or signals.port_answers)
    if signals.operation and (answers or not signals.channel_lost):
        return Fault.HUNG, f"{signals.operation} is beyond its deadline while the guest is alive"
    if signals.channel_lost and answers:
        return Fault.LAB_ERROR, "channel lost: the guest is alive, the control channel broke"
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
) -> Signals:
    """Collect the signals of one guest.

    A lost connection can come before the kernel's last words, so the console is read again for a
    second when the channel broke and no death has been seen yet.
    """
    state = _state(domain)
    tail = console_tail()
    if channel_lost and not _KERNEL_DIED.search(tail) and not _DRIVER_HOST_DIED.search(tail):
        tail = _late_words(console_tail, deadline)
        state = _state(domain)
    running = state is DomainState.RUNNING
    return Signals(
        domain_state=str(state),
        events=tuple(str(event.kind) for event in events if event.kind is not DomainEventKind.AGENT),
        console_tail=tail,
        vcpu_progress=_progress(domain, deadline) if running else None,
        agent_answers=_agent(domain, deadline) if running else None,
        port_answers=port_answers(deadline.sooner(2.0)) if running else None,
        channel_lost=channel_lost,
        operation=operation,
    )


def _state(domain: Domain) -> DomainState:
    try:
        return domain.state()
    except HypervisorError:
        return DomainState.UNKNOWN


def _late_words(console_tail: Callable[[], str], deadline: Deadline) -> str:
    """The console's tail, once it tells of a death or a second has passed."""

    def look() -> str | NotYet:
        tail = console_tail()
        died = _KERNEL_DIED.search(tail) or _DRIVER_HOST_DIED.search(tail)
        return tail if died else NotYet("no death on the console")

    try:
        return wait_until(look, deadline.sooner(1.0), what="late words on the console")
    except DeadlineExceeded:
        return console_tail()


def _progress(domain: Domain, deadline: Deadline) -> bool | None:
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
