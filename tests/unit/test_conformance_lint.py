"""Lint of the conformance cases: no literal ports, facts stated, known rules, a case for what can be provoked."""

from __future__ import annotations

import ast
import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsklab.artifacts import visible
from wsklab.pytest_plugin.baseline import load_baseline
from wsklab.rules import load_catalogue

ROOT = Path(__file__).parent.parent.parent
CASES = sorted((ROOT / "tests" / "conformance").glob("test_*.py"))


def functions() -> Iterator[tuple[Path, ast.FunctionDef]]:
    """Every case."""
    for path in CASES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield path, node


def rules_of(function: ast.FunctionDef) -> list[str]:
    """The rules that a case's mark names."""
    return [
        str(argument.value)
        for decorator in function.decorator_list
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.rule"
        for argument in decorator.args
        if isinstance(argument, ast.Constant)
    ]


def test_no_literal_ports() -> None:
    """Cases run side by side on one guest: the second argument of an address is never a number but 0."""
    found = []
    for path in CASES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).rpartition(".")[2]
            arguments = {
                "of": node.args[1:],
                "connect": node.args[:1],
                "is_refused": node.args,
                "guest_sees": node.args,
            }
            found += [
                f"{path.name}:{node.lineno}"
                for argument in arguments.get(name, [])
                if isinstance(argument, ast.Constant) and isinstance(argument.value, int) and argument.value
            ]
    assert found == []


def test_every_case_states_its_fact() -> None:
    """A case has a docstring and names its rules, all known; what it uses of `observe.rule` it has declared."""
    catalogue = load_catalogue()
    for path, function in functions():
        where = f"{path.name}::{function.name}"
        assert ast.get_docstring(function), f"{where} states no fact"
        declared = rules_of(function)
        assert declared, f"{where} names no rule"
        used = re.findall(r"observe\.rule\('([^']+)'\)", ast.unparse(function))
        assert set(used) <= set(declared), f"{where} uses rules that it does not declare"
        assert all(rule in catalogue for rule in declared), where


def test_every_rule_has_a_case() -> None:
    """All 220 rules of the catalogue; no rule of it is beyond any provocation."""
    covered = {rule for _, function in functions() for rule in rules_of(function)}
    assert {rule.id for rule in load_catalogue()} - covered == set()


def test_hazards_are_marked() -> None:
    """A rule that is a hazard as a whole has marked cases only; a marked case belongs to a rule with a hazard."""
    catalogue = load_catalogue()
    for path, function in functions():
        rules = [catalogue.get(rule) for rule in rules_of(function)]
        marks = {ast.unparse(decorator) for decorator in function.decorator_list}
        where = f"{path.name}::{function.name}"
        if any(rule.hazard == "all" for rule in rules):
            assert "pytest.mark.hazard" in marks, where
        if "pytest.mark.hazard" in marks:
            assert "pytest.mark.exclusive" in marks, where
            assert all(rule.hazard for rule in rules), where


@pytest.mark.parametrize("path", sorted((ROOT / "images").glob("*/baseline.toml")), ids=lambda path: path.parent.name)
def test_baselines_are_exact(path: Path) -> None:
    """A gap names a known rule that a case covers, says why, and predicts observations letter by letter."""
    covered = {rule for _, function in functions() for rule in rules_of(function)}
    baseline = load_baseline(path, load_catalogue())
    assert baseline.gaps or baseline.left_out
    names = {f"{file.name}::{function.name}" for file, function in functions()}
    for one in baseline.left_out:
        assert one.reason
        assert any(fnmatch.fnmatchcase(name, one.case.partition("[")[0]) for name in names), one.case
    for gap in baseline.gaps:
        assert gap.rule in covered
        assert gap.reason
        assert gap.observed
        assert all(seen == visible(seen) and "*" not in seen for seen in gap.observed.values())
