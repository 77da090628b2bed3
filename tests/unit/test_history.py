"""How long cases took: remembered by profile and case, medians, bounded, and never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsklab.results.history import History
from wsklab.results.model import CaseResult
from wsklab.verdict import CaseVerdict


def case(name: str, seconds: float, *, profile: str = "a", verdict: CaseVerdict = CaseVerdict.PASSED) -> CaseResult:
    """A case of a run."""
    return CaseResult(case=name, item=name, profile=profile, kind="wine", verdict=verdict, seconds=seconds)


def test_the_median_of_the_latest_runs(tmp_path: Path) -> None:
    """One slow run does not count, and what is long ago is forgotten."""
    for seconds in (100.0, 100.0, 1.0, 2.0, 60.0, 2.0, 3.0):
        history = History.load(tmp_path / "durations.json")
        history.add([case("t::one", seconds)])
        history.save(tmp_path / "durations.json")
    assert History.load(tmp_path / "durations.json").expected_s("a", "t::one") == 2.0


def test_an_unknown_case_is_an_ordinary_one() -> None:
    """It is taken for what it took on another profile, else for the median of all cases, else for a second."""
    assert History().expected_s("a", "t::one") == 1.0
    history = History()
    history.add([case("t::one", 1.0), case("t::two", 5.0), case("t::three", 9.0)])
    assert history.expected_s("a", "t::new") == 5.0
    assert history.expected_s("b", "t::one") == 1.0
    assert history.expected_s("b", "t::three") == 9.0
    assert history.expected_s("b", "t::new") == 5.0


def test_cases_that_did_not_end_by_themselves_say_nothing() -> None:
    """A hang took as long as its deadline, a skip no time: neither is the case's duration."""
    history = History()
    history.add([case("t::one", 600.0, verdict=CaseVerdict.HUNG), case("t::one", 0.0, verdict=CaseVerdict.SKIPPED)])
    history.add([case("t::one", 4.0, verdict=CaseVerdict.FAILED)])
    assert history.expected_s("a", "t::one") == 4.0


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"seconds": []}', '{"seconds": {"a": 1}}', '{"seconds": {"a": {"x": 1}}}']
)
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    """The order is worse, the run is not."""
    (tmp_path / "durations.json").write_text(text)
    assert History.load(tmp_path / "durations.json").expected_s("a", "t::one") == 1.0
    assert History.load(tmp_path / "absent.json").expected_s("a", "t::one") == 1.0
