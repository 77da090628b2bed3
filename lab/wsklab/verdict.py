"""From observations to verdicts. Pure functions; no case, no guest, no file.

Three levels. An *assertion* of a rule held or not. The assertions of one rule in one case, seen against the
guest profile's baseline, give a `RuleVerdict`. The verdicts of a rule's cases on one guest combine to the one
that a report shows. Cases have verdicts of their own (`CaseVerdict`); both decide the exit code.

Never met is vacuous, not passed; also in part. An assertion may have a condition of its own (the half of a rule
that speaks of DISPATCH_LEVEL). Where it does not arise, the assertion says nothing; and a rule with a MUST that no
case of the run could show on a guest is vacuous there, however well its other parts held.
"""

from __future__ import annotations

import enum
import fnmatch
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from wsklab.rules import AssertionClass, Catalogue, Rule

__all__ = [
    "Assertion",
    "CaseVerdict",
    "Gap",
    "RuleJudgement",
    "RuleObservation",
    "RuleVerdict",
    "Said",
    "apply_twins",
    "combine",
    "exit_code",
    "judge",
    "not_shown",
    "with_case_verdict",
    "worst",
]


class CaseVerdict(enum.StrEnum):
    """How a case ended."""

    PASSED = "passed"
    FAILED = "failed"
    CRASHED = "crashed"
    HUNG = "hung"
    SKIPPED = "skipped"
    LAB_ERROR = "lab_error"


class RuleVerdict(enum.StrEnum):
    """What is known about a rule on a guest; in order, the worst first."""

    CRASHED = "crashed"
    HUNG = "hung"
    FAILED = "failed"
    UNEXPECTED_PASS = "unexpected_pass"  # noqa: S105 - a verdict
    DISPUTED = "disputed"
    LAB_ERROR = "lab_error"
    NOT_IMPLEMENTED = "not_implemented"
    NOT_RUN = "not_run"
    VACUOUS = "vacuous"
    DEVIATION = "deviation"
    GAP = "gap"
    RECORDED = "recorded"
    PASSED = "passed"

    @property
    def severity(self) -> int:
        """0 for the worst; grows towards `passed`."""
        return list(RuleVerdict).index(self)


#: Rule verdicts that are findings: exit code 1.
FINDINGS = frozenset(
    {
        RuleVerdict.CRASHED,
        RuleVerdict.HUNG,
        RuleVerdict.FAILED,
        RuleVerdict.UNEXPECTED_PASS,
        RuleVerdict.DISPUTED,
    }
)

#: Rule verdicts that say something about the guest; a run without any has decided nothing.
DECIDED = FINDINGS | {RuleVerdict.DEVIATION, RuleVerdict.GAP, RuleVerdict.RECORDED, RuleVerdict.PASSED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """One statement of a case about a rule.

    Attributes:
        name: what is asserted, stable between runs: a baseline gap refers to it.
        expected: what a correct subsystem shows, in words.
        observed: what was seen; compared letter by letter with a baseline, so without times or addresses.
        condition: what this part of the rule presupposes beyond the rule itself ("called at DISPATCH_LEVEL").
        met: whether that condition arose; when it did not, what was seen proves nothing, either way.
    """

    kind: AssertionClass
    name: str
    expected: str
    observed: str
    held: bool
    condition: str = ""
    met: bool = True


class Said(Protocol):
    """An assertion, as a case made it or as a run's file holds it."""

    @property
    def kind(self) -> AssertionClass:
        """What a deviation of it means."""

    @property
    def name(self) -> str:
        """What is asserted."""

    @property
    def condition(self) -> str:
        """What it presupposes."""

    @property
    def met(self) -> bool:
        """Whether that arose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A known deviation of a guest profile: which rule, why, and exactly what is seen instead.

    `observed` maps the name of an assertion (or a glob over names) to the observation that is the gap.
    Any other deviation of that assertion is a failure, and none at all is an unexpected pass.
    """

    rule: str
    reason: str
    observed: Mapping[str, str]

    def expects(self, name: str) -> str | None:
        """The observation that this gap predicts for an assertion, or None when it says nothing of it."""
        for pattern, observation in self.observed.items():
            if name == pattern or fnmatch.fnmatchcase(name, pattern):
                return observation
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleObservation:
    """All that one case saw of one rule.

    Attributes:
        met: how often the rule's antecedent was met.
        not_run: why the rule's provocation was left out (it would hang or raise); empty when it was not.
        not_implemented: which operation the driver does not have yet; empty when it has all.
    """

    rule: str
    met: int = 0
    assertions: tuple[Assertion, ...] = ()
    not_run: str = ""
    not_implemented: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleJudgement:
    """A verdict with the sentences that explain it."""

    rule: str
    verdict: RuleVerdict
    notes: tuple[str, ...] = ()


def worst(verdicts: Iterable[RuleVerdict]) -> RuleVerdict:
    """The worst of some verdicts; `vacuous` for none at all."""
    return min(verdicts, key=lambda verdict: verdict.severity, default=RuleVerdict.VACUOUS)


def judge(observation: RuleObservation, rule: Rule, *, kind: str, gaps: Collection[Gap] = ()) -> RuleJudgement:
    """The verdict of one rule in one case.

    Args:
        kind: the kind of guest; on `windows` a failure of a rule that nobody has confirmed there is `disputed`.
        gaps: the profile's baseline; those of other rules are ignored.
    """
    own = tuple(gap for gap in gaps if gap.rule == rule.id)
    verdicts: list[RuleVerdict] = []
    notes: list[str] = []
    for assertion in observation.assertions:
        verdict, note = _judge_assertion(assertion, own)
        if verdict is RuleVerdict.FAILED and kind == "windows" and not rule.has_windows_witness:
            verdict = RuleVerdict.DISPUTED
            note += "; nobody has seen this rule hold on Windows yet: driver, rule or Windows?"
        verdicts.append(verdict)
        if note:
            notes.append(note)
    for left_out, reason in (
        (RuleVerdict.NOT_RUN, observation.not_run),
        (RuleVerdict.NOT_IMPLEMENTED, observation.not_implemented),
    ):
        if reason:
            verdicts.append(left_out)
            notes.append(reason)
    if not verdicts:
        return _judgement(observation, RuleVerdict.VACUOUS, "the rule's condition never arose")
    met = [verdict for verdict in verdicts if verdict is not RuleVerdict.VACUOUS]
    checked = [verdict for verdict in met if verdict is not RuleVerdict.RECORDED]
    return _judgement(observation, worst(checked or met), *notes)


def _judge_assertion(assertion: Assertion, gaps: Collection[Gap]) -> tuple[RuleVerdict, str]:
    """The verdict of one assertion, and a sentence when it is not a plain pass."""
    if not assertion.met or assertion.kind is AssertionClass.RECORD:
        return (RuleVerdict.RECORDED if assertion.met else RuleVerdict.VACUOUS), ""
    gap, predicted = next(
        ((gap, seen) for gap in gaps if (seen := gap.expects(assertion.name)) is not None), (None, None)
    )
    said = f"{assertion.name}: expected {assertion.expected}, observed {assertion.observed}"
    if assertion.held:
        if gap is not None:
            return (
                RuleVerdict.UNEXPECTED_PASS,
                f"{said}; the baseline expects the gap {predicted!r} ({gap.reason}): remove it from the baseline",
            )
        return RuleVerdict.PASSED, ""
    if gap is not None and predicted == assertion.observed:
        return RuleVerdict.GAP, f"{said}; known: {gap.reason}"
    if gap is not None:
        said += f"; the baseline expects {predicted!r}"
    if assertion.kind is AssertionClass.EXPECT:
        return RuleVerdict.DEVIATION, said
    return RuleVerdict.FAILED, said


def _judgement(observation: RuleObservation, verdict: RuleVerdict, *notes: str) -> RuleJudgement:
    return RuleJudgement(rule=observation.rule, verdict=verdict, notes=notes)


#: What a case's end does to the rules that it covers, apart from what it saw of them.
_CASE_EFFECT = {
    CaseVerdict.CRASHED: RuleVerdict.CRASHED,
    CaseVerdict.HUNG: RuleVerdict.HUNG,
    CaseVerdict.LAB_ERROR: RuleVerdict.LAB_ERROR,
    CaseVerdict.SKIPPED: RuleVerdict.NOT_RUN,
}


def with_case_verdict(judgement: RuleJudgement, case: CaseVerdict, message: str) -> RuleJudgement:
    """A rule's verdict after its case ended as `case`: a crash, a hang or a lab fault is never lost.

    A failed case changes nothing here: a failure belongs to the rule whose assertion failed.
    """
    effect = _CASE_EFFECT.get(case)
    if effect is None or effect.severity >= judgement.verdict.severity:
        return judgement
    return RuleJudgement(rule=judgement.rule, verdict=effect, notes=(*judgement.notes, message))


def combine(verdicts: Iterable[RuleVerdict], *, shown: bool = True) -> RuleVerdict:
    """One rule's verdict on one guest from those of its cases: the worst.

    `vacuous` counts over the run: a case in which the condition did not arise takes nothing from one in which
    it did.

    Args:
        shown: whether each MUST of the rule was shown by some case (`not_shown` names the others).
    """
    seen = tuple(verdicts)
    met = tuple(verdict for verdict in seen if verdict is not RuleVerdict.VACUOUS)
    return worst(met or seen) if shown else worst((*met, RuleVerdict.VACUOUS))


def not_shown(said: Iterable[Said]) -> tuple[str, ...]:
    """The MUSTs of one rule on one guest whose condition never arose, in any case, each in a sentence."""
    demands = [assertion for assertion in said if assertion.kind is AssertionClass.MUST]
    met = {assertion.name for assertion in demands if assertion.met}
    left = (f"{own.name}: not shown here, it presupposes: {own.condition}" for own in demands if own.name not in met)
    return tuple(dict.fromkeys(left))


def apply_twins(verdicts: Mapping[str, RuleVerdict], catalogue: Catalogue) -> dict[str, RuleVerdict]:
    """Take back the passes of rules about silence whose positive twin did not pass on the same guest."""
    spoken = {RuleVerdict.PASSED, RuleVerdict.RECORDED, RuleVerdict.DEVIATION}
    result = dict(verdicts)
    for rule_id, verdict in verdicts.items():
        twin = catalogue.get(rule_id).positive_twin
        if twin and verdict in spoken and verdicts.get(twin) not in spoken:
            result[rule_id] = RuleVerdict.VACUOUS
    return result


def exit_code(
    rules: Iterable[RuleVerdict],
    cases: Iterable[CaseVerdict],
    *,
    usage_error: bool = False,
    never_ready: bool = False,
    allow_unimplemented: bool = False,
    lab_error: bool = False,
    interrupted: bool = False,
) -> int:
    """The exit code of a run: 130 interrupted; else the first that applies of 2, 1, 4, 3, 0.

    Args:
        never_ready: a guest never became ready.
        lab_error: the lab failed outside of any case.
        allow_unimplemented: rules that wait for an operation of the driver do not make the run undecided.
    """
    seen = set(rules)
    ended = set(cases)
    findings = seen & FINDINGS or ended & {CaseVerdict.FAILED, CaseVerdict.CRASHED, CaseVerdict.HUNG}
    fault = lab_error or RuleVerdict.LAB_ERROR in seen or CaseVerdict.LAB_ERROR in ended
    undecided = not seen & DECIDED and CaseVerdict.PASSED not in ended
    waiting = RuleVerdict.NOT_IMPLEMENTED in seen and not allow_unimplemented
    ladder = (
        (interrupted, 130),
        (usage_error, 2),
        (bool(findings), 1),
        (never_ready, 4),
        (fault or undecided or waiting, 3),
    )
    return next((code for applies, code in ladder if applies), 0)
