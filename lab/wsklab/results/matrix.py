"""Rules by guests, as a terminal table and as one self-contained page.

A figure holds guests of one kind only: what a Wine guest passed says nothing about the NT kernel.
"""

from __future__ import annotations

import importlib.resources
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import jinja2
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from wsklab.artifacts import visible
from wsklab.results.model import RuleRow, RunDocument
from wsklab.rules import Catalogue, Rule, Statement, load_statements
from wsklab.verdict import RuleVerdict

__all__ = ["KIND_MEANING", "Cell", "Column", "Figure", "figures", "matrix_html", "render_matrix", "statement_rows"]

#: What results of a kind of guest prove; printed with every figure.
KIND_MEANING = {
    "windows": "a real NT kernel with its own WSK",
    "wine": "our driver against Wine's WSK: IRQL is not real, no event callbacks; no evidence about the NT kernel",
    "shim": "the driver's logic in a user-mode kernel shim; no evidence about any operating system",
}

_STYLES = {
    RuleVerdict.CRASHED: ("bold white on red", "CRASH"),
    RuleVerdict.HUNG: ("bold white on red", "HUNG"),
    RuleVerdict.FAILED: ("bold red", "FAIL"),
    RuleVerdict.UNEXPECTED_PASS: ("bold red", "XPASS"),
    RuleVerdict.DISPUTED: ("bold red", "DISP"),
    RuleVerdict.LAB_ERROR: ("bold magenta", "LAB"),
    RuleVerdict.NOT_IMPLEMENTED: ("dim", "n/i"),
    RuleVerdict.NOT_RUN: ("dim", "n/r"),
    RuleVerdict.VACUOUS: ("dim cyan", "vac"),
    RuleVerdict.DEVIATION: ("yellow", "dev"),
    RuleVerdict.GAP: ("yellow", "gap"),
    RuleVerdict.RECORDED: ("cyan", "rec"),
    RuleVerdict.PASSED: ("green", "pass"),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One sort of guest: what makes results comparable."""

    profile: str
    build: str
    verifier: str
    driver_sha256: str
    static: bool = False

    @property
    def title(self) -> str:
        """The column's head, hostile characters made visible."""
        lines = [
            self.profile,
            "static machine" if self.static else "",
            self.build,
            f"driver {self.driver_sha256[:8]}" if self.driver_sha256 else "",
        ]
        if self.verifier not in {"", "off"}:
            lines.append(f"verifier {self.verifier}")
        return "\n".join(visible(line, 60) for line in lines if line)


@dataclass(frozen=True, slots=True)
class Cell:
    """A rule on one sort of guest; None where the run says nothing."""

    row: RuleRow | None

    @property
    def short(self) -> str:
        """The verdict in five letters."""
        return _STYLES[self.row.verdict][1] if self.row else ""


@dataclass(frozen=True, slots=True)
class Figure:
    """All guests of one kind."""

    kind: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Rule, tuple[Cell, ...]], ...]
    counts: tuple[tuple[str, Counter[RuleVerdict]], ...]


@dataclass(frozen=True, slots=True)
class StatementRow:
    """A statement of the page "Creating Sockets": its rules, and the worst verdict of each sort of guest."""

    number: int
    statement: Statement
    rules: tuple[tuple[Rule, tuple[Cell, ...]], ...]
    worst: tuple[str, ...]


def statement_rows(figure: Figure, catalogue: Catalogue) -> tuple[StatementRow, ...]:
    """The page of the mission, statement by statement, on the guests of one kind."""
    cells = {rule.id: own for rule, own in figure.rows}
    nobody = tuple(Cell(None) for _ in figure.columns)
    rows = []
    for number, statement in enumerate(load_statements(), 1):
        rules = tuple((catalogue.get(rule), cells.get(rule, nobody)) for rule in statement.rules)
        verdicts = [[own[at].row for _, own in rules] for at in range(len(figure.columns))]
        worst_of = tuple(
            str(min((row.verdict for row in column if row), key=lambda one: one.severity, default=""))
            for column in verdicts
        )
        rows.append(StatementRow(number, statement, rules, worst_of))
    return tuple(rows)


def figures(document: RunDocument, catalogue: Catalogue) -> tuple[Figure, ...]:
    """The figures of a run, one for each kind of guest in it."""
    return tuple(
        _figure(kind, [row for row in document.results if row.kind == kind], catalogue)
        for kind in dict.fromkeys(row.kind for row in document.results)
    )


def _figure(kind: str, rows: Sequence[RuleRow], catalogue: Catalogue) -> Figure:
    columns = tuple(dict.fromkeys(_column(row) for row in rows))
    found = {(row.rule, _column(row)): row for row in rows}
    ids = {row.rule for row in rows}
    return Figure(
        kind=kind,
        columns=columns,
        rows=tuple(
            (rule, tuple(Cell(found.get((rule.id, column))) for column in columns))
            for rule in catalogue
            if rule.id in ids
        ),
        counts=tuple(
            (column.profile, Counter(row.verdict for row in rows if _column(row) == column)) for column in columns
        ),
    )


def _column(row: RuleRow) -> Column:
    return Column(row.profile, row.build, row.verifier, row.driver_sha256, row.static)


def render_matrix(document: RunDocument, catalogue: Catalogue, *, all_rules: bool = True) -> RenderableType:
    """The run for a terminal: a table per kind, the findings under it in full sentences.

    Args:
        all_rules: False leaves out the rows in which every guest passed.
    """
    parts: list[RenderableType] = []
    for figure in figures(document, catalogue):
        table = Table(title=f"{figure.kind}: {KIND_MEANING.get(figure.kind, '')}", title_justify="left")
        table.add_column("rule", no_wrap=True)
        table.add_column("", overflow="ellipsis", no_wrap=True, max_width=70)
        for column in figure.columns:
            table.add_column(Text(column.title), justify="center")
        area = ""
        for rule, cells in figure.rows:
            quiet = all(cell.row and cell.row.verdict is RuleVerdict.PASSED for cell in cells)
            if quiet and not all_rules:
                continue
            if area and area != rule.area:
                table.add_section()
            area = rule.area
            table.add_row(
                Text(f"{'*' if rule.core else ' '} {rule.id.removeprefix('WSK-')}"),
                Text(rule.title),
                *(Text(cell.short, style=_STYLES[cell.row.verdict][0] if cell.row else "") for cell in cells),
            )
        parts.append(table)
        for profile, counts in figure.counts:
            said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in RuleVerdict if counts[verdict])
            parts.append(Text(f"{profile}: {said}"))
    parts.extend(
        Text(f"{row.profile}: reset {row.reset}: {row.cases} cases, {row.seconds:.1f} s") for row in document.resets
    )
    if document.imported:
        parts.append(Text(f"brought by {visible(document.imported, 200)}"))
    parts.extend(_findings(document))
    parts.extend(
        Text(f"problem: {visible(': '.join(part for part in problem.values() if part), 400)}", style="bold magenta")
        for problem in document.problems
    )
    for kept in document.kept:
        parts.append(Text(f"kept until {kept.expires}: {kept.name} ({visible(kept.why, 200)})", style="bold"))
        parts.append(Text(f"    {kept.enter}"))
    return Group(*parts)


def _findings(document: RunDocument) -> list[Text]:
    """What went wrong in sentences; rules with the same story on the same guest share one paragraph."""
    stories: dict[tuple[str, RuleVerdict, tuple[str, ...]], list[str]] = {}
    for row in document.results:
        if row.verdict.severity <= RuleVerdict.LAB_ERROR.severity:
            stories.setdefault((row.profile, row.verdict, row.notes), []).append(row.rule)
    parts: list[Text] = []
    for (profile, verdict, notes), rules in stories.items():
        shown = ", ".join(rules[:8]) + (f" and {len(rules) - 8} more" if len(rules) > 8 else "")
        parts.append(Text(f"{profile} {shown} {verdict}", style=_STYLES[verdict][0]))
        parts.extend(Text(f"    {visible(note, 400)}") for note in notes)
    return parts


def matrix_html(document: RunDocument, catalogue: Catalogue) -> str:
    """The run as one page without scripts and without references to the outside; everything is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["visible"] = visible
    source = importlib.resources.files("wsklab").joinpath("data", "matrix.html.j2").read_text("utf-8")
    return environment.from_string(source).render(
        run=document,
        figures=[(figure, statement_rows(figure, catalogue)) for figure in figures(document, catalogue)],
        meaning=KIND_MEANING,
        verdicts=tuple(RuleVerdict),
    )
