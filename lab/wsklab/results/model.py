"""What a run writes down: one line per case, one document per run. The formats of the design, section 3."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from wsklab.lease_protocol import KeptGuest, Reset
from wsklab.rules import AssertionClass
from wsklab.verdict import CaseVerdict, RuleVerdict

__all__ = [
    "AssertionResult",
    "CaseResult",
    "CrashRow",
    "GuestResult",
    "MetricResult",
    "ResetRow",
    "RuleResult",
    "RuleRow",
    "RunDocument",
    "TotalRow",
]


class _Model(BaseModel):
    # fields may be added by a later version; a reader of today ignores them
    model_config = ConfigDict(frozen=True, extra="ignore")


class AssertionResult(_Model):
    """One statement of a case about a rule; see `wsklab.verdict.Assertion`."""

    kind: AssertionClass
    name: str
    expected: str
    observed: str
    held: bool
    condition: str = ""
    met: bool = True


class RuleResult(_Model):
    """A rule in one case: the verdict, why, how often the rule's condition arose, and what was seen."""

    rule: str
    verdict: RuleVerdict
    notes: tuple[str, ...] = ()
    met: int = 0
    assertions: tuple[AssertionResult, ...] = ()


class MetricResult(_Model):
    """A number that a performance case stated."""

    name: str
    value: float
    unit: str
    better: Literal["lower", "higher"]


class CaseResult(_Model):
    """One line of `results.jsonl`.

    Attributes:
        case: file and function of the case with its own parameters, the same for every guest.
        item: the pytest node id.
        worker: the xdist worker that ran it, or `main`.
        rerun: whether it is the second attempt after its first worker died.
        seconds: from the granted lease to the end of the tear-down, the reset included.
        exclusive: whether it had its guest for itself.
        reset: what was done to the guest first; `reset_s`: how long that took.
        evidence: the case's folder, relative to the run's; empty when there is none.
        metrics: what a performance case measured.
        cause: what befell a case that did not end by itself (`wsklab.crash.Cause`); "" else.
        bucket: the group of crashes that it belongs to; "" for no crash.
        verdict_s: seconds from the moment that something was seen to be wrong to the provisional verdict;
        evidence_s: to the final one from there.
        decided: the time of that provisional verdict; "" for a case that ended by itself.
        lab_fault: the fault of the lab that ended the first attempt; then this is the second attempt's line.
        second: the line of the second attempt of a case that crashed or hung, alone on a fresh guest; None: no such.
        bystander: the guest that another case lost under it; then this is the second attempt's line.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    case: str
    item: str
    profile: str
    kind: str
    guest: str = ""
    build: str = ""
    verifier: str = "off"
    driver_sha256: str = ""
    verdict: CaseVerdict
    message: str = ""
    rules: tuple[RuleResult, ...] = ()
    worker: str = "main"
    rerun: bool = False
    started: str = ""
    seconds: float = 0.0
    exclusive: bool = False
    reset: Reset = Reset.NONE
    reset_s: float = 0.0
    evidence: str = ""
    metrics: tuple[MetricResult, ...] = ()
    cause: str = ""
    bucket: str = ""
    verdict_s: float = 0.0
    evidence_s: float = 0.0
    decided: str = ""
    lab_fault: str = ""
    second: CaseResult | None = None
    bystander: str = ""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    @property
    def again(self) -> CaseVerdict | None:
        """How the second attempt ended."""
        return self.second.verdict if self.second is not None else None

    @property
    def outcome(self) -> str:
        """The verdict in words, with what the second attempt makes of it: `crashed, reproduced` or `crashed once`."""
        if self.again is None:
            return str(self.verdict)
        if self.again is self.verdict:
            return f"{self.verdict}, reproduced"
        if self.again in {CaseVerdict.LAB_ERROR, CaseVerdict.SKIPPED}:
            return f"{self.verdict}, could not be tried again"
        return f"{self.verdict} once" if self.again is CaseVerdict.PASSED else f"{self.verdict}, then {self.again}"

    def with_second(self, second: CaseResult) -> CaseResult:
        """The line with the outcome of a second attempt; its message begins with both.

        A fault of the lab says nothing about the driver: the second attempt stands for the case, when it has its guest.
        """
        if self.verdict is CaseVerdict.LAB_ERROR and second.verdict is not CaseVerdict.LAB_ERROR:
            told = f"tried again after a fault of the lab ({self.message.splitlines()[0]})"
            return second.model_copy(
                update={
                    "lab_fault": self.message,
                    "message": f"{told}: {second.message}" if second.message else told,
                    "cause": second.cause or self.cause,
                    "started": self.started,
                }
            )
        both = self.model_copy(update={"second": second})
        return both.model_copy(update={"message": f"{both.outcome}: {self.message}"})


class GuestResult(_Model):
    """A guest that took part in a run; `static`: a machine that was there before, and is there still."""

    name: str
    profile: str
    kind: str
    static: bool = False
    method: str = ""
    why: str = ""
    ready_s: float = 0.0
    build: str = ""
    os_version: str = ""
    driver_sha256: str = ""
    verifier: str = "off"


class RuleRow(_Model):
    """A rule's verdict on one sort of guest. `cases` are the ids of the cases that covered it; `static`: on a machine
    that was there before."""

    rule: str
    profile: str
    kind: str
    static: bool = False
    build: str
    verifier: str
    driver_sha256: str
    verdict: RuleVerdict
    cases: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class TotalRow(_Model):
    """How many cases of a profile ended with a verdict."""

    profile: str
    kind: str
    static: bool = False
    verdict: CaseVerdict
    cases: int


class ResetRow(_Model):
    """What the resets of one sort cost the cases of a profile: seconds in all, and of each case by its name."""

    profile: str
    kind: str
    reset: Reset
    cases: int
    seconds: float
    costs: dict[str, float] = Field(default_factory=dict)


class CrashRow(_Model):
    """The crashes of a run that belong to one bucket.

    Attributes:
        bucket: see `wsklab.bugcheck.bucket_of`.
        cases: profile and case of each.
        example: one of them in words.
        first_seen: when this home saw the first of that bucket (RFC 3339, UTC); count: how many since then.
        is_new: whether this run brought it.
    """

    bucket: str
    cases: tuple[str, ...]
    example: str
    first_seen: str = ""
    count: int = 0
    is_new: bool = False


class RunDocument(_Model):
    """What `run --json` prints and `run.json` holds."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    run_id: str
    exit_code: int
    started: str = ""
    wall_s: float
    results_dir: str
    guests: tuple[GuestResult, ...] = ()
    results: tuple[RuleRow, ...] = ()
    totals: tuple[TotalRow, ...] = ()
    resets: tuple[ResetRow, ...] = ()
    crashes: tuple[CrashRow, ...] = ()
    #: how the run was spread; 0 for a run that this lab did not make
    guests_each: int = 0
    workers: int = 0
    #: guests of failed cases that were left to the user
    kept: tuple[KeptGuest, ...] = ()
    #: guests that could not be made, and lab faults outside of any case
    problems: tuple[dict[str, str], ...] = ()
    error: dict[str, Any] | None = None
    #: who brought the run in, and from where; empty for a run of this lab
    imported: str = ""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)
