"""Outcomes of mutants in a file, one a line, so that a proof of hours can be made in several sittings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from mutant_runs import Killer, Outcome

from wsklab.resources import conformance_root, driver_source_root

__all__ = ["add", "load"]


def load(file: Path) -> Iterator[Outcome]:
    """What is known already; a file that is not there is begun.

    Raises:
        SystemExit: the outcomes are of other sources, so they say nothing about these.
    """
    own = {"sources": _digest()}
    if not file.is_file():
        file.write_text(json.dumps(own) + "\n")
    first, *lines = file.read_text("utf-8").splitlines()
    if json.loads(first) != own:
        raise SystemExit(f"{file}: outcomes of another driver, shim or other cases; take another file")
    for line in lines:
        told = json.loads(line)
        yield Outcome(**{**told, "killers": tuple(Killer(**killer) for killer in told["killers"])})


def add(file: Path, outcome: Outcome) -> None:
    """Written at once: whoever is ended loses only what was running."""
    with file.open("a", encoding="utf-8") as kept:
        kept.write(json.dumps(asdict(outcome)) + "\n")


def _digest() -> str:
    """Of everything that an outcome depends on, but for the lab itself."""
    digest = hashlib.sha256()
    for folder in (driver_source_root() / "sys", driver_source_root() / "shim", conformance_root()):
        for path in sorted((*folder.rglob("*.[ch]"), *folder.rglob("*.py"))):
            digest.update(f"{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()
