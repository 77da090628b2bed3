"""The host's own package sources: which Debian mirror it uses and how it reaches it.

The lab has no mirror of its own: an image is baked from where the host gets its packages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wsklab.deadline import Deadline
from wsklab.process import run

__all__ = ["Source", "apt_options", "find_mirror", "parse_sources"]

_APT: Final = Path("/etc/apt")

#: Debian's suites that an official archive holds side by side; another suite of the same archive is at the same URI.
_DEBIAN_SUITES: Final = frozenset(
    {"bullseye", "bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable"}
)

#: Options of the host's apt that a bake needs to reach the same mirror: proxies, certificates, date checks.
_KEPT_OPTION: Final = re.compile(
    r'^Acquire::(?:(?:http|https|ftp)::.+|Check-Valid-Until|Check-Date|Retries|ForceIPv[46]) "[^"]*";$', re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Source:
    """One package source: a URI, a suite, its components."""

    uri: str
    suite: str
    components: tuple[str, ...]


def find_mirror(suite: str, apt: Path = _APT) -> str | None:
    """The URI from which the host gets Debian's main archive, or None when it does not (a Ubuntu host): then
    mmdebstrap's own default holds.

    Args:
        suite: the suite that is wanted; a source that names it goes before a source of another Debian suite.
        apt: apt's configuration folder.
    """
    usable = [
        source
        for path in (apt / "sources.list", *sorted((apt / "sources.list.d").glob("*")))
        if path.suffix in {".list", ".sources"} and path.is_file()
        for source in parse_sources(path.read_text("utf-8", "replace"), deb822=path.suffix == ".sources")
        if source.suite in _DEBIAN_SUITES and "main" in source.components
    ]
    usable.sort(key=lambda source: source.suite != suite)
    return usable[0].uri if usable else None


def parse_sources(text: str, *, deb822: bool) -> Iterator[Source]:
    """The binary package sources in a file of either format; disabled ones and comments are left out."""
    yield from _parse_deb822(text) if deb822 else _parse_lines(text)


def _parse_lines(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        match = re.match(r"^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line)
        if match:
            yield Source(match[1], match[2], tuple(match[3].split()))


def _parse_deb822(text: str) -> Iterator[Source]:
    for stanza in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in {" ", "\t"} and name:
                fields[name] += " " + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in {"no", "false"}:
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri, suite, tuple(fields.get("components", "").split()))


def apt_options(deadline: Deadline) -> str:
    """An apt configuration for the bake: the host's way to its mirror, and only what is needed.

    Raises:
        HostCommandError: apt-config is missing or fails.
    """
    dump = run(["apt-config", "dump"], deadline=deadline).stdout.splitlines()
    kept = [line for line in dump if _KEPT_OPTION.match(line)]
    return "\n".join([*kept, 'Acquire::Languages "none";', 'APT::Install-Recommends "false";', ""])
