"""One case on one guest, from its lease to its line in the results."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

import pytest

from wsklab.artifacts import EvidenceFolder, now, safe_name, visible
from wsklab.channel.operations import DriverRefusal
from wsklab.deadline import Deadline
from wsklab.errors import (
    BugcheckError,
    ChannelLost,
    ChannelProtocolError,
    DeadlineExceeded,
    GuestCommandError,
    GuestError,
    HostError,
    LabError,
)
from wsklab.lease_protocol import GuestHandle, Lease, Reset
from wsklab.pytest_plugin.baseline import Baseline, load_baseline
from wsklab.pytest_plugin.judge import timeline
from wsklab.pytest_plugin.lease_client import BrokerGone
from wsklab.pytest_plugin.leases import Leases, Story
from wsklab.pytest_plugin.links import Links
from wsklab.pytest_plugin.observe import Observe
from wsklab.pytest_plugin.observed import DRIVER_GONE, ObservedClient
from wsklab.pytest_plugin.options import RunOptions
from wsklab.pytest_plugin.schedule import Need
from wsklab.records import Record
from wsklab.results.model import CaseResult, MetricResult, RuleResult
from wsklab.rules import Catalogue
from wsklab.verdict import CaseVerdict, RuleVerdict

__all__ = ["CASE", "Case", "Worker", "case_name"]

#: The verdicts that leave a folder behind.
_WITH_EVIDENCE = frozenset({CaseVerdict.FAILED, CaseVerdict.CRASHED, CaseVerdict.HUNG, CaseVerdict.LAB_ERROR})

#: The verdicts that a story about the guest explains.
_TOLD = frozenset({CaseVerdict.CRASHED, CaseVerdict.HUNG, CaseVerdict.LAB_ERROR})

#: Errors that leave the guest in a state that nobody knows; a failed command does not.
_DIRTYING = (GuestError, DeadlineExceeded, HostError)

#: How long a driver gets to show that it is there, in seconds before scaling.
_LOOK_S = 1.0

#: What an exception of a case means, the first that applies; a lost channel and a deadline need an explanation.
_MEANING: Mapping[type[BaseException], CaseVerdict] = MappingProxyType(
    {
        BugcheckError: CaseVerdict.CRASHED,
        GuestError: CaseVerdict.FAILED,
        AssertionError: CaseVerdict.FAILED,
    }
)


@dataclass(slots=True)
class Worker:
    """What one worker (or the controller, without xdist) has for its cases."""

    options: RunOptions
    catalogue: Catalogue
    leases: Leases
    links: Links
    name: str = "main"
    #: what is known of a profile, by its file: read once, it has a thousand lines
    baselines: dict[Path | None, Baseline] = field(default_factory=dict)
    #: set when the broker is gone: nothing more can be run
    over: str = ""
    #: shows a line to whoever watches; None: nobody does
    tell: Callable[[str], None] | None = None

    def baseline(self, path: Path | None) -> Baseline:
        """The known deviations of a guest profile; see `load_baseline` for the errors."""
        if path not in self.baselines:
            self.baselines[path] = load_baseline(path, self.catalogue)
        return self.baselines[path]


@dataclass(slots=True)
class Case:
    """The state of one item; filled by the fixtures, read when the item is torn down."""

    item: str
    case: str
    profile: str
    rules: tuple[str, ...]
    worker: Worker
    need: Need
    lease: Lease | None = None
    observe: Observe | None = None
    clients: list[ObservedClient] = field(default_factory=list)
    metrics: list[MetricResult] = field(default_factory=list)
    verdict: CaseVerdict = CaseVerdict.PASSED
    message: str = ""
    dirty: bool = False
    settled: bool = False
    reset_s: float = 0.0
    why_not: str = ""  # why it would hang or raise on this guest, so that it is not run
    left_out: bool = False  # what it needs is not there, or it is a hazard that was not asked for
    story: Story | None = None
    #: the guest that the story is about
    blamed: str = ""
    verdict_s: float = 0.0
    evidence_s: float = 0.0
    decided: str = ""
    #: the second attempt of a case that crashed or hung, alone on a fresh guest
    again: bool = False
    started: str = field(default_factory=now)
    _clock: float = field(default_factory=time.monotonic)

    @property
    def handle(self) -> GuestHandle | None:
        """The leased guest; the first one when the case has several."""
        return self.lease.guests[0] if self.lease else None

    @property
    def is_suspect(self) -> bool:
        """Whether it is to be run once more, to see whether it was the case or the moment."""
        # of the faults of the lab those that befell its guest: others would come again
        told = self.verdict is CaseVerdict.LAB_ERROR and self.story is not None
        ended = self.verdict in {CaseVerdict.CRASHED, CaseVerdict.HUNG} or told
        return ended and self.worker.options.again and not self.again and not self.worker.over

    # ---- lease

    def acquire(self) -> GuestHandle:
        """Wait for the guests; see `Broker.acquire` for the errors."""
        options = self.worker.options
        self.lease = self.worker.leases.acquire(
            self.need.profiles,
            exclusive=self.need.exclusive,
            reset=self.need.reset,
            again=self.again,
            deadline=Deadline.after(options.lease_s * options.scale),
        )
        self.reset_s = self.lease.reset_s
        self._clock = time.monotonic() - self.reset_s
        self.started = now()
        return self.lease.guests[0]

    def restart_driver(self) -> None:
        """Take the rung of the reset ladder that is the worker's: the driver, loaded anew in all guests."""
        if self.lease is None or self.need.reset is not Reset.DRIVER:
            return
        started = time.monotonic()
        for handle in self.lease.guests:
            self.worker.links.get(handle).restart_driver()
        self.reset_s += time.monotonic() - started

    def release(self) -> None:
        """Give the guest back, dirty when the case left it in a state that nobody knows."""
        if self.lease is None:
            return
        self._conclude()
        if self.dirty:
            for handle in self.lease.guests:
                self.worker.links.drop(handle.name)
        failed = self.verdict in {CaseVerdict.FAILED, CaseVerdict.CRASHED, CaseVerdict.HUNG}
        self.worker.leases.release(
            self.lease,
            dirty=self.dirty,
            reason=f"{self.item}: {self._first_line()}"[:500],
            keep=(failed and self.worker.options.keep_failed and not self.again) or self.worker.options.keep_all,
        )

    def _conclude(self) -> None:
        """Have the evidence of the guests taken while they are there; it may amend what was said at first."""
        if self.lease is None or self.verdict not in _WITH_EVIDENCE:
            return
        begun = time.monotonic()
        for number, handle in enumerate(self.lease.guests):
            place = self.folder if number == 0 else self.folder / f"guest-{number + 1}"
            try:
                final = self.worker.leases.conclude(handle.name, place)
            except LabError as error:
                EvidenceFolder(place).text("sources.txt", f"{error.message}: {error.why}\n")
                continue
            if final is None or self.story is None or handle.name != self.blamed:
                continue
            if final.reason != self.story.reason:
                self.message = visible(self.message.replace(self.story.reason, final.reason))
            self.story = final
        self.evidence_s = time.monotonic() - begun

    # ---- verdict

    def fail(self, error: BaseException) -> None:
        """Take the verdict that an exception of the case means; the first one counts."""
        verdict, message = self._verdict_of(error)
        unclean = isinstance(error, _DIRTYING) and not isinstance(error, GuestCommandError)
        if unclean or verdict in {CaseVerdict.CRASHED, CaseVerdict.HUNG}:
            self.dirty = True
        if self.verdict in {CaseVerdict.PASSED, CaseVerdict.SKIPPED} or verdict is CaseVerdict.CRASHED:
            self.verdict = verdict
            self.message = visible(message)

    def skip(self, reason: str) -> None:
        """The case was left out; for lack of something that the run requires, that is an error of the lab."""
        if self.verdict is not CaseVerdict.PASSED:
            return
        missing = [word for word in self.worker.options.require if word in reason]
        self.verdict = CaseVerdict.LAB_ERROR if missing else CaseVerdict.SKIPPED
        self.message = visible(f"{', '.join(missing)} is required: {reason}" if missing else reason)

    def _verdict_of(self, error: BaseException) -> tuple[CaseVerdict, str]:
        if isinstance(error, BrokerGone):
            self.worker.over = _said(error)
        if isinstance(error, AssertionError):
            # a guest that dies under a case shows first as something that does not hold
            error = self._gone() or error
        if isinstance(error, ChannelLost | ChannelProtocolError):
            return self._explained(error, operation="", channel_lost=True)
        if isinstance(error, DriverRefusal) and error.status in DRIVER_GONE:
            self.dirty = True
            return self._explained(error, operation="", channel_lost=True)
        if isinstance(error, DeadlineExceeded):
            return self._explained(error, operation=error.what, channel_lost=False)
        # anything that is not in the table is a fault of the case or of the lab; it never counts against the driver
        return next(
            (verdict for kind, verdict in _MEANING.items() if isinstance(error, kind)), CaseVerdict.LAB_ERROR
        ), _said(error)

    def _gone(self) -> GuestError | None:
        """What a look at the driver of a case that failed gives, when the driver is not there any more."""
        for client in self.clients:
            if client.finished:
                continue
            try:
                client.ledger(Deadline.after(_LOOK_S * self.worker.options.scale))
            except (ChannelLost, ChannelProtocolError) as lost:
                return lost
            except DriverRefusal as refusal:
                if refusal.status in DRIVER_GONE:
                    return refusal
            except (LabError, DeadlineExceeded):
                continue
        return None

    def _explained(self, error: LabError, *, operation: str, channel_lost: bool) -> tuple[CaseVerdict, str]:
        if self.lease is None:
            return CaseVerdict.LAB_ERROR, _said(error)
        noticed = time.monotonic()
        try:
            # the driver is asked first: it cannot be when its guest is put away
            operation = (self._outstanding() or operation) if operation else ""
            stories = {
                handle.name: self.worker.leases.explain(handle.name, operation=operation, channel_lost=channel_lost)
                for handle in self.lease.guests
            }
        except LabError as silent:
            return CaseVerdict.LAB_ERROR, f"{_said(error)}; nobody can explain it: {silent.message}"
        # of several guests one is to blame: a death explains more than a hang, a hang more than a broken channel
        self.verdict_s = time.monotonic() - noticed
        self.decided = now()
        self.blamed, story = min(
            stories.items(), key=lambda told: ("crashed", "hung", told[1].fault).index(told[1].fault)
        )
        self.story = story
        known = {verdict.value: verdict for verdict in (CaseVerdict.CRASHED, CaseVerdict.HUNG, CaseVerdict.LAB_ERROR)}
        return known.get(story.fault, CaseVerdict.LAB_ERROR), f"{story.reason} ({_said(error)})"

    def _outstanding(self) -> str:
        return ", ".join(filter(None, (client.outstanding() for client in self.clients)))

    def settle(self) -> None:
        """End everything that the case started, then judge it; raises what `ObservedClient.settle` raises."""
        __tracebackhide__ = True
        self.settled = True
        for client in self.clients:
            if not client.finished:
                client.settle()
        assert self.observe is not None
        self.observe.conclude()

    def judge(self) -> None:
        """Judge what has ended, after the case failed: nothing is awaited any more."""
        for client in self.clients:
            if not client.finished:
                client.judge()

    def records(self) -> list[Record]:
        """The records of all clients of the case."""
        return [record for client in self.clients for record in client.records]

    def whole_timeline(self) -> list[str]:
        """The timeline at the moment of a failure: what the driver has heard since is fetched first."""
        for client in self.clients:
            if not client.finished:
                client.look_back()
        return self.timeline()

    def timeline(self) -> list[str]:
        """The timeline of all clients of the case."""
        return timeline(self.records(), [event for client in self.clients for event in client.heard.events])

    # ---- result

    def result(self) -> CaseResult:
        """The line of the run; writes the evidence folder of a case that turned out badly."""
        handle = self.handle
        evidence = self._keep_evidence() if self.verdict in _WITH_EVIDENCE else ""
        return CaseResult(
            case=self.case,
            item=self.item,
            profile=self.profile,
            kind=handle.kind if handle else self.worker.options.kind(self.profile),
            guest=handle.name if handle else "",
            build=handle.build if handle else "",
            verifier=handle.verifier if handle else "off",
            driver_sha256=handle.driver_sha256 if handle else "",
            verdict=self.verdict,
            message=self.message,
            rules=self._rules(),
            worker=self.worker.name,
            started=self.started,
            seconds=round(time.monotonic() - self._clock, 3),
            exclusive=self.lease is not None and self.lease.exclusive,
            reset=self.need.reset,
            reset_s=round(self.reset_s, 3),
            evidence=evidence,
            verdict_s=round(self.verdict_s, 3),
            evidence_s=round(self.evidence_s, 3),
            decided=self.decided,
            metrics=tuple(self.metrics),
            cause=self.story.cause if self.story is not None and self.verdict in _TOLD else "",
            bucket=self.story.bucket if self.story is not None and self.verdict is CaseVerdict.CRASHED else "",
        )

    def leave_out(self, why: str) -> NoReturn:
        """Skip the case because of the run, not of the guest: the rest of its rules' cases decide without it."""
        self.left_out = True
        pytest.skip(why)

    def _rules(self) -> tuple[RuleResult, ...]:
        first = self._first_line()
        if self.observe is not None and not self.left_out:
            return self.observe.results(self.verdict, first)
        # the case never began: nothing was observed
        verdict = RuleVerdict.NOT_RUN if self.verdict is CaseVerdict.SKIPPED else RuleVerdict.LAB_ERROR
        told = self.rules
        if self.left_out:
            # a part of a rule that was left out takes nothing from the rest of the rule
            told = tuple(rule for rule in told if self.worker.catalogue.get(rule).hazard == "all")
        return tuple(RuleResult(rule=rule_id, verdict=verdict, notes=(first,)) for rule_id in told)

    def _first_line(self) -> str:
        return self.message.splitlines()[0] if self.message else ""

    @property
    def folder(self) -> Path:
        """The case's folder of evidence; it exists only when there is some."""
        options = self.worker.options
        name = safe_name(f"{self.profile}-{self.case}{'-again' if self.again else ''}")
        return (options.results / options.run_id / "evidence" / name).absolute()

    def _keep_evidence(self) -> str:
        options = self.worker.options
        folder = EvidenceFolder(self.folder)
        folder.text("message.txt", self.message + "\n")
        folder.json("records.json", [record.to_json() for record in self.records()])
        never = [f"sent, and its end was never seen: {line}" for client in self.clients for line in client.unfinished()]
        folder.text("timeline.txt", "\n".join([*self.timeline(), *never]) + "\n")
        if self.observe is not None:
            folder.text("rules.txt", self.observe.explain() + "\n")
        if self.story is not None:
            folder.json("fault.json", self.story.document())
        if self.handle is not None:
            folder.json("handle.json", self.handle.model_dump(mode="json"))
        folder.reproduce(
            options.reproduce,
            profiles=self.need.profiles or (self.profile,),
            case=self.case,
            run_id=options.run_id,
            keep=options.kind(self.profile) != "shim",  # such a guest ends with its run
        )
        return str(Path("evidence") / self.folder.name)


#: Where an item keeps its case.
CASE: pytest.StashKey[Case] = pytest.StashKey()


def _said(error: BaseException) -> str:
    """An error in one line; the whole text of an assertion."""
    if isinstance(error, LabError):
        return f"{error.message}: {error.why}" if error.why else error.message
    if isinstance(error, AssertionError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}"


def case_name(item: str, profile: str) -> str:
    """File and function with its own parameters, without the profile: the same on every guest.

    Args:
        item: a pytest node id.
    """
    path, _, name = item.partition("::")
    function, bracket, parameters = name.partition("[")
    own = parameters.removesuffix("]").removeprefix(profile).removeprefix("-")
    return f"{Path(path).name}::{function}" + (f"[{own}]" if bracket and own else "")
