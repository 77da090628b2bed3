"""The rule catalogue: complete, consistent, strict about names."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsklab.errors import UsageError
from wsklab.rules import CENTRAL_RULES, Catalogue, load_catalogue

#: Rules per area, from the catalogue of facts.
AREAS = {
    "REG": 12, "SOCK": 17, "IRP": 14, "CAT": 10, "FAM": 10, "CTX": 9, "CTL": 8, "OPT": 14, "EVT": 15, "BIND": 12,
    "ACC": 12, "INS": 10, "CONN": 14, "DATA": 17, "DGRAM": 14, "DISC": 8, "CLOSE": 8, "NAME": 9, "DET": 7,
}  # fmt: skip


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """The catalogue in the package."""
    return load_catalogue()


def test_every_rule_is_there(catalogue: Catalogue) -> None:
    """220 rules in 19 areas, numbered without a hole."""
    counted = {area: sum(rule.area == area for rule in catalogue) for area in catalogue.areas}
    assert counted == AREAS
    assert len(catalogue) == 220
    for area, count in AREAS.items():
        assert all(f"WSK-{area}-{number:03d}" in catalogue for number in range(1, count + 1))


def test_core_has_49_rules(catalogue: Catalogue) -> None:
    """49 rules are core, and `core` selects them."""
    assert len(catalogue.core) == 49
    assert catalogue.select("core") == catalogue.core


def test_central_rules_are_core(catalogue: Catalogue) -> None:
    """What the judge checks on every operation is in the catalogue, and core."""
    assert all(catalogue.get(rule_id).core for rule_id in CENTRAL_RULES)


def test_unspecified_rules_demand_little(catalogue: Catalogue) -> None:
    """A rule of grade U records something; the one exception demands a failure and leaves open which."""
    assert {rule.id for rule in catalogue if rule.grade == "U" and "record" not in rule.asserts} == {"WSK-DATA-005"}


def test_titles_are_short_and_different(catalogue: Catalogue) -> None:
    """A title fits a matrix row, and no two rules share one."""
    titles = [rule.title for rule in catalogue]
    assert len(set(titles)) == len(titles)
    assert max(map(len, titles)) <= 90


def test_a_negative_rule_names_its_twin(catalogue: Catalogue) -> None:
    """Silence of callbacks counts only where callbacks were heard."""
    assert catalogue.get("WSK-SOCK-010").positive_twin == "WSK-EVT-001"


def test_an_unknown_rule_names_the_nearest(catalogue: Catalogue) -> None:
    """A slip in a rule's name is an error that says what was meant."""
    with pytest.raises(UsageError) as caught:
        catalogue.get("WSK-SOK-002")
    assert "WSK-SOCK-002" in caught.value.fix


def test_globs_select(catalogue: Catalogue) -> None:
    """A glob works with and without the prefix; one that matches nothing is an error."""
    assert len(catalogue.select("WSK-BIND-*")) == 12
    assert catalogue.select("bind-*") == catalogue.select("WSK-BIND-*")
    with pytest.raises(UsageError, match="no rule matches"):
        catalogue.select("WSK-NOPE-*")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules = 1", "no table"),
        ("[rules", "no TOML"),
        ('[rules]\nSOCK-1 = { title = "x", grade = "D", windows = "7", asserts = ["must"] }', "no rule id"),
        ('[rules]\nWSK-SOCK-001 = { title = "x", grade = "X", windows = "7", asserts = ["must"] }', "grade"),
        ('[rules]\nWSK-SOCK-001 = { titel = "x", grade = "D", windows = "7", asserts = ["must"] }', "WSK-SOCK-001"),
    ],
)
def test_a_wrong_file_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    """A damaged catalogue is named with file, rule and key."""
    file = tmp_path / "rules.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_catalogue(file)
