"""What several guests and several workers save, and what stops them from saving more.

    python tests/performance/speedup.py [--profile NAME] [--settings 1x1,1x2,...] [--rounds N] [--json FILE] [-- ARGS]

A setting is GUESTSxWORKERS; `auto` is what `run` would choose here. Each is one whole `wsklab run` on guests of one
profile, images and driver made before; ARGS go to pytest. The first setting is what the others are compared with.
Figures are of this machine and of whatever else runs on it: a line says how busy it was.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from wsklab.deadline import Deadline
from wsklab.process import run

#: From here on something is called the limit.
_BUSY = 0.85
_MOST = 0.5
_RUN_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run; times in seconds, shares from 0 to 1.

    Attributes:
        wall_s: from the controller's start to its end.
        setup_s: until the first case had its guest.
        cases_s: from then until the last case ended.
        work_s: the time of all cases, one after the other.
        alone_s: that of the cases that had a guest for themselves.
        cpu: how busy the host's processors were, with everything that runs on it.
        workers_busy: how much of the time of the cases the workers had one.
    """

    guests: int
    workers: int
    cases: int
    wall_s: float
    setup_s: float
    cases_s: float
    work_s: float
    alone_s: float
    longest: str
    longest_s: float
    cpu: float

    @property
    def workers_busy(self) -> float:
        """See above."""
        return self.work_s / (self.workers * self.cases_s) if self.cases_s else 0.0

    @property
    def limit(self) -> str:
        """What stops this setting from being faster."""
        if self.cpu >= _BUSY:
            return f"the host's processors: {os.cpu_count()} cores, {self.cpu:.0%} busy"
        if self.setup_s >= _MOST * self.wall_s:
            return f"making the guests: {self.setup_s:.0f} of {self.wall_s:.0f} s before the first case"
        if self.longest_s >= _MOST * self.cases_s:
            return f"the longest case: {self.longest}, {self.longest_s:.0f} of {self.cases_s:.0f} s"
        if self.alone_s >= _MOST * self.cases_s * self.guests:
            return f"cases that want a guest alone: {self.alone_s:.0f} s on {self.guests} guests"
        if self.workers_busy >= _BUSY:
            return f"what cases wait for, with all {self.workers} workers at work: more workers would help"
        return f"waiting for guests: the workers had a case {self.workers_busy:.0%} of the time"


def measure(profile: str, guests: str, workers: str, extra: Sequence[str]) -> Measured:
    """One run in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="wsklab-speedup-") as folder:
        before = _ticks()
        answer = run(
            [
                sys.executable, "-m", "wsklab", "run", "--guest", profile, "--guests-each", guests,
                "--workers", workers, "--allow-unimplemented", "--json", "--", *extra,
            ],
            deadline=Deadline.after(_RUN_S), check=False, cwd=Path(folder), output_limit=1 << 26,
        )  # fmt: skip
        busy, total = (after - earlier for after, earlier in zip(_ticks(), before, strict=True))
        if not answer.stdout.startswith("{"):
            raise SystemExit(f"{guests}x{workers}: no run at all (PYTHONPATH has to be absolute): {answer.stderr}")
        document = json.loads(answer.stdout)
        if document.get("error"):
            raise SystemExit(f"{guests}x{workers}: {document['error']}")
        lines = (Path(document["results_dir"]) / "results.jsonl").read_text("utf-8").splitlines()
        return _measured(document, [json.loads(line) for line in lines], cpu=busy / total)


def _measured(document: dict[str, Any], cases: Sequence[dict[str, Any]], *, cpu: float) -> Measured:
    begun = _seconds(document["started"])
    first = min(_seconds(case["started"]) for case in cases)
    last = max(_seconds(case["started"]) + case["seconds"] for case in cases)
    longest = max(cases, key=lambda case: float(case["seconds"]))
    return Measured(
        guests=document["guests_each"],
        workers=document["workers"],
        cases=len(cases),
        wall_s=document["wall_s"],
        setup_s=first - begun,
        cases_s=last - first,
        work_s=sum(case["seconds"] for case in cases),
        alone_s=sum(case["seconds"] for case in cases if case["exclusive"]),
        longest=longest["case"],
        longest_s=longest["seconds"],
        cpu=cpu,
    )


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _ticks() -> tuple[int, int]:
    """Busy and all ticks of the host's processors since it started."""
    words = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = words[3] + words[4]
    return sum(words) - idle, sum(words)


def table(measured: Sequence[Measured]) -> str:
    """The figures, and the sentence about the best of them."""
    base = measured[0]
    rows = ["| guests | workers | cases | wall | set-up | cases alone one after the other | speed-up | processors |"]
    rows.append("|---|---|---|---|---|---|---|---|")
    for one in measured:
        rows.append(
            f"| {one.guests} | {one.workers} | {one.cases} | {one.wall_s:.0f} s | {one.setup_s:.0f} s "
            f"| {one.work_s:.0f} s | {base.wall_s / one.wall_s:.2f} | {one.cpu:.0%} |"
        )
    best = min(measured, key=lambda one: one.wall_s)
    rows += [
        "",
        f"Best: {best.guests} guests, {best.workers} workers, {base.wall_s / best.wall_s:.2f} times as fast as "
        f"{base.guests} guest with {base.workers} worker. Its limit is {best.limit}.",
    ]
    return "\n".join(rows)


def main() -> None:
    """Measure all settings, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="wine-bookworm")
    parser.add_argument("--settings", default="1x1,1x2,1x4,2x2,2x4,autoxauto")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each setting; the median wall time counts")
    parser.add_argument("--json", type=Path)
    parser.add_argument("extra", nargs="*", help="arguments for pytest")
    arguments = parser.parse_args()
    measured = []
    for setting in arguments.settings.split(","):
        guests, _, workers = setting.partition("x")
        runs = [measure(arguments.profile, guests, workers, arguments.extra) for _ in range(arguments.rounds)]
        middle = statistics.median_low(one.wall_s for one in runs)
        measured.append(next(one for one in runs if one.wall_s == middle))
        print(f"{setting}: {measured[-1].wall_s:.0f} s", file=sys.stderr)
    print(table(measured))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in measured], indent=1) + "\n")


if __name__ == "__main__":
    main()
