"""The lab's mark: what a domain's and a network's XML say about their owner, and its reading. Pure.

The domain is the lease (design section 8), so the mark is the one thing that decides whose a guest is. Values are
escaped once more than XML needs, because XML 1.0 cannot carry control characters at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Final

from lxml import etree

from wsklab.errors import HypervisorError

__all__ = [
    "METADATA_PREFIX",
    "METADATA_URI",
    "DomainMetadata",
    "NetworkMark",
    "as_strings",
    "mark_of",
    "parse_mark",
    "parse_metadata",
    "parse_network_mark",
    "parse_xml",
    "render_mark",
]

METADATA_URI: Final = "urn:wsklab:mark:1"
"""XML namespace of the lab's mark; libvirt keeps one element per namespace."""

METADATA_PREFIX: Final = "wsklab"


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainMetadata:
    """The lab's mark on a domain; written at define and when a lease is extended.

    Attributes:
        home: id of the lab home that owns it.
        owner: the user who asked.
        purpose: one word or line, e.g. `run`, `up`.
        run: id of the run, or "".
        profile: name of the guest profile.
        slot: the host-wide slot number.
        expires: when the lease ends, RFC 3339 UTC, or "" for a lease that lives as long as its run.
    """

    home: str
    owner: str
    purpose: str
    run: str
    profile: str
    slot: int
    expires: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkMark:
    """The lab's mark on a network: its owner, and a digest of everything that it was made from."""

    home: str
    digest: str


def render_mark(metadata: DomainMetadata) -> str:
    """The mark alone, as libvirt's metadata calls take and give it: without a namespace, which they add."""
    element = etree.Element("domain", {name: _escape(value) for name, value in as_strings(metadata).items()})
    return etree.tostring(element, encoding="unicode")


def parse_mark(xml: str) -> DomainMetadata:
    """The mark that `render_mark` wrote.

    Raises:
        HypervisorError: it is damaged.
    """
    return _metadata_of(_attributes(parse_xml(xml)))


def parse_metadata(xml: str) -> DomainMetadata | None:
    """The lab's mark in a domain's XML; None when it has none.

    Raises:
        HypervisorError: there is a mark, but it is damaged or the XML is none.
    """
    values = _find_mark(xml, "domain")
    return None if values is None else _metadata_of(values)


def parse_network_mark(xml: str) -> NetworkMark | None:
    """The lab's mark in a network's XML, or None.

    Raises:
        HypervisorError: as `parse_metadata`.
    """
    values = _find_mark(xml, "network")
    if values is None:
        return None
    return NetworkMark(home=values.get("home", ""), digest=values.get("digest", ""))


def as_strings(metadata: DomainMetadata) -> dict[str, str]:
    """The mark's values as attributes."""
    return {field.name: str(getattr(metadata, field.name)) for field in fields(metadata)}


def mark_of(tag: str, values: dict[str, str]) -> etree._Element:
    """The mark as an element of libvirt's `<metadata>`; `tag` is `domain` or `network`."""
    element = etree.Element(f"{{{METADATA_URI}}}{tag}", nsmap={METADATA_PREFIX: METADATA_URI})
    for name, value in values.items():
        element.set(name, _escape(value))
    return element


def _find_mark(xml: str, tag: str) -> dict[str, str] | None:
    element = parse_xml(xml).find(f"metadata/{{{METADATA_URI}}}{tag}")
    return None if element is None else _attributes(element)


def parse_xml(xml: str) -> etree._Element:
    """A document of the hypervisor's.

    Raises:
        HypervisorError: it cannot be read.
    """
    # No entities and no network: the text may have been written by anybody who can define a domain.
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    try:
        return etree.fromstring(xml, parser)
    except etree.XMLSyntaxError as error:
        raise HypervisorError("the hypervisor gave XML that cannot be read", why=str(error)) from error


def _attributes(element: etree._Element) -> dict[str, str]:
    try:
        return {str(key): _unescape(str(value)) for key, value in element.attrib.items()}
    except ValueError as error:
        raise HypervisorError("a mark of the lab is damaged", why=str(error)) from error


def _metadata_of(values: dict[str, str]) -> DomainMetadata:
    try:
        return DomainMetadata(
            home=values["home"],
            owner=values["owner"],
            purpose=values["purpose"],
            run=values["run"],
            profile=values["profile"],
            slot=int(values["slot"]),
            expires=values["expires"],
        )
    except (KeyError, ValueError) as error:
        raise HypervisorError("a domain's mark is damaged", why=str(error), evidence={"mark": values}) from error


def _escape(value: str) -> str:
    """Backslash and everything unprintable as `\\{hex}`: XML 1.0 has no control characters at all."""
    return "".join(
        char if char.isprintable() and char != "\\" and not _is_noncharacter(char) else f"\\{{{ord(char):x}}}"
        for char in value
    )


def _unescape(value: str) -> str:
    return re.sub(r"\\\{([0-9a-f]{1,6})\}", lambda found: chr(int(found[1], 16)), value)


def _is_noncharacter(char: str) -> bool:
    return ord(char) & 0xFFFE == 0xFFFE
