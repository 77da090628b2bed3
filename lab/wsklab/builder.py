"""Content-addressed builds from `driver-src`: the same sources with the same tools are built once.

Everything lands in `<build_dir>/<digest>/`; a build that was cut short leaves nothing there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import ToolchainError
from wsklab.process import run

__all__ = ["Recipe", "build", "file_digest", "locked", "source_digest"]

_DESCRIPTION: Final = "build.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One way to build from `driver-src`.

    Attributes:
        preset: of `driver-src/CMakePresets.json`.
        targets: what is built; nothing else is anybody's input.
        products: the files that a complete build has.
        symbols: files with debug information, kept where the build makes them.
        tools: the programs whose versions are inputs, too.
        ignored: names of folders anywhere in the source that are no inputs.
    """

    preset: str
    targets: tuple[str, ...]
    products: tuple[str, ...]
    symbols: tuple[str, ...] = ()
    tools: tuple[str, ...]
    ignored: frozenset[str]


def source_digest(source: Path, deadline: Deadline, recipe: Recipe) -> str:
    """SHA-256 over everything that a build of `source` depends on.

    Raises:
        HostCommandError: a tool is not there. ToolchainError: `source` cannot be read.
    """
    total = hashlib.sha256(f"{recipe.preset}\n".encode())
    for tool in recipe.tools:
        total.update(run((tool, "--version"), deadline=deadline).stdout.encode())
    try:
        for path in sorted(source.rglob("*")):
            relative = path.relative_to(source)
            if path.is_file() and not _is_scratch(relative, recipe):
                total.update(f"{relative.as_posix()}\0{file_digest(path)}\n".encode())
    except OSError as error:
        raise ToolchainError(f"the driver's source cannot be read: {source}", why=str(error)) from error
    return total.hexdigest()


def _is_scratch(relative: Path, recipe: Recipe) -> bool:
    """What stands in the source tree without being an input of the build."""
    return relative.parts[0].startswith(("build", ".")) or not recipe.ignored.isdisjoint(relative.parts)


def build(
    recipe: Recipe, source: Path, build_dir: Path, deadline: Deadline, progress: Callable[[str], None] | None
) -> tuple[Path, str, bool]:
    """The folder of a complete build, its digest, and whether it was there already.

    Args:
        source: the folder `driver-src`; nothing is written there.
        build_dir: where builds are kept, one folder per digest.
        deadline: bounds everything, waiting for another build included.
        progress: told what is going on.

    Raises:
        ToolchainError: it does not compile; the last lines of the compiler are in `why`.
        HostCommandError: a tool is not there.
    """
    say = progress or (lambda _step: None)
    say("looking for an earlier build")
    digest = source_digest(source, deadline, recipe)
    target = build_dir / digest[:16]
    with locked(build_dir, deadline):
        if _is_whole(target, digest, recipe):
            return target, digest, True
        say("building the driver")
        work = build_dir / f".{digest[:16]}.{os.getpid()}"
        shutil.rmtree(work, ignore_errors=True)
        try:
            _compile(recipe, source, work / "cmake", deadline)
            _collect(recipe, work, digest)
            shutil.rmtree(target, ignore_errors=True)
            (work / "product").rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    if not _is_whole(target, digest, recipe):
        raise ToolchainError("the driver was built and is gone again", why=f"nothing complete in {target}")
    return target, digest, False


def _compile(recipe: Recipe, source: Path, build: Path, deadline: Deadline) -> None:
    build.mkdir(parents=True)
    steps: tuple[tuple[str | Path, ...], ...] = (
        ("cmake", "--preset", recipe.preset, "-S", source, "-B", build),
        # Only what is deployed: the drivers of the driver's own tests are nobody's input here.
        ("cmake", "--build", build, "--target", *recipe.targets, "--", "-k", "0"),
    )
    for argv in steps:
        # cmake looks for the presets in its working directory.
        result = run(argv, deadline=deadline, cwd=source, check=False)
        if result.exit_code != 0:
            output = f"{result.stdout}\n{result.stderr}".strip()
            errors = [line for line in output.splitlines() if "error" in line.lower()]
            raise ToolchainError(
                "the driver does not build",
                why=(errors or output.splitlines() or ["no output"])[0][:300],
                fix="the whole output is in the evidence",
                evidence={"output": output[-20_000:]},
            )


def _collect(recipe: Recipe, work: Path, digest: str) -> None:
    product = work / "product"
    product.mkdir()
    files = {path.name: path for path in sorted((work / "cmake").rglob("*")) if path.is_file()}
    missing = [name for name in recipe.products if name not in files]
    if missing:
        raise ToolchainError("the build made no " + ", ".join(missing), why="the build said it succeeded")
    names = [*recipe.products, *(name for name in recipe.symbols if name in files)]
    for name in names:
        shutil.copy(files[name], product / name)  # with its mode: a program stays one
    description = {"digest": digest, "files": {name: file_digest(product / name) for name in names}}
    (product / _DESCRIPTION).write_text(json.dumps(description, indent=1))


def _is_whole(folder: Path, digest: str, recipe: Recipe) -> bool:
    """Whether an earlier build is there, complete and undamaged."""
    try:
        description = json.loads((folder / _DESCRIPTION).read_text())
        files: dict[str, str] = description["files"]
        whole = description["digest"] == digest and all(file_digest(folder / n) == d for n, d in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return whole and set(recipe.products) <= set(files)


@contextlib.contextmanager
def locked(folder: Path, deadline: Deadline) -> Iterator[None]:
    """One build at a time; the kernel lets go of the lock when its holder dies."""
    folder.mkdir(parents=True, exist_ok=True)
    # reading is enough to lock, and works on another user's file in a shared home
    with os.fdopen(os.open(folder / ".lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o664), "rb") as lock:

        def attempt() -> bool | NotYet:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return NotYet("another process is building")
            return True

        wait_until(attempt, deadline, what=f"the lock of {folder}")
        yield


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
