"""What this host has seen of Windows, for `doctor --report`: the one file that a person sends back.

No host name, no user name, no address, no password stands in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsklab.assumptions import Judged, judge, load_assumptions
from wsklab.errors import LabError
from wsklab.image.install import ENDED

if TYPE_CHECKING:
    from wsklab.image.store import Image

__all__ = ["observations", "windows_report"]

_REASON_MAX = 200


def windows_report(images: Iterable[Image], installations: Path, results: Path) -> list[str]:
    """Lines of Markdown: images, failed installations, every assumption with what speaks for or against it.

    Args:
        installations: the folder with what failed installations left behind.
        results: the results folder.
    """
    installed = [image for image in images if image.manifest.windows is not None]
    failed = _failed(installations)
    lines = ["", "### Windows"]
    for image in installed:
        facts = image.manifest.windows
        assert facts is not None
        lines.append(
            f"- image {image.profile}: {facts.edition} {facts.build}, {facts.acceleration}, "
            f"{image.manifest.seconds:.0f} s, medium {facts.medium_sha256[:16]}"
        )
    lines += [
        f"- failed installation of {end['profile']}: {end['end']}: {end['reason']} (medium {end['medium_sha256'][:16]})"
        for end in failed
    ]
    if not installed and not failed:
        lines.append("- none was installed here")
    seen = observations(installed, failed, results)
    lines += ["", "| assumption | sheet | verdict | because of |", "|---|---|---|---|"]
    lines += [_row(judged) for judged in judge(load_assumptions(), seen)]
    return lines


def observations(images: Iterable[Image], failed: Sequence[dict[str, str]], results: Path) -> set[str]:
    """Words of what was seen; see `wsklab.assumptions`."""
    seen = {end["end"] for end in failed}
    for image in images:
        inputs: Any = image.manifest.inputs
        seen |= {"installed", f"installed:{image.profile}", f"installed:{inputs.get('firmware', '')}"}
        if image.manifest.windows is not None and image.manifest.windows.evaluation:
            seen.add("installed:evaluation")
    for profile, verifier, method in _runs(results):
        seen.add("kit" if profile.startswith("kit-") else "ran")
        if verifier != "off":
            seen.add(f"verifier:{verifier}")
        if method == "fork":
            seen.add("forked")
    return seen


def _runs(results: Path) -> set[tuple[str, str, str]]:
    """Profile and verifier mode of every result of kind windows, and how guests of that profile had started."""
    from wsklab.results.store import list_runs, load_run

    found: set[tuple[str, str, str]] = set()
    for run in list_runs(results):
        try:
            document = load_run(results, run.run_id).document
        except LabError:
            continue  # a damaged run says nothing
        methods = [(guest.profile, guest.method) for guest in document.guests] or [("", "")]
        rows = {(row.profile, row.verifier) for row in document.results if row.kind == "windows"}
        found |= {(*row, method if profile == row[0] else "") for row in rows for profile, method in methods}
    return found


def _failed(installations: Path) -> list[dict[str, str]]:
    ends = []
    for file in sorted(installations.glob(f"*/{ENDED}")):
        try:
            end = json.loads(file.read_text(encoding="utf-8"))
            ends.append({key: str(end[key])[:_REASON_MAX] for key in ("profile", "end", "reason", "medium_sha256")})
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return ends


def _row(judged: Judged) -> str:
    assumption = judged.assumption
    seen = ", ".join(judged.seen) or "nothing was seen"
    return f"| {assumption.name} | {assumption.sheet} | {judged.verdict} | {seen} |"
