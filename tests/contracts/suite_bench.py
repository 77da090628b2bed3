"""Whole runs of given cases on the model, without a guest."""

from __future__ import annotations

import io
from pathlib import Path

from wsklab.pytest_plugin.fake_lab import FakeExplanation, FakeProvider
from wsklab.pytest_plugin.suite import options_of, run_suite
from wsklab.results.model import CaseResult, RunDocument
from wsklab.results.store import load_run
from wsklab.verdict import RuleVerdict

CASES = '''
"""Cases of the test."""

import os
from pathlib import Path

import pytest

from wsklab.abi import Category
from wsklab.pytest_plugin.matchers import succeeded, with_status


@pytest.mark.rule("WSK-BIND-001")
def test_bind(scene, observe):
    """A listener binds."""
    made = scene.wsk.socket(Category.LISTEN)
    observe.rule("WSK-BIND-001").must("bind", scene.wsk.bind(made.new_socket, scene.private()), succeeded())


@pytest.mark.rule("WSK-SOCK-001")
def test_create(wsk, observe):
    """A listener is created."""
    observe.rule("WSK-SOCK-001").must("creation", wsk.socket(Category.LISTEN), succeeded())
'''


class Runs:
    """Runs cases on the model and tells what came out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cases = folder / "cases"
        self.cases.mkdir(parents=True)
        self.provider: FakeProvider | None = None
        #: what the evidence of every guest says in the end
        self.final: FakeExplanation | None = None

    def run(
        self,
        text: str = CASES,
        *,
        kinds: tuple[tuple[str, str], ...] = (("w", "wine"),),
        faults: dict[str, str] | None = None,
        explanation: FakeExplanation | None = None,
        baseline: str = "",
        workers: int = 1,
        extra: tuple[str, ...] = (),
        **options: object,
    ) -> RunDocument:
        """One run; the cases are the given text."""
        # a name of its own: pytest keeps imported case files for the life of the process
        (self.cases / f"test_{self.folder.name}.py").write_text(text)
        file = self.folder / "baseline.toml"
        file.write_text(baseline)
        self.provider = FakeProvider(
            dict(kinds), faults=faults, explanation=explanation, baselines={name: file for name, _ in kinds}
        )
        self.provider.final = self.final
        self.output = io.StringIO()
        return run_suite(
            self.provider,
            options_of(kinds, run_id="r1", results=self.folder / "results", **{"allow_unimplemented": True, **options}),
            workers=workers,
            cases=self.cases,
            plugins=("wsklab.pytest_plugin.fake_lab",),
            extra=extra,
            output=self.output,
        )

    def lines(self) -> dict[str, CaseResult]:
        """The cases of the run by name."""
        found = load_run(self.folder / "results", "r1").cases
        return {case.case.partition("::")[2]: case for case in found}

    def evidence(self, case: CaseResult, name: str) -> str:
        """A file of a case's evidence."""
        return (self.folder / "results" / "r1" / case.evidence / name).read_text()


def rule(document: RunDocument, rule_id: str, profile: str = "w") -> RuleVerdict:
    """A rule's verdict on a profile."""
    return next(row.verdict for row in document.results if row.rule == rule_id and row.profile == profile)
