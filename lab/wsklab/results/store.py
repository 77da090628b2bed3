"""The runs of a lab on disk, one directory per run.

Layout of `results/<run-id>/`::

    results.jsonl   one line per case, appended while the run goes on
    run.json        the document of the run, written at its end
    junit.xml       the cases for CI systems
    matrix.html     rules by guests, one self-contained page per run
    evidence/       a folder per failed case
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from wsklab.artifacts import EvidenceFolder, safe_name, write_atomic
from wsklab.errors import UsageError
from wsklab.results.junit import junit_xml
from wsklab.results.matrix import matrix_html
from wsklab.results.model import CaseResult, RunDocument
from wsklab.rules import Catalogue

__all__ = ["Run", "RunDirectory", "RunSummary", "list_runs", "load_run", "new_run_id"]

#: Longest line of `results.jsonl` that is read back, in characters.
LINE_LIMIT = 4 << 20

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Run:
    """A run as read back: its document and its cases."""

    document: RunDocument
    cases: tuple[CaseResult, ...]
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One line of `results list`."""

    run_id: str
    started: str
    exit_code: int | None
    wall_s: float
    profiles: tuple[str, ...]
    cases: int
    imported: str
    path: Path


def new_run_id() -> str:
    """A name for a run: when (UTC) and who, sortable."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}"


class RunDirectory:
    """The directory of a run while it is going on; one writer, the controller.

    Args:
        root: the folder of all runs.
        run_id: a plain name.

    Raises:
        UsageError: the name is none.
    """

    def __init__(self, root: Path, run_id: str) -> None:
        if not _RUN_ID.fullmatch(run_id):
            raise UsageError(f"{run_id!r} is no run id", fix="use letters, digits, dot, dash and underscore")
        self.run_id = run_id
        self.path = root / run_id
        self.path.mkdir(parents=True, exist_ok=True)

    def append(self, case: CaseResult) -> None:
        """Add the line of a finished case; it is on disk when this returns."""
        line = case.model_dump_json(by_alias=True)
        with (self.path / "results.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def evidence(self, case: CaseResult | str, profile: str = "") -> EvidenceFolder:
        """The folder of a failed case."""
        name = case if isinstance(case, str) else case.case
        return EvidenceFolder(self.path / "evidence" / safe_name(f"{profile}-{name}"))

    def finish(self, document: RunDocument, cases: Sequence[CaseResult], catalogue: Catalogue) -> None:
        """Write the run's document and the views of it; the lines once more, as the end of the run sees them."""
        lines = "".join(f"{case.model_dump_json(by_alias=True)}\n" for case in cases)
        write_atomic(self.path / "results.jsonl", lines)
        write_atomic(self.path / "run.json", document.model_dump_json(by_alias=True, indent=1) + "\n")
        write_atomic(self.path / "junit.xml", junit_xml(document, cases))
        write_atomic(self.path / "matrix.html", matrix_html(document, catalogue))


def load_run(root: Path, run_id: str) -> Run:
    """Read a run back.

    Raises:
        UsageError: there is none of that id, or its files are damaged.
    """
    path = root / run_id
    if not _RUN_ID.fullmatch(run_id) or not (path / "run.json").is_file():
        known = [summary.run_id for summary in list_runs(root)]
        raise UsageError(
            f"there is no finished run {run_id!r}",
            why=f"{len(known)} runs are in {root}",
            fix=f"the latest is {known[0]}" if known else "make one with `wsklab run`",
        )
    try:
        document = RunDocument.model_validate_json((path / "run.json").read_text("utf-8"))
        cases = _read_cases(path / "results.jsonl")
    except (ValidationError, ValueError) as error:
        raise UsageError(f"the files of run {run_id} are damaged", why=str(error).splitlines()[0]) from error
    return Run(document=document, cases=cases, path=path)


def _read_cases(path: Path) -> tuple[CaseResult, ...]:
    if not path.is_file():
        return ()
    with path.open(encoding="utf-8") as stream:
        return tuple(CaseResult.model_validate_json(line[:LINE_LIMIT]) for line in stream if line.strip())


def list_runs(root: Path) -> tuple[RunSummary, ...]:
    """The runs of a lab, the latest first; one that was cut short has no exit code."""
    found: list[RunSummary] = []
    for path in root.iterdir() if root.is_dir() else ():
        if not path.is_dir() or not ((path / "run.json").is_file() or (path / "results.jsonl").is_file()):
            continue
        try:
            document = json.loads((path / "run.json").read_text("utf-8"))
        except (OSError, ValueError):
            document = {}
        totals = document.get("totals", [])
        found.append(
            RunSummary(
                run_id=path.name,
                started=str(document.get("started", "")),
                exit_code=document.get("exit_code"),
                wall_s=float(document.get("wall_s", 0.0)),
                profiles=tuple(dict.fromkeys(str(total.get("profile")) for total in totals)),
                cases=sum(int(total.get("cases", 0)) for total in totals),
                imported=str(document.get("imported", "")),
                path=path,
            )
        )
    return tuple(sorted(found, key=lambda run: (run.started, run.run_id), reverse=True))
