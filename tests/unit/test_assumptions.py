"""What is taken for granted about Windows is named: no fact of the sheet stands in the code without an entry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wsklab.assumptions import Assumption, judge, load_assumptions
from wsklab.image.install_watch import STAGES, End
from wsklab.verifier import MODES

ROOT = Path(__file__).parents[2]
ENTRIES = load_assumptions()
#: `(sheet b.1)`, `sheet d.1, d.2, d.4`, `fact sheet, d.5`, `facts/windows-guests.md f.3`
MENTION = re.compile(r"(?:sheet,?|windows-guests\.md`)\s+((?:[a-h]\.?\d*(?:,\s+)?)+)")


def mentioned() -> dict[str, list[str]]:
    """Sections of the sheet that code names, and where."""
    found: dict[str, list[str]] = {}
    files = [*(ROOT / "lab/wsklab").rglob("*.py"), *(ROOT / "driver-src/ctl").glob("*.c")]
    for file in files:
        for match in MENTION.finditer(file.read_text(encoding="utf-8")):
            for section in re.findall(r"\b([a-h]\.\d+|g)\b", match[1]):
                found.setdefault(section, []).append(file.name)
    return found


def test_every_fact_that_code_names_is_an_assumption() -> None:
    """A new mention of the sheet needs an entry, or a report could not speak about it."""
    sections = mentioned()
    assert {"b.9", "c.4", "d.5", "f.3", "g"} <= set(sections)
    missing = {section: files for section, files in sections.items() if section not in {e.sheet for e in ENTRIES}}
    assert missing == {}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_can_be_shown_or_refuted_by_words_that_exist(entry: Assumption) -> None:
    """Observations are those that a report makes; the file that depends on it exists."""
    known = {"installed", "installed:uefi", "installed:bios", "installed:evaluation", "ran", "forked", "kit"}
    known |= {f"verifier:{mode}" for mode in MODES}
    ends = {f"{end.name.lower()}:{stage}" for end in End for stage in STAGES}
    assert set(entry.shown_by) <= known
    assert set(entry.against) <= ends
    place = ROOT if entry.used_by.startswith("driver-src/") else ROOT / "lab/wsklab"
    assert (place / entry.used_by).is_file()


def test_names_are_unique() -> None:
    """Reports are compared by them."""
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)


def test_verdicts() -> None:
    """Open, shown, doubted, disputed; and because of what."""
    entry = Assumption(name="x", sheet="a.1", says="s", used_by="f", shown_by=("ran", "kit"), against=("waits:winpe",))
    seen = [set(), {"kit"}, {"waits:winpe"}, {"ran", "waits:winpe", "other"}]
    judged = [judge([entry], words)[0] for words in seen]
    assert [row.verdict for row in judged] == ["open", "shown", "doubted", "disputed"]
    assert judged[3].seen == ("ran", "waits:winpe")
