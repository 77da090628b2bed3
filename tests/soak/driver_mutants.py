"""Wrong drivers: every place in driver-src/sys where one of a few mistakes can be made, in one build.

The mistakes are those that drivers of Winsock Kernel make: a kernel call left out, something given back twice, another
status handed on, a flag turned round (the invoke flags of completion routines among them), a context lost. Each place
is compiled with a switch of its own, so that one build holds all of them and an environment variable chooses.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from mutant_runs import Bench, Mutant, cases_by_file, run_all

__all__ = ["Place", "generated", "places_in", "reached_by_cases"]

#: Chooses the place.
_CHOICE = "WSKLAB_DRIVER_MUTANT"
#: A file that gets the numbers of the places that are reached.
_REACHED = "WSKLAB_DRIVER_REACHED"
_MOST_PLACES = 4096

_SWITCH = f"""\
#include <stdio.h>
#include <stdlib.h>
int MutantOn(int number);
int MutantOn(int number) {{
    static volatile char seen[{_MOST_PLACES}];
    const char *chosen = getenv("{_CHOICE}");
    const char *reached = getenv("{_REACHED}");
    FILE *file;
    if (reached != NULL && !seen[number] && (file = fopen(reached, "a")) != NULL) {{
        seen[number] = 1;
        fprintf(file, "%d\\n", number);
        fclose(file);
    }}
    return chosen != NULL && atoi(chosen) == number;
}}
"""

_CALL = re.compile(r"^ +(?P<name>[A-Z]\w+)\((?P<inside>[^;{}]*)\);$", re.MULTILINE)
_RETURN = re.compile(r"^ +return (?P<value>STATUS_\w+|[sS]tatus);$", re.MULTILINE)
_FLAG = re.compile(r"(?<=[(,] )(?P<value>TRUE|FALSE)(?=[,)])|(?<=\()(?P<first>TRUE|FALSE)(?=[,)])")
_CONTEXT = re.compile(r"(?<=, )(?P<value>(?:\w+->)?\w*[cC]ontext|&\w+->Cookie)(?=[,)])")
#: Kernel functions whose call may be forgotten; our own functions are made of these.
_KERNEL = re.compile(r"(?:Io|Ex|Ke|Ob|Rtl|Zw|Ps|Mm|Interlocked|InsertTail|InsertHead|RemoveEntry)\w*")
_GIVES_BACK = re.compile(r"\w*(?:Free|Dereference|Delete|CompleteRequest)\w*")
#: Mistakes that take a whole statement.
_WHOLE = frozenset({"left-out", "twice"})
_FUNCTION = re.compile(r"^[A-Za-z_][^;{}]*?\b(\w+)\([^;{}]*\) \{$", re.MULTILINE)
#: Compiled only into a build whose driver fails on request.
_NOT_BUILT = frozenset({"failures.c"})
#: Statements in the form of a call that do nothing.
_NO_CALL = frozenset({"UNREFERENCED_PARAMETER", "PAGED_CODE", "C_ASSERT", "NT_ASSERT"})


@dataclass(frozen=True, slots=True)
class Place:
    """A mistake in one place of a file, and the text that makes it when its switch is on (`{on}`)."""

    file: str
    line: int
    function: str
    mistake: str
    what: str
    start: int
    end: int
    text: str


def places_in(file: str, source: str) -> Iterator[Place]:
    """All places of one file; those of one statement do not overlap, so that all can be compiled together."""
    for call in _CALL.finditer(source):
        name = call["name"]
        if name in _NO_CALL or name.isupper():
            continue
        begin = call.start() + len(call[0]) - len(call[0].lstrip())
        statement = source[begin : call.end()]
        line = source.count("\n", 0, begin) + 1

        def place(mistake: str, text: str) -> Place:
            return Place(file, line, _inside(source, begin), mistake, name, begin, call.end(), text)  # noqa: B023 - used at once

        if _GIVES_BACK.fullmatch(name):
            yield place("twice", f"{{ {statement} if ({{on}}) {{ {statement} }} }}")
        elif _KERNEL.fullmatch(name):
            yield place("left-out", f"if (!{{on}}) {{ {statement} }}")
    for found in _RETURN.finditer(source):
        value = found["value"]
        wrong = {"STATUS_SUCCESS": "STATUS_UNSUCCESSFUL"}.get(value, "STATUS_SUCCESS")
        if value.lower() == "status":
            wrong = f"(NT_SUCCESS({value}) ? STATUS_UNSUCCESSFUL : STATUS_SUCCESS)"
        line = source.count("\n", 0, found.start()) + 1
        text = f"{{on}} ? {wrong} : {value}"
        function = _inside(source, found.start())
        yield Place(file, line, function, "status", value, found.start("value"), found.end("value"), text)
    for mistake, pattern in (("flag", _FLAG), ("context", _CONTEXT)):
        for found in pattern.finditer(source):
            value = found[0]
            if _in_comment(source, found.start()) or _is_declaration(source, found.start()):
                continue
            line = source.count("\n", 0, found.start()) + 1
            other = {"TRUE": "FALSE", "FALSE": "TRUE"}.get(value, f"(__typeof__({value}))0")
            function = _inside(source, found.start())
            text = f"({{on}} ? {other} : ({value}))"
            yield Place(file, line, function, mistake, value, found.start(), found.end(), text)


def _inside(source: str, place: int) -> str:
    """The function that a place is in: lines change too often to name a mutant."""
    return next((found[1] for found in reversed(list(_FUNCTION.finditer(source, 0, place)))), "")


def _in_comment(source: str, place: int) -> bool:
    return source.rfind("/*", 0, place) > source.rfind("*/", 0, place)


def _is_declaration(source: str, place: int) -> bool:
    """Whether the line declares parameters instead of passing arguments."""
    begin = source.rfind("\n", 0, place) + 1
    return not source[begin:place].startswith(" ")


def generated(source: Path, build: Path, folder: Path) -> list[Mutant]:
    """Build them.

    Args:
        source: `driver-src/sys`. build: a finished build folder of the shim. folder: for the mutated sources.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mutant_switch.c").write_text(_SWITCH)
    mutants: list[Mutant] = []
    counted: Counter[str] = Counter()
    driver = folder / "wsklab.so"
    texts: dict[str, str] = {}
    for path in sorted(path for path in source.glob("*.c") if path.name not in _NOT_BUILT):
        text = path.read_text("utf-8")
        taken: list[tuple[int, int, str]] = []
        # what lies inside of another place is left for another build: a statement has one mistake at a time
        for place in sorted(
            places_in(path.name, text), key=lambda one: (one.mistake in {"left-out", "twice"}, one.start)
        ):
            if any(place.start < end and start < place.end for start, end, _ in taken):
                continue
            number = len(mutants)
            name = f"driver/{place.file}:{place.function}/{place.mistake}-{place.what}"
            counted[name] += 1
            taken.append((place.start, place.end, place.text.replace("{on}", f"MutantOn({number})")))
            mutants.append(
                Mutant(
                    name=f"{name}#{counted[name]}",
                    environ={_CHOICE: str(number)},
                    driver=driver,
                )
            )
        for start, end, new in sorted(taken, reverse=True):
            text = text[:start] + new + text[end:]
        texts[path.name] = f'int MutantOn(int number);\n#line 1 "{path.name}"\n{text}'
    _compile(texts, build, folder, driver)
    return mutants


def reached_by_cases(mutants: Sequence[Mutant], bench: Bench, *, jobs: int) -> Iterator[Mutant]:
    """Those whose place some case comes to, each with the files of such cases: in the others every case is the same
    with them and without.

    One run of each file with the build of all mutants, none of them on.
    """
    bench.folder.mkdir(parents=True, exist_ok=True)
    told = {name: bench.folder / f"reached-{name}" for name in cases_by_file()}
    controls = [
        Mutant(name=name, file=name, environ={_REACHED: str(path), _CHOICE: "-1"}, driver=mutants[0].driver)
        for name, path in told.items()
    ]
    for outcome in run_all(controls, replace(bench, folder=bench.folder / "reach"), jobs=jobs):
        assert outcome.decided > 0, f"{outcome.name}: {outcome.problem}"
    numbers = {name: set(path.read_text().split()) for name, path in told.items()}
    for mutant in mutants:
        files = frozenset(name for name, found in numbers.items() if mutant.environ[_CHOICE] in found)
        if files:
            yield replace(mutant, files=files)


def _compile(texts: dict[str, str], build: Path, folder: Path, driver: Path) -> None:
    """As the build does it, from other sources."""
    listed = subprocess.run(["ninja", "-C", str(build), "-t", "compdb"], capture_output=True, text=True, check=True)
    objects: list[str] = []
    commands: list[list[str]] = []
    sample: list[str] = []
    for entry in json.loads(listed.stdout):
        if "CMakeFiles/wsklab.dir/" not in entry.get("output", "") or not entry["output"].endswith(".o"):
            continue
        file = Path(entry["directory"], entry["file"])
        argv = shlex.split(entry["command"])
        if file.name in texts:
            (folder / file.name).write_text(texts[file.name])
            target = str(folder / (file.name + ".o"))
            argv = [
                str(folder / file.name) if Path(word).name == file.name and word.endswith(".c") else word
                for word in argv
            ]
            argv[argv.index("-o") + 1] = target
            sample = argv = [word for word in argv if word != "-Werror"] + ["-w", f"-I{file.parent}"]
            commands.append(argv)
            objects.append(target)
        else:
            objects.append(str(Path(entry["directory"], entry["output"])))
    switch = [str(folder / "mutant_switch.c") if word.endswith(".c") else word for word in sample]
    switch[switch.index("-o") + 1] = str(folder / "mutant_switch.o")
    commands.append(switch)
    objects.append(str(folder / "mutant_switch.o"))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda argv: _run(argv, build), commands))
    sanitize = [word for word in sample if word.startswith("-fsanitize=")]
    _run([sample[0], "-shared", "-Wl,-Bsymbolic", *sanitize, "-o", str(driver), *objects], build)


def _run(argv: Sequence[str], build: Path) -> None:
    done = subprocess.run(argv, cwd=build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(argv)}\n{done.stderr[-3000:]}"
