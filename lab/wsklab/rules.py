"""The catalogue of conformance rules as data: what each says, how it is graded, what it needs.

The rules are read from `data/rules.toml` in this package. A case names the rules that it covers; a name
that the catalogue does not know is an error of the case (`UsageError`), with the nearest known one.
"""

from __future__ import annotations

import difflib
import enum
import fnmatch
import importlib.resources
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wsklab.errors import UsageError

__all__ = [
    "CENTRAL_RULES",
    "AssertionClass",
    "Catalogue",
    "Grade",
    "Platform",
    "Rule",
    "Statement",
    "Witnesses",
    "load_catalogue",
    "load_statements",
    "load_witnesses",
    "witnesses_file",
]

#: Rules that the judge evaluates on every recorded operation of every case (catalogue, appendix C.6).
CENTRAL_RULES = ("WSK-IRP-001", "WSK-IRP-002", "WSK-IRP-003", "WSK-IRP-004", "WSK-IRP-005")

#: Verdicts that make a guest a witness of a rule.
_HELD = frozenset({"passed", "recorded"})

_ID = re.compile(r"WSK-([A-Z]+)-(\d{3})")


class Grade(enum.StrEnum):
    """How well a rule is founded."""

    DOCUMENTED = "D"
    OBSERVED = "O"
    UNSPECIFIED = "U"


class AssertionClass(enum.StrEnum):
    """What a deviation of an assertion means: a failure, a warning, or nothing."""

    MUST = "must"
    EXPECT = "expect"
    RECORD = "record"


class Rule(BaseModel):
    """One rule.

    Attributes:
        id: stable name such as `WSK-SOCK-002`.
        title: the rule in a few words of our own.
        core: whether a failure makes the rest of the area doubtful.
        windows: the first Windows version that has the feature: vista (every WSK), 7, 8, 10-1703.
        asserts: the classes of assertion that the rule has.
        hazard: "all" when provoking it can crash the guest, "part" when a variant of it can.
        positive_twin: for a rule about something that does not happen: the rule that must have passed on the
            same guest in the same run, because silence proves nothing where nothing ever speaks.
        unprovokable: the part that cannot be provoked, and why; empty when all of it can.
        wine: what a reading of Wine 8's source had predicted.
        witnesses: kinds of guest on which a real run saw it hold: `shim`, `wine`, `windows:<build>`.
        observed: the verdict of that run by guest profile, whatever it was.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    title: str
    core: bool = False
    grade: Grade
    windows: Literal["vista", "7", "8", "10-1703"]
    asserts: frozenset[AssertionClass] = Field(min_length=1)
    hazard: Literal["", "part", "all"] = ""
    positive_twin: str = ""
    unprovokable: str = ""
    wine: Literal["", "pass", "gap", "mixed", "vacuous", "record"] = ""
    witnesses: frozenset[str] = frozenset()
    observed: Mapping[str, str] = Field(default_factory=dict)

    @property
    def area(self) -> str:
        """The middle of the id: `SOCK`, `IRP`, ..."""
        return self.id.split("-")[1]

    @property
    def has_windows_witness(self) -> bool:
        """Whether a person has seen it hold on a real Windows."""
        return any(witness.startswith("windows:") for witness in self.witnesses)


class Platform(BaseModel):
    """A guest profile whose verdicts are kept, and the run that they are from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["shim", "wine", "windows"]
    build: str
    run: str
    started: str

    @property
    def witness(self) -> str:
        """How a rule names it."""
        return f"windows:{self.build}" if self.kind == "windows" else self.kind


class Witnesses(BaseModel):
    """`data/witnesses.toml`: what real runs showed, kept by `wsklab results witness`.

    Attributes:
        platforms: the guest profiles. verdicts: of each rule, by profile.
        parts: of rules with a gap, by profile, how many of their cases hold there all the same: `2 of 4`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    platforms: dict[str, Platform] = Field(default_factory=dict)
    verdicts: dict[str, dict[str, str]] = Field(default_factory=dict)
    parts: dict[str, dict[str, str]] = Field(default_factory=dict)

    def of(self, rule: Rule) -> Rule:
        """The rule with what was seen of it."""
        seen = self.verdicts.get(rule.id, {})
        held = {self.platforms[name].witness for name, verdict in seen.items() if verdict in _HELD}
        return rule.model_copy(update={"observed": seen, "witnesses": rule.witnesses | held})


class Statement(BaseModel):
    """A statement of the page "Creating Sockets", in our own words, and the rules that it became."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    rules: tuple[str, ...] = Field(min_length=1)


class Catalogue:
    """All rules, in the order of the file."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules: dict[str, Rule] = {rule.id: rule for rule in rules}
        for rule in self:
            if rule.positive_twin and rule.positive_twin not in self._rules:
                raise UsageError(f"rule {rule.id} names the unknown twin {rule.positive_twin}")

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules.values())

    def __len__(self) -> int:
        return len(self._rules)

    def __contains__(self, rule_id: object) -> bool:
        return rule_id in self._rules

    @cached_property
    def core(self) -> tuple[Rule, ...]:
        """The core rules."""
        return tuple(rule for rule in self if rule.core)

    def get(self, rule_id: str) -> Rule:
        """The rule of that id.

        Raises:
            UsageError: there is none; the message names the nearest one.
        """
        try:
            return self._rules[rule_id]
        except KeyError:
            nearest = difflib.get_close_matches(rule_id, self._rules, n=1)
            raise UsageError(
                f"there is no rule {rule_id}",
                why="every rule that a case names must be in the catalogue",
                fix=f"did you mean {nearest[0]}?" if nearest else "see lab/wsklab/data/rules.toml",
            ) from None

    def needed(self, pattern: str) -> frozenset[str]:
        """The ids of the rules whose cases a user's choice needs: those, and the twins without which a pass is none.

        Raises:
            UsageError: as `select`.
        """
        chosen = self.select(pattern)
        return frozenset(name for rule in chosen for name in (rule.id, rule.positive_twin) if name)

    def select(self, pattern: str) -> tuple[Rule, ...]:
        """The rules that a user means by `core`, an id, or a glob; with or without the prefix `WSK-`.

        Raises:
            UsageError: nothing matches.
        """
        if pattern == "core":
            return self.core
        globs = (pattern.upper(), f"WSK-{pattern.upper()}")
        found = tuple(rule for rule in self if any(fnmatch.fnmatchcase(rule.id, glob) for glob in globs))
        if not found:
            raise UsageError(
                f"no rule matches {pattern!r}",
                why=f"{len(self)} rules are known, in the areas {', '.join(self.areas)}",
                fix="use `core`, an id such as WSK-SOCK-002, or a glob such as 'WSK-BIND-*'",
            )
        return found

    @property
    def areas(self) -> tuple[str, ...]:
        """The areas in the order of the file."""
        return tuple(dict.fromkeys(rule.area for rule in self))


def load_catalogue(path: Path | None = None) -> Catalogue:
    """Read the catalogue: the one in this package, or another file of the same form.

    Raises:
        UsageError: the file is no TOML, a key is unknown, an id is not of the form WSK-AREA-NNN.
    """
    text = _data("rules.toml") if path is None else path.read_text("utf-8")
    where = str(path or "data/rules.toml")
    try:
        document: Mapping[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where} is no TOML", why=str(error)) from error
    table = document.get("rules")
    if not isinstance(table, dict):
        raise UsageError(f"{where} has no table [rules]")
    rules: list[Rule] = []
    for rule_id, fields in table.items():
        if not _ID.fullmatch(rule_id):
            raise UsageError(f"{where}: {rule_id!r} is no rule id", fix="ids look like WSK-SOCK-002")
        try:
            rules.append(Rule.model_validate({"id": rule_id, **fields}))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise UsageError(f"{where}: rule {rule_id}, key {key!r}: {first['msg']}") from error
    if path is not None:
        return Catalogue(rules)
    witnesses = load_witnesses()
    return Catalogue(witnesses.of(rule) for rule in rules)


def load_witnesses() -> Witnesses:
    """What real runs showed of the rules."""
    return Witnesses.model_validate(tomllib.loads(_data("witnesses.toml")))


def witnesses_file() -> Path:
    """Where they are kept: in the package of the checkout."""
    return Path(__file__).parent / "data" / "witnesses.toml"


def load_statements() -> tuple[Statement, ...]:
    """The page "Creating Sockets", statement by statement."""
    found = tomllib.loads(_data("creating_sockets.toml"))["statement"]
    return tuple(Statement.model_validate(entry) for entry in found)


def _data(name: str) -> str:
    return importlib.resources.files("wsklab").joinpath("data", name).read_text("utf-8")
