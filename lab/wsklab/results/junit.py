"""A run as JUnit XML: what continuous integration systems read. Written from the same lines as all other views."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from wsklab.artifacts import visible
from wsklab.results.model import CaseResult, RunDocument
from wsklab.verdict import CaseVerdict

__all__ = ["junit_xml"]

#: Characters that XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(document: RunDocument, cases: Sequence[CaseResult]) -> bytes:
    """The document: a suite per guest profile, a case per line of the run."""
    root = ElementTree.Element("testsuites", name=f"wsklab {document.run_id}", time=f"{document.wall_s:.3f}")
    for profile in dict.fromkeys(case.profile for case in cases):
        own = [case for case in cases if case.profile == profile]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=profile,
            tests=str(len(own)),
            failures=str(sum(case.verdict in _FAILURES for case in own)),
            errors=str(sum(case.verdict is CaseVerdict.LAB_ERROR for case in own)),
            skipped=str(sum(case.verdict is CaseVerdict.SKIPPED for case in own)),
            time=f"{sum(case.seconds for case in own):.3f}",
            timestamp=document.started,
        )
        for case in own:
            _case(suite, case)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text


_FAILURES = frozenset({CaseVerdict.FAILED, CaseVerdict.CRASHED, CaseVerdict.HUNG})


def _case(suite: ElementTree.Element, case: CaseResult) -> None:
    file, _, name = case.case.partition("::")
    element = ElementTree.SubElement(
        suite,
        "testcase",
        classname=_text(f"{case.profile}.{file.removesuffix('.py').replace('/', '.')}"),
        name=_text(name or case.case),
        time=f"{case.seconds:.3f}",
    )
    properties = ElementTree.SubElement(element, "properties")
    for key, value in (
        ("kind", case.kind),
        ("guest", case.guest),
        ("build", case.build),
        ("driver_sha256", case.driver_sha256),
        *((result.rule, str(result.verdict)) for result in case.rules),
    ):
        ElementTree.SubElement(properties, "property", name=_text(key), value=_text(value))
    kind = {CaseVerdict.LAB_ERROR: "error", CaseVerdict.SKIPPED: "skipped"}.get(case.verdict)
    if case.verdict in _FAILURES:
        kind = "failure"
    if kind is not None:
        first = case.message.strip().splitlines()[0] if case.message.strip() else str(case.verdict)
        outcome = ElementTree.SubElement(element, kind, message=_text(first), type=str(case.verdict))
        outcome.text = _text(case.message)


def _text(text: str) -> str:
    return _NOT_XML.sub("?", visible(text, 20000))
