"""What a performance case states: numbers with a unit and a direction, kept in its line of the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest

from wsklab.pytest_plugin.case import CASE, Case
from wsklab.results.model import MetricResult

__all__ = ["Measure", "measure"]


class Measure:
    """The numbers of one case."""

    def __init__(self, case: Case) -> None:
        self._case = case

    def __call__(self, name: str, value: float, unit: str, *, better: Literal["lower", "higher"]) -> None:
        """State a number.

        Args:
            name: stable between runs: trends follow it.
        """
        self._case.metrics.append(MetricResult(name=name, value=float(f"{value:.4g}"), unit=unit, better=better))

    def histogram(self, name: str, spans_ns: Sequence[int]) -> None:
        """State spans in microseconds: their least, the median, two high quantiles and the worst."""
        spans = sorted(spans_ns)
        for label, share in (("least", 0.0), ("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("worst", 1.0)):
            self(f"{name} {label}", spans[round(share * (len(spans) - 1))] / 1e3, "us", better="lower")


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Measure:
    """Where a performance case states its numbers."""
    request.getfixturevalue("guest")
    return Measure(request.node.stash[CASE])
