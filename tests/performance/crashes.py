"""How fast a crash and a hang are told, how soon the run goes on, and what five crashes cost one of two hundred cases.

    python tests/performance/crashes.py [--guest PROFILE] [--json FILE]

Four runs of the lab with a test build of the driver: clean, with five crashes, clean again, and one with a hang. The
crashes are compared with the mean of the two clean runs around them: a host is not as fast at every moment. It prints
figures and ends with 1 when a verdict is wrong; how long anything took is never judged here.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from wsklab.deadline import Deadline
from wsklab.process import run

CASES = Path(__file__).parents[1] / "failures"


def wsklab(*words: str, **environ: str) -> dict[str, Any]:
    """The document of a command of the lab, whatever its exit code."""
    argv = [sys.executable, "-m", "wsklab", *words, "--json"]
    done = run(argv, deadline=Deadline.after(3600), check=False, env={**os.environ, **environ}, output_limit=1 << 26)
    return dict(json.loads(done.stdout))


def suite(profile: str, driver: str, *cases: str, **environ: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One run: its document and its cases."""
    chosen = [word for case in cases for word in ("--case", case)]
    words = ["run", "--guest", profile, "--driver", driver, *chosen]
    argv = [sys.executable, "-m", "wsklab", *words, "--json", "--", str(CASES)]
    done = run(argv, deadline=Deadline.after(3600), check=False, env={**os.environ, **environ}, output_limit=1 << 26)
    if not done.stdout.strip():
        raise SystemExit(done.stderr[-3000:])
    document = json.loads(done.stdout)
    text = (Path(document["results_dir"]) / "results.jsonl").read_text()
    return document, [json.loads(line) for line in text.splitlines()]


def verdicts(cases: list[dict[str, Any]]) -> dict[str, int]:
    """How the cases ended."""
    return dict(Counter(case["verdict"] for case in cases))


def gaps(cases: list[dict[str, Any]]) -> list[float]:
    """Seconds from each provisional verdict to the next start of the same worker, on the guest that follows."""
    attempts = [attempt for case in cases for attempt in (case, case["second"]) if attempt]
    moments = [(attempt["worker"], *map(datetime.fromisoformat, _times(attempt))) for attempt in attempts]
    found = []
    for worker, _, *decided in moments:
        later = [began for other, began, *_ in moments if other == worker and decided and began > decided[0]]
        found += [(min(later) - decided[0]).total_seconds()] if later else []
    return sorted(found)


def _times(attempt: dict[str, Any]) -> list[str]:
    return [attempt["started"], *filter(None, [attempt["decided"]])]


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser()
    options.add_argument("--guest", default="shim")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    built = wsklab("driver", "build", "--failures")["driver"]
    driver = built["shim"] if given.guest == "shim" else built["sys"]

    before, clean_cases = suite(given.guest, driver, "test_many.py::*")
    broken, broken_cases = suite(given.guest, driver, "test_many.py::*", CRASHES="5")
    after, clean_again = suite(given.guest, driver, "test_many.py::*")
    clean_s = (before["wall_s"] + after["wall_s"]) / 2
    _, hung_cases = suite(given.guest, driver, "test_failures.py::test_hang[deadlock-worker]")
    crashes = [case for case in broken_cases if case["verdict"] == "crashed"]
    (hang,) = hung_cases
    figures: dict[str, object] = {
        "guest": given.guest,
        "workers": broken["workers"],
        "guests_each": broken["guests_each"],
        "clean: verdicts": verdicts([*clean_cases, *clean_again]),
        "clean: wall_s": [before["wall_s"], after["wall_s"]],
        "five crashes: verdicts": verdicts(broken_cases),
        "five crashes: reproduced": sum((case["second"] or {}).get("verdict") == "crashed" for case in crashes),
        "five crashes: bystanders": sum(bool(case["bystander"]) for case in broken_cases),
        "five crashes: wall_s": broken["wall_s"],
        "five crashes / clean": round(broken["wall_s"] / clean_s, 2),
        "crash: provisional verdict after s": sorted(case["verdict_s"] for case in crashes),
        "crash: the run goes on after s": gaps(broken_cases),
        "crash: evidence s": sorted(case["evidence_s"] for case in crashes),
        "hang: verdict": hang["verdict"],
        "hang: verdict after its deadline s": hang["verdict_s"],
    }
    for name, value in figures.items():
        print(f"{name:40} {value}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    right = verdicts([*clean_cases, *clean_again]) == {"passed": 400} and verdicts(broken_cases) == {
        "passed": 195,
        "crashed": 5,
    }
    return 0 if right and hang["verdict"] == "hung" else 1


if __name__ == "__main__":
    sys.exit(main())
