"""What a case says about rules, and how a broken rule reads.

A case gets one `Observe` and states facts through it::

    made = wsk.socket(...)
    observe.rule("WSK-SOCK-001").must("creation completes with success", made, with_status(STATUS_SUCCESS))

`must` ends the case when the rule is broken (`RuleBroken`) or when the guest shows a gap that its baseline
knows (`CaseOver`, the case passes and the rule's verdict is `gap`). `expect` and `record` never end a case.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from wsklab.artifacts import visible
from wsklab.results.model import AssertionResult, RuleResult
from wsklab.rules import CENTRAL_RULES, AssertionClass, Catalogue
from wsklab.verdict import (
    FINDINGS,
    Assertion,
    CaseVerdict,
    Gap,
    RuleJudgement,
    RuleObservation,
    RuleVerdict,
    judge,
    with_case_verdict,
)

__all__ = [
    "CaseOver",
    "Condition",
    "Matcher",
    "Observe",
    "RuleBroken",
    "RuleObserver",
    "Seen",
]

T = TypeVar("T")
#: Texts of one assertion longer than this are cut; a baseline compares whole observations below it.
OBSERVATION_LIMIT = 400


class RuleBroken(AssertionError):  # noqa: N818 - a finding, not an error
    """A rule does not hold on the guest; the text is the whole story."""


class CaseOver(Exception):  # noqa: N818 - not an error: the case has nothing left to say
    """Ends a case early without failing it.

    Args:
        not_run: why the rest was left out; empty when a known gap or a missing operation ended it.
    """

    def __init__(self, reason: str, *, not_run: str = "") -> None:
        super().__init__(reason)
        self.not_run = not_run


@dataclass(frozen=True, slots=True)
class Seen:
    """Whether something holds, and what was seen, in words without times and addresses."""

    held: bool
    observed: str


@dataclass(frozen=True, slots=True)
class Matcher(Generic[T]):
    """Something that can be asserted of a value: what is expected in words, and how to look."""

    expected: str
    look: Callable[[T], Seen]


@dataclass(slots=True)
class _Notes:
    """What was said of one rule so far."""

    assertions: list[Assertion] = field(default_factory=list)
    met: int = 0
    not_run: str = ""
    not_implemented: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """What a part of a rule presupposes beyond the rule itself, in words, and whether it arose."""

    text: str = ""
    met: bool = True


class RuleObserver:
    """One rule inside one case; made by `Observe.rule`."""

    def __init__(self, observe: Observe, rule_id: str, condition: Condition = Condition()) -> None:
        self._observe = observe
        self._id = rule_id
        self._condition = condition

    def given(self, met: bool, condition: str) -> RuleObserver:
        """The part of the rule that presupposes something more.

        What is asserted through the result counts only when `met`; a MUST whose condition never arises on a guest
        keeps the rule from passing there (`vacuous`)::

            at_dispatch = rule.given(record.call_irql == DISPATCH_LEVEL, "called at DISPATCH_LEVEL")
            at_dispatch.must("capture at DISPATCH_LEVEL", record, returned("STATUS_SUCCESS"))
        """
        return RuleObserver(self._observe, self._id, Condition(condition, met))

    def must(self, name: str, subject: T, matcher: Matcher[T], *, stop: bool = True) -> bool:
        """A failure breaks the rule.

        Args:
            name: what is asserted; stable, because the baseline refers to it.
            stop: end the case when it does not hold; False when later steps do not depend on it.

        Returns:
            whether it held.
        """
        return self._observe.state(
            self._id, AssertionClass.MUST, name, subject, matcher, stop=stop, condition=self._condition
        )

    def expect(self, name: str, subject: T, matcher: Matcher[T]) -> bool:
        """A failure is a deviation: customary, not documented."""
        return self._observe.state(
            self._id, AssertionClass.EXPECT, name, subject, matcher, stop=False, condition=self._condition
        )

    def record(self, name: str, value: object) -> None:
        """Write a value down; compared between runs, never a failure."""
        self._observe.note(self._id, name, value)

    def unmet(self, name: str) -> None:
        """This part cannot even be tried: its condition (see `given`) does not arise on this guest."""
        self._observe.unmet(self._id, name, self._condition)

    def not_run(self, reason: str) -> None:
        """This rule's provocation is left out on this guest; the case goes on."""
        self._observe.leave_out(self._id, reason)


class Observe:
    """All observations of one case on one guest.

    Args:
        declared: the rules that the case says it covers.
        kind: the kind of guest. facts: what its profile says it can do. gaps: its baseline.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        declared: Sequence[str],
        *,
        kind: str,
        facts: Mapping[str, object],
        gaps: Collection[Gap] = (),
    ) -> None:
        self._catalogue = catalogue
        self._notes: dict[str, _Notes] = {catalogue.get(rule_id).id: _Notes() for rule_id in declared}
        for rule_id in CENTRAL_RULES:
            self._notes.setdefault(rule_id, _Notes())
        self._declared = tuple(declared)
        self._gaps = tuple(gaps)
        self.kind = kind
        self.facts = facts
        #: tells the timeline of the case's operations; set by whoever makes them
        self.story: Callable[[], list[str]] = list

    def rule(self, rule_id: str) -> RuleObserver:
        """The observer of a rule that the case has declared with `@pytest.mark.rule`.

        Raises:
            UsageError: no such rule. LookupError: it is not declared, so no report would show it when the case
                dies early.
        """
        self._catalogue.get(rule_id)
        if rule_id not in self._notes:
            raise LookupError(f'{rule_id} is not among the rules of this case: add it to @pytest.mark.rule("...")')
        return RuleObserver(self, rule_id)

    def central(self, rule_id: str, kind: AssertionClass, name: str, seen: Seen, expected: str) -> None:
        """An assertion of the judge about one record; never ends the case by itself."""
        matcher: Matcher[Seen] = Matcher(expected, lambda value: value)
        self.state(rule_id, kind, name, seen, matcher, stop=False)

    def state(
        self,
        rule_id: str,
        kind: AssertionClass,
        name: str,
        subject: T,
        matcher: Matcher[T],
        *,
        stop: bool,
        condition: Condition = Condition(),
    ) -> bool:
        """Keep an assertion; see `RuleObserver.must` and `RuleObserver.given`."""
        __tracebackhide__ = True
        seen = matcher.look(subject)
        notes = self._notes[rule_id]
        assertion = Assertion(
            kind=kind,
            name=name,
            expected=matcher.expected,
            observed=visible(seen.observed, OBSERVATION_LIMIT),
            held=seen.held,
            condition=condition.text,
            met=condition.met,
        )
        notes.met += condition.met
        notes.assertions.append(assertion)
        if seen.held or not stop or not condition.met:
            return seen.held
        alone = judge(
            RuleObservation(rule=rule_id, assertions=(assertion,)),
            self._catalogue.get(rule_id),
            kind=self.kind,
            gaps=self._gaps,
        )
        if alone.verdict is RuleVerdict.GAP:
            raise CaseOver(f"{rule_id}: {assertion.observed} is a known gap of this guest")
        raise RuleBroken(self.explain())

    def unmet(self, rule_id: str, name: str, condition: Condition) -> None:
        """Keep a MUST that could not be tried; see `RuleObserver.unmet`."""
        self._notes[rule_id].assertions.append(
            Assertion(
                kind=AssertionClass.MUST,
                name=name,
                expected="",
                observed="not tried",
                held=False,
                condition=condition.text,
                met=False,
            )
        )

    def note(self, rule_id: str, name: str, value: object) -> None:
        """Keep a recorded value."""
        notes = self._notes[rule_id]
        notes.met += 1
        shown = visible(value if isinstance(value, str) else json.dumps(value, default=str), OBSERVATION_LIMIT)
        notes.assertions.append(
            Assertion(kind=AssertionClass.RECORD, name=name, expected="", observed=shown, held=True)
        )

    def leave_out(self, rule_id: str, reason: str) -> None:
        """Keep why a rule was not provoked."""
        self._notes[rule_id].not_run = reason

    def not_run(self, reason: str) -> None:
        """End the case: it would hang or raise on this guest.

        Raises:
            CaseOver: always.
        """
        for rule_id in self._declared:
            self.leave_out(rule_id, reason)
        raise CaseOver(reason, not_run=reason)

    def not_implemented(self, operation: str) -> None:
        """End the case: the driver does not have an operation yet, and the case's rules wait for it.

        Raises:
            CaseOver: always.
        """
        for rule_id in self._declared:
            self._notes[rule_id].not_implemented = f"the driver does not have {operation} yet"
        raise CaseOver(f"the driver does not have {operation} yet")

    def judgements(self) -> tuple[RuleJudgement, ...]:
        """The verdicts so far: of the declared rules, and of the central ones."""
        return tuple(
            judge(
                RuleObservation(
                    rule=rule_id,
                    met=notes.met,
                    assertions=tuple(notes.assertions),
                    not_run=notes.not_run,
                    not_implemented=notes.not_implemented,
                ),
                self._catalogue.get(rule_id),
                kind=self.kind,
                gaps=self._gaps,
            )
            for rule_id, notes in self._notes.items()
        )

    def conclude(self) -> None:
        """Fail the case when any rule, a central one included, turned out to be a finding.

        Raises:
            RuleBroken: with the whole story.
        """
        __tracebackhide__ = True
        if any(judgement.verdict in FINDINGS for judgement in self.judgements()):
            raise RuleBroken(self.explain())

    def results(self, case: CaseVerdict, message: str) -> tuple[RuleResult, ...]:
        """The rules as a line of the run holds them.

        A case that failed by a plain `assert` breaks every rule that it declares: nothing says which one it meant.
        """
        judgements = [
            with_case_verdict(judgement, case, message) if judgement.rule in self._declared else judgement
            for judgement in self.judgements()
        ]
        if case is CaseVerdict.FAILED and not any(judgement.verdict in FINDINGS for judgement in judgements):
            judgements = [
                RuleJudgement(rule=judgement.rule, verdict=RuleVerdict.FAILED, notes=(message,))
                if judgement.rule in self._declared
                else judgement
                for judgement in judgements
            ]
        return tuple(
            RuleResult(
                rule=judgement.rule,
                verdict=judgement.verdict,
                notes=judgement.notes,
                met=self._notes[judgement.rule].met,
                assertions=_condensed(self._notes[judgement.rule].assertions),
            )
            for judgement in judgements
            # a central rule that this case never met is no news
            if judgement.rule in self._declared or self._notes[judgement.rule].assertions
        )

    def explain(self) -> str:
        """The findings and gaps with rule, expected, observed; then the timeline of every recorded operation."""
        lines: list[str] = []
        for judgement in self.judgements():
            if judgement.verdict in {RuleVerdict.PASSED, RuleVerdict.VACUOUS, RuleVerdict.RECORDED}:
                continue
            lines.append(f"{judgement.rule} {judgement.verdict}: {self._catalogue.get(judgement.rule).title}")
            lines.extend(f"    {note}" for note in dict.fromkeys(judgement.notes))
        lines.append("timeline (ms since the first call; t: thread, irql: level)")
        lines.extend(f"  {line}" for line in self.story())
        return "\n".join(lines)


def _condensed(assertions: Iterable[Assertion]) -> tuple[AssertionResult, ...]:
    """The assertions without repetitions: the judge says the same of every record."""
    return tuple(
        AssertionResult(
            kind=assertion.kind,
            name=assertion.name,
            expected=assertion.expected,
            observed=assertion.observed,
            held=assertion.held,
            condition=assertion.condition,
            met=assertion.met,
        )
        for assertion in dict.fromkeys(assertions)
    )
