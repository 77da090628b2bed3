"""Verdicts: from assertions and baselines to rules, from rules and cases to the exit code."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsklab.rules import AssertionClass, Grade, Rule, load_catalogue
from wsklab.verdict import (
    FINDINGS,
    Assertion,
    CaseVerdict,
    Gap,
    RuleObservation,
    RuleVerdict,
    apply_twins,
    combine,
    exit_code,
    judge,
    not_shown,
    worst,
)

RULE = Rule(
    id="WSK-SOCK-001", title="t", grade=Grade.DOCUMENTED, windows="vista", asserts=frozenset({AssertionClass.MUST})
)
WITNESSED = RULE.model_copy(update={"witnesses": frozenset({"windows:19045"})})

verdicts = st.sampled_from(list(RuleVerdict))
case_verdicts = st.sampled_from(list(CaseVerdict))


def assertion(
    *, held: bool, kind: AssertionClass = AssertionClass.MUST, observed: str = "seen", name: str = "n"
) -> Assertion:
    """An assertion with the given outcome."""
    return Assertion(kind=kind, name=name, expected="wanted", observed=observed, held=held)


def verdict_of(
    *assertions: Assertion, kind: str = "wine", gaps: tuple[Gap, ...] = (), rule: Rule = RULE
) -> RuleVerdict:
    """The rule's verdict for these assertions."""
    return judge(RuleObservation(rule=rule.id, assertions=assertions), rule, kind=kind, gaps=gaps).verdict


def gap(observed: str = "seen", name: str = "n") -> Gap:
    """A baseline gap of the rule."""
    return Gap(rule=RULE.id, reason="known", observed={name: observed})


def test_order_of_the_words() -> None:
    """The verdicts are ordered as the design names them, the worst first."""
    words = (
        "crashed, hung, failed, unexpected_pass, disputed, lab_error, not_implemented, not_run, vacuous, deviation, "
        "gap, recorded, passed"
    )
    assert ", ".join(RuleVerdict) == words


def test_nothing_said_is_vacuous() -> None:
    """A rule whose condition never arose has not passed."""
    assert verdict_of() is RuleVerdict.VACUOUS


def test_classes_of_assertion() -> None:
    """A broken must fails, a broken expect deviates, a record is recorded."""
    assert verdict_of(assertion(held=True)) is RuleVerdict.PASSED
    assert verdict_of(assertion(held=False)) is RuleVerdict.FAILED
    assert verdict_of(assertion(held=False, kind=AssertionClass.EXPECT)) is RuleVerdict.DEVIATION
    assert verdict_of(assertion(held=True, kind=AssertionClass.RECORD)) is RuleVerdict.RECORDED


def test_a_gap_is_exactly_its_observation() -> None:
    """Only the predicted observation is a gap; another one fails; none at all is an unexpected pass."""
    assert verdict_of(assertion(held=False), gaps=(gap("seen"),)) is RuleVerdict.GAP
    assert verdict_of(assertion(held=False), gaps=(gap("other"),)) is RuleVerdict.FAILED
    assert verdict_of(assertion(held=True), gaps=(gap("seen"),)) is RuleVerdict.UNEXPECTED_PASS
    assert verdict_of(assertion(held=False, name="m"), gaps=(gap("seen"),)) is RuleVerdict.FAILED


def test_a_gap_can_name_assertions_by_glob() -> None:
    """The judge's assertions carry a function's name; a gap may mean all functions."""
    known = gap("FALSE", name="*: PendingReturned after pending")
    said = assertion(
        held=False, kind=AssertionClass.EXPECT, observed="FALSE", name="WskBind: PendingReturned after pending"
    )
    assert verdict_of(said, gaps=(known,)) is RuleVerdict.GAP


def test_a_first_failure_on_windows_is_disputed() -> None:
    """Nobody has confirmed the rule on Windows: driver, rule or Windows may be wrong. With a witness it fails."""
    assert verdict_of(assertion(held=False), kind="windows") is RuleVerdict.DISPUTED
    assert verdict_of(assertion(held=False), kind="windows", rule=WITNESSED) is RuleVerdict.FAILED
    assert verdict_of(assertion(held=False), kind="wine") is RuleVerdict.FAILED


def test_left_out_and_unimplemented_are_not_hidden() -> None:
    """A rule of which a part could not be provoked has not passed, whatever else held."""
    held = (assertion(held=True),)
    left = judge(RuleObservation(rule=RULE.id, assertions=held, not_run="it raises"), RULE, kind="wine")
    assert left.verdict is RuleVerdict.NOT_RUN
    missing = judge(RuleObservation(rule=RULE.id, assertions=held, not_implemented="no option"), RULE, kind="wine")
    assert missing.verdict is RuleVerdict.NOT_IMPLEMENTED


@given(st.lists(verdicts, min_size=1))
def test_combining_never_hides_a_worse_verdict(seen: list[RuleVerdict]) -> None:
    """The combination is one of the verdicts, and the worst of those that met the rule's condition."""
    result = combine(seen)
    assert result in seen
    met = [verdict for verdict in seen if verdict is not RuleVerdict.VACUOUS]
    assert result is worst(met or seen)


@given(st.lists(verdicts, min_size=1), st.randoms())
def test_the_order_of_cases_does_not_matter(seen: list[RuleVerdict], random: object) -> None:
    """Combining is independent of order and of grouping."""
    folded = seen[0]
    for verdict in seen[1:]:
        folded = combine([folded, verdict])
    assert folded is combine(reversed(seen)) is combine(seen)


def half(name: str = "at DISPATCH_LEVEL", *, met: bool, held: bool = True) -> Assertion:
    """The part of a rule that presupposes something more."""
    return Assertion(
        kind=AssertionClass.MUST, name=name, expected="", observed="seen", held=held, condition="IRQL is real", met=met
    )


def test_a_part_whose_condition_never_arose_says_nothing() -> None:
    """Neither a pass nor a failure, nor a gap: what was seen without its condition proves nothing."""
    assert verdict_of(half(met=False)) is RuleVerdict.VACUOUS
    assert verdict_of(half(met=False, held=False)) is RuleVerdict.VACUOUS
    assert verdict_of(half(met=False), gaps=(gap(name="at*"),)) is RuleVerdict.VACUOUS
    assert verdict_of(half(met=True)) is RuleVerdict.PASSED
    assert verdict_of(half(met=True, held=False)) is RuleVerdict.FAILED


def test_a_rule_that_was_shown_in_part_has_not_passed() -> None:
    """The other half held; yet a MUST that no case could show keeps the rule vacuous, with the condition named."""
    seen = (assertion(held=True), half(met=False))
    (sentence,) = not_shown(seen)
    assert "at DISPATCH_LEVEL" in sentence
    assert "IRQL is real" in sentence
    assert combine([verdict_of(*seen)], shown=False) is RuleVerdict.VACUOUS
    assert combine([RuleVerdict.FAILED], shown=False) is RuleVerdict.FAILED
    assert combine([RuleVerdict.GAP], shown=False) is RuleVerdict.VACUOUS


def test_a_part_that_another_case_showed_is_shown() -> None:
    """Parts are known by their names; an EXPECT or a RECORD is no demand."""
    assert not_shown([half(met=False), half(met=True)]) == ()
    assert len(not_shown([half("one", met=False), half("two", met=True)])) == 1
    expect = Assertion(
        kind=AssertionClass.EXPECT, name="n", expected="", observed="", held=True, condition="c", met=False
    )
    assert not_shown([expect]) == ()


def test_silence_needs_its_twin() -> None:
    """No callback proves nothing where no callback was ever heard."""
    catalogue = load_catalogue()
    silent = {"WSK-SOCK-010": RuleVerdict.PASSED}
    assert apply_twins(silent, catalogue)["WSK-SOCK-010"] is RuleVerdict.VACUOUS
    heard = {**silent, "WSK-EVT-001": RuleVerdict.PASSED}
    assert apply_twins(heard, catalogue)["WSK-SOCK-010"] is RuleVerdict.PASSED
    broken = {"WSK-SOCK-010": RuleVerdict.FAILED}
    assert apply_twins(broken, catalogue)["WSK-SOCK-010"] is RuleVerdict.FAILED


@given(st.lists(verdicts), st.lists(case_verdicts), st.booleans(), st.booleans(), st.booleans())
def test_a_finding_is_never_hidden(
    rules: list[RuleVerdict], cases: list[CaseVerdict], ready: bool, allowed: bool, fault: bool
) -> None:
    """With a finding the exit code is 1, whatever else went wrong in the lab; 2 and 130 alone are above it."""
    arguments = {"never_ready": ready, "allow_unimplemented": allowed, "lab_error": fault}
    code = exit_code(rules, cases, **arguments)
    found = bool(FINDINGS & set(rules)) or bool({"failed", "crashed", "hung"} & {str(case) for case in cases})
    assert (code == 1) == found
    assert exit_code(rules, cases, usage_error=True, **arguments) == 2
    assert exit_code(rules, cases, usage_error=True, interrupted=True, **arguments) == 130


@pytest.mark.parametrize(
    ("rules", "cases", "more", "code"),
    [
        (["passed"], ["passed"], {}, 0),
        (["gap", "deviation", "recorded"], ["passed"], {}, 0),
        ([], [], {}, 3),
        (["vacuous", "not_run"], ["skipped"], {}, 3),
        (["passed", "not_implemented"], ["passed"], {}, 3),
        (["passed", "not_implemented"], ["passed"], {"allow_unimplemented": True}, 0),
        (["passed", "lab_error"], ["passed", "lab_error"], {}, 3),
        (["passed", "lab_error"], ["lab_error"], {"never_ready": True}, 4),
        (["failed", "lab_error"], ["failed"], {"never_ready": True}, 1),
        (["disputed"], ["failed"], {}, 1),
        (["unexpected_pass"], ["failed"], {}, 1),
    ],
)
def test_exit_codes(rules: list[str], cases: list[str], more: dict[str, bool], code: int) -> None:
    """The exit codes of the design's section 3, precedence 2 > 1 > 4 > 3 > 0."""
    assert exit_code(map(RuleVerdict, rules), map(CaseVerdict, cases), **more) == code


def test_every_pair_has_a_worst() -> None:
    """`worst` is a total order over the words."""
    for left, right in itertools.product(RuleVerdict, repeat=2):
        assert worst([left, right]) is (left if left.severity <= right.severity else right)
