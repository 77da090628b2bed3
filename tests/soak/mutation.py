"""The mutation proof: does a case notice when WSK, the driver, or the lab's own reading is wrong?

    python tests/soak/mutation.py [SORT]... [--slice K/N] [--only GLOB] [--jobs J] [--kept FILE] [--write]

Sorts: named and generated (wrong providers), record (wrong reading), driver (wrong drivers); all without a word. Every
mutant has to be killed by a case that names its rule, or to stand among the survivors of `mutants.toml` with the
reason; a survivor that is killed has to leave that list. Those that a case meets by chance stand in a list of their
own, with the reason, and may end either way. `--write` keeps the killing cases in that file. All of them take hours:
with `--kept` each outcome is written down as it comes, and a second start goes on where the first ended, as long as
driver, shim and cases are the same.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import driver_mutants
import kept_outcomes
import provider_mutants
import record_mutants
from mutant_runs import Bench, Mutant, Outcome, run_all, unmutated

from wsklab.artifacts import write_atomic
from wsklab.toolchain import ShimBuild
from wsklab.verdict import RuleVerdict

SOURCE = Path(__file__).parents[2] / "driver-src"
TABLE = Path(__file__).with_name("mutants.toml")
SORTS = ("named", "generated", "record", "driver")
#: Cases that take longer than all others together; left out where a mutant meets all cases.
SLOW = frozenset({"test_connect.py::test_unanswered_connect", "test_inspect.py::test_abandoned_request"})

HEAD = """\
# What became of every mutant: see mutation.py, which checks this file and writes it (--write) but for the survivors,
# those that are killed by chance, and the rules without a mutant. Of the drivers only these are kept.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every mutant is killed or listed."""
    options = _options(arguments)
    table = load_table()
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="wm-") as folder:
        build = SOURCE / "build" / "shim"
        shim = ShimBuild(program=build / "wsklab-shim", driver=build / "wsklab.so", digest="0" * 64)
        for sort in options.sorts or SORTS:
            bench = Bench(shim, Path(folder) / sort, skipped=SLOW)
            chosen = _chosen(_mutants(sort, bench, build, options.jobs), options)
            if sort == "driver":
                reached = list(driver_mutants.reached_by_cases(chosen, bench, jobs=options.jobs))
                print(f"driver: {len(chosen) - len(reached)} of {len(chosen)} places are reached by no case")
                chosen = reached
            found = frozenset(unmutated(bench, chosen, jobs=options.jobs))
            print(*(f"left out, it finds something anyway: {killer}" for killer in sorted(found, key=str)), sep="\n")
            broken = {killer.case for killer in found if killer.verdict != RuleVerdict.DEVIATION}
            bench = replace(bench, skipped=SLOW | broken, known=found)
            outcomes = _run(sort, chosen, bench, options)
            failures += check(outcomes, table.get("survivors", {}), table.get("chance", {}))
            table[sort] = {**table.get(sort, {}), **{one.name: one.killers[0].case for one in outcomes if one.killers}}
            if options.write and options.only == "*" and options.slice == (0, 1):
                known = {mutant.name for mutant in chosen}
                table[sort] = {name: case for name, case in table[sort].items() if name in known}
    if options.write:
        write_table(table)
    print(*failures, sep="\n")
    return 1 if failures else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sorts", nargs="*", metavar="SORT", choices=[*SORTS, []])
    parser.add_argument("--slice", type=_slice, default=(0, 1), metavar="K/N", help="every Nth mutant, from the Kth on")
    parser.add_argument("--only", default="*", metavar="GLOB")
    parser.add_argument(
        "--jobs", type=int, default=4 * (os.cpu_count() or 1), help="at the same time; most of it waits"
    )
    parser.add_argument("--write", action="store_true", help="keep what was found")
    parser.add_argument("--kept", type=Path, metavar="FILE", help="outcomes of earlier starts, and of this one")
    parser.add_argument("--log", type=argparse.FileType("w"), default=sys.stdout, help="a line per mutant")
    return parser.parse_args(arguments)


def _slice(text: str) -> tuple[int, int]:
    first, _, count = text.partition("/")
    return int(first), int(count)


def _mutants(sort: str, bench: Bench, build: Path, jobs: int) -> list[Mutant]:
    if sort == "named":
        return provider_mutants.named(build / "shim-provider")
    if sort == "generated":
        return provider_mutants.generated(bench, jobs=jobs)
    if sort == "record":
        return record_mutants.generated()
    return driver_mutants.generated(SOURCE / "sys", build, bench.folder / "driver")


def _chosen(mutants: list[Mutant], options: argparse.Namespace) -> list[Mutant]:
    first, step = options.slice
    return [mutant for mutant in mutants if fnmatch.fnmatchcase(mutant.name, options.only)][first::step]


def _run(sort: str, mutants: list[Mutant], bench: Bench, options: argparse.Namespace) -> list[Outcome]:
    began = time.monotonic()
    wanted = {mutant.name for mutant in mutants}
    outcomes = [one for one in (kept_outcomes.load(options.kept) if options.kept else ()) if one.name in wanted]
    known = {one.name for one in outcomes}
    waiting = [mutant for mutant in mutants if mutant.name not in known]
    for outcome in run_all(waiting, bench, jobs=options.jobs):
        outcomes.append(outcome)
        if options.kept:
            kept_outcomes.add(options.kept, outcome)
        said = (
            f"killed by {outcome.killers[0]}"
            if outcome.killers
            else f"SURVIVES {outcome.decided} cases {outcome.problem}"
        )
        print(f"{outcome.seconds:6.1f} s  {outcome.name}  {said}", file=options.log, flush=True)
    killed = sum(bool(outcome.killers) for outcome in outcomes)
    earlier = f", {len(known)} of them earlier" if known else ""
    print(f"{sort}: {killed} of {len(outcomes)} killed{earlier}, {time.monotonic() - began:.0f} s", flush=True)
    return outcomes


def check(outcomes: Iterable[Outcome], survivors: Mapping[str, str], chance: Mapping[str, str]) -> list[str]:
    """What is wrong, one sentence each."""
    found = []
    for outcome in outcomes:
        if outcome.name in chance:
            continue
        if not outcome.killers and outcome.name not in survivors:
            found.append(f"{outcome.name} survives: no case notices ({outcome.problem or 'nothing was said'})")
        if outcome.killers and outcome.name in survivors:
            found.append(f"{outcome.name} is killed by {outcome.killers[0].case}: take it from the survivors")
    return found


def load_table() -> dict[str, dict[str, str]]:
    """The file, by its sections."""
    return tomllib.loads(TABLE.read_text("utf-8")) if TABLE.is_file() else {}


def write_table(table: Mapping[str, Mapping[str, str]]) -> None:
    """Sections in a fixed order, names sorted."""
    lines = [HEAD]
    for section in ("survivors", "chance", "without", *SORTS[:3]):
        lines.append(f"[{section}]")
        lines += [f'"{name}" = "{said}"' for name, said in sorted(table.get(section, {}).items())]
        lines.append("")
    write_atomic(TABLE, "\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
